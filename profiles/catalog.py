"""What can be served, in memory: read once, never changed, replaced whole when the configuration changes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from profiles.models import Deployment, Profile, Route
from profiles.secrets import SealBroken
from profiles.watch import Watched
from providers.base import Provider, Target, UpstreamModel
from providers.capabilities import Capability

log = logging.getLogger("switchboard.catalog")


@dataclass(frozen=True, slots=True)
class Prices:
    """Micro-USD per million tokens; None: no price of its own."""

    input: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    output: int | None = None
    reasoning: int | None = None
    audio: int | None = None


@dataclass(slots=True)
class Learned:
    """What calls have taught us of a deployment; forgotten with the next change of the configuration."""

    refuses_usage: bool = False  # does not accept stream_options
    refused_languages: set[str] = field(default_factory=set)  # has no such endpoint


@dataclass(frozen=True, slots=True, eq=False)
class LiveDeployment:
    """A deployment that can be called, with its credentials opened."""

    id: int
    profile_id: int
    model: UpstreamModel
    priority: int
    weight: int
    prices: Prices
    provider: Provider
    target: Target
    lacks: frozenset[Capability]
    needs_login: bool
    learned: Learned = field(default_factory=Learned)

    @property
    def upstream_model(self) -> str:
        return self.model.name

    def speaks(self) -> Mapping[str, str]:
        """Language name -> path, without those the upstream turned out not to have."""
        spoken = self.provider.speaks(self.model, self.target)
        if not self.learned.refused_languages:
            return spoken
        return {name: path for name, path in spoken.items() if name not in self.learned.refused_languages}


@dataclass(frozen=True, slots=True, eq=False)
class LiveRoute:
    """A route that can be asked for."""

    id: int
    name: str
    works: frozenset[str]
    context_window: int | None
    max_output_tokens: int | None
    upstream_name: bool  # answers carry the upstream's model name
    public: bool
    created: int  # Unix seconds
    deployments: tuple[LiveDeployment, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """`logged_in` are the profiles (by id) that need a login."""

    routes: Mapping[str, LiveRoute]
    logged_in: Mapping[int, tuple[Provider, Target]]

    def __iter__(self) -> Iterator[LiveRoute]:
        return iter(self.routes.values())


EMPTY = Catalog(MappingProxyType({}), MappingProxyType({}))


def load() -> Catalog:
    """Read the enabled routes with their deployments. A profile that cannot be opened is left out."""
    targets: dict[int, tuple[Provider, Target]] = {}
    strangers: set[int] = set()
    for profile in Profile.objects.filter(enabled=True):
        provider = profile.provider
        if provider is None:
            log.error("profile_unknown_kind", extra={"profile": profile.name, "kind": profile.kind})
            continue
        try:
            targets[profile.pk] = (provider, profile.open())
            if profile.third_party:
                strangers.add(profile.pk)
        except SealBroken:
            log.error("profile_cannot_be_opened", extra={"profile": profile.name})
    deployments: dict[int, list[LiveDeployment]] = {}
    for row in Deployment.objects.filter(enabled=True).order_by("priority", "pk"):
        if row.profile_id in targets:
            deployments.setdefault(row.route_id, []).append(_deployment(row, *targets[row.profile_id]))
    routes = {
        route.name: LiveRoute(
            id=route.pk,
            name=route.name,
            # Whoever may chat with a model may ask how many tokens that would take.
            works=frozenset(route.works) | ({"counting"} if "chat" in route.works else set()),
            context_window=route.context_window,
            max_output_tokens=route.max_output_tokens,
            upstream_name=route.model_name == Route.ModelName.UPSTREAM,
            public=route.public,
            created=int(route.created_at.timestamp()),
            deployments=tuple(
                deployment
                for deployment in deployments.get(route.pk, ())
                if route.third_party or deployment.profile_id not in strangers
            ),
        )
        for route in Route.objects.filter(enabled=True)
    }
    logged_in = {pk: (provider, target) for pk, (provider, target) in targets.items() if provider.needs_login(target)}
    return Catalog(MappingProxyType(routes), MappingProxyType(logged_in))


def _deployment(row: Deployment, provider: Provider, target: Target) -> LiveDeployment:
    prices = Prices(
        row.price_input,
        row.price_cached,
        row.price_cache_write,
        row.price_output,
        row.price_reasoning,
        row.price_audio,
    )
    model = row.model
    return LiveDeployment(
        row.pk,
        row.profile_id,
        model,
        row.priority,
        row.weight,
        prices,
        provider,
        target,
        provider.lacks(model),
        provider.needs_login(target),
    )


live: Watched[Catalog] = Watched(load, EMPTY)


def find(*names: str) -> LiveRoute | None:
    """The route of the first of these names that has one; if none has, the database is looked into once more.

    Raises ConfigurationUnavailable.
    """
    route = _held(names)
    if route is None and live.refresh():
        route = _held(names)
    return route


def _held(names: tuple[str, ...]) -> LiveRoute | None:
    routes = live.value.routes
    return next((routes[name] for name in names if name in routes), None)
