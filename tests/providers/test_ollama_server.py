"""Ollama's formats as callers speak them: read, written afresh, and straight through, byte for byte."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
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
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from providers.documents import dumps
from providers.languages import ollama_records as records_file
from providers.languages.errors import answer_document
from providers.languages.language import BadRequest, Envelope, Fault, Language, Stamp
from providers.languages.ollama_fields import PromptLanguage
from providers.languages.ollama_records import RecordTap, RecordWriter
from providers.languages.registry import (
    ollama_chat,
    ollama_embed,
    ollama_embeddings,
    ollama_generate,
    openai_chat,
    openai_completions,
    openai_embeddings,
)
from providers.streams import StraightStream, TranslatedStream, UpstreamEvents
from providers.wire import client
from providers.wire.errors import CannotCarry, ProviderError
from tests.providers.upstream import LAST_CHUNK, Upstream, Wire, account, answering, chunk, post
from tests.providers.worked import CHAT_STREAMS

Json = dict[str, Any]
STAMP = Stamp("018f", 1741569952, "fast", 2.5)
PROMPTED: list[PromptLanguage] = [ollama_chat, ollama_generate]
PNG, JPEG, WEBP, GIF = "iVBORw0KGgo=", "/9j/4AAQ", "UklGRgAAAABXRUJQ", "R0lGODlh"
HI: list[Json] = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def chat(**fields: Any) -> ChatRequest:
    return ollama_chat.parse_request({"model": "fast", "messages": HI, **fields})


def generate(**fields: Any) -> ChatRequest:
    return ollama_generate.parse_request({"model": "fast", "prompt": "Hi", **fields})


def talk(*messages: Json) -> tuple[Message, ...]:
    return chat(messages=list(messages)).messages


# -- requests: what is read


@pytest.mark.parametrize(("said", "streams"), [({}, True), ({"stream": None}, True), ({"stream": False}, False)])
def test_a_stream_is_what_comes_of_saying_nothing(said: Json, streams: bool) -> None:
    assert ollama_chat.peek({"model": "m", "messages": HI, **said}).stream is streams
    assert ollama_generate.peek({"model": "m", "prompt": "Hi", **said}).stream is streams


def test_an_envelope_holds_the_limit_and_always_a_wish_for_usage() -> None:
    body = {"model": "m", "messages": HI, "options": {"num_predict": 7}}
    assert ollama_chat.peek(body) == Envelope("m", stream=True, include_usage=True, max_tokens=7)


@pytest.mark.parametrize("unlimited", [None, 0, -1, -2])
def test_no_limit_and_less_than_one_are_no_limit(unlimited: int | None) -> None:
    assert chat(options={"num_predict": unlimited}).max_tokens is None


def test_the_options_everybody_knows_are_read_and_the_others_kept_by_name() -> None:
    known = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["END"], "num_predict": 9}
    known |= {"presence_penalty": 0.1, "frequency_penalty": 0.2}
    asked = chat(options={**known, "top_k": 40, "num_ctx": 4096, "mirostat": 0}, keep_alive="5m", truncate=False)
    assert (asked.temperature, asked.top_p, asked.seed, asked.stop, asked.max_tokens) == (0.5, 0.9, 7, ("END",), 9)
    assert (asked.presence_penalty, asked.frequency_penalty) == (0.1, 0.2)
    left_out = {"options.top_k": 40, "options.num_ctx": 4096, "options.mirostat": 0}
    assert asked.extras == {**left_out, "keep_alive": "5m", "truncate": False}
    assert sorted(openai_chat.dropped(asked, "m")) == sorted(asked.extras)
    assert openai_chat.write_request(asked, "m").keys() & asked.extras.keys() == set()
    assert ollama_chat.dropped(asked, "m") == []


@pytest.mark.parametrize(
    ("think", "effort"),
    [(None, None), (True, "medium"), (False, None), ("low", "low"), ("medium", "medium"), ("high", "high"),
     ("max", "max")],
)  # fmt: skip
def test_thinking_is_an_effort(think: Any, effort: str | None) -> None:
    assert chat(think=think).reasoning_effort == generate(think=think).reasoning_effort == effort


def test_not_to_think_is_said_to_an_ollama_server_alone() -> None:
    """Clients say it of every model, and OpenAI's refuse the word where they do not reason."""
    asked = chat(think=False)
    assert ollama_chat.write_request(asked, "m")["think"] is False
    assert "reasoning_effort" not in openai_chat.write_request(asked, "m")
    assert openai_chat.dropped(asked, "m") == ["think"]


@pytest.mark.parametrize(
    ("form", "wish"),
    [(None, None), ("", None), ("json", JSONFormat()), (SCHEMA, JSONFormat(SCHEMA)), ({}, JSONFormat({}))],
)
def test_a_form_is_a_wish_for_json(form: Any, wish: JSONFormat | None) -> None:
    assert chat(format=form).json_format == generate(format=form).json_format == wish


@pytest.mark.parametrize(
    ("data", "media_type"), [(PNG, "image/png"), (JPEG, "image/jpeg"), (WEBP, "image/webp"), (GIF, "image/gif")]
)
def test_an_image_is_known_by_its_first_bytes(data: str, media_type: str) -> None:
    image = Image(f"data:{media_type};base64,{data}")
    assert talk({"role": "user", "content": "What?", "images": [data]})[0].parts == (Text("What?"), image)
    assert generate(images=[data]).messages == (Message("user", (Text("Hi"), image)),)


def test_a_prompt_is_a_conversation_and_prefers_to_be_one() -> None:
    assert generate(system="Be kind.").messages == (
        Message("system", (Text("Be kind."),)),
        Message("user", (Text("Hi"),)),
    )
    assert openai_chat.write_request(generate(system="Be kind."), "m")["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
    ]
    assert ollama_generate.translated_as == "chat"


