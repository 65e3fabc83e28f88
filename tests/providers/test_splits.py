"""Streams arrive in pieces of any size: whatever the split, the same frames are read, and so the same events.

Every language that upstreams speak, at every byte, and at as many random places as SPLITS says (10,000):

    SPLITS=1000000 bin/test tests/providers/test_splits.py
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from itertools import pairwise
from random import Random
from typing import Any, cast

import pytest

from providers.conversation import Event
from providers.languages.language import Language
from providers.languages.registry import LANGUAGES
from providers.wire.client import _Answer
from providers.wire.frames import Frames
from tests.fakes import anthropic, ollama, openai_responses, snowflake
from tests.fakes.scenes import TWO_CALLS, Scene
from tests.providers import worked
from tests.providers.test_anthropic_messages import STREAM as MESSAGES_STREAM
from tests.providers.test_bedrock_converse import delta as converse_delta
from tests.providers.test_bedrock_converse import frame as converse_frame
from tests.providers.test_bedrock_converse import stop as converse_stop
from tests.providers.test_gemini import candidate
from tests.providers.test_gemini import frame as gemini_frame

SPLITS = int(os.environ.get("SPLITS", "10000"))
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
SCENE = Scene(thinking="Hm, 雨? ", signature="ErUBCkYIBxgC", calls=TWO_CALLS, comments=True)
SPOKEN = openai_responses.Spoken(
    text=SCENE.text, reasoning=SCENE.thinking, calls=SCENE.calls, input_tokens=21, output_tokens=9
)


def lines(path: str) -> bytes:
    body = {"model": "everything"}
    return b"".join(ollama.dump(each) + b"\n" for each in ollama.records_of(path, body, SCENE))


def completions() -> bytes:
    choices = [{"index": 0, "text": text, "finish_reason": None} for text in ("Grüezi", ", 雨 🌧")]
    ended = {"index": 0, "text": "", "finish_reason": "stop"}
    chunks: list[Any] = [{"model": worked.THEIRS, "choices": [choice]} for choice in (*choices, ended)]
    chunks.append({"model": worked.THEIRS, "choices": [], "usage": worked.USAGE})
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + worked.DONE


def messages(crlf: bool) -> bytes:
    return b"".join(anthropic.sse(*event, crlf=crlf) for event in anthropic.message_events("claude-sonnet-4-5", SCENE))


def legacy(shape: snowflake.DeltaShape) -> bytes:
    events = snowflake.complete_events({"model": "claude-sonnet-4-5"}, SCENE, "claude", shape)
    return b"".join(snowflake.spelt(event, pretty=shape == "list", eol="\r\n") for event in events)


STREAMS: dict[str, tuple[str, bytes]] = {
    **{f"chat: {name}": ("openai_chat", b"".join(frames)) for name, frames in worked.CHAT_STREAMS.items()},
    "completions": ("openai_completions", completions()),
    "responses": (
        "openai_responses",
        b"".join(map(openai_responses.frame, openai_responses.events({"model": "gpt-fake"}, SPOKEN))),
    ),
    "messages: worked example": ("anthropic_messages", MESSAGES_STREAM),
    "messages": ("anthropic_messages", messages(crlf=False)),
    "messages, CRLF": ("anthropic_messages", messages(crlf=True)),
    "Ollama chat": ("ollama_chat", lines("/api/chat")),
    "Ollama generate": ("ollama_generate", lines("/api/generate")),
    "Cortex, list": ("cortex", legacy("list")),
    "Cortex, typed": ("cortex", legacy("typed")),
    "Converse": (
        "bedrock_converse",
        converse_delta(text="Grüezi")
        + converse_frame({"metadata": {"usage": {"inputTokens": 21, "outputTokens": 9}}})
        + converse_stop(),
    ),
    "Gemini": (
        "gemini",
        gemini_frame(candidate({"text": "Hm.", "thought": True}), "\r\n\r\n")
        + gemini_frame(candidate({"text": "Grüezi 🌧"}, {"functionCall": {"name": "rain", "args": {"city": "Zürich"}}}))
        + gemini_frame(candidate(finish="STOP", usageMetadata={"promptTokenCount": 21, "candidatesTokenCount": 9})),
    ),
}


class Pieces:
    """A socket whose other side has sent these pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)

    def recv(self, size: int) -> bytes:
        return next(self._pieces, b"")

    def gettimeout(self) -> float:
        return 1

    def close(self) -> None:
        pass


class Place:
    """Where the socket goes back to."""

    def release_socket(self, sock: object) -> None:
        pass

    return_socket = release_socket


def frames_of(stream: bytes, language: Language, cuts: Iterable[int]) -> list[bytes]:
    """What is made of a whole HTTP answer that is cut at these places."""
    sent = HEAD % len(stream) + stream
    at = [0, *sorted(set(cuts)), len(sent)]
    pieces = [sent[start:end] for start, end in pairwise(at) if end > start]
    answer = _Answer(cast(Any, Pieces(pieces)), cast(Any, Place()), block_size=1 << 16, method="POST")
    return list(Frames(answer, float("inf"), language.reader().frame_end))


def events_of(frames: Iterable[bytes], language: Language) -> list[Event]:
    reader = language.reader()
    return [*(event for frame in frames for event in reader.read_frame(frame)), *reader.read_end()]


@pytest.mark.parametrize("name", STREAMS)
def test_a_split_changes_nothing(name: str) -> None:
    """The same frames are the same events, and the same bytes for those who get them straight."""
    kind, stream = STREAMS[name]
    language = LANGUAGES[kind]
    whole, random = frames_of(stream, language, ()), Random(name)
    assert b"".join(whole) == stream
    assert len(events_of(whole, language)) > 2
    length = len(stream) + len(HEAD % len(stream))
    everywhere = [*([at] for at in range(length)), range(length)]
    anywhere = ([random.randrange(length) for _ in range(random.randint(1, 40))] for _ in range(SPLITS // len(STREAMS)))
    for cuts in (*everywhere, *anywhere):
        assert frames_of(stream, language, cuts) == whole
