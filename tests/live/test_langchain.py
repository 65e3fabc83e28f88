"""What LangChain sees: `ChatOpenAI` at the live gateway, in Chat and in Responses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

from tests.fakes.openai import PROMPT_TOKENS, FakeOpenAI
from tests.live.server import Gateway

SAID, SAID_TOKENS = "You said: Grüezi, Zürich", 4


class Person(BaseModel):
    name: str
    age: int


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}."


Model = Callable[[str], ChatOpenAI]


@pytest.fixture(params=[False, True], ids=["Chat", "Responses"])
def model(gateway: Gateway, request: pytest.FixtureRequest) -> Model:
    def make(name: str) -> ChatOpenAI:
        return ChatOpenAI(
            model=name,
            base_url=f"{gateway.url}/v1",
            api_key=SecretStr(gateway.key),
            max_retries=0,
            timeout=20,
            use_responses_api=request.param,
            store=False if request.param else None,
        )

    return make


def test_a_model_is_invoked(model: Model) -> None:
    answer = model("gpt-fake").invoke("Grüezi, Zürich")
    assert answer.text == SAID
    assert isinstance(answer, AIMessage)
    assert answer.usage_metadata
    assert (answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"]) == (
        PROMPT_TOKENS,
        SAID_TOKENS,
    )


def test_a_model_is_streamed(model: Model) -> None:
    pieces = list(model("gpt-fake").stream("Grüezi, Zürich"))
    assert "".join(piece.text for piece in pieces) == SAID
    assert len([piece for piece in pieces if piece.text]) > 1


def test_tools_are_bound_and_their_results_sent_back(model: Model, upstream: FakeOpenAI) -> None:
    bound = model("tools").bind_tools([weather])
    asked = [HumanMessage("Does it rain?")]
    called = bound.invoke(asked)
    assert isinstance(called, AIMessage)
    assert [call["args"] for call in called.tool_calls] == [{"city": "Zürich"}, {"city": "Oslo"}]
    results = [
        ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]) for call in called.tool_calls if call["id"]
    ]
    assert bound.invoke([*asked, called, *results]).text == "The tools say: Rain in Zürich.; Rain in Oslo."


def test_an_answer_has_the_structure_that_was_asked_for(model: Model) -> None:
    shaped = model("gpt-fake").with_structured_output(Person, method="json_schema")
    assert shaped.invoke("Who?") == Person(name="Ada", age=36)


def test_texts_become_vectors(gateway: Gateway) -> None:
    embedder = OpenAIEmbeddings(
        model="embed-fake",
        base_url=f"{gateway.url}/v1",
        api_key=SecretStr(gateway.key),
        check_embedding_ctx_length=False,
    )
    one, two = embedder.embed_documents(["one", "two"])
    assert one != two
    assert embedder.embed_query("one") == pytest.approx(one)
