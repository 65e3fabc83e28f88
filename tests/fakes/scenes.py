"""What any upstream may be told to do, in words that are no system's own: each fake plays it in its wire format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

TWO_CALLS = (
    ("call_bern", "rain", '{"city": "Bern"}'),
    ("call_oslo", "rain", '{"city": "Zürich", "when": null}'),
)


@dataclass(frozen=True)
class Scene:
    """One answer. A server plays it whole or streamed, as it was asked.

    `fails` says when something breaks: `first` is an answer of success whose first event is an error, `later`
    an error after the first piece of content, `cut` an end of the body after the first piece, politely and
    without the system's end mark.
    """

    text: str = "Grüezi, Ada! 雨が降る 🌧."
    thinking: str = ""  # said before the text
    signature: str = ""  # of the thinking, where the system signs it
    calls: tuple[tuple[str, str, str], ...] = ()  # id, function, arguments as JSON text; after the text
    finish: Literal["stop", "length", "filter"] = "stop"
    input_tokens: int = 21  # the whole prompt: what was read from a cache or written to it is part of it
    output_tokens: int = 9
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    fails: Literal["", "first", "later", "cut"] = ""
    crlf: bool = False  # line ends, in formats that have lines
    comments: bool = False  # server-sent comments between the events
    bytes_at_once: int = 0  # 1: every byte comes in a chunk of its own; 0: a chunk for each event

    def pieces(self) -> list[str]:
        """The text as it is streamed; joined it is the text."""
        return re.findall(r"\s*\S+|\s+$", self.text)


def torn(data: bytes, bytes_at_once: int) -> Iterator[bytes]:
    """An event's bytes as the chunks they are sent in."""
    size = bytes_at_once or len(data) or 1
    for start in range(0, len(data), size):
        yield data[start : start + size]


PICTURE = (  # a red pixel, as PNG
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
