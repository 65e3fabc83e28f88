"""People and keys, for operators."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminTextInputWidget

from apikeys import digests
from apikeys.models import APIKey, User

admin.site.unregister(Group)


class CommaList(forms.CharField):
    """A list, written with commas between its items."""

    widget = UnfoldAdminTextInputWidget

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [item.strip() for item in (value or "").split(",") if item.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(data) != (initial or []))


class KeyForm(forms.ModelForm):
    tags = CommaList(required=False, help_text="With commas between them. Copied onto every call.")
    allowed_ips = CommaList(
        required=False,
        label="Allowed addresses",
        help_text="Addresses or networks with commas between them, as 10.0.0.0/8, 192.0.2.7. Empty: from anywhere.",
    )

    class Meta:
        model = APIKey
        fields = (
            "owner",
            "name",
            "kind",
            "active",
            "expires_at",
            "tags",
            "all_routes",
            "routes",
            "allowed_ips",
            "max_body_mb",
            "trusts_user_headers",
        )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not cleaned.get("all_routes") and not cleaned.get("routes"):
            self.add_error("routes", "Choose at least one route, or allow all of them.")
        return cleaned


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("good", "Good"), ("expired", "Expired"), ("revoked", "Revoked"), ("unused", "Never used")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> QuerySet[APIKey]:
        now = timezone.now()
        match self.value():
            case "good":
                return queryset.filter(Q(expires_at=None) | Q(expires_at__gt=now), active=True, owner__is_active=True)
            case "expired":
                return queryset.filter(expires_at__lte=now)
            case "revoked":
                return queryset.filter(Q(active=False) | Q(owner__is_active=False))
            case "unused":
                return queryset.filter(last_used_at=None)
        return queryset


@admin.register(APIKey)
class APIKeyAdmin(ModelAdmin):
    form = KeyForm
    list_display = ("name", "shown_prefix", "owner", "state", "shown_routes", "expires_at", "last_used_at")
    list_filter = (StateFilter, "kind", ("owner", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("owner",)
    search_fields = ("name", "prefix", "owner__username")
    autocomplete_fields = ("owner", "routes")
    readonly_fields = ("shown_prefix", "last_used_at", "created_at")
    actions = ("revoke",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[APIKey]:
        return super().get_queryset(request).prefetch_related("routes")  # type: ignore[no-any-return]

    def get_fieldsets(self, request: HttpRequest, obj: APIKey | None = None) -> Any:
        seen = (("History", {"fields": (("shown_prefix", "created_at", "last_used_at"),)}),) if obj else ()
        return (
            (None, {"fields": ("owner", "name", "kind", "active", "expires_at", "tags")}),
            ("What it may use", {"fields": ("all_routes", "routes", "allowed_ips", "max_body_mb")}),
            ("Attribution", {"fields": ("trusts_user_headers",)}),
            *seen,
        )

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"owner": request.user.pk, **super().get_changeform_initial_data(request)}

    @display(description="Key", ordering="prefix")
    def shown_prefix(self, key: APIKey) -> str:
        return f"{key.prefix}…"

    @display(description="State", label={"good": "success", "expired": "warning", "revoked": "danger"})
    def state(self, key: APIKey) -> str:
        if not key.active or not key.owner.is_active:
            return "revoked"
        return "expired" if key.expires_at and key.expires_at <= timezone.now() else "good"

    @display(description="Routes")
    def shown_routes(self, key: APIKey) -> str:
        return "all" if key.all_routes else ", ".join(route.name for route in key.routes.all())

    @admin.action(description="Revoke the chosen keys")
    def revoke(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> None:
        count = queryset.update(active=False)
        self.message_user(request, f"Revoked {count} key(s). Every worker notices within 2 seconds.")

    def save_model(self, request: HttpRequest, obj: APIKey, form: Any, change: bool) -> None:
        if not change:
            request.META["switchboard.new_key"] = digests.new_key()
            obj.set_key(request.META["switchboard.new_key"])
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: APIKey, post_url_continue: str | None = None) -> HttpResponse:
        """The one page that ever shows the key: it is in no message, session or redirect."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Key created",
            "opts": self.opts,
            "key": request.META.pop("switchboard.new_key"),
            "row": obj,
        }
        response = TemplateResponse(request, "admin/apikeys/apikey/created.html", context)
        response.headers["Cache-Control"] = "no-store"
        return response


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_active", "is_staff", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser")
    ordering = (F("last_login").desc(nulls_last=True), "username")


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    pass
