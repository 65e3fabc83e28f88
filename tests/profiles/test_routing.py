"""The order in which deployments are tried, and how caller and upstream talk."""

from __future__ import annotations

from collections import Counter

from profiles.catalog import LiveDeployment, LiveRoute, Prices
from profiles.routing import in_order, lanes
from providers.base import Target, UpstreamModel
from providers.languages.registry import (
    anthropic_count_tokens,
    anthropic_messages,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_image_edits,
    openai_responses,
)
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
    assert tried == [(openai_completions, True), (openai_chat, False), (openai_responses, False)]
    assert [lane.straight for lane in lanes(server, openai_completions, whole=False)] == []


def test_vectors_are_never_translated_into_a_conversation() -> None:
    server = place(1)
    server.learned.refused_languages.add("openai_embeddings")
    assert list(lanes(server, openai_embeddings, whole=False)) == []


def test_tokens_are_counted_where_there_is_a_counter_and_nowhere_else() -> None:
    counted = [(lane.path, lane.straight) for lane in lanes(place(1, kind="anthropic"), anthropic_count_tokens, False)]
    assert counted == [("/v1/messages/count_tokens", True)]
    for kind in ("openai", "echo"):
        assert list(lanes(place(1, kind=kind), anthropic_count_tokens, whole=False)) == []


def test_what_is_handed_on_goes_straight_or_nowhere() -> None:
    found = [(lane.language, lane.path, lane.straight) for lane in lanes(place(1), openai_image_edits, whole=True)]
    assert found == [(openai_image_edits, "/images/edits", True)], "and never to another kind of image work"
    server = place(1)
    server.learned.refused_languages.add("openai_image_edits")
    assert list(lanes(server, openai_image_edits, whole=False)) == []
    for kind in ("anthropic", "echo"):
        assert list(lanes(place(1, kind=kind), openai_image_edits, whole=False)) == []


def test_a_counter_answers_nobody_who_asks_for_words() -> None:
    for language in (openai_chat, openai_completions, anthropic_messages):
        assert [lane.path for lane in lanes(place(1, kind="anthropic"), language, whole=True)] == ["/v1/messages"]
    assert list(lanes(place(1, kind="anthropic"), openai_embeddings, whole=False)) == []
