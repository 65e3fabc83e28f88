"""What later work stands on: memory before database, one row per call, streams that survive, workers that may die."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
import requests

from tests.conftest import StartGateway, lacking
from tests.fakes.openai import KEY, FakeOpenAI, answer
from tests.fakes.server import Gate
from tests.live.server import Gateway, free_port

HELLO = [{"role": "user", "content": "Hello"}]


def ask(gateway: Gateway, model: str, key: str | None = None, **more: object) -> requests.Response:
    return requests.post(
        f"{gateway.url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {key or gateway.key}", "Connection": "close"},
        json={"model": model, "messages": HELLO, **more},
        timeout=30,
    )


def until(true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def workers(gateway: Gateway) -> list[int]:
    children = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()
    return [int(pid) for pid in children if "background" not in Path(f"/proc/{pid}/cmdline").read_text()]


class TestMemory:
    def test_a_warm_call_makes_no_query(self, start_gateway: StartGateway, fake_upstream: FakeOpenAI) -> None:
        gateway = start_gateway(WEB_CONCURRENCY="1", application="tests.live.counting:application")
        gateway.connect("fake", fake_upstream.url, KEY, routes="gpt-fake")
        assert ask(gateway, "gpt-fake").status_code == 200
        for more in ({}, {"stream": True}):
            answered = ask(gateway, "gpt-fake", **more)
            assert answered.status_code == 200
            assert answered.headers["x-queries"] == "0"
        assert ask(gateway, "echo").headers["x-queries"] == "0"
        missing = ask(gateway, "not-there")
        assert missing.status_code == 404
        assert int(missing.headers["x-queries"]) > 0, "a route that is missing is looked for once more"

    def test_a_route_made_a_moment_ago_is_never_a_false_404(self, gateway: Gateway) -> None:
        for number in range(5):
            gateway.route(f"made/{number}", "fake:gpt-fake")
            for _ in range(6):
                assert ask(gateway, f"made/{number}").status_code == 200

    def test_a_key_made_a_moment_ago_is_never_a_false_401(self, gateway: Gateway) -> None:
        for number in range(3):
            key = gateway.apikey("grace", f"fresh {number}")
            for _ in range(6):
                assert ask(gateway, "echo", key).status_code == 200

    def test_revoking_a_key_takes_effect_in_every_worker_within_two_seconds(self, gateway: Gateway) -> None:
        key = gateway.apikey("grace", "to be revoked")
        for _ in range(10):
            assert ask(gateway, "echo", key).status_code == 200
        gateway.change_key("to be revoked", active=False)
        time.sleep(2)
        # Each call comes on a connection of its own, so both workers are asked.
        assert {ask(gateway, "echo", key).status_code for _ in range(40)} == {401}

    def test_a_key_works_while_the_database_is_down_and_an_unknown_one_gets_503(
        self, start_gateway: StartGateway, fake_upstream: FakeOpenAI, postgres_port: Callable[[], PortForward]
    ) -> None:
        forward = postgres_port()
        gateway = start_gateway(DATABASE_URL=forward.url, WEB_CONCURRENCY="1")
        gateway.connect("fake", fake_upstream.url, KEY, routes="gpt-fake")
        assert ask(gateway, "gpt-fake").status_code == 200
        forward.cut()
        assert ask(gateway, "gpt-fake").status_code == 200
        unknown = ask(gateway, "gpt-fake", key="sk-sb-nobody-knows-this-key-00000000000000")
        assert unknown.status_code == 503
        assert unknown.json()["error"]["code"] == "database_unavailable"
        forward.restore()
        assert until(lambda: ask(gateway, "gpt-fake", key="sk-sb-nobody").status_code == 401, 20)


class TestOneRowPerCall:
    def test_a_call_id_is_a_uuid_of_version_7_and_the_primary_key(self, gateway: Gateway) -> None:
        before = int(time.time() * 1000)
        request_id = ask(gateway, "echo").headers["x-request-id"]
        row = gateway.row(request_id)
        call = UUID(str(row["id"]))
        assert call == UUID(request_id)
        assert call.version == 7
        assert before <= call.int >> 80 <= int(time.time() * 1000)

    def test_money_is_whole_numbers(self, gateway: Gateway) -> None:
        gateway.route("priced", "fake:gpt-fake")
        gateway.manage(
            "shell",
            "--no-imports",
            "-c",
            "from profiles.models import Deployment\n"
            "Deployment.objects.filter(route__name='priced').update(price_input=2_500_001, price_output=10_000_000)",
        )
        time.sleep(2)  # as long as a worker may take to notice
        row = gateway.row(ask(gateway, "priced").headers["x-request-id"])
        nano = (row["input_tokens"] * 2_500_001 + row["output_tokens"] * 10_000_000 + 500) // 1000
        assert row["cost"] == nano
        assert isinstance(row["cost"], int)
        prices = row["prices"] if isinstance(row["prices"], dict) else json.loads(row["prices"])
        assert prices == {"input": 2_500_001, "output": 10_000_000}

    @pytest.mark.parametrize("database", ["sqlite", "postgres"])
    def test_a_worker_killed_in_the_middle_of_a_thousand_calls_loses_and_doubles_none(
        self, database: str, start_gateway: StartGateway, request: pytest.FixtureRequest
    ) -> None:
        url = request.getfixturevalue("postgres") if database == "postgres" else ""
        with FakeOpenAI() as upstream:
            gateway = start_gateway(WEB_CONCURRENCY="2", DATABASE_URL=url)
            gateway.connect("fake", upstream.url, KEY, routes="gpt-fake")
            answered: dict[str, dict[str, int]] = {}
            done = threading.Semaphore(0)

            def call(number: int) -> None:
                try:
                    if got := ask(gateway, "gpt-fake", user=f"call-{number}").json().get("usage"):
                        answered[f"call-{number}"] = got
                except (requests.RequestException, ValueError):
                    pass
                done.release()

            with ThreadPoolExecutor(24) as pool:
                calls = [pool.submit(call, number) for number in range(1000)]
                for _ in range(300):
                    done.acquire()
                os.kill(workers(gateway)[0], signal.SIGKILL)
                for future in calls:
                    future.result()
            seen = [str(heard.body["user"]) for heard in upstream.asked("gpt-fake")]
            assert len(answered) > 500
            assert until(lambda: len(gateway.rows(route_name="gpt-fake")) >= len(set(seen)), 30)
            rows = gateway.rows(route_name="gpt-fake")
            by_user = {row["end_user"]: row for row in rows}
            assert len(by_user) == len(rows), "no call has two rows"
            assert set(seen) <= set(by_user), "no call the upstream saw is without a row"
            for user, usage in answered.items():
                assert by_user[user]["ending"] == "completed"
                assert by_user[user]["input_tokens"] == usage["prompt_tokens"]
                assert by_user[user]["output_tokens"] == usage["completion_tokens"]

    def test_the_journal_holds_a_line_before_the_upstream_is_asked(
        self, gateway: Gateway, upstream: FakeOpenAI
    ) -> None:
        gate = Gate()
        upstream.script("gpt-fake", answer("later", gate=gate))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(ask, gateway, "gpt-fake", stream=True, user="journalled")
            upstream.heard("gpt-fake")
            text = "".join(path.read_text() for path in (gateway.folder / "data" / "journal").glob("*.jsonl"))
            opened = [json.loads(line) for line in text.splitlines() if '"journalled"' in line]
            assert [list(line) for line in opened] == [["open"]]
            gate.open()
            assert waiting.result().status_code == 200


class TestStreamsAndConnections:
    def test_two_hundred_streams_work_with_a_database_pool_of_four(
        self, start_gateway: StartGateway, fake_upstream: FakeOpenAI, postgres: str
    ) -> None:
        gateway = start_gateway(DATABASE_URL=postgres, DATABASE_POOL="4", WEB_CONCURRENCY="1")
        gateway.connect("fake", fake_upstream.url, KEY, routes="gpt-fake")
        gates = [Gate(frames=2) for _ in range(200)]
        fake_upstream.script("gpt-fake", *(answer("a b c d", gate=gate) for gate in gates))
        streams = [
            requests.post(
                f"{gateway.url}/v1/chat/completions",
                headers={"Authorization": f"Bearer {gateway.key}"},
                json={"model": "gpt-fake", "messages": HELLO, "stream": True},
                stream=True,
                timeout=30,
            )
            for _ in gates
        ]
        assert {stream.status_code for stream in streams} == {200}
        # While they are all open, what needs the database still gets it.
        fresh = gateway.apikey("grace", "beside streams")
        assert ask(gateway, "echo", fresh).status_code == 200
        for gate in gates:
            gate.open()
        for stream in streams:
            assert stream.content.endswith(b"data: [DONE]\n\n")

    def test_a_reload_drops_no_stream_and_takes_new_calls(
        self, start_gateway: StartGateway, fake_upstream: FakeOpenAI
    ) -> None:
        gateway = start_gateway(WEB_CONCURRENCY="1")
        gateway.connect("fake", fake_upstream.url, KEY, routes="gpt-fake")
        gate = Gate(frames=2)
        fake_upstream.script("gpt-fake", answer("a b c d", gate=gate))
        old = workers(gateway)
        with requests.post(
            f"{gateway.url}/v1/chat/completions",
            headers={"Authorization": f"Bearer {gateway.key}"},
            json={"model": "gpt-fake", "messages": HELLO, "stream": True},
            stream=True,
            timeout=30,
        ) as stream:
            os.kill(gateway.pid, signal.SIGHUP)
            assert until(lambda: bool(set(workers(gateway)) - set(old)), 15)
            assert until(gateway.ready, 15)
            assert ask(gateway, "echo").status_code == 200
            gate.open()
            assert stream.content.endswith(b"data: [DONE]\n\n")
        assert until(lambda: not set(workers(gateway)) & set(old), 15)

    def test_a_stop_tells_open_streams_and_leaves_their_rows(
        self, start_gateway: StartGateway, fake_upstream: FakeOpenAI
    ) -> None:
        gateway = start_gateway(WEB_CONCURRENCY="1", DRAIN_SECONDS="10")
        gateway.connect("fake", fake_upstream.url, KEY, routes="gpt-fake")
        fake_upstream.script("gpt-fake", answer("a b c d", gate=Gate(frames=2)))
        with requests.post(
            f"{gateway.url}/v1/chat/completions",
            headers={"Authorization": f"Bearer {gateway.key}"},
            json={"model": "gpt-fake", "messages": HELLO, "stream": True},
            stream=True,
            timeout=30,
        ) as stream:
            gateway.stop()
            said = stream.content
        assert b"[DONE]" not in said
        assert json.loads(said.split(b"data: ")[-1])["error"]["code"] == "gateway_restarting"
        assert gateway.row(stream.headers["x-request-id"])["ending"] == "drained"

    def test_the_background_process_comes_back_when_it_is_killed_and_ends_with_the_gateway(
        self, start_gateway: StartGateway
    ) -> None:
        gateway = start_gateway(WEB_CONCURRENCY="1")
        assert until(lambda: len(background(gateway)) == 1, 10)
        killed = background(gateway)[0]
        os.kill(killed, signal.SIGKILL)
        assert until(lambda: background(gateway) not in ([], [killed]), 20)
        row = gateway.row(ask(gateway, "echo").headers["x-request-id"])
        assert row["ending"] == "completed"
        os.kill(gateway.pid, signal.SIGKILL)
        assert until(lambda: not background(gateway), 10)


def background(gateway: Gateway) -> list[int]:
    """The background processes that belong to this gateway's data."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and b"python\0manage.py\0background" in (process / "cmdline").read_bytes():
                mark = f"DATA_DIR={gateway.environment['DATA_DIR']}".encode()
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
        except OSError:
            continue
    return found