def test_a_suffix_goes_where_texts_are_completed_and_nowhere_else() -> None:
    asked = generate(suffix="}")
    assert openai_completions.write_request(asked, "m") == {"model": "m", "prompt": "Hi", "suffix": "}"} | {
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert openai_completions.dropped(asked, "m") == []
    with pytest.raises(CannotCarry) as refusal:
        openai_chat.write_request(asked, "m")
    assert refusal.value.param == "suffix"


def call(name: str, id: str | None = None, **arguments: Any) -> Json:
    return {"function": {"name": name, "arguments": arguments}} | ({"id": id} if id else {})


def answers_to(*messages: Json) -> list[str]:
    """The ids of the calls that the tools' messages answer."""
    parts = [part for message in talk(*messages) for part in message.parts]
    return [part.id for part in parts if isinstance(part, ToolResult)]


ASKED = {"role": "assistant", "content": "", "tool_calls": [call("rain", city="Bern"), call("sun"), call("rain")]}


def test_calls_without_ids_get_the_same_ones_each_time() -> None:
    read = talk(*HI, ASKED)[1].parts
    assert read == (
        ToolCall("call_1_0", "rain", '{"city":"Bern"}'),
        ToolCall("call_1_1", "sun", "{}"),
        ToolCall("call_1_2", "rain", "{}"),
    )


@pytest.mark.parametrize(
    ("results", "ids"),
    [
        ([{}, {}, {}], ["call_1_0", "call_1_1", "call_1_2"]),
        ([{"tool_name": "sun"}, {"tool_name": "rain"}, {"tool_name": "rain"}], ["call_1_1", "call_1_0", "call_1_2"]),
        ([{"name": "sun"}, {}], ["call_1_1", "call_1_0"]),
        ([{"tool_call_id": "call_1_2", "tool_name": "rain"}, {"tool_name": "rain"}], ["call_1_2", "call_1_0"]),
        ([{"tool_call_id": "their own", "tool_name": "sun"}], ["call_1_1"]),
    ],
)
def test_results_find_their_calls_by_id_by_name_or_in_order(results: list[Json], ids: list[str]) -> None:
    assert answers_to(*HI, ASKED, *({"role": "tool", "content": "x", **result} for result in results)) == ids


@pytest.mark.parametrize("result", [{"tool_name": "snow"}, {"tool_call_id": "x", "tool_name": "snow"}])
def test_a_result_nobody_asked_for_is_refused(result: Json) -> None:
    for messages in ([*HI, ASKED], HI):
        with pytest.raises(CannotCarry) as refusal:
            talk(*messages, {"role": "tool", "content": "x", **result})
        assert refusal.value.param == f"messages[{len(messages)}]"


def test_later_calls_take_the_place_of_those_nobody_answered() -> None:
    later = {"role": "assistant", "tool_calls": [call("rain")]}
    assert answers_to(*HI, ASKED, later, {"role": "tool", "content": "x"}) == ["call_2_0"]


def test_a_role_may_be_shouted_and_a_turn_be_empty() -> None:
    assert talk({"role": "USER", "content": "Hi"}, {"role": "assistant"}) == (
        Message("user", (Text("Hi"),)),
        Message("assistant", (Text(""),)),
    )


# -- requests: what is refused

REFUSED: list[tuple[Language, Json, str]] = [
    *[(language, {"model": wrong}, "model") for language in PROMPTED for wrong in (None, "", 4)],
    *[(language, {"stream": "yes"}, "stream") for language in PROMPTED],
    *[(language, {"options": []}, "options") for language in PROMPTED],
    *[(language, {"options": {"num_predict": wrong}}, "options.num_predict")
      for language in PROMPTED for wrong in ("9", True, [])],
    *[(language, {"options": {name: "warm"}}, f"options.{name}")
      for language in PROMPTED for name in ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty")],
    *[(language, {"options": {"stop": 5}}, "stop") for language in PROMPTED],
    *[(language, {"think": wrong}, "think") for language in PROMPTED for wrong in ("a lot", 1, [])],
    *[(language, {"format": wrong}, "format") for language in PROMPTED for wrong in ("xml", 1, [])],
    (ollama_chat, {"messages": "Hi"}, "messages"),
    (ollama_chat, {"messages": ["Hi"]}, "messages[0]"),
    (ollama_chat, {"messages": [*HI, {"content": "Hi"}]}, "messages[1].role"),
    (ollama_chat, {"messages": [{"role": "king"}]}, "messages[0].role"),
    (ollama_chat, {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content"),
    (ollama_chat, {"messages": [{"role": "user", "images": "x"}]}, "messages[0].images"),
    (ollama_chat, {"messages": [{"role": "user", "images": [PNG, "bm9uZQ=="]}]}, "messages[0].images[1]"),
    (ollama_chat, {"messages": [{"role": "user", "images": [f"data:image/png;base64,{PNG}"]}]},
     "messages[0].images[0]"),
    (ollama_chat, {"messages": [{"role": "user", "images": [5]}]}, "messages[0].images[0]"),
    (ollama_chat, {"messages": [{"role": "assistant", "thinking": 5}]}, "messages[0].thinking"),
    (ollama_chat, {"messages": [{"role": "assistant", "tool_calls": {}}]}, "messages[0].tool_calls"),
    (ollama_chat, {"messages": [{"role": "assistant", "tool_calls": [5]}]}, "messages[0].tool_calls[0]"),
    (ollama_chat, {"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}, "messages[0].tool_calls[0]"),
    (ollama_chat, {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]},
     "messages[0].tool_calls[0].function.arguments"),
    (ollama_chat, {"tools": {}}, "tools"),
    (ollama_chat, {"tools": [{"type": "function", "function": {"name": 5}}]}, "tools[0].function"),
    (ollama_chat, {"tools": [{"function": {"name": "f", "parameters": "abc"}}]}, "tools[0].function.parameters"),
    (ollama_generate, {"prompt": ["Hi"]}, "prompt"),
    (ollama_generate, {"system": 5}, "system"),
    (ollama_generate, {"images": [""]}, "images[0]"),
]  # fmt: skip


@pytest.mark.parametrize(("language", "change", "param"), REFUSED)
def test_a_wrong_request_is_refused_by_the_field(language: Language, change: Json, param: str) -> None:
    said: Json = {"messages": HI} if language is ollama_chat else {"prompt": "Hi"}
    with pytest.raises(BadRequest, match=r"\.$") as refusal:
        language.parse_request({"model": "m", **said, **change})
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (chat(logprobs=True), "logprobs"),
        (chat(top_logprobs=3), "top_logprobs"),
        (generate(raw=True), "raw"),
        (generate(template="{{ .Prompt }}"), "template"),
        (generate(context=[1, 2]), "context"),
        (generate(logprobs=True), "logprobs"),
    ],
)
def test_what_changes_the_answer_is_refused_by_name_elsewhere_and_kept_at_home(asked: ChatRequest, name: str) -> None:
    for language in (openai_chat, openai_completions, *(each for each in PROMPTED if each.name != asked.language)):
        with pytest.raises(CannotCarry) as refusal:
            language.write_request(asked, "m")
        assert refusal.value.param == name
    home = ollama_chat if asked.language == "ollama_chat" else ollama_generate
    assert home.write_request(asked, "m")[name] == asked.extras[name]


@pytest.mark.parametrize("asked", [generate(raw=False, template="", context=[]), chat(logprobs=False, top_logprobs=0)])
def test_what_asks_for_nothing_special_is_not_in_the_way(asked: ChatRequest) -> None:
    assert openai_chat.write_request(asked, "m")["messages"] == HI


@pytest.mark.parametrize(
    ("language", "body", "needs"),
    [
        (ollama_chat, {"messages": HI, "think": False, "format": "json", "tools": []}, {}),
        (ollama_chat, {"messages": [*HI, {"role": "user", "images": [PNG]}]}, {"images": "messages[1].images"}),
        (ollama_chat, {"messages": HI, "tools": [{}], "think": "low", "format": SCHEMA},
         {"tools": "tools", "thinking": "think", "json_schema": "format"}),
        (ollama_generate, {"prompt": "Hi", "images": [PNG], "think": True}, {"images": "images", "thinking": "think"}),
        (ollama_embed, {"input": "Hi"}, {"embeddings": "model"}),
        (ollama_embeddings, {"prompt": "Hi"}, {"embeddings": "model"}),
    ],
)  # fmt: skip
def test_what_is_needed_of_a_model_is_told_by_the_field(language: Language, body: Json, needs: Json) -> None:
    assert language.needs({"model": "m", **body}) == needs


@pytest.mark.parametrize(
    ("options", "clamped"),
    [
        ({}, None),
        ({"num_predict": 100}, None),
        ({"num_predict": 5000, "top_k": 4}, {"num_predict": 100, "top_k": 4}),
        ({"num_predict": -1}, {"num_predict": 100}),
        ({"num_predict": 0}, {"num_predict": 100}),
    ],
)
def test_a_wish_for_too_many_tokens_is_lowered_and_named(options: Json, clamped: Json | None) -> None:
    body = {"model": "m", "options": options}
    wanted = ({**body, "options": clamped}, "options.num_predict") if clamped else (body, None)
    assert ollama_chat.clamp(body, 100) == wanted


# -- the two halves test each other

words = st.text(min_size=1, max_size=8)
json_values = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(words, json_values, max_size=2)
numbers = st.none() | st.floats(-2, 2)
images = st.sampled_from([("png", PNG), ("jpeg", JPEG), ("webp", WEBP)]).map(
    lambda image: Image(f"data:image/{image[0]};base64,{image[1]}")
)
CALM = settings(deadline=None, database=None, max_examples=60)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages = [Message("user", (Text(draw(words)), *draw(st.lists(images, max_size=2))))]
    for turn in range(draw(st.integers(0, 2))):
        made = draw(st.lists(st.tuples(words, objects), min_size=1, max_size=3))
        calls = [ToolCall(f"{turn}-{n}", name, dumps(given).decode()) for n, (name, given) in enumerate(made)]
        thinking = draw(st.lists(st.builds(Thinking, words), max_size=1))
        messages.append(Message("assistant", (*thinking, Text(draw(words)), *calls)))
        for each in draw(st.permutations(calls)):
            messages.append(Message("tool", (ToolResult(each.id, (Text(draw(words)),)),)))
        messages.append(Message(draw(st.sampled_from(["user", "system"])), (Text(draw(words)),)))
    return tuple(messages)


@st.composite
def requests(draw: st.DrawFn, language: PromptLanguage) -> ChatRequest:
    talks = language is ollama_chat
    known = st.sampled_from(["keep_alive", "truncate", "invented", "options.top_k", *sorted(language.indispensable)])
    extras = draw(st.dictionaries(known, st.integers(1, 9) | words, max_size=3))
    return ChatRequest(
        model=draw(words.filter(str.strip)),
        messages=draw(conversations())
        if talks
        else (
            *draw(st.lists(st.builds(lambda text: Message("system", (Text(text),)), words), max_size=1)),
            Message("user", (Text(draw(words)), *draw(st.lists(images, max_size=2)))),
        ),
        language=language.name,
        stream=draw(st.booleans()),
        max_tokens=draw(st.none() | st.integers(1)),
        temperature=draw(numbers),
        top_p=draw(numbers),
        stop=tuple(draw(st.lists(words, max_size=2))),
        seed=draw(st.none() | st.integers(-(2**63), 2**63)),
        presence_penalty=draw(numbers),
        frequency_penalty=draw(numbers),
        tools=tuple(draw(st.lists(st.builds(Tool, words, st.none() | words, st.none() | objects), max_size=2)))
        if talks
        else (),
        json_format=draw(st.sampled_from([None, JSONFormat()]) | st.builds(JSONFormat, objects)),
        reasoning_effort=draw(st.sampled_from([None, "low", "medium", "high", "max"])),
        extras=extras,
        indispensable=language.indispensable & extras.keys(),
    )


@pytest.mark.parametrize("language", PROMPTED)
@given(st.data())
@CALM
def test_a_request_that_is_written_is_read_back_the_same(language: PromptLanguage, data: st.DataObject) -> None:
    asked = data.draw(requests(language))
    assert language.parse_request(json.loads(dumps(language.write_request(asked, asked.model)))) == asked


few = st.integers(0, 10**6)
usages = st.none() | st.builds(Usage, few, few)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    thinking = draw(st.lists(st.builds(Thinking, words), max_size=1))
    texts = draw(st.lists(st.builds(Text, words), max_size=1))
    arguments = objects.map(lambda given: dumps(given).decode())
    calls = draw(st.lists(st.builds(ToolCall, words, words, arguments), max_size=2))
    ends = ["tool_calls" if calls else "stop", "length", "content_filter"]
    return Answer((Choice((*thinking, *texts, *calls), draw(st.sampled_from(ends))),), draw(usages))


@pytest.mark.parametrize("language", PROMPTED)
@given(answer=answers())
@CALM
def test_an_answer_that_is_written_is_read_back_the_same(language: PromptLanguage, answer: Answer) -> None:
    assert language.read_answer(answer_document(language.write_answer(answer, STAMP))) == answer


def pieces(answer: Answer, size: int) -> Iterator[Event]:
    for event in answer.events():
        match event:
            case TextDelta(text):
                yield from (TextDelta(text[at : at + size]) for at in range(0, len(text), size))
            case ThinkingDelta(text):
                yield from (ThinkingDelta(text[at : at + size]) for at in range(0, len(text), size))
            case ToolCallDelta(index, id, name, arguments):
                yield ToolCallDelta(index, id, name, arguments[:size])
                yield ToolCallDelta(index, None, None, arguments[size:])
            case _:
                yield event


@pytest.mark.parametrize("language", PROMPTED)
@given(answer=answers(), size=st.integers(1, 4))
@CALM
def test_a_stream_that_is_written_is_read_back_as_the_same_answer(
    language: PromptLanguage, answer: Answer, size: int
) -> None:
    writer, reader = language.writer(STAMP, include_usage=False), language.reader()
    written = b"".join(map(writer.write, pieces(answer, size))) + writer.close()
    assert written.endswith(b"\n")
    events = [event for line in written.split(b"\n") for event in reader.read_frame(line)]
    assert Answer.collect([*events, *reader.read_end()]) == answer


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4).map(tuple), max_size=3), usages)
@CALM
def test_vectors_that_are_written_are_read_back_the_same(vectors: list[tuple[float, ...]], usage: Usage | None) -> None:
    answer = Embeddings(tuple(vectors), Usage(input=usage.input) if usage else None)
    written = ollama_embed.write_embeddings(answer, EmbeddingRequest("m", ("a",)), STAMP)
    assert ollama_embed.read_embeddings(answer_document(written)) == answer


