"""What a stranger does first: clone, `bin/serve`, the printed curl line."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.live.server import free_port

REPO = Path(__file__).resolve().parents[1]
TREE = "bin gateway usage apikeys profiles providers templates manage.py requirements.txt".split()


class Clone:
    """A copy of the project in a folder of its own, with an empty home; only the environment is borrowed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in TREE:
            source = REPO / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, folder / name)
        (folder / "home").mkdir()
        self.port = free_port()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "VENV": sys.prefix,
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "1",
            "DRAIN_SECONDS": "10",
        }
        self.log = folder / "serve.log"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )

    def serve(self) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                ["bin/serve"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while not self.ready():
            assert process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)
        return process

    def ready(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/ready", timeout=1).status_code == 200
        except requests.RequestException:
            return False


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def served(clone: Clone) -> Iterator[subprocess.Popen[bytes]]:
    process = clone.serve()
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_the_first_start_ends_in_a_line_that_answers(clone: Clone, served: subprocess.Popen[bytes]) -> None:
    said = clone.log.read_text()
    assert re.search(r"admin password +\S{12,}", said)
    line = re.search(r"curl http(?:.|\n)*?'\n", said)
    assert line
    answered = clone.run("sh", "-c", line[0])
    assert '"content":"Hello, gateway"' in answered.stdout, answered
    mode = stat.S_IMODE((clone.folder / ".env").stat().st_mode)
    assert mode == 0o600


def test_a_reload_takes_up_a_changed_setting(clone: Clone, served: subprocess.Popen[bytes]) -> None:
    with (clone.folder / ".env").open("a") as file:
        file.write("MAX_BODY_MB=1\n")
    assert "Reloading" in clone.run("bin/serve", "reload").stdout
    key = re.search(r"sk-sb-\w+", clone.log.read_text())
    assert key

    def too_large() -> bool:
        asked = requests.post(
            f"http://127.0.0.1:{clone.port}/v1/chat/completions",
            headers={"Authorization": f"Bearer {key[0]}", "Connection": "close"},
            json={"model": "echo", "messages": [{"role": "user", "content": "x" * (1 << 20)}]},
            timeout=10,
        )
        return asked.status_code == 413

    deadline = time.monotonic() + 20
    while not too_large():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_second_start_prints_no_secrets_and_a_lost_env_is_not_replaced(
    clone: Clone, served: subprocess.Popen[bytes]
) -> None:
    served.send_signal(signal.SIGTERM)
    assert served.wait(30) == 0
    again = clone.serve()
    said = clone.log.read_text()
    again.send_signal(signal.SIGTERM)
    again.wait(30)
    assert f"Switchboard serves on http://127.0.0.1:{clone.port}" in said
    assert "sk-sb-" not in said
    (clone.folder / ".env").rename(clone.folder / "kept.env")
    refused = clone.run("bin/serve")
    assert refused.returncode != 0
    assert "sealed with keys that are not here" in refused.stderr
    assert not (clone.folder / ".env").exists()
    assert clone.run("bin/serve", "reload").returncode == 1


def test_without_venv_it_says_the_line_to_type(clone: Clone, tmp_path: Path) -> None:
    """A bare Debian has a python3 whose ensurepip is missing."""
    bare = tmp_path / "bin"
    bare.mkdir()
    (bare / "python3").write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; *) exit 0;; esac\n')
    (bare / "python3").chmod(0o755)
    environment = {**clone.environment, "PATH": f"{bare}:{os.environ['PATH']}", "VENV": str(tmp_path / "none")}
    refused = subprocess.run(
        ["bin/serve"], cwd=clone.folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 1
    assert "sudo apt-get install -y python3-venv" in refused.stderr
