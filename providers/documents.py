"""JSON text in and out: orjson first, the standard library where orjson refuses.

Lone surrogates and integers beyond 64 bits are legal JSON and do happen in tool output.
"""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

DEEPEST = 200  # levels of nesting a request body may have


class BadDocument(ValueError):
    """The text is not JSON we accept; the message is a sentence for the caller."""


# Digits as zeros and E as e: what may be a number that orjson would round is then found by plain search.
_SHAPE = bytes.maketrans(b"123456789E", b"000000000e")
_LARGE = (b"0" * 19, b"0e000", b"0e+000")
# ASCII letters, digits and signs that are written as escapes, so that a key may stand there twice unseen.
_ESCAPED = tuple(b"\\u00%d" % tens for tens in range(2, 8))


def loads(raw: bytes) -> Any:
    """Any JSON value, integers exact. Raises BadDocument."""
    shape = raw.translate(_SHAPE)
    if any(large in shape for large in _LARGE):
        return _loads_exactly(raw, "a number is too large")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as refusal:
        return _loads_exactly(raw, str(refusal))


def _loads_exactly(raw: bytes, why_not: str) -> Any:
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise BadDocument("The request body is not valid UTF-8.") from error
    except RecursionError as error:
        raise BadDocument("The request body is nested too deeply.") from error
    except ValueError:
        raise BadDocument(f"The request body is not valid JSON: {why_not}.") from None


def loads_object(raw: bytes) -> dict[str, Any]:
    """A request body: one JSON object without a top-level key given twice. Raises BadDocument."""
    value = loads(raw)
    if not isinstance(value, dict):
        raise BadDocument("The request body must be a JSON object.")
    if raw.count(b"[") + raw.count(b"{") > DEEPEST:
        _refuse_depth(value)
    # A key that stands once in the text cannot stand twice on top, so the slow look is rare.
    if any(raw.count(b'"' + key.encode("utf-8", "replace") + b'"') > 1 for key in value) or any(
        escaped in raw for escaped in _ESCAPED
    ):
        _refuse_repeated_keys(raw)
    return value


def dumps(value: Any) -> bytes:
    """UTF-8 JSON without spaces. Raises BadDocument when the value is nested beyond reason."""
    try:
        return orjson.dumps(value)
    except TypeError:
        try:
            return json.dumps(value, separators=(",", ":")).encode("ascii")
        except RecursionError as error:
            raise BadDocument("The request body is nested too deeply.") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large")
    return number


def _refuse_repeated_keys(raw: bytes) -> None:
    latest: list[tuple[str, Any]] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal latest
        latest = pairs
        return {}

    # The decoder closes the outermost object last, so what stays is its list of pairs.
    json.loads(raw.decode("utf-8"), object_pairs_hook=keep)
    seen: set[str] = set()
    for key, _ in latest:
        if key in seen:
            raise BadDocument(f"The request body names '{key}' twice.")
        seen.add(key)


def _refuse_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise BadDocument(f"The request body is nested more than {DEEPEST} levels deep.")
