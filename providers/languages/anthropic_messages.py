"""Anthropic Messages (`POST /v1/messages`), the half that upstreams speak.

Source of the wire facts: Anthropic API reference, Messages and streaming; for Bedrock and Snowflake their contracts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from providers.conversation import (
    Answer,
    CachePoint,
    ChatRequest,
    Event,
    Finished,
    FinishReason,
    Image,
    Opaque,
    Part,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from providers.languages.errors import chunk_document
from providers.languages.fields import count_in, index_in, json_in, object_in, objects_in, text_in
from providers.languages.language import Language, Reader
from providers.languages.messages import arguments_object, data_url, system_parts, turns
from providers.languages.thinking import claude_limits, claude_version
from providers.wire.errors import CannotCarry, ProviderError
from providers.wire.frames import sse_data

NAME = "anthropic_messages"
MAX_TOKENS = 4096  # the upstream demands a number; a route's ceiling is better
# A call of this tool is not the model's wish to call something: its input is the answer that was asked for in JSON.
ANSWER_TOOL = "answer_in_json"
NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
THOUGHTS = ("thinking", "redacted_thinking")
# Later models choose themselves how much to think, by an effort; the latest take neither budgets nor sampling.
THINKS_BY_EFFORT = (4, 6)
NOT_SAMPLED = (4, 7)

FINISH_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class AnthropicMessages(Language):
    name = NAME
    work = "chat"
    drops: ClassVar[tuple[str, ...]] = ("seed", "presence_penalty", "frequency_penalty")

    def write_request(self, request: ChatRequest, model: str) -> dict[str, Any]:
        _refuse(request)
        limit, thinking = claude_limits(request, MAX_TOKENS)
        body: dict[str, Any] = {
            "model": model,
            "max_tokens": limit,
            "stream": request.stream,
            "messages": [{"role": role, "content": blocks} for role, blocks in turns(request.messages, _turn)],
        }
        if system := _blocks(system_parts(request.messages)):
            body["system"] = system
        if thinking:
            body |= _thinking(request, thinking, model)
        elif claude_version(model) < NOT_SAMPLED:
            body |= _sampling(request)
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        if tools := [*map(_write_tool, request.tools), *_answer_tool(request)]:
            body["tools"] = tools
        if choice := _tool_choice(request):
            body["tool_choice"] = choice
        if request.user:
            body["metadata"] = {"user_id": request.user}
        return body

    def dropped(self, request: ChatRequest) -> list[str]:
        dropped = super().dropped(request)
        _, thinking = claude_limits(request, MAX_TOKENS)
        carried = {} if thinking else _sampling(request)
        given = [name for name in ("temperature", "top_p") if getattr(request, name) is not None]
        dropped += [name for name in given if name not in carried]
        if not thinking and request.reasoning_effort not in (None, "none", "minimal"):
            dropped.append("reasoning_effort")
        return dropped

    def read_answer(self, document: Any, request: ChatRequest | None = None) -> Answer:
        blocks = objects_in(document, "content")
        reason = text_in(document, "stop_reason")
        if not reason:
            raise ProviderError("The upstream's answer does not say why it ended.", kind="broken")
        events: list[Event] = []
        calls = 0
        for block in blocks:
            match block.get("type"):
                case "text":
                    events.append(TextDelta(text_in(block, "text")))
                case "thinking":
                    events += _said(ThinkingDelta(text_in(block, "thinking"), text_in(block, "signature") or None))
                case "tool_use" if block.get("name") == ANSWER_TOOL:
                    events.append(TextDelta(json_in(block, "input")))
                case "tool_use":
                    arguments = json_in(block, "input")
                    events.append(ToolCallDelta(calls, text_in(block, "id"), text_in(block, "name"), arguments))
                    calls += 1
                case _:
                    events.append(Opaque(NAME, block))
        return Answer.collect([*events, Finished(_finish(reason, calls)), *read_usage(object_in(document, "usage"))])

    def reader(self, request: ChatRequest | None = None) -> Reader:
        return MessagesReader()


class MessagesReader(Reader):
    """`message_start`, blocks with their deltas, `message_delta`, `message_stop`."""

    def __init__(self) -> None:
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, int] = {}  # block -> number of the call it holds
        self._answers: set[int] = set()  # blocks that hold the answer in JSON
        self._silent: set[int] = set()  # blocks of either, of which no input has come
        self._finished = False

    def read_frame(self, frame: bytes) -> list[Event]:
        data = sse_data(frame)
        if data is None:
            return []
        document = chunk_document(data)
        match document.get("type"):
            case "message_start":
                self._usage |= object_in(object_in(document, "message"), "usage")
            case "content_block_start":
                return self._begin(index_in(document), object_in(document, "content_block"))
            case "content_block_delta":
                return self._go_on(index_in(document), object_in(document, "delta"))
            case "content_block_stop" if (index := index_in(document)) in self._silent:
                return self._input(index, "{}")  # whose input is empty is sent none
            case "message_delta":
                return self._finish(document)
            case "message_stop":
                self.ended = True
        return []

    def read_end(self) -> list[Event]:
        if not self._finished:
            raise ProviderError("The upstream's answer ended before it was complete.", kind="cut")
        return []

    def _begin(self, index: int, block: Mapping[str, Any]) -> list[Event]:
        events: list[Event] = []
        match block.get("type"):
            case "tool_use":
                self._silent.add(index)
                if block.get("name") == ANSWER_TOOL:
                    self._answers.add(index)
                else:
                    self._calls[index] = len(self._calls)
                    events.append(ToolCallDelta(self._calls[index], text_in(block, "id"), text_in(block, "name")))
                if object_in(block, "input"):
                    events += self._input(index, json_in(block, "input"))
            case "text":
                events += _said(TextDelta(text_in(block, "text")))
            case "thinking":
                events += _said(ThinkingDelta(text_in(block, "thinking"), text_in(block, "signature") or None))
            case _:
                events.append(Opaque(NAME, dict(block)))
        return events

    def _go_on(self, index: int, delta: Mapping[str, Any]) -> list[Event]:
        match delta.get("type"):
            case "text_delta":
                return _said(TextDelta(text_in(delta, "text")))
            case "thinking_delta":
                return _said(ThinkingDelta(text_in(delta, "thinking")))
            case "signature_delta":
                return _said(ThinkingDelta("", text_in(delta, "signature") or None))
            case "input_json_delta" if piece := text_in(delta, "partial_json"):
                return self._input(index, piece)
        return []

    def _input(self, index: int, piece: str) -> list[Event]:
        """A piece of what a tool is called with: of the one that answers, it is the answer."""
        self._silent.discard(index)
        if index in self._calls:
            return [ToolCallDelta(self._calls[index], arguments=piece)]
        return [TextDelta(piece)] if index in self._answers else []

    def _finish(self, document: Mapping[str, Any]) -> list[Event]:
        # Counts only grow: a 0 or nothing stands for what has been said before.
        self._usage |= {name: count for name, count in object_in(document, "usage").items() if count}
        events: list[Event] = []
        if (reason := text_in(object_in(document, "delta"), "stop_reason")) and not self._finished:
            self._finished = True
            events.append(Finished(_finish(reason, len(self._calls))))
        return [*events, *read_usage(self._usage)]


def read_usage(usage: Mapping[str, Any]) -> list[Usage]:
    """`input_tokens` is what was neither read from the cache nor written to it. Empty where nothing was counted."""
    cached, written = count_in(usage, "cache_read_input_tokens"), count_in(usage, "cache_creation_input_tokens")
    prompt = count_in(usage, "input_tokens") + cached + written
    counted = Usage(input=prompt, output=count_in(usage, "output_tokens"), cached=cached, cache_write=written)
    return [counted] if counted != Usage() else []


def _said(event: TextDelta | ThinkingDelta) -> list[Event]:
    """The event, unless it says nothing: a first word is waited for."""
    return [event] if event.text or (isinstance(event, ThinkingDelta) and event.signature) else []


def _finish(reason: str, calls: int) -> FinishReason:
    finish = FINISH_REASONS.get(reason, "stop")
    return "stop" if finish == "tool_calls" and not calls else finish


def _refuse(request: ChatRequest) -> None:
    if (request.n or 1) > 1:
        raise CannotCarry("This upstream gives one answer.", "n")
    if request.indispensable:
        name = min(request.indispensable)
        raise CannotCarry(f"'{name}' cannot be carried to this upstream.", name)
    if not all(stop.strip() for stop in request.stop):
        raise CannotCarry("A stop sequence must hold more than white space on this upstream.", "stop")
    if any(tool.name == ANSWER_TOOL for tool in request.tools):
        raise CannotCarry(f"A tool cannot be called '{ANSWER_TOOL}' here.", "tools")


def _thinking(request: ChatRequest, tokens: int, model: str) -> dict[str, Any]:
    if claude_version(model) < THINKS_BY_EFFORT:
        return {"thinking": {"type": "enabled", "budget_tokens": tokens}}
    effort = "high" if request.reasoning_effort == "xhigh" else request.reasoning_effort  # the latest alone know it
    return {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}}


def _sampling(request: ChatRequest) -> dict[str, Any]:
    """Models since 4.5 refuse the two together; to set one of them is what the API's reference recommends."""
    if request.temperature is not None:
        return {"temperature": min(request.temperature, 1)}
    return {"top_p": request.top_p} if request.top_p is not None else {}


