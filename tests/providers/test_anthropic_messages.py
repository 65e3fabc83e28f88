"""Anthropic Messages as upstreams speak it: what is asked, what is refused, what comes back.

Worked examples: Anthropic API reference, Messages and streaming; upstreams/sap-ai-core.md §2.4 and §4.2.
"""

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
from providers.languages.anthropic_messages import ANSWER_TOOL, AnthropicMessages
from providers.languages.errors import answer_document
from providers.languages.language import Stamp
from providers.languages.openai_chat import OpenAIChat
from providers.languages.registry import anthropic_count_tokens
from providers.languages.thinking import claude_version
from providers.wire.errors import CannotCarry, ProviderError
from tests.fakes.anthropic import MESSAGES_FIELDS, check_messages_body, failing, message_events, message_whole, sse
from tests.fakes.scenes import PICTURE, TWO_CALLS, Scene

MESSAGES = AnthropicMessages()
MODEL = "claude-sonnet-4-5"
PNG = f"data:image/png;base64,{PICTURE}"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
RAIN, SUN = Tool("rain", "How much", CITY, strict=True), Tool("sun")

Json = dict[str, Any]


def says(role: Role, *parts: Part) -> Message:
    return Message(role, parts)


def user(text: str = "Hi") -> Message:
    return says("user", Text(text))


def asked(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest("fast", messages or (user(),), **fields)


def written(*messages: Message, model: str = MODEL, **fields: Any) -> Json:
    """The body, which a strict server has looked at."""
    body = MESSAGES.write_request(asked(*messages, **fields), model)
    check_messages_body(json.loads(dumps(body)), known=MESSAGES_FIELDS, needs_model=True)
    return body


def refused(*messages: Message, **fields: Any) -> str:
    with pytest.raises(CannotCarry, match=r"\.$") as refusal:
        MESSAGES.write_request(asked(*messages, **fields), MODEL)
    return refusal.value.param


def block(text: str, **more: Any) -> Json:
    return {"type": "text", "text": text, **more}


# -- requests


def test_a_plain_question_says_whether_it_is_streamed_and_how_much_may_be_said() -> None:
    assert written() == {
        "model": MODEL,
        "max_tokens": 4096,
        "stream": False,
        "messages": [{"role": "user", "content": [block("Hi")]}],
    }
    assert written(stream=True)["stream"] is True


@pytest.mark.parametrize(
    ("fields", "limit"),
    [({}, 4096), ({"ceiling": 1000}, 1000), ({"max_tokens": 7}, 7), ({"max_tokens": 7, "ceiling": 1000}, 7)],
)
def test_the_limit_is_the_callers_then_the_routes_then_a_usual_one(fields: Json, limit: int) -> None:
    assert written(**fields)["max_tokens"] == limit


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 1.7}, {"temperature": 1}),
        ({"top_p": 0.9}, {"top_p": 0.9}),
        ({"stop": ("END", " . ")}, {"stop_sequences": ["END", " . "]}),
        ({"user": "ada"}, {"metadata": {"user_id": "ada"}}),
        ({"n": 1}, {}),
        ({"parallel_tool_calls": False}, {}),
    ],
)
def test_each_field_finds_its_place(fields: Json, sent: Json) -> None:
    assert written(**fields) == written() | sent
    assert MESSAGES.dropped(asked(**fields), "m") == []


def test_what_has_no_place_is_left_out_and_told() -> None:
    request = asked(seed=1, presence_penalty=0.5, frequency_penalty=0.5, extras={"store": True})
    assert MESSAGES.write_request(request, MODEL) == written()
    assert sorted(MESSAGES.dropped(request, "m")) == ["frequency_penalty", "presence_penalty", "seed", "store"]


def test_of_temperature_and_top_p_one_is_sent_and_the_other_told() -> None:
    both = {"temperature": 0.2, "top_p": 0.9}
    assert written(**both) == written() | {"temperature": 0.2}
    assert MESSAGES.dropped(asked(**both), "m") == ["top_p"]


@pytest.mark.parametrize("model", ["claude-opus-4-7", "anthropic--claude-4.7-opus", "claude-opus-5"])
def test_the_latest_models_are_not_told_how_to_sample(model: str) -> None:
    assert written(model=model, temperature=0.2).keys() == written().keys()
    assert written(model=model, top_p=0.2).keys() == written().keys()


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("claude-3-5-sonnet", (3, 5)),
        ("claude-3-haiku-20240307", (3, 0)),
        ("claude-opus-4-20250514", (4, 0)),
        ("claude-sonnet-4-5-20250929", (4, 5)),
        ("claude-4-sonnet", (4, 0)),
        ("anthropic--claude-4.5-opus", (4, 5)),
        ("anthropic.claude-opus-4-6-v1", (4, 6)),
        ("claude-fake", (0, 0)),
        ("gpt-4o", (0, 0)),
    ],
)
def test_a_models_name_says_its_version(model: str, version: tuple[int, int]) -> None:
    assert claude_version(model) == version


def test_the_system_is_heard_wherever_it_speaks() -> None:
    body = written(
        says("system", Text("Be brief."), Text("  ")), user("One."), says("system", Text("Be kind."), CachePoint())
    )
    assert body["system"] == [block("Be brief."), block("Be kind.", cache_control={"type": "ephemeral"})]
    assert body["messages"] == [{"role": "user", "content": [block("One.")]}]


