"""The fields of a request that Ollama's chat and generate share, read and written.

Source of the wire facts: Ollama API reference (ollama/ollama, docs/api.md), api/types.go and server/routes.go.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any, ClassVar

from providers.capabilities import Capability, Needs
from providers.conversation import Answer, ChatRequest, Image, JSONFormat, Message, Tool, Usage
from providers.languages.errors import answer_document
from providers.languages.fields import (
    expect_model,
    expect_number,
    expect_object,
    expect_stop,
    expect_whole,
    object_in,
)
from providers.languages.language import BadRequest, Envelope, Stamp, Tap, Writer
from providers.languages.messages import data_url
from providers.languages.model_names import with_model
from providers.languages.ollama_records import (
    OllamaLanguage,
    RecordReader,
    RecordTap,
    RecordWriter,
    usage_in,
    write_load,
    write_record,
)
from providers.wire.errors import CannotCarry, ProviderError, cannot_carry

IMAGE_TYPES = ("image/jpeg", "image/jpg", "image/png", "image/webp")
FIRST_BYTES: Mapping[str, bytes] = {
    "image/jpeg": b"\xff\xd8\xff",
    "image/png": b"\x89PNG",
    "image/gif": b"GIF8",
}
THINK: Mapping[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "ultra": "max",
    "max": "max",
}
OPTIONS = frozenset("temperature top_p seed stop num_predict presence_penalty frequency_penalty".split())

WORDS: Mapping[str, str] = {
    "max_tokens": "options.num_predict",
    "response_format": "format",
    "reasoning_effort": "think",
    **{name: f"options.{name}" for name in OPTIONS - {"num_predict"}},
}


class PromptLanguage(OllamaLanguage):
    """What chat and generate have in common."""

    words = WORDS
    drops = ("parallel_tool_calls", "user")
    read_fields: ClassVar[frozenset[str]]  # all others are extras
    indispensable: ClassVar[frozenset[str]]  # extras that change what the answer is

    def messages(self, body: Mapping[str, Any]) -> tuple[Message, ...]:
        """Raises BadRequest or CannotCarry."""
        raise NotImplementedError

    def tools(self, body: Mapping[str, Any]) -> tuple[Tool, ...]:
        """Raises BadRequest."""
        return ()

    def check(self, body: Mapping[str, Any]) -> None:
        """Refuse what is plainly wrong. Raises BadRequest."""
        raise NotImplementedError

    def say(self, text: str, more: Mapping[str, Any]) -> dict[str, Any]:
        """How something said stands in a record."""
        raise NotImplementedError

    # -- server half --

    def peek(self, body: Mapping[str, Any]) -> Envelope:
        model = expect_model(body)
        self.check(body)
        limit = expect_limit(expect_object(body, "options"))
        # To load a model is answered in one piece, also when a stream is asked for.
        streams = expect_stream(body) and not self.asks_nothing(body)
        return Envelope(model, stream=streams, include_usage=True, max_tokens=limit)

    def needs(self, body: Mapping[str, Any]) -> Needs:
        needs: dict[Capability, str] = {}
        if body.get("think"):
            needs["thinking"] = "think"
        if isinstance(body.get("format"), dict):
            needs["json_schema"] = "format"
        return needs

    def parse_request(self, body: Mapping[str, Any]) -> ChatRequest:
        envelope = self.peek(body)
        given = expect_object(body, "options")
        options = {f"options.{name}": value for name, value in given.items() if value is not None}
        extras = {name: value for name, value in body.items() if name not in self.read_fields and value is not None}
        extras |= {name: value for name, value in options.items() if name.partition(".")[2] not in OPTIONS}
        if body.get("think") is False:
            # Said of every model, also of those that never think; elsewhere such a word is refused by these.
            extras["think"] = False
        return ChatRequest(
            model=envelope.model,
            messages=self.messages(body),
            language=self.name,
            stream=envelope.stream,
            max_tokens=envelope.max_tokens,
            temperature=expect_number(options, "options.temperature"),
            top_p=expect_number(options, "options.top_p"),
            stop=expect_stop(given),
            seed=expect_whole(options, "options.seed"),
            presence_penalty=expect_number(options, "options.presence_penalty"),
            frequency_penalty=expect_number(options, "options.frequency_penalty"),
            tools=self.tools(body),
            json_format=read_format(body.get("format")),
            reasoning_effort=read_think(body.get("think")),
            extras=extras,
            indispensable=frozenset(name for name in self.indispensable & extras.keys() if extras[name]),
        )

    def write_nothing(self, body: Mapping[str, Any], stamp: Stamp) -> bytes:
        return write_load(self.say, body, stamp)

    def write_answer(self, answer: Answer, stamp: Stamp, request: ChatRequest | None = None) -> bytes:
        return write_record(self.say, answer, stamp)

    def writer(self, stamp: Stamp, include_usage: bool, request: ChatRequest | None = None) -> Writer:
        """The counters are always there: nobody has to ask for them."""
        return RecordWriter(self.say, stamp)

    # -- client half --

    def dropped(self, request: ChatRequest, model: str) -> list[str]:
        return [] if request.language == self.name else super().dropped(request, model)

    def read_answer(self, document: Any, request: ChatRequest | None = None) -> Answer:
        reader = self.reader()
        answer = Answer.collect(reader.read_record(document))
        if not reader.ended:
            raise ProviderError("The upstream's answer is not marked as done.", kind="broken")
        return answer

    def reader(self, request: ChatRequest | None = None) -> RecordReader:
        return RecordReader()

    # -- straight through --

    def readdress(self, body: dict[str, Any], envelope: Envelope, model: str, ask_usage: bool) -> dict[str, Any]:
        """What comes of saying nothing is said: a server that only resembles Ollama may think otherwise."""
        return {**body, "model": model, "stream": envelope.stream}

    def clamp(self, body: dict[str, Any], limit: int) -> tuple[dict[str, Any], str | None]:
        options = body.get("options") or {}
        asked = options.get("num_predict")
        # Zero and less ask for no limit at all.
        if asked is None or 1 <= asked <= limit:
            return body, None
        return {**body, "options": {**options, "num_predict": limit}}, "options.num_predict"

    def tap(self, model: str | None, include_usage: bool) -> Tap:
        return RecordTap(model)

    def pass_answer(self, body: bytes, model: str | None) -> tuple[bytes, Usage | None]:
        document = answer_document(body)
        if not document.get("done"):
            raise ProviderError("The upstream's answer is not marked as done.", kind="broken")
        object_in(document, "message")
        nothing = document.get("done_reason") in ("load", "unload")
        return with_model(body, document, model), Usage() if nothing else usage_in(document)


# -- read --


def expect_stream(body: Mapping[str, Any]) -> bool:
    value = body.get("stream")
    if value is not None and not isinstance(value, bool):
        raise BadRequest("'stream' must be true or false.", "stream")
    return value is not False


def expect_list(body: Mapping[str, Any], name: str, at: str = "") -> list[Any]:
    value = body.get(name)
    if value is not None and not isinstance(value, list):
        raise BadRequest(f"'{name}' must be a list.", at or name)
    return value or []


def expect_limit(options: Mapping[str, Any]) -> int | None:
    """Zero and less ask for no limit."""
    value = options.get("num_predict")
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise BadRequest("'options.num_predict' must be a whole number.", "options.num_predict")
    return int(value) if value is not None and value >= 1 else None


def read_images(body: Mapping[str, Any], at: str) -> list[Image]:
    return [_image(data, f"{at}[{index}]") for index, data in enumerate(expect_list(body, "images", at))]


def _image(data: object, at: str) -> Image:
    """Bare base64: its first bytes tell what it is."""
    try:
        start = b64decode(data[:16], validate=True) if isinstance(data, str) else b""
    except ValueError:
        start = b""
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        return Image(f"data:image/webp;base64,{data}")
    for media_type, first in FIRST_BYTES.items():
        if start.startswith(first):
            return Image(f"data:{media_type};base64,{data}")
    raise BadRequest("An image must be the base64 text of a JPEG, PNG, WebP or GIF.", at)


def read_think(value: object) -> str | None:
    """Just true says no level: the middle one."""
    match value:
        case None | False:
            return None
        case True:
            return "medium"
        case "low" | "medium" | "high" | "max":
            return value
    raise BadRequest("'think' must be true, false, low, medium, high or max.", "think")


def read_format(value: object) -> JSONFormat | None:
    match value:
        case None | "":
            return None
        case "json":
            return JSONFormat()
        case dict():
            return JSONFormat(value)
    raise BadRequest("'format' must be json or a JSON Schema.", "format")


# -- written --


def refuse(fields: frozenset[str]) -> None:
    if fields:
        name = min(fields)
        raise cannot_carry(name)


def write_fields(request: ChatRequest, language: str) -> dict[str, Any]:
    """All but the model and what is said to it. Extras are written back in the language they came in."""
    if (request.n or 1) > 1:
        raise CannotCarry("This upstream gives one answer at a time.", "n")
    extras = request.extras if request.language == language else {}
    options = {name.removeprefix("options."): value for name, value in extras.items() if name.startswith("options.")}
    options |= {
        "num_predict": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stop": list(request.stop) or None,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
    }
    fields = {
        **{name: value for name, value in extras.items() if not name.startswith("options.")},
        "format": _write_format(request.json_format),
        "options": {name: value for name, value in options.items() if value is not None} or None,
        "think": extras.get("think", _write_think(request.reasoning_effort)),
    }
    # Left out, `stream` would be true.
    return {"stream": request.stream, **{name: value for name, value in fields.items() if value is not None}}


def _write_format(wish: JSONFormat | None) -> object:
    if wish is None:
        return None
    return "json" if wish.schema is None else wish.schema


def _write_think(effort: str | None) -> bool | str | None:
    if effort is None:
        return None
    if effort not in THINK:
        raise CannotCarry(f"'reasoning_effort' must be one of {', '.join(THINK)} here.", "reasoning_effort")
    return THINK[effort]


def write_image(image: Image) -> str:
    media_type, data = data_url(image)
    if media_type not in IMAGE_TYPES:
        raise CannotCarry("This upstream takes images as JPEG, PNG or WebP.", "messages")
    return data
