"""A kind nobody has heard of is one file: connected, called and shown in the admin, without a migration."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
import requests

from tests.conftest import StartGateway
from tests.fakes.openai import KEY, FakeOpenAI
from tests.fakes.scenes import TWO_CALLS, Scene
from tests.live import wire
from tests.live.server import Gateway
from tests.live.wire import CHAT

SEVENTH = '''
"""A heaven that chats as OpenAI does, but not without its passphrase."""

from providers.base import Provider, Setting, UpstreamModel


class Seventh(Provider):
    kind = "seventh"
    label = "Seventh heaven"
    settings = (
        Setting("url", "Gate", "Where the gate is.", required=True, kind="url"),
        Setting("cloud", "Cloud", default="nine", kind="choice", choices=("seven", "nine")),
        Setting("passphrase", "Passphrase", "Whispered at the gate.", required=True, secret=True),
    )

    def speaks(self, model, target):
        return {"openai_chat": "/chat/completions"}

    def headers(self, target):
        return {**super().headers(target), "Authorization": f"Bearer {target.secrets['passphrase']}"}

    def models(self, target):
        yield from ()
        return [UpstreamModel("gpt-fake", context_window=7777, capabilities={"images": False})]
'''
# Python reads this when it starts: the folder is one more where providers are looked for.
AT_START = """
import sys
from importlib.machinery import PathFinder


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "providers":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.submodule_search_locations.append({folder!r})
        return spec


sys.meta_path.insert(0, Finder)
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as server:
        yield server
        assert server.complaints == []


@pytest.fixture(scope="module")
def heaven(start_gateway: StartGateway, upstream: FakeOpenAI, tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    folder = tmp_path_factory.mktemp("seventh")
    kinds = folder / "kinds"
    kinds.mkdir()
    (kinds / "seventh.py").write_text(SEVENTH)
    (folder / "sitecustomize.py").write_text(AT_START.format(folder=str(kinds)))
    gateway = start_gateway(PYTHONPATH=os.pathsep.join([str(folder)]))
    connected = gateway.manage(
        *("connect", "seventh", "heaven", "--set", f"url={upstream.url}", "--secret", f"passphrase={KEY}"),
        *("--test", "--routes", "all"),
    )
    assert "Connected seventh profile 'heaven' with 1 route(s): gpt-fake." in connected.stdout
    gateway.noticed()
    return gateway


def test_no_migration_is_needed(heaven: Gateway) -> None:
    assert "No changes detected" in heaven.manage("makemigrations", "--check", "--dry-run").stdout


def test_its_settings_are_held_to_what_they_say(heaven: Gateway) -> None:
    asked = ("connect", "seventh", "elsewhere", "--set", "url=http://127.0.0.1:9")
    for words, sentence in (
        ((), "Passphrase is needed"),
        (("--secret", "passphrase=x", "--set", "cloud=ten"), "Cloud must be one of seven, nine."),
        (("--set", "harp=1"), "Seventh heaven has no setting 'harp'. It has url, cloud."),
    ):
        refused = heaven.manage(*asked, *words, check=False)
        assert refused.returncode != 0
        assert sentence in refused.stderr


def test_it_is_called_whole_and_streamed(heaven: Gateway, upstream: FakeOpenAI) -> None:
    upstream.scene("gpt-fake", Scene())
    answer = wire.call(heaven, CHAT, wire.chat("gpt-fake"))
    assert answer.json()["choices"][0]["message"]["content"] == Scene().text
    row = heaven.row(answer.request_id)
    assert (row["profile_name"], row["input_tokens"], row["tokens_from"]) == ("heaven", 21, "upstream")
    _, events = wire.stream(heaven, wire.chat("gpt-fake"))
    assert events[-1] == "[DONE]"
    upstream.scene("gpt-fake", Scene(fails="later"))
    _, events = wire.stream(heaven, wire.chat("gpt-fake"))
    assert "error" in events[-1]


def test_what_it_cannot_do_is_refused_by_name(heaven: Gateway, upstream: FakeOpenAI) -> None:
    upstream.forget()
    parts = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    body = {"model": "gpt-fake", "messages": [{"role": "user", "content": parts}]}
    refused = wire.call(heaven, CHAT, body)
    assert refused.status == 400
    assert refused.error["param"] == "messages[0].content"
    assert upstream.asked() == []


def test_another_language_is_translated_for_it(heaven: Gateway, upstream: FakeOpenAI) -> None:
    upstream.scene("gpt-fake", Scene(calls=TWO_CALLS))
    upstream.scene("gpt-fake", Scene())
    answer = wire.call(heaven, "/v1/completions", {"model": "gpt-fake", "prompt": "Hello"})
    assert answer.json()["choices"][0]["text"] == Scene().text


def test_the_admin_draws_its_form(heaven: Gateway) -> None:
    with requests.Session() as browser:
        page = browser.get(f"{heaven.url}/admin/login/", timeout=30)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token is not None
        form = {"username": "admin", "password": heaven.password, "csrfmiddlewaretoken": token[1]}
        browser.post(f"{heaven.url}/admin/login/", data=form, headers={"Referer": page.url}, timeout=30)
        kinds = browser.get(f"{heaven.url}/admin/profiles/profile/add/", timeout=30)
        assert "Seventh heaven" in kinds.text
        drawn = browser.get(f"{heaven.url}/admin/profiles/profile/add/", params={"kind": "seventh"}, timeout=30)
        for words in ("Gate", "Where the gate is.", "Cloud", "Passphrase", "Whispered at the gate."):
            assert words in drawn.text, words
        assert KEY not in drawn.text