def test_neighbours_of_one_role_are_one_turn_and_who_says_nothing_has_none() -> None:
    body = written(
        user("One."), says("assistant", Text(""), Thinking("Hm.")), user(" \n"), user("Two."),
        says("system", Text("Hm.")), user("Three."), says("assistant", Text("Four.")),
    )  # fmt: skip
    assert body["messages"] == [
        {"role": "user", "content": [block("One."), block("Two."), block("Three.")]},
        {"role": "assistant", "content": [block("Four.")]},
    ]


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "jpg"])
def test_an_image_is_sent_in_base64(kind: str) -> None:
    image = Image(f"data:image/{kind};base64,{PICTURE}", "low")
    body = MESSAGES.write_request(asked(says("user", Text("What is it?"), image)), MODEL)
    source = {"type": "base64", "media_type": f"image/{kind.replace('jpg', 'jpeg')}", "data": PICTURE}
    assert body["messages"][0]["content"] == [block("What is it?"), {"type": "image", "source": source}]


def test_an_image_may_be_fetched_by_the_upstream() -> None:
    url = "https://example.com/cat.png"
    [image] = written(says("user", Image(url)))["messages"][0]["content"]
    assert image == {"type": "image", "source": {"type": "url", "url": url}}


TURN = (
    user("Rain?"),
    says("assistant", Text("Let me look."), ToolCall("call_1", "rain", '{"city": "Zürich"}'),
         ToolCall("functions.sun:0", "sun", " ")),
)  # fmt: skip


def test_parallel_results_are_one_turn_ahead_of_words_and_ids_lose_what_is_odd() -> None:
    body = written(
        *TURN,
        says("tool", ToolResult("functions.sun:0", (Text("little"), Text("")))),
        says("tool", ToolResult("call_1", ())),
        user("And now?"),
    )
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                block("Let me look."),
                {"type": "tool_use", "id": "call_1", "name": "rain", "input": {"city": "Zürich"}},
                {"type": "tool_use", "id": "functions_sun_0", "name": "sun", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "functions_sun_0", "content": [block("little")]},
                {"type": "tool_result", "tool_use_id": "call_1", "content": []},
                block("And now?"),
            ],
        },
    ]


def test_words_among_the_results_come_after_them() -> None:
    turn = says("user", Text("Well?"), ToolResult("call_1", (Image(PNG),)), CachePoint("1h"),
                ToolResult("functions.sun:0", (Text("x"),)))  # fmt: skip
    first, second, words = written(*TURN, turn)["messages"][2]["content"]
    assert (first["tool_use_id"], second["tool_use_id"]) == ("call_1", "functions_sun_0")
    assert first["content"][0]["type"] == "image"
    assert words == block("Well?", cache_control={"type": "ephemeral", "ttl": "1h"})


def test_what_is_worth_keeping_is_marked_on_the_block_before() -> None:
    body = written(says("user", CachePoint(), Text("Long."), Text(""), CachePoint("5m"), Text("Short.")))
    assert body["messages"][0]["content"] == [
        block("Long.", cache_control={"type": "ephemeral", "ttl": "5m"}),
        block("Short."),
    ]


def test_tools_are_offered_with_a_schema_each() -> None:
    loose = Tool("loose", None, {"properties": {"a": {}}, "$defs": {}})
    assert written(tools=(RAIN, SUN, loose))["tools"] == [
        {"name": "rain", "input_schema": CITY, "description": "How much"},
        {"name": "sun", "input_schema": {"type": "object", "properties": {}}},
        {"name": "loose", "input_schema": {"type": "object", "properties": {"a": {}}, "$defs": {}}},
    ]


ONE_AT_A_TIME = {"disable_parallel_tool_use": True}


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, None, None),
        (None, True, None),
        (ToolChoice("auto"), None, None),
        (None, False, {"type": "auto"} | ONE_AT_A_TIME),
        (ToolChoice("none"), None, {"type": "none"}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("required"), None, {"type": "any"}),
        (ToolChoice("required"), False, {"type": "any"} | ONE_AT_A_TIME),
        (ToolChoice("tool", "sun"), None, {"type": "tool", "name": "sun"}),
        (ToolChoice("tool", "sun"), False, {"type": "tool", "name": "sun"} | ONE_AT_A_TIME),
    ],
)
def test_the_choice_of_a_tool(choice: ToolChoice | None, parallel: bool | None, sent: Json | None) -> None:
    assert written(tools=(RAIN, SUN), tool_choice=choice, parallel_tool_calls=parallel).get("tool_choice") == sent
    assert "tool_choice" not in written(tool_choice=ToolChoice("auto"), parallel_tool_calls=parallel)


# -- answers in JSON


def answer_tool(schema: Json, says: str = "Gives the answer to the user, in the form that was asked for.") -> Json:
    return {"name": ANSWER_TOOL, "description": says, "input_schema": schema}


def test_an_answer_in_json_is_the_input_of_a_tool_that_must_be_called_once() -> None:
    body = written(json_format=JSONFormat(CITY, "city", True, "A city."))
    assert body["tools"] == [answer_tool(CITY, "A city.")]
    assert body["tool_choice"] == {"type": "tool", "name": ANSWER_TOOL} | ONE_AT_A_TIME
    assert written(json_format=JSONFormat())["tools"] == [answer_tool({"type": "object"})]


