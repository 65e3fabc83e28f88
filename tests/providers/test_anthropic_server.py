"""Anthropic Messages as callers speak it: what is read of them, what they are answered, what passes untouched.

Worked examples after Anthropic's API reference (Messages, streaming, tool use, extended thinking, prompt caching,
errors, token counting); whatever is written must be what anthropic-python takes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import anthropic
import pytest
from anthropic.types import Message as SDKMessage
from anthropic.types import RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from providers.anthropic import Anthropic
from providers.base import Target, UpstreamModel
from providers.conversation import (
    Answer,
    CachePoint,
    ChatRequest,
    Choice,
    Event,
    Finished,
    Image,
    JSONFormat,
    Message,
    Opaque,
    Part,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
    Usage,
)
from providers.documents import dumps
from providers.languages.anthropic_counting import estimate
from providers.languages.anthropic_requests import INDISPENSABLE, READ
from providers.languages.errors import answer_document
from providers.languages.language import BadRequest, Fault, Stamp
from providers.languages.messages import thinking_lost
from providers.languages.registry import LANGUAGES, anthropic_count_tokens, anthropic_messages, openai_chat
from providers.ocf import OCF
from providers.sap_ai_core import SAPAICore
from providers.snowflake import MESSAGES as CORTEX_MESSAGES
from providers.snowflake import Snowflake
from providers.streams import StraightStream, TranslatedStream, UpstreamEvents
from providers.wire import client
from providers.wire.errors import CannotCarry, ProviderError
from tests.fakes.anthropic import MESSAGES_FIELDS, check_messages_body, message_events, message_whole
from tests.fakes.anthropic import sse as spelt
from tests.fakes.sap_families import Invoke
from tests.fakes.scenes import PICTURE, TWO_CALLS, Scene
from tests.providers.upstream import (
    EVENT_STREAM,
    LAST_CHUNK,
    Upstream,
    Wire,
    account,
    answering,
    post,
    stream,
)
from tests.providers.upstream import chunk as http_chunk

Json = dict[str, Any]

THEIRS, OURS = "claude-sonnet-4-5", 'fast/claude "4.5"'
STAMP = Stamp("018f", 1741569952, OURS)
CALM = settings(deadline=None, database=None, max_examples=100)
STREAM_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
BETAS = "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27"
EPHEMERAL = {"type": "ephemeral"}
HIDDEN = {"type": "redacted_thinking", "data": "x"}


def body(**fields: Any) -> Json:
    """The smallest request, with these fields; None takes one away."""
    asked = {"model": "fast", "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}], **fields}
    return {name: value for name, value in asked.items() if value is not None}


def said(*blocks: Json, role: str = "user") -> Json:
    return body(
        messages=[{"role": "user", "content": "Hi"}] * (role == "assistant") + [{"role": role, "content": [*blocks]}]
    )


def text(words: str, **more: Any) -> Json:
    return {"type": "text", "text": words, **more}


def parsed(**fields: Any) -> ChatRequest:
    return anthropic_messages.parse_request(body(**fields))


def parts_of(*blocks: Json, role: str = "user") -> tuple[Part, ...]:
    return anthropic_messages.parse_request(said(*blocks, role=role)).messages[-1].parts


def refused(request: Json) -> str | None:
    with pytest.raises((BadRequest, CannotCarry), match=r"\.$") as refusal:
        anthropic_messages.parse_request(request)
    return refusal.value.param


def claude_code() -> Json:
    """A turn of an agent at work in the shape of Claude Code: a long system prompt in marked blocks, many tools with
    long schemas, signed thoughts sent back, who it is for, and fields of its own."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {f"option_{n}": {"type": "string", "description": "What it is for. " * 20} for n in range(12)},
        "additionalProperties": False,
    }
    tools = [{"name": f"Tool{n}", "description": "Use it well. " * 60, "input_schema": schema} for n in range(15)]
    marked = {"type": "ephemeral", "ttl": "1h"}
    return {
        "model": "fast",
        "max_tokens": 32_000,
        "stream": True,
        "system": [
            text("You are an agent."),
            text("A rule of the house. " * 5000, cache_control={**marked, "scope": "global"}),
            text("Where you work: /home/ada", cache_control=marked),
        ],
        "messages": [
            {"role": "user", "content": [text("<system-reminder>Be brief.</system-reminder>"), text("Fix the bug.")]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Where is it?", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"},
                    text("I look."),
                    {"type": "tool_use", "id": "toolu_01A", "name": "Tool0", "input": {"option_0": "grep"}},
                    {"type": "tool_use", "id": "toolu_01B", "name": "Tool1", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_01A", "content": [text("line 7")]},
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_01B",
                        "content": "no such file",
                        "is_error": True,
                        "cache_control": EPHEMERAL,
                    },
                    text("And hurry."),
                ],
            },
        ],
        "tools": tools,
        "metadata": {"user_id": "user_0a1b_account__session_9f"},
        "thinking": {"type": "enabled", "budget_tokens": 31_999},
        "temperature": 1,
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "invented_tomorrow": {"kept": [None, 1.0, "é"]},
    }


