"""OpenAI Embeddings (`POST /v1/embeddings`), both halves. Base64 is little-endian float32."""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from providers.capabilities import Needs
from providers.conversation import EmbeddingRequest, Embeddings, Usage
from providers.documents import dumps
from providers.languages import openai
from providers.languages.errors import answer_document
from providers.languages.fields import expect_count, expect_model, expect_text, index_in, objects_in, vector_of
from providers.languages.language import BadRequest, EmbeddingLanguage, Envelope, Stamp
from providers.languages.model_names import with_model
from providers.languages.openai import OpenAILanguage
from providers.wire.errors import ProviderError

NAME = "openai_embeddings"
READ = frozenset(("model", "input", "encoding_format", "dimensions", "user"))


class OpenAIEmbeddings(OpenAILanguage, EmbeddingLanguage):
    name = NAME
    family = "openai"
    work = "embedding"

    def peek(self, body: Mapping[str, Any]) -> Envelope:
        model = expect_model(body)
        if not body.get("input") or not isinstance(body["input"], (str, list)):
            raise BadRequest("'input' must be a text, or a list of texts or token ids, and not empty.", "input")
        return Envelope(model, user=expect_text(body, "user"))

    def needs(self, body: Mapping[str, Any]) -> Needs:
        return {"embeddings": "model"}

    def pass_answer(self, body: bytes, model: str | None) -> tuple[bytes, Usage | None]:
        document = answer_document(body)
        if not isinstance(document.get("data"), list):
            raise ProviderError("The upstream's answer holds no vectors.", kind="broken")
        return with_model(body, document, model), openai.read_usage(document.get("usage"))

    def parse_embedding(self, body: Mapping[str, Any]) -> EmbeddingRequest:
        envelope = self.peek(body)
        encoding: Any = body.get("encoding_format") or "float"
        if encoding not in ("float", "base64"):
            raise BadRequest("'encoding_format' must be float or base64.", "encoding_format")
        return EmbeddingRequest(
            model=envelope.model,
            inputs=_inputs(body["input"]),
            encoding=encoding,
            dimensions=expect_count(body, "dimensions"),
            user=envelope.user,
            language=self.family,
            extras={name: value for name, value in body.items() if name not in READ and value is not None},
        )

    def write_embeddings(self, answer: Embeddings, request: EmbeddingRequest, stamp: Stamp) -> bytes:
        tokens = answer.usage.input if answer.usage else 0
        return dumps(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": index, "embedding": _encode(vector, request.encoding)}
                    for index, vector in enumerate(answer.vectors)
                ],
                "model": stamp.model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    def write_embedding_request(self, request: EmbeddingRequest, model: str) -> dict[str, Any]:
        inputs = [item if isinstance(item, str) else list(item) for item in request.inputs]
        body: dict[str, Any] = {**self.extras_of(request), "model": model, "input": inputs}
        fields = {"encoding_format": request.encoding, "dimensions": request.dimensions, "user": request.user}
        body.update((name, value) for name, value in fields.items() if value is not None)
        return body

    def read_embeddings(self, document: Any) -> Embeddings:
        if not isinstance(document, dict) or document.get("data") is None:
            raise ProviderError("The upstream's answer holds no vectors.", kind="broken")
        rows = sorted(objects_in(document, "data"), key=index_in)
        return Embeddings(
            tuple(_decode(row.get("embedding")) for row in rows), openai.read_usage(document.get("usage"))
        )


def _inputs(value: str | list[Any]) -> tuple[str | tuple[int, ...], ...]:
    if isinstance(value, str):
        return (value,)
    if all(isinstance(item, int) and not isinstance(item, bool) for item in value):
        return (tuple(value),)
    inputs: list[str | tuple[int, ...]] = []
    for index, item in enumerate(value):
        if isinstance(item, str):
            inputs.append(item)
        elif isinstance(item, list) and item and all(isinstance(token, int) for token in item):
            inputs.append(tuple(item))
        else:
            raise BadRequest("An input must be a text or a list of token ids.", f"input[{index}]")
    return tuple(inputs)


def _encode(vector: tuple[float, ...], encoding: str) -> str | list[float]:
    if encoding == "base64":
        try:
            return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
        except (struct.error, OverflowError) as error:
            raise ProviderError("The upstream sent a vector with a number that is too large.", kind="broken") from error
    return list(vector)


def _decode(value: object) -> tuple[float, ...]:
    try:
        if isinstance(value, str):
            raw = b64decode(value, validate=True)
            return struct.unpack(f"<{len(raw) // 4}f", raw)
    except (ValueError, struct.error) as error:
        raise ProviderError("The upstream sent a vector that is not base64 of float32.", kind="broken") from error
    return vector_of(value)
