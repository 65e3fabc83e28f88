"""A strict SambaNova Cloud: the official API with its key, and the console with its login, on one port.

    with FakeSambaNova() as upstream:
        upstream.scene("gpt-oss-120b", Scene(thinking="Hm.", calls=TWO_CALLS))
        ...                       # ask upstream.url with upstream.key, or log in at upstream.console_url

A model that no test has scripted repeats its caller.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.fakes.openai import Reply, completion_text, embeddings_whole, reply_text
from tests.fakes.scenes import Scene, torn
from tests.fakes.server import Behaviour, Exchange, FakeServer, Heard, Json, Refusal, unique

KEY = "5f0c1a8e-sambanova-0123456789abcdef"  # what a profile must send; never what a caller sends
EMAIL = "operator@example.org"
PASSWORD = "a good-enough pass phrase/Zürich"
CLIENT_ID = "fakeClientId0123456789"
REALM = "Username-Password-Authentication"
CREDENTIAL_TYPE = "http://auth0.com/oauth/grant-type/password-realm"
WEEK = 604_800


@dataclass(frozen=True)
class Model:
    context: int = 131_072
    most: int = 3_072  # tokens of an answer
    images: bool = False
    embeds: bool = False
    text_only: bool = False  # an older model: message contents are strings, never lists


MODELS: dict[str, Model] = {
    "Meta-Llama-3.3-70B-Instruct": Model(text_only=True),
    "gpt-oss-120b": Model(most=131_072),
    "Llama-4-Maverick-17B-128E-Instruct": Model(most=4_096, images=True),
    "E5-Mistral-7B-Instruct": Model(context=4_096, embeds=True),
    "DeepSeek-R1": Model(context=32_768, most=7_168, text_only=True),
}


# ---------------------------------------------------------------------------------------------- answers


def error_body(message: str, type: str, param: str | None = None, code: str | None = None) -> Json:
    error = {"message": message, "type": type, "param": param, "code": code}
    return {"error": error, "request_id": str(uuid.uuid4())}


BROKEN = "The model crashed while answering."


def usage_of(scene: Scene) -> Json:
    """With everything the vendor measures beside it."""
    usage: Json = {
        "acceptance_rate": 3.5517,
        "completion_tokens": scene.output_tokens,
        "completion_tokens_after_first_per_sec": 412.2,
        "completion_tokens_after_first_per_sec_first_ten": 418.77,
        "completion_tokens_after_first_per_sec_graph": 418.77,
        "completion_tokens_per_sec": 170.03,
        "end_time": 1_760_000_000.91,
        "is_last_response": True,
        "prompt_tokens": scene.input_tokens,
        "prompt_tokens_details": {"cached_tokens": scene.cached_tokens},
        "start_time": 1_760_000_000.2,
        "stop_reason": finish_of(scene),
        "time_to_first_token": 0.12,
        "time_to_first_token_graph": 0.11,
        "total_latency": 0.71,
        "total_tokens": scene.input_tokens + scene.output_tokens,
        "total_tokens_per_sec": 240.5,
    }
    if scene.thinking:
        reasoning = min(scene.output_tokens, len(scene.thinking.split()))
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return usage


def finish_of(scene: Scene) -> str:
    if scene.calls and scene.finish == "stop":
        return "tool_calls"
    return "content_filter" if scene.finish == "filter" else scene.finish


def head_of(body: Json, kind: str) -> Json:
    return {
        "id": str(uuid.uuid4()),
        "object": kind,
        "created": time.time(),  # a float, as the vendor's
        "model": body["model"],
        "system_fingerprint": "fastcoe",
    }


def whole_calls(scene: Scene) -> list[Json]:
    return [
        {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for index, (id, name, arguments) in enumerate(scene.calls)
    ]


def whole_answer(path: str, body: Json, scene: Scene) -> Json:
    if path == "/v1/embeddings":
        answer = embeddings_whole(body)
        usage = {"prompt_tokens": scene.input_tokens, "total_tokens": scene.input_tokens}
        return answer | {"usage": usage}
    ending = {"logprobs": None, "finish_reason": finish_of(scene)}
    if path == "/v1/completions":
        said: Json = {"text": scene.text}
        kind = "text_completion"
    else:
        message: Json = {"role": "assistant", "content": scene.text or None}
        if scene.thinking:
            message["reasoning"] = scene.thinking
        if scene.calls:
            message["tool_calls"] = whole_calls(scene)
        said = {"message": message}
        kind = "chat.completion"
    choices = [{"index": index, **said, **ending} for index in range(body.get("n") or 1)]
    return {**head_of(body, kind), "choices": choices, "usage": usage_of(scene)}


def several(pieces: list[str]) -> list[str]:
    """Two pieces at a time: a chunk may hold several tokens."""
    return ["".join(pieces[start : start + 2]) for start in range(0, len(pieces), 2)]


def deltas_of(scene: Scene, lean: bool) -> list[Json]:
    """What the message is made of; the first one also names the role. Lean: calls without type and index."""
    deltas: list[Json] = [{"reasoning": piece} for piece in several(replace(scene, text=scene.thinking).pieces())]
    deltas += [{"content": piece} for piece in several(scene.pieces())]
    for call in whole_calls(scene):
        if lean:
            deltas.append({"tool_calls": [{"id": call["id"], "function": call["function"]}]})
            continue
        arguments = call["function"]["arguments"]
        deltas.append({"tool_calls": [call | {"function": {"name": call["function"]["name"], "arguments": ""}}]})
        for start in range(0, len(arguments), 7):
            function = {"arguments": arguments[start : start + 7]}
            deltas.append({"tool_calls": [{"index": call["index"], "function": function}]})
    first = deltas[0] if deltas else {"content": ""}
    return [{"role": "assistant", **first}, *deltas[1:]]


def after_first_content(pieces: list[Json]) -> int:
    """How many pieces it takes until the first content is out."""
    for name in ("content", "text", "tool_calls"):
        for number, piece in enumerate(pieces, start=1):
            if piece.get(name):
                return number
    return 1


def sse(data: object, *, crlf: bool, event: str = "") -> bytes:
    end = b"\r\n" if crlf else b"\n"
    named = b"event: " + event.encode() + end if event else b""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return named + b"data: " + text.encode() + end + end


def stream_out(exchange: Exchange, scene: Scene, frames: Iterable[bytes]) -> None:
    exchange.start_stream()
    for frame in frames:
        exchange.check()
        spoken = b": keep-alive\n\n" + frame if scene.comments else frame
        for part in torn(spoken, scene.bytes_at_once):
            exchange.chunk(part)
        exchange.heard.frames += 1
    exchange.end()


def whole_out(exchange: Exchange, scene: Scene, answer: Json) -> None:
    data = json.dumps(answer, ensure_ascii=False).encode()
    if scene.fails == "cut":
        exchange.close()
        exchange.head(200, "application/json", length=len(data))
        exchange.send(data[: len(data) // 2])
    elif scene.bytes_at_once:
        exchange.head(200, "application/json")
        for part in torn(data, scene.bytes_at_once):
            exchange.chunk(part)
        exchange.end()
    else:
        exchange.whole(200, data)


# -------------------------------------------------------------------------------------------- strictness


def refusal(
    status: int, message: str, *, param: str | None = None, code: str | None = None, headers: Iterable[str] = ()
) -> Behaviour:
    type = "invalid_request_error" if status < 429 else "rate_limit_error" if status == 429 else "server_error"
    return lambda exchange: exchange.json(status, error_body(message, type, param, code), headers)


class Refused(Refusal):
    """The caller's fault, in SambaNova's words."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.behave = refusal(status, message, param=param, code=code)


