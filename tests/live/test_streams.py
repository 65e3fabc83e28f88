"""Streams and waits: nothing is held back, whoever leaves is gone upstream, and what breaks says so."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fakes.openai import (
    KEY,
    PROMPT_TOKENS,
    FakeOpenAI,
    answer,
    close_idle,
    close_without_answer,
    cut,
    end_after,
    error_event,
    flood,
    hang_after_headers,
    hang_before_headers,
    refusal,
    until_closed,
)
from tests.fakes.server import Gate, wait_until
from tests.live.server import Gateway, Row
from tests.live.wire import CHAT, Caller, call, chat, events, request_bytes, stream

HASTY = ["hang-before-headers", "hang-after-headers", "hang-after-words", "scripted"]
SPARED = {
    "spared-down": "down:gpt-fake",
    "spared-hasty": "hasty:scripted",
    "spared-fake": "fake:scripted",
    "spared-hang": "fake:hang-before-headers",
}
SAID = "You said: Grüezi!"


@pytest.fixture(scope="module")
def second_upstream() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(key="sk-spare-9876543210") as second:
        yield second


@pytest.fixture(scope="module", autouse=True)
def places(live: Gateway, second_upstream: FakeOpenAI) -> Iterator[None]:
    """Routes over the hasty profile, and routes in two places, the second of which is `spare`."""
    for model in HASTY:
        live.route(f"hasty-{model}", f"hasty:{model}")
    with socket.socket() as silent:  # its port is taken, but nobody listens
        silent.bind(("127.0.0.1", 0))
        live.connect("down", f"http://127.0.0.1:{silent.getsockname()[1]}/v1", KEY)
        live.connect("spare", second_upstream.url, second_upstream.key)
        live.route("down", "down:gpt-fake")
        for route, first in SPARED.items():
            live.route(route, first, priority=0)
            live.route(route, "spare:gpt-fake", priority=1)
        live.route("shared", "fake:gpt-fake", weight=1)
        live.route("shared", "spare:gpt-fake", weight=1)
        live.noticed()
        yield


@pytest.fixture
def spare(second_upstream: FakeOpenAI) -> Iterator[FakeOpenAI]:
    """The second upstream, with no memory of other tests."""
    second_upstream.forget()
    yield second_upstream
    assert second_upstream.complaints == []


def said(received: list[object]) -> str:
    chunks = [event for event in received if isinstance(event, dict) and event.get("choices")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


def broken_off(received: list[object]) -> dict[str, object]:
    """The error a broken stream ends with: the last event, in OpenAI's shape, and never a `[DONE]`."""
    assert "[DONE]" not in received
    last = received[-1]
    assert isinstance(last, dict)
    error: dict[str, object] = last["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


def attempts(row: Row) -> list[dict[str, object]]:
    kept = row["attempts"]
    return list(json.loads(kept) if isinstance(kept, str) else kept)


# ----------------------------------------------------------------------------------------- as they come


def test_the_first_event_arrives_before_the_upstream_has_made_the_last(gateway: Gateway, upstream: FakeOpenAI) -> None:
    gate = Gate(2)
    upstream.script("scripted", answer(gate=gate))
    with Caller(gateway) as caller:
        caller.ask(CHAT, chat("scripted", stream=True))
        assert caller.head()[0] == 200
        frames = caller.frames()
        assert [said(events([next(frames)])), said(events([next(frames)]))] == ["", "You"]
        assert upstream.heard("scripted").frames == 2
        gate.open()
        rest = events(list(frames))
    assert said(rest) == " said: Grüezi!"
    assert rest[-1] == "[DONE]"


def test_every_event_arrives_as_soon_as_it_is_made(gateway: Gateway, upstream: FakeOpenAI) -> None:
    gate = Gate(2)
    upstream.script("scripted", answer("one two three four five six", gate=gate))
    with Caller(gateway) as caller:
        caller.ask(CHAT, chat("scripted", stream=True))
        caller.head()
        frames = caller.frames()
        next(frames)
        for count, word in enumerate(["one", " two", " three", " four", " five", " six"], start=2):
            assert said(events([next(frames)])) == word
            assert upstream.heard("scripted").wait_frames(count)
            assert upstream.heard("scripted").frames == count
            gate.allow()
        gate.open()
        assert events(list(frames))[-1] == "[DONE]"


def test_the_head_waits_for_content_so_that_another_may_still_be_tried(gateway: Gateway, upstream: FakeOpenAI) -> None:
    gate = Gate(1)
    upstream.script("scripted", answer(gate=gate))
    with Caller(gateway, timeout=0.5) as caller:
        caller.ask(CHAT, chat("scripted", stream=True))
        assert upstream.heard("scripted").wait_frames(1)
        with pytest.raises(TimeoutError):
            caller.socket.recv(1)
        gate.open()
        caller.socket.settimeout(20)
        assert caller.socket.recv(15).startswith(b"HTTP/1.1 200")


def test_a_thought_is_content_too(gateway: Gateway, upstream: FakeOpenAI) -> None:
    gate = Gate(2)
    upstream.script("scripted", answer(gate=gate, reasoning="Let me think."))
    with Caller(gateway) as caller:
        caller.ask(CHAT, chat("scripted", stream=True))
        assert caller.head()[0] == 200
        frames = caller.frames()
        thoughts = events([next(frames), next(frames)])
        gate.open()
        thoughts += events(list(frames))[:-1]
    deltas = [event["choices"][0]["delta"] for event in thoughts]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "Let me think."
    assert said(thoughts) == SAID


SPELLINGS = ["crlf", "comments", "torn", "unterminated", "unspaced", "named-events", "until-closed"]


@pytest.mark.parametrize("model", SPELLINGS)
def test_every_lawful_spelling_of_a_stream_is_understood(gateway: Gateway, model: str) -> None:
    with Caller(gateway) as caller:
        caller.ask(CHAT, chat(model, stream=True))
        status, headers = caller.head()
        assert status == 200
        frames = list(caller.frames())
    received = events([next(line for line in frame.splitlines() if line.startswith(b"data:")) for frame in frames])
    assert said(received) == SAID
    assert received[-1] == "[DONE]"
    assert {event["model"] for event in received[:-1]} == {model}
    row = gateway.row(headers["x-request-id"])
    assert row["ending"] == "completed"
    assert (row["input_tokens"], row["tokens_from"]) == (PROMPT_TOKENS, "upstream")


def test_usage_in_the_chunk_that_finishes_is_counted(gateway: Gateway) -> None:
    answered, received = stream(gateway, chat("finish-counts"))
    assert received[-2]["choices"][0]["finish_reason"] == "stop"
    assert gateway.row(answered.request_id)["input_tokens"] == PROMPT_TOKENS


def test_a_model_that_says_nothing_has_answered(gateway: Gateway) -> None:
    for streamed in (True, False):
        answered = call(gateway, CHAT, chat("silent", stream=streamed))
        assert answered.status == 200
        row = gateway.row(answered.request_id)
        assert (row["ending"], row["output_tokens"], row["tokens_from"]) == ("completed", 0, "upstream")


def test_a_caller_that_reads_slowly_slows_the_upstream_down(gateway: Gateway, upstream: FakeOpenAI) -> None:
    upstream.script("scripted", flood)
    with Caller(gateway) as caller:
        caller.ask(CHAT, chat("scripted", stream=True))
        assert caller.head()[0] == 200
        heard = upstream.heard("scripted")
        assert not heard.wait_left(2)
        assert heard.frames * 65_536 < 64 << 20, "what nobody reads piles up nowhere"
        assert call(gateway, CHAT, chat("gpt-fake")).status == 200
    assert heard.wait_left(1)


# -------------------------------------------------------------------------------------------- who leaves

LEAVING = ["closes", "resets"]


def leave(caller: Caller, way: str) -> None:
    caller.reset() if way == "resets" else caller.leave()


@pytest.mark.parametrize("way", LEAVING)
def test_a_client_that_leaves_a_stream_is_gone_upstream(gateway: Gateway, upstream: FakeOpenAI, way: str) -> None:
    upstream.script("scripted", answer(gate=Gate(3)))
    caller = Caller(gateway)
    caller.ask(CHAT, chat("scripted", stream=True))
    _, headers = caller.head()
    frames = caller.frames()
    assert said(events([next(frames), next(frames), next(frames)])) == "You said:"
    leave(caller, way)
    assert upstream.heard("scripted").wait_left(1)
    row = gateway.row(headers["x-request-id"])
    assert row["ending"] == "client_gone"
    assert bool(row["streamed"])
    assert row["tokens_from"] == "estimated"
    assert row["output_tokens"] > 0, "what was said was paid for"


@pytest.mark.parametrize("way", LEAVING)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("model", ["hang-before-headers", "hang-after-headers"])
def test_a_client_that_leaves_before_the_first_token_is_gone_upstream(
    gateway: Gateway, upstream: FakeOpenAI, model: str, streamed: bool, way: str
) -> None:
    began = datetime.now(UTC)
    caller = Caller(gateway)
    caller.ask(CHAT, chat(model, stream=streamed))
    heard = upstream.heard(model)
    leave(caller, way)
    assert heard.wait_left(1)
    row = gateway.newest_row(model, began)
    assert row["ending"] == "client_gone"
    assert bool(row["streamed"]) == streamed


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
def test_a_client_that_leaves_any_kind_of_work_is_gone_upstream(
    gateway: Gateway, upstream: FakeOpenAI, path: str
) -> None:
    upstream.script("scripted", hang_before_headers)
    body = {"model": "scripted", **({"prompt": "Once"} if "comp" in path else {"input": "one"})}
    with Caller(gateway) as caller:
        caller.ask(path, body)
        heard = upstream.heard("scripted")
    assert heard.wait_left(1)


def test_a_client_that_leaves_stops_the_search_for_another_deployment(
    gateway: Gateway, upstream: FakeOpenAI, spare: FakeOpenAI
) -> None:
    with Caller(gateway) as caller:
        caller.ask(CHAT, chat("spared-hang"))
        heard = upstream.heard("hang-before-headers")
    assert heard.wait_left(1)
    gateway.row(call(gateway, CHAT, chat("gpt-fake")).request_id)
    assert spare.asked() == []


def test_fifty_clients_that_leave_at_once_are_all_gone_upstream(gateway: Gateway, upstream: FakeOpenAI) -> None:
    with ExitStack() as callers:
        for _ in range(50):
            callers.enter_context(Caller(gateway)).ask(CHAT, chat("hang-before-headers", stream=True))
        assert wait_until(lambda: len(upstream.asked("hang-before-headers")) == 50)
    assert wait_until(lambda: all(heard.left.is_set() for heard in upstream.asked("hang-before-headers")), 2)


# -------------------------------------------------------------------------------------------- what breaks


@pytest.mark.parametrize("model", ["cut-late", "end-before-finish", "error-event-late"])
def test_a_stream_that_breaks_says_so_and_never_says_done(gateway: Gateway, model: str) -> None:
    answered, received = stream(gateway, chat(model))
    assert said(received).startswith("You")
    error = broken_off(received)
    assert "127.0.0.1" not in str(error["message"])
    row = gateway.row(answered.request_id)
    assert row["ending"] == "upstream_cut"
    assert row["output_tokens"] > 0
    assert row["error_code"]


@pytest.mark.parametrize("frames", [3, 1], ids=["after words", "before words"])
def test_a_body_that_ends_with_its_connection_is_cut_unless_it_said_it_was_done(
    gateway: Gateway, upstream: FakeOpenAI, frames: int
) -> None:
    upstream.script("scripted", until_closed(frames))
    if frames == 1:
        assert call(gateway, CHAT, chat("scripted", stream=True)).status == 502
        return
    answered, received = stream(gateway, chat("scripted"))
    broken_off(received)
    assert gateway.row(answered.request_id)["ending"] == "upstream_cut"


def test_a_stream_that_ends_before_its_first_word_is_an_error_with_a_status(
    gateway: Gateway, upstream: FakeOpenAI
) -> None:
    for frames in (0, 1):
        upstream.script("scripted", end_after(frames))
        assert call(gateway, CHAT, chat("scripted", stream=True)).status == 502


def test_a_frame_that_is_no_json_is_no_good_end(gateway: Gateway) -> None:
    with Caller(gateway) as caller:
        caller.ask(CHAT, chat("broken-frame", stream=True))
        _, headers = caller.head()
        frames = list(caller.frames())
    assert b"[DONE]" not in frames[-1]
    assert events(frames[-1:])[0]["error"]["message"]
    assert gateway.row(headers["x-request-id"])["ending"] == "upstream_cut"


def test_a_stream_that_stands_still_is_ended(gateway: Gateway, upstream: FakeOpenAI) -> None:
    answered, received = stream(gateway, chat("hasty-hang-after-words"))
    assert said(received) == "You said:"
    broken_off(received)
    assert upstream.heard("hang-after-words").wait_left(1)
    assert gateway.row(answered.request_id)["ending"] == "upstream_cut"


def test_a_frame_without_end_is_cut_off(gateway: Gateway, upstream: FakeOpenAI) -> None:
    answered, received = stream(gateway, chat("oversized-frame"))
    assert said(received).startswith("You")
    broken_off(received)
    assert upstream.heard("oversized-frame").wait_left(2), "it is not read to its end"
    assert gateway.row(answered.request_id)["ending"] == "upstream_cut"


def test_a_stream_that_forgets_done_after_its_finish_is_complete(gateway: Gateway) -> None:
    answered, received = stream(gateway, chat("end-after-finish", stream_options={"include_usage": True}))
    assert said(received) == SAID
    row = gateway.row(answered.request_id)
    assert row["ending"] == "completed"
    assert (row["input_tokens"], row["tokens_from"]) == (PROMPT_TOKENS, "upstream")


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    "model", ["close-without-answer", "reset-without-answer", "cut-early", "status-500", "html-500"]
)
def test_an_upstream_that_breaks_before_the_first_word_is_an_error_with_a_status(
    gateway: Gateway, model: str, streamed: bool
) -> None:
    answered = call(gateway, CHAT, chat(model, stream=streamed))
    assert answered.status == 502
    assert answered.error
    row = gateway.row(answered.request_id)
    assert (row["status"], row["ending"], bool(row["streamed"])) == (502, "failed", streamed)
    assert row["output_tokens"] == 0


