"""Forms, taken in pieces of any size: what is read of them, and what they are with another model in them."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.languages.language import BadRequest
from providers.multipart import Form, boundary_in

BOUNDARY = "----WebKitFormBoundary7MA4"


def written(*parts: tuple[str, bytes]) -> bytes:
    heads = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() for name, _ in parts]
    contents = [content + b"\r\n" for _, content in parts]
    return b"".join(map(bytes.__add__, heads, contents)) + f"--{BOUNDARY}--\r\n".encode()


def taken(body: bytes, *sizes: int) -> Form:
    form = Form(BOUNDARY, io.BytesIO())
    left = memoryview(body)
    for size in sizes:
        form.take(bytes(left[:size]))
        left = left[size:]
    form.take(bytes(left))
    form.finish()
    return form


near = st.sampled_from([b"\r\n", b"--", b"\r\n--", f"--{BOUNDARY[:-1]}".encode(), b"\r\n\r\n", b"-", b"\r"])
contents = (
    st.lists(near | st.binary(max_size=20), max_size=8).map(b"".join).filter(lambda c: BOUNDARY.encode() not in c)
)


@given(contents, contents, st.lists(st.integers(1, 60), max_size=30))
def test_whatever_the_pieces_only_the_model_changes(first: bytes, last: bytes, sizes: list[int]) -> None:
    body = written(("file", first), ("model", b"fast"), ("user", b"ada"), ("stream", b"true"), ("prompt", last))
    form = taken(body, *sizes)
    assert form.fields == {"model": "fast", "user": "ada", "stream": "true"}
    other = form.readdressed("Qwen/Qwen3-8B: ü")
    wanted = written(
        ("file", first), ("model", "Qwen/Qwen3-8B: ü".encode()), ("user", b"ada"), ("stream", b"true"), ("prompt", last)
    )
    for _ in range(2):
        assert b"".join(other) == wanted
        assert len(other) == len(wanted)


@given(st.binary(max_size=400), st.lists(st.integers(1, 60), max_size=8))
def test_nonsense_is_refused_and_never_a_crash(nonsense: bytes, sizes: list[int]) -> None:
    with pytest.raises(BadRequest):
        taken(f"--{BOUNDARY}".encode() + nonsense, *sizes)


@given(st.data())
def test_a_form_that_is_cut_is_refused(data: st.DataObject) -> None:
    body = written(("model", b"fast"), ("file", b"x" * 50))
    cut = data.draw(st.integers(0, len(body) - 3))
    with pytest.raises(BadRequest, match="last boundary"):
        taken(body[:cut])


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ('multipart/form-data; charset=utf-8; Boundary="a=b/c"', "a=b/c"),
        ("Multipart/Form-Data;boundary=----WebKitFormBoundary7MA4", BOUNDARY),
    ],
)
def test_a_boundary_is_found(content_type: str, boundary: str) -> None:
    assert boundary_in(content_type) == boundary


@pytest.mark.parametrize("content_type", ["multipart/form-data", "a/b; boundary=a b", f"a/b; boundary={'x' * 201}"])
def test_a_boundary_that_is_none_is_refused(content_type: str) -> None:
    with pytest.raises(BadRequest):
        assert boundary_in(content_type) == "nothing"


def test_a_boundary_is_quoted_where_it_must_be() -> None:
    assert Form("abc", io.BytesIO()).content_type == "multipart/form-data; boundary=abc"
    assert Form("a=b", io.BytesIO()).content_type == 'multipart/form-data; boundary="a=b"'


def test_blanks_without_end_cost_no_more_than_reading_them() -> None:
    """Read by a pattern that may split them anywhere, these would take hours."""
    blanks = " " * 16_000
    with pytest.raises(BadRequest):
        boundary_in(f"multipart/form-data{blanks};!")
    assert boundary_in("multipart/form-data; boundary=a;") == "a"
    form = Form("a", io.BytesIO())
    with pytest.raises(BadRequest):
        form.take(b"--a\r\nContent-Disposition: form-data" + blanks.encode() + b"!\r\n\r\nx\r\n--a--\r\n")
        form.finish()