class TestBehindNginx:
    def test_a_caller_who_leaves_is_gone_upstream_within_a_second(
        self, gateway: Gateway, upstream: FakeOpenAI, nginx: str
    ) -> None:
        for stream, model in ((True, "hang-before-headers"), (False, "hang-before-headers"), (True, "slow")):
            upstream.forget()
            gate = Gate(frames=2)
            if model == "slow":
                model = "gpt-fake"
                upstream.script(model, answer("a b c d", gate=gate))
            caller = open_call(nginx, gateway.key, model, stream)
            heard = upstream.heard(model)
            if model == "gpt-fake":
                assert caller.recv(4096)
            caller.close()
            assert heard.wait_left(1), (model, stream)

    def test_the_first_event_passes_nginx_at_once(self, gateway: Gateway, upstream: FakeOpenAI, nginx: str) -> None:
        gate = Gate(frames=2)
        upstream.script("gpt-fake", answer("a b c d", gate=gate))
        with open_call(nginx, gateway.key, "gpt-fake", True) as caller:
            assert b"chat.completion.chunk" in read_until(caller, b"chat.completion.chunk")
            gate.open()
            assert b"[DONE]" in read_until(caller, b"[DONE]")


def open_call(address: str, key: str, model: str, stream: bool) -> socket.socket:
    host, _, port = address.removeprefix("http://").partition(":")
    body = json.dumps({"model": model, "messages": HELLO, "stream": stream}).encode()
    caller = socket.create_connection((host, int(port)), timeout=10)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    caller.sendall(head.encode() + body)
    return caller


