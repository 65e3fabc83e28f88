"""Moments as operators read them: in the gateway's time zone, and short enough for one line of a table."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from django.utils.html import format_html


def shown(moment: datetime | None, never: str = "never", seconds: bool = False) -> str:
    """`never` is said when there is no such moment."""
    if moment is None:
        return never
    local = timezone.localtime(moment)
    text = local.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")
    return format_html('<time datetime="{}">{}</time>', local.isoformat(), text)