def test_an_error_event_before_the_first_word_is_an_error_with_a_status(gateway: Gateway) -> None:
    answered = call(gateway, CHAT, chat("error-event-early", stream=True))
    assert answered.status >= 500
    assert answered.error
    assert gateway.row(answered.request_id)["ending"] == "failed"


def test_an_answer_in_json_where_a_stream_was_asked_is_an_error(gateway: Gateway) -> None:
    answered = call(gateway, CHAT, chat("not-json", stream=True))
    assert answered.status == 502
    assert answered.error


def test_an_upstream_that_is_down_is_an_error(gateway: Gateway) -> None:
    for streamed in (True, False):
        answered = call(gateway, CHAT, chat("down", stream=streamed))
        assert answered.status in (502, 503)
        assert answered.error["type"]
        assert "127.0.0.1" not in answered.body.decode()
        assert gateway.row(answered.request_id)["ending"] == "failed"


@pytest.mark.parametrize(
    ("model", "streamed"),
    [
        ("hasty-hang-before-headers", True),
        ("hasty-hang-after-headers", True),
        ("hasty-hang-before-headers", False),
        ("hasty-hang-after-headers", False),
    ],
)
def test_an_upstream_that_hangs_is_a_timeout(
    gateway: Gateway, upstream: FakeOpenAI, model: str, streamed: bool
) -> None:
    answered = call(gateway, CHAT, chat(model, stream=streamed))
    assert answered.status == 504
    assert answered.error
    assert upstream.heard(model.removeprefix("hasty-")).wait_left(1)
    row = gateway.row(answered.request_id)
    assert (row["status"], row["ending"]) == (504, "failed")


