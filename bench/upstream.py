"""A mock upstream that answers from precomputed bytes: cheap enough never to be what is measured.

The model's name says how it streams: `mock` as fast as it can, `mock-50ms` one chunk every 50 ms, and
`mock-50ms-x100` so with 100 content chunks instead of 50. Each chunk is one write. The role and the first
content leave at once, so a client's wait for its first token is the wait that the server between them made.
"""

import argparse
import asyncio
import json
import re
from collections.abc import Iterator
from functools import cache

MODEL_NAME = re.compile(r"mock(?:-(?P<milliseconds>\d+)ms)?(?:-x(?P<chunks>\d+))?")
MODELS = ["mock", "mock-50ms", "mock-50ms-x50", "mock-50ms-x100"]
CREATED = 1_700_000_000
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def chunk_count(model: str) -> int:
    named = MODEL_NAME.fullmatch(model)
    return int(named["chunks"]) if named and named["chunks"] else 50


def spacing(model: str) -> float:
    named = MODEL_NAME.fullmatch(model)
    return int(named["milliseconds"]) / 1000 if named and named["milliseconds"] else 0.0


def token(number: int) -> str:
    """Numbered, so that the load generator sees a lost, doubled or misplaced one."""
    return f"tok{number} "


def usage(chunks: int) -> dict[str, int]:
    return {"prompt_tokens": 12, "completion_tokens": chunks, "total_tokens": 12 + chunks}


def http_answer(status: str, body: object) -> bytes:
    content = json.dumps(body, separators=(",", ":")).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


@cache
def whole_answer(model: str) -> bytes:
    message = {
        "role": "assistant",
        "content": "".join(token(number) for number in range(50)),
        "refusal": None,
    }
    return http_answer(
        "200 OK",
        {
            "id": "chatcmpl-mock",
            "object": "chat.completion",
            "created": CREATED,
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": usage(50),
            "system_fingerprint": "fp_mock",
        },
    )


def http_chunk(data: str) -> bytes:
    frame = f"data: {data}\n\n"
    return f"{len(frame):x}\r\n{frame}\r\n".encode()


def stream_chunk(model: str, choices: list[object], **more: object) -> bytes:
    head = {"id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": CREATED, "model": model}
    body = {**head, "system_fingerprint": "fp_mock", "choices": choices, **more}
    return http_chunk(json.dumps(body, separators=(",", ":")))


def stream_choice(delta: dict[str, str], finish_reason: str | None = None) -> object:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


@cache
def stream_writes(model: str, include_usage: bool) -> list[bytes]:
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    count = chunk_count(model)
    writes = [head.encode() + stream_chunk(model, [stream_choice({"role": "assistant", "content": ""})])]
    writes += [stream_chunk(model, [stream_choice({"content": token(number)})]) for number in range(count)]
    writes.append(stream_chunk(model, [stream_choice({}, "stop")]))
    if include_usage:
        writes.append(stream_chunk(model, [], usage=usage(count)))
    writes.append(http_chunk("[DONE]") + b"0\r\n\r\n")
    return writes


def refusal(message: str) -> object:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


MODEL_LIST = http_answer(
    "200 OK",
    {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": CREATED, "owned_by": "mock"} for name in MODELS],
    },
)
UNKNOWN_PATH = http_answer("404 Not Found", refusal("Unknown path"))
BAD_REQUEST = http_answer("400 Bad Request", refusal("The body must be a JSON object with a model."))


class Upstream(asyncio.Protocol):
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.received = b""
        self.timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.received = received = self.received + data if self.received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = LENGTH.search(received, 0, end)
        start, size = end + 4, int(length[1]) if length else 0
        if len(received) < start + size:
            return
        self.received = b""
        method, path, _ = received[: received.index(b"\r\n")].split(b" ")
        self.answer(method, path.partition(b"?")[0], received[start : start + size])

    def answer(self, method: bytes, path: bytes, body: bytes) -> None:
        if (method, path) == (b"POST", b"/v1/chat/completions"):
            self.complete(body)
        elif (method, path) == (b"GET", b"/v1/models"):
            self.transport.write(MODEL_LIST)
        else:
            self.transport.write(UNKNOWN_PATH)

    def complete(self, body: bytes) -> None:
        try:
            asked = json.loads(body)
            model = str(asked["model"])
        except (ValueError, KeyError, TypeError):
            self.transport.write(BAD_REQUEST)
            return
        if asked.get("stream") is not True:
            self.transport.write(whole_answer(model))
            return
        include_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        writes = stream_writes(model, include_usage)
        self.transport.write(writes[0])
        self.write_next(iter(writes[1:]), spacing(model))

    def write_next(self, writes: Iterator[bytes], wait: float) -> None:
        chunk = next(writes, None)
        if chunk is None or self.transport.is_closing():
            return
        self.transport.write(chunk)
        # A turn of the loop between two chunks, also of a fast stream, keeps them from arriving as one.
        if wait:
            self.timer = self.loop.call_later(wait, self.write_next, writes, wait)
        else:
            self.timer = self.loop.call_soon(self.write_next, writes, wait)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, required=True)
    asyncio.run(serve(arguments.parse_args().port))
