"""Sealing and opening what we keep for upstreams. `SECRETS_KEY`: the first key seals, all of them open."""

from __future__ import annotations

import functools
import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class SealBroken(Exception):
    """A stored secret cannot be opened with the keys at hand."""


@functools.cache
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def seal(value: Any) -> str:
    """Any JSON value as ciphertext."""
    return _fernet(tuple(settings.SECRETS_KEYS)).encrypt(json.dumps(value).encode()).decode("ascii")


def unseal(sealed: str) -> Any:
    """Raises SealBroken."""
    try:
        return json.loads(_fernet(tuple(settings.SECRETS_KEYS)).decrypt(sealed.encode()))
    except InvalidToken as error:
        raise SealBroken("This secret was sealed with a SECRETS_KEY that is not set here.") from error
