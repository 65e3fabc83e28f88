"""The commands of an operator: one line of what was done, or one sentence why not and a non-zero exit."""

from __future__ import annotations

import pytest

from tests.fakes.openai import KEY, FakeOpenAI
from tests.live.server import A_KEY, Gateway
from tests.live.wire import CHAT, call, chat


def refused(gateway: Gateway, *words: str) -> str:
    done = gateway.manage(*words, check=False)
    assert done.returncode != 0, done
    said = (done.stdout + done.stderr).strip()
    assert "Traceback" not in said
    assert said.endswith(".")
    assert len(said.splitlines()) == 1, said
    return said


@pytest.mark.parametrize(
    "words",
    [
        ["connect", "teapot", "kitchen"],
        ["connect", "openai", "odd", "--set", "url=not a url", "--secret", "api_key=x"],
        ["connect", "openai", "odd", "--set", "url=ftp://127.0.0.1/v1", "--secret", "api_key=x"],
        ["connect", "openai", "odd", "--set", "colour=red", "--set", "url=http://127.0.0.1:9/v1"],
        ["connect", "openai", "odd", "--set", "url=http://127.0.0.1:9/v1", "--secret", "api_key=@/no/such/file"],
        ["connect", "openai", "odd", "--set", "url", "--secret", "api_key=x"],
        ["route", "fast", "nobody:gpt-fake"],
        ["route", "fast", "fake"],
        ["route", "", "fake:gpt-fake"],
        ["apikey", "create", "ada", "k", "--routes", "no-such-route"],
        ["apikey", "create", "ada", "k", "--expires", "soon"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_said_in_one_sentence(gateway: Gateway, words: list[str]) -> None:
    assert "api_key=x" not in refused(gateway, *words)


def test_an_upstream_that_cannot_be_asked_for_its_models_is_named(gateway: Gateway) -> None:
    refused(
        gateway, "connect", "openai", "gone", "--set", "url=http://127.0.0.1:9/v1", "--secret", "api_key=x",
        "--routes", "all",
    )  # fmt: skip


def test_a_secret_may_come_from_standard_input_or_a_file(gateway: Gateway, upstream: FakeOpenAI) -> None:
    kept = gateway.folder / "secret.txt"
    kept.write_text(f"{KEY}\n")
    for name, source in (("piped", "-"), ("filed", f"@{kept}")):
        words = ["connect", "openai", name, "--set", f"url={upstream.url}", "--secret", f"api_key={source}"]
        done = gateway.manage(*words, given=f"{KEY}\n")
        assert KEY not in done.stdout + done.stderr
        assert len(done.stdout.strip().splitlines()) == 1
        gateway.route(f"by-{name}", f"{name}:gpt-fake")
        assert call(gateway, CHAT, chat(f"by-{name}")).status == 200


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "2852039166"])
def test_metadata_and_link_local_addresses_are_never_asked(gateway: Gateway, host: str) -> None:
    words = ["connect", "openai", "metadata", "--set", f"url=http://{host}/v1", "--secret", "api_key=x"]
    if gateway.manage(*words, check=False).returncode != 0:
        return  # refused when it was written is as good
    gateway.route("metadata", "metadata:gpt-fake")
    gateway.noticed()
    answered = call(gateway, CHAT, chat("metadata"))
    assert answered.status in (502, 503)
    assert answered.error
    assert gateway.row(answered.request_id)["duration_ms"] < 1000, "refused, and not tried until a timeout"


def test_an_upstream_with_another_key_takes_effect_without_a_restart(gateway: Gateway) -> None:
    with FakeOpenAI(key="sk-first") as first:
        gateway.connect("renewed", first.url, "sk-wrong")
        gateway.route("renewed", "renewed:gpt-fake")
        assert call(gateway, CHAT, chat("renewed")).status == 502
        gateway.connect("renewed", first.url, "sk-first")
        gateway.noticed()
        assert {call(gateway, CHAT, chat("renewed")).status for _ in range(8)} == {200}


def test_a_key_is_shown_once_and_says_whose_it_is(gateway: Gateway) -> None:
    done = gateway.manage("apikey", "create", "ada", "shown", "--expires", "30d")
    assert len(A_KEY.findall(done.stdout)) == 1
    assert len(done.stdout.strip().splitlines()) == 1


def test_bootstrap_a_second_time_changes_and_shows_nothing(gateway: Gateway) -> None:
    done = gateway.manage("bootstrap")
    assert A_KEY.search(done.stdout) is None
    assert gateway.password not in done.stdout
    assert call(gateway, CHAT, chat("echo", "still here")).json()["choices"][0]["message"]["content"] == "still here"


def test_the_preset_key_and_password_are_the_ones_that_work(gateway: Gateway) -> None:
    assert call(gateway, CHAT, chat("echo")).status == 200
    code = (
        "from django.contrib.auth import get_user_model\n"
        "import os\n"
        "admin = get_user_model().objects.get(username='admin')\n"
        "assert admin.is_superuser and admin.check_password(os.environ['BOOTSTRAP_ADMIN_PASSWORD'])"
    )
    gateway.manage("shell", "--no-imports", "-c", code)
