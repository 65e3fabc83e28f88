"""How requests of Anthropic Messages are read: what routing needs of them, and the whole in the middle's words.

Source of the wire facts: Anthropic API reference, Messages, tool use, extended thinking, prompt caching.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
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
from providers.documents import dumps
from providers.languages.anthropic_events import NAME
from providers.languages.fields import (
    expect_flag,
    expect_model,
    expect_number,
    expect_object,
    expect_whole,
    text_in,
)
from providers.languages.language import BadRequest, Envelope
from providers.languages.messages import claude_signed
from providers.languages.thinking import LEAST_BUDGET, effort
from providers.wire.errors import CannotCarry

ROLES = ("user", "assistant", "system")
READ = frozenset(
    (
        "model messages max_tokens stream system temperature top_p stop_sequences tools tool_choice thinking "
        "output_config output_format metadata"
    ).split()
)
WORDS: Mapping[str, str] = {
    "stop": "stop_sequences",
    "response_format": "output_config.format",
    "reasoning_effort": "thinking",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "user": "metadata.user_id",
}
# Fields that change what the answer is. Whoever cannot carry them refuses; all others may be dropped.
INDISPENSABLE = frozenset(("container", "mcp_servers"))
UNSEEN = "messages."  # in `extras`: what is told of in place of being shown
CLEARS = re.compile("clear_thinking_")  # Anthropic API reference, context editing


def peek(body: Mapping[str, Any]) -> Envelope:
    model = expect_model(body)
    check_messages(body)
    limit = expect_whole(body, "max_tokens")
    if limit is None:
        raise BadRequest("'max_tokens' is required: how many tokens the answer may have.", "max_tokens")
    if limit < 0:
        raise BadRequest("'max_tokens' must not be negative.", "max_tokens")
    user = expect_object(body, "metadata").get("user_id")
    if user is not None and not isinstance(user, str):
        raise BadRequest("'metadata.user_id' must be a string.", "metadata.user_id")
    stream = expect_flag(body, "stream")
    return Envelope(model, stream=stream, max_tokens=limit, user=user)


def check_messages(body: Mapping[str, Any]) -> None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list of at least one message.", "messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise BadRequest("A message must be an object.", f"messages[{index}]")
        if message.get("role") not in ROLES:
            raise BadRequest(f"'role' must be one of {', '.join(ROLES)}.", f"messages[{index}].role")


def needs(body: Mapping[str, Any]) -> Needs:
    found: dict[Capability, str] = {}
    if body.get("tools"):
        found["tools"] = "tools"
    wish = body.get("output_config")
    if isinstance(thinking := body.get("thinking"), dict) and thinking.get("type") == "enabled":
        found["thinking"] = "thinking"
    for name, asked in (("output_config.format", wish.get("format") if isinstance(wish, dict) else None),
                        ("output_format", body.get("output_format"))):  # fmt: skip
        if isinstance(asked, dict) and asked.get("type") == "json_schema":
            found["json_schema"] = name
    for index, message in enumerate(body["messages"]):
        if _shows(message.get("content")):
            found["images"] = f"messages[{index}].content"
    return found


def _shows(content: object) -> bool:
    """Whether blocks hold an image. One that a tool has shown can be told of where it cannot be seen."""
    return isinstance(content, list) and any(
        block.get("type") == "image" for block in content if isinstance(block, dict)
    )


def clamp(body: dict[str, Any], limit: int) -> tuple[dict[str, Any], str | None]:
    """No more than `limit` tokens, of which thinking takes half at most: the answer must have room beside it."""
    if body["max_tokens"] <= limit:
        return body, None
    lowered = {**body, "max_tokens": limit}
    thinking = body.get("thinking")
    tokens = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if isinstance(tokens, int) and tokens >= limit:
        if limit <= LEAST_BUDGET:
            return without_thinking(lowered), "max_tokens"
        lowered["thinking"] = {**body["thinking"], "budget_tokens": max(LEAST_BUDGET, limit // 2)}
    return lowered, "max_tokens"


def without_foreign_thoughts(body: dict[str, Any]) -> dict[str, Any]:
    """The body without thoughts that Claude has not signed, which it refuses: another upstream had them, before the
    caller or the gateway chose this one. A turn that goes on must begin with thoughts where a budget is set for them,
    so that it goes on without."""
    messages = body["messages"]
    if not any(_has_foreign_thoughts(message) for message in messages):
        return body
    kept = []
    for message in messages:
        if _has_foreign_thoughts(message):
            message = {**message, "content": [block for block in message["content"] if not _is_foreign(block)]}
        if message.get("content") != []:
            kept.append(message)
    body = {**body, "messages": kept}
    last_turn = [message for message in messages if message["role"] == "assistant"][-1]
    goes_on = messages[-1]["role"] == "assistant" or _holds(messages[-1], "tool_result")
    match body.get("thinking"):
        case {"type": "enabled"} if goes_on and _has_foreign_thoughts(last_turn):
            return without_thinking(body)
    return body


def without_thinking(body: dict[str, Any]) -> dict[str, Any]:
    """As the models do that think only when told to. What clears thoughts is refused where none are had."""
    body = {name: value for name, value in body.items() if name != "thinking"}
    managed = body.get("context_management")
    if isinstance(managed, dict) and isinstance(edits := managed.get("edits"), list):
        left = [edit for edit in edits if not (isinstance(edit, dict) and CLEARS.match(text_in(edit, "type")))]
        body["context_management"] = {**managed, "edits": left}
    return body


def _holds(message: Mapping[str, Any], kind: str) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(isinstance(block, dict) and block.get("type") == kind for block in content)


def _has_foreign_thoughts(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    return message["role"] == "assistant" and isinstance(content, list) and any(map(_is_foreign, content))


def _is_foreign(block: object) -> bool:
    if not isinstance(block, dict) or block.get("type") != "thinking":
        return False
    return not claude_signed(Thinking("", text_in(block, "signature")))


def parse(body: Mapping[str, Any]) -> ChatRequest:
    """Raises BadRequest, or CannotCarry for what Anthropic's own servers alone can do."""
    envelope = peek(body)
    if envelope.max_tokens == 0:  # fills the cache, and says nothing
        raise CannotCarry("An answer without tokens can be asked of upstreams that speak Messages alone.", "max_tokens")
    extras = {name: value for name, value in body.items() if name not in READ and value is not None}
    extras |= {f"{UNSEEN}{kind}": True for kind in _unseen_kinds(body["messages"])}
    choice, parallel = _tool_choice(body.get("tool_choice"))
    return ChatRequest(
        model=envelope.model,
        messages=(*_system(body.get("system")), *_messages(body["messages"])),
        language=NAME,
        stream=envelope.stream,
        max_tokens=envelope.max_tokens,
        temperature=expect_number(body, "temperature"),
        top_p=expect_number(body, "top_p"),
        stop=_stop(body.get("stop_sequences")),
        tools=_tools(body.get("tools")),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        json_format=_json_format(body),
        reasoning_effort=_effort(body),
        user=envelope.user,
        extras=extras,
        indispensable=frozenset(name for name in INDISPENSABLE & extras.keys() if extras[name]),
    )


