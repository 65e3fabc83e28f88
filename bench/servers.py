"""The servers that are compared: how each is installed, started with one worker, and asked."""

import base64
import json
import os
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import processes

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "switchboard-bench"
MODELS = ["mock", "mock-50ms-x100"]

LITELLM_PACKAGE = "litellm[proxy]==1.106.2"
PORTKEY_PACKAGE = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    # The version in Portkey's own lock file; with later ones every stream fails with "TypeError: immutable".
    "overrides": {"@hono/node-server": "1.13.5"},
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """A server between the load and the mock upstream."""

    name = ""
    headers: tuple[str, ...] = ()
    translated_model: str | None = None  # asked at /v1/completions, which the upstream does not have

    def __init__(self, folder: Path, upstream_port: int) -> None:
        self.folder, self.upstream_port, self.port = folder / self.name, upstream_port, free_port()
        self.folder.mkdir(parents=True)
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def upstream(self) -> str:
        return f"http://127.0.0.1:{self.upstream_port}/v1"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def install(self) -> None:
        """Fetches what is missing; called before anything is measured."""

    def prepare(self) -> None:
        """Writes configuration and data, before the clock of the start-up runs."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def start(self, core: int | None) -> float:
        """Starts the server and says after how many seconds it had answered its first call."""
        self.prepare()
        begin = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                processes.pinned(self.command(), core),
                cwd=REPOSITORY,
                env={**os.environ, **self.environment()},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() - begin > 120:
                raise RuntimeError(f"{self.name} did not start. Its log ends with:\n{self.log_end()}")
            time.sleep(0.02)
        return time.monotonic() - begin

    def answers(self) -> bool:
        body = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}]}
        headers = dict(header.split(": ", 1) for header in [*self.headers, "Content-Type: application/json"])
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return b"tok0 " in answer.read()
        except urllib.error.HTTPError as error:
            if error.code >= 500:
                return False
            raise RuntimeError(f"{self.name} refused a call: {error.code} {error.read()[:400]!r}") from error
        except OSError:
            return False

    def rows_written(self) -> int | None:
        """How many calls the server has recorded; None for one that keeps no record of its own."""
        return None

    def stop(self) -> None:
        if self.process:
            processes.stop(self.process)

    def log_end(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def run(self, *command: str) -> None:
        """A step of the set-up; says what it printed when it fails."""
        done = subprocess.run(
            command, cwd=REPOSITORY, env={**os.environ, **self.environment()}, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[:3])} … failed:\n{(done.stdout + done.stderr)[-3000:]}")


class Mock(Server):
    name = "mock"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 0)

    def command(self) -> list[str]:
        return [sys.executable, str(Path(__file__).with_name("upstream.py")), "--port", str(self.port)]


class Gateway(Server):
    name = "gateway"
    translated_model = "mock"

    def __init__(self, folder: Path, upstream_port: int) -> None:
        super().__init__(folder, upstream_port)
        self.key = "sk-" + secrets.token_urlsafe(32)
        self.headers = (f"Authorization: Bearer {self.key}",)
        self.variables = {
            "SECRET_KEY": secrets.token_urlsafe(48),
            "JWT_SECRET_KEY": secrets.token_urlsafe(48),
            "SECRETS_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "DATA_DIR": str(self.folder / "data"),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "1",
            "STATIC_ROOT": str(self.folder / "static"),
            "ENV_FILE": os.devnull,  # the figures are of the defaults, not of a developer's .env
            "BOOTSTRAP_ADMIN_PASSWORD": secrets.token_urlsafe(16),
            "BOOTSTRAP_API_KEY": self.key,
        }
        python = REPOSITORY / ".venv" / "bin" / "python"
        self.python = str(python) if python.exists() else sys.executable

    def environment(self) -> dict[str, str]:
        return self.variables

    def prepare(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        self.run(self.python, "manage.py", "migrate", "--verbosity", "0")
        self.run(self.python, "manage.py", "bootstrap")
        connect = ["connect", "openai", "mock", "--set", f"url={self.upstream}", "--routes", ",".join(MODELS)]
        self.run(self.python, "manage.py", *connect)

    def command(self) -> list[str]:
        return [self.python, "-m", "gunicorn", "-c", "gateway/gunicorn.py"]

    def rows_written(self) -> int:
        with closing(sqlite3.connect(self.folder / "data" / "switchboard.sqlite3")) as database:
            return int(database.execute("SELECT count(*) FROM usage_usagerecord").fetchone()[0])


class Nginx(Server):
    name = "nginx"

    def install(self) -> None:
        if self.executable():
            return
        if os.geteuid():
            raise RuntimeError("nginx is missing: apt-get install nginx-light")
        for step in (
            ["apt-get", "update"],
            ["apt-get", "install", "-y", "--no-install-recommends", "nginx-light"],
        ):
            self.run(*step)
        # The distribution starts a service of its own; it would answer to nobody and share the core.
        subprocess.run(["service", "nginx", "stop"], capture_output=True, check=False)

    def executable(self) -> str | None:
        return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

    def prepare(self) -> None:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"  {kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        (self.folder / "nginx.conf").write_text(f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
worker_processes 1;
pid {self.folder}/pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
{temporary}
  keepalive_requests 100000000;
  upstream mock {{ server 127.0.0.1:{self.upstream_port}; keepalive 2048; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{self.port} backlog=4096;
    location / {{
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
""")

    def command(self) -> list[str]:
        return [self.executable() or "nginx", "-e", "stderr", "-c", str(self.folder / "nginx.conf")]


