"""One contract for every account kind: what a caller asks in OpenAI's words is carried, or refused by name.

What is expected of which system stands in `every_provider.EXPECTED`; docs/providers.md shows it as a matrix.
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import replace

import pytest

from tests.every_provider import (
    BY_NAME,
    DOCUMENT,
    EXPECTED,
    RESCUE,
    ROWS,
    Bench,
    Dropped,
    Folded,
    No,
    System,
    Whole,
    cells,
    documented,
    expected,
    matrix,
)
from tests.fakes.scenes import PICTURE, TWO_CALLS, Scene
from tests.fakes.server import Exchange, Json
from tests.live import wire

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "rain",
            "description": "Whether it rains.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "when": {"type": ["string", "null"]}},
                "required": ["city"],
            },
        },
    }
]
SCHEMA = {
    "type": "object",
    "properties": {"given_name_of_ada": {"type": "string"}},
    "required": ["given_name_of_ada"],
    "additionalProperties": False,
}
GREETING = {"role": "user", "content": "Grüezi!"}
THOUGHTS = Scene(thinking="Ich überlege: 雨?", signature="c2lnbmVk")
# These think without saying what, or only count it.
SECRETIVE = ("Snowflake: OpenAI", "SAP: GPT", "SAP: o3-mini")


def every(row: str) -> pytest.MarkDecorator:
    systems = cells(row)
    return pytest.mark.parametrize("system", systems, ids=[system.slug for system in systems])


# ------------------------------------------------------------------------------------- what a caller has


@every("whole")
def test_an_answer_comes_whole(at: Bench, system: System) -> None:
    at.scene(system, Scene())
    answer = at.whole(system)
    assert answer.text == (Scene().text if system.fake else "Grüezi!")
    assert answer.finish == ["stop"]
    assert answer.calls == []
    assert answer.usage
    assert answer.usage["total_tokens"] == answer.usage["prompt_tokens"] + answer.usage["completion_tokens"]
    if system.fake:
        assert (answer.usage["prompt_tokens"], answer.usage["completion_tokens"]) == (21, 9)


@every("streamed")
def test_an_answer_comes_as_a_stream(at: Bench, system: System) -> None:
    at.scene(system, Scene())
    answer = at.stream(system, messages=[{"role": "user", "content": Scene().text}])
    assert answer.text == Scene().text
    assert answer.contents > 1
    assert answer.finish == ["stop"]
    assert answer.done
    assert answer.error is None
    assert answer.usage
    if system.fake:
        assert (answer.usage["prompt_tokens"], answer.usage["completion_tokens"]) == (21, 9)
    assert at.stream(system, stream_options=None).usage is None, "only those who ask for it are told"


@every("tools")
def test_two_tools_are_called_at_once(at: Bench, system: System) -> None:
    at.scene(system, Scene(text="", calls=TWO_CALLS))
    for answer in at.both(system, "tools", messages=[GREETING], tools=TOOLS):
        assert [(call["name"], json.loads(call["arguments"])) for call in answer.calls] == [
            (name, json.loads(arguments)) for _, name, arguments in TWO_CALLS
        ]
        ids = [call["id"] for call in answer.calls]
        assert all(ids)
        assert len(set(ids)) == 2
        assert answer.finish == ["tool_calls"]
        assert "rain" in at.raw(system)


@every("results")
def test_the_results_of_tools_are_sent_back(at: Bench, system: System) -> None:
    at.scene(system, Scene())
    calls = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for id, name, arguments in TWO_CALLS
    ]
    conversation = [
        GREETING,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_bern", "content": "It pours in Bärn."},
        {"role": "tool", "tool_call_id": "call_oslo", "content": '{"dry": true}'},
    ]
    for answer in at.both(system, "results", messages=conversation, tools=TOOLS):
        assert answer.text == Scene().text
        sent = at.raw(system)
        assert "It pours in Bärn." in sent
        assert "dry" in sent
        assert "Zürich" in sent


@every("image")
def test_an_image_is_seen(at: Bench, system: System) -> None:
    at.scene(system, Scene())
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
    ]
    for answer in at.both(system, "image", messages=[{"role": "user", "content": parts}]):
        assert answer.text == Scene().text
        assert PICTURE in at.raw(system)


@every("schema")
def test_an_answer_fits_a_json_schema(at: Bench, system: System) -> None:
    ada = '{"given_name_of_ada": "Ada"}'

    def obey(exchange: Exchange) -> None:
        name = forced(exchange.body)
        scene = Scene(text="", calls=(("call_ada", name, ada),)) if name else Scene(text=ada)
        at.playing(system, scene)(exchange)

    if system.fake:
        at.fake(system).script(system.model, obey)
    wish = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": SCHEMA}}
    for answer in at.both(system, "schema", messages=[GREETING], response_format=wish):
        assert json.loads(answer.text) == json.loads(ada)
        assert answer.finish == ["stop"]
        assert answer.calls == []
        assert "given_name_of_ada" in at.raw(system)


def forced(body: Json) -> str:
    """The tool a request makes the model call, where that is how an answer in JSON is had."""
    anthropic = body.get("tool_choice") or {}
    converse = ((body.get("toolConfig") or {}).get("toolChoice") or {}).get("tool") or {}
    name = anthropic.get("name") if isinstance(anthropic, dict) and anthropic.get("type") == "tool" else None
    return str(name or converse.get("name") or "")


@every("stop")
def test_stop_sequences_are_heeded(at: Bench, system: System) -> None:
    at.scene(system, Scene(text="one two"))
    asked = {"role": "user", "content": "one two HALT three"}
    for answer in at.both(system, "stop", messages=[asked], stop=["HALT", "never"]):
        assert answer.text.strip() == "one two"
        assert answer.finish == ["stop"]
        if system.fake:
            assert '"HALT"' in at.raw(system)


@every("system")
def test_a_system_message_may_stand_in_the_middle(at: Bench, system: System) -> None:
    at.scene(system, Scene())
    conversation = [
        {"role": "system", "content": "You know {{?everything}}."},
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "Ada."},
        {"role": "developer", "content": "From now on, be brief."},
        {"role": "user", "content": "Where are you? {{?here}}"},
    ]
    for answer in at.both(system, "system", messages=conversation):
        assert answer.text == (Scene().text if system.fake else "Where are you? {{?here}}")
        if system.fake:
            sent = at.raw(system)
            for message in conversation:
                assert message["content"] in sent


@every("thinking")
def test_thinking_is_asked_for_and_shown(at: Bench, system: System) -> None:
    at.scene(system, THOUGHTS)
    for answer in at.both(system, "thinking", messages=[GREETING], reasoning_effort="low"):
        assert answer.text == (THOUGHTS.text if system.fake else "Grüezi!")
        if isinstance(expected(system, "thinking"), Dropped) or system.name in SECRETIVE:
            continue
        assert answer.thinking == THOUGHTS.thinking
        assert answer.finish == ["stop"]
    if system.name in SECRETIVE:
        assert '"low"' in at.raw(system), "it was asked for"


@every("embeddings")
def test_vectors_come_as_numbers_and_in_base64(at: Bench, system: System) -> None:
    cell, path, text = expected(system, "embeddings"), "/v1/embeddings", "Grüezi"
    if isinstance(cell, No):
        at.refused(system, cell.param, path=path, input=text)
        return
    model = f"{system.slug}-embed"
    numbers = at.post(model, path, input=text)
    assert numbers.status == 200, numbers
    [row] = numbers.json()["data"]
    assert all(isinstance(number, float) for number in row["embedding"])
    encoded = at.post(model, path, input=text, encoding_format="base64").json()["data"][0]["embedding"]
    vector = base64.b64decode(encoded)
    assert list(struct.unpack(f"<{len(vector) // 4}f", vector)) == pytest.approx(row["embedding"], rel=1e-6)
    assert numbers.json()["model"] == model


@every("cached")
def test_tokens_from_a_cache_are_counted(at: Bench, system: System) -> None:
    at.scene(system, Scene(cached_tokens=8))
    ids = []
    for answer in at.both(system, "cached", messages=[GREETING]):
        assert answer.usage
        assert answer.usage["prompt_tokens"] == 21
        assert answer.usage["prompt_tokens_details"]["cached_tokens"] == 8
        ids.append(answer.headers["x-request-id"])
    for id in ids:
        row = at.gateway.row(id)
        assert (row["input_tokens"], row["cached_tokens"], row["output_tokens"]) == (21, 8, 9)


@every("length")
def test_an_answer_that_was_too_long_says_so(at: Bench, system: System) -> None:
    at.scene(system, Scene(finish="length", output_tokens=3))
    asked = {"role": "user", "content": "one two three four"}
    for answer in at.both(system, "length", messages=[asked], max_tokens=3):
        assert answer.finish == ["length"]
        assert answer.text == (Scene().text if system.fake else "one two three")


@every("filter")
def test_an_answer_that_was_filtered_says_so(at: Bench, system: System) -> None:
    at.scene(system, Scene(finish="filter"))
    whole, streamed = at.both(system, "filter", messages=[GREETING])
    assert whole.finish == ["content_filter"]
    assert streamed.finish == ["stop" if isinstance(expected(system, "filter"), Whole) else "content_filter"]


# --------------------------------------------------------------------------------------- what goes wrong


@every("error first")
def test_an_error_before_the_first_word_is_an_error_or_another_deployment_answers(at: Bench, system: System) -> None:
    at.scene(system, Scene(fails="first"))
    at.fakes["openai"].scene("gpt-fake", Scene(text=RESCUE))
    if system.fake == "openai":
        at.fakes["openai"].scene("gpt-fake", Scene(fails="first"), Scene(text=RESCUE))
    for stream in (False, True):
        rescued = at.post(f"{system.slug}-then", stream=stream)
        assert rescued.status == 200, rescued
        assert RESCUE in rescued.body.decode()
        at.scene(system, Scene(fails="first"))
        failed = at.post(system.slug, stream=stream)
        assert failed.status in (429, 502, 503, 504), failed
        assert failed.error["type"] in ("api_error", "rate_limit_error")
        if system.fake == "openai":
            at.fakes["openai"].scene("gpt-fake", Scene(fails="first"), Scene(text=RESCUE))


@pytest.mark.parametrize("fails", ["later", "cut"])
@every("error later")
def test_a_stream_that_breaks_ends_with_an_error(at: Bench, system: System, fails: str) -> None:
    at.scene(system, replace(Scene(), fails=fails))
    answer = at.stream(system)
    assert answer.text, "what had come is with the caller"
    assert Scene().text.startswith(answer.text)
    assert answer.error
    assert answer.error["type"] == "api_error"
    assert not answer.done
    assert answer.finish == []
    whole = at.post(system.slug)
    assert whole.status in (429, 502, 503, 504), whole
    assert whole.error["message"]


@every("bytes")
def test_every_byte_may_come_alone(at: Bench, system: System) -> None:
    scene = Scene(calls=TWO_CALLS, bytes_at_once=1)
    tools = isinstance(expected(system, "tools"), No)
    at.scene(system, replace(scene, calls=()) if tools else scene)
    asked = {"messages": [GREETING]} if tools else {"messages": [GREETING], "tools": TOOLS}
    for answer in (at.whole(system, **asked), at.stream(system, **asked)):
        if system.fake != "openai":  # which says nothing beside its calls
            assert answer.text == Scene().text
        if not tools:
            assert json.loads(answer.calls[1]["arguments"]) == json.loads(TWO_CALLS[1][2])


@every("crlf")
def test_lines_may_end_as_on_windows(at: Bench, system: System) -> None:
    at.scene(system, Scene(crlf=True))
    answer = at.stream(system)
    assert (answer.text, answer.finish, answer.done) == (Scene().text, ["stop"], True)
    assert answer.usage


@every("comments")
def test_comments_are_no_events(at: Bench, system: System) -> None:
    at.scene(system, Scene(comments=True))
    answer = at.stream(system)
    assert (answer.text, answer.finish, answer.done) == (Scene().text, ["stop"], True)
    assert answer.usage


@every("refusals")
@pytest.mark.parametrize("status", [404, 429, 503, 401])
def test_what_an_upstream_refuses_is_told_in_the_gateways_words(at: Bench, system: System, status: int) -> None:
    said = {
        401: "The credential is not good.",
        404: f"model '{system.model}' not found",
        429: "Too many requests.",
        503: "Overloaded.",
    }[status]
    at.fake(system).refuse(system.model, status, said)
    # Whoever logs in for a token does so with pauses if its tokens are refused again and again.
    for stream in (False,) if status == 401 else (False, True):
        answer = at.post(system.slug, stream=stream)
        assert (answer.status, answer.error["code"]) == refusal_told(system, status), answer
        assert "www-authenticate" not in answer.headers
        assert "credential is not good" not in answer.error["message"], "that is for the administrator"
        if status == 401 and LOGS_IN & {system.fake}:
            assert len(at.heard(system)) >= 2, "with a new token it was tried once more"


LOGS_IN = {"snowflake", "sap", "console"}


def refusal_told(system: System, status: int) -> tuple[int, str]:
    """What a caller is told: the contracts of Snowflake and OCF say of a 404 that it is not the model's."""
    if status == 404 and system.fake == "snowflake":
        return 502, "upstream_error"
    if status == 404 and system.kind == "ocf":
        return 503, "upstream_unavailable"
    return {
        401: (502, "upstream_auth_error"),
        404: (404, "model_not_found"),
        429: (429, "rate_limit_exceeded"),
        503: (503, "upstream_unavailable"),
    }[status]


