"""What upstreams say when they fail, in whatever shape, as a ProviderError."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from providers.documents import BadDocument, dumps, loads
from providers.wire.errors import Kind, ProviderError

BY_STATUS: Mapping[int, Kind] = {
    400: "bad_request",
    401: "auth",
    402: "quota",
    403: "auth",
    404: "model_not_found",
    405: "unsupported_path",
    408: "timeout",
    410: "model_not_found",
    413: "too_large",
    422: "bad_request",
    429: "rate_limit",
    501: "unsupported_path",
    503: "unavailable",
    504: "timeout",
    529: "unavailable",
}


# How servers say with a 400 that the credential is wrong; a caller's own words may hold "API key" as well.
NO_KEY = (
    "invalid api key",
    "incorrect api key",
    "invalid x-api-key",
    "valid api key",
    "no api key provided",
    "api key not valid",
    "api key not found",
    "api key expired",
    "api key missing",
)
Meaning = Callable[[int, str], Kind | None]  # status and what was said, in lower case -> what it is


def read_error(
    status: int, body: bytes, profile: str, meaning: Meaning | None = None, within_answer: bool = False
) -> ProviderError:
    """An OpenAI-shaped error, or whatever a server put in its place, as a ProviderError.

    Engines write `{"error": {...}}`, `{"error": "text"}`, `{"object": "error", ...}` or `{"detail": ...}`.
    The upstream's own words reach the caller only where they speak of the caller's request.
    """
    message, type, code, param = _words(body)
    kind: Kind = BY_STATUS.get(status, "broken" if status >= 500 else "bad_request")
    said = f"{code or ''} {message}".lower()
    if meaning is not None and (meant := meaning(status, said)):
        kind, code = meant, None  # the upstream's own code means something else
    elif status == 404 and not ("model" in said or type == "not_found_error"):
        kind = "unsupported_path"
    elif status == 400 and "stream_options" in said:
        kind = "unsupported_field"
    elif status in (400, 413, 422):
        if code in ("invalid_api_key", "invalid_authentication") or any(words in said for words in NO_KEY):
            kind = "auth"
        elif code == "context_length_exceeded" or "context length" in said or "context window" in said:
            kind = "context_length"
        elif code == "model_not_found":
            kind = "model_not_found"
        elif code == "content_filter":
            kind = "content_filter"
    elif status == 429 and code == "insufficient_quota":
        kind = "quota"
    if kind in ("bad_request", "context_length", "content_filter", "too_large", "incapable") and message:
        sentence = message
    else:
        sentence = _sentence(kind, profile, status)
    if within_answer:
        sentence = "The upstream reported an error in its answer." if kind == "broken" else sentence
    return ProviderError(sentence, kind=kind, upstream_status=status, param=param, code=code)


def _words(body: bytes) -> tuple[str, str, str | None, str | None]:
    """Message, type, code and the field's name."""
    try:
        document = loads(body)
    except BadDocument:
        return "", "", None, None
    document = document[0] if isinstance(document, list) and document else document
    error = document.get("error", document) if isinstance(document, dict) else document
    error = error[0] if isinstance(error, list) and error else error
    if isinstance(error, str):
        return error, "", None, None
    if not isinstance(error, dict):
        return "", "", None, None
    message = error.get("message") or error.get("detail") or ""
    type, code, param = error.get("type"), error.get("code"), error.get("param")
    return (
        message if isinstance(message, str) else dumps(message).decode(),
        type if isinstance(type, str) else "",
        code if isinstance(code, str) else None,
        param if isinstance(param, str) else None,
    )


def _sentence(kind: Kind, profile: str, status: int) -> str:
    who = f"Upstream '{profile}'" if profile else "The upstream"
    match kind:
        case "auth":
            return f"{who} refused the gateway's credential. Ask your administrator to check the profile."
        case "login":
            return f"{who} did not let the gateway in. Ask your administrator to check the profile."
        case "quota":
            return f"The account at {who.lower() if not profile else who} has no budget left."
        case "rate_limit":
            return f"{who} is limiting its rate. Try again in a moment."
        case "model_not_found" | "unsupported_path":
            return f"{who} does not offer this model or endpoint."
        case "timeout":
            return f"{who} did not answer in time."
        case "unavailable":
            return f"{who} is not available at the moment."
        case "incapable":
            return f"The model at {who} cannot do what was asked."
        case "unsupported_field":
            return f"{who} refused a field of the request."
    return f"{who} failed with status {status}."


def answer_document(body: bytes) -> dict[str, Any]:
    """A whole answer's JSON object. Raises ProviderError."""
    try:
        document = loads(body)
    except BadDocument as error:
        raise ProviderError("The upstream's answer is not JSON.", kind="broken") from error
    return checked(document)


def chunk_document(data: bytes) -> dict[str, Any]:
    """One frame's JSON object. Raises ProviderError."""
    try:
        document = loads(data)
    except BadDocument as error:
        raise ProviderError("The upstream sent a frame that is not JSON.", kind="broken") from error
    return checked(document)


def checked(document: Any) -> dict[str, Any]:
    """The object, unless it is a failure. Raises ProviderError."""
    if not isinstance(document, dict):
        raise ProviderError("The upstream's answer is not a JSON object.", kind="broken")
    if document.get("error") or document.get("object") == "error" or _is_bare_error(document):
        # A failure dressed as success: a 200, or a frame in the middle of a stream.
        raise failure_in(document)
    return document


def failure_in(document: Mapping[str, Any]) -> ProviderError:
    """What an upstream reports in the place, or in the middle, of an answer."""
    return read_error(_status_in(document), dumps(document), "", within_answer=True)


def _is_bare_error(document: Mapping[str, Any]) -> bool:
    """Whether a code and a message stand where an answer should: so Snowflake and SAP AI Core write their errors."""
    told = isinstance(document.get("message"), str) and (document.get("code") or document.get("error_code"))
    return bool(told) and not any(name in document for name in ("choices", "content", "data"))


# Anthropic and others name the kind of an error in its type.
BY_TYPE: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "overloaded_error": 529,
    "timeout_error": 504,
}
# OpenAI names it in the code (API reference, Responses: the error object).
BY_CODE: Mapping[str, int] = {
    "invalid_api_key": 401,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_is_overloaded": 503,
    "slow_down": 503,
    "vector_store_timeout": 504,
    **dict.fromkeys(
        (
            "context_length_exceeded content_filter invalid_prompt bio_policy cyber_policy invalid_image "
            "invalid_image_format invalid_base64_image invalid_image_url invalid_image_mode image_too_large "
            "image_too_small image_parse_error image_content_policy_violation image_file_too_large "
            "image_file_not_found unsupported_image_media_type empty_image_file failed_to_download_image"
        ).split(),
        400,
    ),
}
SESSION_EXPIRED = "390112"  # Snowflake says so with a status of 200


def _status_in(document: Mapping[str, Any]) -> int:
    error = document.get("error")
    error = error[0] if isinstance(error, list) and error else error
    fault = error if isinstance(error, dict) else document
    if status := BY_TYPE.get(str(fault.get("type"))) or BY_CODE.get(str(fault.get("code"))):
        return status
    if str(code := fault.get("code")) == SESSION_EXPIRED:
        return 401
    return code if isinstance(code, int) and 400 <= code < 600 else 502
