"""What coding agents send, in the shapes of Claude Code and Codex CLI: their two turns around a tool, over an upstream
that speaks Messages, one that only chats, and one with a format of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import StartGateway
from tests.every_language import Messages, Responses, Said, Spoken, frames_of
from tests.every_provider import BY_NAME, Bench, System, bench
from tests.fakes import openai
from tests.fakes.scenes import TWO_CALLS, Scene
from tests.fakes.server import Json
from tests.live import wire

CLAUDES = [BY_NAME["Anthropic"], BY_NAME["Snowflake: Claude"]]  # these speak Messages
CHATTING, LEGACY = BY_NAME["OpenAI"], BY_NAME["Snowflake, legacy: Claude"]
EVERYBODY = [*CLAUDES, CHATTING, LEGACY]
MARK = {"type": "ephemeral"}
BOOK = "".join(f"Rule {number}: prefer small steps, and say what you did. Übung macht 雨.\n" for number in range(1400))
THOUGHT = "I should look at the rain first."
SIGNATURE = "ErUBCkYIBxgCIkDsigned+by/Claude=="
CALLING = Scene(text="", thinking=THOUGHT, signature=SIGNATURE, calls=TWO_CALLS)
DONE = Scene(text="Bern is wet, Zürich is dry.")
BETAS = "claude-code-20250219,interleaved-thinking-2025-05-14,fine-grained-tool-streaming-2025-05-14"
SESSION = "user_3f2a_account__session_0b1c"
CACHE_KEY = "0199c0de-7000-7000-8000-00000000c0de"


def parameters(number: int) -> Json:
    """A schema as agents have them: long, nested, and full of advice."""
    advice = f"Advice for tool {number}. " * 60
    edit = {
        "type": "object",
        "properties": {
            "old_text": {"type": "string", "description": advice},
            "new_text": {"type": "string", "description": "What stands there afterwards."},
            "all": {"type": "boolean", "default": False},
        },
        "required": ["old_text", "new_text"],
        "additionalProperties": False,
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": advice},
            "when": {"type": ["string", "null"]},
            "mode": {"type": "string", "enum": ["content", "files", "count"]},
            "edits": {"type": "array", "items": edit, "minItems": 1},
        },
        "required": ["city"],
        "additionalProperties": False,
    }


AGENTS: Json = {
    "type": "namespace",
    "name": "multi_agent_v1",
    "description": "Tools for agents below this one.",
    "tools": [
        {
            "type": "function",
            "name": "spawn_agent",
            "strict": False,
            "parameters": {"type": "object", "properties": {"task": {"type": "string"}}, "required": ["task"]},
        }
    ],
}
PATCH: Json = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Changes files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin Patch" /.+/ "*** End Patch"'},
}
DIFF = '*** Begin Patch\n*** Update File: rain.md\n+Zürich is "dry".\n*** End Patch'
DECLARED = ["multi_agent_v1__spawn_agent", "apply_patch"]  # as others get them
NAMES = ["rain", *(f"tool_{number}" for number in range(1, 16))]


@pytest.fixture(scope="module")
def world(start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(start_gateway(), tmp_path_factory.mktemp("credentials"), EVERYBODY) as made:
        yield made


@pytest.fixture
def at(world: Bench) -> Iterator[Bench]:
    world.forget()
    world.fakes["openai"].absent |= {"/v1/responses", "/v1/messages"}
    yield world
    assert world.complaints() == []


def asked(at: Bench, language: Spoken, path: str, body: Json, **headers: str | None) -> Said:
    """One turn, streamed as agents do."""
    answer = wire.call(at.gateway, path, body, **headers)
    assert answer.status == 200, answer
    said = language.folded(frames_of(answer))
    said.headers = answer.headers
    assert said.complete
    return said


def marks(value: object) -> int:
    return json.dumps(value).count('"cache_control"')


def called(said: Said) -> list[Json]:
    return [call["arguments"] for call in said.calls]


# ---------------------------------------------------------------------------------------------- Claude Code


def claude_code(system: System, *turns: Json) -> Json:
    tools: list[Json] = [
        {"name": name, "description": f"Does {name}. " * 40, "input_schema": parameters(number)}
        for number, name in enumerate(NAMES)
    ]
    tools[-1]["cache_control"] = MARK
    reminder = {"type": "text", "text": "<system-reminder>Be brief.</system-reminder>"}
    question = {"type": "text", "text": "Does it rain?", "cache_control": MARK}
    return {
        "model": system.slug,
        "max_tokens": 16_000,
        "stream": True,
        "temperature": 1,
        "metadata": {"user_id": SESSION},
        "thinking": {"type": "enabled", "budget_tokens": 10_000},
        "system": [
            {"type": "text", "text": "You are an agent that writes code.", "cache_control": MARK},
            {"type": "text", "text": BOOK, "cache_control": MARK},
        ],
        "tools": tools,
        "messages": [{"role": "user", "content": [reminder, question]}, *turns],
    }


def ask_claude_code(at: Bench, body: Json) -> Said:
    return asked(
        at,
        Messages(),
        "/v1/messages?beta=true",
        body,
        anthropic_version="2023-06-01",
        anthropic_beta=BETAS,
        anthropic_dangerous_direct_browser_access="true",
        user_agent="claude-cli/2.0.31 (external, cli)",
        x_app="cli",
        x_stainless_lang="js",
    )


def two_turns_of_claude_code(at: Bench, system: System) -> tuple[Json, Said, Json, Said]:
    at.scene(system, CALLING, DONE)
    first = claude_code(system)
    answer = ask_claude_code(at, first)
    results: list[Json] = [
        {"type": "tool_result", "tool_use_id": call["id"], "content": text}
        for call, text in zip(answer.calls, ("It pours.", [{"type": "text", "text": "It is dry."}]), strict=True)
    ]
    turns = [{"role": "assistant", "content": answer.turn}, {"role": "user", "content": results}]
    second = claude_code(system, *turns)
    return first, answer, second, ask_claude_code(at, second)


@pytest.mark.parametrize("system", EVERYBODY, ids=lambda system: system.slug)
def test_the_tool_loop_of_claude_code_completes(at: Bench, system: System) -> None:
    _, first, _, second = two_turns_of_claude_code(at, system)
    assert called(first) == [json.loads(arguments) for _, _, arguments in TWO_CALLS]
    assert (first.thinking, first.end) == (THOUGHT, "tool_use")
    assert (second.text, second.end) == (DONE.text, "end_turn")
    sent = at.raw(system)
    for text in ("It pours.", "It is dry.", "Rule 1399", "Does it rain?", "Advice for tool 15", "<system-reminder>"):
        assert text in sent


@pytest.mark.parametrize("system", CLAUDES, ids=lambda system: system.slug)
def test_claude_gets_what_claude_code_sends_as_it_is(at: Bench, system: System) -> None:
    first, answer, second, _ = two_turns_of_claude_code(at, system)
    assert answer.turn[0] == {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}
    for sent, heard in zip((first, second), at.heard(system), strict=True):
        assert heard.body == sent | {"model": system.model}
        assert heard.headers["anthropic-beta"] == BETAS
        assert marks(heard.body) == 4
    assert at.heard(system)[1].body["messages"][1]["content"][0]["signature"] == SIGNATURE


def test_a_server_that_only_chats_gets_claude_codes_conversation(at: Bench) -> None:
    two_turns_of_claude_code(at, CHATTING)
    first, second = at.heard(CHATTING)
    assert {first.path, second.path} == {"/v1/chat/completions"}
    assert (marks(second.body), second.body["user"], second.body["max_tokens"]) == (0, SESSION, 16_000)
    assert [tool["function"]["name"] for tool in second.body["tools"]] == NAMES
    assert second.body["tools"][3]["function"]["parameters"] == parameters(3)
    assert [message["role"] for message in second.body["messages"]] == ["system", "user", "assistant", "tool", "tool"]
    assert second.body["messages"][0]["content"][1]["text"] == BOOK
    assert second.body["messages"][2]["reasoning_content"] == THOUGHT
    assert SIGNATURE not in at.raw(CHATTING)


def test_the_legacy_format_gets_claude_codes_conversation(at: Bench) -> None:
    two_turns_of_claude_code(at, LEGACY)
    first, second = [heard.body for heard in at.heard(LEGACY)]
    assert first["anthropic"]["thinking"]["budget_tokens"] == 4096, "the effort that so many tokens pay for"
    # Claude refuses to go on thinking without its thoughts, which this format has no place for.
    assert "anthropic" not in second
    assert [tool["tool_spec"]["name"] for tool in second["tools"]] == NAMES
    assert [block["type"] for block in second["messages"][-1]["content_list"]] == ["tool_results", "tool_results"]


@pytest.mark.parametrize("system", EVERYBODY, ids=lambda system: system.slug)
def test_claude_code_learns_how_many_tokens_it_would_take(at: Bench, system: System) -> None:
    body = claude_code(system)
    counted = {name: body[name] for name in ("model", "messages", "system", "tools", "thinking")}
    path = "/v1/messages/count_tokens?beta=true"
    answer = wire.call(at.gateway, path, counted, anthropic_version="2023-06-01", anthropic_beta=BETAS)
    assert answer.status == 200, answer
    assert list(answer.json()) == ["input_tokens"]
    if system.name == "Anthropic":
        assert "x-gateway-estimated" not in answer.headers
        assert at.heard(system)[-1].body == counted | {"model": system.model}
    else:
        assert answer.headers["x-gateway-estimated"] == "true"
        assert answer.json()["input_tokens"] > len(BOOK) // 4
        assert at.heard(system) == []


NEWEST = f"{BETAS},context-management-2025-06-27,mid-conversation-system-2026-04-07,effort-2025-11-24"


@pytest.mark.parametrize("system", EVERYBODY, ids=lambda system: system.slug)
def test_claude_code_may_take_any_model_for_the_newest(at: Bench, system: System) -> None:
    """As it does where it has never heard the name: thinking as the model likes, and words of the system in between."""
    body = claude_code(system, {"role": "system", "content": "You may ask the weather desk."}) | {
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    }
    at.scene(system, DONE)
    said = asked(at, Messages(), "/v1/messages?beta=true", body, anthropic_version="2023-06-01", anthropic_beta=NEWEST)
    assert (said.text, said.end) == (DONE.text, "end_turn")
    assert "You may ask the weather desk." in at.raw(system)
    (heard,) = at.heard(system)
    if system in CLAUDES:
        assert heard.body == body | {"model": system.model}
    else:
        assert "context_management" in said.headers["x-gateway-dropped"].split(", ")


def test_a_model_that_cannot_think_is_not_told_to(at: Bench) -> None:
    at.gateway.manage("route", "thoughtless", f"{CHATTING.slug}:{CHATTING.model}", "--cannot", "thinking")
    at.gateway.noticed()
    at.fakes["openai"].scene(CHATTING.model, DONE)
    body = claude_code(CHATTING) | {"model": "thoughtless", "output_config": {"effort": "high"}}
    body["thinking"] = {"type": "adaptive"}
    said = asked(at, Messages(), "/v1/messages", body, anthropic_version="2023-06-01")
    assert said.text == DONE.text
    assert said.headers["x-gateway-dropped"] == "thinking"
    assert "reasoning_effort" not in at.heard(CHATTING)[-1].body
    at.fakes["openai"].scene(CHATTING.model, DONE)
    asked_not_to = {"model": "thoughtless", "input": "Hi", "reasoning": {"effort": "none"}}
    answer = wire.call(at.gateway, "/v1/responses", asked_not_to)
    assert (answer.status, "x-gateway-dropped" in answer.headers) == (200, False)
    assert "reasoning_effort" not in at.heard(CHATTING)[-1].body


def test_words_of_one_caller_change_nothing_for_the_others(at: Bench) -> None:
    """A server that quotes a wrong value is not taken for one that does not speak the language."""
    at.fakes["openai"].absent.clear()
    quoted = "'type' of tool must be 'function'"
    at.fakes["openai"].script(CHATTING.model, openai.refusal(400, f"Invalid value: {quoted}."), openai.answer())
    for _ in range(2):
        body = {"model": CHATTING.slug, "messages": [{"role": "user", "content": "Hi"}], "service_tier": quoted}
        wire.call(at.gateway, wire.CHAT, body)
    at.forget()
    for _ in range(6):  # both workers
        assert wire.call(at.gateway, wire.CHAT, wire.chat(CHATTING.slug)).status == 200
    assert {heard.path for heard in at.heard(CHATTING)} == {wire.CHAT}


# ---------------------------------------------------------------------------------------------------- Codex


def codex(system: System, *items: Any) -> Json:
    tools: list[Json] = [
        {
            "type": "function",
            "name": name,
            "description": f"Does {name}. " * 40,
            "strict": False,
            "parameters": parameters(number),
        }
        for number, name in enumerate(NAMES)
    ]
    tools += [AGENTS, PATCH, {"type": "web_search", "external_web_access": False}]

    def message(role: str, text: str) -> Json:
        return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}

    return {
        "model": system.slug,
        "instructions": BOOK,
        "input": [
            message("developer", "<permissions>You may read.</permissions>"),
            message("user", "<environment_context><cwd>/home/ada</cwd></environment_context>"),
            message("user", "Does it rain?"),
            *items,
        ],
        "tools": tools,
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "client_metadata": {"session_id": CACHE_KEY},
        "prompt_cache_key": CACHE_KEY,
        "text": {"verbosity": "medium"},
    }


def ask_codex(at: Bench, body: Json) -> Said:
    return asked(
        at,
        Responses(),
        "/v1/responses",
        body,
        accept="text/event-stream",
        originator="codex_cli_rs",
        session_id=CACHE_KEY,
        user_agent="codex_cli_rs/0.60.1 (Debian 12; x86_64) xterm",
    )


def two_turns_of_codex(at: Bench, system: System) -> tuple[Said, Said]:
    at.scene(system, CALLING, DONE)
    if system is CHATTING:  # which is asked for Responses first, in vain
        at.fakes["openai"].scene(system.model, CALLING, DONE)
    first = ask_codex(at, codex(system))
    results = [
        {"type": "function_call_output", "call_id": call["id"], "output": text}
        for call, text in zip(first.calls, ("It pours.", "It is dry."), strict=True)
    ]
    return first, ask_codex(at, codex(system, *first.turn, *results))


@pytest.mark.parametrize("system", EVERYBODY, ids=lambda system: system.slug)
def test_the_tool_loop_of_codex_completes(at: Bench, system: System) -> None:
    first, second = two_turns_of_codex(at, system)
    assert called(first) == [json.loads(arguments) for _, _, arguments in TWO_CALLS]
    assert (first.thinking, first.end) == (THOUGHT, "completed")
    assert (second.text, second.end) == (DONE.text, "completed")
    sent = at.raw(system)
    for text in ("It pours.", "It is dry.", "Rule 1399", "Does it rain?", "Advice for tool 15", "<permissions>"):
        assert text in sent
    # How wordy an answer is has no place in the other languages, and the cache is marked in Claude's own way.
    left_out = second.headers["x-gateway-dropped"].split(", ")
    assert {"text", "client_metadata", "tools.web_search"} <= set(left_out)


@pytest.mark.parametrize("system", EVERYBODY, ids=lambda system: system.slug)
def test_codex_spawns_agents_and_applies_patches_as_it_declared_them(at: Bench, system: System) -> None:
    calls = (
        ("call_agent", "multi_agent_v1__spawn_agent", '{"task": "Look at the rain."}'),
        ("call_patch", "apply_patch", json.dumps({"input": DIFF})),
    )
    played = [Scene(text="", calls=calls), DONE]
    at.scene(system, *played)
    if system is CHATTING:
        at.fakes["openai"].scene(system.model, *played)
    answer = wire.call(at.gateway, "/v1/responses", codex(system) | {"stream": False})
    agent, patch = [item for item in answer.json()["output"] if item["type"].endswith("call")]
    assert (agent["type"], agent["namespace"], agent["name"]) == ("function_call", "multi_agent_v1", "spawn_agent")
    assert json.loads(agent["arguments"]) == {"task": "Look at the rain."}
    assert (patch["type"], patch["name"], patch["input"]) == ("custom_tool_call", "apply_patch", DIFF)
    results: list[Json] = [
        {"type": "function_call_output", "call_id": "call_agent", "output": "Spawned."},
        {"type": "custom_tool_call_output", "call_id": "call_patch", "output": "Success. Updated rain.md"},
    ]
    second = ask_codex(at, codex(system, agent, patch, *results))
    assert (second.text, second.end) == (DONE.text, "completed")
    assert "Success. Updated rain.md" in at.raw(system)


@pytest.mark.parametrize("system", CLAUDES, ids=lambda system: system.slug)
def test_claude_gets_codexs_marks_and_its_own_thoughts_back(at: Bench, system: System) -> None:
    first, _ = two_turns_of_codex(at, system)
    assert first.turn[0]["type"] == "reasoning"
    for heard in at.heard(system):
        assert [block["text"] for block in heard.body["system"]] == [BOOK, "<permissions>You may read.</permissions>"]
        assert heard.body["system"][-1]["cache_control"] == MARK
        assert heard.body["messages"][-1]["content"][-1]["cache_control"] == MARK
        assert marks(heard.body) == 2
        assert heard.body["thinking"] == {"type": "enabled", "budget_tokens": 4096}
        assert [tool["name"] for tool in heard.body["tools"]] == [*NAMES, *DECLARED]
        assert heard.body["tools"][3]["input_schema"] == parameters(3)
    _, answered, results = at.heard(system)[1].body["messages"]
    assert answered["content"][0] == {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}
    assert [block["id"] for block in answered["content"][1:]] == [id for id, _, _ in TWO_CALLS]
    assert [block["tool_use_id"] for block in results["content"]] == [id for id, _, _ in TWO_CALLS]


def test_a_server_that_only_chats_gets_codexs_conversation(at: Bench) -> None:
    first, _ = two_turns_of_codex(at, CHATTING)
    assert "encrypted_content" not in first.turn[0], "nobody signed it"
    chats = [heard.body for heard in at.heard(CHATTING) if heard.path == "/v1/chat/completions"]
    assert len(chats) == 2
    assert {heard.status for heard in at.heard(CHATTING) if heard.path == "/v1/responses"} <= {404}
    roles = [message["role"] for message in chats[1]["messages"]]
    assert roles == ["system", "system", "user", "user", "assistant", "tool", "tool"]
    assert chats[1]["messages"][0]["content"] == BOOK
    assert chats[1]["messages"][4]["reasoning_content"] == THOUGHT
    assert chats[1]["tools"][3]["function"]["parameters"] == parameters(3)
    assert (chats[1]["reasoning_effort"], marks(chats[1])) == ("medium", 0)


def test_the_legacy_format_gets_codexs_conversation(at: Bench) -> None:
    two_turns_of_codex(at, LEGACY)
    first, second = [heard.body for heard in at.heard(LEGACY)]
    assert first["anthropic"]["thinking"]["budget_tokens"] == 4096
    assert "anthropic" not in second, "Claude refuses to go on thinking without its thoughts"
    assert first["messages"][0]["role"] == "system"
    assert first["messages"][0]["content"].startswith(BOOK.rstrip())
    assert [block["type"] for block in second["messages"][-1]["content_list"]] == ["tool_results", "tool_results"]


def test_nobody_but_codex_reads_what_is_sealed_for_it(at: Bench) -> None:
    """What one upstream signed is no signature at another: the conversation goes on without it."""
    at.scene(CLAUDES[0], CALLING)
    first = ask_codex(at, codex(CLAUDES[0]))
    at.scene(CHATTING, DONE)
    results = [{"type": "function_call_output", "call_id": call["id"], "output": "Wet."} for call in first.calls]
    second = ask_codex(at, codex(CHATTING, *first.turn, *results))
    assert second.text == DONE.text
    assert SIGNATURE not in at.raw(CHATTING)
    assert first.turn[0]["encrypted_content"] not in at.raw(CHATTING)
