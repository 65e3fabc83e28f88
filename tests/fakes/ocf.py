"""A strict head of the Open Compute Framework, old (OCF) or new (TELA), and the workers behind it.

    with FakeOCF("tela", key="sk-head") as upstream:
        upstream.scene("Qwen/Qwen3-8B", Scene(thinking="Hm."))
        upstream.fail("Qwen/Qwen3-8B", "admission")
        ...                                   # ask upstream.url + "/v1/service/llm/v1/chat/completions"

What a caller sent must not reach the workers, which are strangers' machines: any header that is not on the short list
`ALLOWED`, and any field of `PRIVATE`, is a complaint. A model that no test has scripted repeats its caller.
"""

from __future__ import annotations

import json
import random
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal, cast

from tests.fakes.openai import Reply, completion_text, embeddings_whole, reply_text
from tests.fakes.scenes import Scene, torn
from tests.fakes.server import Behaviour, Exchange, FakeServer, Heard, Json, Refusal, unique

Flavour = Literal["ocf", "tela"]
Shape = Literal["engine", "old_engine", "detail", "head"]

CHATTER = "Qwen/Qwen3-8B"  # two workers have it
PAINTER = "Qwen/Qwen2.5-VL-7B-Instruct"  # sees pictures
EMBEDDER = "intfloat/e5-mistral-7b-instruct"
ODD = "odd/model=q4"  # TELA finds it, OCF never does
TIMING = b": otela-head-first-byte=41.873\n\n"

# ------------------------------------------------------------------------------------------- node table


def peer(id: str, service: list[Json] | None, gpus: list[str] | None = None, **more: Any) -> Json:
    """One row of the node table; what is not known is null, as Go writes it."""
    cards = None if gpus is None else [{"name": each, "total_memory": 81_559, "used_memory": 70_211} for each in gpus]
    return {
        "id": id,
        "latency": 0,
        "privileged": False,
        "owner": "",
        "current_offering": None,
        "role": None if service is None else ["worker"],
        "status": "",
        "available_offering": None,
        "service": service,
        "last_seen": 1_766_480_000,
        "version": "0.1.2",
        "public_address": "",
        "hardware": {"gpus": cards, "host_memory": 0, "host_memory_bandwidth": 0, "host_memory_used": 0},
        "connected": True,
        "load": None,
        **more,
    }


def service(*identity_group: str, name: str = "llm") -> Json:
    return {
        "name": name,
        "hardware": {"gpus": None, "host_memory": 0},
        "status": "connected",
        "host": "localhost",
        "port": "8080",
        "identity_group": list(identity_group) or None,
    }


def default_table(flavour: Flavour) -> dict[str, Json]:
    h100, a100 = "NVIDIA H100", "NVIDIA A100-SXM4-80GB"
    peers = [
        peer("QmWorkerOne", [service(f"model={CHATTER}")], [h100]),
        peer("QmWorkerTwo", [service(f"model={CHATTER}", f"model={PAINTER}")], [a100] * 4),
        peer("QmEmbeds", [service(f"model={EMBEDDER}", name="llm")], [a100]),
        peer("QmOdd", [service(f"model={ODD}", "engine=vllm"), service(name="rerank")], []),
        peer("QmWild", [service("model=*"), service("all")], [h100]),
        peer("QmIdle", None),
        peer("QmSilent", [service()]),
        peer("QmGone", [service("model=ghost/disconnected")], [h100], connected=False),
        peer("QmLeft", [service("model=ghost/left")], [h100], status="left"),
    ]
    if flavour == "tela":
        new = {"provider_id": "otela-1", "public_port": "", "relay_peer": "", "evicted_by": None, "capabilities": {}}
        peers = [{**each, **new, "service_name_counts": {"llm": 1}} for each in peers]
        peers.append(peer("QmOnlyEmbeds", [service("model=BAAI/bge-m3", name="embedding")], [a100], **new))
    return {f"/{each['id']}": each for each in peers}


# ---------------------------------------------------------------------------------------------- answers


def finish_of(body: Json, scene: Scene) -> str:
    """A call that was demanded by name ends with `stop`, as on vLLM."""
    if scene.calls and scene.finish == "stop":
        return "stop" if isinstance(body.get("tool_choice"), dict) else "tool_calls"
    return "content_filter" if scene.finish == "filter" else scene.finish


