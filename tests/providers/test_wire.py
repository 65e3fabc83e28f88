"""The inference client against real servers that behave, misbehave and leave."""

from __future__ import annotations

import inspect
import io
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import gevent
import pytest
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.response import HTTPSocketPoolResponse

from providers.base import Target, UpstreamRequest
from providers.languages.registry import openai_chat
from providers.multipart import Form
from providers.streams import StraightStream
from providers.wire import client, guard
from providers.wire.errors import ProviderError
from tests.providers.certificates import Authority
from tests.providers.upstream import (
    EVENT_STREAM,
    LAST_CHUNK,
    Script,
    Upstream,
    Wire,
    account,
    answering,
    chunk,
    hears_nothing,
    post,
    silent,
    stream,
    whole,
)
from tests.providers.worked import CHAT_STREAMS, DONE

OK = whole(b'{"fine":true}')
GREETING = CHAT_STREAMS["a greeting"]


def ask(target: Target, request: UpstreamRequest | None = None) -> bytes:
    """One whole answer."""
    response = client.send(request or post(target.settings["url"]), target, stream=False)
    try:
        assert response.status == 200
        body = response.read()
        response.finish()
        return body
    finally:
        response.close()


@contextmanager
def streaming(target: Target) -> Iterator[StraightStream]:
    response = client.send(post(target.settings["url"]), target, stream=True)
    lane = StraightStream(response, openai_chat.tap(None, True))
    try:
        yield lane
    finally:
        lane.close()


def failing(target: Target, request: UpstreamRequest | None = None) -> ProviderError:
    """The error of one whole answer; it is told in a sentence and names the profile."""
    with pytest.raises(ProviderError) as error:
        ask(target, request)
    assert "Main account" in error.value.message
    assert error.value.message.endswith(".")
    return error.value


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What must not hang ends: `seconds` is what it takes here, ten more are for a busy machine."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds + 10


# -- what is sent


def test_a_request_arrives_as_it_was_built() -> None:
    with Upstream(answering(OK)) as upstream:
        request = post(upstream.url, b'{"model":"m"}', Authorization="Bearer sk-1", OpenAI_Organization="org-1")
        assert ask(account(upstream.url), request) == b'{"fine":true}'
    (heard,) = upstream.heard
    assert (heard.method, heard.path, heard.body) == ("POST", "/v1/chat/completions", b'{"model":"m"}')
    assert heard.headers == (
        ("Host", f"127.0.0.1:{upstream.port}"),
        ("Content-Type", "application/json"),
        ("Authorization", "Bearer sk-1"),
        ("OpenAI-Organization", "org-1"),
        ("Content-Length", "13"),
    )


def test_a_query_in_the_address_is_kept_and_its_path_may_be_empty() -> None:
    with Upstream(answering(OK)) as upstream:
        base = f"http://127.0.0.1:{upstream.port}"
        for url in (f"{base}?api-version=1", f"{base}/deployments/x?api-version=1&b=%20"):
            ask(account(base), UpstreamRequest("POST", url, {}, b""))
    assert [heard.path for heard in upstream.heard] == ["/?api-version=1", "/deployments/x?api-version=1&b=%20"]


def test_gzip_is_never_asked_for() -> None:
    with Upstream(answering(OK)) as upstream:
        ask(account(upstream.url))
    assert upstream.heard[0].header("accept-encoding") in (None, "identity")


def test_a_large_request_arrives_whole() -> None:
    body = b'{"text":"' + b"x" * (8 << 20) + b'"}'
    with Upstream(answering(OK)) as upstream:
        ask(account(upstream.url), post(upstream.url, body))
    assert upstream.heard[0].body == body


