"""What people see: the front page, and errors that are pages for people and JSON for programs."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import InterfaceError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views import View, defaults

from apikeys import keyring
from gateway import VERSION, errors, system
from profiles import board, catalog
from providers.languages.language import Fault, Language
from providers.languages.registry import ollama_chat, openai_chat

ENDPOINTS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "images": "/v1/images/generations",
    "speech": "/v1/audio/speech",
    "transcriptions": "/v1/audio/transcriptions",
    "moderations": "/v1/moderations",
    "rerank": "/v1/rerank",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "count_tokens": "/v1/messages/count_tokens",
    "models": "/v1/models",
    "key": "/v1/key",
    "ollama": settings.BASE_PATH,
    "health": "/health",
    "ready": "/ready",
    "info": "/info",
    "docs": "/docs",
    "openapi": "/openapi.json",
    "admin": "/admin/",
}


class Front(View):
    """A status page for browsers, a map of endpoints for programs, and for Ollama's clients the words they look for."""

    http_method_names = ["get", "head"]

    def get(self, request: HttpRequest) -> HttpResponseBase:
        accept = request.headers.get("accept", "")
        if "text/html" in accept:
            return render(request, "front.html", self.status(request))
        if "application/json" in accept:
            return JsonResponse({"service": "switchboard", "version": VERSION, "endpoints": ENDPOINTS})
        return HttpResponse("Ollama is running", content_type="text/plain; charset=utf-8")

    def status(self, request: HttpRequest) -> dict[str, Any]:
        routes = list(catalog.live.value)
        return {
            "version": VERSION,
            "addresses": addresses(settings.PUBLIC_URL or f"{request.scheme}://{request.get_host()}"),
            "serving": catalog.live.loaded and keyring.live.loaded,
            "database": board.worker.database_reachable,
            "public_models": sorted(route.name for route in routes if route.public),
            "endpoints": [path for path in ENDPOINTS.values() if path.startswith("/v1")],
            "tokens": self.tokens(request),
        }

    def tokens(self, request: HttpRequest) -> dict[str, str]:
        """The state of each upstream token: for staff alone, since it names accounts."""
        try:
            return system.token_states() if system.is_staff(request) else {}
        except (DatabaseError, InterfaceError):
            return {}


def addresses(base: str) -> dict[str, str]:
    """What each kind of client calls its base URL or host."""
    found = {"OpenAI": f"{base}/v1", "Anthropic": base}
    if settings.BASE_PATH.endswith("/api"):  # which Ollama's clients add themselves
        found["Ollama"] = base + settings.BASE_PATH.removesuffix("/api")
    return found


def _is_api(request: HttpRequest) -> bool:
    """Who asks like a program gets JSON, also at an address that lacks its /v1."""
    if request.path.startswith(("/v1", "/api", settings.BASE_PATH)):
        return True
    is_page = "text/html" in request.headers.get("accept", "") or request.path.startswith("/admin")
    return not is_page


def _language(request: HttpRequest) -> Language:
    of_ollama = request.path.startswith(f"{settings.BASE_PATH}/") and not request.path.startswith("/api/v1/")
    return ollama_chat if of_ollama else openai_chat


def _json(request: HttpRequest, status: int, message: str, code: str) -> HttpResponse:
    kind = "api_error" if status >= 500 else "invalid_request_error"
    return errors.write(Fault(status, kind, message, code), _language(request), request)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if _is_api(request):
        return _json(request, 400, "The request could not be read.", "bad_request")
    return defaults.bad_request(request, exception)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if _is_api(request):
        return _json(request, 403, "This is not allowed.", "permission_denied")
    return defaults.permission_denied(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if _is_api(request):
        return _json(request, 404, "There is nothing at this address.", "not_found")
    return defaults.page_not_found(request, exception)


def failed(request: HttpRequest) -> HttpResponseBase:
    if _is_api(request):
        return _json(
            request, 500, "The gateway failed. The administrator finds the cause in the log.", "internal_error"
        )
    return defaults.server_error(request)
