"""OpenAI Responses: its halves against each other, OpenAI's own SDK, odd input and Codex; and straight through."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

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
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
    Usage,
)
from providers.documents import dumps, loads
from providers.languages import openai_responses_requests as responses_file
from providers.languages import openai_responses_tools as responses_tools
from providers.languages.errors import answer_document
from providers.languages.language import BadRequest, Fault, Language, Stamp
from providers.languages.messages import thinking_lost
from providers.languages.openai_responses_items import NAME, SEAL, sealed, unsealed
from providers.languages.registry import LANGUAGES, openai_chat, openai_responses
from providers.wire.errors import CannotCarry, ProviderError
from tests.providers import worked
from tests.providers.test_languages import (
    answers_or_fails,
    few,
    frames_of,
    images,
    json_values,
    names,
    numbers,
    odd_values,
    on_the_wire,
    read_stream,
    schemas,
    tool_calls,
    try_everything,
    with_something_odd,
    words,
)
from tests.providers.test_straight_through import STAMP as LANES_STAMP
from tests.providers.test_straight_through import opened, passed_on
from tests.providers.upstream import EVENT_STREAM, LAST_CHUNK, Upstream, Wire, account, answering, stream, whole
from tests.providers.upstream import chunk as http_chunk

Json = dict[str, Any]
STAMP = Stamp("018f", 1741476542, "fast")
CALM = settings(deadline=None, database=None, max_examples=60)
FUZZ = settings(deadline=None, database=None, max_examples=100)
SDK_ANSWER: TypeAdapter[Response] = TypeAdapter(Response)
SDK_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
claude = LANGUAGES["anthropic_messages"]

# -- worked examples (OpenAI API reference: create a response, the response object, streaming events)

THEIRS = "gpt-5-2025-08-07"
OURS = worked.OURS
USAGE: Json = {
    "input_tokens": 36,
    "input_tokens_details": {"cached_tokens": 12, "cache_write_tokens": 4},
    "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 123,
}
READ_USAGE = Usage(36, 87, cached=12, cache_write=4, reasoning=20)
REASONING: Json = {
    "id": "rs_67ccd2",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "It rains."}, {"type": "summary_text", "text": "So ask."}],
    "encrypted_content": "gAAAAABo-_x=",
}
MESSAGE: Json = {
    "id": "msg_67ccd2",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hello, grüße 🙂", "annotations": [], "logprobs": []}],
}
CALL: Json = {
    "id": "fc_67ccd2",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_unLAR8",
    "name": "get_weather",
    "arguments": '{"city":"Zürich"}',
}


def response(*output: Json, **more: Any) -> Json:
    return {
        "id": "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
        "object": "response",
        "created_at": 1741476542,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": THEIRS,
        "output": list(output),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": USAGE,
        "user": None,
        "metadata": {},
        **more,
    }


def events_of(*documents: Json) -> list[bytes]:
    """Frames as OpenAI writes them: a name, and numbers from 0."""
    return [
        b"event: %s\ndata: %s\n\n" % (document["type"].encode(), dumps({**document, "sequence_number": number}))
        for number, document in enumerate(documents)
    ]


def lifecycle(name: str, **more: Any) -> Json:
    return {"type": f"response.{name}", "response": response(status=name, usage=None) | more}


def added(index: int, item: Json, **more: Any) -> Json:
    return {"type": "response.output_item.added", "output_index": index, "item": {**item, **more}}


def done(index: int, item: Json) -> Json:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def piece(kind: str, index: int, item: Json, delta: str, **more: Any) -> Json:
    return {"type": f"response.{kind}.delta", "output_index": index, "item_id": item["id"], "delta": delta, **more}


def said(text: str) -> Json:
    return piece("output_text", 0, MESSAGE, text, content_index=0, logprobs=[])


OPENING = [
    lifecycle("created", status="in_progress"),
    lifecycle("in_progress"),
    added(0, MESSAGE, content=[], status="in_progress"),
    {"type": "response.content_part.added", "output_index": 0, "content_index": 0, "item_id": MESSAGE["id"],
     "part": {"type": "output_text", "text": "", "annotations": []}},
]  # fmt: skip
CLOSING = [done(0, MESSAGE), {"type": "response.completed", "response": response(MESSAGE)}]
GREETING = events_of(*OPENING, said("Hello, "), said("grüße 🙂"), *CLOSING)
TRICKY_WORDS = ["response.completed", "error", f'"model":"{THEIRS}"', '{"type":"response.failed","error":{}}', "model"]
TRICKY = events_of(*OPENING, *map(said, TRICKY_WORDS), *CLOSING)
OTHER_CALL = {**CALL, "id": "fc_2", "call_id": "call_2", "name": "get_time", "arguments": "{}"}
TOOLS = events_of(
    lifecycle("created"),
    added(0, REASONING, summary=[], encrypted_content="gAAAA_unfinished"),
    {"type": "response.reasoning_summary_part.added", "output_index": 0, "item_id": REASONING["id"],
     "summary_index": 0, "part": {"type": "summary_text", "text": ""}},
    piece("reasoning_summary_text", 0, REASONING, "It rains.", summary_index=0),
    {"type": "response.reasoning_summary_part.added", "output_index": 0, "item_id": REASONING["id"],
     "summary_index": 1, "part": {"type": "summary_text", "text": ""}},
    piece("reasoning_summary_text", 0, REASONING, "So ask.", summary_index=1),
    done(0, REASONING),
    added(1, CALL, arguments=""),
    piece("function_call_arguments", 1, CALL, '{"city":'),
    added(2, OTHER_CALL, arguments=""),
    piece("function_call_arguments", 2, OTHER_CALL, "{}"),
    piece("function_call_arguments", 1, CALL, '"Zürich"}'),
    done(1, CALL),
    done(2, OTHER_CALL),
    {"type": "response.completed", "response": response(REASONING, CALL, OTHER_CALL)},
)  # fmt: skip
THOUGHT = Thinking("It rains.\n\nSo ask.", f"{NAME}:gAAAAABo-_x=:rs_67ccd2")
CALLED = Answer(
    (Choice((THOUGHT, ToolCall("call_unLAR8", "get_weather", '{"city":"Zürich"}'),
             ToolCall("call_2", "get_time", "{}")), "tool_calls"),), READ_USAGE
)  # fmt: skip
GREETED = Answer((Choice((Text("Hello, grüße 🙂"),), "stop"),), READ_USAGE)
STREAMS = {
    "a greeting": GREETING,
    "tricky words": TRICKY,
    "tools and thoughts": TOOLS,
    "CRLF": [frame.replace(b"\n", b"\r\n") for frame in GREETING],
    "no event lines": [frame.partition(b"\n")[2] for frame in GREETING],
    "comments": [b": ping\n\n", *GREETING[:5], b": ping\n\n", *GREETING[5:]],
    "spaced JSON": [worked.spaced(loads(frame.partition(b"data: ")[2])) for frame in TRICKY],
    "an end mark of another format": [*GREETING, worked.DONE],
}  # fmt: skip

# -- the two halves test each other

opaque_parts = st.builds(lambda data: Opaque(NAME, {"type": "input_file", "file_data": data}), json_values)
opaque_items = st.builds(lambda action: Opaque(NAME, {"type": "web_search_call", "action": action}), json_values)
asked_parts = st.lists(st.builds(Text, st.text(max_size=8)) | images | opaque_parts, min_size=1, max_size=3).map(tuple)
answered_parts = st.lists(st.builds(Text, words) | tool_calls | opaque_items, min_size=1, max_size=4).map(tuple)
results = st.lists(st.builds(Text, st.text(max_size=8)) | images, min_size=1, max_size=3).map(tuple)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages: list[Message] = []
    for role in draw(st.lists(st.sampled_from(["system", "user", "assistant", "tool"]), min_size=1, max_size=6)):
        if messages and messages[-1].role == role == "assistant":
            continue  # neighbours are one message
        parts: Any = draw(
            {"assistant": answered_parts, "tool": st.builds(ToolResult, words, results)}.get(role, asked_parts)
        )
        messages.append(Message(role, (parts,) if isinstance(parts, ToolResult) else parts))
    return tuple(messages)


OWN_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "truncation": st.just("auto"),
    "metadata": st.just({"a": "b"}),
    "tools.web_search": st.just([{"type": "web_search"}, {"type": "web_search", "search_context_size": "low"}]),
    "tools.mcp": st.just([{"type": "mcp", "server_label": "x"}]),
    "tool_choice": st.just({"type": "allowed_tools", "mode": "auto", "tools": []}),
    "reasoning": st.just({"summary": "auto"}),
    "text": st.just({"verbosity": "low"}),
    "top_logprobs": st.integers(1, 20),
    "stream_options": st.just({"include_obfuscation": False}),
    "max_tool_calls": st.integers(1, 9),
    "prompt_cache_key": words,
}


def distinct(declared: list[Json]) -> bool:
    read = responses_tools.read_tools({"input": "", "tools": declared})
    return len({tool.name for tool in read.functions}) == len(read.functions)


functions = st.fixed_dictionaries(
    {"type": st.just("function"), "name": words},
    optional={"description": words, "parameters": schemas, "strict": st.booleans()},
)
texts = st.fixed_dictionaries(
    {"type": st.just("custom"), "name": words},
    optional={
        "description": words,
        "format": st.just({"type": "grammar", "syntax": "lark", "definition": 'start: "a"'}),
    },
)
namespaces = st.fixed_dictionaries(
    {
        "type": st.just("namespace"),
        "name": words,
        "description": words,
        "tools": st.lists(functions | texts, min_size=1, max_size=2),
    }
)
declarations = st.lists(functions | texts | namespaces, max_size=3).filter(distinct)


@st.composite
def requests(draw: st.DrawFn) -> ChatRequest:
    extras = {name: draw(OWN_FIELDS[name]) for name in draw(st.sets(st.sampled_from(sorted(OWN_FIELDS)), max_size=4))}
    messages = list(draw(conversations()))
    if "prompt_cache_key" in extras:
        responses_file._mark(messages)
    declared = responses_tools.read_tools({"input": "", "tools": draw(declarations)})
    choices = [None, *(ToolChoice(mode) for mode in ("auto", "none", "required")), ToolChoice("tool", "f")]  # type: ignore[arg-type]
    return ChatRequest(
        model=draw(words.filter(str.strip)),
        messages=tuple(messages),
        language=NAME,
        stream=draw(st.booleans()),
        max_tokens=draw(st.none() | st.integers(1)),
        temperature=draw(numbers),
        top_p=draw(numbers),
        tools=tuple(declared.functions),
        tool_choice=None if "tool_choice" in extras else draw(st.sampled_from(choices)),
        parallel_tool_calls=draw(st.none() | st.booleans()),
        json_format=draw(
            st.sampled_from([None, JSONFormat()])
            | st.builds(JSONFormat, schemas, words, st.none() | st.booleans(), names)
        ),
        reasoning_effort=draw(st.sampled_from([None, "low", "high"])),
        user=draw(names),
        extras=extras,
        indispensable=frozenset(
            {"tool_choice", "top_logprobs"} & extras.keys()
            | {name for name in extras if name.startswith("tools.") and not declared.functions}
        ),
        origins=declared.origins,
    )


@given(requests())
@CALM
def test_a_request_that_is_written_is_read_back_the_same(request: ChatRequest) -> None:
    written = on_the_wire(openai_responses.write_request(request, request.model))
    assert openai_responses.parse_request(written) == request


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    signatures = st.none() | words
    thinking = draw(st.lists(st.builds(Thinking, words, signatures), max_size=1))
    texts = draw(st.lists(st.builds(Text, words), max_size=1))
    calls = draw(st.lists(tool_calls.filter(lambda call: call.arguments != ""), max_size=3))
    others = draw(st.lists(opaque_items, max_size=1))
    ends = ["tool_calls" if calls else "stop", "length", "content_filter"]
    choice = Choice((*thinking, *texts, *calls, *others), draw(st.sampled_from(ends)))  # type: ignore[arg-type]
    return Answer((choice,), draw(st.none() | st.builds(Usage, few, few, few, few, few)))


def as_an_upstreams(answer: Answer) -> Answer:
    """`answer` as whoever reads what was written knows it: its signature is sealed, and belongs to the upstream."""

    def read(part: Part) -> Part:
        if not isinstance(part, Thinking) or part.signature is None:
            return part
        return Thinking(part.text, f"{NAME}:{sealed(part.text, part.signature)}:rs_{STAMP.id}_0")

    choice = answer.choices[0]
    return replace(answer, choices=(replace(choice, parts=tuple(map(read, choice.parts))),))


@given(answers())
@CALM
def test_an_answer_that_is_written_is_read_back_the_same(answer: Answer) -> None:
    written = openai_responses.write_answer(answer, STAMP)
    assert openai_responses.read_answer(answer_document(written)) == as_an_upstreams(answer)


def in_pieces(answer: Answer, sizes: Iterable[int], side_by_side: bool) -> list[Event]:
    """The events of `answer` as a model would bring them, a signature at the end of its thought."""
    events: list[Event] = []
    calls: list[list[Event]] = []
    lengths = iter(sizes)
    for event in answer.events():
        size = next(lengths, 3)
        match event:
            case TextDelta(text):
                events += [TextDelta(text[at : at + size]) for at in range(0, len(text), size)]
            case ThinkingDelta(text, signature):
                events += [ThinkingDelta(text[at : at + size]) for at in range(0, len(text), size)]
                events += [ThinkingDelta("", signature)] if signature else []
            case ToolCallDelta(index, id, name, arguments):
                pieces = [
                    ToolCallDelta(index, None, None, arguments[at : at + size]) for at in range(0, len(arguments), size)
                ]
                calls.append([ToolCallDelta(index, id, name), *pieces])
            case _:
                events += _mingled(calls) if side_by_side else [piece for call in calls for piece in call]
                calls = []
                events.append(event)
    return events


def _mingled(rows: list[list[Event]]) -> list[Event]:
    longest = max(map(len, rows), default=0)
    return [row[at] for at in range(longest) for row in rows if at < len(row)]


def written_stream(events: Iterable[Event], request: ChatRequest | None = None, stamp: Stamp = STAMP) -> list[bytes]:
    writer = openai_responses.writer(stamp, False, request)
    written = b"".join([*map(writer.write, events), writer.close()])
    return frames_of(written)


@given(answers(), st.lists(st.integers(1, 4)), st.booleans())
@CALM
def test_a_stream_that_is_written_is_read_back_as_the_same_answer(
    answer: Answer, sizes: list[int], side_by_side: bool
) -> None:
    frames = written_stream(in_pieces(answer, sizes, side_by_side))
    assert Answer.collect(read_stream(openai_responses, frames)) == as_an_upstreams(answer)


@given(answers(), st.lists(st.integers(1, 4)), st.booleans())
@CALM
def test_every_event_is_one_that_the_sdk_knows(answer: Answer, sizes: list[int], side_by_side: bool) -> None:
    answer = replace(answer, choices=(replace(answer.choices[0], parts=tuple(
        part for part in answer.choices[0].parts if not isinstance(part, Opaque))),))  # fmt: skip
    events = [event_in(frame) for frame in written_stream(in_pieces(answer, sizes, side_by_side))]
    for number, event in enumerate(events):
        SDK_EVENT.validate_python(event, strict=True)
        assert event["sequence_number"] == number
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    reason = answer.choices[0].finish_reason
    end = "incomplete" if reason in ("length", "content_filter") else "completed"
    assert [event["type"] for event in events if event["type"] == f"response.{end}"] == [events[-1]["type"]]
    # What was said item by item is what the whole says at the end, item by item.
    items = {event["output_index"]: event["item"] for event in events if event["type"] == "response.output_item.done"}
    assert [items[index] for index in sorted(items)] == events[-1]["response"]["output"]


@given(answers(), requests())
@CALM
def test_every_answer_is_one_that_the_sdk_knows(answer: Answer, request: ChatRequest) -> None:
    request = replace(request, extras={name: value for name, value in request.extras.items() if name != "tools"})
    answer = replace(answer, choices=(replace(answer.choices[0], parts=tuple(
        part for part in answer.choices[0].parts if not isinstance(part, Opaque))),))  # fmt: skip
    SDK_ANSWER.validate_json(openai_responses.write_answer(answer, STAMP, request))


def event_in(frame: bytes) -> Json:
    name, data = frame.removesuffix(b"\n\n").split(b"\n")
    document = loads(data.removeprefix(b"data: "))
    assert name == b"event: " + document["type"].encode()
    return document


# -- every field that is read survives

FIELDS: Json = {
    "model": "gpt-5",
    "input": [{"type": "message", "role": "user", "content": "Hello!"}],
    "instructions": "Be brief.",
    "stream": True,
    "max_output_tokens": 17,
    "temperature": 0.2,
    "top_p": 0.9,
    "tools": [
        {"type": "function", "name": "get_weather", "description": "The weather", "parameters": {"type": "object"},
         "strict": True},
        {"type": "web_search"},
    ],
    "tool_choice": {"type": "function", "name": "get_weather"},
    "parallel_tool_calls": False,
    "text": {"format": {"type": "json_schema", "name": "city", "schema": {"type": "object"}, "strict": True,
                        "description": "A city"}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "user": "ada@example.com",
    "include": ["message.output_text.logprobs"],
}  # fmt: skip
REFUSED = {"background", "previous_response_id", "conversation", "prompt"}


def test_there_is_an_example_for_every_field_that_is_read() -> None:
    assert FIELDS.keys() | REFUSED | {"store", "safety_identifier"} == responses_file.READ


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_each_field_survives_translation(name: str) -> None:
    body = {field: FIELDS[field] for field in {"model", "input", name}}
    written = openai_responses.write_request(openai_responses.parse_request(body), "gpt-5")
    wanted = [*FIELDS["include"]] if name == "include" else FIELDS[name]
    assert written[name] == wanted


@pytest.mark.parametrize("store", [True, False, None])
def test_whatever_is_to_be_stored_is_not_and_the_answer_says_so(store: bool | None) -> None:
    asked = openai_responses.parse_request({"model": "m", "input": "Hi", "store": store})
    assert openai_responses.write_request(asked, "m")["store"] is False
    assert loads(openai_responses.write_answer(GREETED, STAMP, asked))["store"] is False


def test_a_safety_identifier_stands_for_the_user() -> None:
    body = {"model": "m", "input": "Hi", "safety_identifier": "ada"}
    assert openai_responses.peek(body).user == openai_responses.parse_request(body).user == "ada"
    both = openai_responses.parse_request(body | {"user": "grace"})
    written = openai_responses.write_request(both, "m")
    assert (written["user"], written["safety_identifier"]) == ("grace", "ada")


def test_what_is_not_asked_is_not_made_up() -> None:
    asked = openai_responses.parse_request({"model": "m", "input": "Hi"})
    assert asked == ChatRequest("m", (Message("user", (Text("Hi"),)),), NAME)
    assert openai_responses.write_request(asked, "gpt-5") == {
        "model": "gpt-5",
        "input": [{"type": "message", "role": "user", "content": "Hi"}],
        "store": False,
    }


def test_encrypted_reasoning_is_asked_for_where_reasoning_is() -> None:
    for effort, include in (("high", ["reasoning.encrypted_content"]), ("none", None), (None, None)):
        asked = ChatRequest("m", (Message("user", (Text("Hi"),)),), reasoning_effort=effort)
        assert openai_responses.write_request(asked, "m").get("include") == include


def test_a_chat_request_becomes_instructions_and_items() -> None:
    asked = openai_chat.parse_request(
        {
            "model": "fast",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                ]},
                {"role": "assistant", "content": "Let me see.", "reasoning_content": "Hm.", "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
                ]},
                {"role": "tool", "tool_call_id": "call_1", "content": "a cat"},
            ],
            "max_completion_tokens": 100,
            "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "look"}},
            "response_format": {"type": "json_object"},
            "reasoning_effort": "low",
        }
    )  # fmt: skip
    assert openai_responses.write_request(asked, "gpt-5") == {
        "model": "gpt-5",
        "instructions": "Be brief.",
        "input": [
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
            ]},
            {"type": "message", "role": "assistant", "content": "Let me see."},
            {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "a cat"},
        ],
        "store": False,
        "max_output_tokens": 100,
        "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}],
        "tool_choice": {"type": "function", "name": "look"},
        "text": {"format": {"type": "json_object"}},
        "reasoning": {"effort": "low"},
        "include": ["reasoning.encrypted_content"],
    }  # fmt: skip


def test_items_become_a_conversation() -> None:
    asked = openai_responses.parse_request(
        {
            "model": "fast",
            "instructions": "Be brief.",
            "input": [
                {"role": "developer", "content": "And kind."},
                {"role": "user", "content": [
                    {"type": "input_text", "text": "What is this?"},
                    {"type": "input_image", "image_url": "https://x/cat.png", "detail": "high"},
                    {"type": "input_file", "file_id": "file-1"},
                ]},
                {"type": "reasoning", "id": "rs_1", "summary": [],
                 "content": [{"type": "reasoning_text", "text": "Hm."}]},
                {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                 "content": [{"type": "output_text", "text": "Let me see.", "annotations": []},
                             {"type": "refusal", "refusal": "No."}]},
                {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "arguments": "{}"},
                {"type": "function_call", "id": "fc_2", "call_id": "b", "name": "g", "arguments": "not JSON"},
                {"type": "function_call_output", "call_id": "a", "output": "a cat"},
                {"type": "function_call_output", "call_id": "b", "output": [
                    {"type": "input_text", "text": "a dog"}, {"type": "input_image", "image_url": "data:,"}]},
            ],
        }
    )  # fmt: skip
    assert asked.messages == (
        Message("system", (Text("Be brief."),)),
        Message("system", (Text("And kind."),)),
        Message("user", (Text("What is this?"), Image("https://x/cat.png", "high"),
                         Opaque(NAME, {"type": "input_file", "file_id": "file-1"}))),
        Message("assistant", (Thinking("Hm."), Text("Let me see."), Text("No."), ToolCall("a", "f", "{}"),
                              ToolCall("b", "g", "not JSON"))),
        Message("tool", (ToolResult("a", (Text("a cat"),)),)),
        Message("tool", (ToolResult("b", (Text("a dog"), Image("data:,"))),)),
    )  # fmt: skip


# -- refusals

HI = {"model": "m", "input": "Hi"}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": {"role": "user"}}, "input"),
        ({"input": ["Hi"]}, "input[0]"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": 5}]}, "input[0].type"),
        ({"stream": "yes"}, "stream"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"user": 5}, "user"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name_before_anything_is_asked(change: Json, param: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        openai_responses.peek(HI | change)
    assert refusal.value.param == param
    assert refusal.value.message.endswith(".")


def test_fields_that_say_what_is_so_anyway_are_fine() -> None:
    fine = {"previous_response_id": None, "conversation": None, "prompt": None, "background": False, "store": False}
    assert openai_responses.parse_request(HI | fine) == openai_responses.parse_request(HI)


def asking(*items: Json) -> Json:
    return {"input": [{"role": "user", "content": "Hi"}, *items]}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"instructions": ["Be brief."]}, "instructions"),
        (asking({"type": "item_reference", "id": "msg_1"}), "input[1]"),
        (asking({"role": "user", "content": 5}), "input[1].content"),
        (asking({"role": "user", "content": ["Hi"]}), "input[1].content[0]"),
        (asking({"role": "user", "content": [{"type": "input_text"}]}), "input[1].content[0]"),
        (asking({"role": "user", "content": [{"type": "input_image", "image_url": {}}]}), "input[1].content[0]"),
        (asking({"role": "assistant", "content": [{"type": "input_file"}]}), "input[1].content"),
        (asking({"type": "function_call", "name": "f", "arguments": "{}"}), "input[1]"),
        (asking({"type": "function_call_output", "output": "x"}), "input[1].call_id"),
        (asking({"type": "function_call_output", "call_id": "a", "output": None}), "input[1].output"),
        (asking({"type": "reasoning", "summary": "Hm."}), "input[1]"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"tools": [{"name": "f"}]}, "tools[0]"),
        ({"tools": [{"type": "function", "name": "f", "parameters": "abc"}]}, "tools[0].parameters"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"input": [{"type": "additional_tools", "tools": []}]}, "input"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"text": "JSON"}, "text"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"reasoning": "low"}, "reasoning"),
        ({"reasoning": {"effort": 5}}, "reasoning.effort"),
        ({"include": "all"}, "include"),
        ({"temperature": "hot"}, "temperature"),
        ({"prompt_cache_key": 5}, "prompt_cache_key"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_by_the_field(change: Json, param: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        openai_responses.parse_request(HI | change)
    assert refusal.value.param == param


@pytest.mark.parametrize("kind", ["web_search", "local_shell", "mcp", "image_generation"])
def test_a_tool_that_openai_runs_is_left_out_elsewhere_beside_functions(kind: str) -> None:
    tools = [{"type": "function", "name": "f"}, {"type": kind, "name": "x"}]
    asked = openai_responses.parse_request(HI | {"tools": tools})
    assert openai_responses.write_request(asked, "m")["tools"] == tools
    for language in (openai_chat, claude):
        assert len(language.write_request(asked, "m")["tools"]) == 1
        assert language.dropped(asked, "m") == [f"tools.{kind}"]


@pytest.mark.parametrize("kind", ["web_search", "mcp"])
@pytest.mark.parametrize("choice", [None, {"type": "web_search"}])
def test_a_tool_that_openai_runs_is_refused_elsewhere_where_nothing_else_was_asked_for(kind: str, choice: Any) -> None:
    asked = openai_responses.parse_request(HI | {"tools": [{"type": kind}], "tool_choice": choice})
    for language in (openai_chat, claude):
        with pytest.raises(CannotCarry) as refusal:
            language.write_request(asked, "m")
        assert refusal.value.param == ("tool_choice" if choice else f"tools.{kind}")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "tool_choice"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        (asking({"type": "computer_call", "call_id": "a", "action": {}}), "messages"),
        (asking({"type": "web_search_call", "id": "ws_1", "status": "completed"}), "messages"),
        (asking({"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}), "messages"),
        (asking({"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}), "messages"),
    ],
)
def test_what_changes_the_answer_is_never_lost(change: Json, param: str) -> None:
    asked = openai_responses.parse_request(HI | change)
    written = openai_responses.write_request(asked, "m")
    assert openai_responses.parse_request(on_the_wire(written)) == replace(asked, model="m")
    for language in (openai_chat, claude):
        with pytest.raises(CannotCarry) as refusal:
            language.write_request(asked, "m")
        assert refusal.value.param == param


@pytest.mark.parametrize(
    "change",
    [{"truncation": "auto"}, {"top_logprobs": 0}, {"metadata": {"a": "b"}}, {"service_tier": "flex"},
     {"include": ["web_search_call.action.sources"]}, {"text": {"verbosity": "low"}},
     {"stream_options": {"include_obfuscation": False}}, {"max_tool_calls": 3}],
)  # fmt: skip
def test_hints_are_left_out_where_they_find_no_place_and_named(change: Json) -> None:
    asked = openai_responses.parse_request(HI | change)
    assert claude.write_request(asked, "m")["messages"]
    assert claude.dropped(asked, "m") == openai_chat.dropped(asked, "m") == list(change)
    assert openai_responses.dropped(asked, "m") == []


@pytest.mark.parametrize(
    ("body", "param"), [({"n": 2}, "n"), ({"stop": "END"}, "stop"), ({"logit_bias": {"1": 2}}, "logit_bias")]
)
def test_what_this_language_has_no_place_for_is_refused_by_name(body: Json, param: str) -> None:
    asked = openai_chat.parse_request({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **body})
    with pytest.raises(CannotCarry) as refusal:
        openai_responses.write_request(asked, "m")
    assert refusal.value.param == param


def test_what_a_body_needs_of_a_model_is_told_by_its_field() -> None:
    picture = [{"type": "input_image", "image_url": "data:,"}]
    wish = {"text": {"format": {"type": "json_schema"}}, "reasoning": {"effort": "low"}, "tools": [{}]}
    assert openai_responses.needs(HI) == {}
    assert openai_responses.needs(HI | {"reasoning": {"effort": "none"}}) == {}
    assert openai_responses.needs({**HI, **wish, "input": [{"role": "user", "content": picture}]}) == {
        "tools": "tools",
        "thinking": "reasoning.effort",
        "json_schema": "text.format",
        "images": "input[0].content",
    }
    assert openai_responses.needs({"input": [{"output": picture}]}) == {}, "what a tool has shown can be told of"


FULL = {
    **FIELDS,
    "tool_choice": "auto",
    "input": [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "input_text", "text": "a"},
                                     {"type": "input_image", "image_url": "data:,"}]},
        REASONING,
        REASONING | {"encrypted_content": sealed("Hm.", "c2ln")},
        MESSAGE,
        CALL,
        {"type": "function_call_output", "call_id": CALL["call_id"],
         "output": [{"type": "input_text", "text": "rain"}]},
    ],
    "prompt_cache_key": "k",
    "top_logprobs": 0,
}  # fmt: skip


@given(with_something_odd(FULL) | st.dictionaries(st.sampled_from(sorted(responses_file.READ)), odd_values))
@FUZZ
def test_any_json_anywhere_in_a_body_is_a_request_or_a_bad_request(body: Json) -> None:
    try_everything(openai_responses, body)
    try:
        openai_responses.peek(body)
    except BadRequest:
        return
    openai_responses.needs(body)
    try:
        asked = openai_responses.parse_request(body)
        openai_responses.write_answer(GREETED, STAMP, asked)
        for language in (openai_responses, claude):
            dumps(language.write_request(asked, "m"))
    except (BadRequest, CannotCarry):
        pass


# -- thoughts across turns


def sent_back(answer: Answer) -> tuple[Message, ...]:
    """The conversation as a caller that keeps all items sends it back."""
    output = loads(openai_responses.write_answer(answer, STAMP))["output"]
    return openai_responses.parse_request({"model": "m", **asking(*output)}).messages


@given(st.text(max_size=20), words)
@CALM
def test_a_signed_thought_comes_back_as_it_was(text: str, signature: str) -> None:
    thought = Thinking(text, signature)
    parts = (thought, Text("Hi."), ToolCall("a", "f", "{}"))
    assert sent_back(Answer((Choice(parts, "tool_calls"),)))[-1] == Message("assistant", parts)


def test_a_thought_that_nobody_signed_comes_back_unsigned_and_is_written_without_content() -> None:
    answer = Answer((Choice((Thinking("Hm."), Text("Hi.")), "stop"),))
    assert "encrypted_content" not in loads(openai_responses.write_answer(answer, STAMP))["output"][0]
    assert sent_back(answer)[-1].parts == (Thinking("Hm."), Text("Hi."))


def test_encrypted_content_of_another_maker_goes_back_to_it_alone() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAABo"}
    asked = openai_responses.parse_request({"model": "m", **asking(item, {"role": "assistant", "content": "Hi."})})
    assert openai_responses.write_request(asked, "m")["input"][1] == item
    assert "gAAAAABo" not in str(claude.write_request(asked, "m"))


@pytest.mark.parametrize("content", [None, SEAL, f"{SEAL}!!", f"{SEAL}bm8=", f"{SEAL}e30=", "swb1.ü"])
def test_encrypted_content_of_another_maker_brings_its_summary_alone(content: str | None) -> None:
    summary = [{"type": "summary_text", "text": "Hm."}]
    for told, parts in ((summary, (Thinking("Hm."), Text("Hi."))), ([], (Text("Hi."),))):
        items = (
            {"type": "reasoning", "summary": told, "encrypted_content": content},
            {"role": "assistant", "content": "Hi."},
        )
        assert openai_responses.parse_request({"model": "m", **asking(*items)}).messages[-1].parts == parts


@given(st.text(max_size=40) | st.text("-_=ABCDwxyz", max_size=12).map(lambda text: SEAL + text))
@CALM
def test_anything_in_the_place_of_a_seal_is_read_or_is_not_ours(content: str) -> None:
    thought = unsealed(content)
    assert thought is None or unsealed(sealed(thought.text, thought.signature or "")) == thought


def test_the_signature_of_one_upstream_never_reaches_another() -> None:
    ask, rain = ToolCall("toolu_1", "f", "{}"), Message("tool", (ToolResult("toolu_1", (Text("rain"),)),))
    claudes, openais = Thinking("Hm.", "c2lnbmF0dXJl"), THOUGHT

    def written(thought: Thinking, name: str) -> str:
        hi = Message("user", (Text("Hi"),))
        asked = ChatRequest("m", (hi, Message("assistant", (thought, ask)), rain), reasoning_effort="high")
        return json.dumps(LANGUAGES[name].write_request(asked, "claude-sonnet-4-5"))

    for name in ("anthropic_messages", "bedrock_converse"):
        assert "c2lnbmF0dXJl" in written(claudes, name)
        assert "gAAAA" not in written(openais, name)
    assert "c2lnbmF0dXJl" not in written(claudes, NAME)
    assert json.dumps(
        {"id": "rs_67ccd2", "type": "reasoning", "summary": [{"type": "summary_text", "text": THOUGHT.text}],
         "encrypted_content": "gAAAAABo-_x="}
    ) in written(openais, NAME)  # fmt: skip


def test_claude_is_not_asked_to_think_where_the_thought_is_another_upstreams() -> None:
    ask, rain = ToolCall("a", "f", "{}"), Message("tool", (ToolResult("a", (Text("rain"),)),))
    hi = Message("user", (Text("Hi"),))
    assert thinking_lost((hi, Message("assistant", (THOUGHT, ask)), rain))
    assert not thinking_lost((hi, Message("assistant", (Thinking("Hm.", "c2ln"), ask)), rain))


def test_an_upstreams_reasoning_survives_the_way_to_the_caller_and_back() -> None:
    read = openai_responses.read_answer(response(REASONING, CALL))
    asked = replace(openai_responses.parse_request(HI), messages=sent_back(read))
    item = next(item for item in openai_responses.write_request(asked, "m")["input"] if item["type"] == "reasoning")
    assert (item["id"], item["encrypted_content"]) == (REASONING["id"], REASONING["encrypted_content"])


# -- Codex, as it asks

INSTRUCTIONS = "You are a coding agent. " * 4300
CODEX: Json = {
    "model": "fast",
    "instructions": INSTRUCTIONS,
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "<permissions/>"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment_context/>"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "List the files."}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Run ls."}], "content": None,
         "encrypted_content": sealed("Run ls.", "c2lnbmF0dXJl")},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I will look."}]},
        {"type": "function_call", "name": "shell", "arguments": '{"command":["ls"]}', "call_id": "toolu_1"},
        {"type": "function_call_output", "call_id": "toolu_1", "output": "README.md"},
    ],
    "tools": [
        {"type": "function", "name": name, "description": "Runs a command. " * 200, "strict": False,
         "parameters": {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(200)}}}
        for name in ("shell", "update_plan", "view_image")
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0198-session",
    "text": {"verbosity": "medium"},
}  # fmt: skip


def test_codex_reaches_claude_with_its_thoughts_and_asks_for_a_cache() -> None:
    written = claude.write_request(openai_responses.parse_request(CODEX), "claude-sonnet-4-5")
    mark = {"cache_control": {"type": "ephemeral"}}
    assert written["system"] == [
        {"type": "text", "text": INSTRUCTIONS},
        {"type": "text", "text": "<permissions/>"} | mark,
    ]
    assert [turn["role"] for turn in written["messages"]] == ["user", "assistant", "user"]
    assert written["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Run ls.", "signature": "c2lnbmF0dXJl"},
        {"type": "text", "text": "I will look."},
        {"type": "tool_use", "id": "toolu_1", "name": "shell", "input": {"command": ["ls"]}},
    ]
    assert written["messages"][2]["content"][-1]["type"] == "tool_result"
    assert written["messages"][2]["content"][-1] | mark == written["messages"][2]["content"][-1]
    assert json.dumps(written).count("cache_control") == 2
    assert "thinking" in written
    assert [tool["name"] for tool in written["tools"]] == ["shell", "update_plan", "view_image"]


def test_codex_reaches_a_chat_server() -> None:
    written = openai_chat.write_request(openai_responses.parse_request(CODEX), "qwen3")
    assert [message["role"] for message in written["messages"]] == [
        "system",
        "system",
        "user",
        "user",
        "assistant",
        "tool",
    ]
    assert written["messages"][4] == {
        "role": "assistant",
        "content": "I will look.",
        "reasoning_content": "Run ls.",
        "tool_calls": [
            {"id": "toolu_1", "type": "function", "function": {"name": "shell", "arguments": '{"command":["ls"]}'}}
        ],
    }
    assert written["messages"][5] == {"role": "tool", "tool_call_id": "toolu_1", "content": "README.md"}
    assert written["reasoning_effort"] == "medium"
    assert "cache_control" not in json.dumps(written)


def test_nobody_asks_for_a_cache_who_names_none() -> None:
    asked = openai_responses.parse_request({name: value for name, value in CODEX.items() if name != "prompt_cache_key"})
    assert not any(isinstance(part, CachePoint) for message in asked.messages for part in message.parts)


@pytest.mark.parametrize("items", [[], [{"role": "assistant", "content": "Hi."}], [CALL], CODEX["input"][-2:]])
def test_a_mark_for_a_cache_stops_no_language(items: list[Json]) -> None:
    body = {"model": "m", **asking(*items)}
    marked = openai_responses.parse_request(body | {"prompt_cache_key": "k"})
    assert isinstance(marked.messages[-1].parts[-1], CachePoint)
    for language in LANGUAGES.values():
        if language.work == "chat":
            assert refusal_by(language, marked) == refusal_by(language, openai_responses.parse_request(body))


def refusal_by(language: Language, asked: ChatRequest) -> str | None:
    try:
        dumps(language.write_request(asked, "m"))
    except CannotCarry as refusal:
        return refusal.message
    return None


def test_an_answer_repeats_what_was_asked() -> None:
    asked = openai_responses.parse_request(CODEX | {"metadata": {"a": "b"}, "temperature": 0.5, "user": "ada"})
    written = loads(openai_responses.write_answer(GREETED, STAMP, asked))
    SDK_ANSWER.validate_python(written)
    told = "instructions tools tool_choice parallel_tool_calls reasoning metadata temperature user prompt_cache_key"
    for name in told.split():
        assert written[name] == (CODEX | {"metadata": {"a": "b"}, "temperature": 0.5, "user": "ada"})[name]
    assert written["text"] == {"format": {"type": "text"}, "verbosity": "medium"}


# -- answers, written


def test_an_answer_is_written_as_the_reference_shows_it() -> None:
    parts = (Thinking("Hm.", "c2ln"), Text("Let me look."), ToolCall("call_1", "get_weather", '{"city":"Bern"}'))
    written = loads(openai_responses.write_answer(Answer((Choice(parts, "tool_calls"),), READ_USAGE), STAMP))
    SDK_ANSWER.validate_python(written, strict=True)
    assert written == {
        "id": "resp_018f",
        "object": "response",
        "created_at": 1741476542,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "model": "fast",
        "output": [
            {"id": "rs_018f_0", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}],
             "encrypted_content": sealed("Hm.", "c2ln")},
            {"id": "msg_018f_1", "type": "message", "status": "completed", "role": "assistant",
             "content": [{"type": "output_text", "text": "Let me look.", "annotations": [], "logprobs": []}]},
            {"id": "fc_018f_2", "type": "function_call", "status": "completed", "call_id": "call_1",
             "name": "get_weather", "arguments": '{"city":"Bern"}'},
        ],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": None,
        "truncation": "disabled",
        "usage": USAGE,
        "user": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [("stop", "completed", None), ("length", "incomplete", "max_output_tokens"),
     ("content_filter", "incomplete", "content_filter")],
)  # fmt: skip
def test_an_answer_says_how_it_ended(finish: Any, status: str, reason: str | None) -> None:
    written = loads(openai_responses.write_answer(Answer((Choice((Text("Hel"),), finish),)), STAMP))
    assert (written["status"], written["output"][0]["status"]) == (status, status)
    assert written["incomplete_details"] == ({"reason": reason} if reason else None)
    last = event_in(written_stream([TextDelta("Hel"), Finished(finish)])[-1])
    assert (last["type"], last["response"]["status"]) == (f"response.{status}", status)
    assert last["response"]["output"] == written["output"]


def kinds(frames: Iterable[bytes]) -> list[str]:
    return [event_in(frame)["type"].removeprefix("response.") for frame in frames]


def test_a_stream_is_written_in_the_order_of_the_reference() -> None:
    events = [ThinkingDelta("Hm"), ThinkingDelta("."), ThinkingDelta("", "c2ln"), TextDelta("Hel"), TextDelta("lo")]
    events += [ToolCallDelta(0, "a", "f"), ToolCallDelta(0, arguments="{}"), Finished("tool_calls"), READ_USAGE]
    frames = written_stream(events)
    assert kinds(frames) == [
        *("created", "in_progress"),
        *("output_item.added", "reasoning_summary_part.added"),
        *("reasoning_summary_text.delta", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"),
        "completed",
    ]
    last = event_in(frames[-1])["response"]
    assert last["usage"] == USAGE
    assert [item["type"] for item in last["output"]] == ["reasoning", "message", "function_call"]
    assert not b"".join(frames).endswith(worked.DONE)


def test_the_opening_comes_with_the_first_event_and_nothing_before() -> None:
    writer = openai_responses.writer(STAMP, False)
    assert writer.write(READ_USAGE) + writer.write(TextDelta("")) + writer.write(ThinkingDelta("")) == b""
    assert kinds(frames_of(writer.write(TextDelta("Hi"))))[:3] == ["created", "in_progress", "output_item.added"]


def test_words_after_a_call_are_a_message_of_their_own_and_a_thought_after_a_signature_is_another_one() -> None:
    events: list[Event] = [TextDelta("a"), ToolCallDelta(0, "c", "f", "{}"), TextDelta("b")]
    events += [ThinkingDelta("1", "x"), ThinkingDelta("2", "y"), Finished("tool_calls")]
    output = event_in(written_stream(events)[-1])["response"]["output"]
    assert [item["type"] for item in output] == ["message", "function_call", "message", "reasoning", "reasoning"]
    assert [unsealed(item.get("encrypted_content")) for item in output[3:]] == [Thinking("1", "x"), Thinking("2", "y")]


def test_calls_side_by_side_keep_their_places() -> None:
    events: list[Event] = [ToolCallDelta(0, "a", "f"), ToolCallDelta(1, "b", "g")]
    events += [ToolCallDelta(1, arguments='{"y":'), ToolCallDelta(0, arguments='{"x":1}')]
    events += [ToolCallDelta(1, arguments="2}"), Finished("tool_calls")]
    frames = [event_in(frame) for frame in written_stream(events)]
    deltas = [(e["output_index"], e["item_id"], e["delta"]) for e in frames if e["type"].endswith("arguments.delta")]
    assert deltas == [(1, "fc_018f_1", '{"y":'), (0, "fc_018f_0", '{"x":1}'), (1, "fc_018f_1", "2}")]
    assert [(item["call_id"], item["arguments"]) for item in frames[-1]["response"]["output"]] == [
        ("a", '{"x":1}'),
        ("b", '{"y":2}'),
    ]


FAULT = Fault(429, "rate_limit_error", "Upstream 'Main account' is limiting its rate.", "rate_limit_exceeded")


def test_a_stream_that_breaks_ends_with_a_failed_response() -> None:
    writer = openai_responses.writer(STAMP, False)
    frames = frames_of(b"".join([writer.write(TextDelta("Hel")), writer.fail(FAULT, "018f")]))
    last = event_in(frames[-1])
    SDK_EVENT.validate_python(last)
    assert last["sequence_number"] == len(frames) - 1
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"] == {"code": "rate_limit_exceeded", "message": FAULT.message}
    assert b"completed" not in b"".join(frames)


def test_an_error_is_written_in_openais_shape() -> None:
    written = loads(openai_responses.write_error(FAULT, "018f"))
    assert written["error"]["code"] == "rate_limit_exceeded"
    assert written["error"].keys() == {"message", "type", "param", "code"}


def test_openais_own_client_reads_an_answer_and_a_stream() -> None:
    parts: tuple[Part, ...] = (Thinking("Hm.", "c2ln"), Text("Hello"), ToolCall("a", "f", '{"x":1}'))
    answer = Answer((Choice(parts, "tool_calls"),), READ_USAGE)
    asked = openai_responses.parse_request(CODEX)
    body = openai_responses.write_answer(answer, STAMP, asked)
    with Upstream(answering(whole(body))) as upstream, sdk(upstream) as client:
        read = client.responses.create(model="fast", input="Hi")
        assert (read.output_text, read.status) == ("Hello", "completed")
        assert read.usage is not None
        assert read.usage.total_tokens == 123
    frames = written_stream(in_pieces(answer, [2, 2], False), asked)
    with (
        Upstream(answering(stream(*frames))) as upstream,
        sdk(upstream) as client,
        client.responses.stream(model="fast", input="Hi") as events,
    ):
        said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        final = events.get_final_response()
    assert said == final.output_text == "Hello"
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]


def sdk(upstream: Upstream) -> openai.OpenAI:
    return openai.OpenAI(base_url=upstream.url, api_key="k", max_retries=0)


# -- answers, read


@pytest.mark.parametrize(("output", "answer"), [([MESSAGE], GREETED), ([REASONING, CALL, OTHER_CALL], CALLED)])
def test_openais_answer_is_read(output: list[Json], answer: Answer) -> None:
    assert openai_responses.read_answer(response(*output)) == answer


def test_a_refusal_is_text_and_another_item_is_kept_for_its_own_language() -> None:
    refusal = MESSAGE | {"content": [{"type": "refusal", "refusal": "No."}]}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    read = openai_responses.read_answer(response(search, refusal))
    assert read.choices[0] == Choice((Opaque(NAME, search), Text("No.")), "stop")


@pytest.mark.parametrize(
    ("details", "finish"),
    [({"reason": "max_output_tokens"}, "length"), ({"reason": "content_filter"}, "content_filter"), (None, "length")],
)
def test_an_incomplete_answer_says_why(details: Json | None, finish: str) -> None:
    document = response(MESSAGE, status="incomplete", incomplete_details=details)
    assert openai_responses.read_answer(document).choices[0].finish_reason == finish
    assert loads(openai_responses.pass_answer(dumps(document), "fast")[0])["status"] == document["status"]
    events = read_stream(openai_responses, events_of(*OPENING, {"type": "response.incomplete", "response": document}))
    assert events == [Finished(finish), READ_USAGE]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "document",
    [response(status="in_progress"), response(status="failed"), response() | {"status": None}, response(output=None),
     response(output="text"), response(output=[5]), {}],
)  # fmt: skip
def test_what_is_no_complete_answer_is_a_fault_of_the_upstream(document: Json) -> None:
    for read in (openai_responses.read_answer, lambda answer: openai_responses.pass_answer(dumps(answer), "fast")):
        with pytest.raises(ProviderError) as error:
            read(document)
        assert error.value.kind == "broken"


ERRORS = [
    ({"code": "server_error", "message": "sk-upstream-secret"}, "broken", True),
    ({"code": "rate_limit_exceeded", "message": "Slow down."}, "rate_limit", True),
    ({"code": "insufficient_quota", "message": "No money."}, "quota", True),
    ({"code": "context_length_exceeded", "message": "Too long."}, "context_length", False),
    ({"code": "invalid_prompt", "message": "Not this."}, "bad_request", False),
    ({"code": "server_is_overloaded", "message": "Busy."}, "unavailable", True),
]


@pytest.mark.parametrize(("told", "kind", "retryable"), ERRORS)
def test_a_failure_is_understood_wherever_it_stands(told: Json, kind: str, retryable: bool) -> None:
    failed = response(status="failed", error=told)
    frames = [
        {"type": "response.failed", "response": failed},
        {"type": "error", **told, "param": None},
        {"type": "error", "error": {"type": "server_error", **told}},
    ]
    raised: list[ProviderError] = []
    with pytest.raises(ProviderError) as error:
        answer_document(dumps(failed))
    raised.append(error.value)
    for document in frames:
        for before in ([], GREETING[:5]):
            tap, reader = openai_responses.tap(OURS, False), openai_responses.reader()
            for frame in before:
                tap.see(frame)
                reader.read_frame(frame)
            for see in (tap.see, reader.read_frame):
                with pytest.raises(ProviderError) as error:
                    see(events_of(document)[0])
                raised.append(error.value)
            assert not tap.ended
    assert {(error.kind, error.retryable) for error in raised} == {(kind, retryable)}
    assert not any("sk-upstream" in error.message for error in raised)


def test_an_error_that_says_nothing_is_an_error_all_the_same() -> None:
    for document in ({"type": "error"}, {"type": "response.failed", "response": {}}, {"type": "response.cancelled"}):
        for see in (openai_responses.tap(OURS, False).see, openai_responses.reader().read_frame):
            with pytest.raises(ProviderError):
                see(events_of(document)[0])


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_every_worked_stream_is_read_to_its_end(name: str) -> None:
    reader = openai_responses.reader()
    events: list[Event] = []
    for frame in STREAMS[name]:
        if not reader.ended:
            events += reader.read_frame(frame)
    assert reader.ended
    assert reader.read_end() == []
    tricky = Answer((Choice((Text("".join(TRICKY_WORDS)),), "stop"),), READ_USAGE)
    wanted = {"tools and thoughts": CALLED, "tricky words": tricky, "spaced JSON": tricky}
    assert Answer.collect(events) == wanted.get(name, GREETED)


def test_items_that_come_whole_without_pieces_are_read() -> None:
    frames = events_of(
        done(0, REASONING), done(1, MESSAGE), done(2, CALL), added(3, OTHER_CALL), done(3, OTHER_CALL),
        {"type": "response.completed", "response": response(REASONING, MESSAGE, CALL, OTHER_CALL)},
    )  # fmt: skip
    calls = CALLED.choices[0].parts[1:]
    wanted = Choice((THOUGHT, *GREETED.choices[0].parts, *calls), "tool_calls")
    assert Answer.collect(read_stream(openai_responses, frames)) == Answer((wanted,), READ_USAGE)


@pytest.mark.parametrize("kept", range(len(GREETING)))
def test_a_stream_without_its_last_event_was_cut(kept: int) -> None:
    with pytest.raises(ProviderError) as error:
        read_stream(openai_responses, [*GREETING[:kept], worked.DONE])
    assert error.value.kind == "cut"


@given(st.sampled_from([loads(f.partition(b"data: ")[2]) for f in [*GREETING, *TOOLS]]).flatmap(with_something_odd))
@FUZZ
def test_any_json_in_a_frame_is_events_or_a_fault_of_the_upstream(document: Any) -> None:
    frame = b"data: " + dumps(document) + b"\n\n"
    answers_or_fails(lambda: openai_responses.reader().read_frame(frame))
    answers_or_fails(lambda: openai_responses.tap(OURS, False).see(frame))


@given(with_something_odd(response(REASONING, MESSAGE, CALL)))
@FUZZ
def test_any_json_in_an_answer_is_an_answer_or_a_fault_of_the_upstream(document: Any) -> None:
    answers_or_fails(lambda: openai_responses.read_answer(answer_document(dumps(document))))
    answers_or_fails(lambda: openai_responses.pass_answer(dumps(document), "fast"))


# -- straight through


def test_straight_through_only_the_model_is_changed() -> None:
    body = {**CODEX, "stream_options": {"include_obfuscation": False}, "invented_tomorrow": {"x": [1]}}
    for ask_usage in (True, False):
        sent = openai_responses.readdress(body, openai_responses.peek(body), "gpt-5", ask_usage)
        # The thought was Claude's, put into words here: nobody else could open it.
        kept = [item for item in body["input"] if item.get("type") != "reasoning"]
        assert sent == {**body, "model": "gpt-5", "input": kept}
    assert body["model"] == "fast"


def test_a_wish_for_too_many_tokens_is_lowered_and_named() -> None:
    assert openai_responses.clamp({"max_output_tokens": 5000}, 100) == ({"max_output_tokens": 100}, "max_output_tokens")
    for body in ({"max_output_tokens": 100}, {"max_output_tokens": None}, {}):
        assert openai_responses.clamp(body, 100) == (body, None)


def expected(frames: list[bytes]) -> bytes:
    """Every byte, but for the name in the events that hold the whole response."""
    names = [b'"model":' + space + dumps(THEIRS) for space in (b"", b" ")]
    passed = []
    for frame in frames:
        if b'"response":' in frame:
            for name in names:
                frame = frame.replace(name, b'"model":' + dumps(OURS))
        passed.append(frame)
    return b"".join(passed)


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_frames_pass_byte_for_byte_but_for_the_models_name(name: str) -> None:
    tap = openai_responses.tap(OURS, False)
    passed = b"".join(tap.see(frame) or b"" for frame in STREAMS[name])
    assert passed == expected(STREAMS[name])
    assert passed.count(dumps(OURS)) >= 2
    assert (tap.content, tap.ended, tap.usage) == (True, True, READ_USAGE)
    assert tap.finish_reason == ("tool_calls" if name == "tools and thoughts" else "stop")
    assert tap.closing() == b""
    untouched = openai_responses.tap(None, False)
    assert b"".join(untouched.see(frame) or b"" for frame in STREAMS[name]) == b"".join(STREAMS[name])


def test_only_the_name_of_the_response_is_changed_not_that_of_a_tool() -> None:
    """An image tool names a model, and so may metadata, before and after the response's own."""
    tool = {"type": "image_generation", "model": THEIRS}
    last = {"metadata": {"model": THEIRS}} | response(MESSAGE, tools=[tool], metadata={"model": THEIRS})
    frames = events_of({"type": "response.created", "response": last}, said("Hi"))
    passed = openai_responses.tap(OURS, False).see(frames[0]) or b""
    assert event_in(passed)["response"] == {**last, "model": OURS}
    assert len(passed) == len(frames[0]) - len(dumps(THEIRS)) + len(dumps(OURS))
    body = json.dumps(last, indent=1).encode()
    named, _ = openai_responses.pass_answer(body, OURS)
    assert named.count(THEIRS.encode()) == 2
    assert loads(named) == {**last, "model": OURS}