# -- what is plainly wrong is named


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "Hi"}]}, "messages[0].role"),
        ({"stream": "yes"}, "stream"),
        ({"metadata": "ada"}, "metadata"),
        ({"metadata": {"user_id": 7}}, "metadata.user_id"),
    ],
)
def test_what_is_plainly_wrong_is_named_before_anything_is_read(fields: Json, param: str) -> None:
    with pytest.raises(BadRequest, match=r"\.$") as refusal:
        anthropic_messages.peek(body(**fields))
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),  # fills a cache, where the upstream speaks Messages itself
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": True}, "top_p"),
        ({"system": 7}, "system"),
        ({"system": [{"type": "image"}]}, "system[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["Hi"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "a"}]}]},
            "messages[0].content[0]",
        ),
        (
            {
                "messages": [
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": 1}]}
                ]
            },
            "messages[0].content[0]",
        ),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"name": "f"}]}, "tools[0]"),
        ({"tools": [7]}, "tools[0]"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"thinking": "much"}, "thinking"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": 7}}, "thinking.type"),
        ({"thinking": {"budget_tokens": 2000}}, "thinking.type"),
        ({"output_config": {"effort": 3}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
        ({"output_format": {"type": "json_schema"}}, "output_format"),
        # What only Anthropic's own servers can do.
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools"),
        ({"tools": [{"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}]}, "tools"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(fields: Json, param: str) -> None:
    assert refused(body(**fields)) == param


@pytest.mark.parametrize("name", sorted(INDISPENSABLE))
def test_what_changes_the_answer_is_refused_by_upstreams_without_it(name: str) -> None:
    with pytest.raises(CannotCarry) as refusal:
        openai_chat.write_request(parsed(**{name: [{"url": "https://mcp.example"}]}), "gpt")
    assert refusal.value.param == name
    with pytest.raises(CannotCarry):
        LANGUAGES["bedrock_messages"].write_request(parsed(**{name: "c1"}), THEIRS)
    assert openai_chat.write_request(parsed(**{name: []}), "gpt")["model"] == "gpt"


def test_a_cache_may_be_filled_without_an_answer() -> None:
    assert anthropic_messages.peek(body(max_tokens=0)).max_tokens == 0
    document = {**message_whole(THEIRS, Scene()), "content": [], "stop_reason": "max_tokens"}
    assert json.loads(anthropic_messages.pass_answer(dumps(document), OURS)[0]) == document | {"model": OURS}


def test_the_envelope_says_what_routing_needs() -> None:
    envelope = anthropic_messages.peek(claude_code())
    assert (envelope.model, envelope.stream, envelope.max_tokens) == ("fast", True, 32_000)
    assert envelope.user == "user_0a1b_account__session_9f"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, {}),
        ({"tools": [{"name": "f", "input_schema": {}}]}, {"tools": "tools"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"thinking": "thinking"}),
        ({"thinking": {"type": "adaptive"}}, {}),
        ({"thinking": {"type": "disabled"}}, {}),
        ({"output_config": {"format": {"type": "json_schema"}}}, {"json_schema": "output_config.format"}),
        ({"output_format": {"type": "json_schema"}}, {"json_schema": "output_format"}),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            {"images": "messages[0].content"},
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image"}]}]}]},
            {},
        ),
    ],
)
def test_what_a_request_needs_of_a_model_is_told_by_its_fields(fields: Json, found: Json) -> None:
    assert anthropic_messages.needs(body(**fields)) == found


# -- a limit that is lowered


@pytest.mark.parametrize(
    ("limit", "thinking", "tokens", "left"),
    [
        (64, None, 64, None),
        (9, None, 9, None),
        (4096, {"type": "enabled", "budget_tokens": 31_999}, 4096, {"type": "enabled", "budget_tokens": 2048}),
        (4096, {"type": "enabled", "budget_tokens": 4096}, 4096, {"type": "enabled", "budget_tokens": 2048}),
        (4096, {"type": "enabled", "budget_tokens": 4095}, 4096, {"type": "enabled", "budget_tokens": 4095}),
        (1025, {"type": "enabled", "budget_tokens": 2000}, 1025, {"type": "enabled", "budget_tokens": 1024}),
        (1024, {"type": "enabled", "budget_tokens": 2000}, 1024, None),
        (1024, {"type": "adaptive"}, 1024, {"type": "adaptive"}),
    ],
)
def test_thinking_stays_below_a_lowered_limit(
    limit: int, thinking: Json | None, tokens: int, left: Json | None
) -> None:
    asked = body(max_tokens=64 if limit == 64 else 64_000, thinking=thinking)
    clamped, field = anthropic_messages.clamp(asked, limit)
    assert (clamped["max_tokens"], clamped.get("thinking")) == (tokens, left)
    assert field == (None if limit == 64 else "max_tokens")
    check_messages_body(clamped, known=MESSAGES_FIELDS, needs_model=True)


# -- requests, read


def test_an_agents_turn_is_read_whole() -> None:
    request = anthropic_messages.parse_request(claude_code())
    system, first, turn, failed = (request.messages[n] for n in (0, 1, 2, 4))
    assert [type(part).__name__ for part in system.parts] == ["Text", "Text", "CachePoint", "Text", "CachePoint"]
    assert system.parts[2] == CachePoint("1h")
    assert [message.role for message in request.messages] == ["system", "user", "assistant", "tool", "tool", "user"]
    assert first.parts == (Text("<system-reminder>Be brief.</system-reminder>"), Text("Fix the bug."))
    assert turn.parts == (
        Thinking("Where is it?", "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"),
        Text("I look."),
        ToolCall("toolu_01A", "Tool0", '{"option_0":"grep"}'),
        ToolCall("toolu_01B", "Tool1", "{}"),
    )
    assert request.messages[3].parts == (ToolResult("toolu_01A", (Text("line 7"),)),)
    assert failed.parts == (ToolResult("toolu_01B", (Text("no such file"),), failed=True), CachePoint())
    assert request.reasoning_effort == "high"
    assert request.user == "user_0a1b_account__session_9f"
    assert set(request.extras) == {"context_management", "invented_tomorrow"}
    assert len(request.tools) == 15


def test_an_agents_turn_reaches_an_openai_upstream() -> None:
    written = openai_chat.write_request(anthropic_messages.parse_request(claude_code()), "gpt")
    roles = [message["role"] for message in written["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "tool", "user"]
    assert [call["id"] for call in written["messages"][2]["tool_calls"]] == ["toolu_01A", "toolu_01B"]
    assert written["messages"][4] == {"role": "tool", "tool_call_id": "toolu_01B", "content": "no such file"}
    assert written["tools"][0]["function"]["parameters"]["properties"].keys() >= {"option_0", "option_11"}


@pytest.mark.parametrize(
    ("block", "part"),
    [
        (text("Hi"), Text("Hi")),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
            Image(f"data:image/png;base64,{PICTURE}"),
        ),
        (
            {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}},
            Image("https://example.com/cat.png"),
        ),
        (
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
            Opaque("anthropic_messages", {"type": "image", "source": {"type": "file", "file_id": "file_1"}}),
        ),
        (
            {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}, "title": "A"},
            Opaque(
                "anthropic_messages",
                {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}, "title": "A"},
            ),
        ),
        (HIDDEN, Opaque("anthropic_messages", HIDDEN)),
        ({"type": "thinking", "thinking": "Hm.", "signature": "s"}, Thinking("Hm.", "s")),
        ({"type": "thinking", "thinking": "Hm.", "signature": ""}, Thinking("Hm.")),
        ({"type": "tool_use", "id": "a", "name": "f", "input": {"x": [1]}}, ToolCall("a", "f", '{"x":[1]}')),
    ],
)  # fmt: skip
def test_each_block_is_a_part_and_its_mark_stands_behind_it(block: Json, part: Part) -> None:
    assert parts_of(block, role="assistant") == (part,)
    assert parts_of({**block, "cache_control": EPHEMERAL}, role="assistant") == (part, CachePoint())
    assert parts_of({**block, "cache_control": {**EPHEMERAL, "ttl": "5m"}}, role="assistant") == (
        part,
        CachePoint("5m"),
    )


@pytest.mark.parametrize(
    ("content", "result"),
    [
        ({}, ToolResult("a", ())),
        ({"content": ""}, ToolResult("a", ())),
        ({"content": "42"}, ToolResult("a", (Text("42"),))),
        ({"content": [text("42")], "is_error": False}, ToolResult("a", (Text("42"),))),
        ({"content": "broken", "is_error": True}, ToolResult("a", (Text("broken"),), failed=True)),
    ],
)
def test_the_result_of_a_tool_is_a_message_of_its_own(content: Json, result: ToolResult) -> None:
    assert parts_of({"type": "tool_result", "tool_use_id": "a", **content}) == (result,)


