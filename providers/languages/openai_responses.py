"""OpenAI Responses (`POST /v1/responses`), both halves. How requests are read stands in `openai_responses_requests`.

Source of the wire facts: OpenAI API reference, Responses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from providers.capabilities import Needs
from providers.conversation import (
    Answer,
    CachePoint,
    ChatRequest,
    Choice,
    Image,
    JSONFormat,
    Message,
    Opaque,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
from providers.documents import dumps
from providers.languages import openai_responses_requests as requests
from providers.languages.end_users import short_enough
from providers.languages.errors import answer_document
from providers.languages.fields import objects_in
from providers.languages.language import Envelope, Reader, Stamp, Tap, Writer
from providers.languages.messages import foreign
from providers.languages.model_names import with_model
from providers.languages.openai import OpenAILanguage
from providers.languages.openai_responses_events import ResponsesReader, ResponsesTap, ResponsesWriter
from providers.languages.openai_responses_items import (
    NAME,
    Json,
    finish_of,
    is_ours,
    parts_of,
    read_usage,
    thought_of,
    write_answer,
)
from providers.languages.openai_responses_tools import (
    HOSTED,
    Origins,
    write_call,
    write_choice,
    write_tools,
)
from providers.wire.errors import CannotCarry, ProviderError, cannot_carry

# Repeated in the answer as it was asked; what was not asked is told by its default.
REPEATED: Mapping[str, Any] = {"max_tool_calls": None, "metadata": {}, "prompt_cache_key": None, "top_logprobs": 0}


class OpenAIResponses(OpenAILanguage):
    name = NAME
    work = "chat"
    words = {
        "messages": "input",
        "max_tokens": "max_output_tokens",
        "response_format": "text.format",
        "reasoning_effort": "reasoning.effort",
    }
    drops = ("seed", "presence_penalty", "frequency_penalty")

    # -- server half --

    def peek(self, body: Mapping[str, Any]) -> Envelope:
        return requests.peek(body)

    def needs(self, body: Mapping[str, Any]) -> Needs:
        return requests.needs(body)

    def parse_request(self, body: Mapping[str, Any]) -> ChatRequest:
        return requests.parse(body)

    def write_answer(self, answer: Answer, stamp: Stamp, request: ChatRequest | None = None) -> bytes:
        return dumps(write_answer(answer, stamp, _told(request), request.origins if request else {}))

    def writer(self, stamp: Stamp, include_usage: bool, request: ChatRequest | None = None) -> Writer:
        return ResponsesWriter(stamp, _told(request), request.origins if request else {})

    # -- client half --

    def write_request(self, request: ChatRequest, model: str) -> dict[str, Any]:
        own = request.language == NAME
        if not own:
            _refuse(request)
        extras: Json = dict(request.extras) if own else {}
        origins: Origins = request.origins if own else {}
        hosted = [tool for name in [*extras] if name.startswith(HOSTED) for tool in extras.pop(name)]
        messages = list(request.messages)
        instructions = _instructions(messages[0]) if len(messages) > 1 else None
        if instructions is not None:
            messages.pop(0)
        body = extras | {"model": model, "input": _write_input(messages, origins)}
        body["store"] = False
        if request.stream:
            body["stream"] = True
        effort = request.reasoning_effort
        include = [*extras.get("include", ()), *([requests.ENCRYPTED] if effort not in (None, "none") else ())]
        fields = {
            "instructions": instructions,
            "max_output_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "tools": [*write_tools(request.tools, origins, own), *hosted] or None,
            "tool_choice": write_choice(request.tool_choice, origins),
            "parallel_tool_calls": request.parallel_tool_calls,
            "text": _with(extras.get("text"), "format", _write_json_format(request.json_format)),
            "reasoning": _with(extras.get("reasoning"), "effort", effort),
            "include": include or None,
            "user": request.user if own else short_enough(request.user),
        }
        body.update((name, value) for name, value in fields.items() if value is not None)
        return body

    def dropped(self, request: ChatRequest, model: str) -> list[str]:
        return [] if request.language == NAME else super().dropped(request, model)

    def read_answer(self, document: Any, request: ChatRequest | None = None) -> Answer:
        parts = [part for item in _output(document) for part in parts_of(item)]
        return Answer((Choice(tuple(parts), finish_of(document)),), read_usage(document.get("usage")))

    def reader(self, request: ChatRequest | None = None) -> Reader:
        return ResponsesReader()

    # -- straight through --

    def readdress(self, body: dict[str, Any], envelope: Envelope, model: str, ask_usage: bool) -> dict[str, Any]:
        asked = body["input"]
        if isinstance(asked, list) and any(map(is_ours, asked)):
            body = {**body, "input": [item for item in asked if not is_ours(item)]}
        return {**body, "model": model}  # usage always comes, so that it need not be asked for

    def clamp(self, body: dict[str, Any], limit: int) -> tuple[dict[str, Any], str | None]:
        asked = body.get("max_output_tokens")
        if asked is not None and asked > limit:
            return {**body, "max_output_tokens": limit}, "max_output_tokens"
        return body, None

    def tap(self, model: str | None, include_usage: bool) -> Tap:
        return ResponsesTap(model)

    def pass_answer(self, body: bytes, model: str | None) -> tuple[bytes, Usage | None]:
        document = answer_document(body)
        _output(document)
        finish_of(document)
        return with_model(body, document, model), read_usage(document.get("usage"))


def _output(document: Mapping[str, Any]) -> list[Json]:
    if document.get("output") is None:
        raise ProviderError("The upstream's answer holds no output.", kind="broken")
    return objects_in(document, "output")


# -- requests, written --


def _refuse(request: ChatRequest) -> None:
    if request.indispensable:
        name = min(request.indispensable)
        raise cannot_carry(name)
    if (request.n or 1) > 1:
        raise CannotCarry("This upstream gives one answer.", "n")
    if request.stop:
        raise CannotCarry("Stop sequences cannot be carried to this upstream.", "stop")


def _instructions(message: Message) -> str | None:
    """What a first message of the system says, if one text can say it."""
    match [part for part in message.parts if not isinstance(part, CachePoint)]:
        case [Text(text)] if message.role == "system" and text:
            return text
    return None


def _write_input(messages: Iterable[Message], origins: Origins) -> list[Json]:
    items = [item for message in messages for item in _write_items(message, origins)]
    given_text = {item["call_id"] for item in items if item.get("type") == "custom_tool_call"}
    for item in items:
        if item.get("type") == "function_call_output" and item["call_id"] in given_text:
            item["type"] = "custom_tool_call_output"
    return items


def _write_items(message: Message, origins: Origins) -> list[Json]:
    items: list[Json] = []
    content: list[Json] = []
    for part in message.parts:
        if (item := _write_item(part, message.role == "assistant", origins)) is not None:
            items += [*_said(message, content), item]
            content = []
        else:
            content += _write_part(part, message.role == "assistant")
    return [*items, *_said(message, content)]


def _said(message: Message, content: list[Json]) -> list[Json]:
    match content:
        case []:
            return []
        case [{"type": "input_text" | "output_text", "text": text}]:
            return [{"type": "message", "role": message.role, "content": text}]
    return [{"type": "message", "role": message.role, "content": content}]


def _write_item(part: Part, answered: bool, origins: Origins) -> Json | None:
    """A part that is an item of its own; None for one that is said in a message."""
    match part:
        case ToolCall():
            return write_call(part, origins.get(part.name))
        case ToolResult(id, (Text(text),)):
            return {"type": "function_call_output", "call_id": id, "output": text}
        case ToolResult(id, result):
            output = [written for piece in result for written in _write_part(piece, answered=False)]
            return {"type": "function_call_output", "call_id": id, "output": output or ""}
        case Thinking():
            return thought_of(part)
        case Opaque(language, value) if answered and language == NAME:
            return dict(value)
    return None


def _write_part(part: Part, answered: bool) -> list[Json]:
    match part:
        case Text(text):
            return [{"type": "output_text" if answered else "input_text", "text": text}]
        case Image(url, detail):
            return [{"type": "input_image", "image_url": url} | ({"detail": detail} if detail else {})]
        case Opaque(language, value):
            if language != NAME:
                raise foreign(part)
            return [dict(value)]
    return []  # a mark for a cache that needs none, or a thought that another upstream signed or nobody did


def _write_json_format(wish: JSONFormat | None) -> Json | None:
    if wish is None:
        return None
    if wish.schema is None:
        return {"type": "json_object"}
    fields = {"name": wish.name or "answer", "schema": wish.schema, "strict": wish.strict}
    fields["description"] = wish.description
    return {"type": "json_schema"} | {name: value for name, value in fields.items() if value is not None}


def _with(others: Mapping[str, Any] | None, name: str, value: object) -> Json | None:
    fields = dict(others or {}) | ({name: value} if value is not None else {})
    return fields or None


# -- answers --


def _told(request: ChatRequest | None) -> Json:
    """What of a request is repeated in its answer."""
    asked = request or ChatRequest("", ())
    extras = asked.extras if asked.language == NAME else {}
    origins: Origins = asked.origins if asked.language == NAME else {}
    hosted = [tool for name, tools in extras.items() if name.startswith(HOSTED) for tool in tools]
    tools = [_complete(tool) for tool in write_tools(asked.tools, origins, own=True)]
    text = {"format": _write_json_format(asked.json_format) or {"type": "text"}}
    reasoning = {"effort": asked.reasoning_effort, "summary": None}
    told: Json = {
        "instructions": _instructions(asked.messages[0]) if asked.messages else None,
        "max_output_tokens": asked.max_tokens,
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "reasoning": reasoning | extras.get("reasoning", {}),
        "temperature": asked.temperature,
        "text": text | extras.get("text", {}),
        "tool_choice": extras.get("tool_choice") or write_choice(asked.tool_choice, origins) or "auto",
        "tools": [*tools, *hosted],
        "top_p": asked.top_p,
        "truncation": extras.get("truncation", "disabled"),
        "user": asked.user,
    }
    return told | {name: extras.get(name, default) for name, default in REPEATED.items()}


def _complete(tool: Json) -> Json:
    """A function with all its fields, as answers have them."""
    return {"description": None, "parameters": None, "strict": None} | tool if tool["type"] == "function" else tool
