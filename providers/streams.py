"""Streamed answers on their way to a caller: straight through, or read into events and written afresh.

Both are iterators of bytes with an idempotent `close()`. `start()` returns once the first content is
here, so that until then another deployment may be tried; afterwards a fault is a ProviderError.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from providers.base import Target
from providers.conversation import Event, Finished, TextDelta, ThinkingDelta, ToolCallDelta, Usage
from providers.languages.language import Fault, Reader, Tap, Writer
from providers.wire.client import FAULTS, Response
from providers.wire.client import fault as fault_of
from providers.wire.errors import ProviderError
from providers.wire.frames import FrameTooLarge

AMAZON_STREAM = "application/vnd.amazon.eventstream"


class AnswerStream(Protocol):
    """What the relay hands out and the meter reads. `ended`: the terminal signal is in what was just returned."""

    ended: bool

    @property
    def usage(self) -> Usage | None: ...
    @property
    def pieces(self) -> int: ...
    def start(self) -> None: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def fail(self, fault: Fault, request_id: str) -> bytes | None: ...
    def close(self) -> None: ...


class StraightStream:
    """An upstream's frames as they are, watched by a tap."""

    def __init__(self, response: Response, tap: Tap) -> None:
        self._response = response
        self._frames = response.frames(tap.frame_end)
        self._tap = tap
        self._target = response.target
        self._held: list[bytes] = []
        self._last = b""
        self.ended = False

    @property
    def usage(self) -> Usage | None:
        return self._tap.usage

    @property
    def pieces(self) -> int:
        return self._tap.pieces

    def start(self) -> None:
        while not self._tap.content and not self._tap.ended:
            self._held.append(self._pass())
        self._response.content_came()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._held:
            held, self._held = b"".join(self._held), []
            self.ended = self._tap.ended
            return held
        if self.ended:
            raise StopIteration
        return self._pass()

    def _pass(self) -> bytes:
        while True:
            try:
                frame = next(self._frames)
            except StopIteration:
                return self._end()
            except FAULTS as error:
                raise _cut(error, self._target) from error
            try:
                passed = self._tap.see(frame)
            except ProviderError as error:
                self._target.clean(error)
                raise
            self.ended = self._tap.ended
            if passed is not None:
                self._last = passed
                return passed

    def _end(self) -> bytes:
        if self._tap.finish_reason is None:
            raise _ended_early(self._target)
        owed = self._tap.closing()
        if owed and not self._last.endswith((b"\n\n", b"\r\n\r\n")):
            owed = (b"\n" if self._last.endswith(b"\n") else b"\n\n") + owed
        self._tap.ended = self.ended = True
        return owed

    def fail(self, fault: Fault, request_id: str) -> bytes | None:
        return self._tap.fail(fault, request_id)

    def close(self) -> None:
        if self.ended:
            self._response.finish()
        else:
            self._response.close()


class UpstreamEvents:
    """The events of an upstream's frames; one step may bring several."""

    def __init__(self, response: Response, reader: Reader) -> None:
        self._response = response
        self._frames = response.frames(reader.frame_end)
        self._reader = reader
        self._target = response.target
        self._over = False

    def __iter__(self) -> Iterator[list[Event]]:
        return self

    def __next__(self) -> list[Event]:
        if self._over:
            raise StopIteration
        if self._reader.ended:
            self._over = True
            return self._reader.read_end()
        try:
            frame = next(self._frames)
        except StopIteration:
            self._over = True
            try:
                return self._reader.read_end()
            except ProviderError as error:
                raise _ended_early(self._target) from error
        except FAULTS as error:
            raise _cut(error, self._target) from error
        try:
            return self._reader.read_frame(frame)
        except ProviderError as error:
            self._target.clean(error)
            raise

    def content_came(self) -> None:
        self._response.content_came()

    def close(self) -> None:
        if self._over:
            self._response.finish()
        else:
            self._response.close()


class ReadyEvents:
    """Events that need no upstream: an account kind that answers by itself, or an answer that came whole."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._events = iter(events)

    def __iter__(self) -> Iterator[list[Event]]:
        return self

    def __next__(self) -> list[Event]:
        return [next(self._events)]

    def content_came(self) -> None:
        pass

    def close(self) -> None:
        pass


class TranslatedStream:
    """Events written afresh in the caller's language."""

    def __init__(self, events: UpstreamEvents | ReadyEvents, writer: Writer) -> None:
        self._events = events
        self._writer = writer
        self._held = b""
        self._content = False
        self.ended = False
        self.usage: Usage | None = None
        self.pieces = 0

    def start(self) -> None:
        while not self._content and not self.ended:
            self._held += self._step()
        self._events.content_came()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._held:
            held, self._held = self._held, b""
            return held
        while not self.ended:
            if written := self._step():
                return written
        raise StopIteration

    def _step(self) -> bytes:
        try:
            events = next(self._events)
        except StopIteration:
            self.ended = True
            return self._writer.close()
        return b"".join(self._write(event) for event in events)

    def _write(self, event: Event) -> bytes:
        if isinstance(event, (TextDelta, ThinkingDelta, ToolCallDelta)):
            self._content = True
            self.pieces += 1
        elif isinstance(event, Finished):
            self._content = True
        elif isinstance(event, Usage):
            self.usage = event
        return self._writer.write(event)

    def fail(self, fault: Fault, request_id: str) -> bytes:
        return self._writer.fail(fault, request_id)

    def close(self) -> None:
        self._events.close()


def read_unstreamed(response: Response) -> bytes:
    """The body of an answer that came whole though a stream was asked for. Raises ProviderError."""
    if response.content_type == AMAZON_STREAM:
        raise ProviderError(
            f"Upstream '{response.target.profile}' streams in Amazon's binary format, which is not read here. "
            "Ask your administrator to mark the deployment as one that cannot stream.",
            kind="broken",
        )
    body = response.read()
    response.finish()
    return body


def _cut(error: Exception, target: Target) -> ProviderError:
    if isinstance(error, (TimeoutError, FrameTooLarge)):
        return fault_of(error, target)
    return ProviderError(f"Upstream '{target.profile}' closed the connection in the middle of its answer.", kind="cut")


def _ended_early(target: Target) -> ProviderError:
    return ProviderError(f"The answer of upstream '{target.profile}' ended before it was complete.", kind="cut")
