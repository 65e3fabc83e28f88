"""What Ollama's clients see: ollama-python and ollama-js at the live gateway, over Ollama, OpenAI and echo."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import ollama
import pytest
import requests

from tests.conftest import StartGateway
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai import KEY, PROMPT_TOKENS, FakeOpenAI, answer
from tests.fakes.scenes import PICTURE, TWO_CALLS, Scene
from tests.fakes.server import Gate
from tests.live.conftest import Drive
from tests.live.server import Gateway
from tests.live.wire import Caller, call

GREETING = [{"role": "user", "content": "Grüezi, Zürich"}]
SAID = "You said: Grüezi, Zürich"
SCENE = Scene(thinking="Let me think.")
RAIN: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "rain",
        "description": "How much rain falls.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PLACES = ["everything", "reasons"]  # over Ollama, straight through; over OpenAI, translated


@pytest.fixture(scope="module")
def box() -> Iterator[FakeOllama]:
    with FakeOllama() as box:
        yield box


@pytest.fixture(scope="module")
def house(start_gateway: StartGateway, fake_upstream: FakeOpenAI, box: FakeOllama) -> Gateway:
    """A gateway with a box that runs Ollama, an OpenAI-compatible account, and echo."""
    gateway = start_gateway()
    gateway.manage("connect", "ollama", "box", "--set", f"url={box.url}", "--routes", "all")
    gateway.connect("fake", fake_upstream.url, KEY, routes="gpt-fake,tools,reasons,scripted,embed-fake,cut-late")
    gateway.manage("route", "brief", "fake:gpt-fake", "--max-output-tokens", "16", "--context-window", "4096")
    gateway.noticed()
    return gateway


@pytest.fixture
def gateway(house: Gateway, box: FakeOllama, upstream: FakeOpenAI) -> Iterator[Gateway]:
    box.forget()
    yield house
    assert box.complaints == []


def client_of(gateway: Gateway, key: str = "", path: str = "") -> ollama.Client:
    headers = {"Authorization": f"Bearer {key or gateway.key}"}
    return ollama.Client(host=f"{gateway.url}{path}", headers=headers, timeout=20)


@pytest.fixture
def client(gateway: Gateway) -> Iterator[ollama.Client]:
    with client_of(gateway) as client:
        yield client


def post(gateway: Gateway, path: str, **body: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {gateway.key}", "Connection": "close"}
    return requests.post(f"{gateway.url}/api/{path}", headers=headers, json=body, timeout=30)


def error_of(answered: requests.Response) -> str:
    """The error in Ollama's shape, after making sure that it is one."""
    document = answered.json()
    assert answered.headers["content-type"] == "application/json"
    assert answered.headers["x-request-id"]
    assert list(document) == ["error"]
    assert isinstance(document["error"], str)
    return document["error"]


# -- chat


def test_a_chat_is_answered_by_an_ollama_server(client: ollama.Client, box: FakeOllama) -> None:
    box.scene("everything", SCENE)
    answered = client.chat("everything", GREETING, think=True, options={"top_k": 5, "num_predict": 50})
    assert (answered.message.content, answered.message.thinking) == (SCENE.text, SCENE.thinking)
    assert (answered.model, answered.done, answered.done_reason) == ("everything:latest", True, "stop")
    assert (answered.prompt_eval_count, answered.eval_count) == (SCENE.input_tokens, SCENE.output_tokens)
    assert box.asked()[-1].body["options"] == {"top_k": 5, "num_predict": 50}


def test_a_stream_of_an_ollama_server_passes_byte_for_byte(gateway: Gateway, box: FakeOllama) -> None:
    box.scene("llama3.2", Scene(text="One two three", bytes_at_once=1))
    answered = post(gateway, "chat", model="llama3.2", messages=GREETING)
    assert answered.headers["content-type"] == "application/x-ndjson"
    assert "transfer-encoding" in answered.headers
    records = [json.loads(line) for line in answered.content.splitlines()]
    assert [line["message"]["content"] for line in records] == ["One", " two", " three", ""]
    assert {line["model"] for line in records} == {"llama3.2:latest"}
    assert len(records[0]["created_at"].partition(".")[2]) == len("123456789Z")  # theirs: ours has fewer digits
    row = gateway.row(answered.headers["x-request-id"])
    assert (row["ending"], row["lane"], row["tokens_from"]) == ("completed", "straight", "upstream")
    assert (row["language_in"], row["language_out"]) == ("ollama_chat", "ollama_chat")
    assert (row["input_tokens"], row["output_tokens"]) == (Scene().input_tokens, Scene().output_tokens)
    assert row["first_token_ms"] is not None


