"""Anthropic Messages (`POST /v1/messages`), both halves. How requests are read stands in `anthropic_requests`.

Source of the wire facts: Anthropic API reference, Messages and streaming; for Bedrock and Snowflake their contracts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from providers.capabilities import Needs
from providers.conversation import (
    Answer,
    CachePoint,
    ChatRequest,
    Choice,
    Image,
    Opaque,
    Part,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)
from providers.documents import dumps
from providers.languages import anthropic_requests as requests
from providers.languages.anthropic_events import (
    ANSWER_TOOL,
    NAME,
    STOP_REASONS,
    MessagesReader,
    MessagesTap,
    MessagesWriter,
    call_id,
    finish,
    message,
    read_usage,
    write_error,
)
from providers.languages.end_users import opaque
from providers.languages.errors import answer_document
from providers.languages.fields import json_in, object_in, objects_in, text_in
from providers.languages.language import Envelope, Fault, Language, Reader, Stamp, Tap, Writer
from providers.languages.messages import (
    arguments_object,
    claude_signed,
    data_url,
    foreign,
    is_whole_object,
    system_parts,
    turns,
)
from providers.languages.model_names import with_model
from providers.languages.thinking import claude_limits, claude_version
from providers.wire.errors import CannotCarry, ProviderError, cannot_carry

__all__ = ["ANSWER_TOOL", "NAME", "AnthropicMessages"]

MAX_TOKENS = 4096  # the upstream demands a number; a route's ceiling is better
NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
THOUGHTS = ("thinking", "redacted_thinking")
# Later models choose themselves how much to think, by an effort; the latest take neither budgets nor sampling.
THINKS_BY_EFFORT = (4, 6)
NOT_SAMPLED = (4, 7)


class AnthropicMessages(Language):
    name = NAME
    work = "chat"
    passes = ("anthropic-version", "anthropic-beta")
    words = requests.WORDS
    drops: ClassVar[tuple[str, ...]] = ("seed", "presence_penalty", "frequency_penalty")
    takes: ClassVar[frozenset[str] | None] = None  # fields the middle has no word for; None: whatever a caller sends

    # -- server half --

    def peek(self, body: Mapping[str, Any]) -> Envelope:
        return requests.peek(body)

    def needs(self, body: Mapping[str, Any]) -> Needs:
        return requests.needs(body)

    def parse_request(self, body: Mapping[str, Any]) -> ChatRequest:
        return requests.parse(body)

    def write_answer(self, answer: Answer, stamp: Stamp, request: ChatRequest | None = None) -> bytes:
        choice = next(iter(answer.choices), Choice((), "stop"))
        written = (_answered(part, choice, stamp, number) for number, part in enumerate(choice.parts))
        content = [block for blocks in written for block in blocks]
        return dumps(message(stamp, content, STOP_REASONS[choice.finish_reason], answer.usage))

    def writer(self, stamp: Stamp, include_usage: bool, request: ChatRequest | None = None) -> Writer:
        return MessagesWriter(stamp)

    def write_error(self, fault: Fault, request_id: str) -> bytes:
        return dumps(write_error(fault, request_id))

    # -- client half --

    def write_request(self, request: ChatRequest, model: str) -> dict[str, Any]:
        own = self._own(request, model)
        _refuse(request, request.indispensable - own.keys())
        limit, thinking = claude_limits(request, MAX_TOKENS)
        body: dict[str, Any] = {
            **own,
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
            body["metadata"] = {"user_id": request.user if request.language == NAME else opaque(request.user)}
        return body

    def _own(self, request: ChatRequest, model: str = "") -> dict[str, Any]:
        """What a caller of this very language sent that the middle has no word for."""
        if request.language != NAME:
            return {}
        sampled = claude_version(model) < NOT_SAMPLED and not claude_limits(request, MAX_TOKENS)[1]
        return {
            name: value
            for name, value in request.extras.items()
            if (name in self.takes if self.takes is not None else not name.startswith(requests.UNSEEN))
            and (sampled or name != "top_k")
        }

    def dropped(self, request: ChatRequest, model: str) -> list[str]:
        own = self._own(request, model)
        dropped = [name for name in super().dropped(request, model) if name not in own]
        _, thinking = claude_limits(request, MAX_TOKENS)
        carried = {} if thinking or claude_version(model) >= NOT_SAMPLED else _sampling(request)
        given = [name for name in ("temperature", "top_p") if getattr(request, name) is not None]
        dropped += [name for name in given if name not in carried]
        if not thinking and request.reasoning_effort not in (None, "none", "minimal"):
            dropped.append("reasoning_effort")
        return dropped

    def read_answer(self, document: Any, request: ChatRequest | None = None) -> Answer:
        reason = text_in(document, "stop_reason")
        if not reason:
            raise ProviderError("The upstream's answer does not say why it ended.", kind="broken")
        parts = tuple(part for block in objects_in(document, "content") if (part := _read_block(block)))
        calls = sum(isinstance(part, ToolCall) for part in parts)
        usage = next(iter(read_usage(object_in(document, "usage"))), None)
        return Answer((Choice(parts, finish(reason, calls)),), usage)

    def reader(self, request: ChatRequest | None = None) -> Reader:
        return MessagesReader()

    # -- straight through --

    def readdress(self, body: dict[str, Any], envelope: Envelope, model: str, ask_usage: bool) -> dict[str, Any]:
        return {**requests.without_foreign_thoughts(body), "model": model}

    def clamp(self, body: dict[str, Any], limit: int) -> tuple[dict[str, Any], str | None]:
        return requests.clamp(body, limit)

    def tap(self, model: str | None, include_usage: bool) -> Tap:
        return MessagesTap(model)

    def pass_answer(self, body: bytes, model: str | None) -> tuple[bytes, Usage | None]:
        document = answer_document(body)
        reason = text_in(document, "stop_reason")
        if not reason or not isinstance(document.get("content"), list):
            raise ProviderError("The upstream's answer holds no message, or not why it ended.", kind="broken")
        usage = next(iter(read_usage(object_in(document, "usage"))), None)
        return with_model(body, document, model), usage


# -- answers, read and written --


def _read_block(block: Mapping[str, Any]) -> Part | None:
    """Each block is a part of its own: a signature holds for the thought it stands behind."""
    match block.get("type"):
        case "text":
            return Text(text_in(block, "text")) if text_in(block, "text") else None
        case "thinking":
            thought = Thinking(text_in(block, "thinking"), text_in(block, "signature") or None)
            return thought if thought.text or thought.signature else None
        case "tool_use" if block.get("name") == ANSWER_TOOL:
            return Text(json_in(block, "input"))
        case "tool_use":
            return ToolCall(text_in(block, "id"), text_in(block, "name"), json_in(block, "input"))
        case str():
            return Opaque(NAME, block)
    return None


def _answered(part: Part, choice: Choice, stamp: Stamp, number: int) -> Iterator[dict[str, Any]]:
    match part:
        case Text(text):
            yield {"type": "text", "text": text}
        case Thinking(text, signature):
            yield {"type": "thinking", "thinking": text, "signature": signature or ""}
        case ToolCall(id, name):
            written = {"type": "tool_use", "id": call_id(id, stamp, number), "name": name}
            # What was cut in the middle is no call, as the answer says itself.
            cut = choice.finish_reason == "length" and not is_whole_object([part.arguments])
            yield {**written, "input": {} if cut else arguments_object(part)}
        case Opaque(language, value) if language == NAME:
            yield dict(value)


# -- requests, written --


def _refuse(request: ChatRequest, lost: Iterable[str]) -> None:
    if (request.n or 1) > 1:
        raise CannotCarry("This upstream gives one answer.", "n")
    for name in sorted(lost):
        raise cannot_carry(name)
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
    words = next((at for at, part in enumerate(parts) if not isinstance(part, (ToolResult, CachePoint))), len(parts))
    if any(isinstance(part, ToolResult) for part in parts[words:]):
        parts = tuple(sorted(parts, key=lambda part: not isinstance(part, ToolResult)))
    blocks = _blocks(parts)
    while blocks and blocks[-1]["type"] in THOUGHTS:
        blocks.pop()  # it refuses thoughts that nothing follows
    return blocks


def _blocks(parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, CachePoint):
            if blocks and blocks[-1]["type"] not in THOUGHTS:
                blocks[-1]["cache_control"] = _mark(part)
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
        case ToolResult(id, content, failed):
            answered = {"type": "tool_result", "tool_use_id": _id(id), "content": _blocks(content)}
            yield answered | ({"is_error": True} if failed else {})
        case Thinking(text, signature) if claude_signed(part):
            yield {"type": "thinking", "thinking": text, "signature": signature}
        case Opaque(language, value):
            if language != NAME:
                raise foreign(part)
            yield dict(value)


def _mark(point: CachePoint) -> dict[str, str]:
    return {"type": "ephemeral"} | ({"ttl": point.ttl} if point.ttl else {})


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
    written: dict[str, Any] = {"name": tool.name, "input_schema": {"type": "object", "properties": {}} | schema}
    if tool.description:
        written["description"] = tool.description
    return written | ({"cache_control": _mark(tool.cache)} if tool.cache else {})


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