@pytest.mark.parametrize(
    ("choice", "tools", "sent"),
    [
        (None, ["rain", ANSWER_TOOL], {"type": "any"}),
        (ToolChoice("auto"), ["rain", ANSWER_TOOL], {"type": "any"}),
        (ToolChoice("none"), ["rain", ANSWER_TOOL], {"type": "tool", "name": ANSWER_TOOL} | ONE_AT_A_TIME),
        (ToolChoice("required"), ["rain"], {"type": "any"}),
        (ToolChoice("tool", "rain"), ["rain"], {"type": "tool", "name": "rain"}),
    ],
)
def test_beside_other_tools_it_is_one_of_them_unless_one_of_them_must_be_called(
    choice: ToolChoice | None, tools: list[str], sent: Json
) -> None:
    body = written(json_format=JSONFormat(CITY), tools=(RAIN,), tool_choice=choice)
    assert [tool["name"] for tool in body["tools"]] == tools
    assert body["tool_choice"] == sent


def test_an_answer_in_json_is_not_thought_about() -> None:
    request = asked(json_format=JSONFormat(CITY), reasoning_effort="high", temperature=0.2)
    assert written(json_format=JSONFormat(CITY), reasoning_effort="high", temperature=0.2)["temperature"] == 0.2
    assert MESSAGES.dropped(request, "m") == ["reasoning_effort"]


IN_JSON = (("toolu_1", ANSWER_TOOL, '{"city": "Zürich"}'),)


def test_the_answer_in_json_is_read_as_text_whole_and_streamed() -> None:
    for calls, text in ((IN_JSON, {"city": "Zürich"}), ((("toolu_1", ANSWER_TOOL, "{}"),), {})):
        scene = Scene(text="", calls=calls)
        for answer in (read_whole(message_whole(MODEL, scene)), Answer.collect(read_stream(scene))):
            [choice] = answer.choices
            [part] = choice.parts
            assert isinstance(part, Text)
            assert (json.loads(part.text), choice.finish_reason) == (text, "stop")


def test_an_answer_in_json_beside_a_call_is_still_a_call() -> None:
    scene = Scene(text="", calls=(*IN_JSON, *TWO_CALLS))
    for answer in (read_whole(message_whole(MODEL, scene)), Answer.collect(read_stream(scene))):
        assert [type(part) for part in answer.choices[0].parts] == [Text, ToolCall, ToolCall]
        assert answer.choices[0].finish_reason == "tool_calls"


def test_an_answer_in_json_that_was_cut_short_says_so() -> None:
    scene = Scene(text="", calls=IN_JSON, finish="length")
    assert Answer.collect(read_stream(scene)).choices[0].finish_reason == "length"


# -- thinking


@pytest.mark.parametrize(
    ("effort", "fields", "limit", "tokens"),
    [
        ("low", {}, 5120, 1024),
        ("medium", {}, 8192, 4096),
        ("high", {}, 20_480, 16_384),
        ("xhigh", {}, 36_864, 32_768),
        ("high", {"max_tokens": 2000}, 2000, 1999),
        ("low", {"max_tokens": 1025}, 1025, 1024),
        ("high", {"ceiling": 16_384}, 16_384, 12_288),  # with room for the answer
        ("high", {"ceiling": 3000}, 3000, 1500),
        ("high", {"ceiling": 16_384, "max_tokens": 16_384}, 16_384, 16_383),
    ],
)
def test_an_effort_is_a_budget_within_the_limit(effort: str, fields: Json, limit: int, tokens: int) -> None:
    body = written(reasoning_effort=effort, temperature=0.5, top_p=0.5, **fields)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": tokens}
    assert body["max_tokens"] == limit
    assert "temperature" not in body
    request = asked(reasoning_effort=effort, temperature=0.5, top_p=0.5, **fields)
    assert MESSAGES.dropped(request, "m") == ["temperature", "top_p"]


@pytest.mark.parametrize("fields", [{"max_tokens": 1024}, {"ceiling": 2000}])
def test_without_room_for_thoughts_there_are_none(fields: Json) -> None:
    assert "thinking" not in written(reasoning_effort="high", **fields)
    assert MESSAGES.dropped(asked(reasoning_effort="high", **fields), "m") == ["reasoning_effort"]


@pytest.mark.parametrize(("effort", "told"), [("none", []), ("minimal", []), ("a lot", ["reasoning_effort"])])
def test_no_effort_is_no_thinking(effort: str, told: list[str]) -> None:
    assert written(reasoning_effort=effort) == written()
    assert MESSAGES.dropped(asked(reasoning_effort=effort), "m") == told


@pytest.mark.parametrize(("effort", "sent"), [("low", "low"), ("high", "high"), ("xhigh", "high"), ("max", "max")])
def test_later_models_are_told_the_effort_itself(effort: str, sent: str) -> None:
    body = written(model="claude-opus-4-6", reasoning_effort=effort, temperature=0.5)
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"] == {"effort": sent}
    assert "temperature" not in body


