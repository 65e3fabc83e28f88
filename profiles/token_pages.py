"""Tokens we hold from upstreams: how each is doing, and a button to renew it. No page shows a token."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils import timezone
from django.utils.text import Truncator
from unfold.decorators import display

from profiles import moments, tokens
from profiles.models import Token
from profiles.operator_pages import ReadOnly, for_operators
from profiles.secrets import SealBroken
from providers.wire.errors import ProviderError

STATE_COLOURS = {
    "valid": "success",
    "valid, renewal failing": "warning",
    "none yet": "info",
    "failing": "danger",
    "expired": "danger",
}


@admin.register(Token)
class TokenAdmin(ReadOnly):
    people_may = ("change", "delete", "view")  # to change one is to renew it
    says = (
        "A token is what an upstream's login gave us for a profile. Each is renewed by itself ahead of its end; "
        "“Renew now” does not wait for that."
    )
    empty_title = "No token is held"
    empty_says = "Nothing to do: only accounts with a login of their own need tokens, and fetch them by themselves."
    list_display = (
        "profile",
        "state",
        "shown_expires",
        "shown_obtained",
        "short_made_with",
        "shown_error",
        "shown_next",
    )
    list_select_related = ("profile",)
    fields = readonly_fields = (
        *("profile", "state", "shown_expires", "shown_obtained", "shown_made_with"),
        *("shown_error", "failures", "shown_failed", "shown_next"),
    )
    actions = ("renew_chosen",)
    change_form_outer_before_template = "admin/profiles/token/renew.html"

    @display(description="State", label=STATE_COLOURS)
    def state(self, token: Token) -> str:
        return tokens.token_state(token, timezone.now())

    @display(description="Made with", ordering="made_with")
    def shown_made_with(self, token: Token) -> str:
        return token.made_with or "—"

    @display(description="Made with", ordering="made_with")
    def short_made_with(self, token: Token) -> str:
        """A fingerprint tells one key from another by its first letters."""
        return Truncator(token.made_with).chars(24) or "—"

    @display(description="Obtained", ordering="obtained_at")
    def shown_obtained(self, token: Token) -> str:
        return moments.with_distance(token.obtained_at)

    @display(description="Expires", ordering="expires_at")
    def shown_expires(self, token: Token) -> str:
        return moments.with_distance(token.expires_at, "—")

    @display(description="Last error")
    def shown_error(self, token: Token) -> str:
        return token.last_error or "none"

    @display(description="Failed last", ordering="failed_at")
    def shown_failed(self, token: Token) -> str:
        return moments.with_distance(token.failed_at)

    @display(description="Next try", ordering="next_try_at")
    def shown_next(self, token: Token) -> str:
        """Only a failing login has one; when what is stored is refused, nothing is tried until that changes."""
        if token.next_try_at is None:
            return "when due"
        if token.next_try_at - timezone.now() > tokens.NEVER / 2:
            return "not by itself: change the profile, or renew now"
        return moments.with_distance(token.next_try_at)

    def may_renew(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("profiles.change_token"))

    has_renew_permission = may_renew  # the name under which actions look for it

    def get_urls(self) -> list[Any]:
        renew = path(
            "<path:object_id>/renew/", self.admin_site.admin_view(self.renew_view), name="profiles_token_renew"
        )
        return [renew, *super().get_urls()]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        context = {**(extra_context or {}), "may_renew": self.may_renew(request)}
        return super().changeform_view(request, object_id, form_url, context)

    def renew_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """By POST alone: nothing goes out because a page was opened."""
        if not self.may_renew(request):
            raise PermissionDenied
        token = self.get_object(request, unquote(object_id))
        if token is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[no-any-return]
        if request.method == "POST":
            self.renew(request, token)
        return HttpResponseRedirect(reverse("admin:profiles_token_change", args=[token.pk]))

    @admin.action(description="Renew the chosen tokens now", permissions=["renew"])
    def renew_chosen(self, request: HttpRequest, queryset: QuerySet[Token]) -> None:
        for token in queryset.select_related("profile"):
            self.renew(request, token)

    def renew(self, request: HttpRequest, token: Token) -> None:
        """Log in anew, and tell how that went."""
        profile = token.profile
        provider = profile.provider
        try:
            target = profile.open()
            if provider is None or not provider.needs_login(target):
                self.message_user(request, f"{profile} needs no token as it is set up now.", messages.WARNING)
                return
            renewed = tokens.renew(profile.pk, provider, target, asked=True)
        except ProviderError as error:
            self.message_user(request, f"{profile} was not let in: {for_operators(error)}", messages.ERROR)
        except SealBroken as error:
            self.message_user(request, f"{profile} cannot be opened: {error}", messages.ERROR)
        else:
            if renewed is None:
                sentence = f"The token of {profile} is being renewed by somebody else. Look again in a moment."
                self.message_user(request, sentence, messages.WARNING)
                return
            self.log_change(request, renewed, "Renewed.")
            self.message_user(request, f"The token of {profile} was renewed.", messages.SUCCESS)
