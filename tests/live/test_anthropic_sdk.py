"""What anthropic-python and Claude Code see: the live gunicorn over a strict Anthropic server, and another kind."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest
from anthropic.types import MessageParam, ToolParam

from tests.fakes.anthropic import KEY, FakeAnthropic
from tests.fakes.openai import FakeOpenAI
from tests.fakes.scenes import TWO_CALLS, Scene
from tests.live.server import Gateway

CLAUDE, GPT = "claude-fake", "gpt-fake"
GREETING: list[MessageParam] = [{"role": "user", "content": "Grüezi, Zürich"}]
RAIN: ToolParam = {"name": "rain", "description": "How much.", "input_schema": {"type": "object", "properties": {}}}
BETAS = ["interleaved-thinking-2025-05-14", "invented-tomorrow-2099-01-01"]


@pytest.fixture(scope="module")
def server(live: Gateway) -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as server:
        live.manage(
            "connect", "anthropic", "claude", "--set", f"url={server.url}", "--secret", f"api_key={KEY}",
            "--routes", "all",
        )  # fmt: skip
        yield server


@pytest.fixture
def claude(server: FakeAnthropic) -> Iterator[FakeAnthropic]:
    server.forget()
    yield server
    assert server.complaints == []


@pytest.fixture
def client(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


def test_a_stream_of_claude_goes_straight_through(client: anthropic.Anthropic, claude: FakeAnthropic) -> None:
    scene = Scene(thinking="Let me see.", signature="c2lnbmVk", calls=TWO_CALLS, cached_tokens=5)
    claude.scene(CLAUDE, scene)
    claude.also_known.add("context_management")
    with client.beta.messages.stream(
        model=CLAUDE, max_tokens=99, messages=GREETING, tools=[RAIN], betas=BETAS,  # type: ignore[arg-type, list-item]
        extra_body={"context_management": {"edits": []}},
    ) as stream:  # fmt: skip
        answer = stream.get_final_message()
    assert [block.type for block in answer.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert (answer.model, answer.usage.cache_read_input_tokens) == (CLAUDE, 5)
    heard = claude.heard(CLAUDE)
    assert heard.headers["anthropic-beta"] == ",".join(BETAS)
    assert heard.body["context_management"] == {"edits": []}


def test_a_whole_answer_of_claude_comes_under_the_routes_name(
    gateway: Gateway, client: anthropic.Anthropic, claude: FakeAnthropic
) -> None:
    gateway.route("Our Claude", f"claude:{CLAUDE}")
    answer = client.messages.create(model="Our Claude", max_tokens=9, messages=GREETING)
    assert (answer.model, answer.stop_reason) == ("Our Claude", "end_turn")
    assert gateway.row(answer._request_id)["route_name"] == "Our Claude"
    assert "anthropic-beta" not in claude.heard(CLAUDE).headers


def test_another_kind_of_upstream_answers_in_messages(client: anthropic.Anthropic, upstream: FakeOpenAI) -> None:
    whole = client.messages.create(model=GPT, max_tokens=99, messages=GREETING, system="Be kind.")
    with client.messages.stream(model=GPT, max_tokens=99, messages=GREETING, system="Be kind.") as stream:
        streamed = stream.get_final_message()
    assert [block.text for block in whole.content] == [block.text for block in streamed.content]  # type: ignore[union-attr]
    assert whole.usage.output_tokens == streamed.usage.output_tokens > 0
    assert "anthropic-version" not in upstream.heard(GPT).headers


def test_tokens_are_counted_by_the_upstream_or_estimated(client: anthropic.Anthropic, claude: FakeAnthropic) -> None:
    counted = client.messages.with_raw_response.count_tokens(model=CLAUDE, messages=GREETING)
    assert "x-gateway-estimated" not in counted.headers
    assert counted.parse().input_tokens > 0
    guessed = client.messages.with_raw_response.count_tokens(model=GPT, messages=GREETING, tools=[RAIN])
    assert guessed.headers["x-gateway-estimated"] == "true"
    assert 5 < guessed.parse().input_tokens < 60


def test_to_count_costs_nothing(gateway: Gateway, client: anthropic.Anthropic, claude: FakeAnthropic) -> None:
    ids = [
        client.messages.with_raw_response.count_tokens(model=name, messages=GREETING).headers["x-request-id"]
        for name in (CLAUDE, GPT)
    ]
    for id in ids:
        row = gateway.row(id)
        assert (row["input_tokens"], row["output_tokens"], row["cost"]) == (0, 0, 0)


def test_errors_are_spelt_as_anthropic_does(gateway: Gateway, client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="No model named 'nobody'") as absent:
        client.messages.create(model="nobody", max_tokens=9, messages=GREETING)
    assert absent.value.body["error"]["type"] == "not_found_error"  # type: ignore[index, call-overload]
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        client.messages.create(model=GPT, max_tokens=0, messages=GREETING)
    with pytest.raises(anthropic.BadRequestError, match="tools"):
        client.messages.create(
            model=GPT, max_tokens=9, messages=GREETING, tools=[{"type": "bash_20250124", "name": "bash"}]
        )
    with (
        anthropic.Anthropic(base_url=gateway.url, api_key="sk-nobodys", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError) as error,
    ):
        stranger.messages.create(model=GPT, max_tokens=9, messages=GREETING)
    assert error.value.body["error"]["type"] == "authentication_error"  # type: ignore[index, call-overload]


def test_an_error_of_claude_keeps_its_own_words(client: anthropic.Anthropic, claude: FakeAnthropic) -> None:
    claude.refuse(CLAUDE, 400, "prompt is too long: 210000 tokens > 200000 maximum")
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long: 210000 tokens"):
        client.messages.create(model=CLAUDE, max_tokens=9, messages=GREETING)
