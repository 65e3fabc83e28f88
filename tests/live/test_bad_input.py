"""What bad input gets: a clear JSON error in the caller's language, and one row with the right ending, or none."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import StartGateway
from tests.fakes.openai import KEY, FakeOpenAI, answer, refusal
from tests.fakes.server import Exchange, wait_until
from tests.live.server import Gateway
from tests.live.wire import CHAT, Answer, Caller, call, chat, request_bytes

MEGABYTE = 1 << 20
MODEL = b'"model": "gpt-fake"'
MESSAGES = b'"messages": [{"role": "user", "content": "Hello"}]'


def refused(gateway: Gateway, answered: Answer, status: int, code: str | None = None) -> None:
    """An error in OpenAI's shape, and its one row."""
    assert answered.status == status, answered
    assert answered.headers["content-length"] == str(len(answered.body))
    assert answered.error["type"]
    if code is not None:
        assert answered.error["code"] == code
    row = gateway.row(answered.request_id)
    assert row["status"] == status
    assert row["ending"] in ("refused", "failed")
    assert row["error_code"] or answered.error["code"] is None
    assert (row["input_tokens"], row["output_tokens"], row["cost"]) == (0, 0, 0)


def stored_nothing(gateway: Gateway, request_id: str) -> None:
    """401s and 404s are counted, not stored; a later call's row shows that the ledger has been by."""
    later = call(gateway, CHAT, chat("gpt-fake"))
    assert later.status == 200
    gateway.row(later.request_id)
    assert gateway.rows(request_id=request_id) == []


# ------------------------------------------------------------------------------------------------ bodies

NO_JSON = {
    "nothing at all": b"",
    "blanks": b"   ",
    "cut off": b"{" + MODEL + b', "messages": [{"role": "us',
    "a comma too many": b"{" + MODEL + b", " + MESSAGES + b",}",
    "single quotes": b"{'model': 'gpt-fake'}",
    "two documents": b"{" + MODEL + b", " + MESSAGES + b"} {}",
    "a form": b"model=gpt-fake&messages=Hello",
    "NaN": b"{" + MODEL + b", " + MESSAGES + b', "temperature": NaN}',
    "a control character": b"{" + MODEL + b', "messages": [{"role": "user", "content": "a\nb"}]}',
    "a byte that is no UTF-8": b"{" + MODEL + b', "messages": [{"role": "user", "content": "Gr\xfcezi"}]}',
    "half a character": b"{" + MODEL + b', "messages": [{"role": "user", "content": "\xf0\x9f\x98"}]}',
    "UTF-16": ("{" + MODEL.decode() + ", " + MESSAGES.decode() + "}").encode("utf-16"),
    "a surrogate as UTF-8": b"{" + MODEL + b', "messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
    "a list": b"[{" + MODEL + b"}]",
    "a string": b'"gpt-fake"',
    "a number": b"42",
    "null": b"null",
    "two models": b"{" + MODEL + b", " + MODEL + b", " + MESSAGES + b"}",
    "two models, one spelt in escapes": b'{"model": "echo", "\\u006dodel": "gpt-fake", ' + MESSAGES + b"}",
}


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON.keys())
def test_a_body_that_is_no_json_object_is_refused(gateway: Gateway, upstream: FakeOpenAI, body: bytes) -> None:
    refused(gateway, call(gateway, CHAT, body), 400)
    assert upstream.asked() == []


@pytest.mark.parametrize("depth", [10_000, 400_000])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_json_too_deep_is_refused(gateway: Gateway, upstream: FakeOpenAI, depth: int, opening: bytes) -> None:
    closing = {b"[": b"]", b'{"a":': b"}"}[opening]
    deep = opening * depth + (b"1" if closing == b"}" else b"") + closing * depth
    refused(gateway, call(gateway, CHAT, b"{" + MODEL + b", " + MESSAGES + b', "metadata": ' + deep + b"}"), 400)
    assert call(gateway, CHAT, chat("gpt-fake")).status == 200, "the worker lives"


@pytest.mark.parametrize("text", ["snow\ud83d", "\x00", "é" * 10_000, "\u2028", "🙂"])
def test_odd_text_is_carried(gateway: Gateway, upstream: FakeOpenAI, text: str) -> None:
    answered = call(gateway, CHAT, chat("gpt-fake", text))
    assert answered.status == 200
    assert upstream.heard("gpt-fake").body["messages"][0]["content"] == text