def uploading(url: str, *pieces: bytes) -> UpstreamRequest:
    """A body in pieces, that knows its length."""
    form = Form("b", io.BytesIO())
    form.take(b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nours\r\n--b\r\n')
    form.take(b'Content-Disposition: form-data; name="file"\r\n\r\n')
    for piece in (*pieces, b"\r\n--b--"):
        form.take(piece)
    form.finish()
    return UpstreamRequest("POST", f"{url}/audio/transcriptions", {}, upload=form.readdressed("theirs"))


def test_a_body_in_pieces_arrives_whole_and_with_its_length() -> None:
    with Upstream(answering(OK)) as upstream:
        request = uploading(upstream.url, *[b"x" * 100_000] * 30)
        ask(account(upstream.url), request)
    assert request.upload is not None
    assert upstream.heard[0].values("content-length") == [str(len(request.upload))]
    assert upstream.heard[0].body == b"".join(request.upload)
    assert b"\r\n\r\ntheirs\r\n" in upstream.heard[0].body


def test_a_body_in_pieces_is_sent_from_its_beginning_when_a_kept_connection_closes() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(OK)
        if wire.number == 1:
            select.select([wire.sock], [], [], 5)
            wire.reset()

    with Upstream(script) as upstream:
        ask(account(upstream.url))
        request = uploading(upstream.url, b"x" * 1000)
        ask(account(upstream.url), request)
        assert upstream.connections == 2
    assert upstream.heard[-1].body == b"".join(request.upload or ())


def test_a_body_in_pieces_that_nobody_takes_ends_with_the_timeout() -> None:
    over = threading.Event()
    with Upstream(lambda wire: over.wait(5) and None) as upstream, within(3):
        error = failing(account(upstream.url, total_timeout=0.5), uploading(upstream.url, *[b"x" * 1_000_000] * 40))
        over.set()
    assert error.kind == "timeout"


INJECTED = "one\r\nX-Injected: two"


@pytest.mark.parametrize(
    "change",
    [
        {"Authorization": f"Bearer {INJECTED}"},
        {"OpenAI-Organization": "one\nX-Injected: two"},
        {"X-Note": "one\rX-Injected: two"},
        {"X-Note\r\nX-Injected: two\r\nX": "one"},
        {"X-Note": "one\0two"},
    ],
)
def test_a_line_break_in_a_header_is_refused_before_anything_is_sent(change: dict[str, str]) -> None:
    with Upstream(hears_nothing) as upstream:
        error = failing(account(upstream.url), UpstreamRequest("POST", f"{upstream.url}/chat", change, b"{}"))
        assert error.kind == "broken"
    assert upstream.connections == 0


@pytest.mark.parametrize(
    "path", ["/chat HTTP/1.1\r\nX-Injected: two\r\n\r\n", "/chat\r\nX-Injected:two", "/chat\nX-Injected:two", "/a b"]
)
def test_a_line_break_in_an_address_never_becomes_a_header(path: str) -> None:
    with Upstream(answering(OK)) as upstream:
        try:
            ask(account(upstream.url), UpstreamRequest("POST", upstream.url + path, {}, b"{}"))
        except ProviderError:
            pass
    assert all(heard.header("X-Injected") is None for heard in upstream.heard)


@pytest.mark.parametrize("value", ["Bearer “sk-quoted”", "Bearer ключ", "Bearer sk-🙂"])
def test_a_credential_that_no_header_can_hold_is_a_fault_of_the_settings(value: str) -> None:
    """Typographic quotes come along when a key is copied from a page."""
    with Upstream(hears_nothing) as upstream:
        assert failing(account(upstream.url), post(upstream.url, Authorization=value)).kind == "broken"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:notaport/v1", "http://127.0.0.1:99999/v1", "http://日本.example:1/v1", "http://[::1/v1",
     "http://", "ftp://127.0.0.1/v1", "127.0.0.1:8000/v1", ""],
)  # fmt: skip
def test_an_address_that_is_none_is_a_fault_of_the_upstream(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    failing(account(url))


# -- connections, kept and replaced


def test_a_connection_is_used_again() -> None:
    with Upstream(answering(OK)) as upstream:
        for _ in range(3):
            ask(account(upstream.url))
        assert upstream.connections == 1


def test_a_connection_is_used_again_after_a_stream_and_after_an_error() -> None:
    error = whole(b'{"error":{"message":"No."}}', "400 Bad Request")
    with Upstream(answering(stream(*GREETING), error, OK)) as upstream:
        target = account(upstream.url)
        with streaming(target) as lane:
            lane.start()
            assert b"".join(lane).endswith(DONE)
        refused = client.send(post(upstream.url), target, stream=False)
        assert (refused.status, refused.read_error()) == (400, b'{"error":{"message":"No."}}')
        ask(target)
        assert upstream.connections == 1


def test_many_calls_at_once_have_a_connection_each() -> None:
    together = threading.Barrier(20)

    def script(wire: Wire) -> None:
        while wire.request() is not None:
            together.wait(10)
            wire.say(OK)

    with Upstream(script) as upstream:
        calls = [gevent.spawn(ask, account(upstream.url)) for _ in range(20)]
        gevent.joinall(calls, timeout=10, raise_error=True)
        assert upstream.connections == 20


def test_a_kept_connection_that_the_server_has_closed_is_replaced_and_the_call_sent_once() -> None:
    closed = threading.Event()

    def script(wire: Wire) -> None:
        wire.request()
        wire.say(OK)
        wire.sock.close()
        closed.set()

    with Upstream(script) as upstream:
        for number in (1, 2, 3):
            ask(account(upstream.url), post(upstream.url, b"%d" % number))
            assert closed.wait(5)
            closed.clear()
    assert [heard.body for heard in upstream.heard] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_kept_connection_that_closes_while_the_call_is_on_its_way_is_replaced_once(ending: str) -> None:
    def script(wire: Wire) -> None:
        wire.request()
        if wire.number == 1:
            wire.say(OK)
            # Seen by the client only when its next call is already written.
            select.select([wire.sock], [], [], 5)
            if ending == "reset":
                wire.reset()
            return
        wire.say(OK)

    with Upstream(script) as upstream:
        for number in (1, 2):
            ask(account(upstream.url), post(upstream.url, b"%d" % number))
        assert upstream.connections == 2
    assert [heard.body for heard in upstream.heard] == [b"1", b"2"]


def test_a_call_is_not_sent_a_third_time() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        if wire.number == 1:
            wire.say(OK)
            wire.request()

    with Upstream(script) as upstream:
        ask(account(upstream.url))
        assert failing(account(upstream.url)).kind == "unreachable"
        assert upstream.connections == 2


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_fresh_connection_that_closes_without_a_byte_is_an_error_and_nothing_is_sent_again(ending: str) -> None:
    def script(wire: Wire) -> None:
        wire.request()
        if ending == "reset":
            wire.reset()

    with Upstream(script) as upstream:
        error = failing(account(upstream.url))
        assert (error.kind, error.retryable) == ("unreachable", True)
    assert len(upstream.heard) == 1


def test_a_kept_connection_that_answers_a_part_and_closes_is_an_error_and_nothing_is_sent_again() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(OK)
        wire.request()
        wire.say(b"HTTP/1.1 200 OK\r\nContent-")

    with Upstream(script) as upstream:
        ask(account(upstream.url))
        failing(account(upstream.url))
    assert len(upstream.heard) == 2


def test_a_server_that_wants_to_close_is_not_asked_again_on_that_connection() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(whole(b"{}", "200 OK", "application/json", "Connection: close"))
        wire.peer_left(5)

    with Upstream(script) as upstream:
        for _ in range(2):
            assert ask(account(upstream.url)) == b"{}"
        assert upstream.connections == 2


# -- answers in every shape


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b'{"fine"') + chunk(b":true}") + LAST_CHUNK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b'{"fine":true}') + b"0\r\nX-Sum: 1\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + OK,
        OK.replace(b"\r\nContent-Type", b"\r\ncontent-type").replace(b"Content-Length", b"content-LENGTH"),
    ],
    ids=["with a length", "chunked", "with trailers", "after 100", "after 103", "odd header case"],
)
def test_an_answer_is_read_whole_and_its_connection_kept(answer: bytes) -> None:
    with Upstream(answering(answer)) as upstream:
        for _ in range(2):
            assert ask(account(upstream.url)) == b'{"fine":true}'
        assert upstream.connections == 1


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
def test_an_answer_without_a_length_ends_with_its_connection(version: bytes) -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(version + b" 200 OK\r\nConnection: close\r\n\r\n", b'{"fine"', b":true}", pause=0.02)

    with Upstream(script) as upstream:
        assert ask(account(upstream.url)) == b'{"fine":true}'