@given(st.lists(words, min_size=1, max_size=3), st.none() | st.integers(1, 4096))
@CALM
def test_an_embedding_request_that_is_written_is_read_back_the_same(texts: list[str], size: int | None) -> None:
    extras = {"truncate": False, "options": {"num_ctx": 512}, "keep_alive": "5m"}
    asked = EmbeddingRequest("m", tuple(texts), dimensions=size, language="ollama", extras=extras)
    assert ollama_embed.parse_embedding(ollama_embed.write_embedding_request(asked, "m")) == asked


# -- embeddings


@pytest.mark.parametrize("given_", [5, ["a", 5], [[1, 2]], {"a": 1}])
def test_what_is_no_text_is_no_input(given_: object) -> None:
    with pytest.raises(BadRequest) as refusal:
        ollama_embed.peek({"model": "m", "input": given_})
    assert refusal.value.param == "input"


def test_hints_for_an_ollama_server_are_not_sent_to_others() -> None:
    body = {"model": "m", "input": "a", "dimensions": 8, "truncate": True, "keep_alive": 0, "options": {"num_ctx": 9}}
    asked = ollama_embed.parse_embedding(body)
    written = {"model": "m", "input": ["a"], "encoding_format": "float", "dimensions": 8}
    assert openai_embeddings.write_embedding_request(asked, "m") == written