# System, what its server says, and what that is.
DISGUISED: list[tuple[str, tuple[object, ...], int, str]] = [
    ("Anthropic", (529, "Overloaded"), 503, "upstream_unavailable"),
    ("Anthropic", (400, "prompt is too long: 200001 tokens > 200000 maximum"), 400, "context_length_exceeded"),
    ("Ollama", (503, "server busy, please try again.  maximum pending requests exceeded"), 503, "upstream_unavailable"),
    ("Ollama", (403, ""), 502, "upstream_auth_error"),
    ("Ollama", (400, '"everything" does not support tools'), 400, "unsupported_parameter"),
    ("Snowflake: OpenAI", (400, "all requests were throttled by remote service"), 429, "rate_limit_exceeded"),
    ("Snowflake: Claude", (400, "unknown model claude-sonnet-4-5"), 404, "model_not_found"),
    ("Snowflake: Claude", (400, "max tokens of 4096 exceeded"), 400, "context_length_exceeded"),
    ("Snowflake, legacy: Claude", (402, "budget exceeded"), 429, "upstream_quota_exceeded"),
    ("Snowflake, legacy: Claude", (403, "Not Authorized"), 502, "upstream_auth_error"),
    ("SAP: GPT", (400, "The response was filtered due to the content management policy."), 400, "content_filter"),
    ("SAP: GPT", (400, "This model's maximum context length is 128000 tokens."), 400, "context_length_exceeded"),
    ("SAP: Claude", (424, "Deployment is not ready."), 503, "upstream_unavailable"),
    ("SAP: Gemini", (403, "Permission denied."), 502, "upstream_auth_error"),
    ("SambaNova", (400, "No such model.", "model_not_found"), 404, "model_not_found"),
    ("SambaNova", (410, "The model was removed."), 404, "model_not_found"),
    ("SambaNova", (402, "Payment required."), 429, "upstream_quota_exceeded"),
    ("SambaNova", (504, "Queue full."), 503, "upstream_unavailable"),
    ("SambaNova", (400, "Model produced invalid JSON."), 502, "upstream_error"),
    ("OCF", ("error_text",), 502, "upstream_error"),
    ("OCF", ("empty_502",), 502, "upstream_error"),
    ("OCF", ("no_providers",), 503, "upstream_unavailable"),
    ("OCF", ("no_provider",), 503, "upstream_unavailable"),
    ("OCF", ("engine_422",), 400, "upstream_refused"),
    ("OCF", ("engine_context_old",), 400, "context_length_exceeded"),
    ("OpenTela", ("invalid_token",), 502, "upstream_auth_error"),
    ("OpenTela", ("acl",), 502, "upstream_auth_error"),
    ("OpenTela", ("limited",), 429, "rate_limit_exceeded"),
    ("OpenTela", ("all_unreachable",), 502, "upstream_unreachable"),
    ("OpenTela", ("trust",), 503, "upstream_unavailable"),
]


