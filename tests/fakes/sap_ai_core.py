"""A strict SAP AI Core: XSUAA, the AI API and every deployment behind it, on one loopback port.

    with FakeSAP() as upstream:
        upstream.scene("anthropic--claude-4-sonnet", Scene(thinking="Hm.", signature="c2lnbmVk"))
        ...                                   # a provider configured with upstream.service_key()
        assert upstream.heard("anthropic--claude-4-sonnet").path.endswith("/invoke")

A second port, opened by `service_key(x509=True)`, gives tokens for a client certificate. How the models of each
family talk is in `sap_families`; orchestration is here.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import socket
import ssl
import tempfile
import threading
import time
import urllib.parse
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.fakes import anthropic, openai
from tests.fakes.sap_families import (
    BROKEN,
    CHAT,
    Asked,
    Azure,
    AzureEmbeddings,
    Converse,
    Gemini,
    Invoke,
    Mistral,
    Refused,
    Titan,
    Wire,
    call_deltas,
    finish_of,
    is_number,
    listed,
    message_of,
    play,
    refused_by_reasoning,
    usage_of,
    wrong_in_chat,
)
from tests.fakes.scenes import Scene
from tests.fakes.server import Behaviour, Exchange, FakeServer, Gate, Heard, Json, shut, unique
from tests.providers.certificates import Authority

CLIENT = "sb-0f7a1c2e!b4711|aicore!b540"
SECRET = "s3cr3t/with+signs=&%$"  # mangled by whoever does not encode it
GROUP = "default"
OTHER_GROUP = "research"
INFERENCE = "/v2/inference/deployments/"
LISTING = "/v2/lm/deployments"
CATALOGUE = "/v2/lm/scenarios/foundation-models/models"
TOKEN = "/oauth/token"
FOUNDATION, ORCHESTRATION = "foundation-models", "orchestration"
LISTED_BY = {"scenarioId", "status", "executableIds", "configurationId", "$top", "$skip", "$select"}
NEVER_SENT = (
    "x-api-key", "api-key", "cookie", "x-forwarded-for", "x-gateway-clamped", "anthropic-version", "anthropic-beta",
    "openai-organization", "openai-project", "x-goog-api-key",
)  # fmt: skip


# ----------------------------------------------------------------------------------------- orchestration

PLACEHOLDER = re.compile(r"\{\{\s*\?([A-Za-z](?:[_-]?[A-Za-z0-9])*)\s*\}\}")
ESCAPED = re.compile(r"\{\{\s*'.*?'\s*\}\}")
MESSAGES: dict[str, tuple[set[str], set[str]]] = {  # what a message must have, and what it may
    "system": ({"content"}, set()),
    "developer": ({"content"}, set()),
    "user": ({"content"}, set()),
    "assistant": (set(), {"content", "refusal", "tool_calls", "reasoning_content"}),
    "tool": ({"content", "tool_call_id"}, set()),
}
MODULES = {"prompt_templating", "filtering", "masking", "grounding", "translation"}
PARAMS = (CHAT - {"messages", "stream", "tools", "response_format", "functions", "function_call"}) | {
    "thinking",
    "top_k",
}


class Orchestration(Wire):
    """`/v2/completion`: OpenAI's chat in an envelope that allows nothing it does not know."""

    @property
    def streams(self) -> bool:
        config = self.body.get("config")
        stream = config.get("stream") if isinstance(config, dict) else None
        return isinstance(stream, dict) and stream.get("enabled") is True

    def error(self, status: int, message: str, location: str = "LLM Module", **more: object) -> Json:
        if not message.startswith(str(status)):
            message = f"{status} - {location}: {message}"
        error = {"request_id": str(uuid.uuid4()), "code": status, "message": message, "location": location, **more}
        return {"error": [error] if self.asked.server.errors_listed else error}

    def fault(self) -> Json:
        return self.error(500, BROKEN, intermediate_results={})

    def wrong(self, message: str, location: str = "Request Body", **more: object) -> Refused:
        return Refused(400, self.error(400, message, location, **more))

    def only(self, where: str, given: object, required: set[str], optional: set[str]) -> Json:
        if not isinstance(given, dict):
            raise self.wrong(f"{json.dumps(given)} is not of type 'object' at {where}")
        for name in given:
            if name not in required | optional:
                message = f"Additional properties are not allowed ('{name}' was unexpected) at {where}"
                raise self.wrong(message)
        for name in sorted(required - set(given)):
            raise self.wrong(f"'{name}' is a required property at {where}")
        return given

    def array(self, where: str, given: object, least: int = 0) -> list[Any]:
        if not isinstance(given, list):
            raise self.wrong(f"{json.dumps(given)} is not of type 'array' at {where}")
        if len(given) < least:
            raise self.wrong(f"[] should be non-empty at {where}")
        return given

    def whole_number(self, where: str, given: object, least: int, most: int) -> None:
        if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
            raise self.wrong(f"{json.dumps(given)} is not an integer from {least} to {most} at {where}")

    def check(self) -> None:
        self.no_query()
        self.only("", self.body, {"config"}, {"placeholder_values", "messages_history"} | self.asked.server.also_known)
        config = self.only("config", self.body["config"], {"modules"}, {"stream"})
        stream = self.only("config.stream", config.get("stream", {}), set(), {"enabled", "chunk_size", "delimiters"})
        if not isinstance(stream.get("enabled", False), bool):
            raise self.wrong("config.stream.enabled is not of type 'boolean'")
        self.whole_number("config.stream.chunk_size", stream.get("chunk_size", 100), 1, 10_000)
        delimiters = stream.get("delimiters", ["\n"])
        if not (listed(delimiters, str) and delimiters):
            raise self.wrong("config.stream.delimiters is not of type 'array' of strings")
        history = self.array("messages_history", self.body.get("messages_history", []))
        for number, message in enumerate(history):
            self.check_message(f"messages_history.{number}", message)
        modules = config["modules"]
        given = self.array("config.modules", modules, 1) if isinstance(modules, list) else [modules]
        for each in given:
            self.check_module("config.modules", each, history)

    def check_module(self, where: str, given: object, history: list[Json]) -> None:
        inner = f"{where}.prompt_templating"
        module = self.only(where, given, {"prompt_templating"}, MODULES)["prompt_templating"]
        self.only(inner, module, {"prompt", "model"}, set())
        prompt = self.only(f"{inner}.prompt", module["prompt"], {"template"}, {"defaults", "response_format", "tools"})
        for number, message in enumerate(self.array(f"{inner}.prompt.template", prompt["template"], 1)):
            self.check_message(f"{inner}.prompt.template.{number}", message)
        for number, tool in enumerate(self.array(f"{inner}.prompt.tools", prompt.get("tools", []))):
            self.check_tool(f"{inner}.prompt.tools.{number}", tool)
        if "response_format" in prompt:
            self.check_format(f"{inner}.prompt.response_format", prompt["response_format"])
        self.check_model(f"{inner}.model", module["model"])
        self.check_placeholders(prompt)
        said = [*history, *prompt["template"]]
        try:
            openai.check_messages(said)
        except openai.Refused as refused:
            raise self.refused(str(refused)) from refused
        tools = [{name: each[name] for name in ("type", "function")} for each in prompt.get("tools", [])]
        wanted = prompt.get("response_format")
        params = {**module["model"].get("params", {}), "messages": said, "tools": tools, "response_format": wanted}
        if wrong := wrong_in_chat(params):
            raise self.refused(wrong)
        for name in ("temperature", "top_p", "max_tokens", "max_completion_tokens", "n", "seed"):
            if params.get(name) is not None and not is_number(params[name]):
                raise self.refused(f"{json.dumps(params[name])} is not a number in '{name}'.")

    def check_model(self, where: str, given: object) -> None:
        model = self.only(where, given, {"name"}, {"version", "params", "timeout", "max_retries"})
        self.whole_number(f"{where}.timeout", model.get("timeout", 600), 1, 1200)
        self.whole_number(f"{where}.max_retries", model.get("max_retries", 2), 0, 5)
        params = self.only(f"{where}.params", model.get("params", {}), set(), set(model.get("params", {})))
        if model["name"] not in self.asked.server.orchestrated:
            raise self.wrong(f"Model {model['name']} not supported.", "LLM Module")
        for name in params:
            if name not in PARAMS | self.asked.server.also_known:
                raise self.wrong(f"Unrecognized request argument supplied: {name}", "LLM Module")
        if offence := refused_by_reasoning(model["name"], params):
            raise self.wrong(offence, "LLM Module")

    def check_message(self, where: str, message: object) -> None:
        if not isinstance(message, dict) or message.get("role") not in MESSAGES:
            raise self.wrong(f"{json.dumps(message)} is not valid under any of the given schemas at {where}")
        required, optional = MESSAGES[message["role"]]
        self.only(where, message, required | {"role"}, optional)
        if "content" in message:
            self.check_content(f"{where}.content", message["content"], message["role"])
        for call in message.get("tool_calls", []):
            self.only(f"{where}.tool_calls", call, {"id", "type", "function"}, set())
            self.only(f"{where}.tool_calls.function", call["function"], {"name", "arguments"}, set())
        for thought in message.get("reasoning_content", []):
            self.only(f"{where}.reasoning_content", thought, {"content"}, {"signature"})

    def check_content(self, where: str, content: object, role: str) -> None:
        if isinstance(content, str):
            return
        for number, part in enumerate(self.array(where, content, 1)):
            inner = f"{where}.{number}"
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "image_url" and role == "user":
                self.only(inner, part, {"type", "image_url"}, set())
                self.only(f"{inner}.image_url", part["image_url"], {"url"}, {"detail"})
            elif kind == "text":
                self.only(inner, part, {"type", "text"}, {"cache_control"})
                self.only(f"{inner}.cache_control", part.get("cache_control", {"type": ""}), {"type"}, {"ttl"})
                if not isinstance(part["text"], str):
                    raise self.wrong(f"{json.dumps(part['text'])} is not of type 'string' at {inner}.text")
            else:
                raise self.wrong(f"{json.dumps(part)} is not valid under any of the given schemas at {inner}")

    def check_tool(self, where: str, tool: object) -> None:
        function = self.only(where, tool, {"type", "function"}, {"cache_control"})["function"]
        inner = f"{where}.function"
        self.only(inner, function, {"name"}, {"description", "parameters", "strict"})
        if not re.fullmatch("[a-zA-Z0-9_-]{1,64}", str(function["name"])):
            raise self.wrong(f"'{function['name']}' does not match '^[a-zA-Z0-9-_]+$' at {inner}.name")
        for name, kind in (("description", str), ("parameters", dict)):
            if name in function and not isinstance(function[name], kind):
                raise self.wrong(f"{json.dumps(function[name])} is not valid at {inner}.{name}")

    def check_format(self, where: str, given: object) -> None:
        if isinstance(given, dict) and given.get("type") in ("text", "json_object"):
            self.only(where, given, {"type"}, set())
            return
        wanted = self.only(where, given, {"type", "json_schema"}, set())
        if wanted["type"] != "json_schema":
            raise self.wrong(f"'{wanted['type']}' is not one of ['text', 'json_object', 'json_schema'] at {where}")
        self.only(f"{where}.json_schema", wanted["json_schema"], {"name"}, {"description", "schema", "strict"})

    def check_placeholders(self, prompt: Json) -> None:
        """The template is the one place where braces mean something; whoever speaks there for others is hurt."""
        values = self.body.get("placeholder_values", {})
        if not isinstance(values, dict):
            raise self.wrong("placeholder_values is not of type 'object'")
        text = ESCAPED.sub("", "\n".join(openai.text_of(each.get("content")) for each in prompt["template"]))
        named = set(PLACEHOLDER.findall(text))
        if "{{?" in PLACEHOLDER.sub("", text):
            raise self.wrong("Error parsing the template: malformed placeholder.", "Templating")
        if unused := sorted(named - set(values) - set(prompt.get("defaults", {})) | set(values) - named):
            message = f"Error validating parameters. Unused parameters: {unused}."
            results = {"templating": prompt["template"]}
            raise self.wrong(message, "Input Parameters", intermediate_results=results)

    def params(self) -> Json:
        modules = self.body["config"]["modules"]
        first = modules[0] if isinstance(modules, list) else modules
        params: Json = first["prompt_templating"]["model"].get("params", {})
        return params

    def usage(self, scene: Scene) -> Json:
        return usage_of(scene, cache_creation_tokens=scene.cache_write_tokens)

    def head(self, object: str) -> Json:
        id = f"chatcmpl-{uuid.uuid4().hex[:29]}"
        return {"id": id, "object": object, "created": int(time.time()), "model": self.asked.model}

    def whole(self, scene: Scene) -> Json:
        message = message_of(scene)
        if message["content"] is None:
            del message["content"]
        if scene.thinking:
            signed = {"signature": scene.signature} if scene.signature else {}
            message["reasoning_content"] = [{"content": scene.thinking, **signed}]
        choice = {"index": 0, "message": message, "finish_reason": finish_of(scene)}
        result = {**self.head("chat.completion"), "choices": [choice], "usage": self.usage(scene)}
        return {
            "request_id": str(uuid.uuid4()),
            "intermediate_results": {"templating": [{"role": "user", "content": "…"}], "llm": result},
            "final_result": result,
        }

    def events(self, scene: Scene) -> Iterator[Json]:
        request, head = str(uuid.uuid4()), self.head("chat.completion.chunk")

        def event(delta: Json, finish: str = "", **more: object) -> Json:
            choice = {"index": 0, "delta": {"content": "", **delta}, "finish_reason": finish}
            result = {**head, "choices": [choice], **more}
            return {"request_id": request, "intermediate_results": {"llm": result}, "final_result": result}

        yield {"request_id": request, "intermediate_results": {"templating": [{"role": "user", "content": "…"}]}}
        yield event({"role": "assistant"})
        for piece in anthropic.cut_up(scene.thinking, 11):
            yield event({"reasoning_content": [{"content": piece}]})
        if scene.thinking and scene.signature:
            yield event({"reasoning_content": [{"content": "", "signature": scene.signature}]})
        for piece in scene.pieces():
            yield event({"content": piece})
        for delta in call_deltas(scene):
            yield event(delta)
        asked = (self.params().get("stream_options") or {}).get("include_usage")
        counted = {"usage": self.usage(scene)} if asked or not self.asked.server.usage_must_be_asked else {}
        yield event({}, finish_of(scene), **counted)

    def says(self, event: Json) -> bool:
        deltas = [each["delta"] for each in event.get("final_result", {}).get("choices", [])]
        return any(
            delta[name] for delta in deltas for name in ("content", "tool_calls", "reasoning_content") if name in delta
        )


