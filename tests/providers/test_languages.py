"""Each language's two halves against each other, against OpenAI's own examples, and against odd input."""

from __future__ import annotations

import base64
import copy
import json
import struct
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from providers.conversation import (
    Answer,
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
from providers.documents import dumps, loads
from providers.languages import openai_chat_requests as chat_file
from providers.languages import openai_completions as completions_file
from providers.languages import openai_embeddings as embeddings_file
from providers.languages.errors import answer_document, read_error
from providers.languages.fields import asks_nothing
from providers.languages.language import BadRequest, Fault, Language, Reader, Stamp
from providers.languages.openai import read_usage, write_usage
from providers.languages.registry import LANGUAGES, openai_chat, openai_completions, openai_embeddings
from providers.wire.errors import CannotCarry, ProviderError
from tests.providers import worked
from tests.providers.worked import call, chunk, frame

STAMP = Stamp("018f", 1741569952, "fast")

# -- strategies: what the middle can hold, and what a stranger may send

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
odd_values = json_values | st.sampled_from(
    [0, -1, 2**70, "", "text", [], [[]], {}, {"type": "text"}, {"index": []}, [None], [1], ["a"], True, False, 1.5]
)
words = st.text(min_size=1, max_size=8)
numbers = st.none() | st.floats(-2, 2)
schemas = st.dictionaries(words, json_values, max_size=2)


few = st.integers(0, 10**6)
usages = st.builds(Usage, few, few, few, few, few)


tool_calls = st.builds(ToolCall, words, words, st.text(max_size=12))
images = st.builds(Image, words, st.sampled_from([None, "low", "high", "auto"]))
opaque = st.builds(lambda data: Opaque(chat_file.NAME, {"type": "input_audio", "input_audio": data}), json_values)
asked_parts = st.lists(st.builds(Text, st.text(max_size=8)) | images | opaque, min_size=1, max_size=3).map(tuple)
names = st.none() | words


@st.composite
def assistant_parts(draw: st.DrawFn) -> tuple[Any, ...]:
    thinking = draw(st.lists(st.builds(Thinking, words), max_size=1))
    texts = draw(st.lists(st.builds(Text, words), max_size=2))
    calls = draw(st.lists(tool_calls, min_size=0 if texts else 1, max_size=2))
    return (*thinking, *texts, *calls)


messages = st.one_of(
    st.builds(lambda text, name: Message("system", (Text(text),), name), words, names),
    st.builds(lambda parts, name: Message("user", parts, name), asked_parts, names),
    st.builds(lambda parts, name: Message("assistant", parts, name), assistant_parts(), names),
    st.builds(
        lambda id, texts: Message("tool", (ToolResult(id, tuple(map(Text, texts))),)),
        words,
        st.lists(words, min_size=1, max_size=2),
    ),
)
extras = st.dictionaries(
    words.filter(lambda name: name not in chat_file.READ) | st.sampled_from(sorted(chat_file.INDISPENSABLE)),
    json_values.filter(lambda value: value is not None),
    max_size=2,
)


@st.composite
def chat_requests(draw: st.DrawFn) -> ChatRequest:
    stream = draw(st.booleans())
    more = draw(extras)
    return ChatRequest(
        model=draw(words.filter(str.strip)),
        messages=tuple(draw(st.lists(messages, min_size=1, max_size=4))),
        language=chat_file.NAME,
        stream=stream,
        max_tokens=draw(st.none() | st.integers(1)),
        temperature=draw(numbers),
        top_p=draw(numbers),
        stop=tuple(draw(st.lists(words, max_size=2))),
        n=draw(st.none() | st.integers(1, 9)),
        seed=draw(st.none() | st.integers(-(2**63), 2**63)),
        presence_penalty=draw(numbers),
        frequency_penalty=draw(numbers),
        tools=tuple(
            draw(st.lists(st.builds(Tool, words, names, st.none() | schemas, st.none() | st.booleans()), max_size=2))
        ),
        tool_choice=draw(
            st.sampled_from([None, *map(ToolChoice, ("auto", "none", "required"))])  # type: ignore[arg-type]
            | st.builds(lambda name: ToolChoice("tool", name), words)
        ),
        parallel_tool_calls=draw(st.none() | st.booleans()),
        json_format=draw(
            st.sampled_from([None, JSONFormat()])
            | st.builds(JSONFormat, schemas, words, st.none() | st.booleans(), names)
        ),
        reasoning_effort=draw(st.sampled_from([None, "low", "high"])),
        user=draw(names),
        extras=more,
        indispensable=frozenset(
            name for name in chat_file.INDISPENSABLE & more.keys() if not asks_nothing(name, more[name])
        ),
    )


@st.composite
def choices(draw: st.DrawFn, only_text: bool = False) -> Choice:
    texts = draw(st.lists(st.builds(Text, words), max_size=1))
    if only_text:
        return Choice(tuple(texts), draw(st.sampled_from(["stop", "length", "content_filter"])))
    thinking = draw(st.lists(st.builds(Thinking, words), max_size=1))
    calls = draw(st.lists(tool_calls, max_size=2))
    ends = ["tool_calls", "length", "content_filter"] if calls else ["stop", "length", "content_filter"]
    return Choice((*thinking, *texts, *calls), draw(st.sampled_from(ends)))


def answers(only_text: bool = False) -> st.SearchStrategy[Answer]:
    some = st.lists(choices(only_text), min_size=1, max_size=3).map(tuple)
    return st.builds(Answer, some, st.none() | usages)


def in_pieces(answer: Answer, sizes: Iterable[int]) -> list[Event]:
    """The events of `answer`, with each text cut into pieces as a model would bring them."""
    events: list[Event] = []
    lengths = iter(sizes)
    for event in answer.events():
        size = next(lengths, 3)
        match event:
            case TextDelta(text, choice):
                events += [TextDelta(text[at : at + size], choice) for at in range(0, len(text), size)]
            case ThinkingDelta(text, _, choice):
                events += [ThinkingDelta(text[at : at + size], None, choice) for at in range(0, len(text), size)]
            case ToolCallDelta(index, id, name, arguments, choice):
                events.append(ToolCallDelta(index, id, name, arguments[:size], choice))
                events.append(ToolCallDelta(index, None, None, arguments[size:], choice))
            case _:
                events.append(event)
    return events


def read_stream(language: Language, frames: Iterable[bytes]) -> list[Event]:
    reader = language.reader()
    return [*(event for written in frames for event in reader.read_frame(written)), *reader.read_end()]


def frames_of(written: bytes) -> list[bytes]:
    return [part + b"\n\n" for part in written.split(b"\n\n") if part]


def on_the_wire(body: dict[str, Any]) -> dict[str, Any]:
    return json.loads(dumps(body))


CALM = settings(deadline=None, database=None, max_examples=100)

# -- the two halves test each other


@given(chat_requests())
@CALM
def test_a_chat_request_that_is_written_is_read_back_the_same(request: ChatRequest) -> None:
    assert openai_chat.parse_request(on_the_wire(openai_chat.write_request(request, request.model))) == request


@given(answers())
@CALM
def test_a_chat_answer_that_is_written_is_read_back_the_same(answer: Answer) -> None:
    assert openai_chat.read_answer(answer_document(openai_chat.write_answer(answer, STAMP))) == answer


@given(answers(), st.lists(st.integers(1, 4)))
@CALM
def test_a_chat_stream_that_is_written_is_read_back_as_the_same_answer(answer: Answer, sizes: list[int]) -> None:
    writer = openai_chat.writer(STAMP, include_usage=True)
    written = b"".join(writer.write(event) for event in in_pieces(answer, sizes)) + writer.close()
    assert Answer.collect(read_stream(openai_chat, frames_of(written))) == answer


@given(answers())
@CALM
def test_events_fold_into_the_answer_they_came_from(answer: Answer) -> None:
    assert Answer.collect(in_pieces(answer, [1, 2])) == answer


@given(chat_requests(), st.text(max_size=9))
@CALM
def test_a_completion_request_that_is_written_is_read_back_the_same(request: ChatRequest, prompt: str) -> None:
    kept = {name: getattr(request, name) for name in "model stream max_tokens temperature top_p".split()}
    kept |= {name: getattr(request, name) for name in "stop n seed presence_penalty frequency_penalty user".split()}
    asked = ChatRequest(
        messages=(Message("user", (Text(prompt),)),),
        language=completions_file.NAME,
        extras={"suffix": " end.", "best_of": 2, "service": {"tier": 1}},
        indispensable=frozenset(["suffix", "best_of"]),
        **kept,
    )
    assert openai_completions.parse_request(on_the_wire(openai_completions.write_request(asked, asked.model))) == asked


@given(answers(only_text=True))
@CALM
def test_a_completion_that_is_written_is_read_back_the_same(answer: Answer) -> None:
    written = openai_completions.write_answer(answer, STAMP)
    assert openai_completions.read_answer(answer_document(written)) == answer


@given(answers(only_text=True), st.lists(st.integers(1, 4)))
@CALM
def test_a_completion_stream_that_is_written_is_read_back_as_the_same_answer(answer: Answer, sizes: list[int]) -> None:
    writer = openai_completions.writer(STAMP, include_usage=True)
    written = b"".join(writer.write(event) for event in in_pieces(answer, sizes)) + writer.close()
    assert Answer.collect(read_stream(openai_completions, frames_of(written))) == answer


@given(
    st.builds(
        EmbeddingRequest,
        words.filter(str.strip),
        st.lists(words | st.lists(st.integers(0, 10**6), min_size=1).map(tuple), min_size=1, max_size=3).map(tuple),
        st.sampled_from(["float", "base64"]),
        st.none() | st.integers(1, 4096),
        names,
        st.just("openai"),
        st.dictionaries(
            words.filter(lambda name: name not in embeddings_file.READ),
            json_values.filter(lambda value: value is not None),
            max_size=2,
        ),
    )
)
@CALM
def test_an_embedding_request_that_is_written_is_read_back_the_same(request: EmbeddingRequest) -> None:
    body = on_the_wire(openai_embeddings.write_embedding_request(request, request.model))
    assert openai_embeddings.parse_embedding(body) == request


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4).map(tuple), max_size=3))
@CALM
def test_vectors_written_as_floats_are_read_back_exactly(vectors: list[tuple[float, ...]]) -> None:
    answer = Embeddings(tuple(vectors), Usage(input=7))
    written = openai_embeddings.write_embeddings(answer, EmbeddingRequest("m", ("a",)), STAMP)
    assert openai_embeddings.read_embeddings(answer_document(written)) == answer


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False), max_size=4).map(tuple), max_size=3))
@CALM
def test_vectors_written_as_base64_are_read_back_as_float32(vectors: list[tuple[float, ...]]) -> None:
    answer = Embeddings(tuple(vectors), Usage(input=7))
    written = openai_embeddings.write_embeddings(answer, EmbeddingRequest("m", ("a",), "base64"), STAMP)
    assert openai_embeddings.read_embeddings(answer_document(written)) == answer


