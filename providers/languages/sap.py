"""What SAP AI Core speaks besides the formats of the models' makers: OpenAI's with closed lists of fields,
orchestration, and Titan's vectors.

Sources: SAP AI SDK, orchestration api.yaml (v2) and AI_CORE_API.yaml; Azure OpenAI and Amazon Titan as deployed there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.conversation import Answer, ChatRequest, EmbeddingRequest, Embeddings, Event, Usage
from providers.languages.anthropic_messages import AnthropicMessages
from providers.languages.dialects import ChatDialect, DialectReader, without_thoughts
from providers.languages.fields import count_in, object_in, objects_in, text_in
from providers.languages.language import EmbeddingLanguage, Reader
from providers.languages.openai_embeddings import OpenAIEmbeddings
from providers.wire.errors import CannotCarry, ProviderError

OPENAI_FIELDS = frozenset(
    (
        "model messages stream stream_options temperature top_p max_tokens stop n seed presence_penalty "
        "frequency_penalty logit_bias tools tool_choice parallel_tool_calls response_format user reasoning_effort "
        "prediction"
    ).split()
)
# Models that think take no sampling parameters, and name their limit otherwise.
REASONING = ("o1", "o3", "o4", "gpt-5")
REASONING_FIELDS = OPENAI_FIELDS - {"temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias"}
THROUGH = "orchestration/"  # in front of a model's name: it is reached through orchestration


def reasons(model: str) -> bool:
    return model.lower().removeprefix(THROUGH).startswith(REASONING)


class AzureChat(ChatDialect):
    """The OpenAI family: an unknown field is refused."""

    name = "azure_chat"
    carries = OPENAI_FIELDS

    def repaired_request(self, body: dict[str, Any], request: ChatRequest) -> dict[str, Any]:
        return without_thoughts(body)


class AzureReasoning(AzureChat):
    name = "azure_reasoning"
    carries = REASONING_FIELDS
    renames = {"max_tokens": "max_completion_tokens"}


class BedrockMessages(AnthropicMessages):
    """Claude through Bedrock's `invoke`: Messages without a word for who the user is."""

    name = "bedrock_messages"
    drops = (*AnthropicMessages.drops, "user")
    takes = frozenset(["top_k"])


class AICoreChat(ChatDialect):
    """Open models, Mistral, IBM and Perplexity: as OpenAI, without what only its own models know."""

    name = "aicore_chat"
    carries = OPENAI_FIELDS - {"reasoning_effort", "prediction", "logit_bias"}

    def repaired_request(self, body: dict[str, Any], request: ChatRequest) -> dict[str, Any]:
        return without_thoughts(body)


class Orchestration(ChatDialect):
    """The conversation goes into the history, for what stands in a template is read as one, braces and all.

    The template must hold a message, which comes behind the history: it is the last one, its words put there by
    placeholders, whose values are not read as a template.
    """

    name = "sap_orchestration"
    carries = OPENAI_FIELDS

    def repaired_request(self, body: dict[str, Any], request: ChatRequest) -> dict[str, Any]:
        *history, last = map(_message, body["messages"])
        template, values = _as_template(last)
        prompt: dict[str, Any] = {"template": [template]}
        prompt |= {name: body[name] for name in ("tools", "response_format") if name in body}
        params = {name: value for name, value in body.items() if name not in OUTSIDE_PARAMS}
        model = {"name": body["model"].removeprefix(THROUGH), "version": "latest", "params": params}
        config: dict[str, Any] = {"modules": {"prompt_templating": {"prompt": prompt, "model": model}}}
        if request.stream:
            config["stream"] = {"enabled": True}
        return {"config": config, "placeholder_values": values, "messages_history": history}

    def read_answer(self, document: Any, request: ChatRequest | None = None) -> Answer:
        result = object_in(document, "final_result")
        if not result:
            raise ProviderError("The upstream's answer holds no result.", kind="broken")
        return super().read_answer(_with_thoughts(result, "message"), request)

    def reader(self, request: ChatRequest | None = None) -> Reader:
        return OrchestrationReader(self, request)