class OrchestrationEmbeddings(Orchestration):
    """`/v2/embeddings`: OpenAI's list in the same envelope."""

    @property
    def streams(self) -> bool:
        return False

    def check(self) -> None:
        self.no_query()
        self.only("", self.body, {"config", "input"}, self.asked.server.also_known)
        config = self.only("config", self.body["config"], {"modules"}, set())
        modules = self.only("config.modules", config["modules"], {"embeddings"}, {"masking"})
        where = "config.modules.embeddings"
        model = self.only(where, modules["embeddings"], {"model"}, set())["model"]
        where += ".model"
        self.only(where, model, {"name"}, {"version", "params", "timeout", "max_retries"})
        if model["name"] not in self.asked.server.orchestrated:
            raise self.wrong(f"Model {model['name']} not supported.", "Embeddings Module")
        params = self.only(f"{where}.params", model.get("params", {}), set(), {
            "dimensions", "encoding_format", "normalize",
        })  # fmt: skip
        self.whole_number(f"{where}.params.dimensions", params.get("dimensions", 8), 1, 10_000)
        if params.get("encoding_format", "float") not in ("float", "base64", "binary"):
            raise self.wrong(f"'{params['encoding_format']}' is not one of ['float', 'base64', 'binary'] at {where}")
        given = self.only("input", self.body["input"], {"text"}, {"type"})
        if given.get("type", "text") not in ("text", "document", "query"):
            raise self.wrong(f"'{given['type']}' is not one of ['text', 'document', 'query'] at input.type")
        text = given["text"]
        if not isinstance(text, str) and not (text and listed(text, str) and all(text)):
            raise self.wrong(f"{json.dumps(text)} is not valid under any of the given schemas at input.text")

    def whole(self, scene: Scene) -> Json:
        params = self.body["config"]["modules"]["embeddings"]["model"].get("params", {})
        asked = {**params, "input": self.body["input"]["text"], "model": self.asked.model}
        counted = {"prompt_tokens": scene.input_tokens, "total_tokens": scene.input_tokens}
        result = {**openai.embeddings_whole(asked), "usage": counted}
        return {"request_id": str(uuid.uuid4()), "intermediate_results": {}, "final_result": result}