def test_a_mark_inside_of_a_result_keeps_all_of_it() -> None:
    inner = text("42", cache_control={**EPHEMERAL, "ttl": "1h"})
    assert parts_of({"type": "tool_result", "tool_use_id": "a", "content": [inner]})[1:] == (CachePoint("1h"),)


def test_that_a_tool_failed_is_told_where_there_is_a_word_for_it() -> None:
    request = anthropic_messages.parse_request(claude_code())
    results = anthropic_messages.write_request(request, THEIRS)["messages"][2]["content"]
    assert [block.get("is_error") for block in results] == [None, True, None]
    converse = LANGUAGES["bedrock_converse"].write_request(request, THEIRS)["messages"][2]["content"]
    assert [block["toolResult"].get("status") for block in converse if "toolResult" in block] == [None, "error"]


def test_the_system_may_speak_among_the_messages() -> None:
    asked = [{"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."}]
    request = parsed(system="Be kind.", messages=asked)
    assert [(message.role, message.parts[0]) for message in request.messages] == [
        ("system", Text("Be kind.")),
        ("user", Text("Hi")),
        ("system", Text("Be brief.")),
    ]


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({}, None),
        ({"thinking": {"type": "disabled"}}, None),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "invented_tomorrow"}}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 4095}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 31_999}}, "high"),
        ({"thinking": {"type": "enabled", "budget_tokens": 50_000}}, "xhigh"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "max"),
        ({"output_config": {"effort": "low"}}, "low"),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, None),
    ],
)
def test_thinking_is_an_effort(fields: Json, effort: str | None) -> None:
    assert parsed(**fields).reasoning_effort == effort


@pytest.mark.parametrize(
    ("choice", "read"),
    [
        (None, (None, None)),
        ({"type": "auto"}, (ToolChoice("auto"), None)),
        ({"type": "any", "disable_parallel_tool_use": True}, (ToolChoice("required"), False)),
        ({"type": "tool", "name": "f", "disable_parallel_tool_use": False}, (ToolChoice("tool", "f"), None)),
        ({"type": "none"}, (ToolChoice("none"), None)),
    ],
)
def test_the_choice_of_a_tool_is_read(choice: Json | None, read: tuple[ToolChoice | None, bool | None]) -> None:
    request = parsed(tool_choice=choice)
    assert (request.tool_choice, request.parallel_tool_calls) == read


@pytest.mark.parametrize("name", ["output_config", "output_format"])
def test_an_answer_in_json_is_asked_for_by_either_name(name: str) -> None:
    wish = {"type": "json_schema", "schema": CITY}
    request = parsed(**{name: {"format": wish} if name == "output_config" else wish})
    assert request.json_format == JSONFormat(CITY)


def test_a_mark_on_a_tool_stays_on_it() -> None:
    tool = {"name": "f", "input_schema": CITY, "cache_control": {**EPHEMERAL, "ttl": "1h"}}
    request = parsed(tools=[tool])
    assert request.tools == (Tool("f", None, CITY, cache=CachePoint("1h")),)
    assert anthropic_messages.write_request(request, THEIRS)["tools"] == [tool]


def test_what_the_middle_has_no_word_for_is_kept_for_this_language_alone() -> None:
    request = parsed(top_k=5, service_tier="auto")
    assert anthropic_messages.write_request(request, THEIRS).items() >= {"top_k": 5, "service_tier": "auto"}.items()
    assert anthropic_messages.dropped(request, "m") == []
    assert sorted(openai_chat.dropped(request, "m")) == ["service_tier", "top_k"]
    bedrock = LANGUAGES["bedrock_messages"]
    assert "service_tier" not in bedrock.write_request(request, THEIRS)
    assert bedrock.dropped(request, "m") == ["service_tier"]
    thinking = parsed(top_k=5, max_tokens=9000, thinking={"type": "enabled", "budget_tokens": 4096})
    assert "top_k" not in anthropic_messages.write_request(thinking, THEIRS)
    assert anthropic_messages.dropped(thinking, "m") == ["top_k"]


# -- the two halves test each other