def read_until(caller: socket.socket, mark: bytes) -> bytes:
    got = b""
    while mark not in got:
        piece = caller.recv(4096)
        if not piece:
            break
        got += piece
    return got


@pytest.fixture(scope="module")
def nginx(live: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The project's own nginx configuration, without TLS, in front of the shared gateway."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    server = (Path(__file__).parents[2] / "deploy" / "nginx.conf").read_text()
    server = server.replace("127.0.0.1:8000", f"127.0.0.1:{live.port}").replace("listen 443 ssl", f"listen {port}")
    server = "\n".join(
        line for line in server.splitlines() if "ssl_certificate" not in line and "listen [::]" not in line
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};\n{server}\n}}\n"
    )
    try:
        process = subprocess.Popen(["nginx", "-c", str(config), "-e", f"{folder}/error.log"])
    except FileNotFoundError:
        lacking("nginx")
    address = f"http://127.0.0.1:{port}"

    def up() -> bool:
        try:
            return requests.get(f"{address}/health", timeout=1).status_code == 200
        except requests.RequestException:
            return False

    try:
        assert until(up, 10), (folder / "error.log").read_text()
        yield address
    finally:
        process.terminate()
        process.wait(10)


class PortForward:
    """A way to PostgreSQL that can be cut."""

    def __init__(self, url: str) -> None:
        self.port = free_port()
        self.url = url.replace("127.0.0.1:5432", f"127.0.0.1:{self.port}")
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._open: list[socket.socket] = []
        self._allowed = True
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._allowed:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", 5432))
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        finally:
            for end in (one, other):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def cut(self) -> None:
        self._allowed = False
        for end in self._open:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def restore(self) -> None:
        self._allowed = True

    def close(self) -> None:
        self.cut()
        self._listener.close()
        for end in self._open:
            end.close()


@pytest.fixture
def postgres_port(postgres: str) -> Iterator[Callable[[], PortForward]]:
    made: list[PortForward] = []

    def make() -> PortForward:
        made.append(PortForward(postgres))
        return made[-1]

    yield make
    for forward in made:
        forward.close()
