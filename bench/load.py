"""The load generator: whole answers, streams, or many open streams; prints its figures as JSON.

`calls` and `streams` are closed loops: each connection asks again as soon as it was answered. `open` opens
all its streams within two seconds and reads each to its end. An answer that is not 200, that lacks a token,
or that has one twice or out of order is an error, and the first few are printed.
"""

import argparse
import asyncio
import gc
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from upstream import chunk_count

PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "messages": "/v1/messages",
}
TOKEN = re.compile(rb"tok(\d+) ")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
LAST_CHUNK = b"0\r\n\r\n"
PATIENCE = 30.0  # seconds past the end of a closed loop after which an answer counts as missing


def request_bytes(port: int, language: str, model: str, stream: bool, headers: list[str]) -> bytes:
    body: dict[str, object] = {"model": model}
    if language == "completions":
        body["prompt"] = "Say the numbers from one to fifty."
    else:
        body["messages"] = [{"role": "user", "content": "Say the numbers from one to fifty."}]
    if language == "messages":
        body["max_tokens"] = 1000
    if stream:
        body["stream"] = True
    content = json.dumps(body).encode()
    head = [
        f"POST {PATHS[language]} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *headers,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


class Answer:
    """One HTTP answer, collected with as little work per packet as possible and examined at its end."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.expected: int | None = None
        self.chunked = False
        self.head_end = -1

    def feed(self, data: bytes) -> bool:
        """Takes what arrived and says whether the answer is complete."""
        self.parts.append(data)
        self.size += len(data)
        if self.head_end < 0 and not self.read_head():
            return False
        if self.expected is not None:
            return self.size >= self.expected
        return self.chunked and self.tail().endswith(LAST_CHUNK)

    def read_head(self) -> bool:
        raw = self.raw()
        self.head_end = raw.find(b"\r\n\r\n")
        if self.head_end < 0:
            return False
        self.chunked = bool(CHUNKED.search(raw, 0, self.head_end))
        if length := LENGTH.search(raw, 0, self.head_end):
            self.expected = self.head_end + 4 + int(length[1])
        return True

    def raw(self) -> bytes:
        if len(self.parts) > 1:
            self.parts = [b"".join(self.parts)]
        return self.parts[0] if self.parts else b""

    def tail(self) -> bytes:
        last = self.parts[-1]
        return last if len(last) >= len(LAST_CHUNK) else b"".join(self.parts[-len(LAST_CHUNK) :])

    def body(self) -> bytes:
        raw = self.raw()
        return dechunked(raw, self.head_end + 4) if self.chunked else raw[self.head_end + 4 :]

    def fault(self, tokens: int) -> str | None:
        """Why this is not the answer that was asked for."""
        raw = self.raw()
        if raw[9:12] != b"200":
            return raw[:400].decode(errors="replace") or "closed without an answer"
        seen = [int(number) for number in TOKEN.findall(self.body())]
        if seen != list(range(tokens)):
            return f"{len(seen)} of {tokens} tokens, or out of order; it ends with {raw[-200:]!r}"
        return None


def dechunked(raw: bytes, position: int) -> bytes:
    parts = []
    while (line_end := raw.find(b"\r\n", position)) > 0:
        size = int(raw[position:line_end].partition(b";")[0] or b"0", 16)
        if not size:
            break
        parts.append(raw[line_end + 2 : line_end + 2 + size])
        position = line_end + 2 + size + 2
    return b"".join(parts)


@dataclass
class Tally:
    """What a whole run saw."""

    durations: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    errors: int = 0
    faults: list[str] = field(default_factory=list)
    ended: float = 0.0

    def note(self, started: float, first_token: float | None, fault: str | None) -> None:
        self.ended = time.perf_counter()
        if fault:
            self.errors += 1
            if len(self.faults) < 3:
                self.faults.append(fault)
            return
        self.durations.append(self.ended - started)
        if first_token is not None:
            self.first_tokens.append(first_token - started)


class Connection(asyncio.Protocol):
    """Asks, reads the answer, and asks again while `wanted` says so."""

    def __init__(self, request: bytes, tokens: int, tally: Tally, wanted: Callable[[], bool]) -> None:
        self.request, self.tokens, self.tally, self.wanted = request, tokens, tally, wanted
        self.closed = asyncio.Event()
        self.answer: Answer | None = None
        self.first_token: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.answer, self.first_token = Answer(), None
        self.started = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        answer = self.answer
        if answer is None:
            return
        complete = answer.feed(data)
        if self.first_token is None and (b"tok" in data or b"tok0 " in answer.raw()):
            self.first_token = time.perf_counter()
        if complete:
            self.finish(answer)

    def finish(self, answer: Answer) -> None:
        fault = answer.fault(self.tokens)
        self.tally.note(self.started, self.first_token, fault)
        self.answer = None
        if self.wanted() and not fault:
            self.ask()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer is not None:  # an answer without a length ends here, and so does one that was cut
            self.tally.note(self.started, self.first_token, self.answer.fault(self.tokens))
            self.answer = None
        self.closed.set()


class Load:
    def __init__(self, port: int, request: bytes, tokens: int) -> None:
        self.port, self.request, self.tokens = port, request, tokens
        self.tally = Tally()

    async def converse(self, wanted: Callable[[], bool]) -> None:
        """One caller: reconnects when the server closed the connection between two answers."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                _, connection = await loop.create_connection(
                    partial(Connection, self.request, self.tokens, self.tally, wanted), "127.0.0.1", self.port
                )
                await connection.closed.wait()
            except OSError as error:
                self.tally.note(time.perf_counter(), None, f"could not connect: {error}")
                await asyncio.sleep(0.05)
            if not wanted():
                return

    async def finish(self, callers: list[asyncio.Task[None]], patience: float) -> None:
        _, late = await asyncio.wait(callers, timeout=patience)
        for caller in late:
            caller.cancel()
            self.tally.note(time.perf_counter(), None, f"no complete answer after {patience:.0f} s")

    async def closed_loop(self, connections: int, seconds: float) -> None:
        end = time.perf_counter() + seconds

        def wanted() -> bool:
            return time.perf_counter() < end

        callers = [asyncio.create_task(self.converse(wanted)) for _ in range(connections)]
        await self.finish(callers, seconds + PATIENCE)

    async def open_streams(self, count: int, within: float, patience: float) -> None:
        callers = []
        begin = time.perf_counter()
        for number in range(count):
            early = begin + number * within / count - time.perf_counter()
            if early > 0:
                await asyncio.sleep(early)
            callers.append(asyncio.create_task(self.converse(lambda: False)))
        await self.finish(callers, patience)


