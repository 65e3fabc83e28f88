"""One view per kind of work. A view knows its language; the rest is the relay's."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema_view
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apikeys.authentication import HasKey, KeyAuthentication, key_of
from gateway import errors, schema
from gateway.asked import routes_of
from gateway.formats import FormParser, JSONOrForm, JSONParser, OneFormat
from gateway.relay import relay
from providers.languages.language import Fault, Language
from providers.languages.registry import (
    anthropic_count_tokens,
    anthropic_messages,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_image_edits,
    openai_image_generations,
    openai_image_variations,
    openai_moderations,
    openai_responses,
    openai_speech,
    openai_transcriptions,
    openai_translations,
    rerank,
)


class InferenceView(APIView):
    """What the views of the hot path have in common: nothing is negotiated, and what decides holds no state,
    so that one of each serves all requests."""

    language: Language = openai_chat
    default_response_headers: dict[str, str] = {}  # type: ignore[assignment]
    _negotiator = OneFormat()
    _parsers: list[BaseParser] = [JSONParser()]
    _authenticators = [KeyAuthentication()]
    _permissions: list[BasePermission] = [HasKey()]

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


class Relayed:
    """A view that hands its calls to the relay."""

    language: Language

    def post(self, http: Request) -> HttpResponseBase:
        return relay(http, self.language)


@extend_schema_view(post=schema.chat)
class ChatCompletions(Relayed, InferenceView):
    """OpenAI chat completions, whole or as Server-Sent Events."""

    language = openai_chat


@extend_schema_view(post=schema.completion)
class Completions(Relayed, InferenceView):
    """OpenAI legacy completions, whole or as Server-Sent Events."""

    language = openai_completions


@extend_schema_view(post=schema.embedding)
class Embeddings(Relayed, InferenceView):
    """OpenAI embeddings, as numbers or base64."""

    language = openai_embeddings


@extend_schema_view(post=schema.response)
class Responses(Relayed, InferenceView):
    """OpenAI responses, whole or as Server-Sent Events; nothing is stored."""

    language = openai_responses


class StoredResponse(InferenceView):
    """Responses by their id: there are none, because nothing is stored."""

    language = openai_responses
    schema = None

    def get(self, http: Request, id: str) -> HttpResponse:
        return errors.write(not_stored(id), self.language, http._request)

    post = delete = get


@extend_schema_view(post=schema.messages)
class Messages(Relayed, InferenceView):
    """Anthropic Messages, whole or as Server-Sent Events."""

    language = anthropic_messages


@extend_schema_view(post=schema.count_tokens)
class CountTokens(Relayed, InferenceView):
    """How many tokens a request of Anthropic Messages would take, counted by the upstream or estimated."""

    language = anthropic_count_tokens


@extend_schema_view(post=schema.image_generation)
class ImageGenerations(Relayed, InferenceView):
    """Images from words, whole or as Server-Sent Events."""

    language = openai_image_generations


@extend_schema_view(post=schema.speech)
class Speech(Relayed, InferenceView):
    """Words spoken: sound as it is made, or Server-Sent Events."""

    language = openai_speech


@extend_schema_view(post=schema.moderation)
class Moderations(Relayed, InferenceView):
    """What is harmful in texts and pictures."""

    language = openai_moderations


@extend_schema_view(post=schema.rerank)
class Rerank(Relayed, InferenceView):
    """Documents by how well they answer a question."""

    language = rerank


class FileView(Relayed, InferenceView):
    """What takes files: they wait on disk until an upstream has them."""

    _negotiator = JSONOrForm()
    _parsers = [JSONParser(), FormParser()]

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        if form := request.META.pop("switchboard.form", None):
            form.close()
        return super().finalize_response(request, response, *args, **kwargs)


@extend_schema_view(post=schema.image_edit)
class ImageEdits(FileView):
    """Images changed by words, whole or as Server-Sent Events."""

    language = openai_image_edits


@extend_schema_view(post=schema.image_variation)
class ImageVariations(FileView):
    """Images that are like another one."""

    language = openai_image_variations


@extend_schema_view(post=schema.transcription)
class Transcriptions(FileView):
    """Sound as text, whole or as Server-Sent Events."""

    language = openai_transcriptions


@extend_schema_view(post=schema.translation)
class Translations(FileView):
    """Sound as English text."""

    language = openai_translations


class CurrentKey(APIView):
    """What the presented key is and may do. Never the key itself."""

    @schema.key
    def get(self, http: Request) -> Response:
        key = key_of(http)
        models = None if key.routes is None else [route.name for route in routes_of(key)]
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
    language: Language = openai_chat

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        trouble = Fault(
            404,
            "invalid_request_error",
            f"There is nothing at {request.method} {request.path}. The paths served are listed at /docs.",
            "not_found",
        )
        return errors.write(trouble, self.language, request)


def not_stored(id: str) -> Fault:
    sentence = f"There is no response '{id}': the gateway stores none. Send the whole conversation as input."
    return Fault(404, "invalid_request_error", sentence, "response_not_found")
