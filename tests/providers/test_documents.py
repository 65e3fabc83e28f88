"""JSON text in and out: orjson, the standard library where orjson refuses, and what both must refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from providers.documents import DEEPEST, BadDocument, dumps, loads, loads_object

# A low surrogate alone is a lone one, whatever stands beside it.
characters = st.characters() | st.just("\udc00")
texts = st.text(characters, max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def nested(levels: int) -> bytes:
    """An object that is so many levels deep, itself counted."""
    return b'{"messages":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@given(values)
@example(2**64)
@settings(deadline=None, database=None)
def test_what_is_written_is_read_back_the_same(value: Any) -> None:
    assert loads(dumps(value)) == value


@given(st.dictionaries(texts, values, max_size=5))
@settings(deadline=None, database=None)
def test_a_body_is_read_back_the_same(body: dict[str, Any]) -> None:
    assert loads_object(dumps(body)) == body


def test_a_lone_surrogate_survives_both_ways() -> None:
    body = loads_object(rb'{"content":"half \ud83d of a face"}')
    assert body == {"content": "half \ud83d of a face"}
    assert dumps(body) == rb'{"content":"half \ud83d of a face"}'


def test_an_integer_beyond_64_bits_stays_exact() -> None:
    assert dumps(loads_object(b'{"seed":123456789012345678901234567890}')) == b'{"seed":123456789012345678901234567890}'


def test_ordinary_text_is_written_as_utf_8_without_spaces() -> None:
    assert dumps({"text": "grüße 🙂", "list": [1, 2.5, None]}) == '{"text":"grüße 🙂","list":[1,2.5,null]}'.encode()


@pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-Infinity"])
def test_what_is_no_number_is_refused(word: bytes) -> None:
    with pytest.raises(BadDocument, match="not valid JSON"):
        loads_object(b'{"temperature":' + word + b"}")


@pytest.mark.parametrize("beside", [b"", rb',"text":"\ud83d"'])
def test_a_number_too_large_for_a_float_is_refused_or_kept_but_never_becomes_another_value(beside: bytes) -> None:
    try:
        body = loads_object(b'{"temperature":1e999' + beside + b"}")
    except BadDocument:
        return
    written = json.loads(dumps(body), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert written["temperature"] is not None


@pytest.mark.parametrize("raw", [b'{"text":"\xff"}', b'{"text":"\xc3"}', b'{"text":"\xed\xa0\x80"}', b"\xff\xfe{}"])
def test_bytes_that_are_not_utf_8_are_refused_by_that_name(raw: bytes) -> None:
    with pytest.raises(BadDocument, match="not valid UTF-8"):
        loads_object(raw)


@pytest.mark.parametrize("raw", [b"", b" ", b"{", b"{'a':1}", b'{"a":1,}', b'{"a":1} {"b":2}', b"\x00", b'{"a":"\n"}'])
def test_text_that_is_not_json_is_refused(raw: bytes) -> None:
    with pytest.raises(BadDocument, match="not valid JSON"):
        loads_object(raw)


@pytest.mark.parametrize("raw", [b"[]", b'"text"', b"5", b"null", b"true"])
def test_a_body_must_be_an_object(raw: bytes) -> None:
    with pytest.raises(BadDocument, match="must be a JSON object"):
        loads_object(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","model":"a"}',
        b'{"messages":[{"role":"user"}],"model":"a","stream":true,"model":"b"}',
        b'{"model" : "a" , "model"\n:"b"}',
        rb'{"model":"a","note":"\ud83d","model":"b"}',
        rb'{"model":"a","mod\u0065l":"b"}',
    ],
    ids=["plain", "same value", "apart", "spaced", "beside a lone surrogate", "spelt with an escape"],
)
def test_a_key_given_twice_on_top_is_refused_by_name(raw: bytes) -> None:
    with pytest.raises(BadDocument, match="'model' twice"):
        loads_object(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"a","metadata":{"model":"b"}}',
        b'{"metadata":{"model":"b"},"model":"a"}',
        b'{"messages":[{"role":"user"},{"role":"user"}],"role":"x"}',
        b'{"model":"model","text":"the \\"model\\" is \\"model\\""}',
        b'{"metadata":{"a":1,"a":2},"b":"a","a":3}',
    ],
)
def test_a_key_that_stands_again_further_in_or_in_a_text_is_fine(raw: bytes) -> None:
    assert loads_object(raw) == json.loads(raw)


@pytest.mark.parametrize("levels", [2, 199, DEEPEST])
def test_ordinary_nesting_is_read_and_can_be_written(levels: int) -> None:
    assert dumps(loads_object(nested(levels))) == nested(levels)


@pytest.mark.parametrize("levels", [201, 250, 300, 900, 990, 1000, 1020, 1100, 5000, 100_000])
def test_nesting_beyond_reason_is_refused(levels: int) -> None:
    with pytest.raises(BadDocument, match="nested"):
        loads_object(nested(levels))


@pytest.mark.parametrize("levels", [201, 900, 960, 990, 1000, 1010, 1020, 5000, 100_000])
def test_nesting_beyond_reason_is_refused_also_when_a_key_seems_to_stand_twice(levels: int) -> None:
    with pytest.raises(BadDocument):
        loads_object(b'{"user":"messages",' + nested(levels)[1:])


@pytest.mark.parametrize("opening", [b"[", b"{", b'{"a":', b'[{"a":', b'{"a":['])
def test_a_hundred_thousand_opening_brackets_never_crash(opening: bytes) -> None:
    with pytest.raises(BadDocument):
        loads_object(opening * 100_000)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert len(loads_object(b'{"input":[' + b"[1]," * 5000 + b"[1]]}")["input"]) == 5001


def test_a_value_nested_too_deeply_to_be_written_is_refused() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(BadDocument, match="nested"):
        dumps(value)
    while value:  # taken apart by hand: freeing it at once would recurse as deep
        value = value.pop()