# -- messages --


def _unseen_kinds(messages: list[dict[str, Any]]) -> set[str]:
    """What tools have answered besides text and images, by its types."""
    answers = (block.get("content") for message in messages for block in _blocks(message.get("content")))
    kinds = {text_in(piece, "type") for answer in answers for piece in _blocks(answer)}
    return kinds - {"text", "image", ""}


def _blocks(content: object) -> Iterator[dict[str, Any]]:
    return (block for block in content if isinstance(block, dict)) if isinstance(content, list) else iter(())


def _system(system: object) -> Iterator[Message]:
    parts = tuple(_parts(system, "system", "system")) if system else ()
    if parts:
        yield Message("system", parts)


def _messages(messages: list[dict[str, Any]]) -> Iterator[Message]:
    """Each result of a tool is a message of its own, as most upstreams have it."""
    for index, message in enumerate(messages):
        role = message["role"]
        parts = list(_parts(message.get("content"), role, f"messages[{index}].content"))
        if not any(isinstance(part, ToolResult) for part in parts):
            yield Message(role, tuple(parts))
            continue
        for is_result, some in groupby(_with_marks(parts), lambda group: isinstance(group[0], ToolResult)):
            if is_result:
                yield from (Message("tool", group) for group in some)
            else:
                yield Message(role, tuple(part for group in some for part in group))


def _with_marks(parts: list[Part]) -> Iterator[tuple[Part, ...]]:
    """Each part with the mark that follows it."""
    for part, after in zip(parts, [*parts[1:], None], strict=True):
        if not isinstance(part, CachePoint):
            yield (part, after) if isinstance(after, CachePoint) else (part,)


def _parts(content: object, role: str, at: str) -> Iterator[Part]:
    if isinstance(content, str):
        yield Text(content)
        return
    if not isinstance(content, list):
        raise BadRequest("'content' must be a string or a list of blocks.", at)
    for index, block in enumerate(content):
        where = f"{at}[{index}]"
        if not isinstance(block, dict):
            raise BadRequest("A block must be an object.", where)
        if role == "system" and block.get("type") != "text":
            raise BadRequest("A system prompt is made of text blocks.", where)
        part, marks = _part(block, role, where), [block]
        if isinstance(part, ToolResult) and isinstance(block.get("content"), list):
            marks += block["content"]
        yield part
        # What is kept inside of a result is kept with all of it.
        if points := [point for marked in marks if (point := _point(marked))]:
            yield points[0]


def _point(block: Mapping[str, Any]) -> CachePoint | None:
    mark = block.get("cache_control")
    return CachePoint(text_in(mark, "ttl") or None) if isinstance(mark, dict) else None


