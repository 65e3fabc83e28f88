"""A strict OpenAI-compatible server: real sockets and chunks, a long memory, and every way of misbehaving.

    with FakeOpenAI() as upstream:
        upstream.script("scripted", cut(after=2))
        ...                                   # ask http://127.0.0.1:PORT/v1 for the model "scripted"
        assert upstream.heard("scripted").wait_left(1)

Shapes and wordings follow api.openai.com. A model behaves as its name in `BY_NAME` says, unless a test scripts it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tests.fakes import openai_responses as responses
from tests.fakes import scenes
from tests.fakes.scenes import Scene
from tests.fakes.server import Behaviour, Exchange, FakeServer, Gate, Heard, Json, Refusal, unique

KEY = "sk-upstream-0123456789abcdef"  # what a profile must send; never what a caller sends
PROMPT_TOKENS = 21
CACHED_TOKENS = 8
REASONING_TOKENS = 2


@dataclass(frozen=True)
class Reply:
    """What the model says; whether whole or in pieces is the caller's wish."""

    text: str | None = None  # None: repeat the caller
    calls: tuple[tuple[str, str, str], ...] = ()  # id, function, arguments
    finish: str = "stop"
    prompt_tokens: int = PROMPT_TOKENS
    output_tokens: int | None = None  # None: as many as were said
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    usage: bool = True
    usage_in_finish: bool = False  # in the chunk that finishes, instead of one of its own
    reasoning: str = ""  # said before the text, in `reasoning_content`
    null_usage: bool = False  # `"usage": null` in each chunk, asked for or not
    extra: Json = field(default_factory=dict)  # top-level fields nobody knows yet
    sort_keys: bool = False  # llama.cpp sorts its fields, so "model" comes after "choices"


# ---------------------------------------------------------------------------------------------- answers


def pieces(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text)


def said(body: Json) -> str:
    """The caller's last words, or what its tools have found."""
    messages = body.get("messages") or []
    found = [text_of(message.get("content")) for message in messages if message.get("role") == "tool"]
    if found:
        return "The tools say: " + "; ".join(found)
    asked = [text_of(message.get("content")) for message in messages if message.get("role") == "user"]
    return "You said: " + (asked[-1] if asked else "nothing")


def text_of(content: object) -> str:
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def instance(schema: Json) -> Any:
    """The simplest value a JSON schema allows."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: instance(inner) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema.get("items", {"type": "string"}))]
    return {"string": "Ada", "integer": 36, "number": 1.5, "boolean": True, "null": None}[kind]


def reply_text(body: Json, reply: Reply) -> str:
    wanted = body.get("response_format") or {}
    if "input" in body and ((body.get("text") or {}).get("format") or {}).get("type") == "json_schema":
        return json.dumps(instance(body["text"]["format"]["schema"])) if reply.text is None else reply.text
    if wanted.get("type") == "json_schema":
        return json.dumps(instance(wanted["json_schema"]["schema"]))
    if reply.text is not None:
        return reply.text
    return responses.said(body) if "input" in body else said(body)


def output_tokens(body: Json, reply: Reply) -> int:
    return len(pieces(reply_text(body, reply))) if not reply.calls else 7 * len(reply.calls)


def usage_of(body: Json, reply: Reply) -> Json:
    completion = output_tokens(body, reply) if reply.output_tokens is None else reply.output_tokens
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": reply.prompt_tokens + completion,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens, "audio_tokens": 0},
    }


def chat_whole(body: Json, reply: Reply) -> Json:
    message: Json = {"role": "assistant", "content": reply_text(body, reply), "refusal": None, "annotations": []}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.calls:
        message["content"] = None
        message["tool_calls"] = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id, name, arguments in reply.calls
        ]
    finish = "tool_calls" if reply.calls else reply.finish
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    answer = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [choice],
    }
    if reply.usage:
        answer["usage"] = usage_of(body, reply)
    return {**answer, "service_tier": "default", "system_fingerprint": "fp_fake", **reply.extra}


def chat_chunks(body: Json, reply: Reply) -> Iterator[Json]:
    """Role, contents, finish, and the usage chunk for those who asked: OpenAI's order."""
    asked = bool((body.get("stream_options") or {}).get("include_usage"))
    head = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": body["model"],
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
        **reply.extra,
    }
    tail = {"usage": None} if asked or reply.null_usage else {}

    def chunk(delta: Json, finish: str | None = None) -> Json:
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}], **tail}

    if reply.calls:
        yield chunk({"role": "assistant", "content": None})
        for piece in pieces(reply.reasoning):
            yield chunk({"reasoning_content": piece})
        for index, (id, name, arguments) in enumerate(reply.calls):
            function = {"name": name, "arguments": ""}
            yield chunk({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]})
            for start in range(0, len(arguments), 5):
                part = {"arguments": arguments[start : start + 5]}
                yield chunk({"tool_calls": [{"index": index, "function": part}]})
        yield chunk({}, "tool_calls")
    else:
        yield chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in pieces(reply.reasoning):
            yield chunk({"reasoning_content": piece})
        for piece in pieces(reply_text(body, reply)):
            yield chunk({"content": piece})
        counted = {"usage": usage_of(body, reply)} if reply.usage_in_finish else {}
        yield chunk({}, reply.finish) | counted
    if asked and reply.usage and not reply.usage_in_finish:
        yield {**head, "choices": [], "usage": usage_of(body, reply)}


