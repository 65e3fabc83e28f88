"""What an account offers: tested, fetched, served as routes, and looked at again from time to time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from django.db import connection, models, transaction
from django.utils import timezone

from profiles import tokens
from profiles.models import Deployment, Profile, Route, all_works
from profiles.secrets import SealBroken
from providers.base import Provider, Target, UpstreamModel
from providers.wire import control
from providers.wire.errors import ProviderError

log = logging.getLogger("switchboard.discovery")


@dataclass(frozen=True, slots=True)
class Reached:
    """How a test ended well: where it got, as whom, and how long that took, login included."""

    address: str
    identity: str
    models: tuple[UpstreamModel, ...]
    milliseconds: int

    def __str__(self) -> str:
        who = f" as {self.identity}" if self.identity else ""
        return f"Reached {self.address}{who} in {self.milliseconds} ms; it offers {len(self.models)} model(s)."


@dataclass(frozen=True, slots=True)
class Synced:
    """What a look at the account has changed, by upstream model."""

    appeared: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()


def reach(provider: Provider, target: Target, profile_id: int | None = None) -> Reached:
    """Log in if need be and ask for the models. Raises ProviderError, or ValueError for settings that do not fit."""
    began = time.monotonic()
    found = fetch(provider, target, profile_id)
    milliseconds = int((time.monotonic() - began) * 1000)
    return Reached(provider.address(target), provider.identity(target), tuple(found), milliseconds)


def fetch(provider: Provider, target: Target, profile_id: int | None = None) -> list[UpstreamModel]:
    """The account's models. Raises ProviderError, or ValueError for settings that do not fit together."""
    provider.check(target)
    admitted = _let_in(provider, target, profile_id)
    try:
        return control.list_models(provider, admitted)
    except ProviderError as error:
        if error.upstream_status != 401 or not admitted.token or profile_id is None:
            raise
        tokens.refused_by(profile_id, target, admitted.token)
    return control.list_models(provider, _let_in(provider, target, profile_id))


def _let_in(provider: Provider, target: Target, profile_id: int | None) -> Target:
    """The target with a token if it needs one: the stored one, or for an account not yet stored one of its own."""
    if not provider.needs_login(target):
        return target
    if profile_id is not None:
        return tokens.for_account(profile_id, provider, target)
    return replace(target, token=control.log_in(provider, target, "").value)


def adopt(
    profile: Profile, found: Iterable[UpstreamModel], names: Mapping[str, str] | None = None, third_party: bool = False
) -> list[Deployment]:
    """Serve these models: routes by their offered names, or by those that `names` has for them.

    A model that is already served under that name is left as it is.
    """
    provider = profile.provider
    served = []
    for model in found:
        offered = (names or {}).get(model.name) or (provider.offered_as(model.name) if provider else model.name)
        route, _ = Route.objects.get_or_create(
            name=offered,
            defaults={
                "works": works_of(model),
                "context_window": model.context_window,
                "max_output_tokens": model.max_output_tokens,
                "third_party": third_party,
            },
        )
        if third_party and not route.third_party:
            route.third_party = True
            route.save()
        deployment, _ = Deployment.objects.get_or_create(
            route=route,
            profile=profile,
            upstream_model=model.name,
            upstream_url=model.url,
            defaults={"listed": listed(model)},
        )
        served.append(deployment)
    return served


def works_of(model: UpstreamModel) -> list[str]:
    embeds = model.capabilities.get("embeddings")
    if embeds is None:
        return all_works()
    chats = model.capabilities.get("streaming", not embeds)
    return (["chat", "completion"] if chats else []) + (["embedding"] if embeds else [])


def listed(model: UpstreamModel) -> dict[str, Any]:
    """What is stored of a listing's row, without what it does not say."""
    row = {
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "capabilities": dict(model.capabilities),
        "family": model.family,
        "note": model.note,
    }
    return {name: value for name, value in row.items() if value}


def sync(profile: Profile) -> Synced:
    """Serve what is new, switch off what has vanished, and on again what is back. Nothing is deleted.

    Raises ProviderError or ValueError; then nothing has changed.
    """
    provider = profile.provider
    if provider is None:
        raise ValueError(f"This version knows no kind '{profile.kind}'.")
    found = fetch(provider, profile.open(), profile.pk)
    if not found:
        # An outage looks the same; switching everything off would be the worse mistake.
        raise ProviderError("The upstream lists no models at all. Nothing was changed.", kind="broken")
    there = {(provider.canonical(model.name), model.url): model for model in found}
    with transaction.atomic():
        rows = list(Deployment.objects.select_related("route").filter(profile=profile))
        served = {(provider.canonical(row.upstream_model), row.upstream_url) for row in rows}
        fresh = [model for place, model in there.items() if place not in served]
        # A model that is deployed anew has another address; it goes on under the names it has.
        adopt(profile, fresh, {row.upstream_model: row.route.name for row in reversed(rows)})
        changes = [_follow(row, there.get((provider.canonical(row.upstream_model), row.upstream_url))) for row in rows]
    return Synced(
        tuple(model.name for model in fresh),
        tuple(row.upstream_model for row, change in zip(rows, changes, strict=True) if change == "vanished"),
        tuple(row.upstream_model for row, change in zip(rows, changes, strict=True) if change == "returned"),
    )


def _follow(row: Deployment, model: UpstreamModel | None) -> str:
    """Bring one deployment in line with the listing. What an operator switched off stays off."""
    change = ""
    if model is None:
        if row.enabled:
            row.enabled, row.vanished_at, change = False, timezone.now(), "vanished"
    else:
        if row.vanished_at is not None:
            row.enabled, row.vanished_at, change = True, None, "returned"
        if row.listed != listed(model):
            row.listed, change = listed(model), change or "listed"
    if change:
        row.save()
    return change


def sync_due() -> None:
    """Look at every account whose time has come. Called by the background process."""
    now = timezone.now()
    for profile in Profile.objects.filter(enabled=True, sync_minutes__isnull=False):
        due = profile.synced_at is None or now - profile.synced_at >= timedelta(minutes=profile.sync_minutes or 0)
        # Whoever sets the time does the work: several machines look at the same rows.
        if due and _quietly(profile).filter(synced_at=profile.synced_at).update(synced_at=now):
            _sync_and_note(profile)


def sync_now(profile: Profile) -> Synced:
    """As `sync`, and the profile says when that was and how it ended. Raises as `sync` does, and SealBroken."""
    _quietly(profile).update(synced_at=timezone.now())
    try:
        synced = sync(profile)
    except (ProviderError, SealBroken, ValueError) as error:
        _quietly(profile).update(sync_error=error.message if isinstance(error, ProviderError) else str(error))
        raise
    _quietly(profile).update(sync_error="")
    return synced


def _sync_and_note(profile: Profile) -> None:
    try:
        synced = sync_now(profile)
    except (ProviderError, SealBroken, ValueError) as error:
        log.error("sync_failed", extra={"profile": profile.name, "error": getattr(error, "message", str(error))})
    else:
        if synced != Synced():
            changes = {"appeared": synced.appeared, "vanished": synced.vanished, "returned": synced.returned}
            log.info("models_synced", extra={"profile": profile.name, **changes})
    finally:
        connection.close()


def _quietly(profile: Profile) -> models.QuerySet[Profile]:
    """The row, for changes that no worker has to know: they do not count as a new configuration."""
    return models.QuerySet(Profile).filter(pk=profile.pk)
