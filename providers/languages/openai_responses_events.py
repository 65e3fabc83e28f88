"""The events that stream an answer of OpenAI Responses: written, read, and watched as they pass through.

Source of the wire facts: OpenAI API reference, Responses: streaming events.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from providers.conversation import (
    Event,
    Finished,
    FinishReason,
    Opaque,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from providers.documents import dumps, loads
from providers.languages.errors import chunk_document, failure_in
from providers.languages.fields import index_in, object_in, text_in
from providers.languages.language import Fault, Reader, Stamp, Tap, Writer
from providers.languages.messages import is_whole_object
from providers.languages.model_names import renamed
from providers.languages.openai_responses_items import (
    NAME,
    PARAGRAPH,
    Item,
    ItemStatus,
    Json,
    Kind,
    finish_of,
    parts_of,
    read_usage,
    response_document,
    status_of,
    text_part,
)
from providers.languages.openai_responses_tools import Origins, flat_name
from providers.wire.errors import ProviderError
from providers.wire.frames import sse_data

ENDS = ("response.completed", "response.incomplete")
FAILURES = ("response.failed", "response.cancelled", "error")
# The events that hold the whole response, and the failures. In a model's own words the quotes are escaped.
REMARKABLE = re.compile(rb'"(?:response\.(?:created|queued|in_progress|completed|incomplete|failed|cancelled)|error)"')
SEQUENCE_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d+)')


def event_frame(kind: str, number: int, fields: Mapping[str, Any]) -> bytes:
    document = {"type": kind, "sequence_number": number, **fields}
    return b"event: " + kind.encode() + b"\ndata: " + dumps(document) + b"\n\n"


def failed_frame(response: Mapping[str, Any], number: int, fault: Fault) -> bytes:
    error = {"code": fault.code or "server_error", "message": fault.message}
    return event_frame("response.failed", number, {"response": {**response, "status": "failed", "error": error}})


class ResponsesWriter(Writer):
    """Events as the events of a response. Calls that are made side by side stay open side by side."""

    def __init__(self, stamp: Stamp, told: Mapping[str, Any], origins: Origins) -> None:
        self._stamp = stamp
        self._told = told
        self._origins = origins
        self._number = 0  # of the next event
        self._items = 0
        self._said: Item | None = None  # the message or the thought that is being said
        self._calls: dict[int, Item] = {}
        self._nameless: dict[int, ToolCallDelta] = {}  # calls whose name has not come
        self._open_calls: list[Item] = []
        self._output: dict[int, Json] = {}  # items that are complete
        self._usage: Usage | None = None
        self._reason: FinishReason = "stop"

    def write(self, event: Event) -> bytes:
        match event:
            case TextDelta(text, 0) if text:
                return self._begin() + self._text(text)
            case ThinkingDelta(text, signature, 0) if text or signature:
                return self._begin() + self._thinking(text, signature)
            case ToolCallDelta(choice=0):
                return self._begin() + self._call(event)
            case Opaque(language, value) if language == NAME:
                item = self._item("opaque", value=value)
                return self._begin() + self._end_said() + self._added(item) + self._done(item)
            case Finished(reason, 0):
                self._reason = reason
                return self._begin() + self._end_all()
            case Usage():
                self._usage = event
        return b""

    def close(self) -> bytes:
        status = status_of(self._reason)
        frames = self._begin() + self._end_all()
        output = [self._output[index] for index in sorted(self._output)]
        return frames + self._frame(
            f"response.{status}",
            response=response_document(self._stamp, self._told, status, output, self._usage, self._reason),
        )

    def fail(self, fault: Fault, request_id: str) -> bytes:
        output = [self._output[index] for index in sorted(self._output)]
        response = response_document(self._stamp, self._told, "failed", output, self._usage)
        frames = self._begin()
        return frames + failed_frame(response, self._number, fault)

    def _begin(self) -> bytes:
        if self._number:
            return b""
        response = response_document(self._stamp, self._told, "in_progress")
        return self._frame("response.created", response=response) + self._frame(
            "response.in_progress", response=response
        )

    def _text(self, text: str) -> bytes:
        frames, item = b"", self._said
        if item is None or item.kind != "message":
            frames, item = self._end_said() + self._end_whole_calls(), self._item("message")
            self._said = item
            frames += self._added(item)
            frames += self._frame("response.content_part.added", **item.place, content_index=0, part=text_part(""))
        item.pieces.append(text)
        return frames + self._frame(
            "response.output_text.delta", **item.place, content_index=0, delta=text, logprobs=[]
        )

    def _thinking(self, text: str, signature: str | None) -> bytes:
        frames, item = b"", self._said
        if item is None or item.kind != "reasoning":
            frames, item = self._end_said() + self._end_whole_calls(), self._item("reasoning")
            self._said = item
            frames += self._added(item)
        if text:
            place = {**item.place, "summary_index": 0}
            if not item.pieces:
                part = {"type": "summary_text", "text": ""}
                frames += self._frame("response.reasoning_summary_part.added", **place, part=part)
            item.pieces.append(text)
            frames += self._frame("response.reasoning_summary_text.delta", **place, delta=text)
        if signature:  # it stands at the end of a thought: what follows is another one
            item.signature = signature
            frames += self._end_said()
        return frames

    def _call(self, event: ToolCallDelta, ending: bool = False) -> bytes:
        frames, item = b"", self._calls.get(event.index)
        if item is None:
            event = _joined(self._nameless.pop(event.index, None), event)
            if not event.name and not ending:
                self._nameless[event.index] = event
                return b""
            frames = self._end_said()
            id = event.id or f"call_{self._stamp.id}_{event.index}"
            item = Item.of_call(id, event.name or "", self._stamp, self._items, self._origins)
            self._items += 1
            self._calls[event.index] = item
            self._open_calls.append(item)
            frames += self._added(item)
        if event.arguments and item in self._open_calls:
            item.pieces.append(event.arguments)
            if item.kind == "call":
                frames += self._frame("response.function_call_arguments.delta", **item.place, delta=event.arguments)
        return frames

    def _item(self, kind: Kind, **more: Any) -> Item:
        self._items += 1
        return Item(kind, self._stamp, self._items - 1, **more)

    def _added(self, item: Item) -> bytes:
        return self._frame("response.output_item.added", output_index=item.index, item=item.document("in_progress"))

    def _done(self, item: Item, status: ItemStatus = "completed") -> bytes:
        document = self._output[item.index] = item.document(status)
        return self._frame("response.output_item.done", output_index=item.index, item=document)

    def _end_all(self) -> bytes:
        """What is still open ends with the answer, and as incomplete as it."""
        held, self._nameless = [*self._nameless.values()], {}
        frames = b"".join(self._call(event, ending=True) for event in held)
        status = status_of(self._reason)
        for call in self._open_calls:
            frames += self._end_call(call, status)
        self._open_calls = []
        return frames + self._end_said(status)

    def _end_whole_calls(self) -> bytes:
        """Callers hold one item at a time: calls that nothing can be added to end before words begin."""
        over = [call for call in self._open_calls if is_whole_object(call.pieces)]
        self._open_calls = [call for call in self._open_calls if call not in over]
        return b"".join(self._end_call(call, "completed") for call in over)

    def _end_call(self, call: Item, status: ItemStatus) -> bytes:
        said = call.document(status)
        if call.kind == "call":
            frames = self._frame("response.function_call_arguments.done", **call.place, arguments=said["arguments"])
        else:  # free text comes wrapped in JSON, and can be told once that is whole
            frames = self._frame("response.custom_tool_call_input.delta", **call.place, delta=said["input"])
            frames += self._frame("response.custom_tool_call_input.done", **call.place, input=said["input"])
        return frames + self._done(call, status)

    def _end_said(self, status: ItemStatus = "completed") -> bytes:
        item, self._said = self._said, None
        if item is None:
            return b""
        frames, text = b"", item.text
        if item.kind == "message":
            place = {**item.place, "content_index": 0}
            frames += self._frame("response.output_text.done", **place, text=text, logprobs=[])
            frames += self._frame("response.content_part.done", **place, part=text_part(text))
        elif item.pieces:
            place = {**item.place, "summary_index": 0}
            part = {"type": "summary_text", "text": text}
            frames += self._frame("response.reasoning_summary_text.done", **place, text=text)
            frames += self._frame("response.reasoning_summary_part.done", **place, part=part)
        return frames + self._done(item, status)

    def _frame(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return event_frame(kind, self._number - 1, fields)


def _joined(before: ToolCallDelta | None, event: ToolCallDelta) -> ToolCallDelta:
    if before is None:
        return event
    return replace(
        event, id=before.id or event.id, name=before.name or event.name, arguments=before.arguments + event.arguments
    )


class ResponsesReader(Reader):
    """The events of a response as events of the middle."""

    def __init__(self) -> None:
        self._calls: dict[int, int] = {}  # output index -> number of the call
        self._heard: set[int] = set()  # items of which a piece has come

    def read_frame(self, frame: bytes) -> list[Event]:
        data = sse_data(frame)
        if data is None or data.strip() == b"[DONE]":  # which some servers add
            return []
        document = chunk_document(data)
        kind = text_in(document, "type")
        if kind in FAILURES:
            raise failure_in(object_in(document, "response") or document)
        if kind in ENDS:
            return self._end(kind, object_in(document, "response"))
        match kind:
            case "response.output_item.added":
                return self._added(index_in(document, "output_index"), object_in(document, "item"))
            case "response.output_item.done":
                return self._done(index_in(document, "output_index"), object_in(document, "item"))
            case "response.reasoning_summary_part.added" if document.get("summary_index"):
                return [ThinkingDelta(PARAGRAPH)]
        return self._piece(kind, document) if kind.endswith(".delta") else []

    def read_end(self) -> list[Event]:
        if not self.ended:
            raise ProviderError("The upstream's answer ended before it was complete.", kind="cut")
        return []

    def _piece(self, kind: str, document: Mapping[str, Any]) -> list[Event]:
        index, piece = index_in(document, "output_index"), text_in(document, "delta")
        if piece:
            self._heard.add(index)
        match kind:
            case "response.output_text.delta" | "response.refusal.delta" if piece:
                return [TextDelta(piece)]
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" if piece:
                return [ThinkingDelta(piece)]
            case "response.function_call_arguments.delta" if index in self._calls and piece:
                return [ToolCallDelta(self._calls[index], arguments=piece)]
        return []

    def _added(self, index: int, item: Mapping[str, Any]) -> list[Event]:
        if item.get("type") != "function_call" or index in self._calls:
            return []
        self._calls[index] = len(self._calls)
        arguments = text_in(item, "arguments")
        if arguments:
            self._heard.add(index)
        name = flat_name(text_in(item, "namespace"), text_in(item, "name"))
        return [ToolCallDelta(self._calls[index], text_in(item, "call_id"), name, arguments)]

    def _done(self, index: int, item: Mapping[str, Any]) -> list[Event]:
        """What has not come in pieces: a signature, an item of another kind, and all that comes whole from some."""
        heard = index in self._heard
        events = self._added(index, {**item, "arguments": ""})
        for part in parts_of(item):
            match part:
                case Text(text) if not heard:
                    events.append(TextDelta(text))
                case Thinking(text, signature) if signature or not heard:
                    events.append(ThinkingDelta("" if heard else text, signature))
                case ToolCall(arguments=arguments) if not heard and arguments:
                    events.append(ToolCallDelta(self._calls[index], arguments=arguments))
                case Opaque():
                    events.append(part)
        return events

    def _end(self, kind: str, response: Mapping[str, Any]) -> list[Event]:
        self.ended = True
        events: list[Event] = [Finished(finish_of(_ended(kind, response), bool(self._calls)))]
        if usage := read_usage(response.get("usage")):
            events.append(usage)
        return events


def _ended(kind: str, response: Mapping[str, Any]) -> Json:
    """A terminal event says by its name how the response ended."""
    return {**response, "status": kind.removeprefix("response.")}


# -- straight through --


class ResponsesTap(Tap):
    """Watches the events of a response. Only those that hold the whole of it name the model."""

    def __init__(self, model: str | None) -> None:
        self._model = model
        self._response: Json = {}  # as the upstream last told it
        self._last = b""  # the last frame that was passed on and has a number

    def see(self, frame: bytes) -> bytes | None:
        if self.content and not REMARKABLE.search(frame):
            self.pieces += b'.delta"' in frame
            passed = frame
        else:
            passed = self._look(frame)
        if b'"sequence_number"' in frame:
            self._last = frame
        return passed

    def _look(self, frame: bytes) -> bytes:
        data = sse_data(frame)
        if data is None or data.strip() == b"[DONE]":
            return frame
        document = chunk_document(data)
        kind, response = text_in(document, "type"), object_in(document, "response")
        if kind in FAILURES:
            raise failure_in(response or document)
        if kind.endswith(".delta"):
            self.content = True
            self.pieces += 1
        if kind in ENDS:
            self.finish_reason = finish_of(_ended(kind, response))
            self.usage = read_usage(response.get("usage"))
            self.ended = True
        if not response:
            return frame
        self._response = response
        return renamed(frame, response.get("model"), self._model, _model_in)

    def fail(self, fault: Fault, request_id: str) -> bytes:
        numbers = SEQUENCE_NUMBER.findall(self._last)
        response = self._response or response_document(Stamp(request_id, 0, self._model or ""), {}, "failed")
        if self._model is not None:
            response = {**response, "model": self._model}
        return failed_frame(response, int(numbers[-1]) + 1 if numbers else 0, fault)


def _model_in(frame: bytes) -> object:
    return loads(sse_data(frame) or b"{}")["response"].get("model")
