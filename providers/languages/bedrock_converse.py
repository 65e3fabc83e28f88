"""Amazon Bedrock's Converse, as SAP AI Core serves it, the half that upstreams speak.

Source of the wire facts: Amazon Bedrock API reference, Converse and ConverseStream; SAP AI Core's contract.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

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
from providers.documents import BadDocument, dumps, loads
from providers.languages.errors import read_error
from providers.languages.fields import count_in, object_in, objects_in, text_in
from providers.languages.language import Language, Reader
from providers.languages.messages import (
    Blocks,
    arguments_object,
    call_names,
    claude_signed,
    data_url,
    foreign,
    system_parts,
    thinking_lost,
    turns,
)
from providers.languages.thinking import LEAST_BUDGET, budget
from providers.wire.errors import CannotCarry, ProviderError, cannot_carry
from providers.wire.frames import sse_data

NAME = "bedrock_converse"
LARGEST_LITERAL = 1 << 16  # bytes; reading more would keep other calls waiting
NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
LONGEST_ID = 64
CACHE_POINT = {"cachePoint": {"type": "default"}}
IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
CHOICES = {"auto": "auto", "required": "any", "tool": "tool"}

FINISH_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
FAILURES = frozenset(["malformed_model_output", "malformed_tool_use"])

# What an exception in a stream would have been as a status; all others are failures of the upstream.
STATUSES = {
    "throttlingException": 429,
    "validationException": 400,
    "modelTimeoutException": 504,
    "serviceUnavailableException": 503,
}


class BedrockConverse(Language):
    """The address says whether to stream and which model answers; `stream` in a body is the provider's to take out."""

    name = NAME
    work = "chat"
    drops = ("seed", "presence_penalty", "frequency_penalty", "parallel_tool_calls", "user")

    def write_request(self, request: ChatRequest, model: str) -> dict[str, Any]:
        _refuse(request)
        taken = turns(request.messages, _blocks)
        body: dict[str, Any] = {"messages": [{"role": role, "content": blocks} for role, blocks in taken]}
        if request.stream:
            body["stream"] = True
        if system := _blocks(system_parts(request.messages)):
            body["system"] = system
        thinking = _thinking(request)
        if config := _inference_config(request, thinking):
            body["inferenceConfig"] = config
        if tools := _tool_config(request):
            body["toolConfig"] = tools
        if thinking:
            reasoning = {"type": "enabled", "budget_tokens": thinking}
            body["additionalModelRequestFields"] = {"reasoning_config": reasoning}
        return body

    def dropped(self, request: ChatRequest, model: str) -> list[str]:
        left_out = ("temperature", "top_p") if _thinking(request) else ("reasoning_effort",)
        return [*super().dropped(request, model), *(name for name in left_out if getattr(request, name) is not None)]

    def read_answer(self, document: Any, request: ChatRequest | None = None) -> Answer:
        message, reason = object_in(object_in(document, "output"), "message"), text_in(document, "stopReason")
        if not message or not reason:
            raise ProviderError("The upstream's answer holds no message, or not why it ended.", kind="broken")
        events: list[Event] = []
        calls = 0
        for block in objects_in(message, "content"):
            if call := object_in(block, "toolUse"):
                arguments = dumps(object_in(call, "input")).decode()
                events.append(ToolCallDelta(calls, text_in(call, "toolUseId"), text_in(call, "name"), arguments))
                calls += 1
            events += _words(block, object_in(object_in(block, "reasoningContent"), "reasoningText"))
        return Answer.collect([*events, Finished(_finish(reason, calls)), read_usage(object_in(document, "usage"))])

    def reader(self, request: ChatRequest | None = None) -> Reader:
        return ConverseReader()