def test_base64_is_little_endian_float32() -> None:
    written = openai_embeddings.write_embeddings(
        Embeddings(((0.1, -2.0),)), EmbeddingRequest("m", ("a",), "base64"), STAMP
    )
    assert base64.b64decode(loads(written)["data"][0]["embedding"]) == struct.pack("<2f", 0.1, -2.0)


@given(st.builds(Usage, few, few, few, few, few, few, few))
@CALM
@example(Usage(10, 20, 3, 4, 5, 6, 7))
def test_usage_that_is_written_is_read_back_the_same(usage: Usage) -> None:
    assert read_usage(on_the_wire(write_usage(usage))) == usage


# -- every field that is read survives

CHAT_FIELDS: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "Hello!"}],
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 16,
    "max_completion_tokens": 17,
    "temperature": 0.2,
    "top_p": 0.9,
    "stop": ["\n", "END"],
    "n": 2,
    "seed": -42,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "The weather",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
                "strict": True,
            },
        }
    ],
    "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    "parallel_tool_calls": False,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "city", "schema": {"type": "object"}, "strict": True, "description": "A city"},
    },
    "reasoning_effort": "low",
    "user": "ada@example.com",
}
COMPLETION_FIELDS = {name: CHAT_FIELDS[name] for name in completions_file.READ if name in CHAT_FIELDS}
COMPLETION_FIELDS["prompt"] = "Say this is a test"
EMBEDDING_FIELDS: dict[str, Any] = {
    "model": "text-embedding-3-small",
    "input": ["The food was delicious", "and the waiter..."],
    "encoding_format": "base64",
    "dimensions": 256,
    "user": "ada@example.com",
}
# One field in the middle; a provider spells it as its server likes.
SPELT_ANEW = {"max_completion_tokens": "max_tokens"}


