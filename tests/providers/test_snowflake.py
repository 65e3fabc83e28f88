"""An account at Snowflake: its key pairs and signed tokens, its models, its dialects of OpenAI's format, its errors.

Worked examples: upstreams/snowflake-cortex.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from providers import snowflake_keys
from providers.base import Target, UpstreamModel, UpstreamToken
from providers.conversation import (
    Answer,
    ChatRequest,
    Choice,
    EmbeddingRequest,
    Event,
    Finished,
    Image,
    JSONFormat,
    Message,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)
from providers.languages.errors import answer_document
from providers.languages.registry import LANGUAGES
from providers.languages.snowflake import SnowflakeChat, SnowflakeOpenAI
from providers.snowflake import KNOWN_MODELS, Snowflake, account
from providers.streams import UpstreamEvents
from providers.wire import client, control
from providers.wire.errors import CannotCarry, ProviderError
from tests.fakes.scenes import PICTURE, TWO_CALLS, Scene
from tests.fakes.snowflake import FakeSnowflake

SNOWFLAKE = Snowflake()
CHAT, OPENAI = SnowflakeChat(), SnowflakeOpenAI()
CLAUDE, GPT, LLAMA, EMBEDDER = "claude-sonnet-4-5", "openai-gpt-5", "llama3.1-8b", "snowflake-arctic-embed-m-v1.5"
PASSPHRASE = "grüezi wohl"

Json = dict[str, Any]


@cache
def key(number: int = 0) -> rsa.RSAPrivateKey:
    """A key; making one takes long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(private: Any, form: str = "pkcs8", passphrase: str = "") -> str:
    kind = serialization.PrivateFormat.TraditionalOpenSSL if form == "pkcs1" else serialization.PrivateFormat.PKCS8
    lock: Any = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else None
    lock = lock or serialization.NoEncryption()
    return str(private.private_bytes(serialization.Encoding.PEM, kind, lock).decode())


def public_pem(private: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(private.public_key().public_bytes(serialization.Encoding.PEM, form).decode())


def profile(secrets: Mapping[str, str] | None = None, token: str = "", **settings_: str) -> Target:
    given = {setting.name: setting.default for setting in SNOWFLAKE.settings if not setting.secret}
    given |= {"url": "https://myorg-myacct.snowflakecomputing.com", "user": "gateway"} | settings_
    return Target(
        "Main account", "snowflake", given, {"private_key": pem(key())} if secrets is None else secrets, token
    )


def says(role: Any, *parts: Any) -> Message:
    return Message(role, parts)


HI = says("user", Text("Hi"))


# -- key pairs


@pytest.mark.parametrize(
    ("form", "passphrase"), [("pkcs8", ""), ("pkcs8", PASSPHRASE), ("pkcs1", ""), ("pkcs1", PASSPHRASE)]
)
def test_a_private_key_is_read_in_each_of_its_forms(form: str, passphrase: str) -> None:
    text = pem(key(), form, passphrase)
    for pasted in (text, f"\n {text}\n\n", text.replace("\n", "\r\n"), text.replace("\n", "\\n")):
        assert snowflake_keys.load(pasted, passphrase).private_numbers() == key().private_numbers()


def test_a_passphrase_that_is_not_needed_does_no_harm() -> None:
    assert snowflake_keys.load(pem(key()), "not needed").key_size == 2048


OLD = rsa.generate_private_key(public_exponent=65537, key_size=1024)
NO_KEYS: dict[str, tuple[str, str, str]] = {
    "an EC key": (pem(ec.generate_private_key(ec.SECP256R1())), "", "RSA"),
    "an Ed25519 key": (pem(ed25519.Ed25519PrivateKey.generate()), "", "RSA"),
    "a short key": (pem(OLD), "", "1024 bits"),
    "a short key of the old form": (pem(OLD, "pkcs1"), "", "2048"),
    "an encrypted key without its passphrase": (pem(OLD, "pkcs8", PASSPHRASE), "", "passphrase"),
    "an encrypted key of the old form without it": (pem(OLD, "pkcs1", PASSPHRASE), "", "passphrase"),
    "another passphrase": (pem(OLD, "pkcs8", PASSPHRASE), "guten tag", "with this passphrase"),
    "a public key": (public_pem(OLD), "", "public key"),
    "a public key for a shell": ("ssh-rsa AAAAB3NzaC1yc2E ada@example.com", "", "public key"),
    "half of a key": (pem(OLD)[:300], "", "PEM"),
    "the name of a file": ("rsa_key.p8", "", "PEM"),
    "a certificate": ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "", "PEM"),
}


