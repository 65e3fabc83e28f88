"""Ollama's generate (`POST /api/generate`), both halves. A prompt is what a user says: the server puts it into the
model's template, so that translated it is a conversation.

Source of the wire facts: Ollama API reference (ollama/ollama, docs/api.md), api/types.go and server/routes.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.capabilities import Needs
from providers.conversation import ChatRequest, Image, Message, Text
from providers.languages.fields import expect_text
from providers.languages.messages import lone_prompt
from providers.languages.ollama_chat import write_tools
from providers.languages.ollama_fields import (
    WORDS,
    PromptLanguage,
    read_images,
    refuse,
    write_fields,
    write_image,
)
from providers.wire.errors import CannotCarry

NAME = "ollama_generate"
READ = frozenset("model prompt system images stream format options think".split())
INDISPENSABLE = frozenset(("suffix", "raw", "template", "context", "logprobs", "top_logprobs"))


class OllamaGenerate(PromptLanguage):
    name = NAME
    work = "completion"
    translated_as = "chat"
    words = {**WORDS, "messages": "prompt"}
    read_fields = READ
    indispensable = INDISPENSABLE

    # -- server half --

    def check(self, body: Mapping[str, Any]) -> None:
        expect_text(body, "prompt")

    def asks_nothing(self, body: Mapping[str, Any]) -> bool:
        """Without a prompt the model is only to be loaded, or unloaded."""
        return not body.get("prompt")

    def say(self, text: str, more: Mapping[str, Any]) -> dict[str, Any]:
        return {"response": text, **more}

    def needs(self, body: Mapping[str, Any]) -> Needs:
        needs = dict(super().needs(body))
        if body.get("images"):
            needs["images"] = "images"
        return needs

    def messages(self, body: Mapping[str, Any]) -> tuple[Message, ...]:
        system = expect_text(body, "system")
        asked = Message("user", (Text(body.get("prompt") or ""), *read_images(body, "images")))
        return (Message("system", (Text(system),)), asked) if system else (asked,)

    # -- client half --

    def write_request(self, request: ChatRequest, model: str) -> dict[str, Any]:
        own = request.language == NAME
        if not own:
            refuse(request.indispensable - {"suffix"})
        if write_tools(request):
            raise CannotCarry("Tools cannot be carried to an upstream that only completes text.", "tools")
        body = {"model": model, **(_own_prompt(request) if own else _prompt(request)), **write_fields(request, NAME)}
        if "suffix" in request.indispensable:
            body["suffix"] = request.extras["suffix"]
        return body

    def dropped(self, request: ChatRequest, model: str) -> list[str]:
        return [name for name in super().dropped(request, model) if name not in request.indispensable]


def _own_prompt(request: ChatRequest) -> dict[str, Any]:
    """What `messages` has read, written back."""
    body: dict[str, Any] = {}
    images: list[str] = []
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Image):
                images.append(write_image(part))
            elif isinstance(part, Text):
                body["system" if message.role == "system" else "prompt"] = _worth_asking(part.text)
    return {**body, **({"images": images} if images else {})}


def _prompt(request: ChatRequest) -> dict[str, str]:
    return {"prompt": _worth_asking(lone_prompt(request.messages))}


def _worth_asking(text: str) -> str:
    if not text:
        # An empty prompt would load the model and answer nothing.
        raise CannotCarry("This upstream needs a prompt to complete.", "prompt")
    return text
