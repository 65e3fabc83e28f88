"""What the buttons on a profile's page do: ask the account, serve its models, make a key pair.

Each is a POST of its own; nothing goes out because a page was opened.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join

from profiles import discovery, key_pairs
from profiles.models import Deployment, Profile, Route
from profiles.operator_pages import OperatorAdmin, for_operators
from profiles.secrets import SealBroken
from providers import snowflake_keys
from providers.base import Provider, Target, UpstreamModel
from providers.capabilities import Capability
from providers.wire.errors import ProviderError

LISTING_LIFE = 24 * 60 * 60  # seconds in which a list that was shown can be ticked
LONGEST_NAME = 200  # characters, of a route
NAMED = 10  # routes or models, in a message
SALT = "profiles.offered"


@dataclass(slots=True)
class Offer:
    """One model of an account, as the page shows it."""

    index: int
    model: UpstreamModel
    name: str  # its route would have
    works: list[str]
    able: list[str]
    unable: list[str]
    window: str = ""
    served_as: list[Route] = field(default_factory=list)
    joins: bool = False  # a route of this name is there already
    ticked: bool = False
    error: str = ""


Ask = Callable[[Any, HttpRequest, Profile], HttpResponse]


def button(*also: str) -> Callable[[Ask], Callable[[Any, HttpRequest, str], HttpResponse]]:
    """A view for who may change the profile, and has the permissions `also`; what goes wrong is a message."""

    def decorate(ask: Ask) -> Callable[[Any, HttpRequest, str], HttpResponse]:
        @functools.wraps(ask)
        def view(pages: AskingPages, request: HttpRequest, object_id: str) -> HttpResponse:
            profile = pages.get_object(request, unquote(object_id))
            if not pages.has_change_permission(request, profile) or not request.user.has_perms(also):
                raise PermissionDenied
            if profile is None:
                return pages._get_obj_does_not_exist_redirect(request, pages.opts, object_id)  # type: ignore[no-any-return]
            if request.method != "POST":
                return back_to(profile)
            try:
                return ask(pages, request, profile)
            except (ProviderError, SealBroken, ValueError) as error:
                pages.message_user(request, for_operators(error), messages.ERROR)
                return back_to(profile)

        return view

    return decorate


MAY_SERVE = ("profiles.add_route", "profiles.add_deployment")


class AskingPages(OperatorAdmin):
    """The part of a profile's admin that talks to its account."""

    def get_urls(self) -> list[Any]:
        views = {
            "test": self.test_view,
            "fetch": self.fetch_view,
            "serve": self.serve_view,
            "sync": self.sync_view,
            "keypair": self.keypair_view,
        }
        asking = [
            path(f"<path:object_id>/{name}/", self.admin_site.admin_view(view), name=f"profiles_profile_{name}")
            for name, view in views.items()
        ]
        return [*asking, *super().get_urls()]

    def buttons(self, request: HttpRequest, profile: Profile) -> dict[str, Any]:
        """What the page of this profile offers to this person."""
        if not self.has_change_permission(request, profile):
            return {}
        try:
            secrets = profile.sealed_values()["secrets"]
        except SealBroken:
            secrets = {}
        return {
            "may_ask": True,
            "may_serve": request.user.has_perms(MAY_SERVE),
            "has_key_pair": profile.kind in key_pairs.KINDS and bool(secrets.get(snowflake_keys.FIRST)),
            "makes_key_pair": profile.kind in key_pairs.KINDS,
        }

    # -- Test

    @button()
    def test_view(self, request: HttpRequest, profile: Profile) -> HttpResponse:
        provider, target = opened(profile)
        reached = discovery.reach(provider, target, profile.pk)
        self.message_user(request, str(reached), messages.SUCCESS)
        return back_to(profile)

    # -- Fetch models

    @button()
    def fetch_view(self, request: HttpRequest, profile: Profile) -> HttpResponse:
        provider, target = opened(profile)
        try:
            found, problem = discovery.fetch(provider, target, profile.pk), ""
        except (ProviderError, ValueError) as error:
            found, problem = provider.known_models(), for_operators(error)
            if not found:
                raise
        if not found:
            self.message_user(request, f"{profile} was reached, and offers no models.", messages.WARNING)
            return back_to(profile)
        return self.show_offers(request, profile, offers(profile, provider, found), problem=problem)

    @button(*MAY_SERVE)
    def serve_view(self, request: HttpRequest, profile: Profile) -> HttpResponse:
        provider, _ = opened(profile)
        try:
            found = unpacked(profile, request.POST.get("listing", ""))
        except signing.BadSignature:
            raise ValueError("This list is too old, or incomplete. Fetch the models anew.") from None
        shown = offers(profile, provider, found)
        problem = read_ticks(shown, request)
        third_party = profile.third_party and "third_party" in request.POST
        if problem:
            return self.show_offers(request, profile, shown, error=problem, third_party=third_party)
        if third_party and not request.user.has_perm("profiles.change_route"):
            raise PermissionDenied
        self.tell_served(request, profile, serve(profile, shown, third_party), third_party)
        return back_to(profile)

    def show_offers(self, request: HttpRequest, profile: Profile, shown: list[Offer], **more: Any) -> TemplateResponse:
        context = {
            "title": "Models of the account",
            "offers": shown,
            "listing": packed(profile, (offer.model for offer in shown)),
            "may_serve": request.user.has_perms(MAY_SERVE),
            "may_open": request.user.has_perm("profiles.change_route"),
            "longest_name": LONGEST_NAME,
            **more,
        }
        return self.page(request, profile, "models.html", context)

    def tell_served(self, request: HttpRequest, profile: Profile, served: list[Deployment], third_party: bool) -> None:
        if not served:
            self.message_user(request, "All of these were served already; nothing has changed.", messages.INFO)
            return
        links = [
            (reverse("admin:profiles_route_change", args=[place.route_id]), place.route.name)
            for place in served[:NAMED]
        ]
        rest = f" and {len(served) - NAMED} more" if len(served) > NAMED else ""
        count = f"{len(served)} model{'' if len(served) == 1 else 's'}"
        linked = format_html_join(", ", '<a href="{}">{}</a>', links)
        self.message_user(
            request, format_html("{} now serves {}: {}{}.", profile, count, linked, rest), messages.SUCCESS
        )
        self.log_change(request, profile, f"Serves {', '.join(place.route.name for place in served)}.")
        if profile.third_party and not third_party:
            self.message_user(
                request,
                "The machines of this account are strangers', so a route serves from it only once “May leave for "
                "third parties” is switched on there.",
                messages.WARNING,
            )

    # -- Sync now

    @button(*MAY_SERVE)
    def sync_view(self, request: HttpRequest, profile: Profile) -> HttpResponse:
        synced = discovery.sync_now(profile)
        changes = (("new", synced.appeared), ("gone and switched off", synced.vanished), ("back", synced.returned))
        parts = [f"{len(names)} {what} ({', '.join(names[:NAMED])})" for what, names in changes if names]
        self.message_user(
            request,
            f"{profile} was asked for its models: {'; '.join(parts) or 'nothing has changed'}.",
            messages.SUCCESS,
        )
        if parts:
            self.log_change(request, profile, "Models synced.")
        return back_to(profile)

    # -- Generate key pair

    @button()
    def keypair_view(self, request: HttpRequest, profile: Profile) -> HttpResponse:
        slot = request.POST.get("slot", "")
        if profile.kind not in key_pairs.KINDS or slot not in snowflake_keys.COLUMNS:
            raise ValueError("This profile has no place for such a key.")
        if profile.sealed_values()["secrets"].get(slot) and "sure" not in request.POST:
            context = {"title": "Replace a key pair", "slot": slot, "second": slot == snowflake_keys.SECOND}
            return self.page(request, profile, "replace_key.html", context)
        made = key_pairs.make(profile, slot)
        self.log_change(request, profile, f"Key pair generated ({snowflake_keys.COLUMNS[slot]}).")
        return self.show_public_half(request, profile, slot, made)

    def show_public_half(
        self, request: HttpRequest, profile: Profile, slot: str, made: key_pairs.PublicHalf
    ) -> TemplateResponse:
        context = {
            "title": "Key pair",
            "made": made,
            "column": snowflake_keys.COLUMNS[slot],
            "second": slot == snowflake_keys.SECOND,
            "unused": profile.settings.get("auth") not in ("", None, "keypair"),
            "no_role": not profile.settings.get("role"),
        }
        return self.page(request, profile, "key_pair.html", context)

    def page(self, request: HttpRequest, profile: Profile, template: str, context: dict[str, Any]) -> TemplateResponse:
        """An answer to a POST, which no browser should keep."""
        shared = {**self.admin_site.each_context(request), "opts": self.opts, "original": profile, "profile": profile}
        response = TemplateResponse(request, f"admin/profiles/profile/{template}", {**shared, **context})
        response.headers["Cache-Control"] = "no-store"
        return response


