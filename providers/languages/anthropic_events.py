"""The frames of Anthropic Messages: read from upstreams, written for callers, watched on their way through.

Source of the wire facts: Anthropic API reference, Messages, streaming and errors; for Bedrock SAP AI Core's contract.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.conversation import (
    Event,
    Finished,
    FinishReason,
    Opaque,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
)
from providers.documents import dumps, loads
from providers.languages.errors import chunk_document
from providers.languages.fields import count_in, index_in, json_in, object_in, text_in
from providers.languages.language import Fault, Reader, Stamp, Tap, Writer
from providers.languages.messages import is_whole_object
from providers.languages.model_names import renamed
from providers.wire.errors import ProviderError
from providers.wire.frames import sse_data

NAME = "anthropic_messages"
# A call of this tool is not the model's wish to call something: its input is the answer that was asked for in JSON.
ANSWER_TOOL = "answer_in_json"
WORDS = ("text", "thinking")  # blocks that begin empty and grow

FINISH_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
STOP_REASONS: Mapping[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
ERROR_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


# -- read from upstreams --


class MessagesReader(Reader):
    """`message_start`, blocks with their deltas, `message_delta`, `message_stop`."""

    def __init__(self) -> None:
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, int] = {}  # block -> number of the call it holds
        self._answers: set[int] = set()  # blocks that hold the answer in JSON
        self._silent: set[int] = set()  # blocks of either, of which no input has come
        self._finished = False

    def read_frame(self, frame: bytes) -> list[Event]:
        data = sse_data(frame)
        if data is None:
            return []
        document = chunk_document(data)
        match document.get("type"):
            case "message_start":
                count_up(self._usage, object_in(document, "message"))
            case "content_block_start":
                return self._begin(index_in(document), object_in(document, "content_block"))
            case "content_block_delta":
                return self._go_on(index_in(document), object_in(document, "delta"))
            case "content_block_stop" if (index := index_in(document)) in self._silent:
                return self._input(index, "{}")  # whose input is empty is sent none
            case "message_delta":
                return self._finish(document)
            case "message_stop":
                self.ended = True
        return []

    def read_end(self) -> list[Event]:
        if not self._finished:
            raise ProviderError("The upstream's answer ended before it was complete.", kind="cut")
        return []

    def _begin(self, index: int, block: Mapping[str, Any]) -> list[Event]:
        events: list[Event] = []
        match block.get("type"):
            case "tool_use":
                self._silent.add(index)
                if block.get("name") == ANSWER_TOOL:
                    self._answers.add(index)
                else:
                    self._calls[index] = len(self._calls)
                    events.append(ToolCallDelta(self._calls[index], text_in(block, "id"), text_in(block, "name")))
                if object_in(block, "input"):
                    events += self._input(index, json_in(block, "input"))
            case "text":
                events += said(TextDelta(text_in(block, "text")))
            case "thinking":
                events += said(ThinkingDelta(text_in(block, "thinking"), text_in(block, "signature") or None))
            case str():
                events.append(Opaque(NAME, dict(block)))
        return events

    def _go_on(self, index: int, delta: Mapping[str, Any]) -> list[Event]:
        match delta.get("type"):
            case "text_delta":
                return said(TextDelta(text_in(delta, "text")))
            case "thinking_delta":
                return said(ThinkingDelta(text_in(delta, "thinking")))
            case "signature_delta":
                return said(ThinkingDelta("", text_in(delta, "signature") or None))
            case "input_json_delta" if piece := text_in(delta, "partial_json"):
                return self._input(index, piece)
        return []

    def _input(self, index: int, piece: str) -> list[Event]:
        """A piece of what a tool is called with: of the one that answers, it is the answer."""
        self._silent.discard(index)
        if index in self._calls:
            return [ToolCallDelta(self._calls[index], arguments=piece)]
        return [TextDelta(piece)] if index in self._answers else []

    def _finish(self, document: Mapping[str, Any]) -> list[Event]:
        count_up(self._usage, document)
        events: list[Event] = []
        if (reason := text_in(object_in(document, "delta"), "stop_reason")) and not self._finished:
            self._finished = True
            events.append(Finished(finish(reason, len(self._calls))))
        return [*events, *read_usage(self._usage)]


def said(event: TextDelta | ThinkingDelta) -> list[Event]:
    """The event, unless it says nothing: a first word is waited for."""
    return [event] if event.text or (isinstance(event, ThinkingDelta) and event.signature) else []


def finish(reason: str, calls: int) -> FinishReason:
    finished = FINISH_REASONS.get(reason, "stop")
    return "stop" if finished == "tool_calls" and not calls else finished


def count_up(usage: dict[str, Any], document: Mapping[str, Any]) -> None:
    """Take over what a frame says of `usage`. Counts only grow: a 0 or nothing stands for what was said before."""
    usage |= {name: count for name, count in object_in(document, "usage").items() if count}


def read_usage(usage: Mapping[str, Any]) -> list[Usage]:
    """`input_tokens` is what was neither read from the cache nor written to it. Empty where nothing was counted."""
    cached, written = count_in(usage, "cache_read_input_tokens"), count_in(usage, "cache_creation_input_tokens")
    prompt = count_in(usage, "input_tokens") + cached + written
    reasoning = count_in(usage.get("output_tokens_details"), "thinking_tokens")
    output = count_in(usage, "output_tokens")
    counted = Usage(input=prompt, output=output, cached=cached, cache_write=written, reasoning=reasoning)
    return [counted] if counted != Usage() else []


# -- written for callers --


def write_usage(usage: Usage | None) -> dict[str, Any]:
    """The format knows no answer without counts: unknown ones are 0."""
    counted = usage or Usage()
    written: dict[str, Any] = {
        "input_tokens": max(0, counted.input - counted.cached - counted.cache_write),
        "cache_creation_input_tokens": counted.cache_write,
        "cache_read_input_tokens": counted.cached,
        "output_tokens": counted.output,
    }
    return written | ({"output_tokens_details": {"thinking_tokens": counted.reasoning}} if counted.reasoning else {})


def write_error(fault: Fault, request_id: str) -> dict[str, Any]:
    """The format has no place for the name of a field: it is put into the sentence."""
    kind = ERROR_TYPES.get(fault.status, "api_error" if fault.status >= 500 else "invalid_request_error")
    message = fault.message
    if fault.param and fault.param not in message:
        message = f"{fault.param}: {message}"
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def message(stamp: Stamp, content: list[dict[str, Any]], reason: str | None, usage: Usage | None) -> dict[str, Any]:
    return {
        "id": f"msg_{stamp.id}",
        "type": "message",
        "role": "assistant",
        "model": stamp.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": write_usage(usage),
    }


def call_id(id: str, stamp: Stamp, number: int) -> str:
    """Some upstreams give a call no id; callers must have one to answer it."""
    return id or f"toolu_{stamp.id}_{number}"


def sse(document: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (document["type"].encode(), dumps(document))


@dataclass(slots=True)
class _Block:
    """A block that is open or waits to be; `arguments` are those of a call so far, None for all else."""

    start: dict[str, Any]
    waiting: list[dict[str, Any]] = field(default_factory=list)  # deltas not written yet
    arguments: list[str] | None = None
    signed: bool = False

    def is_over(self) -> bool:
        """Whether nothing more can belong to it once another block has begun: pieces of a call may still come."""
        return self.arguments is None or is_whole_object(self.arguments)


class MessagesWriter(Writer):
    """Events as `message_start`, blocks one after the other, `message_delta`, `message_stop`.

    Callers hold one block open at a time, so the pieces of parallel calls wait until it is their call's turn.
    """

    def __init__(self, stamp: Stamp) -> None:
        self._stamp = stamp
        self._begun = False
        self._blocks: deque[_Block] = deque()  # the first one is open, or about to be
        self._open = False
        self._index = 0
        self._calls: dict[int, _Block] = {}
        self._reason: FinishReason = "stop"
        self._usage: Usage | None = None

    def write(self, event: Event) -> bytes:
        match event:
            case TextDelta(text, 0) if text:
                self._say("text", {"text": ""}, {"type": "text_delta", "text": text})
            case ThinkingDelta(text, signature, 0):
                empty = {"thinking": "", "signature": ""}
                if text:
                    self._say("thinking", empty, {"type": "thinking_delta", "thinking": text})
                if signature:
                    self._say("thinking", empty, {"type": "signature_delta", "signature": signature})
                    self._blocks[-1].signed = True
            case ToolCallDelta(choice=0):
                self._call(event)
            case Opaque(language, value) if language == NAME:
                self._blocks.append(_Block(dict(value)))
            case Finished(reason, 0):
                self._reason = reason
                return self._beginning() + self._flow(ending=True)
            case Usage():
                self._usage = event
        return self._beginning() + self._flow()

    def close(self) -> bytes:
        # Not before: the counts come after the reason.
        ending = {"stop_reason": STOP_REASONS[self._reason], "stop_sequence": None}
        told = {"type": "message_delta", "delta": ending, "usage": write_usage(self._usage)}
        return self._beginning() + self._flow(ending=True) + sse(told) + sse({"type": "message_stop"})

    def fail(self, fault: Fault, request_id: str) -> bytes:
        return sse(write_error(fault, request_id))

    def _beginning(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        start = message(self._stamp, [], None, self._usage)
        return sse({"type": "message_start", "message": start}) + sse({"type": "ping"})

    def _say(self, kind: str, empty: dict[str, Any], delta: dict[str, Any]) -> None:
        last = self._blocks[-1] if self._blocks else None
        if last is None or last.start["type"] != kind or last.signed:
            last = _Block({"type": kind, **empty})
            self._blocks.append(last)
        last.waiting.append(delta)

    def _call(self, event: ToolCallDelta) -> None:
        block = self._calls.get(event.index)
        if block is None:
            block = _Block({"type": "tool_use", "id": "", "name": "", "input": {}}, arguments=[])
            block.start["id"] = call_id("", self._stamp, len(self._calls))
            self._calls[event.index] = block
            self._blocks.append(block)
        block.start["id"] = event.id or block.start["id"]
        block.start["name"] = event.name or block.start["name"]
        if event.arguments and block.arguments is not None:
            block.arguments.append(event.arguments)
            block.waiting.append({"type": "input_json_delta", "partial_json": event.arguments})

    def _flow(self, ending: bool = False) -> bytes:
        """What can be written of the blocks by now; all of it at the end."""
        written: list[bytes] = []
        while self._blocks:
            block = self._blocks[0]
            if not self._open:
                if block.arguments is not None and not block.start["name"] and not ending:
                    break  # the name has not come
                self._open = True
                start = {"type": "content_block_start", "index": self._index, "content_block": block.start}
                written.append(sse(start))
            for delta in block.waiting:
                written.append(sse({"type": "content_block_delta", "index": self._index, "delta": delta}))
            block.waiting.clear()
            if not ending and (len(self._blocks) == 1 or not block.is_over()):
                break
            written.append(sse({"type": "content_block_stop", "index": self._index}))
            self._blocks.popleft()
            self._open = False
            self._index += 1
        return b"".join(written)


# -- straight through --


class MessagesTap(Tap):
    """Watches frames by their bytes: a delta is read only until the first one has come."""

    def __init__(self, model: str | None) -> None:
        self._model = model
        self._counted: dict[str, Any] = {}

    def see(self, frame: bytes) -> bytes | None:
        if self.content and _is_delta(frame):
            self.pieces += 1
            return _named(frame, "content_block_delta")
        data = sse_data(frame)
        if data is None:
            return frame
        document = chunk_document(data)
        kind = text_in(document, "type")
        match kind:
            case "message_start":
                started = object_in(document, "message")
                count_up(self._counted, started)
                frame = renamed(frame, started.get("model"), self._model, _model_in)
            case "content_block_start":
                # Words begin empty; whatever else begins is there.
                self.content = self.content or object_in(document, "content_block").get("type") not in WORDS
            case "content_block_delta":
                self.content = True
                self.pieces += 1
            case "message_delta":
                self._finish(document)
            case "message_stop":
                self.ended = True
        return _named(frame, kind)

    def _finish(self, document: Mapping[str, Any]) -> None:
        # Only now: what is counted before the end is not the whole of it.
        count_up(self._counted, document)
        self.usage = next(iter(read_usage(self._counted)), None)
        if reason := text_in(object_in(document, "delta"), "stop_reason"):
            self.finish_reason = finish(reason, calls=1)
            self.content = True

    def closing(self) -> bytes:
        return b"" if self.ended else sse({"type": "message_stop"})

    def fail(self, fault: Fault, request_id: str) -> bytes:
        return sse(write_error(fault, request_id))


def _model_in(frame: bytes) -> object:
    return loads(sse_data(frame) or b"{}")["message"].get("model")


def _is_delta(frame: bytes) -> bool:
    """A quoted name inside of content is written `\\"content_block_delta\\"`, so the plain bytes say what it is."""
    return frame.startswith(b"event: content_block_delta") or (
        frame.startswith(b"data:") and b'"content_block_delta"' in frame
    )


def _named(frame: bytes, kind: str) -> bytes:
    """Bedrock's servers write the data alone, but Anthropic's clients go by the names of the events."""
    return b"event: %b\n%b" % (kind.encode(), frame) if frame.startswith(b"data:") and kind.isidentifier() else frame