class OrchestrationReasoning(Orchestration):
    name = "sap_orchestration_reasoning"
    carries = REASONING_FIELDS
    renames = {"max_tokens": "max_completion_tokens"}


OUTSIDE_PARAMS = frozenset(("model", "messages", "tools", "response_format", "stream"))


class OrchestrationReader(DialectReader):
    """Chunks wrapped in `final_result`; the first events may hold none."""

    def read_chunk(self, document: Mapping[str, Any]) -> list[Event]:
        return super().read_chunk(_with_thoughts(object_in(document, "final_result"), "delta"))


class OrchestrationEmbeddings(OpenAIEmbeddings):
    """`POST /v2/embeddings`: OpenAI's list of vectors in a wrapping."""

    name = "sap_orchestration_embed"

    def write_embedding_request(self, request: EmbeddingRequest, model: str) -> dict[str, Any]:
        if not all(isinstance(item, str) for item in request.inputs):
            raise CannotCarry("This upstream reads texts, not token ids.", "input")
        params = {"dimensions": request.dimensions} if request.dimensions is not None else {}
        modules = {"embeddings": {"model": {"name": model.removeprefix(THROUGH), "params": params}}}
        return {"config": {"modules": modules}, "input": {"text": list(request.inputs)}}

    def read_embeddings(self, document: Any) -> Embeddings:
        return super().read_embeddings(object_in(document, "final_result"))


class TitanEmbed(EmbeddingLanguage):
    """Amazon Titan on Bedrock: one text, one vector."""

    name = "titan_embed"
    work = "embedding"

    def write_embedding_request(self, request: EmbeddingRequest, model: str) -> dict[str, Any]:
        if len(request.inputs) != 1 or not isinstance(request.inputs[0], str):
            raise CannotCarry("This upstream reads one text at a time.", "input")
        if request.dimensions is not None:
            raise CannotCarry("The size of the vectors is fixed on this upstream.", "dimensions")
        return {"inputText": request.inputs[0]}

    def read_embeddings(self, document: Any) -> Embeddings:
        vector = document.get("embedding") if isinstance(document, dict) else None
        if not isinstance(vector, list) or not all(isinstance(number, (int, float)) for number in vector):
            raise ProviderError("The upstream's answer holds no vector.", kind="broken")
        return Embeddings((tuple(vector),), Usage(input=count_in(document, "inputTextTokenCount")))


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Without what has no place there: names, thoughts, and the empty content of whoever calls tools."""
    kept = {name: value for name, value in message.items() if name not in ("name", "reasoning_content")}
    if message["role"] == "assistant" and not message["content"] and message.get("tool_calls"):
        del kept["content"]
    return kept


def _as_template(message: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The message with a placeholder for each of its texts, and what they stand for."""
    values: dict[str, str] = {}

    def put_aside(text: str) -> str:
        name = f"text{len(values)}"
        values[name] = text
        return f"{{{{?{name}}}}}"

    match message.get("content"):
        case str(text):
            return {**message, "content": put_aside(text)}, values
        case list(parts):
            written = [part | ({"text": put_aside(part["text"])} if part["type"] == "text" else {}) for part in parts]
            return {**message, "content": written}, values
    return message, values


def _with_thoughts(result: Mapping[str, Any], name: str) -> dict[str, Any]:
    choices = [{**choice, name: _thought(object_in(choice, name))} for choice in objects_in(result, "choices")]
    return {**result, "choices": choices}


def _thought(message: Mapping[str, Any]) -> dict[str, Any]:
    """Thoughts come as a list of pieces, each with its signature."""
    pieces = message.get("reasoning_content")
    if not isinstance(pieces, list):
        return dict(message)
    thought = "".join(text_in(piece, "content") for piece in objects_in(message, "reasoning_content"))
    return {**message, "reasoning_content": thought}