def back_to(profile: Profile) -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("admin:profiles_profile_change", args=[profile.pk]))


def opened(profile: Profile) -> tuple[Provider, Target]:
    """Raises SealBroken, or ValueError for a kind that is not known."""
    provider = profile.provider
    if provider is None:
        raise ValueError(f"This version knows no kind '{profile.kind}'.")
    return provider, profile.open()


def offers(profile: Profile, provider: Provider, found: Iterable[UpstreamModel]) -> list[Offer]:
    served: dict[tuple[str, str], list[Route]] = {}
    for place in Deployment.objects.select_related("route").filter(profile=profile):
        served.setdefault((provider.canonical(place.upstream_model), place.upstream_url), []).append(place.route)
    taken = set(Route.objects.values_list("name", flat=True))
    shown = []
    for index, model in enumerate(found):
        lacks = provider.lacks(model)
        name = provider.offered_as(model.name)
        works = [work for work in discovery.works_of(model) if work in OFFERED]
        if "embeddings" in lacks and "embedding" in works:
            works.remove("embedding")
        talks = WORDS if "chat" in works else {}
        shown.append(
            Offer(
                index,
                model,
                name,
                works=works,
                able=[WORDS[each] for each in talks if model.capabilities.get(each) and each not in lacks],
                unable=[WORDS[each] for each in talks if each in lacks],
                window=f"{model.context_window:,}" if model.context_window else "",
                served_as=served.get((provider.canonical(model.name), model.url), []),
                joins=name in taken,
            )
        )
    return shown


