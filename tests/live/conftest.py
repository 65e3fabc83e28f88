"""Clients that run in Node."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import lacking
from tests.live.server import Gateway

Drive = Callable[..., Any]
SCRIPTS = Path(__file__).with_name("node_clients")


@pytest.fixture(scope="session")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    """Runs a script with the clients of the pinned versions, `drive("openai", gateway, ...)`; what it tells."""
    folder = tmp_path_factory.mktemp("node_clients")
    for file in SCRIPTS.iterdir():
        (folder / file.name).write_text(file.read_text())
    try:
        words = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=180)
    except (OSError, subprocess.SubprocessError):
        lacking("npm and its registry")

    def drive(script: str, gateway: Gateway, *words: str) -> Any:
        done = subprocess.run(
            ["node", f"{script}.mjs", gateway.url, gateway.key, *words],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return drive