class ConverseReader(Reader):
    """Blocks with their deltas, `messageStop`, then `metadata` with the counts."""

    def __init__(self) -> None:
        self._calls: dict[int, int] = {}  # block -> number of the call it holds
        self._silent: set[int] = set()  # blocks of calls whose arguments have not come
        self._finished = False

    def read_frame(self, frame: bytes) -> list[Event]:
        data = sse_data(frame)
        if data is None:
            return []
        document = _document(data)
        block = object_in(document, "contentBlockStart")
        if call := object_in(object_in(block, "start"), "toolUse"):
            return self._begin(count_in(block, "contentBlockIndex"), call)
        if block := object_in(document, "contentBlockDelta"):
            return self._go_on(count_in(block, "contentBlockIndex"), object_in(block, "delta"))
        if "contentBlockStop" in document:
            return self._end(count_in(document["contentBlockStop"], "contentBlockIndex"))
        if (reason := text_in(object_in(document, "messageStop"), "stopReason")) and not self._finished:
            self._finished = True
            return [Finished(_finish(reason, len(self._calls)))]
        if metadata := object_in(document, "metadata"):
            self.ended = self._finished
            return [read_usage(object_in(metadata, "usage"))]
        return []

    def read_end(self) -> list[Event]:
        if not self._finished:
            raise ProviderError("The upstream's answer ended before it was complete.", kind="cut")
        return []

    def _begin(self, index: int, call: Mapping[str, Any]) -> list[Event]:
        self._calls[index] = len(self._calls)
        self._silent.add(index)
        return [ToolCallDelta(self._calls[index], text_in(call, "toolUseId"), text_in(call, "name"))]

    def _go_on(self, index: int, delta: Mapping[str, Any]) -> list[Event]:
        if (piece := text_in(object_in(delta, "toolUse"), "input")) and index in self._calls:
            self._silent.discard(index)
            return [ToolCallDelta(self._calls[index], arguments=piece)]
        return _words(delta, object_in(delta, "reasoningContent"))

    def _end(self, index: int) -> list[Event]:
        """A call without arguments still owes its caller an object."""
        if index not in self._silent:
            return []
        self._silent.discard(index)
        return [ToolCallDelta(self._calls[index], arguments="{}")]


def read_usage(counts: Mapping[str, Any]) -> Usage:
    """`inputTokens` is what was neither read from the cache nor written to it."""
    cached, written = count_in(counts, "cacheReadInputTokens"), count_in(counts, "cacheWriteInputTokens")
    return Usage(
        input=count_in(counts, "inputTokens") + cached + written,
        output=count_in(counts, "outputTokens"),
        cached=cached,
        cache_write=written,
    )


def _words(block: Mapping[str, Any], thinking: Mapping[str, Any]) -> list[Event]:
    events: list[Event] = []
    thought, signature = text_in(thinking, "text"), text_in(thinking, "signature")
    if thought or signature:
        events.append(ThinkingDelta(thought, signature or None))
    if text := text_in(block, "text"):
        events.append(TextDelta(text))
    return events


def _finish(reason: str, calls: int) -> FinishReason:
    if reason in FAILURES:
        raise ProviderError("The upstream's model did not manage to write its answer.", kind="broken")
    finish = FINISH_REASONS.get(reason, "stop")
    if finish in ("stop", "tool_calls"):
        return "tool_calls" if calls else "stop"
    return finish


# -- frames --


def _document(data: bytes) -> dict[str, Any]:
    """One frame's object, in JSON or as Python writes it. Raises ProviderError."""
    try:
        document = loads(data)
    except BadDocument:
        document = _literal(data)
    if not isinstance(document, dict):
        raise ProviderError("The upstream sent a frame that holds no object.", kind="broken")
    for name, said in document.items():
        if (said and name in ("error", "message")) or str(name).endswith("Exception"):
            raise _fault(name, said)
    return document


def _literal(data: bytes) -> Any:
    try:
        if len(data) > LARGEST_LITERAL:
            raise ValueError("too large")
        return ast.literal_eval(data.decode())
    # TypeError: a list as a key. MemoryError: the parser's own bound on nesting.
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ProviderError("The upstream sent a frame that cannot be read.", kind="broken") from error


