"""What Ollama's native formats share: lines of JSON, of which the one that is `done` is the last.

Source of the wire facts: Ollama API reference (ollama/ollama, docs/api.md), api/types.go, server/routes.go and
openai/openai.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from time import monotonic_ns
from typing import Any
from uuid import uuid4

from providers.conversation import (
    Answer,
    Choice,
    Event,
    Finished,
    FinishReason,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from providers.documents import dumps
from providers.languages.errors import chunk_document
from providers.languages.fields import count_in, json_in, object_in, objects_in, text_in
from providers.languages.language import Envelope, Fault, Language, Reader, Stamp, Tap, Writer
from providers.languages.messages import arguments_object
from providers.languages.model_names import ModelName
from providers.wire.errors import ProviderError
from providers.wire.frames import NEWLINE

SECOND = 1_000_000_000  # nanoseconds
UNDONE, DONE = re.compile(rb'"done"\s*:\s*false'), re.compile(rb'"done"\s*:\s*true')
FINISH_REASONS: Mapping[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}
# Zero keep alive, in all the ways Go reads a duration of nothing.
NOTHING = re.compile(r"[+-]?0+(\.0*)?(ns|us|µs|ms|s|m|h)?")

Say = Callable[[str, Mapping[str, Any]], dict[str, Any]]  # a text and what goes with it, as they stand in a record


class OllamaLanguage(Language):
    """The habits common to all of them: names that may go without a tag, errors of one sentence."""

    stream_type = "application/x-ndjson"
    heartbeat = b" "  # in front of a line of JSON; an empty line would be read as a record

    def spellings(self, model: str) -> tuple[str, ...]:
        """The tag `latest` goes without saying."""
        if model.endswith(":latest"):
            return model, model.removesuffix(":latest")
        return (model,) if ":" in model.rpartition("/")[2] else (model, f"{model}:latest")

    def write_error(self, fault: Fault, request_id: str) -> bytes:
        return dumps(error_of(fault))

    def readdress(self, body: dict[str, Any], envelope: Envelope, model: str, ask_usage: bool) -> dict[str, Any]:
        return {**body, "model": model}


def error_of(fault: Fault) -> dict[str, str]:
    """A text is all there is, so it says which field is meant."""
    named = fault.param is None or fault.param in fault.message
    return {"error": fault.message if named else f"{fault.param}: {fault.message}"}


def error_record(fault: Fault) -> bytes:
    return dumps(error_of(fault)) + b"\n"


def unloads(body: Mapping[str, Any]) -> bool:
    alive = body.get("keep_alive")
    if isinstance(alive, str):
        return NOTHING.fullmatch(alive) is not None
    return alive is not None and not isinstance(alive, bool) and alive == 0


# -- answers, written


class RecordWriter(Writer):
    """Events as records. Calls are gathered, since a record holds them whole; the counters stand in the last one.

    `clock` is in nanoseconds.
    """

    def __init__(self, say: Say, stamp: Stamp, clock: Callable[[], int] = monotonic_ns) -> None:
        self._say = say
        self._stamp = stamp
        self._clock = clock
        # What has passed of the call, when time began here.
        self._began = clock() - int(stamp.elapsed * SECOND)
        self._made = clock()
        self._first: int | None = None
        self._calls: dict[int, list[str]] = {}
        self._reason: FinishReason = "stop"
        self._usage: Usage | None = None

    def write(self, event: Event) -> bytes:
        match event:
            case TextDelta(text) if text:
                return self._content(text, {})
            case ThinkingDelta(text) if text:
                return self._content("", {"thinking": text})
            case ToolCallDelta(index, id, name, arguments):
                self._note_first()
                call = self._calls.setdefault(index, ["", "", ""])
                call[0] = id or call[0]
                call[1] = name or call[1]
                call[2] += arguments
            case Finished(reason):
                self._reason = reason
                if self._calls:
                    calls = [ToolCall(*self._calls[index]) for index in sorted(self._calls)]
                    return self._content("", {"tool_calls": write_calls(calls)})
            case Usage():
                self._usage = event
        return b""

    def close(self) -> bytes:
        now = self._clock()
        first = self._first or now
        counted = counters(self._usage, now - self._began, first - self._began, now - first)
        ended = {"done": True, "done_reason": reason_of(self._reason), **counted}
        return self._record({**self._say("", {}), **ended})

    def fail(self, fault: Fault, request_id: str) -> bytes:
        return error_record(fault)

    def _content(self, text: str, more: Mapping[str, Any]) -> bytes:
        self._note_first()
        return self._record({**self._say(text, more), "done": False})

    def _note_first(self) -> None:
        if self._first is None:
            self._first = self._clock()

    def _record(self, said: Mapping[str, Any]) -> bytes:
        moment = self._stamp.created + (self._clock() - self._made) / SECOND
        return dumps({"model": self._stamp.model, "created_at": rfc3339(moment), **said}) + b"\n"


def write_record(say: Say, answer: Answer, stamp: Stamp) -> bytes:
    """A whole answer, as a single record."""
    choice = answer.choices[0] if answer.choices else Choice((), "stop")
    texts = [part.text for part in choice.parts if isinstance(part, Text)]
    thinking = "".join(part.text for part in choice.parts if isinstance(part, Thinking))
    calls = write_calls(part for part in choice.parts if isinstance(part, ToolCall))
    more = {"thinking": thinking, "tool_calls": calls}
    # An answer that came whole does not tell reading from writing.
    took = int(stamp.elapsed * SECOND)
    record = {
        "model": stamp.model,
        "created_at": rfc3339(stamp.created),
        **say("".join(texts), {name: value for name, value in more.items() if value}),
        "done": True,
        "done_reason": reason_of(choice.finish_reason),
        **counters(answer.usage, took, 0, took),
    }
    return dumps(record)


def write_load(say: Say, body: Mapping[str, Any], stamp: Stamp) -> bytes:
    """What is said to those who only wanted the model in memory, or out of it."""
    reason = "unload" if unloads(body) else "load"
    head = {"model": stamp.model, "created_at": rfc3339(stamp.created)}
    return dumps({**head, **say("", {}), "done": True, "done_reason": reason})


def write_calls(calls: Iterable[ToolCall]) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "function": {"index": index, "name": call.name, "arguments": arguments_object(call)}}
        for index, call in enumerate(calls)
    ]


def counters(usage: Usage | None, total: int, read: int, said: int) -> dict[str, int]:
    """Durations are in nanoseconds. Nothing is loaded here."""
    counted = {"total_duration": total, "load_duration": 0, "prompt_eval_duration": read, "eval_duration": said}
    if usage is not None:
        counted |= {"prompt_eval_count": usage.input, "eval_count": usage.output}
    return counted


def reason_of(reason: FinishReason) -> str:
    return "stop" if reason == "tool_calls" else reason


def rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


# -- answers, read


class RecordReader(Reader):
    """The records of an answer as events; a whole answer is a single record."""

    frame_end = NEWLINE

    def __init__(self) -> None:
        self._begun = False
        self._calls = 0

    def read_frame(self, frame: bytes) -> list[Event]:
        return self.read_record(chunk_document(frame)) if frame.strip() else []

    def read_record(self, record: Mapping[str, Any]) -> list[Event]:
        # Chat speaks in a message, generate in the record itself.
        said = object_in(record, "message") or record
        events: list[Event] = []
        if thinking := text_in(said, "thinking"):
            events.append(ThinkingDelta(thinking))
        if text := text_in(said, "content", "response"):
            events.append(TextDelta(text))
        events += [self._call(call) for call in objects_in(said, "tool_calls")]
        self._begun = self._begun or bool(events)
        if record.get("done"):
            events.append(Finished(finish_in(record, self._begun, self._calls > 0)))
            if usage := usage_in(record):
                events.append(usage)
            self.ended = True
        return events

    def read_end(self) -> list[Event]:
        if not self.ended:
            raise ProviderError("The upstream's answer ended before it was complete.", kind="cut")
        return []

    def _call(self, call: Mapping[str, Any]) -> ToolCallDelta:
        """A call comes whole. Its own index starts afresh in each record, and older servers give no id."""
        function = object_in(call, "function")
        id = text_in(call, "id") or f"call_{uuid4().hex}"
        arguments = json_in(function, "arguments")
        self._calls += 1
        return ToolCallDelta(self._calls - 1, id, text_in(function, "name"), arguments)


def finish_in(record: Mapping[str, Any], begun: bool, called: bool) -> FinishReason:
    """They say "stop" beside the calls they made, and nothing when their runner went away."""
    said = text_in(record, "done_reason")
    if said in ("load", "unload"):
        raise ProviderError("The upstream only loaded or unloaded its model.", kind="broken")
    if not said and not begun:
        raise ProviderError("The upstream's answer ended before it began.", kind="cut")
    return FINISH_REASONS.get(said, "tool_calls" if called else "stop")


def usage_in(record: Mapping[str, Any]) -> Usage | None:
    """A counter of zero is left out; an answer without any was not counted."""
    if "prompt_eval_count" not in record and "eval_count" not in record:
        return None
    return Usage(input=count_in(record, "prompt_eval_count"), output=count_in(record, "eval_count"))


# -- straight through


class RecordTap(Tap):
    """Watches records that pass through."""

    frame_end = NEWLINE

    def __init__(self, model: str | None) -> None:
        self._name = ModelName(model, around=b'"message"')
        self._called = False

    def see(self, frame: bytes) -> bytes | None:
        if self.content and not _remarkable(frame):
            self.pieces += 1
            self._called = self._called or b'"tool_calls"' in frame
        elif frame.strip():
            self._look(frame)
        return self._name.swap(frame)

    def _look(self, frame: bytes) -> None:
        record = chunk_document(frame)
        self._name.learn(frame, record)
        said = object_in(record, "message") or record
        calls = objects_in(said, "tool_calls")
        if calls or text_in(said, "content", "response", "thinking"):
            self.content = True
            self.pieces += 1
        self._called = self._called or bool(calls)
        if record.get("done"):
            self.finish_reason = finish_in(record, self.content, self._called)
            self.usage = usage_in(record)
            self.content = self.ended = True

    def fail(self, fault: Fault, request_id: str) -> bytes:
        return error_record(fault)


def _remarkable(frame: bytes) -> bool:
    """Whether a record may be more than a piece of content. A quote inside of content is written `\\"`, so the plain
    bytes can only be keys."""
    return UNDONE.search(frame) is None or DONE.search(frame) is not None or b'"error"' in frame