@pytest.mark.parametrize("case", NO_KEYS)
def test_what_is_no_such_key_is_refused_in_a_sentence(case: str) -> None:
    text, passphrase, word = NO_KEYS[case]
    with pytest.raises(ValueError, match=r"^[A-Z].*\.$") as error:
        snowflake_keys.load(text, passphrase)
    assert word in str(error.value)


def test_a_fingerprint_is_in_standard_base64() -> None:
    prints = []
    for number in range(40):
        private = key(number)
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        der = private.public_key().public_bytes(serialization.Encoding.DER, form)
        made = snowflake_keys.fingerprint(private)
        assert made == "SHA256:" + base64.standard_b64encode(hashlib.sha256(der).digest()).decode()
        assert len(made) == len("SHA256:") + 44
        prints.append(made)
        if any("+" in each for each in prints) and any("/" in each for each in prints):
            return
    raise AssertionError("Forty keys without these two signs: that is as likely as a meteorite.")


def test_a_new_pair_is_one_and_its_public_half_is_a_line() -> None:
    private, line = snowflake_keys.new_pair()
    loaded = snowflake_keys.load(private)
    assert loaded.key_size == 2048
    assert "\n" not in line
    assert f"SHA256:{base64.b64encode(hashlib.sha256(base64.b64decode(line)).digest()).decode()}" == (
        snowflake_keys.fingerprint(loaded)
    )
    assert snowflake_keys.public_line(loaded) == line


# -- the account's name

ACCOUNTS = [
    # upstreams/snowflake-cortex.md §1.2
    ("https://xy12345.us-east-1.snowflakecomputing.com", "", "XY12345"),
    ("https://myorg-myacct.snowflakecomputing.com", "", "MYORG-MYACCT"),
    ("https://myorg-my-acct.snowflakecomputing.com", "myorg-my_acct", "MYORG-MY_ACCT"),
    ("https://myorg-myacct.privatelink.snowflakecomputing.com", "", "MYORG-MYACCT"),
    ("https://xy12345.us-east-1.privatelink.snowflakecomputing.com", "", "XY12345"),
    ("https://myorg-myacct.snowflakecomputing.cn", "", "MYORG-MYACCT"),
    ("https://XY12345.cn-northwest-1.aws.snowflakecomputing.cn:443", "", "XY12345"),
    ("https://xy12345-abc.global.snowflakecomputing.com", "", "XY12345"),
    ("https://gateway.example.com", "xy12345.us-east-1.aws", "XY12345"),
    ("https://gateway.example.com", "xy12345-k.global", "XY12345"),
    ("https://gateway.example.com", "xy12345.global", "XY12345.GLOBAL"),
    ("https://gateway.example.com", "MyOrg-MyAcct", "MYORG-MYACCT"),
]


@pytest.mark.parametrize(("url", "stated", "name"), ACCOUNTS)
def test_an_account_is_named_as_a_token_must_name_it(url: str, stated: str, name: str) -> None:
    assert account(profile(url=url, account=stated)) == name


# -- signed tokens


def signed(target: Target, refused: str = "") -> UpstreamToken:
    return control.log_in(SNOWFLAKE, target, refused)


def claims(token: UpstreamToken, private: rsa.RSAPrivateKey | None = None) -> Json:
    assert jwt.get_unverified_header(token.value) == {"alg": "RS256", "typ": "JWT"}
    return jwt.decode(token.value, (private or key()).public_key(), ["RS256"])


def test_a_token_says_who_signed_it_and_for_whom() -> None:
    token = signed(profile(account="myorg-my_acct", user="gate.way"))
    assert claims(token)["sub"] == "MYORG-MY_ACCT.GATE.WAY"
    assert claims(token)["iss"] == f"MYORG-MY_ACCT.GATE.WAY.{snowflake_keys.fingerprint(key())}"
    assert claims(token).keys() == {"iss", "sub", "iat", "exp"}