def test_a_whole_answer_may_take_longer_than_a_first_event(gateway: Gateway, upstream: FakeOpenAI) -> None:
    gate = Gate()
    upstream.script("scripted", answer(gate=gate))
    with Caller(gateway) as caller:
        caller.ask(CHAT, chat("hasty-scripted"))
        assert not upstream.heard("scripted").wait_left(2), "only connect and total timeouts apply"
        gate.open()
        assert caller.answer().status == 200


def test_a_slow_stream_lives_past_the_idle_limit_as_long_as_it_speaks(gateway: Gateway, upstream: FakeOpenAI) -> None:
    gate = Gate(2)
    upstream.script("scripted", answer("one two three four five", gate=gate))
    with Caller(gateway) as caller:
        caller.ask(CHAT, chat("hasty-scripted", stream=True))
        caller.head()
        frames = caller.frames()
        received = [next(frames), next(frames)]
        for _ in range(4):
            assert not upstream.heard("scripted").wait_left(0.5)
            gate.allow()
            received.append(next(frames))
        gate.open()
        received += list(frames)
    assert said(events(received)) == "one two three four five"
    assert events(received)[-1] == "[DONE]"


# ------------------------------------------------------------------------------------- tried once more


def test_a_refusal_of_stream_options_is_resent_without_once_and_remembered(
    gateway: Gateway, upstream: FakeOpenAI, live: Gateway
) -> None:
    asked = chat("no-stream-options", stream_options={"include_usage": True})
    rounds = 8  # enough for every worker to have learned it
    for _ in range(rounds):
        answered, received = stream(gateway, asked)
        assert said(received) == SAID
        assert received[-1] == "[DONE]"
    sent = [each.body for each in upstream.asked("no-stream-options")]
    refused = [body for body in sent if "stream_options" in body]
    workers = int(live.environment["WEB_CONCURRENCY"])
    assert 1 <= len(refused) <= workers
    assert len(sent) == rounds + len(refused)
    row = gateway.row(answered.request_id)
    assert row["ending"] == "completed"
    assert row["tokens_from"] == "estimated"
    assert row["output_tokens"] > 0


