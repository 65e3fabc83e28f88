"""Responses, Messages and Ollama's API over a real inference server, straight through and translated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import ollama
import pytest
from openai import OpenAI

from tests.engine.conftest import CLAUDE, MODEL
from tests.live.server import Gateway
from tests.live.wire import call

RAIN: Any = {
    "type": "object",
    "properties": {"city": {"type": "boolean"}},
    "required": ["city"],
    "additionalProperties": False,
}
HELLO: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def claude(engine: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=engine.url, api_key=engine.key, max_retries=0) as client:
        yield client


def test_responses(client: OpenAI, engine: Gateway) -> None:
    raw = client.responses.with_raw_response.create(model=MODEL, input="Hello", max_output_tokens=6)
    answer = raw.parse()
    assert answer.model == MODEL
    assert answer.output
    row = engine.row(raw.headers["x-request-id"])
    assert (row["ending"], row["lane"], row["tokens_from"]) == ("completed", "straight", "upstream")


def test_responses_streamed(client: OpenAI) -> None:
    # Its own events, which the SDK's stream helper wants more of than this engine tells.
    events = list(client.responses.create(model=MODEL, input="Hello", max_output_tokens=6, stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert events[-1].response.model == MODEL


def test_what_codex_declares_is_no_obstacle(engine: Gateway) -> None:
    """Some engines pass over tools that are no functions; those that refuse them are asked in another language."""
    rain = {"type": "function", "name": "rain", "parameters": RAIN}
    asked = {
        "model": MODEL,
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}],
        "tools": [rain, {"type": "namespace", "name": "agents", "tools": [rain]}, {"type": "web_search"}],
        "tool_choice": "required",
        "max_output_tokens": 500,
    }
    answered = call(engine, "/v1/responses", asked)
    assert answered.status == 200, answered
    called = next(item for item in answered.json()["output"] if item["type"] == "function_call")
    assert called["name"] == "rain"
    assert json.loads(called["arguments"]).keys() == {"city"}


@pytest.mark.parametrize("model", [MODEL, CLAUDE], ids=["translated", "straight"])
def test_messages(claude: anthropic.Anthropic, engine: Gateway, model: str) -> None:
    raw = claude.messages.with_raw_response.create(model=model, max_tokens=6, messages=HELLO)
    answer = raw.parse()
    assert answer.model == model
    assert answer.stop_reason in ("max_tokens", "end_turn")
    row = engine.row(raw.headers["x-request-id"])
    assert (row["ending"], row["lane"]) == ("completed", "straight" if model == CLAUDE else "translated")
    read = answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)
    assert (row["input_tokens"], row["output_tokens"]) == (read, answer.usage.output_tokens)


@pytest.mark.parametrize("model", [MODEL, CLAUDE], ids=["translated", "straight"])
def test_messages_streamed(claude: anthropic.Anthropic, model: str) -> None:
    with claude.messages.stream(model=model, max_tokens=6, messages=HELLO) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.model == model
    assert "".join(block.text for block in final.content if block.type == "text") == said


@pytest.mark.parametrize("model", [MODEL, CLAUDE], ids=["translated", "straight"])
def test_tools_of_messages(claude: anthropic.Anthropic, model: str) -> None:
    answer = claude.messages.create(
        model=model,
        max_tokens=500,
        messages=HELLO,
        tools=[{"name": "rain", "input_schema": RAIN}],
        tool_choice={"type": "any"},
    )
    used = [block for block in answer.content if block.type == "tool_use"]
    assert {(block.name, *block.input) for block in used} == {("rain", "city")}


@pytest.mark.parametrize("model", [MODEL, CLAUDE], ids=["translated", "straight"])
def test_tokens_are_counted(claude: anthropic.Anthropic, model: str) -> None:
    assert claude.messages.count_tokens(model=model, messages=HELLO).input_tokens > 0


def test_ollamas_client(engine: Gateway) -> None:
    client = ollama.Client(host=engine.url, headers={"Authorization": f"Bearer {engine.key}"}, timeout=30)
    options = {"num_predict": 6}
    told = list(client.chat(MODEL, [{"role": "user", "content": "Hello"}], stream=True, options=options))
    assert told[-1].done
    assert told[-1].eval_count
    assert client.generate(MODEL, "Once", options=options).done
    assert len(client.embed("embed", ["a", "b"]).embeddings) == 2