@pytest.mark.parametrize("model", PLACES)
def test_a_chat_is_streamed(client: ollama.Client, box: FakeOllama, model: str) -> None:
    box.scene("everything", SCENE)
    parts = list(client.chat(model, GREETING, stream=True))
    text = "".join(part.message.content or "" for part in parts)
    thinking = "".join(part.message.thinking or "" for part in parts)
    assert (text, thinking) == (SCENE.text if model == "everything" else SAID, "Let me think.")
    assert len(parts) > 4
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    last = parts[-1]
    assert last.done_reason == "stop"
    assert last.prompt_eval_count == (SCENE.input_tokens if model == "everything" else PROMPT_TOKENS)
    assert last.eval_count
    assert last.total_duration


def test_a_chat_is_translated_for_an_openai_server(
    client: ollama.Client, gateway: Gateway, upstream: FakeOpenAI
) -> None:
    options = {"temperature": 0.5, "num_predict": 50, "seed": 1, "stop": ["END"], "num_ctx": 8192}
    answered = client.chat("gpt-fake", [{"role": "system", "content": "Be kind."}, *GREETING], options=options)
    assert (answered.message.content, answered.model, answered.done_reason) == (SAID, "gpt-fake", "stop")
    assert answered.prompt_eval_count == PROMPT_TOKENS
    assert answered.total_duration
    assert answered.created_at.endswith("Z")
    body = upstream.asked("gpt-fake")[-1].body
    assert body["messages"][0] == {"role": "system", "content": "Be kind."}
    assert (body["temperature"], body["max_tokens"], body["seed"], body["stop"]) == (0.5, 50, 1, ["END"])
    dropped = post(gateway, "chat", model="gpt-fake", messages=GREETING, options=options, stream=False)
    assert dropped.headers["x-gateway-dropped"] == "options.num_ctx"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["everything", "tools"])
def test_tools_are_called_and_answer(client: ollama.Client, box: FakeOllama, model: str, stream: bool) -> None:
    box.scene("everything", Scene(text="", calls=TWO_CALLS), Scene(text="It rains."))
    messages: list[Any] = list(GREETING)
    if stream:
        parts = client.chat(model, messages, tools=[RAIN], stream=True)
        made = [each for part in parts for each in part.message.tool_calls or []]
    else:
        made = list(client.chat(model, messages, tools=[RAIN]).message.tool_calls or [])
    assert [each.function.name for each in made] == ["rain", "rain"]
    assert all(each.function.arguments["city"] for each in made)
    # As ollama-python's own examples go on: without ids.
    messages.append({"role": "assistant", "content": "", "tool_calls": [each.model_dump() for each in made]})
    messages += [{"role": "tool", "tool_name": "rain", "content": f"{amount} mm"} for amount in (3, 5)]
    answered = client.chat(model, messages, tools=[RAIN]).message.content
    assert answered == ("It rains." if model == "everything" else "The tools say: 3 mm; 5 mm")


@pytest.mark.parametrize("model", ["everything", "gpt-fake"])
def test_an_image_is_seen(client: ollama.Client, box: FakeOllama, upstream: FakeOpenAI, model: str) -> None:
    picture = base64.b64decode(PICTURE)
    client.chat(model, [{"role": "user", "content": "What is it?", "images": [picture]}])
    if model == "everything":
        assert box.asked()[-1].body["messages"][0]["images"] == [PICTURE]
    else:
        content = upstream.asked("gpt-fake")[-1].body["messages"][0]["content"]
        assert content[1]["image_url"]["url"] == f"data:image/png;base64,{PICTURE}"


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.mark.parametrize("form", ["json", SCHEMA])
def test_a_form_is_asked_for(client: ollama.Client, box: FakeOllama, upstream: FakeOpenAI, form: Any) -> None:
    client.chat("everything", GREETING, format=form)
    assert box.asked()[-1].body["format"] == form
    assert client.chat("gpt-fake", GREETING, format=form).done
    kind = upstream.asked("gpt-fake")[-1].body["response_format"]["type"]
    assert kind == ("json_object" if form == "json" else "json_schema")


@pytest.mark.parametrize(("think", "effort"), [(True, "medium"), ("high", "high"), (False, None)])
def test_thinking_is_asked_for(
    client: ollama.Client, box: FakeOllama, upstream: FakeOpenAI, think: Any, effort: str | None
) -> None:
    client.chat("everything", GREETING, think=think)
    assert box.asked()[-1].body["think"] == think
    assert client.chat("reasons", GREETING, think=think).message.thinking == "Let me think."
    assert upstream.asked("reasons")[-1].body.get("reasoning_effort") == effort


