"""Gemini (`generateContent`), the half that upstreams speak.

Source of the wire facts: Vertex AI API reference, Content, GenerationConfig and Schema; SAP AI Core's contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from providers.conversation import (
    Answer,
    ChatRequest,
    Event,
    Finished,
    FinishReason,
    Image,
    Message,
    Opaque,
    Part,
    Text,
    TextDelta,
    ThinkingDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
    Usage,
)
from providers.documents import dumps, loads
from providers.languages.errors import chunk_document
from providers.languages.fields import count_in, index_in, object_in, objects_in, text_in
from providers.languages.language import Language, Reader
from providers.languages.messages import (
    Blocks,
    arguments_object,
    call_names,
    data_url,
    foreign,
    pictures_beside,
    system_parts,
    turns,
)
from providers.languages.schemas import inlined
from providers.languages.thinking import budget
from providers.wire.errors import CannotCarry, ProviderError, cannot_carry
from providers.wire.frames import sse_data

NAME = "gemini"
LARGEST_BUDGET = 24_576  # tokens of thinking that every model takes

FINISH_REASONS: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
}
FAILURES = frozenset(["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"])
MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "tool": "ANY"}

# What a schema may hold. Other keywords are refused, so they are left out: without them it allows more, never less.
KEYWORDS = frozenset(
    (
        "type title description format nullable default items minItems maxItems enum properties propertyOrdering "
        "required minProperties maxProperties minimum maximum minLength maxLength pattern"
    ).split()
)
FORMATS = frozenset(["date-time", "enum", "float", "double", "int32", "int64"])


class Gemini(Language):
    """The address says whether to stream and which model answers; `stream` in a body is the provider's to take out."""

    name = NAME
    work = "chat"
    drops = ("parallel_tool_calls", "user", "presence_penalty", "frequency_penalty")

    def write_request(self, request: ChatRequest, model: str) -> dict[str, Any]:
        if request.indispensable:
            name = min(request.indispensable)
            raise cannot_carry(name)
        body: dict[str, Any] = {"contents": _contents(request.messages)}
        if request.stream:
            body["stream"] = True
        if system := [written for part in system_parts(request.messages) for written in _write_part(part, {})]:
            body["systemInstruction"] = {"parts": system}
        if config := _generation_config(request):
            body["generationConfig"] = config
        if request.tools:
            body["tools"] = [{"functionDeclarations": [_write_tool(tool) for tool in request.tools]}]
            if request.tool_choice is not None:
                body["toolConfig"] = {"functionCallingConfig": _write_tool_choice(request.tool_choice)}
        return body

    def dropped(self, request: ChatRequest, model: str) -> list[str]:
        unknown = request.reasoning_effort is not None and not budget(request.reasoning_effort)
        return [*super().dropped(request, model), *(["reasoning_effort"] if unknown else [])]

    def read_answer(self, document: Any, request: ChatRequest | None = None) -> Answer:
        reader = GeminiReader()
        events = reader.read(document)
        if not reader.finished:
            raise ProviderError("The upstream's answer does not say why it ended.", kind="broken")
        return Answer.collect(events)

    def reader(self, request: ChatRequest | None = None) -> Reader:
        return GeminiReader()


class GeminiReader(Reader):
    """Pieces of `GenerateContentResponse`. There is no end mark: counts may still follow the finish."""

    def __init__(self) -> None:
        self.finished: set[int] = set()
        self._calls: dict[int, int] = {}  # choice -> how many calls it holds

    def read_frame(self, frame: bytes) -> list[Event]:
        data = sse_data(frame)
        if data is None:
            # Some gateways in between send the bare JSON.
            data = frame.strip()
            if not data.startswith(b"{"):
                return []
        return self.read(chunk_document(data))

    def read(self, document: Mapping[str, Any]) -> list[Event]:
        events = [event for candidate in objects_in(document, "candidates") for event in self._read(candidate)]
        if text_in(object_in(document, "promptFeedback"), "blockReason") and not self.finished:
            self.finished.add(0)
            events.append(Finished("content_filter"))
        if usage := read_usage(object_in(document, "usageMetadata")):
            events.append(usage)
        return events

    def read_end(self) -> list[Event]:
        if not self.finished:
            raise ProviderError("The upstream's answer ended before it was complete.", kind="cut")
        return []

    def _read(self, candidate: Mapping[str, Any]) -> list[Event]:
        choice = index_in(candidate)
        events: list[Event] = []
        for part in objects_in(object_in(candidate, "content"), "parts"):
            if call := object_in(part, "functionCall"):
                number = self._calls.get(choice, 0)
                self._calls[choice] = number + 1
                arguments = dumps(object_in(call, "args")).decode()
                events.append(ToolCallDelta(number, f"call_{uuid4().hex}", text_in(call, "name"), arguments, choice))
            elif text := text_in(part, "text"):
                events.append(ThinkingDelta(text, None, choice) if part.get("thought") else TextDelta(text, choice))
        if (reason := text_in(candidate, "finishReason")) and choice not in self.finished:
            self.finished.add(choice)
            events.append(Finished(_finish(reason, choice in self._calls), choice))
        return events