def test_a_whole_answer_keeps_every_byte_but_the_models_name() -> None:
    body = json.dumps(
        response(MESSAGE | {"content": [{"type": "output_text", "text": f'"model":"{THEIRS}"'}]})
    ).encode()
    before, after = body.split(f'"model": "{THEIRS}"'.encode())
    passed, usage = openai_responses.pass_answer(body, OURS)
    assert passed == before + b'"model":' + dumps(OURS) + after
    assert usage == READ_USAGE
    assert openai_responses.pass_answer(body, None)[0] == body


def test_a_piece_of_content_is_not_even_parsed() -> None:
    tap = openai_responses.tap(OURS, False)
    for frame in GREETING[:5]:
        tap.see(frame)
    piece = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"no JSON\n\n'
    assert tap.see(piece) == piece
    assert tap.pieces == 2


def test_an_opening_is_no_content() -> None:
    tap = openai_responses.tap(OURS, False)
    for frame in [b": ping\n\n", *GREETING[:4]]:
        tap.see(frame)
    assert (tap.content, tap.pieces, tap.ended) == (False, 0, False)
    tap.see(GREETING[4])
    assert tap.content


@pytest.mark.parametrize(("seen", "number"), [(0, 0), (2, 2), (6, 6)])
def test_a_stream_that_breaks_straight_through_ends_with_the_response_it_was(seen: int, number: int) -> None:
    tap = openai_responses.tap(OURS, False)
    for frame in [*GREETING[:seen], b": ping\n\n"]:
        tap.see(frame)
    last = event_in(tap.fail(FAULT, "018f"))
    assert last["sequence_number"] == number
    assert last["response"]["id"] == (response()["id"] if seen else "resp_018f")
    assert (last["response"]["model"], last["response"]["status"]) == (OURS, "failed")
    assert last["response"]["error"] == {"code": "rate_limit_exceeded", "message": FAULT.message}
    if seen:
        SDK_EVENT.validate_python(last)