def test_headers_are_read_whatever_their_case_and_number() -> None:
    more = ("Retry-After: 7", "X-Many: a", "x-many: b")
    with Upstream(answering(whole(b"{}", "429 Slow", "Application/JSON; charset=utf-8", *more))) as upstream:
        response = client.send(post(upstream.url), account(upstream.url), stream=False)
        assert (response.status, response.content_type) == (429, "application/json")
        assert (response.header("retry-after"), response.header("x-many"), response.header("nope")) == ("7", "a, b", "")
        response.close()
        response.close()


def test_a_redirect_is_an_answer_and_not_followed() -> None:
    with (
        Upstream(hears_nothing) as elsewhere,
        Upstream(
            answering(whole(b"", "307 Temporary Redirect", "text/plain", f"Location: {elsewhere.url}"))
        ) as upstream,
    ):
        request = post(upstream.url, Authorization="Bearer sk-1")
        response = client.send(request, account(upstream.url), stream=False)
        assert response.status == 307
        response.close()
        assert elsewhere.connections == 0


def test_an_answer_sent_before_the_request_was_read_is_read() -> None:
    def script(wire: Wire) -> None:
        wire.sock.recv(1000)
        wire.say(whole(b'{"error":"too large"}', "413 Content Too Large", "application/json", "Connection: close"))
        while wire.sock.recv(1 << 20):
            pass

    with Upstream(script) as upstream:
        request = post(upstream.url, b"x" * (4 << 20))
        response = client.send(request, account(upstream.url), stream=False)
        assert (response.status, response.read_error()) == (413, b'{"error":"too large"}')