def usage_of(scene: Scene, output_tokens: int | None = None) -> Json:
    completion = scene.output_tokens if output_tokens is None else output_tokens
    return {
        "prompt_tokens": scene.input_tokens,
        "total_tokens": scene.input_tokens + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": scene.cached_tokens} if scene.cached_tokens else None,
    }


def engine_error(message: str, status: int, param: str | None = None, *, old: bool = False) -> Json:
    kinds = {400: "BadRequestError", 404: "NotFoundError", 422: "UnprocessableEntityError"}
    error = {"message": message, "type": kinds.get(status, "InternalServerError"), "param": param, "code": status}
    return {"object": "error", **error} if old else {"error": error}


BROKEN = "EngineCore encountered an issue. See stack trace (above) for the root cause."


def whole_answer(path: str, body: Json, scene: Scene, reasoning: str, finish: str) -> Json:
    if path == "/v1/embeddings":
        usage = {"prompt_tokens": scene.input_tokens, "total_tokens": scene.input_tokens, "completion_tokens": 0}
        usage["prompt_tokens_details"] = None
        return {"id": f"embd-{uuid.uuid4().hex}", "created": now(), **embeddings_whole(body), "usage": usage}
    ending = {"logprobs": None, "finish_reason": finish, "stop_reason": None}
    if path == "/v1/completions":
        id, kind = f"cmpl-{uuid.uuid4().hex}", "text_completion"
        said: Json = {"text": scene.text, "prompt_logprobs": None}
    else:
        id, kind = f"chatcmpl-{uuid.uuid4().hex}", "chat.completion"
        calls = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id, name, arguments in scene.calls
        ]
        message = {"role": "assistant", reasoning: scene.thinking or None, "content": scene.text or None}
        said = {"message": {**message, "refusal": None, "annotations": None, "audio": None, "tool_calls": calls}}
    choices = [{"index": index, **said, **ending} for index in range(body.get("n") or 1)]
    extras = {"service_tier": None, "system_fingerprint": None, "prompt_logprobs": None, "kv_transfer_params": None}
    head = {"id": id, "object": kind, "created": now(), "model": body["model"]}
    return {**head, "choices": choices, "usage": usage_of(scene), **extras}


def now() -> int:
    return int(time.time())


def deltas_of(scene: Scene, reasoning: str) -> Iterator[Json]:
    yield {"role": "assistant", "content": ""}
    for piece in replace(scene, text=scene.thinking).pieces():
        yield {reasoning: piece}
    for piece in scene.pieces():
        yield {"content": piece}
    for index, (id, name, arguments) in enumerate(scene.calls):
        function = {"name": name, "arguments": ""}
        yield {"tool_calls": [{"id": id, "type": "function", "index": index, "function": function}]}
        for start in range(0, len(arguments), 6):
            yield {"tool_calls": [{"index": index, "function": {"arguments": arguments[start : start + 6]}}]}


def after_first_content(pieces: list[Json]) -> int:
    """How many pieces it takes until the first content is out."""
    for name in ("content", "text", "tool_calls"):
        for number, piece in enumerate(pieces, start=1):
            if piece.get(name):
                return number
    return len(pieces)


def sse(data: object, crlf: bool) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return b"data: " + text.encode() + (b"\r\n\r\n" if crlf else b"\n\n")


# ------------------------------------------------------------------------------------------- behaviours


def head_says(status: int, text: str, *headers: str) -> Behaviour:
    """The head itself answers: its `error` is a string."""
    return lambda exchange: exchange.json(status, {"error": text}, [*server_of(exchange).head_headers(), *headers])


def engine_says(status: int, answer: Json) -> Behaviour:
    """The worker's engine answers, through the head."""
    return lambda exchange: exchange.json(status, answer, server_of(exchange).headers_for(exchange))


def error_text(reason: str) -> Behaviour:
    """The worker was not reached, and the old head calls that a success."""
    body = f"ERROR: {reason}".encode()
    return lambda exchange: exchange.whole(
        200, body, "text/plain; charset=utf-8", server_of(exchange).headers_for(exchange)
    )