class LiteLLM(Server):
    name = "litellm"
    headers = ("Authorization: Bearer sk-bench",)
    translated_model = "mock-translated"

    def install(self) -> None:
        marker = CACHE / "litellm" / "installed"
        if marker.exists() and marker.read_text() == LITELLM_PACKAGE:
            return
        print(f"Installing {LITELLM_PACKAGE} …", file=sys.stderr)
        self.run(sys.executable, "-m", "venv", "--clear", str(marker.parent))
        self.run(str(marker.parent / "bin" / "pip"), "install", "--quiet", LITELLM_PACKAGE)
        marker.write_text(LITELLM_PACKAGE)

    def prepare(self) -> None:
        def deployment(route: str, model: str) -> dict[str, object]:
            parameters = {"model": model, "api_base": self.upstream, "api_key": "sk-mock"}
            return {"model_name": route, "litellm_params": parameters}

        models = [deployment(model, f"openai/{model}") for model in MODELS]
        # Only for an upstream that LiteLLM knows to lack /v1/completions does it translate to chat.
        models.append(deployment("mock-translated", "deepseek/mock"))
        config = {"model_list": models, "general_settings": {"master_key": "sk-bench"}}
        (self.folder / "config.yaml").write_text(json.dumps(config))

    def command(self) -> list[str]:
        where = [
            "--config",
            str(self.folder / "config.yaml"),
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        return [str(CACHE / "litellm/bin/litellm"), *where, "--num_workers", "1", "--telemetry", "False"]

    def environment(self) -> dict[str, str]:
        # Its advice for production, and no price list fetched at start.
        return {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


class Portkey(Server):
    name = "portkey"

    def __init__(self, folder: Path, upstream_port: int) -> None:
        super().__init__(folder, upstream_port)
        self.headers = (
            "Authorization: Bearer sk-mock",
            "x-portkey-provider: openai",
            f"x-portkey-custom-host: {self.upstream}",
        )

    def install(self) -> None:
        home, wanted = CACHE / "portkey", json.dumps(PORTKEY_PACKAGE)
        marker = home / "installed"
        if marker.exists() and marker.read_text() == wanted:
            return
        print("Installing Portkey's gateway …", file=sys.stderr)
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        (home / "package.json").write_text(wanted)
        self.run("npm", "install", "--prefix", str(home), "--no-fund", "--no-audit", "--ignore-scripts")
        marker.write_text(wanted)

    def command(self) -> list[str]:
        script = CACHE / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
        return ["node", str(script), f"--port={self.port}", "--headless"]

    def environment(self) -> dict[str, str]:
        return {"NODE_ENV": "production", "PORT": str(self.port)}


CONTENDERS: dict[str, type[Server]] = {kind.name: kind for kind in (Gateway, Nginx, LiteLLM, Portkey)}