def test_another_400_is_never_resent(gateway: Gateway, upstream: FakeOpenAI) -> None:
    upstream.script("scripted", refusal(400, "The context is too long.", param="messages"))
    answered = call(gateway, CHAT, chat("scripted", stream=True))
    assert answered.status == 400
    assert answered.error["message"] == "The context is too long."
    assert len(upstream.asked("scripted")) == 1


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_connection_closed_while_idle_costs_no_caller_anything(
    gateway: Gateway, upstream: FakeOpenAI, streamed: bool
) -> None:
    upstream.script("scripted", close_idle)
    for _ in range(20):
        answered = call(gateway, CHAT, chat("scripted", stream=streamed))
        assert answered.status == 200
    assert len(upstream.asked("scripted")) == 20


def test_a_fresh_connection_that_breaks_is_not_asked_twice(gateway: Gateway, upstream: FakeOpenAI) -> None:
    """The upstream may have begun to work, and to bill."""
    with FakeOpenAI() as fresh:
        gateway.connect("fresh", fresh.url, KEY)
        gateway.route("fresh", "fresh:scripted")
        fresh.script("scripted", close_without_answer)
        assert call(gateway, CHAT, chat("fresh")).status == 502
        assert len(fresh.asked("scripted")) == 1


def test_connections_to_the_upstream_are_kept_and_used_again(gateway: Gateway, upstream: FakeOpenAI) -> None:
    before = upstream.connections
    for number in range(30):
        assert call(gateway, CHAT, chat("gpt-fake", stream=number % 2 == 0)).status == 200
    workers = int(gateway.environment["WEB_CONCURRENCY"])
    assert upstream.connections - before <= 2 * workers


