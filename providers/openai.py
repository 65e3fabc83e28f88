"""OpenAI, and every server that speaks its API: vLLM, llama.cpp, SGLang, LM Studio and others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers.base import NOTHING, Listing, Provider, Setting, Target, UpstreamModel, UpstreamRequest
from providers.languages.openai_passthrough import PATHS
from providers.wire.errors import Kind, ProviderError

# OpenAI API reference, chat: `max_tokens` is not accepted by reasoning models.
REASONING_MODELS = re.compile(r"(o\d|gpt-5)")
# As llama.cpp says it (tools/server, Responses).
ONLY_FUNCTIONS = re.compile(r"'?type'? of tool must be '?function")
SPOKEN: Mapping[str, str] = {
    "openai_chat": "/chat/completions",
    "openai_responses": "/responses",
    "openai_completions": "/completions",
    "openai_embeddings": "/embeddings",
    **PATHS,
}


class OpenAI(Provider):
    """What a server does not have it answers with a 404, and the call is translated."""

    kind = "openai"
    label = "OpenAI or compatible"
    settings = (
        Setting(
            "url",
            "Base URL",
            "With the version, as https://api.openai.com/v1 or http://gpu-box:8000/v1.",
            "https://api.openai.com/v1",
            kind="url",
        ),
        Setting("organization", "Organization", "Sent as OpenAI-Organization."),
        Setting("project", "Project", "Sent as OpenAI-Project."),
        Setting("api_key", "API key", "Leave empty when the server asks for none.", secret=True),
    )

    def speaks(self, model: UpstreamModel, target: Target) -> Mapping[str, str]:
        return SPOKEN

    def headers(self, target: Target) -> dict[str, str]:
        headers = super().headers(target)
        if key := target.secrets.get("api_key"):
            headers["Authorization"] = f"Bearer {key}"
        if organization := target.settings.get("organization"):
            headers["OpenAI-Organization"] = organization
        if project := target.settings.get("project"):
            headers["OpenAI-Project"] = project
        return headers

    def request(
        self, target: Target, path: str, body: Mapping[str, Any], passed: Mapping[str, str] = NOTHING
    ) -> UpstreamRequest:
        if path == "/chat/completions" and "max_tokens" in body and REASONING_MODELS.match(str(body.get("model"))):
            limit = body.get("max_completion_tokens")
            body = {**body, "max_completion_tokens": body["max_tokens"] if limit is None else limit}
            del body["max_tokens"]
        return super().request(target, path, body, passed)

    def meaning(self, status: int, said: str) -> Kind | None:
        # Engines that know functions alone refuse what Codex declares; in another language they are asked for those.
        return "unsupported_path" if status in (400, 422) and ONLY_FUNCTIONS.search(said) else None

    def identity(self, target: Target) -> str:
        return "the API key stored here" if target.secrets.get("api_key") else "nobody: without a key"

    def models(self, target: Target) -> Listing:
        document = yield UpstreamRequest("GET", self.url(target, "/models"), self.headers(target))
        return read_models(document)


def read_models(document: Any) -> list[UpstreamModel]:
    """OpenAI's list of models. Raises ProviderError when it is none."""
    rows = document.get("data") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise ProviderError("The server's answer is not a list of models.", kind="broken")
    return [
        UpstreamModel(row["id"], _window(row))
        for row in rows
        if isinstance(row, dict) and isinstance(row.get("id"), str)
    ]


def _window(row: Mapping[str, Any]) -> int | None:
    """vLLM says `max_model_len`, llama.cpp `meta.n_ctx_train`, others `context_window`."""
    listed = row.get("meta")
    meta = listed if isinstance(listed, dict) else {}
    for value in (row.get("context_window"), row.get("max_model_len"), meta.get("n_ctx_train")):
        if isinstance(value, int) and value > 0:
            return value
    return None
