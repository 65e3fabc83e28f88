"""Snowflake's own formats, `inference:complete` and `inference:embed` (upstreams/snowflake-cortex.md §2.2 to §4)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.conversation import (
    Answer,
    CachePoint,
    ChatRequest,
    Choice,
    EmbeddingRequest,
    Embeddings,
    Event,
    Finished,
    Image,
    JSONFormat,
    Message,
    Opaque,
    Part,
    Role,
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
from providers.languages.cortex import Cortex, CortexEmbed
from providers.languages.errors import answer_document
from providers.wire.errors import CannotCarry, ProviderError
from tests.fakes.scenes import PICTURE, TWO_CALLS, Scene
from tests.fakes.snowflake import check_complete, complete_events, complete_whole, family_of, spelt

CORTEX, EMBED = Cortex(), CortexEmbed()
CLAUDE, GPT, LLAMA = "claude-3-5-sonnet", "openai-gpt-5", "llama3.1-8b"
PNG = f"data:image/png;base64,{PICTURE}"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
RAIN = Tool("rain", "How much", CITY, strict=True)

Json = dict[str, Any]


def says(role: Role, *parts: Part) -> Message:
    return Message(role, parts)


def user(text: str = "Hi") -> Message:
    return says("user", Text(text))


def asked(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest("fast", messages or (user(),), **fields)


def written(*messages: Message, model: str = CLAUDE, **fields: Any) -> Json:
    """The body, which a strict server has looked at."""
    body = CORTEX.write_request(asked(*messages, **fields), model)
    check_complete(json.loads(dumps(body)), family_of(model), set())
    return body


# -- requests


def test_a_plain_question_says_whether_it_is_streamed() -> None:
    # Left alone, this endpoint streams.
    messages = [{"role": "user", "content": "Hi"}]
    assert written() == {"model": CLAUDE, "messages": messages, "stream": False}
    assert written(stream=True) == {"model": CLAUDE, "messages": messages, "stream": True}


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 100_000}, {"max_tokens": 16_384}),
        ({"ceiling": 100}, {}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 1.7}, {"temperature": 1}),
        ({"top_p": 0.9}, {"top_p": 0.9}),
        ({"n": 1}, {}),
        ({"json_format": JSONFormat(CITY, "city", True)}, {"response_format": {"type": "json", "schema": CITY}}),
        ({"json_format": JSONFormat()}, {"response_format": {"type": "json", "schema": {"type": "object"}}}),
    ],
)
def test_each_field_finds_its_place(fields: Json, sent: Json) -> None:
    assert written(**fields) == written() | sent
    assert CORTEX.dropped(asked(**fields), "m") == []


def test_what_has_no_place_is_left_out_and_told() -> None:
    request = asked(
        seed=1, presence_penalty=0.5, frequency_penalty=0.5, parallel_tool_calls=False, user="ada", extras={"store": 1}
    )
    assert CORTEX.write_request(request, CLAUDE) == written()
    assert sorted(CORTEX.dropped(request, "m")) == [
        "frequency_penalty", "parallel_tool_calls", "presence_penalty", "seed", "store", "user",
    ]  # fmt: skip


def test_the_system_speaks_once_and_first() -> None:
    body = written(says("system", Text("Be brief."), CachePoint()), user(), says("system", Text("Be kind."), Text(" ")))
    assert body["messages"] == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": "Hi"},
    ]
    assert written(says("system", Text("")), user())["messages"] == [{"role": "user", "content": "Hi"}]


def test_user_and_assistant_take_turns() -> None:
    body = written(
        user("One."), user("Two."), says("assistant", Text("Three."), Thinking("Hm.", "sig")),
        says("assistant", Text("")), says("system", Text("Hm.")), user("Four."), user(" "),
    )  # fmt: skip
    assert body["messages"] == [
        {"role": "system", "content": "Hm."},
        {"role": "user", "content": "One.\n\nTwo."},
        {"role": "assistant", "content": "Three."},
        {"role": "user", "content": "Four."},
    ]


@pytest.mark.parametrize(("model", "more"), [(CLAUDE, {}), (GPT, {"detail": "low"})])
def test_an_image_goes_along_in_base64_and_its_detail_only_to_those_who_know_it(model: str, more: Json) -> None:
    body = written(says("user", Text("What is it?"), Image(PNG, "low")), model=model)
    details = {"type": "base64", "content": PICTURE, "content_type": "image/png", **more}
    assert body["messages"] == [
        {
            "role": "user",
            "content_list": [{"type": "text", "text": "What is it?"}, {"type": "image", "details": details}],
        }
    ]


TURN = (
    user("Rain?"),
    says("assistant", Text("Let me look."), ToolCall("call_1", "rain", '{"city": "Zürich"}'),
         ToolCall("functions.sun:0", "sun", "")),
)  # fmt: skip


def test_calls_and_their_results_are_carried_with_the_functions_names() -> None:
    body = written(
        *TURN,
        says("tool", ToolResult("functions.sun:0", (Text("little"), Text("indeed")))),
        says("tool", ToolResult("call_1", ())),
        user("And now?"),
    )
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": "Let me look.",
            "content_list": [
                {"type": "tool_use",
                 "tool_use": {"tool_use_id": "call_1", "name": "rain", "input": {"city": "Zürich"}}},
                {"type": "tool_use", "tool_use": {"tool_use_id": "functions.sun:0", "name": "sun", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content_list": [
                {"type": "tool_results",
                 "tool_results": {"tool_use_id": "functions.sun:0", "name": "sun", "status": "success",
                                  "content": [{"type": "text", "text": "little"}, {"type": "text", "text": "indeed"}]}},
                {"type": "tool_results",
                 "tool_results": {"tool_use_id": "call_1", "name": "rain", "status": "success",
                                  "content": [{"type": "text", "text": ""}]}},
                {"type": "text", "text": "And now?"},
            ],
        },
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        (ToolChoice("auto"), {"type": "auto"}),
        (ToolChoice("required"), {"type": "required"}),
        (ToolChoice("tool", "rain"), {"type": "tool", "name": ["rain"]}),
    ],
)
def test_the_choice_of_a_tool(choice: ToolChoice | None, sent: Json | None) -> None:
    body = written(tools=(RAIN, Tool("sun"), Tool("loose", None, {"properties": {}})), tool_choice=choice)
    assert body.get("tool_choice") == sent
    assert body["tools"] == [
        {"tool_spec": {"type": "generic", "name": "rain", "description": "How much", "input_schema": CITY}},
        {"tool_spec": {"type": "generic", "name": "sun", "input_schema": {"type": "object", "properties": {}}}},
        {"tool_spec": {"type": "generic", "name": "loose", "input_schema": {"type": "object", "properties": {}}}},
    ]
    assert written(tool_choice=choice) == written()


def test_tools_that_must_not_be_called_are_not_offered() -> None:
    assert written(tools=(RAIN,), tool_choice=ToolChoice("none")) == written()


@pytest.mark.parametrize(
    ("effort", "fields", "limit", "tokens"),
    [
        ("low", {}, 5120, 1024),
        ("medium", {}, 8192, 4096),
        ("high", {}, 16_384, 12_288),
        ("max", {"ceiling": 100_000}, 16_384, 12_288),
        ("medium", {"max_tokens": 2000}, 2000, 1999),
    ],
)
def test_claude_is_given_a_budget_within_the_limit(effort: str, fields: Json, limit: int, tokens: int) -> None:
    body = written(reasoning_effort=effort, **fields)
    assert body == written() | {"max_tokens": limit, "anthropic": {"thinking": {"budget_tokens": tokens}}}


@pytest.mark.parametrize(
    ("effort", "sent"),
    [("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"), ("xhigh", "high"), ("max", "high")],
)
def test_gpt_is_told_the_effort(effort: str, sent: str) -> None:
    body = written(model=GPT, reasoning_effort=effort)
    assert body == written(model=GPT) | {"openai": {"reasoning": {"effort": sent}}}


@pytest.mark.parametrize(("model", "effort"), [(LLAMA, "high"), (GPT, "none"), (GPT, "a lot"), (CLAUDE, "minimal")])
def test_an_effort_nobody_there_knows_is_left_out(model: str, effort: str) -> None:
    assert written(model=model, reasoning_effort=effort) == written(model=model)


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        ((), {"tools": (RAIN,), "tool_choice": ToolChoice("required")}),
        ((), {"max_tokens": 1024}),
        ((), {"json_format": JSONFormat(CITY)}),
        ((*TURN, says("tool", ToolResult("call_1", ()), ToolResult("functions.sun:0", ()))), {}),
    ],
)
def test_where_thoughts_would_be_refused_there_are_none(messages: tuple[Message, ...], fields: Json) -> None:
    body = written(*messages, reasoning_effort="low", **fields)
    assert body == written(*messages, **fields)


# -- refusals

CALL = says("assistant", ToolCall("a", "f", "{}"))
REFUSALS: dict[str, tuple[tuple[Message, ...], Json, str]] = {
    "several answers": ((), {"n": 2}, "n"),
    "stop sequences": ((), {"stop": ("END",)}, "stop"),
    "what must not be dropped": ((), {"indispensable": frozenset(["top_logprobs", "logprobs"])}, "logprobs"),
    "an image to fetch": ((says("user", Image("https://example.com/cat.png")),), {}, "messages"),
    "an image for the system": ((says("system", Image(PNG)), user()), {}, "messages"),
    "an answer to no call": ((user(), CALL, says("tool", ToolResult("b", ()))), {}, "messages"),
    "a part of another language": ((says("user", Opaque("openai_chat", {"type": "file"})),), {}, "messages"),
    "a model that speaks first": ((says("assistant", Text("Hi.")), user()), {}, "messages"),
    "an answer that was begun": ((user(), says("assistant", Text("I"))), {}, "messages"),
    "nobody who speaks": ((says("system", Text("Be brief.")),), {}, "messages"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_carried_is_refused_by_name(case: str) -> None:
    messages, fields, param = REFUSALS[case]
    with pytest.raises(CannotCarry, match=r"\.$") as refusal:
        CORTEX.write_request(asked(*messages, **fields), CLAUDE)
    assert refusal.value.param == param


# -- whole answers

WHOLE: Json = {
    "choices": [
        {
            "message": {
                "content": "text",
                "content_list": [
                    {"type": "text", "text": "text"},
                    {"type": "tool_use", "tool_use": {"tool_use_id": "tooluse_x", "name": "f", "input": {"a": 1}}},
                ],
            }
        }
    ],
    "finish_reason": "stop",
    "usage": {
        "prompt_tokens": 11,
        "completion_tokens": 2,
        "guard_tokens": 0,
        "total_tokens": 13,
        "cache_read_input_tokens": 5,
        "cache_write_input_tokens": 3,
    },
}


def read_whole(document: Json, request: ChatRequest | None = None) -> Answer:
    return CORTEX.read_answer(answer_document(json.dumps(document).encode()), request)


def saying(message: Json, finish: str | None = "stop", **usage: int) -> Json:
    return {"choices": [{"message": message}], "finish_reason": finish, "usage": usage}


def test_a_whole_answer_is_read_and_its_text_counts_once() -> None:
    parts = (Text("text"), ToolCall("tooluse_x", "f", '{"a":1}'))
    usage = Usage(input=11, output=2, cached=5, cache_write=3)
    assert read_whole(WHOLE) == Answer((Choice(parts, "tool_calls"),), usage)


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": "Hi"}, (Text("Hi"),)),
        ({"content": "Hi", "content_list": []}, (Text("Hi"),)),
        ({"content": "Hi", "content_list": [{"type": "text", "text": ""}]}, (Text("Hi"),)),
        ({"content": "", "content_list": [{"type": "text", "text": "Hi"}]}, (Text("Hi"),)),
        ({"content": "Hi", "content_list": [{"thinking": {"thinking": "Hm.", "signature": "sig"}}]},
         (Thinking("Hm.", "sig"), Text("Hi"))),
        ({"content_list": [{"reasoning": {"summary": "Hm.", "encrypted_content": "c2Vj"}}]}, (Thinking("Hm."),)),
        ({"content_list": [{"type": "tool_use", "tool_use": {"tool_use_id": "a", "name": "f"}}]},
         (ToolCall("a", "f", "{}"),)),
        ({"content": ""}, ()),
    ],
)  # fmt: skip
def test_a_message_may_say_it_in_several_places(message: Json, parts: tuple[Part, ...]) -> None:
    assert read_whole(saying(message)).choices[0].parts == parts


@pytest.mark.parametrize(
    ("said", "word"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("tool_calls", "stop"),
     ("prohibited_content", "content_filter"), ("something_new", "stop")],
)  # fmt: skip
def test_each_reason_has_its_word_wherever_it_stands(said: str, word: str) -> None:
    document = saying({"content": "Hi"}, said)
    assert read_whole(document).choices[0].finish_reason == word
    beside = {"choices": [document["choices"][0] | {"finish_reason": said}]}
    assert read_whole(beside).choices[0].finish_reason == word
    assert read_whole(beside).usage is None


@pytest.mark.parametrize(
    ("fields", "made", "word"),
    [
        ({}, 4095, "stop"),
        ({}, 4096, "length"),
        ({"max_tokens": 9}, 8, "stop"),
        ({"max_tokens": 9}, 9, "length"),
        ({"max_tokens": 100_000}, 16_384, "length"),
        ({"reasoning_effort": "medium"}, 5000, "stop"),  # 8192 were asked for
        ({"reasoning_effort": "medium"}, 8192, "length"),
    ],
)
def test_an_answer_as_long_as_it_was_allowed_to_be_was_too_long(fields: Json, made: int, word: str) -> None:
    document = saying({"content": "Hi"}, None, completion_tokens=made)
    assert read_whole(document, asked(**fields)).choices[0].finish_reason == word
    assert read_whole(document).choices[0].finish_reason == "stop", "nobody knows what was asked"


@pytest.mark.parametrize("said", ["length", "content_filter"])
def test_a_call_does_not_hide_that_an_answer_was_cut_short(said: str) -> None:
    assert read_whole(WHOLE | {"finish_reason": said}).choices[0].finish_reason == said


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"choices": []},
        {"choices": ["Hi"]},
        {"choices": [{}], "finish_reason": "stop"},
        saying({"content_list": {}}),
        saying({"content_list": [{"thinking": "Hm."}]}),
        saying({"content_list": [{"tool_use_id": "a", "name": "f", "input": [1]}]}),
        {"message": "no choices", "code": 5},
    ],
)
def test_what_is_no_answer_is_a_fault_of_the_upstream(document: Json) -> None:
    with pytest.raises(ProviderError) as error:
        read_whole(document)
    assert (error.value.kind, error.value.retryable) == ("broken", True)


@pytest.mark.parametrize("code", ["390112", 390112])
def test_an_expired_session_is_told_with_a_success(code: object) -> None:
    document = {"message": "Your session has expired. Please login again.", "code": code, "request_id": "01b"}
    for read_it in (lambda: read_whole(document), lambda: read([document])):
        with pytest.raises(ProviderError) as error:
            read_it()
        assert (error.value.kind, error.value.retryable, error.value.upstream_status) == ("auth", True, 401)
        assert "session" not in error.value.message


# -- streams


def read(
    documents: Iterable[Json], request: ChatRequest | None = None, *, pretty: bool = False, eol: str = "\n"
) -> list[Event]:
    reader = CORTEX.reader(request)
    events: list[Event] = []
    for document in documents:
        events += reader.read_frame(spelt(document, pretty=pretty, eol=eol))
    assert not reader.ended, "only the end of the body ends the answer"
    return events + reader.read_end()


def piece(delta: Json, **usage: int) -> Json:
    return {"id": "r1", "model": CLAUDE, "choices": [{"delta": delta}], "usage": usage}


LAST = piece({}, prompt_tokens=40, completion_tokens=12, total_tokens=52)
# upstreams/snowflake-cortex.md §4.3
STREAM = [
    piece({"content": "Let me look.", "content_list": [{"type": "text", "text": "Let me look."}]}),
    piece({"content_list": [{"tool_use_id": "tooluse_9", "name": "rain"}]}),
    piece({"content_list": [{"input": '{"city":"Bern"}'}]}),
    LAST,
]
READ = [
    TextDelta("Let me look."),
    ToolCallDelta(0, "tooluse_9", "rain"),
    ToolCallDelta(0, arguments='{"city":"Bern"}'),
    Usage(input=40, output=12),
    Finished("tool_calls"),
]


def test_the_worked_example_is_read() -> None:
    assert read(STREAM) == READ


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_an_event_may_span_several_lines(eol: str) -> None:
    assert read(STREAM, pretty=True, eol=eol) == READ


def test_the_spelt_out_form_of_each_piece_is_read() -> None:
    events = read(
        [
            piece({"type": "anthropic", "thinking": {"thinking": "Hm.", "signature": None}}),
            piece({"type": "anthropic", "thinking": {"thinking": None, "signature": "sig"}}),
            piece({"type": "openai", "reasoning": {"summary": "So."}}),
            piece({"type": "text", "content": "Hi"}),
            piece({"type": "tool_use", "tool_use_id": "a", "name": "f"}),
            piece({"type": "tool_use", "input": '{"a"'}),
            piece({"type": "tool_use", "input": ":1}"}),
            LAST,
        ]
    )
    assert events[:-2] == [
        ThinkingDelta("Hm."),
        ThinkingDelta("", "sig"),
        ThinkingDelta("So."),
        TextDelta("Hi"),
        ToolCallDelta(0, "a", "f"),
        ToolCallDelta(0, arguments='{"a"'),
        ToolCallDelta(0, arguments=":1}"),
    ]


def test_what_is_said_in_both_forms_counts_once() -> None:
    both = [
        {"type": "text", "content": "Hi", "text": "Hi", "content_list": [{"type": "text", "text": "Hi"}]},
        {"type": "tool_use", "tool_use_id": "a", "name": "f", "content_list": [{"tool_use_id": "a", "name": "f"}]},
        {"type": "tool_use", "input": "{}", "content_list": [{"input": "{}"}]},
        {"type": "tool_use", "tool_use_id": "a", "input": "", "content_list": []},
    ]
    answer = Answer.collect(read([*map(piece, both), LAST]))
    assert answer.choices[0].parts == (Text("Hi"), ToolCall("a", "f", "{}"))


def test_each_call_has_its_own_pieces_and_one_without_input_an_empty_one() -> None:
    pieces = [{"tool_use_id": "a", "name": "now"}, {"tool_use_id": "b", "name": "rain"}, {"input": '{"x":'},
              {"tool_use_id": "b", "input": "1}"}, {"tool_use_id": "c", "name": "now", "input": {}}]  # fmt: skip
    answer = Answer.collect(read([*(piece({"content_list": [each]}) for each in pieces), LAST]))
    assert answer.choices[0].parts == (
        ToolCall("a", "now", "{}"), ToolCall("b", "rain", '{"x":1}'), ToolCall("c", "now", "{}"),
    )  # fmt: skip


def test_input_before_any_call_is_left_out() -> None:
    assert read([piece({"content_list": [{"input": "{}"}]}), LAST])[1:] == [Finished("stop")]


@pytest.mark.parametrize(
    "last", [{}, {"role": "assistant"}, {"type": "text", "content": "", "content_list": [{"type": "text", "text": ""}]}]
)
def test_the_last_event_says_nothing_and_has_counts(last: Json) -> None:
    events = read([piece({"content": "Hi"}), piece(last, prompt_tokens=1, completion_tokens=1)])
    assert events == [TextDelta("Hi"), Usage(1, 1), Finished("stop")]


def test_an_empty_piece_in_the_middle_is_not_the_last() -> None:
    counted = {"prompt_tokens": 1, "completion_tokens": 1}
    begin, middle = piece({"role": "assistant", "content": ""}, **counted), piece({"content": "Hi"}, **counted)
    assert read([begin, middle, piece({"content": ""}, **counted), middle, LAST])[-1] == Finished("stop")
    with pytest.raises(ProviderError) as error:
        read([begin, middle])
    assert error.value.kind == "cut"


def test_a_reason_that_is_stated_is_believed() -> None:
    stated = {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "length"}]}
    assert read([stated, piece({"content": "!"})]) == [TextDelta("Hi"), TextDelta("!"), Finished("length")]
    assert read([{"choices": [{"delta": {}}], "finish_reason": "prohibited_content"}]) == [Finished("content_filter")]


SHAPES = ["plain", "list", "typed"]
SCENES = {
    "words": Scene(),
    "signed thoughts": Scene(thinking="Ich überlege: 雨?", signature="c2lnbmVk"),
    "two calls": Scene(calls=TWO_CALLS),
    "calls alone": Scene(text="", calls=(("a", "now", "{}"), *TWO_CALLS)),
    "cached": Scene(cached_tokens=5, cache_write_tokens=7),
    "CRLF": Scene(crlf=True),
}


def alike(answer: Answer) -> list[Any]:
    """An answer whose JSON texts are values: whole ones are spelt anew."""
    parts = [
        (part.id, part.name, json.loads(part.arguments)) if isinstance(part, ToolCall) else part
        for part in answer.choices[0].parts
    ]
    return [parts, answer.choices[0].finish_reason, answer.usage]


@pytest.mark.parametrize("pretty", [False, True])
@pytest.mark.parametrize("model", [CLAUDE, GPT])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SCENES)
def test_a_stream_folds_into_the_answer_that_comes_whole(name: str, shape: Any, model: str, pretty: bool) -> None:
    scene, family = SCENES[name], family_of(model)
    whole = alike(read_whole(complete_whole(scene, family, finish_in_choice=pretty)))
    events = complete_events({"model": model}, scene, family, shape)
    streamed = Answer.collect(read(events, asked(), pretty=pretty, eol="\r\n" if scene.crlf else "\n"))
    assert alike(streamed) == whole
    assert whole[2] == Usage(21, 9, scene.cached_tokens, scene.cache_write_tokens)


@pytest.mark.parametrize("fields", [{}, {"max_tokens": 50}])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_stream_that_was_too_long_is_told_by_its_counts(shape: Any, fields: Json) -> None:
    request = asked(stream=True, **fields)
    body = CORTEX.write_request(request, CLAUDE)
    events = read(complete_events(body, Scene(finish="length"), "claude", shape), request)
    assert events[-1] == Finished("length")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", range(6))
def test_a_stream_without_its_last_event_was_cut(shape: Any, count: int) -> None:
    events = list(complete_events({"model": CLAUDE}, Scene(calls=TWO_CALLS), "claude", shape))
    with pytest.raises(ProviderError) as error:
        read(events[:count])
    assert error.value.kind == "cut"
    with pytest.raises(ProviderError):
        read(events[:-1])


@pytest.mark.parametrize(
    "fault",
    [
        {"message": "No capacity in pool-7.", "code": "390000", "error_code": "390000", "request_id": "01b"},
        {"message": "No capacity in pool-7.", "error_code": "390000"},
        {"error": {"message": "No capacity in pool-7.", "code": "390000"}},
        {"error": {"message": "No capacity in pool-7.", "type": ["odd"]}},
    ],
)
@pytest.mark.parametrize("before", [[], STREAM[:1]])
def test_an_error_in_a_stream_is_an_error(fault: Json, before: list[Json]) -> None:
    with pytest.raises(ProviderError) as error:
        read([*before, fault])
    assert (error.value.kind, error.value.retryable) == ("broken", True)
    assert "pool-7" not in error.value.message


def test_comments_and_the_end_mark_of_others_bring_nothing() -> None:
    reader = CORTEX.reader()
    assert [reader.read_frame(frame) for frame in (b": hi\n\n", b"data: [DONE]\n\n", b"\n\n")] == [[], [], []]


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
names = ("choices", "delta", "message", "content", "content_list", "type", "text", "tool_use", "tool_use_id", "name",
         "input", "thinking", "signature", "reasoning", "summary", "usage", "finish_reason", "completion_tokens",
         "code", "error")  # fmt: skip
inner = st.dictionaries(st.sampled_from(names), odd, max_size=4)
lists = st.lists(inner | st.dictionaries(st.sampled_from(names), inner | st.lists(inner, max_size=2)), max_size=2)
objects = st.dictionaries(st.sampled_from(names), odd | inner | lists, max_size=5)


@given(st.lists(objects | odd, min_size=1, max_size=3))
@settings(deadline=None, database=None, max_examples=300)
def test_any_json_is_events_or_a_fault_of_the_upstream(documents: list[Any]) -> None:
    try:
        Answer.collect(read(documents, asked()))
    except ProviderError as error:
        assert error.message.endswith(".")  # noqa: PT017 - events are as good


@given(objects | odd)
@settings(deadline=None, database=None, max_examples=300)
def test_any_json_is_an_answer_or_a_fault_of_the_upstream(document: Any) -> None:
    raw = json.dumps(document).encode()
    for reads in (CORTEX.read_answer, EMBED.read_embeddings):
        try:
            reads(answer_document(raw))
        except ProviderError as error:
            assert error.message.endswith(".")  # noqa: PT017 - an answer is as good


# -- embeddings


def test_texts_are_sent_under_another_name() -> None:
    request = EmbeddingRequest("fast", ("a", "b"), "base64", user="ada", extras={"truncate": False})
    assert EMBED.write_embedding_request(request, "e5-base-v2") == {"model": "e5-base-v2", "text": ["a", "b"]}


@pytest.mark.parametrize(
    ("inputs", "fields", "param"), [(("a", (1, 2)), {}, "input"), (("a",), {"dimensions": 256}, "dimensions")]
)
def test_what_an_embedder_cannot_do_is_refused_by_name(inputs: Any, fields: Json, param: str) -> None:
    with pytest.raises(CannotCarry, match=r"\.$") as refusal:
        EMBED.write_embedding_request(EmbeddingRequest("fast", inputs, **fields), "e5-base-v2")
    assert refusal.value.param == param


def row(index: int, vector: Any) -> Json:
    return {"object": "embedding", "embedding": vector, "index": index}


def test_vectors_are_taken_out_of_their_lists_in_order() -> None:
    document = {"object": "list", "data": [row(1, [[1, 0.5]]), row(0, [0.1, -0.2])], "usage": {"total_tokens": 8}}
    assert EMBED.read_embeddings(document) == Embeddings(((0.1, -0.2), (1, 0.5)), Usage(input=8))
    assert EMBED.read_embeddings({"data": [row(0, [[0.1]])]}).usage is None


@pytest.mark.parametrize("data", [None, [], {}, ["a"], [row(0, None)], [row(0, "AAAA")], [row(0, [["a"]])], [{}]])
def test_what_is_no_vector_is_a_fault_of_the_upstream(data: Any) -> None:
    with pytest.raises(ProviderError) as error:
        EMBED.read_embeddings({"data": data})
    assert error.value.kind == "broken"