# -- generate


def test_a_prompt_is_completed_by_an_ollama_server(client: ollama.Client, gateway: Gateway, box: FakeOllama) -> None:
    box.scene("codellama", Scene(text="a + b"))
    answered = client.generate("codellama", "def add(a, b):", suffix="\n", system="Be brief.", raw=False)
    assert (answered.response, answered.done_reason) == ("a + b", "stop")
    assert answered.context
    parts = list(client.generate("codellama", "def add(a, b):", stream=True))
    assert "".join(part.response for part in parts) == "a + b"
    assert parts[-1].context
    assert box.asked()[0].body["suffix"] == "\n"


def test_a_prompt_becomes_a_conversation_elsewhere(client: ollama.Client, upstream: FakeOpenAI) -> None:
    answered = client.generate("gpt-fake", "Grüezi, Zürich", system="Be kind.")
    assert answered.response == SAID
    assert "".join(part.response for part in client.generate("gpt-fake", "Grüezi, Zürich", stream=True)) == SAID
    heard = upstream.asked("gpt-fake")
    assert {each.path for each in heard} == {"/v1/chat/completions"}
    assert heard[0].body["messages"] == [{"role": "system", "content": "Be kind."}, *GREETING]


@pytest.mark.parametrize("field", [{"raw": True}, {"template": "{{ .Prompt }}"}, {"context": [1, 2]}])
def test_what_only_ollama_can_do_is_refused_by_name_elsewhere(gateway: Gateway, field: dict[str, Any]) -> None:
    answered = post(gateway, "generate", model="gpt-fake", prompt="Hi", **field)
    assert answered.status_code == 400
    assert f"'{next(iter(field))}'" in error_of(answered)


@pytest.mark.parametrize(("alive", "reason"), [({}, "load"), ({"keep_alive": 0}, "unload")])
@pytest.mark.parametrize("model", ["everything", "gpt-fake", "echo"])
def test_a_model_is_loaded_and_unloaded(
    client: ollama.Client, gateway: Gateway, box: FakeOllama, upstream: FakeOpenAI, model: str, alive: Any, reason: str
) -> None:
    answered = client.generate(model, **alive)
    assert (answered.done, answered.done_reason, answered.response) == (True, reason, "")
    chatted = post(gateway, "chat", model=model, messages=[], **alive)
    assert chatted.headers["content-type"] == "application/json"
    assert chatted.json()["done_reason"] == reason
    assert len(box.asked()) == (2 if model == "everything" else 0)
    assert upstream.asked() == []
    assert len(box.complaints) == len(box.asked())  # of being asked for nothing, which is what was meant
    box.complaints.clear()
    row = gateway.row(chatted.headers["x-request-id"])
    assert (row["ending"], row["input_tokens"], row["output_tokens"]) == ("completed", 0, 0)


# -- embeddings


@pytest.mark.parametrize("model", ["nomic-embed-text", "embed-fake", "echo"])
def test_texts_become_vectors(client: ollama.Client, model: str) -> None:
    answered = client.embed(model, ["one", "two"])
    assert len(answered.embeddings) == 2
    assert answered.model in (model, f"{model}:latest")
    assert client.embed(model, "one").embeddings[0] == pytest.approx(answered.embeddings[0])
    assert client.embeddings(model, "one").embedding == pytest.approx(answered.embeddings[0])
    assert list(client.embed(model, []).embeddings) == []


# -- models


def test_models_are_listed(client: ollama.Client) -> None:
    models = {model.model: model for model in client.list().models}
    assert {"everything:latest", "gpt-fake", "echo", "brief"} <= models.keys()
    brief = models["brief"]
    assert brief.details is not None
    assert brief.modified_at is not None
    assert len(brief.digest or "") == 64
    assert client.list().models[0].digest == client.list().models[0].digest
    assert len({model.digest for model in models.values()}) == len(models)


def test_a_model_is_shown(client: ollama.Client, box: FakeOllama) -> None:
    shown = client.show("everything")
    assert set(shown.capabilities or []) == {"completion", "tools", "vision", "thinking"}
    assert client.show("nomic-embed-text").capabilities == ["embedding"]
    assert set(client.show("llama3.2:latest").capabilities or []) == {"completion", "tools"}
    assert set(client.show("llava").capabilities or []) == {"completion", "vision"}
    info = client.show("brief").modelinfo or {}
    assert info[f"{info['general.architecture']}.context_length"] == 4096


