"""Ollama's embeddings: `POST /api/embed`, both halves, and for callers the older `POST /api/embeddings`.

Source of the wire facts: Ollama API reference (ollama/ollama, docs/api.md), api/types.go and server/routes.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.capabilities import Needs
from providers.conversation import EmbeddingRequest, Embeddings, Usage
from providers.documents import dumps
from providers.languages.errors import answer_document
from providers.languages.fields import expect_count, expect_model, expect_object, expect_text, vector_of
from providers.languages.language import BadRequest, EmbeddingLanguage, Envelope, Stamp
from providers.languages.model_names import with_model
from providers.languages.ollama_records import SECOND, OllamaLanguage, usage_in
from providers.wire.errors import CannotCarry, ProviderError

Inputs = tuple[str, ...]
EXTRAS = ("truncate", "options", "keep_alive")


class VectorLanguage(OllamaLanguage, EmbeddingLanguage):
    """What both have in common. Whoever gives no text gets no vectors."""

    work = "embedding"
    family = "ollama"

    def inputs(self, body: Mapping[str, Any]) -> Inputs:
        """Raises BadRequest."""
        raise NotImplementedError

    def peek(self, body: Mapping[str, Any]) -> Envelope:
        model = expect_model(body)
        expect_object(body, "options")
        self.inputs(body)
        return Envelope(model)

    def needs(self, body: Mapping[str, Any]) -> Needs:
        return {"embeddings": "model"}

    def asks_nothing(self, body: Mapping[str, Any]) -> bool:
        return not self.inputs(body)

    def write_nothing(self, body: Mapping[str, Any], stamp: Stamp) -> bytes:
        return self.write_embeddings(Embeddings(()), EmbeddingRequest(stamp.model, ()), stamp)

    def parse_embedding(self, body: Mapping[str, Any]) -> EmbeddingRequest:
        return EmbeddingRequest(
            expect_model(body),
            self.inputs(body),
            dimensions=expect_count(body, "dimensions"),
            language=self.family,
            extras={name: body[name] for name in EXTRAS if body.get(name) is not None},
        )


class OllamaEmbed(VectorLanguage):
    name = "ollama_embed"

    # -- server half --

    def inputs(self, body: Mapping[str, Any]) -> Inputs:
        given = body.get("input")
        if given is None or given == "":
            return ()
        inputs = [given] if isinstance(given, str) else given
        if not isinstance(inputs, list) or not all(isinstance(item, str) for item in inputs):
            raise BadRequest("'input' must be a text or a list of texts.", "input")
        return tuple(inputs)

    def write_embeddings(self, answer: Embeddings, request: EmbeddingRequest, stamp: Stamp) -> bytes:
        document: dict[str, Any] = {"model": stamp.model, "embeddings": [list(vector) for vector in answer.vectors]}
        document |= {"total_duration": int(stamp.elapsed * SECOND), "load_duration": 0}
        if answer.usage is not None:
            document["prompt_eval_count"] = answer.usage.input
        return dumps(document)

    # -- client half --

    def write_embedding_request(self, request: EmbeddingRequest, model: str) -> dict[str, Any]:
        if not all(isinstance(item, str) for item in request.inputs):
            raise CannotCarry("This upstream makes embeddings of texts, not of token ids.", "input")
        body: dict[str, Any] = {**self.extras_of(request), "model": model, "input": list(request.inputs)}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        return body

    def read_embeddings(self, document: Any) -> Embeddings:
        return Embeddings(tuple(map(vector_of, _rows(document))), usage_in(document))

    # -- straight through --

    def pass_answer(self, body: bytes, model: str | None) -> tuple[bytes, Usage | None]:
        document = answer_document(body)
        _rows(document)
        return with_model(body, document, model), usage_in(document)


class OllamaEmbeddings(VectorLanguage):
    """The older form: one prompt, one vector, nothing else."""

    name = "ollama_embeddings"

    def inputs(self, body: Mapping[str, Any]) -> Inputs:
        prompt = expect_text(body, "prompt")
        return (prompt,) if prompt else ()

    def write_embeddings(self, answer: Embeddings, request: EmbeddingRequest, stamp: Stamp) -> bytes:
        return dumps({"embedding": list(answer.vectors[0]) if answer.vectors else []})


def _rows(document: Mapping[str, Any]) -> list[Any]:
    rows = document.get("embeddings")
    if not isinstance(rows, list):
        raise ProviderError("The upstream's answer holds no vectors.", kind="broken")
    return rows
