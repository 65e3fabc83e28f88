"""Moments as operators read them: in the gateway's time zone, and short enough for one line of a table."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from django.utils.html import format_html

UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))  # seconds


def shown(moment: datetime | None, never: str = "never", seconds: bool = False) -> str:
    """`never` is said when there is no such moment."""
    if moment is None:
        return never
    local = timezone.localtime(moment)
    text = local.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")
    return format_html('<time datetime="{}">{}</time>', local.isoformat(), text)


def with_distance(moment: datetime | None, never: str = "never") -> str:
    """The moment, and how far away it is."""
    if moment is None:
        return never
    return format_html('{} <span class="quiet">({})</span>', shown(moment), distance(moment, timezone.now()))


def distance(moment: datetime, now: datetime) -> str:
    """As `in 12 min` or `3 h ago`."""
    seconds = (moment - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    size, unit = next(((size, unit) for size, unit in UNITS if abs(seconds) >= size), UNITS[-1])
    length = f"{int(abs(seconds) // size)} {unit}"
    return f"in {length}" if seconds > 0 else f"{length} ago"