@pytest.mark.parametrize(("minutes", "seconds"), [("1", 60), ("30", 1800), ("59", 3540), ("60", 3570)])
def test_a_token_is_back_dated_and_never_lives_longer_than_an_hour(minutes: str, seconds: int) -> None:
    before = int(time.time())
    token = signed(profile(token_lifetime=minutes))
    made = claims(token)
    assert token.lifetime == seconds
    assert before - 30 <= made["iat"] <= time.time() - 30
    assert made["exp"] - made["iat"] == seconds + 30 <= 3600


def test_the_second_key_is_tried_when_the_first_is_refused_and_the_first_again_after_it() -> None:
    target = profile({"private_key": pem(key()), "private_key_2": pem(key(1))})
    first = signed(target)
    second = signed(target, first.made_with)
    assert (first.made_with, second.made_with) == (
        f"key 1, {snowflake_keys.fingerprint(key())}",
        f"key 2, {snowflake_keys.fingerprint(key(1))}",
    )
    assert claims(second, key(1))["iss"].endswith(snowflake_keys.fingerprint(key(1)))
    assert signed(target, second.made_with).made_with == first.made_with
    assert signed(profile(), first.made_with).made_with == first.made_with, "there is no other"


def test_the_second_slot_alone_will_do() -> None:
    target = profile({"private_key_2": pem(key(1))})
    assert claims(signed(target), key(1))["sub"] == "MYORG-MYACCT.GATEWAY"


@pytest.mark.parametrize(
    "secrets", [{}, {"private_key": "rsa_key.p8"}, {"private_key": pem(key()), "private_key_2": "x"}]
)
def test_without_a_key_nobody_can_sign_and_nobody_will_try_again(secrets: Mapping[str, str]) -> None:
    with pytest.raises(ProviderError, match=r"\.$") as error:
        signed(profile(secrets))
    assert (error.value.kind, error.value.retryable) == ("auth", False)


def test_a_key_never_prints() -> None:
    target = profile()
    token = signed(target)
    for shown in (repr(target), repr(token), token.made_with, SNOWFLAKE.identity(target)):
        assert "PRIVATE" not in shown
        assert token.value not in shown


# -- settings

PAT = {"pat": "pat-0123456789"}
OAUTH = {"oauth_token": "oauth-0123456789"}


@pytest.mark.parametrize(
    ("settings_", "secrets"),
    [
        ({}, None),
        ({}, {"private_key_2": pem(key())}),
        ({}, {"private_key": pem(key(), passphrase="grüezi"), "passphrase": "grüezi"}),
        ({"auth": "pat", "user": ""}, PAT),
        ({"auth": "oauth", "user": ""}, OAUTH),
        ({"auth": "pat"}, PAT | {"private_key": "left over"}),
    ],
)
def test_settings_that_fit_together_are_accepted(settings_: Json, secrets: Mapping[str, str] | None) -> None:
    SNOWFLAKE.check(profile(secrets, **settings_))


