"""A server of plain sockets, a thread for each connection: it keeps what it hears and says what the test says.

`with Upstream(answering(whole(b"{}"))) as upstream:` listens on `upstream.url`; `upstream.heard` has its requests.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from providers.base import Target, UpstreamRequest

Script = Callable[["Wire"], None]


@dataclass(frozen=True)
class Heard:
    """One request as it arrived."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    connection: int  # the how-manieth connection it came on

    def header(self, name: str) -> str | None:
        values = self.values(name)
        return values[0] if values else None

    def values(self, name: str) -> list[str]:
        return [value for given, value in self.headers if given.lower() == name.lower()]


class Wire:
    """The server's side of one connection."""

    def __init__(self, sock: socket.socket, number: int, upstream: Upstream) -> None:
        self.sock = sock
        self.number = number
        self._upstream = upstream
        self._unread = b""

    def request(self) -> Heard | None:
        """The next request, or None when the peer has left."""
        while b"\r\n\r\n" not in self._unread:
            if not (piece := self.sock.recv(65536)):
                return None
            self._unread += piece
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))
        length = int(dict(headers).get("Content-Length", 0))
        while len(self._unread) < length and (piece := self.sock.recv(65536)):
            self._unread += piece
        body, self._unread = self._unread[:length], self._unread[length:]
        heard = Heard(method, path, headers, body, self.number)
        self._upstream.heard.append(heard)
        return heard

    def say(self, *pieces: bytes, pause: float = 0) -> None:
        """Each piece in a write of its own; `pause` is in seconds."""
        for piece in pieces:
            self.sock.sendall(piece)
            if pause:
                time.sleep(pause)

    def reset(self) -> None:
        """Close so that the peer sees a reset instead of an end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def peer_left(self, seconds: float) -> bool:
        """Whether the peer closes within so many seconds."""
        try:
            self.sock.settimeout(seconds)
            return self.sock.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


class Upstream:
    """A listening server on a free loopback port; `script` runs once for each connection."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.heard: list[Heard] = []
        self.connections = 0
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for sock in [self._listener, *self._open]:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
        for thread in self._threads:
            thread.join(10)
        if self._failures:
            raise self._failures[0]

    def _spawn(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._open.append(sock)
            self._spawn(self._serve, sock, self.connections)

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._open.append(sock)
            self._script(Wire(sock, number, self))
        except OSError:
            pass  # the client left, or the test is over
        except BaseException as error:
            self._failures.append(error)
        finally:
            sock.close()


# -- what an upstream says


def whole(body: bytes, status: str = "200 OK", kind: str = "application/json", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


EVENT_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


def stream(*pieces: bytes) -> bytes:
    return EVENT_STREAM + b"".join(chunk(piece) for piece in pieces) + LAST_CHUNK


# -- how it behaves


def answering(*answers: bytes) -> Script:
    """Each request of a connection gets the next answer, the last one for ever."""

    def script(wire: Wire) -> None:
        left = list(answers)
        while wire.request() is not None:
            wire.say(left.pop(0) if len(left) > 1 else left[0])

    return script


def silent(wire: Wire) -> None:
    """Hears a request and never answers."""
    wire.request()
    wire.peer_left(20)


def hears_nothing(wire: Wire) -> None:
    """For an upstream that must not be asked: whatever arrives is in `heard`."""
    wire.request()


# -- who asks


def account(url: str, **changes: object) -> Target:
    """A profile's target with short patience, unless the test says otherwise."""
    limits: dict[str, object] = {
        "connect_timeout": 5,
        "first_event_timeout": 5,
        "idle_timeout": 5,
        "total_timeout": 10,
    }
    return Target("Main account", "openai", {"url": url}, **(limits | changes))  # type: ignore[arg-type]


def post(url: str, body: bytes = b"{}", **headers: str) -> UpstreamRequest:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return UpstreamRequest("POST", f"{url}/chat/completions", {"Content-Type": "application/json", **given}, body)
