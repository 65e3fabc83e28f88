"""What the OpenAI formats share: errors, usage, Server-Sent Events, the straight-through lane.

Source of the wire facts: OpenAI API reference, chat/completions/embeddings objects and streaming.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers.conversation import FinishReason, Usage
from providers.documents import BadDocument, dumps, loads
from providers.languages.language import BadRequest, Envelope, Fault, Language, Tap
from providers.wire.errors import Kind, ProviderError
from providers.wire.frames import sse_data

DONE = b"data: [DONE]\n\n"
MODEL = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')

FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def sse(document: Mapping[str, Any]) -> bytes:
    return b"data: " + dumps(document) + b"\n\n"


class OpenAILanguage(Language):
    """The server and client habits common to every OpenAI format."""

    def write_error(self, fault: Fault, request_id: str) -> bytes:
        return dumps(_error(fault))

    def write_stream_error(self, fault: Fault, request_id: str) -> bytes:
        return sse(_error(fault))

    def read_error(self, status: int, body: bytes, profile: str) -> ProviderError:
        return read_error(status, body, profile)

    def readdress(self, body: dict[str, Any], envelope: Envelope, model: str, ask_usage: bool) -> dict[str, Any]:
        readdressed = {**body, "model": model}
        if envelope.stream:
            options = {**(body.get("stream_options") or {}), "include_usage": True}
            if not ask_usage:
                del options["include_usage"]
            if options:
                readdressed["stream_options"] = options
            else:
                readdressed.pop("stream_options", None)
        return readdressed

    def tap(self, model: str | None, include_usage: bool) -> Tap:
        return OpenAITap(model, include_usage)

    def pass_answer(self, body: bytes, model: str | None) -> tuple[bytes, Usage | None, FinishReason | None]:
        document = answer_document(body)
        choices = objects_in(document, "choices")
        if not choices:
            raise ProviderError("The upstream's answer holds no choices.", kind="broken")
        reasons = [choice.get("finish_reason") for choice in choices]
        reason = finish_reason(next((reason for reason in reasons if reason), None))
        return with_model(body, document, model), read_usage(document.get("usage")), reason


class OpenAITap(Tap):
    """Watches `chat.completion.chunk` and `text_completion` frames."""

    def __init__(self, model: str | None, include_usage: bool) -> None:
        self._model = b'"model":' + dumps(model) if model is not None else b""
        self._include_usage = include_usage
        self._theirs = b""  # the exact bytes that stand for the model in this upstream's frames
        self._in_front = True

    def see(self, frame: bytes) -> bytes | None:
        if self.content and not _remarkable(frame):
            self.pieces += 1
        elif not self._look(frame):
            return None
        if self._theirs:
            return self._swap(frame)
        return frame

    def _look(self, frame: bytes) -> bool:
        data = sse_data(frame)
        if data is None:
            return True
        if data.strip() == b"[DONE]":
            self.ended = True
            return True
        document = chunk_document(data)
        if self._model and not self._theirs and document.get("model"):
            self._learn(frame, document)
        if usage := read_usage(document.get("usage")):
            self.usage = usage
        choices = objects_in(document, "choices")
        for choice in choices:
            delta = object_in(choice, "delta")
            if has_content(delta) or choice.get("text"):
                self.content = True
                self.pieces += 1
            if reason := finish_reason(choice.get("finish_reason")):
                self.finish_reason = reason
                self.content = True
        return bool(choices or self._include_usage or not document.get("usage"))

    def _learn(self, frame: bytes, document: Mapping[str, Any]) -> None:
        choices = frame.find(b'"choices"')
        for match in MODEL.finditer(frame):
            if loads(b"{" + match.group() + b"}")["model"] == document["model"]:
                self._theirs = match.group()
                self._in_front = match.start() < choices
                if self._in_front:
                    return

    def _swap(self, frame: bytes) -> bytes:
        # Only outside of "choices": what stands inside is the model's own words.
        if self._in_front:
            at = frame.find(self._theirs)
            if at < 0 or at > frame.find(b'"choices"') > 0:
                return frame
        else:
            at = frame.rfind(self._theirs)
            if at < frame.find(b'"choices"') or at < 0:
                return frame
        return frame[:at] + self._model + frame[at + len(self._theirs) :]

    def closing(self) -> bytes:
        return b"" if self.ended else DONE


def _remarkable(frame: bytes) -> bool:
    """Whether a frame may hold more than a piece of content. A quoted `"error"` inside of content is
    written `\\"error\\"`, so the plain bytes can only be a key."""
    if b'"error"' in frame or not frame.startswith((b"data: {", b"data:{")):
        return True
    at = frame.find(b'"usage"')
    if at >= 0 and b"null" not in frame[at + 7 : at + 14]:
        return True
    at = frame.find(b'"finish_reason"')
    return at >= 0 and b"null" not in frame[at + 15 : at + 22]


def has_content(delta: Mapping[str, Any]) -> bool:
    return any(
        delta.get(name)
        for name in ("content", "tool_calls", "reasoning_content", "reasoning", "refusal", "audio", "function_call")
    )


def answer_document(body: bytes) -> dict[str, Any]:
    """A whole answer's JSON object. Raises ProviderError."""
    try:
        document = loads(body)
    except BadDocument as error:
        raise ProviderError("The upstream's answer is not JSON.", kind="broken") from error
    return _checked(document)


