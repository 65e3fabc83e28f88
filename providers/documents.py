"""JSON text in and out: orjson first, the standard library where orjson refuses.

Lone surrogates and integers beyond 64 bits are legal JSON and do happen in tool output.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

DEEPEST = 200  # levels of nesting a request body may have


class BadDocument(ValueError):
    """The text is not JSON we accept; the message is a sentence for the caller."""


def loads(raw: bytes) -> Any:
    """Any JSON value. Raises BadDocument."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as refusal:
        try:
            return json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
        except UnicodeDecodeError as error:
            raise BadDocument("The request body is not valid UTF-8.") from error
        except RecursionError as error:
            raise BadDocument("The request body is nested too deeply.") from error
        except ValueError:
            raise BadDocument(f"The request body is not valid JSON: {refusal}.") from refusal


def loads_object(raw: bytes) -> dict[str, Any]:
    """A request body: one JSON object without a top-level key given twice. Raises BadDocument."""
    value = loads(raw)
    if not isinstance(value, dict):
        raise BadDocument("The request body must be a JSON object.")
    # A key that stands once in the text cannot stand twice on top, so the slow look is rare.
    if any(raw.count(b'"' + key.encode("utf-8", "replace") + b'"') > 1 for key in value):
        _refuse_repeated_keys(raw)
    if raw.count(b"[") + raw.count(b"{") > DEEPEST:
        _refuse_depth(value)
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
