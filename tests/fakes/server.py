"""A strict upstream's sockets and memory: real chunks, who left when, and what each request was.

A fake of one system inherits `FakeServer` and says in `behaviour` what it thinks of a request.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self, cast

Json = dict[str, Any]
Behaviour = Callable[["Exchange"], None]


class PeerGone(Exception):
    """The other side closed its connection before the answer was complete."""


class Stopping(Exception):
    """The test is over; nobody waits for this answer any more."""


@dataclass(eq=False)
class Heard:
    """One request as it arrived, and what became of its answer."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    connection: int  # the how-manieth connection it came on
    body: Any = None
    at: float = field(default_factory=time.monotonic)
    status: int = 0
    frames: int = 0  # sent so far
    left_at: float | None = None
    frames_when_left: int | None = None
    left: threading.Event = field(default_factory=threading.Event)  # the peer closed before the answer was complete
    over: threading.Event = field(default_factory=threading.Event)  # nothing more will be sent

    named: str | None = None  # the model, where the body does not say it

    @property
    def model(self) -> object:
        return self.named or (self.body.get("model") if isinstance(self.body, dict) else None)

    def wait_left(self, seconds: float) -> bool:
        return self.left.wait(seconds)

    def wait_frames(self, count: int, seconds: float = 5) -> bool:
        return wait_until(lambda: self.frames >= count, seconds)


class Gate:
    """Holds frames back until the test lets them through."""

    def __init__(self, frames: int = 0) -> None:
        self.allowed = float(frames)

    def allow(self, frames: int = 1) -> None:
        self.allowed += frames

    def open(self) -> None:
        self.allowed = float("inf")


class Exchange:
    """One request while it is being answered."""

    def __init__(self, server: FakeServer, connection: socket.socket, heard: Heard) -> None:
        self.server, self.connection, self.heard = server, connection, heard
        self.keep_alive = True
        self.chunked = False

    @property
    def body(self) -> Json:
        return cast(Json, self.heard.body)

    @property
    def streams(self) -> bool:
        return self.body.get("stream") is True

    def send(self, data: bytes) -> None:
        try:
            self.connection.sendall(data)
        except OSError as error:
            self._left()
            raise PeerGone from error

    def head(self, status: int, content_type: str, *, length: int | None = None, headers: Iterable[str] = ()) -> None:
        """Starts an answer; without a length it will come in chunks."""
        self.heard.status = status
        self.chunked = length is None
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            f"Content-Type: {content_type}",
            "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}",
            "Server: fake-upstream",
            f"x-request-id: req_upstream_{uuid.uuid4().hex}",
            "openai-organization: the-upstream-account",
            "Set-Cookie: __cf_bm=upstream-cookie; path=/",
            *headers,
        ]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def whole(
        self, status: int, data: bytes, content_type: str = "application/json", headers: Iterable[str] = ()
    ) -> None:
        self.head(status, content_type, length=len(data), headers=headers)
        self.send(data)

    def json(self, status: int, data: object, headers: Iterable[str] = ()) -> None:
        self.whole(status, json.dumps(data, indent=2).encode(), headers=headers)

    def start_stream(self) -> None:
        self.head(200, "text/event-stream; charset=utf-8", headers=["Cache-Control: no-cache"])

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def frame(self, data: bytes) -> None:
        self.check()
        self.chunk(data)
        self.heard.frames += 1

    def end(self) -> None:
        self.send(b"0\r\n\r\n")

    def close(self) -> None:
        """Ends the connection after this answer, or in the midst of it."""
        self.keep_alive = False

    def check(self) -> None:
        """Raises when the other side is gone."""
        if self.server.stopping.is_set():
            raise Stopping
        readable, _, _ = select.select([self.connection], [], [], 0)
        if not readable:
            return
        try:
            alive = self.connection.recv(1, socket.MSG_PEEK) != b""
        except OSError:
            alive = False
        if not alive:
            self._left()
            raise PeerGone

    def hold(self, ready: Callable[[], bool]) -> None:
        """Waits for the test while watching the other side."""
        while not ready():
            self.check()
            time.sleep(0.005)

    def hang(self) -> None:
        """Says nothing until the other side is tired of it."""
        self.close()
        self.hold(lambda: False)

    def _left(self) -> None:
        if not self.heard.left.is_set():
            self.heard.left_at, self.heard.frames_when_left = time.monotonic(), self.heard.frames
            self.heard.left.set()


class Refusal(Exception):
    """The server says no, in words of its own."""

    def behave(self, exchange: Exchange) -> None:
        raise NotImplementedError


