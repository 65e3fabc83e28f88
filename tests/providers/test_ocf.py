"""OCF and OpenTela: the head's account, its node table, and engines on machines of strangers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.base import Target, UpstreamModel, UpstreamRequest
from providers.conversation import Answer, ChatRequest, Choice, Text, Thinking, ToolCall, Usage
from providers.languages.errors import answer_document
from providers.languages.language import Language, Reader
from providers.languages.ocf import PRIVATE, OCFChat
from providers.languages.openai_chat import OpenAIChat
from providers.languages.openai_completions import OpenAICompletions
from providers.languages.openai_embeddings import OpenAIEmbeddings
from providers.ocf import OCF, read_models
from providers.streams import StraightStream, UpstreamEvents
from providers.wire import client, control
from providers.wire.errors import CannotCarry, ProviderError
from tests.fakes.ocf import CHATTER, EMBEDDER, PAINTER, FakeOCF, error_text, peer, service
from tests.fakes.scenes import PICTURE, TWO_CALLS, Scene

HEAD = OCF()
CHAT, COMPLETIONS, EMBEDDINGS = OCFChat(), OpenAICompletions(), OpenAIEmbeddings()
OPENAI = OpenAIChat()
MODEL = UpstreamModel(CHATTER)
DEFAULTS = {setting.name: setting.default for setting in HEAD.settings if not setting.secret}
HI = [{"role": "user", "content": "Hi"}]
TOOLS = [{"type": "function", "function": {"name": "rain", "parameters": {"type": "object"}}}]

Json = dict[str, Any]


def account(url: str = "http://head.example:8092", key: str = "", **more: str) -> Target:
    return Target("Head", "ocf", DEFAULTS | {"url": url} | more, {"api_key": key}, total_timeout=20)


def asked(**fields: Any) -> ChatRequest:
    return OPENAI.parse_request({"model": "fast", "messages": HI, **fields})


def written(**fields: Any) -> Json:
    return CHAT.write_request(asked(**fields), CHATTER)


def sent(body: Json | None = None, path: str = "/v1/service/llm/v1/chat/completions", **more: str) -> UpstreamRequest:
    return HEAD.request(account(**more), path, body or {"model": "m"})


# -- the account


def test_its_prompts_go_to_third_parties_and_it_says_which() -> None:
    assert HEAD.third_party
    assert HEAD.node_header == "x-computing-node"


def test_a_call_names_the_service_in_its_path() -> None:
    assert dict(HEAD.speaks(MODEL, account())) == {
        "engine_chat": "/v1/service/llm/v1/chat/completions",
        "openai_completions": "/v1/service/llm/v1/completions",
        "openai_embeddings": "/v1/service/llm/v1/embeddings",
    }


@pytest.mark.parametrize("peer", ["QmWorkerOne", "/QmWorkerOne"])
def test_calls_can_be_pinned_to_one_worker(peer: str) -> None:
    spoken = HEAD.speaks(MODEL, account(peer=peer))
    assert spoken["engine_chat"] == "/v1/p2p/QmWorkerOne/v1/_service/llm/v1/chat/completions"


def test_a_model_of_another_service_is_asked_there() -> None:
    spoken = HEAD.speaks(UpstreamModel("bge", family="embedding"), account())
    assert dict(spoken) == {"openai_embeddings": "/v1/service/embedding/v1/embeddings"}


@pytest.mark.parametrize(
    "more", [{"peer": "Qm/../x"}, {"peer": "Qm?x"}, {"identity_group": "all"}, {"identity_group": "model="}]
)
def test_settings_that_are_none_are_refused_in_a_sentence(more: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        HEAD.check(account(**more))


def test_what_is_set_is_enough() -> None:
    HEAD.check(account())
    HEAD.check(account(peer="QmWorkerOne", identity_group="model=org/a=b"))


def test_a_key_is_sent_where_there_is_one() -> None:
    assert sent(key="sk-head").headers["Authorization"] == "Bearer sk-head"
    assert "Authorization" not in sent().headers
    assert "without a key" in HEAD.identity(account())


@pytest.mark.parametrize(
    ("stream", "accept"), [(True, "text/event-stream"), (False, "application/json"), (None, "application/json")]
)
def test_the_head_is_told_what_kind_of_answer_is_read(stream: bool | None, accept: str) -> None:
    assert sent({"model": "m", "stream": stream}).headers["Accept"] == accept


def test_the_head_is_told_how_to_choose_only_when_somebody_asks_for_it() -> None:
    assert not any(name.startswith("X-Otela") for name in sent().headers)
    headers = sent(identity_group="model=m", fallback="0", trust="3").headers
    assert headers["X-Otela-Identity-Group"] == "model=m"
    assert headers["X-Otela-Fallback"] == "0"
    assert headers["X-Otela-Trust"] == "3"


def test_what_is_private_never_leaves_however_it_comes() -> None:
    body = {"model": "m", "prompt": "x", "stream_options": {"include_usage": True}, **dict.fromkeys(PRIVATE, "ada")}
    assert json.loads(sent(body, "/completions").body) == {"model": "m", "prompt": "x"}
    assert json.loads(sent({"stream": True, "stream_options": {}}).body) == {"stream": True, "stream_options": {}}


# -- what is asked


@pytest.mark.parametrize("field", sorted(PRIVATE))
def test_a_private_field_is_left_out_and_reported(field: str) -> None:
    assert field not in written(**{field: "x"})
    assert CHAT.dropped(asked(**{field: "x"}), "m") == [field]


CARRIED: Json = {
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 7,
    "n": 2,
    "stop": ["END"],
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "logit_bias": {"5": 1},
    "tools": TOOLS,
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "response_format": {"type": "json_object"},
    "reasoning_effort": "low",
    "top_k": 5,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "chat_template_kwargs": {"enable_thinking": False},
    "guided_json": {"type": "object"},
}


@pytest.mark.parametrize("name", CARRIED)
def test_everything_an_engine_may_know_is_carried(name: str) -> None:
    assert written(**{name: CARRIED[name]})[name] == CARRIED[name]
    assert CHAT.dropped(asked(**{name: CARRIED[name]}), "m") == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("logprobs", True), ("functions", [{}]), ("audio", {"voice": "x"}), ("web_search_options", {"a": 1})],
)
def test_what_would_be_ignored_or_lost_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(CannotCarry) as refusal:
        written(**{field: value})
    assert refusal.value.param == field


def test_the_limit_is_written_in_the_word_old_engines_know_too() -> None:
    body = written(max_completion_tokens=5)
    assert (body["max_tokens"], "max_completion_tokens" in body) == (5, False)


def test_a_developer_speaks_as_the_system() -> None:
    assert written(messages=[{"role": "developer", "content": "x"}, *HI])["messages"][0]["role"] == "system"


# -- the node table


def listed(*peers: Json, pinned: str = "") -> list[UpstreamModel]:
    return read_models({f"/{each['id']}": each for each in peers}, pinned)


def test_a_model_is_listed_once_with_its_providers_and_their_hardware() -> None:
    two = [service("model=org/a"), service("model=org/a", "model=org/b")]
    models = listed(
        peer("One", [service("model=org/a")], ["NVIDIA H100"] * 2),
        peer("Two", two, ["NVIDIA A100"]),
        peer("Three", [service("model=org/a")], ["NVIDIA A100"]),
    )
    assert models == [
        UpstreamModel("org/a", note="3 providers: 2x NVIDIA A100, 2x NVIDIA H100"),
        UpstreamModel("org/b", note="1 provider: 1x NVIDIA A100"),
    ]


@pytest.mark.parametrize(
    "row",
    [
        peer("Gone", [service("model=m")], connected=False),
        peer("Left", [service("model=m")], status="left"),
        peer("Other", [service("model=m", name="rerank")]),
        peer("Wild", [service("model=*", "all", "model=", "engine=vllm")]),
        peer("Odd", [service("model=odd/model=q4")]),
        peer("Idle", None),
        peer("Silent", [service()]),
        {"id": "Bare"},
        {"id": "Strange", "service": "llm", "hardware": [1]},
        {"id": "Stranger", "service": [None, {"name": "llm", "identity_group": [None, 5, {}]}]},
        "a peer",
        None,
    ],
    ids=lambda row: row["id"] if isinstance(row, dict) else str(row),
)
def test_what_cannot_be_asked_is_not_listed(row: Any) -> None:
    assert read_models({"/x": row, "/y": peer("Y", [service("model=real")])}) == [
        UpstreamModel("real", note="1 provider")
    ]


def test_an_empty_network_has_no_models() -> None:
    assert read_models({}) == read_models(None) == read_models([]) == []


@pytest.mark.parametrize("document", ["table", 5, True])
def test_what_is_no_table_is_a_fault_of_the_upstream(document: object) -> None:
    with pytest.raises(ProviderError) as error:
        read_models(document)
    assert error.value.kind == "broken"


def test_of_a_pinned_worker_only_its_own_models_are_listed() -> None:
    models = listed(peer("One", [service("model=a")]), peer("Two", [service("model=b")]), pinned="Two")
    assert [model.name for model in models] == ["b"]


def test_a_service_for_vectors_is_known_as_one() -> None:
    embeds = peer("One", [service("model=bge", name="embedding"), service("model=both", name="embedding")])
    both, bge = sorted(listed(embeds, peer("Two", [service("model=both")])), key=lambda model: model.name, reverse=True)
    assert (bge.family, bge.capabilities) == ("embedding", {"embeddings": True})
    assert (both.family, both.capabilities) == ("", {})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just("model=m"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "service", "name", "identity_group", "hardware", "gpus"]), inner)
    ),
    max_leaves=6,
)


@given(anything)
@settings(deadline=None, database=None)
def test_any_json_is_a_table_or_none(document: Any) -> None:
    try:
        assert all(isinstance(model.name, str) for model in read_models(document))
    except ProviderError:
        pass


# -- a real head


@pytest.fixture(params=["ocf", "tela"])
def head(request: pytest.FixtureRequest) -> Iterator[FakeOCF]:
    with FakeOCF(request.param, key="sk-head" if request.param == "tela" else "") as server:
        yield server
        assert server.complaints == []


def at(head: FakeOCF, **more: str) -> Target:
    return account(head.url, head.key, **more)


def send(target: Target, path: str, body: Json) -> client.Response:
    response = client.send(HEAD.request(target, path, body), target, body.get("stream") is True)
    if response.status != 200:
        raise HEAD.read_error(response.status, response.read_error(), target.profile)
    return response


def answered(target: Target, request: ChatRequest, model: str = CHATTER, language: Language = CHAT) -> Answer:
    """As a call is relayed: also a stream may be answered whole."""
    body = language.write_request(request, model)
    with closing(send(target, HEAD.speaks(MODEL, target)[language.name], body)) as response:
        if request.stream and response.content_type == "text/event-stream":
            reader: Reader = language.reader(request)
            return Answer.collect(event for step in UpstreamEvents(response, reader) for event in step)
        return language.read_answer(answer_document(response.read()), request)


def failing(target: Target, request: ChatRequest, **more: Any) -> ProviderError:
    with pytest.raises(ProviderError) as error:
        answered(target, request, **more)
    return error.value


def test_its_models_are_listed(head: FakeOCF) -> None:
    for head.table_as_array in (False, True):
        models = control.list_models(HEAD, at(head))
        assert [model.name for model in models if not model.family] == [PAINTER, CHATTER, EMBEDDER]
        assert models[-2].note == "2 providers: 4x NVIDIA A100-SXM4-80GB, 1x NVIDIA H100"
    head.table = None
    assert control.list_models(HEAD, at(head)) == []


SCENE = Scene(thinking="Hm.", calls=TWO_CALLS, cached_tokens=4)
SPOKEN = Answer(
    (Choice((Thinking("Hm."), Text(SCENE.text), *(ToolCall(*each) for each in TWO_CALLS)), "tool_calls"),),
    Usage(21, 9, cached=4),
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize("oddly", ["", "continuous_usage", "only_max_tokens"])
def test_an_answer_is_read_whichever_engine_made_it(head: FakeOCF, stream: bool, field: Any, oddly: str) -> None:
    head.reasoning_field = field
    if oddly:
        setattr(head, oddly, True)
    head.scene(CHATTER, SCENE)
    choice = {"type": "function", "function": {"name": "rain"}}
    fields = {"tools": TOOLS, "tool_choice": choice, "max_completion_tokens": 9, **dict.fromkeys(PRIVATE, "ada")}
    assert answered(at(head), asked(stream=stream, **fields)) == SPOKEN


def test_a_worker_that_does_not_stream_is_read_as_a_whole() -> None:
    with FakeOCF("ocf") as head:
        head.json_despite_stream = True
        head.scene(CHATTER, SCENE)
        assert answered(at(head), asked(stream=True)) == SPOKEN
        assert head.complaints == []


@pytest.mark.parametrize("scene", [Scene(crlf=True), Scene(comments=True), Scene(bytes_at_once=1)])
def test_a_stream_is_read_however_it_is_cut(head: FakeOCF, scene: Scene) -> None:
    head.scene(CHATTER, scene)
    assert answered(at(head), asked(stream=True)).choices == (Choice((Text(scene.text),), "stop"),)


def test_several_answers_are_kept_apart(head: FakeOCF) -> None:
    head.scene(CHATTER, Scene(calls=TWO_CALLS))
    for stream in (False, True):
        choices = answered(at(head), asked(stream=stream, n=3)).choices
        assert len(choices) == 3
        assert len(set(choices)) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("when", ["first", "later", "cut"])
@pytest.mark.parametrize("old", [False, True])
def test_an_answer_that_breaks_is_an_error_others_may_do_better_with(
    head: FakeOCF, stream: bool, when: Any, old: bool
) -> None:
    head.old_error_shape = old
    head.scene(CHATTER, Scene(fails=when))
    assert failing(at(head), asked(stream=stream)).retryable


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_gives_up_has_not_answered(head: FakeOCF, stream: bool) -> None:
    head.fail(CHATTER, "abort")
    assert failing(at(head), asked(stream=stream)).retryable


ROWS = [
    ("empty_502", "broken", True),
    ("no_providers", "unavailable", True),
    ("service_not_found", "unavailable", True),
    ("no_provider", "unavailable", True),
    ("all_unreachable", "unreachable", True),
    ("missing_token", "auth", True),
    ("invalid_token", "auth", True),
    ("revoked_token", "auth", True),
    ("acl", "auth", True),
    ("limited", "rate_limit", True),
    ("admission", "unavailable", True),
    ("evaluator", "unavailable", True),
    ("no_trusted", "unavailable", True),
    ("trust", "unavailable", True),
    ("engine_400", "bad_request", False),
    ("engine_400_old", "bad_request", False),
    ("engine_context", "context_length", False),
    ("engine_context_old", "context_length", False),
    ("engine_404", "unavailable", True),
    ("engine_422", "bad_request", False),
    ("engine_500", "broken", True),
    ("too_large", "too_large", False),
]


@pytest.mark.parametrize(("name", "kind", "elsewhere"), ROWS)
def test_a_refusal_is_understood(head: FakeOCF, name: str, kind: str, elsewhere: bool) -> None:
    head.fail(CHATTER, name)
    error = failing(at(head), asked())
    assert (error.kind, error.retryable) == (kind, elsewhere)


def test_a_model_nobody_offers_may_be_had_elsewhere(head: FakeOCF) -> None:
    assert failing(at(head), asked(), model="nobody/has-it").kind == "unavailable"


def test_what_one_worker_was_not_started_for_another_may_do(head: FakeOCF) -> None:
    assert failing(at(head), asked(tools=TOOLS)).kind == "incapable"
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
    seen = asked(messages=[{"role": "user", "content": [picture]}])
    assert failing(at(head), seen).kind == "incapable"
    assert answered(at(head), seen, PAINTER).choices


# -- a failure that calls itself a success


@pytest.mark.parametrize("stream", [False, True])
def test_a_worker_that_was_not_reached_has_not_chatted(head: FakeOCF, stream: bool) -> None:
    head.play_error_text(CHATTER)
    error = failing(at(head), asked(stream=stream))
    assert (error.kind, error.retryable) == ("broken", True)


@pytest.mark.parametrize("stream", [False, True])
def test_a_worker_that_was_not_reached_has_not_completed(head: FakeOCF, stream: bool) -> None:
    head.play_error_text(CHATTER)
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    body = {"model": CHATTER, "prompt": "Once", **options}
    path = HEAD.speaks(MODEL, at(head))["openai_completions"]
    with closing(send(at(head), path, body)) as response, pytest.raises(ProviderError) as error:
        assert response.content_type != "text/event-stream"
        COMPLETIONS.pass_answer(response.read(), "fast")
    assert error.value.retryable


def test_a_worker_that_was_not_reached_has_made_no_vectors(head: FakeOCF) -> None:
    head.script(EMBEDDER, error_text("timeout awaiting response headers"))
    path = HEAD.speaks(MODEL, at(head))["openai_embeddings"]
    body = {"model": EMBEDDER, "input": "a"}
    with closing(send(at(head), path, body)) as response, pytest.raises(ProviderError) as error:
        EMBEDDINGS.pass_answer(response.read(), "fast")
    assert error.value.retryable


def test_a_pinned_worker_that_is_gone_is_no_answer(head: FakeOCF) -> None:
    assert failing(at(head, peer="QmNobody"), asked()).retryable


# -- straight through, and routed


def test_a_completion_streams_straight_through_with_the_heads_comment_behind_it(head: FakeOCF) -> None:
    scene = Scene()
    head.scene(CHATTER, scene)
    body = {"model": "fast", "prompt": "Once", "stream": True, "user": "ada", "metadata": {"a": "b"}}
    path = HEAD.speaks(MODEL, at(head))["openai_completions"]
    readdressed = COMPLETIONS.readdress(body, COMPLETIONS.peek(body), CHATTER, ask_usage=True)
    stream = StraightStream(send(at(head), path, readdressed), COMPLETIONS.tap("fast", include_usage=False))
    with closing(stream):
        stream.start()
        frames = b"".join(stream)
    pieces = [json.loads(line[6:]) for line in frames.splitlines() if line.startswith(b"data: {")]
    assert "".join(piece["choices"][0]["text"] for piece in pieces) == scene.text
    assert {piece["model"] for piece in pieces} == {"fast"}


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_vectors_pass_straight_through(head: FakeOCF, encoding: str) -> None:
    body = {"model": EMBEDDER, "input": ["a", "b"], "encoding_format": encoding, "user": "ada"}
    path = HEAD.speaks(MODEL, at(head))["openai_embeddings"]
    with closing(send(at(head), path, body)) as response:
        document = answer_document(response.read())
    assert len(EMBEDDINGS.read_embeddings(document).vectors) == 2


def test_a_pinned_worker_answers_every_call(head: FakeOCF) -> None:
    for stream in (False, True):
        assert answered(at(head, peer="QmWorkerTwo"), asked(stream=stream)).choices
    assert {head.node_of(heard) for heard in head.asked()} == {"QmWorkerTwo"}


def test_an_answer_says_which_machine_made_it(head: FakeOCF) -> None:
    path = HEAD.speaks(MODEL, at(head))["engine_chat"]
    with closing(send(at(head), path, CHAT.write_request(asked(), CHATTER))) as response:
        assert response.header(HEAD.node_header) in ("QmWorkerOne", "QmWorkerTwo")
        response.read()


def test_opentela_is_asked_to_choose_as_the_profile_says() -> None:
    with FakeOCF("tela") as head:
        answered(at(head, identity_group=f"model={CHATTER}", fallback="1", trust="1"), asked())
        assert failing(at(head, trust="3"), asked()).kind == "unavailable"
        assert head.complaints == []
        assert head.routed[0] == {
            "x-otela-identity-group": f"model={CHATTER}",
            "x-otela-fallback": "1",
            "x-otela-trust": "1",
        }


def test_vectors_of_a_service_of_their_own_are_asked_there() -> None:
    with FakeOCF("tela") as head:
        (model,) = [each for each in control.list_models(HEAD, at(head)) if each.family]
        path = HEAD.speaks(model, at(head))["openai_embeddings"]
        with closing(send(at(head), path, {"model": model.name, "input": "a"})) as response:
            assert EMBEDDINGS.read_embeddings(answer_document(response.read())).vectors
        assert head.complaints == []
