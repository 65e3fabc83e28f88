"""Every exception an API view can raise, as an error in the caller's own language."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import Error as DatabaseError
from django.db import InterfaceError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.request import RawPostDataException, UnreadablePostError
from rest_framework import exceptions as drf

from apikeys.authentication import KeyMayNot, KeyRefused
from profiles import board
from profiles.watch import ConfigurationUnavailable
from providers.documents import BadDocument
from providers.languages.language import BadRequest, Fault, Language
from providers.languages.registry import openai_chat
from providers.wire.errors import CannotCarry, Kind, ProviderError

log = logging.getLogger("switchboard.errors")


class RouteUnknown(Exception):
    """No such route, or not one of this key's: the two look alike."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class NothingAvailable(Exception):
    """A route that nothing serves at the moment."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class TooLarge(Exception):
    """A request body of more than `limit` MiB."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


class ClientGone(Exception):
    """The caller has left; nobody will read what is answered."""


class Draining(Exception):
    """The worker must stop before this call has ended."""


# kind of upstream fault -> (status, type, code)
UPSTREAM: Mapping[Kind, tuple[int, str, str]] = {
    "bad_request": (400, "invalid_request_error", "upstream_refused"),
    "context_length": (400, "invalid_request_error", "context_length_exceeded"),
    "content_filter": (400, "invalid_request_error", "content_filter"),
    "too_large": (413, "invalid_request_error", "request_too_large"),
    "incapable": (400, "invalid_request_error", "unsupported_parameter"),
    "model_not_found": (404, "invalid_request_error", "model_not_found"),
    "unsupported_path": (404, "invalid_request_error", "model_not_found"),
    "unsupported_field": (502, "api_error", "upstream_error"),
    "auth": (502, "api_error", "upstream_auth_error"),
    "login": (503, "api_error", "upstream_login_failed"),
    "quota": (429, "insufficient_quota", "upstream_quota_exceeded"),
    "rate_limit": (429, "rate_limit_error", "rate_limit_exceeded"),
    "timeout": (504, "api_error", "upstream_timeout"),
    "unreachable": (502, "api_error", "upstream_unreachable"),
    "unavailable": (503, "api_error", "upstream_unavailable"),
    "broken": (502, "api_error", "upstream_error"),
    "cut": (502, "api_error", "upstream_cut"),
}
UPSTREAM_WORDS: frozenset[Kind] = frozenset(
    ("bad_request", "context_length", "content_filter", "too_large", "incapable")
)


def fault(error: BaseException) -> Fault:
    """What a caller is told of `error`. Anything unknown is a 500 and goes to the log with its traceback."""
    match error:
        case KeyRefused():
            return Fault(401, "invalid_request_error", error.message, error.code)
        case KeyMayNot():
            return Fault(403, "permission_error", error.message, error.code)
        case RouteUnknown():
            return Fault(
                404,
                "invalid_request_error",
                f"No model named '{error.name}'. Ask your administrator which models this key may use.",
                "model_not_found",
                "model",
            )
        case NothingAvailable():
            return Fault(
                503,
                "api_error",
                f"Nothing serves the model '{error.name}' at the moment. Ask your administrator.",
                "model_unavailable",
            )
        case BadRequest():
            return Fault(400, "invalid_request_error", error.message, error.code, error.param)
        case CannotCarry():
            return Fault(400, "invalid_request_error", error.message, "unsupported_parameter", error.param)
        case BadDocument():
            return Fault(400, "invalid_request_error", str(error), "invalid_json")
        case TooLarge():
            return Fault(
                413,
                "invalid_request_error",
                f"The request body is larger than {error.limit} MiB.",
                "request_too_large",
            )
        case ProviderError():
            return _upstream_fault(error)
        case ConfigurationUnavailable():
            return Fault(503, "api_error", f"{error} Try again in a moment.", "database_unavailable", retry_after=2)
        case DatabaseError() | InterfaceError():
            return Fault(
                503,
                "api_error",
                "The database cannot be reached. Try again in a moment.",
                "database_unavailable",
                retry_after=2,
            )
        case Draining():
            return Fault(
                503, "api_error", "The gateway is being restarted. Try again.", "gateway_restarting", retry_after=1
            )
        case ClientGone() | UnreadablePostError():
            return Fault(499, "invalid_request_error", "The client closed the connection.", "client_gone")
    return _framework_fault(error)


def _upstream_fault(error: ProviderError) -> Fault:
    status, type_, code = UPSTREAM[error.kind]
    if error.kind in UPSTREAM_WORDS:
        code = error.code or code
    return Fault(status, type_, error.message, code, error.param, error.retry_after)


def _framework_fault(error: BaseException) -> Fault:
    match error:
        case drf.MethodNotAllowed():
            return Fault(405, "invalid_request_error", f"{error.detail}", "method_not_allowed")
        case drf.UnsupportedMediaType():
            return Fault(
                415,
                "invalid_request_error",
                "Send the request body as application/json; files go as multipart/form-data to where they are taken.",
                "unsupported_media_type",
            )
        case Http404() | drf.NotFound():
            return Fault(404, "invalid_request_error", "There is nothing at this address.", "not_found")
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            return Fault(401, "invalid_request_error", f"{error.detail}", "invalid_api_key")
        case drf.PermissionDenied() | DjangoPermissionDenied():
            return Fault(403, "permission_error", "This is not allowed.", "permission_denied")
        case drf.APIException():
            return Fault(error.status_code, "invalid_request_error", f"{error.detail}")
        case RequestDataTooBig():
            return Fault(413, "invalid_request_error", "The request body is too large.", "request_too_large")
        case SuspiciousOperation() | RawPostDataException():
            return Fault(400, "invalid_request_error", "The request could not be read.", "bad_request")
    if not getattr(error, "logged", False):
        log.error("unexpected_error", exc_info=error)
        error.logged = True  # type: ignore[attr-defined]
    return Fault(
        500, "api_error", "The gateway failed. The administrator finds the cause in the log.", "internal_error"
    )


def write(trouble: Fault, language: Language, request: HttpRequest) -> HttpResponse:
    """A fault as an answer in the caller's language."""
    request_id = str(request.META.get("switchboard.call_id", ""))
    response = HttpResponse(
        language.write_error(trouble, request_id), status=trouble.status, content_type="application/json"
    )
    if trouble.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(trouble.retry_after))
    if trouble.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
        board.count("unauthorized")
    elif trouble.status == 404:
        board.count("not_found")
    return response


def handle(error: Exception, context: Mapping[str, Any]) -> HttpResponse:
    """DRF's exception handler: every exception becomes an answer."""
    view, request = context["view"], context["request"]
    response = write(fault(error), getattr(view, "language", openai_chat), request._request)
    if isinstance(error, drf.MethodNotAllowed):
        response.headers["Allow"] = ", ".join(view.allowed_methods)
    if request.META.get("switchboard.attempts", 0) > 1 and response.status_code >= 500:
        # We have tried the other deployments already; an SDK's own retries would only repeat that.
        response.headers["x-should-retry"] = "false"
    return response