def read_usage(counts: Mapping[str, Any]) -> Usage | None:
    """Thoughts are counted beside the answer. Early frames of a stream may count nothing yet."""
    thoughts = count_in(counts, "thoughtsTokenCount")
    usage = Usage(
        input=count_in(counts, "promptTokenCount"),
        output=count_in(counts, "candidatesTokenCount") + thoughts,
        cached=count_in(counts, "cachedContentTokenCount"),
        reasoning=thoughts,
    )
    return usage if usage != Usage() else None


def _finish(reason: str, called: bool) -> FinishReason:
    if reason in FAILURES:
        raise ProviderError("The upstream's model did not manage to write the call of a tool.", kind="broken")
    finish = FINISH_REASONS.get(reason, "stop")
    return "tool_calls" if finish == "stop" and called else finish


def _contents(messages: tuple[Message, ...]) -> Blocks:
    names = call_names(messages)
    taken = turns(
        pictures_beside(messages), lambda parts: [written for part in parts for written in _write_part(part, names)]
    )
    return [{"role": "model" if role == "assistant" else "user", "parts": parts} for role, parts in taken]


def _write_part(part: Part, names: Mapping[str, str]) -> Blocks:
    match part:
        case Text(text) if text:
            return [{"text": text}]
        case Image():
            media_type, data = data_url(part)
            return [{"inlineData": {"mimeType": media_type, "data": data}}]
        case ToolCall():
            return [{"functionCall": {"name": part.name, "args": arguments_object(part)}}]
        case ToolResult():
            return [{"functionResponse": _write_result(part, names)}]
        case Opaque():
            raise foreign(part)
    return []


def _write_result(result: ToolResult, names: Mapping[str, str]) -> dict[str, Any]:
    if result.id not in names:
        raise CannotCarry("A tool's answer names no call that stands before it.", "messages")
    texts = [part.text for part in result.content if isinstance(part, Text)]
    return {"name": names[result.id], "response": _response("".join(texts))}


def _response(text: str) -> dict[str, Any]:
    """An object is demanded, so what is none becomes the only field of one."""
    try:
        response = loads(text.encode())
    except ValueError:  # no JSON, or not even text
        response = None
    return response if isinstance(response, dict) else {"result": text}


def _generation_config(request: ChatRequest) -> dict[str, Any]:
    wish = request.json_format
    thinking = min(budget(request.reasoning_effort), LARGEST_BUDGET)
    fields = {
        "maxOutputTokens": request.max_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "stopSequences": list(request.stop) or None,
        "candidateCount": request.n,
        "seed": request.seed,
        "responseMimeType": "application/json" if wish else None,
        "responseSchema": _schema(wish.schema, "response_format") if wish and wish.schema else None,
        "thinkingConfig": {"thinkingBudget": thinking} if thinking else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _write_tool(tool: Tool) -> dict[str, Any]:
    written: dict[str, Any] = {"name": tool.name}
    if tool.description:
        written["description"] = tool.description
    parameters = _schema(tool.parameters or {}, "tools")
    # An object without properties is refused: a function that takes nothing has no parameters.
    if parameters.get("properties") or parameters.get("anyOf"):
        written["parameters"] = parameters
    return written


def _write_tool_choice(choice: ToolChoice) -> dict[str, Any]:
    named = {"allowedFunctionNames": [choice.name]} if choice.mode == "tool" else {}
    return {"mode": MODES[choice.mode], **named}


def _schema(schema: Mapping[str, Any], field: str) -> dict[str, Any]:
    """A JSON Schema in the subset of OpenAPI that Gemini reads. Raises CannotCarry naming `field`."""
    return _narrowed(inlined(schema, field), field)


def _narrowed(schema: object, field: str) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        return {}
    if "allOf" in schema:
        raise CannotCarry("A schema cannot hold 'allOf' on this upstream; write out what it means.", field)
    options = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(kinds := schema.get("type"), list):
        options = [{**schema, "type": kind} for kind in kinds]
    elif kinds or "properties" in schema:
        options = None  # they only narrow what is said beside them
    if isinstance(options, list):
        return _either(schema, options, field)
    written = {name: value for name, value in schema.items() if name in KEYWORDS}
    if isinstance(properties := schema.get("properties"), Mapping):
        written["properties"] = {name: _narrowed(inner, field) for name, inner in properties.items()}
    if "items" in schema:
        written["items"] = _narrowed(schema["items"], field)
    if written.get("format") not in FORMATS:
        written.pop("format", None)
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list):
        named = [value for value in values if value is not None]
        # Only words can be listed.
        written["enum"] = named if all(isinstance(value, str) and value for value in named) else None
    return {name: value for name, value in written.items() if value is not None}


def _either(schema: Mapping[str, Any], options: list[Any], field: str) -> dict[str, Any]:
    """One of several schemas: nothing may stand beside `anyOf`, and null is no option but a mark on the others."""
    written = [_narrowed(option, field) for option in options if not _is_null(option)]
    if len(written) < len(options):
        written = [{**each, "nullable": True} for each in written]
    if len(written) > 1:
        return {"anyOf": written}
    about = {name: schema[name] for name in ("title", "description") if name in schema}
    return dict(*written) | about


def _is_null(schema: object) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "null"
