"""One contract for every caller's language over every account kind: the answer in the caller's words, or a refusal
that names the field as the caller calls it.

What is expected stands in `every_language.expected`; docs/languages.md shows it as a matrix.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.every_language import (
    BY_NAME,
    CALLED,
    DOCUMENT,
    EXCEPTIONS,
    FOLLOWS,
    LANGUAGES,
    ROWS,
    SIGNING,
    OpenAIStyle,
    Said,
    Spoken,
    documented,
    expected,
    matrix,
    post,
    said,
)
from tests.every_provider import BY_NAME as SYSTEMS_BY_NAME
from tests.every_provider import ROWS as PROVIDER_ROWS
from tests.every_provider import SYSTEMS, Bench, Dropped, No, Nothing, System
from tests.every_provider import expected as system_expected
from tests.fakes.scenes import PICTURE, TWO_CALLS, Scene
from tests.fakes.server import Exchange, Json
from tests.test_every_provider import SECRETIVE, THOUGHTS, forced

HEARD = "Grüezi!"


def every(row: str) -> Callable[..., Any]:
    """Each system in each language that can have this at all."""
    pairs = [
        pytest.param(system, language, id=f"{system.slug}-{language.path.strip('/').replace('/', '-')}")
        for system in SYSTEMS
        for language in LANGUAGES
        if not isinstance(expected(system, language, row), Nothing)
    ]
    return pytest.mark.parametrize(("system", "language"), pairs)


def both(at: Bench, system: System, language: Spoken, row: str, *wishes: Json) -> Iterator[Said]:
    """The answer whole and streamed; none when the system refuses, as it then must."""
    cell = expected(system, language, row)
    for stream in (False, True):
        if isinstance(cell, No):
            refused(at, system, language, cell.param, *wishes, stream=stream)
            continue
        answer = said(at.gateway, language, system.slug, *wishes, stream=stream)
        assert answer.complete
        assert answer.error == ""
        left_out = answer.headers.get("x-gateway-dropped", "").split(", ")
        assert (cell.field in left_out) if isinstance(cell, Dropped) else left_out == [""]
        yield answer


def refused(at: Bench, system: System, language: Spoken, param: str, *wishes: Json, stream: bool) -> None:
    before = len(at.heard(system))
    answer = post(at.gateway, language, system.slug, *wishes, stream=stream)
    assert answer.status == 400, answer
    message, named = language.error_of(answer)
    assert message
    if isinstance(language, OpenAIStyle):
        assert named == param, answer
    else:
        assert param in message, answer
    assert len(at.heard(system)) == before, "nobody upstream is asked for what cannot be had"


# ------------------------------------------------------------------------------------- what a caller has


@every("whole")
def test_an_answer_comes_whole(at: Bench, system: System, language: Spoken) -> None:
    at.scene(system, Scene())
    answer = said(at.gateway, language, system.slug)
    assert answer.text == (Scene().text if system.fake else HEARD)
    assert (answer.end, answer.calls, answer.thinking) == (language.ends[0], [], "")
    if system.fake:
        assert HEARD in at.raw(system)


@every("streamed")
def test_an_answer_comes_as_a_stream(at: Bench, system: System, language: Spoken) -> None:
    at.scene(system, Scene())
    answer = said(at.gateway, language, system.slug, language.ask(Scene().text), stream=True)
    assert answer.text == Scene().text
    assert answer.pieces > 1
    assert answer.complete
    assert (answer.end, answer.calls, answer.thinking) == (language.ends[0], [], "")


@every("tools")
def test_two_tools_are_called_at_once(at: Bench, system: System, language: Spoken) -> None:
    at.scene(system, Scene(text="", calls=TWO_CALLS))
    for answer in both(at, system, language, "tools", language.tools()):
        assert [(call["name"], call["arguments"]) for call in answer.calls] == [
            (name, arguments) for _, name, arguments in CALLED
        ]
        ids = [call["id"] for call in answer.calls]
        assert all(ids)
        assert len(set(ids)) == 2
        assert (answer.text, answer.end) == ("", language.ends[1])
        sent = at.raw(system)
        assert '"rain"' in sent
        assert "Whether it rains." in sent


@every("results")
def test_the_results_of_tools_are_sent_back(at: Bench, system: System, language: Spoken) -> None:
    at.scene(system, Scene())
    conversation = language.results(language.called())
    for answer in both(at, system, language, "results", language.tools(), conversation):
        assert (answer.text, answer.end) == (Scene().text, language.ends[0])
        sent = at.raw(system)
        assert "It pours in Bärn." in sent
        assert "dry" in sent
        assert "Zürich" in sent


@every("image")
def test_an_image_is_seen(at: Bench, system: System, language: Spoken) -> None:
    at.scene(system, Scene())
    for answer in both(at, system, language, "image", language.image()):
        assert answer.text == Scene().text
        sent = at.raw(system)
        assert PICTURE in sent
        assert "What is this?" in sent


@every("schema")
def test_an_answer_fits_a_json_schema(at: Bench, system: System, language: Spoken) -> None:
    ada = '{"given_name_of_ada": "Ada"}'

    def obey(exchange: Exchange) -> None:
        name = forced(exchange.body)
        scene = Scene(text="", calls=(("call_ada", name, ada),)) if name else Scene(text=ada)
        at.playing(system, scene)(exchange)

    if system.fake:
        at.fake(system).script(system.model, obey)
    for answer in both(at, system, language, "schema", language.schema()):
        assert json.loads(answer.text) == json.loads(ada)
        assert (answer.end, answer.calls) == (language.ends[0], [])
        assert "given_name_of_ada" in at.raw(system)


@every("thinking")
def test_thinking_is_asked_for_and_shown(at: Bench, system: System, language: Spoken) -> None:
    at.scene(system, THOUGHTS)
    cell = expected(system, language, "thinking")
    for answer in both(at, system, language, "thinking", language.thinking()):
        assert answer.text == (THOUGHTS.text if system.fake else HEARD)
        assert answer.end == language.ends[0]
        if isinstance(cell, Dropped):
            continue
        assert answer.thinking == ("" if system.name in SECRETIVE else THOUGHTS.thinking)
        sent = at.raw(system)
        assert '"low"' in sent or '"budget_tokens": 1024' in sent, "it was asked for"


@every("signed")
def test_signed_thinking_comes_back_as_it_was(at: Bench, system: System, language: Spoken) -> None:
    wishes = (language.tools(), language.thinking())
    for stream in (False, True):
        at.forget()
        at.scene(system, replace(THOUGHTS, text="", calls=TWO_CALLS), Scene())
        first = said(at.gateway, language, system.slug, *wishes, stream=stream)
        assert (first.thinking, len(first.calls)) == (THOUGHTS.thinking, 2)
        second = said(at.gateway, language, system.slug, *wishes, language.results(first.turn), stream=stream)
        assert second.text == Scene().text
        body = at.heard(system)[-1].body
        if system.fake == "openai":
            assert first.turn[0]["encrypted_content"]
            assert body["input"][1] == first.turn[0]
            continue
        thought, *calls = body["messages"][1]["content"]
        assert thought == {"type": "thinking", "thinking": THOUGHTS.thinking, "signature": THOUGHTS.signature}
        assert [call["type"] for call in calls] == ["tool_use", "tool_use"]
        assert body["thinking"]["type"] == "enabled", "it goes on thinking"


@every("stop")
def test_stop_sequences_are_heeded(at: Bench, system: System, language: Spoken) -> None:
    at.scene(system, Scene(text="one two"))
    asked = language.ask("one two HALT three")
    for answer in both(at, system, language, "stop", asked, language.stop("HALT", "never")):
        assert (answer.text.strip(), answer.end) == ("one two", language.ends[0])
        if system.fake:
            assert '"HALT"' in at.raw(system)


@every("usage")
def test_tokens_are_counted_in_the_callers_words(at: Bench, system: System, language: Spoken) -> None:
    counts_cached = not isinstance(system_expected(system, "cached"), Nothing)
    at.scene(system, Scene(cached_tokens=8 if counts_cached else 0))
    made = (21, 9, 8 if counts_cached else 0) if system.fake else (1, 1, 0)
    for answer in both(at, system, language, "usage"):
        assert answer.usage == (made if language.counts_cached else made[:2])


@every("length")
def test_an_answer_that_was_too_long_says_so(at: Bench, system: System, language: Spoken) -> None:
    at.scene(system, Scene(finish="length", output_tokens=3))
    asked = language.ask("one two three four")
    for answer in both(at, system, language, "length", asked, language.limited(3)):
        assert answer.end == language.ends[2]
        assert answer.text == (Scene().text if system.fake else "one two three")
        if system.fake:
            assert ": 3" in at.raw(system), "the limit is the upstream's business too"


# --------------------------------------------------------------------------------------- what goes wrong


@every("error first")
def test_an_error_before_the_first_word_has_a_status(at: Bench, system: System, language: Spoken) -> None:
    at.scene(system, Scene(fails="first"))
    for stream in (False, True):
        failed = post(at.gateway, language, system.slug, stream=stream)
        assert failed.status in (429, 502, 503, 504), failed
        message, _ = language.error_of(failed)
        assert message


@every("error later")
def test_a_stream_that_breaks_says_so_in_the_callers_words(at: Bench, system: System, language: Spoken) -> None:
    at.scene(system, Scene(fails="later"))
    answer = said(at.gateway, language, system.slug, stream=True)
    assert answer.text, "what had come is with the caller"
    assert Scene().text.startswith(answer.text)
    assert answer.error
    assert (answer.complete, answer.end) == (False, "")


# ------------------------------------------------------------------------------------------- the matrix


def test_the_tables_of_expectations_speak_of_what_there_is() -> None:
    for system, language, row in EXCEPTIONS:
        assert system in SYSTEMS_BY_NAME
        assert language in BY_NAME
        assert row in ROWS
    assert SIGNING.keys() <= SYSTEMS_BY_NAME.keys()
    assert {FOLLOWS.get(row, row) for row in ROWS} <= PROVIDER_ROWS.keys()
    assert all(row in ROWS for language in LANGUAGES for row in language.lacks)


def test_the_documentation_shows_the_matrix_as_it_was_measured() -> None:
    shown = documented(DOCUMENT.read_text())
    assert shown == matrix(), "Write it anew: python -m tests.every_language"