def empty_502(exchange: Exchange) -> None:
    """The worker is alive and its engine is not."""
    exchange.head(502, "text/plain", length=0, headers=server_of(exchange).headers_for(exchange))


def says(scene: Scene, finish: str | None = None) -> Behaviour:
    """The scene as a behaviour, to be mixed with others in a script; with a finish reason of the engine's own."""
    return lambda exchange: server_of(exchange).play(exchange, scene, finish)


def server_of(exchange: Exchange) -> FakeOCF:
    return cast(FakeOCF, exchange.server)


LONG = (
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens in the messages. "
    "Please reduce the length of the messages."
)
FAILURES: dict[str, Behaviour] = {
    # the head's transport and routing
    "error_text": error_text("failed to dial: failed to find any peer in table"),
    "empty_502": empty_502,
    "no_providers": head_says(400, "no providers found"),
    "service_not_found": head_says(400, "Service not found"),
    "no_provider": head_says(503, "No provider found for the requested service."),
    "all_unreachable": head_says(502, "all workers unreachable for service llm"),
    # TELA's guards
    "missing_token": head_says(401, "missing bearer token"),
    "invalid_token": head_says(401, "invalid bearer token"),
    "revoked_token": head_says(401, "invalid or revoked token"),
    "acl": head_says(403, "access denied by instance ACL"),
    "limited": head_says(429, "rate limit exceeded", "Retry-After: 1"),
    "admission": head_says(503, "server overloaded, try again later", "Retry-After: 5"),
    "evaluator": head_says(503, "access evaluator unavailable"),
    "no_trusted": head_says(503, "no direct trusted providers available"),
    "trust": head_says(503, "No provider meets the requested trust level (3)."),
    # the engine
    "engine_400": engine_says(400, engine_error("top_p must be in (0, 1], got 0.0.", 400, "top_p")),
    "engine_400_old": engine_says(400, engine_error("top_p must be in (0, 1], got 0.0.", 400, old=True)),
    "engine_context": engine_says(400, engine_error(LONG, 400)),
    "engine_context_old": engine_says(400, engine_error(LONG, 400, old=True)),
    "engine_404": engine_says(404, engine_error("The model `x` does not exist.", 404)),
    "engine_422": engine_says(422, {"detail": [{"loc": ["body", "n"], "msg": "too large", "type": "value_error"}]}),
    "engine_500": engine_says(500, engine_error(BROKEN, 500)),
    "too_large": engine_says(413, {"detail": "Request body too large"}),
    "abort": says(Scene(), "abort"),  # a finish reason that is a failure
}


# -------------------------------------------------------------------------------------------- strictness


class Refused(Refusal):
    """No, in the words of whoever says it."""

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__()
        self.behave = behaviour


ALLOWED = {"host", "content-type", "content-length", "accept", "accept-encoding", "connection", "authorization"}
ROUTING = ("x-otela-identity-group", "x-otela-fallback", "x-otela-trust")
PRIVATE = ("store", "metadata", "service_tier", "prompt_cache_key", "safety_identifier", "user")
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
ROLES = ("system", "user", "assistant", "tool")


