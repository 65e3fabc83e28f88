"""Ollama: a server of open models on one's own machines, or its hosted service."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers.base import NOTHING, Listing, Provider, Setting, Target, UpstreamModel, UpstreamRequest
from providers.capabilities import Capability
from providers.documents import dumps
from providers.languages.fields import count_in, text_in
from providers.wire.errors import Kind, ProviderError

SECONDS = re.compile(r"-?\d+")
DURATION = re.compile(r"-?(\d+(\.\d+)?(ms|s|m|h))+")


class Ollama(Provider):
    """Speaks its native API: the OpenAI one beside it swallows errors and ignores the limit of output tokens."""

    kind = "ollama"
    label = "Ollama"
    settings = (
        Setting(
            "url",
            "URL",
            "Without /api, as http://localhost:11434 or https://ollama.com.",
            "http://localhost:11434",
            kind="url",
        ),
        Setting(
            "keep_alive",
            "Keep alive",
            "How long a model stays loaded after a call: 5m, 1h30m, or a number of seconds; -1 is for ever. "
            "Empty: as the server likes.",
        ),
        Setting(
            "num_ctx",
            "Context window",
            "Tokens a loaded model can see; longer prompts are cut. Empty: as the server likes.",
            kind="integer",
        ),
        Setting(
            "management",
            "Management",
            "Whether management keys may pull, create and delete models here, by Ollama's own calls.",
            default="refused",
            kind="choice",
            choices=("refused", "allowed"),
        ),
        Setting("api_key", "API key", "For the hosted service; a server of your own asks for none.", secret=True),
    )

    def check(self, target: Target) -> None:
        alive = target.settings.get("keep_alive", "")
        if alive and not SECONDS.fullmatch(alive) and not DURATION.fullmatch(alive):
            raise ValueError("Keep alive must be a duration as 5m or 1h30m, or a whole number of seconds.")
        if (window := target.settings.get("num_ctx")) and int(window) < 1:
            raise ValueError("Context window must be at least 1.")

    def speaks(self, model: UpstreamModel, target: Target) -> Mapping[str, str]:
        able = model.capabilities
        spoken: dict[str, str] = {}
        # A model that completes can be held to JSON, so one that only embeds is known by what it cannot do.
        if not able.get("embeddings") or able.get("json_schema", True):
            spoken |= {"ollama_chat": "/api/chat", "ollama_generate": "/api/generate"}
        if able.get("embeddings", True):
            spoken["ollama_embed"] = "/api/embed"
        return spoken

    def headers(self, target: Target) -> dict[str, str]:
        headers = super().headers(target)
        if key := target.secrets.get("api_key"):
            headers["Authorization"] = f"Bearer {key}"
        return headers

    def canonical(self, model: str) -> str:
        return model if ":" in model.rpartition("/")[2] else f"{model}:latest"

    def request(
        self, target: Target, path: str, body: Mapping[str, Any], passed: Mapping[str, str] = NOTHING
    ) -> UpstreamRequest:
        if alive := target.settings.get("keep_alive"):
            body = {"keep_alive": int(alive) if SECONDS.fullmatch(alive) else alive, **body}
        if window := target.settings.get("num_ctx"):
            body = {**body, "options": {"num_ctx": int(window), **(body.get("options") or {})}}
        return super().request(target, path, body, passed)

    def identity(self, target: Target) -> str:
        return "the API key stored here" if target.secrets.get("api_key") else "nobody: without a key"

    def models(self, target: Target) -> Listing:
        headers = self.headers(target)
        document = yield UpstreamRequest("GET", self.url(target, "/api/tags"), headers)
        models = []
        for row in _rows(document):
            name = text_in(row, "model", "name")
            if not row.get("capabilities"):
                # Older servers tell what a model can do only when asked for it alone.
                shown = yield UpstreamRequest("POST", self.url(target, "/api/show"), headers, dumps({"model": name}))
                row = {**row, **shown} if isinstance(shown, dict) else row
            models.append(_model(name, row))
        return models

    def meaning(self, status: int, said: str) -> Kind | None:
        return "incapable" if status == 400 and "does not support" in said else None


def _rows(document: Any) -> list[dict[str, Any]]:
    rows = document.get("models") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise ProviderError("The server's answer is not a list of models.", kind="broken")
    return [row for row in rows if isinstance(row, dict) and text_in(row, "model", "name")]


def _model(name: str, row: Mapping[str, Any]) -> UpstreamModel:
    host = text_in(row, "remote_host")
    return UpstreamModel(
        name, _window(row), capabilities=_capabilities(row.get("capabilities")), note=f"Runs at {host}." if host else ""
    )


def _window(row: Mapping[str, Any]) -> int | None:
    listed = row.get("model_info")
    info = listed if isinstance(listed, dict) else {}
    architecture = text_in(info, "general.architecture")
    return count_in(row.get("details"), "context_length") or count_in(info, f"{architecture}.context_length") or None


def _capabilities(said: object) -> dict[Capability, bool]:
    if not isinstance(said, list) or not said:
        return {}
    return {
        "tools": "tools" in said,
        "images": "vision" in said,
        "json_schema": "completion" in said,
        "thinking": "thinking" in said,
        "embeddings": "embedding" in said,
        "streaming": True,
    }
