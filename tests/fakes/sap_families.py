"""The wire formats of the models SAP AI Core deploys: what each takes, and a scene in its words.

A deployment's `executableId` decides which of them it speaks, and what stands below its address which verb of it.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tests.fakes import anthropic, openai
from tests.fakes.scenes import Scene
from tests.fakes.server import Exchange, Gate, Json, Refusal

if TYPE_CHECKING:
    from tests.fakes.sap_ai_core import FakeSAP

BROKEN = "The model ended unexpectedly."


@dataclass(frozen=True)
class Asked:
    """A request as a deployment sees it."""

    server: FakeSAP
    model: str  # as deployed; for orchestration as the body names it
    executable: str
    verb: str  # what stands below the deployment
    query: dict[str, str]
    headers: dict[str, str]
    body: Json


class Refused(Refusal):
    """The caller's fault, in the words of the layer that found it."""

    def __init__(self, status: int, body: object, headers: Iterable[str] = ()) -> None:
        super().__init__(json.dumps(body))
        self.behave = lambda exchange: exchange.json(status, body, headers)


class Wire:
    """How one family talks about one request."""

    content_type = "text/event-stream"
    fields: set[str] = set()
    ends = b"[DONE]"  # what is said after the last event

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    @property
    def body(self) -> Json:
        return self.asked.body

    @property
    def streams(self) -> bool:
        return False

    def check(self) -> None:
        """Raises a refusal unless the request is a good one."""
        raise NotImplementedError

    def whole(self, scene: Scene) -> Json:
        raise NotImplementedError

    def events(self, scene: Scene) -> Iterator[Json]:
        raise NotImplementedError

    def says(self, event: Json) -> bool:
        """Whether this event carries a piece of the answer."""
        raise NotImplementedError

    def error(self, status: int, message: str) -> Json:
        """The body of a refusal."""
        raise NotImplementedError

    def fault(self) -> Json:
        """The event that says in a stream that something broke."""
        return self.error(500, BROKEN)

    def spelt(self, event: Json, line_end: bytes) -> bytes:
        data = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
        return b"data: " + data + 2 * line_end

    def spelt_fault(self, line_end: bytes) -> bytes:
        return self.spelt(self.fault(), line_end)

    def refused(self, message: str, status: int = 400) -> Refused:
        return Refused(status, self.error(status, message))

    def unknown(self, fields: set[str]) -> list[str]:
        return [name for name in self.body if name not in fields | self.asked.server.also_known]

    def no_query(self) -> None:
        for name in self.asked.query:
            self.asked.server.complain(f"{self.asked.verb} takes no {name}.")


def play(exchange: Exchange, wire: Wire, scene: Scene, gate: Gate | None = None) -> None:
    """The scene, whole or streamed as asked; a gate holds each event (or the whole) back."""
    if wire.streams:
        exchange.head(200, wire.content_type, headers=["Cache-Control: no-cache"])
        lines = wire.content_type == "text/event-stream"
        staged = replace(scene, comments=scene.comments and lines)
        anthropic.stream(exchange, list(stage(wire, scene)), staged, gate)
        return
    exchange.hold(lambda: gate is None or gate.allowed >= 1)
    answer = wire.error(500, BROKEN) if scene.fails in ("first", "later") else wire.whole(scene)
    data = json.dumps(answer, ensure_ascii=False).encode()
    if scene.fails == "cut":
        anthropic.cut_whole(exchange, data)
    else:
        anthropic.send_whole(exchange, 200, data, bytes_at_once=scene.bytes_at_once)


def stage(wire: Wire, scene: Scene) -> Iterator[bytes]:
    line_end = b"\r\n" if scene.crlf else b"\n"
    if scene.fails == "first":
        yield wire.spelt_fault(line_end)
        return
    for event in wire.events(scene):
        yield wire.spelt(event, line_end)
        if scene.fails and wire.says(event):
            if scene.fails == "later":
                yield wire.spelt_fault(line_end)
            return
    if wire.ends:
        yield b"data: " + wire.ends + 2 * line_end


# ------------------------------------------------------------------- chat completions: Azure, Mistral, open source

REASONING = re.compile(r"o\d|gpt-5")
REASONING_SINCE = "2024-12-01-preview"
MODERN_SINCE = "2024-08-01"  # older versions have never heard of the MODERN fields
MODERN = {"stream_options", "max_completion_tokens", "parallel_tool_calls", "prediction", "reasoning_effort"}
DEFAULTS = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0, "logprobs": False}
FILTERED = {
    name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")
}  # fmt: skip
CHAT = {
    "messages", "stream", "stream_options", "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "n",
    "seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "tools", "tool_choice",
    "parallel_tool_calls", "response_format", "user", "reasoning_effort", "prediction", "functions", "function_call",
}  # fmt: skip


def finish_of(scene: Scene) -> str:
    if scene.finish == "stop":
        return "tool_calls" if scene.calls else "stop"
    return {"length": "length", "filter": "content_filter"}[scene.finish]


def usage_of(scene: Scene, **more: int) -> Json:
    return {
        "prompt_tokens": scene.input_tokens,
        "completion_tokens": scene.output_tokens,
        "total_tokens": scene.input_tokens + scene.output_tokens,
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": scene.cached_tokens, **more},
        "completion_tokens_details": {"audio_tokens": 0, "reasoning_tokens": 0},
    }


def message_of(scene: Scene) -> Json:
    message: Json = {"role": "assistant", "content": scene.text or None}
    if scene.calls:
        message["tool_calls"] = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id, name, arguments in scene.calls
        ]
    return message


def call_deltas(scene: Scene) -> Iterator[Json]:
    for index, (id, name, arguments) in enumerate(scene.calls):
        function = {"name": name, "arguments": ""}
        yield {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}
        for part in anthropic.cut_up(arguments, 5):
            yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}


