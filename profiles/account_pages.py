"""Profiles: the list of accounts at upstreams, and the page of each."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.forms.models import modelform_factory
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from unfold.decorators import display

from profiles import key_pairs, moments, tokens
from profiles.asking_pages import AskingPages
from profiles.forms import NEW_KEY_PAIR, field_name, form_for
from profiles.models import Profile, Token
from profiles.operator_pages import OperatorAdmin
from profiles.secrets import SealBroken
from profiles.token_pages import STATE_COLOURS
from providers import snowflake_keys
from providers.base import Provider
from providers.registry import kinds

ROUTES_OF_PROFILE = "deployments__profile__id__exact"
LONGEST_ERROR = 60  # characters, in the list


class KindFilter(admin.SimpleListFilter):
    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, provider.label) for kind, provider in kinds().items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Profile]) -> QuerySet[Profile]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


@admin.register(Profile)
class ProfileAdmin(AskingPages, OperatorAdmin):
    says = "A profile is an account at an upstream: where it is, and what we show it to be let in."
    empty_title = "No account is connected yet"
    empty_says = "Add a profile for the server or the provider that shall answer. Then name a route that it serves."
    list_display = (
        "name",
        "state",
        "shown_kind",
        "address",
        "served_routes",
        "token_state",
        "shown_synced",
        "shown_third_party",
    )
    readonly_fields = ("shown_sync", "shown_token")
    list_filter = (KindFilter, "enabled", "third_party")
    search_fields = ("name", "notes")
    search_help_text = "Name or notes"
    warn_unsaved_form = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Profile]:
        serving = Count("deployments", filter=Q(deployments__enabled=True))
        return super().get_queryset(request).annotate(serving=serving).prefetch_related("token")  # type: ignore[no-any-return]

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
        try:
            return (profile.provider.address(profile.open()) if profile.provider else "") or "—"
        except (SealBroken, ValueError, KeyError):  # the credential is gone, or settings are missing
            return str(profile.settings.get("url") or "—")

    @display(description="Routes", ordering="serving")
    def served_routes(self, profile: Any) -> str:
        if not profile.serving:
            return "none yet"
        routes = reverse("admin:profiles_route_changelist")
        return format_html('<a href="{}?{}={}">{}</a>', routes, ROUTES_OF_PROFILE, profile.pk, profile.serving)

    @display(description="Token", label=STATE_COLOURS)
    def token_state(self, profile: Profile) -> str:
        """Empty for an account that needs none."""
        try:
            needed = profile.provider is not None and profile.provider.needs_login(profile.open())
        except (SealBroken, KeyError):
            needed = False
        return tokens.token_state(token_of(profile), timezone.now()) if needed else ""

    @display(description="Token")
    def shown_token(self, profile: Profile) -> str:
        state, token = self.token_state(profile), token_of(profile)
        if not state or token is None:
            return "none yet: the first call or test fetches it" if state else "not needed"
        page = reverse("admin:profiles_token_change", args=[token.pk])
        return format_html('<a href="{}">{}</a>, expires {}', page, state, moments.with_distance(token.expires_at, "—"))

    @display(description="Models synced", ordering="synced_at")
    def shown_synced(self, profile: Profile) -> str:
        if not profile.sync_error:
            return moments.shown(profile.synced_at)
        error = profile.sync_error
        short = error if len(error) <= LONGEST_ERROR else f"{error[:LONGEST_ERROR]}…"
        return format_html('<span class="failed">failed: {}</span>', short)

    @display(description="Models synced")
    def shown_sync(self, profile: Profile) -> str:
        if not profile.sync_error:
            return moments.with_distance(profile.synced_at)
        when = moments.with_distance(profile.synced_at)
        return format_html('{} <span class="line failed">It failed: {}</span>', when, profile.sync_error)

    @display(description="Third party", ordering="third_party")
    def shown_third_party(self, profile: Profile) -> str:
        return "yes" if profile.third_party else "no"

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
                (provider.label, {"fields": ("shown_settings", "shown_secrets", "shown_token")}),
                ("Models", {"fields": ("sync_minutes", "shown_sync")}),
                ("Timeouts, in seconds", {"fields": timeouts}),
            )
        return (
            (None, {"fields": ("kind", "name", "enabled", "third_party", "notes")}),
            (provider.label, {"fields": [*self.account_fields(provider, obj), *(["shown_token"] if obj else [])]}),
            ("Models", {"fields": ("sync_minutes", *(["shown_sync"] if obj else []))}),
            ("Timeouts, in seconds", {"fields": timeouts}),
            (
                "Network: proxy, headers, certificates",
                {"fields": self.network_fields(provider, obj), "classes": ("collapse",)},
            ),
        )

    def account_fields(self, provider: Provider, obj: Profile | None) -> list[str]:
        plain = [field_name(setting) for setting in provider.settings if not setting.secret]
        secret = [field_name(setting) for setting in provider.settings if setting.secret]
        form = form_for(provider.kind)(instance=obj)
        pair = [NEW_KEY_PAIR] if form.makes_key_pair() else []
        return [*plain, *pair, *self.with_forget(secret, provider, obj)]

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
        context = {**(extra_context or {}), **(self.buttons(request, profile) if profile else {})}
        return super().changeform_view(request, object_id, form_url, context)

    def save_model(self, request: HttpRequest, obj: Profile, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        request.META["switchboard.public_line"] = form.public_line

    def response_add(self, request: HttpRequest, obj: Profile, post_url_continue: str | None = None) -> HttpResponse:
        usual = super().response_add(request, obj, post_url_continue)
        return self.with_public_half(request, obj) or usual

    def response_change(self, request: HttpRequest, obj: Profile) -> HttpResponse:
        usual = super().response_change(request, obj)
        return self.with_public_half(request, obj) or usual

    def with_public_half(self, request: HttpRequest, profile: Profile) -> HttpResponse | None:
        """The page for a key pair that was made while saving, if one was."""
        line = request.META.pop("switchboard.public_line", "")
        if not line:
            return None
        made = key_pairs.public_half(profile, snowflake_keys.FIRST, line)
        return self.show_public_half(request, profile, snowflake_keys.FIRST, made)

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


def token_of(profile: Profile) -> Token | None:
    """Without a query where the list has brought it along."""
    try:
        return profile.token
    except Token.DoesNotExist:
        return None
