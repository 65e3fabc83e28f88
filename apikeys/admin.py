"""People, keys and failed logins, for operators."""

from __future__ import annotations

from typing import Any

from axes.helpers import get_cool_off
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import ValidationError
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.text import capfirst
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from apikeys import digests
from apikeys.models import APIKey, User
from profiles import moments
from profiles.operator_pages import OperatorAdmin, ReadOnly, is_pk

admin.site.unregister(Group)
# Only failed attempts are kept (see AXES_… in the settings), so the other two lists would be empty for ever.
admin.site.unregister((AccessAttempt, AccessLog, AccessFailureLog))


class CommaList(forms.CharField):
    """A list, written with commas between its items."""

    widget = UnfoldAdminTextInputWidget

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        text = str(value or "")
        if not text.isprintable():
            raise ValidationError("Write it on one line, without control characters.")
        return [item.strip() for item in text.split(",") if item.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(data) != (initial or []))


class KeyForm(forms.ModelForm):
    tags = CommaList(
        required=False, help_text="Words to find its calls by, with commas between them. Copied onto every call."
    )
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
        help_texts = {
            "owner": "Whose calls these are. A service gets a user of its own.",
            "kind": "Inference keys call models. Management keys are for scripts that run the gateway.",
            "expires_at": "Empty: never.",
            "routes": "Only with “All routes” switched off.",
        }

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if not name.isprintable():
            raise ValidationError("This holds a line break or a control character. Type it anew.")
        return name

    def clean_expires_at(self) -> Any:
        expires = self.cleaned_data["expires_at"]
        if expires and self.instance._state.adding and expires <= timezone.now():
            raise ValidationError("This moment has passed; the key would never work.")
        return expires

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not cleaned.get("all_routes") and not cleaned.get("routes"):
            self.add_error("routes", "Choose at least one route, or allow all of them.")
        if cleaned.get("all_routes") and cleaned.get("routes"):
            self.add_error("all_routes", "Switch this off to limit the key to the routes below, or choose none there.")
        owner, name = cleaned.get("owner"), cleaned.get("name")
        if owner and name and APIKey.objects.filter(owner=owner, name=name).exclude(pk=self.instance.pk).exists():
            self.add_error("name", f"{owner} has a key of this name already. Choose another one.")
        return cleaned


