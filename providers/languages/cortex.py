"""Snowflake's own formats: `inference:complete` (legacy) and `inference:embed`, the half that upstreams speak.

Source: Snowflake Cortex REST, cortex-inference.yaml and cortex-embed.yaml; the deltas as its documentation shows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from providers.conversation import (
    Answer,
    ChatRequest,
    EmbeddingRequest,
    Embeddings,
    Event,
    Finished,
    FinishReason,
    Image,
    Opaque,
    Part,
    Role,
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
from providers.languages import openai
from providers.languages.errors import chunk_document
from providers.languages.fields import count_in, json_in, object_in, objects_in, text_in
from providers.languages.language import EmbeddingLanguage, Language, Reader
from providers.languages.messages import (
    arguments_object,
    call_names,
    data_url,
    foreign,
    pictures_beside,
    system_parts,
    turns,
)
from providers.languages.thinking import claude_limits
from providers.wire.errors import CannotCarry, ProviderError, cannot_carry
from providers.wire.frames import sse_data

MOST_TOKENS = 16_384
DEFAULT_TOKENS = 4096  # what the upstream takes when it is told nothing
EFFORTS: Mapping[str, str] = {"minimal": "low", "low": "low", "medium": "medium"} | dict.fromkeys(
    ("high", "xhigh", "max"), "high"
)

FINISH_REASONS: Mapping[str, FinishReason] = {
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "prohibited_content": "content_filter",  # Cortex Guard
}


class Cortex(Language):
    name = "cortex"
    work = "chat"
    drops = ("seed", "presence_penalty", "frequency_penalty", "parallel_tool_calls", "user")

    def write_request(self, request: ChatRequest, model: str) -> dict[str, Any]:
        _refuse(request)
        body: dict[str, Any] = {"model": model, "messages": _messages(request, model), "stream": request.stream}
        if request.max_tokens is not None:
            body["max_tokens"] = min(request.max_tokens, MOST_TOKENS)
        if request.reasoning_effort is not None:
            body |= _thinking(request, model)
        if request.temperature is not None:
            body["temperature"] = min(request.temperature, 1)
        if request.top_p is not None:
            body["top_p"] = request.top_p
        choice = request.tool_choice
        # There is no word for "none": without tools nothing can be called.
        if request.tools and not (choice and choice.mode == "none"):
            body["tools"] = [_write_tool(tool) for tool in request.tools]
            if choice is not None:
                named = {"type": "tool", "name": [choice.name]}
                body["tool_choice"] = named if choice.mode == "tool" else {"type": choice.mode}
        if request.json_format is not None:
            body["response_format"] = {"type": "json", "schema": request.json_format.schema or {"type": "object"}}
        return body

    def read_answer(self, document: Any, request: ChatRequest | None = None) -> Answer:
        choices = objects_in(document, "choices")
        if not choices:
            raise ProviderError("The upstream's answer holds no choices.", kind="broken")
        if not (message := object_in(choices[0], "message")):
            raise ProviderError("The upstream's answer holds a choice without a message.", kind="broken")
        reading = _Reading()
        events = reading.pieces(message) + reading.rest()
        stated = text_in(document, "finish_reason") or text_in(choices[0], "finish_reason")
        usage = _usage(document)
        events.append(Finished(reading.finish(stated, usage.output if usage else 0, request)))
        return Answer.collect([*events, usage] if usage else events)

    def reader(self, request: ChatRequest | None = None) -> Reader:
        return CortexReader(request)


class CortexReader(Reader):
    """Events without an end mark: an empty delta with the usage is the last."""

    def __init__(self, request: ChatRequest | None) -> None:
        self._request = request
        self._reading = _Reading()
        self._stated = ""
        self._made = 0
        self._complete = False  # as far as is known: an empty piece may also come before the last

    def read_frame(self, frame: bytes) -> list[Event]:
        data = sse_data(frame)
        if data is None or data.strip() == b"[DONE]":
            return []
        document = chunk_document(data)
        events: list[Event] = []
        for choice in objects_in(document, "choices")[:1]:
            events += self._reading.pieces(object_in(choice, "delta"))
            self._stated = text_in(choice, "finish_reason") or self._stated
        self._stated = text_in(document, "finish_reason") or self._stated
        usage = _usage(document)
        self._complete = bool(self._stated or (usage and not events))
        if usage is None:
            return events
        self._made = usage.output
        return [*events, usage]

    def read_end(self) -> list[Event]:
        if not self._complete:
            raise ProviderError("The upstream's answer ended before it was complete.", kind="cut")
        return [*self._reading.rest(), Finished(self._reading.finish(self._stated, self._made, self._request))]


class _Reading:
    """What a message or its deltas hold. A piece that names a call opens it; input alone belongs to the open one."""

    def __init__(self) -> None:
        self._calls = 0
        self._open = ""  # the id of the last call
        self._silent = False  # none of its input has come

    def pieces(self, delta: Mapping[str, Any]) -> list[Event]:
        listed = objects_in(delta, "content_list")
        events = [event for item in listed for event in self._piece(item)]
        if not listed:
            return list(self._piece(delta))
        # What stands beside the list repeats it; but some lists leave the text out.
        if not any(isinstance(event, TextDelta) for event in events) and (text := text_in(delta, "content", "text")):
            events.insert(0, TextDelta(text))
        return events

    def _piece(self, item: Mapping[str, Any]) -> Iterator[Event]:
        call = object_in(item, "tool_use") if isinstance(item.get("tool_use"), dict) else item
        thinking, reasoning = object_in(item, "thinking"), object_in(item, "reasoning")
        thought, signature = text_in(thinking, "thinking"), text_in(thinking, "signature")
        if thought or signature:
            yield ThinkingDelta(thought, signature or None)
        if summary := text_in(reasoning, "summary"):
            yield ThinkingDelta(summary)
        if text := text_in(item, "text", "content"):
            yield TextDelta(text)
        if (id := text_in(call, "tool_use_id")) and id != self._open:
            yield from self.rest()
            self._calls, self._open, self._silent = self._calls + 1, id, True
            yield ToolCallDelta(self._calls - 1, id, text_in(call, "name"))
        given = call.get("input")
        arguments = given if isinstance(given, str) else json_in(call, "input") if given else ""
        if arguments and self._calls:
            self._silent = False
            yield ToolCallDelta(self._calls - 1, arguments=arguments)

    def rest(self) -> list[Event]:
        """What is still owed: a call without input has an empty one."""
        owed, self._silent = self._silent, False
        return [ToolCallDelta(self._calls - 1, arguments="{}")] if owed else []

    def finish(self, stated: str, made: int, request: ChatRequest | None) -> FinishReason:
        """The upstream rarely says why it ended: a call, or as many tokens as it was allowed, tell it."""
        reason = FINISH_REASONS.get(stated)
        if reason in ("length", "content_filter"):
            return reason
        if not stated and request is not None and made >= _limit(request):
            return "length"
        return "tool_calls" if self._calls else "stop"


class CortexEmbed(EmbeddingLanguage):
    """`POST /api/v2/cortex/inference:embed`."""

    name = "cortex_embed"
    work = "embedding"

    def write_embedding_request(self, request: EmbeddingRequest, model: str) -> dict[str, Any]:
        if request.dimensions is not None:
            raise CannotCarry("The size of the vectors is fixed on this upstream.", "dimensions")
        if not all(isinstance(item, str) for item in request.inputs):
            raise CannotCarry("This upstream reads texts, not token ids.", "input")
        return {"model": model, "text": list(request.inputs)}

    def read_embeddings(self, document: Any) -> Embeddings:
        rows = sorted(objects_in(document, "data"), key=lambda row: count_in(row, "index"))
        if not rows:
            raise ProviderError("The upstream's answer holds no vectors.", kind="broken")
        usage = object_in(document, "usage")
        # There it is the whole that is counted, and all of it was input.
        counted = openai.read_usage({"prompt_tokens": count_in(usage, "total_tokens")}) if usage else None
        return Embeddings(tuple(_vector(row.get("embedding")) for row in rows), counted)


def _vector(value: object) -> tuple[float, ...]:
    """The vector comes as the only item of a list."""
    inner = value[0] if isinstance(value, list) and value and isinstance(value[0], list) else value
    if isinstance(inner, list) and all(isinstance(number, (int, float)) for number in inner):
        return tuple(inner)
    raise ProviderError("The upstream sent a vector in an unknown form.", kind="broken")


def _usage(document: Mapping[str, Any]) -> Usage | None:
    usage = object_in(document, "usage")
    if not usage:
        return None
    read, written = count_in(usage, "cache_read_input_tokens"), count_in(usage, "cache_write_input_tokens")
    return openai.read_usage({**usage, "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written}})


def _refuse(request: ChatRequest) -> None:
    if (request.n or 1) > 1:
        raise CannotCarry("This upstream gives one answer.", "n")
    if request.stop:
        raise CannotCarry("This upstream knows no stop sequences.", "stop")
    if request.indispensable:
        name = min(request.indispensable)
        raise cannot_carry(name)


def _thinking(request: ChatRequest, model: str) -> dict[str, Any]:
    """In the words of the model's maker; the others' models have none."""
    if model.startswith("openai-"):
        effort = EFFORTS.get(request.reasoning_effort or "")
        return {"openai": {"reasoning": {"effort": effort}}} if effort else {}
    limit, thinking = _limits(request)
    if not thinking or not model.startswith("claude"):
        return {}
    return {"max_tokens": limit, "anthropic": {"thinking": {"budget_tokens": thinking}}}


def _limit(request: ChatRequest) -> int:
    """As many tokens may have been made."""
    limit, thinking = _limits(request)
    return limit if thinking else min(request.max_tokens or DEFAULT_TOKENS, MOST_TOKENS)


def _limits(request: ChatRequest) -> tuple[int, int]:
    """Earlier thoughts are not written, so that Claude cannot go on with them once a tool has answered."""
    written = tuple(
        replace(message, parts=tuple(part for part in message.parts if not isinstance(part, Thinking)))
        for message in request.messages
    )
    return claude_limits(replace(request, messages=written), DEFAULT_TOKENS, MOST_TOKENS)


def _messages(request: ChatRequest, model: str) -> list[dict[str, Any]]:
    """One system message in front, then user and assistant by turns, a user's last."""
    names = call_names(request.messages)
    taken = turns(
        pictures_beside(request.messages), lambda parts: [item for part in parts for item in _item(part, names, model)]
    )
    if taken[-1][0] != "user":
        raise CannotCarry("The conversation must end with a user's message on this upstream.", "messages")
    said = [part.text for part in system_parts(request.messages) if isinstance(part, Text) and part.text.strip()]
    system = [{"role": "system", "content": "\n\n".join(said)}] if said else []
    return system + [_write_turn(role, items) for role, items in taken]


