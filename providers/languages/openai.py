"""What the OpenAI formats share: errors, usage, Server-Sent Events, the straight-through lane.

Source of the wire facts: OpenAI API reference, chat/completions/embeddings objects and streaming.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from providers.conversation import FinishReason, Usage
from providers.documents import dumps
from providers.languages.errors import answer_document, chunk_document
from providers.languages.fields import count_in, object_in, objects_in
from providers.languages.language import Envelope, Fault, Language, Stamp, Tap, Writer
from providers.languages.model_names import ModelName, with_model
from providers.wire.errors import ProviderError
from providers.wire.frames import sse_data

DONE = b"data: [DONE]\n\n"

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
        return dumps(error_document(fault))

    def readdress(self, body: dict[str, Any], envelope: Envelope, model: str, ask_usage: bool) -> dict[str, Any]:
        readdressed = {**body, "model": model}
        if not envelope.stream:
            readdressed.pop("stream_options", None)  # refused where nothing is streamed
        else:
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

    def pass_answer(self, body: bytes, model: str | None) -> tuple[bytes, Usage | None]:
        document = answer_document(body)
        choices = objects_in(document, "choices")
        if not choices:
            raise ProviderError("The upstream's answer holds no choices.", kind="broken")
        for choice in choices:
            finish_reason(choice.get("finish_reason"))
        return with_model(body, document, model), read_usage(document.get("usage"))


class OpenAIWriter(Writer):
    """What the frames of one answer have in common: the stamp on each, usage at the end if asked, `[DONE]`."""

    id_prefix: ClassVar[str]
    object: ClassVar[str]

    def __init__(self, stamp: Stamp, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._usage: Usage | None = None
        self._chunk = {
            "id": f"{self.id_prefix}-{stamp.id}",
            "object": self.object,
            "created": stamp.created,
            "model": stamp.model,
        }

    def close(self) -> bytes:
        if self._include_usage and self._usage is not None:
            return sse({**self._chunk, "choices": [], "usage": write_usage(self._usage)}) + DONE
        return DONE

    def fail(self, fault: Fault, request_id: str) -> bytes:
        return sse(error_document(fault))


class OpenAITap(Tap):
    """Watches `chat.completion.chunk` and `text_completion` frames."""

    def __init__(self, model: str | None, include_usage: bool) -> None:
        self._name = ModelName(model, around=b'"choices"')
        self._include_usage = include_usage

    def see(self, frame: bytes) -> bytes | None:
        if self.content and not _remarkable(frame):
            self.pieces += 1
        elif not self._look(frame):
            return None
        return self._name.swap(frame)

    def _look(self, frame: bytes) -> bool:
        data = sse_data(frame)
        if data is None:
            return True
        if data.strip() == b"[DONE]":
            self.ended = True
            return True
        document = chunk_document(data)
        self._name.learn(frame, document)
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

    def closing(self) -> bytes:
        return b"" if self.ended else DONE

    def fail(self, fault: Fault, request_id: str) -> bytes:
        return sse(error_document(fault))


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
        input=count_in(value, "prompt_tokens"),
        output=count_in(value, "completion_tokens"),
        cached=count_in(prompt, "cached_tokens"),
        cache_write=count_in(prompt, "cache_write_tokens") or count_in(prompt, "cache_creation_tokens"),
        reasoning=count_in(completion, "reasoning_tokens"),
        audio_input=count_in(prompt, "audio_tokens"),
        audio_output=count_in(completion, "audio_tokens"),
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


def error_document(fault: Fault) -> dict[str, Any]:
    return {"error": {"message": fault.message, "type": fault.type, "param": fault.param, "code": fault.code}}
