"""The order in which deployments are tried, and how caller and upstream talk."""

from __future__ import annotations

from collections import Counter

from profiles.catalog import LiveDeployment, LiveRoute, Prices
from profiles.routing import in_order, lanes
from providers.base import Target, UpstreamModel
from providers.languages.registry import openai_chat, openai_completions, openai_embeddings
from providers.registry import kinds


def place(id: int, priority: int = 0, weight: int = 1, kind: str = "openai") -> LiveDeployment:
    target = Target(profile=f"p{id}", kind=kind, settings={"url": "http://h/v1"})
    model = UpstreamModel("m")
    return LiveDeployment(id, id, model, priority, weight, Prices(), kinds()[kind], target, frozenset(), False)


def route(*places: LiveDeployment) -> LiveRoute:
    return LiveRoute(1, "fast", frozenset(["chat"]), None, None, False, False, 0, places)


def test_lower_priorities_come_first_and_none_is_left_out() -> None:
    fast = route(place(1, priority=2), place(2, priority=0), place(3, priority=1), place(4, priority=0))
    for _ in range(20):
        order = [deployment.id for deployment in in_order(fast)]
        assert set(order[:2]) == {2, 4}
        assert order[2:] == [3, 1]


def test_equal_priorities_share_by_weight() -> None:
    fast = route(place(1, weight=9), place(2, weight=1))
    first = Counter(next(in_order(fast)).id for _ in range(4000))
    assert 0.85 < first[1] / 4000 < 0.95


def test_the_callers_own_language_goes_straight_through() -> None:
    found = list(lanes(place(1), openai_chat, whole=False))
    assert (found[0].language, found[0].straight, found[0].path) == (openai_chat, True, "/chat/completions")


def test_a_language_the_upstream_turned_out_not_to_have_is_translated() -> None:
    server = place(1)
    tried = []
    for lane in lanes(server, openai_completions, whole=False):
        tried.append((lane.language, lane.straight))
        server.learned.refused_languages.add(lane.language.name if lane.language else "")
    assert tried == [(openai_completions, True), (openai_chat, False)]
    assert [lane.straight for lane in lanes(server, openai_completions, whole=False)] == []


def test_vectors_are_never_translated_into_a_conversation() -> None:
    server = place(1)
    server.learned.refused_languages.add("openai_embeddings")
    assert list(lanes(server, openai_embeddings, whole=False)) == []
