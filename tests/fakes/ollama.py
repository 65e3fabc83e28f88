"""A strict Ollama server: its native API, in lines of JSON, and what it knows of its models.

    with FakeOllama() as upstream:
        upstream.scene("qwen3", Scene(thinking="Hm."))
        ...                                   # ask http://127.0.0.1:PORT/api/chat for "qwen3" or "qwen3:latest"

Shapes and wordings follow Ollama 0.33, but where Ollama shrugs (unknown fields and options, tool results nobody asked
for) this server refuses, so that nothing gets lost unnoticed. With a key it is the hosted service.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
import time
from collections.abc import Iterable
from typing import Any

from tests.fakes.openai import vector
from tests.fakes.scenes import Scene, torn
from tests.fakes.server import Behaviour, Exchange, FakeServer, Gate, Heard, Json, Refusal, unique

VERSION = "0.33.0"
CAPABILITIES: dict[str, set[str]] = {
    "llama3.2": {"completion", "tools"},
    "qwen3": {"completion", "tools", "thinking"},
    "llava": {"completion", "vision"},
    "nomic-embed-text": {"embedding"},
    "codellama": {"completion", "insert"},
    "everything": {"completion", "tools", "vision", "thinking"},
}
IN_ORDER = ("completion", "vision", "audio", "tools", "insert", "thinking", "embedding", "image")
CONTEXT_LENGTH = 8192
DIMENSIONS = 8
MODIFIED = "2026-01-02T03:04:05.123456789+01:00"
TOKEN_TIME = 21_000_000  # nanoseconds


def short(model: str) -> str:
    """Several spellings are one model: the tag `latest` and Ollama's own library go without saying."""
    return model.removeprefix("registry.ollama.ai/").removeprefix("library/").removesuffix(":latest")


def full(model: str) -> str:
    """As a listing spells it."""
    name = short(model)
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def dump(data: object) -> bytes:
    """JSON as Go writes it."""
    said = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for each in "<>&\u2028\u2029":
        said = said.replace(each, f"\\u{ord(each):04x}")
    return said.encode()


# ---------------------------------------------------------------------------------------------- answers


def now() -> str:
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def record(model: str, said: Json, **more: Any) -> Json:
    return {"model": model, "created_at": now(), **said, "done": bool(more), **more}


def metrics(scene: Scene) -> Json:
    """Counters of nothing are left out."""
    read, said = scene.input_tokens * TOKEN_TIME // 10, scene.output_tokens * TOKEN_TIME
    found = {
        "total_duration": 51_234_567 + read + said,
        "load_duration": 41_234_567,
        "prompt_eval_count": scene.input_tokens,
        "prompt_eval_duration": read,
        "eval_count": scene.output_tokens,
        "eval_duration": said,
    }
    return {name: count for name, count in found.items() if count}


def calls_of(scene: Scene, *, ids: bool) -> list[Json]:
    """Arguments are objects; older servers give neither an id nor a place."""
    if not ids:
        return [{"function": {"name": name, "arguments": json.loads(said)}} for _, name, said in scene.calls]
    return [
        {"id": id, "function": {"index": index, "name": name, "arguments": json.loads(said)}}
        for index, (id, name, said) in enumerate(scene.calls)
    ]


def spoken(path: str, text: str = "", thinking: str = "", calls: Iterable[Json] = ()) -> Json:
    """What is said in a record, by the endpoint's names."""
    also: Json = {"thinking": thinking} if thinking else {}
    if calls := list(calls):
        also["tool_calls"] = calls
    if path == "/api/generate":
        return {"response": text, **also}
    return {"message": {"role": "assistant", "content": text, **also}}


def ending(path: str, body: Json, scene: Scene) -> Json:
    """Beside tool calls, too, it just stopped; it has no word for a filter."""
    ended: Json = {"done_reason": "length" if scene.finish == "length" else "stop"}
    if path == "/api/generate" and not body.get("raw"):
        ended["context"] = [128006, 882, 128007, 271]
    return {**ended, **metrics(scene)}


