"""Ollama: its account, and its native formats as upstreams speak them. Worked examples are the server's own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.base import Target, UpstreamModel, UpstreamRequest
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
from providers.languages.errors import answer_document
from providers.languages.ollama_chat import OllamaChat
from providers.languages.ollama_embed import OllamaEmbed
from providers.languages.ollama_fields import PromptLanguage
from providers.languages.ollama_generate import OllamaGenerate
from providers.languages.openai_chat import OpenAIChat
from providers.languages.openai_completions import OpenAICompletions
from providers.ollama import Ollama
from providers.wire.errors import CannotCarry, ProviderError
from providers.wire.frames import NEWLINE

OLLAMA = Ollama()
CHAT, GENERATE, EMBED = OllamaChat(), OllamaGenerate(), OllamaEmbed()
HI = Message("user", (Text("Hi"),))
PIXEL = "iVBORw0KGgo="

Json = dict[str, Any]


def asked(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest("fast", messages or (HI,), **fields)


def written(*messages: Message, **fields: Any) -> Json:
    return CHAT.write_request(asked(*messages, **fields), "llama3.2")


def says(role: Role, *parts: Part) -> Message:
    return Message(role, parts)


def refused(language: PromptLanguage, request: ChatRequest) -> str:
    with pytest.raises(CannotCarry, match=r"\.$") as refusal:
        language.write_request(request, "llama3.2")
    return refusal.value.param


# -- chat requests


def test_what_is_not_asked_for_is_not_sent_but_for_the_stream() -> None:
    assert written() == {"model": "llama3.2", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
    assert written(stream=True)["stream"] is True


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"max_tokens": 7}, {"num_predict": 7}),
        ({"temperature": 0.0}, {"temperature": 0.0}),
        ({"top_p": 0.9}, {"top_p": 0.9}),
        ({"seed": 0}, {"seed": 0}),
        ({"stop": ("END",)}, {"stop": ["END"]}),
        ({"presence_penalty": -0.5}, {"presence_penalty": -0.5}),
        ({"frequency_penalty": 0.5}, {"frequency_penalty": 0.5}),
    ],
)
@pytest.mark.parametrize("language", [CHAT, GENERATE])
def test_how_to_sample_is_an_option(language: PromptLanguage, fields: Json, options: Json) -> None:
    assert language.write_request(asked(**fields), "llama3.2")["options"] == options


@pytest.mark.parametrize(
    ("effort", "think"),
    [("none", False), ("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"), ("max", "max"),
     ("xhigh", "max"), ("ultra", "max")],
)  # fmt: skip
def test_effort_is_said_in_ollamas_words(effort: str, think: bool | str) -> None:
    assert written(reasoning_effort=effort)["think"] == think


def test_an_effort_nobody_knows_is_refused() -> None:
    assert refused(CHAT, asked(reasoning_effort="a lot")) == "reasoning_effort"


@pytest.mark.parametrize(
    ("wish", "form"),
    [
        (JSONFormat(), "json"),
        (JSONFormat({"type": "object"}, "city", True, "A city"), {"type": "object"}),
        (JSONFormat({}), {}),
    ],
)
@pytest.mark.parametrize("language", [CHAT, GENERATE])
def test_an_answer_in_json_is_asked_for_by_its_form(language: PromptLanguage, wish: JSONFormat, form: Any) -> None:
    assert language.write_request(asked(json_format=wish), "llama3.2")["format"] == form


def test_texts_of_one_message_are_joined() -> None:
    assert written(says("user", Text("One."), CachePoint(), Text("Two.")))["messages"] == [
        {"role": "user", "content": "One.\nTwo."}
    ]


def test_a_developers_word_is_the_systems() -> None:
    body = {
        "model": "fast",
        "messages": [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": ""}],
    }
    assert CHAT.write_request(OpenAIChat().parse_request(body), "llama3.2")["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": ""},
    ]


@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg", "image/jpg", "image/webp"])
def test_an_image_is_sent_as_bare_base64(media_type: str) -> None:
    image = Image(f"data:{media_type};base64,{PIXEL}", "high")
    assert written(says("user", Text("What is it?"), image))["messages"] == [
        {"role": "user", "content": "What is it?", "images": [PIXEL]}
    ]


@pytest.mark.parametrize(
    "url",
    ["https://example.com/cat.png", "http://example.com/cat.png", f"data:image/gif;base64,{PIXEL}",
     f"data:application/pdf;base64,{PIXEL}", "data:image/png,plain"],
)  # fmt: skip
def test_an_image_that_ollama_would_have_to_fetch_or_cannot_read_is_refused(url: str) -> None:
    assert refused(CHAT, asked(says("user", Image(url)))) == "messages"


TOOL_TURNS = (
    says("user", Text("Rain?")),
    says("assistant", Thinking("Two cities.", "sig"), ToolCall("call_1", "rain", '{"city": "Zürich"}'),
         ToolCall("call_2", "sun", "")),
    says("tool", ToolResult("call_2", (Text("little"),))),
    says("tool", ToolResult("call_1", (Text("much"), Text("indeed")))),
)  # fmt: skip


def test_a_turn_with_tools_is_carried_with_arguments_as_objects_and_results_by_name() -> None:
    assert written(*TOOL_TURNS)["messages"] == [
        {"role": "user", "content": "Rain?"},
        {
            "role": "assistant",
            "content": "",
            "thinking": "Two cities.",
            "tool_calls": [
                {"id": "call_1", "function": {"name": "rain", "arguments": {"city": "Zürich"}}},
                {"id": "call_2", "function": {"name": "sun", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "little", "tool_name": "sun", "tool_call_id": "call_2"},
        {"role": "tool", "content": "much\nindeed", "tool_name": "rain", "tool_call_id": "call_1"},
    ]


def test_a_turn_of_results_and_words_is_several_messages() -> None:
    turn = says("user", ToolResult("call_1", (Text("much"),)), Text("And now?"))
    assert written(*TOOL_TURNS[:2], turn)["messages"][2:] == [
        {"role": "tool", "content": "much", "tool_name": "rain", "tool_call_id": "call_1"},
        {"role": "user", "content": "And now?"},
    ]


@pytest.mark.parametrize(
    "message",
    [
        says("tool", ToolResult("call_9", (Text("nobody asked"),))),
        says("user", Opaque("openai_chat", {"type": "input_audio"})),
    ],
)
def test_a_part_that_has_no_place_is_refused(message: Message) -> None:
    assert refused(CHAT, asked(HI, message)) == "messages"


def test_an_image_in_a_tools_answer_follows_as_the_users() -> None:
    result = says("tool", ToolResult("call_1", (Image(f"data:image/png;base64,{PIXEL}"),)))
    *_, told, shown = written(*TOOL_TURNS[:2], result)["messages"]
    assert (told["role"], told["content"]) == ("tool", "The picture follows.")
    assert (shown["role"], shown["images"]) == ("user", [PIXEL])


def test_a_conversation_without_messages_never_goes_out() -> None:
    assert refused(CHAT, ChatRequest("fast", ())) == "messages"


def test_an_empty_turn_is_still_a_message() -> None:
    assert written(HI, says("assistant"))["messages"][1] == {"role": "assistant", "content": ""}


RAIN = Tool("rain", "How much", {"type": "object", "properties": {"city": {"type": "string"}}}, strict=True)


@pytest.mark.parametrize("choice", [None, ToolChoice("auto")])
def test_tools_are_offered(choice: ToolChoice | None) -> None:
    assert written(tools=(RAIN, Tool("sun")), tool_choice=choice)["tools"] == [
        {"type": "function", "function": {"name": "rain", "description": "How much", "parameters": RAIN.parameters}},
        {"type": "function", "function": {"name": "sun"}},
    ]


def test_tools_that_must_not_be_called_are_not_offered() -> None:
    assert "tools" not in written(tools=(RAIN,), tool_choice=ToolChoice("none"))


@pytest.mark.parametrize("choice", [ToolChoice("required"), ToolChoice("tool", "rain")])
def test_a_call_that_cannot_be_forced_is_the_only_one_offered(choice: ToolChoice) -> None:
    request = asked(tools=(RAIN, replace(RAIN, name="snow")), tool_choice=choice)
    offered = [tool["function"]["name"] for tool in CHAT.write_request(request, "m")["tools"]]
    assert offered == (["rain"] if choice.name else ["rain", "snow"])
    assert "tool_choice" in CHAT.dropped(request, "m")


@pytest.mark.parametrize("language", [CHAT, GENERATE])
def test_there_is_one_answer_at_a_time(language: PromptLanguage) -> None:
    assert refused(language, asked(n=2)) == "n"
    assert "n" not in language.write_request(asked(n=1), "llama3.2")


@pytest.mark.parametrize("name", ["logprobs", "top_logprobs", "logit_bias", "functions", "audio", "prediction"])
@pytest.mark.parametrize("language", [CHAT, GENERATE])
def test_a_field_that_changes_the_answer_is_refused_by_name(language: PromptLanguage, name: str) -> None:
    body = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}], name: {"some": "wish"}}
    assert refused(language, OpenAIChat().parse_request(body)) == name


def test_what_does_not_change_the_answer_is_left_out_and_told() -> None:
    request = asked(user="ada", parallel_tool_calls=False, extras={"metadata": {"team": "red"}, "store": True})
    assert CHAT.write_request(request, "llama3.2").keys() == {"model", "messages", "stream"}
    assert sorted(CHAT.dropped(request, "m")) == ["metadata", "parallel_tool_calls", "store", "user"]
    assert CHAT.dropped(asked(), "m") == []


# -- generate requests


def completion(**fields: Any) -> ChatRequest:
    return OpenAICompletions().parse_request({"model": "fast", "prompt": "def add(", **fields})


def test_a_prompt_is_completed() -> None:
    assert GENERATE.write_request(completion(max_tokens=16, stream=True), "codellama") == {
        "model": "codellama",
        "prompt": "def add(",
        "stream": True,
        "options": {"num_predict": 16},
    }


def test_a_suffix_is_carried_and_not_told_as_left_out() -> None:
    request = completion(suffix="\nadd(1, 2)", user="ada")
    assert GENERATE.write_request(request, "codellama")["suffix"] == "\nadd(1, 2)"
    assert GENERATE.dropped(request, "m") == ["user"]
    assert refused(CHAT, request) == "suffix"


@pytest.mark.parametrize("name", ["echo", "best_of", "logprobs", "logit_bias"])
def test_what_a_completion_cannot_have_is_refused_by_name(name: str) -> None:
    assert refused(GENERATE, completion(suffix="}", **{name: 3})) == name


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (asked(HI, HI), "messages"),
        (asked(says("system", Text("Be kind."))), "messages"),
        (asked(says("user", Text("What?"), Image(f"data:image/png;base64,{PIXEL}"))), "messages"),
        (asked(tools=(RAIN,)), "tools"),
        (asked(says("user", Text(""))), "prompt"),
    ],
)
def test_what_is_no_single_prompt_is_refused_by_name(request_: ChatRequest, param: str) -> None:
    assert refused(GENERATE, request_) == param


# -- answers

COUNTERS = {"total_duration": 9, "load_duration": 1, "prompt_eval_count": 26, "eval_count": 298, "eval_duration": 1}
ANSWER: Json = {
    "model": "llama3.2",
    "created_at": "2026-01-02T03:04:05.123456Z",
    "message": {
        "role": "assistant",
        "content": "Let me look.",
        "thinking": "need weather",
        "tool_calls": [{"id": "call_ab12", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}],
    },
    "done": True,
    "done_reason": "stop",
    **COUNTERS,
}
STREAM = [
    b'{"model":"qwen3","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"",'
    b'"thinking":"need weather"},"done":false}\n',
    b'{"model":"qwen3","created_at":"2026-01-01T00:00:01Z","message":{"role":"assistant","content":"",'
    b'"tool_calls":[{"id":"call_1","function":{"index":0,"name":"rain","arguments":{"city":"Bern"}}}]},"done":false}\n',
    b'{"model":"qwen3","created_at":"2026-01-01T00:00:02Z","message":{"role":"assistant","content":""},"done":true,'
    b'"done_reason":"stop","total_duration":9,"prompt_eval_count":40,"eval_count":12}\n',
]


def said(content: str = "", **message: Any) -> Json:
    return {"model": "m", "message": {"role": "assistant", "content": content, **message}, "done": False}


def done(record: Json, reason: str | None = "stop", **more: Any) -> Json:
    return {**record, "done": True, **({"done_reason": reason} if reason is not None else {}), **more}


def call(name: str, id: str | None = None, **arguments: Any) -> Json:
    return {"function": {"index": 0, "name": name, "arguments": arguments}} | ({"id": id} if id else {})


def read(records: Iterable[Json | bytes], language: PromptLanguage = CHAT) -> list[Event]:
    reader = language.reader()
    events: list[Event] = []
    for record in records:
        events += reader.read_frame(record if isinstance(record, bytes) else json.dumps(record).encode() + b"\n")
    return events + reader.read_end()


def finish(*records: Json) -> Any:
    return Answer.collect(read(records)).choices[0].finish_reason


def test_a_whole_answer_is_read() -> None:
    parts = (Thinking("need weather"), Text("Let me look."), ToolCall("call_ab12", "f", '{"a":1}'))
    assert CHAT.read_answer(answer_document(json.dumps(ANSWER).encode())) == Answer(
        (Choice(parts, "tool_calls"),), Usage(input=26, output=298)
    )


def test_a_stream_is_read() -> None:
    assert read(STREAM) == [
        ThinkingDelta("need weather"),
        ToolCallDelta(0, "call_1", "rain", '{"city":"Bern"}'),
        Finished("tool_calls"),
        Usage(input=40, output=12),
    ]


def test_a_frame_is_a_line() -> None:
    assert CHAT.reader().frame_end is NEWLINE
    assert CHAT.stream_type == GENERATE.stream_type == "application/x-ndjson"
    assert read([b"\n", b"\r\n", *(line.replace(b"\n", b"\r\n") for line in STREAM)]) == read(STREAM)


def test_the_last_line_may_lack_its_end() -> None:
    assert read([*STREAM[:2], STREAM[2].rstrip()]) == read(STREAM)


def test_thoughts_and_words_may_share_a_record_and_the_last_one_may_speak() -> None:
    assert read([said("So", thinking="Hm."), done(said(" be it."))]) == [
        ThinkingDelta("Hm."),
        TextDelta("So"),
        TextDelta(" be it."),
        Finished("stop"),
    ]


def test_a_completion_speaks_in_the_record_itself() -> None:
    record = {"model": "m", "response": "a, b):", "thinking": "Hm.", "done": False}
    answer = Answer((Choice((Thinking("Hm."), Text("a, b):")), "length"),), Usage(input=3, output=5))
    end = done({"model": "m", "response": ""}, "length", context=[1, 2], prompt_eval_count=3, eval_count=5)
    assert Answer.collect(read([record, end], GENERATE)) == answer
    assert GENERATE.read_answer(end | {"response": "a, b):", "thinking": "Hm."}) == answer


def test_calls_are_numbered_as_they_arrive_and_named_where_they_have_no_name() -> None:
    first, second = call("rain", city="Zürich"), call("rain")
    events = read([said(tool_calls=[first, second]), said(tool_calls=[call("sun", "call_9")]), done(said())])
    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    assert [(made.index, made.name, made.arguments) for made in calls] == [
        (0, "rain", '{"city":"Zürich"}'),
        (1, "rain", "{}"),
        (2, "sun", "{}"),
    ]
    assert calls[2].id == "call_9"
    invented = {calls[0].id, calls[1].id}
    assert len(invented) == 2
    assert all(id and id.startswith("call_") for id in invented)


def test_what_ended_an_answer_is_worked_out() -> None:
    calls = said(tool_calls=[call("rain")])
    assert finish(said("Hi"), done(said())) == "stop"
    assert finish(done(said())) == "stop"
    assert finish(calls, done(said())) == "tool_calls"
    assert finish(calls, done(said(), "length")) == "length"
    assert finish(said("Hi"), done(said(), None)) == "stop"
    assert finish(calls, done(said(), None)) == "tool_calls"


@pytest.mark.parametrize("usage", [{}, {"total_duration": 9}])
def test_an_answer_that_was_not_counted_has_no_usage(usage: Json) -> None:
    assert Answer.collect(read([done(said("Hi"), **usage)])).usage is None


def test_a_counter_of_zero_is_left_out() -> None:
    assert Answer.collect(read([done(said("Hi"), eval_count=2)])).usage == Usage(output=2)


FAILURES: list[tuple[list[Json | bytes], str]] = [
    ([said("Hi"), {"error": "an error was encountered while running the model"}], "broken"),
    ([{"error": "unexpected EOF"}], "broken"),
    ([said("Hi")], "cut"),
    ([], "cut"),
    ([done(said(), None)], "cut"),
    ([done(said(), "load")], "broken"),
    ([done(said(), "unload")], "broken"),
    ([b"Hi\n"], "broken"),
    ([b"[]\n"], "broken"),
    ([said(tool_calls={})], "broken"),
    ([said(tool_calls=[{"function": {"name": "f", "arguments": "{}"}}])], "broken"),
]


@pytest.mark.parametrize(("records", "kind"), FAILURES)
def test_an_answer_that_fails_is_no_answer(records: list[Json | bytes], kind: str) -> None:
    with pytest.raises(ProviderError) as error:
        read(records)
    assert (error.value.kind, error.value.retryable) == (kind, True)


@pytest.mark.parametrize("document", [{}, said("Hi"), done(said(), "load"), done(said(), "unload"), {"message": "Hi"}])
def test_a_whole_answer_must_be_done(document: Json) -> None:
    with pytest.raises(ProviderError) as error:
        CHAT.read_answer(document)
    assert error.value.kind == "broken"


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
names = ("role", "content", "thinking", "tool_calls", "function", "arguments", "name", "id", "done", "done_reason",
         "message", "response", "error", "eval_count", "prompt_eval_count")  # fmt: skip
records = st.dictionaries(st.sampled_from(names), odd | st.dictionaries(st.sampled_from(names), odd, max_size=4))


@given(records)
@settings(deadline=None, database=None)
def test_any_json_is_events_or_a_fault_of_the_upstream(record: Json) -> None:
    try:
        read([record])
    except ProviderError:
        pass


# -- embeddings


def test_texts_are_sent_as_a_list() -> None:
    request = EmbeddingRequest("fast", ("a", "b"), "base64", user="ada", extras={"truncate": False})
    assert EMBED.write_embedding_request(request, "nomic-embed-text") == {
        "model": "nomic-embed-text",
        "input": ["a", "b"],
    }


def test_the_size_of_vectors_is_asked_for() -> None:
    assert EMBED.write_embedding_request(EmbeddingRequest("fast", ("a",), dimensions=256), "m")["dimensions"] == 256


def test_token_ids_are_refused() -> None:
    with pytest.raises(CannotCarry) as refusal:
        EMBED.write_embedding_request(EmbeddingRequest("fast", ("a", (1, 2))), "m")
    assert refusal.value.param == "input"


def test_vectors_are_read_in_order() -> None:
    document = {"model": "m", "embeddings": [[0.6, -0.8], [1, 0.0]], "total_duration": 14, "prompt_eval_count": 8}
    assert EMBED.read_embeddings(document) == Embeddings(((0.6, -0.8), (1, 0.0)), Usage(input=8))
    assert EMBED.read_embeddings({"embeddings": []}) == Embeddings((), None)


@pytest.mark.parametrize("rows", [None, {}, "0.1", [0.1], [["0.1"]], [[None]], [{}]])
def test_what_is_no_vector_is_a_fault_of_the_upstream(rows: Any) -> None:
    with pytest.raises(ProviderError) as error:
        EMBED.read_embeddings({"embeddings": rows})
    assert error.value.kind == "broken"


# -- the account


def account(settings: Mapping[str, str] | None = None, **more: Any) -> Target:
    return Target("Box", "ollama", {"url": "http://localhost:11434", **(settings or {})}, **more)


def sent(settings: Mapping[str, str], **body: Any) -> Json:
    sent: Json = json.loads(OLLAMA.request(account(settings), "/api/chat", body).body)
    return sent


def test_a_request_goes_to_the_endpoint_without_a_credential() -> None:
    request = OLLAMA.request(account(), "/api/chat", {"model": "llama3.2"})
    assert (request.method, request.url) == ("POST", "http://localhost:11434/api/chat")
    assert request.headers == {"Content-Type": "application/json"}
    assert request.body == b'{"model":"llama3.2"}'


def test_the_hosted_service_gets_the_key_and_a_proxy_its_headers() -> None:
    headers = OLLAMA.headers(account(secrets={"api_key": "sk-1"}, headers={"X-Team": "red"}))
    assert headers == {"Content-Type": "application/json", "X-Team": "red", "Authorization": "Bearer sk-1"}


@pytest.mark.parametrize(("stored", "said"), [("5m", "5m"), ("1h30m", "1h30m"), ("300", 300), ("0", 0), ("-1", -1)])
def test_how_long_a_model_stays_is_sent_along(stored: str, said: object) -> None:
    assert sent({"keep_alive": stored}, model="m") == {"model": "m", "keep_alive": said}


def test_the_context_window_is_sent_among_the_options() -> None:
    assert sent({"num_ctx": "8192"}, model="m", options={"seed": 1})["options"] == {"num_ctx": 8192, "seed": 1}
    assert sent({"num_ctx": "8192"}, model="m")["options"] == {"num_ctx": 8192}


def test_what_a_body_says_itself_wins_over_the_settings() -> None:
    body = {"keep_alive": 0, "options": {"num_ctx": 2048}}
    assert sent({"keep_alive": "5m", "num_ctx": "8192"}, **body) == body


def test_building_a_request_leaves_the_body_alone() -> None:
    body = {"model": "m", "options": {"seed": 1}}
    OLLAMA.request(account({"keep_alive": "5m", "num_ctx": "8192"}), "/api/chat", body)
    assert body == {"model": "m", "options": {"seed": 1}}


@pytest.mark.parametrize("value", ["", "5m", "1h30m", "1.5h", "500ms", "-1m", "300", "0", "-1"])
def test_a_duration_or_a_number_of_seconds_is_accepted(value: str) -> None:
    OLLAMA.check(account({"keep_alive": value, "num_ctx": "8192"}))


@pytest.mark.parametrize("value", ["5 m", "m", "5 minutes", "forever", "1.5", "5m!", "--1"])
def test_any_other_duration_is_refused_in_a_sentence(value: str) -> None:
    with pytest.raises(ValueError, match=r"^Keep alive .*\.$"):
        OLLAMA.check(account({"keep_alive": value}))


def test_a_context_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Context window .*\.$"):
        OLLAMA.check(account({"num_ctx": "0"}))


def test_whom_the_upstream_sees_is_told() -> None:
    assert OLLAMA.identity(account()) == "nobody: without a key"
    assert OLLAMA.identity(account(secrets={"api_key": "sk-1"})) == "the API key stored here"


# -- the model list


def listed(*replies: Any) -> tuple[list[UpstreamRequest], list[UpstreamModel]]:
    """What a listing asks, given these replies, and what it finds."""
    listing = OLLAMA.models(account(secrets={"api_key": "sk-1"}))
    requests = [next(listing)]
    try:
        for reply in replies:
            requests.append(listing.send(reply))
    except StopIteration as end:
        return requests, end.value
    raise AssertionError("The listing asks for more.")


def tag(name: str, capabilities: list[str] | None = None, **details: Any) -> Json:
    row = {"name": name, "model": name, "size": 1, "details": {"family": "llama", **details}}
    return row if capabilities is None else row | {"capabilities": capabilities}


COMPLETES = {"json_schema": True, "embeddings": False, "streaming": True}


def test_models_are_listed_with_what_they_can_do() -> None:
    rows = [
        tag("llama3.2:latest", ["completion", "tools"], context_length=131072),
        tag("qwen3-vl:8b", ["completion", "vision", "tools", "thinking"]),
        tag("nomic-embed-text:latest", ["embedding"], context_length=2048),
    ]
    requests, models = listed({"models": rows})
    assert [(request.method, request.url) for request in requests] == [("GET", "http://localhost:11434/api/tags")]
    assert models == [
        UpstreamModel(
            "llama3.2:latest",
            131072,
            capabilities={"tools": True, "images": False, "thinking": False, **COMPLETES},
        ),
        UpstreamModel("qwen3-vl:8b", capabilities={"tools": True, "images": True, "thinking": True, **COMPLETES}),
        UpstreamModel(
            "nomic-embed-text:latest",
            2048,
            capabilities={"tools": False, "images": False, "thinking": False, "json_schema": False}
            | {"embeddings": True, "streaming": True},
        ),
    ]


def test_an_older_server_is_asked_for_each_model() -> None:
    info = {"general.architecture": "llama", "llama.context_length": 8192, "llama.embedding_length": 3072}
    shown = {"details": {"family": "llama"}, "model_info": info, "capabilities": ["completion", "tools"]}
    requests, models = listed({"models": [tag("llama3.2:latest"), tag("odd:1b")]}, shown, {"details": {}})
    assert [(request.method, request.url, request.body) for request in requests[1:]] == [
        ("POST", "http://localhost:11434/api/show", b'{"model":"llama3.2:latest"}'),
        ("POST", "http://localhost:11434/api/show", b'{"model":"odd:1b"}'),
    ]
    assert all(request.headers["Authorization"] == "Bearer sk-1" for request in requests)
    assert models[0].name == "llama3.2:latest"
    assert models[0].context_window == 8192
    assert models[0].capabilities["tools"]
    assert models[1] == UpstreamModel("odd:1b")


def test_a_model_that_runs_elsewhere_says_so() -> None:
    row = tag("gpt-oss:120b-cloud", ["completion"]) | {
        "remote_model": "gpt-oss:120b",
        "remote_host": "https://ollama.com",
    }
    assert listed({"models": [row]})[1][0].note == "Runs at https://ollama.com."


def test_rows_that_name_no_model_are_left_out() -> None:
    assert (
        listed({"models": ["m", None, {}, {"name": 5}, {"name": "m:1b", "capabilities": ["embedding"]}]})[1][0].name
        == "m:1b"
    )


@pytest.mark.parametrize("document", [None, [], "models", {}, {"models": None}, {"models": {}}, {"data": []}])
def test_what_is_no_model_list_is_a_fault_of_the_upstream(document: Any) -> None:
    with pytest.raises(ProviderError) as error:
        listed(document)
    assert error.value.kind == "broken"


@pytest.mark.parametrize("shown", [None, [], {"model_info": [], "capabilities": "tools", "details": None}])
def test_what_cannot_be_read_of_a_model_is_unknown(shown: Any) -> None:
    assert listed({"models": [tag("m:1b")]}, shown)[1] == [UpstreamModel("m:1b")]


WRITES = {"ollama_chat": "/api/chat", "ollama_generate": "/api/generate"}
EMBEDS = {"ollama_embed": "/api/embed"}


@pytest.mark.parametrize(
    ("capabilities", "spoken"),
    [
        ({}, WRITES | EMBEDS),
        ({"json_schema": True, "embeddings": False}, WRITES),
        ({"json_schema": False, "embeddings": False}, WRITES),
        ({"json_schema": False, "embeddings": True}, EMBEDS),
        ({"json_schema": True, "embeddings": True}, WRITES | EMBEDS),
        ({"embeddings": True}, WRITES | EMBEDS),
        ({"tools": False}, WRITES | EMBEDS),
    ],
)
def test_a_model_is_spoken_to_for_what_it_can_do(capabilities: Any, spoken: Mapping[str, str]) -> None:
    found = OLLAMA.speaks(UpstreamModel("m", capabilities=capabilities), account())
    assert (found, list(found)) == (spoken, list(spoken))


# -- refusals


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, '"llama3.2" does not support thinking', "incapable"),
        (400, "registry.ollama.ai/library/llama3.2:latest does not support tools", "incapable"),
        (400, "this model does not support embeddings", "incapable"),
        (400, "invalid think value", "bad_request"),
        (400, "the input length exceeds the context length", "context_length"),
        (401, "unauthorized", "auth"),
        (403, "cloud is disabled", "auth"),
        (404, "model 'nope' not found", "model_not_found"),
        (404, 'model "nope" not found, try pulling it first', "model_not_found"),
        (429, "too many requests", "rate_limit"),
        (500, "model runner has unexpectedly stopped", "broken"),
        (503, "server busy, please try again.  maximum pending requests exceeded", "unavailable"),
    ],
)
def test_a_refusal_is_understood(status: int, error: str, kind: str) -> None:
    assert OLLAMA.read_error(status, json.dumps({"error": error}).encode(), "Box").kind == kind


def test_a_host_that_is_not_allowed_is_refused_without_a_word() -> None:
    assert OLLAMA.read_error(403, b"", "Box").kind == "auth"


def test_an_endpoint_that_is_not_there_is_no_missing_model() -> None:
    assert OLLAMA.read_error(404, b"404 page not found", "Box").kind == "unsupported_path"
