"""One view per kind of work. A view knows its language; the rest is the relay's."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apikeys.authentication import HasKey, KeyAuthentication, key_of
from gateway import errors, schema
from gateway.errors import RouteUnknown
from gateway.formats import JSONParser, OneFormat
from gateway.relay import relay
from profiles import catalog
from profiles.catalog import LiveRoute
from providers.languages.language import Fault
from providers.languages.registry import openai_chat, openai_completions, openai_embeddings


class InferenceView(APIView):
    """What the views of the hot path have in common: nothing is negotiated, and what decides holds no state,
    so that one of each serves all requests."""

    default_response_headers: dict[str, str] = {}  # type: ignore[assignment]
    _negotiator = OneFormat()
    _parsers = [JSONParser()]
    _authenticators = [KeyAuthentication()]
    _permissions = [HasKey()]

    def get_content_negotiator(self) -> Any:
        return self._negotiator

    def get_parsers(self) -> Any:
        return self._parsers

    def get_authenticators(self) -> Any:
        return self._authenticators

    def get_permissions(self) -> Any:
        return self._permissions

    def check_throttles(self, request: Request) -> None:
        """Limits are not throttles: they belong to keys and are counted on the floor below."""


class ChatCompletions(InferenceView):
    """OpenAI chat completions, whole or as Server-Sent Events."""

    language = openai_chat

    @schema.chat
    def post(self, http: Request) -> HttpResponseBase:
        return relay(http, self.language)


class Completions(InferenceView):
    """OpenAI legacy completions, whole or as Server-Sent Events."""

    language = openai_completions

    @schema.completion
    def post(self, http: Request) -> HttpResponseBase:
        return relay(http, self.language)


class Embeddings(InferenceView):
    """OpenAI embeddings, as numbers or base64."""

    language = openai_embeddings

    @schema.embedding
    def post(self, http: Request) -> HttpResponseBase:
        return relay(http, self.language)


class Models(APIView):
    """The models this key may use."""

    @schema.models
    def get(self, http: Request) -> Response:
        models = [model_entry(route) for route in catalog.live.value if key_of(http).may_use(route)]
        return Response({"object": "list", "data": models})


class Model(APIView):
    """One model, by its name."""

    @schema.model
    def get(self, http: Request, name: str) -> Response:
        route = catalog.find(name)
        if route is None or not key_of(http).may_use(route):
            raise RouteUnknown(name)
        return Response(model_entry(route))


class CurrentKey(APIView):
    """What the presented key is and may do. Never the key itself."""

    @schema.key
    def get(self, http: Request) -> Response:
        key = key_of(http)
        models = None if key.routes is None else [route.name for route in catalog.live.value if key.may_use(route)]
        return Response(
            {
                "object": "key",
                "id": str(key.id),
                "name": key.name,
                "prefix": key.prefix,
                "owner": key.owner,
                "expires_at": key.expires,
                "models": models,
                "tags": list(key.tags),
            }
        )


class NothingHere(APIView):
    """The end of the API paths: an address that is not served."""

    authentication_classes = ()
    permission_classes = ()
    schema = None

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        trouble = Fault(
            404,
            "invalid_request_error",
            f"There is nothing at {request.method} {request.path}. The paths served are listed at /docs.",
            "not_found",
        )
        return errors.write(trouble, openai_chat, request)


def model_entry(route: LiveRoute) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": route.name,
        "object": "model",
        "created": route.created,
        "owned_by": "switchboard",
    }
    if route.context_window:
        entry["context_window"] = route.context_window
    if route.max_output_tokens:
        entry["max_tokens"] = route.max_output_tokens
    return entry