WIRES: tuple[tuple[str, str, str, type[Wire]], ...] = (  # executable, models, verbs, and who talks so
    ("azure-openai", r"(?!text-embedding)", r"chat/completions", Azure),
    ("azure-openai", r"text-embedding", r"embeddings", AzureEmbeddings),
    ("aws-bedrock", r"anthropic--", r"invoke|invoke-with-response-stream", Invoke),
    ("aws-bedrock", r"anthropic--|amazon--nova", r"converse|converse-stream", Converse),
    ("aws-bedrock", r"amazon--titan", r"invoke", Titan),
    ("gcp-vertexai", r"", r"models/[^/:]+:(generateContent|streamGenerateContent)", Gemini),
    ("aicore-(mistralai|opensource|ibm)", r"", r"chat/completions", Mistral),
    ("orchestration", r"", r"v2/completion", Orchestration),
    ("orchestration", r"", r"v2/embeddings", OrchestrationEmbeddings),
)


def wire_for(asked: Asked) -> Wire | None:
    for executable, models, verbs, wire in WIRES:
        right = re.fullmatch(executable, asked.executable) and re.match(models, asked.model)
        if right and re.fullmatch(verbs, asked.verb):
            return wire(asked)
    return None


# ------------------------------------------------------------------------------------------------ server


