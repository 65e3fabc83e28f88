"""Profiles, routes, deployments, tokens and workers, for operators."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html_join
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display

from profiles import board, money
from profiles.forms import RouteForm, field_name, form_for
from profiles.models import Deployment, Profile, Route, Token, WorkerState
from providers.registry import kinds

PRICES = ("price_input", "price_cached", "price_cache_write", "price_output", "price_reasoning", "price_audio")


class DeploymentInline(TabularInline):
    model = Deployment
    extra = 0
    fields = ("profile", "upstream_model", "priority", "weight", "price_input", "price_output", "enabled")
    show_change_link = True
    verbose_name_plural = "Served by"


class KindFilter(admin.SimpleListFilter):
    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, provider.label) for kind, provider in kinds().items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Profile]) -> QuerySet[Profile]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


@admin.register(Profile)
class ProfileAdmin(ModelAdmin):
    list_display = ("name", "shown_kind", "address", "enabled", "served_routes", "third_party", "updated_at")
    list_filter = (KindFilter, "enabled", "third_party")
    search_fields = ("name", "notes")
    warn_unsaved_form = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Profile]:
        serving = Count("deployments", filter=Q(deployments__enabled=True))
        return super().get_queryset(request).annotate(serving=serving)  # type: ignore[no-any-return]

    @display(description="Kind", ordering="kind")
    def shown_kind(self, profile: Profile) -> str:
        return profile.provider.label if profile.provider else f"{profile.kind} (unknown here)"

    @display(description="Address")
    def address(self, profile: Profile) -> str:
        return str(profile.settings.get("url") or "—")

    @display(description="Routes", ordering="serving")
    def served_routes(self, profile: Any) -> int:
        return int(profile.serving)

    def get_form(self, request: HttpRequest, obj: Profile | None = None, change: bool = False, **options: Any) -> Any:
        return form_for(self.kind_of(request, obj))

    def kind_of(self, request: HttpRequest, obj: Profile | None) -> str:
        return obj.kind if obj else str(request.POST.get("kind") or request.GET.get("kind") or "")

    def get_fieldsets(self, request: HttpRequest, obj: Profile | None = None) -> Any:
        provider = kinds()[self.kind_of(request, obj)]
        form = form_for(provider.kind)(instance=obj)
        plain = [field_name(setting) for setting in provider.settings if not setting.secret]
        secret = [field_name(setting) for setting in provider.settings if setting.secret]
        forget = [name for name in form.fields if name.startswith("forget_")]
        account = [*plain, *secret, *(name for name in forget if name.removeprefix("forget_") in secret)]
        network = ["proxy_url", "extra_headers", *(name for name in forget if name not in account), "ca"]
        return (
            (None, {"fields": ("kind", "name", "enabled", "third_party", "notes")}),
            (provider.label, {"fields": account}),
            (
                "Timeouts",
                {"fields": (("connect_timeout", "first_event_timeout"), ("idle_timeout", "total_timeout"))},
            ),
            ("Network", {"fields": network, "classes": ("collapse",)}),
        )

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        provider = kinds()[self.kind_of(request, None)]
        return {"kind": provider.kind, "third_party": provider.third_party}

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        profile = self.get_object(request, object_id) if object_id else None
        if (object_id is None and self.kind_of(request, None) not in kinds()) or (profile and not profile.provider):
            return self.choose_kind(request, profile)
        return super().changeform_view(request, object_id, form_url, extra_context)

    def choose_kind(self, request: HttpRequest, unknown: Profile | None) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "Connect an account",
            "opts": self.opts,
            "kinds": list(kinds().values()),
            "unknown": unknown,
        }
        return TemplateResponse(request, "admin/profiles/profile/choose_kind.html", context)


@admin.register(Route)
class RouteAdmin(ModelAdmin):
    form = RouteForm
    inlines = (DeploymentInline,)
    list_display = ("name", "shown_works", "places", "context_window", "max_output_tokens", "public", "enabled")
    list_filter = ("enabled", "public", ("deployments__profile", admin.RelatedOnlyFieldListFilter))
    search_fields = ("name", "deployments__upstream_model")
    fieldsets = (
        (None, {"fields": ("name", "enabled", "public", "works")}),
        ("Limits", {"fields": (("context_window", "max_output_tokens"), "model_name")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Route]:
        return super().get_queryset(request).prefetch_related("deployments__profile")  # type: ignore[no-any-return]

    @display(description="Kinds of work")
    def shown_works(self, route: Route) -> str:
        return ", ".join(route.works)

    @display(description="Served by")
    def places(self, route: Route) -> str:
        served = [f"{place.profile.name}: {place.upstream_model}" for place in route.deployments.all() if place.enabled]
        return ", ".join(served) or "nothing yet"


@admin.register(Deployment)
class DeploymentAdmin(ModelAdmin):
    list_display = ("route", "profile", "upstream_model", "priority", "weight", "shown_prices", "enabled")
    list_filter = ("enabled", ("profile", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("route", "profile")
    search_fields = ("route__name", "profile__name", "upstream_model")
    autocomplete_fields = ("route", "profile")
    fieldsets = (
        (None, {"fields": ("route", "profile", "upstream_model", "enabled", ("priority", "weight"))}),
        (
            "Prices, in USD per million tokens",
            {"fields": (PRICES[:3], PRICES[3:])},
        ),
    )

    @display(description="USD per million, in / out")
    def shown_prices(self, deployment: Deployment) -> str:
        if deployment.price_input is None and deployment.price_output is None:
            return "—"
        prices = (money.usd_from_price(price) for price in (deployment.price_input, deployment.price_output))
        return " / ".join("—" if price is None else f"{price.normalize():f}" for price in prices)


@admin.register(Token)
class TokenAdmin(ModelAdmin):
    list_display = ("profile", "state", "obtained_at", "expires_at", "last_error")
    list_select_related = ("profile",)
    fields = readonly_fields = ("profile", "state", "obtained_at", "expires_at", "last_error")

    @display(description="State", label={"valid": "success", "expired": "danger", "none": "warning"})
    def state(self, token: Token) -> str:
        if not token.sealed:
            return "none"
        return "valid" if token.expires_at is None or token.expires_at > timezone.now() else "expired"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(WorkerState)
class WorkerStateAdmin(ModelAdmin):
    list_display = ("shown_pid", "host", "live", "open_calls", "calls", "started_at", "seen_at")
    fields = readonly_fields = ("shown_pid", "host", "live", "open_calls", "calls", "started_at", "seen_at", "counters")

    @display(description="Process", ordering="pid")
    def shown_pid(self, worker: WorkerState) -> str:
        return str(worker.pid)

    @display(description="State", label={"live": "success", "silent": "danger"})
    def live(self, worker: WorkerState) -> str:
        return "live" if worker.seen_at >= board.live_since(timezone.now()) else "silent"

    @display(description="Open calls")
    def open_calls(self, worker: WorkerState) -> int:
        return int(worker.state.get("open_calls", 0))

    @display(description="Calls since start")
    def calls(self, worker: WorkerState) -> int:
        return int(worker.state.get("calls", 0))

    @display(description="Counters")
    def counters(self, worker: WorkerState) -> str:
        return format_html_join("", "{}: {}<br>", sorted(worker.state.items())) or "—"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