def thoughts(body: Json, scene: Scene) -> str:
    """Who says nothing about thinking gets it; who forbids it does not."""
    return "" if body.get("think") is False else scene.thinking


def whole_of(path: str, body: Json, scene: Scene, *, ids: bool = True) -> Json:
    said = spoken(path, scene.text, thoughts(body, scene), calls_of(scene, ids=ids))
    return record(body["model"], said, **ending(path, body, scene))


def records_of(path: str, body: Json, scene: Scene, *, ids: bool = True) -> list[Json]:
    """Thoughts, words, calls and the end. Where thoughts turn into words, one record has both; a call comes whole,
    in a record of its own, and each is the first of its record."""
    thinking, words = re.findall(r"\s*\S+|\s+$", thoughts(body, scene)), scene.pieces()
    both = [(words.pop(0), thinking.pop())] if thinking and words else []
    said = [("", piece) for piece in thinking] + both + [(piece, "") for piece in words]
    made = [record(body["model"], spoken(path, *each)) for each in said]
    calls = calls_of(scene, ids=ids)
    if path == "/api/generate":
        last = spoken(path, calls=calls)
    else:
        last = spoken(path)
        for call in calls:
            if ids:
                call["function"]["index"] = 0
            made.append(record(body["model"], spoken(path, calls=[call])))
    return [*made, record(body["model"], last, **ending(path, body, scene))]


def failing(records: list[Json], scene: Scene) -> list[Json]:
    """The records as far as the scene lets them come."""
    if scene.fails == "first":
        return [BROKEN]
    if scene.fails:
        return [*[each for each in records[:1] if not each["done"]], *([BROKEN] if scene.fails == "later" else [])]
    return records


