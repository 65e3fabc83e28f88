"""Anthropic's token counter (`POST /v1/messages/count_tokens`), and what stands in for it where there is none.

Source of the wire facts: Anthropic API reference, Count tokens in a Message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.conversation import Usage
from providers.documents import dumps
from providers.languages.anthropic_events import write_error
from providers.languages.anthropic_requests import check_messages, without_foreign_thoughts
from providers.languages.errors import answer_document
from providers.languages.fields import expect_model
from providers.languages.language import Envelope, Fault, Language
from providers.wire.errors import ProviderError

CHARACTERS_PER_TOKEN = 4
PICTURE = 1500  # tokens; also of a document that is no text
EACH = 4  # tokens around each message and each tool


class AnthropicCountTokens(Language):
    """Goes straight to upstreams that have a counter; nothing is translated."""

    name = "anthropic_count_tokens"
    work = "counting"
    translates = False
    passes = ("anthropic-version", "anthropic-beta")

    def peek(self, body: Mapping[str, Any]) -> Envelope:
        check_messages(body)
        return Envelope(expect_model(body))

    def write_error(self, fault: Fault, request_id: str) -> bytes:
        return dumps(write_error(fault, request_id))

    def estimated(self, body: Mapping[str, Any]) -> bytes:
        return dumps({"input_tokens": estimate(body)})

    def readdress(self, body: dict[str, Any], envelope: Envelope, model: str, ask_usage: bool) -> dict[str, Any]:
        return {**without_foreign_thoughts(body), "model": model}

    def pass_answer(self, body: bytes, model: str | None) -> tuple[bytes, Usage | None]:
        """To count takes no tokens, and none are to be guessed."""
        counted = answer_document(body).get("input_tokens")
        if isinstance(counted, bool) or not isinstance(counted, int):
            raise ProviderError("The upstream's answer holds no count.", kind="broken")
        return body, Usage()


def estimate(body: Mapping[str, Any]) -> int:
    """About how many tokens a prompt has: some too many rather than too few."""
    tools = body.get("tools")
    characters, pictures = _size([body.get("system"), body["messages"], tools])
    around = EACH * (len(body["messages"]) + (len(tools) if isinstance(tools, list) else 0))
    return max(1, -(-characters // CHARACTERS_PER_TOKEN) + pictures * PICTURE + around)


def _size(value: object) -> tuple[int, int]:
    """The characters of what is said in there, and the number of pictures."""
    characters = pictures = 0
    left = [value]
    while left:
        match left.pop():
            case list(items):
                left += items
            case str(text) | {"type": "text", "text": str(text)} | {"type": "thinking", "thinking": str(text)}:
                characters += len(text)
            case {"type": "image"} | {"type": "document", "source": {"type": "base64" | "url" | "file"}}:
                pictures += 1
            case {"type": "document", "source": {"data": text} | {"content": text}}:
                left.append(text)
            case {"type": "tool_use", "name": str(name), "input": arguments}:
                characters += len(name) + len(dumps(arguments))
            case {"content": inner}:  # messages, results of tools
                left.append(inner)
            case dict(tool) if "name" in tool:
                characters += len(dumps({name: tool[name] for name in tool if name != "cache_control"}))
    return characters, pictures
