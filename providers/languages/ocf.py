"""The engines behind an OCF or OpenTela head: OpenAI chat on machines of strangers."""

from __future__ import annotations

from providers.languages.dialects import NEVER_DROPPED, ChatDialect

# Of no use to an engine, and not for strangers to read.
PRIVATE = frozenset("store metadata service_tier prompt_cache_key safety_identifier user".split())
TAKEN = frozenset("messages max_tokens stop n tools tool_choice response_format logit_bias".split())


class OCFChat(ChatDialect):
    """Engines take fields of their own, as `min_p` or `guided_json`: what is not known to mean nothing is sent."""

    name = "engine_chat"

    def takes(self, field: str) -> bool:
        return field not in PRIVATE and (field in TAKEN or field not in NEVER_DROPPED)