def normal(values: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return [value / length for value in values]


def embeddings_of(path: str, body: Json, scene: Scene) -> Json:
    if path == "/api/embeddings":
        return {"embedding": vector(body["prompt"], DIMENSIONS) if body.get("prompt") else []}
    inputs = texts_of(body.get("input"))
    size = min(body.get("dimensions") or DIMENSIONS, DIMENSIONS)
    vectors = [normal(normal(vector(text, DIMENSIONS))[:size]) for text in inputs]
    if not vectors:
        return {"model": body["model"], "embeddings": []}
    counted = {"prompt_eval_count": scene.input_tokens} if scene.input_tokens else {}
    return {
        "model": body["model"],
        "embeddings": vectors,
        "total_duration": 14_143_917,
        "load_duration": 1_019_500,
        **counted,
    }


def texts_of(given: object) -> list[str]:
    if isinstance(given, str):
        return [given] if given else []
    return list(given) if isinstance(given, list) else []


# ------------------------------------------------------------------------------------------- behaviours

JSON = "application/json; charset=utf-8"
LINES = "application/x-ndjson"
BROKEN: Json = {"error": "an error was encountered while running the model: unexpected EOF"}


def refusal(status: int, text: str, headers: Iterable[str] = ()) -> Behaviour:
    """Without a text the body is empty."""
    data = dump({"error": text}) if text else b""
    return lambda exchange: exchange.whole(status, data, JSON if text else "text/plain", list(headers))


def respond(data: object) -> Behaviour:
    return lambda exchange: exchange.whole(200, dump(data), JSON)


def play(scene: Scene, *, gate: Gate | None = None, ids: bool = True) -> Behaviour:
    """The scene, whole or streamed as asked; a gate holds each record (or the whole) back."""

    def behave(exchange: Exchange) -> None:
        path, body = exchange.heard.path, exchange.body
        if path in ("/api/chat", "/api/generate") and body.get("stream", True):
            stream(exchange, failing(records_of(path, body, scene, ids=ids), scene), scene, gate)
            return
        exchange.hold(lambda: gate is None or gate.allowed >= 1)
        embeds = path in ("/api/embed", "/api/embeddings")
        made = embeddings_of(path, body, scene) if embeds else whole_of(path, body, scene, ids=ids)
        data = dump(BROKEN if scene.fails in ("first", "later") else made)
        exchange.head(200, JSON, length=len(data))
        if scene.fails == "cut":
            exchange.close()
            data = data[: len(data) // 2]
        for part in torn(data, scene.bytes_at_once):
            exchange.send(part)

    return behave


def stream(exchange: Exchange, records: Iterable[Json], scene: Scene, gate: Gate | None = None) -> None:
    exchange.head(200, LINES)
    for number, each in enumerate(records, start=1):
        exchange.hold(lambda number=number: gate is None or gate.allowed >= number)  # type: ignore[misc]
        for part in torn(dump(each) + (b"\r\n" if scene.crlf else b"\n"), scene.bytes_at_once):
            exchange.check()
            exchange.chunk(part)
        exchange.heard.frames += 1
    exchange.end()


# ------------------------------------------------------------------------------------------- strictness


class Refused(Refusal):
    """The caller's fault, in Ollama's words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.behave = refusal(status, text)


class NoSuchPage(Refusal):
    """Not even an endpoint; the router says so, in plain text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.behave = lambda exchange: exchange.whole(status, text.encode(), "text/plain")


FIELDS: dict[str, dict[str, type]] = {
    "/api/chat": {
        "model": str, "messages": list, "stream": bool, "format": object, "options": dict, "tools": list,
        "think": object, "keep_alive": object, "truncate": bool, "shift": bool, "logprobs": bool, "top_logprobs": int,
    },
    "/api/generate": {
        "model": str, "prompt": str, "suffix": str, "system": str, "template": str, "context": list, "stream": bool,
        "raw": bool, "format": object, "keep_alive": object, "images": list, "options": dict, "think": object,
        "truncate": bool, "shift": bool, "logprobs": bool, "top_logprobs": int,
    },
    "/api/embed": {
        "model": str, "input": object, "truncate": bool, "dimensions": int, "keep_alive": object, "options": dict,
    },
    "/api/embeddings": {"model": str, "prompt": str, "keep_alive": object, "options": dict},
    "/api/show": {"model": str, "verbose": bool},
}  # fmt: skip
REQUESTS = {
    "/api/chat": "ChatRequest",
    "/api/generate": "GenerateRequest",
    "/api/embed": "EmbedRequest",
    "/api/embeddings": "EmbeddingRequest",
    "/api/show": "ShowRequest",
}
READ = ("/", "/api/version", "/api/tags", "/api/ps")
OPTIONS: dict[str, type] = {
    "num_keep": int, "seed": int, "num_predict": int, "top_k": int, "top_p": float, "min_p": float,
    "typical_p": float, "repeat_last_n": int, "temperature": float, "repeat_penalty": float,
    "presence_penalty": float, "frequency_penalty": float, "stop": list, "num_ctx": int, "num_batch": int,
    "num_gpu": int, "main_gpu": int, "use_mmap": bool, "num_thread": int, "draft_num_predict": int,
}  # fmt: skip
MESSAGE: dict[str, type] = {
    "role": str, "content": str, "thinking": str, "images": list, "tool_calls": list, "tool_name": str,
    "tool_call_id": str,
}  # fmt: skip
RESULTS = (("tool_name", "tool"), ("tool_call_id", "tool"))
ROLES = ("system", "user", "assistant", "tool")
GO_TYPES = {str: "string", bool: "bool", int: "int", float: "float32", list: "[]", dict: "map[string]interface {}"}
OPTION_TYPES = {int: "integer", float: "float32", bool: "boolean", list: "array"}
DURATION = r"[+-]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*|[+-]?0"
THINK = ("low", "medium", "high", "max")
PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF")
NEVER_SENT = ("x-api-key", "api-key", "cookie", "origin", "x-forwarded-for", "x-gateway-clamped")


def called(value: object) -> str:
    """As Go names what JSON has."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return {str: "string", list: "array", dict: "object"}.get(type(value), "null")


def is_a(value: object, kind: type) -> bool:
    if kind is object:
        return True
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def wrong_type(where: str, kind: str, value: object) -> Refused:
    return Refused(400, f"json: cannot unmarshal {called(value)} into Go struct field {where} of type {kind}")


def check_shape(where: str, given: object, known: dict[str, type], go_type: str = "object") -> None:
    if not isinstance(given, dict):
        raise wrong_type(where, go_type, given)
    for name, value in given.items():
        if name not in known:
            raise Refused(400, f'json: unknown field "{name}"')
        if not is_a(value, known[name]):
            raise wrong_type(f"{where}.{name}", GO_TYPES[known[name]], value)


def check_body(path: str, body: Json) -> None:
    check_shape(REQUESTS[path], body, FIELDS[path])
    if not body.get("model"):
        raise Refused(400, "model is required")
    if not 0 <= body.get("top_logprobs", 0) <= 20:
        raise Refused(400, "top_logprobs must be between 0 and 20")
    check_options(body.get("options", {}))
    if "keep_alive" in body:
        check_keep_alive(body["keep_alive"])
    if "think" in body and not isinstance(body["think"], bool) and body["think"] not in THINK:
        levels = '"high", "medium", "low", "max", true, or false'
        raise Refused(400, f"invalid think value: {json.dumps(body['think'])} (must be {levels})")
    if "format" in body and body["format"] != "json" and not isinstance(body["format"], dict):
        raise Refused(
            400, f'invalid format: {json.dumps(body["format"])}; expected "json" or a valid JSON Schema object'
        )
    for each in body.get("images", []):
        check_picture(each)
    for tool in body.get("tools", []):
        check_tool(tool)
    check_messages(body.get("messages", []))
    if body.get("raw") and any(body.get(name) for name in ("template", "system", "context")):
        raise Refused(400, "raw mode does not support template, system, or context")
    if not all(is_a(each, int) for each in body.get("context", [])):
        raise wrong_type("GenerateRequest.context", "int", body["context"])
    if path == "/api/embed":
        check_input(body)


def check_options(options: Json) -> None:
    for name, value in options.items():
        if name not in OPTIONS:
            raise Refused(400, f'invalid option provided: "{name}"')
        kind = OPTIONS[name]
        strings = kind is not list or (isinstance(value, list) and all(isinstance(each, str) for each in value))
        if not is_a(value, kind) or not strings:
            raise Refused(400, f'option "{name}" must be of type {OPTION_TYPES[kind]}')


def check_keep_alive(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refused(400, f"Unsupported type: '{called(value)}'")
    if isinstance(value, str) and not re.fullmatch(DURATION, value):
        raise Refused(400, f'time: invalid duration "{value}"')


def check_picture(data: object) -> None:
    """The bare base64 of a picture; a data URL is none."""
    if not isinstance(data, str):
        raise wrong_type("Message.images", "[]uint8", data)
    try:
        picture = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        place = next((i for i, each in enumerate(data) if not re.match(r"[A-Za-z0-9+/=]", each)), len(data))
        raise Refused(400, f"illegal base64 data at input byte {place}") from None
    if not picture.startswith(PICTURES):
        raise Refused(400, "image: unknown format")


def check_tool(tool: object) -> None:
    if not isinstance(tool, dict) or not isinstance(tool.get("function"), dict):
        raise wrong_type("ChatRequest.tools", "api.Tool", tool)
    function = tool["function"]
    if tool.get("type") != "function":
        raise Refused(400, f"invalid tool type: {json.dumps(tool.get('type'))}")
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise wrong_type("ToolFunction.tools.function.name", "string", function.get("name"))
    if not isinstance(function.get("description", ""), str):
        raise wrong_type("ToolFunction.tools.function.description", "string", function["description"])
    parameters = function.get("parameters", {})
    if not isinstance(parameters, dict):
        raise wrong_type("ToolFunction.tools.function.parameters", "api.ToolFunctionParameters", parameters)
    for name, kind in {"type": str, "required": list, "properties": dict}.items():
        if name in parameters and not isinstance(parameters[name], kind):
            raise wrong_type(f"ToolFunctionParameters.{name}", GO_TYPES[kind], parameters[name])
    for schema in parameters.get("properties", {}).values():
        if not isinstance(schema, dict):
            raise wrong_type("ToolFunctionParameters.properties", "api.ToolProperty", schema)
        if not isinstance(schema.get("type", ""), str | list) or not isinstance(schema.get("enum", []), list):
            raise wrong_type("ToolProperty.type", "api.PropertyType", schema)


def check_messages(messages: list[Any]) -> None:
    asked: dict[str, str] = {}  # the calls of the latest turn that made any: id and name
    for message in messages:
        check_shape("Message", message, MESSAGE, "api.Message")
        role = message.get("role")
        if role not in ROLES:
            listed = ", ".join(f'"{each}"' for each in ROLES)
            raise Refused(400, f"invalid role: {json.dumps(role)}, must be one of [{listed}]")
        if "content" not in message and not message.get("tool_calls"):
            raise Refused(400, "message without content")
        for each in message.get("images", []):
            check_picture(each)
        for name, only in (("tool_calls", "assistant"), ("thinking", "assistant"), *RESULTS):
            if name in message and role != only:
                raise Refused(400, f"{name} in a message of role {role}")
        if role == "assistant":
            asked = {}
            for number, call in enumerate(message.get("tool_calls", [])):
                check_call(call)
                asked[call.get("id", f"#{number}")] = call["function"]["name"]
        elif role == "tool":
            check_result(message, asked)


def check_call(call: object) -> None:
    check_shape("ToolCall.messages.tool_calls", call, {"id": str, "function": dict}, "api.ToolCall")
    function = call.get("function", {}) if isinstance(call, dict) else {}
    known: dict[str, type] = {"index": int, "name": str, "arguments": object}
    check_shape("ToolCall.messages.tool_calls.function", function, known)
    if not function.get("name"):
        raise Refused(400, "tool call without a name")
    if not isinstance(function.get("arguments"), dict):
        where = "ToolCallFunction.messages.tool_calls.function.arguments"
        raise wrong_type(where, "api.ToolCallFunctionArguments", function.get("arguments"))


def check_result(message: Json, asked: dict[str, str]) -> None:
    name, id = message.get("tool_name"), message.get("tool_call_id")
    if name is None or name not in asked.values():
        raise Refused(400, f"tool message with tool_name {json.dumps(name)}, but called were {sorted(asked.values())}")
    if id is not None and asked.get(id) != name:
        raise Refused(400, f"tool message with tool_call_id {json.dumps(id)}, which is no call of {name}")


def check_input(body: Json) -> None:
    given = body.get("input")
    if not isinstance(given, str | list) or not all(isinstance(each, str) for each in given):
        raise Refused(400, "invalid input type")
    if body.get("truncate", True) is False and any(len(each.split()) > CONTEXT_LENGTH for each in texts_of(given)):
        raise Refused(400, "the input length exceeds the context length")


def check_able(path: str, body: Json, able: set[str]) -> None:
    """What the model cannot do, in the order Ollama finds out."""
    model = body["model"]
    name = f"registry.ollama.ai/library/{full(model)}" if "/" not in short(model) else full(model)
    if path in ("/api/embed", "/api/embeddings"):
        if "embedding" not in able:
            raise Refused(400, "this model does not support embeddings")
        return
    if body.get("think") and "thinking" not in able:
        raise Refused(400, f'"{model}" does not support thinking')
    if "completion" not in able:
        raise Refused(400, f'"{model}" does not support {"chat" if path == "/api/chat" else "generate"}')
    pictures = body.get("images") or any(message.get("images") for message in body.get("messages", []))
    for capability, wanted in (("tools", body.get("tools")), ("insert", body.get("suffix")), ("vision", pictures)):
        if wanted and capability not in able:
            raise Refused(400, f"{name} does not support {capability}")


# ------------------------------------------------------------------------------------------------ server


class FakeOllama(FakeServer):
    """Plays a scene for every model it has, and whatever is scripted; a model only scripted can do everything."""

    def __init__(self, key: str = "") -> None:
        super().__init__()
        self.url = self.origin
        self.key = key  # with one: the hosted service
        self._reset()

    def _reset(self) -> None:
        self.capabilities: dict[str, set[str]] = {name: set(able) for name, able in CAPABILITIES.items()}
        self.tags_without_capabilities = False  # older servers say them in /api/show only
        self.call_ids = True  # older servers give calls none; for scenes told from then on

    def forget(self) -> None:
        super().forget()
        self._reset()

    def script(self, model: str, *behaviours: Behaviour) -> None:
        super().script(short(model), *behaviours)

    def scene(self, model: str, *scenes: Scene) -> None:
        """From now on the model plays these, one per request; the last one stays."""
        self.script(model, *[play(each, ids=self.call_ids) for each in scenes])

    def refuse(self, model: str, status: int, text: str, headers: Iterable[str] = ()) -> None:
        """Without a text the body is empty."""
        self.script(model, refusal(status, text, list(headers)))

    def asked(self, model: str | None = None) -> list[Heard]:
        """The calls so far; to be asked what a model can do is none."""
        return [each for each in super().asked(model) if each.path != "/api/show"]

    def behaviour(self, heard: Heard) -> Behaviour:
        self._check_head(heard)
        if heard.path in READ:
            return self._read_only(heard)
        self._check_body(heard)
        path, body = heard.path, heard.body
        name = short(body["model"])
        able = next((able for each, able in self.capabilities.items() if short(each) == name), None)
        if path == "/api/show":
            if able is None:
                raise Refused(404, f"model '{body['model']}' not found")
            return respond(self._shown(name, able))
        if able is not None:
            check_able(path, body, able)
        loading = self._loading(heard)
        scripted = None if loading else self.scripted(name)
        if scripted is None and able is None:
            if path == "/api/embeddings":
                raise Refused(404, f'model "{body["model"]}" not found, try pulling it first')
            raise Refused(404, f"model '{body['model']}' not found")
        return loading or scripted or play(Scene(), ids=self.call_ids)

    def _check_head(self, heard: Heard) -> None:
        if heard.path not in READ and heard.path not in FIELDS:
            self.complain(f"{heard.method} {heard.path} does not exist here.")
            raise NoSuchPage(404, "404 page not found")
        if heard.method not in (("GET", "HEAD") if heard.path in READ else ("POST",)):
            self.complain(f"{heard.method} {heard.path}")
            raise NoSuchPage(405, "405 method not allowed")
        if heard.headers.get("host") not in (f"127.0.0.1:{self.port}", f"localhost:{self.port}"):
            self.complain(f"Host: {heard.headers.get('host')}")
            raise Refused(403, "")
        for name in NEVER_SENT:
            if name in heard.headers:
                self.complain(f"The header {name} is none of the upstream's business.")
        credential = heard.headers.get("authorization")
        if not self.key and credential is not None:
            self.complain("A credential came where none is needed.")
        if self.key and credential != f"Bearer {self.key}":
            self.complain("The credential is not this upstream's.")
            raise Refused(401, "unauthorized")

    def _check_body(self, heard: Heard) -> None:
        if heard.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            self.complain(f"Content-Type: {heard.headers.get('content-type')}")
        if not heard.raw:
            self.complain("The body is empty.")
            raise Refused(400, "missing request body")
        try:
            heard.body = json.loads(heard.raw.decode("utf-8"), object_pairs_hook=unique)
        except ValueError as error:
            self.complain(f"The body is no JSON: {error}")
            raise Refused(400, "invalid character looking for beginning of value") from error
        if not isinstance(heard.body, dict):
            self.complain("The body is no JSON object.")
            raise wrong_type("", f"api.{REQUESTS[heard.path]}", heard.body)
        if heard.path in ("/api/chat", "/api/generate") and "stream" not in heard.body:
            self.complain(f"{heard.path} without `stream`: it would be true.")
        check_body(heard.path, heard.body)

    def _loading(self, heard: Heard) -> Behaviour | None:
        """Who asks for nothing gets a model loaded, or unloaded: hardly what a caller meant."""
        asks = {"/api/chat": "messages", "/api/generate": "prompt"}.get(heard.path)
        if asks is None or heard.body.get(asks):
            return None
        self.complain(f"{heard.path} without {asks} loads the model and answers nothing.")
        alive = heard.body.get("keep_alive")
        unload = alive is not None and re.fullmatch(r"[+-]?0(\.0*)?(ns|us|µs|ms|s|m|h)?", str(alive))
        return respond(record(heard.body["model"], spoken(heard.path), done_reason="unload" if unload else "load"))

    def _read_only(self, heard: Heard) -> Behaviour:
        if heard.raw:
            self.complain(f"{heard.method} {heard.path} with a body")
        data, kind = b"Ollama is running", "text/plain; charset=utf-8"
        if heard.path != "/":
            known = {"/api/version": {"version": VERSION}, "/api/tags": self._tags(), "/api/ps": self._loaded()}
            data, kind = dump(known[heard.path]), JSON

        def behave(exchange: Exchange) -> None:
            exchange.head(200, kind, length=len(data))
            if heard.method != "HEAD":
                exchange.send(data)

        return behave

    def _described(self, name: str, able: set[str]) -> Json:
        family = "nomic-bert" if able == {"embedding"} else "llama"
        return {
            "name": full(name),
            "model": full(name),
            "modified_at": MODIFIED,
            "size": 2_019_393_189,
            "digest": hashlib.sha256(full(name).encode()).hexdigest(),
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": family,
                "families": [family],
                "parameter_size": "3.2B",
                "quantization_level": "Q4_K_M",
            },
        }

    def _tags(self) -> Json:
        models = []
        for name, able in self.capabilities.items():
            described = self._described(name, able)
            if not self.tags_without_capabilities:
                described["capabilities"] = [each for each in IN_ORDER if each in able]
            models.append(described)
        return {"models": models}

    def _loaded(self) -> Json:
        """The models asked so far."""
        asked = {short(str(each.model)) for each in self.asked()}
        models = []
        for name, able in self.capabilities.items():
            if short(name) in asked:
                described = self._described(name, able)
                del described["modified_at"]
                also = {"expires_at": MODIFIED, "size_vram": described["size"], "context_length": CONTEXT_LENGTH}
                models.append({**described, **also})
        return {"models": models}

    def _shown(self, name: str, able: set[str]) -> Json:
        details = self._described(name, able)["details"]
        family = details["family"]
        info = {
            "general.architecture": family,
            "general.parameter_count": 3_212_749_888,
            f"{family}.context_length": CONTEXT_LENGTH,
            f"{family}.embedding_length": DIMENSIONS,
        }
        return {
            "license": "A licence.",
            "modelfile": f"FROM {full(name)}\n",
            "parameters": 'stop                           "<|eot_id|>"',
            "template": "{{ .Prompt }}",
            "details": details,
            "model_info": info,
            "capabilities": [each for each in IN_ORDER if each in able],
            "modified_at": MODIFIED,
        }
