"""Calls, for operators: read-only, newest first, and never counted."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html, format_html_join
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from apikeys.models import APIKey
from profiles import moments
from profiles.models import Profile, Route
from profiles.operator_pages import ReadOnly, is_pk
from usage.models import Ending, TokensFrom, UsageRecord

CENTIMILLI = 100_000  # nano-USD: a hundredth of a cent, the least the list shows
TONES = {
    Ending.COMPLETED: "success",
    Ending.REFUSED: "warning",
    Ending.CLIENT_GONE: "info",
    Ending.DRAINED: "info",
    Ending.FAILED: "danger",
    Ending.UPSTREAM_CUT: "danger",
    Ending.WORKER_LOST: "danger",
}
LANES = {"straight": "straight through", "translated": "translated"}


class ByName(admin.SimpleListFilter):
    """Filters by the rows of a small table instead of looking for distinct values in the big one."""

    field = ""
    model: Any = None

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(row.pk), str(row)) for row in self.model.objects.all()[:200]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
        value = self.value()
        if not value:
            return queryset
        # An address may hold anything.
        return queryset.filter(**{self.field: value}) if is_pk(self.model, value) else queryset.none()


class ByKey(ByName):
    title, parameter_name, field, model = "key", "of_key", "key_id", APIKey


class ByRoute(ByName):
    title, parameter_name, field, model = "route", "of_route", "route_id", Route


class ByProfile(ByName):
    title, parameter_name, field, model = "profile", "of_profile", "profile_id", Profile


class Outcome(admin.SimpleListFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("trouble", "Anything but completed"), *Ending.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
        if self.value() == "trouble":
            return queryset.exclude(ending=Ending.COMPLETED)
        return queryset.filter(ending=self.value()) if self.value() else queryset


@admin.register(UsageRecord)
class UsageRecordAdmin(ReadOnly):
    says = "Every call, newest first: who asked, where it went, how it ended, what it cost. “~” marks an estimate."
    empty_title = "No call yet"
    empty_says = "Take an API key and ask a route; the status page shows how. The call is here a second after its end."
    list_display = (
        "shown_started",
        "shown_key",
        "shown_route",
        "shown_ending",
        "shown_tokens",
        "shown_cost",
        "shown_time",
    )
    list_filter = (Outcome, "started_at", ByKey, ByRoute, ByProfile, "streamed", "lane")
    search_fields = ("=request_id",)
    search_help_text = "A request id, as answered in x-request-id"
    list_per_page = 50
    paginator = InfinitePaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    ordering = ("-id",)
    list_fullwidth = True
    fieldsets = (
        (
            "What happened",
            {
                "fields": (
                    ("shown_started", "request_id"),
                    ("ending", "shown_error"),
                    ("shown_time", "shown_first_token"),
                    ("shown_streamed", "shown_lane"),
                    "shown_attempts",
                )
            },
        ),
        (
            "Who and where",
            {
                "fields": (
                    ("owner_name", "end_user"),
                    ("key_name", "key_prefix"),
                    ("client", "client_request_id"),
                    ("route_name", "shown_tags"),
                    ("profile_name", "upstream_model"),
                    ("language_in", "language_out"),
                )
            },
        ),
        (
            "Tokens and cost",
            {
                "fields": (
                    ("input_tokens", "output_tokens"),
                    ("cached_tokens", "reasoning_tokens"),
                    ("cache_write_tokens", "audio_tokens"),
                    ("tokens_from", "shown_whole_cost"),
                    "shown_prices",
                )
            },
        ),
    )

    # The list's headings sort by nothing: only the order of the primary key is free of a scan.
    @display(description="Started")
    def shown_started(self, record: UsageRecord) -> str:
        return moments.shown(record.started_at, seconds=True)

    @display(description="Key, owner")
    def shown_key(self, record: UsageRecord) -> str:
        return two_lines(record.key_name, record.owner_name)

    @display(description="Route, profile")
    def shown_route(self, record: UsageRecord) -> str:
        return two_lines(record.route_name, record.profile_name)

    @display(description="Ending")
    def shown_ending(self, record: UsageRecord) -> str:
        label = {"type": TONES[Ending(record.ending)], "text": record.get_ending_display()}
        return two_lines(render_to_string("unfold/helpers/label.html", label), record.error_code)

    @display(description="Status, error")
    def shown_error(self, record: UsageRecord) -> str:
        return two_lines(str(record.status), record.error_code)

    @display(description="Tokens in → out")
    def shown_tokens(self, record: UsageRecord) -> str:
        if record.tokens_from == TokensFrom.NONE:
            return "—"
        about = "~" if record.tokens_from == TokensFrom.ESTIMATED else ""
        return f"{about}{record.input_tokens:,} → {about}{record.output_tokens:,}"

    @display(description="Cost")
    def shown_cost(self, record: UsageRecord) -> str:
        """Rounded to what an eye compares; the call's own page has it whole."""
        if not record.cost:
            return "—"
        return f"${record.cost_usd:.4f}" if record.cost >= CENTIMILLI else "< $0.0001"

    @display(description="Cost")
    def shown_whole_cost(self, record: UsageRecord) -> str:
        return f"${record.cost_usd.normalize():f}" if record.cost else "nothing"

    @display(description="Time")
    def shown_time(self, record: UsageRecord) -> str:
        return duration(record.duration_ms)

    @display(description="First token after")
    def shown_first_token(self, record: UsageRecord) -> str:
        return "—" if record.first_token_ms is None else duration(record.first_token_ms)

    @display(description="Streamed")
    def shown_streamed(self, record: UsageRecord) -> str:
        return "yes" if record.streamed else "no"

    @display(description="Lane")
    def shown_lane(self, record: UsageRecord) -> str:
        return LANES.get(record.lane, record.lane) or "—"

    @display(description="Attempts")
    def shown_attempts(self, record: UsageRecord) -> str:
        lines = [
            (
                number,
                attempt.get("profile", ""),
                attempt.get("model", ""),
                attempt.get("error", "answered"),
                f" by {attempt['node']}" if attempt.get("node") else "",
            )
            for number, attempt in enumerate(record.attempts, 1)
        ]
        return format_html_join("", "{}. {}, {}: {}{}<br>", lines) or "no upstream was asked"

    @display(description="Tags")
    def shown_tags(self, record: UsageRecord) -> str:
        return ", ".join(record.tags) or "—"

    @display(description="Prices used, USD per million")
    def shown_prices(self, record: UsageRecord) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {price / 1e6:g}" for name, price in record.prices.items()) or "—"


def duration(ms: int) -> str:
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms} ms"


def two_lines(first: str, second: str) -> str:
    lines = '<div><span class="line">{}</span><span class="line quiet">{}</span></div>'
    return format_html(lines, first or "—", second)
