"""Schemas whose references are replaced by what they point to."""

from __future__ import annotations

from typing import Any

import pytest

from providers.languages.schemas import inlined
from providers.wire.errors import CannotCarry


def test_a_reference_is_replaced_by_what_it_points_to() -> None:
    schema = {
        "type": "object",
        "properties": {
            "home": {"$ref": "#/$defs/Place", "description": "Where she lives"},
            "been": {"type": "array", "items": {"$ref": "#/$defs/Place"}},
        },
        "$defs": {
            "Place": {"type": "object", "properties": {"kind": {"$ref": "#/$defs/Kind"}}},
            "Kind": {"enum": ["a"]},
        },
    }
    place = {"type": "object", "properties": {"kind": {"enum": ["a"]}}}
    assert inlined(schema, "tools") == {
        "type": "object",
        "properties": {"home": {**place, "description": "Where she lives"}, "been": {"type": "array", "items": place}},
    }


def test_a_property_may_be_called_like_a_definition() -> None:
    schema = {"type": "object", "properties": {"definitions": {"type": "string"}}}
    assert inlined(schema, "tools") == schema


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"Node": {"properties": {"next": {"$ref": "#/$defs/Node"}}}}, "$ref": "#/$defs/Node"},
        {"properties": {"a": {"$ref": "#/$defs/Missing"}}},
        {"properties": {"a": {"$ref": "https://example.com/schema.json"}}},
        {"properties": {"a": {"$ref": "#"}}},
    ],
)
def test_what_cannot_be_replaced_is_refused_by_name(schema: dict[str, Any]) -> None:
    with pytest.raises(CannotCarry) as refused:
        inlined(schema, "response_format")
    assert refused.value.param == "response_format"
