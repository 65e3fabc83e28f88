"""A strict Ollama server whose models can be managed: pulled, pushed, created, copied, deleted; and blobs for that.

    with FakeOllamaStore() as store:
        ...                     # ask http://127.0.0.1:PORT/api/pull for "mistral"; `store.capabilities` has it then

A pull of "nowhere" fails after its first line; one of "endless" goes on until the caller leaves, one of "silent" says
nothing until then.
"""

from __future__ import annotations

import hashlib
import json

from tests.fakes.ollama import FakeOllama, Refused, dump, short
from tests.fakes.server import Behaviour, Exchange, Heard, Json

METHODS = {"pull": "POST", "push": "POST", "create": "POST", "copy": "POST", "delete": "DELETE"}
DIGEST = f"sha256:{'0' * 64}"


class FakeOllamaStore(FakeOllama):
    def _reset(self) -> None:
        super()._reset()
        self.blobs: dict[str, bytes] = {}

    def behaviour(self, heard: Heard) -> Behaviour:
        work, _, digest = heard.path.removeprefix("/api/").partition("/")
        if work == "blobs":
            return self._blob(heard, digest)
        if work not in METHODS:
            return super().behaviour(heard)
        if heard.method != METHODS[work]:
            raise Refused(405, "method not allowed")
        body = heard.body = json.loads(heard.raw)
        if work == "pull":
            return self._pull(body)
        if work == "create":
            return self._create(body)
        source = short(body["source"] if work == "copy" else body["model"])
        if source not in self.capabilities:
            raise Refused(404, f"model '{source}' not found")
        if work == "push":
            return progress(body, {"status": "retrieving manifest"}, {"status": "success"})
        if work == "copy":
            self.capabilities[short(body["destination"])] = self.capabilities[source]
        else:
            del self.capabilities[source]
        return empty(200)

    def _pull(self, body: Json) -> Behaviour:
        name = short(body["model"])
        begun = {"status": "pulling manifest"}
        if name == "nowhere" and body.get("stream") is False:
            return lambda exchange: exchange.json(500, {"error": "pull model manifest: file does not exist"})
        if name == "nowhere":
            return lines(begun, {"error": f"pull model manifest: file does not exist {self.key}".rstrip()})
        if name == "endless":
            return endless
        if name == "silent":
            return silent
        self.capabilities[name] = {"completion"}
        pulled = {"status": "pulling 0000", "digest": DIGEST, "total": 100}
        told = (begun, {**pulled, "completed": 10}, {**pulled, "completed": 100}, {"status": "success"})
        return progress(body, *told)

    def _create(self, body: Json) -> Behaviour:
        missing = [digest for digest in body.get("files", {}).values() if digest not in self.blobs]
        if missing:
            raise Refused(400, f"blob {missing[0]} does not exist")
        self.capabilities[short(body["model"])] = {"completion"}
        return progress(body, {"status": "using existing layer"}, {"status": "success"})

    def _blob(self, heard: Heard, digest: str) -> Behaviour:
        if heard.method == "HEAD":
            return empty(200 if digest in self.blobs else 404)
        if f"sha256:{hashlib.sha256(heard.raw).hexdigest()}" != digest:
            raise Refused(400, "digest mismatch")
        self.blobs[digest] = heard.raw
        return empty(201)


def progress(body: Json, *told: Json) -> Behaviour:
    """As lines, or only the last one."""
    return lines(*told) if body.get("stream", True) else lambda exchange: exchange.json(200, told[-1])


def lines(*told: Json) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        exchange.head(200, "application/x-ndjson")
        for each in told:
            exchange.frame(dump(each) + b"\n")
        exchange.end()

    return behave


def endless(exchange: Exchange) -> None:
    exchange.head(200, "application/x-ndjson")
    exchange.frame(dump({"status": "pulling manifest"}) + b"\n")
    while True:
        exchange.frame(dump({"status": "pulling 0000", "total": 1 << 40, "completed": 1}) + b"\n")
        exchange.server.stopping.wait(0.02)


def silent(exchange: Exchange) -> None:
    """Verifies a digest, say: not a word until the caller leaves."""
    if exchange.body.get("stream", True):
        exchange.head(200, "application/x-ndjson")
        exchange.frame(dump({"status": "verifying sha256 digest"}) + b"\n")
    exchange.hang()


def empty(status: int) -> Behaviour:
    return lambda exchange: exchange.head(status, "text/plain", length=0)