def api_error(status: int, message: str, target: str = "") -> Refused:
    """In the AI API's words."""
    code = f"0302{status:04}"
    error = {"code": code, "message": message, "requestId": str(uuid.uuid4()), "target": target, "details": []}
    return Refused(status, {"error": error})


def no_token(status: int, error: str, description: str) -> Refused:
    """In XSUAA's words."""
    return Refused(status, {"error": error, "error_description": description})


class FakeSAP(FakeServer):
    """One tenant. A model plays scenes under its name as deployed, or one deployment under its id."""

    def __init__(self, client: str = CLIENT, secret: str = SECRET) -> None:
        super().__init__()
        self.client, self.secret = client, secret
        self.token_seconds: float = 43199  # tokens really end then
        self.tokens_issued: list[tuple[float, str]] = []  # when, by the monotonic clock
        self.identity_fails: int | None = None  # the status with which XSUAA refuses for now
        self.identity_delay: float = 0
        self.snake_case = False  # listings say `backend_details`
        self.most_listed = 10_000  # fewer: a listing comes in more pages than were asked for
        self.binary_stream = False  # Claude's stream is AWS's binary one whatever the caller accepts
        self.bedrock_wraps = False  # Bedrock's refusals stand inside of `error`
        self.errors_listed = False  # orchestration's errors are a list
        self.usage_must_be_asked = False  # orchestration's streams count only for who sets stream_options
        self.gemini_thinking = False  # Gemini knows `thinkingConfig`
        self.also_known: set[str] = set()  # top-level body fields (and parameters) known beyond the documented ones
        self.unstreamable: set[str] = set()  # OpenAI models that refuse `stream`
        self.groups: dict[str, list[Json]] = {}
        self.orchestrated: set[str] = set()  # the models orchestration can call
        self._tokens: dict[str, float] = {}  # until when each is good
        self._secured: Secured | None = None
        self._deploy()

    def __exit__(self, *error: object) -> None:
        if self._secured:
            self._secured.close(self.stopping)
        super().__exit__(*error)

    # -- what tests say and ask

    def service_key(self, x509: bool = False) -> str:
        """The JSON text; a certificate's line ends stand in it as a backslash and an n, even once it is parsed."""
        key: Json = {
            "clientid": self.client,
            "clientsecret": self.secret,
            "url": self.origin,
            "identityzone": "switch-tenant",
            "identityzoneid": "5a1e9c2b-0000-4000-8000-0123456789ab",
            "appname": "5a1e9c2b!b4711|aicore!b540",
            "serviceurls": {"AI_API_URL": self.origin},
        }
        if x509:
            del key["clientsecret"]
            secured = self._secure()
            key["certurl"] = secured.origin
            key["certificate"] = secured.certificate.replace("\n", "\\n")
            key["key"] = secured.key.replace("\n", "\\n")
            key["credential-type"] = "x509"
        return json.dumps(key, indent=2)

    @property
    def ca(self) -> str:
        """Who signed the certificate of the port for X.509 tokens, as PEM."""
        return self._secure().ca

    def deployment(
        self,
        model: str,
        executable: str,
        *,
        scenario: str = FOUNDATION,
        status: str = "RUNNING",
        created: str = "2026-05-04T08:00:00Z",
    ) -> Json:
        """A deployment for `groups`; only what runs has an address."""
        id = f"d{uuid.uuid4().hex[:15]}"
        details: Json = {}
        if scenario == FOUNDATION:
            details = {
                "resources": {"backendDetails": {"model": {"name": model, "version": "latest"}}},
                "scaling": {"backendDetails": {}},
            }
        return {
            "id": id,
            "deploymentUrl": f"{self.origin}{INFERENCE}{id}" if status == "RUNNING" else "",
            "configurationId": str(uuid.uuid4()),
            "configurationName": f"{model}-config",
            "executableId": executable,
            "scenarioId": scenario,
            "status": status,
            "targetStatus": "RUNNING",
            "statusMessage": "",
            "createdAt": created,
            "modifiedAt": created,
            "details": details,
        }

    def ids(self, model: str, group: str = GROUP) -> list[str]:
        """The deployments of a model (or of `orchestration`), whether they run or not."""
        return [each["id"] for each in self.groups[group] if deployed(each) == model]

    def scene(self, model: str, *scenes: Scene, gate: Gate | None = None) -> None:
        """From now on the model, or one deployment by its id, plays these, one per request; the last one stays."""
        self.script(model, *[self._plays(each, gate) for each in scenes])

    def refuse(self, model: str, status: int, message: str, headers: Iterable[str] = ()) -> None:
        """From now on the model, or one deployment by its id, refuses in the words of its own layer."""
        lines = list(headers)

        def behave(exchange: Exchange) -> None:
            body = self._wire(exchange.heard).error(status, message)
            anthropic.respond(exchange, status, body, lines)

        self.script(model, behave)

    def revoke_all(self) -> None:
        """No token issued so far is good any more."""
        with self._lock:
            self._tokens = dict.fromkeys(self._tokens, 0.0)

    def forget(self) -> None:
        """As before the first test, but whoever holds a token may keep it."""
        super().forget()
        with self._lock:
            self.tokens_issued.clear()
        self.also_known.clear()
        self.unstreamable.clear()
        self.token_seconds, self.identity_fails, self.identity_delay, self.most_listed = 43199, None, 0, 10_000
        self.snake_case = self.binary_stream = self.bedrock_wraps = self.errors_listed = False
        self.usage_must_be_asked = self.gemini_thinking = False
        self._deploy()

    def asked(self, model: str | None = None) -> list[Heard]:
        """The inference calls so far, for a model or a deployment's id; neither listings nor tokens are any."""
        calls = [each for each in super().asked() if each.path.startswith(INFERENCE)]
        return [each for each in calls if model in (None, each.model, deployment_id(each))]

    def listings(self) -> list[Heard]:
        with self._lock:
            return [each for each in self.requests if each.path.startswith(LISTING)]

    # -- how it serves

    def _deploy(self) -> None:
        if not self.groups:
            azure, bedrock = "azure-openai", "aws-bedrock"
            self._first = {
                GROUP: [
                    self.deployment("gpt-4o", azure),
                    self.deployment("gpt-4o", azure, created="2026-06-01T09:30:00Z"),
                    self.deployment("o3-mini", azure),
                    self.deployment("text-embedding-3-small", azure),
                    self.deployment("anthropic--claude-4-sonnet", bedrock),
                    self.deployment("amazon--nova-pro", bedrock),
                    self.deployment("amazon--titan-embed-text", bedrock),
                    self.deployment("gemini-2.5-flash", "gcp-vertexai"),
                    self.deployment("mistralai--mistral-large", "aicore-mistralai"),
                    self.deployment("orchestration", "orchestration", scenario=ORCHESTRATION),
                    self.deployment("gpt-4.1", azure, status="PENDING"),
                ],
                OTHER_GROUP: [self.deployment("gpt-4o-mini", azure)],
            }
        self.groups = {name: list(each) for name, each in self._first.items()}
        models = {deployed(each) for group in self._first.values() for each in group}
        self.orchestrated = models - {"orchestration"}

    def _plays(self, scene: Scene, gate: Gate | None = None) -> Behaviour:
        return lambda exchange: play(exchange, self._wire(exchange.heard), scene, gate)

    def behaviour(self, heard: Heard) -> Behaviour:
        url = urllib.parse.urlsplit(heard.path)
        secured = self._secured is not None and heard.connection in self._secured.connections
        port = self._secured.port if secured and self._secured else self.port
        if heard.headers.get("host") != f"127.0.0.1:{port}":
            self.complain(f"Host: {heard.headers.get('host')}")
        for name in NEVER_SENT:
            if name in heard.headers:
                self.complain(f"The header {name} is none of the upstream's business.")
        if url.path == TOKEN:
            return self._identify(heard, url.query, secured=secured)
        if secured or not (url.path in (LISTING, CATALOGUE) or url.path.startswith(INFERENCE)):
            self.complain(f"{heard.method} {url.path} does not exist here.")
            raise api_error(404, "Not Found", url.path)
        allowed = "GET" if url.path in (LISTING, CATALOGUE) else "POST"
        if heard.method != allowed:
            self.complain(f"{heard.method} {url.path}")
            raise api_error(405, "Method Not Allowed", url.path)
        self._check_credential(heard)
        if "ai-resource-group" not in heard.headers:
            self.complain("The header AI-Resource-Group is missing.")
            raise api_error(400, "Missing required header AI-Resource-Group.", url.path)
        if url.path == LISTING:
            return self._list(heard, url.query)
        if url.path == CATALOGUE:
            return self._catalogue(url.query)
        return self._infer(heard)

    def _check_credential(self, heard: Heard) -> None:
        scheme, _, token = heard.headers.get("authorization", "").partition(" ")
        with self._lock:
            good_until = self._tokens.get(token)
        if scheme != "Bearer" or good_until is None:
            self.complain("The credential is not this upstream's.")
            raise api_error(401, "Jwt is missing or not verifiable", heard.path)
        if time.monotonic() >= good_until:
            raise api_error(401, "Jwt is expired", heard.path)

    # -- XSUAA

    def _identify(self, heard: Heard, query: str, *, secured: bool) -> Behaviour:
        self.stopping.wait(self.identity_delay)
        if heard.method != "POST":
            self.complain(f"{heard.method} {TOKEN}")
            raise no_token(405, "method_not_allowed", f"Request method '{heard.method}' not supported")
        if self.identity_fails is not None:
            error = "unauthorized" if self.identity_fails == 401 else "server_error"
            raise no_token(self.identity_fails, error, "XSUAA cannot answer for now.")
        form = self._form(heard, query)
        if form.get("grant_type") != "client_credentials":
            self.complain(f"grant_type: {form.get('grant_type')}")
            raise no_token(400, "unsupported_grant_type", "Unsupported grant type")
        if "authorization" in heard.headers:
            form |= self._basic(heard.headers["authorization"])
        if form.get("client_id") != self.client:
            raise no_token(401, "invalid_client", "Bad credentials")
        if secured:
            if "client_secret" in form:
                self.complain("A client secret beside a client certificate")
        elif form.get("client_secret") != self.secret:
            raise no_token(401, "unauthorized", "Bad credentials")
        return self._issue

    def _form(self, heard: Heard, query: str) -> dict[str, str]:
        kind = heard.headers.get("content-type", "").split(";")[0].strip().lower()
        if heard.raw and kind != "application/x-www-form-urlencoded":
            self.complain(f"Content-Type of a token request: {kind}")
            raise no_token(415, "unsupported_media_type", f"Content type '{kind}' not supported")
        if re.search(rb"[|\s]", heard.raw):
            self.complain("The token request is not encoded.")
        if "secret" in query:
            self.complain("A secret in a URL")
        try:
            pairs = urllib.parse.parse_qsl(query, strict_parsing=bool(query)) + urllib.parse.parse_qsl(
                heard.raw.decode(), strict_parsing=bool(heard.raw)
            )
        except ValueError as error:
            self.complain(f"The token request is no form: {error}")
            raise no_token(400, "invalid_request", "Malformed form") from error
        known = {"grant_type", "client_id", "client_secret", "response_type", "token_format"}
        for name, _ in pairs:
            if name not in known:
                self.complain(f"{name} in a token request")
        return dict(pairs)

    def _basic(self, header: str) -> dict[str, str]:
        scheme, _, data = header.partition(" ")
        try:
            client, _, secret = base64.b64decode(data, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            client, secret = "", ""
        if scheme != "Basic" or not client:
            self.complain("The credential of a token request is not Basic.")
            raise no_token(401, "unauthorized", "Full authentication is required to access this resource")
        return {"client_id": client, "client_secret": secret}

    def _issue(self, exchange: Exchange) -> None:
        id = uuid.uuid4().hex
        claims = {"jti": id, "cid": self.client, "zid": "5a1e9c2b-0000-4000-8000-0123456789ab"}
        parts = [json.dumps({"alg": "RS256", "typ": "JWT"}), json.dumps(claims), id]
        token = ".".join(base64.urlsafe_b64encode(each.encode()).decode().rstrip("=") for each in parts)
        now = time.monotonic()
        with self._lock:
            self._tokens[token] = now + self.token_seconds
            self.tokens_issued.append((now, token))
        said = {
            "access_token": token,
            "token_type": "bearer",
            "expires_in": math.ceil(self.token_seconds),
            "scope": "uaa.resource aicore!b540.scenarios.read",
            "jti": id,
        }
        exchange.json(200, said, ["Cache-Control: no-store"])

    def _secure(self) -> Secured:
        if self._secured is None:
            self._secured = Secured(self)
        return self._secured

    # -- the AI API

    def _list(self, heard: Heard, query: str) -> Behaviour:
        asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        for name in asked:
            if name not in LISTED_BY:
                self.complain(f"Deployments are not listed by {name}.")
                raise api_error(400, f"Unknown query parameter {name}.", heard.path)
        top, skip = asked.get("$top", "10000"), asked.get("$skip", "0")
        if not (top.isdecimal() and skip.isdecimal() and 1 <= int(top) <= 10_000):
            self.complain(f"$top={top}, $skip={skip}")
            raise api_error(400, "Invalid value of $top or $skip.", heard.path)
        group = heard.headers["ai-resource-group"]
        if group not in self.groups:
            raise api_error(404, f"Resource group {group} not found.", heard.path)
        found = [
            each
            for each in self.groups[group]
            if all(each[name] == asked[name] for name in ("scenarioId", "status", "configurationId") if name in asked)
            and each["executableId"] in asked.get("executableIds", each["executableId"]).split(",")
        ]
        page = found[int(skip) :][: min(int(top), self.most_listed)]
        said = json.dumps({"count": len(found), "resources": page})
        if self.snake_case:
            said = said.replace('"backendDetails"', '"backend_details"')
        return lambda exchange: exchange.json(200, json.loads(said))

    def _catalogue(self, query: str) -> Behaviour:
        """What could be deployed; orchestration may call a part of it without."""
        if query:
            self.complain(f"The catalogue takes no {query}.")
        executables = {deployed(each): each["executableId"] for group in self._first.values() for each in group}
        del executables["orchestration"]
        rows = [self._model(name, executable) for name, executable in executables.items()]
        return lambda exchange: exchange.json(200, {"count": len(rows), "resources": rows})

    def _model(self, name: str, executable: str) -> Json:
        allowed = [{"scenarioId": FOUNDATION, "executableId": executable}]
        if name in self.orchestrated:
            allowed.append({"scenarioId": ORCHESTRATION, "executableId": "orchestration"})
        return {
            "model": name,
            "executableId": executable,
            "provider": "fake",
            "displayName": name.title(),
            "accessType": "Remote",
            "description": f"{name}, as the catalogue describes it.",
            "versions": [{"name": "latest", "isLatest": True, "deprecated": False, "contextLength": 128000}],
            "allowedScenarios": allowed,
        }

    # -- the deployments

    def _infer(self, heard: Heard) -> Behaviour:
        path = heard.path.partition("?")[0]
        deployment = self._deployment(heard)
        group = heard.headers["ai-resource-group"]
        if deployment is None or deployment not in self.groups.get(group, []) or deployment["status"] != "RUNNING":
            raise api_error(404, "Deployment not found.", path)
        heard.named = None if deployment["scenarioId"] == ORCHESTRATION else deployed(deployment)
        heard.body = {}
        self._wire(heard)  # there is somebody who understands this verb
        if heard.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            self.complain(f"Content-Type: {heard.headers.get('content-type')}")
            raise api_error(415, "Unsupported Media Type", path)
        try:
            heard.body = json.loads(heard.raw.decode("utf-8"), object_pairs_hook=unique)
        except ValueError as error:
            self.complain(f"The body is no JSON: {error}")
            raise self._wire(heard).refused("We could not parse the JSON body of your request.") from error
        if not isinstance(heard.body, dict):
            self.complain("The body is no JSON object.")
            heard.body = {}
            raise self._wire(heard).refused("We could not parse the JSON body of your request.")
        heard.named = heard.named or named_in(heard.body)
        wire = self._wire(heard)
        for name in heard.body:
            if re.sub("[-_]", "", name).lower() in ("resourcegroup", "airesourcegroup"):
                self.complain(f"{name} in a body")
                raise wire.refused(f"Unrecognized request argument supplied: {name}")
        try:
            wire.check()
        except (AttributeError, KeyError, TypeError) as error:  # not even the kinds of its values are right
            raise wire.refused(f"Malformed input request: {error}") from error
        scripted = self.scripted(deployment["id"]) or self.scripted(heard.named or "")
        return scripted or self._plays(Scene())

    def _deployment(self, heard: Heard) -> Json | None:
        id = deployment_id(heard)
        return next((each for group in self.groups.values() for each in group if each["id"] == id), None)

    def _wire(self, heard: Heard) -> Wire:
        url = urllib.parse.urlsplit(heard.path)
        id, _, verb = url.path.removeprefix(INFERENCE).partition("/")
        deployment = self._deployment(heard)
        if deployment is None:
            raise api_error(404, "Deployment not found.", url.path)
        asked = Asked(
            server=self,
            model=heard.named or deployed(deployment),
            executable=deployment["executableId"],
            verb=urllib.parse.unquote(verb),
            query=dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True)),
            headers=heard.headers,
            body=heard.body,
        )
        wire = wire_for(asked)
        if wire is None:
            self.complain(f"The deployment {id} of {asked.model} does not understand {verb!r}.")
            raise api_error(404, "Not Found", url.path)
        return wire