def test_there_is_an_example_for_every_field_that_is_read() -> None:
    assert CHAT_FIELDS.keys() == chat_file.READ
    assert COMPLETION_FIELDS.keys() == completions_file.READ
    assert EMBEDDING_FIELDS.keys() == embeddings_file.READ


@pytest.mark.parametrize("name", sorted(chat_file.READ))
def test_each_field_of_a_chat_request_survives_translation(name: str) -> None:
    body = {field: CHAT_FIELDS[field] for field in {"model", "messages", name}}
    if name == "stream_options":
        body["stream"] = True
    written = openai_chat.write_request(openai_chat.parse_request(body), "gpt-4o")
    assert written[SPELT_ANEW.get(name, name)] == CHAT_FIELDS[name]


@pytest.mark.parametrize("name", sorted(completions_file.READ))
def test_each_field_of_a_completion_request_survives_translation(name: str) -> None:
    body = {field: COMPLETION_FIELDS[field] for field in {"model", "prompt", name}}
    if name == "stream_options":
        body["stream"] = True
    written = openai_completions.write_request(openai_completions.parse_request(body), "gpt-4o")
    assert written[name] == COMPLETION_FIELDS[name]


@pytest.mark.parametrize("name", sorted(embeddings_file.READ))
def test_each_field_of_an_embedding_request_survives_translation(name: str) -> None:
    body = {field: EMBEDDING_FIELDS[field] for field in {"model", "input", name}}
    asked = openai_embeddings.parse_embedding(body)
    assert openai_embeddings.write_embedding_request(asked, "text-embedding-3-small")[name] == EMBEDDING_FIELDS[name]


@pytest.mark.parametrize("name", sorted(chat_file.INDISPENSABLE))
def test_a_field_that_changes_the_answer_is_never_lost_between_chat_and_another_language(name: str) -> None:
    asked = openai_chat.parse_request({"model": "m", "messages": CHAT_FIELDS["messages"], name: {"some": "wish"}})
    assert openai_chat.write_request(asked, "m")[name] == {"some": "wish"}
    with pytest.raises(CannotCarry) as refusal:
        openai_completions.write_request(asked, "m")
    assert refusal.value.param == name


@pytest.mark.parametrize("name", sorted(completions_file.INDISPENSABLE))
def test_a_field_that_changes_the_answer_is_never_lost_between_completions_and_chat(name: str) -> None:
    asked = openai_completions.parse_request({"model": "m", "prompt": "Once", name: 3})
    assert openai_completions.write_request(asked, "m")[name] == 3
    with pytest.raises(CannotCarry) as refusal:
        openai_chat.write_request(asked, "m")
    assert refusal.value.param == name


def test_a_prompt_becomes_a_conversation_of_one_message() -> None:
    asked = openai_completions.parse_request({"model": "m", "prompt": "Say this is a test", "max_tokens": 7})
    assert openai_chat.write_request(asked, "gpt-4o") == {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Say this is a test"}],
        "max_tokens": 7,
    }


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]}, "messages"),
        ({"tools": CHAT_FIELDS["tools"]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_what_a_text_completer_cannot_do_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    asked = openai_chat.parse_request({"model": "m", "messages": CHAT_FIELDS["messages"], **body})
    with pytest.raises(CannotCarry) as refusal:
        openai_completions.write_request(asked, "m")
    assert refusal.value.param == param


def test_a_part_of_another_language_is_refused_by_name() -> None:
    asked = ChatRequest("m", (Message("user", (Opaque("anthropic_messages", {"type": "document"}),)),))
    with pytest.raises(CannotCarry) as refusal:
        openai_chat.write_request(asked, "m")
    assert refusal.value.param == "messages"


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "file", "file": {"file_id": "f-1"}}]},
        {"role": "assistant", "content": None, "refusal": "I can't help with that."},
        {"role": "assistant", "content": None, "function_call": {"name": "get_weather", "arguments": "{}"}},
        {"role": "assistant", "content": None, "audio": {"id": "audio_abc"}},
    ],
    ids=["a file in a tool's answer", "a refusal", "an old function call", "spoken words"],
)
def test_nothing_of_a_message_is_dropped_in_silence(message: dict[str, Any]) -> None:
    try:
        asked = openai_chat.parse_request({"model": "m", "messages": [{"role": "user", "content": "Hi"}, message]})
        written = openai_chat.write_request(asked, "m")
    except (BadRequest, CannotCarry) as refusal:
        assert refusal.param  # noqa: PT017 - to carry it is as good
        return
    said = next(value for name, value in message.items() if name not in ("role", "tool_call_id") and value)
    wanted = said if isinstance(said, str) else dumps(said).decode()[1:-1]
    assert wanted in dumps(written["messages"][1]).decode()


def test_a_developer_speaks_as_the_system() -> None:
    asked = openai_chat.parse_request({"model": "m", "messages": [{"role": "developer", "content": "Be brief."}]})
    assert asked.messages == (Message("system", (Text("Be brief."),)),)


def test_absent_fields_stay_absent() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
    assert openai_chat.write_request(openai_chat.parse_request(body), "m") == body
    nothing = dict.fromkeys(chat_file.READ - body.keys())
    assert openai_chat.write_request(openai_chat.parse_request(body | nothing), "m") == body


# -- requests that are wrong

CHAT_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": " "}, "model"),
    ({"model": 4}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "Hello"}, "messages"),
    ({"messages": {"role": "user"}}, "messages"),
    ({"messages": ["Hello"]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": "x"}, {"content": "x"}]}, "messages[1].role"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"messages": [{"role": "assistant", "tool_calls": {"id": "x"}}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant", "tool_calls": ["x"]}]}, "messages[0].tool_calls[0]"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "x", "function": {}}]}]}, "messages[0].tool_calls[0]"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": True}, "stream_options"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": "many"}, "max_tokens"),
    ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": [1]}, "top_p"),
    ({"stop": 5}, "stop"),
    ({"stop": ["a", 5]}, "stop"),
    ({"n": 0}, "n"),
    ({"seed": 1.5}, "seed"),
    ({"presence_penalty": {}}, "presence_penalty"),
    ({"frequency_penalty": True}, "frequency_penalty"),
    ({"tools": {}}, "tools"),
    ({"tools": ["x"]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {"name": 5}}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": [1]}}]}, "tools[0].function.parameters"),
    ({"tools": [{"type": "function", "function": {"name": "f", "description": {}}}]}, "tools[0].function.description"),
    ({"tools": [{"type": "function", "function": {"name": "f", "strict": "yes"}}]}, "tools[0].function.strict"),
    ({"tool_choice": "sometimes"}, "tool_choice"),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"reasoning_effort": 5}, "reasoning_effort"),
    ({"user": 5}, "user"),
]
COMPLETION_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"model": ""}, "model"),
    ({"prompt": None}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": ["one", "two"]}, "prompt"),
    ({"prompt": [1, 2, 3]}, "prompt"),
    ({"stream": 1}, "stream"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"temperature": "hot"}, "temperature"),
    ({"stop": {}}, "stop"),
    ({"seed": "lucky"}, "seed"),
    ({"user": []}, "user"),
]
EMBEDDING_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"input": None}, "input"),
    ({"input": ""}, "input"),
    ({"input": []}, "input"),
    ({"input": 5}, "input"),
    ({"input": ["a", 5, "b"]}, "input[1]"),
    ({"input": ["a", []]}, "input[1]"),
    ({"input": [[1, "b"]]}, "input[0]"),
    ({"encoding_format": "hex"}, "encoding_format"),
    ({"encoding_format": ["float"]}, "encoding_format"),
    ({"dimensions": 0}, "dimensions"),
    ({"user": 5}, "user"),
]


