"""Ollama's native formats: chat, generate and embed. Answers are lines of JSON; the one that is `done` is the last.

Source of the wire facts: ollama/ollama, api/types.go, server/routes.go and openai/openai.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from providers.conversation import (
    Answer,
    ChatRequest,
    EmbeddingRequest,
    Embeddings,
    Event,
    Finished,
    FinishReason,
    Image,
    JSONFormat,
    Message,
    Opaque,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
    Usage,
)
from providers.documents import dumps
from providers.languages.errors import chunk_document
from providers.languages.fields import count_in, object_in, objects_in, text_in
from providers.languages.language import EmbeddingLanguage, Language, Reader
from providers.languages.messages import arguments_object, call_names, data_url
from providers.wire.errors import CannotCarry, ProviderError
from providers.wire.frames import NEWLINE

IMAGE_TYPES = ("image/jpeg", "image/jpg", "image/png", "image/webp")
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


class OllamaLanguage(Language):
    """What chat and generate have in common."""

    stream_type = "application/x-ndjson"
    drops = ("parallel_tool_calls", "user")

    def read_answer(self, document: Any, request: ChatRequest | None = None) -> Answer:
        reader = self.reader()
        answer = Answer.collect(reader.read_record(document))
        if not reader.ended:
            raise ProviderError("The upstream's answer is not marked as done.", kind="broken")
        return answer

    def reader(self, request: ChatRequest | None = None) -> RecordReader:
        return RecordReader()


class OllamaChat(OllamaLanguage):
    """`POST /api/chat`."""

    name = "ollama_chat"
    work = "chat"

    def write_request(self, request: ChatRequest, model: str) -> dict[str, Any]:
        _refuse(request.indispensable)
        if not request.messages:
            # An empty list would load the model and answer nothing.
            raise CannotCarry("A conversation needs at least one message.", "messages")
        names = call_names(request.messages)
        messages = [written for message in request.messages for written in _write_message(message, names)]
        body = {"model": model, "messages": messages, **_fields(request)}
        if tools := _tools(request):
            body["tools"] = tools
        return body


class OllamaGenerate(OllamaLanguage):
    """`POST /api/generate`."""

    name = "ollama_generate"
    work = "completion"

    def write_request(self, request: ChatRequest, model: str) -> dict[str, Any]:
        _refuse(request.indispensable - {"suffix"})
        if _tools(request):
            raise CannotCarry("Tools cannot be carried to an upstream that only completes text.", "tools")
        body = {"model": model, "prompt": _prompt(request), **_fields(request)}
        if "suffix" in request.indispensable:
            body["suffix"] = request.extras["suffix"]
        return body

    def dropped(self, request: ChatRequest) -> list[str]:
        return [name for name in super().dropped(request) if name not in request.indispensable]


class OllamaEmbed(EmbeddingLanguage):
    """`POST /api/embed`."""

    name = "ollama_embed"
    work = "embedding"

    def write_embedding_request(self, request: EmbeddingRequest, model: str) -> dict[str, Any]:
        if not all(isinstance(item, str) for item in request.inputs):
            raise CannotCarry("This upstream makes embeddings of texts, not of token ids.", "input")
        body: dict[str, Any] = {"model": model, "input": list(request.inputs)}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        return body

    def read_embeddings(self, document: Any) -> Embeddings:
        rows = document.get("embeddings")
        if not isinstance(rows, list):
            raise ProviderError("The upstream's answer holds no vectors.", kind="broken")
        return Embeddings(tuple(_vector(row) for row in rows), _usage(document))


class RecordReader(Reader):
    """The records of an answer as events; a whole answer is a single record."""

    frame_end = NEWLINE

    def __init__(self) -> None:
        self._begun = False
        self._calls = 0

    def read_frame(self, frame: bytes) -> list[Event]:
        return self.read_record(chunk_document(frame)) if frame.strip() else []

    def read_record(self, record: Mapping[str, Any]) -> list[Event]:
        # Chat speaks in a message, generate in the record itself.
        said = object_in(record, "message") or record
        events: list[Event] = []
        if thinking := text_in(said, "thinking"):
            events.append(ThinkingDelta(thinking))
        if text := text_in(said, "content", "response"):
            events.append(TextDelta(text))
        events += [self._call(call) for call in objects_in(said, "tool_calls")]
        self._begun = self._begun or bool(events)
        if record.get("done"):
            events.append(Finished(self._reason(text_in(record, "done_reason"))))
            if usage := _usage(record):
                events.append(usage)
            self.ended = True
        return events

    def read_end(self) -> list[Event]:
        if not self.ended:
            raise ProviderError("The upstream's answer ended before it was complete.", kind="cut")
        return []

    def _call(self, call: Mapping[str, Any]) -> ToolCallDelta:
        """A call comes whole. Its own index starts afresh in each record, and older servers give no id."""
        function = object_in(call, "function")
        id = text_in(call, "id") or f"call_{uuid4().hex}"
        arguments = dumps(object_in(function, "arguments")).decode()
        self._calls += 1
        return ToolCallDelta(self._calls - 1, id, text_in(function, "name"), arguments)

    def _reason(self, said: str) -> FinishReason:
        """They say "stop" beside the calls they made, and nothing when their runner went away."""
        if said in ("load", "unload"):
            raise ProviderError("The upstream only loaded or unloaded its model.", kind="broken")
        if not said and not self._begun:
            raise ProviderError("The upstream's answer ended before it began.", kind="cut")
        if said == "length":
            return "length"
        return "tool_calls" if self._calls else "stop"


# -- requests --


def _refuse(fields: frozenset[str]) -> None:
    if fields:
        name = min(fields)
        raise CannotCarry(f"'{name}' cannot be carried to this upstream.", name)


def _fields(request: ChatRequest) -> dict[str, Any]:
    if (request.n or 1) > 1:
        raise CannotCarry("This upstream gives one answer at a time.", "n")
    options = {
        "num_predict": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stop": list(request.stop) or None,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
    }
    fields = {
        "format": _format(request.json_format),
        "options": {name: value for name, value in options.items() if value is not None} or None,
        "think": _think(request.reasoning_effort),
    }
    # Left out, `stream` would be true.
    return {"stream": request.stream, **{name: value for name, value in fields.items() if value is not None}}


def _format(wish: JSONFormat | None) -> object:
    if wish is None:
        return None
    return "json" if wish.schema is None else wish.schema


def _think(effort: str | None) -> bool | str | None:
    if effort is None:
        return None
    if effort not in THINK:
        raise CannotCarry(f"'reasoning_effort' must be one of {', '.join(THINK)} here.", "reasoning_effort")
    return THINK[effort]


def _tools(request: ChatRequest) -> list[dict[str, Any]]:
    match request.tool_choice:
        case ToolChoice("required" | "tool"):
            raise CannotCarry("This upstream cannot be made to call a tool.", "tool_choice")
        case ToolChoice("none"):
            return []
    return [_write_tool(tool) for tool in request.tools]


def _write_tool(tool: Tool) -> dict[str, Any]:
    fields = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": {name: value for name, value in fields.items() if value is not None}}


def _prompt(request: ChatRequest) -> str:
    match request.messages:
        case (Message("user", (Text(text),)),) if text:
            return text
        case (Message("user", (Text(),)),):
            # An empty prompt would load the model and answer nothing.
            raise CannotCarry("This upstream needs a prompt to complete.", "prompt")
    raise CannotCarry("A conversation cannot be carried to an upstream that only completes text.", "messages")


def _write_message(message: Message, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Results of tools are messages of their own."""
    written: list[dict[str, Any]] = []
    texts: list[str] = []
    thinking: list[str] = []
    images: list[str] = []
    calls: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case Text(text):
                texts.append(text)
            case Thinking(text):
                thinking.append(text)
            case Image():
                images.append(_write_image(part))
            case ToolCall(id, name):
                calls.append({"id": id, "function": {"name": name, "arguments": arguments_object(part)}})
            case ToolResult():
                written.append(_write_result(part, names))
            case Opaque():
                raise CannotCarry("A part of a message cannot be carried to this upstream.", "messages")
    if texts or thinking or images or calls or not written:
        fields = {"thinking": "".join(thinking), "images": images, "tool_calls": calls}
        body = {"role": message.role, "content": "\n".join(texts)}
        written.append({**body, **{name: value for name, value in fields.items() if value}})
    return written