def test_models_that_something_serves_are_running(client: ollama.Client, gateway: Gateway) -> None:
    running = {model.model: model for model in client.ps().models}
    assert {"everything:latest", "gpt-fake", "echo"} <= running.keys()
    assert running["echo"].expires_at is not None
    assert running["brief"].context_length == 4096


def test_the_version_is_one_that_clients_accept(gateway: Gateway) -> None:
    version = call(gateway, "/api/version", None, "GET").json()["version"]
    assert tuple(map(int, version.split("."))) >= (0, 6, 4)  # VS Code asks for that


def test_a_key_sees_and_asks_only_its_own_models(gateway: Gateway) -> None:
    with client_of(gateway, gateway.apikey("ada", "one model", routes="gpt-fake")) as client:
        gateway.noticed()
        assert [model.model for model in client.list().models] == ["gpt-fake"]
        assert [model.model for model in client.ps().models] == ["gpt-fake"]
        for ask in (lambda: client.show("echo"), lambda: client.chat("echo", GREETING)):
            with pytest.raises(ollama.ResponseError, match=r"^model 'echo' not found") as refusal:
                ask()
            assert refusal.value.status_code == 404


# -- errors


def test_an_unknown_model_is_not_found_in_ollamas_words(client: ollama.Client) -> None:
    asks = [lambda: client.chat("nobody", GREETING), lambda: client.generate("nobody", "Hi"),
            lambda: client.embed("nobody", "Hi"), lambda: client.embeddings("nobody", "Hi"),
            lambda: client.show("nobody"), lambda: list(client.chat("nobody", GREETING, stream=True))]  # fmt: skip
    for ask in asks:
        with pytest.raises(ollama.ResponseError, match=r"^model 'nobody' not found") as refusal:
            ask()
        assert refusal.value.status_code == 404


def test_a_bad_key_opens_nothing(gateway: Gateway) -> None:
    with client_of(gateway, "sk-sb-nobody") as client:
        for ask in (client.list, client.ps, lambda: client.chat("echo", GREETING), lambda: client.show("echo"),
                    lambda: client.pull("llama3.2")):  # fmt: skip
            with pytest.raises(ollama.ResponseError, match="not known here") as refusal:
                ask()
            assert refusal.value.status_code == 401


@pytest.mark.parametrize("path", ["chat", "generate", "embed", "embeddings", "tags", "show", "ps", "version", "pull"])
def test_every_path_wants_a_key(gateway: Gateway, path: str) -> None:
    method = "GET" if path in ("tags", "ps", "version") else "POST"
    answered = requests.request(method, f"{gateway.url}/api/{path}", json={}, timeout=10)
    assert answered.status_code == 401
    assert error_of(answered).startswith("You did not provide an API key.")


def test_models_are_not_managed_here(client: ollama.Client, gateway: Gateway) -> None:
    for ask in (lambda: client.pull("llama3.2"), lambda: client.push("llama3.2"), lambda: client.delete("llama3.2"),
                lambda: client.copy("llama3.2", "mine"), lambda: client.create("mine", from_="llama3.2")):  # fmt: skip
        with pytest.raises(ollama.ResponseError, match="Ask your administrator") as refusal:
            ask()
        assert refusal.value.status_code == 403
    blob = f"/api/blobs/sha256:{'0' * 64}"
    assert call(gateway, blob, b"GGUF", content_type="application/octet-stream").status == 403


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "nothing", 404), ("POST", "chat/nothing", 404), ("POST", "experimental/web_search", 404), ("GET", "", 404),
     ("GET", "chat", 405), ("DELETE", "tags", 405)],
)  # fmt: skip
def test_errors_below_the_base_path_are_ollamas(gateway: Gateway, method: str, path: str, status: int) -> None:
    headers = {"Authorization": f"Bearer {gateway.key}"}
    answered = requests.request(method, f"{gateway.url}/api/{path}", headers=headers, timeout=10)
    assert answered.status_code == status
    assert error_of(answered)


def test_a_wrong_field_is_named(gateway: Gateway) -> None:
    answered = post(gateway, "chat", model="gpt-fake", messages=[{"role": "user", "images": ["none"]}])
    assert answered.status_code == 400
    assert error_of(answered).startswith("messages[0].images[0]: ")


def test_the_other_name_of_v1_stays_openais(gateway: Gateway) -> None:
    assert call(gateway, "/api/v1/models", None, "GET").json()["object"] == "list"
    assert call(gateway, "/api/v1/nothing", None, "GET").error["code"] == "not_found"


