"""The tools of OpenAI Responses: functions, alone or in namespaces, tools that take free text, and those OpenAI runs.

Elsewhere there are functions alone: one of a namespace gets a longer name, and a tool that takes text becomes a
function of one string. What each was is kept as its `Origin`, so that a call comes back as the caller declared it.

Source of the wire facts: OpenAI API reference, Responses: tools, function calls, custom tool calls; openai/codex,
codex-rs (namespaces, the item `additional_tools`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from providers.conversation import Tool, ToolCall, ToolChoice
from providers.documents import dumps, loads
from providers.languages.fields import expect_function, text_in
from providers.languages.language import BadRequest

Json = dict[str, Any]

LONGEST_NAME = 64  # characters of a function's name, at OpenAI and Anthropic alike
ONE_TEXT: Json = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
# Beside `tools`, in `extras`: what is dropped is named by its type.
HOSTED = "tools."


@dataclass(frozen=True, slots=True)
class Origin:
    """A tool as the caller declared it, in the namespace it stood in."""

    declared: Json
    namespace: Json | None = None

    @property
    def takes_text(self) -> bool:
        return bool(self.declared["type"] == "custom")

    @property
    def name(self) -> Json:
        """The fields by which a call names the tool."""
        named = {"name": self.declared["name"]}
        return named if self.namespace is None else {**named, "namespace": self.namespace["name"]}


Origins = Mapping[str, Origin]


@dataclass(slots=True)
class Declared:
    """The tools of one request; `origins` by the names that upstreams get."""

    functions: list[Tool]
    origins: dict[str, Origin]
    hosted: dict[str, list[Json]]


def read_tools(body: Mapping[str, Any]) -> Declared:
    """Raises BadRequest."""
    read = Declared([], {}, {})
    _read(body.get("tools"), "tools", read)
    for index, item in enumerate(body["input"] if isinstance(body["input"], list) else ()):
        if item.get("type") == "additional_tools":
            _read(item.get("tools"), f"input[{index}].tools", read)
    return read


def _read(tools: object, at: str, read: Declared, namespace: Json | None = None) -> None:
    if not isinstance(tools, list | None):
        raise BadRequest("'tools' must be a list.", at)
    for index, tool in enumerate(tools or ()):
        match tool:
            case {"type": "function" | "custom" as kind, "name": str(name)}:
                name = flat_name(namespace["name"] if namespace else "", name)
                if namespace is not None or kind == "custom" or name != tool["name"]:
                    read.origins[name] = Origin(tool, namespace)
                read.functions.append(_function(name, tool, f"{at}[{index}]"))
            case {"type": "namespace", "name": str(), "tools": list(inner)} if namespace is None:
                around = {field: value for field, value in tool.items() if field != "tools"}
                _read(inner, f"{at}[{index}].tools", read, around)
            case {"type": str(kind)} if kind not in ("function", "custom", "namespace"):
                read.hosted.setdefault(f"{HOSTED}{kind}", []).append(tool)
            case _:
                raise BadRequest("A tool must have a 'type', and a function a 'name'.", f"{at}[{index}]")


def _function(name: str, tool: Mapping[str, Any], at: str) -> Tool:
    if tool["type"] == "function":
        return replace(expect_function(tool, at), name=name)
    return Tool(name, _with_grammar(tool), ONE_TEXT)


def _with_grammar(tool: Mapping[str, Any]) -> str | None:
    """No other upstream can be held to a grammar, but every model can read one."""
    match tool.get("format"):
        case {"type": "grammar", "syntax": str(syntax), "definition": str(grammar)}:
            said = f"The input must follow this {syntax} grammar:\n{grammar}"
            return "\n\n".join(filter(None, (text_in(tool, "description"), said)))
    return text_in(tool, "description") or None


def flat_name(namespace: str, name: str) -> str:
    """One name for a tool and its namespace; what is too long ends with a digest."""
    flat = f"{namespace.rstrip('_')}__{name}" if namespace else name
    if len(flat) <= LONGEST_NAME:
        return flat
    return f"{flat[: LONGEST_NAME - 9]}_{sha256(flat.encode()).hexdigest()[:8]}"


def read_choice(choice: object) -> ToolChoice | None:
    """Raises BadRequest."""
    match choice:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(choice)
        case {"type": "function" | "custom", "namespace": str(namespace), "name": str(name)}:
            return ToolChoice("tool", flat_name(namespace, name))
        case {"type": "function" | "custom", "name": str(name)}:
            return ToolChoice("tool", flat_name("", name))
    raise BadRequest("'tool_choice' must be auto, none, required, or name a tool.", "tool_choice")


def read_call(item: Mapping[str, Any], at: str) -> ToolCall:
    """Raises BadRequest."""
    match item:
        case {"type": "function_call", "call_id": str(id), "name": str(name), "arguments": str(said)}:
            return ToolCall(id, flat_name(text_in(item, "namespace"), name), said)
        case {"type": "custom_tool_call", "call_id": str(id), "name": str(name), "input": str(said)}:
            return ToolCall(id, flat_name(text_in(item, "namespace"), name), dumps({"input": said}).decode())
    field = "input" if item["type"] == "custom_tool_call" else "arguments"
    raise BadRequest(f"A call must hold 'call_id', 'name' and '{field}' as strings.", at)


def free_text(arguments: str) -> str:
    """The one string of a tool that takes text; what a model wrote instead, as it wrote it."""
    try:
        document = loads(arguments.encode())
    except ValueError:  # no JSON, or not even text
        return arguments
    text = document.get("input") if isinstance(document, dict) else None
    return text if isinstance(text, str) else arguments


def write_tools(tools: Iterable[Tool], origins: Origins, own: bool) -> list[Json]:
    """Tools as they were declared; namespaces are put together again."""
    written: list[Json] = []
    for tool in tools:
        origin = origins.get(tool.name)
        if origin is None:
            written.append(_write_function(tool, own))
        elif origin.namespace is None:
            written.append(origin.declared)
        elif written and {**written[-1], "tools": None} == {**origin.namespace, "tools": None}:
            written[-1]["tools"].append(origin.declared)
        else:
            written.append({**origin.namespace, "tools": [origin.declared]})
    return written


def _write_function(tool: Tool, own: bool) -> Json:
    # Here a function is strict unless it says otherwise; in other languages it is the other way round.
    strict = tool.strict if own or tool.strict is not None else False
    fields = {"name": tool.name, "description": tool.description, "parameters": tool.parameters, "strict": strict}
    return {"type": "function"} | {name: value for name, value in fields.items() if value is not None}


def write_choice(choice: ToolChoice | None, origins: Origins) -> object:
    if choice is None or choice.mode != "tool":
        return choice and choice.mode
    origin = origins.get(choice.name or "")
    return (
        {"type": "function", "name": choice.name}
        if origin is None
        else {"type": origin.declared["type"], **origin.name}
    )


def write_call(call: ToolCall, origin: Origin | None) -> Json:
    named = origin.name if origin else {"name": call.name}
    if origin and origin.takes_text:
        return {"type": "custom_tool_call", "call_id": call.id, **named, "input": free_text(call.arguments)}
    return {"type": "function_call", "call_id": call.id, **named, "arguments": call.arguments}