# -------------------------------------------------------------------------------- the next deployment


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_it_tries_the_next_deployment_when_the_first_is_down(
    gateway: Gateway, spare: FakeOpenAI, streamed: bool
) -> None:
    answered = call(gateway, CHAT, chat("spared-down", stream=streamed))
    assert answered.status == 200
    assert "spared-down" in answered.body.decode()
    row = gateway.row(answered.request_id)
    assert (row["ending"], row["profile_name"]) == ("completed", "spare")
    assert [attempt["profile"] for attempt in attempts(row)][-1] == "spare"
    assert len(spare.asked()) == 1


FAILING = {
    "500": refusal(500, "Broken.", type="server_error"),
    "503": refusal(503, "Full.", type="server_error"),
    "429": refusal(429, "Slower.", type="requests", code="rate_limit_exceeded"),
    "401": refusal(401, "Incorrect API key provided.", code="invalid_api_key"),
    "404": refusal(404, "The model does not exist.", code="model_not_found"),
    "closing": close_without_answer,
    "cut before the first word": cut(after=1),
    "an error before the first word": error_event(after=1),
    "silent": hang_after_headers,
}


@pytest.mark.parametrize("failing", FAILING)
def test_it_tries_the_next_deployment_until_the_first_word(
    gateway: Gateway, upstream: FakeOpenAI, spare: FakeOpenAI, failing: str
) -> None:
    upstream.script("scripted", FAILING[failing])
    answered, received = stream(gateway, chat("spared-hasty"))
    assert said(received) == SAID
    assert received[-1] == "[DONE]"
    assert len(spare.asked()) == 1
    row = gateway.row(answered.request_id)
    assert (row["ending"], row["status"], row["profile_name"]) == ("completed", 200, "spare")