RESULTS = (says("tool", ToolResult("call_1", (Text("much"),))), says("tool", ToolResult("functions.sun:0", ())))


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        ((), {"tools": (RAIN,), "tool_choice": ToolChoice("required")}),
        ((), {"tools": (RAIN,), "tool_choice": ToolChoice("tool", "rain")}),
        ((*TURN, *RESULTS), {"tools": (RAIN, SUN)}),
        ((*TURN, *RESULTS, user("And?")), {"tools": (RAIN, SUN)}),
        ((user(), says("assistant", Text("I"))), {}),
    ],
)
def test_where_thoughts_would_be_refused_there_are_none(messages: tuple[Message, ...], fields: Json) -> None:
    assert "thinking" not in written(*messages, reasoning_effort="low", temperature=0.5, **fields)
    request = asked(*messages, reasoning_effort="low", temperature=0.5, **fields)
    assert MESSAGES.dropped(request, "m") == ["reasoning_effort"]


def test_signed_thoughts_go_back_with_the_calls_they_led_to() -> None:
    thought = says("assistant", Thinking("Zürich.", "c2ln"), *TURN[1].parts)
    body = written(user("Rain?"), thought, *RESULTS, reasoning_effort="low", tools=(RAIN, SUN))
    assert body["messages"][1]["content"][0] == {"type": "thinking", "thinking": "Zürich.", "signature": "c2ln"}
    assert body["thinking"]


def test_what_was_thought_before_an_earlier_answer_need_not_come_back() -> None:
    body = written(*TURN, *RESULTS, says("assistant", Text("Much.")), user("Thanks."), reasoning_effort="low")
    assert body["thinking"]


def test_an_answer_that_is_sent_back_keeps_its_thoughts_words_and_calls() -> None:
    scene = Scene(thinking="Zwei Städte.", signature="c2lnbmVk", calls=TWO_CALLS)
    answer = Answer.collect(read_stream(scene))
    results = [says("tool", ToolResult(id, (Text("dry"),))) for id, _, _ in reversed(TWO_CALLS)]
    said = says("assistant", *answer.choices[0].parts)
    body = written(user(), said, *results, reasoning_effort="high", tools=(RAIN,))
    assert body["messages"][1]["content"] == message_whole(MODEL, scene)["content"]


def test_thoughts_that_nothing_follows_are_not_sent_and_never_marked() -> None:
    assert written(user(), says("assistant", Thinking("Hm.", "sig"), Text("")), user("Well?"))["messages"] == [
        {"role": "user", "content": [block("Hi"), block("Well?")]}
    ]
    said = says("assistant", Thinking("Hm.", "sig"), CachePoint(), Text("Yes."))
    assert "cache_control" not in json.dumps(written(user(), said, user()))


def test_a_part_only_this_language_knows_is_written_back() -> None:
    hidden = {"type": "redacted_thinking", "data": "c2VjcmV0"}
    said = says("assistant", Opaque("anthropic_messages", hidden), Text("Yes."))
    assert written(user(), said, user())["messages"][1]["content"] == [hidden, block("Yes.")]


# -- refusals

CALL = says("assistant", ToolCall("a", "f", "{}"))
REFUSALS: dict[str, tuple[tuple[Message, ...], Json, str]] = {
    "several answers": ((), {"n": 2}, "n"),
    "what must not be dropped": ((), {"indispensable": frozenset(["top_logprobs", "logprobs"])}, "logprobs"),
    "a stop sequence of white space": ((), {"stop": ("END", "\n\n")}, "stop"),
    "an empty stop sequence": ((), {"stop": ("",)}, "stop"),
    "a tool with our name": ((), {"tools": (Tool(ANSWER_TOOL),)}, "tools"),
    "an answer that is a list": ((), {"json_format": JSONFormat({"type": "array"})}, "response_format"),
    "an answer that is anything": ((), {"json_format": JSONFormat({})}, "response_format"),
    "an image without TLS": ((says("user", Image("http://example.com/cat.png")),), {}, "messages"),
    "an image that is a drawing": ((says("user", Image("data:image/svg+xml;base64,AAAA")),), {}, "messages"),
    "an image that is not in base64": ((says("user", Image("data:image/png,red")),), {}, "messages"),
    "an image for the system": ((says("system", Image(PNG)), user()), {}, "messages"),
    "a part of another language": ((says("user", Opaque("openai_chat", {"type": "file"})),), {}, "messages"),
    "a model that speaks first": ((says("assistant", Text("Hi.")), user()), {}, "messages"),
    "nobody who speaks": ((says("system", Text("Be brief.")),), {}, "messages"),
    "a user who says nothing": ((user(""),), {}, "messages"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_carried_is_refused_by_name(case: str) -> None:
    messages, fields, param = REFUSALS[case]
    assert refused(*messages, **fields) == param


@pytest.mark.parametrize("name", ["logprobs", "logit_bias", "functions", "audio", "prediction"])
def test_a_field_that_changes_the_answer_is_refused_by_name(name: str) -> None:
    body = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}], name: {"some": "wish"}}
    with pytest.raises(CannotCarry) as refusal:
        MESSAGES.write_request(OpenAIChat().parse_request(body), MODEL)
    assert refusal.value.param == name


# -- any conversation is one that a strict server takes

