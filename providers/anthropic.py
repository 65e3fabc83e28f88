"""Anthropic's own API, and servers that speak it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from providers.base import Listing, Provider, Setting, Target, UpstreamModel, UpstreamRequest
from providers.capabilities import Capability
from providers.languages.fields import count_in, object_in, text_in
from providers.wire.errors import Kind, ProviderError

PAGE = 1000  # models


class Anthropic(Provider):
    kind = "anthropic"
    label = "Anthropic"
    settings = (
        Setting("url", "URL", "Without /v1.", "https://api.anthropic.com", kind="url"),
        Setting("version", "API version", "Sent as anthropic-version.", "2023-06-01"),
        Setting("api_key", "API key", "From console.anthropic.com, under API keys.", required=True, secret=True),
    )

    def speaks(self, model: UpstreamModel, target: Target) -> Mapping[str, str]:
        return {"anthropic_messages": "/v1/messages", "anthropic_count_tokens": "/v1/messages/count_tokens"}

    def lacks(self, model: UpstreamModel) -> frozenset[Capability]:
        return super().lacks(model) | {"embeddings"}

    def headers(self, target: Target) -> dict[str, str]:
        return {
            **super().headers(target),
            "x-api-key": target.secrets.get("api_key", ""),
            "anthropic-version": target.settings["version"],
        }

    def identity(self, target: Target) -> str:
        return "the API key stored here"

    def models(self, target: Target) -> Listing:
        found: list[UpstreamModel] = []
        after = ""
        while True:
            query = urlencode({"limit": PAGE} | ({"after_id": after} if after else {}))
            document = yield UpstreamRequest("GET", self.url(target, f"/v1/models?{query}"), self.headers(target))
            rows = document.get("data") if isinstance(document, dict) else None
            if not isinstance(rows, list):
                raise ProviderError("The server's answer is not a list of models.", kind="broken")
            found += [_model(row) for row in rows if isinstance(row, dict) and text_in(row, "id")]
            last = text_in(document, "last_id")
            if document.get("has_more") is not True or not last or last == after:
                return found
            after = last

    def meaning(self, status: int, said: str) -> Kind | None:
        if status == 400:
            for words, kind in IN_A_400.items():
                if words in said:
                    return kind
        return None


# A status 400 of Anthropic is not always a wrong request.
IN_A_400: Mapping[str, Kind] = {
    "prompt is too long": "context_length",
    "exceed context limit": "context_length",
    "credit balance": "quota",
    "content filtering policy": "content_filter",
}


def _model(row: Mapping[str, Any]) -> UpstreamModel:
    able = object_in(row, "capabilities")
    known: dict[Capability, bool] = {"embeddings": False}
    for name, said in (("images", "image_input"), ("thinking", "thinking")):
        stated = able.get(said)
        if isinstance(stated, dict) and isinstance(stated.get("supported"), bool):
            known[name] = stated["supported"]  # type: ignore[index]
    return UpstreamModel(
        text_in(row, "id"),
        count_in(row, "max_input_tokens") or None,
        count_in(row, "max_tokens") or None,
        known,
        note=text_in(row, "display_name"),
    )