def test_the_older_form_has_one_prompt_and_one_vector() -> None:
    asked = ollama_embeddings.parse_embedding({"model": "m", "prompt": "Hi", "options": {}})
    assert asked.inputs == ("Hi",)
    answer = Embeddings(((0.5, -1.0),), Usage(input=3))
    assert json.loads(ollama_embeddings.write_embeddings(answer, asked, STAMP)) == {"embedding": [0.5, -1.0]}
    with pytest.raises(BadRequest) as refusal:
        ollama_embeddings.peek({"model": "m", "prompt": ["Hi"]})
    assert refusal.value.param == "prompt"


# -- answers, written


class Clock:
    """Nanoseconds as the test says."""

    def __init__(self) -> None:
        self.now = 5_000_000_000

    def __call__(self) -> int:
        return self.now


def test_a_stream_is_records_with_the_counters_in_the_last() -> None:
    clock = Clock()
    writer = RecordWriter(ollama_chat.say, STAMP, clock)
    events: list[tuple[float, Event]] = [
        (0.5, ThinkingDelta("Hm.")),
        (0.25, TextDelta("Grüezi")),
        (0.25, ToolCallDelta(0, "call_1", "rain", '{"city":')),
        (0, ToolCallDelta(0, None, None, '"Bern"}')),
        (0, Finished("tool_calls")),
        (0, Usage(input=21, output=9)),
    ]
    written = b""
    for seconds, event in events:
        clock.now += int(seconds * 1e9)
        written += writer.write(event)
    written += writer.close()
    assert [json.loads(line) for line in written.splitlines()] == [
        {"model": "fast", "created_at": "2025-03-10T01:25:52.500000Z",
         "message": {"role": "assistant", "content": "", "thinking": "Hm."}, "done": False},
        {"model": "fast", "created_at": "2025-03-10T01:25:52.750000Z",
         "message": {"role": "assistant", "content": "Grüezi"}, "done": False},
        {"model": "fast", "created_at": "2025-03-10T01:25:53.000000Z",
         "message": {"role": "assistant", "content": "", "tool_calls": [
             {"id": "call_1", "function": {"index": 0, "name": "rain", "arguments": {"city": "Bern"}}}]},
         "done": False},
        {"model": "fast", "created_at": "2025-03-10T01:25:53.000000Z",
         "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop",
         "total_duration": 3_500_000_000, "load_duration": 0, "prompt_eval_duration": 3_000_000_000,
         "eval_duration": 500_000_000, "prompt_eval_count": 21, "eval_count": 9},
    ]  # fmt: skip


