"""The middle: the small typed vocabulary every language is read into and written from.

A request is a `ChatRequest` (or an `EmbeddingRequest`); an answer is a sequence of flat events, and
a whole answer is the fold of the same events (`Answer.collect`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """`url` is an http(s) address or a data URL; `detail` is low, high or auto."""

    url: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`arguments` is the JSON text exactly as the model wrote it: it may be invalid JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the tool named by the call `id` answered; `failed`: it says why it could not do it.

    Languages without a word for a failure leave that to the content.
    """

    id: str
    content: tuple[Text | Image, ...]
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Thinking:
    text: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class Opaque:
    """A part only one language knows; it is written back only in that language."""

    language: str
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CachePoint:
    """Everything up to here is worth keeping in the upstream's prompt cache; `ttl` is 5m or 1h.

    A hint: languages without a word for it leave it out.
    """

    ttl: str | None = None


Part = Text | Image | ToolCall | ToolResult | Thinking | Opaque | CachePoint


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    parts: tuple[Part, ...]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call; `parameters` is a JSON Schema. `cache`: the tools up to here are worth keeping."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None
    cache: CachePoint | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`mode` is auto, none, required, or tool (then `name` says which)."""

    mode: Literal["auto", "none", "required", "tool"]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class JSONFormat:
    """The answer must be JSON; with a `schema` it must fit it."""

    schema: Mapping[str, Any] | None = None
    name: str | None = None
    strict: bool | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request for text. Absent fields stay absent: no default is made up on the way.

    `extras` are the fields of `language`, the one the request was read from, that the middle has no
    word for; those in `indispensable` change what the answer means and must not be dropped. `origins` is what
    `language` needs to know of tools that it calls otherwise. `ceiling` is the route's limit of output tokens,
    for upstreams that demand a number.
    """

    model: str
    messages: tuple[Message, ...]
    language: str = ""
    stream: bool = False
    max_tokens: int | None = None
    ceiling: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    n: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    json_format: JSONFormat | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    indispensable: frozenset[str] = frozenset()
    origins: Mapping[str, Any] = field(default_factory=dict)

    def left_out(self, fields: Iterable[str]) -> list[str]:
        """What is set and finds no place where there is none for `fields`, by the names callers know it by."""
        return [*self.extras, *(name for name in fields if getattr(self, name) is not None)]


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """`inputs` are texts, or lists of token ids; `encoding` is float or base64.

    `extras` are the fields of `language` that the middle has no word for.
    """

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    encoding: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None
    language: str = ""
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per input, in order, and the tokens they took."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer.

    `input` counts the whole prompt, the cached part and the part written to a cache included;
    `output` counts everything the model made, reasoning included; audio is part of both.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    text: str
    signature: str | None = None
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of tool call number `index`: the first piece carries `id` and `name`."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    reason: FinishReason
    choice: int = 0


Event = TextDelta | ThinkingDelta | ToolCallDelta | Usage | Finished | Opaque


@dataclass(frozen=True, slots=True)
class Choice:
    parts: tuple[Part, ...]
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; `usage` is None when the upstream did not say."""

    choices: tuple[Choice, ...]
    usage: Usage | None = None

    @classmethod
    def collect(cls, events: Iterable[Event]) -> Answer:
        """Fold the events of a finished stream. Usage is cumulative: the last one counts."""
        drafts: dict[int, _Draft] = {}
        usage: Usage | None = None
        for event in events:
            if isinstance(event, Usage):
                usage = event
            elif isinstance(event, Opaque):
                drafts.setdefault(0, _Draft()).opaque.append(event)
            else:
                drafts.setdefault(event.choice, _Draft()).add(event)
        return cls(tuple(drafts[index].choice() for index in sorted(drafts)), usage)

    def guessed_tokens(self) -> int:
        """About how many tokens the model made, for an upstream that did not count: 4 characters each."""
        characters = 0
        for choice in self.choices:
            for part in choice.parts:
                if isinstance(part, (Text, Thinking)):
                    characters += len(part.text)
                elif isinstance(part, ToolCall):
                    characters += len(part.name) + len(part.arguments)
        return -(-characters // 4)

    def events(self) -> list[Event]:
        """The events that `collect` folds back into this answer."""
        events: list[Event] = []
        for number, choice in enumerate(self.choices):
            calls = 0
            for part in choice.parts:
                match part:
                    case Thinking(text, signature):
                        events.append(ThinkingDelta(text, signature, number))
                    case Text(text):
                        events.append(TextDelta(text, number))
                    case ToolCall(id, name, arguments):
                        events.append(ToolCallDelta(calls, id, name, arguments, number))
                        calls += 1
                    case Opaque():
                        events.append(part)
                    case _:
                        raise TypeError(f"An answer cannot hold {type(part).__name__}.")
            events.append(Finished(choice.finish_reason, number))
        if self.usage is not None:
            events.append(self.usage)
        return events


class _Draft:
    """One choice while its deltas are coming in."""

    def __init__(self) -> None:
        self.thinking: list[str] = []
        self.signature: str | None = None
        self.text: list[str] = []
        self.calls: dict[int, list[str]] = {}
        self.opaque: list[Opaque] = []
        self.reason: FinishReason = "stop"

    def add(self, event: TextDelta | ThinkingDelta | ToolCallDelta | Finished) -> None:
        match event:
            case TextDelta(text):
                self.text.append(text)
            case ThinkingDelta(text, signature):
                self.thinking.append(text)
                self.signature = signature or self.signature
            case ToolCallDelta(index, id, name, arguments):
                call = self.calls.setdefault(index, ["", "", ""])
                call[0] = id or call[0]
                call[1] = name or call[1]
                call[2] += arguments
            case Finished(reason):
                self.reason = reason

    def choice(self) -> Choice:
        parts: list[Part] = []
        if self.thinking or self.signature:
            parts.append(Thinking("".join(self.thinking), self.signature))
        if text := "".join(self.text):
            parts.append(Text(text))
        parts += [ToolCall(*self.calls[index]) for index in sorted(self.calls)]
        parts += self.opaque
        return Choice(tuple(parts), self.reason)
