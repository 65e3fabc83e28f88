"""The systems of the contract suite, what is expected of each, and the matrix in docs/providers.md.

python -m tests.every_provider       # writes the matrix anew
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.fakes import anthropic, ocf, openai, sambanova
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.ocf import FakeOCF
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai import FakeOpenAI
from tests.fakes.sambanova import FakeSambaNova
from tests.fakes.sap_ai_core import FakeSAP
from tests.fakes.scenes import Scene
from tests.fakes.server import Behaviour, FakeServer, Heard, Json
from tests.fakes.snowflake import FakeSnowflake, new_key
from tests.live import wire
from tests.live.server import Gateway
from tests.live.wire import Answer

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "providers.md"
BEGIN, END = "<!-- matrix -->", "<!-- /matrix -->"
RESCUE = "rescued"  # what a second deployment says


# ---------------------------------------------------------------------------------------------- systems


@dataclass(frozen=True)
class System:
    """An account kind with one family of models behind it; its route has the name of the system."""

    name: str  # as the matrix shows it
    fake: str
    kind: str
    model: str  # the upstream's name
    settings: tuple[str, ...] = ()  # words of `connect`
    embedder: str = ""  # the upstream's name of a model that makes vectors
    through: str = ""  # in front of the models' names, where the gateway is told them

    @property
    def slug(self) -> str:
        return "-".join("".join(sign if sign.isalnum() else " " for sign in self.name).split()).lower()


def snowflake(name: str, model: str, endpoint: str = "openai") -> System:
    settings = ("user=gateway", "account=myorg-myacct", f"endpoint={endpoint}")
    words = tuple(word for setting in settings for word in ("--set", setting))
    return System(name, "snowflake", "snowflake", model, words, "snowflake-arctic-embed-m-v1.5")


def sap(name: str, model: str, embedder: str = "") -> System:
    return System(name, "sap", "sap_ai_core", model, embedder=embedder)


SYSTEMS = (
    System("OpenAI", "openai", "openai", "gpt-fake", embedder="embed-fake"),
    System("Anthropic", "anthropic", "anthropic", "claude-sonnet-4-5"),
    System("Ollama", "ollama", "ollama", "everything", embedder="nomic-embed-text"),
    snowflake("Snowflake: Claude", "claude-sonnet-4-5"),
    snowflake("Snowflake: OpenAI", "openai-gpt-5"),
    snowflake("Snowflake: Llama and others", "llama3.1-8b"),
    snowflake("Snowflake, legacy: Claude", "claude-sonnet-4-5", "legacy"),
    sap("SAP: GPT", "gpt-4o", "text-embedding-3-small"),
    sap("SAP: o3-mini", "o3-mini"),
    sap("SAP: Claude", "anthropic--claude-4-sonnet"),
    sap("SAP: Nova (Bedrock)", "amazon--nova-pro", "amazon--titan-embed-text"),
    sap("SAP: Gemini", "gemini-2.5-flash"),
    sap("SAP: Mistral", "mistralai--mistral-large"),
    System("SAP: orchestration", "sap", "sap_ai_core", "gpt-4o", (), "text-embedding-3-small", "orchestration/"),
    System("SambaNova", "sambanova", "sambanova", "gpt-oss-120b", embedder="E5-Mistral-7B-Instruct"),
    System("SambaNova, console", "console", "sambanova", "gpt-oss-120b"),
    System("OCF", "ocf", "ocf", ocf.CHATTER, ("--third-party",), ocf.EMBEDDER),
    System("OpenTela", "tela", "ocf", ocf.CHATTER, ("--third-party",), ocf.EMBEDDER),
    System("Echo", "", "echo", "echo", embedder="echo"),
)
BY_NAME = {system.name: system for system in SYSTEMS}


# ---------------------------------------------------------------------------------------- expectations


@dataclass(frozen=True)
class Yes:
    def __str__(self) -> str:
        return "yes"


@dataclass(frozen=True)
class No:
    """Refused with a 400 that names the field, and nobody upstream was asked."""

    param: str

    def __str__(self) -> str:
        return f"`{self.param.partition('[')[0]}`"


@dataclass(frozen=True)
class Dropped:
    """Answered without it, which `x-gateway-dropped` says."""

    field: str

    def __str__(self) -> str:
        return f"left out: `{self.field}`"


@dataclass(frozen=True)
class Nothing:
    """What the system cannot have by its nature, and why."""

    reason: str

    def __str__(self) -> str:
        return "–"


@dataclass(frozen=True)
class Whole:
    """Only in answers that come whole: in a stream the system does not say it."""

    def __str__(self) -> str:
        return "yes, not streamed"


Cell = Yes | No | Dropped | Nothing | Whole
YES = Yes()

# Rows of the matrix: what a caller can have, and what can go wrong.
ABILITIES = {
    "whole": "whole",
    "streamed": "streamed",
    "tools": "two calls of tools at once",
    "results": "results of tools",
    "image": "image",
    "schema": "JSON schema",
    "stop": "stop sequences",
    "system": "system message in the middle",
    "thinking": "thinking",
    "embeddings": "embeddings",
    "cached": "cached tokens counted",
    "length": "`length`",
    "filter": "`content_filter`",
}
FAILURES = {
    "error first": "error before the first word",
    "error later": "error after it",
    "cut": "end without an end mark",
    "bytes": "a byte at a time",
    "crlf": "CRLF",
    "comments": "comments",
    "refusals": "401, 404, 429, 503",
    "incapable": "what a model cannot do",
    "dropped": "fields left out are named",
    "usage": "usage row",
}
ROWS = ABILITIES | FAILURES

NO_LINES = Nothing("Its stream is lines of JSON, which have no comments.")
NO_UPSTREAM = Nothing("It answers by itself, so there is no upstream that could fail.")
NO_FILTER = Nothing("It has no word for an answer that was filtered.")
NO_CACHE = Nothing("It does not say what it read from a cache.")
NO_THOUGHTS = Nothing("It thinks, and does not say what.")
ALONE = dict.fromkeys(
    ["error first", "error later", "cut", "bytes", "crlf", "comments", "refusals", "incapable"], NO_UPSTREAM
)
EXPECTED: Mapping[str, Mapping[str, Cell]] = {
    "Anthropic": {"embeddings": No("model")},
    "Ollama": {"cached": NO_CACHE, "filter": NO_FILTER, "comments": NO_LINES},
    "Snowflake: Llama and others": {
        "tools": No("tools"),
        "results": No("tools"),
        "image": No("messages[0].content"),
        "schema": No("response_format"),
        "stop": No("stop"),
        "thinking": No("reasoning_effort"),
        "cached": NO_CACHE,
        "filter": NO_FILTER,
    },
    "Snowflake, legacy: Claude": {"stop": No("stop"), "filter": Whole()},
    "SAP: o3-mini": {"embeddings": No("model")},
    "SAP: Claude": {"embeddings": No("model")},
    "SAP: Nova (Bedrock)": {"schema": No("response_format")},
    "SAP: Gemini": {"embeddings": No("model"), "thinking": No("reasoning_effort")},
    "SAP: Mistral": {"embeddings": No("model"), "thinking": Dropped("reasoning_effort")},
    "SambaNova": {"filter": NO_FILTER},
    "SambaNova, console": {
        "tools": No("tools"),
        "results": No("tools"),
        "schema": No("response_format"),
        "thinking": Dropped("reasoning_effort"),
        "embeddings": No("model"),
        "filter": NO_FILTER,
    },
    "OCF": {"filter": NO_FILTER},
    "OpenTela": {"filter": NO_FILTER},
    "Echo": {
        "tools": No("tools"),
        "results": No("tools"),
        "image": No("messages"),
        "schema": No("response_format"),
        "thinking": Dropped("reasoning_effort"),
        "cached": Nothing("It has no cache."),
        "filter": NO_FILTER,
        **ALONE,
    },
}


def expected(system: System, row: str) -> Cell:
    return EXPECTED.get(system.name, {}).get(row, YES)


def cells(row: str) -> list[System]:
    """The systems that can have this at all."""
    return [system for system in SYSTEMS if not isinstance(expected(system, row), Nothing)]


# -------------------------------------------------------------------------------------------- the bench


@dataclass
class Folded:
    """A stream of chat chunks, put together again."""

    text: str = ""
    thinking: str = ""
    calls: list[dict[str, str]] = field(default_factory=list)
    finish: list[str] = field(default_factory=list)
    usage: Json | None = None
    error: Json | None = None
    done: bool = False
    contents: int = 0  # events that carried something
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, answer: Answer, events: list[Any]) -> Self:
        made = cls(headers=answer.headers)
        for event in events:
            assert not made.done, "something came after [DONE]"
            if event == "[DONE]":
                made.done = True
            elif "error" in event:
                made.error = event["error"]
            else:
                made.add(event)
        return made

    @classmethod
    def whole(cls, answer: Answer) -> Self:
        document = answer.json()
        assert document["object"] == "chat.completion"
        [choice] = document["choices"]
        message = choice["message"]
        calls = [
            {"id": call["id"], "name": call["function"]["name"], "arguments": call["function"]["arguments"]}
            for call in message.get("tool_calls") or []
        ]
        text, thinking = message.get("content") or "", message.get("reasoning_content") or ""
        usage = document.get("usage")
        return cls(text, thinking, calls, [choice["finish_reason"]], usage, done=True, headers=answer.headers)

    def add(self, chunk: Json) -> None:
        assert chunk["object"] == "chat.completion.chunk"
        if chunk.get("usage"):
            self.usage = chunk["usage"]
        for choice in chunk["choices"]:
            delta = choice["delta"]
            said = (delta.get("content"), delta.get("reasoning_content"), delta.get("tool_calls"))
            self.contents += any(said)
            self.text += said[0] or ""
            self.thinking += said[1] or ""
            for call in said[2] or []:
                self.add_call(call)
            if choice.get("finish_reason"):
                self.finish.append(choice["finish_reason"])

    def add_call(self, piece: Json) -> None:
        index = piece["index"]
        assert index <= len(self.calls), "calls are numbered without gaps"
        if index == len(self.calls):
            self.calls.append({"id": piece["id"], "name": piece["function"]["name"], "arguments": ""})
        self.calls[index]["arguments"] += piece["function"].get("arguments") or ""


class Bench:
    """The live gateway with every system connected to its fake."""

    def __init__(self, gateway: Gateway, fakes: Mapping[str, Any]) -> None:
        self.gateway = gateway
        self.fakes = fakes

    def fake(self, system: System) -> Any:
        return self.fakes[system.fake]

    def forget(self) -> None:
        """No scripts, no memory; who is logged in stays so."""
        for fake in self.fakes.values():
            FakeServer.forget(fake)

    def complaints(self) -> list[str]:
        ignored = [f"{model}: {name} was ignored" for model, name in self.fakes["snowflake"].ignored]
        ignored += [f"{name} was ignored" for each in ("sambanova", "console") for name in self.fakes[each].ignored]
        return [said for fake in self.fakes.values() for said in fake.complaints] + ignored

    # -- what is said to the fakes

    def scene(self, system: System, *scenes: Scene) -> None:
        if system.fake:
            self.fake(system).scene(system.model, *scenes)

    def playing(self, system: System, scene: Scene) -> Behaviour:
        """The scene as a behaviour, to be chosen by what was asked."""
        fake, nobody = self.fake(system), "nobody asks for this"
        fake.scene(nobody, scene)
        found = fake.scripted(nobody)
        assert found is not None
        return found

    def heard(self, system: System) -> list[Heard]:
        return self.fake(system).asked() if system.fake else []

    def raw(self, system: System) -> str:
        """What the system was sent last, with its escapes undone."""
        return json.dumps(self.heard(system)[-1].body, ensure_ascii=False)

    # -- calls

    def post(self, model: str, path: str = wire.CHAT, **body: Any) -> Answer:
        asked = {"messages": [{"role": "user", "content": "Grüezi!"}]} if path == wire.CHAT else {}
        return wire.call(self.gateway, path, {"model": model, **asked, **body})

    def whole(self, system: System, **body: Any) -> Folded:
        answer = self.post(system.slug, **body)
        assert answer.status == 200, answer
        return Folded.whole(answer)

    def stream(self, system: System, **body: Any) -> Folded:
        body.setdefault("stream_options", {"include_usage": True})
        return Folded.of(*wire.stream(self.gateway, wire.chat(system.slug) | body))

    def both(self, system: System, row: str, **body: Any) -> Iterator[Folded]:
        """The answer whole and streamed; none when the system refuses, as it then must."""
        cell = expected(system, row)
        for ask in (self.whole, self.stream):
            if isinstance(cell, No):
                self.refused(system, cell.param, **body, stream=ask == self.stream)
            else:
                folded = ask(system, **body)
                if isinstance(cell, Dropped):
                    assert cell.field in folded.headers["x-gateway-dropped"].split(", ")
                yield folded

    def refused(self, system: System, param: str, model: str = "", path: str = wire.CHAT, **body: Any) -> None:
        before = len(self.heard(system))
        answer = self.post(model or system.slug, path, **body)
        assert answer.status == 400, answer
        assert answer.error["param"] == param, answer
        assert len(self.heard(system)) == before, "nobody upstream is asked for what cannot be had"


@contextmanager
def bench(gateway: Gateway, folder: Path, systems: Iterable[System] = SYSTEMS) -> Iterator[Bench]:
    with ExitStack() as stack:
        fakes: dict[str, Any] = {
            "openai": FakeOpenAI(),
            "anthropic": FakeAnthropic(),
            "ollama": FakeOllama(),
            "snowflake": FakeSnowflake(),
            "sap": FakeSAP(),
            "sambanova": FakeSambaNova(),
            "console": FakeSambaNova(),
            "ocf": FakeOCF("ocf"),
            "tela": FakeOCF("tela", key="sk-head-0123456789"),
        }
        for fake in fakes.values():
            stack.enter_context(fake)
        for name in ("sambanova", "console"):
            fakes[name].models["gpt-oss-120b"] = sambanova.Model(images=True)
        for name in ("ocf", "tela"):
            fakes[name].sees.add(ocf.CHATTER)
            fakes[name].tool_parsers.add(ocf.CHATTER)
        connect(gateway, fakes, folder, systems)
        yield Bench(gateway, fakes)


def connect(gateway: Gateway, fakes: Mapping[str, Any], folder: Path, systems: Iterable[System]) -> None:
    """As an operator would, but all commands in one process."""
    pem, public = new_key()
    fakes["snowflake"].keys.append(public)
    key, service_key = folder / "key.pem", folder / "service_key.json"
    key.write_text(pem)
    service_key.write_text(fakes["sap"].service_key())
    secrets = {
        "openai": [f"api_key={openai.KEY}"],
        "anthropic": [f"api_key={anthropic.KEY}"],
        "snowflake": [f"private_key=@{key}"],
        "sap": [f"service_key=@{service_key}"],
        "sambanova": [f"api_key={sambanova.KEY}"],
        "console": [f"password={sambanova.PASSWORD}"],
        "tela": [f"api_key={fakes['tela'].key}"],
    }
    settings = {name: [f"url={fake.url}"] for name, fake in fakes.items() if name not in ("sap", "console")}
    console = fakes["console"]
    settings["console"] = [f"email={sambanova.EMAIL}", f"console_url={console.console_url}", f"url={console.url}"]
    words = [
        ["connect", "openai", "rescue", "--set", f"url={fakes['openai'].url}", "--secret", f"api_key={openai.KEY}"]
    ]
    for system in systems:
        words += commands(system, settings.get(system.fake, []), secrets.get(system.fake, []), fakes)
    run = "from django.core.management import call_command\n" + "\n".join(f"call_command(*{each!r})" for each in words)
    gateway.manage("shell", "--no-imports", "-c", run)
    gateway.noticed()


def commands(system: System, settings: list[str], secrets: list[str], fakes: Mapping[str, Any]) -> list[list[str]]:
    """The profile, its routes, one to a model that can do little, and one with a second deployment."""
    name = system.slug
    third = ["--third-party"] if "--third-party" in system.settings else []
    words = ["connect", system.kind, name, *system.settings]
    words += [word for each in settings for word in ("--set", each)]
    words += [word for each in secrets for word in ("--secret", each)]
    served = {name: system.model} | ({f"{name}-embed": system.embedder} if system.embedder else {})
    words += ["--routes", ",".join(f"{system.through}{model}={route}" for route, model in served.items())]
    made = [words]
    for route, lacks in ((f"{name}-plain", ["--cannot", "tools", "--cannot", "streaming"]), (f"{name}-then", [])):
        for address in addresses(fakes["sap"], system):
            made.append(["route", route, f"{name}:{system.through}{system.model}", *address, *lacks, *third])
    made.append(["route", f"{name}-then", "rescue:gpt-fake", "--priority", "9", *third])
    return made


def addresses(fake: FakeSAP, system: System) -> list[list[str]]:
    """The words that name the address of a model, where each has its own."""
    if system.fake != "sap":
        return [[]]
    ids = fake.ids("orchestration" if system.through else system.model)
    return [["--url", each["deploymentUrl"]] for each in fake.groups["default"] if each["id"] in ids]


# -------------------------------------------------------------------------------------------- the matrix


def table(rows: Mapping[str, str]) -> str:
    head = ["", *rows.values()]
    lines = [head, ["---"] * len(head)]
    lines += [[system.name, *(str(expected(system, row)) for row in rows)] for system in SYSTEMS]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def reasons() -> str:
    """Why what is not there cannot be there."""
    found: dict[str, dict[str, list[str]]] = {}  # reason -> system -> rows
    for system in SYSTEMS:
        for row in ROWS:
            if isinstance(cell := expected(system, row), Nothing):
                found.setdefault(cell.reason, {}).setdefault(system.name, []).append(ROWS[row])
    lines = []
    for reason, systems in found.items():
        rows = dict.fromkeys(row for each in systems.values() for row in each)
        line = f"* {', '.join(rows)} ({'; '.join(systems)}): {reason[0].lower()}{reason[1:]}"
        lines.append(filled(line))
    return "\n".join(lines)


def filled(line: str) -> str:
    return textwrap.fill(line, 120, subsequent_indent="  ", break_on_hyphens=False)


def matrix() -> str:
    return "\n\n".join([table(ABILITIES), table(FAILURES), reasons()])


def documented(text: str) -> str:
    assert BEGIN in text
    assert END in text
    inside = text.partition(BEGIN)[2].partition(END)[0]
    return inside.strip()


def write_matrix() -> None:
    text = DOCUMENT.read_text()
    old = f"{BEGIN}{text.partition(BEGIN)[2].partition(END)[0]}{END}"
    DOCUMENT.write_text(text.replace(old, f"{BEGIN}\n{matrix()}\n{END}"))


if __name__ == "__main__":
    write_matrix()
    sys.stdout.write(f"Wrote {DOCUMENT}\n")
