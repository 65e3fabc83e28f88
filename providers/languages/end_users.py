"""Whom a caller asks for, as other languages take it: the same person stays the same, who it is need not be told."""

from __future__ import annotations

import re
from hashlib import sha256

# OpenAI API reference: `user` and `safety_identifier` have 64 characters at most.
LONGEST = 64
# Anthropic API reference: `metadata.user_id` has 256 characters at most, and must not be a name or an address.
OPAQUE = re.compile(r"[A-Za-z0-9_-]{1,256}")


def short_enough(user: str | None) -> str | None:
    return user if user is None or len(user) <= LONGEST else _digest(user)


def opaque(user: str) -> str:
    return user if OPAQUE.fullmatch(user) else _digest(user)


def _digest(user: str) -> str:
    return sha256(user.encode(errors="replace")).hexdigest()