def _fault(name: str, said: object) -> ProviderError:
    """An exception by its name, or an error that says its status itself."""
    fault = said if isinstance(said, dict) else {"message": said}
    code = fault.get("code")
    status = STATUSES.get(name) or (code if isinstance(code, int) and 400 <= code < 600 else 502)
    return read_error(status, dumps({"message": text_in(fault, "message", "Message")}), "", within_answer=True)


# -- requests --


def _refuse(request: ChatRequest) -> None:
    if request.indispensable:
        name = min(request.indispensable)
        raise cannot_carry(name)
    if (request.n or 1) > 1:
        raise CannotCarry("This upstream gives one answer.", "n")
    if request.json_format is not None:
        raise CannotCarry("This upstream cannot be held to answer in JSON.", "response_format")


def _thinking(request: ChatRequest) -> int:
    """How many tokens may be spent on thinking; 0 for none.

    Thinking goes neither with a tool that must be called nor with a call whose own thinking is not at hand.
    """
    choice = request.tool_choice
    if (choice is not None and choice.mode in ("required", "tool")) or thinking_lost(request.messages):
        return 0
    wanted = budget(request.reasoning_effort)
    if request.max_tokens is not None:
        wanted = min(wanted, request.max_tokens - 1)
    return wanted if wanted >= LEAST_BUDGET else 0


def _inference_config(request: ChatRequest, thinking: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"maxTokens": request.max_tokens, "stopSequences": list(request.stop) or None}
    if not thinking:
        fields["temperature"] = min(request.temperature, 1) if request.temperature is not None else None
        fields["topP"] = request.top_p
    return {name: value for name, value in fields.items() if value is not None}


def _tool_config(request: ChatRequest) -> dict[str, Any] | None:
    """The tools; those of earlier calls are declared even where the request has left them out."""
    called, choice = dict.fromkeys(call_names(request.messages).values()), request.tool_choice
    if choice is not None and choice.mode == "none":
        if called:
            raise CannotCarry("A model that has called tools cannot be kept from it on this upstream.", "tool_choice")
        return None
    tools = request.tools or [Tool(name) for name in called]
    config: dict[str, Any] = {"tools": [{"toolSpec": _write_tool(tool)} for tool in tools]}
    if request.tools and choice is not None:
        config["toolChoice"] = {CHOICES[choice.mode]: {"name": choice.name} if choice.mode == "tool" else {}}
    return config if tools else None


def _write_tool(tool: Tool) -> dict[str, Any]:
    schema = {"type": "object", "properties": {}} | dict(tool.parameters or {})
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "inputSchema": {"json": schema}}


def _blocks(parts: tuple[Part, ...]) -> Blocks:
    blocks: Blocks = []
    for part in parts:
        match part:
            case Text(text) if text.strip():  # a blank text is refused
                blocks.append({"text": text})
            case Image():
                blocks.append(_image(part))
            case ToolCall(id, name):
                call = {"toolUseId": _id(id), "name": name, "input": arguments_object(part)}
                blocks.append({"toolUse": call})
            case ToolResult(id, content, failed):
                result: dict[str, Any] = {"toolUseId": _id(id), "content": _blocks(content)}
                blocks.append({"toolResult": result | ({"status": "error"} if failed else {})})
            case Thinking(text, signature) if claude_signed(part):
                blocks.append({"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}})
            case CachePoint() if blocks and blocks[-1] != CACHE_POINT:
                blocks.append(CACHE_POINT)
            case Opaque():
                raise foreign(part)
    return blocks


def _image(image: Image) -> dict[str, Any]:
    media_type, data = data_url(image)
    if media_type not in IMAGES:
        raise CannotCarry("An image must be a PNG, JPEG, GIF or WebP on this upstream.", "messages")
    return {"image": {"format": IMAGES[media_type], "source": {"bytes": data}}}


def _id(id: str) -> str:
    """Ids of calls may come from another upstream, with characters or a length this one refuses."""
    return NOT_IN_AN_ID.sub("_", id)[-LONGEST_ID:]
