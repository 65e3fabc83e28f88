"""An account at OpenAI or a compatible server: its settings, its requests, its model list."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.base import Provider, Setting, Target, UpstreamModel
from providers.languages.registry import LANGUAGES
from providers.openai import OpenAI, read_models
from providers.wire.errors import ProviderError

OPENAI = OpenAI()


def account(settings: Mapping[str, str] | None = None, **more: Any) -> Target:
    return Target("Main account", "openai", {"url": "https://api.openai.com/v1", **(settings or {})}, **more)


# -- requests


def test_a_request_goes_to_the_endpoint_with_the_credential() -> None:
    target = account({"organization": "org-1", "project": "proj-1"}, secrets={"api_key": "sk-1"})
    request = OPENAI.request(target, "/chat/completions", {"model": "gpt-4o", "messages": []})
    assert (request.method, request.url) == ("POST", "https://api.openai.com/v1/chat/completions")
    assert request.body == b'{"model":"gpt-4o","messages":[]}'
    assert request.headers == {
        "Content-Type": "application/json",
        "Authorization": "Bearer sk-1",
        "OpenAI-Organization": "org-1",
        "OpenAI-Project": "proj-1",
    }


def test_what_is_not_set_is_not_sent() -> None:
    target = account({"organization": "", "project": ""}, secrets={"api_key": ""})
    assert OPENAI.headers(target) == {"Content-Type": "application/json"}


def test_a_profiles_own_headers_go_along() -> None:
    assert OPENAI.headers(account(headers={"X-Team": "red"}))["X-Team"] == "red"


def test_each_language_it_speaks_has_an_endpoint() -> None:
    spoken = OPENAI.speaks(UpstreamModel("anything"), account())
    assert list(spoken)[:4] == ["openai_chat", "openai_responses", "openai_completions", "openai_embeddings"]
    assert spoken.keys() <= LANGUAGES.keys()


def sent(path: str = "/chat/completions", **body: Any) -> dict[str, Any]:
    return json.loads(OPENAI.request(account(), path, body).body)


@pytest.mark.parametrize("model", ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5-nano"])
def test_a_reasoning_model_is_asked_in_its_own_word_for_the_limit(model: str) -> None:
    assert sent(model=model, max_tokens=5) == {"model": model, "max_completion_tokens": 5}


@pytest.mark.parametrize("model", ["gpt-4o", "llama3", "org/o1", "omni", "gpt-oss:20b", "olmo"])
def test_other_models_are_asked_as_the_caller_asked(model: str) -> None:
    assert sent(model=model, max_tokens=5) == {"model": model, "max_tokens": 5}


@pytest.mark.parametrize("old", [None, 100_000])
def test_the_limit_a_caller_set_in_the_new_word_is_never_lifted_by_the_old_one(old: int | None) -> None:
    assert sent(model="o1", max_tokens=old, max_completion_tokens=5)["max_completion_tokens"] == 5


def test_only_chat_knows_the_new_word() -> None:
    assert sent("/completions", model="o1", prompt="x", max_tokens=5)["max_tokens"] == 5


def test_building_a_request_leaves_the_callers_body_alone() -> None:
    body = {"model": "o1", "max_tokens": 5}
    OPENAI.request(account(), "/chat/completions", body)
    assert body == {"model": "o1", "max_tokens": 5}


# -- the model list

LISTINGS = [
    # OpenAI API reference, models
    ({"id": "gpt-4o", "object": "model", "created": 1686935002, "owned_by": "openai"}, UpstreamModel("gpt-4o")),
    # vLLM
    ({"id": "org/model", "object": "model", "max_model_len": 8192}, UpstreamModel("org/model", 8192)),
    # llama.cpp
    ({"id": "m.gguf", "meta": {"vocab_type": 2, "n_ctx_train": 131072}}, UpstreamModel("m.gguf", 131072)),
    ({"id": "m", "meta": None, "context_window": 4096}, UpstreamModel("m", 4096)),
    ({"id": "m", "context_window": "4096"}, UpstreamModel("m")),
    ({"id": "m", "meta": "small"}, UpstreamModel("m")),
    ({"id": "m", "context_window": 0, "max_model_len": -1}, UpstreamModel("m")),
]  # fmt: skip


@pytest.mark.parametrize(("row", "model"), LISTINGS)
def test_a_model_is_read_with_its_context_window(row: dict[str, Any], model: UpstreamModel) -> None:
    assert read_models({"object": "list", "data": [row]}) == [model]


def test_rows_that_name_no_model_are_left_out() -> None:
    rows = ["m", None, {}, {"id": 5}, {"id": "real"}]
    assert read_models({"data": rows}) == [UpstreamModel("real")]


@pytest.mark.parametrize("document", [None, [], "models", {}, {"data": None}, {"data": {"id": "m"}}, {"models": []}])
def test_what_is_no_model_list_is_a_fault_of_the_upstream(document: Any) -> None:
    with pytest.raises(ProviderError) as error:
        read_models(document)
    assert error.value.kind == "broken"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(st.fixed_dictionaries({}, optional={"id": anything | st.just("m"), "meta": anything, "max_model_len": anything}))
@settings(deadline=None, database=None)
def test_any_json_in_a_row_is_a_model_or_none(row: dict[str, Any]) -> None:
    try:
        assert all(isinstance(model.name, str) for model in read_models({"data": [row]}))
    except ProviderError:
        pass


def test_models_are_asked_for_with_the_credential() -> None:
    request = next(OPENAI.models(account(secrets={"api_key": "sk-1"})))
    assert (request.method, request.url, request.body) == ("GET", "https://api.openai.com/v1/models", b"")
    assert request.headers["Authorization"] == "Bearer sk-1"


# -- settings refuse nonsense when they are saved


URL = OPENAI.setting("url")


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        (" http://gpu-box:8000/v1/ ", "http://gpu-box:8000/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("", "https://api.openai.com/v1"),
    ],
)
def test_an_address_is_stored_tidily(given: str, stored: str) -> None:
    assert URL.clean(given) == stored


@pytest.mark.parametrize(
    "value",
    ["gpu-box:8000", "ftp://x/v1", "http://", "http:///v1", "javascript:alert(1)", "http://ada:secret@host/v1",
     "http://host:port/v1", "http://host:99999/v1", "http://[::1/v1", "http://host/v1\r\nX-Injected: two",
     "http://host/v1\nx", "http://ho st/v1", "http://host/v 1", "http://host\t/v1", "http://host/\0"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_in_a_sentence(value: str) -> None:
    with pytest.raises(ValueError, match=r"^Base URL .*\.$"):
        URL.clean(value)


@pytest.mark.parametrize("name", ["organization", "project", "api_key"])
@pytest.mark.parametrize("value", ["one\r\nX-Injected: two", "one\ntwo", "one\0two", "one\x7f", "one\u2028two"])
def test_a_line_break_in_a_setting_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="control characters"):
        OPENAI.setting(name).clean(value)


def test_settings_of_every_kind_are_cleaned() -> None:
    assert Setting("n", "Number", kind="integer").clean(" 7 ") == "7"
    assert Setting("c", "Choice", kind="choice", choices=("a", "b")).clean("b") == "b"
    assert Setting("l", "Lines", kind="lines").clean("one\ntwo") == "one\ntwo"
    assert Setting("t", "Text", default="x").clean(" ") == "x"
    for setting, value in (
        (Setting("n", "Number", kind="integer"), "-1"),
        (Setting("n", "Number", kind="integer"), "1.5"),
        (Setting("c", "Choice", kind="choice", choices=("a", "b")), "c"),
        (Setting("t", "Text", required=True), " "),
    ):
        with pytest.raises(ValueError, match=rf"^{setting.label} .*\.$"):
            setting.clean(value)


def test_a_setting_nobody_declared_is_not_there() -> None:
    with pytest.raises(KeyError):
        OPENAI.setting("colour")


def test_only_the_api_key_is_secret() -> None:
    assert [setting.name for setting in OPENAI.settings if setting.secret] == ["api_key"]


# -- what every kind has when it says nothing


def test_a_kind_that_lists_no_models_has_none() -> None:
    assert list(Provider().models(account())) == []
    assert Provider().known_models() == []


def test_an_engine_that_knows_functions_alone_does_not_speak_the_language_of_other_tools() -> None:
    """As llama.cpp says it; so the call is translated, where the gateway makes functions of them."""
    said = b'{"error":{"code":400,"message":"\'type\' of tool must be \'function\'","type":"invalid_request_error"}}'
    assert OPENAI.read_error(400, said, "gpu-box").kind == "unsupported_path"
    assert OPENAI.read_error(400, b'{"error":{"message":"Bad tools."}}', "gpu-box").kind == "bad_request"
