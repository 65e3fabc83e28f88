"""Profiles, routes, deployments, tokens and workers, for operators."""

from __future__ import annotations

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import label_for_field
from django.contrib.admin.widgets import AutocompleteSelect, AutocompleteSelectMultiple, RelatedFieldWidgetWrapper
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, Field, Model, Q, QuerySet
from django.forms.models import modelform_factory
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display
from unfold.forms import PaginationInlineFormSet
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from profiles import board, moments, money
from profiles.forms import DeploymentForm, RouteForm, field_name, form_for
from profiles.models import Deployment, Profile, Route, Token, WorkerState
from profiles.secrets import SealBroken
from providers.base import Provider
from providers.registry import kinds

PRICES = (
    ("price_input", "price_output"),
    ("price_cached", "price_reasoning"),
    ("price_cache_write", "price_audio"),
)


class SearchOne(AutocompleteSelect):
    """Django stumbles over a posted value that can be no primary key; here it counts as not chosen."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        chosen = super().value_from_datadict(data, files, name)
        return chosen if is_pk(self.field.remote_field.model, chosen) else None  # type: ignore[attr-defined]


class SearchMany(AutocompleteSelectMultiple):
    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        model = self.field.remote_field.model  # type: ignore[attr-defined]
        return [pk for pk in super().value_from_datadict(data, files, name) if is_pk(model, pk)]


def is_pk(model: type[Model], value: object) -> bool:
    """Whether a row of `model` could have this primary key."""
    field = model._meta.pk
    try:
        field.run_validators(field.to_python(value))
    except ValidationError:
        return False
    return True


class OperatorAdmin(ModelAdmin):
    """A list that says what its rows are and, while it is empty, what to do first."""

    says = ""
    empty_title = ""
    empty_says = ""
    list_before_template = "admin/says.html"
    people_may: tuple[str, ...] = ("add", "change", "delete", "view")

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        return with_price_widget(super().formfield_for_dbfield(db_field, request, **options), db_field)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            options["widget"] = SearchOne(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **options)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            options["widget"] = SearchMany(db_field, self.admin_site)
        return super().formfield_for_manytomany(db_field, request, **options)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        if not all(is_pk(self.model, pk) for pk in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            self.message_user(request, "Nothing was done: a chosen row does not exist.", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
        return super().response_action(request, queryset)


class ReadOnly(OperatorAdmin):
    """Rows that the gateway writes; people read them, and delete them where `people_may` says so."""

    people_may: tuple[str, ...] = ("view",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return "delete" in self.people_may and bool(super().has_delete_permission(request, obj))


def with_price_widget(field: Any, db_field: Field[Any, Any]) -> Any:
    if isinstance(db_field, money.PriceField):
        field.widget = UnfoldAdminDecimalFieldWidget(attrs={"step": "any", "min": "0"})
    return field


class DeploymentFormSet(PaginationInlineFormSet):
    def initial_form_count(self) -> int:
        """Never less than none, whatever was posted."""
        return max(0, int(super().initial_form_count()))

    def add_fields(self, form: forms.BaseForm, index: int | None) -> None:
        super().add_fields(form, index)
        if "DELETE" in form.fields:
            form.fields["DELETE"].widget.attrs["aria-label"] = "Remove"


class DeploymentInline(TabularInline):
    model = Deployment
    form = DeploymentForm
    formset = DeploymentFormSet
    extra = 0
    fields = ("profile", "upstream_model", "priority", "weight", "price_input", "price_output", "enabled")
    show_change_link = True
    verbose_name_plural = "Served by"
    readonly_fields = ("shown_prices",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if self.has_change_permission(request, obj):
            return self.fields
        return ("profile", "upstream_model", "priority", "weight", "shown_prices", "enabled")

    @display(description="USD per million, in / out")
    def shown_prices(self, deployment: Deployment) -> str:
        return in_and_out(deployment)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """Without the menu beside the profile, for which a row has no room, and with a name for each cell."""
        field = with_price_widget(super().formfield_for_dbfield(db_field, request, **options), db_field)
        if isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        field.widget.attrs["aria-label"] = field.label
        return field


class KindFilter(admin.SimpleListFilter):
    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, provider.label) for kind, provider in kinds().items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Profile]) -> QuerySet[Profile]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


@admin.register(Profile)
class ProfileAdmin(OperatorAdmin):
    says = "A profile is an account at an upstream: where it is, and what we show it to be let in."
    empty_title = "No account is connected yet"
    empty_says = "Add a profile for the server or the provider that shall answer. Then name a route that it serves."
    list_display = ("name", "state", "shown_kind", "address", "served_routes", "shown_third_party", "shown_updated")
    list_filter = (KindFilter, "enabled", "third_party")
    search_fields = ("name", "notes")
    search_help_text = "Name or notes"
    warn_unsaved_form = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Profile]:
        serving = Count("deployments", filter=Q(deployments__enabled=True))
        return super().get_queryset(request).annotate(serving=serving)  # type: ignore[no-any-return]

    @display(
        description="State",
        label={"on": "success", "off": "warning", "unknown kind": "danger", "cannot be opened": "danger"},
    )
    def state(self, profile: Profile) -> str:
        if profile.provider is None:
            return "unknown kind"
        try:
            profile.sealed_values()
        except SealBroken:
            return "cannot be opened"
        return "on" if profile.enabled else "off"

    @display(description="Kind", ordering="kind")
    def shown_kind(self, profile: Profile) -> str:
        return profile.provider.label if profile.provider else profile.kind

    @display(description="Address")
    def address(self, profile: Profile) -> str:
        return str(profile.settings.get("url") or "—")

    @display(description="Routes", ordering="serving")
    def served_routes(self, profile: Any) -> str:
        if not profile.serving:
            return "none yet"
        routes = reverse("admin:profiles_route_changelist")
        return format_html('<a href="{}?{}={}">{}</a>', routes, ROUTES_OF_PROFILE, profile.pk, profile.serving)

    @display(description="Third party", ordering="third_party")
    def shown_third_party(self, profile: Profile) -> str:
        return "yes" if profile.third_party else "no"

    @display(description="Changed", ordering="updated_at")
    def shown_updated(self, profile: Profile) -> str:
        return moments.shown(profile.updated_at)

    @display(description="Settings")
    def shown_settings(self, profile: Profile) -> str:
        provider = profile.provider
        lines = [
            (setting.label, profile.settings.get(setting.name) or setting.default or "—")
            for setting in (provider.settings if provider else ())
            if not setting.secret
        ]
        return format_html_join("", "{}: {}<br>", lines) or "—"

    @display(description="Secrets")
    def shown_secrets(self, profile: Profile) -> str:
        return "set" if profile.sealed else "none"

    def get_form(self, request: HttpRequest, obj: Profile | None = None, change: bool = False, **options: Any) -> Any:
        """The model's own fields get the admin's widgets; the form draws the rest itself."""
        form = form_for(self.kind_of(request, obj))
        return modelform_factory(
            Profile,
            form=form,
            fields=form._meta.fields,
            formfield_callback=partial(self.formfield_for_dbfield, request=request),
        )

    def kind_of(self, request: HttpRequest, obj: Profile | None) -> str:
        return obj.kind if obj else str(request.POST.get("kind") or request.GET.get("kind") or "")

    def get_fieldsets(self, request: HttpRequest, obj: Profile | None = None) -> Any:
        provider = kinds()[self.kind_of(request, obj)]
        timeouts = (("connect_timeout", "first_event_timeout"), ("idle_timeout", "total_timeout"))
        if obj and not self.has_change_permission(request, obj):
            return (
                (None, {"fields": ("name", "enabled", "third_party", "notes")}),
                (provider.label, {"fields": ("shown_settings", "shown_secrets")}),
                ("Timeouts, in seconds", {"fields": timeouts}),
            )
        return (
            (None, {"fields": ("kind", "name", "enabled", "third_party", "notes")}),
            (provider.label, {"fields": self.account_fields(provider, obj)}),
            ("Timeouts, in seconds", {"fields": timeouts}),
            (
                "Network: proxy, headers, certificates",
                {"fields": self.network_fields(provider, obj), "classes": ("collapse",)},
            ),
        )

    def account_fields(self, provider: Provider, obj: Profile | None) -> list[str]:
        plain = [field_name(setting) for setting in provider.settings if not setting.secret]
        secret = [field_name(setting) for setting in provider.settings if setting.secret]
        return [*plain, *self.with_forget(secret, provider, obj)]

    def network_fields(self, provider: Provider, obj: Profile | None) -> list[str]:
        return [*self.with_forget(["proxy_url", "extra_headers"], provider, obj), "ca"]

    def with_forget(self, names: list[str], provider: Provider, obj: Profile | None) -> list[str]:
        """Each secret field, followed by its switch to forget it if there is something to forget."""
        held = form_for(provider.kind)(instance=obj).secret_names()
        return [part for name in names for part in ([name, f"forget_{name}"] if name in held else [name])]

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
        allowed = self.has_view_permission(request, unknown) if unknown else self.has_add_permission(request)
        if not allowed:
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": str(unknown) if unknown else "Connect an account",
            "opts": self.opts,
            "original": unknown,
            "kinds": list(kinds().values()),
            "unknown": unknown,
            "has_delete_permission": bool(unknown) and self.has_delete_permission(request, unknown),
            "is_popup": "_popup" in request.GET,
        }
        return TemplateResponse(request, "admin/profiles/profile/choose_kind.html", context)


ROUTES_OF_PROFILE = "deployments__profile__id__exact"


@admin.register(Route)
class RouteAdmin(OperatorAdmin):
    says = "A route is a model name that callers may use. Its deployments are the places where it is served."
    empty_title = "No model has a name yet"
    empty_says = "Add a route, and in it the profile and the upstream model that serve it."
    form = RouteForm
    inlines = (DeploymentInline,)
    list_display = ("name", "state", "places", "shown_works", "shown_window", "shown_public")
    list_filter = ("enabled", "public", ("deployments__profile", admin.RelatedOnlyFieldListFilter))
    search_fields = ("name", "deployments__upstream_model")
    search_help_text = "Name or upstream model"
    fieldsets = (
        (None, {"fields": ("name", "enabled", "public", "works")}),
        ("Limits and answers", {"fields": (("context_window", "max_output_tokens"), "model_name")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Route]:
        return super().get_queryset(request).prefetch_related("deployments__profile")  # type: ignore[no-any-return]

    @display(description="State", label={"serving": "success", "off": "warning", "not served": "danger"})
    def state(self, route: Route) -> str:
        if not route.enabled:
            return "off"
        served = any(
            place.enabled and place.profile.enabled and place.profile.provider for place in route.deployments.all()
        )
        return "serving" if served else "not served"

    @display(description="Served by")
    def places(self, route: Route) -> str:
        served = [(place.profile.name, place.upstream_model) for place in route.deployments.all() if place.enabled]
        lines = format_html_join("", '<span class="line">{}: {}</span>', served)
        return format_html("<div>{}</div>", lines or "nothing yet")

    @display(description="Kinds of work")
    def shown_works(self, route: Route) -> str:
        return ", ".join(route.works)

    @display(description="Context", ordering="context_window")
    def shown_window(self, route: Route) -> str:
        return f"{route.context_window:,}" if route.context_window else "—"

    @display(description="Public", ordering="public")
    def shown_public(self, route: Route) -> str:
        return "yes" if route.public else "no"


@admin.register(Deployment)
class DeploymentAdmin(OperatorAdmin):
    says = "A deployment is one place where a route is served: a profile, and the model's name there."
    empty_title = "No route is served yet"
    empty_says = "Add a deployment to say which profile serves which route; a route's own page can do it, too."
    form = DeploymentForm
    list_display = ("route", "state", "profile", "upstream_model", "priority", "weight", "shown_prices")
    list_filter = ("enabled", ("profile", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("route", "profile")
    search_fields = ("route__name", "profile__name", "upstream_model")
    search_help_text = "Route, profile or upstream model"
    fieldsets = (
        (None, {"fields": ("route", "profile", "upstream_model", "enabled", ("priority", "weight"))}),
        ("Prices, in USD per million tokens", {"fields": PRICES}),
    )

    @display(
        description="State",
        label={"on": "success", "off": "warning", "route is off": "warning", "profile is off": "warning"},
    )
    def state(self, deployment: Deployment) -> str:
        if not deployment.enabled:
            return "off"
        if not deployment.route.enabled:
            return "route is off"
        return "on" if deployment.profile.enabled else "profile is off"

    @display(description="USD per million, in / out")
    def shown_prices(self, deployment: Deployment) -> str:
        return in_and_out(deployment)

    @display(description="Prices")
    def shown_all_prices(self, deployment: Deployment) -> str:
        names = [name for pair in PRICES for name in pair]
        lines = [(label_for_field(name, Deployment), in_usd(getattr(deployment, name))) for name in names]
        return format_html_join("", '<span class="line">{}: {}</span>', lines)

    def get_fieldsets(self, request: HttpRequest, obj: Deployment | None = None) -> Any:
        """Who may only look sees the fields as they are stored, which no price should be."""
        first, prices = self.fieldsets
        looking = obj is not None and not self.has_change_permission(request, obj)
        return (first, (prices[0], {"fields": ("shown_all_prices",)})) if looking else (first, prices)


def in_usd(price: int | None) -> str:
    usd = money.usd_from_price(price)
    return "—" if usd is None else f"{usd.normalize():f}"


def in_and_out(deployment: Deployment) -> str:
    if deployment.price_input is None and deployment.price_output is None:
        return "no price"
    return f"{in_usd(deployment.price_input)} / {in_usd(deployment.price_output)}"


@admin.register(Token)
class TokenAdmin(ReadOnly):
    people_may = ("delete", "view")
    says = "A token is what an upstream's login gave us for a profile. Delete one to have it fetched anew."
    empty_title = "No token is held"
    empty_says = "Nothing to do: only accounts with a login of their own need tokens, and fetch them by themselves."
    list_display = ("profile", "state", "shown_obtained", "shown_expires", "shown_error")
    list_select_related = ("profile",)
    fields = readonly_fields = ("profile", "state", "shown_obtained", "shown_expires", "shown_error")

    @display(description="State", label={"valid": "success", "expired": "danger", "none": "warning"})
    def state(self, token: Token) -> str:
        if not token.sealed:
            return "none"
        return "valid" if token.expires_at is None or token.expires_at > timezone.now() else "expired"

    @display(description="Obtained", ordering="obtained_at")
    def shown_obtained(self, token: Token) -> str:
        return moments.shown(token.obtained_at)

    @display(description="Expires", ordering="expires_at")
    def shown_expires(self, token: Token) -> str:
        return moments.shown(token.expires_at, "not known")

    @display(description="Last error")
    def shown_error(self, token: Token) -> str:
        return token.last_error or "none"


@admin.register(WorkerState)
class WorkerStateAdmin(ReadOnly):
    says = "A worker is one serving process. Each says every second that it is there."
    empty_title = "No worker is serving"
    empty_says = "Start the gateway with bin/serve."
    list_display = ("shown_pid", "live", "host", "open_calls", "calls", "shown_started", "shown_seen")
    fields = readonly_fields = (*list_display, "counters")

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

    @display(description="Started", ordering="started_at")
    def shown_started(self, worker: WorkerState) -> str:
        return moments.shown(worker.started_at)

    @display(description="Last seen", ordering="seen_at")
    def shown_seen(self, worker: WorkerState) -> str:
        return moments.shown(worker.seen_at, seconds=True)

    @display(description="Counters")
    def counters(self, worker: WorkerState) -> str:
        named = ((name.replace("_", " "), value) for name, value in sorted(worker.state.items()))
        return format_html_join("", "{}: {}<br>", named) or "none"