def refused_by_reasoning(model: str, given: Json) -> str | None:
    """What a reasoning model says of these parameters, if it takes offence."""
    if not REASONING.match(model):
        return None
    if given.get("max_tokens") is not None:
        return (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
    for name in [*DEFAULTS, "top_logprobs", "logit_bias"]:
        if given.get(name) is not None and given[name] != DEFAULTS.get(name, ...):
            return f"Unsupported parameter: '{name}' is not supported with this model."
    return None


FUNCTION_NAME = r"[a-zA-Z0-9_-]{1,64}"


def wrong_in_chat(body: Json) -> str | None:
    """What is wrong below the top of a chat completion's body, if anything is."""
    for number, message in enumerate(body["messages"]):
        content = message.get("content")
        for place, part in enumerate(content if isinstance(content, list) else []):
            kind = part["type"]
            said = part.get("image_url", {}).get("url") if kind == "image_url" else part.get(kind)
            if kind != "input_audio" and not isinstance(said, str):
                return f"Invalid type for 'messages[{number}].content[{place}].{kind}'."
        for place, call in enumerate(message.get("tool_calls") or []):
            if not re.fullmatch(FUNCTION_NAME, str(call["function"].get("name", ""))):
                return f"Invalid 'messages[{number}].tool_calls[{place}].function.name'."
    for number, tool in enumerate(body.get("tools") or []):
        function = tool["function"]
        if tool["type"] != "function" or set(tool) != {"type", "function"}:
            return f"Invalid value: 'tools[{number}]'. Supported values are: 'function'."
        if not re.fullmatch(FUNCTION_NAME, str(function.get("name", ""))):
            return f"Invalid 'tools[{number}].function.name': string does not match pattern."
        kinds: dict[str, type] = {"description": str, "parameters": dict, "strict": bool, "name": str}
        for name, value in function.items():
            if name not in kinds or (value is not None and not isinstance(value, kinds[name])):
                return f"Invalid 'tools[{number}].function.{name}'."
    choice = body.get("tool_choice")
    if choice not in (None, "none", "auto", "required"):
        names = [tool["function"]["name"] for tool in body["tools"]]
        if choice["type"] != "function" or choice["function"]["name"] not in names:
            return "Tool choice is not among the tools."
    wanted = body.get("response_format")
    if wanted is not None and wanted["type"] not in ("text", "json_object"):
        schema = wanted["json_schema"]
        if wanted["type"] != "json_schema" or not re.fullmatch(FUNCTION_NAME, schema["name"]):
            return "Invalid 'response_format'."
        if not isinstance(schema.get("schema", {}), dict):
            return "Invalid schema for response_format."
    options = body.get("stream_options") or {}
    if set(options) - {"include_usage"} or not isinstance(options.get("include_usage", True), bool):
        return "Invalid 'stream_options'."
    return None


class Azure(Wire):
    """OpenAI's models as Azure serves them."""

    fields = CHAT

    @property
    def streams(self) -> bool:
        return self.body.get("stream") is True

    @property
    def version(self) -> str:
        return self.asked.query.get("api-version", "")

    def error(self, status: int, message: str) -> Json:
        type = "invalid_request_error" if status < 500 else "server_error"
        code: str | None = None if status == 400 else str(status)
        if status == 400 and "content management policy" in message:
            code = "content_filter"
        if status == 400 and "maximum context length" in message:
            code = "context_length_exceeded"
        return {"error": {"message": message, "type": type, "param": None, "code": code}}

    def check(self) -> None:
        self.check_version()
        old = self.version < MODERN_SINCE
        self.check_known(self.fields - MODERN if old else self.fields)
        if old and (self.body.get("response_format") or {}).get("type") == "json_schema":
            message = (
                "response_format value as json_schema is enabled only for api versions 2024-08-01-preview and later"
            )
            raise self.refused(message)
        if self.body.get("model") not in (None, self.asked.model):
            self.asked.server.complain(f"The deployment of {self.asked.model} was called {self.body['model']}.")
        self.check_chat()
        if REASONING.match(self.asked.model) and self.version < REASONING_SINCE:
            message = f"Model {self.asked.model} is enabled only for api versions {REASONING_SINCE} and later"
            raise self.refused(message)
        if offence := refused_by_reasoning(self.asked.model, self.body):
            raise self.refused(offence)

    def check_version(self) -> None:
        for name in self.asked.query:
            if name != "api-version":
                self.asked.server.complain(f"{self.asked.verb} takes no {name}.")
        if not re.fullmatch(r"\d{4}-\d\d-\d\d(-preview)?", self.version):
            self.asked.server.complain(f"{self.asked.verb} needs an api-version, not {self.version!r}.")
            raise Refused(404, {"error": {"code": "404", "message": "Resource not found"}})

    def check_known(self, fields: set[str]) -> None:
        """The deployment fixes the model; naming it in the body as well is idle, but no mistake."""
        if unknown := self.unknown(fields | {"model"}):
            plural = "s" * (len(unknown) > 1)
            raise self.refused(f"Unrecognized request argument{plural} supplied: {', '.join(unknown)}")

    def check_chat(self) -> None:
        known = {**self.body, "model": self.asked.model}
        openai.check_fields("/v1/chat/completions", known, self.fields | self.asked.server.also_known)
        if "messages" not in self.body:
            raise openai.missing("messages")
        openai.check_messages(self.body["messages"])
        if self.streams and self.asked.model in self.asked.server.unstreamable:
            raise self.refused("Unsupported value: 'stream' does not support true with this model.")
        if self.body.get("max_tokens") is not None and self.body.get("max_completion_tokens") is not None:
            message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
            raise self.refused(message)
        if self.body.get("tools") == []:
            raise self.refused("[] is too short - 'tools'")
        for name in ("tool_choice", "parallel_tool_calls"):
            if self.body.get(name) is not None and not self.body.get("tools"):
                raise self.refused(f"'{name}' is only allowed when 'tools' are specified.")
        if wrong := wrong_in_chat(self.body):
            raise self.refused(wrong)

    def head(self, object: str) -> Json:
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex[:29]}",
            "object": object,
            "created": int(time.time()),
            "model": f"{self.asked.model}-2024-11-20",
            "system_fingerprint": "fp_fake",
        }

    def filtered(self, scene: Scene) -> Json:
        hate = {"filtered": True, "severity": "high"}
        return {**FILTERED, "hate": hate} if scene.finish == "filter" else FILTERED

    def whole(self, scene: Scene) -> Json:
        choice = {
            "content_filter_results": self.filtered(scene),
            "finish_reason": finish_of(scene),
            "index": 0,
            "logprobs": None,
            "message": {**message_of(scene), "refusal": None, "annotations": []},
        }
        prompt = [{"prompt_index": 0, "content_filter_results": FILTERED}]
        return {
            "choices": [choice],
            **self.head("chat.completion"),
            "prompt_filter_results": prompt,
            "usage": usage_of(scene),
        }

    def events(self, scene: Scene) -> Iterator[Json]:
        asked = bool((self.body.get("stream_options") or {}).get("include_usage"))
        prompt = [{"prompt_index": 0, "content_filter_results": FILTERED}]
        yield {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": prompt}
        head, counted = self.head("chat.completion.chunk"), {"usage": None} if asked else {}

        def chunk(delta: Json, finish: str | None = None, filtered: Json | None = None) -> Json:
            choice = {
                "content_filter_results": filtered or {},
                "delta": delta,
                "finish_reason": finish,
                "index": 0,
                "logprobs": None,
            }
            return {"choices": [choice], **head, **counted}

        yield chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in scene.pieces():
            yield chunk({"content": piece}, filtered=FILTERED)
        for delta in call_deltas(scene):
            yield chunk(delta)
        yield chunk({}, finish_of(scene), self.filtered(scene))
        if asked:
            yield {"choices": [], **head, "usage": usage_of(scene)}

    def says(self, event: Json) -> bool:
        return any(each["delta"].get("content") or each["delta"].get("tool_calls") for each in event["choices"])


class Mistral(Azure):
    """Chat completions as everybody else serves them: no version, and the body names the model."""

    fields = (CHAT - {"functions", "function_call", "prediction", "reasoning_effort"}) | {"model"}

    def check(self) -> None:
        self.no_query()
        if unknown := self.unknown(self.fields):
            raise self.refused(f"{unknown[0]}: Extra inputs are not permitted")
        if "model" not in self.body:
            self.asked.server.complain(f"{self.asked.model} was not named in the body.")
            raise self.refused("model: Field required")
        if self.body["model"] != self.asked.model:
            self.asked.server.complain(f"The deployment of {self.asked.model} was called {self.body['model']}.")
            raise self.refused(f"The model `{self.body['model']}` does not exist.", 404)
        self.check_chat()

    def whole(self, scene: Scene) -> Json:
        choice = {"index": 0, "message": message_of(scene), "finish_reason": finish_of(scene)}
        return {**self.head("chat.completion"), "choices": [choice], "usage": usage_of(scene)}

    def events(self, scene: Scene) -> Iterator[Json]:
        head = self.head("chat.completion.chunk")

        def chunk(delta: Json, finish: str | None = None) -> Json:
            return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

        yield chunk({"role": "assistant", "content": ""})
        for piece in scene.pieces():
            yield chunk({"content": piece})
        calls = [{"index": index, **call} for index, call in enumerate(message_of(scene).get("tool_calls", []))]
        if calls:
            yield chunk({"tool_calls": calls})
        yield chunk({}, finish_of(scene))
        if (self.body.get("stream_options") or {}).get("include_usage"):
            yield {**head, "choices": [], "usage": usage_of(scene)}


class AzureEmbeddings(Azure):
    fields = {"input", "dimensions", "encoding_format", "user", "input_type"}

    @property
    def streams(self) -> bool:
        return False

    def check(self) -> None:
        self.check_version()
        self.check_known(self.fields)
        if "input" not in self.body:
            raise openai.missing("input")
        openai.check_input(self.body["input"])
        given = self.body["input"]
        if isinstance(given, list) and not any(listed(given, kind) for kind in (str, int, list)):
            raise self.refused("'$.input' is invalid.")
        dimensions = self.body.get("dimensions", 8)
        if not isinstance(dimensions, int) or isinstance(dimensions, bool) or dimensions < 1:
            raise openai.wrong_type("dimensions", "an integer", dimensions)
        if self.body.get("encoding_format", "float") not in ("float", "base64"):
            raise self.refused("Invalid value for 'encoding_format'.")

    def whole(self, scene: Scene) -> Json:
        answer = openai.embeddings_whole({**self.body, "model": self.asked.model})
        return {**answer, "usage": {"prompt_tokens": scene.input_tokens, "total_tokens": scene.input_tokens}}


# ------------------------------------------------------------------------------- Bedrock: invoke


class Bedrock(Wire):
    ends = b""

    def error(self, status: int, message: str) -> Json:
        said = {"message": message}
        return {"error": said} if self.asked.server.bedrock_wraps else said


class Invoke(Bedrock):
    """Claude, in Anthropic's own words."""

    fields = {
        "anthropic_version", "anthropic_beta", "max_tokens", "system", "messages", "temperature", "top_p", "top_k",
        "stop_sequences", "tools", "tool_choice", "thinking",
    }  # fmt: skip
    VERSION = "bedrock-2023-05-31"

    @property
    def streams(self) -> bool:
        return self.asked.verb == "invoke-with-response-stream"

    @property
    def binary(self) -> bool:
        accept = self.asked.headers.get("accept", "*/*")
        return self.asked.server.binary_stream or "application/vnd.amazon.eventstream" in accept

    @property
    def content_type(self) -> str:  # type: ignore[override]
        return "application/vnd.amazon.eventstream" if self.binary else "text/event-stream"

    def check(self) -> None:
        self.no_query()
        if self.streams and not self.binary:
            accept = self.asked.headers.get("accept", "*/*")
            if not any(each in accept for each in ("text/event-stream", "text/*", "*/*")):
                self.asked.server.complain(f"Accept: {accept} allows neither framing of a stream.")
                raise self.refused("Not Acceptable", 406)
        for name in ("model", "stream"):
            if name in self.body:
                self.asked.server.complain(f"{name} in a body for {self.asked.verb}")
        try:
            known = self.fields | self.asked.server.also_known
            anthropic.check_messages_body(self.body, known=known, needs_model=False)
        except anthropic.BadRequest as wrong:
            raise self.refused(wrong.message) from wrong
        if "anthropic_version" not in self.body:
            self.asked.server.complain("anthropic_version is missing.")
            raise self.refused("anthropic_version: Field required")
        if self.body["anthropic_version"] != self.VERSION:
            self.asked.server.complain(f"anthropic_version: {self.body['anthropic_version']}")
            raise self.refused(f"anthropic_version: Input should be '{self.VERSION}'")
        if not listed(self.body.get("anthropic_beta", []), str):
            raise self.refused("anthropic_beta: Input should be a valid list")
        for number, tool in enumerate(self.body.get("tools", [])):
            if tool.get("type", "custom") != "custom":
                raise self.refused(
                    f"tools.{number}: Input tag '{tool['type']}' found using 'type' does not match any of the "
                    "expected tags: 'custom'"
                )

    def named(self) -> str:
        return self.asked.model.rpartition("--")[2]

    def whole(self, scene: Scene) -> Json:
        return anthropic.message_whole(self.named(), scene)

    def events(self, scene: Scene) -> Iterator[Json]:
        for _, event in anthropic.message_events(self.named(), scene):
            if event["type"] == "message_stop":
                event["amazon-bedrock-invocationMetrics"] = {
                    "inputTokenCount": scene.input_tokens - scene.cached_tokens - scene.cache_write_tokens,
                    "outputTokenCount": scene.output_tokens,
                    "invocationLatency": 515,
                    "firstByteLatency": 211,
                    "cacheReadInputTokenCount": scene.cached_tokens,
                    "cacheWriteInputTokenCount": scene.cache_write_tokens,
                }
            yield event

    def says(self, event: Json) -> bool:
        return event["type"] == "content_block_delta" and event["delta"].get("partial_json", ...) != ""

    def fault(self) -> Json:
        return {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}

    def spelt(self, event: Json, line_end: bytes) -> bytes:
        if not self.binary:
            return super().spelt(event, line_end)
        data = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
        payload = {"bytes": base64.b64encode(data).decode(), "p": "abcdefghijklmn"[: len(data) % 15]}
        headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
        return framed(headers, payload)

    def spelt_fault(self, line_end: bytes) -> bytes:
        if not self.binary:
            return super().spelt_fault(line_end)
        headers = {
            ":exception-type": "modelStreamErrorException",
            ":content-type": "application/json",
            ":message-type": "exception",
        }
        return framed(headers, {"message": BROKEN, "originalStatusCode": 500})


def framed(headers: dict[str, str], payload: Json) -> bytes:
    """One message of `application/vnd.amazon.eventstream`."""
    data = json.dumps(payload, separators=(",", ":")).encode()
    head = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(head) + len(data), len(head))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + head + data
    return message + struct.pack("!I", zlib.crc32(message))


