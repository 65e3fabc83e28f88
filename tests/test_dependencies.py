"""Few dependencies, each with its reason, all locked; and none imported when a call is under way."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def direct() -> set[str]:
    lines = (REPO / "requirements.in").read_text().splitlines()
    return {re.split(r"[\[<>=]", line)[0].lower() for line in lines if line and not line.startswith("#")}


def table() -> dict[str, bool]:
    """Package -> on the call path, as docs/dependencies.md says."""
    rows = re.findall(r"^\| ([\w.-]+) \| (yes)? ?\|", (REPO / "docs" / "dependencies.md").read_text(), re.MULTILINE)
    return {name.lower(): bool(yes) for name, yes in rows if name != "package"}


def test_each_direct_dependency_has_its_reason_and_there_are_few() -> None:
    assert set(table()) == direct()
    assert len(direct()) <= 24
    assert sum(table().values()) <= 10


def test_every_locked_package_has_hashes() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (REPO / name).read_text()
        for block in re.split(r"\n(?=[A-Za-z0-9])", text.strip()):
            assert "==" in block.splitlines()[0]
            assert "--hash=sha256:" in block, block.splitlines()[0]
        assert "http://" not in text
        assert "https://" not in text


def test_a_provider_imports_no_django() -> None:
    code = (
        "import sys, providers.registry as r; r.kinds(); import providers.streams, providers.wire.control\n"
        "found = [name for name in sys.modules if name.split('.')[0] in ('django', 'rest_framework')]\n"
        "sys.exit(', '.join(found) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, check=False, timeout=60).returncode == 0