class Sent(Refusal):
    """The browser is sent elsewhere, as Auth0 tells its errors."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.behave = redirect(location)


class Denied(Refusal):
    """Auth0 says no, in JSON."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        denial = {"error": error, "error_description": description}
        self.behave = lambda exchange: exchange.json(status, denial)


def redirect(location: str, *cookies: str) -> Behaviour:
    headers = [f"Location: {location}", *(f"Set-Cookie: {cookie}" for cookie in cookies)]
    return lambda exchange: exchange.whole(302, b"", "text/plain", headers)


SAMPLING = {
    "do_sample", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "model", "n", "presence_penalty",
    "seed", "stop", "stream", "stream_options", "temperature", "top_k", "top_logprobs", "top_p",
}  # fmt: skip
CHAT = SAMPLING | {
    "chat_template_kwargs", "max_completion_tokens", "messages", "parallel_tool_calls", "reasoning_effort",
    "response_format", "tool_choice", "tools",
}  # fmt: skip
FIELDS: dict[str, set[str]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": SAMPLING | {"prompt"},
    "/v1/embeddings": {"encoding_format", "input", "model"},
    "/api/completion": CHAT,
}
TO_BE_DROPPED = ("user", "metadata", "store", "service_tier", "prediction")
IGNORED = ("presence_penalty", "frequency_penalty", "logit_bias")
ROLES = ("system", "user", "assistant", "tool")
MESSAGE_KEYS = {"role", "content", "name", "tool_calls", "reasoning", "channel"}
PARTS = ("text", "image_url", "audio_content", "video_url")
NEVER_SENT = ("x-api-key", "api-key", "cookie", "x-forwarded-for", "x-gateway-clamped")
TYPES: dict[str, type | tuple[type, ...]] = {
    "stream": bool, "do_sample": bool, "parallel_tool_calls": bool, "logprobs": (bool, int), "seed": int,
    "stop": (str, list), "tools": list, "tool_choice": (str, dict), "response_format": dict,
    "chat_template_kwargs": dict, "stream_options": dict, "reasoning_effort": str, "logit_bias": dict,
}  # fmt: skip
INTEGERS = {"top_k": (1, 100), "n": (1, 8), "top_logprobs": (0, 20), "max_tokens": (1, None)} | {
    "max_completion_tokens": (1, None)
}
DECIMALS = {"temperature": (0, 2), "top_p": (0, 1), "presence_penalty": (-2, 2), "frequency_penalty": (-2, 2)}
NAVIGATION = {
    "sec-fetch-site": "same-site", "sec-fetch-mode": "navigate", "sec-fetch-user": "?1", "sec-fetch-dest": "document",
}  # fmt: skip
RANDOM = re.compile(r"[A-Za-z0-9_-]{40,}")  # 32 bytes, URL-safe


