"""Cuts an upstream's body into frames: bounded in size, fair to other calls, nothing lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from time import monotonic

import gevent
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPSocketPoolResponse

BLANK_LINE = re.compile(rb"\r?\n\r?\n")
NEWLINE = re.compile(rb"\n")
LARGEST_FRAME = 8 << 20  # bytes
READ_SIZE = 16384  # bytes per recv
TURN = 50  # frames one call may take before others get a turn


class FrameTooLarge(HTTPParseError):
    """The upstream sent more than LARGEST_FRAME bytes without ending a frame."""


class Frames:
    """The frames of one response body, each with its end mark; the last may lack it.

    Raises OSError or HTTPParseError when the body is cut, TimeoutError past `deadline` (monotonic seconds).
    """

    def __init__(
        self,
        response: HTTPSocketPoolResponse,
        deadline: float,
        end: re.Pattern[bytes] = BLANK_LINE,
        limit: int = LARGEST_FRAME,
    ) -> None:
        self._response = response
        self.deadline = deadline
        self._end = end
        self._limit = limit
        self._seen = 0
        self._scanned = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        response, buffer = self._response, self._response._body_buffer
        self._seen += 1
        if self._seen % TURN == 0:
            # Data that is always ready would keep the hub, and with it every other call, waiting.
            gevent.sleep(0)
        while True:
            if found := self._end.search(buffer, self._scanned):
                frame = bytes(buffer[: found.end()])
                del buffer[: found.end()]
                self._scanned = 0
                return frame
            self._scanned = max(0, len(buffer) - 3)
            if len(buffer) > self._limit:
                self.close()
                raise FrameTooLarge("frame too large")
            if response.message_complete:
                if not buffer:
                    raise StopIteration
                frame = bytes(buffer)
                buffer.clear()
                return frame
            receive(response, self.deadline)

    def close(self) -> None:
        self._response.release()


def receive(response: HTTPSocketPoolResponse, deadline: float) -> None:
    """Feed one piece of the body; an upstream that ends too early raises."""
    sock = response._sock
    if sock is None:
        raise HTTPConnectionClosed("closed")
    try:
        left = deadline - monotonic()
        if left <= 0:
            raise TimeoutError("the call took longer than its total timeout")
        if left < (sock.gettimeout() or 0):
            sock.settimeout(left)
        response.feed(sock.recv(READ_SIZE))
    except BaseException:
        response.release()
        raise


def sse_data(frame: bytes) -> bytes | None:
    """The `data:` of one SSE event, its lines joined by a newline; None for a comment.

    Accepts CRLF, comments and a missing space after the colon (WHATWG HTML, server-sent events).
    """
    if frame.startswith(b"data: ") and frame.find(b"\n", 0, -2) < 0:
        return frame[6:].rstrip(b"\r\n")
    lines = [line[5:].removeprefix(b" ") for line in frame.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