# -- real streams

SHORT = events_of(
    {"type": "response.created", "response": {"id": "resp_1", "model": THEIRS, "output": []}},
    said("Hi, grüße 🙂"),
    {"type": "response.completed", "response": {"id": "resp_1", "model": THEIRS, "output": [], "usage": USAGE}},
)


@pytest.mark.parametrize("straight", [True, False], ids=["straight through", "translated"])
def test_a_stream_cut_in_two_at_any_byte_is_the_same_stream(straight: bool) -> None:
    told = b"".join(SHORT)
    events = [TextDelta("Hi, grüße 🙂"), Finished("stop"), READ_USAGE]
    wanted = expected(SHORT) if straight else b"".join(written_stream(events, stamp=LANES_STAMP))

    def script(wire: Wire) -> None:
        at = 0
        while wire.request() is not None:
            at += 1
            wire.say(EVENT_STREAM + http_chunk(told[:at]), http_chunk(told[at:]) + LAST_CHUNK, pause=0.0002)

    with Upstream(script) as upstream:
        for _ in range(1, len(told)):
            with opened(account(upstream.url), True, straight, openai_responses) as lane:
                assert passed_on(lane) == wanted


@pytest.mark.parametrize("straight", [True, False], ids=["straight through", "translated"])
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_real_stream_without_its_last_event_was_cut(kept: int, straight: bool) -> None:
    target = Upstream(answering(stream(*SHORT[:kept])))
    with target as upstream, opened(account(upstream.url), True, straight, openai_responses) as lane:
        with pytest.raises(ProviderError) as error:
            passed_on(lane)
        assert error.value.kind == "cut"
        assert not lane.ended


