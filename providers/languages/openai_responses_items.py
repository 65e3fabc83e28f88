"""What OpenAI Responses answers: the response object, its items and the thoughts among them, in both directions.

Source of the wire facts: OpenAI API reference, Responses: the response object and its items.
"""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from providers.conversation import Answer, FinishReason, Opaque, Part, Text, Thinking, ToolCall, Usage
from providers.documents import dumps, loads
from providers.languages.errors import failure_in
from providers.languages.fields import count_in, object_in, objects_in, text_in
from providers.languages.language import Stamp
from providers.languages.openai_responses_tools import Origins, flat_name, free_text
from providers.wire.errors import ProviderError

NAME = "openai_responses"
# What we put into `encrypted_content` begins so, which nobody else's does.
SEAL = "swb1."
# An `Item.id` of a thought.
OURS = re.compile(r"rs_[0-9a-f]{32}_\d+")
# Between two parts of a summary, which are paragraphs.
PARAGRAPH = "\n\n"
PREFIXES = {"message": "msg", "reasoning": "rs", "call": "fc", "text_call": "ctc", "opaque": "item"}

Json = dict[str, Any]
Kind = Literal["message", "reasoning", "call", "text_call", "opaque"]
Status = Literal["in_progress", "completed", "incomplete", "failed"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


# -- thoughts and their signatures --


def sealed(text: str, signature: str) -> str:
    """A signed thought as callers keep it for us."""
    return SEAL + urlsafe_b64encode(dumps({"text": text, "signature": signature})).decode()


def unsealed(content: object) -> Thinking | None:
    """The thought that a caller kept for us; None for what we have not written."""
    if not isinstance(content, str) or not content.startswith(SEAL):
        return None
    try:
        document = loads(b64decode(content.removeprefix(SEAL), b"-_", validate=True))
    except ValueError:  # no base64, or no JSON
        return None
    match document:
        case {"text": str(text), "signature": str(signature)} if signature:
            return Thinking(text, signature)
    return None


def is_ours(item: Mapping[str, Any]) -> bool:
    """Whether a thought was put into words here: servers of this language refuse what they have not written."""
    sealed_here = text_in(item, "encrypted_content").startswith(SEAL)
    return item.get("type") == "reasoning" and (sealed_here or OURS.fullmatch(text_in(item, "id")) is not None)


def signature_of(item: Mapping[str, Any]) -> str | None:
    """What an upstream must get back of its thoughts; named, so that nobody else takes it for a signature of its own.

    The id belongs to it: an upstream refuses encrypted content under another one.
    """
    encrypted = text_in(item, "encrypted_content")
    return f"{NAME}:{encrypted}:{text_in(item, 'id')}" if encrypted else None


def thought_of(thinking: Thinking) -> Json | None:
    """The item an upstream of this language once wrote; None for a thought that comes from elsewhere."""
    name, _, rest = (thinking.signature or "").partition(":")
    if name != NAME:
        return None
    encrypted, _, id = rest.partition(":")
    item: Json = {"type": "reasoning", "summary": summary_of(thinking.text), "encrypted_content": encrypted}
    return {"id": id, **item} if id else item


def thought_in(item: Mapping[str, Any]) -> str:
    """The text of a reasoning item: the reasoning itself where it is told, else its summary."""
    told = [text_in(part, "text") for part in objects_in(item, "content")]
    return "".join(told) or PARAGRAPH.join(text_in(part, "text") for part in objects_in(item, "summary"))


def summary_of(text: str) -> list[Json]:
    return [{"type": "summary_text", "text": text}] if text else []


# -- the response object, written --


def response_document(
    stamp: Stamp,
    told: Mapping[str, Any],
    status: Status,
    output: Iterable[Json] = (),
    usage: Usage | None = None,
    reason: FinishReason = "stop",
) -> Json:
    """`told` is what of the request is repeated in its answer."""
    incomplete = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(reason)
    return {
        "id": f"resp_{stamp.id}",
        "object": "response",
        "created_at": stamp.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": incomplete} if status == "incomplete" else None,
        "model": stamp.model,
        "output": list(output),
        "previous_response_id": None,
        "store": False,
        **told,
        "usage": write_usage(usage) if usage is not None else None,
    }


def status_of(reason: FinishReason) -> Literal["completed", "incomplete"]:
    return "incomplete" if reason in ("length", "content_filter") else "completed"


def write_answer(answer: Answer, stamp: Stamp, told: Mapping[str, Any], origins: Origins) -> Json:
    choice = answer.choices[0]
    items: list[Item] = []
    for part in choice.parts:
        match part:
            case Text(text):
                if not items or items[-1].kind != "message":
                    items.append(Item("message", stamp, len(items)))
                items[-1].pieces.append(text)
            case Thinking(text, signature):
                items.append(Item("reasoning", stamp, len(items), [text], signature=signature))
            case ToolCall(id, name, arguments):
                items.append(Item.of_call(id, name, stamp, len(items), origins, [arguments]))
            case Opaque(language, value) if language == NAME:
                items.append(Item("opaque", stamp, len(items), value=value))
    status = status_of(choice.finish_reason)
    output = [item.document("completed") for item in items[:-1]] + [item.document(status) for item in items[-1:]]
    return response_document(stamp, told, status, output, answer.usage, choice.finish_reason)


class Item:
    """One item of the output while it is being said."""

    def __init__(
        self,
        kind: Kind,
        stamp: Stamp,
        index: int,
        pieces: list[str] | None = None,
        signature: str | None = None,
        call_id: str = "",
        named: Mapping[str, Any] | None = None,
        value: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        self.index = index
        self.id = f"{PREFIXES[kind]}_{stamp.id}_{index}"
        self.pieces = pieces if pieces is not None else []
        self.signature = signature
        self.call_id = call_id
        self.named = named or {}
        self.value = value or {}

    @classmethod
    def of_call(
        cls, id: str, name: str, stamp: Stamp, index: int, origins: Origins, pieces: list[str] | None = None
    ) -> Item:
        origin = origins.get(name)
        kind: Kind = "text_call" if origin and origin.takes_text else "call"
        return cls(kind, stamp, index, pieces, call_id=id, named=origin.name if origin else {"name": name})

    @property
    def text(self) -> str:
        said = "".join(self.pieces)
        return free_text(said) if self.kind == "text_call" else said

    @property
    def place(self) -> Json:
        """Where an event about this item belongs."""
        return {"item_id": self.id, "output_index": self.index}

    def document(self, status: ItemStatus) -> Json:
        text = self.text
        match self.kind:
            case "message":
                content = [] if status == "in_progress" else [text_part(text)]
                return {"id": self.id, "type": "message", "status": status, "role": "assistant", "content": content}
            case "reasoning":
                item: Json = {"id": self.id, "type": "reasoning", "summary": summary_of(text)}
                return item | ({"encrypted_content": sealed(text, self.signature)} if self.signature else {})
            case "call":
                said = text or "{}" if status == "completed" else text  # callers read it as JSON
                item = {"id": self.id, "type": "function_call", "status": status, "arguments": said}
                return item | {"call_id": self.call_id, **self.named}
            case "text_call":
                item = {"id": self.id, "type": "custom_tool_call", "status": status, "input": text}
                return item | {"call_id": self.call_id, **self.named}
        return dict(self.value)


def text_part(text: str) -> Json:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def write_usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


# -- the response object, read --


def read_usage(value: object) -> Usage | None:
    """The `usage` object; counters that are missing or null are 0."""
    if not isinstance(value, dict) or not value:
        return None
    details = value.get("input_tokens_details")
    return Usage(
        input=count_in(value, "input_tokens"),
        output=count_in(value, "output_tokens"),
        cached=count_in(details, "cached_tokens"),
        cache_write=count_in(details, "cache_write_tokens"),
        reasoning=count_in(value.get("output_tokens_details"), "reasoning_tokens"),
    )


def finish_of(response: Mapping[str, Any], called: bool = False) -> FinishReason:
    """Why a response ended. Raises ProviderError when it did not end well, or does not say so."""
    match response.get("status"):
        case "completed":
            calls = called or any(item.get("type") == "function_call" for item in objects_in(response, "output"))
            return "tool_calls" if calls else "stop"
        case "incomplete":
            filtered = text_in(object_in(response, "incomplete_details"), "reason") == "content_filter"
            return "content_filter" if filtered else "length"
        case "failed" | "cancelled":
            raise failure_in(response)
    raise ProviderError("The upstream's answer does not say why it ended.", kind="broken")


def parts_of(item: Mapping[str, Any]) -> list[Part]:
    """What one item of the output says."""
    match item.get("type"):
        case "message":
            return [Text(text) for part in objects_in(item, "content") if (text := text_in(part, "text", "refusal"))]
        case "reasoning":
            thinking = Thinking(thought_in(item), signature_of(item))
            return [thinking] if thinking.text or thinking.signature else []
        case "function_call":
            name = flat_name(text_in(item, "namespace"), text_in(item, "name"))
            return [ToolCall(text_in(item, "call_id"), name, text_in(item, "arguments"))]
    return [Opaque(NAME, item)]
