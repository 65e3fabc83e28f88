"""Every language by its name."""

from __future__ import annotations

from collections.abc import Mapping

from providers.languages.anthropic_messages import AnthropicMessages
from providers.languages.bedrock_converse import BedrockConverse
from providers.languages.cortex import Cortex, CortexEmbed
from providers.languages.gemini import Gemini
from providers.languages.language import Language
from providers.languages.ocf import OCFChat
from providers.languages.ollama import OllamaChat, OllamaEmbed, OllamaGenerate
from providers.languages.openai_chat import OpenAIChat
from providers.languages.openai_completions import OpenAICompletions
from providers.languages.openai_embeddings import OpenAIEmbeddings
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

# Those that callers speak, and those that upstreams alone do.
LANGUAGES: Mapping[str, Language] = {
    language.name: language
    for language in (
        openai_chat,
        openai_completions,
        openai_embeddings,
        AnthropicMessages(),
        BedrockConverse(),
        Cortex(),
        CortexEmbed(),
        Gemini(),
        OllamaChat(),
        OllamaEmbed(),
        OllamaGenerate(),
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