def test_odd_numbers_are_carried(gateway: Gateway, upstream: FakeOpenAI) -> None:
    body = b"{" + MODEL + b", " + MESSAGES + b', "seed": 123456789012345678901234567890, "top_p": 1e-7}'
    assert call(gateway, CHAT, body).status == 200
    assert upstream.heard("gpt-fake").body["seed"] == 123456789012345678901234567890
    assert upstream.heard("gpt-fake").body["top_p"] == 1e-7


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_wrong_content_type_is_refused(gateway: Gateway, upstream: FakeOpenAI, kind: str) -> None:
    refused(gateway, call(gateway, CHAT, chat("gpt-fake"), content_type=kind), 415)
    assert upstream.asked() == []


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.api+json"])
def test_a_content_type_may_be_spelt_otherwise(gateway: Gateway, upstream: FakeOpenAI, kind: str) -> None:
    assert call(gateway, CHAT, chat("gpt-fake"), content_type=kind).status == 200


def test_a_body_announced_as_too_large_is_refused_before_it_is_sent(gateway: Gateway, upstream: FakeOpenAI) -> None:
    with Caller(gateway) as caller:
        caller.send(request_bytes(gateway, CHAT, b"{", content_length=str(33 * MEGABYTE)))
        refused(gateway, caller.answer(), 413)
    assert upstream.asked() == []


def test_a_body_that_grows_too_large_in_chunks_is_refused(gateway: Gateway, upstream: FakeOpenAI) -> None:
    with Caller(gateway) as caller:
        caller.send(request_bytes(gateway, CHAT, None, content_type="application/json", transfer_encoding="chunked"))
        megabyte = b"%x\r\n%b\r\n" % (MEGABYTE, b" " * MEGABYTE)
        try:
            for _ in range(40):
                caller.send(megabyte)
        except OSError:
            pass  # it need not listen to the end
        refused(gateway, caller.answer(), 413)
    assert upstream.asked() == []


def test_a_large_body_within_the_limit_passes(gateway: Gateway, upstream: FakeOpenAI) -> None:
    text = "x" * (20 * MEGABYTE)
    assert call(gateway, CHAT, chat("gpt-fake", text, max_tokens=1)).status == 200
    assert upstream.heard("gpt-fake").body["messages"][0]["content"] == text


def test_a_keys_own_body_limit_holds(gateway: Gateway, upstream: FakeOpenAI) -> None:
    key = gateway.apikey("ada", "small")
    gateway.change_key("small", max_body_mb=1)
    bearer = f"Bearer {key}"
    long = chat("gpt-fake", "x" * 2 * MEGABYTE)

    def refused_everywhere() -> bool:
        return {call(gateway, CHAT, long, authorization=bearer).status for _ in range(12)} == {413}

    assert wait_until(refused_everywhere, 10)
    refused(gateway, call(gateway, CHAT, long, authorization=bearer), 413)
    assert call(gateway, CHAT, chat("gpt-fake"), authorization=bearer).status == 200


def test_a_body_shorter_than_announced_is_no_call(gateway: Gateway, upstream: FakeOpenAI) -> None:
    with Caller(gateway) as caller:
        caller.send(request_bytes(gateway, CHAT, b'{"model": "gpt-f', content_length="1000"))
        caller.end_sending()
        try:
            answered = caller.answer()
        except ConnectionError:
            pass  # a clean end is as good
        else:
            assert answered.status == 499
    assert upstream.asked() == []
    assert call(gateway, CHAT, chat("gpt-fake")).status == 200


def test_chunks_that_are_none_are_refused(gateway: Gateway, upstream: FakeOpenAI) -> None:
    with Caller(gateway) as caller:
        caller.send(request_bytes(gateway, CHAT, None, content_type="application/json", transfer_encoding="chunked"))
        caller.send(b"zz\r\nnot a chunk\r\n0\r\n\r\n")
        try:
            assert caller.answer().status == 400
        except ConnectionError:
            pass  # a clean end is as good
    assert upstream.asked() == []
    assert call(gateway, CHAT, chat("gpt-fake")).status == 200