@pytest.mark.parametrize(("name", "said", "status", "code"), DISGUISED)
def test_failures_in_disguise_are_told_apart(
    at: Bench, name: str, said: tuple[object, ...], status: int, code: str
) -> None:
    system = BY_NAME[name]
    fake = at.fake(system)
    (fake.refuse if isinstance(said[0], int) else fake.fail)(system.model, *said)
    for stream in (False, True):
        answer = at.post(system.slug, stream=stream)
        assert answer.status == status, answer
        assert answer.error["code"] == code, answer
        assert ("retry-after" in answer.headers) is (said == ("limited",)), answer


def test_an_engine_that_gives_up_has_not_answered(at: Bench) -> None:
    system = BY_NAME["OCF"]
    at.fakes["ocf"].fail(system.model, "abort")
    assert at.post(system.slug).status == 502
    answer = at.stream(system)
    assert answer.error
    assert (answer.done, answer.finish) == (False, [])


def test_a_session_of_snowflake_that_has_ended_is_no_answer(at: Bench) -> None:
    system = BY_NAME["Snowflake: OpenAI"]
    at.fakes["snowflake"].session_expired = True
    try:
        for stream in (False, True):
            answer = at.post(system.slug, stream=stream)
            assert answer.status in (502, 503), answer
    finally:
        at.fakes["snowflake"].session_expired = False