@pytest.mark.parametrize("model", ["everything", "cut-late"])
def test_a_stream_that_breaks_ends_with_an_error(client: ollama.Client, box: FakeOllama, model: str) -> None:
    box.scene("everything", Scene(fails="later"))
    got: list[str] = []
    with pytest.raises(ollama.ResponseError):
        for part in client.chat(model, GREETING, stream=True):
            got.append(part.message.content or "")
    assert "".join(got)


def test_an_error_before_the_first_word_is_a_status(client: ollama.Client, box: FakeOllama) -> None:
    box.scene("everything", Scene(fails="first"))
    with pytest.raises(ollama.ResponseError) as error:
        list(client.chat("everything", GREETING, stream=True))
    assert error.value.status_code == 502


def test_a_route_that_is_short_keeps_everybody_short(gateway: Gateway, upstream: FakeOpenAI) -> None:
    for wish in (5000, -1):
        answered = post(gateway, "chat", model="brief", messages=GREETING, options={"num_predict": wish}, stream=False)
        assert answered.headers["x-gateway-clamped"] == "options.num_predict=16"
        assert upstream.asked("gpt-fake")[-1].body["max_tokens"] == 16


# -- habits of clients


def test_curl_says_nothing_of_json(gateway: Gateway) -> None:
    """`curl -d '{…}'`, as every example of Ollama has it."""
    body = json.dumps({"model": "echo", "prompt": "Grüezi", "stream": False}).encode()
    for kind in ("application/x-www-form-urlencoded", None):
        answered = call(gateway, "/api/generate", body, content_type=kind)
        assert (answered.status, answered.json()["response"]) == (200, "Grüezi")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_front_door_says_that_ollama_is_running(gateway: Gateway, method: str) -> None:
    with Caller(gateway) as caller:
        caller.ask("/", None, method, authorization=None, accept="*/*")
        status, headers = caller.head()
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert int(headers["content-length"]) == len("Ollama is running")


def test_tags_and_version_may_be_knocked_at(gateway: Gateway) -> None:
    for path in ("/api/tags", "/api/version"):
        with Caller(gateway) as caller:
            caller.ask(path, None, "HEAD")
            assert caller.head()[0] == 200


def test_a_caller_who_has_said_all_gets_lines_of_json_to_the_end(gateway: Gateway, upstream: FakeOpenAI) -> None:
    """Whether somebody who half-closed still reads is only told by a write, which must not look like a record."""
    gate = Gate(frames=3)
    upstream.script("scripted", answer("one two three four", gate=gate))
    with Caller(gateway) as caller:
        caller.ask("/api/chat", {"model": "scripted", "messages": GREETING})
        assert caller.head()[0] == 200
        caller.socket.shutdown(socket.SHUT_WR)
        time.sleep(0.5)
        gate.open()
        body = b"".join(caller.chunks())
    records = [json.loads(line) for line in body.split(b"\n")[:-1]]
    assert b"\n " in body
    assert "".join(each["message"]["content"] for each in records) == "one two three four"
    assert records[-1]["done"] is True


def test_the_base_path_may_be_another(start_gateway: StartGateway) -> None:
    gateway = start_gateway(BASE_PATH="/box/api/", WEB_CONCURRENCY="1")
    with client_of(gateway, path="/box") as client:
        assert client.chat("echo", GREETING).message.content == GREETING[0]["content"]
    assert call(gateway, "/box/api/nothing", None, "GET").json().keys() == {"error"}
    assert call(gateway, "/api/chat", {}).error["code"] == "not_found"
    assert call(gateway, "/api/v1/models", None, "GET").status == 200
    assert call(gateway, "/", None, "GET", accept="application/json").json()["endpoints"]["ollama"] == "/box/api"


# -- ollama-js


def test_ollama_js_is_at_home(gateway: Gateway, box: FakeOllama, drive: Drive) -> None:
    box.scene("everything", Scene(text="", calls=TWO_CALLS), SCENE)
    told = drive("ollama", gateway, PICTURE)
    assert told["calls"] == [json.loads(said) for _, _, said in TWO_CALLS]
    assert told["streamed"] == {"text": SCENE.text, "thinking": SCENE.thinking, "tokens": SCENE.output_tokens}
    assert told["translated"] == SAID
    assert told["generated"] == "Grüezi"
    assert (told["vectors"], told["vector"]) == (2, told["first"])
    assert {"everything:latest", "gpt-fake"} <= set(told["models"])
    assert told["capabilities"] == ["completion", "vision", "tools", "thinking"]
    assert "echo" in told["running"]
    assert told["refused"] == {"status": 404, "starts": "model 'nobody' not found"}