# -- answers that break


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b'{"half":',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b'{"whole":true}'),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"\0" * 100,
    ],
    ids=["cut length", "cut chunks", "cut chunk", "no chunk size", "two ways to end", "two lengths", "cut headers",
         "only 100", "another protocol", "TLS", "zeros"],
)  # fmt: skip
def test_an_answer_that_breaks_is_an_error(answer: bytes) -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(answer)

    with Upstream(script) as upstream:
        error = failing(account(upstream.url))
        assert error.kind in ("unreachable", "broken", "cut")
        assert error.retryable
    assert len(upstream.heard) == 1


def test_an_answer_reset_in_its_middle_is_an_error() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", pause=0.05)
        wire.reset()

    with Upstream(script) as upstream:
        failing(account(upstream.url))


def test_a_server_that_is_down_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = failing(account(f"http://127.0.0.1:{taken.getsockname()[1]}/v1"))
    assert (error.kind, error.retryable) == ("unreachable", True)


def test_a_name_nobody_knows_is_unreachable() -> None:
    assert failing(account("http://nowhere.invalid/v1")).kind == "unreachable"


# -- patience


def test_a_server_that_does_not_take_the_connection_ends_with_the_connect_timeout() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        with within(2):
            url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
            assert failing(account(url, connect_timeout=0.3)).kind == "timeout"
        for sock in waiting:
            sock.close()


def test_a_stream_that_does_not_begin_ends_with_the_first_event_timeout() -> None:
    with Upstream(silent) as upstream, within(2), pytest.raises(ProviderError) as error:
        client.send(post(upstream.url), account(upstream.url, first_event_timeout=0.3), stream=True)
    assert error.value.kind == "timeout"


def test_a_stream_without_content_ends_with_the_first_event_timeout() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(EVENT_STREAM + chunk(GREETING[0]))
        wire.peer_left(20)

    with (
        Upstream(script) as upstream,
        within(2),
        streaming(account(upstream.url, first_event_timeout=0.3, idle_timeout=9)) as lane,
    ):
        with pytest.raises(ProviderError) as error:
            lane.start()
        assert error.value.kind == "timeout"


def test_a_whole_answer_may_take_longer_than_the_first_event_and_idle_timeouts() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        time.sleep(0.4)
        wire.say(OK[:40])
        time.sleep(0.4)
        wire.say(OK[40:])

    with Upstream(script) as upstream:
        assert ask(account(upstream.url, first_event_timeout=0.2, idle_timeout=0.2)) == b'{"fine":true}'


def test_a_whole_answer_ends_with_the_total_timeout() -> None:
    with Upstream(silent) as upstream, within(2):
        assert failing(account(upstream.url, total_timeout=0.3)).kind == "timeout"


def test_a_stream_that_falls_silent_ends_with_the_idle_timeout() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(EVENT_STREAM, *map(chunk, GREETING[:2]))
        assert wire.peer_left(5)

    with Upstream(script) as upstream, within(2), streaming(account(upstream.url, idle_timeout=0.3)) as lane:
        lane.start()
        next(lane)
        with pytest.raises(ProviderError) as error:
            next(lane)
        assert error.value.kind == "timeout"