@every("incapable")
def test_what_a_model_is_known_not_to_do_is_refused_before_anybody_is_asked(at: Bench, system: System) -> None:
    for stream in (False, True):
        at.refused(system, "tools", f"{system.slug}-plain", messages=[GREETING], tools=TOOLS, stream=stream)


@every("incapable")
def test_a_model_that_cannot_stream_is_asked_for_the_whole(at: Bench, system: System) -> None:
    at.scene(system, Scene())
    asked = wire.chat(f"{system.slug}-plain", stream_options={"include_usage": True})
    answer = Folded.of(*wire.stream(at.gateway, asked))
    assert (answer.text, answer.finish, answer.done) == (Scene().text, ["stop"], True)
    assert answer.usage
    heard = at.heard(system)[-1]
    inside = heard.body.get("body", heard.body)  # of the console's envelope
    assert not inside.get("stream")
    assert "stream" not in heard.path.rpartition("/")[2]
    assert "stream" not in inside.get("config", {})


MARKED = {
    "user": "marked-user",
    "metadata": {"of": "marked-metadata"},
    "prompt_cache_key": "marked-cache-key",
    "seed": 424242,
    "temperature": 0.4375,
    "top_p": 0.8125,
    "presence_penalty": 0.15625,
    "frequency_penalty": 0.28125,
    "verbosity": "marked-verbosity",
}


