"""OCF and its successor OpenTela: a head that gives each call to a worker, on a machine of a stranger.

Source: ResearchComputer/OpenComputeFramework and ResearchComputer/OpenTela, server and protocol sources.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from providers.base import NOTHING, Listing, Provider, Setting, Target, UpstreamModel, UpstreamRequest
from providers.documents import dumps
from providers.languages.fields import text_in
from providers.languages.ocf import PRIVATE
from providers.wire.errors import Kind, ProviderError

PEER = re.compile(r"/?[A-Za-z0-9]+")
EMBEDDER = "embedding"  # a service of OpenTela beside `llm`

# What workers and heads say, in lower case, and what it is.
SAID: Mapping[tuple[int, str], Kind] = {
    (400, "no providers found"): "unavailable",
    (400, "service not found"): "unavailable",
    (404, "model"): "unavailable",  # the worker's engine serves another one now
    (502, "all workers unreachable"): "unreachable",
    # Another worker may have been started with it.
    (400, "--tool-call-parser"): "incapable",
    (400, "is not a multimodal model"): "incapable",
}


class OCF(Provider):
    """The path of a call names the service; the head finds a worker by the body's `model`."""

    kind = "ocf"
    label = "OCF / OpenTela"
    third_party = True
    node_header = "x-computing-node"
    settings = (
        Setting("url", "Head URL", "Without /v1, as http://head.example.org:8092.", required=True, kind="url"),
        Setting(
            "identity_group",
            "Identity group",
            "OpenTela: which workers may answer, as model=Qwen/Qwen3-8B, instead of those the model's name matches.",
        ),
        Setting(
            "fallback",
            "Fallback",
            "OpenTela: 1 also takes workers that offer any model, 2 also those that offer anything. "
            "They may answer with another model.",
            kind="choice",
            choices=("", "0", "1", "2"),
        ),
        Setting("trust", "Least trust", "OpenTela: the least trust level of a worker.", kind="integer"),
        Setting("peer", "Peer", "The id of one worker that gets every call; for looking into a problem."),
        Setting("api_key", "API key", "For heads that ask for one.", secret=True),
    )

    def check(self, target: Target) -> None:
        if (peer := target.settings.get("peer")) and not PEER.fullmatch(peer):
            raise ValueError("Peer must be an id as the node table shows it, of letters and digits.")
        if (group := target.settings.get("identity_group")) and not all(group.partition("=")):
            raise ValueError("Identity group must be a name and a value, as model=Qwen/Qwen3-8B.")

    def speaks(self, model: UpstreamModel, target: Target) -> Mapping[str, str]:
        service = model.family or "llm"
        peer = target.settings.get("peer", "").strip("/")
        root = f"/v1/p2p/{peer}/v1/_service/{service}/v1" if peer else f"/v1/service/{service}/v1"
        vectors = {"openai_embeddings": f"{root}/embeddings"}
        if service == EMBEDDER:
            return vectors
        return {"engine_chat": f"{root}/chat/completions", "openai_completions": f"{root}/completions", **vectors}

    def request(
        self, target: Target, path: str, body: Mapping[str, Any], passed: Mapping[str, str] = NOTHING
    ) -> UpstreamRequest:
        """Nothing of a caller's own headers reaches the machines of strangers."""
        streams = body.get("stream") is True
        # Engines refuse options of a stream that is none.
        unwanted = PRIVATE if streams else PRIVATE | {"stream_options"}
        headers = {
            # A head that takes an answer for a stream writes its timing behind it.
            "Accept": "text/event-stream" if streams else "application/json",
            **self.headers(target),
            **_routing(target),
        }
        kept = {name: value for name, value in body.items() if name not in unwanted}
        return UpstreamRequest("POST", self.url(target, path), headers, dumps(kept))

    def headers(self, target: Target) -> dict[str, str]:
        headers = super().headers(target)
        if key := target.secrets.get("api_key"):
            headers["Authorization"] = f"Bearer {key}"
        return headers

    def identity(self, target: Target) -> str:
        return "the API key stored here" if target.secrets.get("api_key") else "nobody: without a key"

    def models(self, target: Target) -> Listing:
        headers = {"User-Agent": "Switchboard", **self.headers(target)}
        table = yield UpstreamRequest("GET", self.url(target, "/v1/dnt/table"), headers)
        return read_models(table, target.settings.get("peer", "").strip("/"))

    def meaning(self, status: int, said: str) -> Kind | None:
        return next((kind for (code, words), kind in SAID.items() if code == status and words in said), None)


def _routing(target: Target) -> dict[str, str]:
    """What an administrator asks of the head; old heads know nothing of it."""
    asked = {
        "X-Otela-Identity-Group": target.settings.get("identity_group", ""),
        "X-Otela-Fallback": target.settings.get("fallback", ""),
        "X-Otela-Trust": target.settings.get("trust", ""),
    }
    return {name: value for name, value in asked.items() if value}


def read_models(table: Any, peer: str = "") -> list[UpstreamModel]:
    """The models of a node table, or of one `peer` in it. Raises ProviderError when it is none."""
    rows = list(table.values()) if isinstance(table, dict) else [] if table is None else table
    if not isinstance(rows, list):
        raise ProviderError("The head's answer is not a node table.", kind="broken")
    peers: dict[str, dict[str, Mapping[str, Any]]] = {}  # model -> peer id -> peer
    services: dict[str, str] = {}  # model -> service
    for row in rows:
        if not isinstance(row, dict) or row.get("connected") is False or row.get("status") == "left":
            continue
        id = text_in(row, "id")
        if peer and id != peer:
            continue
        for service, model in _offers(row):
            peers.setdefault(model, {})[id] = row
            if services.get(model) != "llm":
                services[model] = service
    return [
        UpstreamModel(
            model,
            capabilities={"embeddings": True} if services[model] == EMBEDDER else {},
            family="" if services[model] == "llm" else services[model],
            note=_note(peers[model].values()),
        )
        for model in sorted(peers)
    ]


def _offers(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Service and model of everything a peer offers; `model=*` means any, and is none."""
    for service in _list(row, "service"):
        if not isinstance(service, dict) or service.get("name") not in ("llm", EMBEDDER):
            continue
        for entry in _list(service, "identity_group"):
            key, _, model = entry.partition("=") if isinstance(entry, str) else ("", "", "")
            # An old head cuts entries at every "=", so that such a model is never found.
            if key == "model" and model not in ("", "*") and "=" not in model:
                yield service["name"], model


def _note(peers: Collection[Mapping[str, Any]]) -> str:
    """As `3 providers: 2x NVIDIA H100, 4x NVIDIA A100`."""
    cards = Counter(
        text_in(card, "name")
        for row in peers
        for card in _list(row.get("hardware"), "gpus")
        if isinstance(card, dict) and text_in(card, "name")
    )
    counted = f"{len(peers)} provider" + ("s" if len(peers) > 1 else "")
    hardware = ", ".join(f"{count}x {name}" for name, count in sorted(cards.items()))
    return f"{counted}: {hardware}" if hardware else counted


def _list(document: object, name: str) -> list[Any]:
    """What is empty may be null there."""
    value = document.get(name) if isinstance(document, dict) else None
    return value if isinstance(value, list) else []
