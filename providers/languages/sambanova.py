"""SambaNova's dialects of OpenAI: the official API, and what its web console takes.

Source: SambaNova's OpenAPI description as published with its SDK, and its documentation of errors and chat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.conversation import ChatRequest, Image
from providers.languages.dialects import ChatDialect, CompletionDialect
from providers.languages.fields import text_in
from providers.languages.messages import data_url
from providers.wire.errors import CannotCarry

SAMPLING = frozenset("model stream stream_options max_tokens temperature top_p top_k do_sample stop n seed".split())
EFFORTS: Mapping[str, str] = {"none": "low", "minimal": "low", "low": "low", "medium": "medium"}


class SambaNovaChat(ChatDialect):
    """The penalties are accepted there and ignored, so they are left out; the bias of tokens is refused."""

    name = "sambanova_chat"
    carries = SAMPLING | frozenset(
        "messages tools tool_choice parallel_tool_calls response_format reasoning_effort chat_template_kwargs".split()
    )

    def repaired_request(self, body: dict[str, Any], request: ChatRequest) -> dict[str, Any]:
        if request.tools and (request.n or 1) > 1:
            raise CannotCarry("This upstream gives one answer when tools are offered.", "n")
        body["messages"] = [_message(message) for message in body["messages"]]
        if effort := body.get("reasoning_effort"):
            body["reasoning_effort"] = EFFORTS.get(effort, "high")
        return body


class SambaNovaConsole(SambaNovaChat):
    """What the console's own front end sends, and nothing else."""

    name = "sambanova_console"
    carries = frozenset("model messages stream stream_options max_tokens temperature do_sample stop".split())

    def repaired_request(self, body: dict[str, Any], request: ChatRequest) -> dict[str, Any]:
        body = super().repaired_request(body, request)
        if (temperature := body.get("temperature")) is not None:
            body["do_sample"] = temperature > 0
        return body


class SambaNovaCompletions(CompletionDialect):
    name = "sambanova_completions"
    carries = SAMPLING | {"prompt"}


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """Older models take nothing but a text as content, so a list of texts is joined."""
    if "reasoning_content" in message:
        message["reasoning"] = message.pop("reasoning_content")
    content = message["content"]
    if isinstance(content, list):
        texts = [part.get("text") for part in content if part["type"] == "text"]
        whole = len(texts) == len(content)
        message["content"] = "\n\n".join(texts) if whole else [_part(part) for part in content]
    return message


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "image_url":
        data_url(Image(part["image_url"]["url"]))
    if part["type"] == "input_audio" and isinstance(audio := part.get("input_audio"), dict):
        content = f"data:audio/{text_in(audio, 'format')};base64,{text_in(audio, 'data')}"
        return {"type": "audio_content", "audio_content": {"content": content}}
    return part
