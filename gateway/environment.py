"""The settings an operator gives: the process environment, then the file `.env` beside `manage.py`.

`os.environ` is left alone, so that a reload (HUP) reads the file anew in every fresh worker. A value that
makes no sense is kept in `problems`, as a sentence, for the system checks to refuse.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

import environ

BASE_DIR = Path(__file__).resolve().parent.parent
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
A_PATH = re.compile(r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
T = TypeVar("T")


class Environment(environ.Env):
    """Readers that note what is wrong instead of stopping at the first mistake."""

    ENVIRON: ClassVar[Any] = {}

    def __init__(self) -> None:
        super().__init__()
        self.problems: dict[str, str] = {}

    def read(self, name: str, default: T, parse: Callable[[str], T], wanted: str) -> T:
        text = self.str(name, default="").strip()
        if not text:
            return default
        try:
            return parse(text)
        except (ValueError, KeyError):
            self.problems[name] = f"{name} must be {wanted}; it is {text!r}."
            return default

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        def parse(text: str) -> int:
            if not least <= int(text) <= most:
                raise ValueError
            return int(text)

        return self.read(name, default, parse, f"a whole number from {least} to {most}")

    def flag(self, name: str, default: bool) -> bool:
        words = {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }

        def parse(text: str) -> bool:
            if text.lower() not in words:
                raise ValueError
            return words[text.lower()]

        return self.read(name, default, parse, "true or false")

    def words(self, name: str) -> list[str]:
        return [word.strip() for word in self.str(name, default="").split(",") if word.strip()]

    def origin(self, name: str) -> str:
        def parse(text: str) -> str:
            parts = urlsplit(text.rstrip("/"))
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
                raise ValueError
            return text.rstrip("/")

        return self.read(name, "", parse, "an origin such as https://llm.example.com, without a path")

    def path(self, name: str, default: str) -> str:
        def parse(text: str) -> str:
            if not A_PATH.fullmatch(text.rstrip("/")):
                raise ValueError
            return text.rstrip("/")

        return self.read(name, default, parse, "a path such as /api, of letters, digits, dots, dashes and underscores")

    def networks(self, name: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        def parse(text: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
            return [ipaddress.ip_network(word.strip()) for word in text.split(",") if word.strip()]

        return self.read(name, [], parse, "addresses or networks with commas between them, as 127.0.0.1,10.0.0.0/8")

    def level(self, name: str, default: str) -> str:
        def parse(text: str) -> str:
            if text.upper() not in LOG_LEVELS:
                raise ValueError
            return text.upper()

        return self.read(name, default, parse, f"one of {', '.join(LOG_LEVELS)}")

    def file(self, name: str) -> str:
        def parse(text: str) -> str:
            if not Path(text).is_file():
                raise ValueError
            return text

        return self.read(name, "", parse, "the path of a file that exists")


def read() -> Environment:
    Environment.ENVIRON = dict(os.environ)
    path = Path(os.environ.get("ENV_FILE") or BASE_DIR / ".env")
    if path.is_file():
        Environment.read_env(path, encoding="utf-8")
    return Environment()
