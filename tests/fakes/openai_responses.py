"""OpenAI's Responses as the strict OpenAI server speaks it: what a body may be, the whole answer, and its events.

Shapes and wordings follow OpenAI's API reference, Responses. Nothing is stored here.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.fakes.server import Json

PATH = "/v1/responses"
FIELDS = set(
    (
        "background include input instructions max_output_tokens max_tool_calls metadata model parallel_tool_calls "
        "previous_response_id prompt_cache_key reasoning safety_identifier service_tier store stream stream_options "
        "temperature text tool_choice tools top_logprobs top_p truncation user"
    ).split()
)
SEAL = "gAAAAfake"  # encrypted reasoning of this server begins so
ENCRYPTED = "reasoning.encrypted_content"
PARTS = {
    "user": ("input_text", "input_image", "input_file"),
    "system": ("input_text",),
    "developer": ("input_text",),
    "assistant": ("output_text", "refusal"),
}
Refuse = Callable[[str, str], Exception]  # a sentence and the field -> what is raised


@dataclass(frozen=True)
class Spoken:
    """What the model says in one answer."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, str, str], ...] = ()  # id, function, arguments
    finish: str = "stop"
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


# ---------------------------------------------------------------------------------------- what a body may be


def check(body: Json, refuse: Refuse) -> None:
    given = body.get("input")
    if not isinstance(given, str | list) or not given:
        raise refuse("Missing required parameter: 'input'.", "input")
    if body.get("store") is not False and any(item.get("type") == "reasoning" for item in items(body)):
        raise refuse("Reasoning items are kept with the answer unless 'store' is false.", "store")
    for number, tool in enumerate(body.get("tools") or []):
        if tool.get("type") == "function" and not ("name" in tool and "parameters" in tool):
            raise refuse(f"Missing required parameter: 'tools[{number}].name'.", f"tools[{number}].name")
    wish = (body.get("text") or {}).get("format") or {"type": "text"}
    if wish.get("type") == "json_schema" and not ("name" in wish and "schema" in wish):
        raise refuse("Missing required parameter: 'text.format.name'.", "text.format.name")
    called: list[str] = []
    answered: list[str] = []
    for number, item in enumerate(items(body)):
        where = f"input[{number}]"
        match item.get("type", "message"):
            case "message":
                check_message(where, item, refuse)
            case "function_call":
                if not all(isinstance(item.get(name), str) for name in ("call_id", "name", "arguments")):
                    raise refuse(f"Missing required parameter: '{where}.call_id'.", where)
                called.append(item["call_id"])
            case "function_call_output":
                if item.get("call_id") not in called:
                    id = item.get("call_id")
                    raise refuse(f"No tool call found for function call output with call_id {id}.", "input")
                answered.append(item["call_id"])
            case "reasoning":
                check_reasoning(where, item, refuse)
            case kind:
                raise refuse(f"Invalid value: '{kind}'.", where)
    for id in called:
        if id not in answered:
            raise refuse(f"No tool output found for function call {id}.", "input")


def check_message(where: str, item: Json, refuse: Refuse) -> None:
    if item.get("role") not in PARTS:
        raise refuse(f"Invalid value: '{item.get('role')}'.", f"{where}.role")
    content = item.get("content")
    if isinstance(content, str):
        return
    for number, part in enumerate(content if isinstance(content, list) else [None]):
        if not isinstance(part, dict) or part.get("type") not in PARTS[item["role"]]:
            raise refuse(f"Invalid value in '{where}.content[{number}]'.", f"{where}.content[{number}]")


def check_reasoning(where: str, item: Json, refuse: Refuse) -> None:
    encrypted = item.get("encrypted_content")
    if not isinstance(item.get("summary"), list):
        raise refuse(f"Missing required parameter: '{where}.summary'.", f"{where}.summary")
    if encrypted is None:
        raise refuse(
            f"Item with id '{item.get('id')}' not found. Items are not persisted when `store` is false.", where
        )
    if not encrypted.startswith(SEAL) or not str(item.get("id", "")).startswith("rs_"):
        raise refuse("The encrypted content could not be verified.", f"{where}.encrypted_content")


def items(body: Json) -> list[Json]:
    given = body["input"]
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def said(body: Json) -> str:
    """The caller's last words, or what its tools have found."""
    found = [text_of(item.get("output")) for item in items(body) if item.get("type") == "function_call_output"]
    if found:
        return "The tools say: " + "; ".join(found)
    asked = [text_of(item.get("content")) for item in items(body) if item.get("role") == "user"]
    return "You said: " + (asked[-1] if asked else "nothing")


def text_of(content: object) -> str:
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def offered(body: Json) -> list[str]:
    return [tool["name"] for tool in body.get("tools") or [] if tool.get("type") == "function"]


def answered(body: Json) -> bool:
    """Whether a tool has given its result."""
    return any(item.get("type") == "function_call_output" for item in items(body))


