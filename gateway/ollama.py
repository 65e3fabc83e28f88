"""Ollama's native API below BASE_PATH: the views, and how a route looks to Ollama's clients.

Source: Ollama API reference (ollama/ollama, docs/api.md, api/types.go, server/routes.go).
"""

from __future__ import annotations

import hashlib
from typing import Any, cast

from drf_spectacular.utils import extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response

from apikeys.authentication import key_of
from gateway import errors, schema, views
from gateway.asked import measured, route_for, routes_of
from gateway.errors import RouteUnknown
from gateway.formats import AnyJSON
from profiles.catalog import LiveDeployment, LiveRoute
from providers.languages.fields import expect_model
from providers.languages.language import Fault
from providers.languages.ollama_records import rfc3339
from providers.languages.registry import LANGUAGES, ollama_chat, ollama_embed, ollama_embeddings, ollama_generate

# What clients take us for: the release of Ollama whose API this follows. They refuse servers that are too old, as
# VS Code does below 0.6.4 (extensions/copilot, ollamaProvider.ts, MINIMUM_OLLAMA_VERSION).
VERSION = "0.33.0"
# No wire format has a word for "stays loaded"; Go's clients read this as a time in the far future.
FOR_EVER = "9999-12-31T23:59:59Z"
FAMILY = "switchboard"


class OllamaView(views.InferenceView):
    """Ollama reads JSON whatever the content type says, as `curl -d` leaves it to chance."""

    language: Any = ollama_chat
    _negotiator = AnyJSON()

    def handle_exception(self, error: Exception) -> Any:
        if isinstance(error, RouteUnknown):
            return errors.write(unknown(error.name), self.language, self.request._request)
        return super().handle_exception(error)


@extend_schema_view(post=schema.ollama_chat)
class Chat(views.Relayed, OllamaView):
    """Ollama's chat, as lines of JSON unless `stream` is false."""


@extend_schema_view(post=schema.ollama_generate)
class Generate(views.Relayed, OllamaView):
    """Ollama's completion of a prompt, as lines of JSON unless `stream` is false."""

    language = ollama_generate


@extend_schema_view(post=schema.ollama_embed)
class Embed(views.Relayed, OllamaView):
    """Ollama's embeddings of one text or several."""

    language = ollama_embed


@extend_schema_view(post=schema.ollama_embeddings)
class Embeddings(views.Relayed, OllamaView):
    """Ollama's older embeddings: one prompt, one vector."""

    language = ollama_embeddings


class Tags(OllamaView):
    """The models this key may use."""

    @schema.ollama_tags
    def get(self, http: Request) -> Response:
        return Response({"models": [tag(route) for route in routes_of(key_of(http))]})


class Running(OllamaView):
    """The models that can answer at once: those that something serves."""

    @schema.ollama_ps
    def get(self, http: Request) -> Response:
        return Response({"models": [running(route) for route in routes_of(key_of(http)) if route.deployments]})


class Show(OllamaView):
    """One model: how much it can see, what it can do."""

    @schema.ollama_show
    def post(self, http: Request) -> Response:
        key = key_of(http)
        measured(http, key)
        body = cast(dict[str, Any], http.data)
        name = expect_model({"model": body.get("model") or body.get("name")})
        return Response(shown(route_for(key, name, *self.language.spellings(name))))


class Version(OllamaView):
    """The release of Ollama whose API this follows."""

    @schema.ollama_version
    def get(self, http: Request) -> Response:
        return Response({"version": VERSION})


class NothingHere(views.NothingHere):
    """An address below BASE_PATH that is not served."""

    language = ollama_chat


def unknown(name: str) -> Fault:
    """In Ollama's words, which clients look for."""
    message = f"model '{name}' not found. Ask your administrator which models this key may use."
    return Fault(404, "not_found_error", message, "model_not_found")


def tag(route: LiveRoute) -> dict[str, Any]:
    """A route as an installed model. Its files are not ours, so that they have no size."""
    return {
        "name": route.name,
        "model": route.name,
        "modified_at": rfc3339(route.created),
        "size": 0,
        "digest": hashlib.sha256(route.name.encode()).hexdigest(),
        "details": details(route),
        "capabilities": capabilities(route),
    }


def running(route: LiveRoute) -> dict[str, Any]:
    entry = tag(route)
    del entry["modified_at"], entry["capabilities"]
    return {**entry, "expires_at": FOR_EVER, "size_vram": 0, "context_length": route.context_window or 0}


def shown(route: LiveRoute) -> dict[str, Any]:
    entry = tag(route)
    info: dict[str, Any] = {"general.architecture": FAMILY, "general.basename": route.name}
    if route.context_window:
        info[f"{FAMILY}.context_length"] = route.context_window
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": entry["details"],
        "model_info": info,
        "capabilities": entry["capabilities"],
        "modified_at": entry["modified_at"],
    }


def details(route: LiveRoute) -> dict[str, Any]:
    described = {
        "parent_model": "",
        "format": "",
        "family": FAMILY,
        "families": [FAMILY],
        "parameter_size": "",
        "quantization_level": "",
    }
    return {**described, "context_length": route.context_window} if route.context_window else described


def capabilities(route: LiveRoute) -> list[str]:
    """What at least one deployment can do. Clients hide a model without tools from agents, so that tools are only
    denied where they are known to be missing; the rest is claimed where it is known."""
    models = [deployment.model.capabilities for deployment in route.deployments]
    speaks = bool(route.works & {"chat", "completion"}) and any(map(talks, route.deployments))
    vectors = any(able.get("embeddings") for able in models)
    found = {
        "completion": speaks,
        "vision": speaks and any(able.get("images") for able in models),
        "tools": speaks and any(able.get("tools", True) for able in models),
        "thinking": speaks and any(able.get("thinking") for able in models),
        "embedding": "embedding" in route.works and (vectors or not speaks),
    }
    return [name for name, has in found.items() if has]


def talks(deployment: LiveDeployment) -> bool:
    """Whether it makes more than vectors."""
    spoken = (LANGUAGES[name] for name in deployment.speaks())
    return deployment.provider.answers_itself or any(language.work != "embedding" for language in spoken)
