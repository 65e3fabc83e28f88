"""OpenAI Chat Completions (`POST /v1/chat/completions`), both halves. How requests are read: `openai_chat_requests`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.capabilities import Needs
from providers.conversation import (
    Answer,
    ChatRequest,
    Choice,
    Event,
    Finished,
    Image,
    JSONFormat,
    Message,
    Opaque,
    Part,
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
from providers.languages import openai
from providers.languages import openai_chat_requests as requests
from providers.languages.end_users import short_enough
from providers.languages.errors import chunk_document
from providers.languages.fields import (
    index_in,
    object_in,
    objects_in,
    text_in,
)
from providers.languages.language import Envelope, Reader, Stamp, Writer
from providers.languages.messages import foreign, pictures_beside
from providers.languages.openai import OpenAILanguage, OpenAIWriter, sse
from providers.languages.openai_chat_requests import NAME
from providers.wire.errors import ProviderError, cannot_carry
from providers.wire.frames import sse_data


class OpenAIChat(OpenAILanguage):
    name = NAME
    work = "chat"

    # -- server half --

    def peek(self, body: Mapping[str, Any]) -> Envelope:
        return requests.peek(body)

    def needs(self, body: Mapping[str, Any]) -> Needs:
        return requests.needs(body)

    def parse_request(self, body: Mapping[str, Any]) -> ChatRequest:
        return requests.parse(body)

    def write_answer(self, answer: Answer, stamp: Stamp, request: ChatRequest | None = None) -> bytes:
        document: dict[str, Any] = {
            "id": f"chatcmpl-{stamp.id}",
            "object": "chat.completion",
            "created": stamp.created,
            "model": stamp.model,
            "choices": [
                {
                    "index": index,
                    "message": _answer_message(choice),
                    "logprobs": None,
                    "finish_reason": choice.finish_reason,
                }
                for index, choice in enumerate(answer.choices)
            ],
        }
        if answer.usage is not None:
            document["usage"] = openai.write_usage(answer.usage)
        return dumps(document)

    def writer(self, stamp: Stamp, include_usage: bool, request: ChatRequest | None = None) -> Writer:
        return ChatWriter(stamp, include_usage)

    # -- client half --

    def write_request(self, request: ChatRequest, model: str) -> dict[str, Any]:
        body: dict[str, Any] = dict(request.extras) if request.language == NAME else {}
        if request.language != NAME and request.indispensable:
            name = min(request.indispensable)
            raise cannot_carry(name)
        body["model"] = model
        body["messages"] = [
            written for message in pictures_beside(request.messages) for written in _write_message(message)
        ]
        if request.stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        fields = {
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop": list(request.stop) or None,
            "n": request.n,
            "seed": request.seed,
            "presence_penalty": request.presence_penalty,
            "frequency_penalty": request.frequency_penalty,
            "tools": [_write_tool(tool) for tool in request.tools] or None,
            "tool_choice": _write_tool_choice(request.tool_choice),
            "parallel_tool_calls": request.parallel_tool_calls,
            "response_format": _write_json_format(request.json_format),
            "reasoning_effort": request.reasoning_effort,
            "user": request.user if request.language == NAME else short_enough(request.user),
        }
        body.update((name, value) for name, value in fields.items() if value is not None)
        return body

    def dropped(self, request: ChatRequest, model: str) -> list[str]:
        return [] if request.language == NAME else list(request.extras)

    def read_answer(self, document: Any, request: ChatRequest | None = None) -> Answer:
        choices = objects_in(document, "choices")
        if not choices:
            raise ProviderError("The upstream's answer holds no choices.", kind="broken")
        return Answer(tuple(_read_choice(choice) for choice in choices), openai.read_usage(document.get("usage")))

    def reader(self, request: ChatRequest | None = None) -> Reader:
        return ChatReader()

    def clamp(self, body: dict[str, Any], limit: int) -> tuple[dict[str, Any], str | None]:
        lowered = [
            name
            for name in ("max_completion_tokens", "max_tokens")
            if body.get(name) is not None and not 0 <= body[name] <= limit
        ]
        return ({**body, **dict.fromkeys(lowered, limit)}, lowered[0]) if lowered else (body, None)


class ChatWriter(OpenAIWriter):
    """Events as `chat.completion.chunk` frames: deltas, finish, usage (if asked), `[DONE]`."""

    id_prefix = "chatcmpl"
    object = "chat.completion.chunk"

    def __init__(self, stamp: Stamp, include_usage: bool) -> None:
        super().__init__(stamp, include_usage)
        self._begun: set[int] = set()

    def write(self, event: Event) -> bytes:
        match event:
            case TextDelta(text, choice):
                return self._delta({"content": text}, choice)
            case ThinkingDelta(text, _, choice):
                return self._delta({"reasoning_content": text}, choice) if text else b""
            case ToolCallDelta(index, id, name, arguments, choice):
                call: dict[str, Any] = {"index": index}
                if id is not None:
                    call |= {"id": id, "type": "function"}
                call["function"] = ({"name": name} if name is not None else {}) | {"arguments": arguments}
                return self._delta({"tool_calls": [call]}, choice)
            case Finished(reason, choice):
                return self._delta({}, choice, reason)
            case Usage():
                self._usage = event
        return b""

    def _delta(self, delta: dict[str, Any], index: int, reason: str | None = None) -> bytes:
        if index not in self._begun:
            self._begun.add(index)
            delta = {"role": "assistant", **delta}
        return sse(
            {**self._chunk, "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}]}
        )


class ChatReader(Reader):
    """`chat.completion.chunk` frames as events."""

    def __init__(self) -> None:
        self._finished: dict[int, bool] = {}
        self._calls: set[int] = set()

    def read_frame(self, frame: bytes) -> list[Event]:
        data = sse_data(frame)
        if data is None:
            return []
        if data.strip() == b"[DONE]":
            self.ended = True
            return []
        return self.read_chunk(chunk_document(data))

    def read_chunk(self, document: Mapping[str, Any]) -> list[Event]:
        events: list[Event] = []
        for choice in objects_in(document, "choices"):
            index, delta = index_in(choice), object_in(choice, "delta")
            if thinking := text_in(delta, "reasoning_content", "reasoning"):
                events.append(ThinkingDelta(thinking, None, index))
            if text := text_in(delta, "content", "refusal"):
                events.append(TextDelta(text, index))
            for call in objects_in(delta, "tool_calls"):
                self._calls.add(index)
                function = object_in(call, "function")
                name, arguments = text_in(function, "name"), text_in(function, "arguments")
                events.append(
                    ToolCallDelta(index_in(call), text_in(call, "id") or None, name or None, arguments, index)
                )
            if (reason := openai.finish_reason(choice.get("finish_reason"))) and not self._finished.get(index):
                self._finished[index] = True
                # Some engines say "stop" beside the calls they made.
                if reason == "stop" and index in self._calls:
                    reason = "tool_calls"
                events.append(Finished(reason, index))
        if usage := openai.read_usage(document.get("usage")):
            events.append(usage)
        return events

    def read_end(self) -> list[Event]:
        if not self.ended and not self._finished:
            raise ProviderError("The upstream's answer ended before it was complete.", kind="cut")
        return []


# -- requests, written --


def _write_message(message: Message) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    content: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    thinking: list[str] = []
    for part in message.parts:
        match part:
            case ToolResult(id, result):
                texts = [{"type": "text", "text": p.text} for p in result if isinstance(p, Text)]
                text = texts[0]["text"] if len(texts) == 1 else texts or ""
                written.append({"role": "tool", "tool_call_id": id, "content": text})
            case ToolCall(id, name, arguments):
                calls.append({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
            case Text(text):
                content.append({"type": "text", "text": text})
            case Image(url, detail):
                image = {"url": url} | ({"detail": detail} if detail else {})
                content.append({"type": "image_url", "image_url": image})
            case Thinking(text):
                thinking.append(text)
            case Opaque(language, value):
                if language != NAME:
                    raise foreign(part)
                content.append(dict(value))
    if content or calls or thinking or not written:
        only_text = len(content) == 1 and content[0]["type"] == "text"
        body: dict[str, Any] = {"role": message.role}
        body["content"] = content[0]["text"] if only_text else content or (None if calls else "")
        if message.name:
            body["name"] = message.name
        if thinking:
            body["reasoning_content"] = "".join(thinking)
        if calls:
            body["tool_calls"] = calls
        written.append(body)
    return written


def _write_tool(tool: Tool) -> dict[str, Any]:
    fields = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }
    return {
        "type": "function",
        "function": {name: value for name, value in fields.items() if value is not None},
    }


def _write_tool_choice(choice: ToolChoice | None) -> object:
    if choice is None:
        return None
    return {"type": "function", "function": {"name": choice.name}} if choice.mode == "tool" else choice.mode


def _write_json_format(wish: JSONFormat | None) -> dict[str, Any] | None:
    if wish is None:
        return None
    if wish.schema is None:
        return {"type": "json_object"}
    fields: dict[str, Any] = {"name": wish.name or "answer", "schema": wish.schema}
    fields |= {"strict": wish.strict} if wish.strict is not None else {}
    fields |= {"description": wish.description} if wish.description is not None else {}
    return {"type": "json_schema", "json_schema": fields}


# -- answers --


def _answer_message(choice: Choice) -> dict[str, Any]:
    texts = [part.text for part in choice.parts if isinstance(part, Text)]
    thinking = [part.text for part in choice.parts if isinstance(part, Thinking)]
    calls = [
        {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        for part in choice.parts
        if isinstance(part, ToolCall)
    ]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    if thinking:
        message["reasoning_content"] = "".join(thinking)
    if calls:
        message["tool_calls"] = calls
    return message


def _read_choice(choice: Any) -> Choice:
    message = object_in(choice, "message")
    if not message:
        raise ProviderError("The upstream's answer holds a choice without a message.", kind="broken")
    parts: list[Part] = []
    if thinking := text_in(message, "reasoning_content", "reasoning"):
        parts.append(Thinking(thinking))
    if text := text_in(message, "content", "refusal"):
        parts.append(Text(text))
    for call in objects_in(message, "tool_calls"):
        function = object_in(call, "function")
        parts.append(ToolCall(text_in(call, "id"), text_in(function, "name"), text_in(function, "arguments")))
    reason = openai.finish_reason(choice.get("finish_reason"))
    if reason is None:
        raise ProviderError("The upstream's answer does not say why it ended.", kind="broken")
    if reason == "stop" and any(isinstance(part, ToolCall) for part in parts):
        reason = "tool_calls"
    return Choice(tuple(parts), reason)
