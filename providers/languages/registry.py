"""Every language by its name."""

from __future__ import annotations

from collections.abc import Mapping

from providers.languages.anthropic_counting import AnthropicCountTokens
from providers.languages.anthropic_messages import AnthropicMessages
from providers.languages.bedrock_converse import BedrockConverse
from providers.languages.cortex import Cortex, CortexEmbed
from providers.languages.gemini import Gemini
from providers.languages.language import Language
from providers.languages.ocf import OCFChat
from providers.languages.ollama_chat import OllamaChat
from providers.languages.ollama_embed import OllamaEmbed, OllamaEmbeddings
from providers.languages.ollama_generate import OllamaGenerate
from providers.languages.openai_chat import OpenAIChat
from providers.languages.openai_completions import OpenAICompletions
from providers.languages.openai_embeddings import OpenAIEmbeddings
from providers.languages.openai_passthrough import (
    ImageEdits,
    ImageGenerations,
    ImageVariations,
    Moderations,
    Rerank,
    Speech,
    Transcriptions,
    Translations,
)
from providers.languages.openai_responses import OpenAIResponses
from providers.languages.sambanova import SambaNovaChat, SambaNovaCompletions, SambaNovaConsole
from providers.languages.sap import (
    AICoreChat,
    AzureChat,
    AzureReasoning,
    BedrockMessages,
    Orchestration,
    OrchestrationEmbeddings,
    OrchestrationReasoning,
    TitanEmbed,
)
from providers.languages.snowflake import SnowflakeChat, SnowflakeOpenAI

openai_chat = OpenAIChat()
openai_completions = OpenAICompletions()
openai_embeddings = OpenAIEmbeddings()
openai_responses = OpenAIResponses()
openai_image_generations = ImageGenerations()
openai_image_edits = ImageEdits()
openai_image_variations = ImageVariations()
openai_speech = Speech()
openai_transcriptions = Transcriptions()
openai_translations = Translations()
openai_moderations = Moderations()
rerank = Rerank()
anthropic_messages = AnthropicMessages()
anthropic_count_tokens = AnthropicCountTokens()
ollama_chat = OllamaChat()
ollama_generate = OllamaGenerate()
ollama_embed = OllamaEmbed()
ollama_embeddings = OllamaEmbeddings()

# Those that callers speak, and those that upstreams alone do.
LANGUAGES: Mapping[str, Language] = {
    language.name: language
    for language in (
        openai_chat,
        openai_completions,
        openai_embeddings,
        openai_responses,
        openai_image_generations,
        openai_image_edits,
        openai_image_variations,
        openai_speech,
        openai_transcriptions,
        openai_translations,
        openai_moderations,
        rerank,
        anthropic_messages,
        anthropic_count_tokens,
        BedrockConverse(),
        Cortex(),
        CortexEmbed(),
        Gemini(),
        ollama_chat,
        ollama_generate,
        ollama_embed,
        ollama_embeddings,
        AICoreChat(),
        AzureChat(),
        AzureReasoning(),
        BedrockMessages(),
        Orchestration(),
        OrchestrationEmbeddings(),
        OrchestrationReasoning(),
        SnowflakeChat(),
        SnowflakeOpenAI(),
        OCFChat(),
        SambaNovaChat(),
        SambaNovaCompletions(),
        SambaNovaConsole(),
        TitanEmbed(),
    )
}