SHOWN_ROUTES = 3  # of one key, in the list


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
class APIKeyAdmin(OperatorAdmin):
    says = "A key is a caller's secret. It is shown once, when it is made; here are only its first characters."
    empty_title = "Nobody has a key yet"
    empty_says = "Add one for yourself or for a service: it is shown once, and calls need it."
    form = KeyForm
    list_display = ("name", "state", "owner", "shown_prefix", "shown_routes", "shown_expires", "shown_last_used")
    list_filter = (StateFilter, "kind", ("owner", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("owner",)
    search_fields = ("name", "prefix", "owner__username")
    search_help_text = "Name, first characters or owner"
    autocomplete_fields = ("owner", "routes")
    readonly_fields = ("shown_prefix", "shown_created", "shown_last_used")
    actions = ("revoke",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[APIKey]:
        return super().get_queryset(request).prefetch_related("routes")  # type: ignore[no-any-return]

    def get_fieldsets(self, request: HttpRequest, obj: APIKey | None = None) -> Any:
        seen = (("History", {"fields": self.readonly_fields}),) if obj else ()
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

    @display(description="Created")
    def shown_created(self, key: APIKey) -> str:
        return moments.shown(key.created_at)

    @display(description="Expires", ordering="expires_at")
    def shown_expires(self, key: APIKey) -> str:
        return moments.shown(key.expires_at)

    @display(description="Last used", ordering="last_used_at")
    def shown_last_used(self, key: APIKey) -> str:
        return moments.shown(key.last_used_at)

    @display(description="State", label={"good": "success", "expired": "warning", "revoked": "danger"})
    def state(self, key: APIKey) -> str:
        if not key.active or not key.owner.is_active:
            return "revoked"
        return "expired" if key.expires_at and key.expires_at <= timezone.now() else "good"

    @display(description="Routes")
    def shown_routes(self, key: APIKey) -> str:
        if key.all_routes:
            return "all"
        names = [route.name for route in key.routes.all()]
        lines = names[:SHOWN_ROUTES]
        if len(names) > SHOWN_ROUTES:
            lines.append(f"and {len(names) - SHOWN_ROUTES} more")
        shown = format_html_join("", '<span class="line">{}</span>', ((line,) for line in lines))
        return format_html("<div>{}</div>", shown or "none")

    @admin.action(description="Revoke the chosen keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> None:
        chosen = list(queryset.filter(active=True))
        queryset.update(active=False)
        for key in chosen:
            self.log_change(request, key, "Revoked.")
        count = len(chosen)
        self.message_user(
            request, f"Revoked {count} {'key' if count == 1 else 'keys'}. Every worker notices within 2 seconds."
        )

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
            "base_url": f"{settings.PUBLIC_URL or f'{request.scheme}://{request.get_host()}'}/v1",
        }
        response = TemplateResponse(request, "admin/apikeys/apikey/created.html", context)
        response.headers["Cache-Control"] = "no-store"
        return response


@admin.register(User)
class UserAdmin(DjangoUserAdmin, OperatorAdmin):
    says = "A user is a person, or a service with keys of its own. Only staff may sign in here."
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "state", "email", "role", "shown_last_login")
    list_filter = ("is_active", "is_staff", "is_superuser", "groups")
    search_help_text = "Name or e-mail"
    ordering = (F("last_login").desc(nulls_last=True), "username")
    filter_horizontal = ()
    autocomplete_fields = ("groups",)
    readonly_fields = ("shown_last_login", "shown_joined")
    fieldsets = (
        (None, {"fields": ("username", "password", "is_active")}),
        ("Person", {"fields": (("first_name", "last_name"), "email")}),
        ("What they may do here", {"fields": ("is_staff", "is_superuser", "groups")}),
        ("History", {"fields": (("shown_last_login", "shown_joined"),)}),
    )

    @display(description="State", label={"active": "success", "off": "danger"})
    def state(self, user: User) -> str:
        return "active" if user.is_active else "off"

    @display(description="May")
    def role(self, user: User) -> str:
        if user.is_superuser:
            return "do everything"
        return "sign in here" if user.is_staff else "use keys"

    @display(description="Last login", ordering="last_login")
    def shown_last_login(self, user: User) -> str:
        return moments.shown(user.last_login)

    @display(description="Joined")
    def shown_joined(self, user: User) -> str:
        return moments.shown(user.date_joined)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        words = {
            "is_active": "Switch off instead of deleting: all keys of this user stop working.",
            "is_staff": "May sign in to these pages, and see what the groups below allow.",
            "is_superuser": "May do everything, whatever the groups say.",
            "groups": "Each group allows what is ticked in it.",
        }
        return super().get_form(request, obj, change=change, **{**options, "help_texts": words})


def permissions_that_matter() -> QuerySet[Permission]:
    """For what people may do on the pages there are; the gateway alone writes the rest."""
    wanted = Q(pk=None)
    for model, page in admin.site._registry.items():
        if isinstance(page, OperatorAdmin):
            names = [f"{action}_{model._meta.model_name}" for action in page.people_may]
            wanted |= Q(content_type__app_label=model._meta.app_label, codename__in=names)
    found = Permission.objects.filter(wanted).select_related("content_type")
    return found.order_by("content_type__app_label", "content_type__model", "pk")


class PermissionChoices(forms.ModelMultipleChoiceField):
    def clean(self, value: Any) -> Any:
        return super().clean([pk for pk in value or () if is_pk(Permission, pk)])

    def label_from_instance(self, permission: Any) -> str:
        model = permission.content_type.model_class()
        thing = "failed logins" if model is AccessAttempt else str(model._meta.verbose_name_plural)
        return f"{capfirst(thing)}: {permission.codename.partition('_')[0]}"


class GroupForm(forms.ModelForm):
    permissions = PermissionChoices(
        queryset=Permission.objects.none(),
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text="What its users may see and do on these pages. They must also be staff to sign in.",
    )

    class Meta:
        model = Group
        fields = ("name", "permissions")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Only now is every page registered, those of higher floors too.
        choices: Any = self.fields["permissions"]
        choices.queryset = permissions_that_matter()


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, OperatorAdmin):
    says = "A group is a set of permissions that several users share."
    empty_title = "No group yet"
    empty_says = "Add one to let staff see or do some things without being superusers."
    form = GroupForm
    filter_horizontal = ()


@admin.register(AccessAttempt)
class AccessAttemptAdmin(ReadOnly):
    people_may = ("delete", "view")
    says = (
        f"After {settings.AXES_FAILURE_LIMIT} wrong passwords for one name from one address, that pair is locked out"
        " for 15 minutes. Delete its row to let it in at once."
    )
    empty_title = "No failed logins"
    empty_says = "Nothing to do: nobody has mistyped a password since the last good login."
    list_display = ("username", "state", "ip_address", "failures_since_start", "shown_time", "user_agent")
    list_filter = ("attempt_time",)
    search_fields = ("username", "ip_address")
    search_help_text = "Name or address"
    ordering = ("-attempt_time",)
    fields = readonly_fields = (*list_display, "path_info")

    @display(description="State", label={"locked out": "danger", "may try": "info"})
    def state(self, attempt: AccessAttempt) -> str:
        cool_off = get_cool_off()
        recent = cool_off is None or attempt.attempt_time > timezone.now() - cool_off
        return "locked out" if recent and attempt.failures_since_start >= settings.AXES_FAILURE_LIMIT else "may try"

    @display(description="Last try", ordering="attempt_time")
    def shown_time(self, attempt: AccessAttempt) -> str:
        return moments.shown(attempt.attempt_time)