def percentile(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


def summary(tally: Tally, seconds: float, tokens: int) -> dict[str, object]:
    durations, first_tokens = sorted(tally.durations), sorted(tally.first_tokens)
    return {
        "completed": len(durations),
        "errors": tally.errors,
        "faults": tally.faults,
        "seconds": seconds,
        "per_second": len(durations) / seconds,
        "p50": percentile(durations, 0.50),
        "p99": percentile(durations, 0.99),
        "first_token_p50": percentile(first_tokens, 0.50),
        "first_token_p99": percentile(first_tokens, 0.99),
        "frames": len(durations) * tokens,
        "load_cpu": time.process_time(),
    }


def parsed() -> argparse.Namespace:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    parser.add_argument("kind", choices=["calls", "streams", "open"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="mock")
    parser.add_argument("--language", choices=PATHS, default="chat")
    parser.add_argument("--header", action="append", default=[], metavar="'Name: value'")
    parser.add_argument("--connections", type=int, default=32, help="how many ask at once, or are open")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a closed loop")
    parser.add_argument("--within", type=float, default=2.0, help="seconds in which `open` opens its streams")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds `open` waits for its streams")
    return parser.parse_args()


async def main() -> None:
    options = parsed()
    streaming = options.kind != "calls"
    tokens = chunk_count(options.model) if streaming else 50
    request = request_bytes(options.port, options.language, options.model, streaming, options.header)
    load = Load(options.port, request, tokens)
    gc.disable()  # nothing here is cyclic enough to matter within a minute, and pauses would show as latency
    begin = time.perf_counter()
    if options.kind == "open":
        await load.open_streams(options.connections, options.within, options.patience)
    else:
        await load.closed_loop(options.connections, options.seconds)
    print(json.dumps(summary(load.tally, (load.tally.ended or time.perf_counter()) - begin, tokens)))
    for fault in load.tally.faults:
        print(fault, file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main())