words = st.text(min_size=1, max_size=8).filter(str.strip)
ids = st.from_regex(r"\A[a-zA-Z0-9_-]{1,12}\Z")
json_values = st.recursive(
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
objects = st.dictionaries(st.text(max_size=5), json_values, max_size=3)
points = st.builds(CachePoint, st.sampled_from([None, "5m", "1h"]))
images = st.sampled_from([Image(f"data:image/png;base64,{PICTURE}"), Image("https://example.com/cat.png")])
documents = st.just(Opaque("anthropic_messages", {"type": "document", "source": {"type": "text", "data": "A"}}))
calls = st.builds(ToolCall, ids, ids, objects.map(lambda value: dumps(value).decode()))
results = st.builds(ToolResult, ids, st.lists(st.builds(Text, words) | images, max_size=2).map(tuple), st.booleans())


@st.composite
def marked(draw: st.DrawFn, parts: st.SearchStrategy[Part], least: int = 1) -> tuple[Part, ...]:
    drawn: list[Part] = []
    for part in draw(st.lists(parts, min_size=least, max_size=3)):
        drawn += [part, *draw(st.lists(points, max_size=1))]
    return tuple(drawn)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """As they are read: results alone, turns by turns."""
    told = [Message("system", draw(marked(st.builds(Text, words))))] if draw(st.booleans()) else []
    for number in range(draw(st.integers(1, 3))):
        if number:
            thoughts = draw(st.lists(st.builds(Thinking, st.text(max_size=5), signatures), max_size=1))
            told.append(Message("assistant", (*thoughts, *draw(marked(st.builds(Text, words) | calls)))))
            told += [Message("tool", parts) for parts in draw(st.lists(results.map(lambda one: (one,)), max_size=2))]
        if told[-1:] == [] or told[-1].role != "tool" or draw(st.booleans()):
            told.append(Message("user", draw(marked(st.builds(Text, words) | images | documents))))
    return tuple(told)


extras = st.dictionaries(
    ids.filter(lambda name: name not in READ) | st.sampled_from([*INDISPENSABLE, "service_tier", "context_management"]),
    json_values,
    max_size=2,
)
tools = st.lists(
    st.builds(
        lambda name, about, fields, point: Tool(
            name, about, {"type": "object", "properties": fields}, None, point
        ),
        ids, st.none() | words, objects, st.none() | points,
    ),
    max_size=2, unique_by=lambda tool: tool.name,
).map(tuple)  # fmt: skip
choices_of_tools = st.sampled_from(
    [
        (None, None), (ToolChoice("auto"), False), (ToolChoice("required"), None), (ToolChoice("required"), False),
        (ToolChoice("none"), None), (ToolChoice("tool", "f"), None),
    ]
)  # fmt: skip


# One with a colon would be another language's.
signatures = words.filter(lambda text: ":" not in text)


@st.composite
def chat_requests(draw: st.DrawFn) -> ChatRequest:
    messages, offered, more = draw(conversations()), draw(tools), draw(extras)
    choice, parallel = draw(choices_of_tools) if offered else (None, None)
    free = not thinking_lost(messages) and (choice is None or choice.mode == "auto")
    effort = draw(st.sampled_from([None, "low", "medium", "high", "xhigh"])) if free else None
    sampling = {} if effort else draw(st.sampled_from([{}, {"temperature": 0.5}, {"top_p": 0.9}]))
    stream = draw(st.booleans())
    return ChatRequest(
        model=THEIRS,
        messages=messages,
        language="anthropic_messages",
        stream=stream,
        max_tokens=draw(st.integers(40_000, 64_000)) if effort else draw(st.integers(1)),
        stop=tuple(draw(st.lists(words, max_size=2))),
        tools=offered,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        reasoning_effort=effort,
        user=draw(st.none() | words),
        extras=more if effort else {**more, "top_k": 5},
        indispensable=frozenset(name for name in INDISPENSABLE & more.keys() if more[name]),
        **sampling,
    )


usages = st.builds(
    lambda fresh, read, written, output: Usage(fresh + read + written, output, read, written),
    *[st.integers(0, 10**6)] * 4,
).filter(lambda usage: usage != Usage())


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    thinking = draw(st.lists(st.builds(Thinking, words, st.none() | words), max_size=1))
    texts = draw(st.lists(st.builds(Text, words), max_size=1))
    called = draw(st.lists(calls, max_size=3))
    hidden = draw(st.lists(st.just(Opaque("anthropic_messages", HIDDEN)), max_size=1))
    ends = ["tool_calls", "length", "content_filter"] if called else ["stop", "length", "content_filter"]
    choice = Choice((*thinking, *texts, *called, *hidden), draw(st.sampled_from(ends)))
    return Answer((choice,), draw(st.none() | usages))


@st.composite
def streamed(draw: st.DrawFn) -> tuple[Answer, list[Event]]:
    """An answer and its events in pieces, those of parallel calls mixed; calls begin in the order of their numbers."""
    answer = draw(answers())
    events: list[Event] = []
    waiting: list[list[Event]] = []
    for event in answer.events():
        cut = draw(st.integers(0, 3))
        match event:
            case TextDelta(words):
                events += [TextDelta(words[:cut]), TextDelta(words[cut:])]
            case ThinkingDelta(words, signature):
                events += [ThinkingDelta(words[:cut]), ThinkingDelta(words[cut:]), ThinkingDelta("", signature)]
            case ToolCallDelta(index, id, name, arguments):
                rest = [
                    ToolCallDelta(index, arguments=arguments[:cut]),
                    ToolCallDelta(index, arguments=arguments[cut:]),
                ]
                events.append(ToolCallDelta(index, id, name))
                if draw(st.booleans()):
                    waiting.append(list(rest))
                else:
                    events += rest
            case _:
                while waiting:
                    queue = waiting[draw(st.integers(0, len(waiting) - 1))]
                    events.append(queue.pop(0))
                    waiting = [each for each in waiting if each]
                events.append(event)
    return answer, events


@given(chat_requests())
@CALM
def test_a_request_that_is_written_is_read_back_the_same(request: ChatRequest) -> None:
    written = json.loads(dumps(anthropic_messages.write_request(request, request.model)))
    assert anthropic_messages.parse_request(written) == request


@given(answers())
@CALM
def test_an_answer_that_is_written_is_read_back_the_same_and_is_what_the_sdk_takes(answer: Answer) -> None:
    document = answer_document(anthropic_messages.write_answer(answer, STAMP))
    SDKMessage.model_validate(document)
    assert anthropic_messages.read_answer(document) == answer


@given(streamed())
@CALM
def test_a_stream_that_is_written_is_read_back_as_the_same_answer(both: tuple[Answer, list[Event]]) -> None:
    answer, events = both
    written = write(events)
    checked(written)
    reader = anthropic_messages.reader()
    read = [event for frame in frames_of(written) for event in reader.read_frame(frame)]
    assert Answer.collect([*read, *reader.read_end()]) == answer
    assert reader.ended


# -- whole answers


def test_a_whole_answer_in_every_detail() -> None:
    parts = (Thinking("Hm.", "c2ln"), Text("I look."), ToolCall("toolu_1", "rain", '{"city": "Bern"}'))
    answer = Answer((Choice(parts, "tool_calls"),), Usage(21, 9, cached=4, cache_write=7))
    assert json.loads(anthropic_messages.write_answer(answer, STAMP)) == {
        "id": "msg_018f",
        "type": "message",
        "role": "assistant",
        "model": OURS,
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "rain", "input": {"city": "Bern"}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 7,
            "cache_read_input_tokens": 4,
            "output_tokens": 9,
        },
    }


@pytest.mark.parametrize(
    ("reason", "word"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("tool_calls", "tool_use"), ("content_filter", "refusal")],
)
def test_each_reason_has_its_word(reason: Any, word: str) -> None:
    assert json.loads(anthropic_messages.write_answer(Answer((Choice((), reason),)), STAMP))["stop_reason"] == word
    assert checked(write([Finished(reason)]))[-2]["delta"]["stop_reason"] == word


def test_a_call_without_an_id_is_given_one() -> None:
    answer = Answer((Choice((ToolCall("", "a", ""), ToolCall("", "b", "")), "tool_calls"),))
    given_ids = [block["id"] for block in json.loads(anthropic_messages.write_answer(answer, STAMP))["content"]]
    assert all(given_ids)
    assert len(set(given_ids)) == 2


@pytest.mark.parametrize("said", ['{"city": "Be', "[1]", "no JSON", "5"])
def test_arguments_that_are_no_object_stand_in_one_unless_they_were_cut(said: str) -> None:
    """So the tool complains of them and the model can mend them."""
    call = ToolCall("a", "rain", said)
    told = json.loads(anthropic_messages.write_answer(Answer((Choice((call,), "tool_calls"),)), STAMP))
    assert told["content"][0]["input"] == {"INVALID_JSON": said}
    cut = json.loads(anthropic_messages.write_answer(Answer((Choice((call,), "length"),)), STAMP))
    assert cut["content"][0]["input"] == {}


def test_arguments_of_null_are_none() -> None:
    call = ToolCall("a", "rain", "null")
    told = json.loads(anthropic_messages.write_answer(Answer((Choice((call,), "tool_calls"),)), STAMP))
    assert told["content"][0]["input"] == {}


def test_thoughts_behind_words_are_too_late_to_go_on_thinking() -> None:
    """The upstream wants the turn that tools have answered to begin with its thinking."""
    call, result = ToolCall("a", "rain", "{}"), Message("tool", (ToolResult("a", (Text("42"),)),))
    words, thought = Text("I look."), Thinking("Hm.", "sig")
    for parts, late in (((thought, words, call), False), ((words, thought, call), True), ((words, call), True)):
        turns = (Message("user", (Text("Hi"),)), Message("assistant", parts), result)
        request = ChatRequest("m", turns, max_tokens=9000, reasoning_effort="low")
        sent = anthropic_messages.write_request(request, THEIRS)
        check_messages_body(json.loads(dumps(sent)), known=MESSAGES_FIELDS, needs_model=True)
        assert ("thinking" not in sent) is late


