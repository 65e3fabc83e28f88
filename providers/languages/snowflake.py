"""Snowflake's OpenAI endpoint (`POST /api/v2/cortex/v1/chat/completions`), the half that upstreams speak.

Source: Snowflake documentation, "Cortex REST API", the chart of supported fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.conversation import ChatRequest
from providers.languages.dialects import ChatDialect, without_thoughts
from providers.languages.thinking import budget
from providers.wire.errors import CannotCarry

FOR_ALL = frozenset(
    (
        "model messages stream stream_options max_completion_tokens max_tokens temperature top_p tools tool_choice "
        "response_format reasoning_effort"
    ).split()
)

DEFAULT_TOKENS = 4096
EFFORTS: Mapping[str, str] = {"xhigh": "high", "max": "high"}  # all others are called the same


class SnowflakeChat(ChatDialect):
    """Claude, Llama, Mistral and others. What the endpoint would ignore in silence is not sent there."""

    name = "snowflake_chat"
    carries = FOR_ALL
    renames = {"max_tokens": "max_completion_tokens"}
    names_finish = False
    means_stop = False
    default_limit = DEFAULT_TOKENS

    def repaired_request(self, body: dict[str, Any], request: ChatRequest) -> dict[str, Any]:
        if budget(effort := body.pop("reasoning_effort", None)):
            body["reasoning"] = {"effort": EFFORTS.get(effort, effort)}
        if request.json_format is not None and request.json_format.schema is None:
            raise CannotCarry("This upstream needs a schema for an answer in JSON.", "response_format")
        return without_thoughts(body)


class SnowflakeOpenAI(ChatDialect):
    """OpenAI's models at Snowflake."""

    name = "snowflake_openai"
    carries = FOR_ALL | frozenset(
        "stop n frequency_penalty presence_penalty logit_bias prediction parallel_tool_calls verbosity".split()
    )
    renames = {"max_tokens": "max_completion_tokens"}
    names_finish = False
    default_limit = DEFAULT_TOKENS

    def repaired_request(self, body: dict[str, Any], request: ChatRequest) -> dict[str, Any]:
        if effort := body.get("reasoning_effort"):
            body["reasoning_effort"] = EFFORTS.get(effort, effort)
        return without_thoughts(body)