def test_a_body_is_measured_before_it_is_read(start_gateway: StartGateway) -> None:
    gateway = start_gateway(MAX_BODY_MB="1")
    for path in (CHAT, "/v1/messages", "/api/chat", "/api/show"):
        large = json.dumps({"model": "echo", "messages": "x" * 2 * MEGABYTE}).encode()
        assert call(gateway, path, large).status == 413


# --------------------------------------------------------------------------------------- odd requests

ODD_MESSAGES = {
    "none": None,
    "empty": [],
    "a string": "Hello",
    "an object": {"role": "user", "content": "Hello"},
    "strings": ["Hello"],
    "null": [None],
    "no role": [{"content": "Hello"}],
    "an unknown role": [{"role": "robot", "content": "Hello"}],
    "no content": [{"role": "user"}],
    "content as number": [{"role": "user", "content": 7}],
    "an unknown part": [{"role": "user", "content": [{"type": "smell", "smell": "roses"}]}],
    "a result without call": [{"role": "user", "content": "Hi"}, {"role": "tool", "tool_call_id": "c", "content": ""}],
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("messages", ODD_MESSAGES.values(), ids=ODD_MESSAGES.keys())
def test_odd_messages_are_refused_and_named(gateway: Gateway, messages: object, streamed: bool) -> None:
    answered = call(gateway, CHAT, {"model": "gpt-fake", "messages": messages, "stream": streamed})
    refused(gateway, answered, 400)
    assert str(answered.error["param"]).startswith("messages")
    assert answered.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("messages", ODD_MESSAGES.values(), ids=ODD_MESSAGES.keys())
def test_odd_messages_are_refused_where_they_must_be_translated(gateway: Gateway, messages: object) -> None:
    answered = call(gateway, CHAT, {"model": "echo", "messages": messages})
    if answered.status == 200:  # no upstream is there to mind a result without its call
        assert messages == ODD_MESSAGES["a result without call"]
        return
    refused(gateway, answered, 400)
    assert str(answered.error["param"]).startswith("messages")


@pytest.mark.parametrize("model", ["gpt-fake", "echo"])
def test_missing_messages_are_named(gateway: Gateway, model: str) -> None:
    answered = call(gateway, CHAT, {"model": model})
    refused(gateway, answered, 400)
    assert answered.error["param"] == "messages"


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings"])
@pytest.mark.parametrize("model", [None, 7, ["gpt-fake"], {"id": "gpt-fake"}, "", True])
def test_a_model_that_is_no_name_is_refused(gateway: Gateway, path: str, model: object) -> None:
    answered = call(gateway, path, chat("x") | {"model": model, "prompt": "Once", "input": "one"})
    if model == "" and answered.status == 404:
        assert answered.error["code"] == "model_not_found"
        return
    refused(gateway, answered, 400)
    assert answered.error["param"] == "model"


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings"])
def test_a_missing_model_is_named(gateway: Gateway, path: str) -> None:
    answered = call(gateway, path, {"messages": [], "prompt": "Once", "input": "one"})
    refused(gateway, answered, 400)
    assert answered.error["param"] == "model"


@pytest.mark.parametrize("streamed", ["yes", 1, {}, [True]])
def test_a_stream_that_is_no_boolean_is_refused(gateway: Gateway, streamed: object) -> None:
    answered = call(gateway, CHAT, chat("gpt-fake", stream=streamed))
    refused(gateway, answered, 400)
    assert answered.error["param"] == "stream"


@pytest.mark.parametrize("options", ["all", 1, [True]])
def test_stream_options_that_are_none_are_refused(gateway: Gateway, options: object) -> None:
    answered = call(gateway, CHAT, chat("gpt-fake", stream=True, stream_options=options))
    refused(gateway, answered, 400)
    assert answered.error["param"] == "stream_options"


@pytest.mark.parametrize(("field", "value"), [("max_tokens", "many"), ("max_tokens", 1.5), ("temperature", "hot")])
def test_odd_numbers_are_refused_and_named(gateway: Gateway, field: str, value: object) -> None:
    answered = call(gateway, CHAT, chat("gpt-fake", **{field: value}))
    refused(gateway, answered, 400)
    assert answered.error["param"] == field


@pytest.mark.parametrize("given", [None, "", []])
def test_an_embedding_of_nothing_is_refused(gateway: Gateway, given: object) -> None:
    answered = call(gateway, "/v1/embeddings", {"model": "embed-fake", "input": given})
    refused(gateway, answered, 400)
    assert answered.error["param"] == "input"


@pytest.mark.parametrize("body", [{"model": "gpt-fake"}, {"model": "echo"}])
def test_a_completion_of_nothing_is_refused(gateway: Gateway, body: dict[str, object]) -> None:
    answered = call(gateway, "/v1/completions", body)
    refused(gateway, answered, 400)
    assert answered.error["param"] == "prompt"


# ------------------------------------------------------------------------------------------------ models


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings"])
def test_an_unknown_model_is_not_found_and_not_stored(gateway: Gateway, upstream: FakeOpenAI, path: str) -> None:
    answered = call(gateway, path, chat("fast-2") | {"prompt": "Once", "input": "one"})
    assert answered.status == 404
    assert answered.error["code"] == "model_not_found"
    assert "fast-2" in answered.error["message"]
    assert upstream.asked() == []
    stored_nothing(gateway, answered.request_id)


@pytest.mark.parametrize("model", ["a\r\nSet-Cookie: owned=1", "a\nb", "../../etc/passwd", "é\u0000", "x" * 5_000])
def test_a_model_name_injects_nothing(gateway: Gateway, model: str) -> None:
    answered = call(gateway, CHAT, chat(model))
    assert answered.status == 404
    assert answered.error["code"] == "model_not_found"
    assert "set-cookie" not in answered.headers
    assert "owned" not in str(answered.headers)


def test_a_model_name_of_the_upstream_is_no_way_around_the_routes(gateway: Gateway, upstream: FakeOpenAI) -> None:
    assert call(gateway, CHAT, chat("fake:gpt-fake")).status == 404
    assert call(gateway, CHAT, chat("GPT-FAKE")).status == 404
    assert upstream.asked() == []


# -------------------------------------------------------------------------------------------------- keys

BAD_KEYS = {
    "none": None,
    "empty": "",
    "only the scheme": "Bearer",
    "only the scheme and a blank": "Bearer ",
    "another scheme": "Basic YWRtaW46YWRtaW4=",
    "unknown": "Bearer sk-sb-nobody-knows-me-0123456789-0123456789-0123456789",
    "not ours": "Bearer sk-proj-0123456789",
    "two": "Bearer sk-sb-a sk-sb-b",
    "not ASCII": "Bearer sk-sb-\xfcber",
    "very long": "Bearer sk-sb-" + "x" * 6_000,
}


@pytest.mark.parametrize("given", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_a_key_that_is_none_is_not_authenticated(gateway: Gateway, upstream: FakeOpenAI, given: str | None) -> None:
    answered = call(gateway, CHAT, chat("gpt-fake"), authorization=given)
    assert answered.status == 401
    assert answered.error["message"]
    if given is not None and len(given) > 20:
        assert given.removeprefix("Bearer ") not in answered.body.decode(), "a key is not repeated"
    assert upstream.asked() == []
    stored_nothing(gateway, answered.request_id)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/gpt-fake", "/v1/embeddings", "/v1/completions"])
def test_every_path_wants_a_key(gateway: Gateway, path: str) -> None:
    answered = call(gateway, path, None, "GET" if "models" in path else "POST", authorization=None)
    assert answered.status == 401
    assert answered.error


def test_a_bad_key_is_told_before_a_bad_body(gateway: Gateway) -> None:
    answered = call(gateway, CHAT, b"{", authorization="Bearer sk-sb-nobody")
    assert answered.status == 401


@pytest.mark.parametrize("change", ["expired", "revoked"])
def test_a_key_that_ends_is_refused_by_every_worker_within_two_seconds(gateway: Gateway, change: str) -> None:
    name = f"{change}-{uuid.uuid4().hex[:6]}"
    bearer = f"Bearer {gateway.apikey('ada', name, expires='30d')}"
    assert [call(gateway, CHAT, chat("gpt-fake"), authorization=bearer).status for _ in range(8)] == [200] * 8
    if change == "expired":
        gateway.change_key(name, expires_at=datetime.now(UTC) - timedelta(minutes=1))
    else:
        gateway.change_key(name, active=False)

    def gone_everywhere() -> bool:
        return {call(gateway, CHAT, chat("gpt-fake"), authorization=bearer).status for _ in range(12)} == {401}

    assert wait_until(gone_everywhere, 2)
    answered = call(gateway, CHAT, chat("gpt-fake"), authorization=bearer)
    assert answered.error["type"]
    stored_nothing(gateway, answered.request_id)


def test_a_key_for_other_routes_cannot_tell_this_one_from_nothing(gateway: Gateway, upstream: FakeOpenAI) -> None:
    bearer = f"Bearer {gateway.apikey('ada', 'narrow', routes='counts,echo')}"
    assert call(gateway, CHAT, chat("counts"), authorization=bearer).status == 200
    absent = call(gateway, CHAT, chat("nofound!"), authorization=bearer)
    not_yours = call(gateway, CHAT, chat("gpt-fake"), authorization=bearer)
    assert absent.status == not_yours.status == 404
    assert absent.body.replace(b"nofound!", b"gpt-fake") == not_yours.body
    listed = call(gateway, "/v1/models", None, "GET", authorization=bearer).json()["data"]
    assert {model["id"] for model in listed} == {"counts", "echo"}
    assert call(gateway, "/v1/models/gpt-fake", None, "GET", authorization=bearer).status == 404
    assert [each.model for each in upstream.asked()] == ["counts"]
    stored_nothing(gateway, not_yours.request_id)


def test_a_key_for_other_addresses_is_refused(gateway: Gateway, upstream: FakeOpenAI) -> None:
    bearer = f"Bearer {gateway.apikey('ada', 'elsewhere')}"
    assert call(gateway, CHAT, chat("gpt-fake"), authorization=bearer).status == 200
    gateway.change_key("elsewhere", allowed_ips=["203.0.113.0/24"])

    def refused_everywhere() -> bool:
        answers = [call(gateway, CHAT, chat("gpt-fake"), authorization=bearer) for _ in range(12)]
        return all(answered.status in (401, 403) for answered in answers)

    assert wait_until(refused_everywhere, 10)
    answered = call(gateway, CHAT, chat("gpt-fake"), authorization=bearer, x_forwarded_for="203.0.113.5")
    assert answered.status in (401, 403)
    assert answered.error


# ----------------------------------------------------------------------------------------- paths and verbs


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", CHAT), ("PUT", CHAT), ("DELETE", "/v1/embeddings"), ("PATCH", "/v1/completions"), ("POST", "/v1/models")],
)
def test_a_wrong_verb_is_told_so(gateway: Gateway, method: str, path: str) -> None:
    answered = call(gateway, path, chat("gpt-fake") if method != "GET" else None, method)
    assert answered.status == 405
    assert answered.error
    assert answered.headers.get("allow")


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/chat", "/api/v1/nothing", "/v1/chat/completions/extra"])
@pytest.mark.parametrize("known", [True, False])
def test_an_unknown_path_is_told_so_in_json(gateway: Gateway, path: str, known: bool) -> None:
    answered = call(gateway, path, chat("gpt-fake"), authorization=f"Bearer {gateway.key}" if known else None)
    assert answered.status in ((404,) if known else (401, 404))
    assert answered.error


def test_a_page_wanted_where_there_is_none_is_still_json_below_the_api(gateway: Gateway) -> None:
    answered = call(gateway, "/v1/nothing", None, "GET", accept="text/html,application/xhtml+xml")
    assert answered.status == 404
    assert answered.error


def test_errors_never_show_how_the_house_is_built(gateway: Gateway) -> None:
    bodies: list[bytes] = [b"{", b"[]", json.dumps(chat("fast-2")).encode(), json.dumps(chat("html-500")).encode()]
    for body in bodies:
        text = call(gateway, CHAT, body).body.decode()
        for word in ("Traceback", 'File "', "django", "gevent", "127.0.0.1", "site-packages", "<html"):
            assert word not in text, text


# ------------------------------------------------------------------------------------- a base URL that is not right


@pytest.mark.parametrize("path", ["/chat/completions", "/messages", "/openai/deployments/x/chat/completions"])
def test_a_program_that_forgot_v1_gets_no_page(gateway: Gateway, path: str) -> None:
    answered = call(gateway, path, chat("gpt-fake"), accept="application/json")
    assert (answered.status, answered.error["code"]) == (404, "not_found")
    models = call(gateway, "/models", None, "GET", accept="application/json")
    assert (models.status, models.error["code"]) == (404, "not_found")


def test_a_v1_too_many_is_understood(gateway: Gateway) -> None:
    """As Claude Code has it with a base URL that ends in /v1."""
    body = {"model": "gpt-fake", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    assert call(gateway, "/v1/v1/messages", body).status == 200
    assert call(gateway, "/v1/v1/v1/messages", body).status == 404


# ------------------------------------------------------------------------------------------ fields that say nothing


def test_options_of_a_stream_that_is_none_are_left_out(gateway: Gateway, upstream: FakeOpenAI) -> None:
    answered = call(gateway, CHAT, chat("gpt-fake", stream_options={"include_usage": True}))
    assert answered.status == 200
    assert "stream_options" not in upstream.asked("gpt-fake")[-1].body


def test_no_limit_may_be_written_as_minus_one(gateway: Gateway, upstream: FakeOpenAI) -> None:
    upstream.script("scripted", answer())
    assert call(gateway, CHAT, chat("scripted", max_tokens=-1)).status == 200
    gateway.manage("route", "capped", "fake:scripted", "--max-output-tokens", "16")
    gateway.noticed()
    capped = call(gateway, CHAT, chat("capped", max_tokens=-1))
    assert (capped.status, capped.headers["x-gateway-clamped"]) == (200, "max_tokens=16")
    assert upstream.asked("scripted")[-1].body["max_tokens"] == 16


# ------------------------------------------------------------------------------- what a database cannot take

NO_CHARACTER = "a\0b\ud800c" + "x" * 300
TOO_MANY = 1 << 40


def uncountable(exchange: Exchange) -> None:
    usage = {"prompt_tokens": TOO_MANY, "completion_tokens": 5, "total_tokens": TOO_MANY}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
    exchange.json(200, {"object": "chat.completion", "model": "odd", "choices": [choice], "usage": usage})


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_odd_texts_and_counts_hold_up_no_row(
    start_gateway: StartGateway, upstream: FakeOpenAI, request: pytest.FixtureRequest, database: str
) -> None:
    settings = {"DATABASE_URL": request.getfixturevalue("postgres")} if database == "postgres" else {}
    gateway = start_gateway(**settings)
    gateway.connect("fake", upstream.url, KEY, routes="gpt-fake,scripted")
    gateway.noticed()
    named = call(gateway, CHAT, chat("gpt-fake", user="a\0b" + "x" * 300))
    assert (named.status, gateway.row(named.request_id)["end_user"][:3]) == (200, "abx")
    halved = call(gateway, CHAT, chat("gpt-fake", user=NO_CHARACTER))
    assert (halved.status, gateway.row(halved.request_id)["end_user"][:5]) == (200, "ab?cx")
    upstream.script("scripted", refusal(400, "No.", code="no\0" + "x" * 300), uncountable)
    failed = call(gateway, CHAT, chat("scripted"))
    assert gateway.row(failed.request_id)["error_code"] == "no" + "x" * 98
    counted = call(gateway, CHAT, chat("scripted"))
    assert (counted.status, gateway.row(counted.request_id)["output_tokens"]) == (200, 5)
    assert gateway.row(counted.request_id)["input_tokens"] == 0


def test_a_row_that_the_database_refuses_holds_up_no_other(start_gateway: StartGateway, postgres: str) -> None:
    gateway = start_gateway(DATABASE_URL=postgres)
    answered = call(gateway, CHAT, chat("echo"))
    row = gateway.row(answered.request_id)
    told = {name: row[name] for name in ("key_name", "owner_name", "route_name", "status", "ending")}
    lines = []
    for tokens in (1, TOO_MANY, 2):
        id = str(uuid.uuid4())
        closed = {"id": id, "request_id": id, "started_at": 1_800_000_000.5, "key_id": str(row["key_id"]), "prices": {}}
        lines.append(json.dumps({"close": {**closed, **told, "input_tokens": tokens}}))
    # As a worker leaves it that is gone: without a lock.
    (gateway.folder / "data" / "journal" / f"{uuid.uuid4()}.000001.jsonl").write_text("\n".join(lines) + "\n")
    assert wait_until(
        lambda: [each["input_tokens"] for each in gateway.rows(key_name=row["key_name"])].count(2) == 1, 10
    )
    assert sorted(each["input_tokens"] for each in gateway.rows())[:1] == [1]
    assert call(gateway, CHAT, chat("echo")).status == 200
