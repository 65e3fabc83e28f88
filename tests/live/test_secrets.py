"""Secrets planted in every credential field are found nowhere: not on disk, in logs, on pages or in answers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import requests

from tests.conftest import StartGateway
from tests.fakes.openai import FakeOpenAI, refusal
from tests.live.server import Gateway

API_KEY = "canary-api-key-5b1f0c2e9a"
HEADER = "canary-header-77d0e4a1b3"
PROXY = "canary-proxy-90aa13c7de"
CANARIES = (API_KEY, HEADER, PROXY)


@pytest.fixture(scope="module")
def planted(start_gateway: StartGateway) -> Iterator[Gateway]:
    gateway = start_gateway(LOG_LEVEL="DEBUG")
    with FakeOpenAI(key=API_KEY) as upstream:
        upstream.script("status-400", refusal(400, f"The header {API_KEY} and {HEADER} is wrong."))
        gateway.manage(
            *("connect", "openai", "planted", "--set", f"url={upstream.url}", "--secret", f"api_key={API_KEY}"),
            *("--header", f"X-Canary={HEADER}", "--routes", "gpt-fake,status-401,status-400,cut-late,gone"),
        )
        gateway.manage(
            *("connect", "openai", "proxied", "--set", f"url={upstream.url}", "--secret", f"api_key={API_KEY}"),
            *("--proxy", f"http://user:{PROXY}@127.0.0.1:9", "--routes", "through-proxy"),
        )
        yield gateway


def every_answer(gateway: Gateway) -> list[str]:
    answers = []
    for model in ("gpt-fake", "status-401", "status-400", "cut-late", "gone", "through-proxy"):
        for stream in (False, True):
            got = requests.post(
                f"{gateway.url}/v1/chat/completions",
                headers={"Authorization": f"Bearer {gateway.key}"},
                json={"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": stream},
                timeout=30,
            )
            answers.append(f"{got.headers}{got.text}")
    return answers


def test_a_secret_is_in_no_answer_page_log_or_file(planted: Gateway) -> None:
    answers = every_answer(planted)
    assert any("[credential]" in answer for answer in answers), "the upstream did repeat the credential"
    places = {f"answer {number}": answer.encode() for number, answer in enumerate(answers)}
    places |= {f"page {path}": page for path, page in every_page(planted).items()}
    for path in planted.folder.rglob("*"):
        if path.is_file() and "static" not in path.parts:
            places[str(path)] = path.read_bytes()
    assert len(places) > 40
    for place, content in places.items():
        for canary in CANARIES:
            assert canary.encode() not in content, (canary, place)


def test_a_callers_key_is_kept_nowhere(planted: Gateway) -> None:
    key = planted.apikey("grace", "kept nowhere")
    asked = requests.get(f"{planted.url}/v1/key", headers={"Authorization": f"Bearer {key}"}, timeout=10)
    assert asked.status_code == 200
    assert key not in asked.text
    for path in (planted.folder / "data").rglob("*"):
        if path.is_file():
            assert key.encode() not in path.read_bytes()
    assert key not in planted.log.read_text()


def test_what_is_stored_of_a_credential_is_sealed_anew_each_time(planted: Gateway) -> None:
    shown = planted.manage(
        "shell", "--no-imports", "-c", "from profiles.models import Profile; p = Profile.objects.get(name='planted'); "
        "print(p.sealed); print(repr(p.open())); p.seal(p.sealed_values()); print(p.sealed)",
    ).stdout  # fmt: skip
    first, told, second = shown.strip().splitlines()[-3:]
    assert first != second
    assert first.startswith("gAAAA")
    assert not any(canary in told for canary in CANARIES)


def every_page(gateway: Gateway) -> dict[str, bytes]:
    """All admin pages an operator can reach from the lists, with those of single rows."""
    with requests.Session() as session:
        login = f"{gateway.url}/admin/login/"
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', session.get(login, timeout=10).text)
        assert token
        form = {"username": "admin", "password": gateway.password, "csrfmiddlewaretoken": token[1]}
        assert session.post(login, data=form, headers={"Referer": login}, timeout=10).status_code == 200
        pages: dict[str, bytes] = {}
        waiting = ["/admin/"]
        while waiting:
            path = waiting.pop()
            if path in pages or len(pages) > 120:
                continue
            answer = session.get(gateway.url + path, timeout=10)
            assert answer.status_code == 200, path
            pages[path] = answer.content
            found = re.findall(r'href="(/admin/[^"?#]*)"', answer.text)
            waiting += [link for link in found if "logout" not in link and "jsi18n" not in link]
        assert any("/change/" in path and "profile" in path for path in pages)
        return pages
