"""SambaNova: its account, its dialects, and the console's login. Worked examples are its documentation's."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.base import Cookie, LoginReply, LoginRequest, Target, UpstreamModel, UpstreamToken
from providers.conversation import Answer, ChatRequest, Choice, Event, Text, Thinking, ToolCall, Usage
from providers.languages.dialects import ChatDialect
from providers.languages.errors import answer_document
from providers.languages.language import Language
from providers.languages.openai_chat import OpenAIChat
from providers.languages.openai_completions import OpenAICompletions
from providers.languages.openai_embeddings import OpenAIEmbeddings
from providers.languages.sambanova import SambaNovaChat, SambaNovaCompletions, SambaNovaConsole
from providers.sambanova import SambaNova
from providers.streams import UpstreamEvents
from providers.wire import client, control
from providers.wire.errors import CannotCarry, ProviderError
from tests.fakes.sambanova import EMAIL, PASSWORD, WEEK, FakeSambaNova
from tests.fakes.scenes import PICTURE, TWO_CALLS, Scene
from tests.providers.worked import call, chunk, frame

SAMBANOVA = SambaNova()
CHAT, CONSOLE, COMPLETIONS = SambaNovaChat(), SambaNovaConsole(), SambaNovaCompletions()
OPENAI = OpenAIChat()
MODEL = UpstreamModel("gpt-oss-120b")
DEFAULTS = {setting.name: setting.default for setting in SAMBANOVA.settings if not setting.secret}
HI = [{"role": "user", "content": "Hi"}]
PIXEL = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
TOOLS = [{"type": "function", "function": {"name": "rain", "parameters": {"type": "object"}}}]

Json = dict[str, Any]


def account(settings: dict[str, str] | None = None, **secrets: str) -> Target:
    return Target("Samba", "sambanova", DEFAULTS | (settings or {}), secrets or {"api_key": "key-1"}, total_timeout=20)


def user(settings: dict[str, str] | None = None, token: str = "session-1") -> Target:
    return replace(account({"email": EMAIL, **(settings or {})}, password=PASSWORD), token=token)


def asked(**fields: Any) -> ChatRequest:
    return OPENAI.parse_request({"model": "fast", "messages": HI, **fields})


def written(language: Language = CHAT, **fields: Any) -> Json:
    return language.write_request(asked(**fields), "m")


def refused(language: Language = CHAT, **fields: Any) -> str:
    with pytest.raises(CannotCarry, match=r"\.$") as refusal:
        written(language, **fields)
    return refusal.value.param


# -- the account


@pytest.mark.parametrize("target", [account(), user()], ids=["a key", "an e-mail address and a password"])
def test_one_way_in_is_enough(target: Target) -> None:
    SAMBANOVA.check(target)


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (account({"email": EMAIL}), "not both"),
        (account(api_key="key-1", password="x"), "not both"),
        (account(api_key=""), "is needed"),
        (account({"email": EMAIL}, api_key=""), "is needed"),
        (account(password="x"), "is needed"),
        (account({"session_lifetime": "59"}), "at least 60"),
    ],
)
def test_credentials_that_do_not_fit_together_are_refused_in_a_sentence(target: Target, sentence: str) -> None:
    with pytest.raises(ValueError, match=rf"{sentence}.*\.$"):
        SAMBANOVA.check(target)


def test_a_key_is_sent_to_the_official_api() -> None:
    request = SAMBANOVA.request(account(), "/chat/completions", {"model": "m", "user": "ada", "store": True})
    assert (request.method, request.url) == ("POST", "https://api.sambanova.ai/v1/chat/completions")
    assert request.headers == {"Content-Type": "application/json", "Authorization": "Bearer key-1"}
    assert request.body == b'{"model":"m"}'
    assert not SAMBANOVA.needs_login(account())


def test_a_session_is_sent_to_the_console_in_an_envelope() -> None:
    target, (path,) = user(), SAMBANOVA.speaks(MODEL, user()).values()
    request = SAMBANOVA.request(target, path, written(CONSOLE, temperature=0, max_tokens=5))
    assert request.url == "https://cloud.sambanova.ai/api/completion"
    assert request.headers["Cookie"] == "access_token=session-1"
    assert request.headers["Origin"] == "https://cloud.sambanova.ai"
    assert request.headers["Referer"] == "https://cloud.sambanova.ai/"
    assert "Authorization" not in request.headers
    envelope = json.loads(request.body)
    assert envelope.pop("fingerprint").startswith("anon_")
    body = {"model": "m", "messages": HI, "stream": False, "temperature": 0, "max_tokens": 5, "do_sample": False}
    assert envelope == {"env_type": "text", "body": body}


def test_each_request_has_a_fingerprint_of_its_own() -> None:
    bodies = [SAMBANOVA.request(user({"fingerprint_prefix": "x_"}), "/", {"messages": HI}).body for _ in range(9)]
    prints = {json.loads(body)["fingerprint"] for body in bodies}
    assert len(prints) == 9
    assert all(print_.startswith("x_") and len(print_) == 34 for print_ in prints)


@pytest.mark.parametrize(
    ("part", "env_type"),
    [(PIXEL, "vision"), ({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}, "audio")],
)
def test_the_envelope_says_what_is_inside(part: Json, env_type: str) -> None:
    body = written(CONSOLE, messages=[{"role": "user", "content": [part, {"type": "text", "text": "What is this?"}]}])
    assert json.loads(SAMBANOVA.request(user(), "/", body).body)["env_type"] == env_type


def test_where_the_console_answers_can_be_set() -> None:
    elsewhere = user({"completion_url": "https://samba.example/complete"})
    assert dict(SAMBANOVA.speaks(MODEL, elsewhere)) == {"sambanova_console": "https://samba.example/complete"}


def test_the_official_api_chats_completes_and_embeds() -> None:
    spoken = list(SAMBANOVA.speaks(MODEL, account()))
    assert spoken[:3] == ["sambanova_chat", "sambanova_completions", "openai_embeddings"]


@pytest.mark.parametrize(("target", "words"), [(account(), "API key"), (user(), EMAIL)])
def test_it_says_who_it_is_without_a_secret(target: Target, words: str) -> None:
    assert words in SAMBANOVA.identity(target)
    assert PASSWORD not in SAMBANOVA.identity(target)


# -- what is asked


def test_what_is_not_asked_for_is_not_sent_but_for_the_stream() -> None:
    assert written() == {"model": "m", "messages": HI, "stream": False}
    assert written(stream=True) == {
        "model": "m",
        "messages": HI,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


CARRIED: Json = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "do_sample": True,
    "stop": ["END"],
    "n": 2,
    "seed": 7,
    "tools": TOOLS,
    "tool_choice": {"type": "function", "function": {"name": "rain"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": {}, "strict": True}},
    "chat_template_kwargs": {"enable_thinking": False},
    "max_tokens": 5,
}


@pytest.mark.parametrize("name", CARRIED)
def test_a_field_it_knows_is_carried(name: str) -> None:
    assert written(**{name: CARRIED[name]})[name] == CARRIED[name]
    assert CHAT.dropped(asked(**{name: CARRIED[name]}), "m") == []


def test_the_new_word_for_the_limit_is_carried_in_the_old_one() -> None:
    assert written(max_completion_tokens=5)["max_tokens"] == 5


@pytest.mark.parametrize(
    ("field", "value"),
    [("user", "ada"), ("metadata", {"a": "b"}), ("store", True), ("service_tier", "flex"), ("made_up", 1),
     ("presence_penalty", 0.5), ("frequency_penalty", 0.5), ("prediction", {"type": "content", "content": "x"})],
)  # fmt: skip
def test_a_field_it_does_not_know_is_left_out_and_reported(field: str, value: Any) -> None:
    assert field not in written(**{field: value})
    assert CHAT.dropped(asked(**{field: value}), "m") == [field]


@pytest.mark.parametrize(
    ("field", "value"),
    [("logit_bias", {"5": 1}), ("logprobs", True), ("functions", [{"name": "f"}]), ("modalities", ["text", "audio"])],
)
def test_a_field_that_changes_the_answer_is_refused_by_name(field: str, value: Any) -> None:
    assert refused(**{field: value}) == field


@pytest.mark.parametrize(("field", "value"), [("logit_bias", {}), ("logprobs", False), ("modalities", ["text"])])
def test_a_field_that_asks_for_nothing_is_no_reason_to_refuse(field: str, value: Any) -> None:
    assert field not in written(**{field: value})


def test_several_answers_are_refused_where_tools_are_offered() -> None:
    assert refused(n=2, tools=TOOLS) == "n"


@pytest.mark.parametrize(
    ("effort", "theirs"),
    [("none", "low"), ("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"), ("xhigh", "high")],
)
def test_an_effort_is_brought_to_the_nearest_it_knows(effort: str, theirs: str) -> None:
    assert written(reasoning_effort=effort)["reasoning_effort"] == theirs


def test_a_plain_text_as_a_wish_for_the_format_is_left_out() -> None:
    assert "response_format" not in written(response_format={"type": "text"})


def test_a_list_of_texts_becomes_one_text_for_older_models() -> None:
    texts = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    messages = [{"role": "user", "content": texts}, {"role": "tool", "tool_call_id": "call_1", "content": texts}]
    assert [message["content"] for message in written(messages=messages)["messages"]] == ["One.\n\nTwo."] * 2


def test_a_developer_speaks_as_the_system_and_thinking_has_its_own_name() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "assistant", "content": "Hm?", "reasoning_content": "Hm."},
    ]
    assert written(messages=messages)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "Hm?", "reasoning": "Hm."},
    ]


def test_an_image_is_carried_as_a_data_url_alone() -> None:
    text = {"type": "text", "text": "What is this?"}
    assert written(messages=[{"role": "user", "content": [text, PIXEL]}])["messages"][0]["content"] == [text, PIXEL]
    far = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    assert refused(messages=[{"role": "user", "content": [text, far]}]) == "messages"


def test_speech_is_spelt_as_it_spells_it() -> None:
    spoken = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}}
    content = written(messages=[{"role": "user", "content": [spoken]}])["messages"][0]["content"]
    assert content == [{"type": "audio_content", "audio_content": {"content": "data:audio/mp3;base64,AA=="}}]


@pytest.mark.parametrize("field", ["tools", "response_format", "n"])
def test_the_console_is_asked_for_nothing_its_own_pages_do_not_ask(field: str) -> None:
    assert refused(CONSOLE, **{field: CARRIED[field]}) == field


def test_what_the_console_cannot_be_told_is_reported() -> None:
    request = asked(top_p=0.5, seed=1, top_k=3, reasoning_effort="low", temperature=1)
    assert CONSOLE.write_request(request, "m")["do_sample"] is True
    assert sorted(CONSOLE.dropped(request, "m")) == ["reasoning_effort", "seed", "top_k", "top_p"]


def test_the_legacy_completions_have_a_list_of_fields_too() -> None:
    request = OpenAICompletions().parse_request({"model": "fast", "prompt": "Once", "top_k": 5, "user": "ada"})
    assert COMPLETIONS.write_request(request, "m") == {"model": "m", "prompt": "Once", "top_k": 5, "stream": False}
    assert COMPLETIONS.dropped(request, "m") == ["user"]
    echo = OpenAICompletions().parse_request({"model": "fast", "prompt": "Once", "echo": True})
    with pytest.raises(CannotCarry):
        COMPLETIONS.write_request(echo, "m")


def test_extras_of_another_language_are_never_carried() -> None:
    request = replace(asked(), language="anthropic_messages", extras={"top_k": 5})
    assert "top_k" not in CHAT.write_request(request, "m")
    assert CHAT.dropped(request, "m") == ["top_k"]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.none() | st.booleans() | st.integers(1, 9) | st.just([]) | st.just({"type": "text"})
            for name in ("prediction", "top_k", "store", "logprobs", "modalities", "chat_template_kwargs", "audio")
        },
    )
)
@settings(deadline=None, database=None)
def test_every_field_is_carried_reported_or_refused(extras: Json) -> None:
    request = asked(**extras)
    try:
        body = CHAT.write_request(request, "m")
    except CannotCarry as refusal:
        assert refusal.param in extras  # noqa: PT017 - to be carried is as good
        return
    assert set(request.extras) == (body.keys() & request.extras.keys()) | set(CHAT.dropped(request, "m"))


# -- what is answered

USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14, "time_to_first_token": 0.12}
EXAMPLE = [
    chunk({"role": "assistant", "reasoning": "hm"}) | {"created": 1760000000.2},
    chunk({"content": "Hello there"}) | {"created": 1760000000.2},
    chunk({}, "stop") | {"created": 1760000000.2},
    chunk({}, usage=USAGE | {"is_last_response": True}) | {"choices": []},
]
DONE = b"data: [DONE]\n\n"


def read(frames: Iterable[bytes], language: Language = CHAT, request: ChatRequest | None = None) -> list[Event]:
    reader = language.reader(request)
    return [*(event for each in frames for event in reader.read_frame(each)), *reader.read_end()]


@pytest.mark.parametrize("done", [DONE, b""], ids=["marked", "unmarked"])
def test_the_worked_example_is_read(done: bytes) -> None:
    answer = Answer.collect(read([*map(frame, EXAMPLE), *([done] if done else [])]))
    assert answer == Answer((Choice((Thinking("hm"), Text("Hello there")), "stop"),), Usage(9, 5))


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_stream_without_a_reason_is_cut_however_politely_it_ends(length: int) -> None:
    with pytest.raises(ProviderError) as error:
        read(map(frame, EXAMPLE[:length]))
    assert error.value.kind == "cut"
    with pytest.raises(ProviderError) as error:
        read([*map(frame, EXAMPLE[:length]), DONE])
    assert error.value.kind == "broken"


def lean(id: str, name: str, arguments: str) -> Json:
    return {"tool_calls": [{"id": id, "function": {"name": name, "arguments": arguments}}]}


MORE = {"tool_calls": [{"function": {"arguments": ":1}"}}]}
CALLS = (ToolCall("c1", "rain", '{"a":1}'), ToolCall("c2", "rain", '{"a":2}'))


@pytest.mark.parametrize(
    "deltas",
    [
        [lean("c1", "rain", '{"a":1}'), lean("c2", "rain", '{"a":2}')],
        [lean("c1", "rain", '{"a"'), MORE, lean("c2", "rain", '{"a":2}')],
        [call(0, "", "c1", "rain"), call(0, '{"a":1}'), call(1, "", "c2", "rain"), call(1, '{"a":2}')],
        [call(0, "", "c1", "rain"), call(1, "", "c2", "rain"), call(1, '{"a":2}'), call(0, '{"a":1}')],
        [call(1, '{"a":1}', "c1", "rain"), call(2, "", "c2", "rain"), call(2, '{"a":2}', "c2", "rain")],
        [{"tool_calls": [*lean("c1", "rain", '{"a":1}')["tool_calls"], *lean("c2", "rain", '{"a":2}')["tool_calls"]]}],
    ],
    ids=["whole", "in pieces", "numbered", "interleaved", "numbered from one", "in one chunk"],
)  # fmt: skip
def test_calls_without_a_number_are_counted(deltas: list[Json]) -> None:
    events = read([*(frame(chunk(delta)) for delta in deltas), frame(chunk({}, "stop"))])
    (choice,) = Answer.collect(events).choices
    assert (choice.parts, choice.finish_reason) == (CALLS, "tool_calls")


def test_an_event_named_error_is_one_whatever_it_holds() -> None:
    with pytest.raises(ProviderError):
        read([frame(EXAMPLE[1]), b'event: error\ndata: {"message":"gone"}\n\n'])
    with pytest.raises(ProviderError):
        read([b'event: error\ndata: {"error":{"message":"gone"}}\n\n'])


class Silent(ChatDialect):
    """A server that never says why it ended."""

    name = "silent"
    carries = frozenset(("model", "messages", "max_tokens", "stream"))
    renames = {"max_tokens": "max_completion_tokens"}
    names_finish = False


@pytest.mark.parametrize(
    ("delta", "limit", "reason"),
    [({"content": "x"}, None, "stop"), ({"content": "x"}, 6, "stop"), ({"content": "x"}, 5, "length"),
     (lean("c1", "rain", "{}"), None, "tool_calls")],
)  # fmt: skip
def test_a_reason_nobody_gave_is_told_from_the_rest(delta: Json, limit: int | None, reason: str) -> None:
    request = asked(max_tokens=limit)
    frames = [frame(chunk(delta)), frame(EXAMPLE[3])]
    for ending in ([], [DONE]):
        (choice,) = Answer.collect(read([*frames, *ending], Silent(), request)).choices
        assert choice.finish_reason == reason
    document = {"choices": [{"message": delta}], "usage": USAGE}
    assert Silent().read_answer(document, request).choices[0].finish_reason == reason


def test_a_server_that_gives_no_reason_is_cut_where_it_gave_no_count_either() -> None:
    with pytest.raises(ProviderError) as error:
        read([frame(chunk({"content": "x"})), frame(chunk({"content": "y"}, usage=USAGE))], Silent())
    assert error.value.kind == "cut"


def test_a_field_can_have_another_name() -> None:
    assert written(Silent(), max_tokens=5)["max_completion_tokens"] == 5
    assert refused(Silent(), stop=["END"]) == "stop"


def test_a_whole_answer_without_a_reason_is_broken() -> None:
    with pytest.raises(ProviderError) as error:
        CHAT.read_answer({"choices": [{"message": {"content": "x"}}]})
    assert error.value.kind == "broken"


# -- what refusals mean


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "elsewhere"),
    [
        (400, "context_length_exceeded", "Too long.", "context_length", False),
        (400, "invalid_type", "Invalid type.", "bad_request", False),
        (400, "decimal_above_max_value", "Too much.", "bad_request", False),
        (400, "model_not_found", "Model not found: x", "model_not_found", True),
        (400, "ModelOutputError", "Model produced invalid JSON.", "broken", True),
        (401, "invalid_authentication", "Invalid.", "auth", True),
        (402, None, "Payment required.", "quota", True),
        (408, "request_timeout", "Timed out.", "timeout", True),
        (410, None, "The model was removed.", "model_not_found", True),
        (429, None, "Rate limit exceeded.", "rate_limit", True),
        (500, None, "Oops.", "broken", True),
        (503, None, "Maintenance.", "unavailable", True),
        (504, None, "Queue full.", "unavailable", True),
        (504, None, "Gateway timeout.", "timeout", True),
    ],
)
def test_a_refusal_is_understood(status: int, code: str | None, message: str, kind: str, elsewhere: bool) -> None:
    error = {"message": message, "type": "x", "param": None, "code": code}
    read_error = SAMBANOVA.read_error(status, json.dumps({"error": error, "request_id": "r"}).encode(), "Samba")
    assert (read_error.kind, read_error.retryable) == (kind, elsewhere)


# -- a real server: the official API


@pytest.fixture
def fake() -> Iterator[FakeSambaNova]:
    with FakeSambaNova() as server:
        yield server
        assert server.complaints == []


def keyed(fake: FakeSambaNova) -> Target:
    return account({"url": fake.url}, api_key=fake.key)


def by_login(fake: FakeSambaNova, **settings: str) -> Target:
    return user({"url": fake.url, "console_url": fake.console_url, **settings}, token="")


def logged_in(fake: FakeSambaNova) -> Target:
    target = by_login(fake)
    return replace(target, token=control.log_in(SAMBANOVA, target, "").value)


def answered(target: Target, language: Language, request: ChatRequest, model: str = MODEL.name) -> Answer:
    path = SAMBANOVA.speaks(MODEL, target)[language.name]
    sent = SAMBANOVA.request(target, path, language.write_request(request, model))
    with closing(client.send(sent, target, request.stream)) as response:
        if response.status != 200:
            raise SAMBANOVA.read_error(response.status, response.read_error(), target.profile)
        if request.stream:
            events = UpstreamEvents(response, language.reader(request))
            return Answer.collect(event for step in events for event in step)
        return language.read_answer(answer_document(response.read()), request)


SCENE = Scene(thinking="Hm, let me see.", calls=TWO_CALLS, cached_tokens=4)
SPOKEN = Answer(
    (Choice((Thinking(SCENE.thinking), Text(SCENE.text), *(ToolCall(*each) for each in TWO_CALLS)), "tool_calls"),),
    Usage(21, 9, cached=4, reasoning=4),
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("lean_calls", [False, True])
@pytest.mark.parametrize("usage_in_finish", [False, True])
def test_an_answer_of_the_official_api_is_read(
    fake: FakeSambaNova, stream: bool, lean_calls: bool, usage_in_finish: bool
) -> None:
    fake.lean_tool_calls, fake.usage_in_finish = lean_calls, usage_in_finish
    fake.scene(MODEL.name, SCENE)
    request = asked(stream=stream, tools=TOOLS, user="ada", presence_penalty=1, reasoning_effort="minimal")
    assert answered(keyed(fake), CHAT, request) == SPOKEN
    assert fake.ignored == []


@pytest.mark.parametrize("scene", [Scene(crlf=True), Scene(comments=True), Scene(bytes_at_once=1)])
def test_a_stream_is_read_however_it_is_cut(fake: FakeSambaNova, scene: Scene) -> None:
    fake.scene(MODEL.name, scene)
    assert answered(keyed(fake), CHAT, asked(stream=True)).choices == (Choice((Text(scene.text),), "stop"),)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("when", ["first", "later", "cut"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_breaks_is_an_error_others_may_do_better_with(
    fake: FakeSambaNova, named: bool, when: Any, stream: bool
) -> None:
    fake.named_errors = named
    fake.scene(MODEL.name, Scene(fails=when))
    with pytest.raises(ProviderError) as error:
        answered(keyed(fake), CHAT, asked(stream=stream))
    assert error.value.retryable


def test_older_models_and_seeing_ones_are_asked_alike(fake: FakeSambaNova) -> None:
    texts = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    answered(keyed(fake), CHAT, asked(messages=[{"role": "user", "content": texts}]), "Meta-Llama-3.3-70B-Instruct")
    seen = asked(messages=[{"role": "developer", "content": "See."}, {"role": "user", "content": [*texts, PIXEL]}])
    answered(keyed(fake), CHAT, seen, "Llama-4-Maverick-17B-128E-Instruct")


@pytest.mark.parametrize("stream", [False, True])
def test_legacy_completions_are_read(fake: FakeSambaNova, stream: bool) -> None:
    fake.scene(MODEL.name, Scene(finish="length"))
    fields = {"model": "fast", "prompt": "Once", "stream": stream, "user": "ada"}
    answer = answered(keyed(fake), COMPLETIONS, OpenAICompletions().parse_request(fields))
    assert answer.choices == (Choice((Text(SCENE.text),), "length"),)


def test_embeddings_pass_straight_through_but_for_what_has_no_place(fake: FakeSambaNova) -> None:
    target, language = keyed(fake), OpenAIEmbeddings()
    path = SAMBANOVA.speaks(MODEL, target)["openai_embeddings"]
    body = {"model": "E5-Mistral-7B-Instruct", "input": ["a", "b"], "user": "ada", "encoding_format": "base64"}
    with closing(client.send(SAMBANOVA.request(target, path, body), target, False)) as response:
        _, usage = language.pass_answer(response.read(), "fast")
    assert usage is not None


def test_its_models_are_listed_with_their_limits(fake: FakeSambaNova) -> None:
    for target in (keyed(fake), by_login(fake), by_login(fake, models_url=f"{fake.url}/models")):
        models = {model.name: model for model in control.list_models(SAMBANOVA, target)}
        assert models["DeepSeek-R1"] == UpstreamModel("DeepSeek-R1", 32_768, 7_168)
        assert models["E5-Mistral-7B-Instruct"] == UpstreamModel("E5-Mistral-7B-Instruct", 4_096)


@pytest.mark.parametrize("document", [None, [], {}, {"data": None}, {"data": "m"}])
def test_what_is_no_model_list_is_a_fault_of_the_upstream(document: object) -> None:
    listing = SAMBANOVA.models(account())
    next(listing)
    with pytest.raises(ProviderError) as error:
        listing.send(document)
    assert error.value.kind == "broken"


# -- a real server: the console


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("done", [False, True])
def test_an_answer_of_the_console_is_read(fake: FakeSambaNova, stream: bool, done: bool) -> None:
    fake.console_done = done
    fake.scene(MODEL.name, Scene(thinking="Hm, let me see."))
    target = logged_in(fake)
    for temperature in (0, 0.7, None):
        request = asked(stream=stream, temperature=temperature, max_tokens=9, stop=["END"], seed=4)
        answer = answered(target, CONSOLE, request)
        assert answer.choices == (Choice((Thinking("Hm, let me see."), Text(SCENE.text)), "stop"),)


def test_the_console_is_shown_a_picture_as_one(fake: FakeSambaNova) -> None:
    request = asked(messages=[{"role": "user", "content": [{"type": "text", "text": "What?"}, PIXEL]}])
    assert answered(logged_in(fake), CONSOLE, request, "Llama-4-Maverick-17B-128E-Instruct").choices


def test_a_session_that_has_ended_is_a_credential_that_was_refused(fake: FakeSambaNova) -> None:
    target = logged_in(fake)
    fake.revoke_all()
    with pytest.raises(ProviderError) as error:
        answered(target, CONSOLE, asked())
    assert (error.value.kind, error.value.upstream_status) == ("auth", 401)
    answered(logged_in(fake), CONSOLE, asked())


def lifetime_of(fake: FakeSambaNova, **settings: str) -> float:
    return control.log_in(SAMBANOVA, by_login(fake, **settings), "").lifetime


@pytest.mark.parametrize("second_hop", [False, True])
@pytest.mark.parametrize("opaque", [False, True])
def test_a_login_brings_a_session_for_as_long_as_its_cookie_says(
    fake: FakeSambaNova, second_hop: bool, opaque: bool
) -> None:
    fake.second_hop, fake.opaque_tokens, fake.session_seconds = second_hop, opaque, 3600
    assert lifetime_of(fake) == pytest.approx(3600, abs=5)


def test_a_cookie_that_does_not_say_lives_as_long_as_the_token_in_it(fake: FakeSambaNova) -> None:
    fake.session_seconds, fake.jwt_seconds = None, 1800
    assert lifetime_of(fake) == pytest.approx(1800, abs=5)


def test_a_token_that_ends_before_its_cookie_ends_the_session(fake: FakeSambaNova) -> None:
    fake.session_seconds, fake.jwt_seconds = WEEK, 1800
    assert lifetime_of(fake) == pytest.approx(1800, abs=5)


def test_a_session_that_says_nothing_lives_as_long_as_the_profile_guesses(fake: FakeSambaNova) -> None:
    fake.session_seconds, fake.opaque_tokens = None, True
    assert lifetime_of(fake) == WEEK
    assert lifetime_of(fake, session_lifetime="600") == 600


@pytest.mark.parametrize(
    ("said", "words"),
    [("invalid_user_password", "the e-mail address or the password"), ("too_many_attempts", "too many logins"),
     ("blocked", "may be blocked")],
)  # fmt: skip
def test_a_login_that_is_denied_is_not_tried_again_by_itself(fake: FakeSambaNova, said: str, words: str) -> None:
    fake.login_fails = said
    with pytest.raises(ProviderError, match=rf"{words}.*\.$") as error:
        control.log_in(SAMBANOVA, by_login(fake), "")
    assert (error.value.kind, error.value.retryable) == ("auth", False)
    assert len(fake.logins) == 1


def test_a_wrong_password_is_denied(fake: FakeSambaNova) -> None:
    target = replace(by_login(fake), secrets={"password": "wrong"})
    with pytest.raises(ProviderError, match="refused the e-mail address or the password"):
        control.log_in(SAMBANOVA, target, "")


@pytest.mark.parametrize(
    ("said", "retryable"), [("access_denied", False), ("login_required", False), ("server_error", True)]
)
def test_an_error_that_comes_as_a_redirect_is_read(fake: FakeSambaNova, said: str, retryable: bool) -> None:
    fake.authorize_fails = said
    with pytest.raises(ProviderError) as error:
        control.log_in(SAMBANOVA, by_login(fake), "")
    assert error.value.retryable is retryable
    fake.complaints.clear()


# -- a login, step by step

CONFIG = {
    "clientId": "client-1",
    "issuerBaseUrl": "auth0.sambanova.ai",
    "redirectURL": "https://cloud.sambanova.ai/web/auth/callback",
}
SECRET = "canary-ticket"


def reply(document: object = None, status: int = 200, location: str = "", **cookies: Cookie) -> LoginReply:
    headers = {"location": location} if location else {}
    return LoginReply(status, headers, json.dumps(document).encode(), cookies)


def walk(*replies: LoginReply) -> tuple[list[LoginRequest], UpstreamToken]:
    """The requests of a login that gets these replies; {state} in a location is the one it made."""
    steps = SAMBANOVA.login(user(), "")
    sent: list[LoginRequest] = [next(steps)]  # type: ignore[list-item]
    for each in replies:
        state = next((part[6:] for part in sent[-1].url.split("&") if part.startswith("state=")), "")
        location = each.headers.get("location", "").replace("{state}", state)
        try:
            sent.append(steps.send(replace(each, headers={"location": location})))  # type: ignore[arg-type]
        except StopIteration as end:
            return sent, end.value
    raise AssertionError(f"The login wants to go on: {sent[-1].url}")


AUTHENTICATED = reply({"login_ticket": SECRET, "co_verifier": "v", "co_id": "c"})
CODE = reply(status=302, location=f"https://cloud.sambanova.ai/web/auth/callback?code={SECRET}&state={{state}}")
SESSION = Cookie("session-2", "cloud.sambanova.ai", time.time() + 1000)


def failing(*replies: LoginReply) -> ProviderError:
    with pytest.raises(ProviderError) as error:
        walk(*replies)
    assert SECRET not in error.value.message
    assert error.value.message.endswith(".")
    return error.value


def test_a_login_walks_the_consoles_own_way() -> None:
    sent, token = walk(reply(CONFIG), AUTHENTICATED, CODE, reply(status=302, location="/", access_token=SESSION))
    assert [each.url.partition("?")[0] for each in sent] == [
        "https://cloud.sambanova.ai/api/config",
        "https://auth0.sambanova.ai/co/authenticate",
        "https://auth0.sambanova.ai/authorize",
        "https://cloud.sambanova.ai/web/auth/callback",
    ]
    assert sent[3].cookies.keys() == {"nonce"}
    assert token.value == "session-2"
    assert PASSWORD not in repr(sent)


def test_a_session_may_come_with_a_later_redirect() -> None:
    hop = reply(status=302, location="https://web.sambanova.ai/done")
    sent, _ = walk(reply(CONFIG), AUTHENTICATED, CODE, hop, reply(access_token=SESSION))
    assert sent[-1].url == "https://web.sambanova.ai/done"
    assert sent[-1].cookies == {}


@pytest.mark.parametrize(
    "location",
    ["https://evil.example/", "http://cloud.sambanova.ai/", "//evil.example/x", "https://sambanova.ai.evil.example/",
     "https://evilsambanova.ai/", "file:///etc/passwd", "http://[::1/", "https://cloud.sambanova.ai@evil.example/"],
)  # fmt: skip
def test_a_redirect_to_a_stranger_is_not_followed(location: str) -> None:
    assert failing(reply(CONFIG), AUTHENTICATED, CODE, reply(status=302, location=location)).kind == "broken"


def test_redirects_are_not_followed_for_ever() -> None:
    failing(reply(CONFIG), AUTHENTICATED, CODE, *[reply(status=302, location="/again")] * 6)


@pytest.mark.parametrize(
    "config",
    [None, [], {}, CONFIG | {"clientId": ""}, CONFIG | {"issuerBaseUrl": ""}, CONFIG | {"issuerBaseUrl": "http://x.y"},
     CONFIG | {"redirectURL": "https://evil.example/cb"}, CONFIG | {"issuerBaseUrl": "[::1"}],
)  # fmt: skip
def test_a_console_that_does_not_say_where_to_log_in_gets_no_password(config: object) -> None:
    assert failing(reply(config)).kind == "broken"


def test_a_state_that_is_not_ours_is_refused() -> None:
    location = f"https://cloud.sambanova.ai/web/auth/callback?code={SECRET}&state=theirs"
    error = failing(reply(CONFIG), AUTHENTICATED, reply(status=302, location=location))
    assert (error.kind, error.retryable) == ("auth", False)


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (403, {"error": "access_denied", "error_description": "Wrong email or password."}, "refused the e-mail"),
        (401, {"code": "invalid_user_password", "description": "x"}, "refused the e-mail"),
        (429, {"error": "too_many_requests"}, "too many logins"),
        (403, {"code": "too_many_attempts"}, "too many logins"),
        (403, "<html>", "captcha"),
        (400, None, "captcha"),
    ],
)
def test_a_password_that_is_refused_waits_for_somebody_to_act(status: int, said: object, words: str) -> None:
    error = failing(reply(CONFIG), reply(said, status))
    assert (error.kind, error.retryable, error.upstream_status) == ("auth", False, status)
    assert words in error.message


@pytest.mark.parametrize("earlier", [(), (reply(CONFIG),), (reply(CONFIG), AUTHENTICATED)])
def test_a_server_in_trouble_is_asked_again_later(earlier: tuple[LoginReply, ...]) -> None:
    assert failing(*earlier, reply(None, 503)).retryable


@pytest.mark.parametrize("last", [reply(), reply(status=400), reply(access_token=Cookie(""))])
def test_a_login_that_brings_nothing_is_an_error(last: LoginReply) -> None:
    assert failing(reply(CONFIG), AUTHENTICATED, CODE, last).kind == "broken"


@pytest.mark.parametrize("page", [reply("<html>"), reply(status=302, location="/u/login?state=x"), reply(None, 400)])
def test_a_page_where_a_redirect_was_due_means_that_more_is_asked_than_a_password(page: LoginReply) -> None:
    assert failing(reply(CONFIG), AUTHENTICATED, page).kind == "auth"


def jwt_with(claims: str) -> str:
    parts = [b64encode(part.encode()).decode().rstrip("=") for part in ('{"alg":"RS256"}', claims)]
    return ".".join([*parts, "c2ln"])


@pytest.mark.parametrize(
    "claims",
    ["{}", "[]", '{"exp":null}', '{"exp":"soon"}', '{"exp":1}', '{"exp":NaN}', '{"exp":1e999}', '{"exp":-1}', "x",
     '{"exp":' + "9" * 400 + "}", '{"exp":true}'],
)  # fmt: skip
def test_an_end_that_makes_no_sense_never_breaks_a_login(claims: str) -> None:
    cookie = Cookie(jwt_with(claims))
    _, token = walk(reply(CONFIG), AUTHENTICATED, CODE, reply(access_token=cookie))
    assert 0 < token.lifetime <= 366 * 24 * 3600