@every("dropped")
def test_every_field_is_carried_or_named_as_left_out(at: Bench, system: System) -> None:
    at.scene(system, Scene())
    for stream in (False, True):
        answer = at.post(system.slug, stream=stream, **MARKED)
        assert answer.status == 200, answer
        named = answer.headers.get("x-gateway-dropped", "").split(", ")
        sent = at.raw(system) if system.fake else ""
        for name, value in MARKED.items():
            mark = str(value["of"] if isinstance(value, dict) else value)
            assert (mark in sent) is (name not in named), f"{name} was neither carried nor named, or both"


@every("usage")
def test_the_usage_row_is_true(at: Bench, system: System) -> None:
    at.scene(system, Scene())
    ids = [at.whole(system).headers["x-request-id"], at.stream(system).headers["x-request-id"]]
    for id, streamed in zip(ids, (False, True), strict=True):
        row = at.gateway.row(id)
        assert row["tokens_from"] == "upstream"
        assert (row["ending"], row["status"], bool(row["streamed"])) == ("completed", 200, streamed)
        assert (row["route_name"], row["upstream_model"]) == (system.slug, system.through + system.model)
        if system.fake:
            assert (row["input_tokens"], row["output_tokens"]) == (21, 9)


# ------------------------------------------------------------------------------------------- the matrix


def test_the_table_of_expectations_speaks_of_what_there_is() -> None:
    assert EXPECTED.keys() <= BY_NAME.keys()
    assert {row for cells in EXPECTED.values() for row in cells} <= ROWS.keys()


def test_the_documentation_shows_the_matrix_as_it_was_measured() -> None:
    shown = documented(DOCUMENT.read_text())
    assert shown == matrix(), "Write it anew: python -m tests.every_provider"
