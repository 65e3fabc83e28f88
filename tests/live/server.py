"""The gateway as an operator runs it: the commands, then gunicorn, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import psycopg
from cryptography.fernet import Fernet
from psycopg.rows import dict_row

REPO = Path(__file__).resolve().parents[2]
A_KEY = re.compile(r"sk-sb-[A-Za-z0-9_-]{40,}")
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
START_SECONDS = 30
ROW_SECONDS = 10
COMMAND_SECONDS = 120
NOTICE_SECONDS = 2  # within which every worker must know what a command has changed

Row = dict[str, Any]


class Gateway:
    """One gateway with its own data, on its own port. Settings are environment variables."""

    def __init__(self, folder: Path, application: str = "", **settings: str) -> None:
        self.folder = folder
        self.application = [application] if application else []  # instead of the product's own, around it
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = f"sk-sb-{secrets.token_urlsafe(32)}"
        self.password = secrets.token_urlsafe(16)
        self.log = folder / "gunicorn.log"
        self.database_url = settings.get("DATABASE_URL", "")
        self.environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | {
            "ENV_FILE": str(folder / "no.env"),
            "DATA_DIR": str(folder / "data"),
            "STATIC_ROOT": str(folder.parent / "static"),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "2",
            "DATABASE_URL": "",
            "REDIS_URL": "",
            "DRAIN_SECONDS": "10",
            "CORS_ORIGINS": "https://chat.example.com",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "SECRETS_KEY": Fernet.generate_key().decode(),
            "JWT_SECRET_KEY": secrets.token_urlsafe(48),
            "BOOTSTRAP_ADMIN_PASSWORD": self.password,
            "BOOTSTRAP_API_KEY": self.key,
            **settings,
        }
        self.command_log = folder / "commands.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._commands: subprocess.Popen[str] | None = None
        self._commands_environment: dict[str, str] = {}
        self._commanding = threading.Lock()
        self._commanded = 0.0  # when the last command ended

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.manage("migrate", "--verbosity", "0")
        self.manage("bootstrap")
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._unload()
        self.stop()

    # -- the server

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", "gateway/gunicorn.py", *self.application],
                cwd=REPO,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                died = self._process.poll()
                self.stop()
                raise AssertionError(f"The gateway did not come up (exit status {died}):\n{self.tail()}")
            time.sleep(0.05)

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    def stop(self) -> None:
        """As an operator would; what does not end by then is killed with all it started."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)

    def restart(self) -> None:
        self.stop()
        self.start()

    def workers(self) -> set[int]:
        """The master's children: workers, and the background process."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return {int(child) for child in children.split()}

    def tail(self, lines: int = 60) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    # -- the commands

    def manage(self, *words: str, check: bool = True, given: str | None = None) -> subprocess.CompletedProcess[str]:
        done = self._command(words, given or "")
        self._commanded = time.monotonic()
        if check and done.returncode != 0:
            raise AssertionError(f"manage.py {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def _command(self, words: tuple[str, ...], given: str) -> subprocess.CompletedProcess[str]:
        with self._commanding, tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
            for file, text in zip(files, (given, "", ""), strict=True):
                file.write_text(text)
            commands = self._loaded()
            assert commands.stdin is not None
            assert commands.stdout is not None
            commands.stdin.write(json.dumps({"words": words, "files": [str(file) for file in files]}) + "\n")
            commands.stdin.flush()
            if not select.select([commands.stdout], [], [], COMMAND_SECONDS)[0]:
                commands.kill()
                raise AssertionError(f"manage.py {' '.join(words)} did not end.\n{files[2].read_text()}")
            status = commands.stdout.readline()
            assert status, self.command_log.read_text()
            return subprocess.CompletedProcess(words, int(status), files[1].read_text(), files[2].read_text())

    def _loaded(self) -> subprocess.Popen[str]:
        """The process that commands are forks of, anew when the environment has changed."""
        if self._commands is not None and self._commands_environment != self.environment:
            self._unload()
        if self._commands is None or self._commands.poll() is not None:
            self._commands_environment = dict(self.environment)
            with self.command_log.open("ab") as log:
                self._commands = subprocess.Popen(
                    [sys.executable, "-m", "tests.live.commands"],
                    cwd=REPO,
                    env=self.environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
        return self._commands

    def _unload(self) -> None:
        commands, self._commands = self._commands, None
        if commands is not None:
            commands.kill()
            commands.communicate()

    def noticed(self) -> None:
        """Returns when every worker must know what the commands have changed."""
        time.sleep(max(0.0, self._commanded + NOTICE_SECONDS - time.monotonic()))

    def connect(
        self,
        name: str,
        url: str,
        key: str,
        *,
        routes: str | None = None,
        connect: int | None = None,
        first_event: int | None = None,
        idle: int | None = None,
        total: int | None = None,
        **settings: str,
    ) -> str:
        """A profile for a server that speaks OpenAI; the timeouts are whole seconds."""
        words = ["connect", "openai", name, "--set", f"url={url}", "--secret", f"api_key={key}"]
        for setting, value in settings.items():
            words += ["--set", f"{setting}={value}"]
        if routes is not None:
            words += ["--routes", routes]
        timeouts = {"connect": connect, "first-event": first_event, "idle": idle, "total": total}
        for timeout, seconds in timeouts.items():
            if seconds is not None:
                words += [f"--{timeout}-timeout", str(seconds)]
        return self.manage(*words).stdout

    def route(self, name: str, place: str, *, weight: int | None = None, priority: int | None = None) -> str:
        words = ["route", name, place]
        if weight is not None:
            words += ["--weight", str(weight)]
        if priority is not None:
            words += ["--priority", str(priority)]
        return self.manage(*words).stdout

    def apikey(self, owner: str, name: str, *, routes: str | None = None, expires: str | None = None) -> str:
        """Makes a key and gives its text, which is printed this once."""
        words = ["apikey", "create", owner, name]
        if routes is not None:
            words += ["--routes", routes]
        if expires is not None:
            words += ["--expires", expires]
        printed = self.manage(*words).stdout
        found = A_KEY.search(printed)
        if found is None:
            raise AssertionError(f"No key in: {printed}")
        return found.group()

    def change_key(self, name: str, **changes: object) -> None:
        """What an administrator does in the admin: changes a key that exists. Plain values or datetimes."""
        code = (
            "import datetime\n"
            "from apikeys.models import APIKey\n"
            f"assert APIKey.objects.filter(name={name!r}).update(**{changes!r}) == 1"
        )
        self.manage("shell", "--no-imports", "-c", code)

    # -- what it wrote down

    def rows(self, **filters: object) -> list[Row]:
        """Usage rows, read from the database itself, in the order of their calls."""
        where = " AND ".join(f"{column} = ?" for column in filters) or "1 = 1"
        return self.select(f"SELECT * FROM usage_usagerecord WHERE {where} ORDER BY id", *filters.values())

    def select(self, query: str, *values: object) -> list[Row]:
        """What the database itself says; a value stands in the query as `?`."""
        if self.database_url:
            with psycopg.connect(self.database_url, row_factory=dict_row, autocommit=True) as database:
                return database.execute(query.replace("?", "%s"), values).fetchall()
        path = next((self.folder / "data").glob("*.sqlite3"))
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as file:
            file.row_factory = sqlite3.Row
            return [dict(row) for row in file.execute(query, values)]

    def row(self, request_id: str | None, seconds: float = ROW_SECONDS) -> Row:
        """The one row of a call, waited for: the ledger writes it in the background."""
        assert request_id, "an answer without x-request-id"
        return self.wait_row(seconds, request_id=request_id)

    def wait_row(self, seconds: float = ROW_SECONDS, **filters: object) -> Row:
        deadline = time.monotonic() + seconds
        while not (found := self.rows(**filters)):
            if time.monotonic() > deadline:
                raise AssertionError(f"No usage row with {filters} after {seconds} s.\n{self.tail(20)}")
            time.sleep(0.1)
        assert len(found) == 1, f"{len(found)} usage rows with {filters}"
        return found[0]

    def newest_row(self, route: str, after: datetime, seconds: float = ROW_SECONDS) -> Row:
        """The row of a call whose answer never came, so that its request id is unknown."""
        deadline = time.monotonic() + seconds
        while True:
            found = [row for row in self.rows(route_name=route) if moment(row["started_at"]) >= after]
            if found:
                assert len(found) == 1, f"{len(found)} usage rows for {route}"
                return found[0]
            if time.monotonic() > deadline:
                raise AssertionError(f"No usage row for {route} after {seconds} s.\n{self.tail(20)}")
            time.sleep(0.1)


def moment(value: datetime | str) -> datetime:
    """SQLite keeps times as text, in UTC without saying so."""
    when = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def postgres_database(server: str) -> Iterator[str]:
    """A fresh PostgreSQL database for as long as the block lasts."""
    name = f"switchboard_{secrets.token_hex(6)}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
        try:
            yield f"{server}/{name}"
        finally:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