@pytest.mark.parametrize(("change", "param"), CHAT_ERRORS)
def test_a_wrong_chat_request_is_refused_by_the_field(change: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        openai_chat.parse_request({"model": "m", "messages": CHAT_FIELDS["messages"], **change})
    assert refusal.value.param == param
    assert refusal.value.message.endswith(".")


@pytest.mark.parametrize(("change", "param"), COMPLETION_ERRORS)
def test_a_wrong_completion_request_is_refused_by_the_field(change: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        openai_completions.parse_request({"model": "m", "prompt": "Once", **change})
    assert refusal.value.param == param


@pytest.mark.parametrize(("change", "param"), EMBEDDING_ERRORS)
def test_a_wrong_embedding_request_is_refused_by_the_field(change: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        openai_embeddings.parse_embedding({"model": "m", "input": "text", **change})
    assert refusal.value.param == param


FULL_CHAT = {
    **CHAT_FIELDS,
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "name": "ada", "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        ]},
        {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "rain"}]},
    ],
    "logit_bias": {"50256": -100},
    "metadata": {"a": "b"},
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every place in a JSON value, the whole included."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for step, inner in steps for place in places(inner, (*path, step)))]


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    changed = copy.copy(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], by)
    return changed


def with_something_odd(document: Any) -> st.SearchStrategy[Any]:
    """`document` with any JSON in one or two of its places."""

    @st.composite
    def draw_one(draw: st.DrawFn) -> Any:
        value = document
        for _ in range(draw(st.integers(1, 2))):
            inner = [place for place in places(value) if place]
            value = replaced(value, draw(st.sampled_from(inner)), draw(odd_values)) if inner else value
        return value

    return draw_one()


FUZZ = settings(deadline=None, database=None, max_examples=200)


def try_everything(language: Language, body: dict[str, Any]) -> None:
    """What the relay may do with a body: each step answers or refuses, and nothing else."""
    try:
        envelope = language.peek(body)
    except BadRequest:
        return
    clamped, _ = language.clamp(body, 16)
    for ask_usage in (True, False):
        assert dumps(language.readdress(clamped, envelope, "upstream-model", ask_usage))
    try:
        asked = language.parse_request(body)
    except (BadRequest, CannotCarry):
        return
    for other in (openai_chat, openai_completions):
        try:
            assert dumps(other.write_request(asked, "upstream-model"))
        except CannotCarry:
            pass


@given(with_something_odd(FULL_CHAT) | st.dictionaries(st.sampled_from(sorted(chat_file.READ)), odd_values))
@FUZZ
def test_any_json_anywhere_in_a_chat_body_is_a_request_or_a_bad_request(body: dict[str, Any]) -> None:
    try_everything(openai_chat, body)


@given(
    with_something_odd({**COMPLETION_FIELDS, "suffix": "end", "echo": False})
    | st.dictionaries(st.sampled_from(sorted(completions_file.READ)), odd_values)
)
@FUZZ
def test_any_json_anywhere_in_a_completion_body_is_a_request_or_a_bad_request(body: dict[str, Any]) -> None:
    try_everything(openai_completions, body)


@given(
    with_something_odd({**EMBEDDING_FIELDS, "input": ["a", [1, 2]]})
    | st.dictionaries(st.sampled_from(sorted(embeddings_file.READ)), odd_values)
)
@FUZZ
def test_any_json_anywhere_in_an_embedding_body_is_a_request_or_a_bad_request(body: dict[str, Any]) -> None:
    try:
        envelope = openai_embeddings.peek(body)
        assert dumps(openai_embeddings.readdress(body, envelope, "upstream-model", ask_usage=True))
        asked = openai_embeddings.parse_embedding(body)
    except BadRequest:
        return
    assert dumps(openai_embeddings.write_embedding_request(asked, "upstream-model"))


# -- straight through: the request

HELLO_BODY: dict[str, Any] = {"model": "fast", "messages": CHAT_FIELDS["messages"], "invented_tomorrow": {"x": [1]}}


def test_straight_through_only_the_model_is_changed() -> None:
    body = copy.deepcopy(HELLO_BODY)
    sent = openai_chat.readdress(body, openai_chat.peek(body), "gpt-4o", ask_usage=True)
    assert sent == {**HELLO_BODY, "model": "gpt-4o"}
    assert body == HELLO_BODY


def test_straight_through_usage_is_always_asked_for_in_a_stream() -> None:
    body = {**HELLO_BODY, "stream": True, "stream_options": {"include_obfuscation": False}}
    sent = openai_chat.readdress(body, openai_chat.peek(body), "gpt-4o", ask_usage=True)
    assert sent["stream_options"] == {"include_obfuscation": False, "include_usage": True}


@pytest.mark.parametrize("options", [None, {}, {"include_usage": True}])
def test_straight_through_a_server_that_refuses_stream_options_gets_none(options: dict[str, Any] | None) -> None:
    body = {**HELLO_BODY, "stream": True, "stream_options": options}
    sent = openai_chat.readdress(body, openai_chat.peek(body), "gpt-4o", ask_usage=False)
    assert "stream_options" not in sent


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_wish_for_too_many_tokens_is_lowered_and_named(name: str) -> None:
    assert openai_chat.clamp({"model": "m", name: 5000}, 100) == ({"model": "m", name: 100}, name)
    assert openai_chat.clamp({"model": "m", name: 100}, 100) == ({"model": "m", name: 100}, None)
    assert openai_completions.clamp({"max_tokens": 5000}, 100) == ({"max_tokens": 100}, "max_tokens")


