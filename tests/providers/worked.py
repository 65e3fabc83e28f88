"""Worked examples in OpenAI's wire shape (OpenAI API reference: chat, completion and embedding objects, streaming)."""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]

THEIRS = "gpt-4o-2024-08-06"
OURS = 'fast/gpt "4o"'
DONE = b"data: [DONE]\n\n"
USAGE: Json = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 2,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
ANSWER: Json = {
    "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    "object": "chat.completion",
    "created": 1741569952,
    "model": THEIRS,
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hello! How can I assist you today?",
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
    "service_tier": "default",
    "system_fingerprint": "fp_44709d6fcb",
}
COMPLETION: Json = {
    "id": "cmpl-uqkvlQyYK7bGYrRHQ0eXlWi7",
    "object": "text_completion",
    "created": 1589478378,
    "model": THEIRS,
    "choices": [{"text": "\n\nThis is indeed a test", "index": 0, "logprobs": None, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
}
EMBEDDINGS: Json = {
    "object": "list",
    "data": [{"object": "embedding", "embedding": [0.0023064255, -0.009327292, -0.0028842222], "index": 0}],
    "model": "text-embedding-ada-002",
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}


def chunk(delta: Json, finish: str | None = None, index: int = 0, **more: Any) -> Json:
    return {
        "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
        "object": "chat.completion.chunk",
        "created": 1741570283,
        "model": THEIRS,
        "system_fingerprint": "fp_44709d6fcb",
        "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}],
        **more,
    }


def piece(text: str, finish: str | None = None, **more: Any) -> Json:
    """One chunk of a streamed legacy completion."""
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
    return {"id": "cmpl-7", "object": "text_completion", "created": 1, "choices": [choice], "model": THEIRS, **more}


def call(index: int, arguments: str, id: str | None = None, name: str | None = None) -> Json:
    """One piece of a streamed tool call, as a delta."""
    if id is None:
        return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}


def frame(document: Json) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def spaced(document: Json) -> bytes:
    """As servers write that do not squeeze their JSON."""
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def model_last(document: Json) -> Json:
    return {name: value for name, value in document.items() if name != "model"} | {"model": THEIRS}


ROLE = chunk({"role": "assistant", "content": "", "refusal": None})
HELLO = [ROLE, chunk({"content": "Hello"}), chunk({"content": " there, grüße 🙂"}), chunk({}, "stop")]
USAGE_CHUNK = chunk({}, usage=USAGE) | {"choices": []}
WEATHER = [
    chunk({"role": "assistant", "content": None}),
    chunk(call(0, "", "call_DdmO9pD3xa9XTPNJ32zg2hcA", "get_weather")),
    chunk(call(0, '{"city":')),
    chunk(call(1, "", "call_abc", "get_time")),
    chunk(call(0, ' "Zürich"}')),
    chunk(call(1, '{"zone":"CET"}')),
    chunk({}, "tool_calls"),
]
# Text that looks like everything the lane watches for.
TRICKY_TEXT = (
    f'He said "model":"{THEIRS}", "choices":[], "error":{{"message":"no"}}, "usage":{{"prompt_tokens":1}}, '
    '"finish_reason":"stop"\n\ndata: [DONE]\n\n'
)
TRICKY = [
    ROLE,
    chunk({"content": "So"}),
    *(chunk({"content": text}) for text in (TRICKY_TEXT, "error", "usage", "finish_reason", "[DONE]", "choices", '"')),
    chunk({}, "stop"),
]
REASONING = [
    chunk({"role": "assistant", "content": None, "reasoning_content": "Let me"}),
    chunk({"reasoning_content": " think."}),
    chunk({"content": "42"}),
    chunk({}, "length"),
]
NULL_USAGE = [document | {"usage": None} for document in HELLO]


def streamed(documents: list[Json], usage: bool = True) -> list[bytes]:
    frames = [frame(document) for document in documents]
    return [*frames, frame(USAGE_CHUNK), DONE] if usage else [*frames, DONE]


def with_crlf(frames: list[bytes]) -> list[bytes]:
    return [written.replace(b"\n", b"\r\n") for written in frames]


CHAT_STREAMS: dict[str, list[bytes]] = {
    "a greeting": streamed(HELLO),
    "no usage": streamed(HELLO, usage=False),
    "usage: null in every chunk": streamed(NULL_USAGE),
    "two parallel tool calls": streamed(WEATHER),
    "text that looks like the frame around it": streamed(TRICKY),
    "reasoning": streamed(REASONING),
    "spaced JSON": [*(spaced(document) for document in [*HELLO, USAGE_CHUNK]), DONE],
    "model behind the choices": [*(frame(model_last(document)) for document in [*TRICKY, USAGE_CHUNK]), DONE],
    "CRLF": with_crlf(streamed(HELLO)),
    "comments": [b": ping\n\n", *streamed(HELLO)[:2], b": ping\n\n", *streamed(HELLO)[2:]],
    "a comment in the frame": [b": ping\n" + written for written in streamed(HELLO)],
    "event lines": [b"event: message\n" + written for written in streamed(HELLO)],
    "id lines": [b"id: %d\n" % number + written for number, written in enumerate(streamed(HELLO))],
    "retry lines": [b"retry: 3000\n" + written for written in streamed(HELLO)],
    "no space after the colon": [written.replace(b"data: ", b"data:") for written in streamed(HELLO)],
    "several lines of data": [
        *(
            b"".join(b"data: " + line + b"\n" for line in json.dumps(document, indent=1).encode().splitlines()) + b"\n"
            for document in [*HELLO, USAGE_CHUNK]
        ),
        DONE,
    ],
    "blank lines between the frames": [b"\n" + written for written in streamed(HELLO)],
}
