"""A new account kind is one file, and nothing else knows of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
LOOK = """
import json, sys
import providers
providers.__path__.append(sys.argv[1])
from providers.base import Target, UpstreamModel
from providers.registry import kinds
DEFAULTS = lambda kind: {each.name: each.default for each in kind.settings}
told = lambda kind: dict(kind.speaks(UpstreamModel("m"), Target("t", kind.kind, DEFAULTS(kind))))
print(json.dumps({name: [kind.label, told(kind)] for name, kind in kinds().items()}))
"""
SEVENTH = """
from providers.base import Provider, Setting

class Seventh(Provider):
    kind = "seventh"
    label = "Seventh heaven"
    settings = (Setting("url", "URL", kind="url"),)

    def speaks(self, model, target):
        return {"openai_chat": "/clouds"}
"""
LIKE_OPENAI = """
from providers.openai import OpenAI

class Eighth(OpenAI):
    kind = "eighth"
    label = "Eighth wonder"
"""


def kinds_with(folder: Path) -> dict[str, list[object]]:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOOK, str(folder)], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_kinds_that_are_there_are_found() -> None:
    from providers.registry import kinds

    assert {"echo", "openai"} <= kinds().keys()
    assert all(kind.kind == name and kind.label for name, kind in kinds().items())
    assert list(kinds()) == sorted(kinds())


def test_an_imaginary_kind_needs_one_file(tmp_path: Path) -> None:
    (tmp_path / "seventh.py").write_text(SEVENTH)
    found = kinds_with(tmp_path)
    assert found["seventh"] == ["Seventh heaven", {"openai_chat": "/clouds"}]
    assert {"echo", "openai"} <= found.keys()


def test_a_kind_that_is_nearly_another_needs_one_file_too(tmp_path: Path) -> None:
    (tmp_path / "eighth.py").write_text(LIKE_OPENAI)
    found = kinds_with(tmp_path)
    assert found["eighth"][0] == "Eighth wonder"
    assert found["openai"][0] == "OpenAI or compatible"


@pytest.mark.parametrize("forbidden", ["django", "rest_framework"])
def test_the_ground_floor_needs_no_django(forbidden: str) -> None:
    look = (
        "import sys; from providers.registry import kinds; kinds(); import providers.wire.control, providers.streams; "
    )
    ran = subprocess.run(
        [sys.executable, "-c", look + f"print({forbidden!r} in sys.modules)"],
        cwd=REPO, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.strip() == "False"