def test_a_whole_answer_is_one_record() -> None:
    answer = Answer((Choice((Thinking("Hm."), Text("a, b):")), "length"),), Usage(input=3, output=5))
    assert json.loads(ollama_generate.write_answer(answer, STAMP)) == {
        "model": "fast",
        "created_at": "2025-03-10T01:25:52.000000Z",
        "response": "a, b):",
        "thinking": "Hm.",
        "done": True,
        "done_reason": "length",
        "total_duration": 2_500_000_000,
        "load_duration": 0,
        "prompt_eval_duration": 0,
        "eval_duration": 2_500_000_000,
        "prompt_eval_count": 3,
        "eval_count": 5,
    }


@pytest.mark.parametrize("arguments", ['{"city": ', "[]", '"x"'])
def test_arguments_that_are_no_object_are_told_in_one(arguments: str) -> None:
    answer = Answer((Choice((ToolCall("call_1", "rain", arguments),), "tool_calls"),))
    writer = ollama_chat.writer(STAMP, include_usage=True)
    whole = json.loads(ollama_chat.write_answer(answer, STAMP))
    streamed = json.loads(b"".join(map(writer.write, answer.events())))
    for record in (whole, streamed):
        assert record["message"]["tool_calls"][0]["function"]["arguments"] == {"INVALID_JSON": arguments}


FAULT = Fault(400, "invalid_request_error", "This part is not complete.", param="messages[1].content")


def test_an_error_is_a_text_that_names_the_field() -> None:
    said = {"error": "messages[1].content: This part is not complete."}
    assert json.loads(ollama_chat.write_error(FAULT, "req")) == said
    for last in (ollama_chat.writer(STAMP, True), ollama_chat.tap(None, True)):
        assert last.fail(FAULT, "req") == dumps(said) + b"\n"
    plain = Fault(503, "api_error", "Nothing serves 'fast'.")
    assert json.loads(ollama_embed.write_error(plain, "req")) == {"error": "Nothing serves 'fast'."}


# -- asking for nothing


@pytest.mark.parametrize(
    ("alive", "reason"),
    [({}, "load"), ({"keep_alive": "5m"}, "load"), ({"keep_alive": -1}, "load"), ({"keep_alive": 0}, "unload"),
     ({"keep_alive": "0"}, "unload"), ({"keep_alive": "0s"}, "unload"), ({"keep_alive": 0.0}, "unload"),
     ({"keep_alive": "10m"}, "load"), ({"keep_alive": False}, "load")],
)  # fmt: skip
def test_who_says_nothing_loads_or_unloads_the_model(alive: Json, reason: str) -> None:
    head = {"model": "fast", "created_at": "2025-03-10T01:25:52.000000Z", "done": True, "done_reason": reason}
    for messages in ({}, {"messages": None}, {"messages": []}):
        body = {"model": "m", **messages, **alive}
        assert ollama_chat.peek(body).stream is False
        assert ollama_chat.asks_nothing(body)
        said = {"message": {"role": "assistant", "content": ""}}
        assert json.loads(ollama_chat.write_nothing(body, STAMP)) == {**head, **said}
    body = {"model": "m", "prompt": "", **alive}
    assert ollama_generate.peek(body).stream is False
    assert json.loads(ollama_generate.write_nothing(body, STAMP)) == {**head, "response": ""}


def test_who_says_something_asks_for_something() -> None:
    assert not ollama_chat.asks_nothing({"model": "m", "messages": HI})
    assert not ollama_generate.asks_nothing({"model": "m", "prompt": "Hi"})
    assert not ollama_embed.asks_nothing({"model": "m", "input": ["", "a"]})


@pytest.mark.parametrize("body", [{}, {"input": None}, {"input": ""}, {"input": []}])
def test_no_text_has_no_vector(body: Json) -> None:
    assert ollama_embed.asks_nothing({"model": "m", **body})
    assert json.loads(ollama_embed.write_nothing(body, STAMP))["embeddings"] == []
    assert json.loads(ollama_embeddings.write_nothing(body, STAMP)) == {"embedding": []}


