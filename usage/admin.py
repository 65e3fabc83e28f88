"""Calls, for operators: read-only, newest first, and never counted."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from apikeys.models import APIKey
from profiles.models import Profile, Route
from usage.models import Ending, UsageRecord


class ByName(admin.SimpleListFilter):
    """Filters by the rows of a small table instead of looking for distinct values in the big one."""

    field = ""
    model: Any = None

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(row.pk), str(row)) for row in self.model.objects.all()[:200]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
        return queryset.filter(**{self.field: self.value()}) if self.value() else queryset


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
class UsageRecordAdmin(ModelAdmin):
    list_display = (
        "started_at",
        "key_name",
        "route_name",
        "profile_name",
        "shown_ending",
        "shown_tokens",
        "shown_cost",
        "shown_time",
    )
    list_filter = (Outcome, "started_at", ByKey, ByRoute, ByProfile, "streamed", "lane")
    search_fields = ("=request_id",)
    search_help_text = "A request id, as answered in x-request-id."
    list_per_page = 50
    paginator = InfinitePaginator
    show_full_result_count = False
    ordering = ("-id",)
    list_fullwidth = True
    fieldsets = (
        (
            "What happened",
            {
                "fields": (
                    ("started_at", "request_id"),
                    ("shown_ending", "status", "error_code"),
                    ("duration_ms", "first_token_ms", "streamed"),
                    "shown_attempts",
                )
            },
        ),
        (
            "Who and where",
            {
                "fields": (
                    ("owner_name", "key_name", "key_prefix"),
                    ("end_user", "client", "client_request_id"),
                    ("route_name", "profile_name", "upstream_model"),
                    ("language_in", "language_out", "lane"),
                    "shown_tags",
                )
            },
        ),
        (
            "Tokens and cost",
            {
                "fields": (
                    ("input_tokens", "cached_tokens", "cache_write_tokens"),
                    ("output_tokens", "reasoning_tokens", "audio_tokens"),
                    ("tokens_from", "shown_cost", "shown_prices"),
                )
            },
        ),
    )

    @display(
        description="Ending",
        label={
            "completed": "success",
            "refused": "warning",
            "client_gone": "info",
            "drained": "info",
            "failed": "danger",
            "upstream_cut": "danger",
            "worker_lost": "danger",
        },
    )
    def shown_ending(self, record: UsageRecord) -> tuple[str, str]:
        return record.ending, record.get_ending_display()

    @display(description="Tokens in → out")
    def shown_tokens(self, record: UsageRecord) -> str:
        about = "~" if record.tokens_from == "estimated" else ""
        return f"{about}{record.input_tokens:,} → {about}{record.output_tokens:,}"

    @display(description="Cost")
    def shown_cost(self, record: UsageRecord) -> str:
        return f"${record.cost_usd.normalize():f}" if record.cost else "—"

    @display(description="Time")
    def shown_time(self, record: UsageRecord) -> str:
        return f"{record.duration_ms / 1000:.2f} s"

    @display(description="Attempts")
    def shown_attempts(self, record: UsageRecord) -> str:
        lines = [
            (number, attempt.get("profile", ""), attempt.get("model", ""), attempt.get("error", "answered"))
            for number, attempt in enumerate(record.attempts, 1)
        ]
        return format_html_join("", "{}. {}, {}: {}<br>", lines) or "no upstream was asked"

    @display(description="Tags")
    def shown_tags(self, record: UsageRecord) -> str:
        return ", ".join(record.tags) or "—"

    @display(description="Prices used, USD per million")
    def shown_prices(self, record: UsageRecord) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {price / 1e6:g}" for name, price in record.prices.items()) or "—"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