def test_the_idle_timeout_of_one_stream_is_forgotten_by_the_next_on_its_connection() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(stream(*GREETING))
        wire.request()
        time.sleep(0.5)
        wire.say(OK)

    with (
        Upstream(script) as upstream,
        streaming(account(upstream.url, idle_timeout=0.2)) as lane,
    ):
        lane.start()
        assert b"".join(lane)
        assert ask(account(upstream.url)) == b'{"fine":true}'
        assert upstream.connections == 1


def endless(pieces: Callable[[], bytes], start: bytes, pause: float = 0.05) -> Script:
    """Says a little now and then, for two and a half seconds."""

    def script(wire: Wire) -> None:
        wire.request()
        wire.say(start)
        for _ in range(round(2.5 / pause)):
            wire.say(pieces(), pause=pause)

    return script


def test_a_stream_that_never_ends_ends_with_the_total_timeout() -> None:
    with (
        Upstream(endless(lambda: chunk(GREETING[1]), EVENT_STREAM)) as upstream,
        within(2),
        streaming(account(upstream.url, total_timeout=0.5)) as lane,
    ):
        with pytest.raises(ProviderError) as error:
            lane.start()
            for _ in lane:
                pass
        assert error.value.kind == "timeout"


def test_a_stream_of_pings_alone_ends_at_the_latest_with_the_total_timeout() -> None:
    with (
        Upstream(endless(lambda: chunk(b": ping\n\n"), EVENT_STREAM)) as upstream,
        within(2),
        streaming(account(upstream.url, total_timeout=0.5)) as lane,
    ):
        with pytest.raises(ProviderError) as error:
            lane.start()
        assert error.value.kind == "timeout"


