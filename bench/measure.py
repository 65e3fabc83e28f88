"""Takes the figures: each server in turn within a round, so a slow minute of the machine hits them all."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import processes
from servers import Mock, Server

CONNECTIONS = [1, 32, 128]
STREAM_CONNECTIONS = 16
OPEN_STREAMS = [200, 500, 1000]
OPEN_MODEL = "mock-50ms-x100"  # five seconds long, so that all are open at once when two seconds open them


@dataclass(frozen=True)
class Observation:
    """What one run of the load saw of one server. Times in seconds."""

    completed: int
    errors: int
    faults: list[str]
    per_second: float
    p50: float | None
    p99: float | None
    first_token_p50: float | None
    first_token_p99: float | None
    cpu_each: float | None
    load_core_busy: float
    memory: int


@dataclass
class Figures:
    """All observations of one server; one per round in each list."""

    startup: float = 0.0
    answered: int = 0  # calls of every kind that came back, also those of the warm-up
    rows_written: int | None = None
    memory_idle: int = 0
    calls: dict[int, list[Observation]] = field(default_factory=dict)
    streams: dict[str, list[Observation]] = field(default_factory=dict)
    open: dict[int, list[Observation]] = field(default_factory=dict)

    def observations(self) -> Iterator[Observation]:
        for group in (self.calls, self.streams, self.open):
            for rounds in group.values():
                yield from rounds

    def errors(self) -> int:
        return sum(seen.errors for seen in self.observations())


def middle(rounds: list[Observation] | None, name: str) -> float | None:
    values = [value for seen in rounds or [] if (value := getattr(seen, name)) is not None]
    return median(values) if values else None


@dataclass(frozen=True)
class Plan:
    rounds: int
    seconds: float
    server_core: int | None
    load_core: int | None


class Bench:
    def __init__(self, plan: Plan, mock: Mock, servers: list[Server]) -> None:
        self.plan, self.mock, self.servers = plan, mock, servers
        self.figures = {server.name: Figures() for server in [mock, *servers]}

    def run(self) -> dict[str, Figures]:
        everyone = [self.mock, *self.servers]
        self.start(self.mock, self.plan.load_core)
        for server in self.servers:
            self.start(server, self.plan.server_core)
        for server in everyone:
            self.warm_up(server)
        for number in range(1, self.plan.rounds + 1):
            say(f"Round {number} of {self.plan.rounds}: whole answers, then streams")
            for connections in CONNECTIONS:
                for server in everyone:
                    self.calls(server, connections)
            for server in everyone:
                self.streams(server)
        for count in OPEN_STREAMS:
            say(f"{count} open streams")
            for server in everyone:
                seen = self.observe(server, "open", OPEN_MODEL, connections=count)
                self.figures[server.name].open.setdefault(count, []).append(seen)
        for server in self.servers:
            self.figures[server.name].rows_written = server.rows_written()
        return self.figures

    def start(self, server: Server, core: int | None) -> None:
        say(f"Starting {server.name}")
        figures = self.figures[server.name]
        figures.startup = server.start(core)
        figures.answered = 1
        time.sleep(2)  # what a server does just after its first answer is not idling
        figures.memory_idle = processes.memory_bytes(server.pid)

    def warm_up(self, server: Server) -> None:
        for kind in ("calls", "streams"):
            self.observe(server, kind, "mock", connections=32, seconds=1.5)

    def calls(self, server: Server, connections: int) -> None:
        options = {"connections": connections, "seconds": self.plan.seconds}
        seen = self.observe(server, "calls", "mock", **options)
        self.figures[server.name].calls.setdefault(connections, []).append(seen)

    def streams(self, server: Server) -> None:
        asked = {"same": ("mock", "chat")}
        if server.translated_model:
            asked["translated"] = (server.translated_model, "completions")
        for row, (model, language) in asked.items():
            seen = self.observe(
                server,
                "streams",
                model,
                language=language,
                connections=STREAM_CONNECTIONS,
                seconds=self.plan.seconds,
            )
            self.figures[server.name].streams.setdefault(row, []).append(seen)

    def observe(self, server: Server, kind: str, model: str, **options: str | float) -> Observation:
        command = [sys.executable, str(Path(__file__).with_name("load.py")), kind]
        command += [f"--port={server.port}", f"--model={model}"]
        command += [f"--{name}={value}" for name, value in options.items()]
        command += [f"--header={header}" for header in server.headers]
        cpu_before = processes.cpu_seconds(server.pid)
        mock_before = processes.cpu_seconds(self.mock.pid)
        load = subprocess.Popen(
            processes.pinned(command, self.plan.load_core), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        memory = 0
        while load.poll() is None:
            if kind == "open":
                memory = max(memory, processes.memory_bytes(server.pid))
            time.sleep(0.25)
        output, complaint = load.communicate()
        if load.returncode:
            raise RuntimeError(f"The load generator failed:\n{complaint.decode()[-3000:]}")
        seen = json.loads(output)
        mock_cpu = processes.cpu_seconds(self.mock.pid) - mock_before
        cpu = processes.cpu_seconds_at_rest(server.pid) - cpu_before
        self.figures[server.name].answered += seen["completed"] + seen["errors"]
        if seen["errors"]:
            say(f"  {server.name}, {kind} {options}: {seen['errors']} errors, among them:")
            for fault in seen["faults"]:
                say(f"    {fault!r}")
        return Observation(
            completed=seen["completed"],
            errors=seen["errors"],
            faults=seen["faults"],
            per_second=seen["per_second"],
            p50=seen["p50"],
            p99=seen["p99"],
            first_token_p50=seen["first_token_p50"],
            first_token_p99=seen["first_token_p99"],
            cpu_each=cpu / seen["completed"] if seen["completed"] else None,
            load_core_busy=(mock_cpu + seen["load_cpu"]) / seen["seconds"],
            memory=memory,
        )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def as_json(figures: dict[str, Figures]) -> str:
    return json.dumps({name: asdict(seen) for name, seen in figures.items()}, indent=1)
