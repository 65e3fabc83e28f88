"""The model's name in answers that go straight through: every other byte stays as the upstream wrote it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from providers.documents import dumps, loads

NAMED = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')


def renamed(written: bytes, theirs: object, ours: str | None, named: Callable[[bytes], object]) -> bytes:
    """The same bytes but for the model's name. What else is called "model", as in a tool, keeps its own.

    `named` reads the name out of the bytes, to tell whether the right one was changed.
    """
    if ours is None or not isinstance(theirs, str) or theirs == ours:
        return written
    found = [match for match in NAMED.finditer(written) if _name_in(match) == theirs]
    for match in found:
        changed = written[: match.start()] + b'"model":' + dumps(ours) + written[match.end() :]
        if len(found) == 1 or named(changed) == ours:
            return changed
    return written


def with_model(body: bytes, document: Mapping[str, Any], ours: str | None) -> bytes:
    """`renamed`, for a whole answer that was read as `document`."""
    return renamed(body, document.get("model"), ours, lambda changed: loads(changed).get("model"))


class ModelName:
    """The name in the frames of a stream: learnt from one that was read, swapped in all by its exact bytes.

    `around` is the key whose value holds the model's own words, in which nothing is swapped.
    """

    def __init__(self, ours: str | None, around: bytes = b"") -> None:
        self._ours = b'"model":' + dumps(ours) if ours is not None else b""
        self._around = around
        self._in_front = True
        self.theirs = b""  # the exact bytes that stand for the model in this upstream's frames

    def learn(self, frame: bytes, document: Mapping[str, Any]) -> None:
        if not self._ours or self.theirs or not document.get("model"):
            return
        words = frame.find(self._around) if self._around else len(frame)
        for match in NAMED.finditer(frame):
            if _name_in(match) == document["model"]:
                self.theirs = match.group()
                self._in_front = match.start() < words
                if self._in_front:
                    return

    def swap(self, frame: bytes) -> bytes:
        if not self.theirs:
            return frame
        if self._in_front:
            at = frame.find(self.theirs)
            if at < 0 or at > frame.find(self._around) > 0:
                return frame
        else:
            at = frame.rfind(self.theirs)
            if at < frame.find(self._around) or at < 0:
                return frame
        return frame[:at] + self._ours + frame[at + len(self.theirs) :]


def _name_in(match: re.Match[bytes]) -> object:
    return loads(b"{" + match.group() + b"}")["model"]
