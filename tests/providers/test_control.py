"""What is rarely asked of an upstream (model lists now), against real servers."""

from __future__ import annotations

import contextlib
import socket
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.base import Target, UpstreamModel, UpstreamRequest
from providers.echo import Echo
from providers.openai import OpenAI
from providers.wire import control
from providers.wire.errors import ProviderError
from tests.providers.certificates import Authority
from tests.providers.upstream import LAST_CHUNK, Upstream, Wire, account, answering, chunk, silent, whole

MODELS = whole(b'{"object":"list","data":[{"id":"gpt-4o","object":"model"},{"id":"org/model:7b","object":"model"}]}')
NAMED = [UpstreamModel("gpt-4o"), UpstreamModel("org/model:7b")]


@contextlib.contextmanager
def raised_without(secret: str) -> Iterator[None]:
    """Whatever is raised inside, a log that shows its traceback shows no `secret`."""
    try:
        yield
    except Exception:
        assert secret not in traceback.format_exc()
        raise


def models_of(target: Target) -> list[UpstreamModel]:
    return control.list_models(OpenAI(), target)


def failing(target: Target) -> ProviderError:
    with pytest.raises(ProviderError) as error:
        models_of(target)
    assert "Main account" in error.value.message
    assert error.value.message.endswith(".")
    return error.value


def test_the_models_of_an_account_are_asked_of_it_with_its_credential() -> None:
    with Upstream(answering(MODELS)) as upstream:
        assert models_of(account(upstream.url, secrets={"api_key": "sk-1"})) == NAMED
    (heard,) = upstream.heard
    assert (heard.method, heard.path, heard.body) == ("GET", "/v1/models", b"")
    assert heard.header("authorization") == "Bearer sk-1"


def test_the_models_of_echo_are_known_without_asking() -> None:
    assert control.list_models(Echo(), account("http://nowhere.invalid")) == [UpstreamModel("echo")]


def test_a_body_is_sent_when_there_is_one() -> None:
    with Upstream(answering(whole(b"[1]"))) as upstream:
        request = UpstreamRequest("POST", f"{upstream.url}/token", {}, b"grant_type=x")
        assert control.ask(request, OpenAI(), account(upstream.url)) == [1]
    assert upstream.heard[0].body == b"grant_type=x"


def test_no_credential_is_added_from_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ada password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with Upstream(answering(MODELS)) as upstream:
        models_of(account(upstream.url))
    assert upstream.heard[0].header("authorization") is None


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    return Authority()


def test_a_private_ca_is_trusted_by_the_profile_that_names_it(authority: Authority) -> None:
    with Upstream(answering(MODELS), tls=authority.server("127.0.0.1")) as upstream:
        assert models_of(account(upstream.url, ca=authority.pem)) == NAMED


@pytest.mark.parametrize("host", ["127.0.0.1", "other.example"])
def test_a_certificate_nobody_vouches_for_is_refused(host: str, authority: Authority) -> None:
    with Upstream(answering(MODELS), tls=authority.server(host)) as upstream:
        error = failing(account(upstream.url, ca=authority.pem if host == "other.example" else ""))
        assert error.kind == "unreachable"
        assert "certificate" in error.message
        assert upstream.heard == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (whole(b'{"error":{"message":"no sk-secret"}}', "401 Unauthorized"), "auth"),
        (whole(b"<html>", "404 Not Found", "text/html"), "unsupported_path"),
        (whole(b'{"error":"slow down"}', "429 Too Many"), "rate_limit"),
        (whole(b"", "500 Oops"), "broken"),
        (whole(b"<html>"), "broken"),
        (whole(b""), "broken"),
    ],
)
def test_an_answer_that_is_none_is_an_error(answer: bytes, kind: str) -> None:
    with Upstream(answering(answer)) as upstream:
        error = failing(account(upstream.url))
    assert error.kind == kind
    assert "secret" not in error.message


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"data":[',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b'{"data":[]}'),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n" + chunk(b"{}") + LAST_CHUNK,
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
    ],
    ids=["nothing", "cut headers", "cut length", "cut chunks", "no chunk", "no gzip", "another protocol"],
)
def test_an_answer_that_breaks_is_an_error(answer: bytes) -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(answer)

    with Upstream(script) as upstream:
        assert failing(account(upstream.url)).retryable


def test_a_server_that_is_down_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert failing(account(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")).kind == "unreachable"


def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_the_total_timeout() -> None:
    with Upstream(silent) as upstream:
        start = time.monotonic()
        assert failing(account(upstream.url, total_timeout=0.3)).kind == "timeout"
        assert time.monotonic() - start < 2


def test_a_server_that_falls_silent_in_its_answer_is_a_timeout() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(MODELS[:-20])
        wire.peer_left(10)

    with Upstream(script) as upstream:
        assert failing(account(upstream.url, total_timeout=0.3)).kind == "timeout"


def test_an_answer_in_drops_ends_with_the_total_timeout() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n", *[b" "] * 25, pause=0.1)

    with Upstream(script) as upstream:
        start = time.monotonic()
        failing(account(upstream.url, total_timeout=0.5))
        assert time.monotonic() - start < 2


@pytest.mark.parametrize("key", ["sk-canary\r\nX-Injected: two", "sk-canary “quoted”", "sk-canary\n", " sk-canary"])
def test_a_credential_no_header_can_hold_is_refused_and_printed_nowhere(key: str) -> None:
    with Upstream(answering(MODELS)) as upstream:
        with contextlib.suppress(ProviderError), raised_without("canary"):
            models_of(account(upstream.url, secrets={"api_key": key}))
        assert all(heard.header("X-Injected") is None for heard in upstream.heard)


@pytest.mark.parametrize("url", ["http://127.0.0.1:notaport/v1", "http://[::1/v1", "http://", "ftp://127.0.0.1/v1"])
def test_an_address_that_is_none_is_an_error(url: str) -> None:
    failing(account(url))


def test_a_profiles_proxy_is_used() -> None:
    with Upstream(answering(MODELS)) as proxy:
        address = f"http://ada:p%40ss%3Aword%2F1@127.0.0.1:{proxy.port}"
        assert models_of(account("http://api.example.com/v1", proxy_url=address)) == NAMED
    (heard,) = proxy.heard
    assert heard.path == "http://api.example.com/v1/models"
    assert heard.header("proxy-authorization") == "Basic YWRhOnBAc3M6d29yZC8x"  # ada:p@ss:word/1
