"""Ollama's chat (`POST /api/chat`), both halves. A call's arguments are an object, and ids may be missing.

Source of the wire facts: Ollama API reference (ollama/ollama, docs/api.md), api/types.go and server/routes.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.capabilities import Needs
from providers.conversation import (
    ChatRequest,
    Image,
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
from providers.documents import dumps
from providers.languages.fields import expect_function
from providers.languages.language import BadRequest
from providers.languages.messages import arguments_object, call_names, foreign, pictures_beside
from providers.languages.ollama_fields import (
    PromptLanguage,
    expect_list,
    read_images,
    refuse,
    write_fields,
    write_image,
)
from providers.wire.errors import CannotCarry

NAME = "ollama_chat"
ROLES = ("system", "user", "assistant", "tool")
READ = frozenset("model messages stream format options tools think".split())
INDISPENSABLE = frozenset(("logprobs", "top_logprobs"))


class OllamaChat(PromptLanguage):
    name = NAME
    work = "chat"
    read_fields = READ
    indispensable = INDISPENSABLE

    # -- server half --

    def check(self, body: Mapping[str, Any]) -> None:
        for index, message in enumerate(expect_list(body, "messages")):
            if not isinstance(message, dict):
                raise BadRequest("A message must be an object.", f"messages[{index}]")
            role = message.get("role")
            if not isinstance(role, str) or role.lower() not in ROLES:
                raise BadRequest(f"'role' must be one of {', '.join(ROLES)}.", f"messages[{index}].role")

    def asks_nothing(self, body: Mapping[str, Any]) -> bool:
        """Without messages the model is only to be loaded, or unloaded."""
        return not body.get("messages")

    def say(self, text: str, more: Mapping[str, Any]) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, **more}}

    def needs(self, body: Mapping[str, Any]) -> Needs:
        needs = dict(super().needs(body))
        if body.get("tools"):
            needs["tools"] = "tools"
        for index, message in enumerate(body.get("messages") or []):
            if message.get("images"):
                needs["images"] = f"messages[{index}].images"
        return needs

    def messages(self, body: Mapping[str, Any]) -> tuple[Message, ...]:
        conversation = _Conversation()
        for index, item in enumerate(expect_list(body, "messages")):
            conversation.read(item, index)
        return tuple(conversation.messages)

    def tools(self, body: Mapping[str, Any]) -> tuple[Tool, ...]:
        return tuple(_read_tool(tool, f"tools[{index}]") for index, tool in enumerate(expect_list(body, "tools")))

    # -- client half --

    def write_request(self, request: ChatRequest, model: str) -> dict[str, Any]:
        if request.language != NAME:
            refuse(request.indispensable)
        if not request.messages:
            # An empty list would load the model and answer nothing.
            raise CannotCarry("A conversation needs at least one message.", "messages")
        names = call_names(request.messages)
        messages = [
            written for message in pictures_beside(request.messages) for written in _write_message(message, names)
        ]
        body = {"model": model, "messages": messages, **write_fields(request, NAME)}
        if tools := write_tools(request):
            body["tools"] = tools
        return body

    def dropped(self, request: ChatRequest, model: str) -> list[str]:
        choice = request.tool_choice
        forced = choice is not None and choice.mode in ("required", "tool")
        return [*super().dropped(request, model), *(["tool_choice"] if forced else [])]


# -- requests, read --


class _Conversation:
    """Messages as they are read, with the calls that no tool has answered yet."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._waiting: list[ToolCall] = []

    def read(self, item: Mapping[str, Any], index: int) -> None:
        at = f"messages[{index}]"
        role = item["role"].lower()
        text, images = _text(item, "content", at), read_images(item, f"{at}.images")
        said = [Text(text)] if text else []
        if role == "tool":
            result = ToolResult(self._answered(item, at).id, (*said, *images))
            self.messages.append(Message("tool", (result,)))
            return
        parts: list[Part] = []
        if role == "assistant":
            if thinking := _text(item, "thinking", at):
                parts.append(Thinking(thinking))
            parts += [*said, *images]
            calls = expect_list(item, "tool_calls", f"{at}.tool_calls")
            made = [_read_call(call, index, number) for number, call in enumerate(calls)]
            self._waiting = made or self._waiting
            parts += made
        else:
            parts += [*said, *images]
        self.messages.append(Message(role, tuple(parts or [Text("")])))

    def _answered(self, item: Mapping[str, Any], at: str) -> ToolCall:
        """The call a tool's message answers: the one it names, or else the first that waits."""
        id, name = _text(item, "tool_call_id", at), _text(item, "tool_name", at) or _text(item, "name", at)
        named = [call for call in self._waiting if call.id == id] if id else []
        fitting = named or [call for call in self._waiting if name in ("", call.name)]
        if not fitting:
            raise CannotCarry("A tool message must answer a call of an earlier message.", at)
        # By its place: two calls may be alike.
        self._waiting = [call for call in self._waiting if call is not fitting[0]]
        return fitting[0]


def _text(item: Mapping[str, Any], name: str, at: str) -> str:
    value = item.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"'{name}' must be a string.", f"{at}.{name}")
    return value or ""


def _read_call(call: object, message: int, number: int) -> ToolCall:
    """A call without an id gets one that the same conversation will give it again."""
    function = call.get("function") if isinstance(call, dict) else None
    at = f"messages[{message}].tool_calls[{number}]"
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRequest("A tool call must hold a 'function' with a 'name'.", at)
    arguments = function.get("arguments")
    if arguments is not None and not isinstance(arguments, dict):
        raise BadRequest("The arguments of a tool call must be an object.", f"{at}.function.arguments")
    id = _text(call, "id", at) or f"call_{message}_{number}"
    return ToolCall(id, function["name"], dumps(arguments or {}).decode())


def _read_tool(tool: object, at: str) -> Tool:
    return expect_function(tool.get("function") if isinstance(tool, dict) else None, f"{at}.function")


# -- requests, written --


def write_tools(request: ChatRequest) -> list[dict[str, Any]]:
    """A server that cannot be made to call a tool is at least offered no other."""
    match request.tool_choice:
        case ToolChoice("none"):
            return []
        case ToolChoice("tool", name):
            return [_write_tool(tool) for tool in request.tools if tool.name == name]
    return [_write_tool(tool) for tool in request.tools]


def _write_tool(tool: Tool) -> dict[str, Any]:
    fields = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": {name: value for name, value in fields.items() if value is not None}}


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
                images.append(write_image(part))
            case ToolCall(id, name):
                calls.append({"id": id, "function": {"name": name, "arguments": arguments_object(part)}})
            case ToolResult():
                written.append(_write_result(part, names))
            case Opaque():
                raise foreign(part)
    if texts or thinking or images or calls or not written:
        fields = {"thinking": "".join(thinking), "images": images, "tool_calls": calls}
        body = {"role": message.role, "content": "\n".join(texts)}
        written.append({**body, **{name: value for name, value in fields.items() if value}})
    return written


def _write_result(result: ToolResult, names: Mapping[str, str]) -> dict[str, Any]:
    texts = [part.text for part in result.content if isinstance(part, Text)]
    if result.id not in names:
        raise CannotCarry("A tool result must answer a call of an earlier message.", "messages")
    return {"role": "tool", "content": "\n".join(texts), "tool_name": names[result.id], "tool_call_id": result.id}
