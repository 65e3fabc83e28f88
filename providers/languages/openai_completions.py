"""OpenAI legacy Completions (`POST /v1/completions`), both halves.

Translated, a prompt is a conversation of one user message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.conversation import (
    Answer,
    ChatRequest,
    Choice,
    Event,
    Finished,
    Message,
    Text,
    TextDelta,
    Usage,
)
from providers.documents import dumps
from providers.languages import openai
from providers.languages.errors import chunk_document
from providers.languages.fields import (
    asks_nothing,
    expect_count,
    expect_flag,
    expect_model,
    expect_number,
    expect_stop,
    expect_text,
    expect_usage_wish,
    expect_whole,
    index_in,
    objects_in,
    text_in,
)
from providers.languages.language import BadRequest, Envelope, Reader, Stamp, Writer
from providers.languages.messages import lone_prompt
from providers.languages.openai import OpenAILanguage, OpenAIWriter, sse
from providers.wire.errors import CannotCarry, ProviderError, cannot_carry
from providers.wire.frames import sse_data

NAME = "openai_completions"
READ = frozenset(
    (
        "model prompt stream stream_options max_tokens temperature top_p stop n seed presence_penalty "
        "frequency_penalty user"
    ).split()
)
INDISPENSABLE = frozenset(["suffix", "echo", "best_of", "logprobs", "logit_bias"])


class OpenAICompletions(OpenAILanguage):
    name = NAME
    work = "completion"
    words = {"messages": "prompt"}

    # -- server half --

    def peek(self, body: Mapping[str, Any]) -> Envelope:
        model = expect_model(body)
        if body.get("prompt") is None or not isinstance(body["prompt"], (str, list)):
            raise BadRequest("'prompt' must be a string or a list.", "prompt")
        return Envelope(
            model,
            stream=expect_flag(body, "stream"),
            include_usage=expect_usage_wish(body),
            max_tokens=_limit(body),
            user=expect_text(body, "user"),
        )

    def parse_request(self, body: Mapping[str, Any]) -> ChatRequest:
        envelope = self.peek(body)
        if body.get("max_tokens") == 0:
            raise CannotCarry("'max_tokens' of 0 cannot be carried to this upstream.", "max_tokens")
        prompt = body["prompt"]
        if isinstance(prompt, list):
            if len(prompt) != 1 or not isinstance(prompt[0], str):
                raise BadRequest("This model takes one prompt, as a string.", "prompt")
            prompt = prompt[0]
        extras = {
            name: value for name, value in body.items() if name not in READ and value is not None and value is not False
        }
        return ChatRequest(
            model=envelope.model,
            messages=(Message("user", (Text(prompt),)),),
            language=NAME,
            stream=envelope.stream,
            max_tokens=envelope.max_tokens,
            temperature=expect_number(body, "temperature"),
            top_p=expect_number(body, "top_p"),
            stop=expect_stop(body),
            n=expect_count(body, "n"),
            seed=expect_whole(body, "seed"),
            presence_penalty=expect_number(body, "presence_penalty"),
            frequency_penalty=expect_number(body, "frequency_penalty"),
            user=envelope.user,
            extras=extras,
            # To want the likelihoods of no other tokens is a wish all the same.
            indispensable=frozenset(
                name
                for name in INDISPENSABLE & extras.keys()
                if name == "logprobs" or not asks_nothing(name, extras[name])
            ),
        )

    def write_answer(self, answer: Answer, stamp: Stamp, request: ChatRequest | None = None) -> bytes:
        document: dict[str, Any] = {
            "id": f"cmpl-{stamp.id}",
            "object": "text_completion",
            "created": stamp.created,
            "model": stamp.model,
            "choices": [
                {
                    "text": "".join(part.text for part in choice.parts if isinstance(part, Text)),
                    "index": index,
                    "logprobs": None,
                    "finish_reason": choice.finish_reason,
                }
                for index, choice in enumerate(answer.choices)
            ],
        }
        if answer.usage is not None:
            document["usage"] = openai.write_usage(answer.usage)
        return dumps(document)

    def writer(self, stamp: Stamp, include_usage: bool, request: ChatRequest | None = None) -> Writer:
        return CompletionWriter(stamp, include_usage)

    # -- client half --

    def write_request(self, request: ChatRequest, model: str) -> dict[str, Any]:
        body: dict[str, Any] = dict(request.extras) if request.language == NAME else {}
        body["model"] = model
        body["prompt"] = _prompt(request)
        if request.stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        fields = {
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop": list(request.stop) or None,
            "n": request.n,
            "seed": request.seed,
            "presence_penalty": request.presence_penalty,
            "frequency_penalty": request.frequency_penalty,
            "user": request.user,
        }
        body.update((name, value) for name, value in fields.items() if value is not None)
        if "suffix" in request.indispensable:
            body["suffix"] = request.extras["suffix"]
        return body

    def dropped(self, request: ChatRequest, model: str) -> list[str]:
        return [name for name in super().dropped(request, model) if name != "suffix"]

    def read_answer(self, document: Any, request: ChatRequest | None = None) -> Answer:
        choices = objects_in(document, "choices")
        if not choices:
            raise ProviderError("The upstream's answer holds no choices.", kind="broken")
        return Answer(tuple(_read_choice(choice) for choice in choices), openai.read_usage(document.get("usage")))

    def reader(self, request: ChatRequest | None = None) -> Reader:
        return CompletionReader()

    def clamp(self, body: dict[str, Any], limit: int) -> tuple[dict[str, Any], str | None]:
        asked = body.get("max_tokens")
        if asked is not None and asked > limit:
            return {**body, "max_tokens": limit}, "max_tokens"
        return body, None


class CompletionWriter(OpenAIWriter):
    """Events as `text_completion` frames. Thinking has no place in this format and is left out."""

    id_prefix = "cmpl"
    object = "text_completion"

    def write(self, event: Event) -> bytes:
        match event:
            case TextDelta(text, choice):
                return self._piece(text, choice)
            case Finished(reason, choice):
                return self._piece("", choice, reason)
            case Usage():
                self._usage = event
        return b""

    def _piece(self, text: str, index: int, reason: str | None = None) -> bytes:
        choice = {"text": text, "index": index, "logprobs": None, "finish_reason": reason}
        return sse({**self._chunk, "choices": [choice]})


class CompletionReader(Reader):
    """`text_completion` frames as events."""

    def __init__(self) -> None:
        self._finished: set[int] = set()

    def read_frame(self, frame: bytes) -> list[Event]:
        data = sse_data(frame)
        if data is None:
            return []
        if data.strip() == b"[DONE]":
            self.ended = True
            return []
        document = chunk_document(data)
        events: list[Event] = []
        for choice in objects_in(document, "choices"):
            index = index_in(choice)
            if text := text_in(choice, "text"):
                events.append(TextDelta(text, index))
            if (reason := openai.finish_reason(choice.get("finish_reason"))) and index not in self._finished:
                self._finished.add(index)
                events.append(Finished(reason, index))
        if usage := openai.read_usage(document.get("usage")):
            events.append(usage)
        return events

    def read_end(self) -> list[Event]:
        if not self.ended and not self._finished:
            raise ProviderError("The upstream's answer ended before it was complete.", kind="cut")
        return []


def _limit(body: Mapping[str, Any]) -> int | None:
    # Zero is legal here: together with `echo` it asks for the log probabilities of the prompt alone.
    return None if body.get("max_tokens") == 0 else expect_count(body, "max_tokens")


def _prompt(request: ChatRequest) -> str:
    if request.tools:
        raise CannotCarry("Tools cannot be carried to an upstream that only completes text.", "tools")
    if request.json_format:
        raise CannotCarry("A JSON answer cannot be asked of an upstream that only completes text.", "response_format")
    lost = frozenset() if request.language == NAME else request.indispensable - {"suffix"}
    if lost:
        name = min(lost)
        raise cannot_carry(name)
    return lone_prompt(request.messages)


def _read_choice(choice: Any) -> Choice:
    reason = openai.finish_reason(choice.get("finish_reason"))
    if reason is None:
        raise ProviderError("The upstream's answer does not say why it ended.", kind="broken")
    text = text_in(choice, "text")
    return Choice((Text(text),) if text else (), reason)