def _write_image(image: Image) -> str:
    media_type, data = data_url(image)
    if media_type not in IMAGE_TYPES:
        raise CannotCarry("This upstream takes images as JPEG, PNG or WebP.", "messages")
    return data


def _write_result(result: ToolResult, names: Mapping[str, str]) -> dict[str, Any]:
    texts = [part.text for part in result.content if isinstance(part, Text)]
    if len(texts) != len(result.content):
        raise CannotCarry("A tool result cannot hold an image on this upstream.", "messages")
    if result.id not in names:
        raise CannotCarry("A tool result must answer a call of an earlier message.", "messages")
    return {"role": "tool", "content": "\n".join(texts), "tool_name": names[result.id], "tool_call_id": result.id}


# -- answers --


def _usage(record: Mapping[str, Any]) -> Usage | None:
    """A counter of zero is left out; an answer without any was not counted."""
    if "prompt_eval_count" not in record and "eval_count" not in record:
        return None
    return Usage(input=count_in(record, "prompt_eval_count"), output=count_in(record, "eval_count"))


def _vector(row: object) -> tuple[float, ...]:
    if isinstance(row, list) and all(isinstance(number, (int, float)) for number in row):
        return tuple(row)
    raise ProviderError("The upstream sent a vector in an unknown form.", kind="broken")