# -- streams


def frames_of(raw: bytes, end: bytes = b"\n\n") -> list[bytes]:
    return [part + end for part in raw.split(end) if part]


def write(events: Iterable[Event]) -> bytes:
    writer = anthropic_messages.writer(STAMP, include_usage=True)
    return b"".join([*map(writer.write, events), writer.close()])


DELTAS = {"text": ["text_delta"], "thinking": ["thinking_delta", "signature_delta"], "tool_use": ["input_json_delta"]}


def checked(written: bytes) -> list[Json]:
    """The events of a stream, each one the SDK takes, in the one order all clients can follow."""
    documents = []
    for frame in frames_of(written):
        name, _, data = frame.decode().removeprefix("event: ").partition("\ndata: ")
        documents.append(json.loads(data))
        assert documents[-1]["type"] == name
        if name != "ping":
            STREAM_EVENT.validate_python(documents[-1])
    kinds = [document["type"] for document in documents]
    assert (kinds[:2], kinds[-2:]) == (["message_start", "ping"], ["message_delta", "message_stop"])
    number, open_kind = 0, ""
    for document in documents[2:-2]:
        assert document["index"] == number
        match document["type"]:
            case "content_block_start":
                assert not open_kind
                open_kind = document["content_block"]["type"]
            case "content_block_delta":
                assert document["delta"]["type"] in DELTAS[open_kind]
            case "content_block_stop":
                assert open_kind
                number, open_kind = number + 1, ""
    assert not open_kind
    return documents


def test_a_stream_is_written() -> None:
    events = [ThinkingDelta("Hm."), ThinkingDelta("", "c2ln"), TextDelta("I "), TextDelta("look."),
              ToolCallDelta(0, "toolu_1", "rain"), ToolCallDelta(0, arguments='{"city":'),
              ToolCallDelta(0, arguments='"Bern"}'), Finished("tool_calls"),
              Usage(21, 9, cached=4, cache_write=7)]  # fmt: skip
    documents = checked(write(events))
    assert [(d["type"], d.get("delta", d.get("content_block"))) for d in documents[2:-1]] == [
        ("content_block_start", {"type": "thinking", "thinking": "", "signature": ""}),
        ("content_block_delta", {"type": "thinking_delta", "thinking": "Hm."}),
        ("content_block_delta", {"type": "signature_delta", "signature": "c2ln"}),
        ("content_block_stop", None),
        ("content_block_start", {"type": "text", "text": ""}),
        ("content_block_delta", {"type": "text_delta", "text": "I "}),
        ("content_block_delta", {"type": "text_delta", "text": "look."}),
        ("content_block_stop", None),
        ("content_block_start", {"type": "tool_use", "id": "toolu_1", "name": "rain", "input": {}}),
        ("content_block_delta", {"type": "input_json_delta", "partial_json": '{"city":'}),
        ("content_block_delta", {"type": "input_json_delta", "partial_json": '"Bern"}'}),
        ("content_block_stop", None),
        ("message_delta", {"stop_reason": "tool_use", "stop_sequence": None}),
    ]
    assert documents[0]["message"]["model"] == OURS
    assert documents[-2]["usage"] == {
        "input_tokens": 10, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 4, "output_tokens": 9
    }  # fmt: skip


def test_words_are_written_as_they_come() -> None:
    writer = anthropic_messages.writer(STAMP, include_usage=True)
    assert b"message_start" in writer.write(TextDelta("a"))
    assert writer.write(TextDelta("b")) == (
        b'event: content_block_delta\n'
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"b"}}\n\n'
    )  # fmt: skip


def test_a_call_is_closed_as_soon_as_it_is_whole_and_the_next_one_has_begun() -> None:
    writer = anthropic_messages.writer(STAMP, include_usage=True)
    writer.write(ToolCallDelta(0, "a", "f", '{"x":{}'))
    assert writer.write(ToolCallDelta(1, "b", "g")) == b""
    assert b'"content_block_stop"' in writer.write(ToolCallDelta(0, arguments="}"))
    assert b'"partial_json":"{}"' in writer.write(ToolCallDelta(1, arguments="{}"))


def test_pieces_of_parallel_calls_wait_for_their_turn() -> None:
    events = [ToolCallDelta(0, "a", "f"), ToolCallDelta(1, "b", "g"), ToolCallDelta(1, arguments='{"y":'),
              ToolCallDelta(0, arguments='{"x":'), TextDelta("And so."), ToolCallDelta(0, arguments="1}"),
              ToolCallDelta(1, arguments="2}"), Finished("tool_calls")]  # fmt: skip
    pieces: dict[int, str] = {}
    for document in checked(write(events)):
        if document["type"] == "content_block_delta":
            delta = document["delta"]
            pieces[document["index"]] = pieces.get(document["index"], "") + delta.get("partial_json", delta.get("text"))
    assert pieces == {0: '{"x":1}', 1: '{"y":2}', 2: "And so."}


def test_thoughts_after_a_signature_are_other_thoughts() -> None:
    events = [ThinkingDelta("a", "1"), ThinkingDelta("", "2"), ThinkingDelta("c"), Finished("stop")]
    starts = [d for d in checked(write(events)) if d["type"] == "content_block_start"]
    assert len(starts) == 3


def test_an_empty_answer_is_a_whole_stream() -> None:
    assert [d["type"] for d in checked(write([]))] == ["message_start", "ping", "message_delta", "message_stop"]
    assert checked(write([Finished("stop"), Usage(3, 0)]))[-2]["usage"]["input_tokens"] == 3


def test_the_counts_may_come_before_the_reason_and_grow() -> None:
    events = [Usage(5, 1), TextDelta("a"), Usage(5, 2), Finished("stop"), Usage(5, 3)]
    assert checked(write(events))[-2]["usage"]["output_tokens"] == 3


SCENES = {
    "words": Scene(),
    "thoughts": Scene(thinking="Let me see.", signature="c2lnbmVk", cached_tokens=5, cache_write_tokens=3),
    "calls": Scene(text="I look.", calls=TWO_CALLS),
    "thoughts and calls": Scene(thinking="Hm.", signature="c2ln", text="", calls=TWO_CALLS),
    "cut short": Scene(finish="length"),
    "refused": Scene(finish="filter"),
}


@pytest.mark.parametrize("name", sorted(SCENES))
def test_the_sdk_puts_a_stream_together_again(name: str) -> None:
    reader = anthropic_messages.reader()
    events = [event for frame in upstream_frames(SCENES[name]) for event in reader.read_frame(frame)]
    answer = Answer.collect(events)
    with Upstream(answering(stream(write(events)))) as upstream:
        sdk = anthropic.Anthropic(base_url=upstream.url, api_key="k", max_retries=0)
        with sdk, sdk.messages.stream(model="fast", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]) as it:
            final = it.get_final_message()
    assert anthropic_messages.read_answer(json.loads(final.to_json())) == compact(answer)


