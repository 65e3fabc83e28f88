"""Secrets planted in every credential field are found nowhere: not on disk, in logs, on pages or in answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from providers.registry import kinds
from tests.conftest import StartGateway
from tests.fakes.openai import FakeOpenAI, refusal
from tests.fakes.server import Behaviour, Exchange, FakeServer, Heard
from tests.fakes.snowflake import new_key
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


class Parrot(FakeServer):
    """The worst of upstreams: it refuses everything, and says in every field it can what it was sent."""

    def behaviour(self, heard: Heard) -> Behaviour:
        def repeat(exchange: Exchange) -> None:
            said = f"The request {heard.path} {dict(heard.headers)} {heard.raw.decode(errors='replace')} is wrong."
            fault = {"message": said, "code": said, "param": said, "type": said}
            exchange.json(400, {"error": fault, "message": said, "detail": said, "error_description": said})

        return repeat


def credentials(origin: str) -> dict[str, dict[str, dict[str, str]]]:
    """For every kind, profiles that hold between them every credential the kind has: profile -> its secrets."""
    locked, _ = new_key("encrypted", "canary-passphrase-0b7a5e")
    spare, _ = new_key("encrypted", "canary-passphrase-0b7a5e")
    service_key = {
        "clientid": "sb-client",
        "clientsecret": "canary-client-secret-c41f09",
        "url": origin,
        "serviceurls": {"AI_API_URL": origin},
    }
    return {
        "openai": {"openai": {"api_key": "canary-openai-3f9d21"}},
        "anthropic": {"anthropic": {"api_key": "canary-anthropic-77c0de"}},
        "ollama": {"ollama": {"api_key": "canary-ollama-1a2b3c"}},
        "ocf": {"ocf": {"api_key": "canary-ocf-9e8d7c"}},
        "sambanova": {
            "sambanova": {"api_key": "canary-sambanova-5d4c3b"},
            "console": {"password": "canary-password-2b1a0f"},
        },
        "snowflake": {
            "keypair": {"private_key": locked, "private_key_2": spare, "passphrase": "canary-passphrase-0b7a5e"},
            "pat": {"pat": "canary-pat-6f5e4d"},
            "oauth": {"oauth_token": "canary-oauth-8c7b6a"},
        },
        "sap_ai_core": {"sap": {"service_key": json.dumps(service_key)}},
    }


def commands_for(kind: str, profile: str, secrets: dict[str, str], origin: str, folder: Path) -> Iterator[list[str]]:
    """The profile, and a route of the same name."""
    third_party = ["--third-party"] if kind == "ocf" else []
    words = [word for name, value in settings_of(profile, origin).items() for word in ("--set", f"{name}={value}")]
    for name, value in secrets.items():
        file = folder / f"{profile}-{name}"
        file.write_text(value)
        words += ["--secret", f"{name}=@{file}"]
    yield ["connect", kind, profile, *words, *third_party]
    address = ["--url", f"{origin}/v2/inference/deployments/d1"] if kind == "sap_ai_core" else []
    yield ["route", profile, f"{profile}:claude-sonnet-4-5", *address, *third_party]


# As an operator would, but in one process.
SCRIPT = """
from django.core.management import CommandError, call_command
for words in {commands!r}:
    call_command(*words)
for words in {tests!r}:
    try:
        call_command(*words)
    except CommandError as error:
        print("REFUSED", error)
"""


def settings_of(profile: str, origin: str) -> dict[str, str]:
    match profile:
        case "sap":
            return {}
        case "console":
            return {"url": origin, "console_url": origin, "email": "ada@example.org"}
        case "keypair" | "pat" | "oauth":
            return {"url": origin, "auth": profile, "user": "gateway", "account": "myorg-myacct"}
    return {"url": origin}


def canaries(secrets: dict[str, str]) -> list[str]:
    """What must be seen nowhere: of a private key, any line of it."""
    found = []
    for value in secrets.values():
        if value.startswith("-----BEGIN"):
            found.append(value.splitlines()[4])
        else:
            found += re.findall(r"canary[a-z0-9-]+", value)
    return found


def test_the_credentials_planted_are_all_there_are() -> None:
    planted = {
        (kind, name)
        for kind, profiles in credentials("http://parrot").items()
        for secrets in profiles.values()
        for name in secrets
    }
    declared = {(kind, each.name) for kind, provider in kinds().items() for each in provider.settings if each.secret}
    assert planted == declared


def test_no_kind_of_account_gives_its_credentials_away(start_gateway: StartGateway) -> None:
    gateway = start_gateway(LOG_LEVEL="DEBUG")
    places: dict[str, bytes] = {}
    with Parrot() as parrot:
        accounts = [
            (kind, profile, secrets)
            for kind, profiles in credentials(parrot.origin).items()
            for profile, secrets in profiles.items()
        ]
        commands = [
            words for account in accounts for words in commands_for(*account, parrot.origin, gateway.folder.parent)
        ]
        tests = [["connect", kind, profile, "--test"] for kind, profile, _ in accounts]
        told = gateway.manage("shell", "--no-imports", "-c", SCRIPT.format(commands=commands, tests=tests))
        places["what testing said"] = (told.stdout + told.stderr).encode()
        assert told.stdout.count("REFUSED") == len(tests)
        gateway.noticed()
        for _, profile, _ in accounts:
            for stream in (False, True):
                got = requests.post(
                    f"{gateway.url}/v1/chat/completions",
                    headers={"Authorization": f"Bearer {gateway.key}"},
                    json={"model": profile, "messages": [{"role": "user", "content": "Hello"}], "stream": stream},
                    timeout=30,
                )
                assert got.status_code >= 400, profile
                places[f"answer of {profile}, {stream=}"] = f"{got.headers}{got.text}".encode()
        with signed_in(gateway) as session:
            for row in gateway.select("SELECT id, name FROM profiles_profile"):
                for button in ("test", "models", "sync"):
                    path = f"/admin/profiles/profile/{row['id']}/{button}/"
                    form = {"csrfmiddlewaretoken": session.cookies["csrftoken"]}
                    shown = session.post(gateway.url + path, data=form, headers={"Referer": gateway.url}, timeout=30)
                    assert shown.status_code == 200
                    places[f"{button} of {row['name']}"] = shown.content
        places |= {f"page {path}": page for path, page in every_page(gateway).items()}
        repeated = b"".join(content for place, content in places.items() if place.startswith("answer"))
        assert repeated.count(b"[credential]") > 8, "the parrot did repeat what it was sent"
        assert b"Bearer ey" not in repeated, "a token that was signed here is a credential too"
    for path in gateway.folder.rglob("*"):
        if path.is_file() and "static" not in path.parts:
            places[str(path)] = path.read_bytes()
    for _, profile, secrets in accounts:
        for canary in canaries(secrets):
            for place, content in places.items():
                assert canary.encode() not in content, (profile, canary, place)


def signed_in(gateway: Gateway) -> requests.Session:
    session = requests.Session()
    login = f"{gateway.url}/admin/login/"
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', session.get(login, timeout=10).text)
    assert token
    form = {"username": "admin", "password": gateway.password, "csrfmiddlewaretoken": token[1]}
    assert session.post(login, data=form, headers={"Referer": login}, timeout=10).status_code == 200
    return session


def every_page(gateway: Gateway) -> dict[str, bytes]:
    """All admin pages an operator can reach from the lists, with those of single rows."""
    with signed_in(gateway) as session:
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
