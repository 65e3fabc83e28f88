"""JSON Schemas for upstreams that read a part of the standard alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.wire.errors import CannotCarry

DEFINITIONS = ("$defs", "definitions")


def inlined(schema: Mapping[str, Any], field: str) -> dict[str, Any]:
    """The schema with what its references point to in their place.

    Raises CannotCarry naming `field` for one that points elsewhere, or into itself.
    """
    whole = {name: value for name, value in schema.items() if name not in DEFINITIONS}
    return dict(_inlined(whole, schema, (), field))


def _inlined(value: Any, root: Mapping[str, Any], inside: tuple[str, ...], field: str) -> Any:
    if isinstance(value, list):
        return [_inlined(item, root, inside, field) for item in value]
    if not isinstance(value, Mapping):
        return value
    reference = value.get("$ref")
    if not isinstance(reference, str):
        return {name: _inlined(inner, root, inside, field) for name, inner in value.items()}
    if reference in inside:
        raise CannotCarry("A schema that refers to itself cannot be carried to this upstream.", field)
    beside = {name: inner for name, inner in value.items() if name != "$ref"}
    return _inlined({**_find(reference, root, field), **beside}, root, (*inside, reference), field)


def _find(reference: str, root: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    if not reference.startswith("#/") or not isinstance(found, Mapping):
        raise CannotCarry(f"The reference '{reference[:100]}' in a schema leads nowhere.", field)
    return found
