"""Every language by its name."""

from __future__ import annotations

from collections.abc import Mapping

from providers.languages.language import Language
from providers.languages.openai_chat import OpenAIChat
from providers.languages.openai_completions import OpenAICompletions
from providers.languages.openai_embeddings import OpenAIEmbeddings

openai_chat = OpenAIChat()
openai_completions = OpenAICompletions()
openai_embeddings = OpenAIEmbeddings()

LANGUAGES: Mapping[str, Language] = {
    language.name: language for language in (openai_chat, openai_completions, openai_embeddings)
}