class Titan(Bedrock):
    """Amazon's embeddings: one text at a time."""

    fields = {"inputText"}

    def check(self) -> None:
        self.no_query()
        again = "please reformat your input and try again."
        for name in self.unknown(self.fields):
            raise self.refused(f"Malformed input request: #: extraneous key [{name}] is not permitted, {again}")
        if "inputText" not in self.body:
            raise self.refused(f"Malformed input request: #: required key [inputText] not found, {again}")
        text = self.body["inputText"]
        if not isinstance(text, str):
            kind = {list: "JSONArray", dict: "JSONObject"}.get(type(text), type(text).__name__)
            raise self.refused(f"Malformed input request: #/inputText: expected type: String, found: {kind}, {again}")
        if not text:
            raise self.refused(f"Malformed input request: #/inputText: expected minLength: 1, actual: 0, {again}")

    def whole(self, scene: Scene) -> Json:
        return {
            "embedding": openai.vector(json.dumps(self.body["inputText"]), 8),
            "inputTextTokenCount": scene.input_tokens,
        }


# ----------------------------------------------------------------------------- Bedrock: converse


def listed(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(each, kind) for each in value)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Converse(Bedrock):
    """Any chat model of Bedrock. Streamed, each line is a Python literal, not JSON."""

    fields = {"system", "messages", "inferenceConfig", "toolConfig", "additionalModelRequestFields"}
    BLOCKS: dict[str, dict[str, tuple[type, ...]]] = {  # "?" behind what may be missing
        "text": {},
        "image": {"format": (str,), "source": (dict,)},
        "document": {"format": (str,), "name": (str,), "source": (dict,)},
        "toolUse": {"toolUseId": (str,), "name": (str,), "input": (dict,)},
        "toolResult": {"toolUseId": (str,), "content": (list,), "status?": (str,)},
        "reasoningContent": {"reasoningText?": (dict,), "redactedContent?": (str,)},
        "cachePoint": {"type": (str,)},
    }
    SAID_BY = {
        "user": ("text", "image", "document", "toolResult", "cachePoint"),
        "assistant": ("text", "toolUse", "reasoningContent", "cachePoint"),
    }

    @property
    def streams(self) -> bool:
        return self.asked.verb == "converse-stream"

    def check(self) -> None:
        self.no_query()
        for name in ("model", "modelId", "stream"):
            if name in self.body:
                self.asked.server.complain(f"{name} in a body for {self.asked.verb}")
        self.only("input", self.body, {"messages"}, self.fields | self.asked.server.also_known)
        for number, block in enumerate(self.array("system", self.body.get("system", []))):
            self.check_block(f"system.{number}", block, ("text", "cachePoint"))
        self.check_inference(self.body.get("inferenceConfig", {}))
        if not isinstance(self.body.get("additionalModelRequestFields", {}), dict):
            raise self.refused("additionalModelRequestFields: expected an object")
        names = self.check_tools(self.body["toolConfig"]) if "toolConfig" in self.body else None
        self.check_turns(names)

    def only(self, where: str, given: object, required: set[str], allowed: set[str]) -> Json:
        if not isinstance(given, dict):
            raise self.refused(f"Parameter validation failed: Invalid type for parameter {where}, valid types: dict")
        for name in given:
            if name not in allowed:
                may = ", ".join(sorted(allowed))
                raise self.refused(
                    f'Parameter validation failed: Unknown parameter in {where}: "{name}", must be one of: {may}'
                )
        for name in sorted(required - set(given)):
            raise self.refused(f'Parameter validation failed: Missing required parameter in {where}: "{name}"')
        return given

    def array(self, where: str, given: object) -> list[Any]:
        if not isinstance(given, list):
            raise self.refused(f"Parameter validation failed: Invalid type for parameter {where}, valid types: list")
        return given

    def check_inference(self, given: object) -> None:
        checked = self.only("inferenceConfig", given, set(), {"maxTokens", "temperature", "topP", "stopSequences"})
        tokens = checked.get("maxTokens", 1)
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
            raise self.refused(f"Value {tokens!r} at 'inferenceConfig.maxTokens' failed to satisfy constraint: >= 1")
        for name in ("temperature", "topP"):
            value = checked.get(name, 0)
            if not is_number(value) or not 0 <= value <= 1:
                message = f"Value {value!r} at 'inferenceConfig.{name}' failed to satisfy constraint: from 0 to 1"
                raise self.refused(message)
        stops = checked.get("stopSequences", ["x"])
        if not listed(stops, str) or not all(stops):
            raise self.refused("Value at 'inferenceConfig.stopSequences' failed to satisfy constraint")

    def check_tools(self, given: object) -> list[str]:
        config = self.only("toolConfig", given, {"tools"}, {"tools", "toolChoice"})
        names = []
        if not self.array("toolConfig.tools", config["tools"]):
            raise self.refused("Parameter validation failed: Invalid length for parameter toolConfig.tools: 0, min: 1")
        for number, tool in enumerate(config["tools"]):
            where = f"toolConfig.tools[{number}]"
            if self.one(where, tool, ("toolSpec", "cachePoint")) == "cachePoint":
                continue
            allowed = {"name", "description", "inputSchema", "strict"}
            spec = self.only(f"{where}.toolSpec", tool["toolSpec"], {"name", "inputSchema"}, allowed)
            if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", str(spec["name"])):
                raise self.refused(f"Value '{spec['name']}' at '{where}.toolSpec.name' failed to satisfy constraint")
            if not isinstance(spec.get("description", ""), str):
                raise self.refused(f"Invalid type for parameter {where}.toolSpec.description, valid types: str")
            if "description" in spec and not spec["description"]:
                raise self.refused(f"Invalid length for parameter {where}.toolSpec.description: 0, min: 1")
            schema = self.only(f"{where}.toolSpec.inputSchema", spec["inputSchema"], {"json"}, {"json"})["json"]
            if not isinstance(schema, dict) or schema.get("type") != "object":
                raise self.refused(f"The value at {where}.toolSpec.inputSchema.json.type must be one of: object.")
            names.append(spec["name"])
        if "toolChoice" in config:
            kind = self.one("toolConfig.toolChoice", config["toolChoice"], ("auto", "any", "tool"))
            wanted = {"name"} if kind == "tool" else set()
            chosen = self.only(f"toolConfig.toolChoice.{kind}", config["toolChoice"][kind], wanted, wanted)
            if kind == "tool" and chosen["name"] not in names:
                raise self.refused(f"The tool {chosen['name']} in toolChoice is not among the tools.")
        return names

    def one(self, where: str, given: object, allowed: Iterable[str]) -> str:
        """The only member of a union."""
        if not isinstance(given, dict) or len(given) != 1 or next(iter(given)) not in allowed:
            said = list(given) if isinstance(given, dict) else given
            raise self.refused(f"Invalid number of members set or unknown member for {where}: {said}")
        return str(next(iter(given)))

    def check_block(self, where: str, block: object, allowed: Iterable[str]) -> str:
        kind = self.one(where, block, allowed)
        inner = block[kind]  # type: ignore[index]
        if kind == "text":
            if not isinstance(inner, str) or not inner.strip():
                raise self.refused(
                    f"The text field in the ContentBlock object at {where} is blank. "
                    "Add text to the text field, and try again."
                )
            return kind
        names = {name.rstrip("?"): types for name, types in self.BLOCKS[kind].items()}
        required = {name for name in self.BLOCKS[kind] if not name.endswith("?")}
        self.only(f"{where}.{kind}", inner, required, set(names))
        for name, value in inner.items():
            if not isinstance(value, names[name]):
                raise self.refused(f"Invalid type for parameter {where}.{kind}.{name}: {type(value).__name__}")
        if kind in ("image", "document"):
            self.check_bytes(f"{where}.{kind}", inner)
        if kind == "toolResult":
            for number, part in enumerate(inner["content"]):
                self.check_result(f"{where}.toolResult.content.{number}", part)
            if inner.get("status", "success") not in ("success", "error"):
                raise self.refused(f"{where}.toolResult.status must be one of: success, error")
        if kind == "reasoningContent" and "reasoningText" in inner:
            thought = self.only(f"{where}.reasoningText", inner["reasoningText"], {"text"}, {"text", "signature"})
            if not listed(list(thought.values()), str):
                raise self.refused(f"Invalid type for parameter {where}.reasoningText, valid types: str")
        if kind == "cachePoint" and inner["type"] != "default":
            raise self.refused(f"{where}.cachePoint.type must be one of: default")
        return kind

    def check_result(self, where: str, part: object) -> None:
        if self.one(where, part, ("text", "json", "image", "document")) != "json":
            self.check_block(where, part, ("text", "image", "document"))

    def check_bytes(self, where: str, inner: Json) -> None:
        formats = ("png", "jpeg", "gif", "webp") if where.endswith("image") else ("pdf", "csv", "txt", "md", "html")
        if inner["format"] not in formats:
            raise self.refused(f"{where}.format must be one of: {', '.join(formats)}")
        data = self.only(f"{where}.source", inner["source"], {"bytes"}, {"bytes"})["bytes"]
        try:
            base64.b64decode(data, validate=True)
        except (TypeError, ValueError):
            raise self.refused(f"{where}.source.bytes is no base64.") from None

    def check_turns(self, tools: list[str] | None) -> None:
        messages = self.array("messages", self.body["messages"])
        if not messages:
            raise self.refused("The messages list must not be empty.")
        due: list[str] = []
        for number, message in enumerate(messages):
            where = f"messages.{number}"
            self.only(where, message, {"role", "content"}, {"role", "content"})
            if message["role"] not in self.SAID_BY:
                raise self.refused(f"Value '{message['role']}' at '{where}.role' must be one of: user, assistant")
            if number == 0 and message["role"] != "user":
                raise self.refused("A conversation must start with a user message. Try again with a user message.")
            if number and message["role"] == messages[number - 1]["role"]:
                raise self.refused(
                    "A conversation must alternate between user and assistant roles. Make sure the conversation "
                    "alternates between user and assistant roles and try again."
                )
            if not self.array(f"{where}.content", message["content"]):
                raise self.refused(f"The content field in the Message object at {where} is empty.")
            kinds = [
                self.check_block(f"{where}.content.{place}", block, self.SAID_BY[message["role"]])
                for place, block in enumerate(message["content"])
            ]
            if tools is None and {"toolUse", "toolResult"} & set(kinds):
                raise self.refused(
                    "The toolConfig field must be defined when using toolUse and toolResult content blocks."
                )
            given = [block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block]
            if missing := [id for id in due if id not in given]:
                raise self.refused(
                    f"Expected toolResult blocks at {where}.content for the following Ids: {', '.join(missing)}"
                )
            if surplus := [id for id in given if id not in due or given.count(id) > 1]:
                raise self.refused(
                    f"The toolResult blocks at {where}.content for {', '.join(surplus)} have no toolUse before them."
                )
            due = [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]
        if due:
            after = len(messages)
            raise self.refused(
                f"Expected toolResult blocks at messages.{after}.content for the following Ids: {', '.join(due)}"
            )

    def stop(self, scene: Scene) -> str:
        if scene.finish == "stop":
            return "tool_use" if scene.calls else "end_turn"
        return {"length": "max_tokens", "filter": "content_filtered"}[scene.finish]

    def usage(self, scene: Scene) -> Json:
        """What was read from a cache, or written to it, is counted beside `inputTokens`."""
        counted = {
            "inputTokens": scene.input_tokens - scene.cached_tokens - scene.cache_write_tokens,
            "outputTokens": scene.output_tokens,
            "totalTokens": scene.input_tokens + scene.output_tokens,
        }
        if scene.cached_tokens or scene.cache_write_tokens:
            counted["cacheReadInputTokens"] = scene.cached_tokens
            counted["cacheWriteInputTokens"] = scene.cache_write_tokens
        return counted

    def whole(self, scene: Scene) -> Json:
        content: list[Json] = []
        if scene.thinking:
            thought = {"text": scene.thinking, **({"signature": scene.signature} if scene.signature else {})}
            content.append({"reasoningContent": {"reasoningText": thought}})
        if scene.text:
            content.append({"text": scene.text})
        for id, name, arguments in scene.calls:
            content.append({"toolUse": {"toolUseId": id, "name": name, "input": json.loads(arguments)}})
        return {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": self.stop(scene),
            "usage": self.usage(scene),
            "metrics": {"latencyMs": 515},
        }

    def events(self, scene: Scene) -> Iterator[Json]:
        index = 0

        def delta(inner: Json) -> Json:
            return {"contentBlockDelta": {"delta": inner, "contentBlockIndex": index}}

        yield {"messageStart": {"role": "assistant"}}
        if scene.thinking:
            for piece in anthropic.cut_up(scene.thinking, 11):
                yield delta({"reasoningContent": {"text": piece}})
            if scene.signature:
                yield delta({"reasoningContent": {"signature": scene.signature}})
            yield {"contentBlockStop": {"contentBlockIndex": index}}
            index += 1
        if scene.text:
            for piece in scene.pieces():
                yield delta({"text": piece})
            yield {"contentBlockStop": {"contentBlockIndex": index}}
            index += 1
        for id, name, arguments in scene.calls:
            start = {"toolUse": {"toolUseId": id, "name": name}}
            yield {"contentBlockStart": {"start": start, "contentBlockIndex": index}}
            for part in ["", *anthropic.cut_up(arguments, 5)]:
                yield delta({"toolUse": {"input": part}})
            yield {"contentBlockStop": {"contentBlockIndex": index}}
            index += 1
        yield {"messageStop": {"stopReason": self.stop(scene)}}
        yield {"metadata": {"usage": self.usage(scene), "metrics": {"latencyMs": 515}}}

    def says(self, event: Json) -> bool:
        delta = event.get("contentBlockDelta", {}).get("delta")
        return bool(delta) and delta != {"toolUse": {"input": ""}}

    def fault(self) -> Json:
        return {"modelStreamErrorException": {"message": BROKEN, "originalStatusCode": 500}}

    def spelt(self, event: Json, line_end: bytes) -> bytes:
        return b"data: " + repr(event).encode() + 2 * line_end