def completion_text(body: Json, reply: Reply) -> str:
    if reply.text is not None:
        return reply.text
    return f" and so on{body['suffix']}" if body.get("suffix") else " and so on"


def completion_whole(body: Json, reply: Reply) -> Json:
    text = completion_text(body, reply)
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": reply.finish}
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [choice],
        "usage": usage_of(body, replace(reply, text=text)),
    }


def completion_chunks(body: Json, reply: Reply) -> Iterator[Json]:
    asked = bool((body.get("stream_options") or {}).get("include_usage"))
    head = {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time())}
    tail = {"model": body["model"], **({"usage": None} if asked else {})}
    text = completion_text(body, reply)
    for piece in pieces(text):
        yield {**head, "choices": [{"text": piece, "index": 0, "logprobs": None, "finish_reason": None}], **tail}
    yield {**head, "choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": reply.finish}], **tail}
    if asked:
        yield {**head, "choices": [], **tail, "usage": usage_of(body, replace(reply, text=text))}


def vector(text: str, dimensions: int) -> list[float]:
    """The same words always lie at the same place; float32, so that both encodings say the same."""
    seed = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    values = [seed[number % 32] / 255 - 0.5 for number in range(dimensions)]
    return list(struct.unpack(f"<{dimensions}f", struct.pack(f"<{dimensions}f", *values)))


