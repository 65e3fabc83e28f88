"""Models of an Ollama server managed through the gateway: ollama-python with a management key, and who may not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import ollama
import pytest
import requests

from tests.conftest import StartGateway
from tests.fakes.ollama_store import FakeOllamaStore
from tests.live.server import Gateway
from tests.live.wire import Caller, call

HOSTED_KEY = "ollama-hosted-key-8d3f2a"
GGUF = b"GGUF" + bytes(range(256)) * 4096  # more than what is held in memory
BLOB = f"sha256:{hashlib.sha256(GGUF).hexdigest()}"


@pytest.fixture(scope="module")
def store() -> Iterator[FakeOllamaStore]:
    with FakeOllamaStore() as store:
        yield store


@pytest.fixture(scope="module")
def hosted() -> Iterator[FakeOllamaStore]:
    with FakeOllamaStore(HOSTED_KEY) as hosted:
        yield hosted


@pytest.fixture(scope="module")
def house(start_gateway: StartGateway, store: FakeOllamaStore) -> Gateway:
    gateway = start_gateway()
    gateway.manage("connect", "ollama", "box", "--set", f"url={store.url}", "--set", "management=allowed")
    return gateway


@pytest.fixture(scope="module")
def steward(house: Gateway) -> str:
    """A management key."""
    printed = house.manage("apikey", "create", "admin", "steward", "--management").stdout
    return next(word for word in printed.split() if word.startswith("sk-sb-"))


@pytest.fixture
def gateway(house: Gateway, store: FakeOllamaStore) -> Iterator[Gateway]:
    store.forget()
    yield house
    assert store.complaints == []


@pytest.fixture
def client(gateway: Gateway, steward: str) -> Iterator[ollama.Client]:
    with client_of(gateway, steward) as client:
        yield client


def client_of(gateway: Gateway, key: str, **headers: str) -> ollama.Client:
    return ollama.Client(host=gateway.url, headers={"Authorization": f"Bearer {key}", **headers}, timeout=20)


def test_a_model_is_pulled_and_its_progress_told(client: ollama.Client, store: FakeOllamaStore) -> None:
    told = [each.status for each in client.pull("mistral", stream=True)]
    assert told == ["pulling manifest", "pulling 0000", "pulling 0000", "success"]
    assert "mistral" in store.capabilities


def test_a_pull_without_progress_is_one_answer(client: ollama.Client, store: FakeOllamaStore) -> None:
    assert client.pull("mistral").status == "success"
    assert store.asked("mistral")[-1].body["stream"] is False


def test_models_are_pushed_copied_and_deleted(client: ollama.Client, store: FakeOllamaStore) -> None:
    assert [each.status for each in client.push("qwen3", stream=True)][-1] == "success"
    assert client.copy("qwen3", "mine").status == "success"
    assert client.delete("qwen3").status == "success"
    assert "mine" in store.capabilities
    assert "qwen3" not in store.capabilities


def test_a_model_is_created_from_a_file(client: ollama.Client, store: FakeOllamaStore, tmp_path: Path) -> None:
    file = tmp_path / "own.gguf"
    file.write_bytes(GGUF)
    assert client.create_blob(file) == BLOB
    assert store.blobs == {BLOB: GGUF}
    assert client.create("own", files={"own.gguf": BLOB}, stream=False).status == "success"
    assert "own" in store.capabilities


def test_whether_a_blob_is_there_is_said_by_the_status(gateway: Gateway, steward: str, store: FakeOllamaStore) -> None:
    ask = {"url": f"{gateway.url}/api/blobs/{BLOB}", "headers": {"Authorization": f"Bearer {steward}"}, "timeout": 10}
    assert requests.head(**ask).status_code == 404
    store.blobs[BLOB] = GGUF
    assert requests.head(**ask).status_code == 200


@pytest.mark.parametrize("ask", ["delete", "copy"])
def test_a_model_that_is_not_there_is_ollamas_404(client: ollama.Client, ask: str) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'absent' not found") as refusal:
        client.delete("absent") if ask == "delete" else client.copy("absent", "mine")
    assert refusal.value.status_code == 404


def test_a_pull_that_fails_in_the_middle_says_so(client: ollama.Client) -> None:
    told = []
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        for each in client.pull("nowhere", stream=True):
            told.append(each.status)
    assert told == ["pulling manifest"]


def test_a_pull_without_progress_that_fails_says_why(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="file does not exist") as refusal:
        client.pull("nowhere")
    assert refusal.value.status_code == 500


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_while_nothing_is_said_ends_the_pull(
    gateway: Gateway, steward: str, store: FakeOllamaStore, stream: bool
) -> None:
    with Caller(gateway) as caller:
        caller.ask("/api/pull", {"model": "silent", "stream": stream}, authorization=f"Bearer {steward}")
        heard = store.heard("silent")
        if stream:
            assert caller.head()[0] == 200
    assert heard.left.wait(5)


def test_calls_that_wait_keep_no_connection_to_the_database(
    start_gateway: StartGateway, store: FakeOllamaStore, postgres: str
) -> None:
    store.forget()
    gateway = start_gateway(DATABASE_URL=postgres, DATABASE_POOL="2", WEB_CONCURRENCY="1")
    gateway.manage("connect", "ollama", "box", "--set", f"url={store.url}", "--set", "management=allowed")
    printed = gateway.manage("apikey", "create", "admin", "steward", "--management").stdout
    bearer = f"Bearer {next(word for word in printed.split() if word.startswith('sk-sb-'))}"
    with ExitStack() as waiting:
        for number in range(1, 6):
            caller = waiting.enter_context(Caller(gateway))
            caller.ask("/api/pull", {"model": "silent", "stream": False}, authorization=bearer)
            store.heard("silent", number)
        assert call(gateway, "/api/tags", None, "GET", authorization="Bearer sk-sb-nobody").status == 401


def test_who_leaves_ends_the_pull(gateway: Gateway, steward: str, store: FakeOllamaStore) -> None:
    with Caller(gateway) as caller:
        caller.ask("/api/pull", {"model": "endless"}, authorization=f"Bearer {steward}")
        assert caller.head()[0] == 200
        next(caller.chunks())
    assert store.heard("endless").left.wait(5)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "pull"), ("POST", "push"), ("POST", "create"), ("POST", "copy"), ("DELETE", "delete"),
     ("POST", f"blobs/{BLOB}")],
)  # fmt: skip
def test_a_key_for_models_may_not(gateway: Gateway, store: FakeOllamaStore, method: str, path: str) -> None:
    refused = call(gateway, f"/api/{path}", b'{"model": "qwen3"}', method)
    assert refused.status == 403
    assert refused.json() == {"error": "This takes a management key. Ask your administrator."}
    assert store.requests == []


@pytest.mark.parametrize("path", ["blobs/..", "blobs/sha256:1", f"blobs/{BLOB}/more", "pull/more"])
def test_other_addresses_lead_nowhere(gateway: Gateway, steward: str, store: FakeOllamaStore, path: str) -> None:
    assert call(gateway, f"/api/{path}", b"{}", authorization=f"Bearer {steward}").status == 404
    assert store.requests == []


def test_the_log_says_which_key_did_what(client: ollama.Client, gateway: Gateway, steward: str) -> None:
    client.copy("qwen3", "mine")
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if '"switchboard.management"' in line]
    assert lines[-1]["profile"] == "box"
    assert lines[-1]["asked"] == "POST /api/copy"
    assert steward.startswith(lines[-1]["key"])
    assert steward not in gateway.log.read_text()


def test_among_several_accounts_one_is_named(
    start_gateway: StartGateway, store: FakeOllamaStore, hosted: FakeOllamaStore
) -> None:
    gateway = start_gateway()
    printed = gateway.manage("apikey", "create", "admin", "steward", "--management").stdout
    key = next(word for word in printed.split() if word.startswith("sk-sb-"))
    with client_of(gateway, key) as client, pytest.raises(ollama.ResponseError, match="field Management") as refusal:
        client.pull("mistral")
    assert refusal.value.status_code == 403

    gateway.manage("connect", "ollama", "closed", "--set", f"url={store.url}")
    with client_of(gateway, key) as client, pytest.raises(ollama.ResponseError, match="field Management"):
        client.pull("mistral")

    gateway.manage("connect", "ollama", "box", "--set", f"url={store.url}", "--set", "management=allowed")
    gateway.manage(
        "connect", "ollama", "hosted", "--set", f"url={hosted.url}", "--set", "management=allowed",
        "--secret", "api_key=-", given=HOSTED_KEY,
    )  # fmt: skip
    for headers in ({}, {"X-Gateway-Profile": "closed"}):
        with client_of(gateway, key, **headers) as client, pytest.raises(ollama.ResponseError) as refusal:
            client.pull("mistral")
        assert refusal.value.status_code == 400
        assert refusal.value.error == "Say in the header X-Gateway-Profile whose models are meant: box, hosted."
    with client_of(gateway, key, **{"X-Gateway-Profile": "hosted"}) as client:
        assert client.pull("mistral").status == "success"
        assert "mistral" in hosted.capabilities
        # An upstream that repeats our credential: it stays here.
        with pytest.raises(ollama.ResponseError, match=r"does not exist \[credential\]"):
            list(client.pull("nowhere", stream=True))
    assert hosted.complaints == []


def test_a_file_beyond_the_limit_is_refused(start_gateway: StartGateway, store: FakeOllamaStore) -> None:
    gateway = start_gateway(MAX_BODY_MB="1")
    gateway.manage("connect", "ollama", "box", "--set", f"url={store.url}", "--set", "management=allowed")
    printed = gateway.manage("apikey", "create", "admin", "steward", "--management").stdout
    key = next(word for word in printed.split() if word.startswith("sk-sb-"))
    refused = call(gateway, f"/api/blobs/{BLOB}", GGUF + GGUF, authorization=f"Bearer {key}")
    assert refused.status == 413
    assert refused.json() == {"error": "The request body is larger than 1 MiB."}