def chunk_document(data: bytes) -> dict[str, Any]:
    """One frame's JSON object. Raises ProviderError."""
    try:
        document = loads(data)
    except BadDocument as error:
        raise ProviderError("The upstream sent a frame that is not JSON.", kind="broken") from error
    return _checked(document)


def _checked(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ProviderError("The upstream's answer is not a JSON object.", kind="broken")
    if document.get("error") or document.get("object") == "error":
        # A failure dressed as success: a 200, or a frame in the middle of a stream.
        raise read_error(_status_in(document), dumps(document), "", within_answer=True)
    return document


def _status_in(document: Mapping[str, Any]) -> int:
    error = document.get("error")
    code = error.get("code") if isinstance(error, dict) else document.get("code")
    return code if isinstance(code, int) and 400 <= code < 600 else 502


def with_model(body: bytes, document: Mapping[str, Any], model: str | None) -> bytes:
    """The same bytes with the caller's model name; the rest is left as the upstream wrote it."""
    if model is None or document.get("model") in (model, None):
        return body
    found = list(MODEL.finditer(body))
    if len(found) == 1:
        return body[: found[0].start()] + b'"model":' + dumps(model) + body[found[0].end() :]
    return dumps({**document, "model": model})


def finish_reason(value: object) -> FinishReason | None:
    """Raises ProviderError for the reasons with which engines say that they gave up."""
    if not isinstance(value, str) or not value:
        return None
    if value in ("abort", "error"):
        raise ProviderError("The upstream gave up in the middle of its answer.", kind="cut")
    return FINISH_REASONS.get(value, "stop")


def read_usage(value: object) -> Usage | None:
    """OpenAI's `usage` object; counters that are missing or null are 0."""
    if not isinstance(value, dict) or not value:
        return None
    prompt = value.get("prompt_tokens_details") or {}
    completion = value.get("completion_tokens_details") or {}
    return Usage(
        input=_count(value, "prompt_tokens"),
        output=_count(value, "completion_tokens"),
        cached=_count(prompt, "cached_tokens"),
        cache_write=_count(prompt, "cache_write_tokens") or _count(prompt, "cache_creation_tokens"),
        reasoning=_count(completion, "reasoning_tokens"),
        audio_input=_count(prompt, "audio_tokens"),
        audio_output=_count(completion, "audio_tokens"),
    )


def write_usage(usage: Usage) -> dict[str, Any]:
    document: dict[str, Any] = {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
    }
    prompt = {
        "cached_tokens": usage.cached,
        "cache_write_tokens": usage.cache_write,
        "audio_tokens": usage.audio_input,
    }
    completion = {"reasoning_tokens": usage.reasoning, "audio_tokens": usage.audio_output}
    for name, details in (("prompt_tokens_details", prompt), ("completion_tokens_details", completion)):
        if kept := {kind: count for kind, count in details.items() if count}:
            document[name] = kept
    return document


def _count(counters: object, name: str) -> int:
    value = counters.get(name) if isinstance(counters, dict) else None
    return value if isinstance(value, int) and value > 0 else 0


def objects_in(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects that may be left out. Raises ProviderError when something else stands there."""
    value = document.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ProviderError(f"The upstream's answer holds '{name}' that are no list of objects.", kind="broken")
    return value


def object_in(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object that may be left out. Raises ProviderError when something else stands there."""
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ProviderError(f"The upstream's answer holds '{name}' that is no object.", kind="broken")
    return value


def text_in(document: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that holds a text."""
    return next((value for name in names if isinstance(value := document.get(name), str) and value), "")


def index_in(document: Mapping[str, Any]) -> int:
    """An index that may be left out. Raises ProviderError when something else stands there."""
    value = document.get("index")
    if value is None:
        return 0
    if not isinstance(value, int) or value < 0:
        raise ProviderError("The upstream's answer holds an index that is no number.", kind="broken")
    return value


def _error(fault: Fault) -> dict[str, Any]:
    return {"error": {"message": fault.message, "type": fault.type, "param": fault.param, "code": fault.code}}


# -- reading the errors of upstreams --

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


def read_error(status: int, body: bytes, profile: str, within_answer: bool = False) -> ProviderError:
    """An OpenAI-shaped error, or whatever a server put in its place, as a ProviderError.

    Engines write `{"error": {...}}`, `{"error": "text"}`, `{"object": "error", ...}` or `{"detail": ...}`.
    The upstream's own words reach the caller only where they speak of the caller's request.
    """
    message, code, param = _words(body)
    kind: Kind = BY_STATUS.get(status, "broken" if status >= 500 else "bad_request")
    said = f"{code or ''} {message}".lower()
    if status == 404 and not ("model" in said or "not_found_error" in said):
        kind = "unsupported_path"
    elif status == 400 and "stream_options" in said:
        kind = "unsupported_field"
    elif status in (400, 413, 422):
        if code in ("invalid_api_key", "invalid_authentication") or "api key" in said:
            kind = "auth"
        elif code == "context_length_exceeded" or "context length" in said or "context window" in said:
            kind = "context_length"
        elif code == "model_not_found":
            kind = "model_not_found"
        elif code == "content_filter":
            kind = "content_filter"
    elif status == 429 and code == "insufficient_quota":
        kind = "quota"
    if kind in ("bad_request", "context_length", "content_filter", "too_large") and message:
        sentence = message
    else:
        sentence = _sentence(kind, profile, status)
    if within_answer:
        sentence = "The upstream reported an error in its answer." if kind == "broken" else sentence
    return ProviderError(sentence, kind=kind, upstream_status=status, param=param, code=code)


def _words(body: bytes) -> tuple[str, str | None, str | None]:
    try:
        document = loads(body)
    except BadDocument:
        return "", None, None
    error = document.get("error", document) if isinstance(document, dict) else document
    if isinstance(error, str):
        return error, None, None
    if not isinstance(error, dict):
        return "", None, None
    message = error.get("message") or error.get("detail") or ""
    code, param = error.get("code"), error.get("param")
    return (
        message if isinstance(message, str) else dumps(message).decode(),
        code if isinstance(code, str) else None,
        param if isinstance(param, str) else None,
    )


def _sentence(kind: Kind, profile: str, status: int) -> str:
    who = f"Upstream '{profile}'" if profile else "The upstream"
    match kind:
        case "auth":
            return f"{who} refused the gateway's credential. Ask your administrator to check the profile."
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
        case "unsupported_field":
            return f"{who} refused a field of the request."
    return f"{who} failed with status {status}."


# -- reading fields of requests --


def expect_model(body: Mapping[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model.strip():
        raise BadRequest("'model' must name a model, as a string.", "model")
    return model


def expect_flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"'{name}' must be true or false.", name)
    return bool(value)


def expect_count(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadRequest(f"'{name}' must be a whole number of at least 1.", name)
    return value


def expect_number(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadRequest(f"'{name}' must be a number.", name)
    return value


def expect_text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"'{name}' must be a string.", name)
    return value


def expect_stop(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = body.get("stop")
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise BadRequest("'stop' must be a string or a list of strings.", "stop")
    return tuple(stops)


def expect_usage_wish(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise BadRequest("'stream_options' must be an object.", "stream_options")
    return bool(options.get("include_usage"))


def expect_whole(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise BadRequest(f"'{name}' must be a whole number.", name)
    return value