def _turn(parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    # What tools answered comes first: the upstream refuses a turn in which words stand before it.
    blocks = _blocks(tuple(sorted(parts, key=lambda part: not isinstance(part, ToolResult))))
    while blocks and blocks[-1]["type"] in THOUGHTS:
        blocks.pop()  # it refuses thoughts that nothing follows
    return blocks


def _blocks(parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, CachePoint):
            if blocks and blocks[-1]["type"] not in THOUGHTS:
                blocks[-1]["cache_control"] = {"type": "ephemeral"} | ({"ttl": part.ttl} if part.ttl else {})
        else:
            blocks += _block(part)
    return blocks


def _block(part: Part) -> Iterator[dict[str, Any]]:
    match part:
        case Text(text) if text.strip():
            yield {"type": "text", "text": text}
        case Image():
            yield {"type": "image", "source": _source(part)}
        case ToolCall(id, name):
            yield {"type": "tool_use", "id": _id(id), "name": name, "input": arguments_object(part)}
        case ToolResult(id, content):
            yield {"type": "tool_result", "tool_use_id": _id(id), "content": _blocks(content)}
        case Thinking(text, signature) if signature:
            yield {"type": "thinking", "thinking": text, "signature": signature}
        case Opaque(language, value):
            if language != NAME:
                raise CannotCarry("A part of a message cannot be carried to this upstream.", "messages")
            yield dict(value)


def _source(image: Image) -> dict[str, Any]:
    if image.url.startswith("https://"):
        return {"type": "url", "url": image.url}
    media_type, data = data_url(image)
    media_type = media_type.replace("image/jpg", "image/jpeg")
    if media_type not in PICTURES:
        raise CannotCarry("An image must be a PNG, JPEG, GIF or WebP on this upstream.", "messages")
    return {"type": "base64", "media_type": media_type, "data": data}


def _id(id: str) -> str:
    """Ids of calls may come from another upstream, with characters this one refuses."""
    return NOT_IN_AN_ID.sub("_", id)


def _write_tool(tool: Tool) -> dict[str, Any]:
    schema = dict(tool.parameters or {})
    written = {"name": tool.name, "input_schema": {"type": "object", "properties": {}} | schema}
    return written | ({"description": tool.description} if tool.description else {})


def _answer_tool(request: ChatRequest) -> list[dict[str, Any]]:
    """JSON that must fit a schema is asked for as the input of a tool that must be called.

    Where another tool must be, there is no answer yet.
    """
    wish, choice = request.json_format, request.tool_choice
    if wish is None or (request.tools and choice is not None and choice.mode in ("required", "tool")):
        return []
    schema = dict(wish.schema) if wish.schema is not None else {"type": "object"}
    if schema.get("type") != "object":
        raise CannotCarry("A JSON answer must be an object on this upstream.", "response_format")
    says = wish.description or "Gives the answer to the user, in the form that was asked for."
    return [{"name": ANSWER_TOOL, "description": says, "input_schema": schema}]


def _tool_choice(request: ChatRequest) -> dict[str, Any] | None:
    choice = request.tool_choice
    if request.json_format is not None:
        if not request.tools or (choice and choice.mode == "none"):
            return {"type": "tool", "name": ANSWER_TOOL, "disable_parallel_tool_use": True}
        written: dict[str, Any] = {"type": "any"}
    elif choice is None or not request.tools:
        written = {"type": "auto"}
    else:
        written = {"type": {"required": "any"}.get(choice.mode, choice.mode)}
    if choice is not None and choice.mode == "tool":
        written = {"type": "tool", "name": choice.name}
    if request.parallel_tool_calls is False and written["type"] != "none":
        written["disable_parallel_tool_use"] = True
    return written if request.tools and written != {"type": "auto"} else None