@pytest.mark.parametrize(("reason", "arguments"), [("tool_calls", "{}"), ("length", "")])
def test_a_call_without_arguments_has_an_object_of_none_unless_it_was_cut(reason: Any, arguments: str) -> None:
    answer = Answer((Choice((ToolCall("call_1", "now", ""),), reason),))
    assert loads(openai_responses.write_answer(answer, STAMP))["output"][0]["arguments"] == arguments
    writer = openai_responses.writer(STAMP, False)
    events = [ToolCallDelta(0, "call_1", "now"), Finished(reason)]
    frames = b"".join(map(writer.write, events)) + writer.close()
    ended = [
        document for document in map(document_in, frames.split(b"\n\n")[:-1]) if document["type"].endswith(".done")
    ]
    assert [document.get("arguments", document.get("item", {}).get("arguments")) for document in ended] == [
        arguments
    ] * 2


def test_a_call_is_told_once_its_name_is_here() -> None:
    writer = openai_responses.writer(STAMP, False)
    writer.write(TextDelta("Hm."))
    assert writer.write(ToolCallDelta(0, "call_1", None, '{"a"')) == b""
    frames = writer.write(ToolCallDelta(0, None, "f", ":1}")) + writer.write(Finished("tool_calls")) + writer.close()
    items = [document["item"] for document in map(document_in, frames.split(b"\n\n")[:-1]) if "item" in document]
    assert [item["name"] for item in items if item["type"] == "function_call"] == ["f", "f"]
    assert items[-1]["arguments"] == '{"a":1}'


