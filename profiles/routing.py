"""Where a call goes: the deployments of its route in order, and for each how caller and upstream talk."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from profiles.catalog import LiveDeployment, LiveRoute
from providers.languages.language import Language, Work
from providers.languages.registry import LANGUAGES


@dataclass(frozen=True, slots=True)
class Lane:
    """`language` is what the upstream is spoken to in; None for one that answers by itself."""

    deployment: LiveDeployment
    language: Language | None
    path: str
    straight: bool

    @property
    def name(self) -> str:
        return "straight" if self.straight else "translated"


def in_order(route: LiveRoute) -> Iterator[LiveDeployment]:
    """Lower priorities first; among equals, drawn by weight without putting back."""
    if len(route.deployments) == 1:
        yield route.deployments[0]
        return
    left = sorted(route.deployments, key=lambda deployment: deployment.priority)
    while left:
        best = [deployment for deployment in left if deployment.priority == left[0].priority]
        chosen = random.choices(best, [deployment.weight for deployment in best])[0]
        left.remove(chosen)
        yield chosen


def lanes(deployment: LiveDeployment, language: Language, whole: bool) -> Iterator[Lane]:
    """The ways from a caller's language to this deployment, best first.

    The caller's own language is best, unless a stream must be made from an answer that comes `whole`; then
    come those made for the same work, or for what comes closest to it. What an upstream turns out not to
    have while the lanes are being tried is not offered again.
    """
    if deployment.provider.answers_itself:
        if language.translates:
            yield Lane(deployment, None, "", straight=False)
        return
    if not (whole and language.translates) and (path := deployment.speaks().get(language.name)):
        yield Lane(deployment, language, path, straight=True)
    if not language.translates:
        return
    kind = _kind(language.work)
    others = [
        Lane(deployment, LANGUAGES[name], path, straight=False)
        for name, path in deployment.speaks().items()
        if (whole or name != language.name) and _kind(LANGUAGES[name].work) == kind
    ]
    work = language.translated_as or language.work
    yield from sorted(others, key=lambda lane: lane.language is None or lane.language.work != work)


def _kind(work: Work) -> str:
    """Works of one kind can be translated into each other; all the others into nothing else."""
    return "words" if work in ("chat", "completion") else work
