"""How requests of OpenAI chat completions are read.

Source of the wire facts: OpenAI API reference, Chat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.capabilities import Capability, Needs
from providers.conversation import (
    CachePoint,
    ChatRequest,
    Image,
    JSONFormat,
    Message,
    Opaque,
    Part,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from providers.languages.fields import (
    asks_nothing,
    expect_count,
    expect_flag,
    expect_function,
    expect_limit,
    expect_model,
    expect_number,
    expect_stop,
    expect_text,
    expect_usage_wish,
    expect_whole,
    text_in,
)
from providers.languages.language import BadRequest, Envelope
from providers.wire.errors import CannotCarry

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


def peek(body: Mapping[str, Any]) -> Envelope:
    model = expect_model(body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list of at least one message.", "messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise BadRequest("A message must be an object.", f"messages[{index}]")
        if message.get("role") not in ROLES:
            raise BadRequest(f"'role' must be one of {', '.join(ROLES)}.", f"messages[{index}].role")
    limits = [expect_limit(body, "max_completion_tokens"), expect_limit(body, "max_tokens")]
    return Envelope(
        model,
        stream=expect_flag(body, "stream"),
        include_usage=expect_usage_wish(body),
        max_tokens=limits[0] or limits[1],
        user=expect_text(body, "user"),
    )


def needs(body: Mapping[str, Any]) -> Needs:
    found: dict[Capability, str] = {}
    if body.get("tools"):
        found["tools"] = "tools"
    if body.get("reasoning_effort") not in (None, "none"):
        found["thinking"] = "reasoning_effort"
    if isinstance(wish := body.get("response_format"), dict) and wish.get("type") == "json_schema":
        found["json_schema"] = "response_format"
    for index, message in enumerate(body["messages"]):
        content = message.get("content")
        if isinstance(content, list) and any(isinstance(p, dict) and p.get("type") == "image_url" for p in content):
            found["images"] = f"messages[{index}].content"
    return found


def parse(body: Mapping[str, Any]) -> ChatRequest:
    """Raises BadRequest or CannotCarry."""
    envelope = peek(body)
    extras = {name: value for name, value in body.items() if name not in READ and value is not None}
    return ChatRequest(
        model=envelope.model,
        messages=tuple(_message(item, f"messages[{index}]") for index, item in enumerate(body["messages"])),
        language=NAME,
        stream=envelope.stream,
        max_tokens=envelope.max_tokens,
        temperature=expect_number(body, "temperature"),
        top_p=expect_number(body, "top_p"),
        stop=expect_stop(body),
        n=expect_count(body, "n"),
        seed=expect_whole(body, "seed"),
        presence_penalty=expect_number(body, "presence_penalty"),
        frequency_penalty=expect_number(body, "frequency_penalty"),
        tools=_tools(body.get("tools")),
        tool_choice=None if body.get("tools") == [] else _tool_choice(body.get("tool_choice")),
        parallel_tool_calls=expect_flag(body, "parallel_tool_calls")
        if body.get("parallel_tool_calls") is not None
        else None,
        json_format=_json_format(body.get("response_format")),
        reasoning_effort=expect_text(body, "reasoning_effort"),
        user=envelope.user,
        extras=extras,
        indispensable=frozenset(name for name in INDISPENSABLE & extras.keys() if not asks_nothing(name, extras[name])),
    )


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
    return tuple(
        expect_function(tool.get("function") if isinstance(tool, dict) else None, f"tools[{index}].function")
        for index, tool in enumerate(tools)
    )


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
