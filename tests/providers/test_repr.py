"""Secrets never print: not in a repr, not in an error, not in its traceback."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable
from dataclasses import replace

import pytest

from providers.base import Target
from providers.openai import OpenAI
from providers.wire import client, control
from providers.wire.errors import ProviderError
from tests.providers.upstream import Upstream, Wire, account, answering, post, whole

CANARY = "sk-canary-0123456789"
OPENAI = OpenAI()


def target(url: str = "http://127.0.0.1:9/v1", **changes: object) -> Target:
    return replace(
        account(url),
        secrets={"api_key": CANARY},
        headers={"X-Second-Key": f"{CANARY}-header"},
        **changes,  # type: ignore[arg-type]
    )


def everything(error: BaseException) -> str:
    """All that a log could show of an error, its causes included."""
    text = "".join(traceback.TracebackException.from_exception(error, capture_locals=False).format(chain=True))
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return text + "".join(f"{each!s} {each!r} {each.args!r} {vars(each)!r}" for each in chain)


def test_a_target_prints_its_profile_and_none_of_its_secrets() -> None:
    hidden = target(proxy_url=f"http://ada:{CANARY}@proxy:3128", ca=f"-----{CANARY}-----")
    for text in (repr(hidden), str(hidden), f"{hidden}", f"{[hidden]}"):
        assert "Main account" in text
        assert CANARY not in text


def test_a_request_prints_where_it_goes_and_not_what_it_carries() -> None:
    request = OPENAI.request(target(), "/chat/completions", {"messages": [{"content": f"my secret is {CANARY}"}]})
    assert CANARY in str(dict(request.headers)) + request.body.decode()
    for text in (repr(request), str(request), f"{[request]}"):
        assert "/chat/completions" in text
        assert CANARY not in text


def send(wanted: Target) -> None:
    response = client.send(OPENAI.request(wanted, "/chat/completions", {"model": "m"}), wanted, stream=False)
    try:
        response.read()
        if response.status != 200:
            raise AssertionError("an error answer is read by the relay")
    finally:
        response.close()


def list_models(wanted: Target) -> None:
    control.list_models(OPENAI, wanted)


def refuse(wire: Wire) -> None:
    wire.request()


def half(wire: Wire) -> None:
    wire.request()
    wire.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")


@pytest.mark.parametrize("ask", [send, list_models])
@pytest.mark.parametrize("script", [refuse, half, answering(b"SSH-2.0\r\n")], ids=["closes", "cuts", "babbles"])
def test_no_secret_is_in_the_error_of_a_broken_call(
    ask: Callable[[Target], None], script: Callable[[Wire], None]
) -> None:
    with Upstream(script) as upstream, pytest.raises(ProviderError) as error:
        ask(target(upstream.url))
    assert CANARY not in everything(error.value)


@pytest.mark.parametrize("ask", [send, list_models])
def test_no_secret_is_in_the_error_of_an_upstream_that_is_down(ask: Callable[[Target], None]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        for wanted in (
            target(f"http://127.0.0.1:{port}/v1"),
            target(f"https://127.0.0.1:{port}/v1"),
            target("http://api.example.com/v1", proxy_url=f"http://ada:{CANARY}@127.0.0.1:{port}"),
            target("https://api.example.com/v1", proxy_url=f"http://ada:{CANARY}@127.0.0.1:{port}"),
        ):
            with pytest.raises(ProviderError) as error:
                ask(wanted)
            assert CANARY not in everything(error.value)


@pytest.mark.parametrize("ask", [send, list_models])
@pytest.mark.parametrize(
    "change",
    [
        {"secrets": {"api_key": f"{CANARY}\nX-Injected: two"}},
        {"secrets": {"api_key": f"“{CANARY}”"}},
        {"headers": {"X-Second-Key": f"{CANARY}\r\n"}},
        {"proxy_url": f"http://ada:{CANARY}/x@127.0.0.1:9"},
        {"ca": f"-----BEGIN CERTIFICATE-----\n{CANARY}\n-----END CERTIFICATE-----"},
    ],
    ids=["line break in the key", "quotes around the key", "line break in a header", "slash in a password", "no CA"],
)
def test_no_secret_is_in_the_error_of_settings_that_cannot_work(
    ask: Callable[[Target], None], change: dict[str, object]
) -> None:
    with Upstream(answering(whole(b'{"data":[]}'))) as upstream:
        try:
            ask(replace(target(upstream.url), **change))  # type: ignore[arg-type]
        except Exception as error:
            assert CANARY not in everything(error)  # noqa: PT017 - to raise nothing is as good


def test_no_secret_is_in_what_an_upstream_said_of_it() -> None:
    answer = whole(b'{"error":{"message":"Incorrect API key: %s"}}' % CANARY.encode(), "401 Unauthorized")
    with Upstream(answering(answer)) as upstream:
        with pytest.raises(ProviderError) as error:
            list_models(target(upstream.url))
        assert CANARY not in everything(error.value)
        assert upstream.heard[0].header("authorization") == f"Bearer {CANARY}"


def test_no_secret_is_in_the_error_of_a_test_double() -> None:
    """The canary is really sent: the tests above would notice."""
    with Upstream(answering(whole(b"{}"))) as upstream:
        send(target(upstream.url))
        client.send(post(upstream.url), target(upstream.url), stream=False).close()
    assert upstream.heard[0].header("authorization") == f"Bearer {CANARY}"
    assert upstream.heard[0].header("x-second-key") == f"{CANARY}-header"