# --------------------------------------------------------------------------------------------------- answers


def usage_of(spoken: Spoken) -> Json:
    return {
        "input_tokens": spoken.input_tokens,
        "input_tokens_details": {"cached_tokens": spoken.cached_tokens},
        "output_tokens": spoken.output_tokens,
        "output_tokens_details": {"reasoning_tokens": spoken.reasoning_tokens},
        "total_tokens": spoken.input_tokens + spoken.output_tokens,
    }


def output_of(body: Json, spoken: Spoken) -> list[Json]:
    status = "completed" if spoken.finish == "stop" else "incomplete"
    made: list[Json] = []
    if spoken.reasoning:
        summary = [{"type": "summary_text", "text": spoken.reasoning}]
        thought: Json = {"id": f"rs_{uuid.uuid4().hex}", "type": "reasoning", "summary": summary}
        if ENCRYPTED in (body.get("include") or []):
            thought["encrypted_content"] = f"{SEAL}{uuid.uuid4().hex}=="
        made.append(thought)
    if spoken.text:
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": spoken.text}
        id = f"msg_{uuid.uuid4().hex}"
        made.append({"id": id, "type": "message", "status": status, "role": "assistant", "content": [part]})
    for call, name, arguments in spoken.calls:
        id = f"fc_{uuid.uuid4().hex}"
        item = {"id": id, "type": "function_call", "status": "completed", "arguments": arguments}
        made.append({**item, "call_id": call, "name": name})
    return made


def response_of(body: Json, status: str) -> Json:
    repeated = ("instructions", "max_output_tokens", "metadata", "temperature", "top_p", "user")
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": body["model"],
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None, **(body.get("reasoning") or {})},
        "store": body.get("store", True),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "truncation": "disabled",
        "usage": None,
        **{name: body.get(name) for name in repeated},
    }


def ended(body: Json, spoken: Spoken, output: list[Json]) -> Json:
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(spoken.finish)
    response = response_of(body, "incomplete" if reason else "completed")
    details = {"reason": reason} if reason else None
    return {**response, "output": output, "incomplete_details": details, "usage": usage_of(spoken)}


def whole(body: Json, spoken: Spoken) -> Json:
    return ended(body, spoken, output_of(body, spoken))


def failed(body: Json, message: str) -> Json:
    return {**response_of(body, "failed"), "error": {"code": "server_error", "message": message}}


def events(body: Json, spoken: Spoken) -> Iterator[Json]:
    """Every event of a stream that goes well, in the order of the reference."""
    begun = response_of(body, "in_progress")
    output = output_of(body, spoken)
    made: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(output):
        made += item_events(index, item)
    over = ended(body, spoken, output)
    made.append({"type": f"response.{over['status']}", "response": {**over, "id": begun["id"]}})
    for number, event in enumerate(made):
        yield {"type": event["type"], "sequence_number": number, **event}


def item_events(index: int, item: Json) -> Iterator[Json]:
    place: Json = {"item_id": item["id"], "output_index": index}

    def event(kind: str, **more: Any) -> Json:
        return {"type": f"response.{kind}", **place, **more}

    empty = {"reasoning": {"summary": []}, "message": {"content": []}, "function_call": {"arguments": ""}}[item["type"]]
    progress = {"status": "in_progress"} if "status" in item else {}
    started = {name: value for name, value in item.items() if name != "encrypted_content"} | empty | progress
    yield {"type": "response.output_item.added", "output_index": index, "item": started}
    if item["type"] == "reasoning":
        [part] = item["summary"]
        yield event("reasoning_summary_part.added", summary_index=0, part={**part, "text": ""})
        for piece in pieces(part["text"]):
            yield event("reasoning_summary_text.delta", summary_index=0, delta=piece)
        yield event("reasoning_summary_text.done", summary_index=0, text=part["text"])
        yield event("reasoning_summary_part.done", summary_index=0, part=part)
    elif item["type"] == "message":
        [part] = item["content"]
        yield event("content_part.added", content_index=0, part={**part, "text": ""})
        for piece in pieces(part["text"]):
            yield event("output_text.delta", content_index=0, delta=piece, logprobs=[])
        yield event("output_text.done", content_index=0, text=part["text"], logprobs=[])
        yield event("content_part.done", content_index=0, part=part)
    else:
        for start in range(0, len(item["arguments"]), 5):
            yield event("function_call_arguments.delta", delta=item["arguments"][start : start + 5])
        yield event("function_call_arguments.done", arguments=item["arguments"])
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def pieces(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text)


def frame(event: Json, line_end: bytes = b"\n") -> bytes:
    data = json.dumps(event, separators=(",", ":")).encode()
    return b"event: " + event["type"].encode() + line_end + b"data: " + data + line_end * 2


def broken(number: int, message: str) -> Json:
    return {
        "type": "error", "sequence_number": number, "code": "server_error", "message": message, "param": None,
    }  # fmt: skip