def compact(answer: Answer) -> Answer:
    """With the arguments of calls as they are once they have been read: without spaces."""
    parts = [
        ToolCall(part.id, part.name, dumps(json.loads(part.arguments)).decode()) if isinstance(part, ToolCall) else part
        for part in answer.choices[0].parts
    ]
    return Answer((Choice(tuple(parts), answer.choices[0].finish_reason),), answer.usage)


def test_the_sdk_raises_what_broke_a_stream() -> None:
    writer = anthropic_messages.writer(STAMP, include_usage=True)
    written = writer.write(TextDelta("a")) + writer.fail(Fault(503, "api_error", "Busy.", "x"), "r1")
    with Upstream(answering(stream(written))) as upstream:
        sdk = anthropic.Anthropic(base_url=upstream.url, api_key="k", max_retries=0)
        with (
            pytest.raises(anthropic.APIStatusError, match=r"Busy\."),
            sdk,
            sdk.messages.stream(model="fast", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]) as it,
        ):
            it.get_final_message()


# -- errors


@pytest.mark.parametrize(
    ("status", "type_"),
    [
        (400, "invalid_request_error"), (401, "authentication_error"), (402, "billing_error"),
        (403, "permission_error"), (404, "not_found_error"), (405, "invalid_request_error"),
        (413, "request_too_large"), (415, "invalid_request_error"), (429, "rate_limit_error"), (500, "api_error"),
        (502, "api_error"), (503, "overloaded_error"), (504, "timeout_error"), (529, "overloaded_error"),
    ],
)  # fmt: skip
def test_an_error_is_named_by_its_status(status: int, type_: str) -> None:
    written = json.loads(anthropic_messages.write_error(Fault(status, "api_error", "So it is."), "r1"))
    assert written == {"type": "error", "error": {"type": type_, "message": "So it is."}, "request_id": "r1"}


@pytest.mark.parametrize(
    ("message", "told"),
    [("Not complete.", "messages[0]: Not complete."), ("messages[0] is odd.", "messages[0] is odd.")],
)
def test_the_field_that_is_wrong_is_in_the_sentence(message: str, told: str) -> None:
    fault = Fault(400, "invalid_request_error", message, param="messages[0]")
    assert json.loads(anthropic_messages.write_error(fault, "r1"))["error"]["message"] == told


# -- straight through


def upstream_frames(scene: Scene) -> list[bytes]:
    return [spelt(*event, crlf=scene.crlf) for event in message_events(THEIRS, scene)]


def tapped(frames: Iterable[bytes], model: str | None = OURS) -> tuple[bytes, Any]:
    tap = anthropic_messages.tap(model, include_usage=True)
    return b"".join(tap.see(frame) or b"" for frame in frames), tap


def with_our_name(raw: bytes) -> bytes:
    for written in (b'"model": "%b"', b'"model":"%b"'):
        raw = raw.replace(written % THEIRS.encode(), b'"model":' + json.dumps(OURS).encode(), 1)
    return raw


@pytest.mark.parametrize("crlf", [False, True])
@pytest.mark.parametrize("name", sorted(SCENES))
def test_frames_pass_byte_for_byte_but_for_the_models_name(name: str, crlf: bool) -> None:
    scene = Scene(**{field: getattr(SCENES[name], field) for field in Scene.__dataclass_fields__} | {"crlf": crlf})
    frames = upstream_frames(scene)
    passed, tap = tapped([b": keep-alive\n\n", *frames])
    assert passed == b": keep-alive\n\n" + with_our_name(b"".join(frames))
    assert THEIRS.encode() not in passed
    reader = anthropic_messages.reader()
    answer = Answer.collect(event for frame in frames for event in reader.read_frame(frame))
    assert (tap.usage, tap.finish_reason, tap.ended) == (answer.usage, answer.choices[0].finish_reason, True)
    assert tapped(frames, model=None)[0] == b"".join(frames)


def test_only_what_begins_to_say_something_is_content() -> None:
    frames = upstream_frames(SCENES["words"])
    before = list(itertools.takewhile(lambda frame: b"content_block_delta" not in frame, frames))
    assert not tapped([*before, spelt("ping", {"type": "ping"})])[1].content
    assert tapped(frames[: len(before) + 1])[1].content
    called = {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "a", "name": "f"}}
    assert tapped([frames[0], spelt("content_block_start", called)])[1].content


def test_pieces_are_counted_and_not_read() -> None:
    odd = b"event: content_block_delta\ndata: {whatever this is\n\n"
    bare = b'data: {"type": "content_block_delta", neither is this\n\n'
    passed, tap = tapped([*upstream_frames(SCENES["words"])[:4], odd, bare])
    assert passed.endswith(odd + b"event: content_block_delta\n" + bare)
    assert tap.pieces >= 3


def test_what_a_model_says_of_itself_is_left_as_it_is() -> None:
    words = f'"model": "{THEIRS}" "content_block_delta" "message_stop"'
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": words}}
    tricky = json.dumps(delta).encode()
    frames = upstream_frames(SCENES["words"])
    passed, tap = tapped([*frames[:4], b"data: " + tricky + b"\n\n", *frames[4:]])
    assert tricky in passed
    assert tap.ended


def test_the_counts_of_the_end_hold_unless_they_say_nothing() -> None:
    start = {
        "type": "message_start",
        "message": {
            "model": THEIRS,
            "content": [],
            "usage": {"input_tokens": 472, "cache_read_input_tokens": 8, "output_tokens": 2},
        },
    }
    end = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"input_tokens": 0, "cache_read_input_tokens": None, "output_tokens": 89},
    }
    _, tap = tapped([spelt("message_start", start), spelt("message_delta", end)])
    assert tap.usage == Usage(480, 89, cached=8)
    assert tapped([spelt("message_start", start)])[1].usage is None  # what came before the end is not the whole


@pytest.mark.parametrize("late", [False, True], ids=["first", "after content"])
def test_an_error_in_a_frame_is_an_error(late: bool) -> None:
    frames = upstream_frames(SCENES["words"])[: 4 if late else 1]
    tap = tapped(frames)[1]
    assert tap.content is late
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(ProviderError) as raised:
        tap.see(spelt("error", error))
    assert raised.value.retryable


def test_a_stream_without_its_end_mark_is_given_one() -> None:
    *most, _ = upstream_frames(SCENES["words"])
    with Upstream(answering(stream(*most))) as upstream:
        lane = straight(upstream)
        lane.start()
        passed = b"".join(lane)
        lane.close()
    assert passed == with_our_name(b"".join(most)) + b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def test_a_stream_that_does_not_say_why_it_ended_was_cut() -> None:
    frames = upstream_frames(SCENES["words"])[:5]
    with Upstream(answering(stream(*frames))) as upstream:
        lane = straight(upstream)
        lane.start()
        with pytest.raises(ProviderError) as error:
            b"".join(lane)
        assert error.value.kind == "cut"
        told = json.loads(lane.fail(Fault(502, "api_error", "Cut."), "r1").partition(b"data: ")[2])
        assert told == {"type": "error", "error": {"type": "api_error", "message": "Cut."}, "request_id": "r1"}
        lane.close()


