"""Converse's wire format: what is asked, what is refused, what comes back (upstreams/sap-ai-core.md §2.5, 3, 4.3)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from providers.languages.bedrock_converse import LARGEST_LITERAL, BedrockConverse
from providers.wire.errors import CannotCarry, ProviderError

converse = BedrockConverse()
PNG = "data:image/png;base64,iVBORw0KGgo="
POINT = {"cachePoint": {"type": "default"}}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = Tool("get_weather", "The weather", CITY)
CALLS = (
    Message("user", (Text("How is it?"),)),
    Message("assistant", (ToolCall("t1", "get_weather", '{"city":"Bern"}'),)),
    Message("tool", (ToolResult("t1", (Text("ok"),)),)),
)


def user(text: str = "Hello!") -> Message:
    return Message("user", (Text(text),))


def asked(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest("fast", messages or (user(),), **fields)


def written(*messages: Message, **fields: Any) -> dict[str, Any]:
    return converse.write_request(asked(*messages, **fields), "nova-pro")


def frame(event: object, end: str = "\n\n") -> bytes:
    """As SAP AI Core writes it: a Python literal."""
    return f"data: {event!r}{end}".encode()


def delta(index: int = 0, **inner: Any) -> bytes:
    return frame({"contentBlockDelta": {"delta": inner, "contentBlockIndex": index}})


def stop(reason: str = "end_turn") -> bytes:
    return frame({"messageStop": {"stopReason": reason}})


def read(*frames: bytes) -> list[Event]:
    reader = converse.reader()
    return [*(event for each in frames for event in reader.read_frame(each)), *reader.read_end()]


def failure(*frames: bytes) -> ProviderError:
    with pytest.raises(ProviderError) as error:
        read(*frames)
    return error.value


# -- requests


def test_a_plain_question_is_messages_and_nothing_else() -> None:
    assert written() == {"messages": [{"role": "user", "content": [{"text": "Hello!"}]}]}


def test_streaming_is_said_to_the_provider_and_only_when_it_is_wanted() -> None:
    assert written(stream=True)["stream"] is True
    assert "stream" not in written(stream=False)


def test_system_messages_stand_apart_with_their_cache_points() -> None:
    body = written(
        Message("system", (Text("Be brief."), CachePoint("1h"))), user(), Message("system", (Text("Or not."),))
    )
    assert body["system"] == [{"text": "Be brief."}, POINT, {"text": "Or not."}]
    assert body["messages"] == [{"role": "user", "content": [{"text": "Hello!"}]}]


def test_roles_take_turns_and_who_says_nothing_has_none() -> None:
    silent = Message("assistant", (Text(" \n"), Thinking("Hm.")))
    body = written(user("One."), silent, user("Two."), Message("assistant", (Text("Three."),)), user(""))
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "One."}, {"text": "Two."}]},
        {"role": "assistant", "content": [{"text": "Three."}]},
    ]


@pytest.mark.parametrize(
    ("media_type", "format"),
    [("image/png", "png"), ("image/jpeg", "jpeg"), ("IMAGE/JPG", "jpeg"), ("image/gif", "gif"), ("image/webp", "webp")],
)
def test_an_image_goes_along_as_bytes(media_type: str, format: str) -> None:
    body = written(Message("user", (Image(f"data:{media_type};base64,AAAA"), CachePoint())))
    assert body["messages"][0]["content"] == [{"image": {"format": format, "source": {"bytes": "AAAA"}}}, POINT]


def test_a_cache_point_stands_behind_something_and_once() -> None:
    body = written(Message("user", (CachePoint(), Text(""), Text("a"), CachePoint(), Text(" "), CachePoint("5m"))))
    assert body["messages"][0]["content"] == [{"text": "a"}, POINT]


def test_parallel_calls_are_answered_in_one_turn_of_the_user() -> None:
    body = written(
        user(),
        Message("assistant", (Text("Wait."), ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", " "))),
        Message("tool", (ToolResult("a", (Text("ok"), Image(PNG))),)),
        Message("tool", (ToolResult("b", (Text(""),)), CachePoint())),
        user("And?"),
        tools=(WEATHER,),
    )
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"text": "Wait."},
                {"toolUse": {"toolUseId": "a", "name": "f", "input": {"x": 1}}},
                {"toolUse": {"toolUseId": "b", "name": "g", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "toolResult": {
                        "toolUseId": "a",
                        "content": [{"text": "ok"}, {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}}],
                    }
                },
                {"toolResult": {"toolUseId": "b", "content": []}},
                POINT,
                {"text": "And?"},
            ],
        },
    ]


def test_ids_of_other_upstreams_are_made_to_fit_alike_in_call_and_result() -> None:
    odd = "functions.f:0/" + "x" * 64
    body = written(user(), Message("assistant", (ToolCall(odd, "f", "{}"), ToolCall("a.b", "f", "{}"))),
                   Message("tool", (ToolResult(odd, ()), ToolResult("a.b", ()))))  # fmt: skip
    called = [block["toolUse"]["toolUseId"] for block in body["messages"][1]["content"]]
    assert called == ["x" * 64, "a_b"]
    assert [block["toolResult"]["toolUseId"] for block in body["messages"][2]["content"]] == called


def test_signed_thinking_is_sent_back_and_unsigned_is_not() -> None:
    parts = (Thinking("Hm.", "sig"), Thinking("Ah."), Text("Yes."))
    assert written(user(), Message("assistant", parts))["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}},
        {"text": "Yes."},
    ]


CONFIG: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"max_tokens": 16}, {"maxTokens": 16}),
    ({"temperature": 0}, {"temperature": 0}),
    ({"temperature": 1.7}, {"temperature": 1}),
    ({"top_p": 0.9}, {"topP": 0.9}),
    ({"stop": ("X", "Y")}, {"stopSequences": ["X", "Y"]}),
]


@pytest.mark.parametrize(("fields", "config"), CONFIG, ids=[str(fields) for fields, _ in CONFIG])
def test_each_field_finds_its_place_in_the_configuration(fields: dict[str, Any], config: dict[str, Any]) -> None:
    assert written(**fields)["inferenceConfig"] == config
    assert converse.dropped(asked(**fields), "m") == []


def test_what_has_no_place_is_left_out_and_told() -> None:
    request = asked(
        seed=1, presence_penalty=0.5, frequency_penalty=0.5, parallel_tool_calls=False, user="ada", n=1,
        reasoning_effort="minimal", extras={"top_k": 4},
    )  # fmt: skip
    assert converse.write_request(request, "m").keys() == {"messages"}
    assert sorted(converse.dropped(request, "m")) == [
        "frequency_penalty", "parallel_tool_calls", "presence_penalty", "reasoning_effort", "seed", "top_k", "user",
    ]  # fmt: skip


# -- tools


def test_tools_are_declared_with_an_object_of_parameters() -> None:
    assert written(tools=(WEATHER, Tool("get_time", "")))["toolConfig"] == {
        "tools": [
            {"toolSpec": {"name": "get_weather", "description": "The weather", "inputSchema": {"json": CITY}}},
            {"toolSpec": {"name": "get_time", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
        ]
    }


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (ToolChoice("auto"), {"auto": {}}),
        (ToolChoice("required"), {"any": {}}),
        (ToolChoice("tool", "get_weather"), {"tool": {"name": "get_weather"}}),
    ],
)
def test_the_choice_of_a_tool_is_told(choice: ToolChoice, told: dict[str, Any]) -> None:
    assert written(tools=(WEATHER,), tool_choice=choice)["toolConfig"]["toolChoice"] == told


def test_tools_that_may_not_be_called_are_left_out() -> None:
    assert "toolConfig" not in written(tools=(WEATHER,), tool_choice=ToolChoice("none"))


def test_tools_of_the_past_are_declared_even_when_the_request_names_none() -> None:
    assert written(*CALLS, tool_choice=ToolChoice("auto"))["toolConfig"] == {
        "tools": [{"toolSpec": {"name": "get_weather", "inputSchema": {"json": {"type": "object", "properties": {}}}}}]
    }


# -- thinking


@pytest.mark.parametrize(
    ("effort", "limit", "tokens"),
    [
        ("low", None, 1024),
        ("medium", None, 4096),
        ("high", None, 16384),
        ("high", 5000, 4999),
        ("low", 1025, 1024),
        ("low", 1024, None),
        ("high", 16, None),
        ("none", None, None),
        ("unheard-of", None, None),
    ],
)
def test_effort_is_a_budget_below_the_limit(effort: str, limit: int | None, tokens: int | None) -> None:
    request = asked(reasoning_effort=effort, max_tokens=limit)
    body = converse.write_request(request, "m")
    wanted = {"reasoning_config": {"type": "enabled", "budget_tokens": tokens}} if tokens else None
    assert body.get("additionalModelRequestFields") == wanted
    assert converse.dropped(request, "m") == ([] if tokens else ["reasoning_effort"])
    assert body.get("inferenceConfig", {}).get("maxTokens") == limit


def test_a_thinking_model_takes_no_temperature() -> None:
    request = asked(reasoning_effort="low", temperature=0.5, top_p=0.5, max_tokens=9000)
    assert converse.write_request(request, "m")["inferenceConfig"] == {"maxTokens": 9000}
    assert converse.dropped(request, "m") == ["temperature", "top_p"]


@pytest.mark.parametrize("choice", [ToolChoice("required"), ToolChoice("tool", "get_weather")])
def test_a_model_that_must_call_a_tool_does_not_think(choice: ToolChoice) -> None:
    request = asked(reasoning_effort="low", temperature=0.5, tools=(WEATHER,), tool_choice=choice)
    assert converse.write_request(request, "m").keys() == {"messages", "inferenceConfig", "toolConfig"}
    assert converse.dropped(request, "m") == ["reasoning_effort"]


def test_a_model_whose_thinking_was_not_sent_back_does_not_think_on() -> None:
    lost = asked(*CALLS, reasoning_effort="low")
    assert "additionalModelRequestFields" not in converse.write_request(lost, "m")
    assert converse.dropped(lost, "m") == ["reasoning_effort"]
    signed = Message("assistant", (Thinking("Hm.", "sig"), *CALLS[1].parts))
    kept = asked(CALLS[0], signed, CALLS[2], reasoning_effort="low")
    assert "additionalModelRequestFields" in converse.write_request(kept, "m")


# -- refusals

REFUSALS: dict[str, tuple[tuple[Message, ...], dict[str, Any], str]] = {
    "an image to fetch": ((Message("user", (Image("http://example.com/cat.png"),)),), {}, "messages"),
    "an image of an unknown form": ((Message("user", (Image("data:image/tiff;base64,AAAA"),)),), {}, "messages"),
    "an image for the system": ((Message("system", (Image(PNG),)), user()), {}, "messages"),
    "a part of another language": ((Message("user", (Opaque("openai_chat", {"type": "file"}),)),), {}, "messages"),
    "a model that speaks first": ((Message("assistant", (Text("Hi."),)), user()), {}, "messages"),
    "nobody who speaks": ((Message("system", (Text("Be brief."),)), user(" ")), {}, "messages"),
    "several answers": ((), {"n": 2}, "n"),
    "an answer in JSON": ((), {"json_format": JSONFormat()}, "response_format"),
    "an answer in a form": ((), {"json_format": JSONFormat(CITY, "city")}, "response_format"),
    "no more calls": (CALLS, {"tools": (WEATHER,), "tool_choice": ToolChoice("none")}, "tool_choice"),
    "no more calls of tools it names no more": (CALLS, {"tool_choice": ToolChoice("none")}, "tool_choice"),
    "what must not be dropped": ((), {"indispensable": frozenset(["top_logprobs", "logprobs"])}, "logprobs"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_carried_is_refused_by_name(case: str) -> None:
    messages, fields, param = REFUSALS[case]
    with pytest.raises(CannotCarry) as error:
        written(*messages, **fields)
    assert error.value.param == param
    assert error.value.message.endswith(".")


# -- whole answers

COUNTS = {
    "inputTokens": 11, "outputTokens": 18, "totalTokens": 29, "cacheReadInputTokens": 5, "cacheWriteInputTokens": 7,
}  # fmt: skip
COUNTED = Usage(input=23, output=18, cached=5, cache_write=7)


def whole(*blocks: dict[str, Any], reason: str = "end_turn") -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": list(blocks)}},
        "stopReason": reason,
        "usage": COUNTS,
        "metrics": {"latencyMs": 515},
    }


def test_a_whole_answer_is_read_with_thinking_calls_and_counts() -> None:
    document = whole(
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}},
        {"text": "It is "},
        {"text": "sunny."},
        {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": 1}}},
        {"toolUse": {"toolUseId": "t2", "name": "g", "input": {}}},
        reason="tool_use",
    )
    parts = (Thinking("Hm.", "sig"), Text("It is sunny."), ToolCall("t1", "f", '{"a":1}'), ToolCall("t2", "g", "{}"))
    assert converse.read_answer(document) == Answer((Choice(parts, "tool_calls"),), COUNTED)


REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "tool_use": "stop",  # without any call
    "something_new": "stop",
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_has_its_word(reason: str) -> None:
    assert converse.read_answer(whole({"text": "a"}, reason=reason)).choices[0].finish_reason == REASONS[reason]
    assert read(stop(reason)) == [Finished(REASONS[reason])]  # type: ignore[arg-type]


def test_a_call_makes_a_plain_end_a_call_and_hides_no_other() -> None:
    call = {"toolUse": {"toolUseId": "t1", "name": "f", "input": {}}}
    for reason, word in (("end_turn", "tool_calls"), ("max_tokens", "length"), ("content_filtered", "content_filter")):
        assert converse.read_answer(whole(call, reason=reason)).choices[0].finish_reason == word


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"message": "Internal failure"},
        {"output": {"message": {"content": [{"text": "a"}]}}},
        {"output": {"message": {}}, "stopReason": "end_turn"},
        {"output": 5, "stopReason": "end_turn"},
        {"output": {"message": {"content": 5}}, "stopReason": "end_turn"},
        whole({"toolUse": "text"}),
        whole({"toolUse": {"toolUseId": "t1", "name": "f", "input": [1]}}),
        whole({"text": "a"}, reason="malformed_tool_use"),
    ],
)
def test_what_is_no_answer_is_a_fault_of_the_upstream(document: dict[str, Any]) -> None:
    with pytest.raises(ProviderError) as error:
        converse.read_answer(document)
    assert (error.value.kind, error.value.retryable) == ("broken", True)


# -- streams

# upstreams/sap-ai-core.md §4.3, as served
SERVED = [
    b"data: {'messageStart': {'role': 'assistant'}}\n\n",
    b"data: {'contentBlockDelta': {'delta': {'text': \"It's fine\"}, 'contentBlockIndex': 0}}\n\n",
    b"data: {'contentBlockStop': {'contentBlockIndex': 0}}\n\n",
    b"data: {'messageStop': {'stopReason': 'end_turn'}}\n\n",
    b"data: {'metadata': {'usage': {'inputTokens': 11, 'outputTokens': 18, 'totalTokens': 29},"
    b" 'metrics': {'latencyMs': 515}}}\n\n",
]


def test_a_stream_of_python_literals_is_read() -> None:
    assert read(*SERVED) == [TextDelta("It's fine"), Finished("stop"), Usage(11, 18)]


def test_lines_may_end_in_crlf_and_comments_bring_nothing() -> None:
    frames = [b": keep-alive\r\n\r\n", *(each.replace(b"\n", b"\r\n") for each in SERVED), b"event: ping\n\n"]
    assert read(*frames) == read(*SERVED)


def test_a_stream_of_json_is_read_alike() -> None:
    event = {"contentBlockDelta": {"delta": {"text": 'It\'s "fine" ä'}, "contentBlockIndex": 0}}
    assert read(f"data: {json.dumps(event)}\n\n".encode(), stop()) == [TextDelta('It\'s "fine" ä'), Finished("stop")]


@given(st.text(min_size=1))
@settings(deadline=None, database=None, max_examples=100)
def test_any_text_survives_being_written_by_python(text: str) -> None:
    assert converse.reader().read_frame(delta(text=text)) == [TextDelta(text)]


def test_true_false_and_none_are_read() -> None:
    event = {"contentBlockDelta": {"delta": {"text": "a", "last": True, "more": None}, "contentBlockIndex": False}}
    assert converse.reader().read_frame(frame(event)) == [TextDelta("a")]


def test_the_answer_has_ended_only_when_the_counts_are_here() -> None:
    reader = converse.reader()
    for each in SERVED[:-1]:
        reader.read_frame(each)
        assert not reader.ended
    reader.read_frame(SERVED[-1])
    assert reader.ended


def test_an_answer_without_counts_is_complete_all_the_same() -> None:
    assert read(*SERVED[:-1]) == [TextDelta("It's fine"), Finished("stop")]


def test_an_answer_without_a_reason_was_cut() -> None:
    assert failure(*SERVED[:-2]).kind == "cut"
    assert failure(*SERVED[:-2], SERVED[-1]).kind == "cut"
    assert failure().kind == "cut"


def test_calls_come_in_pieces_and_thinking_with_its_signature() -> None:
    def start(index: int, id: str, name: str) -> bytes:
        call = {"toolUse": {"toolUseId": id, "name": name}}
        return frame({"contentBlockStart": {"start": call, "contentBlockIndex": index}})

    def end(index: int) -> bytes:
        return frame({"contentBlockStop": {"contentBlockIndex": index}})

    events = read(
        delta(0, reasoningContent={"text": "Hm."}),
        delta(0, reasoningContent={"signature": "sig"}),
        end(0),
        start(1, "t1", "f"),
        delta(1, toolUse={"input": ""}),
        delta(1, toolUse={"input": '{"city": '}),
        delta(1, toolUse={"input": '"Bern"}'}),
        end(1),
        start(2, "t2", "g"),
        end(2),
        stop("tool_use"),
        frame({"metadata": {"usage": COUNTS}}),
    )
    assert events == [
        ThinkingDelta("Hm."),
        ThinkingDelta("", "sig"),
        ToolCallDelta(0, "t1", "f"),
        ToolCallDelta(0, arguments='{"city": '),
        ToolCallDelta(0, arguments='"Bern"}'),
        ToolCallDelta(1, "t2", "g"),
        ToolCallDelta(1, arguments="{}"),
        Finished("tool_calls"),
        COUNTED,
    ]
    assert Answer.collect(events).choices[0].parts == (
        Thinking("Hm.", "sig"), ToolCall("t1", "f", '{"city": "Bern"}'), ToolCall("t2", "g", "{}"),
    )  # fmt: skip


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"internalServerException": {"message": "pool-7 is down"}}, "broken"),
    ({"internalServerException": {}}, "broken"),
    ({"modelStreamErrorException": {"message": "pool-7 is down", "originalStatusCode": 500}}, "broken"),
    ({"throttlingException": {"message": "Too many tokens for pool-7"}}, "rate_limit"),
    ({"modelTimeoutException": {"message": "pool-7 is slow"}}, "timeout"),
    ({"serviceUnavailableException": "pool-7 is down"}, "unavailable"),
    ({"somethingNewException": {"blob": b"\xff"}}, "broken"),
    ({"error": {"message": "pool-7 is down"}}, "broken"),
    ({"error": {"code": 429, "message": "pool-7 is full"}}, "rate_limit"),
    ({"error": "pool-7 is down"}, "broken"),
    ({"message": "pool-7 is down"}, "broken"),
]


@pytest.mark.parametrize(("event", "kind"), FAULTS, ids=[str(event) for event, _ in FAULTS])
def test_an_error_in_a_stream_is_an_error(event: dict[str, Any], kind: str) -> None:
    error = failure(SERVED[0], frame(event))
    assert error.kind == kind
    assert "pool-7" not in error.message


def test_what_is_wrong_with_the_request_is_told_in_the_upstreams_words() -> None:
    error = failure(frame({"validationException": {"message": "The text field is blank."}}))
    assert (error.kind, error.message, error.retryable) == ("bad_request", "The text field is blank.", False)


@pytest.mark.parametrize(
    "data",
    [
        "overloaded",
        "{'a': ",
        "[1, 2]",
        "5",
        "__import__('os').system('true')",
        "{'a': __import__('os')}",
        "{'a': (lambda: 1)()}",
        "{[]: 1}",
        "{{}}",
        "{**{}}",
        "f'{1}'",
        "\0",
        "[" * 10_000,
        "-" * 50_000 + "1",
        "(" * 150 + ")" * 150,
        "1" + "+1" * 30_000,
        "9" * 10_000,
        f"{{'a': '{'x' * LARGEST_LITERAL}'}}",
    ],
    ids=lambda data: data[:20].replace("\0", "NUL"),
)
def test_what_is_neither_json_nor_a_literal_is_a_fault_of_the_upstream(data: str) -> None:
    assert failure(f"data: {data}\n\n".encode()).kind == "broken"


def test_bytes_that_are_no_text_are_a_fault_of_the_upstream() -> None:
    assert failure(b"data: {'a': '\xff'}\n\n").kind == "broken"


ODD_EVENTS = [
    {"contentBlockDelta": 5},
    {"contentBlockDelta": {"delta": "text"}},
    {"contentBlockDelta": {"delta": {"toolUse": 5}}},
    {"contentBlockStart": {"start": []}},
    {"messageStop": "end_turn"},
    {"messageStop": {"stopReason": "malformed_model_output"}},
    {"metadata": [1]},
]


@pytest.mark.parametrize("event", ODD_EVENTS)
def test_an_event_of_an_odd_shape_is_a_fault_of_the_upstream(event: dict[str, Any]) -> None:
    assert failure(frame(event)).kind == "broken"


@pytest.mark.parametrize(
    "event",
    [
        {},
        {1: 2},
        {"error": None},
        {"somethingNew": {"a": 1}},
        {"contentBlockStop": None},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": "{}"}}, "contentBlockIndex": [9]}},
        {"contentBlockDelta": {"delta": {"reasoningContent": {"redactedContent": "AAAA"}}}},
        {"contentBlockStart": {"start": {}, "contentBlockIndex": 0}},
        {"messageStop": {}},
    ],
)
def test_an_event_that_says_nothing_brings_nothing(event: dict[Any, Any]) -> None:
    assert converse.reader().read_frame(frame(event)) == []
