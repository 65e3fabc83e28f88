"""A strict Anthropic server: the Messages API, its token counter and its paged list of models.

    with FakeAnthropic() as upstream:
        upstream.scene("claude-sonnet-4-5", Scene(thinking="Hm.", signature="c2lnbmVk"))
        ...                                   # ask http://127.0.0.1:PORT/v1/messages for "claude-sonnet-4-5"

Shapes and wordings follow api.anthropic.com. Others sell the same models behind doors of their own: what they share
is in `check_messages_body`, `message_whole` and `message_events`, and each spells refusals its own way.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import urllib.parse
import uuid
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from tests.fakes.scenes import Scene, torn
from tests.fakes.server import Behaviour, Exchange, FakeServer, Gate, Heard, Json, Refusal, unique

KEY = "sk-ant-api03-upstream-0123456789abcdef"  # what a profile must send; never what a caller sends
VERSION = "2023-06-01"
LATER_VERSION = "2026-10-21"
SAMPLING = ("temperature", "top_p", "top_k")  # refused since the later version
MODELS = ("claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5", "claude-fake")
LARGEST = 32 << 20  # bytes of a body


class BadRequest(Exception):
    """What is wrong with a body; how it is said on the wire is each server's own affair."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


# --------------------------------------------------------------------------------------- what a body may be

