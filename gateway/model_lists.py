"""The models a key may use, in the words of whoever asks: OpenAI's, or Anthropic's for those who send its version.

Sources: OpenAI API reference, Models; Anthropic API reference, Models.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apikeys.authentication import key_of
from gateway import schema
from gateway.asked import route_for, routes_of
from profiles.catalog import LiveRoute
from providers.languages.language import BadRequest, Language
from providers.languages.registry import anthropic_messages, openai_chat

PAGE, LONGEST_PAGE = 20, 1000  # models, in Anthropic's lists


class ModelView(APIView):
    language: Language = openai_chat

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        if "HTTP_ANTHROPIC_VERSION" in request.META:
            self.language = anthropic_messages
        return super().initialize_request(request, *args, **kwargs)

    def entry(self, route: LiveRoute) -> dict[str, Any]:
        return anthropic_entry(route) if self.language is anthropic_messages else openai_entry(route)


class Models(ModelView):
    """The models this key may use."""

    @schema.models
    def get(self, http: Request) -> Response:
        routes = routes_of(key_of(http))
        if self.language is anthropic_messages:
            return Response(anthropic_page(routes, http))
        return Response({"object": "list", "data": [openai_entry(route) for route in routes]})


class Model(ModelView):
    """One model, by its name."""

    @schema.model
    def get(self, http: Request, name: str) -> Response:
        return Response(self.entry(route_for(key_of(http), name)))


def openai_entry(route: LiveRoute) -> dict[str, Any]:
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


def anthropic_entry(route: LiveRoute) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "model",
        "id": route.name,
        "display_name": route.name,
        "created_at": datetime.fromtimestamp(route.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if route.context_window:
        entry["max_input_tokens"] = route.context_window
    if route.max_output_tokens:
        entry["max_tokens"] = route.max_output_tokens
    return entry


def anthropic_page(routes: Sequence[LiveRoute], http: Request) -> dict[str, Any]:
    """`limit` of them, from behind `after_id` or up to `before_id`. Raises BadRequest."""
    limit = http.query_params.get("limit", str(PAGE))
    if not (limit.isascii() and limit.isdecimal()) or not 1 <= int(limit) <= LONGEST_PAGE:
        raise BadRequest(f"'limit' must be a number from 1 to {LONGEST_PAGE}.", "limit")
    names = [route.name for route in routes]
    start, end = 0, len(names)
    if after := http.query_params.get("after_id"):
        start = position(names, after, "after_id") + 1
    if before := http.query_params.get("before_id"):
        end = position(names, before, "before_id")
        start = max(start, end - int(limit))
    shown = routes[start : min(end, start + int(limit))]
    more = start > 0 if before else start + len(shown) < end
    return {
        "data": [anthropic_entry(route) for route in shown],
        "has_more": more,
        "first_id": shown[0].name if shown else None,
        "last_id": shown[-1].name if shown else None,
    }


def position(names: Sequence[str], name: str, field: str) -> int:
    if name not in names:
        raise BadRequest(f"'{field}' names no model of this list.", field)
    return names.index(name)