# Of pictures and sound no listing says which model makes them.
OFFERED = ("chat", "completion", "embedding")
# What is worth knowing of a model that chats.
WORDS: Mapping[Capability, str] = {
    "tools": "tools",
    "images": "images",
    "json_schema": "JSON schema",
    "thinking": "thinking",
}


def read_ticks(shown: list[Offer], request: HttpRequest) -> str:
    """Take over what was ticked and typed; a sentence when that cannot be done."""
    ticked = set(request.POST.getlist("tick"))
    for offer in shown:
        offer.ticked = str(offer.index) in ticked
        offer.name = request.POST.get(f"name-{offer.index}", "").strip() or offer.name
        if offer.ticked and len(offer.name) > LONGEST_NAME:
            offer.error = f"A name has at most {LONGEST_NAME} characters."
        elif offer.ticked and not offer.name.isprintable():
            offer.error = "This holds a line break or a control character. Type it anew."
    if not any(offer.ticked for offer in shown):
        return "Tick at least one model."
    return "Correct the names that are marked." if any(offer.error for offer in shown) else ""


@transaction.atomic
def serve(profile: Profile, shown: list[Offer], third_party: bool) -> list[Deployment]:
    """The places that were not there before. One after the other: two deployments may have one upstream name."""
    before = set(Deployment.objects.filter(profile=profile).values_list("pk", flat=True))
    places = [
        place
        for offer in shown
        if offer.ticked
        for place in discovery.adopt(profile, [offer.model], {offer.model.name: offer.name}, third_party)
    ]
    return [place for place in places if place.pk not in before]


def packed(profile: Profile, found: Iterable[UpstreamModel]) -> str:
    """The list as it was shown, signed, so that to tick some of it asks nobody again."""
    rows = [
        {
            "name": model.name,
            "context_window": model.context_window,
            "max_output_tokens": model.max_output_tokens,
            "capabilities": dict(model.capabilities),
            "url": model.url,
            "family": model.family,
            "note": model.note,
        }
        for model in found
    ]
    return signing.dumps([profile.pk, rows], salt=SALT, compress=True)


def unpacked(profile: Profile, listing: str) -> list[UpstreamModel]:
    """Raises BadSignature."""
    pk, rows = signing.loads(listing, salt=SALT, max_age=LISTING_LIFE)
    if pk != profile.pk:
        raise signing.BadSignature
    return [UpstreamModel(**row) for row in rows]
