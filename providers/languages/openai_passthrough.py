"""OpenAI-shaped work that is handed on as it is: images, speech, transcription, moderation, reranking.

Only `model` is read and written, in JSON and in forms; answers of whatever type go back as they come.

Source of the wire facts: OpenAI API reference, images, audio and moderations; for reranking what Cohere, Jina and
vLLM have in common.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers.conversation import FinishReason, Usage
from providers.documents import BadDocument, loads
from providers.languages import openai
from providers.languages.errors import answer_document, checked
from providers.languages.fields import count_in, expect_model, expect_text
from providers.languages.language import BadRequest, Envelope, Fault, Tap
from providers.languages.model_names import ModelName, with_model
from providers.languages.openai import OpenAILanguage
from providers.wire.frames import sse_data

ANYTHING = re.compile(rb".+", re.DOTALL)
EVENTS = "text/event-stream"
COUNTED = (b'"usage"', b'"error"')
TOLD = (b'"model"', *COUNTED)  # a frame without any of these holds nothing to read


class PassThrough(OpenAILanguage):
    """Goes straight to upstreams that have it; nothing is translated."""

    translates = False

    def peek(self, body: Mapping[str, Any]) -> Envelope:
        # A form can only say it in words.
        stream = body.get("stream") in (True, "true", "True", "1")
        return Envelope(expect_model(body), stream, user=expect_text(body, "user"))

    def readdress(self, body: dict[str, Any], envelope: Envelope, model: str, ask_usage: bool) -> dict[str, Any]:
        return {**body, "model": model}

    def pass_answer(self, body: bytes, model: str | None) -> tuple[bytes, Usage | None]:
        if not body.lstrip().startswith(b"{"):
            return body, None  # a text or a list: there is nothing in it to name or to count
        document = answer_document(body)
        return with_model(body, document, model), read_counts(document.get("usage"))

    def watch(self, content_type: str, model: str | None) -> Tap:
        """A tap for an answer that is no JSON."""
        return EventTap(model) if content_type == EVENTS else BytesTap()


class ImageGenerations(PassThrough):
    name = "openai_image_generations"
    work = "image"


class ImageEdits(PassThrough):
    name = "openai_image_edits"
    work = "image"


class ImageVariations(PassThrough):
    name = "openai_image_variations"
    work = "image"


class Speech(PassThrough):
    name = "openai_speech"
    work = "speech"


class Transcriptions(PassThrough):
    name = "openai_transcriptions"
    work = "transcription"


class Translations(PassThrough):
    name = "openai_translations"
    work = "transcription"


class Moderations(PassThrough):
    name = "openai_moderations"
    work = "moderation"

    def peek(self, body: Mapping[str, Any]) -> Envelope:
        if body.get("model") is None:
            raise BadRequest("A model is needed: the gateway has no moderation model of its own choice.", "model")
        return super().peek(body)


class Rerank(PassThrough):
    name = "rerank"
    work = "rerank"


PATHS: Mapping[str, str] = {
    ImageGenerations.name: "/images/generations",
    ImageEdits.name: "/images/edits",
    ImageVariations.name: "/images/variations",
    Speech.name: "/audio/speech",
    Transcriptions.name: "/audio/transcriptions",
    Translations.name: "/audio/translations",
    Moderations.name: "/moderations",
    Rerank.name: "/rerank",
}


class EventTap(Tap):
    """Server-Sent Events of whatever kind: they end with their body, or with `[DONE]`."""

    def __init__(self, model: str | None) -> None:
        self._name = ModelName(model)

    def see(self, frame: bytes) -> bytes | None:
        data = sse_data(frame)
        if data is None:
            return frame
        self.finish_reason = "stop"
        if data.strip() == b"[DONE]":
            self.ended = True
        elif any(name in data for name in TOLD):
            frame = self._read(frame, data)
        self.content = True
        return frame

    def _read(self, frame: bytes, data: bytes) -> bytes:
        if self._name.theirs and not any(name in data for name in COUNTED):
            return self._name.swap(frame)
        try:
            document = loads(data)
        except BadDocument:
            return frame
        if not isinstance(document, dict):
            return frame
        self.usage = read_counts(checked(document).get("usage")) or self.usage
        self._name.learn(frame, document)
        return self._name.swap(frame)

    def fail(self, fault: Fault, request_id: str) -> bytes:
        return openai.sse(openai.error_document(fault))


class BytesTap(Tap):
    """Sound, pictures, plain text: what comes goes, and nothing can be said in it."""

    frame_end = ANYTHING
    finish_reason: FinishReason | None = "stop"  # it ends with its body, which may be empty

    def see(self, frame: bytes) -> bytes | None:
        self.content = True
        return frame

    def fail(self, fault: Fault, request_id: str) -> None:
        return None


def read_counts(value: object) -> Usage | None:
    """Tokens, as images, audio and reranking count them; None where seconds or nothing at all is counted."""
    if not isinstance(value, dict):
        return None
    taken = count_in(value, "input_tokens") or count_in(value, "prompt_tokens")
    made = count_in(value, "output_tokens") or count_in(value, "completion_tokens")
    taken = taken or max(0, count_in(value, "total_tokens") - made)
    if not taken and not made:
        return None
    # The reference has `input_tokens_details` for images and `input_token_details` for audio.
    details = value.get("input_tokens_details") or value.get("input_token_details")
    return Usage(taken, made, cached=count_in(details, "cached_tokens"), audio_input=count_in(details, "audio_tokens"))
