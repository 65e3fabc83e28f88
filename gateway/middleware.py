"""What surrounds every answer: its request id, CORS for the API, a content policy for pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from corsheaders.middleware import CorsMiddleware
from django.http import HttpRequest, HttpResponseBase

from apikeys import authentication
from usage.metering import new_call_id

GetResponse = Callable[[HttpRequest], HttpResponseBase]

# unfold's Alpine needs 'unsafe-eval' and its charts inline styles; inline scripts stay forbidden everywhere.
PAGE_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
ADMIN_POLICY = PAGE_POLICY.replace("script-src 'self'", "script-src 'self' 'unsafe-eval'")


class RequestId:
    """A UUIDv7 for every request: `META["switchboard.call_id"]`, and `x-request-id` on the answer.

    Anthropic's SDKs look for `request-id`.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        call_id = request.META["switchboard.call_id"] = new_call_id()
        response = self.get_response(request)
        response.headers["x-request-id"] = str(call_id)
        if "HTTP_ANTHROPIC_VERSION" in request.META:
            response.headers["request-id"] = str(call_id)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


class Cors(CorsMiddleware):
    """Only what a browser sends from another origin needs the look."""

    def __call__(self, request: HttpRequest) -> Any:
        if "HTTP_ORIGIN" not in request.META:
            return self.get_response(request)
        return super().__call__(request)


class ContentPolicy:
    """Content-Security-Policy for pages."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        policy = ADMIN_POLICY if request.path.startswith("/admin/") else PAGE_POLICY
        response.headers.setdefault("Content-Security-Policy", policy)
        return response


def client_address(request: HttpRequest) -> str:
    return authentication.client_address(request.META)
