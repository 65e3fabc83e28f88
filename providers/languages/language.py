"""What a language is: the two halves of one wire format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from re import Pattern
from typing import Any, ClassVar, Literal

from providers.capabilities import Needs
from providers.conversation import Answer, ChatRequest, EmbeddingRequest, Embeddings, Event, FinishReason, Usage
from providers.wire.frames import BLANK_LINE

Work = Literal[
    "chat", "completion", "embedding", "counting", "image", "speech", "transcription", "moderation", "rerank"
]


class BadRequest(Exception):
    """The caller's request is wrong; `param` names the field, as `messages[0].role`."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the relay must know of a request that it does not read: `max_tokens` is the caller's limit."""

    model: str
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an answer written afresh is marked with: `created` in Unix seconds, `elapsed` in seconds of the call."""

    id: str
    created: int
    model: str
    elapsed: float = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """An error on its way to a caller; `retry_after` is in seconds."""

    status: int
    type: str
    message: str
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None


class Tap:
    """Watches frames that pass through untouched: usage, the finish, the end, and what to withhold.

    Straight through means no JSON is parsed per frame: `see` looks for the few bytes that matter.
    """

    frame_end: ClassVar[Pattern[bytes]] = BLANK_LINE
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    content = False  # the first content has come
    ended = False  # the terminal signal has come
    pieces = 0  # frames that carried content, about one token each

    def see(self, frame: bytes) -> bytes | None:
        """The bytes to hand on, or None for a frame the caller did not ask for.

        Raises ProviderError when the frame says that the upstream failed.
        """
        raise NotImplementedError

    def closing(self) -> bytes:
        """What is still owed to the caller when the body ended without its end mark."""
        return b""

    def fail(self, fault: Fault, request_id: str) -> bytes | None:
        """The last frame of a stream that broke; None: this format cannot say so, and the body must be cut."""
        raise NotImplementedError


class Reader:
    """Reads an upstream's frames into events."""

    frame_end: ClassVar[Pattern[bytes]] = BLANK_LINE
    ended = False  # the terminal signal has come

    def read_frame(self, frame: bytes) -> list[Event]:
        """Raises ProviderError when the frame says that the upstream failed."""
        raise NotImplementedError

    def read_end(self) -> list[Event]:
        """What follows from the body having ended. Raises ProviderError when it was cut."""
        raise NotImplementedError


class Writer:
    """Writes events as the frames of one answer."""

    def write(self, event: Event) -> bytes:
        raise NotImplementedError

    def close(self) -> bytes:
        """The frames that end the answer."""
        raise NotImplementedError

    def fail(self, fault: Fault, request_id: str) -> bytes:
        """The last frame of a stream that broke."""
        raise NotImplementedError


class Language:
    """One wire format. Instances hold no state."""

    name: ClassVar[str]
    work: ClassVar[Work]
    stream_type: ClassVar[str] = "text/event-stream; charset=utf-8"
    passes: ClassVar[tuple[str, ...]] = ()  # callers' headers, in lower case, that go straight through as well
    heartbeat: ClassVar[bytes] = b":\n\n"  # what may stand between two frames and means nothing
    translates: ClassVar[bool] = True  # False: goes straight through, or not at all
    translated_as: ClassVar[Work | None] = None  # what comes closest in other languages, if not the same work
    words: ClassVar[Mapping[str, str]] = {}  # fields that it calls otherwise than the middle does

    # -- server half: what callers speak --

    def peek(self, body: Mapping[str, Any]) -> Envelope:
        """Read what routing needs and refuse what is plainly wrong. Raises BadRequest."""
        raise NotImplementedError

    def needs(self, body: Mapping[str, Any]) -> Needs:
        """What a body that was peeked at needs of a model, told without reading all of it."""
        return {}

    def spellings(self, model: str) -> tuple[str, ...]:
        """The names a caller may mean by this one, best first."""
        return (model,)

    def named(self, field: str, body: Mapping[str, Any]) -> str:
        """What the caller of this body calls a field of the middle; one that is in the body has its name from there."""
        return field if field in body else self.words.get(field, field)

    def asks_nothing(self, body: Mapping[str, Any]) -> bool:
        """Whether a body that was peeked at needs no upstream, unless one speaks this language: see `write_nothing`."""
        return False

    def write_nothing(self, body: Mapping[str, Any], stamp: Stamp) -> bytes:
        raise NotImplementedError

    def parse_request(self, body: Mapping[str, Any]) -> ChatRequest:
        """Raises BadRequest naming the field."""
        raise NotImplementedError

    def write_answer(self, answer: Answer, stamp: Stamp, request: ChatRequest | None = None) -> bytes:
        """`request` is what was asked, for languages that repeat it in the answer."""
        raise NotImplementedError

    def writer(self, stamp: Stamp, include_usage: bool, request: ChatRequest | None = None) -> Writer:
        raise NotImplementedError

    def write_error(self, fault: Fault, request_id: str) -> bytes:
        raise NotImplementedError

    def estimated(self, body: Mapping[str, Any]) -> bytes | None:
        """An answer for when no upstream has one; None: only an upstream can answer."""
        return None

    # -- client half: what upstreams speak --

    drops: ClassVar[tuple[str, ...]] = ()  # fields of ChatRequest it has no place for and may leave out

    def write_request(self, request: ChatRequest, model: str) -> dict[str, Any]:
        """Raises CannotCarry naming what this language has no place for."""
        raise NotImplementedError

    def dropped(self, request: ChatRequest, model: str) -> list[str]:
        """The fields that `write_request` leaves out, by the names callers know them by."""
        return request.left_out(self.drops)

    def read_answer(self, document: Any, request: ChatRequest | None = None) -> Answer:
        """`request` is what was asked, for answers that cannot be understood without it.

        Raises ProviderError when the document is not an answer.
        """
        raise NotImplementedError

    def reader(self, request: ChatRequest | None = None) -> Reader:
        raise NotImplementedError

    # -- straight through: caller and upstream speak it alike --

    def readdress(self, body: dict[str, Any], envelope: Envelope, model: str, ask_usage: bool) -> dict[str, Any]:
        """The caller's body with the upstream's model name and, for streams, usage asked for."""
        raise NotImplementedError

    def clamp(self, body: dict[str, Any], limit: int) -> tuple[dict[str, Any], str | None]:
        """The body with no more than `limit` output tokens, and the field that was lowered."""
        return body, None

    def tap(self, model: str | None, include_usage: bool) -> Tap:
        """`model` is the name the caller knows; None leaves the upstream's own in place."""
        raise NotImplementedError

    def pass_answer(self, body: bytes, model: str | None) -> tuple[bytes, Usage | None]:
        """A whole answer with the caller's model name in it, and what it says of itself.

        Raises ProviderError when it is not an answer.
        """
        raise NotImplementedError


class EmbeddingLanguage(Language):
    """A wire format for vectors: no conversation, no stream."""

    family: ClassVar[str] = ""  # languages of one family know the same further fields

    def extras_of(self, request: EmbeddingRequest) -> Mapping[str, Any]:
        """The further fields of a request that have a place here."""
        return request.extras if self.family and request.language == self.family else {}

    def parse_embedding(self, body: Mapping[str, Any]) -> EmbeddingRequest:
        raise NotImplementedError

    def write_embeddings(self, answer: Embeddings, request: EmbeddingRequest, stamp: Stamp) -> bytes:
        raise NotImplementedError

    def write_embedding_request(self, request: EmbeddingRequest, model: str) -> dict[str, Any]:
        raise NotImplementedError

    def read_embeddings(self, document: Any) -> Embeddings:
        raise NotImplementedError
