"""OpenAI Chat Completions (`POST /v1/chat/completions`), both halves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.capabilities import Capability, Needs
from providers.conversation import (
    Answer,
    CachePoint,
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
from providers.languages.errors import chunk_document
from providers.languages.fields import (
    expect_count,
    expect_flag,
    expect_model,
    expect_number,
    expect_stop,
    expect_text,
    expect_usage_wish,
    expect_whole,
    index_in,
    object_in,
    objects_in,
    text_in,
)
from providers.languages.language import BadRequest, Envelope, Reader, Stamp, Writer
from providers.languages.openai import OpenAILanguage, OpenAIWriter, sse
from providers.wire.errors import CannotCarry, ProviderError
from providers.wire.frames import sse_data

NAME = "openai_chat"
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
READ = frozenset(
    (
        "model messages stream stream_options max_tokens max_completion_tokens temperature top_p stop n seed "
        "presence_penalty frequency_penalty tools tool_choice parallel_tool_calls response_format "
        "reasoning_effort user"
    ).split()
)
# Fields that change what the answer is. Whoever cannot carry them refuses; all others may be dropped.
INDISPENSABLE = frozenset(
    ("logprobs top_logprobs logit_bias functions function_call audio modalities prediction web_search_options").split()
)


class OpenAIChat(OpenAILanguage):
    name = NAME
    work = "chat"

    # -- server half --

    def peek(self, body: Mapping[str, Any]) -> Envelope:
        model = expect_model(body)
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise BadRequest("'messages' must be a list of at least one message.", "messages")
        for index, message in enumerate(messages):
            if not isinstance(message, dict):
                raise BadRequest("A message must be an object.", f"messages[{index}]")
            if message.get("role") not in ROLES:
                raise BadRequest(f"'role' must be one of {', '.join(ROLES)}.", f"messages[{index}].role")
        limits = [expect_count(body, "max_completion_tokens"), expect_count(body, "max_tokens")]
        return Envelope(
            model,
            stream=expect_flag(body, "stream"),
            include_usage=expect_usage_wish(body),
            max_tokens=limits[0] or limits[1],
            user=expect_text(body, "user"),
        )

    def needs(self, body: Mapping[str, Any]) -> Needs:
        needs: dict[Capability, str] = {}
        if body.get("tools"):
            needs["tools"] = "tools"
        if body.get("reasoning_effort") not in (None, "none"):
            needs["thinking"] = "reasoning_effort"
        if isinstance(wish := body.get("response_format"), dict) and wish.get("type") == "json_schema":
            needs["json_schema"] = "response_format"
        for index, message in enumerate(body["messages"]):
            content = message.get("content")
            if isinstance(content, list) and any(isinstance(p, dict) and p.get("type") == "image_url" for p in content):
                needs["images"] = f"messages[{index}].content"
        return needs

    def parse_request(self, body: Mapping[str, Any]) -> ChatRequest:
        envelope = self.peek(body)
        extras = {name: value for name, value in body.items() if name not in READ and value is not None}
        return ChatRequest(
            model=envelope.model,
            messages=tuple(_message(item, f"messages[{index}]") for index, item in enumerate(body["messages"])),
            language=NAME,
            stream=envelope.stream,
            include_usage=envelope.include_usage,
            max_tokens=envelope.max_tokens,
            temperature=expect_number(body, "temperature"),
            top_p=expect_number(body, "top_p"),
            stop=expect_stop(body),
            n=expect_count(body, "n"),
            seed=expect_whole(body, "seed"),
            presence_penalty=expect_number(body, "presence_penalty"),
            frequency_penalty=expect_number(body, "frequency_penalty"),
            tools=_tools(body.get("tools")),
            tool_choice=_tool_choice(body.get("tool_choice")),
            parallel_tool_calls=expect_flag(body, "parallel_tool_calls")
            if body.get("parallel_tool_calls") is not None
            else None,
            json_format=_json_format(body.get("response_format")),
            reasoning_effort=expect_text(body, "reasoning_effort"),
            user=envelope.user,
            extras=extras,
            indispensable=frozenset(name for name in INDISPENSABLE & extras.keys() if extras[name] is not False),
        )

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
            raise CannotCarry(f"'{name}' cannot be carried to this upstream.", name)
        body["model"] = model
        body["messages"] = [written for message in request.messages for written in _write_message(message)]
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
            "user": request.user,
        }
        body.update((name, value) for name, value in fields.items() if value is not None)
        return body

    def dropped(self, request: ChatRequest) -> list[str]:
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
            if body.get(name) is not None and body[name] > limit
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


# -- requests, read --


def _message(item: Mapping[str, Any], at: str) -> Message:
    role, content = item["role"], item.get("content")
    if role == "function":
        raise BadRequest("The role 'function' is out of use. Send a 'tool' message.", f"{at}.role")
    parts: list[Part] = []
    if role == "assistant" and (thinking := item.get("reasoning_content")):
        parts.append(Thinking(str(thinking)))
    parts += _parts(content, f"{at}.content", optional=role == "assistant")
    if role == "tool":
        call = item.get("tool_call_id")
        if not isinstance(call, str):
            raise BadRequest("A tool message must name its 'tool_call_id'.", f"{at}.tool_call_id")
        results = tuple(part for part in parts if isinstance(part, (Text, Image)))
        if any(isinstance(part, Opaque) for part in parts):
            raise CannotCarry("A tool's answer can hold text and images alone on this upstream.", f"{at}.content")
        return Message("tool", (ToolResult(call, results),))
    if role == "assistant":
        for field in ("function_call", "audio"):
            if item.get(field) is not None:
                raise CannotCarry(f"'{field}' cannot be carried to this upstream.", f"{at}.{field}")
        if refusal := text_in(item, "refusal"):
            parts.append(Text(refusal))
        calls = item.get("tool_calls") or []
        if not isinstance(calls, list):
            raise BadRequest("'tool_calls' must be a list.", f"{at}.tool_calls")
        parts += [_tool_call(call, f"{at}.tool_calls[{index}]") for index, call in enumerate(calls)]
    name = item.get("name")
    return Message("system" if role == "developer" else role, tuple(parts), name if isinstance(name, str) else None)


def _parts(content: object, at: str, optional: bool) -> list[Part]:
    if isinstance(content, str):
        return [Text(content)]
    if content is None and optional:
        return []
    if not isinstance(content, list):
        raise BadRequest("'content' must be a string or a list of parts.", at)
    return [read for index, part in enumerate(content) for read in _marked_part(part, f"{at}[{index}]")]


def _marked_part(part: object, at: str) -> list[Part]:
    """A part, and the mark it may carry that what stands up to here should be cached."""
    mark = part.get("cache_control") if isinstance(part, dict) else None
    if not isinstance(mark, dict):
        return [_part(part, at)]
    return [_part(part, at), CachePoint(text_in(mark, "ttl") or None)]


def _part(part: object, at: str) -> Part:
    if not isinstance(part, dict):
        raise BadRequest("A part must be an object.", at)
    match part.get("type"):
        case "text" if isinstance(part.get("text"), str):
            return Text(part["text"])
        case "refusal" if isinstance(part.get("refusal"), str):
            return Text(part["refusal"])
        case "image_url" if isinstance(part.get("image_url"), dict) and isinstance(part["image_url"].get("url"), str):
            return Image(part["image_url"]["url"], part["image_url"].get("detail"))
        case "text" | "refusal" | "image_url" | None:
            raise BadRequest("This part is not complete.", at)
    return Opaque(NAME, part)


def _tool_call(call: object, at: str) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        raise BadRequest("A tool call must hold a 'function'.", at)
    id, name, arguments = call.get("id"), function.get("name"), function.get("arguments")
    if not (isinstance(id, str) and isinstance(name, str) and isinstance(arguments, str)):
        raise BadRequest("A tool call must hold 'id', 'function.name' and 'function.arguments' as strings.", at)
    return ToolCall(id, name, arguments)


def _tools(tools: object) -> tuple[Tool, ...]:
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise BadRequest("'tools' must be a list.", "tools")
    read = []
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRequest("A tool must be a function with a 'name'.", f"tools[{index}]")
        read.append(
            Tool(function["name"], function.get("description"), function.get("parameters"), function.get("strict"))
        )
    return tuple(read)


def _tool_choice(choice: object) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(choice)
        case {"type": "function", "function": {"name": str(name)}}:
            return ToolChoice("tool", name)
    raise BadRequest("'tool_choice' must be auto, none, required, or name a function.", "tool_choice")


def _json_format(value: Any) -> JSONFormat | None:
    match value:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return JSONFormat()
        case {"type": "json_schema", "json_schema": {"schema": dict()} as wish}:
            return JSONFormat(wish["schema"], wish.get("name"), wish.get("strict"), wish.get("description"))
    raise BadRequest("'response_format' must be text, json_object or json_schema.", "response_format")


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
                if len(texts) != len(result):
                    raise CannotCarry("A tool result cannot hold an image on this upstream.", "messages")
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
                    raise CannotCarry("A part of a message cannot be carried to this upstream.", "messages")
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
