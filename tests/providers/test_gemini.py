"""Gemini's wire format: what is asked, what is refused, what comes back (upstreams/sap-ai-core.md §2.6, 3, 4.4)."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
from providers.languages.gemini import Gemini
from providers.wire.errors import CannotCarry, ProviderError

gemini = Gemini()
PNG = "data:image/png;base64,iVBORw0KGgo="
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = Tool("get_weather", "The weather", CITY)


def user(text: str = "Hello!") -> Message:
    return Message("user", (Text(text),))


def asked(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest("fast", messages or (user(),), **fields)


def written(*messages: Message, **fields: Any) -> dict[str, Any]:
    return gemini.write_request(asked(*messages, **fields), "gemini-2.5-flash")


def refused(*messages: Message, **fields: Any) -> str:
    with pytest.raises(CannotCarry) as error:
        written(*messages, **fields)
    assert error.value.message.endswith(".")
    return error.value.param


def frame(document: object, end: str = "\n\n") -> bytes:
    return f"data: {json.dumps(document)}{end}".encode()


def candidate(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    said = {"content": {"role": "model", "parts": list(parts)}} | ({"finishReason": finish} if finish else {})
    return {"candidates": [said | more]}


def read(*frames: bytes) -> list[Event]:
    reader = gemini.reader()
    events = [event for each in frames for event in reader.read_frame(each)]
    assert not reader.ended, "counts may still follow, so only the body's end ends the answer"
    return [*events, *reader.read_end()]


def kind_of_failure(*frames: bytes) -> str:
    with pytest.raises(ProviderError) as error:
        read(*frames)
    return error.value.kind


# -- requests


def test_a_plain_question_is_contents_and_nothing_else() -> None:
    assert written() == {"contents": [{"role": "user", "parts": [{"text": "Hello!"}]}]}


def test_streaming_is_said_to_the_provider_and_only_when_it_is_wanted() -> None:
    assert written(stream=True)["stream"] is True
    assert "stream" not in written(stream=False)


def test_system_messages_become_the_instruction_wherever_they_stand() -> None:
    body = written(
        Message("system", (Text("Be brief."), Text(""), CachePoint())), user(), Message("system", (Text("Be kind."),))
    )
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": "Hello!"}]}]


def test_neighbours_of_one_role_are_one_turn() -> None:
    body = written(
        user("One."), Message("system", (Text("Hm."),)), user("Two."), Message("assistant", (Text("Three."),))
    )
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "One."}, {"text": "Two."}]},
        {"role": "model", "parts": [{"text": "Three."}]},
    ]


def test_who_says_nothing_has_no_turn() -> None:
    body = written(user("One."), Message("assistant", (Text(""), Thinking("Hm."))), user("Two."))
    assert body["contents"] == [{"role": "user", "parts": [{"text": "One."}, {"text": "Two."}]}]


def test_an_image_goes_along_as_inline_data() -> None:
    body = written(Message("user", (Text("What is it?"), Image(PNG, "low"))))
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
    assert body["contents"][0]["parts"] == [{"text": "What is it?"}, image]


def test_parallel_calls_are_answered_in_one_turn_of_the_user() -> None:
    body = written(
        user(),
        Message("assistant", (ToolCall("a", "get_weather", '{"city":"Bern"}'), ToolCall("b", "get_time", ""))),
        Message("tool", (ToolResult("b", (Text("noon"), Text("ish"))),)),
        Message("tool", (ToolResult("a", (Text('{"degrees": 20}'),)),)),
    )
    assert body["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "get_weather", "args": {"city": "Bern"}}},
                {"functionCall": {"name": "get_time", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "get_time", "response": {"result": "noonish"}}},
                {"functionResponse": {"name": "get_weather", "response": {"degrees": 20}}},
            ],
        },
    ]


@pytest.mark.parametrize("text", ["[1, 2]", "20", "", '"20"', "20 degrees", "null", "\ud800"])
def test_what_a_tool_answers_is_an_object_even_if_it_said_something_else(text: str) -> None:
    said = (
        user(),
        Message("assistant", (ToolCall("a", "f", "{}"),)),
        Message("tool", (ToolResult("a", (Text(text),)),)),
    )
    response = written(*said)["contents"][2]["parts"][0]["functionResponse"]
    assert response == {"name": "f", "response": {"result": text}}


def test_thinking_and_cache_points_of_the_past_are_left_out() -> None:
    body = written(user(), Message("assistant", (Thinking("Hm.", "sig"), Text("Yes."), CachePoint("1h"))), user("Why?"))
    assert body["contents"][1] == {"role": "model", "parts": [{"text": "Yes."}]}


CONFIG: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"max_tokens": 16}, {"maxOutputTokens": 16}),
    ({"temperature": 0}, {"temperature": 0}),
    ({"top_p": 0.9}, {"topP": 0.9}),
    ({"stop": ("END",)}, {"stopSequences": ["END"]}),
    ({"n": 2}, {"candidateCount": 2}),
    ({"seed": -42}, {"seed": -42}),
    ({"json_format": JSONFormat()}, {"responseMimeType": "application/json"}),
    ({"json_format": JSONFormat(CITY, "city")}, {"responseMimeType": "application/json", "responseSchema": CITY}),
    ({"reasoning_effort": "low"}, {"thinkingConfig": {"thinkingBudget": 1024}}),
    ({"reasoning_effort": "medium"}, {"thinkingConfig": {"thinkingBudget": 4096}}),
    ({"reasoning_effort": "high"}, {"thinkingConfig": {"thinkingBudget": 16384}}),
    ({"reasoning_effort": "max"}, {"thinkingConfig": {"thinkingBudget": 24576}}),
]


@pytest.mark.parametrize(("fields", "config"), CONFIG, ids=[str(fields) for fields, _ in CONFIG])
def test_each_field_finds_its_place_in_the_configuration(fields: dict[str, Any], config: dict[str, Any]) -> None:
    assert written(**fields)["generationConfig"] == config
    assert gemini.dropped(asked(**fields), "m") == []


def test_tools_are_declared_once_with_their_parameters() -> None:
    body = written(tools=(WEATHER, Tool("get_time"), Tool("noop", "", {"type": "object", "properties": {}})))
    assert body["tools"] == [
        {
            "functionDeclarations": [
                {"name": "get_weather", "description": "The weather", "parameters": CITY},
                {"name": "get_time"},
                {"name": "noop"},
            ]
        }
    ]
    assert "toolConfig" not in body


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("tool", "get_weather"), {"mode": "ANY", "allowedFunctionNames": ["get_weather"]}),
    ],
)
def test_the_choice_of_a_tool_is_a_mode(choice: ToolChoice, config: dict[str, Any]) -> None:
    assert written(tools=(WEATHER,), tool_choice=choice)["toolConfig"] == {"functionCallingConfig": config}


def test_a_choice_among_no_tools_is_none() -> None:
    assert written(tool_choice=ToolChoice("none")).keys() == {"contents"}


def test_what_has_no_place_is_left_out_and_told() -> None:
    fields: dict[str, Any] = {"user": "ada", "parallel_tool_calls": False, "reasoning_effort": "none"}
    penalties = {"presence_penalty": 0.5, "frequency_penalty": -0.5}
    request = asked(**fields, **penalties, extras={"top_k": 4})
    assert gemini.write_request(request, "m").keys() == {"contents"}
    assert sorted(gemini.dropped(request, "m")) == sorted([*fields, *penalties, "top_k"])


# -- schemas

SCHEMAS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "string", "minLength": 1, "title": "City"}, {"type": "string", "minLength": 1, "title": "City"}),
    ({"$schema": "x", "$defs": {}, "additionalProperties": False, "type": "object"}, {"type": "object"}),
    ({"type": "integer", "exclusiveMinimum": 0, "multipleOf": 2, "examples": [4]}, {"type": "integer"}),
    ({"type": "string", "format": "date-time"}, {"type": "string", "format": "date-time"}),
    ({"type": "string", "format": "uri"}, {"type": "string"}),
    ({"type": "string", "enum": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
    ({"type": "integer", "enum": [1, 2]}, {"type": "integer"}),
    ({"type": "string", "enum": ["a", ""]}, {"type": "string"}),
    ({"const": "a", "type": "string"}, {"type": "string", "enum": ["a"]}),
    ({"type": ["string", "null"], "enum": ["a", None]}, {"type": "string", "enum": ["a"], "nullable": True}),
    ({"type": ["string", "number"]}, {"anyOf": [{"type": "string"}, {"type": "number"}]}),
    ({"anyOf": [{"type": "string"}, {"type": "null"}], "description": "A city", "default": None},
     {"type": "string", "nullable": True, "description": "A city"}),
    ({"oneOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}], "title": "T"},
     {"anyOf": [{"type": "string", "nullable": True}, {"type": "integer", "nullable": True}]}),
    ({"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}]},
     {"type": "object", "properties": {"a": {"type": "string"}}}),
    ({"type": "array", "items": {"type": "string", "$id": "x"}}, {"type": "array", "items": {"type": "string"}}),
    ({"type": "array", "items": True}, {"type": "array", "items": {}}),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "kept"), SCHEMAS, ids=[json.dumps(schema) for schema, _ in SCHEMAS])
def test_a_schema_is_cut_down_to_what_is_understood(schema: dict[str, Any], kept: dict[str, Any]) -> None:
    outer = {"type": "object", "properties": {"additionalProperties": schema}, "required": ["additionalProperties"]}
    declared = written(tools=(Tool("f", None, outer),))["tools"][0]["functionDeclarations"][0]["parameters"]
    assert declared == outer | {"properties": {"additionalProperties": kept}}
    assert written(json_format=JSONFormat(schema))["generationConfig"]["responseSchema"] == kept


def test_a_callers_schema_is_not_touched() -> None:
    schema = {"$schema": "x", "type": "object", "properties": {"a": {"type": ["string", "null"]}}}
    before = json.dumps(schema)
    written(tools=(Tool("f", None, schema),))
    assert json.dumps(schema) == before


# -- refusals

FETCHED = Message("user", (Image("https://example.com/cat.png"),))
CALL = Message("assistant", (ToolCall("a", "f", "{}"),))
REFUSALS: dict[str, tuple[tuple[Message, ...], dict[str, Any], str]] = {
    "an image to fetch": ((FETCHED,), {}, "messages"),
    "an image that is not in base64": ((Message("user", (Image("data:image/svg+xml,<svg/>"),)),), {}, "messages"),
    "an image for the system": ((Message("system", (Image(PNG),)), user()), {}, "messages"),
    "an answer to no call": ((user(), CALL, Message("tool", (ToolResult("b", (Text("x"),)),))), {}, "messages"),
    "a part of another language": ((Message("user", (Opaque("openai_chat", {"type": "file"}),)),), {}, "messages"),
    "a model that speaks first": ((Message("assistant", (Text("Hi."),)), user()), {}, "messages"),
    "nobody who speaks": ((Message("system", (Text("Be brief."),)),), {}, "messages"),
    "a reference in a tool": ((), {"tools": (Tool("f", None, {"$ref": "#/$defs/a"}),)}, "tools"),
    "a sum of schemas in a tool": (
        (), {"tools": (Tool("f", None, {"properties": {"a": {"allOf": [{"type": "string"}]}}}),)}, "tools"
    ),
    "a reference in the answer's form": (
        (), {"json_format": JSONFormat({"type": "array", "items": {"$ref": "#"}})}, "response_format"
    ),
    "what must not be dropped": ((), {"indispensable": frozenset(["top_logprobs", "logprobs"])}, "logprobs"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_carried_is_refused_by_name(case: str) -> None:
    messages, fields, param = REFUSALS[case]
    assert refused(*messages, **fields) == param


# -- whole answers

WHOLE = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [
                    {"text": "Let me see.", "thought": True},
                    {"text": "It is ", "thoughtSignature": "c2ln"},
                    {"text": "sunny."},
                ],
            },
            "finishReason": "STOP",
            "avgLogprobs": -0.1,
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 19,
        "candidatesTokenCount": 10,
        "totalTokenCount": 34,
        "cachedContentTokenCount": 8,
        "thoughtsTokenCount": 5,
    },
    "modelVersion": "gemini-2.5-flash",
}


def test_a_whole_answer_is_read_with_its_thoughts_and_counts() -> None:
    assert gemini.read_answer(WHOLE) == Answer(
        (Choice((Thinking("Let me see."), Text("It is sunny.")), "stop"),),
        Usage(input=19, output=15, cached=8, reasoning=5),
    )


def test_calls_are_given_ids_and_change_the_reason() -> None:
    parts = [
        {"functionCall": {"name": "get_weather", "args": {"city": "Bern"}}},
        {"functionCall": {"name": "get_time"}},
    ]
    answer = gemini.read_answer(candidate(*parts, finish="STOP"))
    first, second = answer.choices[0].parts
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert (first.name, first.arguments, second.name, second.arguments) == (
        "get_weather", '{"city":"Bern"}', "get_time", "{}",
    )  # fmt: skip
    assert first.id != second.id
    assert first.id.startswith("call_")
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.usage is None


def test_several_candidates_are_several_choices() -> None:
    document = {"candidates": [*candidate({"text": "a"}, finish="STOP")["candidates"],
                               *candidate({"text": "b"}, finish="MAX_TOKENS", index=1)["candidates"]]}  # fmt: skip
    assert gemini.read_answer(document).choices == (Choice((Text("a"),), "stop"), Choice((Text("b"),), "length"))


def test_a_blocked_prompt_is_an_answer_that_was_filtered() -> None:
    blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 7}}
    assert gemini.read_answer(blocked) == Answer((Choice((), "content_filter"),), Usage(input=7))
    assert read(frame(blocked)) == [Finished("content_filter"), Usage(input=7)]


REASONS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "OTHER": "stop",
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_has_its_word(reason: str) -> None:
    assert gemini.read_answer(candidate({"text": "a"}, finish=reason)).choices[0].finish_reason == REASONS[reason]


@pytest.mark.parametrize("reason", ["MAX_TOKENS", "SAFETY"])
def test_a_call_does_not_hide_that_an_answer_was_cut_short(reason: str) -> None:
    answer = gemini.read_answer(candidate({"functionCall": {"name": "f"}}, finish=reason))
    assert answer.choices[0].finish_reason == REASONS[reason]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"candidates": []},
        {"candidates": 5},
        {"candidates": ["a"]},
        candidate({"text": "a"}),
        candidate({"functionCall": "f"}, finish="STOP"),
        candidate({"functionCall": {"name": "f", "args": []}}, finish="STOP"),
        {"candidates": [{"content": [], "finishReason": "STOP"}]},
        candidate(finish="MALFORMED_FUNCTION_CALL"),
        {"promptFeedback": []},
        {"candidates": None, "usageMetadata": 5},
    ],
)
def test_what_is_no_answer_is_a_fault_of_the_upstream(document: dict[str, Any]) -> None:
    with pytest.raises(ProviderError) as error:
        gemini.read_answer(document)
    assert (error.value.kind, error.value.retryable) == ("broken", True)


# -- streams


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", ""])
def test_a_stream_is_read_and_the_last_counts_hold(end: str) -> None:
    events = read(
        b": keep-alive\n\n",
        frame(candidate({"text": "Hm.", "thought": True}) | {"usageMetadata": {"trafficType": "ON_DEMAND"}}, end),
        frame(
            candidate({"text": "It is "}) | {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2}}, end
        ),
        frame(candidate({"text": "sunny."}), end),
        frame(candidate({"text": ""}, finish="STOP"), end),
        frame({"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 3}}, end),
        b"\r\n",
    )
    assert events == [
        ThinkingDelta("Hm."),
        TextDelta("It is "),
        Usage(9, 2),
        TextDelta("sunny."),
        Finished("stop"),
        Usage(9, 7, reasoning=3),
    ]
    assert Answer.collect(events).usage == Usage(9, 7, reasoning=3)


def test_calls_of_a_stream_are_numbered_over_its_frames() -> None:
    call = {"functionCall": {"name": "f", "args": {"a": [1]}}}
    events = read(frame(candidate(call, call)), frame(candidate(call)), frame(candidate(finish="STOP")))
    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    assert [(call.index, call.name, call.arguments) for call in calls] == [(n, "f", '{"a":[1]}') for n in range(3)]
    assert len({call.id for call in calls}) == 3
    assert events[-1] == Finished("tool_calls")


def test_bare_json_is_read_as_a_frame() -> None:
    assert read(dumps(candidate({"text": "a"}, finish="STOP")) + b"\n\n") == [TextDelta("a"), Finished("stop")]
    assert read(json.dumps(candidate(finish="STOP"), indent=2).encode()) == [Finished("stop")]


def test_a_finish_that_is_repeated_counts_once() -> None:
    assert read(frame(candidate(finish="STOP")), frame(candidate(finish="STOP"))) == [Finished("stop")]


def test_a_stream_without_a_finish_was_cut() -> None:
    assert kind_of_failure(frame(candidate({"text": "a"}))) == "cut"
    assert kind_of_failure(b"event: ping\n\n", b"upstream connect error\n\n") == "cut"


def test_an_error_in_a_stream_is_an_error() -> None:
    def told(code: int, status: str) -> bytes:
        return frame({"error": {"code": code, "message": "No capacity in pool-7.", "status": status}})

    assert kind_of_failure(told(500, "INTERNAL")) == "broken"
    assert kind_of_failure(told(429, "RESOURCE_EXHAUSTED")) == "rate_limit"
    assert kind_of_failure(dumps({"error": {"code": 503, "status": "UNAVAILABLE"}})) == "unavailable"
    assert kind_of_failure(b"data: overloaded\n\n") == "broken"
    assert kind_of_failure(frame(candidate(finish="MALFORMED_FUNCTION_CALL"))) == "broken"


@pytest.mark.parametrize("document", [[], 5, "text", None, candidate(index=[]), candidate({"functionCall": 5})])
def test_a_frame_of_an_odd_shape_is_never_our_own_fault(document: object) -> None:
    with pytest.raises(ProviderError):
        gemini.reader().read_frame(frame(document))