# -- names


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("llama3.2", ("llama3.2", "llama3.2:latest")),
        ("llama3.2:latest", ("llama3.2:latest", "llama3.2")),
        ("llama3.2:1b", ("llama3.2:1b",)),
        ("host:8000/team/best", ("host:8000/team/best", "host:8000/team/best:latest")),
    ],
)
def test_the_tag_latest_goes_without_saying(asked: str, meant: tuple[str, ...]) -> None:
    assert ollama_chat.spellings(asked) == meant
    assert openai_chat.spellings(asked) == (asked,)


# -- straight through

THEIRS = "qwen3:latest"
QUOTES = '"done":true "error" {"model":"qwen3:latest"} \\"done\\":true'


def record(said: Json, **more: Any) -> bytes:
    """As Go writes it."""
    head = {"model": THEIRS, "created_at": "2026-01-01T00:00:00.123456789Z"}
    written = json.dumps({**head, **said, "done": bool(more), **more}, separators=(",", ":"), ensure_ascii=False)
    return written.encode() + b"\n"


def says(content: str = "", **more: Any) -> Json:
    return {"message": {"role": "assistant", "content": content, **more}}


COUNTED = {"total_duration": 9, "prompt_eval_count": 40, "eval_count": 12}
STREAMS: dict[str, tuple[PromptLanguage, list[bytes]]] = {
    "words": (
        ollama_chat,
        [record(says("Grü")), record(says("ezi 雨 🌧")), record(says(), done_reason="stop", **COUNTED)],
    ),
    "thoughts and calls": (
        ollama_chat,
        [
            record(says(thinking="Hm.")),
            record(says("So", thinking="!")),
            record(says(tool_calls=[call("rain", "call_1", done=True, error="no", model=THEIRS)])),
            record(says(tool_calls=[call("sun", "call_2", done=False)])),
            record(says(), done_reason="stop", **COUNTED),
        ],
    ),
    "words, then a call": (
        ollama_chat,
        [
            record(says("So")),
            record(says(tool_calls=[call("sun", "call_1")])),
            record(says(), done_reason="stop", **COUNTED),
        ],
    ),
    "words that look like the frame around them": (
        ollama_chat,
        [record(says(QUOTES)), record(says(QUOTES)), record(says(), done_reason="length", **COUNTED)],
    ),
    "a completion": (
        ollama_generate,
        [record({"response": "a, "}), record({"response": QUOTES}),
         record({"response": ""}, done_reason="stop", context=[1, 2], **COUNTED)],
    ),
    "words in the last record": (ollama_chat, [record(says("all"), done_reason="stop", **COUNTED)]),
    "no counters": (ollama_chat, [record(says("a")), record(says(), done_reason="stop")]),
}  # fmt: skip
REASONS = {
    "thoughts and calls": "tool_calls",
    "words, then a call": "tool_calls",
    "words that look like the frame around them": "length",
}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


def ours(frames: Iterable[bytes]) -> bytes:
    """Every byte, but for the name in front of each record."""
    front = b'{"model":"' + THEIRS.encode() + b'"'
    written = list(frames)
    assert all(frame.startswith(front) for frame in written)
    return b"".join(b'{"model":"fast"' + frame.removeprefix(front) for frame in written)


def tapped(frames: Iterable[bytes], model: str | None = "fast") -> tuple[bytes, RecordTap]:
    tap = RecordTap(model)
    return b"".join(tap.see(frame) or b"" for frame in frames), tap


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_records_pass_byte_for_byte_but_for_the_models_name(name: str) -> None:
    frames = STREAMS[name][1]
    passed, tap = tapped(frames)
    assert passed == ours(frames)
    assert tapped(frames, model=None)[0] == b"".join(frames)
    assert tap.usage == (None if name == "no counters" else Usage(40, 12))
    assert (tap.finish_reason, tap.ended, tap.closing()) == (REASONS.get(name, "stop"), True, b"")
    assert tap.pieces == len(frames) - (name != "words in the last record")


def test_a_server_that_leaves_blanks_in_its_json_is_understood() -> None:
    frames = [json.dumps(json.loads(line)).encode() + b"\n" for line in STREAMS["words"][1]]
    passed, tap = tapped(frames)
    assert passed == b"".join(line.replace(b'{"model": "qwen3:latest"', b'{"model":"fast"') for line in frames)
    assert (tap.ended, tap.finish_reason, tap.usage) == (True, "stop", Usage(40, 12))


def test_content_is_not_parsed() -> None:
    """What is no JSON at all passes between the first record and the last."""
    garbled = b'{"model":"qwen3:latest","message":{"content":' + b"\xff" * 9 + b'},"done":false}\n'
    frames = [record(says("a")), garbled, record(says(), done_reason="stop", **COUNTED)]
    passed, tap = tapped(frames)
    assert passed == ours(frames)
    assert tap.pieces == 2


@given(st.lists(st.text(max_size=30) | st.sampled_from([QUOTES, '"', "\\"]), max_size=4), st.booleans())
@CALM
def test_whatever_the_model_says_passes_unchanged(said: list[str], completes: bool) -> None:
    frames = [record({"response": text} if completes else says(text)) for text in said]
    frames.append(record({"response": ""} if completes else says(), done_reason="stop", **COUNTED))
    passed, tap = tapped(frames)
    assert passed == ours(frames)
    assert (tap.ended, tap.finish_reason, tap.usage) == (True, "stop", Usage(40, 12))


@pytest.mark.parametrize("before", [[], [record(says("a"))]], ids=["first", "after content"])
def test_an_error_in_a_record_is_an_error(before: list[bytes]) -> None:
    _, tap = tapped(before)
    with pytest.raises(ProviderError) as error:
        tap.see(b'{"error":"llama runner process has terminated: CUDA error"}\n')
    assert error.value.retryable
    assert "CUDA" not in error.value.message
    assert not tap.ended


