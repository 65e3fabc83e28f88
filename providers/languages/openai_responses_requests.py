"""How requests of OpenAI Responses are read. Nothing is stored: the whole conversation comes each time.

Source of the wire facts: OpenAI API reference, Responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
    ToolResult,
)
from providers.languages.fields import (
    expect_count,
    expect_flag,
    expect_model,
    expect_number,
    expect_text,
    text_in,
)
from providers.languages.language import BadRequest, Envelope
from providers.languages.openai_responses_items import (
    NAME,
    SEAL,
    Json,
    signature_of,
    thought_in,
    unsealed,
)
from providers.languages.openai_responses_tools import (
    HOSTED,
    read_call,
    read_choice,
    read_tools,
)
from providers.wire.errors import CannotCarry, ProviderError

ROLES = ("user", "assistant", "system", "developer")
READ = frozenset(
    (
        "model input instructions stream max_output_tokens temperature top_p tools tool_choice parallel_tool_calls "
        "text reasoning user safety_identifier store include background previous_response_id conversation prompt"
    ).split()
)
KNOWN_PARTS = ("input_text", "output_text", "text", "refusal", "input_image")
# Nothing is stored, so nothing can be continued or fetched later.
NOT_STORED: Mapping[str, str] = {
    "previous_response_id": "Answers are not stored here. Send the whole conversation as 'input'.",
    "conversation": "Conversations are not stored here. Send the whole conversation as 'input'.",
    "prompt": "Prompts are not stored here. Send 'instructions' and 'input'.",
}
ENCRYPTED = "reasoning.encrypted_content"
LOGPROBS = "message.output_text.logprobs"


def peek(body: Mapping[str, Any]) -> Envelope:
    model = expect_model(body)
    asked = body.get("input")
    if not isinstance(asked, (str, list)) or asked == []:
        raise BadRequest("'input' must be a string or a list of at least one item.", "input")
    for index, item in enumerate(asked if isinstance(asked, list) else ()):
        if not isinstance(item, dict):
            raise BadRequest("An item must be an object.", f"input[{index}]")
        if not isinstance(item.get("type"), str | None):
            raise BadRequest("'type' must be a string.", f"input[{index}].type")
        if item.get("type") in (None, "message") and item.get("role") not in ROLES:
            raise BadRequest(f"'role' must be one of {', '.join(ROLES)}.", f"input[{index}].role")
    for name, sentence in NOT_STORED.items():
        if body.get(name) is not None:
            raise BadRequest(sentence, name)
    if expect_flag(body, "background"):
        raise BadRequest("Answers are not stored here, so none can be made in the background.", "background")
    safety_identifier = expect_text(body, "safety_identifier")
    return Envelope(
        model,
        stream=expect_flag(body, "stream"),
        max_tokens=expect_count(body, "max_output_tokens"),
        user=expect_text(body, "user") or safety_identifier,
    )


def needs(body: Mapping[str, Any]) -> Needs:
    found: dict[Capability, str] = {}
    if body.get("tools"):
        found["tools"] = "tools"
    if isinstance(wish := body.get("reasoning"), dict) and wish.get("effort") not in (None, "none"):
        found["thinking"] = "reasoning.effort"
    text = body.get("text")
    wish = text.get("format") if isinstance(text, dict) else None
    if isinstance(wish, dict) and wish.get("type") == "json_schema":
        found["json_schema"] = "text.format"
    for index, item in enumerate(body["input"] if isinstance(body["input"], list) else ()):
        parts = item.get("content")
        if isinstance(parts, list) and any(isinstance(p, dict) and p.get("type") == "input_image" for p in parts):
            found["images"] = f"input[{index}].content"
        if item.get("type") == "additional_tools" and item.get("tools"):
            found["tools"] = f"input[{index}].tools"
    return found


def parse(body: Mapping[str, Any]) -> ChatRequest:
    """Raises BadRequest or CannotCarry."""
    envelope = peek(body)
    extras = {
        name: value
        for name, value in body.items()
        if name not in READ and value is not None and not name.startswith(HOSTED)
    }
    if body.get("user") and body.get("safety_identifier"):
        extras["safety_identifier"] = body["safety_identifier"]
    declared = read_tools(body)
    effort, reasoning = _wish(body, "reasoning", "effort")
    wanted, text = _wish(body, "text", "format")
    if effort is not None and not isinstance(effort, str):
        raise BadRequest("'reasoning.effort' must be a string.", "reasoning.effort")
    own_choice = _is_own_choice(body.get("tool_choice"))
    partly = {
        "tool_choice": body.get("tool_choice") if own_choice else None,
        "reasoning": reasoning,
        "text": text,
        "include": [name for name in _include(body) if name != ENCRYPTED],
    }
    extras |= {name: value for name, value in partly.items() if value} | declared.hosted
    parallel = body.get("parallel_tool_calls")
    return ChatRequest(
        model=envelope.model,
        messages=_messages(body),
        language=NAME,
        stream=envelope.stream,
        max_tokens=envelope.max_tokens,
        temperature=expect_number(body, "temperature"),
        top_p=expect_number(body, "top_p"),
        tools=tuple(declared.functions),
        tool_choice=None if own_choice else read_choice(body.get("tool_choice")),
        parallel_tool_calls=None if parallel is None else expect_flag(body, "parallel_tool_calls"),
        json_format=_json_format(wanted),
        reasoning_effort=effort,
        user=envelope.user,
        extras=extras,
        indispensable=_indispensable(extras, alone=not declared.functions),
        origins=declared.origins,
    )


def _messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    instructions, asked = expect_text(body, "instructions"), body["input"]
    messages = [Message("system", (Text(instructions),))] if instructions else []
    for index, item in enumerate([{"role": "user", "content": asked}] if isinstance(asked, str) else asked):
        read = _item(item, f"input[{index}]")
        if read is None:
            continue
        if messages and messages[-1].role == read.role == "assistant":
            read = Message("assistant", messages.pop().parts + read.parts)
        messages.append(read)
    if not messages:
        raise BadRequest("'input' holds nothing to answer.", "input")
    if expect_text(body, "prompt_cache_key"):
        _mark(messages)
    return tuple(messages)


def _mark(messages: list[Message]) -> None:
    """Who names a cache wants one: there are upstreams that must be told up to where."""
    system = next((index for index, message in enumerate(messages) if message.role != "system"), len(messages))
    for index in sorted({system - 1, len(messages) - 1} - {-1}):
        messages[index] = replace(messages[index], parts=(*messages[index].parts, CachePoint()))


def _item(item: Mapping[str, Any], at: str) -> Message | None:
    match item.get("type"):
        case None | "message":
            role = item["role"]
            return Message(
                "system" if role == "developer" else role, _content(item.get("content"), role, f"{at}.content")
            )
        case "function_call" | "custom_tool_call":
            return Message("assistant", (read_call(item, at),))
        case "function_call_output" | "custom_tool_call_output":
            return Message("tool", (_result(item, at),))
        case "additional_tools":
            return None  # read with the others
        case "reasoning":
            signature = None if text_in(item, "encrypted_content").startswith(SEAL) else signature_of(item)
            thought = unsealed(item.get("encrypted_content")) or Thinking(_thought(item, at), signature)
            return Message("assistant", (thought,)) if thought.text or thought.signature else None
        case "item_reference":
            raise BadRequest(
                "Items are not stored here. Send the item itself: most clients do with 'store': false.", at
            )
    return Message("assistant", (Opaque(NAME, item),))


def _content(content: object, role: str, at: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),)
    if not isinstance(content, list):
        raise BadRequest("'content' must be a string or a list of parts.", at)
    parts = tuple(_part(part, f"{at}[{index}]") for index, part in enumerate(content))
    if role == "assistant" and any(isinstance(part, Opaque) for part in parts):
        raise BadRequest("A message of the assistant can hold text and images alone.", at)
    return parts


def _part(part: object, at: str) -> Text | Image | Opaque:
    if not isinstance(part, dict):
        raise BadRequest("A part must be an object.", at)
    match part:
        case {"type": "input_text" | "output_text" | "text", "text": str(text)}:
            return Text(text)
        case {"type": "refusal", "refusal": str(text)}:
            return Text(text)
        case {"type": "input_image", "image_url": str(url)}:
            return Image(url, text_in(part, "detail") or None)
        case {"type": "input_image", "file_id": str()}:
            return Opaque(NAME, part)
    if not isinstance(part.get("type"), str) or part["type"] in KNOWN_PARTS:
        raise BadRequest("This part is not complete.", at)
    return Opaque(NAME, part)


def _result(item: Mapping[str, Any], at: str) -> ToolResult:
    if not isinstance(item.get("call_id"), str):
        raise BadRequest("The output of a function must name its 'call_id'.", f"{at}.call_id")
    parts = _content(item.get("output"), "tool", f"{at}.output")
    content = tuple(part for part in parts if isinstance(part, (Text, Image)))
    if len(content) != len(parts):
        raise CannotCarry("The output of a function can hold text and images alone on this upstream.", f"{at}.output")
    return ToolResult(item["call_id"], content)


def _thought(item: Mapping[str, Any], at: str) -> str:
    try:
        return thought_in(item)
    except ProviderError as error:
        raise BadRequest("'summary' and 'content' must be lists of parts.", at) from error


def _is_own_choice(choice: object) -> bool:
    return isinstance(choice, dict) and choice.get("type") not in ("function", "custom")


def _wish(body: Mapping[str, Any], name: str, known: str) -> tuple[Any, Json]:
    """The field of an object that the middle knows, and the others."""
    value = body.get(name)
    if value is None:
        return None, {}
    if not isinstance(value, dict):
        raise BadRequest(f"'{name}' must be an object.", name)
    return value.get(known), {field: said for field, said in value.items() if field != known and said is not None}


def _json_format(wish: Any) -> JSONFormat | None:
    match wish:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return JSONFormat()
        case {"type": "json_schema", "schema": dict(schema)}:
            return JSONFormat(schema, wish.get("name"), wish.get("strict"), wish.get("description"))
    raise BadRequest("'text.format' must be text, json_object or json_schema.", "text.format")


def _include(body: Mapping[str, Any]) -> list[str]:
    include = body.get("include")
    if include is None:
        return []
    if not isinstance(include, list) or not all(isinstance(name, str) for name in include):
        raise BadRequest("'include' must be a list of strings.", "include")
    return include


def _indispensable(extras: Mapping[str, Any], alone: bool) -> frozenset[str]:
    """What changes the answer. All other fields may be dropped where they find no place.

    Tools that OpenAI runs are what was asked for if they stand `alone`. Beside others they are one means of many:
    agents as Codex declare all they know of to everyone.
    """
    names = {name for name in ("tool_choice", "top_logprobs") if extras.get(name)}
    names |= {name for name in extras if alone and name.startswith(HOSTED)}
    return frozenset(names | ({"include"} if LOGPROBS in extras.get("include", ()) else set()))