def test_after_the_first_word_no_other_deployment_is_tried(
    gateway: Gateway, upstream: FakeOpenAI, spare: FakeOpenAI
) -> None:
    upstream.script("scripted", cut(after=3))
    _, received = stream(gateway, chat("spared-fake"))
    broken_off(received)
    assert spare.asked() == []


def test_what_is_the_callers_fault_is_not_tried_elsewhere(
    gateway: Gateway, upstream: FakeOpenAI, spare: FakeOpenAI
) -> None:
    assert call(gateway, CHAT, chat("spared-fake", frobnicate=1)).status == 400
    assert len(upstream.asked("scripted")) == 1
    assert spare.asked() == []


def test_weights_share_a_route_between_places(gateway: Gateway, upstream: FakeOpenAI, spare: FakeOpenAI) -> None:
    assert {call(gateway, CHAT, chat("shared")).status for _ in range(60)} == {200}
    assert len(upstream.asked("gpt-fake")) + len(spare.asked()) == 60
    assert min(len(upstream.asked("gpt-fake")), len(spare.asked())) >= 10


# ------------------------------------------------------------------------------------------ bare sockets


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_body_in_chunks_is_read(gateway: Gateway, upstream: FakeOpenAI, streamed: bool) -> None:
    body = json.dumps(chat("gpt-fake", stream=streamed)).encode()
    with Caller(gateway) as caller:
        caller.send(request_bytes(gateway, CHAT, None, content_type="application/json", transfer_encoding="chunked"))
        for start in range(0, len(body), 9):
            piece = body[start : start + 9]
            caller.send(b"%x;note=1\r\n%b\r\n" % (len(piece), piece))
        caller.send(b"0\r\n\r\n")
        answered = caller.answer()
        assert answered.status == 200
        assert upstream.heard("gpt-fake").body["messages"] == chat("")["messages"] or "Gr" in answered.body.decode()
        caller.ask(CHAT, chat("gpt-fake", "again"))
        assert caller.answer().json()["choices"][0]["message"]["content"] == "You said: again"


def test_a_body_that_comes_in_drops_is_read(gateway: Gateway) -> None:
    request = request_bytes(gateway, CHAT, chat("gpt-fake"))
    with Caller(gateway) as caller:
        for start in range(0, len(request), 40):
            caller.send(request[start : start + 40])
            time.sleep(0.005)
        assert caller.answer().status == 200


def test_expect_continue_is_answered(gateway: Gateway) -> None:
    body = json.dumps(chat("gpt-fake")).encode()
    with Caller(gateway) as caller:
        caller.send(
            request_bytes(
                gateway, CHAT, None, content_type="application/json", content_length=str(len(body)),
                expect="100-continue",
            )
        )  # fmt: skip
        assert caller.socket.recv(12) == b"HTTP/1.1 100"
        caller.send(body)
        status = b""
        while b"HTTP/1.1 200" not in status:
            status += caller.socket.recv(4096)


