"""Echo answers by itself: it repeats, streams word by word, stops in time, and embeds."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.base import Target, UpstreamModel
from providers.conversation import (
    Answer,
    ChatRequest,
    EmbeddingRequest,
    Finished,
    Image,
    JSONFormat,
    Message,
    Opaque,
    Text,
    TextDelta,
    Tool,
    ToolResult,
    Usage,
)
from providers.echo import SILENCE, Echo
from providers.wire.errors import CannotCarry

REPO = Path(__file__).resolve().parents[2]
ECHO = Echo()
HERE = Target("Echo", "echo", {})


def asking(text: str, **changes: Any) -> ChatRequest:
    return replace(ChatRequest("echo", (Message("user", (Text(text),)),)), **changes)


def events(request: ChatRequest, target: Target = HERE) -> list[Any]:
    return list(ECHO.answer(request, target, lambda seconds: None))


def text_of(request: ChatRequest) -> str:
    return "".join(event.text for event in events(request) if isinstance(event, TextDelta))


def test_it_repeats_the_last_user_message_word_by_word() -> None:
    assert events(asking("Hello, dear  echo!")) == [
        TextDelta("Hello,"),
        TextDelta(" dear"),
        TextDelta("  echo!"),
        Finished("stop"),
        Usage(input=3, output=3),
    ]


@given(st.text(min_size=1))
@settings(deadline=None, database=None)
def test_what_it_says_is_exactly_what_it_heard(text: str) -> None:
    assert text_of(asking(text)) == text


def test_it_repeats_the_user_not_the_others() -> None:
    conversation = (
        Message("system", (Text("Be kind."),)),
        Message("user", (Text("First"),)),
        Message("user", (Text("Ada"), Text("speaks"))),
        Message("assistant", (Text("Yes?"),)),
        Message("tool", (ToolResult("call_1", (Text("rain"),)),)),
    )
    answer = Answer.collect(events(asking("", messages=conversation)))
    assert answer.choices[0].parts == (Text("Ada speaks"),)
    assert answer.usage == Usage(input=2 + 1 + 2 + 1 + 1, output=2)


@pytest.mark.parametrize("messages", [(), (Message("user", ()),), (Message("system", (Text("x"),)),)])
def test_it_says_so_when_there_is_nothing_to_repeat(messages: tuple[Message, ...]) -> None:
    assert text_of(asking("", messages=messages)) == SILENCE


@pytest.mark.parametrize(
    ("limit", "said", "reason"),
    [(1, "one", "length"), (2, "one two", "length"), (3, "one two three", "stop"), (9, "one two three", "stop")],
)
def test_it_honours_max_tokens(limit: int, said: str, reason: str) -> None:
    answer = Answer.collect(events(asking("one two three", max_tokens=limit)))
    assert answer.choices[0].parts == (Text(said),)
    assert answer.choices[0].finish_reason == reason
    assert answer.usage == Usage(input=3, output=min(limit, 3))


def test_it_pauses_before_the_first_word_and_between_words() -> None:
    pauses: list[float] = []
    slow = Target("Echo", "echo", {"delay": "250", "word_delay": "40"})
    assert list(ECHO.answer(asking("one two three"), slow, pauses.append))
    assert pauses == [0.25, 0.04, 0.04]


def test_it_makes_a_word_only_when_it_is_asked_for() -> None:
    pauses: list[float] = []
    answer = ECHO.answer(asking("one two"), Target("Echo", "echo", {"delay": "1000"}), pauses.append)
    assert pauses == []
    assert next(answer) == TextDelta("one")
    assert pauses == [1]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": (Tool("f"),)}, "tools"),
        ({"json_format": JSONFormat()}, "response_format"),
        ({"n": 2}, "n"),
        ({"extras": {"logprobs": True}, "indispensable": frozenset(["logprobs"])}, "logprobs"),
        ({"messages": (Message("user", (Image("https://x.test/a.png"),)),)}, "messages"),
        ({"messages": (Message("user", (Opaque("openai_chat", {"type": "file"}),)),)}, "messages"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name_before_the_first_word(change: dict[str, Any], param: str) -> None:
    with pytest.raises(CannotCarry) as refusal:
        ECHO.answer(asking("Hello", **change), HERE, lambda seconds: None)
    assert refusal.value.param == param
    assert refusal.value.message.endswith(".")


def test_one_answer_may_be_asked_for_in_so_many_words() -> None:
    assert text_of(asking("Hello", n=1)) == "Hello"


def test_it_embeds_each_input_as_a_unit_vector_of_its_own() -> None:
    made = ECHO.embed(EmbeddingRequest("echo", ("one two", "three", (1, 2, 3))), HERE)
    assert [len(vector) for vector in made.vectors] == [64, 64, 64]
    assert all(math.isclose(sum(value**2 for value in vector), 1) for vector in made.vectors)
    assert len(set(made.vectors)) == 3
    assert made.usage == Usage(input=2 + 1 + 3)


def test_the_same_text_is_always_the_same_vector() -> None:
    ask = EmbeddingRequest("echo", ("grüße \ud83d",))
    assert ECHO.embed(ask, HERE) == ECHO.embed(replace(ask, user="ada"), HERE)


@pytest.mark.parametrize("size", [1, 8, 3072])
def test_a_vector_has_the_dimensions_it_was_asked_for(size: int) -> None:
    assert len(ECHO.embed(EmbeddingRequest("echo", ("a",), dimensions=size), HERE).vectors[0]) == size


EMBED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from providers.base import Target
from providers.conversation import EmbeddingRequest
from providers.echo import Echo
from providers.wire.errors import CannotCarry
try:
    Echo().embed(EmbeddingRequest("echo", ("a",), dimensions=int(sys.argv[1])), Target("Echo", "echo", {}))
except CannotCarry as refusal:
    print(refusal.param)
"""


@pytest.mark.parametrize("size", [10**8, 10**10, 2**64])
def test_more_dimensions_than_a_box_can_hold_are_refused_by_name(size: int) -> None:
    """In a process of its own with little memory: without the refusal it would take the whole box down."""
    ran = subprocess.run(
        [sys.executable, "-c", EMBED, str(size)], cwd=REPO, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "dimensions"


def test_it_speaks_no_language_and_knows_its_one_model() -> None:
    assert ECHO.answers_itself
    assert ECHO.speaks(UpstreamModel("echo"), HERE) == {}
    assert [model.name for model in ECHO.known_models()] == ["echo"]
    assert list(ECHO.models(HERE)) == []