@pytest.mark.parametrize(
    "frame", [b"no json\n", b"[1]\n", record(says(), done_reason="load"), record({"response": ""}, done_reason="")]
)
def test_a_first_record_that_is_no_answer_is_a_fault_of_the_upstream(frame: bytes) -> None:
    with pytest.raises(ProviderError):
        tapped([frame])


@contextmanager
def opened(
    url: str, caller: Language, straight: bool = True, upstream: Language | None = None
) -> Iterator[StraightStream | TranslatedStream]:
    target = account(url)
    response = client.send(post(url), target, stream=True)
    lane: StraightStream | TranslatedStream
    if straight:
        lane = StraightStream(response, caller.tap("fast", True))
    else:
        events = UpstreamEvents(response, (upstream or caller).reader())
        lane = TranslatedStream(events, caller.writer(STAMP, True))
    try:
        yield lane
    finally:
        lane.close()


def passed_on(lane: StraightStream | TranslatedStream) -> bytes:
    lane.start()
    return b"".join(lane)


def collected(language: PromptLanguage, written: bytes) -> Answer:
    reader = language.reader()
    events = [event for line in written.split(b"\n") for event in reader.read_frame(line)]
    return Answer.collect([*events, *reader.read_end()])


@pytest.mark.parametrize("name", ["words", "a completion"])
def test_a_stream_cut_in_two_at_any_byte_is_the_same_stream(name: str) -> None:
    language, frames = STREAMS[name]
    whole, at = b"".join(frames), itertools.count(1)

    def script(wire: Wire) -> None:
        while wire.request() is not None:
            cut = next(at)
            wire.say(HEAD + chunk(whole[:cut]), chunk(whole[cut:]) + LAST_CHUNK, pause=0.0002)

    with Upstream(script) as upstream:
        for _ in range(1, len(whole)):
            with opened(upstream.url, language) as lane:
                assert passed_on(lane) == ours(frames)
                assert lane.ended
        assert upstream.connections == 1


@pytest.mark.parametrize("straight", [True, False])
@pytest.mark.parametrize("name", sorted(STREAMS))
def test_a_stream_that_comes_byte_by_byte_is_the_same_answer(name: str, straight: bool) -> None:
    language, frames = STREAMS[name]
    whole = b"".join(frames)
    body = HEAD + b"".join(chunk(whole[at : at + 1]) for at in range(len(whole))) + LAST_CHUNK
    with Upstream(answering(body)) as upstream, opened(upstream.url, language, straight) as lane:
        written = passed_on(lane)
        assert lane.usage == (None if name == "no counters" else Usage(40, 12))
    assert collected(language, written) == collected(language, whole)


@pytest.mark.parametrize("straight", [True, False])
@pytest.mark.parametrize("left", [b"", b"\r\n"], ids=["no line end", "CRLF"])
def test_the_last_line_may_end_as_it_likes(left: bytes, straight: bool) -> None:
    language, frames = STREAMS["words"]
    body = HEAD + chunk(b"".join([*frames[:-1], frames[-1].rstrip() + left])) + LAST_CHUNK
    with Upstream(answering(body)) as upstream, opened(upstream.url, language, straight) as lane:
        written = passed_on(lane)
        assert lane.ended
    assert collected(language, written) == collected(language, b"".join(frames))


@pytest.mark.parametrize("straight", [True, False])
@pytest.mark.parametrize("kept", [0, 1, 2], ids=["nothing", "a word", "all but the end"])
def test_a_stream_that_ends_before_it_is_done_was_cut(kept: int, straight: bool) -> None:
    language, frames = STREAMS["words"]
    body = HEAD + chunk(b"".join(frames[:kept])) + LAST_CHUNK
    with Upstream(answering(body)) as upstream, opened(upstream.url, language, straight) as lane:
        with pytest.raises(ProviderError) as error:
            passed_on(lane)
        assert error.value.kind == "cut"
        assert not lane.ended


def test_a_line_is_handed_on_before_the_next_one_is_made() -> None:
    language, frames = STREAMS["words"]

    def script(wire: Wire) -> None:
        wire.request()
        wire.say(HEAD, *map(chunk, frames[:2]))
        assert wire.peer_left(5)

    for straight in (True, False):
        with Upstream(script) as upstream, opened(upstream.url, language, straight) as lane:
            lane.start()
            assert "Grü" in next(lane).decode()
            assert "ezi" in next(lane).decode()


def test_openais_stream_becomes_records() -> None:
    events = CHAT_STREAMS["two parallel tool calls"]
    body = HEAD.replace(b"application/x-ndjson", b"text/event-stream") + chunk(b"".join(events)) + LAST_CHUNK
    with (
        Upstream(answering(body)) as upstream,
        opened(upstream.url, ollama_chat, False, openai_chat) as lane,
    ):
        records = [json.loads(line) for line in passed_on(lane).splitlines()]
    calls = [each for line in records for each in line["message"].get("tool_calls", [])]
    assert len(calls) == 2
    assert all(isinstance(each["function"]["arguments"], dict) for each in calls)
    assert [line["done"] for line in records] == [False] * (len(records) - 1) + [True]
    assert records[-1]["done_reason"] == "stop"
    assert (records[-1]["prompt_eval_count"], records[-1]["eval_count"]) == (19, 10)


# -- straight through: whole answers and requests


@pytest.mark.parametrize("language", PROMPTED)
def test_a_whole_answer_passes_byte_for_byte_but_for_the_models_name(language: PromptLanguage) -> None:
    body = record(language.say(QUOTES, {}), done_reason="length", **COUNTED).rstrip()
    assert language.pass_answer(body, "fast") == (ours([body]), Usage(40, 12))
    assert language.pass_answer(body, None)[0] == body


