"""Settings that make no sense are refused with a sentence, before anything is served."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
GOOD = {
    "SECRET_KEY": "a-secret-key-for-tests-0123456789-abcdefghijklmnop",
    "SECRETS_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "JWT_SECRET_KEY": "another-secret-key-for-tests-0123456789-abcdefghijk",
}


def run(tmp_path: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "ENV_FILE": str(tmp_path / "none"),
        "DATA_DIR": str(tmp_path),
        **GOOD,
        **settings,
    }
    return subprocess.run(
        [sys.executable, *words], cwd=REPO, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "eighty", "PORT must be a whole number from 1 to 65535; it is 'eighty'."),
        ("PORT", "70000", "PORT must be"),
        ("WEB_CONCURRENCY", "0", "WEB_CONCURRENCY must be"),
        ("MAX_BODY_MB", "-1", "MAX_BODY_MB must be"),
        ("DRAIN_SECONDS", "5", "DRAIN_SECONDS must be"),
        ("DATABASE_URL", "mysql://x/y", "DATABASE_URL must be"),
        ("DATABASE_POOL", "many", "DATABASE_POOL must be"),
        ("REDIS_URL", "localhost", "REDIS_URL must begin"),
        ("PUBLIC_URL", "llm.example.com", "PUBLIC_URL must be an origin"),
        ("PUBLIC_URL", "https://llm.example.com/path", "PUBLIC_URL must be an origin"),
        ("TRUSTED_PROXIES", "proxy", "TRUSTED_PROXIES must be"),
        ("CORS_ORIGINS", "example.com", "CORS_ORIGINS must hold origins"),
        ("CA_BUNDLE", "/nowhere.pem", "CA_BUNDLE must be"),
        ("ALLOW_PRIVATE_UPSTREAMS", "perhaps", "ALLOW_PRIVATE_UPSTREAMS must be true or false"),
        ("BASE_PATH", "api", "BASE_PATH must be a path"),
        ("BASE_PATH", "/", "BASE_PATH must be a path"),
        ("BASE_PATH", "/api/(.*)", "BASE_PATH must be a path"),
        ("BASE_PATH", "/v1", "BASE_PATH must not be /v1: what begins with /v1 is served already."),
        ("BASE_PATH", "/api/v1/ollama", "BASE_PATH must not be /api/v1/ollama"),
        ("BASE_PATH", "/api/auth/", "BASE_PATH must not be /api/auth"),
        ("BASE_PATH", "/admin", "BASE_PATH must not be /admin"),
        ("KEY_PREFIX", "sk sb", "KEY_PREFIX must be"),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL must be one of"),
        ("LOG_FILE", "/nowhere/at/all.log", "LOG_FILE must be"),
        ("LOG_FILE_LEVEL", "1", "LOG_FILE_LEVEL must be one of"),
        ("TIME_ZONE", "Mars/Olympus", "TIME_ZONE must be a time zone"),
        ("SECRET_KEY", "short", "SECRET_KEY must be at least 32"),
        ("SECRETS_KEY", "not-a-key", "SECRETS_KEY must be Fernet keys"),
        ("SECRETS_KEY", "", "SECRETS_KEY is needed"),
        ("JWT_SECRET_KEY", "", "JWT_SECRET_KEY must be at least 32"),
        ("JWT_SECRET_KEY", GOOD["SECRET_KEY"], "SECRET_KEY must differ"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(tmp_path: Path, name: str, value: str, sentence: str) -> None:
    checked = run(tmp_path, "manage.py", "check", **{name: value})
    assert checked.returncode != 0
    assert sentence in checked.stderr
    assert "Traceback" not in checked.stderr


def test_a_worker_refuses_to_serve_with_nonsense(tmp_path: Path) -> None:
    refused = run(tmp_path, "-m", "gunicorn", "-c", "gateway/gunicorn.py", KEY_PREFIX="sk sb", PORT="1")
    assert refused.returncode != 0
    imported = run(tmp_path, "-c", "import gateway.wsgi", KEY_PREFIX="sk sb")
    assert "KEY_PREFIX must be" in imported.stderr
    assert imported.returncode == 4


@pytest.mark.parametrize(
    ("first", "sentence"),
    [
        ("import gevent.monkey", "'socket' was not patched by gevent"),
        ("import psycopg; from gevent import monkey; monkey.patch_all()", "psycopg waits in C"),
        ("from gevent import monkey; monkey.patch_all(thread=False)", "'threading' was not patched by gevent"),
    ],
)
def test_a_process_patched_too_late_refuses_to_serve(tmp_path: Path, first: str, sentence: str) -> None:
    imported = run(tmp_path, "-c", f"{first}\nimport gateway.wsgi", DATABASE_URL="postgres://root@127.0.0.1/x")
    assert sentence in imported.stderr
    assert imported.returncode == 4


def test_a_process_patched_first_may_serve(tmp_path: Path) -> None:
    imported = run(tmp_path, "-c", "from gevent import monkey; monkey.patch_all()\nimport gateway.wsgi")
    assert imported.returncode == 0, imported.stderr


def test_every_setting_has_a_line_in_the_example() -> None:
    read = re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', (REPO / "gateway" / "settings.py").read_text())
    listed = re.findall(r"^# ([A-Z_]+)=", (REPO / ".env.example").read_text(), re.MULTILINE)
    internal = {"STATIC_ROOT"}
    assert set(read) - internal <= set(listed)
    assert set(listed) - {"BOOTSTRAP_ADMIN_PASSWORD", "BOOTSTRAP_API_KEY"} <= set(read)