def _part(block: dict[str, Any], role: str, at: str) -> Part:
    match block:
        case {"type": "text", "text": str(text)}:
            return Text(text)
        case {"type": "image", "source": {"type": "base64", "media_type": str(kind), "data": str(data)}}:
            return Image(f"data:{kind};base64,{data}")
        case {"type": "image", "source": {"type": "url", "url": str(url)}}:
            return Image(url)
        case {"type": "thinking", "thinking": str(text)}:
            return Thinking(text, text_in(block, "signature") or None)
        case {"type": "tool_use", "id": str(id), "name": str(name), "input": dict(arguments)}:
            return ToolCall(id, name, dumps(arguments).decode())
        case {"type": "tool_result", "tool_use_id": str(id)} if role == "user":
            return ToolResult(id, tuple(_result(block.get("content"), f"{at}.content")), expect_flag(block, "is_error"))
        case {"type": "text" | "thinking" | "tool_use" | "tool_result"}:
            raise BadRequest(f"This '{block['type']}' block is not complete, or has no place here.", at)
        case {"type": "image", "source": {"type": str()} as source} if source["type"] not in ("base64", "url"):
            pass
        case {"type": "image"}:
            raise BadRequest("This 'image' block is not complete.", at)
        case {"type": str()}:
            pass
        case _:
            raise BadRequest("A block must have a 'type'.", at)
    return Opaque(NAME, {name: value for name, value in block.items() if name != "cache_control"})


def _result(content: object, at: str) -> Iterator[Text | Image]:
    for part in _parts(content or [], "result", at):
        if isinstance(part, (Text, Image)):
            yield part
        elif isinstance(part, Opaque):
            # Agents keep what they have read in the conversation: to refuse it would end that for good.
            yield Text(f"A {part.value.get('type')} was here, which cannot be shown to this model.")
        elif not isinstance(part, CachePoint):
            raise BadRequest("The answer of a tool holds what has no place there.", at)


# -- other fields --


def _tools(tools: object) -> tuple[Tool, ...]:
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise BadRequest("'tools' must be a list.", "tools")
    return tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools))


def _tool(tool: Any, at: str) -> Tool:
    if isinstance(tool, dict) and isinstance(kind := tool.get("type"), str) and kind != "custom":
        raise CannotCarry(f"A tool of the type '{kind}' is known to upstreams that speak Messages alone.", "tools")
    match tool:
        case {"name": str(name), "input_schema": dict(schema)}:
            described, strict = tool.get("description"), tool.get("strict")
            return Tool(
                name,
                described if isinstance(described, str) else None,
                schema,
                strict if isinstance(strict, bool) else None,
                _point(tool),
            )
    raise BadRequest("A tool must have a 'name' and an 'input_schema'.", at)


def _tool_choice(choice: object) -> tuple[ToolChoice | None, bool | None]:
    """What is chosen, and False where no two tools may be called at once."""
    if choice is None:
        return None, None
    if not isinstance(choice, dict):
        raise BadRequest("'tool_choice' must be an object.", "tool_choice")
    parallel = False if expect_flag(choice, "disable_parallel_tool_use") else None
    match choice:
        case {"type": "auto"}:
            return ToolChoice("auto"), parallel
        case {"type": "any"}:
            return ToolChoice("required"), parallel
        case {"type": "none"}:
            return ToolChoice("none"), parallel
        case {"type": "tool", "name": str(name)}:
            return ToolChoice("tool", name), parallel
    raise BadRequest("'tool_choice' must be of the type auto, any or none, or tool with a name.", "tool_choice")


def _stop(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(stop, str) for stop in value):
        raise BadRequest("'stop_sequences' must be a list of strings.", "stop_sequences")
    return tuple(value)


def _json_format(body: Mapping[str, Any]) -> JSONFormat | None:
    """`output_format` is the older name."""
    for name, wish in (
        ("output_config.format", expect_object(body, "output_config").get("format")),
        ("output_format", body.get("output_format")),
    ):
        match wish:
            case None:
                continue
            case {"type": "json_schema", "schema": dict(schema)}:
                return JSONFormat(schema)
        raise BadRequest(f"'{name}' must be of the type json_schema, with a schema.", name)
    return None


def _effort(body: Mapping[str, Any]) -> str | None:
    """How much to think, where the caller says it. To leave it to the model, as adaptive thinking does, and not to
    think at all, as is usual here, are what other upstreams do unasked: not all of them know the words."""
    stated = expect_object(body, "output_config").get("effort")
    if stated is not None and not isinstance(stated, str):
        raise BadRequest("'output_config.effort' must be a string.", "output_config.effort")
    thinking = expect_object(body, "thinking")
    match thinking.get("type"):
        case "disabled":
            return None
        case "enabled":
            tokens = thinking.get("budget_tokens")
            if isinstance(tokens, bool) or not isinstance(tokens, int):
                raise BadRequest("'thinking.budget_tokens' must be a whole number.", "thinking.budget_tokens")
            return stated or effort(tokens)
        case None if thinking:
            raise BadRequest("'thinking' must have a 'type'.", "thinking.type")
        case None | str():
            return stated
    raise BadRequest("'thinking.type' must be a string.", "thinking.type")
