"""What openai-python sees: the live gunicorn over a strict OpenAI-compatible upstream."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam, ChatCompletionToolParam
from openai.types.responses import FunctionToolParam, ResponseInputParam
from pydantic import BaseModel

from tests.fakes.openai import (
    CACHED_TOKENS,
    KEY,
    PROMPT_TOKENS,
    REASONING_TOKENS,
    FakeOpenAI,
    answer,
    redirect,
    refusal,
)
from tests.fakes.server import Gate
from tests.live.server import Gateway
from tests.live.wire import CHAT, Answer, Caller, call, chat, events, stream

ODD_NAMES = ["snowflake[claude-3-5-sonnet]", "team/best:latest", "Our Best Model"]
GREETING: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Grüezi, Zürich"}]
SAID = "You said: Grüezi, Zürich"
SAID_TOKENS = 4
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module", autouse=True)
def odd_routes(live: Gateway) -> None:
    for name in ODD_NAMES:
        live.route(name, "fake:gpt-fake")
    live.route("sdk-hang", "hasty:hang-before-headers")
    live.manage("route", "brief", "fake:gpt-fake", "--max-output-tokens", "16")


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def in_async(gateway: Gateway) -> Callable[[Callable[[openai.AsyncOpenAI], Coroutine[Any, Any, None]]], None]:
    """Runs a coroutine with an asynchronous client."""

    def run(use: Callable[[openai.AsyncOpenAI], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            url = f"{gateway.url}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key=gateway.key, max_retries=0, timeout=20) as client:
                await use(client)

        # In a thread of its own: a browser test before this one leaves Playwright's event loop in this one.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, main()).result()

    return run


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


# -------------------------------------------------------------------------------------------------- chat


def test_a_chat_is_answered(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="gpt-fake", messages=GREETING)
    assert completion.object == "chat.completion"
    assert completion.choices[0].message.content == SAID
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (PROMPT_TOKENS, SAID_TOKENS)


def test_a_chat_is_streamed(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="gpt-fake", messages=GREETING, stream=True) as chunks:
        received = list(chunks)
    assert text_of(received) == SAID
    assert len(received) == SAID_TOKENS + 2  # the role, the words, the finish
    assert received[0].choices[0].delta.role == "assistant"
    assert received[-1].choices[0].finish_reason == "stop"
    assert {chunk.object for chunk in received} == {"chat.completion.chunk"}


def test_a_stream_brings_usage_to_those_who_ask(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="gpt-fake", messages=GREETING, stream=True, stream_options={"include_usage": True}
    ) as chunks:
        received = list(chunks)
    assert text_of(received) == SAID
    assert received[-1].choices == []
    assert received[-1].usage is not None
    assert received[-1].usage.total_tokens == PROMPT_TOKENS + SAID_TOKENS
    assert all(chunk.usage is None for chunk in received[:-1])


def test_a_stream_ends_in_openais_order(gateway: Gateway) -> None:
    head, received = stream(gateway, chat("gpt-fake", stream_options={"include_usage": True}))
    assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert head.headers["cache-control"] == "no-cache"
    assert head.headers["x-accel-buffering"] == "no"
    *deltas, finish, usage, done = received
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["prompt_tokens"] == PROMPT_TOKENS
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert all(delta["choices"][0]["finish_reason"] is None for delta in deltas)


def test_a_stream_keeps_its_usage_from_those_who_did_not_ask(gateway: Gateway, upstream: FakeOpenAI) -> None:
    _, received = stream(gateway, chat("gpt-fake"))
    assert received[-1] == "[DONE]"
    assert received[-2]["choices"][0]["finish_reason"] == "stop"
    assert not [event for event in received[:-1] if event["choices"] == [] or event.get("usage")]
    assert upstream.heard("gpt-fake").body["stream_options"]["include_usage"] is True


def test_a_caller_may_decline_usage_in_words(gateway: Gateway, upstream: FakeOpenAI) -> None:
    answered, received = stream(gateway, chat("gpt-fake", stream_options={"include_usage": False}))
    assert not [event for event in received[:-1] if event["choices"] == []]
    assert gateway.row(answered.request_id)["input_tokens"] == PROMPT_TOKENS


@pytest.mark.parametrize("model", ["usage-null", "crlf", "comments", "torn", "model-last", "invents", "counts"])
def test_streams_of_every_dialect_arrive_whole(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.create(
        model=model, messages=GREETING, stream=True, stream_options={"include_usage": True}
    ) as chunks:
        received = list(chunks)
    assert text_of(received) == SAID
    assert {chunk.model for chunk in received} == {model}
    assert received[-1].usage is not None
    assert received[-2].choices[0].finish_reason == "stop"


def test_usage_null_in_every_chunk_is_no_usage_chunk(gateway: Gateway) -> None:
    answered, received = stream(gateway, chat("usage-null"))
    assert len([event for event in received[:-1] if event["choices"]]) == len(received) - 1
    assert not [event for event in received[:-1] if event.get("usage")]
    assert gateway.row(answered.request_id)["input_tokens"] == PROMPT_TOKENS


def test_an_answer_compressed_unasked_is_read_or_refused_and_never_passed_on_as_it_is(gateway: Gateway) -> None:
    answered = call(gateway, CHAT, chat("gzip", "Grüezi, Zürich"))
    if answered.status == 200:
        assert answered.json()["choices"][0]["message"]["content"] == SAID
    else:
        assert answered.status == 502
        assert answered.error


def test_the_developer_role_and_both_names_of_max_tokens_are_accepted(
    client: openai.OpenAI, upstream: FakeOpenAI
) -> None:
    client.chat.completions.create(
        model="gpt-fake",
        messages=[{"role": "developer", "content": "Be brief."}, *GREETING],
        max_tokens=50,
        max_completion_tokens=50,
    )
    sent = upstream.heard("gpt-fake").body
    assert (sent["max_tokens"], sent["max_completion_tokens"]) == (50, 50)
    assert sent["messages"][0]["role"] == "developer"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_request_for_more_than_the_route_allows_is_clamped_and_told_so(
    gateway: Gateway, upstream: FakeOpenAI, field: str
) -> None:
    clamped = call(gateway, CHAT, chat("brief", **{field: 100}))
    assert upstream.heard("gpt-fake").body[field] == 16
    assert field in clamped.headers["x-gateway-clamped"]
    within = call(gateway, CHAT, chat("brief", **{field: 9}))
    assert upstream.heard("gpt-fake", 2).body[field] == 9
    assert "x-gateway-clamped" not in within.headers
    streamed, _ = stream(gateway, chat("brief", **{field: 100}))
    assert upstream.heard("gpt-fake", 3).body[field] == 16
    assert field in streamed.headers["x-gateway-clamped"]


def test_fields_the_caller_left_out_are_left_out(gateway: Gateway, upstream: FakeOpenAI) -> None:
    call(gateway, CHAT, chat("gpt-fake"))
    assert set(upstream.heard("gpt-fake").body) - {"stream"} == {"model", "messages"}


# ------------------------------------------------------------------------------------------------- tools


def test_two_parallel_tool_calls_make_the_round_trip(client: openai.OpenAI, upstream: FakeOpenAI) -> None:
    first = client.chat.completions.create(model="tools", messages=GREETING, tools=[WEATHER])
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls is not None
    assert [json.loads(each.function.arguments) for each in message.tool_calls if each.type == "function"] == [
        {"city": "Zürich"},
        {"city": "Oslo"},
    ]
    second = client.chat.completions.create(
        model="tools",
        messages=[
            *GREETING,
            message,  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "21 °C"},
            {"role": "tool", "tool_call_id": message.tool_calls[1].id, "content": "12 °C"},
        ],
        tools=[WEATHER],
    )
    assert second.choices[0].message.content == "The tools say: 21 °C; 12 °C"
    assert upstream.heard("tools", 2).body["tools"] == [WEATHER]


def test_streamed_tool_calls_carry_index_id_and_type(gateway: Gateway) -> None:
    _, received = stream(gateway, chat("tools", tools=[WEATHER]))
    deltas = [
        delta
        for event in received[:-1]
        for choice in event["choices"]
        for delta in choice["delta"].get("tool_calls") or []
    ]
    assert all("index" in delta for delta in deltas)
    for index, city in ((0, "Zürich"), (1, "Oslo")):
        mine = [delta for delta in deltas if delta["index"] == index]
        assert mine[0]["id"].startswith(f"call_{index}_")
        assert mine[0]["type"] == "function"
        assert mine[0]["function"]["name"] == "weather"
        assert len(mine) > 2, "arguments come in pieces"
        assert json.loads("".join(delta["function"]["arguments"] for delta in mine)) == {"city": city}
    assert received[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_the_sdk_puts_streamed_tool_calls_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="tools", messages=GREETING, tools=[WEATHER]) as pieces:
        calls = pieces.get_final_completion().choices[0].message.tool_calls or []
    assert [json.loads(each.function.arguments)["city"] for each in calls] == ["Zürich", "Oslo"]


def test_a_tool_call_left_without_result_is_refused_in_the_upstreams_words(client: openai.OpenAI) -> None:
    call_of_nobody: ChatCompletionMessageParam = {
        "role": "assistant",
        "tool_calls": [{"id": "call_lost", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
    }
    with pytest.raises(openai.BadRequestError, match="call_lost"):
        client.chat.completions.create(model="tools", messages=[*GREETING, call_of_nobody], tools=[WEATHER])


# ------------------------------------------------------------------------------------------ JSON answers


def test_an_answer_follows_a_json_schema(client: openai.OpenAI, upstream: FakeOpenAI) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    completion = client.chat.completions.create(
        model="gpt-fake",
        messages=GREETING,
        response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}},
    )
    assert json.loads(completion.choices[0].message.content or "") == {"city": "Ada"}
    assert upstream.heard("gpt-fake").body["response_format"]["json_schema"]["schema"] == schema


def test_parse_gives_objects(client: openai.OpenAI) -> None:
    completion = client.chat.completions.parse(model="gpt-fake", messages=GREETING, response_format=Person)
    assert completion.choices[0].message.parsed == Person(name="Ada", age=36)


def test_parse_gives_objects_from_a_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="gpt-fake", messages=GREETING, response_format=Person) as pieces:
        assert pieces.get_final_completion().choices[0].message.parsed == Person(name="Ada", age=36)


# --------------------------------------------------------------------------------------------- responses


@pytest.fixture(params=["straight", "translated"])
def responder(live: Gateway, upstream: FakeOpenAI, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """The route to a model of a server that knows Responses, or of one that only chats."""
    if request.param == "straight":
        return lambda model: model
    upstream.absent.add("/v1/responses")

    def route(model: str) -> str:
        live.route(f"{model}-chats", f"fake:{model}")
        live.noticed()
        return f"{model}-chats"

    return route


Responder = Callable[[str], str]
FORECAST: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city.",
    "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def test_a_response_is_created(
    client: openai.OpenAI, gateway: Gateway, upstream: FakeOpenAI, responder: Responder
) -> None:
    name = responder("gpt-fake")
    raw = client.responses.with_raw_response.create(
        model=name, input="Grüezi, Zürich", instructions="Be kind.", store=False
    )
    response = raw.parse()
    assert (response.output_text, response.model, response.status) == (SAID, name, "completed")
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (PROMPT_TOKENS, SAID_TOKENS)
    sent = upstream.asked("gpt-fake")[-1]
    assert sent.path == ("/v1/responses" if name == "gpt-fake" else "/v1/chat/completions")
    assert "Be kind." in str(sent.body)
    row = gateway.row(raw.headers["x-request-id"])
    assert (row["language_in"], row["input_tokens"]) == ("openai_responses", PROMPT_TOKENS)


def test_a_response_is_streamed(client: openai.OpenAI, responder: Responder) -> None:
    with client.responses.stream(model=responder("gpt-fake"), input="Grüezi, Zürich", store=False) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds.count("response.output_text.delta") == SAID_TOKENS
    assert kinds[-1] == "response.completed"
    assert final.output_text == SAID


def test_a_response_is_parsed(client: openai.OpenAI, responder: Responder) -> None:
    name = responder("gpt-fake")
    parsed = client.responses.parse(model=name, input="Who?", text_format=Person, store=False)
    assert parsed.output_parsed == Person(name="Ada", age=36)
    with client.responses.stream(model=name, input="Who?", text_format=Person, store=False) as stream:
        stream.until_done()
        assert stream.get_final_response().output_parsed == Person(name="Ada", age=36)


def test_tools_of_a_response_make_the_round_trip(client: openai.OpenAI, responder: Responder) -> None:
    name = responder("tools")
    asked: ResponseInputParam = [{"role": "user", "content": "Does it rain?"}]
    with client.responses.stream(model=name, input=asked, tools=[FORECAST], store=False) as stream:
        stream.until_done()
        first = stream.get_final_response()
    calls = [item for item in first.output if item.type == "function_call"]
    assert [json.loads(call.arguments)["city"] for call in calls] == ["Zürich", "Oslo"]
    conversation: Any = [
        *asked,
        *(item.model_dump(exclude={"parsed_arguments"}, exclude_none=True) for item in first.output),
        *({"type": "function_call_output", "call_id": call.call_id, "output": "Wet."} for call in calls),
    ]
    second = client.responses.create(model=name, input=conversation, tools=[FORECAST], store=False)
    assert second.output_text == "The tools say: Wet.; Wet."


def test_a_response_that_must_be_stored_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="gpt-fake", input="And then?", previous_response_id="resp_1")
    assert refused.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_1")


# ---------------------------------------------------------------------------- completions and embeddings


def test_a_legacy_completion_is_answered(client: openai.OpenAI, upstream: FakeOpenAI) -> None:
    completion = client.completions.create(model="gpt-fake", prompt="Once", suffix=" The end.", max_tokens=9)
    assert completion.object == "text_completion"
    assert completion.choices[0].text == " and so on The end."
    assert completion.model == "gpt-fake"
    assert upstream.heard("gpt-fake").path == "/v1/completions"


def test_a_legacy_completion_is_streamed(client: openai.OpenAI, gateway: Gateway) -> None:
    raw = client.completions.with_raw_response.create(model=ODD_NAMES[0], prompt="Once", stream=True)
    received = list(raw.parse())
    assert "".join(chunk.choices[0].text for chunk in received) == " and so on"
    assert {chunk.model for chunk in received} == {ODD_NAMES[0]}
    row = gateway.row(raw.headers["x-request-id"])
    assert (row["input_tokens"], row["output_tokens"], row["ending"]) == (PROMPT_TOKENS, 3, "completed")


def test_a_legacy_completion_brings_usage_to_those_who_ask(client: openai.OpenAI) -> None:
    with client.completions.create(
        model="gpt-fake", prompt="Once", stream=True, stream_options={"include_usage": True}
    ) as chunks:
        received = list(chunks)
    assert received[-1].choices == []
    assert received[-1].usage is not None
    assert received[-1].usage.completion_tokens == 3


def test_embeddings_are_the_same_as_floats_and_as_base64(client: openai.OpenAI, upstream: FakeOpenAI) -> None:
    floats = client.embeddings.create(model="embed-fake", input=["one", "two"], encoding_format="float")
    packed = client.embeddings.create(model="embed-fake", input=["one", "two"], encoding_format="base64")
    unasked = client.embeddings.create(model="embed-fake", input=["one", "two"])  # base64 on the wire, decoded
    assert [item.index for item in floats.data] == [0, 1]
    assert floats.data[0].embedding != floats.data[1].embedding
    assert [item.embedding for item in unasked.data] == [item.embedding for item in floats.data]
    sealed = [base64.b64decode(str(item.embedding)) for item in packed.data]
    assert [list(struct.unpack("<8f", each)) for each in sealed] == [item.embedding for item in floats.data]
    assert floats.model == "embed-fake"
    assert floats.usage.prompt_tokens == 2


def test_embeddings_take_one_text_tokens_and_dimensions(client: openai.OpenAI, upstream: FakeOpenAI) -> None:
    assert len(client.embeddings.create(model="embed-fake", input="one", dimensions=3).data[0].embedding) == 3
    assert len(client.embeddings.create(model="embed-fake", input=[[1, 2], [3]]).data) == 2
    assert upstream.heard("embed-fake", 2).body["input"] == [[1, 2], [3]]


# ------------------------------------------------------------------------------------------------ models


def test_models_are_listed(client: openai.OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert {"gpt-fake", "org/gpt-fake:free", "echo", *ODD_NAMES} <= set(models)
    assert models["gpt-fake"].object == "model"
    assert models["gpt-fake"].created > 0
    assert models["gpt-fake"].owned_by


@pytest.mark.parametrize("name", ["gpt-fake", "org/gpt-fake:free", *ODD_NAMES])
def test_a_model_is_found_by_its_name(client: openai.OpenAI, name: str) -> None:
    assert client.models.retrieve(name).id == name


@pytest.mark.parametrize("path", ["/v1/models/org/gpt-fake:free", "/v1/models/snowflake[claude-3-5-sonnet]"])
def test_a_model_is_found_by_its_name_unescaped(gateway: Gateway, path: str) -> None:
    assert call(gateway, path, None, "GET").json()["id"] == path.removeprefix("/v1/models/")


def test_a_model_that_is_not_there_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("no-such/model:1")
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize("name", ["org/gpt-fake:free", *ODD_NAMES])
def test_answers_name_the_route_that_was_asked(client: openai.OpenAI, upstream: FakeOpenAI, name: str) -> None:
    assert client.chat.completions.create(model=name, messages=GREETING).model == name
    with client.chat.completions.create(model=name, messages=GREETING, stream=True) as chunks:
        assert {chunk.model for chunk in chunks} == {name}
    upstream_name = name if name == "org/gpt-fake:free" else "gpt-fake"
    assert [each.model for each in upstream.asked()] == [upstream_name, upstream_name]


def test_an_answer_that_talks_about_the_upstreams_model_is_not_edited(gateway: Gateway, upstream: FakeOpenAI) -> None:
    talk = 'Send {"model":"gpt-fake"} or {"model": "gpt-fake"} to the server.'
    upstream.script("gpt-fake", answer(talk))
    whole = call(gateway, CHAT, chat(ODD_NAMES[1])).json()
    assert whole["choices"][0]["message"]["content"] == talk
    assert whole["model"] == ODD_NAMES[1]
    _, received = stream(gateway, chat(ODD_NAMES[1]))
    said = "".join(event["choices"][0]["delta"].get("content") or "" for event in received[:-1])
    assert said == talk
    assert {event["model"] for event in received[:-1]} == {ODD_NAMES[1]}


def test_the_route_is_named_where_the_model_comes_after_the_choices(gateway: Gateway, live: Gateway) -> None:
    live.route("llama", "fake:model-last")
    _, received = stream(gateway, chat("llama", stream_options={"include_usage": True}))
    assert {event["model"] for event in received[:-1]} == {"llama"}
    assert call(gateway, CHAT, chat("llama")).json()["model"] == "llama"


# -------------------------------------------------------------------------------- what passes untouched


def test_fields_nobody_knows_yet_reach_the_upstream_untouched(gateway: Gateway, upstream: FakeOpenAI) -> None:
    invented = {"thinking": {"budget": 1024, "keep": [None, 2.50]}, "guided_regex": "^é+$", "seed": 2**70}
    upstream.also_known |= set(invented)
    sent = chat(ODD_NAMES[0], "snow\ud83d", temperature=1.0, user="ada", **invented)
    assert call(gateway, CHAT, sent).status == 200
    assert upstream.heard("gpt-fake").body == sent | {"model": "gpt-fake"}
    assert call(gateway, CHAT, sent | {"stream": True}).status == 200
    asked = sent | {"model": "gpt-fake", "stream": True, "stream_options": {"include_usage": True}}
    assert upstream.heard("gpt-fake", 2).body == asked


def test_other_stream_options_stay(gateway: Gateway, upstream: FakeOpenAI) -> None:
    stream(gateway, chat("gpt-fake", stream_options={"include_obfuscation": False}))
    options = upstream.heard("gpt-fake").body["stream_options"]
    assert options == {"include_obfuscation": False, "include_usage": True}


def test_fields_nobody_knows_yet_reach_the_caller_untouched(gateway: Gateway) -> None:
    invented = {"tomorrow": [1, 2.5, None]}
    assert call(gateway, CHAT, chat("invents")).json()["x_invented"] == invented
    _, received = stream(gateway, chat("invents"))
    assert all(event["x_invented"] == invented for event in received[:-1])


def test_an_unknown_field_is_refused_only_by_the_upstream(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="gpt-fake", messages=GREETING, extra_body={"frobnicate": 1})
    assert refused.value.param == "frobnicate"
    assert refused.value.code == "unknown_parameter"
    assert "Unknown parameter: 'frobnicate'." in refused.value.message


def test_the_upstreams_headers_stay_behind(gateway: Gateway) -> None:
    for answered in (call(gateway, CHAT, chat("gpt-fake")), stream(gateway, chat("gpt-fake"))[0]):
        assert "set-cookie" not in answered.headers
        assert "openai-organization" not in answered.headers
        assert answered.headers.get("server") != "fake-upstream"
        assert not answered.request_id.startswith("req_upstream")


def test_the_callers_headers_stay_here(gateway: Gateway, upstream: FakeOpenAI) -> None:
    headers = {"cookie": "sessionid=abc", "x_api_key": gateway.key, "x_forwarded_for": "203.0.113.7"}
    assert call(gateway, CHAT, chat("gpt-fake"), **headers).status == 200
    heard = upstream.heard("gpt-fake")
    assert gateway.key not in str(heard.headers)
    assert heard.headers["authorization"] == f"Bearer {KEY}"


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    "model",
    [
        "status-500",
        "status-503",
        "html-500",
        "not-json",
        "invalid-json",
        "close-without-answer",
        "reset-without-answer",
        "status-401",
        "status-403",
    ],
)
def test_a_broken_upstream_is_the_gateways_error(client: openai.OpenAI, gateway: Gateway, model: str) -> None:
    with pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(model=model, messages=GREETING)
    assert refused.value.status_code in (502, 503)
    answered = refused.value.response
    error = Answer(answered.status_code, dict(answered.headers), answered.content).error
    assert "sk-upst" not in answered.text, "not a word about our credentials"
    assert "API key" not in error["message"]
    row = gateway.row(refused.value.request_id)
    assert (row["status"], row["ending"]) == (refused.value.status_code, "failed")
    assert row["error_code"]


def test_an_upstreams_redirect_is_never_followed(gateway: Gateway, upstream: FakeOpenAI) -> None:
    with FakeOpenAI() as elsewhere:
        upstream.script("scripted", redirect(f"{elsewhere.url}/chat/completions"))
        answered = call(gateway, CHAT, chat("scripted"))
        assert answered.status == 502
        assert answered.error["message"]
        assert elsewhere.requests == []
        assert elsewhere.url not in answered.body.decode()


def test_an_unknown_key_is_an_authentication_error(gateway: Gateway) -> None:
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="sk-sb-nobody", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        stranger.chat.completions.create(model="gpt-fake", messages=GREETING)
    assert refused.value.code == "invalid_api_key"
    assert refused.value.request_id


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="fast-2", messages=GREETING)
    assert refused.value.code == "model_not_found"
    assert "fast-2" in refused.value.message


def test_a_key_for_management_may_not_ask_models(gateway: Gateway) -> None:
    printed = gateway.manage("apikey", "create", "admin", "steward", "--management").stdout
    key = next(word for word in printed.split() if word.startswith("sk-sb-"))
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as steward,
        pytest.raises(openai.PermissionDeniedError) as refused,
    ):
        steward.chat.completions.create(model="gpt-fake", messages=GREETING)
    assert refused.value.request_id


def test_an_upstreams_rate_limit_says_when_to_come_back(client: openai.OpenAI, gateway: Gateway) -> None:
    with pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(model="status-429", messages=GREETING)
    assert refused.value.response.headers["retry-after"] == "7"
    assert gateway.row(refused.value.request_id)["status"] == 429


def test_an_upstream_without_the_model_is_no_success(client: openai.OpenAI, gateway: Gateway) -> None:
    with pytest.raises((openai.NotFoundError, openai.InternalServerError)) as refused:
        client.chat.completions.create(model="status-404", messages=GREETING)
    assert gateway.row(refused.value.request_id)["ending"] == "failed"


def test_an_upstreams_unprocessable_entity_is_a_bad_request(client: openai.OpenAI, upstream: FakeOpenAI) -> None:
    upstream.script("scripted", refusal(400, "Input should be less than 2.", param="temperature"))
    with pytest.raises(openai.BadRequestError, match="less than 2") as refused:
        client.chat.completions.create(model="scripted", messages=GREETING, temperature=9)
    assert refused.value.param == "temperature"
    upstream.script("scripted", refusal(422, "Input should be less than 2.", param="temperature"))
    with pytest.raises(openai.BadRequestError, match="less than 2"):
        client.chat.completions.create(model="scripted", messages=GREETING, temperature=9)


def test_an_upstream_that_is_too_slow_is_a_gateway_timeout(client: openai.OpenAI, gateway: Gateway) -> None:
    with pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(model="sdk-hang", messages=GREETING, stream=True)
    assert refused.value.status_code == 504
    row = gateway.row(refused.value.request_id)
    assert (row["status"], row["ending"]) == (504, "failed")


def test_a_client_that_loses_patience_is_a_client_gone(
    client: openai.OpenAI, gateway: Gateway, upstream: FakeOpenAI
) -> None:
    began = datetime.now(UTC)
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).chat.completions.create(model="hang-before-headers", messages=GREETING)
    assert upstream.heard("hang-before-headers").wait_left(1)
    assert gateway.newest_row("hang-before-headers", began)["ending"] == "client_gone"


def test_an_error_in_mid_stream_is_an_exception(client: openai.OpenAI) -> None:
    received = []
    with pytest.raises(openai.APIError) as broken:
        for chunk in client.chat.completions.create(model="error-event-late", messages=GREETING, stream=True):
            received.append(chunk)
    assert text_of(received) == "You said:"
    assert broken.value.message


# ----------------------------------------------------------------------------- credentials, paths, heads


@pytest.mark.parametrize("header", ["x-api-key", "api-key"])
def test_a_key_may_come_in_other_headers(gateway: Gateway, header: str) -> None:
    answered = call(gateway, CHAT, chat("gpt-fake"), authorization=None, **{header: gateway.key})
    assert answered.status == 200


def test_azure_style_clients_are_served(gateway: Gateway) -> None:
    headers = {"api-key": gateway.key, "Authorization": ""}
    with openai.OpenAI(
        base_url=f"{gateway.url}/v1", api_key="unused", default_headers=headers, max_retries=0
    ) as client:
        assert client.chat.completions.create(model="gpt-fake", messages=GREETING).choices


@pytest.mark.parametrize("path", ["chat/completions", "completions", "embeddings", "models", "models/gpt-fake"])
def test_the_api_is_also_below_api(gateway: Gateway, path: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "chat/completions": chat("gpt-fake"),
        "completions": {"model": "gpt-fake", "prompt": "Once"},
        "embeddings": {"model": "embed-fake", "input": "one"},
    }
    method = "POST" if path in bodies else "GET"
    assert call(gateway, f"/api/v1/{path}", bodies.get(path), method).status == 200


def test_the_sdk_works_below_api(gateway: Gateway) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/api/v1", api_key=gateway.key, max_retries=0) as client:
        assert client.chat.completions.create(model="gpt-fake", messages=GREETING).choices[0].message.content == SAID


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions/"),
        ("POST", "/api/v1/chat/completions/"),
        ("POST", "/v1/embeddings/"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/gpt-fake/"),
        ("GET", "/v1"),
        ("GET", "/v1/"),
        ("POST", "/v1/no/such/thing"),
    ],
)
def test_no_api_path_redirects(gateway: Gateway, method: str, path: str) -> None:
    answered = call(gateway, path, chat("gpt-fake") if method == "POST" else None, method)
    assert not 300 <= answered.status < 400, answered
    if answered.status != 200:
        assert answered.error


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", CHAT, 200),
        ("GET", "/v1/models", 200),
        ("GET", CHAT, 405),
        ("POST", "/v1/models", 405),
        ("DELETE", "/v1/models/gpt-fake", 405),
        ("POST", "/v1/nothing-here", 404),
        ("GET", "/v1/models/nothing-here", 404),
    ],
)
def test_every_answer_has_a_request_id_of_ours(gateway: Gateway, method: str, path: str, status: int) -> None:
    body = chat("gpt-fake") if method == "POST" else None
    answered = call(gateway, path, body, method, x_request_id="theirs-1")
    assert answered.status == status
    assert answered.request_id
    assert answered.request_id != "theirs-1"
    if status >= 400:
        assert answered.error


def test_every_call_has_a_request_id_of_its_own(client: openai.OpenAI) -> None:
    ids = {client.models.with_raw_response.list().request_id for _ in range(5)}
    ids |= {client.chat.completions.create(model="gpt-fake", messages=GREETING)._request_id for _ in range(5)}
    assert len(ids) == 10
    assert None not in ids


STAINLESS = "lang package-version os arch runtime runtime-version retry-count timeout helper-method poll-helper"
ASKED_HEADERS = [
    *"authorization content-type x-api-key openai-organization openai-project".split(),
    *"anthropic-version anthropic-beta".split(),
    *(f"x-stainless-{name}" for name in STAINLESS.split()),
]


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/api/v1/embeddings"])
def test_a_browser_may_ask_first(gateway: Gateway, path: str) -> None:
    answered = call(
        gateway,
        path,
        None,
        "OPTIONS",
        authorization=None,
        origin="https://chat.example.com",
        access_control_request_method="POST",
        access_control_request_headers=", ".join(ASKED_HEADERS),
    )
    assert answered.status in (200, 204)
    assert answered.headers["access-control-allow-origin"] in ("https://chat.example.com", "*")
    assert "POST" in answered.headers["access-control-allow-methods"]
    allowed = {name.strip().lower() for name in answered.headers["access-control-allow-headers"].split(",")}
    assert set(ASKED_HEADERS) <= allowed
    assert answered.request_id


def test_a_browser_may_read_answers_and_errors(gateway: Gateway) -> None:
    origin = "https://chat.example.com"
    answers = [call(gateway, CHAT, chat(model), origin=origin) for model in ("gpt-fake", "fast-2", "status-500")]
    answers.append(stream(gateway, chat("gpt-fake"), origin=origin)[0])
    answers.append(call(gateway, CHAT, chat("gpt-fake"), origin=origin, authorization="Bearer sk-sb-nobody"))
    for answered in answers:
        assert answered.headers["access-control-allow-origin"] in (origin, "*"), answered


def test_a_page_from_elsewhere_may_not_read(gateway: Gateway) -> None:
    answered = call(gateway, CHAT, chat("gpt-fake"), origin="https://evil.example.net")
    assert "access-control-allow-origin" not in answered.headers


def test_empty_and_unknown_headers_are_no_errors(gateway: Gateway, upstream: FakeOpenAI) -> None:
    headers = {"OpenAI-Organization": "", "OpenAI-Project": "", "X-Whatever": "1", "Accept": "text/html"}
    assert call(gateway, "/v1/models", None, "GET", **headers).json()["object"] == "list"
    assert call(gateway, CHAT, chat("gpt-fake"), **headers).status == 200


def test_api_paths_answer_to_any_host(gateway: Gateway) -> None:
    assert call(gateway, CHAT, chat("gpt-fake"), host="gateway:8000").status == 200
    assert call(gateway, "/v1/models", None, "GET", host="gateway:8000").status == 200


# ------------------------------------------------------------------------------------------- usage rows


def test_a_whole_answer_leaves_its_row(client: openai.OpenAI, gateway: Gateway) -> None:
    raw = client.chat.completions.with_raw_response.create(model=ODD_NAMES[0], messages=GREETING, user="ada")
    row = gateway.row(raw.headers["x-request-id"])
    assert (row["status"], row["ending"], row["lane"], bool(row["streamed"])) == (200, "completed", "straight", False)
    assert (row["input_tokens"], row["output_tokens"]) == (PROMPT_TOKENS, SAID_TOKENS)
    assert row["tokens_from"] == "upstream"
    assert (row["route_name"], row["profile_name"], row["upstream_model"]) == (ODD_NAMES[0], "fake", "gpt-fake")
    assert row["language_in"] == row["language_out"] != ""
    assert row["end_user"] == "ada"
    assert row["owner_name"] == "admin"
    assert row["key_name"]
    assert row["error_code"] == ""
    assert len(attempts(row)) == 1
    assert str(row["id"]).replace("-", "")[12] == "7", "a UUIDv7"


def test_a_streamed_answer_leaves_its_row(client: openai.OpenAI, gateway: Gateway) -> None:
    raw = client.chat.completions.with_raw_response.create(model="counts", messages=GREETING, stream=True)
    assert text_of(list(raw.parse())) == SAID
    row = gateway.row(raw.headers["x-request-id"])
    assert (row["status"], row["ending"], row["lane"], bool(row["streamed"])) == (200, "completed", "straight", True)
    assert (row["output_tokens"], row["tokens_from"]) == (SAID_TOKENS, "upstream")
    assert (row["cached_tokens"], row["reasoning_tokens"]) == (CACHED_TOKENS, REASONING_TOKENS)
    assert 0 <= row["first_token_ms"] <= row["duration_ms"]


def test_the_first_token_is_timed_when_it_came_and_not_at_the_end(gateway: Gateway, upstream: FakeOpenAI) -> None:
    gate = Gate()
    upstream.script("scripted", answer(gate=gate))
    with Caller(gateway) as caller:
        caller.ask(CHAT, chat("scripted", stream=True))
        gate.allow(3)
        _, headers = caller.head()
        frames = caller.frames()
        received = [next(frames), next(frames)]
        assert not upstream.heard("scripted").wait_left(0.3), "nobody leaves while the model thinks"
        gate.open()
        received += list(frames)
    assert events(received)[-1] == "[DONE]"
    row = gateway.row(headers["x-request-id"])
    assert row["duration_ms"] - row["first_token_ms"] >= 250


def test_a_callers_own_request_id_is_kept_beside_ours(gateway: Gateway) -> None:
    answered = call(gateway, CHAT, chat("gpt-fake"), x_request_id="theirs-7")
    assert gateway.row(answered.request_id)["client_request_id"] == "theirs-7"


def test_a_frontends_word_about_its_user_counts_only_for_keys_that_trust_it(gateway: Gateway) -> None:
    key = gateway.apikey("ada", "open webui")
    told = {"x_openwebui_user_id": "42", "x_openwebui_user_email": "grace@example.com"}

    def end_user() -> str:
        answered = call(gateway, CHAT, chat("gpt-fake"), authorization=f"Bearer {key}", **told)
        return str(gateway.row(answered.request_id)["end_user"])

    assert end_user() == ""
    gateway.change_key("open webui", trusts_user_headers=True)
    gateway.noticed()
    assert end_user() in told.values()


def test_each_call_is_one_line_of_json_in_the_log(gateway: Gateway) -> None:
    answered = call(gateway, CHAT, chat("gpt-fake", "a secret prompt"))
    gateway.row(answered.request_id)
    lines = [line for line in gateway.log.read_text().splitlines() if answered.request_id in line]
    assert [json.loads(line)["request_id"] for line in lines] == [answered.request_id]
    assert "secret prompt" not in gateway.log.read_text()


def test_an_embedding_leaves_its_row(client: openai.OpenAI, gateway: Gateway) -> None:
    raw = client.embeddings.with_raw_response.create(model="embed-fake", input=["one two", "three"])
    row = gateway.row(raw.headers["x-request-id"])
    assert (row["ending"], row["lane"], row["input_tokens"], row["output_tokens"]) == ("completed", "straight", 3, 0)


@pytest.mark.parametrize("streamed", [True, False])
def test_an_upstream_that_does_not_count_is_estimated(gateway: Gateway, streamed: bool) -> None:
    answered = call(gateway, CHAT, chat("no-usage", "Count these six little words, please.", stream=streamed))
    row = gateway.row(answered.request_id)
    assert row["tokens_from"] == "estimated"
    assert row["input_tokens"] > 0
    assert row["output_tokens"] > 0


def test_the_echo_answers_through_the_translated_lane(client: openai.OpenAI, gateway: Gateway) -> None:
    raw = client.chat.completions.with_raw_response.create(model="echo", messages=GREETING, stream=True)
    assert text_of(list(raw.parse())).strip() == "Grüezi, Zürich"
    row = gateway.row(raw.headers["x-request-id"])
    assert row["ending"] == "completed"
    assert row["lane"] not in ("", "straight")
    whole = client.chat.completions.create(model="echo", messages=GREETING)
    assert (whole.choices[0].message.content or "").strip() == "Grüezi, Zürich"
    assert whole.model == "echo"


def test_listing_models_leaves_no_row(client: openai.OpenAI, gateway: Gateway) -> None:
    listed = client.models.with_raw_response.list().headers["x-request-id"]
    asked = client.chat.completions.with_raw_response.create(model="gpt-fake", messages=GREETING)
    gateway.row(asked.headers["x-request-id"])
    assert gateway.rows(request_id=listed) == []


def attempts(row: dict[str, Any]) -> list[Any]:
    kept = row["attempts"]
    return list(json.loads(kept) if isinstance(kept, str) else kept)


# ------------------------------------------------------------------------------------ the async client

RunAsync = Callable[[Callable[[openai.AsyncOpenAI], Coroutine[Any, Any, None]]], None]


def test_async_a_chat_is_answered_and_streamed(in_async: RunAsync) -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        completion = await client.chat.completions.create(model="gpt-fake", messages=GREETING)
        assert completion.choices[0].message.content == SAID
        async with await client.chat.completions.create(
            model="gpt-fake", messages=GREETING, stream=True, stream_options={"include_usage": True}
        ) as chunks:
            received = [chunk async for chunk in chunks]
        assert text_of(received) == SAID
        assert received[-1].usage is not None

    in_async(use)


def test_async_tools_schemas_completions_and_embeddings(in_async: RunAsync) -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        async with client.chat.completions.stream(model="tools", messages=GREETING, tools=[WEATHER]) as pieces:
            calls = (await pieces.get_final_completion()).choices[0].message.tool_calls or []
        assert [json.loads(each.function.arguments)["city"] for each in calls] == ["Zürich", "Oslo"]
        parsed = await client.chat.completions.parse(model="gpt-fake", messages=GREETING, response_format=Person)
        assert parsed.choices[0].message.parsed == Person(name="Ada", age=36)
        assert (await client.completions.create(model="gpt-fake", prompt="Once")).choices[0].text == " and so on"
        floats = await client.embeddings.create(model="embed-fake", input="one", encoding_format="float")
        packed = await client.embeddings.create(model="embed-fake", input="one")
        assert floats.data[0].embedding == packed.data[0].embedding
        assert "gpt-fake" in {model.id async for model in client.models.list()}
        assert (await client.models.retrieve("org/gpt-fake:free")).id == "org/gpt-fake:free"

    in_async(use)


def test_async_errors_have_their_classes(in_async: RunAsync) -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        expected: dict[str, type[openai.APIStatusError]] = {
            "fast-2": openai.NotFoundError,
            "status-429": openai.RateLimitError,
            "status-500": openai.InternalServerError,
        }
        for model, kind in expected.items():
            with pytest.raises(kind) as refused:
                await client.chat.completions.create(model=model, messages=GREETING)
            assert refused.value.request_id
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="gpt-fake", messages=[])
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="sk-sb-nobody").chat.completions.create(model="echo", messages=GREETING)
        with pytest.raises(openai.APITimeoutError):
            await client.with_options(timeout=0.5).chat.completions.create(
                model="hang-before-headers", messages=GREETING
            )

    in_async(use)


def test_async_forty_callers_at_once_each_get_their_own_answer(in_async: RunAsync) -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        async def ask(number: int) -> None:
            messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": f"I am number {number}"}]
            if number % 2:
                completion = await client.chat.completions.create(model="gpt-fake", messages=messages)
                assert completion.choices[0].message.content == f"You said: I am number {number}"
            else:
                async with await client.chat.completions.create(
                    model="gpt-fake", messages=messages, stream=True
                ) as chunks:
                    assert text_of([chunk async for chunk in chunks]) == f"You said: I am number {number}"

        await asyncio.gather(*(ask(number) for number in range(40)))

    in_async(use)
