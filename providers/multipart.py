"""Multipart forms (RFC 7578) as they came: kept on disk, and only a few small fields are read.

Servers differ in how they read an odd form. One that could be read in two ways is refused: a `model` that only
the upstream finds would be one that the caller's key may not use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from providers.languages.language import BadRequest

PIECE = 256 << 10  # bytes that are held at once
LONGEST_HEAD = 16 << 10  # bytes of a part's headers
LONGEST_FIELD = 1000  # bytes of a field that is read
MOST_PARTS = 1000
READ = ("model", "stream", "user")  # the fields that are read

# RFC 2046, 5.1.1, but for the blank and with room for clients that are generous with it.
BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=?-]{1,200}")
TOKEN = re.compile(r"[0-9A-Za-z'+_.-]+")
PARAMETERS = r'(?:[ \t]*;[ \t]*([\w*-]+)[ \t]*=[ \t]*("(?:[^"\\\r\n\0]|\\[^\r\n\0])*"|[^\s";,\0]+))'
PARAMETER = re.compile(PARAMETERS)
BYTES_PARAMETER = re.compile(PARAMETERS.encode())
CONTENT_TYPE = re.compile(f"[^;\\s]+({PARAMETERS}*)(?:[ \\t]*;)?[ \\t]*")
HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[^\r\n\0]*")
DISPOSITION = re.compile(rb"[^:]+:[ \t]*form-data(" + PARAMETERS.encode() + rb"*)(?:[ \t]*;)?[ \t]*", re.IGNORECASE)


def boundary_in(content_type: str) -> str:
    """What stands between the parts of a form. Raises BadRequest."""
    stated = CONTENT_TYPE.fullmatch(content_type)
    named = [value for name, value in PARAMETER.findall(stated[1] if stated else "") if name.lower() == "boundary"]
    boundary = named[0].strip('"') if len(named) == 1 else ""
    if not BOUNDARY.fullmatch(boundary):
        raise _broken("Its Content-Type names no boundary.")
    return boundary


class Form:
    """A form that is taken piece by piece, written to `file` and looked through on the way."""

    def __init__(self, boundary: str, file: IO[bytes]) -> None:
        quoted = boundary if TOKEN.fullmatch(boundary) else f'"{boundary}"'
        self.content_type = f"multipart/form-data; boundary={quoted}"
        self.fields: dict[str, str] = {}
        self.size = 0
        self._file = file
        self._delimiter = b"--" + boundary.encode("ascii")
        self._unread = bytearray()
        self._at = 0  # where `_unread` begins
        self._part = ""  # the name of the part whose content is being read
        self._starts = 0  # where that begins
        self._within = "content"  # or the head of a part, or the end
        self._parts = 0
        self._places: dict[str, tuple[int, int]] = {}  # of the fields that are read: from, to

    def take(self, piece: bytes) -> None:
        """Raises BadRequest."""
        self._file.write(piece)
        self.size += len(piece)
        self._unread += piece
        while self._step():
            pass

    def finish(self) -> None:
        """All has been taken. Raises BadRequest."""
        if self._within != "end":
            raise _broken("It ends before its last boundary.")
        for name, (start, end) in self._places.items():
            if end - start > LONGEST_FIELD:
                raise BadRequest(f"'{name}' is longer than {LONGEST_FIELD} bytes.", name)
            try:
                self.fields[name] = b"".join(self._read(start, end)).decode()
            except UnicodeDecodeError as error:
                raise BadRequest(f"'{name}' is not valid UTF-8.", name) from error

    def close(self) -> None:
        """Nothing of it is left on the disk."""
        self._file.close()

    def _step(self) -> bool:
        """One boundary or one head further; False when more must be taken first."""
        if self._within == "content":
            return self._step_to_boundary()
        if self._within == "head":
            return self._step_over_head()
        if self._unread.strip():
            raise _broken("Something follows its last boundary.")
        self._drop(len(self._unread))
        return False

    def _step_to_boundary(self) -> bool:
        found, length = self._unread.find(self._delimiter), len(self._delimiter)
        if found < 0:
            self._drop(len(self._unread) - length - 2)  # the beginning of one may be in it, with its line end
            return False
        if len(self._unread) < found + length + 2:
            self._drop(found - 2)
            return False
        first = self._parts == 0 and self._at + found == 0
        if not first and (self._parts == 0 or self._at + found < self._starts + 2 or self._before(found) != b"\r\n"):
            raise _broken("Its boundary stands where no part begins or ends.")
        if self._part in READ:
            if self._part in self._places:
                raise BadRequest(f"The form names '{self._part}' twice.", self._part)
            self._places[self._part] = (self._starts, self._at + found - 2)
        after = bytes(self._unread[found + length : found + length + 2])
        if after not in (b"\r\n", b"--") or (first and after == b"--"):
            raise _broken("Its boundary stands where no part begins or ends.")
        self._within = "head" if after == b"\r\n" else "end"
        self._drop(found + length + 2)
        return True

    def _before(self, place: int) -> bytes:
        return bytes(self._unread[max(0, place - 2) : place])

    def _step_over_head(self) -> bool:
        end = self._unread.find(b"\r\n\r\n")
        if end > LONGEST_HEAD or (end < 0 and len(self._unread) > LONGEST_HEAD):
            raise _broken("The headers of a part are too long.")
        if end < 0:
            return False
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise _broken(f"It has more than {MOST_PARTS} parts.")
        self._part = _name_in(bytes(self._unread[:end]))
        self._drop(end + 4)
        self._starts, self._within = self._at, "content"
        return True

    def _drop(self, count: int) -> None:
        if count > 0:
            del self._unread[:count]
            self._at += count

    def _read(self, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            self._file.seek(start)
            piece = self._file.read(min(PIECE, end - start))
            start += len(piece)
            yield piece

    def readdressed(self, model: str) -> ReaddressedForm:
        return ReaddressedForm(self, model.encode())

    def around_model(self, model: bytes) -> Iterator[bytes]:
        start, end = self._places["model"]
        yield from self._read(0, start)
        yield model
        yield from self._read(end, self.size)

    def size_with(self, model: bytes) -> int:
        start, end = self._places["model"]
        return self.size - (end - start) + len(model)


class ReaddressedForm:
    """The bytes of a form with another model in it; they can be read more than once."""

    def __init__(self, form: Form, model: bytes) -> None:
        self.content_type = form.content_type
        self._form = form
        self._model = model

    def __len__(self) -> int:
        return self._form.size_with(self._model)

    def __iter__(self) -> Iterator[bytes]:
        return self._form.around_model(self._model)


def _name_in(head: bytes) -> str:
    """The name of a part, which every server must find to be the same."""
    lines = head.split(b"\r\n")
    if not all(HEADER.fullmatch(line) for line in lines):
        raise _broken("A part has a header that is none.")
    told = [line for line in lines if line.partition(b":")[0].lower() == b"content-disposition"]
    stated = DISPOSITION.fullmatch(told[0]) if len(told) == 1 else None
    if stated is None:
        raise _broken("A part has no Content-Disposition of form-data.")
    names = [(key, value) for key, value in BYTES_PARAMETER.findall(stated[1]) if key.lower().startswith(b"name")]
    if len(names) != 1 or names[0][0].lower() != b"name" or b"\\" in names[0][1]:
        raise _broken("A part has no plain name.")
    return str(names[0][1].strip(b'"').decode("utf-8", "replace"))


def _broken(why: str) -> BadRequest:
    return BadRequest(f"The multipart form cannot be read. {why}", code="invalid_form")
