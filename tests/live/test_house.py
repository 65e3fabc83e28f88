"""The paths beside the API: health, the front door, documents, pages."""

from __future__ import annotations

import pytest
from drf_spectacular.validation import validate_schema

from tests.live.server import Gateway
from tests.live.wire import Caller, call


@pytest.mark.parametrize("path", ["/health", "/ready", "/info"])
def test_a_stranger_may_ask_how_it_is(gateway: Gateway, path: str) -> None:
    answered = call(gateway, path, None, "GET", authorization=None)
    assert answered.status == 200
    assert answered.headers["content-type"].startswith("application/json")
    assert isinstance(answered.json(), dict)
    assert "fake" not in answered.body.decode(), "details are for staff"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("application/json", "application/json"),
        ("*/*", "text/plain"),
        (None, "text/plain"),
    ],
)
def test_the_front_door_speaks_the_visitors_language(gateway: Gateway, accept: str | None, kind: str) -> None:
    answered = call(gateway, "/", None, "GET", authorization=None, accept=accept)
    assert answered.status == 200
    assert answered.headers["content-type"].startswith(kind)
    if kind == "text/plain":
        assert answered.body.decode().strip() == "Ollama is running"
    if kind == "application/json":
        assert "/v1/chat/completions" in answered.body.decode()


def test_the_front_door_may_be_knocked_at(gateway: Gateway) -> None:
    """Claude Code and ollama-python send HEAD."""
    with Caller(gateway) as caller:
        caller.ask("/", None, "HEAD", authorization=None)
        assert caller.head()[0] == 200
    assert "no-body response" not in gateway.log.read_text(), "each agent knocks, and none is worth a warning"


def test_the_documents_are_there(gateway: Gateway) -> None:
    described = call(gateway, "/openapi.json", None, "GET", authorization=None)
    assert described.status == 200
    assert {"/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat"} <= set(described.json()["paths"])
    validate_schema(described.json())
    assert call(gateway, "/docs", None, "GET", authorization=None).status in (200, 301, 302)


def test_pages_answer_only_to_their_own_host(gateway: Gateway) -> None:
    assert call(gateway, "/admin/login/", None, "GET", host="evil.example.net").status == 400
    assert call(gateway, "/admin/login/", None, "GET").status == 200


def test_pages_carry_the_headers_that_keep_them_safe(gateway: Gateway) -> None:
    headers = call(gateway, "/admin/login/", None, "GET").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]


def test_a_page_that_is_not_there_is_a_page(gateway: Gateway) -> None:
    answered = call(gateway, "/admin/no-such-page/", None, "GET", accept="text/html")
    assert answered.status in (302, 404)
    assert answered.headers["content-type"].startswith("text/html")


def test_logging_in_again_and_again_is_slowed_down(gateway: Gateway) -> None:
    """Throttled, and only there: the API is not bothered."""
    statuses = set()
    for number in range(30):
        page = call(gateway, "/admin/login/", None, "GET")
        token = page.headers["set-cookie"].split("csrftoken=")[1].split(";")[0]
        form = f"csrfmiddlewaretoken={token}&username=mallory&password=guess{number}"
        statuses.add(
            call(
                gateway,
                "/admin/login/",
                form.encode(),
                content_type="application/x-www-form-urlencoded",
                cookie=f"csrftoken={token}",
                authorization=None,
            ).status
        )
    assert statuses & {403, 429}, statuses
    assert call(gateway, "/v1/models", None, "GET").status == 200


def test_a_base_url_with_a_slash_too_many_is_understood(gateway: Gateway) -> None:
    assert call(gateway, "//v1/models", None, "GET").status == 200
