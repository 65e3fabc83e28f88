"""The OpenAI SDK's chat, completions and embeddings over a real inference server."""

from __future__ import annotations

import asyncio
import json

import pytest
from openai import AsyncOpenAI, AuthenticationError, BadRequestError, NotFoundError, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.engine.conftest import MODEL
from tests.live.server import Gateway

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
RAIN = {
    "type": "function",
    "function": {
        "name": "rain",
        "parameters": {"type": "object", "properties": {"city": {"type": "boolean"}}, "required": ["city"]},
    },
}


def test_chat(client: OpenAI, engine: Gateway) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, max_tokens=6)
    answer = raw.parse()
    assert answer.model == MODEL
    assert answer.usage is not None
    row = engine.row(raw.headers["x-request-id"])
    assert (row["input_tokens"], row["output_tokens"]) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert (row["ending"], row["lane"], row["tokens_from"]) == ("completed", "straight", "upstream")


def test_stream_with_and_without_usage(client: OpenAI) -> None:
    for wish in (False, True):
        options = {"stream_options": {"include_usage": True}} if wish else {}
        chunks = list(
            client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=6, stream=True, **options)  # type: ignore[call-overload]
        )
        assert {chunk.model for chunk in chunks} == {MODEL}
        assert [chunk for chunk in chunks if chunk.choices][-1].choices[0].finish_reason
        assert bool(chunks[-1].usage) is wish


def test_tools_round_trip(client: OpenAI) -> None:
    first = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        tools=[RAIN],
        tool_choice="required",
        max_tokens=500,  # type: ignore[list-item]
    )
    assert first.choices[0].finish_reason == "tool_calls"
    call = first.choices[0].message.tool_calls[0]  # type: ignore[index]
    assert json.loads(call.function.arguments).keys() == {"city"}  # type: ignore[union-attr]
    messages = [*HELLO, first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "No."}]
    again = client.chat.completions.create(model=MODEL, messages=messages, tools=[RAIN], max_tokens=5)  # type: ignore[arg-type,list-item]
    assert again.choices


def test_tools_streamed(client: OpenAI) -> None:
    chunks = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        tools=[RAIN],
        tool_choice="required",
        max_tokens=500,
        stream=True,  # type: ignore[list-item]
    )
    calls = [call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
    assert calls[0].id
    first = [call.function.arguments or "" for call in calls if call.function and call.index == 0]
    assert json.loads("".join(first)).keys() == {"city"}


def test_json_schema(client: OpenAI) -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    answer = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        max_tokens=60,
        response_format={"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}},
    )
    assert isinstance(json.loads(answer.choices[0].message.content or "")["yes"], bool)


def test_completions(client: OpenAI) -> None:
    assert client.completions.create(model=MODEL, prompt="Once", max_tokens=4).usage
    assert list(client.completions.create(model=MODEL, prompt="Once", max_tokens=4, stream=True))[-1].model == MODEL


def test_embeddings_as_float_and_base64(client: OpenAI) -> None:
    floats = client.embeddings.create(model="embed", input=["a", "b"], encoding_format="float")
    packed = client.embeddings.create(model="embed", input=["a", "b"], encoding_format="base64")
    default = client.embeddings.create(model="embed", input=["a", "b"])
    assert len(floats.data) == len(packed.data) == 2
    assert default.data[0].embedding == pytest.approx(floats.data[0].embedding, abs=1e-3)


def test_models(client: OpenAI) -> None:
    assert MODEL in {model.id for model in client.models.list()}
    assert client.models.retrieve(MODEL).id == MODEL


def test_errors(client: OpenAI, engine: Gateway) -> None:
    with pytest.raises(NotFoundError):
        client.chat.completions.create(model="nobody", messages=HELLO)
    with pytest.raises(BadRequestError):
        client.chat.completions.create(model=MODEL, messages=[])
    with pytest.raises(BadRequestError):
        client.chat.completions.create(model=MODEL, messages=HELLO, response_format={"type": "odd"})  # type: ignore[call-overload]
    with (
        OpenAI(base_url=client.base_url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(AuthenticationError),
    ):
        stranger.models.list()


def test_the_same_asynchronously(engine: Gateway) -> None:
    async def ask() -> None:
        async with AsyncOpenAI(base_url=f"{engine.url}/v1", api_key=engine.key, max_retries=0) as client:
            answers = await asyncio.gather(
                *(client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=4) for _ in range(4))
            )
            assert {answer.model for answer in answers} == {MODEL}
            stream = await client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=4, stream=True)
            assert [chunk async for chunk in stream]

    asyncio.run(ask())