def straight(upstream: Upstream) -> StraightStream:
    target = account(upstream.url)
    response = client.send(post(upstream.url), target, stream=True)
    return StraightStream(response, anthropic_messages.tap(OURS, True))


def translated(upstream: Upstream) -> TranslatedStream:
    target = account(upstream.url)
    response = client.send(post(upstream.url), target, stream=True)
    events = UpstreamEvents(response, anthropic_messages.reader())
    return TranslatedStream(events, anthropic_messages.writer(STAMP, True))


@pytest.mark.parametrize("lane_of", [straight, translated])
def test_a_stream_cut_in_two_at_any_byte_is_the_same_stream(lane_of: Any) -> None:
    frames = upstream_frames(Scene(text="雨", calls=TWO_CALLS[:1]))
    raw = b"".join(frames)
    reader = anthropic_messages.reader()
    afresh = write(event for frame in frames for event in reader.read_frame(frame))
    wanted = with_our_name(raw) if lane_of is straight else afresh

    def script(wire: Wire) -> None:
        at = 0
        while wire.request() is not None:
            at += 1
            wire.say(EVENT_STREAM + http_chunk(raw[:at]), http_chunk(raw[at:]) + LAST_CHUNK, pause=0.0002)

    with Upstream(script) as upstream:
        for _ in range(1, len(raw)):
            lane = lane_of(upstream)
            lane.start()
            assert b"".join(lane) == wanted
            lane.close()
        assert upstream.connections == 1


@pytest.mark.parametrize("name", sorted(SCENES))
def test_a_whole_answer_passes_but_for_the_models_name(name: str) -> None:
    document = message_whole(THEIRS, SCENES[name])
    document["content"].append({"type": "tool_use", "id": "z", "name": "f", "input": {"model": THEIRS, "content": []}})
    raw = json.dumps(document, indent=1, ensure_ascii=False).encode()
    passed, usage = anthropic_messages.pass_answer(raw, OURS)
    assert passed == with_our_name(raw)
    read = anthropic_messages.read_answer(document)
    assert usage == read.usage
    assert anthropic_messages.pass_answer(raw, None)[0] == raw


def test_a_name_that_stands_behind_the_content_is_found_as_well() -> None:
    document = {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "model": THEIRS, "usage": None}
    passed, usage = anthropic_messages.pass_answer(dumps(document), OURS)
    assert json.loads(passed) == {**document, "model": OURS}
    assert usage is None


@pytest.mark.parametrize(
    "raw", [b"{}", b"[]", b"text", b'{"content": [], "stop_reason": null}', b'{"stop_reason": "end_turn"}']
)
def test_what_is_no_message_is_a_fault_of_the_upstream(raw: bytes) -> None:
    with pytest.raises(ProviderError):
        anthropic_messages.pass_answer(raw, OURS)


def test_a_body_passes_but_for_the_models_name() -> None:
    asked = claude_code()
    sent = anthropic_messages.readdress(asked, anthropic_messages.peek(asked), THEIRS, ask_usage=True)
    assert list(sent) == list(asked)
    assert sent == {**asked, "model": THEIRS}
    assert asked["model"] == "fast"


# -- headers that go with it

PASSED = {"anthropic-version": "2026-10-21", "anthropic-beta": BETAS}


def target_of(kind: str, **settings: str) -> Target:
    return Target("Main", kind, settings, {"api_key": "sk-ours", "pat": "p"}, "token", {"Anthropic-Beta": "ours"})


def test_the_callers_version_and_betas_go_to_upstreams_that_speak_it() -> None:
    ours = target_of("anthropic", url="https://api.example", version="2023-06-01")
    sent = Anthropic().request(ours, "/v1/messages", {}, PASSED).headers
    assert {name: sent[name] for name in PASSED} == PASSED
    assert [name for name in sent if name.lower() == "anthropic-beta"] == ["anthropic-beta"]
    assert sent["x-api-key"] == "sk-ours"
    unasked = Anthropic().request(ours, "/v1/messages", {}).headers
    assert (unasked["anthropic-version"], unasked["Anthropic-Beta"]) == ("2023-06-01", "ours")


def test_snowflake_gets_the_betas_and_the_version_it_documents() -> None:
    ours = target_of("snowflake", url="https://a.example", auth="pat")
    sent = Snowflake().request(ours, CORTEX_MESSAGES, {}, PASSED).headers
    assert (sent["anthropic-version"], sent["anthropic-beta"]) == ("2023-06-01", BETAS)
    assert Snowflake().request(ours, CORTEX_MESSAGES, {}).headers["anthropic-version"] == "2023-06-01"
    assert "anthropic-version" not in Snowflake().request(ours, "/other", {}).headers


def test_strangers_get_none_of_them() -> None:
    ours = Target("Head", "ocf", {"url": "http://head.example"})
    path = "/v1/service/llm/v1/chat/completions"
    assert OCF().request(ours, path, {"model": "m"}, PASSED) == OCF().request(ours, path, {"model": "m"})


# -- Claude at SAP, reached with the caller's own body

SAP = SAPAICore()
INVOKE = "https://api.example/v2/inference/deployments/d1/invoke"
AT_SAP = Target("SAP", "sap_ai_core", {}, {"service_key": "{}"}, "token")


def invoked(asked: Json, passed: Json | None = None) -> Json:
    """What reaches Bedrock of a caller's body: a strict server has looked at it."""
    model = UpstreamModel("anthropic--claude-4.5-sonnet", url="https://api.example/v2/inference/deployments/d1")
    assert SAP.speaks(model, AT_SAP)["anthropic_messages"] == INVOKE
    readdressed = anthropic_messages.readdress(asked, anthropic_messages.peek(asked), model.name, True)
    request = SAP.request(AT_SAP, INVOKE, readdressed, passed or {})
    assert not any(name.lower().startswith("anthropic") for name in request.headers)
    sent = json.loads(request.body)
    check_messages_body(sent, known=Invoke.fields, needs_model=False)
    return sent


def test_claude_at_sap_keeps_marks_and_signatures() -> None:
    asked = claude_code()
    sent = invoked(asked, {"anthropic-beta": BETAS})
    assert sent["messages"] == asked["messages"]
    assert [block.get("cache_control") for block in sent["system"]] == [None, *[{"type": "ephemeral", "ttl": "1h"}] * 2]
    assert sent["tools"] == asked["tools"]
    assert (sent["thinking"], sent["max_tokens"]) == (asked["thinking"], 32_000)
    # Bedrock refuses a request for a beta it does not know.
    assert sent["anthropic_beta"] == ["interleaved-thinking-2025-05-14"]
    assert "anthropic_beta" not in invoked(asked)
    assert SAP.leaves_out(INVOKE, asked) == ["metadata", "context_management", "invented_tomorrow"]