words = st.sampled_from(["", " ", "Grüezi", "雨 🌧", "\n"])
efforts = st.sampled_from([None, "none", "low", "high"])
pictures = st.sampled_from([Text("See?"), Image(PNG), Image("https://example.com/cat.png")])


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    said = [user("Begin.")]
    for number in range(draw(st.integers(0, 3))):
        match draw(st.sampled_from(["user", "system", "assistant", "tools"])):
            case "user":
                said.append(says("user", Text(draw(words)), draw(pictures), CachePoint()))
            case "system":
                said.append(says("system", Text(draw(words))))
            case "assistant":
                said.append(says("assistant", Text(draw(words)), Thinking("Hm.", draw(st.sampled_from([None, "s"])))))
            case "tools":
                ids = [f"call.{number}:{each}" for each in range(draw(st.integers(1, 2)))]
                thought = [Thinking("Hm.", "sig")] if draw(st.booleans()) else []
                calls = [ToolCall(id, "rain", '{"city":"Bern"}') for id in ids]
                said.append(says("assistant", *thought, Text(draw(words)), *calls))
                said += [says("tool", ToolResult(id, (Text(draw(words)),))) for id in draw(st.permutations(ids))]
    return tuple(said)


@given(
    conversations(),
    st.fixed_dictionaries(
        {
            "tools": st.sampled_from([(), (RAIN,)]),
            "reasoning_effort": efforts,
            "max_tokens": st.sampled_from([None, 1, 1024, 1025, 5000]),
            "ceiling": st.sampled_from([None, 1025, 16_384]),
            "temperature": st.sampled_from([None, 0, 2]),
            "top_p": st.sampled_from([None, 0.5]),
            "json_format": st.sampled_from([None, JSONFormat(), JSONFormat(CITY)]),
            "tool_choice": st.sampled_from([None, ToolChoice("none"), ToolChoice("required")]),
            "parallel_tool_calls": st.sampled_from([None, False]),
        }
    ),
    st.sampled_from([MODEL, "claude-opus-4-7"]),
)
@settings(deadline=None, database=None, max_examples=300)
def test_a_strict_server_takes_any_conversation(messages: tuple[Message, ...], fields: Json, model: str) -> None:
    written(*messages, model=model, **fields)
    MESSAGES.dropped(asked(*messages, **fields), "m")


# -- whole answers

WHOLE: Json = {
    "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [
        {"type": "thinking", "thinking": "Let me see.", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"},
        {"type": "text", "text": "I'll check "},
        {"type": "text", "text": "the weather."},
        {"type": "tool_use", "id": "toolu_01A09q90qw90lq917835lq9", "name": "get_weather", "input": {"city": "Bern"}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 10,
        "cache_creation_input_tokens": 7,
        "cache_read_input_tokens": 4,
        "output_tokens": 95,
        "service_tier": "standard",
    },
}


def read_whole(document: Json) -> Answer:
    return MESSAGES.read_answer(answer_document(json.dumps(document).encode()))


def test_a_whole_answer_is_read_and_what_was_cached_is_part_of_the_prompt() -> None:
    parts = (
        Thinking("Let me see.", "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"),
        Text("I'll check "),
        Text("the weather."),
        ToolCall("toolu_01A09q90qw90lq917835lq9", "get_weather", '{"city":"Bern"}'),
    )
    usage = Usage(input=21, output=95, cached=4, cache_write=7)
    assert read_whole(WHOLE) == Answer((Choice(parts, "tool_calls"),), usage)


def ending(reason: str | None, *content: Json, **more: Any) -> Json:
    return {**WHOLE, "content": list(content), "stop_reason": reason, **more}


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("tool_use", "stop"),  # of a tool that is none
        ("something_new", "stop"),
    ],
)
def test_each_reason_has_its_word(reason: str, word: Any) -> None:
    assert read_whole(ending(reason, block("Hm."))).choices == (Choice((Text("Hm."),), word),)
    events = [started(), delta({"type": "text_delta", "text": "Hm."}), ended(reason)]
    assert Answer.collect(read(events)).choices == read_whole(ending(reason, block("Hm."))).choices


@pytest.mark.parametrize("usage", [None, {}, {"service_tier": "standard"}])
def test_what_was_not_counted_is_not_known(usage: Json | None) -> None:
    assert read_whole(ending("end_turn", usage=usage)).usage is None
    assert Answer.collect(read([started(usage), ended("end_turn", usage)])).usage is None


def test_an_answer_may_be_empty() -> None:
    assert read_whole(ending("end_turn")).choices == (Choice((), "stop"),)
    assert read_whole(ending("refusal")).choices == (Choice((), "content_filter"),)


def test_a_block_nobody_else_knows_is_kept() -> None:
    hidden = {"type": "redacted_thinking", "data": "c2VjcmV0"}
    assert read_whole(ending("end_turn", hidden)).choices[0].parts == (Opaque("anthropic_messages", hidden),)
    assert read([started(), begun(hidden), ended("end_turn")])[0] == Opaque("anthropic_messages", hidden)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"content": []},
        ending(None, block("Hm.")),
        ending("end_turn") | {"content": {}},
        ending("end_turn") | {"content": ["Hm."]},
        ending("tool_use", {"type": "tool_use", "id": "a", "name": "f", "input": "{}"}),
        ending("end_turn", usage=[]),
    ],
)
def test_what_is_no_answer_is_a_fault_of_the_upstream(document: Json) -> None:
    with pytest.raises(ProviderError) as error:
        MESSAGES.read_answer(document)
    assert (error.value.kind, error.value.retryable) == ("broken", True)


