"""OpenAI Responses (`POST /v1/responses`), both halves. Nothing is stored: the whole conversation comes each time.

Source of the wire facts: OpenAI API reference, Responses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from providers.capabilities import Capability, Needs
from providers.conversation import (
    Answer,
    CachePoint,
    ChatRequest,
    Choice,
    FinishReason,
    Image,
    JSONFormat,
    Message,
    Opaque,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
from providers.documents import dumps, loads
from providers.languages.errors import answer_document
from providers.languages.fields import (
    expect_count,
    expect_flag,
    expect_model,
    expect_number,
    expect_text,
    objects_in,
    text_in,
)
from providers.languages.language import BadRequest, Envelope, Reader, Stamp, Tap, Writer
from providers.languages.openai import OpenAILanguage
from providers.languages.openai_responses_events import ResponsesReader, ResponsesTap, ResponsesWriter, renamed
from providers.languages.openai_responses_items import (
    NAME,
    Json,
    finish_of,
    parts_of,
    read_usage,
    thought_in,
    thought_of,
    unsealed,
    write_answer,
)
from providers.languages.openai_responses_tools import (
    HOSTED,
    Origins,
    read_call,
    read_choice,
    read_tools,
    write_call,
    write_choice,
    write_tools,
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
# Repeated in the answer as it was asked; what was not asked is told by its default.
REPEATED: Mapping[str, Any] = {"max_tool_calls": None, "metadata": {}, "prompt_cache_key": None, "top_logprobs": 0}


class OpenAIResponses(OpenAILanguage):
    name = NAME
    work = "chat"
    words = {
        "messages": "input",
        "max_tokens": "max_output_tokens",
        "response_format": "text.format",
        "reasoning_effort": "reasoning.effort",
    }
    drops = ("seed", "presence_penalty", "frequency_penalty")

    # -- server half --

    def peek(self, body: Mapping[str, Any]) -> Envelope:
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

    def needs(self, body: Mapping[str, Any]) -> Needs:
        needs: dict[Capability, str] = {}
        if body.get("tools"):
            needs["tools"] = "tools"
        if isinstance(wish := body.get("reasoning"), dict) and wish.get("effort") not in (None, "none"):
            needs["thinking"] = "reasoning.effort"
        text = body.get("text")
        wish = text.get("format") if isinstance(text, dict) else None
        if isinstance(wish, dict) and wish.get("type") == "json_schema":
            needs["json_schema"] = "text.format"
        for index, item in enumerate(body["input"] if isinstance(body["input"], list) else ()):
            for field in ("content", "output"):
                parts = item.get(field)
                if isinstance(parts, list) and any(
                    isinstance(p, dict) and p.get("type") == "input_image" for p in parts
                ):
                    needs["images"] = f"input[{index}].{field}"
        return needs

    def parse_request(self, body: Mapping[str, Any]) -> ChatRequest:
        envelope = self.peek(body)
        extras = {name: value for name, value in body.items() if name not in READ and value is not None}
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

    def write_answer(self, answer: Answer, stamp: Stamp, request: ChatRequest | None = None) -> bytes:
        return dumps(write_answer(answer, stamp, _told(request), request.origins if request else {}))

    def writer(self, stamp: Stamp, include_usage: bool, request: ChatRequest | None = None) -> Writer:
        return ResponsesWriter(stamp, _told(request), request.origins if request else {})

    # -- client half --

    def write_request(self, request: ChatRequest, model: str) -> dict[str, Any]:
        own = request.language == NAME
        if not own:
            _refuse(request)
        extras: Json = dict(request.extras) if own else {}
        origins: Origins = request.origins if own else {}
        hosted = [tool for name in [*extras] if name.startswith(HOSTED) for tool in extras.pop(name)]
        messages = list(request.messages)
        instructions = _instructions(messages[0]) if len(messages) > 1 else None
        if instructions is not None:
            messages.pop(0)
        body = extras | {"model": model, "input": _write_input(messages, origins)}
        body["store"] = False
        if request.stream:
            body["stream"] = True
        effort = request.reasoning_effort
        include = [*extras.get("include", ()), *([ENCRYPTED] if effort not in (None, "none") else ())]
        fields = {
            "instructions": instructions,
            "max_output_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "tools": [*write_tools(request.tools, origins, own), *hosted] or None,
            "tool_choice": write_choice(request.tool_choice, origins),
            "parallel_tool_calls": request.parallel_tool_calls,
            "text": _with(extras.get("text"), "format", _write_json_format(request.json_format)),
            "reasoning": _with(extras.get("reasoning"), "effort", effort),
            "include": include or None,
            "user": request.user,
        }
        body.update((name, value) for name, value in fields.items() if value is not None)
        return body

    def dropped(self, request: ChatRequest) -> list[str]:
        return [] if request.language == NAME else super().dropped(request)

    def read_answer(self, document: Any, request: ChatRequest | None = None) -> Answer:
        parts = [part for item in _output(document) for part in parts_of(item)]
        return Answer((Choice(tuple(parts), finish_of(document)),), read_usage(document.get("usage")))

    def reader(self, request: ChatRequest | None = None) -> Reader:
        return ResponsesReader()

    # -- straight through --

    def readdress(self, body: dict[str, Any], envelope: Envelope, model: str, ask_usage: bool) -> dict[str, Any]:
        return {**body, "model": model}  # usage always comes, so that it need not be asked for

    def clamp(self, body: dict[str, Any], limit: int) -> tuple[dict[str, Any], str | None]:
        asked = body.get("max_output_tokens")
        if asked is not None and asked > limit:
            return {**body, "max_output_tokens": limit}, "max_output_tokens"
        return body, None

    def tap(self, model: str | None, include_usage: bool) -> Tap:
        return ResponsesTap(model)

    def pass_answer(self, body: bytes, model: str | None) -> tuple[bytes, Usage | None, FinishReason | None]:
        document = answer_document(body)
        _output(document)
        named = renamed(body, document.get("model"), model, lambda written: loads(written).get("model"))
        return named, read_usage(document.get("usage")), finish_of(document)


def _output(document: Mapping[str, Any]) -> list[Json]:
    if document.get("output") is None:
        raise ProviderError("The upstream's answer holds no output.", kind="broken")
    return objects_in(document, "output")


# -- requests, read --


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
            thought = unsealed(item.get("encrypted_content")) or Thinking(_thought(item, at))
            return Message("assistant", (thought,)) if thought.text or thought.signature else None
        case "item_reference":
            raise BadRequest("Items are not stored here. Send the item itself.", at)
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


# -- requests, written --


def _refuse(request: ChatRequest) -> None:
    if request.indispensable:
        name = min(request.indispensable)
        raise CannotCarry(f"'{name}' cannot be carried to this upstream.", name)
    if (request.n or 1) > 1:
        raise CannotCarry("This upstream gives one answer.", "n")
    if request.stop:
        raise CannotCarry("Stop sequences cannot be carried to this upstream.", "stop")


def _instructions(message: Message) -> str | None:
    """What a first message of the system says, if one text can say it."""
    match [part for part in message.parts if not isinstance(part, CachePoint)]:
        case [Text(text)] if message.role == "system" and text:
            return text
    return None


def _write_input(messages: Iterable[Message], origins: Origins) -> list[Json]:
    items = [item for message in messages for item in _write_items(message, origins)]
    given_text = {item["call_id"] for item in items if item.get("type") == "custom_tool_call"}
    for item in items:
        if item.get("type") == "function_call_output" and item["call_id"] in given_text:
            item["type"] = "custom_tool_call_output"
    return items


def _write_items(message: Message, origins: Origins) -> list[Json]:
    items: list[Json] = []
    content: list[Json] = []
    for part in message.parts:
        if (item := _write_item(part, message.role == "assistant", origins)) is not None:
            items += [*_said(message, content), item]
            content = []
        else:
            content += _write_part(part, message.role == "assistant")
    return [*items, *_said(message, content)]


def _said(message: Message, content: list[Json]) -> list[Json]:
    match content:
        case []:
            return []
        case [{"type": "input_text" | "output_text", "text": text}]:
            return [{"type": "message", "role": message.role, "content": text}]
    return [{"type": "message", "role": message.role, "content": content}]


def _write_item(part: Part, answered: bool, origins: Origins) -> Json | None:
    """A part that is an item of its own; None for one that is said in a message."""
    match part:
        case ToolCall():
            return write_call(part, origins.get(part.name))
        case ToolResult(id, (Text(text),)):
            return {"type": "function_call_output", "call_id": id, "output": text}
        case ToolResult(id, result):
            output = [written for piece in result for written in _write_part(piece, answered=False)]
            return {"type": "function_call_output", "call_id": id, "output": output or ""}
        case Thinking():
            return thought_of(part)
        case Opaque(language, value) if answered and language == NAME:
            return dict(value)
    return None


def _write_part(part: Part, answered: bool) -> list[Json]:
    match part:
        case Text(text):
            return [{"type": "output_text" if answered else "input_text", "text": text}]
        case Image(url, detail):
            return [{"type": "input_image", "image_url": url} | ({"detail": detail} if detail else {})]
        case Opaque(language, value):
            if language != NAME:
                raise CannotCarry("A part of a message cannot be carried to this upstream.", "messages")
            return [dict(value)]
    return []  # a mark for a cache that needs none, or a thought that another upstream signed or nobody did


def _write_json_format(wish: JSONFormat | None) -> Json | None:
    if wish is None:
        return None
    if wish.schema is None:
        return {"type": "json_object"}
    fields = {"name": wish.name or "answer", "schema": wish.schema, "strict": wish.strict}
    fields["description"] = wish.description
    return {"type": "json_schema"} | {name: value for name, value in fields.items() if value is not None}


def _with(others: Mapping[str, Any] | None, name: str, value: object) -> Json | None:
    fields = dict(others or {}) | ({name: value} if value is not None else {})
    return fields or None


# -- answers --


def _told(request: ChatRequest | None) -> Json:
    """What of a request is repeated in its answer."""
    asked = request or ChatRequest("", ())
    extras = asked.extras if asked.language == NAME else {}
    origins: Origins = asked.origins if asked.language == NAME else {}
    hosted = [tool for name, tools in extras.items() if name.startswith(HOSTED) for tool in tools]
    tools = [_complete(tool) for tool in write_tools(asked.tools, origins, own=True)]
    text = {"format": _write_json_format(asked.json_format) or {"type": "text"}}
    reasoning = {"effort": asked.reasoning_effort, "summary": None}
    told: Json = {
        "instructions": _instructions(asked.messages[0]) if asked.messages else None,
        "max_output_tokens": asked.max_tokens,
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "reasoning": reasoning | extras.get("reasoning", {}),
        "temperature": asked.temperature,
        "text": text | extras.get("text", {}),
        "tool_choice": extras.get("tool_choice") or write_choice(asked.tool_choice, origins) or "auto",
        "tools": [*tools, *hosted],
        "top_p": asked.top_p,
        "truncation": extras.get("truncation", "disabled"),
        "user": asked.user,
    }
    return told | {name: extras.get(name, default) for name, default in REPEATED.items()}


def _complete(tool: Json) -> Json:
    """A function with all its fields, as answers have them."""
    return {"description": None, "parameters": None, "strict": None} | tool if tool["type"] == "function" else tool