MESSAGES_FIELDS = {
    "cache_control", "max_tokens", "messages", "metadata", "model", "output_config", "service_tier", "stop_sequences",
    "stream", "system", "temperature", "thinking", "tool_choice", "tools", "top_k", "top_p",
}  # fmt: skip
# What only callers of a beta may send, as Claude Code 2.1 does.
BETA_FIELDS = {"context-management-2025-06-27": "context_management"}
SYSTEM_TURNS = "mid-conversation-system-2026-04-07"
COUNT_FIELDS = {
    "cache_control", "messages", "model", "output_config", "system", "thinking", "tool_choice", "tools",
}  # fmt: skip
KINDS: dict[type, str] = {
    str: "a valid string",
    bool: "a valid boolean",
    int: "a valid integer",
    float: "a valid number",
    list: "a valid list",
    dict: "a valid dictionary",
}
PICTURES = {
    "image/jpeg": b"\xff\xd8\xff",
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
MARKS = 4  # as many blocks may carry cache_control
TOOL_NAME = "^[a-zA-Z0-9_-]{1,128}$"
CALL_ID = "^[a-zA-Z0-9_-]+$"


def typed(where: str, value: object, kind: type) -> None:
    right = isinstance(value, int | float if kind is float else kind)
    if not right or (isinstance(value, bool) and kind is not bool):
        raise BadRequest(f"{where}: Input should be {KINDS[kind]}")


def fields(where: str, given: object, required: dict[str, type], optional: dict[str, type]) -> None:
    """An object with these fields and no others; `object` leaves a field's type to somebody else."""
    if not isinstance(given, dict):
        raise BadRequest(f"{where}: Input should be an object")
    for name in required:
        if name not in given:
            raise BadRequest(f"{where}.{name}: Field required")
    known = {**required, **optional}
    for name, value in given.items():
        if name not in known:
            raise BadRequest(f"{where}.{name}: Extra inputs are not permitted")
        if known[name] is not object:
            typed(f"{where}.{name}", value, known[name])


def one_of(where: str, value: object, *allowed: str) -> None:
    if value not in allowed:
        *most, last = [f"'{each}'" for each in allowed]
        raise BadRequest(f"{where}: Input should be {', '.join(most)}{' or ' if most else ''}{last}")


def tagged(where: str, given: object, allowed: Iterable[str]) -> str:
    """The `type` of one of several shapes."""
    if not isinstance(given, dict):
        raise BadRequest(f"{where}: Input should be an object")
    if "type" not in given:
        raise BadRequest(f"{where}.type: Field required")
    if given["type"] not in (known := list(allowed)):
        tags = ", ".join(f"'{each}'" for each in known)
        raise BadRequest(
            f"{where}: Input tag '{given['type']}' found using 'type' does not match any of the expected tags: {tags}"
        )
    return str(given["type"])


def at_least(where: str, value: float, least: float) -> None:
    if value < least:
        raise BadRequest(f"{where}: Input should be greater than or equal to {least}")


def at_most(where: str, value: float, most: float) -> None:
    if value > most:
        raise BadRequest(f"{where}: Input should be less than or equal to {most}")


def matching(where: str, value: str, pattern: str) -> None:
    if not re.search(pattern.replace("$", r"\Z"), value):
        raise BadRequest(f"{where}: String should match pattern '{pattern}'")


def decoded(where: str, data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"{where}: Invalid base64 data") from None


def check_messages_body(body: Json, *, known: set[str], needs_model: bool, betas: str = "") -> None:
    """Raises BadRequest unless the body is a good Messages request with top-level fields from `known` only, and those
    that the header `anthropic-beta` allows.

    `max_tokens` is required where it is known. What a vendor adds (`anthropic_version`) is the vendor's to check.
    """
    known = known | {name for beta, name in BETA_FIELDS.items() if beta in betas}
    if SYSTEM_TURNS in betas:
        body = {**body, "messages": [turn for turn in body.get("messages", []) if not is_system_turn(turn)]}
    for name in body:
        if name not in known:
            raise BadRequest(f"{name}: Extra inputs are not permitted")
    for name in ("model",) * needs_model + ("max_tokens",) * ("max_tokens" in known) + ("messages",):
        if name not in body:
            raise BadRequest(f"{name}: Field required")
    for name, kind in (
        ("model", str), ("max_tokens", int), ("messages", list), ("stream", bool), ("temperature", float),
        ("top_p", float), ("top_k", int), ("stop_sequences", list), ("tools", list),
    ):  # fmt: skip
        if name in body:
            typed(name, body[name], kind)
    if body.get("model") == "":
        raise BadRequest("model: String should have at least 1 character")
    check_numbers(body)
    for number, sequence in enumerate(body.get("stop_sequences", [])):
        typed(f"stop_sequences.{number}", sequence, str)
        if not sequence.strip():
            raise BadRequest("stop_sequences: each stop sequence must contain non-whitespace")
    if "metadata" in body:
        fields("metadata", body["metadata"], {}, {"user_id": str})
    if "service_tier" in body:
        one_of("service_tier", body["service_tier"], "auto", "standard_only")
    if "output_config" in body:
        check_output(body["output_config"])
    if "system" in body:
        check_system(body["system"])
    check_mark("", body)
    check_tools(body)
    check_thinking(body)
    check_turns(body)
    check_marks(body)


def is_system_turn(turn: object) -> bool:
    return isinstance(turn, dict) and turn.get("role") == "system"


def check_numbers(body: Json) -> None:
    if "max_tokens" in body:
        at_least("max_tokens", body["max_tokens"], 1)
    for name in ("temperature", "top_p"):
        if name in body:
            at_least(name, body[name], 0)
            at_most(name, body[name], 1)
    if "top_k" in body:
        at_least("top_k", body["top_k"], 0)


def check_output(given: object) -> None:
    fields("output_config", given, {}, {"format": dict, "effort": str})
    if not isinstance(given, dict):
        return
    if "effort" in given:
        one_of("output_config.effort", given["effort"], "low", "medium", "high", "xhigh", "max")
    if "format" in given:
        tagged("output_config.format", given["format"], ["json_schema"])
        fields("output_config.format", given["format"], {"type": str, "schema": dict}, {})
        check_closed("output_config.format.schema", given["format"]["schema"])


def check_closed(where: str, schema: object) -> None:
    """Answers can only be held to objects that say what else they may have: nothing."""
    if isinstance(schema, list):
        for each in schema:
            check_closed(where, each)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise BadRequest(f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false")
    for name, inner in schema.items():
        if name in ("properties", "$defs", "definitions") and isinstance(inner, dict):
            check_closed(where, list(inner.values()))
        elif name in ("items", "anyOf", "allOf", "oneOf"):
            check_closed(where, inner)


def check_system(system: object) -> None:
    if isinstance(system, str):
        return
    if not isinstance(system, list):
        raise BadRequest("system: Input should be a valid string or list of text blocks")
    for number, block in enumerate(system):
        where = f"system.{number}"
        tagged(where, block, ["text"])
        fields(where, block, {"type": str, "text": str}, {"cache_control": object, "citations": object})
        if not block["text"]:
            raise BadRequest("system: text content blocks must be non-empty")
        check_mark(where, block)


def check_mark(where: str, block: Json) -> None:
    mark = block.get("cache_control")
    if mark is not None:
        where = f"{where}.cache_control".lstrip(".")
        tagged(where, mark, ["ephemeral"])
        fields(where, mark, {"type": str}, {"ttl": str})
        if "ttl" in mark:
            one_of(f"{where}.ttl", mark["ttl"], "5m", "1h")


def check_marks(body: Json) -> None:
    def count(value: object) -> int:
        if isinstance(value, list):
            return sum(count(each) for each in value)
        if not isinstance(value, dict):
            return 0
        return (value.get("cache_control") is not None) + count(value.get("content"))

    found = sum(count(body.get(name)) for name in ("system", "tools", "messages"))
    if found > MARKS:
        raise BadRequest(f"A maximum of {MARKS} blocks with cache_control may be provided. Found {found}.")


def check_tools(body: Json) -> None:
    names = []
    for number, tool in enumerate(body.get("tools", [])):
        names.append(check_tool(f"tools.{number}", tool))
    if len(set(names)) < len(names):
        raise BadRequest("tools: Tool names must be unique.")
    if "tool_choice" not in body:
        return
    choice = body["tool_choice"]
    kind = tagged("tool_choice", choice, ["auto", "any", "tool", "none"])
    alone: dict[str, type] = {} if kind == "none" else {"disable_parallel_tool_use": bool}
    named: dict[str, type] = {"name": str} if kind == "tool" else {}
    fields(f"tool_choice.{kind}", choice, {"type": str, **named}, alone)
    if not names:
        raise BadRequest("tool_choice: tool_choice may only be specified while providing tools.")
    if kind == "tool" and choice["name"] not in names:
        raise BadRequest(f"tool_choice.tool.name: Tool '{choice['name']}' not found in provided tools")


def check_tool(where: str, tool: object) -> str:
    if isinstance(tool, dict) and re.search(r"_20\d{6}\Z", str(tool.get("type"))):
        typed(f"{where}.name", tool.get("name"), str)  # the server's own tools have shapes of their own
        return str(tool["name"])
    if isinstance(tool, dict) and "type" in tool:
        tagged(where, tool, ["custom"])
    where = f"{where}.custom"
    wanted: dict[str, type] = {"name": str, "input_schema": dict}
    also: dict[str, type] = {"type": str, "description": str, "cache_control": object, "strict": bool}
    fields(where, tool, wanted, also)
    if not isinstance(tool, dict):
        return ""
    matching(f"{where}.name", tool["name"], TOOL_NAME)
    schema = tool["input_schema"]
    if "type" not in schema:
        raise BadRequest(f"{where}.input_schema.type: Field required")
    one_of(f"{where}.input_schema.type", schema["type"], "object")
    if "properties" in schema:
        typed(f"{where}.input_schema.properties", schema["properties"], dict)
    if "required" in schema:
        typed(f"{where}.input_schema.required", schema["required"], list)
    check_mark(where, tool)
    return str(tool["name"])


def check_thinking(body: Json) -> None:
    if "thinking" not in body:
        return
    thinking = body["thinking"]
    kind = tagged("thinking", thinking, ["adaptive", "disabled", "enabled"])
    where = f"thinking.{kind}"
    budgeted: dict[str, type] = {"budget_tokens": int} if kind == "enabled" else {}
    shown: dict[str, type] = {} if kind == "disabled" else {"display": str}
    fields(where, thinking, {"type": str, **budgeted}, shown)
    if kind == "disabled":
        return
    if kind == "enabled":
        at_least(f"{where}.budget_tokens", thinking["budget_tokens"], 1024)
        if "max_tokens" in body and body["max_tokens"] <= thinking["budget_tokens"]:
            raise BadRequest("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if body.get("temperature", 1) != 1:
        raise BadRequest("`temperature` may only be set to 1 when thinking is enabled.")
    if body.get("top_p", 1) < 0.95:
        raise BadRequest("`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.")
    if "top_k" in body:
        raise BadRequest("`top_k` must be unset when thinking is enabled.")
    if body.get("tool_choice", {}).get("type") in ("any", "tool"):
        raise BadRequest("Thinking may not be enabled when tool_choice forces tool use.")


# ------------------------------------------------------------------------------------------ conversations

Block = dict[str, type]
TEXT: tuple[Block, Block] = ({"type": str, "text": str}, {"cache_control": object, "citations": object})
BLOCKS: dict[str, tuple[Block, Block]] = {
    "text": TEXT,
    "image": ({"type": str, "source": object}, {"cache_control": object}),
    "document": (
        {"type": str, "source": object},
        {"cache_control": object, "citations": object, "title": object, "context": object},
    ),
    "tool_use": ({"type": str, "id": str, "name": str, "input": dict}, {"cache_control": object, "caller": object}),
    "tool_result": (
        {"type": str, "tool_use_id": str},
        {"cache_control": object, "content": object, "is_error": bool},
    ),
    "thinking": ({"type": str, "thinking": str, "signature": str}, {}),
    "redacted_thinking": ({"type": str, "data": str}, {}),
}
SAID_BY = {
    "user": ("text", "image", "document", "tool_result"),
    "assistant": ("text", "tool_use", "thinking", "redacted_thinking"),
}
IN_RESULTS = ("text", "image", "document")
THOUGHTS = ("thinking", "redacted_thinking")


def blocks(message: Json) -> list[Json]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def check_turns(body: Json) -> None:
    messages = body["messages"]
    if not messages:
        raise BadRequest("messages: at least one message is required")
    asked: list[str] = []  # calls of the turn before
    ever: set[str] = set()
    for number, message in enumerate(messages):
        where = f"messages.{number}"
        check_turn(where, message, number, last=number == len(messages) - 1)
        check_results(number, message, asked)
        asked = [block["id"] for block in blocks(message) if block["type"] == "tool_use"]
        if len(set(asked)) < len(asked) or ever.intersection(asked):
            raise BadRequest("messages: `tool_use` ids must be unique")
        ever.update(asked)
    if asked:
        raise unanswered(len(messages) - 1, asked)
    if messages[-1]["role"] == "assistant":
        check_prefill(messages[-1])
    if body.get("thinking", {}).get("type") == "enabled":
        check_thoughts(messages)


def check_turn(where: str, message: object, number: int, *, last: bool) -> None:
    if isinstance(message, dict) and message.get("role") == "system":
        raise BadRequest(
            'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, not "system" '
            "as an input message role."
        )
    fields(where, message, {"role": str, "content": object}, {})
    if not isinstance(message, dict):
        return
    role, content = message["role"], message["content"]
    one_of(f"{where}.role", role, "user", "assistant")
    if role != ("user", "assistant")[number % 2]:
        if number == 0:
            raise BadRequest('messages: first message must use the "user" role')
        raise BadRequest(
            f'messages: roles must alternate between "user" and "assistant", but found multiple "{role}" roles in a row'
        )
    if not isinstance(content, str | list):
        raise BadRequest(f"{where}.content: Input should be a valid string or list of blocks")
    if not content and not (last and role == "assistant"):
        raise BadRequest(
            f"{where}: all messages must have non-empty content except for the optional final assistant message"
        )
    if isinstance(content, str):
        if content and not content.strip():
            raise BadRequest("messages: text content blocks must contain non-whitespace text")
        return
    for place, block in enumerate(content):
        check_block(f"{where}.content.{place}", block, SAID_BY[role])
    if role == "assistant" and content and content[-1]["type"] in THOUGHTS:
        raise BadRequest(f"{where}: The final block in an assistant message cannot be `thinking`.")


def check_block(where: str, block: object, allowed: Iterable[str]) -> None:
    kind = tagged(where, block, allowed)
    fields(f"{where}.{kind}", block, *BLOCKS[kind])
    if not isinstance(block, dict):
        return
    where = f"{where}.{kind}"
    check_mark(where, block)
    if kind == "text":
        if not block["text"]:
            raise BadRequest("messages: text content blocks must be non-empty")
        if not block["text"].strip():
            raise BadRequest("messages: text content blocks must contain non-whitespace text")
    elif kind == "image":
        check_picture(f"{where}.source", block["source"])
    elif kind == "document":
        check_document(f"{where}.source", block["source"])
    elif kind == "tool_use":
        matching(f"{where}.id", block["id"], CALL_ID)
        matching(f"{where}.name", block["name"], "^[a-zA-Z0-9_-]{1,200}$")
    elif kind == "tool_result":
        matching(f"{where}.tool_use_id", block["tool_use_id"], CALL_ID)
        content = block.get("content", "")
        if not isinstance(content, str | list):
            raise BadRequest(f"{where}.content: Input should be a valid string or list of blocks")
        for place, inner in enumerate(content if isinstance(content, list) else []):
            check_block(f"{where}.content.{place}", inner, IN_RESULTS)
    elif kind == "thinking" and not block["signature"]:
        raise BadRequest(f"{where.removesuffix('.thinking')}: Invalid `signature` in `thinking` block")


def check_picture(where: str, source: object) -> None:
    if tagged(where, source, ["base64", "url"]) == "url":
        check_url(f"{where}.url", source)
        return
    where = f"{where}.base64"
    fields(where, source, {"type": str, "media_type": str, "data": str}, {})
    if isinstance(source, dict):
        media = source["media_type"]
        one_of(f"{where}.media_type", media, *PICTURES)
        data = decoded(f"{where}.data", source["data"])
        if not data:
            raise BadRequest(f"{where}.data: image cannot be empty")
        if not data.startswith(PICTURES[media]):
            raise BadRequest(f"{where}.data: Image does not match the provided media type {media}")


def check_url(where: str, source: object) -> None:
    fields(where, source, {"type": str, "url": str}, {})
    if isinstance(source, dict) and not source["url"].startswith("https://"):
        raise BadRequest(f"{where}.url: Only HTTPS URLs are supported.")


def check_document(where: str, source: object) -> None:
    kind = tagged(where, source, ["base64", "content", "text", "url"])
    if kind == "url":
        check_url(f"{where}.url", source)
        return
    where = f"{where}.{kind}"
    if kind == "content":
        fields(where, source, {"type": str, "content": object}, {})
        return
    fields(where, source, {"type": str, "media_type": str, "data": str}, {})
    if isinstance(source, dict):
        one_of(f"{where}.media_type", source["media_type"], "application/pdf" if kind == "base64" else "text/plain")
        if kind == "base64" and not decoded(f"{where}.data", source["data"]).startswith(b"%PDF-"):
            raise BadRequest(f"{where}.data: The PDF specified was not valid.")


def unanswered(number: int, ids: Iterable[str]) -> BadRequest:
    return BadRequest(
        f"messages.{number}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(ids)}. Each `tool_use` block must have a corresponding `tool_result` block in the next message."
    )


def check_results(number: int, message: Json, asked: list[str]) -> None:
    """Every call of the turn before has its result here, once, ahead of anything else said."""
    results: list[str] = []
    spoken = False
    for place, block in enumerate(blocks(message)):
        if block["type"] != "tool_result":
            spoken = True
            continue
        id = block["tool_use_id"]
        if id not in asked:
            raise BadRequest(
                f"messages.{number}.content.{place}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. "
                "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        if id in results:
            raise BadRequest(
                f"messages.{number}.content.{place}: each tool_use must have a single result. "
                f"Found multiple `tool_result` blocks with id: {id}"
            )
        if spoken:
            raise unanswered(number - 1, [id])
        results.append(id)
    if missing := [id for id in asked if id not in results]:
        raise unanswered(number - 1, missing)


def check_prefill(message: Json) -> None:
    said = blocks(message)
    if said and said[-1]["type"] == "text" and said[-1]["text"] != said[-1]["text"].rstrip():
        raise BadRequest("messages: final assistant content cannot end with trailing whitespace")


def check_thoughts(messages: list[Json]) -> None:
    """While a model that thinks waits for its tools, its thoughts come back with the calls."""
    number = len(messages) - (1 if messages[-1]["role"] == "assistant" else 2)
    if number < 0:
        return
    said = blocks(messages[number])
    waits = number == len(messages) - 1 or any(block["type"] == "tool_use" for block in said)
    if waits and said and said[0]["type"] not in THOUGHTS:
        raise BadRequest(
            f"messages.{number}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
            f"`{said[0]['type']}`. When `thinking` is enabled, a final `assistant` message must start with a thinking "
            "block (preceding the lastmost set of `tool_use` and `tool_result` blocks)."
        )


# ------------------------------------------------------------------------------------------------ answers


def stop_reason(scene: Scene) -> str:
    if scene.finish == "stop":
        return "tool_use" if scene.calls else "end_turn"
    return {"length": "max_tokens", "filter": "refusal"}[scene.finish]


def usage_of(scene: Scene, output_tokens: int) -> Json:
    """What was read from a cache, or written to it, is counted beside `input_tokens`."""
    return {
        "input_tokens": scene.input_tokens - scene.cached_tokens - scene.cache_write_tokens,
        "cache_creation_input_tokens": scene.cache_write_tokens,
        "cache_read_input_tokens": scene.cached_tokens,
        "cache_creation": {"ephemeral_5m_input_tokens": scene.cache_write_tokens, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def message_of(model: str, content: list[Json], stop: str | None, usage: Json) -> Json:
    return {
        "model": model,
        "id": f"msg_{uuid.uuid4().hex[:24]}",
        "type": "message",
        "role": "assistant",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }


def message_whole(model: str, scene: Scene) -> Json:
    """The whole answer, however it fails: failing is the server's affair."""
    content: list[Json] = []
    if scene.thinking:
        content.append({"type": "thinking", "thinking": scene.thinking, "signature": scene.signature})
    if scene.text:
        content.append({"type": "text", "text": scene.text})
    for id, name, arguments in scene.calls:
        content.append({"type": "tool_use", "id": id, "name": name, "input": json.loads(arguments)})
    return message_of(model, content, stop_reason(scene), usage_of(scene, scene.output_tokens))


def message_events(model: str, scene: Scene) -> list[tuple[str, Json]]:
    """Every event of a stream that goes well, by name, `ping` among them; `failing` cuts it short."""
    made: list[tuple[str, Json]] = []

    def event(type: str, **data: Any) -> None:
        made.append((type, {"type": type, **data}))

    def block(start: Json, deltas: list[Json]) -> None:
        index = sum(name == "content_block_start" for name, _ in made)
        event("content_block_start", index=index, content_block=start)
        if index == 0:
            event("ping")
        for delta in deltas:
            event("content_block_delta", index=index, delta=delta)
        event("content_block_stop", index=index)

    event("message_start", message=message_of(model, [], None, usage_of(scene, 1)))
    if scene.thinking:
        thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in cut_up(scene.thinking, 11)]
        if scene.signature:
            thoughts.append({"type": "signature_delta", "signature": scene.signature})
        block({"type": "thinking", "thinking": "", "signature": ""}, thoughts)
    if scene.text:
        words = [{"type": "text_delta", "text": piece} for piece in scene.pieces()]
        block({"type": "text", "text": ""}, words)
    for id, name, arguments in scene.calls:
        # A call without arguments is streamed as no JSON at all.
        parts = ["", *cut_up(arguments, 5)] if json.loads(arguments) else [""]
        pieces = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        block({"type": "tool_use", "id": id, "name": name, "input": {}}, pieces)
    event("ping")
    ended = {"stop_reason": stop_reason(scene), "stop_sequence": None}
    event("message_delta", delta=ended, usage={"output_tokens": scene.output_tokens})
    event("message_stop")
    return made


def failing(events: list[tuple[str, Json]], scene: Scene, error: tuple[str, Json]) -> list[tuple[str, Json]]:
    """The events as far as the scene lets them come, then the error, if there is one."""
    if scene.fails == "first":
        return [error]
    if not scene.fails:
        return events
    names = [name for name, _ in events]
    known = names.index("content_block_delta") if "content_block_delta" in names else 0
    if "partial_json" in events[known][1].get("delta", {}):
        known = min(known + 1, len(events) - 1)  # the first piece of a call is empty
    return [*events[: known + 1], *([error] if scene.fails == "later" else [])]


def cut_up(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def sse(name: str, data: Json, *, crlf: bool = False) -> bytes:
    end = "\r\n" if crlf else "\n"
    said = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}{end}data: {said}{end}{end}".encode()


def counted(body: Json) -> int:
    """What `count_tokens` says: the words of all that is said, and three for each message."""
    return len(json.dumps(body.get("messages"), ensure_ascii=False).split()) + 3 * len(body["messages"])


# --------------------------------------------------------------------------------------------- behaviours

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
BROKEN = ("overloaded_error", "Overloaded")


def error_of(type: str, message: str, request_id: str) -> Json:
    return {"type": "error", "error": {"type": type, "message": message}, "request_id": request_id}


def respond(exchange: Exchange, status: int, data: Json, headers: Iterable[str] = ()) -> None:
    send_whole(exchange, status, json.dumps(data, ensure_ascii=False).encode(), headers)


def send_whole(
    exchange: Exchange, status: int, data: bytes, headers: Iterable[str] = (), *, bytes_at_once: int = 0
) -> None:
    if status in HTTPStatus.__members__.values():
        exchange.head(status, "application/json", length=len(data), headers=headers)
    else:  # 529 is Anthropic's own
        exchange.heard.status = status
        lines = [f"HTTP/1.1 {status} Overloaded", "Content-Type: application/json", f"Content-Length: {len(data)}"]
        exchange.send("\r\n".join([*lines, *headers, "", ""]).encode())
    for part in torn(data, bytes_at_once):
        exchange.send(part)


def refusal(status: int, message: str, *, type: str = "", headers: Iterable[str] = ()) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        id = f"req_{uuid.uuid4().hex[:24]}"
        said = error_of(type or TYPES.get(status, "api_error"), message, id)
        respond(exchange, status, said, [f"request-id: {id}", *headers])

    return behave


def play(scene: Scene, *, gate: Gate | None = None) -> Behaviour:
    """The scene, whole or streamed as asked; a gate holds each event (or the whole) back."""

    def behave(exchange: Exchange) -> None:
        id = f"req_{uuid.uuid4().hex[:24]}"
        headers = [f"request-id: {id}", "anthropic-organization-id: the-upstream-account"]
        if exchange.heard.path.startswith(COUNT):
            respond(exchange, 200, {"input_tokens": counted(exchange.body)}, headers)
        elif exchange.streams:
            error = ("error", error_of(*BROKEN, id))
            events = failing(message_events(exchange.body["model"], scene), scene, error)
            exchange.head(200, "text/event-stream; charset=utf-8", headers=["Cache-Control: no-cache", *headers])
            stream(exchange, [sse(*event, crlf=scene.crlf) for event in events], scene, gate)
        else:
            exchange.hold(lambda: gate is None or gate.allowed >= 1)
            made = message_whole(exchange.body["model"], scene)
            answer = error_of(*BROKEN, id) if scene.fails in ("first", "later") else made
            data = json.dumps(answer, ensure_ascii=False).encode()
            if scene.fails == "cut":
                cut_whole(exchange, data, headers)
            else:
                send_whole(exchange, 200, data, headers, bytes_at_once=scene.bytes_at_once)

    return behave


def stream(exchange: Exchange, events: Iterable[bytes], scene: Scene, gate: Gate | None = None) -> None:
    """The events in chunks of their own or torn, with comments where the scene has them, and the end of the body."""
    for number, data in enumerate(events, start=1):
        exchange.hold(lambda number=number: gate is None or gate.allowed >= number)  # type: ignore[misc]
        if scene.comments:
            exchange.chunk(b": keep-alive\r\n\r\n" if scene.crlf else b": keep-alive\n\n")
        for part in torn(data, scene.bytes_at_once):
            exchange.check()
            exchange.chunk(part)
        exchange.heard.frames += 1
    exchange.end()


def cut_whole(exchange: Exchange, data: bytes, headers: Iterable[str] = ()) -> None:
    """Half of the answer promised, then nothing more."""
    exchange.close()
    exchange.head(200, "application/json", length=len(data), headers=headers)
    exchange.send(data[: len(data) // 2])


# ------------------------------------------------------------------------------------------------- server

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
LISTING = "/v1/models"
NEVER_SENT = ("authorization", "api-key", "cookie", "x-forwarded-for", "x-gateway-clamped")


class Refused(Refusal):
    """The caller's fault, in Anthropic's words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.behave = refusal(status, message)


class FakeAnthropic(FakeServer):
    """Plays a scene for every model it lists, and whatever is scripted."""

    def __init__(self, key: str = KEY, models: Iterable[str] = MODELS) -> None:
        super().__init__()
        self.url = self.origin
        self.key = key
        self.models = list(models)
        self.most_per_page = 1000  # fewer: a listing comes in more pages than were asked for
        self.also_known: set[str] = set()  # body fields this server knows beyond the documented ones

    def forget(self) -> None:
        super().forget()
        self.also_known.clear()
        self.most_per_page = 1000

    def scene(self, model: str, *scenes: Scene) -> None:
        """From now on the model plays these, one per request; the last one stays."""
        self.script(model, *[play(each) for each in scenes])

    def refuse(self, model: str, status: int, text: str, headers: Iterable[str] = ()) -> None:
        self.script(model, refusal(status, text, headers=list(headers)))

    def behaviour(self, heard: Heard) -> Behaviour:
        path, _, query = heard.path.partition("?")
        self._check_head(heard, path)
        if path == LISTING:
            return self._list(query)
        if path.startswith(f"{LISTING}/"):
            return self._describe(urllib.parse.unquote(path.removeprefix(f"{LISTING}/")))
        if query not in ("", "beta=true"):
            self.complain(f"{heard.path} has a query.")
        self._check_body(heard, COUNT_FIELDS if path == COUNT else MESSAGES_FIELDS)
        model = heard.body["model"]
        if scripted := self.scripted(model):
            return scripted
        if model in self.models:
            return play(Scene())
        raise Refused(404, f"model: {model}")

    def _check_head(self, heard: Heard, path: str) -> None:
        listing = path == LISTING or path.startswith(f"{LISTING}/")
        if not listing and path not in (MESSAGES, COUNT):
            self.complain(f"{heard.method} {heard.path} does not exist here.")
            raise Refused(404, "Not Found")
        if heard.method != ("GET" if listing else "POST"):
            self.complain(f"{heard.method} {heard.path}")
            raise Refused(405, "Method Not Allowed")
        if heard.headers.get("host") != f"127.0.0.1:{self.port}":
            self.complain(f"Host: {heard.headers.get('host')}")
        for name in NEVER_SENT:
            if name in heard.headers:
                self.complain(f"The header {name} is none of the upstream's business.")
        if "x-api-key" not in heard.headers:
            self.complain("No credential came.")
            raise Refused(401, "x-api-key header is required")
        if heard.headers["x-api-key"] != self.key:
            self.complain("The credential is not this upstream's.")
            raise Refused(401, "invalid x-api-key")
        version = heard.headers.get("anthropic-version")
        if version is None:
            self.complain("The header anthropic-version is missing.")
            raise Refused(400, "anthropic-version: header is required")
        if version not in (VERSION, LATER_VERSION):
            self.complain(f"anthropic-version: {version}")
            raise Refused(400, f'anthropic-version: "{version}" is not a valid version')

    def _check_body(self, heard: Heard, known: set[str]) -> None:
        if heard.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            self.complain(f"Content-Type: {heard.headers.get('content-type')}")
            raise Refused(400, "Content-Type: expected application/json")
        if len(heard.raw) > LARGEST:
            raise Refused(413, "Request exceeds the maximum size")
        try:
            heard.body = json.loads(heard.raw.decode("utf-8"), object_pairs_hook=unique)
        except ValueError as error:
            self.complain(f"The body is no JSON: {error}")
            raise Refused(400, "The request body is not valid JSON") from error
        if not isinstance(heard.body, dict):
            self.complain("The body is no JSON object.")
            raise Refused(400, "Input should be an object")
        try:
            if heard.headers["anthropic-version"] == LATER_VERSION:
                known = known - set(SAMPLING)
            betas = heard.headers.get("anthropic-beta", "")
            check_messages_body(heard.body, known=known | self.also_known, needs_model=True, betas=betas)
        except BadRequest as error:
            raise Refused(400, error.message) from error

    def _described(self, name: str) -> Json:
        shown = name.replace("-", " ").title()
        return {"type": "model", "id": name, "display_name": shown, "created_at": "2025-09-29T00:00:00Z"}

    def _describe(self, name: str) -> Behaviour:
        if name not in self.models:
            raise Refused(404, f"model: {name}")
        return lambda exchange: respond(exchange, 200, self._described(name))

    def _list(self, query: str) -> Behaviour:
        asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        for name in asked:
            if name not in ("limit", "after_id", "before_id"):
                raise Refused(400, f"{name}: Extra inputs are not permitted")
        limit = asked.get("limit", "20")
        if not limit.isdecimal() or not 1 <= int(limit) <= 1000:
            raise Refused(400, "limit: Input should be a valid integer between 1 and 1000")
        for name in ("after_id", "before_id"):
            if name in asked and asked[name] not in self.models:
                raise Refused(400, f"{name}: Invalid cursor")
        start, stop = 0, len(self.models)
        size = min(int(limit), self.most_per_page)
        if "after_id" in asked:
            start = self.models.index(asked["after_id"]) + 1
        if "before_id" in asked:
            stop = self.models.index(asked["before_id"])
            start = max(start, stop - size)
        page = self.models[start : min(stop, start + size)]
        more = start > 0 if "before_id" in asked else start + len(page) < stop
        ends = {"first_id": page[0] if page else None, "last_id": page[-1] if page else None}
        listing = {"data": [self._described(name) for name in page], "has_more": more, **ends}
        return lambda exchange: respond(exchange, 200, listing)
