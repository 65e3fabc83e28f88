"""A client of bare sockets, for what no SDK would send and for seeing exactly what comes back."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.live.server import Gateway

Json = dict[str, Any]
CHAT = "/v1/chat/completions"
FRAME_END = re.compile(rb"\r?\n\r?\n")


def chat(model: str, text: str = "Grüezi!", **more: object) -> Json:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]

    @property
    def error(self) -> Json:
        """The error in OpenAI's shape, after making sure that it is one, and that it is not HTML or a traceback."""
        text = self.body.decode("utf-8")
        assert self.headers.get("content-type", "").startswith("application/json"), self
        assert "<html" not in text.lower(), self
        assert "Traceback" not in text, self
        error: Json = self.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, self
        assert isinstance(error["message"], str), self
        assert error["message"], self
        assert isinstance(error["type"], str), self
        assert self.headers.get("x-request-id"), self
        return error


def request_bytes(
    gateway: Gateway, path: str, body: bytes | Json | None, method: str = "POST", **headers: str | None
) -> bytes:
    """A request as bytes; header names are written with underscores, and None leaves one out."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body or b""
    lines: dict[str, str | None] = {
        "host": f"127.0.0.1:{gateway.port}",
        "authorization": f"Bearer {gateway.key}",
        "content-type": "application/json" if body is not None else None,
        "content-length": str(len(data)) if body is not None else None,
    }
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items() if value is not None)]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + data


class Caller:
    """One connection to the gateway."""

    def __init__(self, gateway: Gateway, timeout: float = 20) -> None:
        self.gateway = gateway
        self.socket = socket.create_connection(("127.0.0.1", gateway.port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, path: str, body: bytes | Json | None, method: str = "POST", **headers: str | None) -> None:
        self.send(request_bytes(self.gateway, path, body, method, **headers))

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers; interim answers (100 Continue) are skipped, as every client must."""
        while True:
            line = self._reader.readline()
            if not line:
                raise ConnectionError("The gateway closed the connection without an answer.")
            status = int(line.split()[1])
            headers: dict[str, str] = {}
            while (line := self._reader.readline()).strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            if status >= 200:
                return status, headers

    def chunks(self) -> Iterator[bytes]:
        """The parts of a chunked body; ends only when the body is complete."""
        while size := int(self._line().split(b";")[0], 16):
            yield self._exactly(size)
            self._line()
        self._line()

    def frames(self) -> Iterator[bytes]:
        """Events of a stream, without the blank line that ends each (the last may lack it) and without comments."""
        buffer = b""
        for chunk in self.chunks():
            buffer += chunk
            while found := FRAME_END.search(buffer):
                frame, buffer = buffer[: found.start()], buffer[found.end() :]
                if not frame.startswith(b":"):
                    yield frame
        if buffer:
            yield buffer

    def answer(self) -> Answer:
        status, headers = self.head()
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = b"".join(self.chunks())
        elif "content-length" in headers:
            body = self._exactly(int(headers["content-length"]))
        else:
            body = b"" if status in (204, 304) else self._reader.read()
        return Answer(status, headers, body)

    def end_sending(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def leave(self) -> None:
        self._reader.close()
        self.socket.close()

    def reset(self) -> None:
        """Leaves as a process does that was killed with unread bytes: RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.leave()

    def _line(self) -> bytes:
        line = self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("The body was cut.")
        return line

    def _exactly(self, size: int) -> bytes:
        data = self._reader.read(size)
        if len(data) < size:
            raise ConnectionError("The body was cut.")
        return data


def call(gateway: Gateway, path: str, body: bytes | Json | None, method: str = "POST", **headers: str | None) -> Answer:
    """One request on a connection of its own."""
    with Caller(gateway) as caller:
        caller.ask(path, body, method, **headers)
        return caller.answer()


def events(frames: list[bytes]) -> list[Any]:
    """The JSON of each `data:` frame; `[DONE]` stays a string."""
    texts = [frame.removeprefix(b"data:").strip() for frame in frames]
    return ["[DONE]" if text == b"[DONE]" else json.loads(text) for text in texts]


def stream(gateway: Gateway, body: Json, **headers: str | None) -> tuple[Answer, list[Any]]:
    """A whole stream: its head and its events."""
    with Caller(gateway) as caller:
        caller.ask(CHAT, body | {"stream": True}, **headers)
        status, names = caller.head()
        assert status == 200, (status, b"".join(caller.chunks()) if "transfer-encoding" in names else names)
        frames = list(caller.frames())
    return Answer(status, names, b"\n\n".join(frames)), events(frames)
