"""Routes and the deployments that serve them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import label_for_field
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from unfold.admin import TabularInline
from unfold.decorators import display
from unfold.forms import PaginationInlineFormSet

from profiles import moments, money
from profiles.models import Deployment, Route, all_works
from profiles.operator_pages import OperatorAdmin, with_price_widget
from profiles.route_forms import CAPABILITY_LABELS, DeploymentForm, DeploymentPageForm, RouteForm, capability_field
from providers.capabilities import CAPABILITIES, known

PRICES = (
    ("price_input", "price_output"),
    ("price_cached", "price_reasoning"),
    ("price_cache_write", "price_audio"),
)
ABILITIES = tuple(
    tuple(capability_field(name) for name in CAPABILITIES[start : start + 2])
    for start in range(0, len(CAPABILITIES), 2)
)


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


@admin.register(Route)
class RouteAdmin(OperatorAdmin):
    says = "A route is a model name that callers may use. Its deployments are the places where it is served."
    empty_title = "No model has a name yet"
    empty_says = "Add a route, and in it the profile and the upstream model that serve it."
    form = RouteForm
    inlines = (DeploymentInline,)
    list_display = ("name", "state", "places", "shown_works", "shown_window", "shown_public")
    list_filter = ("enabled", "public", "third_party", ("deployments__profile", admin.RelatedOnlyFieldListFilter))
    search_fields = ("name", "deployments__upstream_model")
    search_help_text = "Name or upstream model"
    readonly_fields = ("shown_remarks",)

    def get_fieldsets(self, request: HttpRequest, obj: Route | None = None) -> Any:
        remarks = ("shown_remarks",) if obj and any(map(remark, obj.deployments.all())) else ()
        return (
            (None, {"fields": (*remarks, "name", "enabled", "public", "third_party", "works")}),
            ("Limits and answers", {"fields": (("context_window", "max_output_tokens"), "model_name")}),
        )

    @display(description="Does not serve")
    def shown_remarks(self, route: Route) -> str:
        """The places that do not, and why."""
        lines = [(place.profile.name, place.upstream_model, remark(place)) for place in route.deployments.all()]
        return format_html_join("", '<span class="line">{}: {}, {}</span>', (line for line in lines if line[2]))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Route]:
        return super().get_queryset(request).prefetch_related("deployments__profile")  # type: ignore[no-any-return]

    @display(
        description="State",
        label={"serving": "success", "off": "warning", "not served": "danger", "third party only": "danger"},
    )
    def state(self, route: Route) -> str:
        """`third party only`: there are places, but on machines that the route does not allow."""
        if not route.enabled:
            return "off"
        places = [
            place.profile
            for place in route.deployments.all()
            if place.enabled and place.profile.enabled and place.profile.provider
        ]
        if not places:
            return "not served"
        allowed = route.third_party or any(not profile.third_party for profile in places)
        return "serving" if allowed else "third party only"

    @display(description="Served by")
    def places(self, route: Route) -> str:
        served = [
            (place.profile.name, place.upstream_model, "" if place.enabled else " (vanished)")
            for place in route.deployments.all()
            if place.enabled or place.vanished_at
        ]
        lines = format_html_join("", '<span class="line">{}: {}{}</span>', served)
        return format_html("<div>{}</div>", lines or "nothing yet")

    @display(description="Kinds of work")
    def shown_works(self, route: Route) -> str:
        return "everything" if set(all_works()) <= set(route.works) else ", ".join(route.works)

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
    form = DeploymentPageForm
    list_display = ("route", "state", "profile", "upstream_model", "priority", "weight", "shown_prices")
    list_filter = ("enabled", ("profile", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("route", "profile")
    search_fields = ("route__name", "profile__name", "upstream_model")
    search_help_text = "Route, profile or upstream model"
    readonly_fields = ("shown_vanished", "shown_listed", "shown_lacks")
    place = ("route", "profile", "upstream_model", "upstream_url", "enabled", ("priority", "weight"))

    @display(
        description="State",
        label={
            "on": "success",
            "off": "warning",
            "vanished": "warning",
            "route is off": "warning",
            "profile is off": "warning",
            "third party": "danger",
        },
    )
    def state(self, deployment: Deployment) -> str:
        """`third party`: the route does not allow such a profile."""
        if not deployment.enabled:
            return "vanished" if deployment.vanished_at else "off"
        if not deployment.route.enabled:
            return "route is off"
        if not deployment.profile.enabled:
            return "profile is off"
        return "third party" if deployment.profile.third_party and not deployment.route.third_party else "on"

    @display(description="Vanished")
    def shown_vanished(self, deployment: Deployment) -> str:
        """Says also when an operator has switched it on again by hand."""
        if deployment.vanished_at is None:
            return "no"
        return format_html(
            "{}: the upstream listed it no longer, so it was switched off. It comes back by itself when it is listed "
            "again.",
            moments.shown(deployment.vanished_at),
        )

    @display(description="As listed")
    def shown_listed(self, deployment: Deployment) -> str:
        listed = deployment.listed
        stated = known(listed.get("capabilities"))
        lines = [
            ("Context window", listed.get("context_window")),
            ("Most output", listed.get("max_output_tokens")),
            *((CAPABILITY_LABELS[name], "yes" if has else "no") for name, has in stated.items()),
            ("Family", listed.get("family")),
            ("Note", listed.get("note")),
        ]
        said = [(label, f"{value:,}" if isinstance(value, int) else value) for label, value in lines if value]
        return format_html_join("", '<span class="line">{}: {}</span>', said) or "nothing: never seen in a listing"

    @display(description="Skipped for calls that need")
    def shown_lacks(self, deployment: Deployment) -> str:
        """All that is known together: the kind, the listing and the fields below."""
        provider = deployment.profile.provider
        lacks = provider.lacks(deployment.model) - {"streaming"} if provider else frozenset()
        return ", ".join(ABILITY_WORDS[name] for name in CAPABILITIES if name in lacks) or "nothing: it takes any call"

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
        looking = obj is not None and not self.has_change_permission(request, obj)
        seen = ("shown_listed", "shown_lacks") if obj else ()
        vanished = ("shown_vanished",) if obj and obj.vanished_at else ()
        return (
            (None, {"fields": (*self.place, *vanished)}),
            (
                "What the model can do",
                {
                    "fields": (*seen, *(() if looking else ABILITIES)),
                    "description": "Say only what you know better than the upstream's listing.",
                },
            ),
            (
                "Prices, in USD per million tokens",
                {"fields": ("shown_all_prices",) if looking else PRICES},
            ),
        )


ABILITY_WORDS = {
    "tools": "tools",
    "images": "images",
    "json_schema": "a JSON schema",
    "thinking": "thinking",
    "embeddings": "embeddings",
}


def remark(deployment: Deployment) -> str:
    """Why a place does not serve although its row looks well; empty when there is nothing to say."""
    if deployment.vanished_at and not deployment.enabled:
        return format_html("vanished on {}", moments.shown(deployment.vanished_at))
    if deployment.profile.third_party and not deployment.route.third_party:
        return "third party: the route does not allow it"
    return ""


def in_usd(price: int | None) -> str:
    usd = money.usd_from_price(price)
    return "—" if usd is None else f"{usd.normalize():f}"


def in_and_out(deployment: Deployment) -> str:
    if deployment.price_input is None and deployment.price_output is None:
        return "no price"
    return f"{in_usd(deployment.price_input)} / {in_usd(deployment.price_output)}"
