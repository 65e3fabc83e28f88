"""How much a model may think: an effort in words, or a budget in tokens."""

from __future__ import annotations

import re

from providers.conversation import ChatRequest
from providers.languages.messages import thinking_lost

LEAST_BUDGET = 1024  # tokens, Anthropic API reference, extended thinking
BUDGETS = {"low": 1024, "medium": 4096, "high": 16_384, "xhigh": 32_768, "max": 32_768}
# As claude-3-5-sonnet, claude-opus-4-7, anthropic--claude-4.5-opus; eight digits are a date.
CLAUDE_VERSION = re.compile(r"claude\D*(\d+)(?:[-.](\d{1,2})(?!\d))?")


def budget(effort: str | None) -> int:
    """Tokens for an effort; 0 for none, minimal, and what nobody has heard of."""
    return BUDGETS.get(effort or "", 0)


def effort(tokens: int) -> str:
    """The largest effort that a budget of so many tokens pays for."""
    paid = [name for name, needed in BUDGETS.items() if needed <= tokens and name != "max"]
    return paid[-1] if paid else "low"


def claude_version(model: str) -> tuple[int, int]:
    """As its name says it; (0, 0) for a name that does not."""
    found = CLAUDE_VERSION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def claude_limits(request: ChatRequest, default: int, most: int | None = None) -> tuple[int, int]:
    """How many tokens Claude may make, and how many of them for thinking (0: none).

    Thinking goes neither with a tool that must be called, which an answer in JSON may be, nor where it is lost.
    `default` is for whoever asks for no limit, and is left for the answer if there is room; `most` is the upstream's.
    """
    wanted, choice = budget(request.reasoning_effort), request.tool_choice
    forced = request.json_format is not None or (choice is not None and choice.mode in ("required", "tool"))
    if forced or thinking_lost(request.messages):
        wanted = 0
    limit = request.max_tokens or request.ceiling or default + wanted
    limit = min(limit, most or limit)
    left = 1 if request.max_tokens else min(default, limit // 2)
    allowed = min(wanted, limit - left)
    return limit, allowed if allowed >= LEAST_BUDGET else 0