def test_vectors_pass_byte_for_byte_but_for_the_models_name() -> None:
    body = b'{"model":"qwen3:latest","embeddings":[[0.10, -2e-3]],"total_duration":9,"prompt_eval_count":7}'
    passed = body.replace(b"qwen3:latest", b"fast")
    assert ollama_embed.pass_answer(body, "fast") == (passed, Usage(input=7))


@pytest.mark.parametrize("reason", ["load", "unload"])
def test_loading_a_model_passes_as_an_answer_of_no_tokens(reason: str) -> None:
    body = record(says(), done_reason=reason)
    assert ollama_chat.pass_answer(body, "fast") == (ours([body]), Usage())


@pytest.mark.parametrize(
    ("pass_answer", "body"),
    [
        (ollama_chat.pass_answer, record(says("a"))),
        (ollama_chat.pass_answer, b'{"error":"boom"}'),
        (ollama_generate.pass_answer, b"no json"),
        (ollama_embed.pass_answer, b'{"model":"m"}'),
    ],
)
def test_what_is_no_answer_does_not_pass(pass_answer: Callable[[bytes, str], object], body: bytes) -> None:
    with pytest.raises(ProviderError):
        pass_answer(body, "fast")


@pytest.mark.parametrize("stream", [{}, {"stream": True}, {"stream": False}])
@pytest.mark.parametrize("language", [*PROMPTED, ollama_embed])
def test_straight_through_only_the_model_is_changed(language: Language, stream: Json) -> None:
    body: Json = {"model": "fast", "messages": HI, "prompt": "Hi", "input": "Hi", "keep_alive": "5m", "invented": {}}
    sent = language.readdress(body | stream, language.peek(body | stream), "qwen3", ask_usage=True)
    said = {} if language is ollama_embed else {"stream": stream.get("stream", True)}
    assert sent == {**body, **stream, **said, "model": "qwen3"}


# -- anything at all

odd = st.none() | json_values | st.sampled_from([0, -1, 2**70, [], [[]], {}, [None], [1], True, 1.5, "USER", [{}]])
FIELDS = "messages prompt system images stream format options tools think keep_alive suffix raw input".split()
MESSAGES = st.lists(
    st.dictionaries(st.sampled_from("role content thinking images tool_calls tool_name tool_call_id".split()), odd)
    | st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool"])},
        optional={"content": odd, "images": odd, "tool_calls": odd, "tool_name": odd, "thinking": odd},
    ),
    max_size=3,
)


@pytest.mark.parametrize("language", [*PROMPTED, ollama_embed, ollama_embeddings])
@given(st.dictionaries(st.sampled_from(FIELDS), odd), st.none() | MESSAGES)
@settings(deadline=None, database=None, max_examples=150)
def test_any_json_anywhere_is_a_request_or_is_refused(
    language: Language, body: Json, messages: list[Json] | None
) -> None:
    body = {"model": "m", **body} | ({} if messages is None else {"messages": messages})
    try:
        envelope = language.peek(body)
    except BadRequest:
        return
    language.needs(body)
    language.clamp(body, 16)
    assert dumps(language.readdress(body, envelope, "upstream", ask_usage=True))
    if language.asks_nothing(body):
        assert json.loads(language.write_nothing(body, STAMP))
        return
    try:
        if isinstance(language, PromptLanguage):
            asked = language.parse_request(body)
            assert dumps(language.write_request(asked, "m"))
        else:
            assert language.parse_embedding(body).inputs  # type: ignore[attr-defined]
    except (BadRequest, CannotCarry):
        return


def test_what_only_an_ollama_server_knows_of_embeddings_goes_to_one_alone() -> None:
    asked = ollama_embeddings.parse_embedding({"model": "m", "prompt": "Hi", "options": {"num_ctx": 512}})
    assert ollama_embed.write_embedding_request(asked, "m") == {
        "model": "m", "input": ["Hi"], "options": {"num_ctx": 512}
    }  # fmt: skip
    assert "options" not in openai_embeddings.write_embedding_request(asked, "m")
    assert openai_embeddings.extras_of(asked) == {}


@pytest.mark.parametrize("space", ["", " "])
def test_a_server_that_names_the_model_elsewhere_is_renamed_too(space: str) -> None:
    def record(**more: Any) -> bytes:
        said = {"created_at": "now", "model": "llama3", "message": {"role": "assistant", "content": "Hi"}, **more}
        return json.dumps(said, separators=(",", f":{space}")).encode() + b"\n"

    tap = ollama_chat.tap("fast", True)
    for frame in (record(done=False), record(done=False), record(done=True, done_reason="stop")):
        shown = tap.see(frame)
        assert shown is not None
        assert json.loads(shown) == json.loads(frame) | {"model": "fast"}
        assert shown.endswith(b"\n")
    assert tap.ended


def test_pieces_are_not_read_whatever_blanks_they_are_written_with(monkeypatch: pytest.MonkeyPatch) -> None:
    tap = ollama_chat.tap(None, True)
    tap.see(b'{"model":"m","message":{"content":"Hi"},"done": false}\n')
    monkeypatch.setattr(records_file, "chunk_document", None)  # to read one would fail
    assert tap.see(b'{"model":"m","message":{"content":"!"},"done": false}\n') is not None


def test_bottomless_arguments_are_the_upstreams_fault() -> None:
    deep = "[" * 1500 + "]" * 1500
    record = b'{"model":"m","message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":%b}}}]}}'
    with pytest.raises(ProviderError):
        ollama_chat.reader().read_frame(record % deep.encode())