def embeddings_whole(body: Json) -> Json:
    given = body["input"]
    single = isinstance(given, str) or isinstance(given[0], int)
    inputs = [given] if single else given
    vectors = [vector(json.dumps(each), body.get("dimensions") or 8) for each in inputs]

    def encode(values: list[float]) -> object:
        if body.get("encoding_format") == "base64":
            return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
        return values

    data = [{"object": "embedding", "index": i, "embedding": encode(values)} for i, values in enumerate(vectors)]
    tokens = sum(len(each.split()) if isinstance(each, str) else len(each) for each in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def spoken_of(body: Json, reply: Reply) -> responses.Spoken:
    """The reply in the words of Responses."""
    usage = usage_of(body, reply)
    return responses.Spoken(
        "" if reply.calls else reply_text(body, reply),
        reply.reasoning,
        reply.calls,
        reply.finish,
        usage["prompt_tokens"],
        usage["completion_tokens"],
        reply.cached_tokens,
        reply.reasoning_tokens,
    )


def whole_of(exchange: Exchange, reply: Reply) -> bytes:
    path, body = exchange.heard.path, exchange.body
    if path == "/v1/embeddings":
        answer = embeddings_whole(body)
    elif path == responses.PATH:
        answer = responses.whole(body, spoken_of(body, reply))
    elif path == "/v1/completions":
        answer = completion_whole(body, reply)
    else:
        answer = chat_whole(body, reply)
    return json.dumps(answer, indent=2, sort_keys=reply.sort_keys).encode()


def frames_of(exchange: Exchange, reply: Reply, blank_line: bytes = b"\n\n") -> list[bytes]:
    if exchange.heard.path == responses.PATH:
        made = responses.events(exchange.body, spoken_of(exchange.body, reply))
        return [responses.frame(event, blank_line[: len(blank_line) // 2]) for event in made]
    chunks = completion_chunks if exchange.heard.path == "/v1/completions" else chat_chunks
    events = [
        json.dumps(chunk, separators=(",", ":"), sort_keys=reply.sort_keys).encode()
        for chunk in chunks(exchange.body, reply)
    ]
    return [b"data: " + event + blank_line for event in [*events, b"[DONE]"]]


# ------------------------------------------------------------------------------------------- behaviours


def answer(
    text: str | None = None, *, gate: Gate | None = None, crlf: bool = False, comments: bool = False, **more: Any
) -> Behaviour:
    """A good answer, whole or streamed as asked; a gate holds each frame (or the whole) back."""
    reply = Reply(text=text, **more)

    def behave(exchange: Exchange) -> None:
        if not exchange.streams:
            exchange.hold(lambda: gate is None or gate.allowed >= 1)
            exchange.whole(200, whole_of(exchange, reply))
            return
        exchange.start_stream()
        for number, frame in enumerate(frames_of(exchange, reply, b"\r\n\r\n" if crlf else b"\n\n"), start=1):
            exchange.hold(lambda number=number: gate is None or gate.allowed >= number)  # type: ignore[misc]
            if comments:
                exchange.chunk(b": OPENROUTER PROCESSING\n\n")
            exchange.frame(frame)
        exchange.end()

    return behave


ENGINE_DIED = "The engine ran out of memory."


def words_begin(frames: list[bytes]) -> int:
    """The number of the first frame that says something: in front of it chat names a role, and Responses much."""
    deltas = [number for number, frame in enumerate(frames) if b'.delta"' in frame]
    return deltas[0] if deltas else 1


def play(scene: Scene) -> Behaviour:
    """The scene, whole or streamed as asked."""
    reply = Reply(
        text=scene.text,
        calls=scene.calls,
        finish={"filter": "content_filter"}.get(scene.finish, scene.finish),
        prompt_tokens=scene.input_tokens,
        output_tokens=scene.output_tokens,
        cached_tokens=scene.cached_tokens,
        reasoning=scene.thinking,
    )
    line_end = b"\r\n" if scene.crlf else b"\n"
    broken = json.dumps({"error": error_of(ENGINE_DIED, "server_error")}).encode()

    def whole(exchange: Exchange) -> None:
        data = whole_of(exchange, reply)
        if scene.fails in ("first", "later"):
            responds = exchange.heard.path == responses.PATH
            data = json.dumps(responses.failed(exchange.body, ENGINE_DIED)).encode() if responds else broken
        exchange.head(200, "application/json", length=len(data))
        if scene.fails == "cut":
            exchange.close()
            data = data[: len(data) // 2]
        for part in scenes.torn(data, scene.bytes_at_once):
            exchange.send(part)

    def behave(exchange: Exchange) -> None:
        if not exchange.streams:
            whole(exchange)
            return
        frames = frames_of(exchange, reply, line_end * 2)
        if scene.fails:
            frames = [] if scene.fails == "first" else frames[: words_begin(frames) + 1]
            error = b"data: " + broken + line_end * 2
            if exchange.heard.path == responses.PATH:
                error = responses.frame(responses.broken(len(frames), ENGINE_DIED), line_end)
            frames += [] if scene.fails == "cut" else [error]
        exchange.start_stream()
        for frame in frames:
            for part in scenes.torn(b": ping" + line_end * 2 + frame if scene.comments else frame, scene.bytes_at_once):
                exchange.check()
                exchange.chunk(part)
            exchange.heard.frames += 1
        exchange.end()

    return behave


def tools(*calls: tuple[str, str]) -> Behaviour:
    """Calls the offered functions, each with the arguments given; speaks once it has their results."""

    def behave(exchange: Exchange) -> None:
        body, responds = exchange.body, exchange.heard.path == responses.PATH
        if responses.answered(body) if responds else any(each["role"] == "tool" for each in body["messages"]):
            answer()(exchange)
            return
        chat_tools = [tool["function"]["name"] for tool in body.get("tools", []) if "function" in tool]
        offered = (responses.offered(body) if responds else chat_tools) or ["nothing"]
        wanted = calls or ((offered[0], '{"city": "Zürich"}'), (offered[-1], '{"city": "Oslo"}'))
        named = tuple((f"call_{number}_{uuid.uuid4().hex[:8]}", *call) for number, call in enumerate(wanted))
        answer(calls=named)(exchange)

    return behave


def torn() -> Behaviour:
    """A good stream whose bytes arrive torn at awkward places: inside a character, inside a line end."""

    def behave(exchange: Exchange) -> None:
        if not exchange.streams:
            answer()(exchange)
            return
        exchange.start_stream()
        data = b"".join(frames_of(exchange, Reply()))
        for start in range(0, len(data), 7):
            exchange.frame(data[start : start + 7])
        exchange.end()

    return behave


def spelt(data: Callable[[list[bytes]], list[bytes]]) -> Behaviour:
    """A good stream whose frames are spelt in another lawful way."""

    def behave(exchange: Exchange) -> None:
        exchange.start_stream()
        for frame in data(frames_of(exchange, Reply())):
            exchange.frame(frame)
        exchange.end()

    return behave


def unterminated(frames: list[bytes]) -> list[bytes]:
    """The last line ends with the connection, without a blank line."""
    return [*frames[:-1], frames[-1].rstrip(b"\n")]


def unspaced(frames: list[bytes]) -> list[bytes]:
    return [frame.replace(b"data: ", b"data:", 1) for frame in frames]


def named(frames: list[bytes]) -> list[bytes]:
    """With the other fields of server-sent events."""
    return [b"event: message\nid: 7\nretry: 1000\n" + frame for frame in frames]


def until_closed(frames: int | None = None) -> Behaviour:
    """Says neither length nor chunks: the body ends with the connection, good or cut."""

    def behave(exchange: Exchange) -> None:
        exchange.close()
        exchange.heard.status = 200
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for frame in frames_of(exchange, Reply())[:frames]:
            exchange.send(frame)
            exchange.heard.frames += 1

    return behave


def flood(exchange: Exchange) -> None:
    """Talks without end, as fast as it is listened to, 64 KB a word."""
    exchange.close()
    exchange.start_stream()
    role, word, *_ = frames_of(exchange, Reply(text="word"))
    exchange.frame(role)
    while True:
        exchange.frame(word.replace(b'"word"', b'"' + b"w" * 65_536 + b'"'))


def refusal(
    status: int,
    message: str,
    *,
    type: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
    headers: Iterable[str] = (),
) -> Behaviour:
    error = {"error": error_of(message, type, param, code)}
    return lambda exchange: exchange.json(status, error, headers)


def error_of(message: str, type: str, param: str | None = None, code: str | None = None) -> Json:
    return {"message": message, "type": type, "param": param, "code": code}


def no_stream_options(exchange: Exchange) -> None:
    """An older server, for which `stream_options` does not exist."""
    if "stream_options" in exchange.body:
        refuse = refusal(400, "Unknown parameter: 'stream_options'.", param="stream_options", code="unknown_parameter")
        refuse(exchange)
    else:
        answer()(exchange)


def raw(status: int, body: bytes, content_type: str, headers: Iterable[str] = ()) -> Behaviour:
    return lambda exchange: exchange.whole(status, body, content_type, headers)


def redirect(location: str) -> Behaviour:
    return raw(307, b"", "text/plain", [f"Location: {location}"])


def compressed(exchange: Exchange) -> None:
    """Compresses, whether or not anybody said they could read it."""
    body = gzip.compress(whole_of(exchange, Reply()))
    exchange.whole(200, body, headers=["Content-Encoding: gzip"])


def hang_before_headers(exchange: Exchange) -> None:
    exchange.hang()


def hang_after_headers(exchange: Exchange) -> None:
    """Accepts, answers 200, and never says a word (a whole answer: the first bytes of one)."""
    if exchange.streams:
        exchange.start_stream()
    else:
        exchange.head(200, "application/json", length=100_000)
        exchange.send(b'{"id": "chatcmpl-1", ')
    exchange.hang()


def hang_after(frames: int) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        exchange.start_stream()
        for frame in frames_of(exchange, Reply())[:frames]:
            exchange.frame(frame)
        exchange.hang()

    return behave


def close_without_answer(exchange: Exchange) -> None:
    exchange.close()


def reset_without_answer(exchange: Exchange) -> None:
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    exchange.close()


def cut(after: int) -> Behaviour:
    """Dies in the middle of the frame that follows `after` good ones (the first only names the role)."""

    def behave(exchange: Exchange) -> None:
        exchange.close()
        if not exchange.streams:
            body = whole_of(exchange, Reply())
            exchange.head(200, "application/json", length=len(body))
            exchange.send(body[: len(body) // 2])
            return
        exchange.start_stream()
        frames = frames_of(exchange, Reply())
        for frame in frames[:after]:
            exchange.frame(frame)
        exchange.send(b"%x\r\n%b" % (len(frames[after]), frames[after][:20]))

    return behave


def end_after(frames: int | None = None, *, before_last: int | None = None) -> Behaviour:
    """Ends its stream politely, but too early: after so many frames, or so many before the last."""

    def behave(exchange: Exchange) -> None:
        exchange.start_stream()
        made = frames_of(exchange, Reply())
        for frame in made[:frames] if before_last is None else made[:-before_last]:
            exchange.frame(frame)
        exchange.end()

    return behave


def end_before_finish(exchange: Exchange) -> None:
    end_after(3)(exchange)


def end_after_finish(exchange: Exchange) -> None:
    """All is said, finish_reason (and usage) too; only `[DONE]` never comes."""
    end_after(before_last=1)(exchange)


def error_event(after: int) -> Behaviour:
    """Says in its stream that something broke, and ends it."""

    def behave(exchange: Exchange) -> None:
        exchange.start_stream()
        for frame in frames_of(exchange, Reply())[:after]:
            exchange.frame(frame)
        error = {"message": "The engine ran out of memory.", "type": "server_error", "param": None, "code": None}
        exchange.frame(b"data: " + json.dumps({"error": error}).encode() + b"\n\n")
        exchange.end()

    return behave


def oversized_frame(exchange: Exchange) -> None:
    """After one good word, a single frame of 64 MB without a line end."""
    exchange.close()
    exchange.start_stream()
    for frame in frames_of(exchange, Reply())[:2]:
        exchange.frame(frame)
    exchange.chunk(b"data: ")
    for _ in range(64):
        exchange.chunk(b"x" * (1 << 20))
    exchange.end()


def broken_frame(exchange: Exchange) -> None:
    """After one good word, a frame that is no JSON."""
    exchange.start_stream()
    for frame in frames_of(exchange, Reply())[:2]:
        exchange.frame(frame)
    exchange.frame(b'data: {"id": "chatcmpl-1", "choices": [{"ind\n\n')
    exchange.end()


def close_idle(exchange: Exchange) -> None:
    """Answers well, promises nothing, and closes at once: the next caller finds a dead connection in its pool."""
    answer()(exchange)
    exchange.close()


HTML = b"<!DOCTYPE html><html><head><title>500</title></head><body><h1>Internal Server Error</h1></body></html>"
WRONG_KEY = "Incorrect API key provided: sk-upst****cdef."

BY_NAME: dict[str, Behaviour] = {
    "gpt-fake": answer(),
    "org/gpt-fake:free": answer(),
    "tools": tools(),
    "counts": answer(cached_tokens=CACHED_TOKENS, reasoning_tokens=REASONING_TOKENS),
    "usage-null": answer(null_usage=True),
    "no-usage": answer(usage=False),
    "crlf": answer(crlf=True),
    "comments": answer(comments=True),
    "model-last": answer(sort_keys=True),
    "invents": answer(extra={"x_invented": {"tomorrow": [1, 2.50, None]}}),
    "torn": torn(),
    "unterminated": spelt(unterminated),
    "unspaced": spelt(unspaced),
    "named-events": spelt(named),
    "until-closed": until_closed(),
    "finish-counts": answer(usage_in_finish=True),
    "reasons": answer(reasoning="Let me think."),
    "silent": answer(""),
    "no-stream-options": no_stream_options,
    "status-401": refusal(401, WRONG_KEY, code="invalid_api_key"),
    "status-403": refusal(403, "Your account may not use this model.", code="model_not_allowed"),
    "status-404": refusal(404, "The model `status-404` does not exist.", code="model_not_found"),
    "status-429": refusal(
        429,
        "Rate limit reached for this account.",
        type="requests",
        code="rate_limit_exceeded",
        headers=["Retry-After: 7"],
    ),
    "status-500": refusal(500, "The server had an error processing your request.", type="server_error"),
    "status-503": refusal(503, "The engine is currently overloaded.", type="server_error"),
    "html-500": raw(500, HTML, "text/html; charset=utf-8"),
    "not-json": raw(200, HTML, "text/html; charset=utf-8"),
    "invalid-json": raw(200, b'{"id": "chatcmpl-1", "choices": [{"index": 0, "mess', "application/json"),
    "gzip": compressed,
    "hang-before-headers": hang_before_headers,
    "hang-after-headers": hang_after_headers,
    "hang-after-words": hang_after(3),
    "close-without-answer": close_without_answer,
    "reset-without-answer": reset_without_answer,
    "cut-early": cut(after=1),
    "cut-late": cut(after=3),
    "end-before-finish": end_before_finish,
    "end-after-finish": end_after_finish,
    "error-event-early": error_event(after=1),
    "error-event-late": error_event(after=3),
    "oversized-frame": oversized_frame,
    "broken-frame": broken_frame,
    "closes-idle": close_idle,
    "scripted": answer(),
    "embed-fake": answer(),
}


# -------------------------------------------------------------------------------------------- strictness


class Refused(Refusal):
    """The caller's fault, in OpenAI's words."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.behave = refusal(status, message, param=param, code=code)


SAMPLING = {
    "frequency_penalty", "logit_bias", "max_tokens", "model", "n", "presence_penalty", "seed", "stop", "stream",
    "stream_options", "temperature", "top_p", "user",
}  # fmt: skip
FIELDS: dict[str, set[str]] = {
    "/v1/chat/completions": SAMPLING
    | {
        "audio", "function_call", "functions", "logprobs", "max_completion_tokens", "messages", "metadata",
        "modalities", "parallel_tool_calls", "prediction", "prompt_cache_key", "reasoning_effort",
        "response_format", "safety_identifier", "service_tier", "store", "tool_choice", "tools", "top_logprobs",
        "verbosity", "web_search_options",
    },
    "/v1/completions": SAMPLING | {"best_of", "echo", "logprobs", "prompt", "suffix"},
    responses.PATH: responses.FIELDS,
    "/v1/embeddings": {"dimensions", "encoding_format", "input", "model", "user"},
}  # fmt: skip
ROLES = ("system", "assistant", "user", "function", "tool", "developer")
NEVER_SENT = ("x-api-key", "api-key", "cookie", "x-forwarded-for", "x-gateway-clamped")
KINDS = {str: "a string", bool: "a boolean", int: "an integer", float: "a decimal", list: "an array", dict: "an object"}


def called(value: object) -> str:
    return "null" if value is None else KINDS[type(value)]


def wrong_type(param: str, wanted: str, value: object) -> Refused:
    message = f"Invalid type for '{param}': expected {wanted}, but got {called(value)} instead."
    return Refused(400, message, param=param, code="invalid_type")


def missing(param: str) -> Refused:
    return Refused(400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def check_fields(path: str, body: Json, also_known: set[str]) -> None:
    for name in body:
        if name not in FIELDS[path] and name not in also_known:
            raise Refused(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    if not isinstance(body.get("model"), str):
        raise wrong_type("model", "a string", body["model"]) if "model" in body else missing("model")
    if not isinstance(body.get("stream", False), bool | None):
        raise wrong_type("stream", "a boolean", body["stream"])
    if body.get("stream_options") is not None:
        if not body.get("stream"):
            message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            raise Refused(400, message, param="stream_options")
        if not isinstance(body["stream_options"], dict):
            raise wrong_type("stream_options", "an object", body["stream_options"])
    for name in ("max_tokens", "max_completion_tokens", "n"):
        value = body.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise wrong_type(name, "an integer", value)
    temperature = body.get("temperature")
    if temperature is not None and not isinstance(temperature, int | float):
        raise wrong_type("temperature", "a decimal", temperature)


def check_messages(messages: object) -> None:
    if not isinstance(messages, list):
        raise wrong_type("messages", "an array of objects", messages)
    if not messages:
        message = (
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."
        )
        raise Refused(400, message, param="messages", code="empty_array")
    unanswered: list[str] = []
    for number, message in enumerate(messages):
        check_message(f"messages[{number}]", message)
        if message["role"] == "tool":
            if message.get("tool_call_id") not in unanswered:
                raise Refused(
                    400,
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
                    "with 'tool_calls'.",
                    param=f"messages.[{number}].role",
                )
            unanswered.remove(message["tool_call_id"])
            continue
        check_answered(unanswered, number)
        unanswered = [call["id"] for call in message.get("tool_calls") or []]
    check_answered(unanswered, len(messages) - 1)


def check_answered(unanswered: list[str], number: int) -> None:
    if unanswered:
        raise Refused(
            400,
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(unanswered)}",
            param=f"messages.[{number}].role",
        )


def check_message(where: str, message: object) -> None:
    if not isinstance(message, dict):
        raise wrong_type(where, "an object", message)
    if "role" not in message:
        raise missing(f"{where}.role")
    if message["role"] not in ROLES:
        supported = ", ".join(f"'{role}'" for role in ROLES)
        text = f"Invalid value: '{message['role']}'. Supported values are: {supported}."
        raise Refused(400, text, param=f"{where}.role", code="invalid_value")
    calls = message.get("tool_calls")
    for call in calls or []:
        function = call.get("function") or {}
        if not (call.get("id") and call.get("type") == "function" and isinstance(function.get("arguments"), str)):
            raise Refused(400, f"Invalid '{where}.tool_calls'.", param=f"{where}.tool_calls", code="invalid_value")
    content = message.get("content")
    if content is None and not calls:
        raise missing(f"{where}.content")
    if not isinstance(content, str | list | None):
        raise wrong_type(f"{where}.content", "one of a string or array of objects", content)
    for part in content if isinstance(content, list) else []:
        if not isinstance(part, dict) or part.get("type") not in ("text", "image_url", "input_audio", "refusal"):
            raise Refused(400, f"Invalid value in '{where}.content'.", param=f"{where}.content", code="invalid_value")


def check_input(given: object) -> None:
    plain = isinstance(given, str) and given != ""
    listed = isinstance(given, list) and given != []
    if not plain and not listed:
        raise Refused(400, "'$.input' is invalid.", param="input")


# ------------------------------------------------------------------------------------------------ server


class FakeOpenAI(FakeServer):
    """Serves `BY_NAME` and whatever is scripted."""

    paths = frozenset(FIELDS)

    def __init__(self, key: str = KEY, models: Iterable[str] = tuple(BY_NAME)) -> None:
        super().__init__()
        self.url = f"{self.origin}/v1"
        self.key = key
        self.models = list(models)
        self.also_known: set[str] = set()  # body fields this server knows beyond OpenAI's
        self.absent: set[str] = set()  # paths that OpenAI has and this server has not

    def forget(self) -> None:
        super().forget()
        self.also_known.clear()
        self.absent.clear()

    def scene(self, model: str, *scenes: Scene) -> None:
        """From now on the model plays these, one per request; the last one stays."""
        self.script(model, *map(play, scenes))

    def refuse(self, model: str, status: int, message: str, headers: Iterable[str] = ()) -> None:
        code = "model_not_found" if status == 404 else None
        self.script(model, refusal(status, message, code=code, headers=list(headers)))

    def behaviour(self, heard: Heard) -> Behaviour:
        self._check_head(heard)
        if heard.path == "/v1/models":
            return self._list_models
        self._check_body(heard)
        model = heard.body["model"]
        if scripted := self.scripted(model):
            return scripted
        if model in BY_NAME and model in self.models:
            return BY_NAME[model]
        if model in self.models:
            return answer()
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise Refused(404, message, code="model_not_found")

    def _check_head(self, heard: Heard) -> None:
        allowed = "GET" if heard.path == "/v1/models" else "POST"
        if heard.path in self.absent:
            raise Refused(404, f"Invalid URL ({heard.method} {heard.path})")
        if heard.path != "/v1/models" and heard.path not in self.paths:
            self.complaints.append(f"{heard.method} {heard.path} does not exist here.")
            raise Refused(404, f"Invalid URL ({heard.method} {heard.path})")
        if heard.method != allowed:
            self.complaints.append(f"{heard.method} {heard.path}")
            raise Refused(405, f"Not allowed to {heard.method} on {heard.path}.", code="method_not_supported")
        if heard.headers.get("host") != f"127.0.0.1:{self.port}":
            self.complaints.append(f"Host: {heard.headers.get('host')}")
        for name in NEVER_SENT:
            if name in heard.headers:
                self.complaints.append(f"The header {name} is none of the upstream's business.")
        if heard.headers.get("authorization") != f"Bearer {self.key}":
            self.complaints.append("The credential is not this upstream's.")
            raise Refused(401, WRONG_KEY, code="invalid_api_key")

    def _check_body(self, heard: Heard) -> None:
        if heard.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            self.complaints.append(f"Content-Type: {heard.headers.get('content-type')}")
            raise Refused(415, "Unsupported content type. This API only accepts 'application/json'.")
        try:
            heard.body = json.loads(heard.raw.decode("utf-8"), object_pairs_hook=unique)
        except ValueError as error:
            self.complaints.append(f"The body is no JSON: {error}")
            raise Refused(400, "We could not parse the JSON body of your request.") from error
        if not isinstance(heard.body, dict):
            self.complaints.append("The body is no JSON object.")
            raise Refused(400, "We could not parse the JSON body of your request.")
        check_fields(heard.path, heard.body, self.also_known)
        if heard.path == "/v1/chat/completions":
            if "messages" not in heard.body:
                raise missing("messages")
            check_messages(heard.body["messages"])
        elif heard.path == responses.PATH:
            responses.check(heard.body, lambda message, param: Refused(400, message, param=param))
        elif heard.path == "/v1/completions":
            if "prompt" not in heard.body:
                raise missing("prompt")
        elif "input" not in heard.body:
            raise missing("input")
        else:
            check_input(heard.body["input"])

    def _list_models(self, exchange: Exchange) -> None:
        data = [
            {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "fake-upstream"}
            for name in self.models
        ]
        exchange.json(200, {"object": "list", "data": data})
