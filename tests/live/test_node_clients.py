"""What openai-node, Anthropic's SDK for Node and the Vercel AI SDK see: the live gateway over OpenAI and Anthropic."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.fakes.anthropic import KEY, FakeAnthropic
from tests.fakes.openai import FakeOpenAI
from tests.fakes.scenes import TWO_CALLS, Scene
from tests.live.conftest import Drive
from tests.live.server import Gateway

SAID, SAID_TOKENS = "You said: Grüezi, Zürich", 4
CITIES = ["Zürich", "Oslo"]


@pytest.fixture(scope="module")
def server(live: Gateway) -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as server:
        live.manage(
            "connect", "anthropic", "claude-js", "--set", f"url={server.url}", "--secret", f"api_key={KEY}",
            "--routes", "claude-haiku-4-5=Claude in Node",
        )  # fmt: skip
        live.noticed()
        yield server


@pytest.mark.parametrize("responses", [True, False], ids=["over Responses", "over Chat"])
def test_openai_node_is_at_home(gateway: Gateway, upstream: FakeOpenAI, drive: Drive, responses: bool) -> None:
    name, caller = "gpt-fake", "tools"
    if not responses:
        upstream.absent.add("/v1/responses")
        name, caller = "chats-for-node", "tools-for-node"
        gateway.route(name, "fake:gpt-fake")
        gateway.route(caller, "fake:tools")
        gateway.noticed()
    told = drive("openai", gateway, name, caller)
    assert (told["chat"], told["streamed"], told["tokens"]) == (SAID, SAID, SAID_TOKENS)
    assert (told["response"], told["final"], told["counted"]) == (SAID, SAID, SAID_TOKENS)
    assert (told["first"], told["last"]) == ("response.created", "response.completed")
    assert told["parsed"] == {"name": "Ada", "age": 1.5}
    assert told["calls"] == [{"city": city} for city in CITIES]
    assert told["answered"] == "The tools say: 0 mm; 1 mm"
    assert told["refused"] == {"status": 400, "param": "previous_response_id"}


def test_anthropics_sdk_for_node_is_at_home(
    gateway: Gateway, server: FakeAnthropic, upstream: FakeOpenAI, drive: Drive
) -> None:
    server.forget()
    server.scene("claude-haiku-4-5", Scene(thinking="Hm.", signature="c2lnbmVk", calls=TWO_CALLS), Scene(text="Wet."))
    told = drive("anthropic", gateway, "Claude in Node", "tools")
    assert server.complaints == []
    straight, translated = told["Claude in Node"], told["tools"]
    assert straight["calls"] == [json.loads(arguments) for _, _, arguments in TWO_CALLS]
    assert (straight["answered"], straight["tokens"]) == ("Wet.", Scene().output_tokens)
    assert translated["calls"] == [{"city": city} for city in CITIES]
    assert translated["answered"] == "The tools say: 0 mm; 1 mm"
    for each in (straight, translated):
        assert (each["reason"], each["inPieces"]) == ("tool_use", True)
        assert each["counted"] > 0
    assert told["refused"] == {"status": 404, "type": "not_found_error"}


def test_the_vercel_ai_sdk_is_at_home(gateway: Gateway, drive: Drive) -> None:
    told = drive("vercel", gateway, "gpt-fake", "tools")
    assert (told["whole"], told["reason"], told["tokens"]) == (SAID, "stop", SAID_TOKENS)
    assert (told["streamed"], told["pieces"], told["counted"]) == (SAID, SAID_TOKENS, SAID_TOKENS)
    assert told["asked"] == CITIES * 2
    assert told["looped"] == told["streamedLoop"]
    assert told["looped"].startswith("The tools say: ")
    assert "Rain in Oslo." in told["looped"]