class FakeServer:
    """Listens on a loopback port of its own, a thread for each connection, and remembers what it was sent."""

    def __init__(self) -> None:
        self.requests: list[Heard] = []
        self.complaints: list[str] = []  # what no caller can have caused: only the one in front of us
        self.connections = 0  # accepted so far
        self.stopping = threading.Event()
        self._scripts: dict[str, list[Behaviour]] = {}
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self._accepting = threading.Thread(target=self._accept, name=f"{type(self).__name__}-{self.port}", daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(5)
        self._listener.close()
        with self._lock:
            connections, threads = list(self._open), list(self._threads)
        for connection in connections:
            shut(connection)
        for thread in threads:
            thread.join(5)

    # -- what tests say and ask

    def script(self, model: str, *behaviours: Behaviour) -> None:
        """From now on the model behaves so, one behaviour per request; the last one stays."""
        with self._lock:
            self._scripts[model] = list(behaviours)

    def forget(self) -> None:
        """A fresh start for the next test: no scripts, no memory."""
        with self._lock:
            self._scripts.clear()
            self.requests.clear()
            self.complaints.clear()

    def asked(self, model: str | None = None) -> list[Heard]:
        """The calls so far, for one model or all; listings are no calls."""
        with self._lock:
            calls = [each for each in self.requests if each.method == "POST"]
        return [each for each in calls if model is None or each.model == model]

    def heard(self, model: str | None = None, number: int = 1, seconds: float = 5) -> Heard:
        """The number-th call for a model, waited for."""
        if not wait_until(lambda: len(self.asked(model)) >= number, seconds):
            raise AssertionError(f"The upstream heard {len(self.asked(model))} calls for {model}, not {number}.")
        return self.asked(model)[number - 1]

    @property
    def open_connections(self) -> int:
        with self._lock:
            return len(self._open)

    # -- how it serves

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(60)
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True)
            with self._lock:
                self._open.add(connection)
                self._threads.add(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        reader = connection.makefile("rb")
        try:
            while heard := self._read(reader, number):
                if not self._answer(connection, heard):
                    return
        except (OSError, Stopping):
            return
        finally:
            reader.close()
            shut(connection)
            connection.close()
            with self._lock:
                self._open.discard(connection)
                self._threads.discard(threading.current_thread())

    def _read(self, reader: Any, connection: int) -> Heard | None:
        line = reader.readline(65537)
        if not line:
            return None
        method, path, version = line.decode("latin-1").split()
        headers: dict[str, str] = {}
        while (line := reader.readline(65537)) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            if name.lower() in headers:
                self.complaints.append(f"The header {name} came twice.")
            headers[name.lower()] = value.strip()
        if version != "HTTP/1.1":
            self.complaints.append(f"{version} instead of HTTP/1.1")
        if "content-length" in headers and "transfer-encoding" in headers:
            self.complaints.append("Content-Length beside Transfer-Encoding")
        if headers.get("expect", "").lower() == "100-continue":
            self.complaints.append("Expect: 100-continue")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            raw = b"".join(iter(lambda: read_chunk(reader), b""))
        else:
            length = int(headers.get("content-length", 0))
            raw = reader.read(length)
            if len(raw) < length:
                return None
        heard = Heard(method, path, headers, raw, connection)
        with self._lock:
            self.requests.append(heard)
        return heard

    def _answer(self, connection: socket.socket, heard: Heard) -> bool:
        """Whether the connection may carry another request."""
        exchange = Exchange(self, connection, heard)
        try:
            self.behaviour(heard)(exchange)
        except Refusal as refused:
            refused.behave(exchange)
        except PeerGone:
            return False
        finally:
            heard.over.set()
        return exchange.keep_alive

    def behaviour(self, heard: Heard) -> Behaviour:
        """How this request is answered; whoever asks wrongly gets a Refusal."""
        raise NotImplementedError

    def scripted(self, model: str) -> Behaviour | None:
        with self._lock:
            script = self._scripts.get(model)
            if not script:
                return None
            return script.pop(0) if len(script) > 1 else script[0]

    def complain(self, complaint: str) -> None:
        """Notes what no caller can have caused: only the one in front of us."""
        with self._lock:
            self.complaints.append(complaint)


def unique(pairs: list[tuple[str, Any]]) -> Json:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        raise ValueError("a name comes twice in one object")
    return seen


def shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was faster


def read_chunk(reader: Any) -> bytes:
    size = int(reader.readline(64).split(b";")[0], 16)
    data: bytes = reader.read(size)
    reader.readline(8)
    return data


def wait_until(true: Callable[[], bool], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