def test_an_input_without_a_bottom_is_a_fault_of_the_upstream() -> None:
    call = ending("tool_use", {"type": "tool_use", "id": "a", "name": "f", "input": "here"})
    deep = dumps(call).replace(b'"here"', b'{"a":' * 1000 + b"1" + b"}" * 1000)
    with pytest.raises(ProviderError) as error:
        MESSAGES.read_answer(answer_document(deep))
    assert error.value.kind == "broken"


# -- streams


def frame(document: Any, name: str = "") -> bytes:
    return sse(name or (document.get("type") if isinstance(document, dict) else None) or "x", document)


def read(documents: Iterable[Json | bytes]) -> list[Event]:
    reader = MESSAGES.reader()
    events: list[Event] = []
    for document in documents:
        events += reader.read_frame(document if isinstance(document, bytes) else frame(document))
    return events + reader.read_end()


def read_stream(scene: Scene) -> list[Event]:
    return read(sse(*event, crlf=scene.crlf) for event in message_events(MODEL, scene))


def started(usage: Json | None = None) -> Json:
    return {"type": "message_start", "message": {"id": "msg_1", "role": "assistant", "content": [], "usage": usage}}


def begun(content_block: Json, index: int = 0) -> Json:
    return {"type": "content_block_start", "index": index, "content_block": content_block}


def delta(inner: Json, index: int = 0) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": inner}


def stopped(index: int = 0) -> Json:
    return {"type": "content_block_stop", "index": index}


def ended(reason: str | None = "end_turn", usage: Json | None = None) -> Json:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


# Anthropic API reference, streaming with extended thinking and tool use.
STREAM = b"""\
event: message_start
data: {"type":"message_start","message":{"id":"msg_014p7gG3wDgGV9EUtLvnow3U","type":"message","role":"assistant",\
"model":"claude-sonnet-4-5","stop_sequence":null,"usage":{"input_tokens":472,"output_tokens":2},"content":[],\
"stop_reason":null}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: content_block_delta
data: {"type": "content_block_delta","index": 0,"delta": {"type":"thinking_delta","thinking":"Let me solve this."}}

event: content_block_delta
data: {"type": "content_block_delta","index": 0,"delta": {"type":"signature_delta","signature":"EqQBCgIYAhIM1gbcDa9G"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Okay"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":""}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_01T1x1fJ34qAmk2tNTrN7Up6",\
"name":"get_weather","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\\"location\\":"}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":" \\"Bern\\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}

event: message_stop
data: {"type":"message_stop"}

"""


def frames_of(raw: bytes, end: bytes = b"\n\n") -> list[bytes]:
    return [part + end for part in raw.split(end) if part]


def test_a_stream_is_read() -> None:
    assert read(frames_of(STREAM)) == [
        ThinkingDelta("Let me solve this."),
        ThinkingDelta("", "EqQBCgIYAhIM1gbcDa9G"),
        TextDelta("Okay"),
        ToolCallDelta(0, "toolu_01T1x1fJ34qAmk2tNTrN7Up6", "get_weather"),
        ToolCallDelta(0, arguments='{"location":'),
        ToolCallDelta(0, arguments=' "Bern"}'),
        Finished("tool_calls"),
        Usage(input=472, output=89),
    ]


def test_a_stream_reads_alike_with_other_line_ends_and_comments() -> None:
    crlf = frames_of(STREAM.replace(b"\n", b"\r\n"), b"\r\n\r\n")
    assert read([b": hello\r\n\r\n", *crlf]) == read(frames_of(STREAM))


def test_only_message_stop_is_the_end_of_the_frames() -> None:
    reader = MESSAGES.reader()
    *most, last = frames_of(STREAM)
    for each in most:
        reader.read_frame(each)
    assert not reader.ended
    reader.read_frame(last)
    assert reader.ended


SCENES = {
    "words": Scene(),
    "nothing": Scene(text=""),
    "signed thoughts": Scene(thinking="Ich überlege: 雨?", signature="c2lnbmVk"),
    "thoughts": Scene(thinking="Hm."),
    "two calls": Scene(calls=TWO_CALLS),
    "calls alone, one without arguments": Scene(text="", calls=(("a", "now", "{}"), *TWO_CALLS, ("b", "now", "{}"))),
    "all of it": Scene(thinking="Hm.", signature="c2ln", calls=TWO_CALLS, cached_tokens=5, cache_write_tokens=7),
    "too long": Scene(finish="length", calls=TWO_CALLS),
    "filtered": Scene(text="", finish="filter"),
    "CRLF": Scene(crlf=True),
}


def alike(answer: Answer) -> list[Any]:
    """An answer whose JSON texts are values: whole ones are spelt anew."""
    parts = [
        (part.id, part.name, json.loads(part.arguments)) if isinstance(part, ToolCall) else part
        for part in answer.choices[0].parts
    ]
    return [parts, answer.choices[0].finish_reason, answer.usage]


@pytest.mark.parametrize("name", SCENES)
def test_a_stream_folds_into_the_answer_that_comes_whole(name: str) -> None:
    scene = SCENES[name]
    whole = alike(read_whole(message_whole(MODEL, scene)))
    assert alike(Answer.collect(read_stream(scene))) == whole
    assert whole[2] == Usage(21, 9, scene.cached_tokens, scene.cache_write_tokens)