@pytest.mark.parametrize(
    ("settings_", "secrets", "word"),
    [
        ({}, {}, "private key"),
        ({}, {"private_key": "rsa_key.p8"}, "PEM"),
        ({}, {"private_key": pem(key()), "private_key_2": "rsa_key.p8"}, "PEM"),
        ({}, {"private_key": pem(key(), passphrase="grüezi")}, "passphrase"),
        ({"user": ""}, None, "user"),
        ({"token_lifetime": "0"}, None, "between 1 and 60"),
        ({"auth": "pat"}, None, "access token"),
        ({"auth": "oauth"}, PAT, "OAuth"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_a_sentence(
    settings_: Json, secrets: Mapping[str, str] | None, word: str
) -> None:
    with pytest.raises(ValueError, match=r"^[A-Z].*\.$") as error:
        SNOWFLAKE.check(profile(secrets, **settings_))
    assert word in str(error.value)


def test_a_lifetime_is_an_hour_at_most() -> None:
    setting = SNOWFLAKE.setting("token_lifetime")
    assert setting.clean("") == "60"
    with pytest.raises(ValueError, match="60"):
        setting.clean("61")


# -- requests


@pytest.mark.parametrize(
    ("auth", "secrets", "token", "kind", "sent"),
    [
        ("keypair", {}, "eyJ.a.b", "KEYPAIR_JWT", "eyJ.a.b"),
        ("pat", PAT, "", "PROGRAMMATIC_ACCESS_TOKEN", "pat-0123456789"),
        ("oauth", OAUTH, "", "OAUTH", "oauth-0123456789"),
        ("keypair", PAT | OAUTH, "", "KEYPAIR_JWT", ""),
    ],
)
def test_a_request_says_what_kind_of_token_it_carries(
    auth: str, secrets: Mapping[str, str], token: str, kind: str, sent: str
) -> None:
    target = replace(profile(secrets, token, auth=auth), headers={"X-Team": "red", "Authorization": "Bearer mine"})
    assert SNOWFLAKE.headers(target) == {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "X-Team": "red",
        "Authorization": f"Bearer {sent}",
        "X-Snowflake-Authorization-Token-Type": kind,
    }
    assert SNOWFLAKE.needs_login(target) is (auth == "keypair")


def test_only_messages_say_the_version_of_their_format() -> None:
    for path in ("/api/v2/cortex/v1/messages", "/api/v2/cortex/inference:complete"):
        request = SNOWFLAKE.request(profile(), path, {"model": CLAUDE})
        assert request.url == f"https://myorg-myacct.snowflakecomputing.com{path}"
        assert request.body == b'{"model":"claude-sonnet-4-5"}'
        assert ("anthropic-version" in request.headers) is path.endswith("messages")
        assert "x-api-key" not in request.headers


@pytest.mark.parametrize(
    ("model", "endpoint", "spoken"),
    [
        (CLAUDE, "openai", ["anthropic_messages", "snowflake_chat"]),
        (GPT, "openai", ["snowflake_openai"]),
        (LLAMA, "openai", ["snowflake_chat"]),
        ("DB.SCHEMA.TUNED", "openai", ["snowflake_chat"]),
        (CLAUDE, "legacy", ["cortex"]),
        (LLAMA, "legacy", ["cortex"]),
        (EMBEDDER, "openai", ["cortex_embed"]),
        (EMBEDDER, "legacy", ["cortex_embed"]),
    ],
)
def test_each_family_is_spoken_to_in_its_own_way(model: str, endpoint: str, spoken: list[str]) -> None:
    found = SNOWFLAKE.speaks(UpstreamModel(model), profile(endpoint=endpoint))
    assert list(found) == spoken
    assert found.keys() <= LANGUAGES.keys()
    assert all(path.startswith("/api/v2/cortex/") for path in found.values())


def test_what_other_models_cannot_do_is_known_unless_an_operator_knows_better() -> None:
    assert SNOWFLAKE.lacks(UpstreamModel(CLAUDE)) == SNOWFLAKE.lacks(UpstreamModel(GPT)) == {"embeddings"}
    lacking = {"embeddings", "tools", "images", "json_schema", "thinking"}
    assert SNOWFLAKE.lacks(UpstreamModel(LLAMA)) == lacking
    assert SNOWFLAKE.lacks(UpstreamModel(LLAMA, capabilities={"tools": True})) == lacking - {"tools"}
    assert SNOWFLAKE.lacks(UpstreamModel(CLAUDE, capabilities={"images": False})) == {"embeddings", "images"}
    assert "embeddings" not in SNOWFLAKE.lacks(UpstreamModel(EMBEDDER))
    assert "tools" in SNOWFLAKE.lacks(UpstreamModel("my-own", capabilities={"embeddings": True}))


def test_a_model_is_offered_in_brackets() -> None:
    assert SNOWFLAKE.offered_as(CLAUDE) == "snowflake[claude-sonnet-4-5]"


def test_whom_the_upstream_sees_is_told() -> None:
    assert SNOWFLAKE.identity(profile()) == f"user GATEWAY of MYORG-MYACCT, key {snowflake_keys.fingerprint(key())}"
    assert SNOWFLAKE.identity(profile(PAT, auth="pat")) == "the owner of the token stored here"


# -- the model list


def listed(document: Any) -> list[UpstreamModel]:
    listing = SNOWFLAKE.models(profile())
    request = next(listing)
    assert (request.method, request.body) == ("GET", b"")
    assert request.url == "https://myorg-myacct.snowflakecomputing.com/api/v2/cortex/models"
    try:
        listing.send(document)
    except StopIteration as end:
        return list(end.value)
    raise AssertionError("The listing asks for more.")


def test_models_are_listed_by_their_names() -> None:
    assert listed({"models": [CLAUDE, EMBEDDER, "DB.SCHEMA.TUNED", None, "", {}]}) == [
        UpstreamModel(CLAUDE, KNOWN_MODELS[CLAUDE], 16_384, {"embeddings": False}),
        UpstreamModel(EMBEDDER, 512, None, {"embeddings": True}),
        UpstreamModel("DB.SCHEMA.TUNED", None, 16_384, {"embeddings": False}),
    ]


@pytest.mark.parametrize("document", [None, [], "m", {}, {"models": None}, {"models": {}}, {"code": "390112"}])
def test_what_is_no_model_list_is_a_fault_of_the_upstream(document: Any) -> None:
    with pytest.raises(ProviderError) as error:
        listed(document)
    assert error.value.kind == "broken"


def test_the_known_models_write_or_make_vectors() -> None:
    known = {model.name: model for model in SNOWFLAKE.known_models()}
    assert len(known) == len(SNOWFLAKE.known_models())
    assert known[EMBEDDER].capabilities == {"embeddings": True}
    assert known[CLAUDE].capabilities == {"embeddings": False}


# -- refusals


@pytest.mark.parametrize(
    ("status", "message", "code", "kind", "retryable"),
    [
        # upstreams/snowflake-cortex.md §5
        (400, "invalid options object", "390000", "bad_request", False),
        (400, "unknown model llama-9", "390000", "model_not_found", True),
        (400, "schema validation failed", "390000", "bad_request", False),
        (400, "max tokens of 4096 exceeded", "390000", "context_length", False),
        (400, "all requests were throttled by remote service", "390000", "rate_limit", True),
        (401, "JWT token is invalid.", "390144", "auth", True),
        (401, "Invalid OAuth access token.", "390303", "auth", True),
        (402, "budget exceeded", "390000", "quota", True),
        (403, "Not Authorized", "390403", "auth", True),
        (404, "/api/v2/cortex not found", "390404", "broken", True),
        (405, "GET is not allowed", "390405", "broken", True),
        (413, "request too large", "390413", "too_large", False),
        (429, "too many requests", "390000", "rate_limit", True),
        (500, "unrecoverable", "390000", "broken", True),
        (503, "inference timed out", "390000", "timeout", True),
        (503, "service unavailable", "390000", "unavailable", True),
        (504, "", "390000", "timeout", True),
    ],
)
def test_a_refusal_is_understood(status: int, message: str, code: str, kind: str, retryable: bool) -> None:
    body = {"message": message, "code": code, "error_code": code, "request_id": "01b"}
    error = SNOWFLAKE.read_error(status, json.dumps(body).encode(), "Main account")
    assert (error.kind, error.retryable, error.upstream_status) == (kind, retryable, status)
    assert error.code in (code, None)
    assert error.message.endswith(".") or error.message == message
    told = kind in ("bad_request", "context_length", "too_large")
    assert (error.message == message) is told, "of our own affairs callers hear nothing"


@pytest.mark.parametrize("body", [b"", b"<html>502</html>", b"[]", b'"no"', b'{"message":5}'])
def test_a_refusal_in_other_words_is_still_one(body: bytes) -> None:
    assert SNOWFLAKE.read_error(400, body, "Main account").kind == "bad_request"
    assert SNOWFLAKE.read_error(503, body, "Main account").kind == "unavailable"


# -- OpenAI's format as it is spoken there


def asked(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest("fast", messages or (HI,), "openai_chat", **fields)


BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": False}


@pytest.mark.parametrize("language", [CHAT, OPENAI], ids=lambda each: each.name)
@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({}, {}),
        ({"max_tokens": 7}, {"max_completion_tokens": 7}),
        ({"temperature": 2, "top_p": 0.9}, {"temperature": 2, "top_p": 0.9}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"n": 1}, {}),
        ({"extras": {"store": True, "service_tier": "flex", "metadata": {}}}, {}),
        ({"extras": {"max_output_tokens": 5, "safety_identifier": "ada"}}, {}),
        ({"user": "ada", "seed": 1}, {}),
    ],
)
def test_each_field_finds_its_place(language: SnowflakeChat, fields: Json, sent: Json) -> None:
    body = language.write_request(asked(**fields), "m")
    assert {name: value for name, value in body.items() if name != "n"} == BODY | sent
    left_out = {*fields.get("extras", {}), *(fields.keys() & {"user", "seed"})}
    assert set(language.dropped(asked(**fields), "m")) == left_out


@pytest.mark.parametrize(
    ("effort", "claude", "gpt"),
    [
        ("none", {}, {"reasoning_effort": "none"}),
        ("minimal", {}, {"reasoning_effort": "minimal"}),
        ("low", {"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ("high", {"reasoning": {"effort": "high"}}, {"reasoning_effort": "high"}),
        ("xhigh", {"reasoning": {"effort": "high"}}, {"reasoning_effort": "high"}),
        ("max", {"reasoning": {"effort": "high"}}, {"reasoning_effort": "high"}),
    ],
)
def test_an_effort_is_said_in_words_the_model_knows(effort: str, claude: Json, gpt: Json) -> None:
    request = asked(reasoning_effort=effort)
    assert CHAT.write_request(request, "m") == BODY | claude
    assert OPENAI.write_request(request, "m") == BODY | gpt


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stop": ("END",)}, "stop"),
        ({"n": 2}, "n"),
        ({"json_format": JSONFormat()}, "response_format"),
        *(
            ({"extras": {name: 1}, "indispensable": frozenset([name])}, name)
            for name in ("logprobs", "top_logprobs", "logit_bias", "audio", "web_search_options")
        ),
    ],
)
def test_what_would_be_ignored_there_is_refused_by_name(fields: Json, param: str) -> None:
    with pytest.raises(CannotCarry, match=r"\.$") as refusal:
        CHAT.write_request(asked(**fields), CLAUDE)
    assert refusal.value.param == param


def test_openais_models_take_more() -> None:
    request = asked(
        stop=("END",), n=2, frequency_penalty=0.5, presence_penalty=0.5, parallel_tool_calls=False,
        json_format=JSONFormat(), extras={"verbosity": "low"},
    )  # fmt: skip
    body = OPENAI.write_request(request, GPT)
    assert {"stop", "n", "frequency_penalty", "presence_penalty", "parallel_tool_calls", "verbosity"} <= body.keys()
    assert OPENAI.dropped(request, "m") == []


@pytest.mark.parametrize("language", [CHAT, OPENAI], ids=lambda each: each.name)
def test_earlier_thoughts_are_not_sent(language: SnowflakeChat) -> None:
    body = language.write_request(asked(HI, says("assistant", Thinking("Hm."), Text("Yes.")), HI), "m")
    assert body["messages"][1] == {"role": "assistant", "content": "Yes."}


def saying(finish: Any, made: int, message: Json | None = None) -> Json:
    choice = {"index": 0, "message": message or {"content": "Hi"}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": made}}


def streamed(finish: Any, made: int, delta: Json | None = None) -> list[bytes]:
    said = [{"choices": [{"index": 0, "delta": delta or {"content": "Hi"}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
            {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": made}}]  # fmt: skip
    return [b"data: " + json.dumps(each).encode() + b"\n\n" for each in said]


def read(language: SnowflakeChat, frames: list[bytes], request: ChatRequest | None = None) -> list[Event]:
    reader = language.reader(request)
    return [*(event for frame in frames for event in reader.read_frame(frame)), *reader.read_end()]


@pytest.mark.parametrize(
    ("finish", "made", "fields", "word"),
    [
        (None, 9, {}, "stop"),
        (None, 4096, {}, "length"),
        (None, 9, {"max_tokens": 9}, "length"),
        (None, 4096, {"max_tokens": 5000}, "stop"),
        ("stop", 8, {"max_tokens": 9}, "stop"),
        ("stop", 9, {"max_tokens": 9}, "length"),
        ("length", 1, {}, "length"),
        ("content_filter", 1, {}, "content_filter"),
    ],
)
def test_why_an_answer_ended_is_worked_out(finish: str | None, made: int, fields: Json, word: str) -> None:
    request = asked(**fields)
    assert CHAT.read_answer(saying(finish, made), request).choices[0].finish_reason == word
    events = read(CHAT, streamed(finish, made), request)
    assert [event for event in events if isinstance(event, Finished)] == [Finished(word)]  # type: ignore[arg-type]


def test_a_call_is_a_reason_too() -> None:
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    whole = CHAT.read_answer(saying(None, 9, {"content": None, "tool_calls": [call]}), asked())
    assert whole.choices == (Choice((ToolCall("a", "f", "{}"),), "tool_calls"),)
    assert read(CHAT, streamed(None, 9, {"tool_calls": [call]}), asked())[-1] == Finished("tool_calls")


def test_a_stream_without_counts_and_end_mark_was_cut() -> None:
    for frames in (streamed(None, 9)[:2], streamed("stop", 9)[:1]):
        with pytest.raises(ProviderError) as error:
            read(CHAT, frames, asked())
        assert error.value.kind == "cut"
    assert read(CHAT, streamed("stop", 9)[:2], asked())[-1] == Finished("stop")


# -- over real sockets, at a strict account


@pytest.fixture
def upstream() -> Iterator[FakeSnowflake]:
    with FakeSnowflake() as server:
        server.keys.append(key().public_key())
        yield server
        assert not server.complaints
        assert not server.ignored


def at(upstream: FakeSnowflake, **settings_: str) -> Target:
    target = profile(url=upstream.url, account="myorg-myacct", **settings_)
    return replace(target, token=signed(target).value)


def ask(upstream: FakeSnowflake, model: str, endpoint: str = "openai", speak: str = "", **fields: Any) -> Answer:
    """As a relay asks, in the best language the model speaks or another; raises what a relay would."""
    target = at(upstream, endpoint=endpoint)
    spoken = SNOWFLAKE.speaks(UpstreamModel(model), target)
    language = LANGUAGES[speak or next(iter(spoken))]
    request = asked(*fields.pop("messages", ()), **fields)
    body = language.write_request(request, model)
    response = client.send(SNOWFLAKE.request(target, spoken[language.name], body), target, request.stream)
    try:
        if response.status != 200:
            raise SNOWFLAKE.read_error(response.status, response.read_error(), target.profile)
        if response.content_type != "text/event-stream":
            return language.read_answer(answer_document(response.read()), request)
        events = UpstreamEvents(response, language.reader(request))
        return Answer.collect(event for step in events for event in step)
    finally:
        response.close()


ALL_OF_IT = Scene(thinking="Ich überlege: 雨?", signature="c2lnbmVk", calls=TWO_CALLS, cached_tokens=5)
RAIN = Tool("rain", "How much", {"type": "object", "properties": {"city": {"type": "string"}}})
WAYS = [(CLAUDE, "openai", ""), (CLAUDE, "openai", "snowflake_chat"), (GPT, "openai", ""), (LLAMA, "openai", ""),
        (CLAUDE, "legacy", ""), (GPT, "legacy", ""), (LLAMA, "legacy", "")]  # fmt: skip


def alike(answer: Answer) -> list[Any]:
    """An answer whose JSON texts are values: whole ones are spelt anew."""
    parts = [
        (part.id, part.name, json.loads(part.arguments)) if isinstance(part, ToolCall) else part
        for part in answer.choices[0].parts
    ]
    return [parts, answer.choices[0].finish_reason, answer.usage]


@pytest.mark.parametrize(("model", "endpoint", "speak"), WAYS)
@pytest.mark.parametrize("scene", [Scene(), replace(ALL_OF_IT, calls=()), Scene(finish="length", crlf=True)])
def test_a_stream_is_the_same_answer_as_the_whole(
    upstream: FakeSnowflake, model: str, endpoint: str, speak: str, scene: Scene
) -> None:
    upstream.scene(model, scene)
    whole, stream = (ask(upstream, model, endpoint, speak, stream=each, max_tokens=60) for each in (False, True))
    if scene.finish == "length":
        assert {whole.choices[0].finish_reason, stream.choices[0].finish_reason} == {"length"}
    else:
        assert alike(whole) == alike(stream)
        assert whole.choices[0].parts[-1] == Text(scene.text)


@pytest.mark.parametrize("pretty", [False, True])
@pytest.mark.parametrize("bytes_at_once", [0, 1])
@pytest.mark.parametrize("shape", ["plain", "list", "typed"])
def test_each_shape_of_the_old_endpoints_pieces_is_read(
    upstream: FakeSnowflake, shape: Any, bytes_at_once: int, pretty: bool
) -> None:
    upstream.delta_shape, upstream.pretty = shape, pretty
    upstream.scene(CLAUDE, replace(ALL_OF_IT, bytes_at_once=bytes_at_once, comments=pretty, crlf=pretty))
    parts, finish, usage = alike(ask(upstream, CLAUDE, "legacy", stream=True, tools=(RAIN,)))
    calls = [(id, name, json.loads(arguments)) for id, name, arguments in TWO_CALLS]
    assert parts == [Thinking(ALL_OF_IT.thinking, "c2lnbmVk"), Text(ALL_OF_IT.text), *calls]
    assert (finish, usage) == ("tool_calls", Usage(21, 9, 5))


@pytest.mark.parametrize(("model", "endpoint", "speak"), WAYS)
@pytest.mark.parametrize("fails", ["first", "later", "cut"])
@pytest.mark.parametrize("shape", ["bare", "error"])
def test_a_stream_that_breaks_is_no_answer(
    upstream: FakeSnowflake, model: str, endpoint: str, speak: str, fails: Any, shape: Any
) -> None:
    upstream.error_shape, upstream.delta_shape = shape, "plain"
    upstream.scene(model, Scene(fails=fails))
    with pytest.raises(ProviderError) as error:
        ask(upstream, model, endpoint, speak, stream=True)
    assert (error.value.kind, error.value.retryable) == ("cut" if fails == "cut" else "broken", True)
    if fails != "cut":
        with pytest.raises(ProviderError) as error:
            ask(upstream, model, endpoint, speak)
        assert error.value.kind == "broken"


@pytest.mark.parametrize(("model", "endpoint", "speak"), [way for way in WAYS if way[0] != LLAMA])
def test_tools_images_and_efforts_are_carried(upstream: FakeSnowflake, model: str, endpoint: str, speak: str) -> None:
    turn = (
        says("system", Text("Be brief.")),
        says("user", Text("Where?"), Image(f"data:image/png;base64,{PICTURE}", "low" if model == GPT else None)),
        says("assistant", ToolCall("call_1", "rain", '{"city": "Bern"}'), ToolCall("call_2", "rain", "{}")),
        says("tool", ToolResult("call_1", (Text("much"),))),
        says("tool", ToolResult("call_2", (Text("none"),))),
        says("user", Text("And?")),
    )
    answer = ask(upstream, model, endpoint, speak, messages=turn, tools=(RAIN,), tool_choice=ToolChoice("auto"))
    assert answer.choices == (Choice((Text(Scene().text),), "stop"),)
    upstream.scene(model, Scene(thinking="Hm."))
    thought = ask(upstream, model, endpoint, speak, reasoning_effort="high", stream=True)
    assert thought.choices[0].parts[-1] == Text(Scene().text)
    assert not upstream.refusals


def test_vectors_are_made(upstream: FakeSnowflake) -> None:
    target, language = at(upstream), LANGUAGES["cortex_embed"]
    path = SNOWFLAKE.speaks(UpstreamModel(EMBEDDER), target)["cortex_embed"]
    body = language.write_embedding_request(EmbeddingRequest("fast", ("a b", "c")), EMBEDDER)  # type: ignore[attr-defined]
    response = client.send(SNOWFLAKE.request(target, path, body), target, stream=False)
    made = language.read_embeddings(answer_document(response.read()))  # type: ignore[attr-defined]
    response.close()
    assert [len(vector) for vector in made.vectors] == [8, 8]
    assert made.usage == Usage(input=3)


def test_models_are_listed_over_the_wire(upstream: FakeSnowflake) -> None:
    assert [model.name for model in control.list_models(SNOWFLAKE, at(upstream))] == upstream.models


@pytest.mark.parametrize(("model", "endpoint", "speak"), WAYS)
@pytest.mark.parametrize("stream", [False, True])
def test_an_expired_session_is_an_error_though_the_status_is_200(
    upstream: FakeSnowflake, model: str, endpoint: str, speak: str, stream: bool
) -> None:
    upstream.session_expired = True
    with pytest.raises(ProviderError) as error:
        ask(upstream, model, endpoint, speak, stream=stream)
    assert (error.value.kind, error.value.retryable) == ("auth", True)


def test_a_key_that_was_exchanged_is_refused_and_the_second_one_serves(upstream: FakeSnowflake) -> None:
    target = replace(at(upstream), secrets={"private_key": pem(key(2)), "private_key_2": pem(key())})
    first = signed(target)
    with pytest.raises(ProviderError) as error:
        control.list_models(SNOWFLAKE, replace(target, token=first.value))
    assert (error.value.kind, error.value.upstream_status) == ("auth", 401)
    second = signed(target, first.made_with)
    assert control.list_models(SNOWFLAKE, replace(target, token=second.value))