def wrong(message: str, param: str, code: str = "invalid_value") -> Refused:
    return Refused(400, message, param=param, code=code)


def check_types(body: Json) -> None:
    for name, kind in TYPES.items():
        value = body.get(name)
        boolean_as_number = isinstance(value, bool) and kind is int
        if value is not None and (boolean_as_number or not isinstance(value, kind)):
            raise wrong(f"Invalid type for '{name}'.", name, "invalid_type")
    for ranges, kinds, word in ((INTEGERS, (int,), "integer"), (DECIMALS, (int, float), "decimal")):
        for name, (least, most) in ranges.items():
            value = body.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise wrong(f"Invalid type for '{name}': expected {word}.", name, "invalid_type")
            if value < least:
                raise wrong(f"'{name}' must be at least {least}.", name, f"{word}_below_min_value")
            if most is not None and value > most:
                raise wrong(f"'{name}' must be at most {most}.", name, f"{word}_above_max_value")
    stop = body.get("stop")
    if isinstance(stop, list) and (len(stop) > 4 or not all(isinstance(each, str) for each in stop)):
        raise wrong("'stop' must be up to four strings.", "stop")


def check_tools(body: Json) -> None:
    tools = body.get("tools") or []
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise wrong("Invalid value in 'tools'.", "tools")
    if tools and (body.get("n") or 1) > 1:
        raise wrong("'n' greater than 1 is not supported with tools.", "n")
    choice = body.get("tool_choice")
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        raise wrong(f"Invalid 'tool_choice': {choice}.", "tool_choice")
    if isinstance(choice, dict):
        named = (choice.get("function") or {}).get("name")
        if choice.get("type") != "function" or named not in [tool["function"]["name"] for tool in tools]:
            raise wrong("'tool_choice' names no function that was given.", "tool_choice")


def check_picture(where: str, url: object) -> None:
    header, _, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not re.fullmatch(r"data:image/[a-z0-9.+-]+;base64", header):
        raise wrong("Only base64-encoded image data URLs are supported.", where)
    try:
        base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise wrong("The image is not valid base64.", where) from error


# ------------------------------------------------------------------------------------------------ server