def test_counts_of_the_end_hold_unless_they_say_nothing() -> None:
    start = started({"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1})
    late = {"input_tokens": 12, "cache_read_input_tokens": None, "output_tokens": 9}
    assert read([start, ended("end_turn", late)])[-1] == Usage(17, 9, 5)
    assert read([start, ended("end_turn", {"input_tokens": 0, "output_tokens": 9})])[-1] == Usage(15, 9, 5)
    assert read([started({"input_tokens": 10}), ended("end_turn")])[-1] == Usage(10)


def test_a_block_may_begin_with_what_it_holds() -> None:
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {"a": 1}}
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "sig"}
    events = [started(), begun(thought), begun(block("Hi"), 1), begun(call, 2), stopped(2), ended("tool_use")]
    parts = (Thinking("Hm.", "sig"), Text("Hi"), ToolCall("a", "f", '{"a":1}'))
    assert Answer.collect(read(events)).choices == (Choice(parts, "tool_calls"),)


def test_interleaved_blocks_keep_their_pieces_apart() -> None:
    calls = [
        begun({"type": "tool_use", "id": id, "name": id, "input": {}}, index) for id, index in (("a", 3), ("b", 7))
    ]
    pieces = [delta({"type": "input_json_delta", "partial_json": text}, index)
              for text, index in (("[", 3), ("{", 7), ("]", 3), ("}", 7))]  # fmt: skip
    parts = Answer.collect(read([started(), *calls, *pieces, ended("tool_use")])).choices[0].parts
    assert parts == (ToolCall("a", "a", "[]"), ToolCall("b", "b", "{}"))


def test_input_of_a_block_that_is_no_call_is_left_out() -> None:
    server = {"type": "server_tool_use", "id": "a", "name": "web_search", "input": {}}
    events = read([started(), begun(server), delta({"type": "input_json_delta", "partial_json": "{}"}), ended()])
    assert events == [Opaque("anthropic_messages", server), Finished("stop")]


def test_a_piece_that_says_nothing_is_no_event() -> None:
    empty = [{"type": "text_delta", "text": ""}, {"type": "thinking_delta", "thinking": ""},
             {"type": "signature_delta", "signature": ""}, {"type": "input_json_delta", "partial_json": ""},
             {"type": "citations_delta", "citation": {}}]  # fmt: skip
    assert read([started(), begun(block("")), *map(delta, empty), ended()]) == [Finished("stop")]


def test_a_reason_that_comes_twice_counts_once() -> None:
    events = [started({"input_tokens": 3}), ended(None), ended("max_tokens"), ended("end_turn")]
    assert [event for event in read(events) if isinstance(event, Finished)] == [Finished("length")]


@pytest.mark.parametrize("count", range(12))
def test_a_stream_without_its_reason_was_cut(count: int) -> None:
    with pytest.raises(ProviderError) as error:
        read(frames_of(STREAM)[:count])
    assert error.value.kind == "cut"


@pytest.mark.parametrize(
    ("type_", "kind"),
    [("overloaded_error", "unavailable"), ("rate_limit_error", "rate_limit"), ("api_error", "broken"),
     ("authentication_error", "auth"), ("timeout_error", "timeout")],
)  # fmt: skip
@pytest.mark.parametrize("fails", ["first", "later"])
def test_an_error_in_a_stream_is_an_error(fails: Any, type_: str, kind: str) -> None:
    fault = ("error", {"type": "error", "error": {"type": type_, "message": "No capacity in pool-7."}})
    with pytest.raises(ProviderError) as error:
        read(sse(*event) for event in failing(message_events(MODEL, Scene()), Scene(fails=fails), fault))
    assert (error.value.kind, error.value.retryable) == (kind, True)
    assert "pool-7" not in error.value.message


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
kinds = st.sampled_from(["message_start", "content_block_start", "content_block_delta", "content_block_stop", "error",
                         "message_delta", "message_stop", "text", "thinking", "tool_use", "text_delta",
                         "input_json_delta", "signature_delta"])  # fmt: skip
names = ("type", "index", "message", "usage", "content", "content_block", "delta", "text", "thinking", "signature",
         "input", "id", "name", "partial_json", "stop_reason", "input_tokens", "error", "code")  # fmt: skip
inner = st.dictionaries(st.sampled_from(names), odd | kinds, max_size=4)
objects = st.dictionaries(st.sampled_from(names), odd | kinds | inner | st.lists(inner, max_size=2), max_size=5)


@given(st.lists(objects | odd, min_size=1, max_size=3))
@settings(deadline=None, database=None, max_examples=300)
def test_any_json_is_events_or_a_fault_of_the_upstream(documents: list[Any]) -> None:
    try:
        Answer.collect(read([frame(document, "x") for document in documents]))
    except ProviderError as error:
        assert error.message.endswith(".")  # noqa: PT017 - events are as good


@given(objects | odd)
@settings(deadline=None, database=None, max_examples=300)
def test_any_json_is_an_answer_or_a_fault_of_the_upstream(document: Any) -> None:
    try:
        MESSAGES.read_answer(answer_document(json.dumps(document).encode()))
    except ProviderError as error:
        assert error.message.endswith(".")  # noqa: PT017 - an answer is as good


