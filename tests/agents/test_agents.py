"""Claude Code and Codex CLI themselves, as npm has them, at the live gateway over every kind of account.

Asked for by name, because their packages take 640 MB: bin/test tests/agents
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import lacking
from tests.every_provider import SYSTEMS, Bench, System
from tests.fakes.scenes import Scene

TOOLLESS = {"Snowflake: Llama and others", "SambaNova, console", "Echo"}  # agents cannot work with these
ABLE = [system for system in SYSTEMS if system.name not in TOOLLESS]
ASKED = "Say hello with a tool."
SAYS = "echo hello-from-the-tool"
SAID = "The tool said hello."
CODEX = """
model = "{model}"
model_provider = "switchboard"
[model_providers.switchboard]
name = "Switchboard"
base_url = "{url}/v1"
env_key = "SWITCHBOARD_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""


@pytest.fixture(scope="session")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of their commands."""
    folder = tmp_path_factory.mktemp("agents")
    shutil.copy(Path(__file__).with_name("package.json"), folder)
    try:
        words = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=600)
        setup = folder / "node_modules" / "@anthropic-ai" / "claude-code"
        subprocess.run(["node", "install.cjs"], cwd=setup, check=True, capture_output=True, timeout=120)
    except (OSError, subprocess.SubprocessError):
        lacking("npm and its registry")
    return folder / "node_modules" / ".bin"


@pytest.mark.parametrize("system", ABLE, ids=lambda system: system.slug)
def test_codex_calls_its_tool_and_answers(at: Bench, agents: Path, tmp_path: Path, system: System) -> None:
    play(at, system, ("call_1", "exec_command", json.dumps({"cmd": SAYS})))
    (tmp_path / "config.toml").write_text(CODEX.format(model=system.slug, url=at.gateway.url))
    words = ["codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", ASKED]
    told = run(agents, words, tmp_path, CODEX_HOME=str(tmp_path), SWITCHBOARD_KEY=at.gateway.key)
    assert SAID in told
    assert "hello-from-the-tool" in at.raw(system)


@pytest.mark.parametrize("system", ABLE, ids=lambda system: system.slug)
def test_claude_code_calls_its_tool_and_answers(at: Bench, agents: Path, tmp_path: Path, system: System) -> None:
    play(at, system, ("call_1", "Bash", json.dumps({"command": SAYS, "description": "Says hello"})))
    words = ["claude", "-p", ASKED, "--allowedTools", "Bash(echo:*)"]
    told = run(
        agents,
        words,
        tmp_path,
        ANTHROPIC_BASE_URL=at.gateway.url,
        ANTHROPIC_AUTH_TOKEN=at.gateway.key,
        ANTHROPIC_MODEL=system.slug,
        ANTHROPIC_DEFAULT_HAIKU_MODEL=system.slug,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
    )
    assert SAID in told
    assert "hello-from-the-tool" in at.raw(system)


def play(at: Bench, system: System, call: tuple[str, str, str]) -> None:
    at.fakes["openai"].absent |= {"/v1/responses", "/v1/messages"}
    at.fakes["sap"].gemini_thinking = True
    at.scene(system, Scene(text="", calls=(call,)), Scene(text=SAID))


def run(agents: Path, words: list[str], home: Path, **settings: str) -> str:
    """What the agent prints."""
    environment = {**os.environ, "HOME": str(home), **settings}
    environment.pop("ANTHROPIC_API_KEY", None)
    done = subprocess.run(
        [str(agents / words[0]), *words[1:]],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout
