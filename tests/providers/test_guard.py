"""Which addresses an upstream may have, and that the one looked at is the one connected to."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from providers.base import UpstreamRequest
from providers.openai import OpenAI
from providers.wire import client, control, guard
from providers.wire.errors import ProviderError
from tests.providers.upstream import Upstream, account, answering, hears_nothing, post, whole

OK = whole(b'{"fine":true}')
Lookup = Callable[..., list[Any]]

METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "fe80::1",
    "fe80::1%1",
    "::ffff:169.254.169.254",
    "100.100.100.200",
    "::ffff:100.100.100.200",
    "fd00:ec2::254",
    "192.0.0.192",
    "0.0.0.0",
    "::",
    "::ffff:0.0.0.0",
    "224.0.0.1",
    "ff02::1",
]
WRAPPED = ["64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1", "::169.254.169.254"]  # NAT64, 6to4, IPv4-compatible
SPELLINGS = ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "0xa9.0xfe.0xa9.0xfe", "0",
             "169。254。169。254"]  # fmt: skip
NAMES = [
    "metadata.google.internal",
    "metadata.google.internal.",
    "METADATA.Google.Internal",
    "metadata.goog",
    "metadata",
]
PRIVATE = ["127.0.0.1", "127.8.8.8", "::1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
           "fd12::1", "::ffff:10.1.2.3", "::ffff:127.0.0.1"]  # fmt: skip
PUBLIC = ["1.1.1.1", "104.18.7.192", "2606:4700:4700::1111"]


@pytest.fixture
def no_private_upstreams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard.policy, "private_upstreams", False)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Says what names under .test resolve to: one answer after the other. The rest is asked of the box."""
    ask_the_box = socket.getaddrinfo

    def install(*answers: str | list[str]) -> list[str]:
        left = list(answers)
        asked: list[str] = []

        def lookup(host: Any, port: Any, *more: Any, **named: Any) -> list[Any]:
            if not str(host).endswith(".test"):
                return ask_the_box(host, port, *more, **named)
            asked.append(str(host))
            answer = left.pop(0) if len(left) > 1 else left[0]
            addresses = [answer] if isinstance(answer, str) else answer
            return [info for address in addresses for info in ask_the_box(address, port, *more, **named)]

        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        return asked

    return install


@pytest.mark.parametrize("address", METADATA + WRAPPED)
def test_metadata_link_local_and_senseless_addresses_are_forbidden(address: str) -> None:
    with pytest.raises(guard.Forbidden):
        guard.check_address(address)


@pytest.mark.parametrize("address", PRIVATE + PUBLIC)
def test_private_and_public_addresses_are_allowed_as_a_rule(address: str) -> None:
    guard.check_address(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_forbidden_when_the_operator_says_so(address: str, no_private_upstreams: None) -> None:
    with pytest.raises(guard.Forbidden):
        guard.check_address(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed_whatever_the_policy(address: str, no_private_upstreams: None) -> None:
    guard.check_address(address)


@pytest.mark.parametrize("host", [*NAMES, "169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"])
def test_a_forbidden_host_is_refused_without_asking_the_resolver(
    host: str, resolver: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given: pytest.fail("was asked"))
    with pytest.raises(guard.Forbidden):
        guard.check_host(host)
    with pytest.raises(guard.Forbidden):
        guard.resolve(host, 80)


@pytest.mark.parametrize("host", SPELLINGS)
def test_another_spelling_of_a_forbidden_address_is_that_address(host: str) -> None:
    with pytest.raises(guard.Forbidden):
        guard.resolve(host, 80)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost"])
def test_another_spelling_of_a_private_address_is_that_address(host: str, no_private_upstreams: None) -> None:
    with pytest.raises(guard.Forbidden):
        guard.resolve(host, 80)


def test_a_name_for_a_forbidden_address_is_forbidden(resolver: Callable[..., list[str]]) -> None:
    resolver("169.254.169.254")
    with pytest.raises(guard.Forbidden):
        guard.resolve("innocent.test", 80)


def test_of_a_names_addresses_only_the_allowed_ones_are_left(resolver: Callable[..., list[str]]) -> None:
    resolver(["169.254.169.254", "127.0.0.1", "fe80::1"])
    assert [info[4][0] for info in guard.resolve("mixed.test", 80)] == ["127.0.0.1"]


def test_an_unknown_name_is_not_called_forbidden() -> None:
    with pytest.raises(OSError) as error:
        guard.resolve("nowhere.invalid", 80)
    assert not isinstance(error.value, guard.Forbidden)


# -- calls


FORBIDDEN_URLS = [
    "http://169.254.169.254/v1",
    "http://[fe80::1]/v1",
    "http://[::ffff:169.254.169.254]:80/v1",
    "http://100.100.100.200/v1",
    "http://[fd00:ec2::254]/v1",
    "http://metadata.google.internal/v1",
    "http://METADATA.google.internal./v1",
    "http://0.0.0.0:8000/v1",
    "http://2852039166/v1",
    "http://0251.0376.0251.0376/v1",
    "https://169.254.169.254/v1",
]


@pytest.mark.parametrize("url", FORBIDDEN_URLS)
@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "through a proxy"])
def test_a_call_to_a_forbidden_address_is_refused_in_a_sentence(url: str, proxied: bool) -> None:
    with Upstream(hears_nothing) as proxy:
        target = account(url, proxy_url=f"http://127.0.0.1:{proxy.port}" if proxied else "")
        with pytest.raises(ProviderError) as error:
            client.send(post(url), target, stream=False)
        assert proxy.heard == []
    assert (error.value.kind, error.value.code) == ("unreachable", "address_refused")
    assert error.value.message == "The address of upstream 'Main account' is not one that may be reached."