def test_a_call_that_is_whole_ends_before_words_begin() -> None:
    writer = openai_responses.writer(STAMP, False)
    events = [ToolCallDelta(0, "a", "f", "{}"), ToolCallDelta(1, "b", "g", '{"x'), TextDelta("Well."), Finished("stop")]
    frames = b"".join(map(writer.write, events)) + writer.close()
    kinds = [
        (document["type"].removeprefix("response."), document["output_index"])
        for document in map(document_in, frames.split(b"\n\n")[:-1])
        if "output_item" in document["type"]
    ]
    assert kinds == [
        ("output_item.added", 0), ("output_item.added", 1), ("output_item.done", 0), ("output_item.added", 2),
        ("output_item.done", 1), ("output_item.done", 2),
    ]  # fmt: skip


def document_in(frame: bytes) -> Json:
    return loads(frame.partition(b"data: ")[2])


def test_thoughts_put_into_words_here_do_not_go_straight_to_another() -> None:
    """They are the gateway's own items, which servers of Responses do not know."""
    answer = Answer((Choice((Thinking("Hm.", "ErUB"), Text("Hi.")), "stop"),))
    stamp = replace(STAMP, id="0192f0a0c0de7000800000000000c0de")
    output = loads(openai_responses.write_answer(answer, stamp))["output"]
    theirs = {"type": "reasoning", "id": "rs_68af4030baa48193", "summary": [], "encrypted_content": "gAAAAABo"}
    body: Json = {"model": "smart", "input": [{"role": "user", "content": "Hi?"}, *output, theirs]}
    straight = openai_responses.readdress(body, openai_responses.peek(body), "gpt-5", True)
    assert straight["input"] == [body["input"][0], output[1], theirs]
    untouched = {"model": "smart", "input": [theirs]}
    assert (
        openai_responses.readdress(untouched, openai_responses.peek(untouched), "gpt-5", True)["input"]
        is (untouched["input"])
    )


def test_a_long_name_of_a_user_is_one_that_the_upstream_takes() -> None:
    asked = ChatRequest("m", (Message("user", (Text("Hi"),)),), user="u" * 200)
    for language in (openai_chat, openai_responses):
        user = language.write_request(asked, "m")["user"]
        assert len(user) == 64
        assert user != "u" * 64
    known = replace(asked, user="ada@example.com")
    assert openai_chat.write_request(known, "m")["user"] == "ada@example.com"
    assert claude.write_request(known, "m")["metadata"]["user_id"].isalnum()
    assert claude.write_request(replace(asked, user="ada"), "m")["metadata"] == {"user_id": "ada"}