def test_a_whole_answer_in_drops_ends_with_the_total_timeout() -> None:
    drops = endless(lambda: b" ", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    with Upstream(drops) as upstream, within(2):
        assert failing(account(upstream.url, total_timeout=0.5)).kind == "timeout"


@pytest.mark.parametrize("as_stream", [True, False], ids=["stream", "whole"])
def test_headers_in_drops_end_with_the_timeout_all_the_same(as_stream: bool) -> None:
    with Upstream(endless(lambda: b"x", b"HTTP/1.1 200 OK\r\nX-Slow: ")) as upstream, within(2):
        target = account(upstream.url, first_event_timeout=0.5, total_timeout=0.8)
        with pytest.raises(ProviderError) as error:
            client.send(post(upstream.url), target, as_stream)
        assert error.value.kind == "timeout"


def test_a_complete_stream_whose_upstream_talks_on_does_not_keep_its_call() -> None:
    drops = endless(lambda: chunk(b":"), EVENT_STREAM + b"".join(map(chunk, GREETING)), pause=0.03)
    with Upstream(drops) as upstream, within(1.5), streaming(account(upstream.url)) as lane:
        lane.start()
        assert b"".join(lane).endswith(DONE)


# -- bounds


def test_an_answer_that_is_too_large_is_refused() -> None:
    with Upstream(answering(whole(b"x" * 200_000))) as upstream:
        response = client.send(post(upstream.url), account(upstream.url), stream=False)
        with pytest.raises(ProviderError) as error:
            response.read(limit=100_000)
        assert error.value.kind == "broken"
        assert "too large" in error.value.message


def test_no_whole_answer_is_larger_than_the_limit() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(70):
            wire.say(b" " * (1 << 20))

    with Upstream(script) as upstream:
        assert "too large" in failing(account(upstream.url, total_timeout=30)).message


def test_a_frame_that_is_too_large_is_refused_and_said_to_be() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(EVENT_STREAM + chunk(b"data: "))
        for _ in range(9):
            wire.say(chunk(b"x" * (1 << 20)))
        wire.peer_left(5)

    with Upstream(script) as upstream, streaming(account(upstream.url)) as lane:
        with pytest.raises(ProviderError) as error:
            lane.start()
        assert "too large" in error.value.message
        assert error.value.kind == "broken"


def test_headers_that_never_end_are_refused() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Long: ")
        for _ in range(64):
            wire.say(b"x" * 65536)
        wire.say(b"\r\n\r\n{}")

    with Upstream(script) as upstream:
        failing(account(upstream.url))


def test_a_large_answer_is_read_in_linear_time() -> None:
    body = b"x" * (20 << 20)
    with Upstream(answering(whole(body))) as upstream, within(10):
        assert ask(account(upstream.url)) == body


def test_an_endless_error_body_is_cut_off() -> None:
    with Upstream(answering(whole(b"x" * 1_000_000, "500 Oops"))) as upstream:
        response = client.send(post(upstream.url), account(upstream.url), stream=False)
        assert 0 < len(response.read_error()) <= client.LARGEST_ERROR


def test_an_error_body_that_breaks_is_read_as_far_as_it_came() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\n" + b'{"error":')

    with Upstream(script) as upstream:
        response = client.send(post(upstream.url), account(upstream.url), stream=False)
        assert response.read_error() == b'{"error":'


# -- other calls beside this one


def test_a_fast_stream_lets_other_calls_have_their_turns() -> None:
    frames = 200_000

    def script(wire: Wire) -> None:
        wire.request()
        wire.say(EVENT_STREAM)
        for _ in range(frames // 2000):
            wire.say(chunk(b"data: 1\n\n" * 2000))
        wire.say(LAST_CHUNK)

    turns = 0
    over = False

    def another() -> None:
        nonlocal turns
        while not over:
            turns += 1
            gevent.sleep(0)

    with Upstream(script) as upstream:
        response = client.send(
            post(upstream.url), account(upstream.url, first_event_timeout=60, total_timeout=60), stream=True
        )
        beside = gevent.spawn(another)
        assert sum(1 for _ in response.frames()) == frames
        over = True
        beside.join()
    assert turns >= frames / 200


def test_a_call_that_is_killed_before_its_answer_closes_the_upstream() -> None:
    left: list[bool] = []

    def script(wire: Wire) -> None:
        wire.request()
        left.append(wire.peer_left(5))

    with Upstream(script) as upstream:
        call = gevent.spawn(ask, account(upstream.url))
        gevent.sleep(0.2)
        call.kill()
    assert left == [True]


def test_a_stream_that_is_closed_from_outside_wakes_its_reader() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(EVENT_STREAM, *map(chunk, GREETING[:2]))
        wire.peer_left(20)

    with Upstream(script) as upstream, within(2), streaming(account(upstream.url)) as lane:
        lane.start()
        next(lane)
        gevent.spawn_later(0.2, lane.close)
        with pytest.raises(ProviderError):
            next(lane)


def test_a_full_pool_is_waited_for_no_longer_than_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "POOL_SIZE", 1)
    with Upstream(silent) as upstream, within(3):
        target = account(upstream.url, connect_timeout=0.3)
        first = gevent.spawn(ask, target)
        gevent.sleep(0.1)
        assert failing(target).kind == "timeout"
        first.kill()


# -- TLS


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def forget_contexts() -> Iterator[None]:
    client.tls_context.cache_clear()
    yield
    client.tls_context.cache_clear()


def test_a_private_ca_is_trusted_by_the_profile_that_names_it(authority: Authority) -> None:
    with Upstream(answering(OK), tls=authority.server("127.0.0.1")) as upstream:
        for _ in range(2):
            assert ask(account(upstream.url, ca=authority.pem)) == b'{"fine":true}'
        assert upstream.connections == 1


def test_a_stream_comes_through_tls(authority: Authority) -> None:
    with (
        Upstream(answering(stream(*GREETING)), tls=authority.server("127.0.0.1")) as upstream,
        streaming(account(upstream.url, ca=authority.pem)) as lane,
    ):
        lane.start()
        assert b"".join(lane) == b"".join(GREETING)


def test_a_ca_of_the_box_is_trusted_by_every_profile(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    forget_contexts: None
) -> None:  # fmt: skip
    bundle = tmp_path_factory.mktemp("ca") / "bundle.pem"
    bundle.write_text(authority.pem)
    monkeypatch.setattr(guard.policy, "ca_bundle", str(bundle))
    with Upstream(answering(OK), tls=authority.server("127.0.0.1")) as upstream:
        assert ask(account(upstream.url)) == b'{"fine":true}'


def refused_by_tls(upstream: Upstream, url: str, ca: str) -> None:
    error = failing(account(url, ca=ca))
    assert (error.kind, error.retryable) == ("unreachable", True)
    assert "certificate" in error.message
    assert upstream.heard == []


def test_a_certificate_of_an_unknown_ca_is_refused(authority: Authority) -> None:
    with Upstream(answering(OK), tls=authority.server("127.0.0.1")) as upstream:
        refused_by_tls(upstream, upstream.url, "")
        refused_by_tls(upstream, upstream.url, Authority().pem)


def test_a_certificate_for_another_host_is_refused(authority: Authority) -> None:
    with Upstream(answering(OK), tls=authority.server("other.example")) as upstream:
        refused_by_tls(upstream, upstream.url, authority.pem)
    with Upstream(answering(OK), tls=authority.server("127.0.0.1")) as upstream:
        refused_by_tls(upstream, f"https://localhost:{upstream.port}/v1", authority.pem)


def test_a_server_that_speaks_no_tls_is_unreachable(authority: Authority) -> None:
    def script(wire: Wire) -> None:
        wire.sock.recv(1000)
        wire.say(whole(b"", "400 Bad Request"))

    with Upstream(script) as upstream:
        assert failing(account(upstream.url.replace("http://", "https://"), ca=authority.pem)).kind == "unreachable"


@pytest.mark.parametrize("ca", ["no certificate at all", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
                                "Zertifikat für uns"])  # fmt: skip
def test_a_ca_that_is_none_is_an_error_not_a_crash(ca: str) -> None:
    with Upstream(hears_nothing) as upstream:
        failing(account(upstream.url.replace("http://", "https://"), ca=ca))


# -- proxies


class Proxy(Upstream):
    """An HTTP proxy: answers absolute addresses itself, and opens tunnels to the port it was asked for."""

    def __init__(self, connect_answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        super().__init__(self._proxy)
        self.connect_answer = connect_answer
        self.address = f"http://127.0.0.1:{self.port}"

    def _proxy(self, wire: Wire) -> None:
        while (heard := wire.request()) is not None:
            if heard.method != "CONNECT":
                wire.say(OK)
                continue
            wire.say(self.connect_answer)
            if b" 200 " in self.connect_answer:
                self._tunnel(wire.sock, int(heard.path.rpartition(":")[2]))
            return

    def _tunnel(self, near: socket.socket, port: int) -> None:
        # Either side may have been closed meanwhile, which leaves no number to wait for.
        with socket.create_connection(("127.0.0.1", port)) as far, suppress(OSError, ValueError):
            while True:
                for ready in select.select([near, far], [], [])[0]:
                    if not (piece := ready.recv(65536)):
                        return
                    (far if ready is near else near).sendall(piece)


PASSWORD = "p@ss:word/1"
IN_THE_ADDRESS = "ada:p%40ss%3Aword%2F1"
BASIC = "Basic YWRhOnBAc3M6d29yZC8x"  # ada:p@ss:word/1


def test_a_profiles_proxy_is_asked_with_the_whole_address() -> None:
    with Upstream(hears_nothing) as upstream, Proxy() as proxy:
        assert ask(account(upstream.url, proxy_url=proxy.address)) == b'{"fine":true}'
        assert upstream.connections == 0
    (heard,) = proxy.heard
    assert heard.path == f"{upstream.url}/chat/completions"
    assert heard.header("host") == f"127.0.0.1:{upstream.port}"
    assert heard.header("proxy-authorization") is None


def test_a_proxy_gets_its_password_as_it_was_before_it_was_put_into_an_address() -> None:
    with Upstream(hears_nothing) as upstream, Proxy() as proxy:
        ask(account(upstream.url, proxy_url=proxy.address.replace("//", f"//{IN_THE_ADDRESS}@")))
    assert proxy.heard[0].values("proxy-authorization") == [BASIC]


def test_a_proxy_tunnels_tls_and_sees_nothing_of_the_call(authority: Authority) -> None:
    with Upstream(answering(OK), tls=authority.server("127.0.0.1")) as upstream, Proxy() as proxy:
        target = account(upstream.url, proxy_url=proxy.address, ca=authority.pem)
        for _ in range(2):
            assert ask(target, post(upstream.url, Authorization="Bearer sk-1")) == b'{"fine":true}'
    (tunnel,) = proxy.heard
    assert (tunnel.method, tunnel.path) == ("CONNECT", f"127.0.0.1:{upstream.port}")
    assert tunnel.header("authorization") is None
    assert tunnel.header("proxy-authorization") is None
    assert upstream.heard[0].header("authorization") == "Bearer sk-1"


def test_a_proxys_password_opens_its_tunnel_and_goes_no_further(authority: Authority) -> None:
    with Upstream(answering(OK), tls=authority.server("127.0.0.1")) as upstream, Proxy() as proxy:
        address = proxy.address.replace("//", f"//{IN_THE_ADDRESS}@")
        ask(account(upstream.url, proxy_url=address, ca=authority.pem))
    assert proxy.heard[0].values("proxy-authorization") == [BASIC]
    assert upstream.heard[0].header("proxy-authorization") is None


def test_a_proxy_that_refuses_its_tunnel_is_an_error(authority: Authority) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with Proxy(refusal) as proxy:
        error = failing(account("https://api.example.com/v1", proxy_url=proxy.address, ca=authority.pem))
    assert (error.kind, error.retryable) == ("unreachable", True)


def test_the_proxy_of_the_environment_is_used_but_for_the_hosts_it_excepts(monkeypatch: pytest.MonkeyPatch) -> None:
    with Upstream(answering(OK)) as upstream, Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        ask(account("http://api.example.com/v1"))
        assert proxy.heard[0].path == "http://api.example.com/v1/chat/completions"
        client._environment_proxy.cache_clear()
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
        ask(account(upstream.url))
        assert (len(proxy.heard), len(upstream.heard)) == (1, 1)


def test_the_environments_proxy_for_tls_is_a_tunnel(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    with Upstream(answering(OK), tls=authority.server("127.0.0.1")) as upstream, Proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy.port}")  # without http:// is meant the same
        ask(account(upstream.url, ca=authority.pem))
    assert proxy.heard[0].method == "CONNECT"


def test_a_profiles_own_proxy_goes_before_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    with Upstream(hears_nothing) as upstream, Proxy() as own, Proxy() as common:
        monkeypatch.setenv("HTTP_PROXY", common.address)
        ask(account(upstream.url, proxy_url=own.address))
        assert (len(own.heard), len(common.heard)) == (1, 0)


@pytest.mark.parametrize("address", ["http://ada:sec/ret@127.0.0.1:8080", "http://127.0.0.1:notaport", "http://[::1"])
def test_a_proxy_address_that_is_none_is_a_fault_of_the_settings(address: str) -> None:
    with Upstream(hears_nothing) as upstream:
        assert "sec" not in failing(account(upstream.url, proxy_url=address)).message


def test_profiles_with_different_proxies_share_no_connection() -> None:
    with Upstream(answering(OK)) as upstream, Proxy() as proxy:
        target = account(upstream.url)
        for each in (target, replace(target, proxy_url=proxy.address), target):
            ask(each)
        assert (len(upstream.heard), len(proxy.heard)) == (2, 1)


# -- what we lean on


def test_geventhttpclient_still_has_the_parts_we_lean_on() -> None:
    """Private names of geventhttpclient 2.6: an upgrade that renames one must fail here, not in a stream."""
    response = inspect.getsource(HTTPSocketPoolResponse.__mro__[1]) + inspect.getsource(HTTPSocketPoolResponse)
    parser = "".join(inspect.getsource(each) for each in HTTPSocketPoolResponse.__mro__[2:3])
    for name in ("_body_buffer", "message_complete"):
        assert re.search(rf"self\.{name}\b.*=", parser), name
    assert re.search(r"self\._sock\b.*=", response)
    assert callable(HTTPSocketPoolResponse.feed)
    assert callable(HTTPSocketPoolResponse.release)
    pool = ConnectionPool("127.0.0.1", 1, "127.0.0.1", 1, size=2)
    assert (pool._semaphore.counter, pool._socket_queue.empty(), pool._use_proxy) == (2, True, False)
    for method in ("_resolve", "_create_socket", "_is_socket_alive", "return_socket", "release_socket"):
        assert callable(getattr(pool, method)), method
    pool.close()


def test_the_tests_run_without_a_patched_socket() -> None:
    """The floor must work in both worlds; gevent's patch belongs to the server."""
    assert socket.socket.__module__ == "socket"
    assert ssl.SSLContext.__module__ == "ssl"
