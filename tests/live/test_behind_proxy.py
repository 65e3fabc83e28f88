"""Behind a proxy that ends TLS: links, cookies, callers' addresses; and which names are answered to."""

from __future__ import annotations

import re
import time

import pytest
import requests

from tests.conftest import StartGateway
from tests.live.server import Gateway

FORWARDED = {
    "Host": "llm.example.com",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-For": "203.0.113.9",
}


@pytest.fixture(scope="module")
def proxied(start_gateway: StartGateway) -> Gateway:
    return start_gateway(
        PUBLIC_URL="https://llm.example.com", TRUSTED_PROXIES="127.0.0.1,10.0.0.0/8", WEB_CONCURRENCY="1"
    )


def test_an_operator_signs_in_through_the_proxy_with_secure_cookies(proxied: Gateway) -> None:
    with requests.Session() as session:
        login = f"{proxied.url}/admin/login/"
        page = session.get(login, headers=FORWARDED, timeout=10)
        assert "max-age=31536000" in page.headers["Strict-Transport-Security"]
        cookie = page.headers["Set-Cookie"]
        assert "Secure" in cookie
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token
        signed_in = session.post(
            login,
            data={"username": "admin", "password": proxied.password, "csrfmiddlewaretoken": token[1]},
            headers={
                **FORWARDED,
                "Origin": "https://llm.example.com",
                "Referer": "https://llm.example.com/admin/login/",
                "Cookie": cookie.partition(";")[0],
            },
            allow_redirects=False,
            timeout=10,
        )
        assert signed_in.status_code == 302
        assert "sessionid" in signed_in.headers["Set-Cookie"]


def test_the_front_page_shows_the_public_address(proxied: Gateway) -> None:
    page = requests.get(proxied.url, headers={**FORWARDED, "Accept": "text/html"}, timeout=10).text
    assert "https://llm.example.com/v1" in page
    assert "127.0.0.1" not in page


def test_a_key_bound_to_an_address_goes_by_the_caller_not_the_proxy(proxied: Gateway) -> None:
    key = proxied.apikey("grace", "bound")
    proxied.change_key("bound", allowed_ips=["203.0.113.0/24"])

    def status(**headers: str) -> int:
        sent = {"Authorization": f"Bearer {key}", **headers}
        return requests.get(f"{proxied.url}/v1/models", headers=sent, timeout=10).status_code

    # As long as a worker may take to notice the change.
    time.sleep(2)
    assert status(**{"X-Forwarded-For": "203.0.113.9"}) == 200
    assert status(**{"X-Forwarded-For": "203.0.113.9, 198.51.100.7"}) == 403, "what a caller writes is not believed"
    assert status(**{"X-Forwarded-For": "198.51.100.7, 203.0.113.9, 10.1.2.3"}) == 200
    assert status() == 403


def test_api_paths_answer_to_any_name_and_pages_do_not(proxied: Gateway) -> None:
    asked = requests.get(
        f"{proxied.url}/v1/models",
        headers={"Host": "gateway:8000", "Authorization": f"Bearer {proxied.key}", "Origin": "https://a.example"},
        timeout=10,
    )
    assert asked.status_code == 200
    assert requests.get(f"{proxied.url}/admin/login/", headers={"Host": "evil.example"}, timeout=10).status_code == 400
    assert requests.get(f"{proxied.url}/health", headers={"Host": "10.0.0.7"}, timeout=10).status_code == 200