class FakeOCF(FakeServer):
    """One head, and as many workers as its `table` says."""

    def __init__(self, flavour: Flavour = "ocf", key: str = "") -> None:
        super().__init__()
        self.flavour = flavour
        self.key = key  # what a profile must send to a head that asks for one
        self.url = self.origin
        self._begin()

    def _begin(self) -> None:
        # What a test may change:
        self.table: dict[str, Json] | None = default_table(self.flavour)
        self.table_as_array = False  # what the head's API description promises
        self.also_allowed: set[str] = set()  # headers, in lower case, that an administrator configured
        self.tool_parsers: set[str] = set()  # models that may choose tools by themselves
        self.embedders = {EMBEDDER, "BAAI/bge-m3"}
        self.sees = {PAINTER}
        self.shortens: set[str] = set()  # embedders that know `dimensions`
        self.reasoning_field: Literal["reasoning_content", "reasoning"] = "reasoning_content"
        self.json_despite_stream = False  # an odd worker: one whole completion, however it was asked
        self.continuous_usage = False  # usage in every chunk, each the sum so far
        self.old_error_shape = False  # of errors in answers of success: {"object": "error", ...}
        self.only_max_tokens = False  # an engine too old for max_completion_tokens
        self.crash_on_bare_entries = False  # OCF dies of identity_group entries without "="
        self.trust = 1  # the level of every worker
        # What it remembers:
        self.routed: list[dict[str, str]] = []  # TELA's routing headers, of each request that had any
        self._nodes: dict[Heard, str] = {}

    def forget(self) -> None:
        super().forget()
        self._begin()

    def scene(self, model: str, *scenes: Scene) -> None:
        """From now on the model answers so, one scene per request; the last one stays."""
        self.script(model, *map(says, scenes))

    def refuse(
        self,
        model: str,
        status: int,
        message: str,
        code: str | None = None,
        headers: Iterable[str] = (),
        shape: Shape = "engine",
    ) -> None:
        """The model's worker refuses, in one of the engines' shapes; or the head does."""
        if shape == "head":
            self.script(model, head_says(status, message, *headers))
            return
        answer: Json = {"detail": message}
        if shape != "detail":
            answer = engine_error(message, status, old=shape == "old_engine")
            if code is not None:
                answer.get("error", answer)["code"] = code
        given = list(headers)
        self.script(
            model, lambda exchange: exchange.json(status, answer, [*server_of(exchange).headers_for(exchange), *given])
        )

    def fail(self, model: str, *names: str) -> None:
        """The model fails in these ways of `FAILURES`, one per request; the last one stays."""
        self.script(model, *(FAILURES[name] for name in names))

    def play_error_text(self, model: str, reason: str = "failed to dial: no addresses") -> None:
        self.script(model, error_text(reason))

    def provide(self, model: str, *peers: str) -> None:
        """Adds workers for the model to the table; a test that renames one changes `table` itself."""
        table = self.table or {}
        self.table = table | {f"/{id}": peer(id, [service(f"model={model}")]) for id in peers or ("QmAdded",)}

    def withdraw(self, model: str) -> None:
        """Nobody offers the model any more."""
        for row in (self.table or {}).values():
            for each in row["service"] or []:
                each["identity_group"] = [entry for entry in each["identity_group"] or [] if entry != f"model={model}"]

    def node_of(self, heard: Heard) -> str | None:
        """The worker a request was given to."""
        return self._nodes.get(heard)

    # -- routes

    def behaviour(self, heard: Heard) -> Behaviour:
        self._check_head(heard)
        if heard.path.startswith("/v1/dnt/"):
            return self._discovery(heard)
        if (heard.method, heard.path) == ("GET", "/v1/health"):
            return lambda exchange: exchange.json(200, {"status": "ok"}, self.head_headers())
        if match := re.fullmatch(r"/v1/service/([^/]+)(/.*)", heard.path):
            self._check_key(heard)
            return self._service(heard, match[1], match[2])
        if match := re.fullmatch(r"/v1/p2p/([^/]+)(/.*)", heard.path):
            self._check_key(heard)
            return self._p2p(heard, match[1], match[2])
        self.complain(f"{heard.method} {heard.path} does not exist here.")
        raise Refused(lambda exchange: exchange.whole(404, b"404 page not found", "text/plain"))

    def _discovery(self, heard: Heard) -> Behaviour:
        rows = self.table
        peers = [{"id": row["id"], "connectedness": "connected"} for row in (rows or {}).values()]
        answers: dict[str, object] = {
            "table": list(rows.values()) if self.table_as_array and rows is not None else rows,
            "peers": {"peers": [row["id"] for row in peers]},
            "peers_status": {"peers": peers},
        }
        asked = heard.path.removeprefix("/v1/dnt/")
        if heard.method != "GET" or asked not in answers:
            self.complain(f"{heard.method} {heard.path} is none of a client's business.")
            raise Refused(head_says(404, "page not found"))
        if "authorization" in heard.headers:
            self._check_key(heard)
        return lambda exchange: exchange.json(200, answers[asked], self.head_headers())

    def _service(self, heard: Heard, name: str, path: str) -> Behaviour:
        if heard.method != "POST" or path not in ENDPOINTS:
            self.complain(f"{heard.method} {heard.path} can match no worker.")
            raise Refused(head_says(503, "No provider found for the requested service."))
        body = self._body(heard)
        offers = [
            (row["id"], [entry for each in row["service"] or [] if each["name"] == name for entry in group_of(each)])
            for row in self._connected()
            if any(each["name"] == name for each in row["service"] or [])
        ]
        if not offers:
            raise Refused(head_says(400, "no providers found"))
        bare = any("=" not in entry for _, group in offers for entry in group)
        if bare and self.flavour == "ocf" and self.crash_on_bare_entries:
            return lambda exchange: exchange.close()
        chosen = [id for id, group in offers if any(self._matches(heard, body, entry) for entry in group)]
        if not chosen:
            raise Refused(head_says(503, "No provider found for the requested service."))
        wanted = int(heard.headers.get("x-otela-trust", "0"))
        if wanted > self.trust:
            raise Refused(head_says(503, f"No provider meets the requested trust level ({wanted})."))
        self._nodes[heard] = random.choice(chosen)
        return self._worker(path, body)

    def _matches(self, heard: Heard, body: Json, entry: str) -> bool:
        name, found, value = entry.partition("=")
        fallback = int(heard.headers.get("x-otela-fallback", "0")) if self.flavour == "tela" else 0
        if not found:
            return entry == "all" and fallback >= 2
        if self.flavour == "ocf":
            value = value.partition("=")[0]  # it splits at every "=" and takes the second part
        elif value == "*":
            return fallback >= 1
        if group := heard.headers.get("x-otela-identity-group"):
            return group == entry
        return isinstance(body.get(name), str) and body[name] == value

    def _p2p(self, heard: Heard, id: str, path: str) -> Behaviour:
        row = next((row for row in self._connected() if row["id"] == id), None)
        if row is None:
            raise Refused(error_text(f"failed to dial {id}: no addresses"))
        self._nodes[heard] = id
        match = re.fullmatch(r"/v1/_service/([^/]+)(/.*)", path)
        services = [each for each in row["service"] or [] if match and each["name"] == match[1]]
        if match is None or not services:
            raise Refused(engine_says(400, {"error": "Service not found"}))
        models = [entry.removeprefix("model=") for each in services for entry in group_of(each)]
        if heard.method == "GET" and match[2] == "/v1/models":
            rows = [{"id": name, "object": "model", "created": now(), "owned_by": "vllm"} for name in models]
            return engine_says(200, {"object": "list", "data": rows})
        if heard.method != "POST" or match[2] not in ENDPOINTS:
            self.complain(f"{heard.method} {heard.path} does not exist here.")
            raise Refused(engine_says(404, {"detail": "Not Found"}))
        body = self._body(heard)
        if body.get("model") not in models:
            message = f"The model `{body.get('model')}` does not exist."
            raise Refused(engine_says(404, engine_error(message, 404, "model")))
        return self._worker(match[2], body)

    def _connected(self) -> list[Json]:
        return [row for row in (self.table or {}).values() if row["connected"] and row["status"] != "left"]

    def _worker(self, path: str, body: Json) -> Behaviour:
        if not isinstance(body.get("model"), str):
            raise Refused(engine_says(400, engine_error("Field required", 400, "model")))
        self._check_engine(path, body)
        if scripted := self.scripted(body["model"]):
            return scripted
        repeat = completion_text if path == "/v1/completions" else reply_text
        return says(Scene() if path == "/v1/embeddings" else Scene(text=repeat(body, Reply())))

    # -- what leaves the trust boundary

    def _check_head(self, heard: Heard) -> None:
        if heard.headers.get("host") != f"127.0.0.1:{self.port}":
            self.complain(f"Host: {heard.headers.get('host')}")
        routing = {name: value for name, value in heard.headers.items() if name in ROUTING}
        for name, value in heard.headers.items():
            own_agent = name == "user-agent" and "switchboard" in value.lower()
            if name not in ALLOWED | self.also_allowed and name not in routing and not own_agent:
                self.complain(f"The header {name} leaves the trust boundary.")
        if not routing:
            return
        self.routed.append(routing)
        if self.flavour == "ocf":
            self.complain(f"{', '.join(routing)}: an OCF head knows nothing of that.")
        for name, form in zip(ROUTING, (r"[^=\s]+=.+", r"[012]", r"\d+"), strict=True):
            if name in routing and not re.fullmatch(form, routing[name]):
                self.complain(f"{name}: {routing[name]}")
                raise Refused(head_says(400, f"invalid {name}"))

    def _check_key(self, heard: Heard) -> None:
        given = heard.headers.get("authorization")
        if given == (f"Bearer {self.key}" if self.key else None):
            return
        self.complain("The credential is not this head's." if given else "The head's credential is missing.")
        if self.key:
            raise Refused(FAILURES["invalid_token" if given else "missing_token"])

    def _body(self, heard: Heard) -> Json:
        if heard.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            self.complain(f"Content-Type: {heard.headers.get('content-type')}")
        try:
            body = json.loads(heard.raw.decode("utf-8"), object_pairs_hook=unique)
        except ValueError as error:
            self.complain(f"The body is no JSON: {error}")
            raise Refused(head_says(503, "No provider found for the requested service.")) from error
        if not isinstance(body, dict):
            self.complain("The body is no JSON object.")
            raise Refused(head_says(503, "No provider found for the requested service."))
        heard.body = body
        if not isinstance(body.get("model"), str):
            self.complain("The model is no string, so that nothing can match.")
        group = heard.headers.get("x-otela-identity-group")
        if group is not None and group != f"model={body.get('model')}":
            self.complain(f"X-Otela-Identity-Group: {group} for the model {body.get('model')}")
        for name in PRIVATE:
            if name in body:
                self.complain(f"The field {name} leaves the trust boundary.")
        accept = heard.headers.get("accept", "")
        if self.flavour == "tela" and body.get("stream") is not True and accept != "application/json":
            self.complain(f"Accept: {accept or 'nothing'}, for an answer that is no stream")
        return body

    # -- what an engine thinks of it

    def _check_engine(self, path: str, body: Json) -> None:
        def wrong(message: str, param: str | None = None) -> Refused:
            return Refused(engine_says(400, engine_error(message, 400, param, old=self.old_error_shape)))

        if (body["model"] in self.embedders) != (path == "/v1/embeddings"):
            raise wrong(f"The model does not support {path}.")
        if path == "/v1/embeddings":
            if not body.get("input"):
                raise wrong("Field required", "input")
            if body.get("dimensions") is not None and body["model"] not in self.shortens:
                raise wrong(f'Model "{body["model"]}" does not support matryoshka representation.', "dimensions")
            return
        streams = body.get("stream")
        if not isinstance(streams, bool | None):
            raise wrong("Input should be a valid boolean", "stream")
        if not streams and body.get("stream_options") is not None:
            self.complain("stream_options without stream")
            raise wrong("Stream options can only be defined when `stream=True`.", "stream_options")
        for name, kind in (("stream_options", dict), ("n", int), ("tools", list)):
            if not isinstance(body.get(name), kind | None):
                raise wrong(f"Input should be a valid {kind.__name__}", name)
        if streams and not (body.get("stream_options") or {}).get("include_usage"):
            self.complain("A stream whose usage was not asked for cannot be charged.")
        if self.only_max_tokens and "max_completion_tokens" in body:
            raise wrong("Extra inputs are not permitted", "max_completion_tokens")
        if path == "/v1/completions":
            if body.get("prompt") is None:
                raise wrong("Field required", "prompt")
            return
        choice = body.get("tool_choice", "auto" if body.get("tools") else "none")
        if choice == "auto" and body.get("tools") and body["model"] not in self.tool_parsers:
            raise wrong('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
            raise wrong("Field required", "messages")
        for message in messages:
            if message.get("role") == "developer":
                self.complain("The role 'developer' is in no chat template; it is 'system'.")
            if message.get("role") not in ROLES:
                raise wrong(f"Unexpected role {message.get('role')!r}.", "messages")
            content = message.get("content")
            for part in content if isinstance(content, list) else []:
                if not isinstance(part, dict) or part.get("type") not in ("text", "image_url"):
                    raise wrong(f"Unknown part: {part}", "messages")
                if part["type"] == "image_url" and body["model"] not in self.sees:
                    raise wrong(f"{body['model']} is not a multimodal model", "messages")

    # -- what it says

    def head_headers(self) -> list[str]:
        own = ["ocf-version: 0.1.2"] if self.flavour == "ocf" else ["Server-Timing: head;dur=1.2"]
        return [*own, "Access-Control-Allow-Origin: *", "Access-Control-Allow-Headers: *"]

    def headers_for(self, exchange: Exchange) -> list[str]:
        """Of an answer that came from a worker, or from the way to it."""
        node = self._nodes.get(exchange.heard)
        return [*self.head_headers(), *([f"X-Computing-Node: {node}"] if node else [])]

    def play(self, exchange: Exchange, scene: Scene, finish: str | None = None) -> None:
        body = exchange.body
        path = next(each for each in ENDPOINTS if exchange.heard.path.endswith(each))
        finish = finish or finish_of(body, scene)
        if exchange.streams and not self.json_despite_stream:
            self._stream(exchange, scene, self._frames(path, body, scene, finish))
        elif scene.fails in ("first", "later"):
            self._whole(exchange, scene, engine_error(BROKEN, 500, old=self.old_error_shape))
        else:
            self._whole(exchange, scene, whole_answer(path, body, scene, self.reasoning_field, finish))

    def _comment(self, exchange: Exchange) -> bytes:
        """TELA's timing, after whatever it takes for a stream."""
        asked = exchange.streams or "text/event-stream" in exchange.heard.headers.get("accept", "")
        return TIMING if self.flavour == "tela" and asked else b""

    def _whole(self, exchange: Exchange, scene: Scene, answer: Json) -> None:
        headers = self.headers_for(exchange)
        data = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
        if scene.fails == "cut":
            exchange.close()
            exchange.head(200, "application/json", length=len(data), headers=headers)
            exchange.send(data[: len(data) // 2])
            return
        comment = self._comment(exchange)
        if not comment and not scene.bytes_at_once:
            exchange.whole(200, data, headers=headers)
            return
        exchange.head(200, "application/json", headers=headers)
        for part in torn(data + comment, scene.bytes_at_once):
            exchange.chunk(part)
        exchange.end()

    def _stream(self, exchange: Exchange, scene: Scene, frames: list[bytes]) -> None:
        headers = [*self.headers_for(exchange), "Cache-Control: no-cache", "X-Accel-Buffering: no"]
        exchange.head(200, "text/event-stream; charset=utf-8", headers=headers)
        for frame in frames:
            exchange.check()
            for part in torn(b": ping\n\n" + frame if scene.comments else frame, scene.bytes_at_once):
                exchange.chunk(part)
            exchange.heard.frames += 1
        if comment := self._comment(exchange):
            exchange.chunk(comment)
        exchange.end()

    def _frames(self, path: str, body: Json, scene: Scene, finish: str) -> list[bytes]:
        chats = path == "/v1/chat/completions"
        kind, prefix = ("chat.completion.chunk", "chatcmpl") if chats else ("text_completion", "cmpl")
        head = {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": now(), "model": body["model"]}
        asked = bool((body.get("stream_options") or {}).get("include_usage"))
        pieces = list(deltas_of(scene, self.reasoning_field)) if chats else [{"text": each} for each in scene.pieces()]
        several_choices = range(body.get("n") or 1)

        def chunk(index: int, piece: Json, number: int, finish: str | None = None) -> Json:
            said = {"delta": piece} if chats else {"text": "", **piece}
            ending = {"logprobs": None, "finish_reason": finish} | ({"stop_reason": None} if finish else {})
            so_far = scene.output_tokens if finish else min(number, scene.output_tokens)
            counted = {"usage": usage_of(scene, so_far)} if asked and self.continuous_usage else {}
            return {**head, "choices": [{"index": index, **said, **ending}], **counted}

        kept = pieces
        if scene.fails:
            kept = [] if scene.fails == "first" else pieces[: after_first_content(pieces)]
        chunks = [chunk(index, piece, number) for number, piece in enumerate(kept) for index in several_choices]
        if scene.fails == "cut":
            return [sse(each, scene.crlf) for each in chunks]
        if scene.fails:
            chunks.append(engine_error(BROKEN, 500, old=self.old_error_shape))
        else:
            chunks += [chunk(index, {}, len(pieces), finish) for index in several_choices]
            if asked:
                chunks.append({**head, "choices": [], "usage": usage_of(scene)})
        return [*(sse(each, scene.crlf) for each in chunks), sse("[DONE]", scene.crlf)]


def group_of(offered: Json) -> list[str]:
    return offered["identity_group"] or []