# ------------------------------------------------------------------------------------- Vertex: Gemini

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Gemini(Wire):
    fields = {"contents", "systemInstruction", "generationConfig", "tools", "toolConfig", "safetySettings"}
    GENERATION = {
        "maxOutputTokens", "temperature", "topP", "topK", "stopSequences", "candidateCount", "seed",
        "responseMimeType", "responseSchema",
    }  # fmt: skip
    PARTS: dict[str, set[str]] = {
        "text": set(),
        "inlineData": {"mimeType", "data"},
        "functionCall": {"name", "args"},
        "functionResponse": {"name", "response"},
    }
    SAID_BY = {"user": ("text", "inlineData", "functionResponse"), "model": ("text", "inlineData", "functionCall")}
    ends = b""
    THOUGHT = 2  # tokens of the answer that were thoughts, where there were any

    @property
    def streams(self) -> bool:
        return self.asked.verb.endswith(":streamGenerateContent")

    def error(self, status: int, message: str) -> Json:
        return {"error": {"code": status, "message": message, "status": STATUSES.get(status, "UNKNOWN")}}

    def check(self) -> None:
        model = self.asked.verb.removeprefix("models/").partition(":")[0]
        if model != self.asked.model:
            self.asked.server.complain(f"The deployment of {self.asked.model} was called {model}.")
            raise self.refused(f"Publisher Model `publishers/google/models/{model}` was not found.", 404)
        wanted = {"alt": "sse"} if self.streams else {}
        if self.asked.query != wanted:
            self.asked.server.complain(f"{self.asked.verb} was asked with the query {self.asked.query}.")
        for name in ("model", "stream"):
            if name in self.body:
                self.asked.server.complain(f"{name} in a body for {self.asked.verb}")
        self.only("", self.body, self.fields | self.asked.server.also_known)
        if "systemInstruction" in self.body:
            system = self.only("system_instruction", self.body["systemInstruction"], {"parts", "role"})
            for number, part in enumerate(self.array("system_instruction.parts", system.get("parts"))):
                self.check_part(f"system_instruction.parts[{number}]", part, ("text",))
        self.check_generation(self.body.get("generationConfig", {}))
        self.check_tools()
        for number, setting in enumerate(self.array("safety_settings", self.body.get("safetySettings", []))):
            named = self.only(f"safety_settings[{number}]", setting, {"category", "threshold"})
            if len(named) < 2 or not listed(list(named.values()), str):
                raise self.refused(f"Invalid value at 'safety_settings[{number}]'")
        self.check_contents()

    def only(self, where: str, given: object, allowed: set[str]) -> Json:
        if not isinstance(given, dict):
            raise self.refused(f"Invalid value at '{where}': expected an object")
        at = f" at '{where}'" if where else ""
        for name in given:
            if name not in allowed:
                raise self.refused(f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.')
        return given

    def array(self, where: str, given: object) -> list[Any]:
        if not isinstance(given, list):
            raise self.refused(f"Invalid value at '{where}': expected an array")
        return given

    def check_generation(self, given: object) -> None:
        known = self.GENERATION | ({"thinkingConfig"} if self.asked.server.gemini_thinking else set())
        config = self.only("generation_config", given, known | self.asked.server.also_known)
        if "thinkingConfig" in config:
            allowed = {"thinkingBudget", "includeThoughts", "thinkingLevel"}
            self.only("generation_config.thinking_config", config["thinkingConfig"], allowed)
        for name in ("maxOutputTokens", "candidateCount", "seed"):
            value = config.get(name, 1)
            if not isinstance(value, int) or isinstance(value, bool):
                raise self.refused(f"Invalid value at 'generation_config.{name}' (TYPE_INT32), {json.dumps(value)}")
        if config.get("maxOutputTokens", 1) < 1:
            raise self.refused("max_output_tokens must be positive.")
        for name in ("temperature", "topP", "topK"):
            if not is_number(config.get(name, 1)):
                raise self.refused(f"Invalid value at 'generation_config.{name}' (TYPE_FLOAT)")
        if not listed(config.get("stopSequences", []), str):
            raise self.refused("Invalid value at 'generation_config.stop_sequences'")
        if len(config.get("stopSequences", [])) > 5:
            raise self.refused("The number of stop sequences must be at most 5.")
        if "responseSchema" in config:
            self.check_schema("generation_config.response_schema", config["responseSchema"])
            if config.get("responseMimeType") != "application/json":
                raise self.refused(
                    "Function calling config or response schema is set without response mime type application/json."
                )

    def check_schema(self, where: str, schema: object) -> None:
        if not isinstance(schema, dict):
            raise self.refused(f"Invalid value at '{where}': expected an object")
        if not isinstance(schema.get("type", ""), str):
            raise self.refused(f"Invalid value at '{where}.type' (TYPE_ENUM), {json.dumps(schema['type'])}")
        if "$schema" in schema:
            raise self.refused(
                f"Invalid JSON payload received. Unknown name \"$schema\" at '{where}': Cannot find field."
            )

    def check_tools(self) -> None:
        names = []
        tools = self.array("tools", self.body.get("tools", []))
        if len(tools) > 1:
            raise self.refused("Multiple tools are supported only when they are all search tools.")
        for number, tool in enumerate(tools):
            where = f"tools[{number}]"
            declared = self.only(where, tool, {"functionDeclarations"}).get("functionDeclarations")
            for place, function in enumerate(self.array(f"{where}.function_declarations", declared)):
                inner = f"{where}.function_declarations[{place}]"
                self.only(inner, function, {"name", "description", "parameters"})
                if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}", str(function.get("name", ""))):
                    raise self.refused(f"Invalid function name at {inner}.")
                if "parameters" in function:
                    self.check_schema(f"{inner}.parameters", function["parameters"])
                names.append(function["name"])
        if "toolConfig" not in self.body:
            return
        outer = self.only("tool_config", self.body["toolConfig"], {"functionCallingConfig"})
        where = "tool_config.function_calling_config"
        config = self.only(where, outer.get("functionCallingConfig"), {"mode", "allowedFunctionNames"})
        if config.get("mode") not in ("AUTO", "ANY", "NONE"):
            raise self.refused(f"Invalid value at '{where}.mode', {json.dumps(config.get('mode'))}")
        if "allowedFunctionNames" in config and config["mode"] != "ANY":
            raise self.refused("Allowed function names can be set only when the function calling mode is ANY.")
        if not names:
            raise self.refused("Function calling config is set without function_declarations.")
        for name in self.array(f"{where}.allowed_function_names", config.get("allowedFunctionNames", [])):
            if name not in names:
                raise self.refused(f"Allowed function name {name} is not among the declared functions.")

    def check_part(self, where: str, part: object, allowed: Iterable[str]) -> str:
        given = self.only(where, part, {*self.PARTS, "thought", "thoughtSignature"})
        kinds = [name for name in given if name in self.PARTS]
        if len(kinds) != 1:
            raise self.refused("Unable to submit request because it must have one data field in each part.")
        kind = kinds[0]
        if kind not in allowed:
            raise self.refused(f"Please ensure that {where} is of a kind its role may say, not {kind}.")
        if kind == "text":
            if not isinstance(given["text"], str):
                raise self.refused(f"Invalid value at '{where}.text' (TYPE_STRING)")
            if not given["text"]:
                raise self.refused("Unable to submit request because it has an empty text parameter.")
            return kind
        inner = self.only(f"{where}.{kind}", given[kind], self.PARTS[kind])
        for name in sorted(self.PARTS[kind] - {"args"}):
            if name not in inner:
                raise self.refused(f"Invalid value at '{where}.{kind}': {name} is required.")
        for name in ("args", "response"):
            if not isinstance(inner.get(name, {}), dict):
                raise self.refused(f"Invalid value at '{where}.{kind}.{name}': expected an object")
        if kind == "inlineData":
            if not re.fullmatch(r"\w+/[\w.+-]+", str(inner["mimeType"])):
                raise self.refused(f"Invalid value at '{where}.inline_data.mime_type': {json.dumps(inner['mimeType'])}")
            try:
                base64.b64decode(inner["data"], validate=True)
            except (TypeError, ValueError):
                raise self.refused(f"Invalid value at '{where}.inline_data.data' (TYPE_BYTES)") from None
        return kind

    def check_contents(self) -> None:
        contents = self.array("contents", self.body.get("contents"))
        if not contents:
            raise self.refused("at least one contents field is required")
        calls: list[str] = []
        for number, content in enumerate(contents):
            where = f"contents[{number}]"
            self.only(where, content, {"role", "parts"})
            role = content.get("role")
            if role not in self.SAID_BY:
                raise self.refused("Please use a valid role: user, model.")
            if role != ("user", "model")[number % 2]:
                message = "Please ensure that multiturn requests alternate between user and model."
                raise self.refused(f"{message} The first is the user's.")
            parts = self.array(f"{where}.parts", content.get("parts"))
            if not parts:
                raise self.refused("Unable to submit request because it must include at least one parts field.")
            for place, part in enumerate(parts):
                self.check_part(f"{where}.parts[{place}]", part, self.SAID_BY[role])
            answers = [part["functionResponse"]["name"] for part in parts if "functionResponse" in part]
            if sorted(answers) != sorted(calls):
                raise self.refused(
                    "Please ensure that the number of function response parts is equal to the number of function "
                    "call parts of the function call turn."
                )
            calls = [part["functionCall"]["name"] for part in parts if "functionCall" in part]
        if contents[-1]["role"] != "user":
            raise self.refused("Please ensure that single turn requests end with a user role or a function response.")

    def parts(self, scene: Scene, *, streamed: bool) -> list[Json]:
        """Calls arrive whole even in a stream; a signature stands on the first of what follows the thoughts."""
        thoughts = anthropic.cut_up(scene.thinking, 11) if streamed else [scene.thinking] * bool(scene.thinking)
        texts = scene.pieces() if streamed else [scene.text] * bool(scene.text)
        said: list[Json] = [{"text": text} for text in texts]
        for _, name, arguments in scene.calls:
            said.append({"functionCall": {"name": name, "args": json.loads(arguments)}})
        if scene.signature and said:
            first = next((part for part in said if "functionCall" in part), said[0])
            first["thoughtSignature"] = scene.signature
        return [*({"text": text, "thought": True} for text in thoughts), *said]

    def finish(self, scene: Scene) -> str:
        return {"stop": "STOP", "length": "MAX_TOKENS", "filter": "SAFETY"}[scene.finish]

    def usage(self, scene: Scene, *, so_far: int | None = None) -> Json:
        """Thoughts are counted beside the answer; the last count of a stream is the one that holds."""
        thoughts = self.THOUGHT if scene.thinking and scene.output_tokens > self.THOUGHT else 0
        said = scene.output_tokens - thoughts
        if so_far is not None:
            said = min(so_far, max(said - 1, 0))
        counted = {
            "promptTokenCount": scene.input_tokens,
            "candidatesTokenCount": said,
            "totalTokenCount": scene.input_tokens + said + thoughts,
            "trafficType": "ON_DEMAND",
        }
        if thoughts:
            counted["thoughtsTokenCount"] = thoughts
        if scene.cached_tokens:
            counted["cachedContentTokenCount"] = scene.cached_tokens
        return counted

    def answer(self, candidate: Json | None, usage: Json) -> Json:
        answer: Json = {"candidates": [candidate]} if candidate else {}
        return {**answer, "usageMetadata": usage, "modelVersion": self.asked.model, "responseId": uuid.uuid4().hex[:22]}

    def blocked(self, scene: Scene) -> Json:
        """A prompt that was filtered has no candidates at all."""
        counted = {"promptTokenCount": scene.input_tokens, "totalTokenCount": scene.input_tokens}
        return {**self.answer(None, counted), "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}

    def whole(self, scene: Scene) -> Json:
        if scene.finish == "filter" and not scene.text:
            return self.blocked(scene)
        content = {"role": "model", "parts": self.parts(scene, streamed=False)}
        return self.answer({"content": content, "finishReason": self.finish(scene)}, self.usage(scene))

    def events(self, scene: Scene) -> Iterator[Json]:
        if scene.finish == "filter" and not scene.text:
            yield self.blocked(scene)
            return
        for number, part in enumerate(self.parts(scene, streamed=True), start=1):
            content = {"role": "model", "parts": [part]}
            yield self.answer({"content": content}, self.usage(scene, so_far=number))
        content = {"role": "model", "parts": [{"text": ""}]}
        yield self.answer({"content": content, "finishReason": self.finish(scene)}, self.usage(scene))

    def says(self, event: Json) -> bool:
        return any("finishReason" not in each for each in event.get("candidates", []))