class FakeSambaNova(FakeServer):
    """Serves the official API at `url` and the console at `console_url`; Auth0 answers there too."""

    def __init__(self, key: str = KEY, email: str = EMAIL, password: str = PASSWORD) -> None:
        super().__init__()
        self.url = f"{self.origin}/v1"
        self.console_url = self.origin
        self.key, self.email, self.password = key, email, password
        self.models = dict(MODELS)
        self._begin()

    def _begin(self) -> None:
        # What a test may change:
        self.lean_tool_calls = False  # calls in streams come whole, but without type and index
        self.think_in_content = False  # thinking is written into the content, between <think> and </think>
        self.usage_in_finish = False  # in the chunk that finishes, instead of one of its own
        self.named_errors = True  # mid-stream errors come as `event: error`
        self.fingerprint_prefix = "anon_"
        self.login_fails = ""  # "invalid_user_password", "too_many_attempts" or "blocked": said by co/authenticate
        self.authorize_fails = ""  # an error code that /authorize sends the browser away with
        self.login_seconds = 0.0  # how long co/authenticate takes
        self.session_seconds: float | None = WEEK  # None: the cookie has no Max-Age
        self.jwt_seconds: float | None = None  # until the JWT's `exp`, where that differs from session_seconds
        self.opaque_tokens = False  # otherwise the cookie's value is a JWT
        self.second_hop = False  # the callback sends the browser on, and only there is the cookie set
        self.console_done = False  # the console ends its streams with [DONE]
        # What it remembers:
        self.logins: list[float] = []  # every password that was tried: time.monotonic()
        self.ignored: list[str] = []  # fields that were accepted and have no effect
        self._tickets: dict[str, dict[str, str]] = {}  # login ticket -> the cookies that go with it
        self._codes: dict[str, tuple[str, str]] = {}  # code -> state, nonce
        self._hops: set[str] = set()
        self._sessions: dict[str, float | None] = {}  # token -> when it ends
        self._seen: set[str] = set()  # states, nonces and fingerprints: each may come once

    def forget(self) -> None:
        """Also logs everybody out."""
        super().forget()
        with self._lock:
            self._begin()

    def asked(self, model: str | None = None) -> list[Heard]:
        return [call for call in super().asked(model) if call.path != "/co/authenticate"]

    def scene(self, model: str, *scenes: Scene) -> None:
        """From now on the model answers so, one scene per request; the last one stays."""
        self.script(model, *map(self.playing, scenes))

    def refuse(
        self, model: str, status: int, message: str, code: str | None = None, headers: Iterable[str] = ()
    ) -> None:
        self.script(model, refusal(status, message, code=code, headers=list(headers)))

    def playing(self, scene: Scene) -> Behaviour:
        """The scene as a behaviour, to be mixed with others in a script."""
        return lambda exchange: self._play(exchange, scene)

    def revoke_all(self) -> None:
        """Every session ends; who is logged in must log in again."""
        with self._lock:
            self._sessions.clear()

    # -- routes

    def behaviour(self, heard: Heard) -> Behaviour:
        if heard.headers.get("host") != f"127.0.0.1:{self.port}":
            self.complain(f"Host: {heard.headers.get('host')}")
        path = urlsplit(heard.path).path
        if path.startswith("/v1/"):
            return self._official(heard)
        routes = {
            ("GET", "/"): self._home,
            ("GET", "/api/config"): self._config,
            ("POST", "/co/authenticate"): self._authenticate,
            ("GET", "/authorize"): self._authorize,
            ("GET", "/web/auth/callback"): self._callback,
            ("GET", "/web/auth/done"): self._done,
            ("POST", "/api/completion"): self._console,
        }
        if (route := routes.get((heard.method, path))) is None:
            self.complain(f"{heard.method} {path} does not exist here.")
            raise Refused(404, f"Cannot {heard.method} {path}")
        if "authorization" in heard.headers:
            self.complain("The console knows cookies, and no Authorization.")
        return route(heard)

    # -- the official API

    def _official(self, heard: Heard) -> Behaviour:
        listing = heard.path == "/v1/models" or heard.path.startswith("/v1/models/")
        if not listing and heard.path not in FIELDS:
            self.complain(f"{heard.method} {heard.path} does not exist here.")
            raise Refused(404, f"Invalid URL ({heard.method} {heard.path})")
        if heard.method != ("GET" if listing else "POST"):
            self.complain(f"{heard.method} {heard.path}")
            raise Refused(405, f"Not allowed to {heard.method} on {heard.path}.")
        for name in NEVER_SENT:
            if name in heard.headers and not (listing and name == "cookie"):
                self.complain(f"The header {name} is none of the upstream's business.")
        credential = heard.headers.get("authorization")
        if credential != f"Bearer {self.key}" and not (listing and credential is None):
            self.complain("The credential is not this upstream's.")
            raise Refused(401, "Invalid authentication credentials.", code="invalid_authentication")
        if listing:
            return self._list_models(heard)
        body = self._json(heard)
        heard.body = body
        return self._answer_to(heard.path, body)

    def _list_models(self, heard: Heard) -> Behaviour:
        rows = [self._listed(name, model) for name, model in self.models.items()]
        wanted = heard.path.removeprefix("/v1/models").removeprefix("/")
        if not wanted:
            return lambda exchange: exchange.json(200, {"object": "list", "data": rows})
        found = next((row for row in rows if row["id"] == wanted), None)
        if found is None:
            raise Refused(404, f"Model not found: {wanted}", param="model", code="model_not_found")
        return lambda exchange: exchange.json(200, found)

    def _listed(self, name: str, model: Model) -> Json:
        pricing = {"prompt": "0.0000006", "completion": "0.0000012", "duration_per_hour": "0.0"}
        return {
            "id": name,
            "object": "model",
            "owned_by": "no-reply@sambanova.ai",
            "context_length": model.context,
            "max_completion_tokens": None if model.embeds else model.most,
            "pricing": pricing,
            "sn_metadata": {},
        }

    def _json(self, heard: Heard) -> Json:
        if heard.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            self.complain(f"Content-Type: {heard.headers.get('content-type')}")
            raise Refused(415, "Unsupported content type.")
        try:
            body = json.loads(heard.raw.decode("utf-8"), object_pairs_hook=unique)
        except ValueError as error:
            self.complain(f"The body is no JSON: {error}")
            raise Refused(400, "The request body is not valid JSON.", code="invalid_json") from error
        if not isinstance(body, dict):
            self.complain("The body is no JSON object.")
            raise Refused(400, "The request body must be an object.", code="invalid_type")
        return body

    def _answer_to(self, path: str, body: Json) -> Behaviour:
        model = self._check(path, body)
        if scripted := self.scripted(body["model"]):
            return scripted
        if model is None:
            raise Refused(400, f"Model not found: {body['model']}", param="model", code="model_not_found")
        repeat = completion_text if path == "/v1/completions" else reply_text
        return self.playing(Scene() if path == "/v1/embeddings" else Scene(text=repeat(body, Reply())))

    def _check(self, path: str, body: Json) -> Model | None:
        for name in TO_BE_DROPPED:
            if name in body:
                self.complain(f"'{name}' means nothing here and must be left out.")
        for name in body:
            if name not in FIELDS[path]:
                raise wrong(f"Unrecognized request argument supplied: {name}", name, "unknown_parameter")
        if not isinstance(body.get("model"), str):
            raise wrong("'model' must be a string.", "model", "invalid_type")
        model = self.models.get(body["model"])
        if path == "/v1/embeddings":
            self._check_input(body, model)
            return model
        check_types(body)
        if model is not None and model.embeds:
            raise wrong(f"{body['model']} only embeds.", "model")
        self._check_stream(body)
        self.ignored += [name for name in IGNORED if body.get(name) is not None]
        if path == "/v1/completions":
            if not isinstance(body.get("prompt"), str):
                raise wrong("'prompt' must be a string.", "prompt", "invalid_type")
            return model
        check_tools(body)
        self._check_chat(body)
        self._check_messages(body.get("messages"), model or Model(images=True))
        return model

    def _check_input(self, body: Json, model: Model | None) -> None:
        if model is not None and not model.embeds:
            raise wrong(f"{body['model']} does not embed.", "model")
        given = body.get("input")
        texts = given if isinstance(given, list) else [given]
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise wrong("'input' must be a string or a list of strings.", "input", "invalid_type")
        if body.get("encoding_format") not in (None, "float", "base64"):
            raise wrong("'encoding_format' must be float or base64.", "encoding_format")

    def _check_stream(self, body: Json) -> None:
        options = body.get("stream_options")
        if not body.get("stream"):
            if options is not None:
                self.complain("stream_options without stream")
                raise wrong("'stream_options' is only allowed when 'stream' is true.", "stream_options")
        elif not (options or {}).get("include_usage"):
            self.complain("A stream whose usage was not asked for cannot be charged.")

    def _check_chat(self, body: Json) -> None:
        wanted = body.get("response_format")
        if wanted is not None:
            if wanted.get("type") == "text":
                self.complain("The response_format 'text' is not known here; it must be left out.")
            schema = wanted.get("json_schema")
            complete = isinstance(schema, dict) and isinstance(schema.get("schema"), dict) and schema.get("name")
            if wanted.get("type") != "json_object" and not (wanted.get("type") == "json_schema" and complete):
                raise wrong("'response_format' must be json_object or json_schema.", "response_format")
        effort = body.get("reasoning_effort")
        if effort is not None and effort not in ("low", "medium", "high"):
            self.complain(f"The reasoning_effort {effort!r} is not known here; it must be brought to the nearest.")
            raise wrong("'reasoning_effort' must be low, medium or high.", "reasoning_effort")

    def _check_messages(self, messages: object, model: Model) -> None:
        if not isinstance(messages, list) or not messages:
            raise wrong("'messages' must be a list that is not empty.", "messages", "invalid_type")
        for number, message in enumerate(messages):
            where = f"messages[{number}]"
            if not isinstance(message, dict):
                raise wrong(f"'{where}' must be an object.", where, "invalid_type")
            role, content = message.get("role"), message.get("content")
            if role == "developer":
                self.complain("The role 'developer' is not known here; it is 'system'.")
            if role not in ROLES:
                raise wrong(f"Invalid role: {role!r}.", f"{where}.role")
            unknown = set(message) - MESSAGE_KEYS
            if unknown and role != "tool":  # whose extra keys are tolerated
                raise wrong(f"Unknown keys in '{where}': {', '.join(sorted(unknown))}.", where, "unknown_parameter")
            self._check_calls(where, message)
            if isinstance(content, list):
                self._check_parts(where, content, model)
            elif not isinstance(content, str) and not (content is None and message.get("tool_calls")):
                raise wrong(f"'{where}.content' must be a string or a list.", f"{where}.content", "invalid_type")

    def _check_calls(self, where: str, message: Json) -> None:
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
            raise wrong(f"Invalid '{where}.tool_calls'.", f"{where}.tool_calls", "invalid_type")
        for call in calls:
            function = call.get("function") or {}
            named = isinstance(function.get("name"), str) and isinstance(function.get("arguments"), str)
            if message["role"] != "assistant" or not (call.get("id") and call.get("type") == "function" and named):
                raise wrong(f"Invalid '{where}.tool_calls'.", f"{where}.tool_calls")

    def _check_parts(self, where: str, parts: list[Any], model: Model) -> None:
        kinds = [str(part.get("type")) if isinstance(part, dict) else "" for part in parts]
        if model.text_only:
            if set(kinds) <= {"text"}:
                self.complain("A list of nothing but texts was not made one string for an older model.")
            raise wrong(f"'{where}.content' must be a string.", f"{where}.content", "invalid_type")
        for kind, part in zip(kinds, parts, strict=True):
            if kind not in PARTS:
                raise wrong(f"Unknown part {kind!r} in '{where}.content'.", f"{where}.content")
            if kind == "text" and not isinstance(part.get("text"), str):
                raise wrong(f"A text in '{where}.content' is no string.", f"{where}.content", "invalid_type")
            if kind == "image_url":
                if not model.images:
                    raise wrong("This model does not support images.", f"{where}.content")
                check_picture(f"{where}.content", (part.get("image_url") or {}).get("url"))

    # -- what it says

    def _play(self, exchange: Exchange, scene: Scene) -> None:
        console = exchange.heard.path == "/api/completion"
        body: Json = exchange.body["body"] if console else exchange.body
        path = "/v1/chat/completions" if console else exchange.heard.path
        if self.think_in_content and scene.thinking:
            text = f"<think>\n{scene.thinking}\n</think>\n\n{scene.text}"
            scene = replace(scene, text=text, thinking="")
        if body.get("stream"):
            stream_out(exchange, scene, self._frames(path, body, scene, done=self.console_done or not console))
        elif scene.fails in ("first", "later"):
            whole_out(exchange, scene, error_body(BROKEN, "server_error"))
        else:
            whole_out(exchange, scene, whole_answer(path, body, scene))

    def _frames(self, path: str, body: Json, scene: Scene, *, done: bool) -> list[bytes]:
        chats = path == "/v1/chat/completions"
        head = head_of(body, "chat.completion.chunk" if chats else "text_completion")
        several_choices = range(body.get("n") or 1)
        pieces = (
            deltas_of(scene, self.lean_tool_calls) if chats else [{"text": text} for text in several(scene.pieces())]
        )

        def chunk(index: int, piece: Json, finish: str | None = None) -> Json:
            said = {"delta": piece} if chats else {"text": "", **piece}
            return {**head, "choices": [{"index": index, **said, "logprobs": None, "finish_reason": finish}]}

        if scene.fails:
            pieces = [] if scene.fails == "first" else pieces[: after_first_content(pieces)]
        chunks = [chunk(index, piece) for piece in pieces for index in several_choices]
        frames = [sse(each, crlf=scene.crlf) for each in chunks]
        if scene.fails == "cut":
            return frames
        if scene.fails:
            event = "error" if self.named_errors else ""
            return [*frames, sse(error_body(BROKEN, "server_error"), crlf=scene.crlf, event=event)]
        endings = [chunk(index, {}, finish_of(scene)) for index in several_choices]
        if (body.get("stream_options") or {}).get("include_usage"):
            if self.usage_in_finish:
                endings[-1]["usage"] = usage_of(scene)
            else:
                endings.append({**head, "choices": [], "usage": usage_of(scene)})
        return [*frames, *(sse(each, crlf=scene.crlf) for each in endings), *([sse("[DONE]", crlf=scene.crlf)] * done)]

    # -- the console and its login

    def _home(self, heard: Heard) -> Behaviour:
        return lambda exchange: exchange.whole(200, b"<!doctype html><title>Playground</title>", "text/html")

    def _config(self, heard: Heard) -> Behaviour:
        self._check_browser(heard)
        config = {
            "clientId": CLIENT_ID,
            "issuerBaseUrl": self.origin,
            "redirectURL": f"{self.console_url}/web/auth/callback",
            "environment": "production",
        }
        return lambda exchange: exchange.json(200, config)

    def _check_browser(self, heard: Heard) -> None:
        if not heard.headers.get("user-agent", "").startswith("Mozilla/"):
            self.complain(f"User-Agent: {heard.headers.get('user-agent')}, which is none of a browser's")

    def _check_origin(self, heard: Heard) -> bool:
        given = heard.headers.get("origin")
        if given != self.console_url:
            self.complain(f"Origin: {given}, not {self.console_url}")
        return given == self.console_url

    def _authenticate(self, heard: Heard) -> Behaviour:
        with self._lock:
            self.logins.append(time.monotonic())
        self._check_browser(heard)
        if not self._check_origin(heard):
            raise Denied(403, "access_denied", "Cross-origin authentication is not allowed from here.")
        body = self._json(heard)
        heard.body = body
        fixed = {"client_id": CLIENT_ID, "realm": REALM, "credential_type": CREDENTIAL_TYPE}
        for name in {*body, *fixed, "username", "password"}:
            if name not in fixed and name not in ("username", "password"):
                self.complain(f"co/authenticate: the field {name} is not known.")
            elif not isinstance(body.get(name), str) or body[name] != fixed.get(name, body[name]):
                self.complain(f"co/authenticate: {name} is missing or wrong.")
                raise Denied(400, "invalid_request", f"The {name} is missing or wrong.")
        if self.login_seconds:
            self.stopping.wait(self.login_seconds)
        if self.login_fails == "too_many_attempts":
            raise Denied(429, "too_many_attempts", "Your account has been blocked after multiple logins.")
        if self.login_fails == "blocked":
            raise Denied(403, "access_denied", "user is blocked")
        if self.login_fails or (body["username"], body["password"]) != (self.email, self.password):
            raise Denied(403, self.login_fails or "invalid_user_password", "Wrong email or password.")
        cookies = {"auth0": secrets.token_urlsafe(24), "did": f"s%3A{uuid.uuid4()}.{secrets.token_urlsafe(24)}"}
        answer = {
            "login_ticket": secrets.token_urlsafe(24),
            "co_verifier": secrets.token_urlsafe(24),
            "co_id": secrets.token_urlsafe(9),
        }
        with self._lock:
            self._tickets[answer["login_ticket"]] = cookies
        attributes = "Path=/; Expires=Fri, 31 Dec 2100 23:59:59 GMT; HttpOnly"
        headers = [f"Set-Cookie: {name}={value}; {attributes}" for name, value in cookies.items()]
        return lambda exchange: exchange.json(200, answer, headers)

    def _authorize(self, heard: Heard) -> Behaviour:
        self._check_browser(heard)
        query = self._query(heard)
        fixed = {
            "client_id": CLIENT_ID,
            "response_type": "code",
            "redirect_uri": f"{self.console_url}/web/auth/callback",
            "scope": "openid profile email",
            "realm": REALM,
        }
        for name in {*query, *fixed, "state", "nonce", "login_ticket", "auth0Client"}:
            if name not in fixed and name not in ("state", "nonce", "login_ticket", "auth0Client"):
                self.complain(f"/authorize: the parameter {name} is not known.")
            elif query.get(name) != fixed.get(name, query.get(name)) or not query.get(name):
                self.complain(f"/authorize: {name} is missing or wrong.")
                raise Denied(400, "invalid_request", f"The {name} is missing or wrong.")
        state, nonce = query["state"], query["nonce"]
        for name in ("state", "nonce"):
            self._check_fresh(name, query[name], RANDOM)
        if state == nonce:
            self.complain("/authorize: state and nonce are the same.")
        self._check_client(query["auth0Client"])
        with self._lock:
            cookies = self._tickets.pop(query["login_ticket"], None)  # used up, whatever comes of it
        if self.authorize_fails:
            raise Sent(self._told(self.authorize_fails, "The user may not log in.", state))
        if cookies is None:
            self.complain("/authorize: the login ticket is not known, or was used before.")
            raise Sent(self._told("access_denied", "Unknown or invalid login ticket.", state))
        given = cookies_of(heard)
        if any(given.get(name) != value for name, value in cookies.items()):
            self.complain("/authorize: the cookies of co/authenticate are missing.")
            raise Sent(self._told("login_required", "Login required", state))
        code = secrets.token_urlsafe(24)
        with self._lock:
            self._codes[code] = (state, nonce)
        return redirect(f"{self.console_url}/web/auth/callback?{urlencode({'code': code, 'state': state})}")

    def _told(self, error: str, description: str, state: str) -> str:
        query = urlencode({"error": error, "error_description": description, "state": state})
        return f"{self.console_url}/web/auth/callback?{query}"

    def _check_fresh(self, name: str, value: str, form: re.Pattern[str]) -> None:
        if not form.fullmatch(value):
            self.complain(f"The {name} {value!r} has not the form {form.pattern}")
        with self._lock:
            repeated = value in self._seen
            self._seen.add(value)
        if repeated:
            self.complain(f"The {name} {value!r} was used before.")

    def _check_client(self, value: str) -> None:
        try:
            client = json.loads(base64.b64decode(value, validate=True))
        except ValueError:
            client = None
        if not isinstance(client, dict) or not client.get("name") or not client.get("version"):
            self.complain("/authorize: auth0Client is no base64 of JSON with a name and a version.")

    def _query(self, heard: Heard) -> dict[str, str]:
        pairs = parse_qsl(urlsplit(heard.path).query, keep_blank_values=True)
        if len(dict(pairs)) != len(pairs):
            self.complain(f"A parameter comes twice: {heard.path.partition('?')[0]}")
        return dict(pairs)

    def _callback(self, heard: Heard) -> Behaviour:
        self._check_browser(heard)
        for name, value in NAVIGATION.items():
            if heard.headers.get(name) != value:
                self.complain(f"callback: {name}: {heard.headers.get(name)}, not {value}")
        query = self._query(heard)
        with self._lock:
            state, nonce = self._codes.pop(query.get("code", ""), ("", ""))  # used up, whatever comes of it
        if not state:
            self.complain("callback: the code is not known, or was used before.")
        elif query.get("state") != state:
            self.complain("callback: the state is not the one given to /authorize.")
        elif cookies_of(heard).get("nonce") != nonce:
            self.complain("callback: the cookie nonce is not the one given to /authorize.")
        else:
            return self._leave() if self.second_hop else self._let_in()
        raise Refused(400, "The login could not be completed.", code="invalid_grant")

    def _leave(self) -> Behaviour:
        hop = secrets.token_urlsafe(12)
        with self._lock:
            self._hops.add(hop)
        return redirect(f"/web/auth/done?hop={hop}")

    def _done(self, heard: Heard) -> Behaviour:
        hop = self._query(heard).get("hop", "")
        with self._lock:
            known = hop in self._hops
            self._hops.discard(hop)
        if not known:
            self.complain("A step of the login was taken twice.")
            raise Refused(400, "The login could not be completed.", code="invalid_grant")
        return self._let_in()

    def _let_in(self) -> Behaviour:
        token, seconds = self._token()
        with self._lock:
            self._sessions[token] = None if seconds is None else time.monotonic() + seconds
        age = "" if self.session_seconds is None else f"; Max-Age={int(self.session_seconds)}"
        gone = "nonce=; Path=/; Max-Age=0"
        return redirect(f"{self.console_url}/", f"access_token={token}; Path=/; HttpOnly{age}", gone)

    def _token(self) -> tuple[str, float | None]:
        """The cookie's value, and for how long it is good."""
        if self.opaque_tokens:
            return secrets.token_urlsafe(48), self.session_seconds
        seconds = next(each for each in (self.jwt_seconds, self.session_seconds, WEEK) if each is not None)
        now = int(time.time())
        claims = {"iss": f"{self.origin}/", "aud": CLIENT_ID, "iat": now, "exp": int(now + seconds), "jti": uid()}
        token = ".".join((encoded({"alg": "RS256", "typ": "JWT"}), encoded(claims), secrets.token_urlsafe(64)))
        limits = [each for each in (seconds, self.session_seconds) if each is not None]
        return token, min(limits)

    def _console(self, heard: Heard) -> Behaviour:
        self._check_origin(heard)
        if heard.headers.get("referer") != f"{self.console_url}/":
            self.complain(f"Referer: {heard.headers.get('referer')}, not {self.console_url}/")
        envelope = self._json(heard)
        heard.body = envelope
        body = envelope.get("body")
        if isinstance(body, dict) and isinstance(body.get("model"), str):
            heard.named = body["model"]
        token = cookies_of(heard).get("access_token", "")
        with self._lock:
            ends = self._sessions.get(token, 0.0)
        if ends is not None and ends <= time.monotonic():
            if not token:
                self.complain("The cookie access_token is missing.")
            raise Refused(401, "Unauthorized", code="invalid_authentication")
        if set(envelope) != {"body", "env_type", "fingerprint"} or not isinstance(body, dict):
            self.complain(f"The envelope holds {', '.join(envelope)}.")
            raise Refused(400, "Invalid request.")
        self._check_fingerprint(envelope["fingerprint"])
        self._check_env(envelope["env_type"], body)
        cold = body.get("temperature")
        if isinstance(cold, int | float) and body.get("do_sample") is not (cold > 0):
            self.complain(f"do_sample: {body.get('do_sample')} at temperature {cold}")
        return self._answer_to("/api/completion", body)

    def _check_fingerprint(self, fingerprint: object) -> None:
        form = re.compile(re.escape(self.fingerprint_prefix) + "[0-9a-f]{20,}")
        self._check_fresh("fingerprint", str(fingerprint), form)

    def _check_env(self, env_type: object, body: Json) -> None:
        if env_type not in ("text", "vision", "audio"):
            self.complain(f"env_type: {env_type}")
        contents = [message.get("content") for message in body.get("messages") or [] if isinstance(message, dict)]
        parts = [part for content in contents if isinstance(content, list) for part in content]
        if any(isinstance(part, dict) and part.get("type") == "image_url" for part in parts) and env_type != "vision":
            self.complain(f"A picture came with env_type {env_type}.")


def cookies_of(heard: Heard) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(heard.headers.get("cookie", "")).items()}
    except CookieError:
        return {}


def encoded(part: Json) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def uid() -> str:
    return uuid.uuid4().hex
