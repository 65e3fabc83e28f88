"""Echo: answers by itself, so that a fresh gateway answers before any account is connected."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping

from providers.base import Pause, Provider, Setting, Target, UpstreamModel
from providers.conversation import (
    ChatRequest,
    EmbeddingRequest,
    Embeddings,
    Event,
    Finished,
    Image,
    Message,
    Opaque,
    Text,
    TextDelta,
    ToolResult,
    Usage,
)
from providers.wire.errors import CannotCarry

DIMENSIONS = 64
MOST_DIMENSIONS = 8192
LONGEST_DELAY = 600_000  # milliseconds
SILENCE = "(You sent no text to repeat.)"


class Echo(Provider):
    """Repeats the last user message, word by word; one word counts as one token."""

    kind = "echo"
    label = "Echo (answers by itself)"
    drops = (
        *("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"),
        *("parallel_tool_calls", "reasoning_effort", "user"),
    )
    answers_itself = True
    settings = (
        Setting("delay", "Delay before the first word", "In milliseconds.", "0", kind="integer", most=LONGEST_DELAY),
        Setting("word_delay", "Delay between words", "In milliseconds.", "0", kind="integer", most=LONGEST_DELAY),
    )

    def speaks(self, model: UpstreamModel, target: Target) -> Mapping[str, str]:
        return {}

    def known_models(self) -> list[UpstreamModel]:
        return [UpstreamModel("echo")]

    def answer(self, request: ChatRequest, target: Target, pause: Pause) -> Iterator[Event]:
        _refuse_what_echo_cannot(request)
        return self._words(request, target, pause)

    def _words(self, request: ChatRequest, target: Target, pause: Pause) -> Iterator[Event]:
        words = _words(_until(request.stop, _last_user_text(request.messages) or SILENCE))
        kept = words[: request.max_tokens] if request.max_tokens else words
        pause(int(target.settings.get("delay") or 0) / 1000)
        between = int(target.settings.get("word_delay") or 0) / 1000
        for index, word in enumerate(kept):
            if index:
                pause(between)
            yield TextDelta(word)
        yield Finished("length" if len(kept) < len(words) else "stop")
        yield Usage(input=sum(len(_words(_text(message))) for message in request.messages), output=len(kept))

    def embed(self, request: EmbeddingRequest, target: Target) -> Embeddings:
        size = request.dimensions or DIMENSIONS
        if size > MOST_DIMENSIONS:
            raise CannotCarry(f"Echo makes vectors of at most {MOST_DIMENSIONS} dimensions.", "dimensions")
        tokens = sum(len(_words(item)) if isinstance(item, str) else len(item) for item in request.inputs)
        return Embeddings(tuple(_vector(str(item), size) for item in request.inputs), Usage(input=tokens))


def _refuse_what_echo_cannot(request: ChatRequest) -> None:
    if request.tools:
        raise CannotCarry("Echo cannot call tools.", "tools")
    if request.json_format is not None:
        raise CannotCarry("Echo cannot answer in JSON.", "response_format")
    if (request.n or 1) > 1:
        raise CannotCarry("Echo gives one answer.", "n")
    if request.indispensable:
        name = min(request.indispensable)
        raise CannotCarry(f"Echo knows nothing of '{name}'.", name)
    if any(isinstance(part, (Image, Opaque)) for message in request.messages for part in message.parts):
        raise CannotCarry("Echo reads text alone.", "messages")


def _last_user_text(messages: tuple[Message, ...]) -> str:
    return next((_text(message) for message in reversed(messages) if message.role == "user"), "")


def _until(stop: tuple[str, ...], text: str) -> str:
    """The text as far as the first of the sequences that stop it."""
    return text[: min((text.find(each) for each in stop if each in text), default=len(text))]


def _text(message: Message) -> str:
    texts = [part.text for part in message.parts if isinstance(part, Text)]
    texts += [
        piece.text
        for part in message.parts
        if isinstance(part, ToolResult)
        for piece in part.content
        if isinstance(piece, Text)
    ]
    return " ".join(texts)


def _words(text: str) -> list[str]:
    """The words of `text`, each with the blanks in front of it, so that they join to the same text."""
    words: list[str] = []
    start = 0
    for index in range(1, len(text)):
        if text[index].isspace() and not text[index - 1].isspace():
            words.append(text[start:index])
            start = index
    return [*words, text[start:]] if text else []


def _vector(text: str, size: int) -> tuple[float, ...]:
    """A unit vector that depends on the text alone."""
    raw = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(size)
    values = [byte - 127.5 for byte in raw]
    length = math.sqrt(sum(value * value for value in values))
    return tuple(value / length for value in values)