def _write_turn(role: Role, items: list[dict[str, Any]]) -> dict[str, Any]:
    texts = [item["text"] for item in items if item["type"] == "text"]
    if len(texts) == len(items):
        return {"role": role, "content": "\n\n".join(texts)}
    if role == "assistant":
        others = [item for item in items if item["type"] != "text"]
        return {"role": role, "content": "\n\n".join(texts), "content_list": others}
    return {"role": role, "content_list": items}


def _item(part: Part, names: Mapping[str, str], model: str) -> Iterator[dict[str, Any]]:
    match part:
        case Text(text) if text.strip():
            yield {"type": "text", "text": text}
        case Image(_, detail):
            media_type, data = data_url(part)
            details = {"type": "base64", "content": data, "content_type": media_type}
            known = detail and model.startswith("openai-")
            yield {"type": "image", "details": details | ({"detail": detail} if known else {})}
        case ToolCall(id, name):
            use = {"tool_use_id": id, "name": name, "input": arguments_object(part)}
            yield {"type": "tool_use", "tool_use": use}
        case ToolResult(id, content):
            if id not in names:
                raise CannotCarry("A tool result must follow the call that it answers.", "messages")
            texts = [{"type": "text", "text": piece.text} for piece in content or [Text("")] if isinstance(piece, Text)]
            result = {"tool_use_id": id, "name": names[id], "content": texts, "status": "success"}
            yield {"type": "tool_results", "tool_results": result}
        case Opaque():
            raise foreign(part)
        case Thinking():
            return  # its place in this format is not documented


def _write_tool(tool: Tool) -> dict[str, Any]:
    spec: dict[str, Any] = {"type": "generic", "name": tool.name}
    if tool.description:
        spec["description"] = tool.description
    spec["input_schema"] = {"type": "object", "properties": {}} | dict(tool.parameters or {})
    return {"tool_spec": spec}