def test_the_same_turn_in_the_middles_words_loses_no_marks_or_signatures_either() -> None:
    asked = claude_code()
    request = anthropic_messages.parse_request(asked)
    spoken = LANGUAGES["bedrock_messages"].write_request(request, "anthropic--claude-4.5-sonnet")
    sent = json.loads(SAP.request(AT_SAP, INVOKE, spoken).body)
    check_messages_body(sent, known=Invoke.fields, needs_model=False)
    assert sent["messages"][:2] == asked["messages"][:2]
    assert [block.get("cache_control") for block in sent["messages"][2]["content"]] == [None, EPHEMERAL, None]
    assert [block.get("cache_control", {}).get("ttl") for block in sent["system"]] == [None, "1h", "1h"]
    assert sent["tools"] == asked["tools"]
    assert sent["thinking"] == {"type": "enabled", "budget_tokens": 16_384}


def test_tools_at_sap_have_no_fields_bedrock_does_not_know() -> None:
    tool = {"name": "f", "input_schema": CITY, "defer_loading": True, "cache_control": {**EPHEMERAL, "scope": "global"}}
    assert invoked(body(tools=[tool]))["tools"] == [{"name": "f", "input_schema": CITY, "cache_control": EPHEMERAL}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
        ({"mcp_servers": [{"url": "https://mcp.example"}]}, "mcp_servers"),
        ({"container": "c1"}, "container"),
        ({"output_format": {"type": "json_schema", "schema": CITY}}, "output_format"),
        ({"output_config": {"format": {"type": "json_schema", "schema": CITY}}}, "output_config.format"),
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}]}, "messages"),
    ],
)  # fmt: skip
def test_what_bedrock_cannot_take_as_it_is_is_refused_by_name(fields: Json, param: str) -> None:
    with pytest.raises(CannotCarry, match=r"\.$") as refusal:
        invoked(body(**fields))
    assert refusal.value.param == param


@given(st.dictionaries(st.sampled_from(["system", "tools", "messages", "output_config", "tool_choice"]), json_values))
@CALM
def test_whatever_a_caller_sends_to_sap_is_sent_or_refused(fields: Json) -> None:
    blocks = fields.pop("messages", "Hi")
    message = {"role": "user", "content": blocks}
    try:
        SAP.request(AT_SAP, INVOKE, body(messages=[message, {"role": "user", "content": [blocks]}], **fields))
    except CannotCarry:
        pass  # any other exception fails the test


# -- counting


def test_tokens_are_counted_by_the_upstream_and_cost_nothing() -> None:
    asked = body(max_tokens=None)
    envelope = anthropic_count_tokens.peek(asked)
    assert anthropic_count_tokens.readdress(asked, envelope, THEIRS, True) == {**asked, "model": THEIRS}
    assert anthropic_count_tokens.pass_answer(b'{ "input_tokens": 14 }', OURS) == (
        b'{ "input_tokens": 14 }', Usage()
    )  # fmt: skip
    for raw in (b"{}", b'{"input_tokens": "14"}', b"[]"):
        with pytest.raises(ProviderError):
            anthropic_count_tokens.pass_answer(raw, OURS)


@pytest.mark.parametrize("fields", [{"model": None}, {"messages": None}, {"messages": [7]}])
def test_what_cannot_be_counted_is_refused(fields: Json) -> None:
    with pytest.raises(BadRequest):
        anthropic_count_tokens.peek(body(**fields))


def test_an_estimate_weighs_text_pictures_and_tools() -> None:
    alone = estimate(body())
    assert 1 <= alone <= 10
    assert estimate(body(system="x" * 4000)) == alone + 1000
    assert estimate(body(system=[text("x" * 4000)])) == alone + 1000
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE * 1000}}
    shown = said(picture)
    assert 1500 <= estimate(shown) < 1520
    result = said({"type": "tool_result", "tool_use_id": "a", "content": [picture, text("y" * 400)]})
    assert 1600 <= estimate(result) < 1620
    tool = {"name": "f", "description": "z" * 400, "input_schema": CITY}
    assert 120 < estimate(body(tools=[tool])) - alone < 160
    called = said({"type": "tool_use", "id": "a", "name": "f", "input": {"x": "y" * 400}}, role="assistant")
    assert 100 < estimate(called) < 120
    assert json.loads(anthropic_count_tokens.estimated(claude_code()) or b"")["input_tokens"] > 100_000 // 4


@given(st.lists(json_values, min_size=1), json_values, json_values)
@CALM
def test_anything_can_be_estimated(content: list[Any], system: Any, offered: Any) -> None:
    messages = [{"role": "user", "content": each} for each in content]
    assert estimate({"model": "m", "messages": messages, "system": system, "tools": offered}) >= len(content)


# -- odd input

odd = st.recursive(
    json_values | st.none() | st.sampled_from(["text", "image", "tool_use", "tool_result", "thinking", "enabled"]),
    lambda inner: st.dictionaries(
        st.sampled_from("type text content source name input input_schema thinking cache_control id".split()),
        inner, max_size=4,
    ) | st.lists(inner, max_size=2),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(READ - {"model", "max_tokens", "messages"})), odd, max_size=3), odd)
@settings(deadline=None, database=None, max_examples=300)
def test_any_json_is_a_request_or_refused_by_name(fields: Json, content: Any) -> None:
    asked = body(messages=[{"role": "user", "content": content}, {"role": "assistant", "content": [content]}]) | fields
    try:
        anthropic_messages.needs(asked)
        anthropic_messages.clamp(asked, 9)
        anthropic_messages.parse_request(asked)
    except (BadRequest, CannotCarry):
        pass  # any other exception fails the test


def test_what_a_tool_has_shown_and_nobody_else_can_show_is_told_of() -> None:
    """As the PDF an agent has read: it stays in the conversation, which must go on."""
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}
    answer = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "Read."}, pdf]}
    call = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {}}
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [answer]},
    ]
    request = anthropic_messages.parse_request(body(messages=turns))
    (result,) = request.messages[-1].parts
    assert result == ToolResult(
        "toolu_1", (Text("Read."), Text("A document was here, which cannot be shown to this model."))
    )
    assert openai_chat.dropped(request, "m") == ["messages.document"]
    assert "messages.document" not in anthropic_messages.write_request(request, THEIRS)
    assert "messages.document" not in LANGUAGES["bedrock_messages"].write_request(request, THEIRS)


@pytest.mark.parametrize("content", [[None], [5], [{}], [{"type": 5}], "x", [{"type": "tool_result"}]])
def test_an_odd_answer_of_a_tool_is_no_crash(content: Any) -> None:
    turns = [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": content}]}]
    with suppress(BadRequest, CannotCarry):
        anthropic_messages.parse_request(body(messages=turns))