def test_requests_sent_ahead_are_answered_in_their_order(gateway: Gateway) -> None:
    with Caller(gateway) as caller:
        caller.send(b"".join(request_bytes(gateway, CHAT, chat("gpt-fake", f"number {number}")) for number in range(3)))
        contents = [caller.answer().json()["choices"][0]["message"]["content"] for _ in range(3)]
    assert contents == ["You said: number 0", "You said: number 1", "You said: number 2"]


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_request_sent_ahead_does_not_look_like_leaving(
    gateway: Gateway, upstream: FakeOpenAI, streamed: bool
) -> None:
    gate = Gate()
    upstream.script("scripted", answer(gate=gate))
    with Caller(gateway) as caller:
        caller.ask(CHAT, chat("scripted", stream=streamed))
        heard = upstream.heard("scripted")
        caller.ask("/v1/models", None, "GET")
        assert not heard.wait_left(1)
        gate.open()
        assert caller.answer().status == 200
        assert caller.answer().json()["object"] == "list"


def test_a_client_that_sent_ahead_and_leaves_is_gone_upstream(gateway: Gateway, upstream: FakeOpenAI) -> None:
    with Caller(gateway) as caller:
        caller.ask(CHAT, chat("hang-before-headers", stream=True))
        heard = upstream.heard("hang-before-headers")
        caller.ask("/v1/models", None, "GET")
    assert heard.wait_left(1)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_client_that_only_ends_its_sending_gets_its_answer(
    gateway: Gateway, upstream: FakeOpenAI, streamed: bool
) -> None:
    gate = Gate()
    upstream.script("scripted", answer(gate=gate))
    with Caller(gateway) as caller:
        caller.ask(CHAT, chat("scripted", stream=streamed))
        heard = upstream.heard("scripted")
        caller.end_sending()
        assert not heard.wait_left(2)
        gate.open()
        answered = caller.answer()
    assert answered.status == 200
    assert gateway.row(answered.request_id)["ending"] == "completed"


def test_a_connection_carries_many_calls(gateway: Gateway) -> None:
    with Caller(gateway) as caller:
        for number in range(20):
            model = ["gpt-fake", "fast-2", "status-500", "cut-early"][number % 4]
            caller.ask(CHAT, chat(model, stream=number % 3 == 0))
            assert caller.answer().status == {"gpt-fake": 200, "fast-2": 404}.get(model, 502)


def test_a_whole_call_leaves_one_row_whatever_happened(gateway: Gateway, upstream: FakeOpenAI) -> None:
    models = ["gpt-fake", "cut-late", "cut-early", "status-500", "status-429", "end-after-finish", "echo"]
    ids = []
    for model in models:
        with Caller(gateway) as caller:
            caller.ask(CHAT, chat(model, stream=True))
            answered = caller.answer()
        ids.append(answered.request_id)
    assert len(set(ids)) == len(models)
    for request_id in ids:
        gateway.row(request_id)


# ------------------------------------------------------------------------------------- many at once

STORM = [
    "close-without-answer",
    "reset-without-answer",
    "cut-early",
    "cut-late",
    "end-before-finish",
    "error-event-late",
    "oversized-frame",
    "status-500",
    "not-json",
    "hasty-hang-after-words",
    "down",
]


def storm(gateway: Gateway, upstream: FakeOpenAI) -> int:
    """Breaks and leaves in every way we know; then counts what the gateway's processes hold open."""
    for model in [*STORM, *STORM[:5]]:
        call(gateway, CHAT, chat(model, stream=True))
    with ExitStack() as callers:
        for number in range(30):
            body = chat("hang-before-headers", stream=number % 2 == 0)
            callers.enter_context(Caller(gateway)).ask(CHAT, body)
        assert wait_until(lambda: len(upstream.asked("hang-before-headers")) % 30 == 0)
    assert wait_until(lambda: all(heard.over.is_set() for heard in upstream.asked()), 2)
    time.sleep(1)  # the gateway may close its own ends a moment later
    return sum(len(list(Path(f"/proc/{worker}/fd").iterdir())) for worker in gateway.workers())


def test_nothing_is_left_open_after_a_storm(gateway: Gateway, upstream: FakeOpenAI) -> None:
    first, second = storm(gateway, upstream), storm(gateway, upstream)
    assert second <= first + 6, "pools may have grown a little, and no more"
    assert call(gateway, CHAT, chat("gpt-fake")).status == 200
