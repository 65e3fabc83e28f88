"""A language the upstream does not speak is translated; what cannot be carried is named."""

from __future__ import annotations

from typing import Any

import requests

from tests.fakes.openai import FakeOpenAI, answer
from tests.fakes.server import Exchange
from tests.live.server import Gateway

HELLO = [{"role": "user", "content": "Hello"}]


def post(gateway: Gateway, path: str, **body: Any) -> requests.Response:
    return requests.post(
        f"{gateway.url}/v1/{path}",
        headers={"Authorization": f"Bearer {gateway.key}", "Connection": "close"},
        json=body,
        timeout=30,
    )


def only_chats(exchange: Exchange) -> None:
    if exchange.heard.path.endswith("/chat/completions"):
        answer("four words are enough")(exchange)
    else:
        exchange.json(404, {"error": {"message": "Not Found", "type": "invalid_request_error"}})


def has_nothing(exchange: Exchange) -> None:
    exchange.json(404, {"detail": "Not Found"})


def test_legacy_completions_work_over_a_server_that_only_chats(gateway: Gateway, upstream: FakeOpenAI) -> None:
    upstream.script("gpt-fake", only_chats)
    for stream in (False, True):
        answered = post(gateway, "completions", model="gpt-fake", prompt="Hello", max_tokens=9, stream=stream)
        assert answered.status_code == 200
        assert "text_completion" in answered.text
        row = gateway.row(answered.headers["x-request-id"])
        assert (row["lane"], row["language_in"], row["language_out"]) == (
            "translated",
            "openai_completions",
            "openai_chat",
        )
        assert row["tokens_from"] == "upstream"
    chats = [heard for heard in upstream.asked("gpt-fake") if heard.path.endswith("/chat/completions")]
    assert chats[0].body["messages"] == HELLO
    assert chats[0].body["max_tokens"] == 9
    before = len(upstream.asked("gpt-fake"))
    for _ in range(8):
        post(gateway, "completions", model="gpt-fake", prompt="Hello")
    # Each of the two workers learned it once at most; after that nobody asks in vain.
    assert len(upstream.asked("gpt-fake")) - before <= 8 + 1


def test_a_server_that_has_nothing_for_a_while_is_asked_again(gateway: Gateway, upstream: FakeOpenAI) -> None:
    upstream.script("scripted", *[has_nothing] * 12, answer())
    for _ in range(12):
        if (status := post(gateway, "chat/completions", model="scripted", messages=HELLO).status_code) == 200:
            break
        assert status == 404
    upstream.forget()
    for _ in range(6):
        assert post(gateway, "chat/completions", model="scripted", messages=HELLO).status_code == 200


def test_fields_that_are_left_out_are_named_and_cannot_forge_a_header(gateway: Gateway) -> None:
    asked = {"model": "echo", "messages": HELLO, "novelty": 1, "bad\r\nx-forged: yes": 1, "ü": 2}
    answered = post(gateway, "chat/completions", **asked)
    assert answered.status_code == 200
    assert "x-forged" not in answered.headers
    assert "novelty" in answered.headers["x-gateway-dropped"]
    assert r"\r\n" in answered.headers["x-gateway-dropped"]


def test_what_would_change_the_answer_is_refused_by_name(gateway: Gateway) -> None:
    for path, body, param in (
        ("completions", {"prompt": "Hello", "suffix": "end"}, "suffix"),
        ("completions", {"prompt": ["a", "b"]}, "prompt"),
        ("chat/completions", {"messages": HELLO, "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ("chat/completions", {"messages": HELLO, "n": 2}, "n"),
        ("chat/completions", {"messages": HELLO, "logprobs": True}, "logprobs"),
        ("chat/completions", {"messages": HELLO, "response_format": {"type": "json_object"}}, "response_format"),
        ("embeddings", {"input": "a", "dimensions": 10**10}, "dimensions"),
    ):
        refused = post(gateway, path, model="echo", **body)
        assert refused.status_code == 400, (path, body)
        assert refused.json()["error"]["param"] == param
        assert gateway.row(refused.headers["x-request-id"])["ending"] == "refused"


def test_a_larger_limit_than_the_route_allows_is_lowered_and_said(gateway: Gateway, upstream: FakeOpenAI) -> None:
    gateway.manage("route", "short", "fake:gpt-fake", "--max-output-tokens", "5")
    gateway.noticed()
    for asked, lowered in (
        ({"max_tokens": 9}, "max_tokens=5"),
        ({"max_completion_tokens": 6}, "max_completion_tokens=5"),
    ):
        answered = post(gateway, "chat/completions", model="short", messages=HELLO, **asked)
        assert answered.headers["x-gateway-clamped"] == lowered
        assert upstream.asked("gpt-fake")[-1].body[lowered.partition("=")[0]] == 5
    assert (
        "x-gateway-clamped"
        not in post(gateway, "chat/completions", model="short", messages=HELLO, max_tokens=3).headers
    )
