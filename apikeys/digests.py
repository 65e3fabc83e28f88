"""How a caller's key is made and recognised.

A key is a prefix, 256 random bits and a checksum. The checksum is for secret scanners and never asked for:
imported keys have none. What is kept is the SHA-256 digest; a slow hash would protect nothing that 256
random bits do not, and cost every call a tenth of a second.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib

from django.conf import settings

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_LENGTH = 43  # base62 digits that hold 256 bits
CHECKSUM_LENGTH = 6  # base62 digits that hold a CRC-32
SHOWN = 6  # characters after the prefix that people see to tell keys apart


def new_key() -> str:
    body = _base62(secrets.randbits(256), RANDOM_LENGTH)
    return f"{settings.KEY_PREFIX}{body}{_base62(zlib.crc32(body.encode()), CHECKSUM_LENGTH)}"


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def shown_prefix(key: str) -> str:
    """The beginning of a key, for humans: never more than a quarter of it."""
    given = len(settings.KEY_PREFIX) if key.startswith(settings.KEY_PREFIX) else 0
    return key[: min(given + SHOWN, max(len(key) // 4, given))]


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
