"""SAP AI Core: its service key, its deployments, and the languages of each family (upstreams/sap-ai-core.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from providers.base import LoginReply, Target, UpstreamModel, UpstreamRequest, UpstreamToken
from providers.conversation import Answer, ChatRequest, Choice, Text, Thinking, ToolCall, Usage
from providers.languages.errors import answer_document
from providers.languages.language import EmbeddingLanguage, Language
from providers.languages.openai_chat import OpenAIChat
from providers.languages.openai_embeddings import OpenAIEmbeddings
from providers.languages.registry import LANGUAGES
from providers.sap_ai_core import LONGEST_LIFE, SAPAICore, ServiceKey
from providers.streams import UpstreamEvents
from providers.wire import client, control
from providers.wire.errors import CannotCarry, ProviderError
from tests.fakes.sap_ai_core import CATALOGUE, ORCHESTRATION, OTHER_GROUP, FakeSAP, client_certificate
from tests.fakes.scenes import PICTURE, TWO_CALLS, Scene
from tests.providers.test_repr import everything

SAP = SAPAICore()
OPENAI, VECTORS = OpenAIChat(), OpenAIEmbeddings()
DEFAULTS = {setting.name: setting.default for setting in SAP.settings if not setting.secret}
HI = [{"role": "user", "content": "Hi"}]
TOOLS = [{"type": "function", "function": {"name": "rain", "parameters": {"type": "object"}}}]
PIXEL = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
CANARY = "canary-0123456789"

GPT, O3, CLAUDE, NOVA = "gpt-4o", "o3-mini", "anthropic--claude-4-sonnet", "amazon--nova-pro"
GEMINI, MISTRAL = "gemini-2.5-flash", "mistralai--mistral-large"
EMBEDDER, TITAN = "text-embedding-3-small", "amazon--titan-embed-text"
THROUGH_GPT, THROUGH_O3, THROUGH_CLAUDE = (f"orchestration/{name}" for name in (GPT, O3, CLAUDE))
CHATTERS = (GPT, O3, CLAUDE, NOVA, GEMINI, MISTRAL, THROUGH_GPT, THROUGH_O3, THROUGH_CLAUDE)

Json = dict[str, Any]


def key(**changes: Any) -> str:
    """A service key as BTP shows it; a change to None leaves the field out."""
    document = {
        "clientid": "sb-1|aicore!b540",
        "clientsecret": CANARY,
        "url": "https://zone.authentication.eu10.hana.ondemand.com",
        "serviceurls": {"AI_API_URL": "https://api.ai.prod.eu-central-1.aws.ml.hana.ondemand.com"},
    }
    return json.dumps({name: value for name, value in (document | changes).items() if value is not None})


def account(service_key: str = "", token: str = "token-1", **settings: str) -> Target:
    secrets = {"service_key": service_key or key()}
    return Target("SAP", "sap_ai_core", DEFAULTS | settings, secrets, token, total_timeout=20)


def asked(**fields: Any) -> ChatRequest:
    return OPENAI.parse_request({"model": "fast", "messages": HI, **fields})


def written(language: str, model: str = GPT, **fields: Any) -> Json:
    return LANGUAGES[language].write_request(asked(**fields), model)


def refused(language: str, model: str = GPT, **fields: Any) -> str:
    with pytest.raises(CannotCarry, match=r"\.$") as refusal:
        written(language, model, **fields)
    return refusal.value.param


def deployed(name: str, executable: str = "", url: str = "https://api.example/d1", **more: Any) -> UpstreamModel:
    return UpstreamModel(name, url=url, family=executable, **more)


# -- the service key


def test_a_service_key_is_read_and_its_addresses_are_completed() -> None:
    read = ServiceKey.read(key(url="https://zone.example/", serviceurls={"AI_API_URL": "https://api.example/"}))
    assert read.token_url == "https://zone.example/oauth/token"
    assert read.api == "https://api.example/v2"
    assert (read.client_id, read.secret, read.certificate) == ("sb-1|aicore!b540", CANARY, "")


def test_addresses_that_are_complete_stay_so() -> None:
    read = ServiceKey.read(key(url="https://z.example/oauth/token", serviceurls={"AI_API_URL": "https://a.example/v2"}))
    assert (read.token_url, read.api) == ("https://z.example/oauth/token", "https://a.example/v2")


def test_a_binding_holds_the_key_one_level_deeper() -> None:
    assert ServiceKey.read(json.dumps({"credentials": json.loads(key())})) == ServiceKey.read(key())


def test_a_certificate_stands_for_the_secret() -> None:
    pem = "-----BEGIN-----\\nabc\\n-----END-----\\n"
    read = ServiceKey.read(
        key(clientsecret=None, certificate=pem, key=pem, certurl="https://zone.authentication.cert.example", url=None)
    )
    assert read.token_url == "https://zone.authentication.cert.example/oauth/token"
    assert read.certificate == read.key == "-----BEGIN-----\nabc\n-----END-----\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not JSON"),
        (CANARY, "not JSON"),
        (f'["{CANARY}"]', "not JSON"),
        (f'{{"clientsecret": "{CANARY}", "clientid": ', "not JSON"),
        (f'{{"clientsecret": "{CANARY}", "x": "\udcff"', "not JSON"),
        ("{}", "clientid"),
        (key(clientid=None), "clientid"),
        (key(clientid=5), "clientid"),
        (key(url=None), "'url'"),
        (key(url=["https://zone.example"]), "'url'"),
        (key(url="zone.example"), "'url'"),
        (key(serviceurls=None), "AI_API_URL"),
        (key(serviceurls="https://api.example"), "AI_API_URL"),
        (key(serviceurls={"AI_API_URL": "api.example"}), "AI_API_URL"),
        (key(clientsecret=None), "either"),
        (key(clientsecret=5), "either"),
        (key(certificate=CANARY, key=CANARY), "either"),
        (key(clientsecret=None, certificate=CANARY), "either"),
        (key(clientsecret=None, certificate=CANARY, key=CANARY, url=None), "'certurl'"),
    ],
)
def test_a_key_that_cannot_work_is_refused_in_a_sentence_that_shows_nothing_of_it(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=rf"{sentence}.*\.$") as error:
        SAP.check(account(text or " "))
    assert CANARY not in everything(error.value)
    with pytest.raises(ProviderError, match=rf"{sentence}.*\.$") as failure:
        next(SAP.login(account(text or " "), ""))
    assert (failure.value.kind, failure.value.retryable) == ("auth", False)
    assert CANARY not in everything(failure.value)


def test_nothing_secret_is_ever_printed() -> None:
    secret = key(clientsecret=None, certificate=CANARY, key=CANARY, certurl="https://zone.example")
    for text in (key(), secret):
        request = next(SAP.login(account(text), ""))
        assert CANARY in f"{request.body!r}{request.certificate}"  # type: ignore[attr-defined]
        for printed in (ServiceKey.read(text), request, SAP.identity(account(text)), SAP.address(account(text))):
            assert CANARY not in repr(printed)


# -- logging in


def login(*replies: LoginReply) -> UpstreamToken:
    steps = SAP.login(account(), "")
    next(steps)
    try:
        for reply in replies:
            steps.send(reply)
    except StopIteration as end:
        token: UpstreamToken = end.value
        return token
    raise AssertionError("The login wants to go on.")


def said(document: object, status: int = 200) -> LoginReply:
    return LoginReply(status, {}, document if isinstance(document, bytes) else json.dumps(document).encode())


def test_a_token_is_asked_for_with_a_form_in_which_everything_is_encoded() -> None:
    request = next(SAP.login(account(key(clientsecret="a+b&c=%/ä")), ""))
    assert (request.method, request.url) == ("POST", "https://zone.authentication.eu10.hana.ondemand.com/oauth/token")
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert request.body == (
        b"grant_type=client_credentials&client_id=sb-1%7Caicore%21b540&client_secret=a%2Bb%26c%3D%25%2F%C3%A4"
    )


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [(43199, 43199), (0.5, 0.5), (None, 3600), ("soon", 3600), (0, 3600), (-1, 3600), ([], 3600),
     (10**400, LONGEST_LIFE), (1e300, LONGEST_LIFE)],
)  # fmt: skip
def test_a_token_lives_as_long_as_it_says_and_an_hour_if_it_does_not(stated: object, seconds: float) -> None:
    token = login(said({"access_token": "t", "token_type": "bearer", "expires_in": stated}))
    assert (token.value, token.lifetime) == ("t", seconds)


def test_a_token_says_whose_it_is_and_not_what() -> None:
    token = login(said({"access_token": CANARY, "expires_in": 5}))
    assert token.made_with == SAP.identity(account()) == "client sb-1|aicore!b540"
    assert CANARY not in repr(token)


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (said({"error": "invalid_client", "error_description": CANARY}, 401), "auth", "(invalid_client)"),
        (said({"error": "unauthorized"}, 401), "auth", "(unauthorized)"),
        (said({"error": f"who is {CANARY}?"}, 400), "auth", "service key. It"),
        (said(b"<html>" + CANARY.encode(), 403), "auth", "service key. It"),
        (said({"error": "slow down"}, 429), "unavailable", "429"),
        (said(b"", 503), "unavailable", "503"),
        (said(b"", 302), "unavailable", "302"),
        (said({"access_token": 5}), "unavailable", "no token"),
        (said([CANARY]), "unavailable", "no token"),
        (said(b"\xff" + CANARY.encode()), "unavailable", "no token"),
    ],
)
def test_an_identity_provider_that_gives_no_token_is_understood(reply: LoginReply, kind: str, words: str) -> None:
    with pytest.raises(ProviderError, match=r"\.$") as error:
        login(reply)
    assert error.value.kind == kind
    assert words in error.value.message
    assert CANARY not in everything(error.value)


@pytest.fixture
def sap() -> Iterator[FakeSAP]:
    with FakeSAP() as server:
        yield server
        assert server.complaints == []


def test_a_secret_opens_the_door(sap: FakeSAP) -> None:
    token = control.log_in(SAP, account(sap.service_key()), "")
    assert token.lifetime == 43199
    assert token.value == sap.tokens_issued[-1][1]


def by_certificate(sap: FakeSAP, service_key: str = "") -> Target:
    return replace(account(service_key or sap.service_key(x509=True)), ca=sap.ca)


def test_a_certificate_opens_the_door(sap: FakeSAP) -> None:
    target = by_certificate(sap)
    first, second = control.log_in(SAP, target, ""), control.log_in(SAP, target, "")
    assert first.value != second.value
    control.list_models(SAP, replace(target, token=first.value))


def test_a_secret_that_is_wrong_is_the_gateways_trouble(sap: FakeSAP) -> None:
    wrong = json.dumps(json.loads(sap.service_key()) | {"clientsecret": CANARY})
    with pytest.raises(ProviderError, match=r"does not accept the service key \(unauthorized\)") as error:
        control.log_in(SAP, account(wrong), "")
    assert (error.value.kind, error.value.upstream_status) == ("auth", 401)
    assert CANARY not in everything(error.value)


@pytest.mark.parametrize("status", [401, 500, 503])
def test_an_identity_provider_in_trouble_is_asked_again_later(sap: FakeSAP, status: int) -> None:
    sap.identity_fails = status
    with pytest.raises(ProviderError) as error:
        control.log_in(SAP, account(sap.service_key()), "")
    assert error.value.retryable


def with_certificate(sap: FakeSAP, **changes: str) -> Target:
    return by_certificate(sap, json.dumps(json.loads(sap.service_key(x509=True)) | changes))


def encrypted(pem: str) -> str:
    loaded = serialization.load_pem_private_key(pem.encode(), None)
    return loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    ).decode()


def test_a_certificate_nobody_signed_for_is_refused(sap: FakeSAP) -> None:
    certificate, private = client_certificate("somebody-else")
    with pytest.raises(ProviderError, match="the profile's") as error:
        control.log_in(SAP, with_certificate(sap, certificate=certificate, key=private), "")
    assert error.value.kind == "unreachable"


@pytest.mark.parametrize("make", [lambda pem: client_certificate("x")[1], lambda pem: CANARY, encrypted])
def test_a_certificate_and_a_key_that_do_not_fit_together_are_told(sap: FakeSAP, make: Callable[[str], str]) -> None:
    private = json.loads(sap.service_key(x509=True))["key"].replace("\\n", "\n")
    with pytest.raises(ProviderError, match=r"do not fit together\.$") as error:
        control.log_in(SAP, with_certificate(sap, key=make(private)), "")
    assert (error.value.kind, error.value.retryable) == ("auth", False)
    assert CANARY not in everything(error.value)


def test_an_identity_provider_nobody_vouches_for_gets_nothing(sap: FakeSAP) -> None:
    with pytest.raises(ProviderError, match="TLS certificates") as error:
        control.log_in(SAP, replace(by_certificate(sap), ca=""), "")
    assert error.value.kind == "unreachable"
    assert sap.tokens_issued == []


# -- what runs


def logged_in(sap: FakeSAP, **settings: str) -> Target:
    target = account(sap.service_key(), **settings)
    return replace(target, token=control.log_in(SAP, target, "").value)


def listed(sap: FakeSAP, **settings: str) -> list[UpstreamModel]:
    return control.list_models(SAP, logged_in(sap, **settings))


@pytest.mark.parametrize("snake_case", [False, True])
def test_what_runs_is_listed_and_what_does_not_is_not(sap: FakeSAP, snake_case: bool) -> None:
    sap.snake_case = snake_case
    models = listed(sap)
    names = [model.name for model in models if not model.name.startswith("orchestration/")]
    assert names == [GPT, GPT, O3, EMBEDDER, CLAUDE, NOVA, TITAN, GEMINI, MISTRAL]
    assert [model.name for model in models if model.capabilities["embeddings"]] == [
        EMBEDDER, TITAN, f"orchestration/{EMBEDDER}", f"orchestration/{TITAN}",
    ]  # fmt: skip
    first = models[0]
    assert first.family == "azure-openai"
    assert first.url.endswith(sap.ids(GPT)[0])
    assert first.note == f"deployment {sap.ids(GPT)[0]}, version latest"


def test_a_model_deployed_twice_comes_twice(sap: FakeSAP) -> None:
    twins = [model for model in listed(sap) if model.name == GPT]
    assert {model.url.rpartition("/")[2] for model in twins} == set(sap.ids(GPT))


def test_a_listing_is_read_to_its_last_page(sap: FakeSAP) -> None:
    whole = listed(sap)
    sap.most_listed = 3
    assert listed(sap) == whole
    skipped = [each.path.rpartition("=")[2] for each in sap.listings()]
    assert skipped == ["0", "0", "3", "6", "9"]


def test_another_resource_group_is_another_account(sap: FakeSAP) -> None:
    assert [model.name for model in listed(sap, resource_group=OTHER_GROUP)] == ["gpt-4o-mini"]
    with pytest.raises(ProviderError) as error:
        listed(sap, resource_group="nowhere")
    assert error.value.kind == "model_not_found"


def test_models_that_may_be_orchestrated_are_reached_through_each_deployment_of_orchestration(sap: FakeSAP) -> None:
    sap.groups["default"].append(sap.deployment("orchestration", "orchestration", scenario=ORCHESTRATION))
    sap.orchestrated = {GPT, EMBEDDER}
    through = [model for model in listed(sap) if model.name.startswith("orchestration")]
    assert [model.name for model in through] == [THROUGH_GPT, f"orchestration/{EMBEDDER}"] * 2
    assert {model.url.rpartition("/")[2] for model in through} == set(sap.ids("orchestration"))
    assert {model.family for model in through} == {"orchestration"}


def test_the_catalogue_is_asked_only_where_orchestration_runs(sap: FakeSAP) -> None:
    listed(sap, resource_group=OTHER_GROUP)
    assert CATALOGUE not in [each.path for each in sap.requests]


def page(*rows: Json, count: int | None = None) -> Json:
    return {"count": len(rows) if count is None else count, "resources": list(rows)}


def row(name: str = "m", **changes: Any) -> Json:
    details = {"resources": {"backendDetails": {"model": {"name": name}}}}
    return {"id": "d1", "deploymentUrl": "https://d.example", "status": "RUNNING", "details": details} | changes


def listing(*documents: object) -> list[UpstreamModel]:
    steps = SAP.models(account())
    next(steps)
    try:
        for document in documents:
            steps.send(document)
    except StopIteration as end:
        found: list[UpstreamModel] = end.value
        return found
    raise AssertionError("The listing asks for more.")


@pytest.mark.parametrize(
    "changes",
    [{"status": "DEAD"}, {"status": None}, {"deploymentUrl": ""}, {"deploymentUrl": None}, {"details": {}},
     {"details": None}, {"details": {"resources": {"backendDetails": {}}}}],
)  # fmt: skip
def test_a_deployment_that_serves_no_model_is_left_out(changes: Json) -> None:
    assert [model.name for model in listing(page(row(**changes), row("other")))] == ["other"]


def test_a_listing_that_ends_before_its_count_ends() -> None:
    assert len(listing(page(row(), count=3), page(row("n"), count=3), page(count=3))) == 2


@pytest.mark.parametrize("document", [None, [], {}, {"resources": None}, {"resources": {}}, {"resources": ["d1"]}])
def test_what_is_no_listing_is_a_fault_of_the_upstream(document: object) -> None:
    orchestration = row(scenarioId="orchestration", details={})
    for documents in ([document], [page(orchestration), document]):
        with pytest.raises(ProviderError) as error:
            listing(*documents)
        assert error.value.kind == "broken"


@pytest.mark.parametrize(
    "allowed", [None, [], [{"scenarioId": "foundation-models", "executableId": "azure-openai"}], [{}]]
)
def test_a_model_that_may_not_be_orchestrated_is_not_offered(allowed: object) -> None:
    orchestration = row(scenarioId="orchestration", details={})
    assert listing(page(orchestration), page({"model": "m", "allowedScenarios": allowed})) == []


# -- which language where


@pytest.mark.parametrize(
    ("name", "executable", "spoken"),
    [
        (GPT, "azure-openai", {"azure_chat": "/chat/completions?api-version=2024-10-21"}),
        (O3, "azure-openai", {"azure_reasoning": "/chat/completions?api-version=2024-12-01-preview"}),
        ("gpt-5-mini", "azure-openai", {"azure_reasoning": "/chat/completions?api-version=2024-12-01-preview"}),
        (EMBEDDER, "azure-openai", {"openai_embeddings": "/embeddings?api-version=2024-10-21"}),
        (
            CLAUDE,
            "aws-bedrock",
            {"bedrock_messages": "/invoke", "anthropic_messages": "/invoke", "bedrock_converse": "/converse"},
        ),
        (NOVA, "aws-bedrock", {"bedrock_converse": "/converse"}),
        (TITAN, "aws-bedrock", {"titan_embed": "/invoke"}),
        (GEMINI, "gcp-vertexai", {"gemini": f"/models/{GEMINI}:generateContent"}),
        (MISTRAL, "aicore-mistralai", {"aicore_chat": "/chat/completions"}),
        ("ibm--granite-13b-chat", "aicore-ibm", {"aicore_chat": "/chat/completions"}),
        ("nvidia--nv-embed", "aicore-opensource", {"openai_embeddings": "/embeddings"}),
        (THROUGH_GPT, "orchestration", {"sap_orchestration": "/v2/completion"}),
        (THROUGH_O3, "orchestration", {"sap_orchestration_reasoning": "/v2/completion"}),
        (f"orchestration/{EMBEDDER}", "orchestration", {"sap_orchestration_embed": "/v2/embeddings"}),
    ],
)
def test_a_family_is_spoken_to_in_its_own_language(name: str, executable: str, spoken: Mapping[str, str]) -> None:
    for stated in (executable, ""):  # as listed, and as an operator gives it by its address alone
        told = SAP.speaks(deployed(name, stated, "https://api.example/d1/"), account())
        assert dict(told) == {language: f"https://api.example/d1{path}" for language, path in spoken.items()}


def test_an_operators_version_holds_for_all_models() -> None:
    for name in (GPT, O3):
        (path,) = SAP.speaks(deployed(name), account(api_version="2025-03-01-preview")).values()
        assert path.endswith("?api-version=2025-03-01-preview")


def test_a_model_without_an_address_cannot_be_spoken_to() -> None:
    assert SAP.speaks(deployed(GPT, url=""), account()) == {}


def test_what_makes_vectors_does_nothing_else_and_the_other_way_round() -> None:
    assert "tools" in SAP.lacks(deployed(EMBEDDER))
    assert "embeddings" not in SAP.lacks(deployed(EMBEDDER))
    assert SAP.lacks(deployed(GPT)) == {"embeddings"}


def test_gemini_is_not_told_to_think_unless_the_operator_knows_better() -> None:
    assert "thinking" in SAP.lacks(deployed(GEMINI))
    assert "thinking" in SAP.lacks(deployed(GEMINI, capabilities={"thinking": False}))
    assert "thinking" not in SAP.lacks(deployed(GEMINI, capabilities={"thinking": True}))


# -- what is asked: OpenAI's words


def test_what_is_not_asked_for_is_not_sent_but_for_the_stream() -> None:
    assert written("azure_chat") == {"model": GPT, "messages": HI, "stream": False}


CARRIED: Json = {
    "temperature": 0.5,
    "top_p": 0.9,
    "stop": ["END"],
    "n": 2,
    "seed": 7,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "logit_bias": {"5": 1},
    "tools": TOOLS,
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": {}, "strict": True}},
    "reasoning_effort": "low",
    "prediction": {"type": "content", "content": "x"},
    "user": "ada",
    "max_tokens": 5,
}
SAMPLING = ["frequency_penalty", "presence_penalty", "temperature", "top_p"]


@pytest.mark.parametrize("name", CARRIED)
def test_a_field_azure_knows_is_carried(name: str) -> None:
    assert written("azure_chat", **{name: CARRIED[name]})[name] == CARRIED[name]
    assert LANGUAGES["azure_chat"].dropped(asked(**{name: CARRIED[name]}), "m") == []


@pytest.mark.parametrize("language", ["azure_chat", "azure_reasoning", "aicore_chat", "sap_orchestration"])
@pytest.mark.parametrize("field", ["metadata", "store", "service_tier", "verbosity", "top_k", "made_up"])
def test_a_field_nobody_knows_is_left_out_and_reported(language: str, field: str) -> None:
    assert field not in json.dumps(written(language, **{field: 1}))
    assert LANGUAGES[language].dropped(asked(**{field: 1}), "m") == [field]


@pytest.mark.parametrize("language", ["azure_reasoning", "sap_orchestration_reasoning"])
def test_models_that_think_are_not_told_how_to_draw_their_words(language: str) -> None:
    request = asked(**{name: CARRIED[name] for name in (*SAMPLING, "reasoning_effort", "seed")})
    body = json.dumps(LANGUAGES[language].write_request(request, O3))
    assert not any(name in body for name in SAMPLING)
    assert '"reasoning_effort": "low"' in body
    assert sorted(LANGUAGES[language].dropped(request, "m")) == SAMPLING


def test_the_limit_of_a_model_that_thinks_has_its_new_name() -> None:
    assert written("azure_chat", max_completion_tokens=5)["max_tokens"] == 5
    for field in ("max_tokens", "max_completion_tokens"):
        body = written("azure_reasoning", O3, **{field: 5})
        assert body["max_completion_tokens"] == 5
        assert "max_tokens" not in body


@pytest.mark.parametrize(
    ("language", "fields"),
    [("azure_chat", {"logprobs": True}), ("azure_reasoning", {"logit_bias": {"5": 1}}),
     ("aicore_chat", {"logit_bias": {"5": 1}}), ("azure_chat", {"functions": [{"name": "f"}]}),
     ("sap_orchestration", {"modalities": ["text", "audio"]})],
)  # fmt: skip
def test_a_field_that_changes_the_answer_is_refused_by_name(language: str, fields: Json) -> None:
    assert refused(language, **fields) == next(iter(fields))


def test_open_models_are_not_told_what_openais_alone_know() -> None:
    request = asked(reasoning_effort="low", prediction={"type": "content", "content": "x"}, max_completion_tokens=5)
    assert LANGUAGES["aicore_chat"].write_request(request, MISTRAL).keys() == {
        "model", "messages", "stream", "max_tokens",
    }  # fmt: skip
    assert sorted(LANGUAGES["aicore_chat"].dropped(request, "m")) == ["prediction", "reasoning_effort"]


def test_earlier_thoughts_are_left_out() -> None:
    messages = [*HI, {"role": "assistant", "content": "Hm?", "reasoning_content": "Hm."}, *HI]
    for language in ("azure_chat", "azure_reasoning", "aicore_chat", "sap_orchestration"):
        assert "reasoning_content" not in json.dumps(written(language, messages=messages))


# -- what is asked: orchestration


def through(**fields: Any) -> Json:
    return written("sap_orchestration", THROUGH_GPT, **fields)


def prompted(body: Json) -> Json:
    prompt: Json = body["config"]["modules"]["prompt_templating"]["prompt"]
    return prompt


BRACES = "Fill in {{?name}}, {{ user }} and {% raw %}."


def test_a_conversation_goes_into_the_history_and_its_end_into_the_template() -> None:
    body = through(messages=[{"role": "system", "content": BRACES}, *HI, {"role": "assistant", "content": "Hm?"}, *HI])
    assert body == {
        "config": {
            "modules": {
                "prompt_templating": {
                    "prompt": {"template": [{"role": "user", "content": "{{?text0}}"}]},
                    "model": {"name": GPT, "version": "latest", "params": {}},
                }
            }
        },
        "placeholder_values": {"text0": "Hi"},
        "messages_history": [{"role": "system", "content": BRACES}, *HI, {"role": "assistant", "content": "Hm?"}],
    }


def test_nothing_is_said_that_the_caller_did_not_say() -> None:
    body = through(messages=[{"role": "user", "content": BRACES}])
    assert prompted(body)["template"] == [{"role": "user", "content": "{{?text0}}"}]
    assert (body["placeholder_values"], body["messages_history"]) == ({"text0": BRACES}, [])


def test_pictures_stay_in_the_template_and_each_text_is_put_aside() -> None:
    texts = [{"type": "text", "text": BRACES}, PIXEL, {"type": "text", "text": "What is it?"}]
    body = through(messages=[{"role": "user", "content": texts}])
    assert prompted(body)["template"][0]["content"] == [
        {"type": "text", "text": "{{?text0}}"}, PIXEL, {"type": "text", "text": "{{?text1}}"},
    ]  # fmt: skip
    assert body["placeholder_values"] == {"text0": BRACES, "text1": "What is it?"}


def test_parameters_are_the_models_and_tools_the_prompts() -> None:
    fields = {name: CARRIED[name] for name in ("tools", "tool_choice", "response_format", "temperature", "max_tokens")}
    body = through(stream=True, **fields)
    model = body["config"]["modules"]["prompt_templating"]["model"]
    assert body["config"]["stream"] == {"enabled": True}
    assert prompted(body).keys() == {"template", "tools", "response_format"}
    assert model["params"] == {
        "stream_options": {"include_usage": True}, "temperature": 0.5, "max_tokens": 5, "tool_choice": "required",
    }  # fmt: skip


# -- what is sent


def sent(language: str, model: UpstreamModel, **fields: Any) -> tuple[UpstreamRequest, Json]:
    target = account()
    body = LANGUAGES[language].write_request(asked(**fields), model.name)
    request = SAP.request(target, SAP.speaks(model, target)[language], body)
    return request, json.loads(request.body)


def test_every_request_says_who_asks_and_in_which_group() -> None:
    request, body = sent("azure_chat", deployed(GPT))
    assert request.headers == {
        "Content-Type": "application/json",
        "Authorization": "Bearer token-1",
        "AI-Resource-Group": "default",
        "Accept": "application/json",
    }
    assert "model" not in body


@pytest.mark.parametrize(
    ("language", "name", "path"),
    [
        ("azure_chat", GPT, "/chat/completions?api-version=2024-10-21"),
        ("aicore_chat", MISTRAL, "/chat/completions"),
        ("bedrock_messages", CLAUDE, "/invoke-with-response-stream"),
        ("bedrock_converse", NOVA, "/converse-stream"),
        ("gemini", GEMINI, f"/models/{GEMINI}:streamGenerateContent?alt=sse"),
        ("sap_orchestration", THROUGH_GPT, "/v2/completion"),
    ],
)
def test_a_stream_is_asked_for_where_it_is_and_as_text(language: str, name: str, path: str) -> None:
    request, _ = sent(language, deployed(name), stream=True)
    assert request.url == f"https://api.example/d1{path}"
    assert request.headers["Accept"] == "text/event-stream"


def test_claude_is_told_what_bedrock_takes_and_nothing_else() -> None:
    _, body = sent("bedrock_messages", deployed(CLAUDE), user="ada", stream=True, temperature=2, stop="X")
    assert body == {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "temperature": 1,
        "stop_sequences": ["X"],
    }
    assert LANGUAGES["bedrock_messages"].dropped(asked(user="ada"), "m") == ["user"]


def test_claude_sees_no_picture_that_would_have_to_be_fetched() -> None:
    far = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    with pytest.raises(CannotCarry, match=r"\.$") as refusal:
        sent("bedrock_messages", deployed(CLAUDE), messages=[{"role": "user", "content": [far]}])
    assert refusal.value.param == "messages"


# -- a real server


def model_of(sap: FakeSAP, name: str, target: Target) -> UpstreamModel:
    return next(model for model in control.list_models(SAP, target) if model.name == name)


def exchanged(target: Target, model: UpstreamModel, request: ChatRequest, language: str = "") -> Answer:
    """What the first language of the model, or another one, brings."""
    name = language or next(iter(SAP.speaks(model, target)))
    spoken = LANGUAGES[name]
    body = spoken.write_request(request, model.name)
    with closing(client.send(SAP.request(target, SAP.speaks(model, target)[name], body), target, request.stream)) as it:
        if it.status != 200:
            raise SAP.read_error(it.status, it.read_error(), target.profile)
        if it.content_type != spoken.stream_type.partition(";")[0]:
            return spoken.read_answer(answer_document(it.read()), request)
        events = UpstreamEvents(it, spoken.reader(request))
        return Answer.collect(event for step in events for event in step)


def answered(sap: FakeSAP, name: str, language: str = "", **fields: Any) -> Answer:
    target = logged_in(sap)
    return exchanged(target, model_of(sap, name, target), asked(**fields), language)


def play(sap: FakeSAP, name: str, *scenes: Scene) -> None:
    sap.scene(name.removeprefix("orchestration/"), *scenes)


def plain(answer: Answer) -> Answer:
    """Without what each family says in its own way: ids of calls, signatures, spaces in arguments."""
    parts = [
        replace(part, id="", arguments=json.dumps(json.loads(part.arguments))) if isinstance(part, ToolCall) else part
        for part in answer.choices[0].parts
    ]
    return Answer((Choice(tuple(parts), answer.choices[0].finish_reason),), answer.usage)


CALLED = tuple(ToolCall("", name, json.dumps(json.loads(arguments))) for _, name, arguments in TWO_CALLS)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", CHATTERS)
def test_an_answer_with_calls_is_read(sap: FakeSAP, name: str, stream: bool) -> None:
    play(sap, name, Scene(calls=TWO_CALLS, cached_tokens=4))
    fields: Json = {"tools": TOOLS, "temperature": 0.5, "top_p": 0.9, "max_tokens": 9, "stop": ["END"], "user": "ada"}
    answer = answered(sap, name, stream=stream, seed=3, presence_penalty=0.5, **fields)
    expected = Choice((Text(Scene().text), *CALLED), "tool_calls")
    assert plain(answer) == Answer((expected,), Usage(21, 9, cached=4))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("name", "language", "signed"),
    [(CLAUDE, "", True), (CLAUDE, "bedrock_converse", True), (GEMINI, "", False), (THROUGH_CLAUDE, "", False)],
)
def test_thoughts_are_read(sap: FakeSAP, name: str, language: str, signed: bool, stream: bool) -> None:
    sap.gemini_thinking = True
    play(sap, name, Scene(thinking="Hm, let me see.", signature="c2lnbmVk"))
    answer = answered(sap, name, language, stream=stream, reasoning_effort="low", max_tokens=5000)
    thinking = Thinking("Hm, let me see.", "c2lnbmVk" if signed else None)
    assert answer.choices == (Choice((thinking, Text(Scene().text)), "stop"),)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("finish", ["length", "filter"])
@pytest.mark.parametrize("name", CHATTERS)
def test_why_an_answer_ended_is_read(sap: FakeSAP, name: str, finish: Any, stream: bool) -> None:
    play(sap, name, Scene(finish=finish))
    reason = {"length": "length", "filter": "content_filter"}[finish]
    assert answered(sap, name, stream=stream).choices[0].finish_reason == reason


RESULTS = [
    {"role": "system", "content": f"Be brief. {BRACES}"},
    {"role": "user", "content": f"Rain? {BRACES}", "name": "ada"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id, name, arguments in TWO_CALLS
        ],
    },
    *({"role": "tool", "tool_call_id": id, "content": f"much {BRACES}"} for id, _, _ in TWO_CALLS),
]


@pytest.mark.parametrize("name", CHATTERS)
@pytest.mark.parametrize("more", [[], [{"role": "assistant", "content": "Much."}, {"role": "user", "content": "Oh."}]])
def test_what_tools_answered_is_taken(sap: FakeSAP, name: str, more: list[Json]) -> None:
    answer = answered(sap, name, messages=[*RESULTS, *more], tools=TOOLS)
    assert answer.choices[0].parts == (Text(Scene().text),)


@pytest.mark.parametrize("name", CHATTERS)
def test_a_picture_and_braces_are_taken(sap: FakeSAP, name: str) -> None:
    content = [{"type": "text", "text": BRACES}, PIXEL]
    assert answered(sap, name, messages=[{"role": "user", "content": content}]).choices
    heard = sap.asked()[-1]
    assert PICTURE in heard.raw.decode()
    assert BRACES in heard.raw.decode()


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": BRACES}],
        [{"role": "user", "content": ""}],
        [{"role": "user", "content": ""}, {"role": "assistant", "content": "?"}, {"role": "user", "content": "!"}],
        [{"role": "developer", "content": [{"type": "text", "text": BRACES}]}, *HI],
        [*HI, {"role": "system", "content": BRACES}],
        [*HI, {"role": "assistant", "content": "I think"}],
    ],
)
def test_orchestration_takes_any_conversation(sap: FakeSAP, messages: list[Json]) -> None:
    assert answered(sap, THROUGH_GPT, messages=messages).choices


@pytest.mark.parametrize("name", [GPT, O3, CLAUDE, GEMINI, MISTRAL, THROUGH_GPT])
def test_an_answer_in_a_given_form_is_asked_for(sap: FakeSAP, name: str) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    wish = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    assert answered(sap, name, response_format=wish).choices
    assert "city" in sap.asked()[-1].raw.decode()


@pytest.mark.parametrize("scene", [Scene(crlf=True), Scene(comments=True), Scene(bytes_at_once=1)])
@pytest.mark.parametrize("name", CHATTERS)
def test_a_stream_is_read_however_it_is_cut(sap: FakeSAP, name: str, scene: Scene) -> None:
    play(sap, name, scene)
    answer = answered(sap, name, stream=True)
    assert answer.choices == (Choice((Text(scene.text),), "stop"),)
    assert answer.usage == Usage(21, 9)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("when", ["first", "later", "cut"])
@pytest.mark.parametrize("name", CHATTERS)
def test_an_answer_that_breaks_is_an_error_others_may_do_better_with(
    sap: FakeSAP, name: str, when: Any, stream: bool
) -> None:
    sap.errors_listed = True
    play(sap, name, Scene(fails=when))
    with pytest.raises(ProviderError) as error:
        answered(sap, name, stream=stream)
    assert error.value.retryable


def test_orchestrated_streams_count_where_that_must_be_asked_for(sap: FakeSAP) -> None:
    sap.usage_must_be_asked = True
    assert answered(sap, THROUGH_GPT, stream=True).usage == Usage(21, 9)


def test_what_orchestration_wrote_to_a_cache_is_counted(sap: FakeSAP) -> None:
    play(sap, THROUGH_CLAUDE, Scene(cached_tokens=4, cache_write_tokens=5))
    assert answered(sap, THROUGH_CLAUDE).usage == Usage(21, 9, cached=4, cache_write=5)


def test_an_operators_own_deployment_needs_no_listing(sap: FakeSAP) -> None:
    target = logged_in(sap)
    url = model_of(sap, THROUGH_GPT, target).url
    assert exchanged(target, deployed(THROUGH_GPT, url=url), asked()).choices
    assert sap.asked()[-1].path.endswith(f"{sap.ids('orchestration')[0]}/v2/completion")


def test_gemini_thinks_where_its_deployment_lets_it(sap: FakeSAP) -> None:
    with pytest.raises(ProviderError, match="thinkingConfig") as error:
        answered(sap, GEMINI, reasoning_effort="low")
    assert not error.value.retryable


def test_a_model_that_cannot_stream_says_so(sap: FakeSAP) -> None:
    sap.unstreamable.add(O3)
    with pytest.raises(ProviderError, match="stream"):
        answered(sap, O3, stream=True)
    assert answered(sap, O3, stream=False).choices


def test_a_stream_in_amazons_binary_format_is_not_mistaken_for_another(sap: FakeSAP) -> None:
    sap.binary_stream = True
    with pytest.raises(ProviderError, match=r"not JSON\.$") as error:
        answered(sap, CLAUDE, stream=True)
    assert (error.value.kind, error.value.retryable) == ("broken", True)


# -- vectors


def vectors(sap: FakeSAP, name: str, **fields: Any) -> Any:
    target = logged_in(sap)
    model = model_of(sap, name, target)
    ((language, path),) = SAP.speaks(model, target).items()
    spoken: Language = LANGUAGES[language]
    assert isinstance(spoken, EmbeddingLanguage)
    request = VECTORS.parse_embedding({"model": "fast", **fields})
    sent = SAP.request(target, path, spoken.write_embedding_request(request, name))
    with closing(client.send(sent, target, False)) as response:
        if response.status != 200:
            raise SAP.read_error(response.status, response.read_error(), target.profile)
        return spoken.read_embeddings(answer_document(response.read()))


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize("name", [EMBEDDER, f"orchestration/{EMBEDDER}"])
def test_vectors_come_in_order_and_counted(sap: FakeSAP, name: str, encoding: str) -> None:
    found = vectors(sap, name, input=["Bern", "Oslo"], dimensions=4, encoding_format=encoding)
    swapped = vectors(sap, name, input=["Oslo", "Bern"], dimensions=4)
    assert [len(vector) for vector in found.vectors] == [4, 4]
    assert found.vectors[0] == pytest.approx(swapped.vectors[1], abs=1e-6)
    assert found.usage == Usage(21)


def test_titan_makes_one_vector_of_one_text(sap: FakeSAP) -> None:
    found = vectors(sap, TITAN, input="Bern")
    assert (len(found.vectors), found.usage) == (1, Usage(21))


@pytest.mark.parametrize(
    ("name", "fields", "param"),
    [
        (TITAN, {"input": ["a", "b"]}, "input"),
        (TITAN, {"input": [1, 2]}, "input"),
        (TITAN, {"input": "a", "dimensions": 4}, "dimensions"),
        (f"orchestration/{EMBEDDER}", {"input": [1, 2]}, "input"),
    ],
)
def test_vectors_that_cannot_be_had_are_refused_by_name(sap: FakeSAP, name: str, fields: Json, param: str) -> None:
    with pytest.raises(CannotCarry, match=r"\.$") as refusal:
        vectors(sap, name, **fields)
    assert refusal.value.param == param


@pytest.mark.parametrize("document", [{}, {"embedding": "x"}, {"embedding": [None]}, {"final_result": {}}])
@pytest.mark.parametrize("language", ["titan_embed", "sap_orchestration_embed"])
def test_what_holds_no_vectors_is_a_fault_of_the_upstream(language: str, document: Json) -> None:
    spoken = LANGUAGES[language]
    assert isinstance(spoken, EmbeddingLanguage)
    with pytest.raises(ProviderError) as error:
        spoken.read_embeddings(document)
    assert error.value.kind == "broken"


# -- what refusals mean


@pytest.mark.parametrize(
    ("status", "message", "kind", "elsewhere"),
    [
        (400, "Unrecognized request argument supplied: x", "bad_request", False),
        (401, "Jwt is expired", "auth", True),
        (403, "Not entitled.", "auth", True),
        (404, "Deployment not found.", "model_not_found", True),
        (408, "Timed out.", "timeout", True),
        (412, "Not ready.", "unavailable", True),
        (413, "Too large.", "too_large", False),
        (424, "Not ready.", "unavailable", True),
        (429, "Quota exceeded.", "rate_limit", True),
        (500, "Oops.", "broken", True),
        (503, "Maintenance.", "unavailable", True),
        (504, "Timed out.", "timeout", True),
    ],
)
@pytest.mark.parametrize("name", [GPT, CLAUDE, GEMINI, THROUGH_GPT])
def test_a_refusal_is_understood_whichever_layer_it_comes_from(
    sap: FakeSAP, name: str, status: int, message: str, kind: str, elsewhere: bool
) -> None:
    sap.errors_listed = sap.bedrock_wraps = True
    sap.refuse(name.removeprefix("orchestration/"), status, message)
    with pytest.raises(ProviderError) as error:
        answered(sap, name)
    assert (error.value.kind, error.value.retryable) == (kind, elsewhere)
    assert (message in error.value.message) is (status in (400, 413))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("This model's maximum context length is 128000 tokens.", "context_length"),
        ("prompt is too long: 213456 tokens > 200000 maximum", "context_length"),
        ("Input is too long for requested model.", "context_length"),
        ("The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).", "context_length"),
        ("The response was filtered due to Azure OpenAI's content management policy.", "content_filter"),
        ("400 - Filtering Module - Input Filter: Content filtered due to safety violations.", "content_filter"),
        ("Unused parameters: ['name']", "bad_request"),
    ],
)
def test_what_is_wrong_with_a_request_is_told_in_the_upstreams_words(message: str, kind: str) -> None:
    error = SAP.read_error(400, json.dumps({"error": {"code": 400, "message": message}}).encode(), "SAP")
    assert (error.kind, error.message, error.retryable) == (kind, message, False)


def test_an_error_in_an_orchestrated_stream_keeps_its_status_in_a_list_too() -> None:
    for fault in ({"code": 429, "message": "Slow down."}, [{"code": 429, "message": "Slow down."}]):
        reader = LANGUAGES["sap_orchestration"].reader()
        with pytest.raises(ProviderError) as error:
            reader.read_frame(b"data: " + json.dumps({"error": fault}).encode() + b"\n\n")
        assert error.value.kind == "rate_limit"


def test_how_long_to_wait_is_at_hand(sap: FakeSAP) -> None:
    sap.refuse(GPT, 429, "Quota exceeded.", ["Retry-After: 7"])
    target = logged_in(sap)
    model = model_of(sap, GPT, target)
    ((language, path),) = SAP.speaks(model, target).items()
    body = LANGUAGES[language].write_request(asked(), GPT)
    with closing(client.send(SAP.request(target, path, body), target, False)) as response:
        assert (response.status, response.header("retry-after")) == (429, "7")


def test_a_token_that_was_taken_back_is_a_credential_that_was_refused(sap: FakeSAP) -> None:
    target = logged_in(sap)
    model = model_of(sap, GPT, target)
    sap.revoke_all()
    with pytest.raises(ProviderError) as error:
        exchanged(target, model, asked())
    assert (error.value.kind, error.value.upstream_status) == ("auth", 401)
    assert exchanged(logged_in(sap), model, asked()).choices


def test_a_deployment_that_was_stopped_is_no_longer_found(sap: FakeSAP) -> None:
    target = logged_in(sap)
    model = model_of(sap, GPT, target)
    sap.groups["default"] = []
    with pytest.raises(ProviderError) as error:
        exchanged(target, model, asked())
    assert (error.value.kind, error.value.retryable) == ("model_not_found", True)


@pytest.mark.parametrize(
    "document", [{}, {"final_result": {}}, {"final_result": {"choices": [{"message": {"content": "x"}}]}}]
)
def test_an_orchestrated_answer_that_holds_none_is_a_fault_of_the_upstream(document: Json) -> None:
    with pytest.raises(ProviderError) as error:
        LANGUAGES["sap_orchestration"].read_answer(document)
    assert error.value.kind == "broken"