def test_no_field_that_asks_for_too_many_tokens_passes_beside_another() -> None:
    clamped, _ = openai_chat.clamp({"model": "m", "max_completion_tokens": 10, "max_tokens": 5000}, 100)
    assert all(clamped[name] <= 100 for name in ("max_completion_tokens", "max_tokens"))


# -- answers, as OpenAI writes them


def test_openais_chat_answer_is_read() -> None:
    assert openai_chat.read_answer(worked.ANSWER) == Answer(
        (Choice((Text("Hello! How can I assist you today?"),), "stop"),), Usage(19, 10, cached=8, reasoning=2)
    )


def test_openais_completion_is_read() -> None:
    assert openai_completions.read_answer(worked.COMPLETION) == Answer(
        (Choice((Text("\n\nThis is indeed a test"),), "length"),), Usage(5, 7)
    )


def test_openais_embeddings_are_read_in_the_order_of_the_inputs() -> None:
    rows = [
        {"object": "embedding", "index": 1, "embedding": base64.b64encode(struct.pack("<2f", 3, 4)).decode()},
        {"object": "embedding", "index": 0, "embedding": [1.5, 2]},
    ]
    assert openai_embeddings.read_embeddings(worked.EMBEDDINGS | {"data": rows}) == Embeddings(
        ((1.5, 2), (3.0, 4.0)), Usage(8)
    )


def test_a_chat_answer_is_written_in_openais_shape() -> None:
    parts = (Thinking("Hm."), Text("Rain."), ToolCall("call_1", "get_weather", '{"city"'))
    written = loads(openai_chat.write_answer(Answer((Choice(parts, "tool_calls"),), Usage(5, 7, 2, 0, 1)), STAMP))
    assert written == {
        "id": "chatcmpl-018f",
        "object": "chat.completion",
        "created": 1741569952,
        "model": "fast",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Rain.",
                    "reasoning_content": "Hm.",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city"'},
                        }
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 7,
            "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    }