def deployment_id(heard: Heard) -> str:
    return heard.path.removeprefix(INFERENCE).partition("/")[0]


def deployed(deployment: Json) -> str:
    """The model, as its details say; orchestration has none of its own."""
    if deployment["scenarioId"] == ORCHESTRATION:
        return "orchestration"
    return str(deployment["details"]["resources"]["backendDetails"]["model"]["name"])


def named_in(body: Json) -> str | None:
    """The model an orchestration's body names, however wrong the body is otherwise."""
    modules = body.get("config", {}).get("modules") if isinstance(body.get("config"), dict) else None
    first = modules[0] if isinstance(modules, list) and modules else modules
    for name in ("prompt_templating", "embeddings"):
        module = first.get(name) if isinstance(first, dict) else None
        model = module.get("model") if isinstance(module, dict) else None
        if isinstance(model, dict) and isinstance(model.get("name"), str):
            return str(model["name"])
    return None


class Secured:
    """The port where a client certificate stands for the client's secret."""

    def __init__(self, server: FakeSAP) -> None:
        authority = Authority()
        self.ca = authority.pem
        self.certificate, self.key = client_certificate(server.client)
        self.connections: set[int] = set()
        self._server = server
        self._context = authority.server("127.0.0.1")
        self._context.verify_mode = ssl.CERT_REQUIRED
        with tempfile.TemporaryDirectory() as folder:
            trusted = Path(folder) / "client.pem"
            trusted.write_text(self.certificate)
            self._context.load_verify_locations(trusted)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.origin = f"https://127.0.0.1:{self.port}"
        self._accepting = threading.Thread(target=self._accept, name=f"Secured-{self.port}", daemon=True)
        self._accepting.start()

    def close(self, stopping: threading.Event) -> None:
        stopping.set()
        shut(self._listener)
        self._accepting.join(5)
        self._listener.close()

    def _accept(self) -> None:
        server = self._server
        while not server.stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(60)
            with server._lock:
                server.connections += 1
                number = server.connections
                self.connections.add(number)
            thread = threading.Thread(target=self._serve, args=(connection, number), daemon=True)
            with server._lock:
                server._threads.add(thread)
            thread.start()

    def _serve(self, plain: socket.socket, number: int) -> None:
        try:
            connection = self._context.wrap_socket(plain, server_side=True)
        except OSError:
            plain.close()
            with self._server._lock:
                self._server._threads.discard(threading.current_thread())
            return
        with self._server._lock:
            self._server._open.add(connection)
        self._server._serve(connection, number)


def client_certificate(name: str) -> tuple[str, str]:
    """A certificate that vouches for itself, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), pem.decode()