def test_a_call_to_a_private_address_follows_the_policy(no_private_upstreams: None) -> None:
    with Upstream(hears_nothing) as upstream:
        for url in (upstream.url, upstream.url.replace("127.0.0.1", "localhost")):
            with pytest.raises(ProviderError) as error:
                client.send(post(url), account(url), stream=False)
            assert error.value.code == "address_refused"
        assert upstream.connections == 0


def test_a_name_that_resolves_differently_the_second_time_gains_nothing(resolver: Callable[..., list[str]]) -> None:
    with Upstream(answering(OK)) as upstream:
        asked = resolver("127.0.0.1", "169.254.169.254")
        url = upstream.url.replace("127.0.0.1", "rebinding.test")
        response = client.send(post(url), account(url), stream=False)
        assert response.read() == b'{"fine":true}'
        response.close()
        assert upstream.heard[0].header("host") == f"rebinding.test:{upstream.port}"
        assert asked == ["rebinding.test"]


# -- control: what is rare goes through the same guard


def get(url: str) -> UpstreamRequest:
    return UpstreamRequest("GET", f"{url}/models", {"Authorization": "Bearer sk-upstream-secret"})


@pytest.mark.parametrize("url", FORBIDDEN_URLS)
def test_nothing_rare_is_asked_of_a_forbidden_address_either(url: str) -> None:
    with pytest.raises(ProviderError) as error:
        control.ask(get(url), OpenAI(), account(url, connect_timeout=1))
    assert error.value.kind == "unreachable"
    assert "may be reached" in error.value.message


@pytest.mark.parametrize("name", ["localhost", "private.test"])
def test_control_says_nothing_to_a_private_address_when_the_operator_forbids_them(
    name: str, resolver: Callable[..., list[str]], no_private_upstreams: None
) -> None:
    resolver("127.0.0.1")
    with Upstream(hears_nothing) as upstream:
        url = upstream.url.replace("127.0.0.1", name)
        with pytest.raises(ProviderError) as error:
            control.ask(get(url), OpenAI(), account(url))
        assert error.value.kind == "unreachable"
        assert "may be reached" in error.value.message
        assert upstream.heard == []


def test_control_is_not_fooled_by_a_name_that_resolves_differently_the_second_time(
    resolver: Callable[..., list[str]], no_private_upstreams: None
) -> None:
    resolver("1.1.1.1", "127.0.0.1")
    with Upstream(hears_nothing) as upstream:
        url = upstream.url.replace("127.0.0.1", "rebinding.test")
        with pytest.raises(ProviderError):
            guard.resolve("rebinding.test", 80)  # somebody looked before, and liked what was there
            control.ask(get(url), OpenAI(), account(url))
        assert upstream.heard == []


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_control_follows_no_redirect_and_shows_nobody_its_credential(status: str) -> None:
    with Upstream(hears_nothing) as elsewhere:
        moved = whole(b"", status, "text/plain", f"Location: {elsewhere.url}/models")
        with Upstream(answering(moved)) as upstream:
            with pytest.raises(ProviderError) as error:
                control.ask(get(upstream.url), OpenAI(), account(upstream.url))
            assert len(upstream.heard) == 1
        assert elsewhere.connections == 0
    assert error.value.kind == "broken"