def test_every_thought_of_a_whole_answer_keeps_its_own_signature() -> None:
    redacted = {"type": "redacted_thinking", "data": "EmwKAhgB"}
    content = [
        {"type": "thinking", "thinking": "One.", "signature": "S1"},
        {"type": "text", "text": "So."},
        {"type": "thinking", "thinking": "Two.", "signature": "S2"},
        redacted,
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
    ]
    parts = read_whole(WHOLE | {"content": content}).choices[0].parts
    assert parts == (
        Thinking("One.", "S1"), Text("So."), Thinking("Two.", "S2"), Opaque(MESSAGES.name, redacted),
        ToolCall("toolu_1", "f", "{}"),
    )  # fmt: skip


def test_what_was_thought_is_counted() -> None:
    usage = {"input_tokens": 3, "output_tokens": 90, "output_tokens_details": {"thinking_tokens": 70}}
    answer = read_whole(WHOLE | {"usage": usage})
    assert answer.usage == Usage(input=3, output=90, reasoning=70)
    written = json.loads(MESSAGES.write_answer(answer, Stamp("7f", 0, "smart")))
    assert written["usage"]["output_tokens_details"] == {"thinking_tokens": 70}


def test_a_block_without_a_type_is_nobodys() -> None:
    frames = [
        {"type": "message_start", "message": {}},
        {"type": "content_block_start", "index": 0, "content_block": {"x": 1}},
    ]
    reader = MESSAGES.reader()
    assert [
        event for frame in frames for event in reader.read_frame(b"data: " + json.dumps(frame).encode() + b"\n\n")
    ] == []


def test_what_later_models_do_not_take_is_named() -> None:
    request = asked(temperature=0)
    assert MESSAGES.dropped(request, "claude-sonnet-4-5") == []
    assert MESSAGES.dropped(request, "claude-opus-4-7") == ["temperature"]
    assert "temperature" not in MESSAGES.write_request(request, "claude-opus-4-7")


THOUGHTS_OF_OTHERS = [
    {"type": "thinking", "thinking": "Hm.", "signature": ""},
    {"type": "thinking", "thinking": "Hm.", "signature": "openai_responses:gAAAA:rs_1"},
]


CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "It rains."}
CLEARING = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}, {"type": "clear_tool_uses_20250919"}]}
BUDGET = {"type": "enabled", "budget_tokens": 4000}


def straight(body: Json) -> Json:
    return MESSAGES.readdress(body, MESSAGES.peek(body), "claude-sonnet-4-5", True)


def conversation(*turns: Json, **more: Any) -> Json:
    return {"model": "smart", "max_tokens": 9000, "messages": [{"role": "user", "content": "Hi"}, *turns], **more}


@pytest.mark.parametrize("thought", THOUGHTS_OF_OTHERS)
def test_thoughts_of_others_do_not_go_straight_to_claude(thought: Json) -> None:
    turns = ({"role": "assistant", "content": [thought]}, {"role": "assistant", "content": [thought, CALL]})
    body = conversation(*turns, {"role": "user", "content": [RESULT]}, thinking=BUDGET, context_management=CLEARING)
    sent = straight(body)
    assert [message["content"] for message in sent["messages"]] == ["Hi", [CALL], [RESULT]]
    assert "thinking" not in sent, "Claude asks for the thoughts of a turn that goes on"
    assert sent["context_management"] == {"edits": CLEARING["edits"][1:]}, "nothing is there to be cleared"
    counted = anthropic_count_tokens.readdress(body, anthropic_count_tokens.peek(body), "claude-sonnet-4-5", True)
    assert counted["messages"] == sent["messages"]
    assert "thinking" in body, "the caller's own body stays as it was, for the next deployment"


@pytest.mark.parametrize(
    ("thinking", "last"),
    [({"type": "adaptive"}, [RESULT]), (BUDGET, "And tomorrow?"), (BUDGET, [{"type": "text", "text": "And then?"}])],
    ids=["Claude decides", "a next question", "a next question in a block"],
)
def test_thinking_goes_on_where_claude_does_not_ask_for_thoughts(thinking: Json, last: Any) -> None:
    turn = {"role": "assistant", "content": [THOUGHTS_OF_OTHERS[0], CALL]}
    body = conversation(turn, {"role": "user", "content": last}, thinking=thinking, context_management=CLEARING)
    sent = straight(body)
    assert sent["messages"][1]["content"] == [CALL]
    assert (sent["thinking"], sent["context_management"]) == (thinking, CLEARING)


def test_claudes_own_thoughts_go_straight_back() -> None:
    signed = {**THOUGHTS_OF_OTHERS[0], "signature": "ErUBCkYIBxgCIkD=="}
    body = conversation({"role": "assistant", "content": [signed, CALL]}, {"role": "user", "content": [RESULT]})
    assert straight(body) == {**body, "model": "claude-sonnet-4-5"}


def test_a_limit_too_low_to_think_takes_what_clears_thoughts_along() -> None:
    lowered, what = MESSAGES.clamp(conversation(thinking=BUDGET, context_management=CLEARING), 1000)
    assert (what, lowered["max_tokens"], "thinking" in lowered) == ("max_tokens", 1000, False)
    assert lowered["context_management"] == {"edits": CLEARING["edits"][1:]}