def test_a_stream_is_written_in_openais_order_role_first() -> None:
    writer = openai_chat.writer(STAMP, include_usage=True)
    events = [Usage(5, 7), TextDelta("Hel"), TextDelta("lo"), Finished("stop")]
    written = [loads(data) for data in _data(b"".join(map(writer.write, events)) + writer.close())]
    assert [chunk["choices"] and chunk["choices"][0]["delta"] for chunk in written] == [
        {"role": "assistant", "content": "Hel"},
        {"content": "lo"},
        {},
        [],
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in written[:3]] == [None, None, "stop"]
    assert written[3]["usage"] == {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    assert all((chunk["id"], chunk["model"], chunk["created"]) == ("chatcmpl-018f", "fast", 1741569952)
               for chunk in written)  # fmt: skip


def test_usage_nobody_asked_for_is_not_written() -> None:
    for language in (openai_chat, openai_completions):
        writer = language.writer(STAMP, include_usage=False)
        assert writer.write(Usage(5, 7)) + writer.write(Finished("stop")) + writer.close()
        assert b"usage" not in writer.write(Usage(5, 7)) + writer.close()


def test_each_piece_of_a_tool_call_carries_its_index_and_the_first_its_type() -> None:
    writer = openai_chat.writer(STAMP, include_usage=False)
    written = writer.write(ToolCallDelta(1, "call_1", "f", "")) + writer.write(ToolCallDelta(1, arguments="{}"))
    pieces = [loads(data)["choices"][0]["delta"]["tool_calls"] for data in _data(written)]
    assert pieces == [
        [{"index": 1, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}],
        [{"index": 1, "function": {"arguments": "{}"}}],
    ]


def _data(written: bytes) -> list[bytes]:
    return [part.removeprefix(b"data: ") for part in written.split(b"\n\n") if part and part != b"data: [DONE]"]


# -- streams, as OpenAI and its imitators write them


@pytest.mark.parametrize("name", sorted(worked.CHAT_STREAMS))
def test_every_worked_stream_is_read_to_its_end(name: str) -> None:
    reader = openai_chat.reader()
    events = [event for written in worked.CHAT_STREAMS[name] for event in reader.read_frame(written)]
    assert reader.ended
    assert reader.read_end() == []
    assert [event for event in events if isinstance(event, Finished)]
    if name != "no usage":
        assert events[-1] == Usage(19, 10, cached=8, reasoning=2)


def test_a_role_first_chunk_brings_no_event() -> None:
    assert openai_chat.reader().read_frame(frame(worked.ROLE)) == []


def test_two_parallel_tool_calls_in_pieces_become_two_calls() -> None:
    events = read_stream(openai_chat, worked.CHAT_STREAMS["two parallel tool calls"])
    assert Answer.collect(events).choices == (
        Choice(
            (
                ToolCall("call_DdmO9pD3xa9XTPNJ32zg2hcA", "get_weather", '{"city": "Zürich"}'),
                ToolCall("call_abc", "get_time", '{"zone":"CET"}'),
            ),
            "tool_calls",
        ),
    )


def test_a_usage_chunk_without_choices_is_usage() -> None:
    assert openai_chat.reader().read_frame(frame(worked.USAGE_CHUNK)) == [Usage(19, 10, cached=8, reasoning=2)]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_thinking(field: str) -> None:
    assert openai_chat.reader().read_frame(frame(chunk({field: "Hm."}))) == [ThinkingDelta("Hm.")]
    message = {"role": "assistant", "content": "42", field: "Hm."}
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    assert openai_chat.read_answer(answer).choices[0].parts == (Thinking("Hm."), Text("42"))


@pytest.mark.parametrize("value", [None, {}, [], "none", 0, False])
def test_usage_that_says_nothing_is_no_usage(value: object) -> None:
    assert read_usage(value) is None
    assert openai_chat.reader().read_frame(frame(chunk({"content": "a"}, usage=value))) == [TextDelta("a")]


@pytest.mark.parametrize("details", [None, {}, {"cached_tokens": None}, {"cached_tokens": "8"}, [], "none"])
def test_counters_that_are_missing_are_zero(details: object) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": None, "prompt_tokens_details": details}
    assert read_usage(usage | {"completion_tokens_details": details}) == Usage(3)


@pytest.mark.parametrize(
    ("said", "read"),
    [("stop", "stop"), ("length", "length"), ("tool_calls", "tool_calls"), ("content_filter", "content_filter"),
     ("function_call", "tool_calls"), ("eos", "stop")],
)  # fmt: skip
def test_a_finish_reason_is_one_of_four(said: str, read: str) -> None:
    assert openai_chat.reader().read_frame(frame(chunk({}, said))) == [Finished(read)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "read"), [("stop", "tool_calls"), ("length", "length"), ("content_filter", "content_filter")]
)
def test_stop_beside_tool_calls_means_tool_calls_but_length_and_filter_win(said: str, read: str) -> None:
    reader = openai_chat.reader()
    reader.read_frame(frame(chunk(call(0, "{}", "call_1", "f"))))
    assert reader.read_frame(frame(chunk({}, said))) == [Finished(read)]  # type: ignore[arg-type]
    message = {"role": "assistant", "content": None, "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}  # fmt: skip
    whole = openai_chat.read_answer({"choices": [{"message": message, "finish_reason": said}]})
    assert whole.choices[0].finish_reason == read


@pytest.mark.parametrize("reason", ["abort", "error"])
@pytest.mark.parametrize("language", [openai_chat, openai_completions], ids=lambda language: language.name)
def test_an_engine_that_gave_up_is_an_error_not_a_stop(language: Language, reason: str) -> None:
    with pytest.raises(ProviderError) as error:
        language.reader().read_frame(frame(chunk({}, reason)))
    assert (error.value.kind, error.value.retryable) == ("cut", True)


@pytest.mark.parametrize("language", [openai_chat, openai_completions], ids=lambda language: language.name)
def test_a_stream_without_a_finish_or_an_end_mark_was_cut(language: Language) -> None:
    reader = language.reader()
    reader.read_frame(frame(chunk({"content": "Hel"}) if language is openai_chat else worked.piece("Hel")))
    with pytest.raises(ProviderError) as error:
        reader.read_end()
    assert error.value.kind == "cut"


@pytest.mark.parametrize("language", [openai_chat, openai_completions], ids=lambda language: language.name)
def test_a_stream_with_a_finish_is_whole_also_without_an_end_mark(language: Language) -> None:
    reader = language.reader()
    reader.read_frame(frame(chunk({}, "stop")))
    assert reader.read_end() == []


def test_a_whole_answer_that_does_not_say_why_it_ended_is_broken() -> None:
    for language, answer in ((openai_chat, worked.ANSWER), (openai_completions, worked.COMPLETION)):
        silent = answer | {"choices": [answer["choices"][0] | {"finish_reason": None}]}
        with pytest.raises(ProviderError) as error:
            language.read_answer(silent)
        assert error.value.kind == "broken"


# -- upstreams that send anything at all


def odd_answers(document: Any) -> st.SearchStrategy[Any]:
    return with_something_odd(document)


def answers_or_fails(read: Callable[[], object]) -> None:
    try:
        read()
    except ProviderError as error:
        assert error.message.endswith(".")  # noqa: PT017 - an answer is as good


TWO_CALLS = chunk(call(0, "{}", "call_1", "f"), "stop", usage=worked.USAGE)
THOUGHTS = chunk({"reasoning_content": "Hm.", "content": "42"}, usage=worked.USAGE)


@given(odd_answers(TWO_CALLS) | odd_answers(THOUGHTS))
@FUZZ
def test_any_json_in_a_chat_frame_is_events_or_a_fault_of_the_upstream(document: Any) -> None:
    answers_or_fails(lambda: openai_chat.reader().read_frame(frame(document)))


@given(odd_answers(worked.piece("Hello", "stop", usage=worked.USAGE)))
@FUZZ
def test_any_json_in_a_completion_frame_is_events_or_a_fault_of_the_upstream(document: Any) -> None:
    answers_or_fails(lambda: openai_completions.reader().read_frame(frame(document)))


@given(odd_answers(TWO_CALLS) | odd_answers(THOUGHTS) | odd_answers(worked.piece("Hello", "stop", usage=worked.USAGE)))
@FUZZ
def test_any_json_in_a_frame_passes_the_tap_or_is_a_fault_of_the_upstream(document: Any) -> None:
    answers_or_fails(lambda: openai_chat.tap("fast", include_usage=False).see(frame(document)))


CALLED = worked.ANSWER | {"choices": [{"finish_reason": "stop", "message": {
    "content": "a", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}}]}  # fmt: skip


@given(odd_answers(worked.ANSWER) | odd_answers(CALLED))
@FUZZ
def test_any_json_in_a_chat_answer_is_an_answer_or_a_fault_of_the_upstream(document: Any) -> None:
    answers_or_fails(lambda: openai_chat.read_answer(answer_document(dumps(document))))
    answers_or_fails(lambda: openai_chat.pass_answer(dumps(document), "fast"))


@given(odd_answers(worked.COMPLETION))
@FUZZ
def test_any_json_in_a_completion_is_an_answer_or_a_fault_of_the_upstream(document: Any) -> None:
    answers_or_fails(lambda: openai_completions.read_answer(answer_document(dumps(document))))
    answers_or_fails(lambda: openai_completions.pass_answer(dumps(document), "fast"))


@given(odd_answers(worked.EMBEDDINGS))
@FUZZ
def test_any_json_in_an_embedding_answer_is_vectors_or_a_fault_of_the_upstream(document: Any) -> None:
    answers_or_fails(lambda: openai_embeddings.read_embeddings(answer_document(dumps(document))))
    answers_or_fails(lambda: openai_embeddings.pass_answer(dumps(document), "fast"))


def frames_with(choice: Any) -> dict[str, Any]:
    return chunk({}) | {"choices": choice}


ODD_FRAMES = [
    frames_with(5),
    frames_with({"0": {}}),
    frames_with(["text"]),
    frames_with([None]),
    frames_with([{"index": {}, "delta": {"content": "a"}, "text": "a"}]),
    frames_with([{"index": [1], "finish_reason": "stop"}]),
    chunk("text"),  # type: ignore[arg-type]
    chunk(["text"]),  # type: ignore[arg-type]
    chunk({"tool_calls": 5}),
    chunk({"tool_calls": ["text"]}),
    chunk({"tool_calls": [{"function": "text"}]}),
]


@pytest.mark.parametrize("document", ODD_FRAMES)
@pytest.mark.parametrize("language", [openai_chat, openai_completions], ids=lambda each: each.name)
def test_a_frame_of_an_odd_shape_is_never_our_own_fault(language: Language, document: dict[str, Any]) -> None:
    answers_or_fails(lambda: language.reader().read_frame(frame(document)))
    answers_or_fails(lambda: language.tap("fast", include_usage=True).see(frame(document)))


ODD_CHOICES = [
    {"finish_reason": "stop", "message": {"tool_calls": 5}},
    {"finish_reason": "stop", "message": {"tool_calls": ["text"]}},
    {"finish_reason": "stop", "message": {"tool_calls": [{"function": "text"}]}},
    "text",
    None,
]


@pytest.mark.parametrize("choice", ODD_CHOICES)
def test_an_answer_of_an_odd_shape_is_a_fault_of_the_upstream(choice: Any) -> None:
    with pytest.raises(ProviderError) as error:
        openai_chat.read_answer({"choices": [choice]})
    assert error.value.kind == "broken"


@pytest.mark.parametrize("row", [5, "text", None, [], {"index": "b"}, {"index": 0, "embedding": {}}])
def test_vectors_of_an_odd_shape_are_a_fault_of_the_upstream(row: Any) -> None:
    rows = [{"index": 1, "embedding": [1.0]}, row]
    with pytest.raises(ProviderError) as error:
        openai_embeddings.read_embeddings({"data": rows})
    assert error.value.kind == "broken"


@pytest.mark.parametrize("vector", ["no base64!", "AAA=", "AAAAAAA="])
def test_a_vector_that_is_no_base64_float32_is_a_fault_of_the_upstream(vector: str) -> None:
    with pytest.raises(ProviderError) as error:
        openai_embeddings.read_embeddings({"data": [{"index": 0, "embedding": vector}]})
    assert error.value.kind == "broken"


@given(json_values | st.binary(max_size=20))
@CALM
def test_any_error_body_is_read(body: Any) -> None:
    raw = body if isinstance(body, bytes) else dumps(body)
    for status in (400, 401, 404, 418, 429, 500):
        assert read_error(status, raw, "Main account").message


NOT_ANSWERS = [b"{}", b'{"hello":1}', b'{"choices":[]}', b'{"choices":null,"model":"m"}', b"[]", b"5", b"<html></html>",
               b"ERROR: no worker could be reached", b""]  # fmt: skip


@pytest.mark.parametrize("body", NOT_ANSWERS)
@pytest.mark.parametrize("language", [openai_chat, openai_completions, openai_embeddings], ids=lambda each: each.name)
def test_a_success_that_holds_no_answer_does_not_pass_straight_through(language: Language, body: bytes) -> None:
    with pytest.raises(ProviderError) as error:
        language.pass_answer(body, "fast")
    assert (error.value.kind, error.value.retryable) == ("broken", True)


# -- errors of upstreams

HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
LONG = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."


def said(message: str, type: str = "invalid_request_error", param: str | None = None, code: object = None) -> bytes:
    return dumps({"error": {"message": message, "type": type, "param": param, "code": code}})


ERRORS: list[tuple[int, bytes, str, bool, str]] = [
    # OpenAI API reference, errors
    (400, said("Invalid 'temperature'.", param="temperature"), "bad_request", False, "Invalid 'temperature'."),
    (400, said(LONG, param="messages", code="context_length_exceeded"), "context_length", False, LONG),
    (400, said("Blocked.", code="content_filter"), "content_filter", False, "Blocked."),
    (400, said("Unknown parameter: 'stream_options'."), "unsupported_field", False, ""),
    (401, said("Incorrect API key provided: sk-abc.", code="invalid_api_key"), "auth", True, ""),
    (403, said("Country not supported"), "auth", True, ""),
    (404, said("The model `x` does not exist.", code="model_not_found"), "model_not_found", True, ""),
    (404, said("Invalid URL (POST /v1/embeddings)"), "unsupported_path", False, ""),
    (429, said("Rate limit reached for gpt-4o"), "rate_limit", True, ""),
    (429, said("You exceeded your current quota", code="insufficient_quota"), "quota", True, ""),
    (500, said("The server had an error", "server_error"), "broken", True, ""),
    (503, said("Overloaded"), "unavailable", True, ""),
    # upstreams/ocf.md §5: heads write text, engines objects
    (400, b'{"error":"no providers found"}', "bad_request", False, "no providers found"),
    (400, dumps({"error": {"message": LONG, "type": "BadRequestError", "param": None, "code": 400}}),
     "context_length", False, LONG),
    (400, dumps({"object": "error", "message": "n must be 1", "type": "BadRequestError", "code": 400}),
     "bad_request", False, "n must be 1"),
    (401, b'{"error":"invalid or revoked token"}', "auth", True, ""),
    (403, b'{"error":"access denied by instance ACL"}', "auth", True, ""),
    (404, dumps({"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}),
     "model_not_found", True, ""),
    (413, b"", "too_large", False, ""),
    (413, HTML, "too_large", False, ""),
    (422, b'{"detail":[{"loc":["body","n"],"msg":"value is not a valid integer"}]}', "bad_request", False,
     "value is not a valid integer"),
    (422, b'{"detail":"n must be 1"}', "bad_request", False, "n must be 1"),
    (429, b'{"error":"rate limit exceeded"}', "rate_limit", True, ""),
    (502, b"", "broken", True, ""),
    (502, b'{"error":"all workers unreachable for service llm"}', "broken", True, ""),
    (503, b'{"error":"No provider found for the requested service."}', "unavailable", True, ""),
    # upstreams/ollama.md §5
    (400, b'{"error":"\\"llama3\\" does not support tools"}', "bad_request", False, "does not support tools"),
    (404, b'{"error":"model \'llama3\' not found"}', "model_not_found", True, ""),
    (404, said("model \"llama3\" not found, try pulling it first", "not_found_error"), "model_not_found", True, ""),
    (503, b'{"error":"server busy, please try again.  maximum pending requests exceeded"}', "unavailable", True, ""),
    # proxies and frameworks in front of them
    (404, b'{"detail":"Not Found"}', "unsupported_path", False, ""),
    (404, HTML, "unsupported_path", False, ""),
    (405, b"", "unsupported_path", False, ""),
    (408, b"", "timeout", True, ""),
    (410, said("This model is retired"), "model_not_found", True, ""),
    (502, HTML, "broken", True, ""),
    (504, HTML, "timeout", True, ""),
    (529, b"", "unavailable", True, ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "kind", "retryable", "words"), ERRORS, ids=[f"{each[0]} {each[1][:40]!r}" for each in ERRORS]
)
def test_an_upstreams_error_is_understood(status: int, body: bytes, kind: str, retryable: bool, words: str) -> None:
    error = read_error(status, body, "Main account")
    assert (error.kind, error.retryable, error.upstream_status) == (kind, retryable, status)
    assert words in error.message
    assert error.message
    assert "<" not in error.message


SECRETIVE = [
    (401, said("Incorrect API key provided: sk-upstream-secret.", code="invalid_api_key")),
    (403, said("Key sk-upstream-secret may not use this.")),
    (401, b'{"error":"invalid token sk-upstream-secret"}'),
    (401, b"Bearer sk-upstream-secret was refused"),
    (402, said("Account of sk-upstream-secret is empty.")),
    (429, said("Rate limit for sk-upstream-secret in organization org-1.", code="rate_limit_exceeded")),
    (500, said("boom in worker with sk-upstream-secret")),
    (400, said("Incorrect API key provided: sk-upstream-secret.", code="invalid_api_key")),
]


@pytest.mark.parametrize(("status", "body"), SECRETIVE)
def test_what_an_upstream_says_about_our_credential_reaches_nobody(status: int, body: bytes) -> None:
    for within_answer in (False, True):
        error = read_error(status, body, "Main account", within_answer=within_answer)
        assert "sk-upstream-secret" not in f"{error} {error!r} {vars(error)}"


def test_a_refused_credential_is_told_as_our_own_trouble() -> None:
    error = read_error(401, said("Incorrect API key provided"), "Main account")
    assert error.message == (
        "Upstream 'Main account' refused the gateway's credential. Ask your administrator to check the profile."
    )


@pytest.mark.parametrize(
    "data",
    [
        b'{"error":{"message":"CUDA out of memory","type":"server_error","code":500}}',
        b'{"error":"CUDA out of memory"}',
        b'{"object":"error","message":"CUDA out of memory","type":"InternalServerError","code":500}',
    ],
)
def test_an_error_in_the_place_of_an_answer_is_an_error(data: bytes) -> None:
    for read in (
        lambda: openai_chat.reader().read_frame(b"data: " + data + b"\n\n"),
        lambda: openai_chat.reader().read_frame(b"event: error\ndata: " + data + b"\n\n"),
        lambda: openai_completions.reader().read_frame(b"data: " + data + b"\n\n"),
        lambda: openai_chat.pass_answer(data, "fast"),
        lambda: openai_embeddings.pass_answer(data, "fast"),
    ):
        with pytest.raises(ProviderError) as error:
            read()
        assert error.value.kind == "broken"
        assert "CUDA" not in error.value.message


def test_an_error_field_that_says_nothing_is_no_error() -> None:
    assert openai_chat.reader().read_frame(frame(chunk({"content": "a"}, error=None))) == [TextDelta("a")]


# -- errors for callers


def test_an_error_is_written_in_openais_shape() -> None:
    fault = Fault(400, "invalid_request_error", "No.", "model_not_found", "model")
    told = {"error": {"message": "No.", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}}
    for language in (openai_chat, openai_completions, openai_embeddings):
        assert loads(language.write_error(fault, "018f")) == told
    for language in (openai_chat, openai_completions):
        broken = b"data: " + dumps(told) + b"\n\n"
        assert language.writer(STAMP, include_usage=True).fail(fault, "018f") == broken
        assert language.tap(None, include_usage=True).fail(fault, "018f") == broken


def test_each_language_goes_by_its_own_name() -> None:
    assert {name: language.name for name, language in LANGUAGES.items()} == {name: name for name in LANGUAGES}


# -- whole answers straight through


def test_a_whole_answer_keeps_every_byte_but_the_models_name() -> None:
    for written in (dumps(worked.ANSWER), json.dumps(worked.ANSWER, indent=2).encode()):
        passed, usage = openai_chat.pass_answer(written, worked.OURS)
        before, after = written.split(worked.THEIRS.encode())
        assert passed.startswith(before[: before.rindex(b'"model"')])
        assert passed.endswith(after[1:])
        assert loads(passed) == worked.ANSWER | {"model": worked.OURS}
        assert usage == Usage(19, 10, cached=8, reasoning=2)


def test_a_whole_answer_keeps_every_byte_when_the_upstreams_name_is_wanted() -> None:
    written = json.dumps(worked.ANSWER, indent=2).encode()
    assert openai_chat.pass_answer(written, None)[0] == written
    assert openai_chat.pass_answer(written, worked.THEIRS)[0] == written


def test_words_of_the_model_that_look_like_its_name_are_left_alone() -> None:
    message = {"role": "assistant", "content": worked.TRICKY_TEXT, "model": "inner"}
    answer = worked.ANSWER | {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    passed, _ = openai_chat.pass_answer(dumps(answer), "fast")
    assert loads(passed) == answer | {"model": "fast"}


def test_vectors_pass_straight_through_with_their_usage() -> None:
    passed, usage = openai_embeddings.pass_answer(dumps(worked.EMBEDDINGS), "embed")
    assert loads(passed) == worked.EMBEDDINGS | {"model": "embed"}
    assert usage == Usage(8)


def _readers() -> list[Reader]:
    return [openai_chat.reader(), openai_completions.reader()]


def test_comments_and_empty_frames_bring_no_event() -> None:
    for reader in _readers():
        for written in (b": ping\n\n", b"\n\n", b"event: ping\n\n", b":\r\n\r\n", b"id: 5\n\n"):
            assert reader.read_frame(written) == []
        assert not reader.ended


def test_a_number_too_large_for_base64_is_the_upstreams_fault() -> None:
    with pytest.raises(ProviderError, match="too large"):
        openai_embeddings.write_embeddings(Embeddings(((1e308,),)), EmbeddingRequest("m", ("a",), "base64"), STAMP)


@pytest.mark.parametrize(
    "words", ["API key expired. Please renew the API key.", "API Key not found. Please pass a valid API key."]
)
def test_a_credential_that_is_refused_with_a_400_is_no_fault_of_the_callers(words: str) -> None:
    """As Google says it."""
    error = openai_chat_error(400, {"error": {"code": 400, "message": words, "status": "INVALID_ARGUMENT"}})
    assert (error.kind, error.retryable) == ("auth", True)
    mine = openai_chat_error(400, {"error": {"message": "The text 'my API key' is too long."}})
    assert mine.kind == "bad_request"


def openai_chat_error(status: int, document: Any) -> ProviderError:
    return read_error(status, dumps(document), "gemini")
