"""A strict Snowflake account with Cortex's REST interface: three ways to chat, embeddings, and signed tokens.

    with FakeSnowflake() as upstream:
        pem, public = new_key()
        upstream.keys.append(public)
        upstream.scene("claude-sonnet-4-5", Scene(thinking="Hm."), Scene(fails="later"))
        ...                                   # ask upstream.url with a token signed by the key
        assert not upstream.complaints and not upstream.ignored

What the account silently ignores is remembered in `ignored`, and why it refused in `refusals`: it says little itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.fakes.anthropic import (
    MESSAGES_FIELDS,
    VERSION,
    BadRequest,
    check_messages_body,
    failing,
    message_events,
    message_whole,
    sse,
)
from tests.fakes.openai import pieces, vector
from tests.fakes.scenes import Scene, torn
from tests.fakes.server import Behaviour, Exchange, FakeServer, Gate, Heard, Json, Refusal, unique

Family = Literal["gpt", "claude", "other"]

CORTEX = "/api/v2/cortex"
CHAT = f"{CORTEX}/v1/chat/completions"
MESSAGES = f"{CORTEX}/v1/messages"
COMPLETE = f"{CORTEX}/inference:complete"
EMBED = f"{CORTEX}/inference:embed"
MODELS = f"{CORTEX}/models"
METHODS = {CHAT: "POST", MESSAGES: "POST", COMPLETE: "POST", EMBED: "POST", MODELS: "GET"}

CHAT_MODELS = (
    "claude-sonnet-4-5", "claude-haiku-4-5", "claude-opus-4-7", "openai-gpt-5", "openai-gpt-4.1", "llama3.1-8b",
    "llama3.1-70b", "mistral-large2", "deepseek-r1",
)  # fmt: skip
EMBEDDING_MODELS = ("snowflake-arctic-embed-m-v1.5", "snowflake-arctic-embed-l-v2.0", "e5-base-v2")
DIMENSIONS = 8

JWT_INVALID = ("390144", "JWT token is invalid.")
PAT_INVALID = ("394400", "Programmatic access token is invalid.")
OAUTH_INVALID = ("390303", "Invalid OAuth access token.")
SESSION_EXPIRED = ("390112", "Your session has expired. Please login again.")
OPTIONS = "invalid options object"
SCHEMA = "schema validation failed"
DEFAULT_LIMIT = 4096  # of output tokens, where nobody asks for another
MOST_BYTES = 20 * 1024 * 1024
MOST_IMAGES = 20


def family_of(model: str) -> Family:
    if model.startswith("claude-"):
        return "claude"
    return "gpt" if model.startswith("openai-") else "other"


# ------------------------------------------------------------------------------------------------- keys


def new_key(
    form: Literal["pkcs8", "encrypted", "pkcs1"] = "pkcs8", passphrase: str = ""
) -> tuple[str, rsa.RSAPublicKey]:
    """A private key as an administrator would paste it, and the public one to register."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kind = serialization.PrivateFormat.PKCS8
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if form == "pkcs1":
        kind = serialization.PrivateFormat.TraditionalOpenSSL
    if form == "encrypted":
        lock = serialization.BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, kind, lock).decode(), key.public_key()


def fingerprint(key: rsa.RSAPublicKey) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def seconds(claim: object) -> float | None:
    """A time in a token: seconds, or milliseconds."""
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        return None
    return claim / 1000 if claim > 100_000_000_000 else float(claim)


# ----------------------------------------------------------------------------------------------- errors


def error_body(message: str, code: str) -> Json:
    return {"message": message, "code": code, "error_code": code, "request_id": str(uuid.uuid4())}


def request_id() -> list[str]:
    return [f"X-Snowflake-Request-ID: {uuid.uuid4()}"]


def refusal(status: int, message: str, code: str = "390000") -> Behaviour:
    return lambda exchange: exchange.json(status, error_body(message, code), request_id())


class Refused(Refusal):
    """The caller's fault, in Snowflake's few words; `why` is for whoever reads the test."""

    def __init__(self, status: int, message: str, *, code: str = "390000", why: str = "") -> None:
        super().__init__(message)
        self.behave = refusal(status, message, code)
        self.why = why or message


def must(true: object, why: str, message: str = OPTIONS) -> None:
    if not true:
        raise Refused(400, message, why=why)


# ------------------------------------------------------------------------- what a request may say: basics


def is_int(value: object, least: int, most: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: object, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def is_base64(value: object) -> bool:
    try:
        return isinstance(value, str) and base64.b64decode(value, validate=True) != b""
    except binascii.Error:
        return False


def is_name(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", value) is not None


def check_keys(where: str, value: object, known: Iterable[str], needed: Iterable[str] = ()) -> Json:
    must(isinstance(value, dict), f"{where} is no object: {value!r}")
    assert isinstance(value, dict)
    for name in value:
        must(name in set(known) | set(needed), f"{where}.{name} does not exist")
    for name in needed:
        must(name in value, f"{where}.{name} is missing")
    return value


def check_list(where: str, value: object) -> list[Any]:
    must(isinstance(value, list) and value, f"{where} is no array of something: {value!r}")
    assert isinstance(value, list)
    return value


def check_cache_control(where: str, value: object) -> None:
    must(value is None or value == {"type": "ephemeral"}, f"{where}.cache_control is not ephemeral: {value!r}")


# ----------------------------------------------------------------- what a request may say: v1/chat/completions

FAMILIES: tuple[Family, ...] = ("gpt", "claude", "other")
CHART = {  # for GPT, Claude, others
    "model messages stream stream_options max_completion_tokens temperature top_p": "yes yes yes",
    "max_tokens service_tier store": "error error error",
    "seed": "yes error error",
    "stop n logit_bias logprobs top_logprobs prediction verbosity": "yes ignored ignored",
    "frequency_penalty presence_penalty prompt_cache_key parallel_tool_calls": "yes ignored ignored",
    "tools": "yes yes error",
    "tool_choice response_format": "yes yes ignored",
    "reasoning_effort": "yes ignored ignored",
    "reasoning": "yes yes yes",  # its two fields differ
    "audio web_search_options": "error ignored ignored",
    "metadata modalities safety_identifier": "ignored ignored ignored",
}
SUPPORT: dict[str, dict[Family, str]] = {
    name: dict(zip(FAMILIES, row.split(), strict=True)) for names, row in CHART.items() for name in names.split()
}
ROLES: dict[Family, tuple[str, ...]] = {
    "gpt": ("system", "developer", "user", "assistant", "tool", "function"),
    "claude": ("system", "user", "assistant", "tool"),
    "other": ("system", "user", "assistant"),
}
PARTS: dict[str, dict[Family, str]] = {
    "text": {"gpt": "yes", "claude": "yes", "other": "yes"},
    "image_url": {"gpt": "yes", "claude": "yes", "other": "error"},
    "file": {"gpt": "error", "claude": "error", "other": "ignored"},
    "input_audio": {"gpt": "error", "claude": "ignored", "other": "ignored"},
    "refusal": {"gpt": "yes", "claude": "error", "other": "error"},
}
EFFORTS = ("none", "minimal", "low", "medium", "high")


def check_chat(body: Json, family: Family, also_known: set[str]) -> list[str]:
    """The fields that were ignored; what may not be there at all is refused."""
    ignored = []
    for name in body:
        support = SUPPORT.get(name, {}).get(family, "yes" if name in also_known else "error")
        must(support != "error", f"{name} is an error for {family} models")
        if support == "ignored":
            ignored.append(name)
    check_sampling(body, family)
    if family == "claude" and str(body["model"]).startswith("claude-opus-4-7") and "temperature" in body:
        ignored.append("temperature")
    must(isinstance(body.get("stream", False), bool | None), "stream is no boolean")
    if body.get("stream_options") is not None:
        must(body.get("stream"), "stream_options without stream")
        options = check_keys("stream_options", body["stream_options"], ("include_usage", "include_obfuscation"))
        ignored += [f"stream_options.{name}" for name in options if name == "include_obfuscation"]
    if body.get("reasoning") is not None:
        reasoning = check_keys("reasoning", body["reasoning"], ("effort", "max_tokens"))
        if "effort" in reasoning:
            must(reasoning["effort"] in EFFORTS, f"reasoning.effort: {reasoning['effort']!r}")
        if "max_tokens" in reasoning:
            must(is_int(reasoning["max_tokens"], 1), f"reasoning.max_tokens: {reasoning['max_tokens']!r}")
        taken = {"gpt": ("effort",), "claude": ("effort", "max_tokens"), "other": ()}[family]
        ignored += [f"reasoning.{name}" for name in reasoning if name not in taken]
    if family != "other":
        check_chat_tools(body, family)
        check_chat_format(body.get("response_format"), family)
    must("messages" in body, "messages is missing")
    return ignored + check_chat_messages(body["messages"], family)


def check_sampling(body: Json, family: Family) -> None:
    def good(name: str, true: bool) -> None:
        must(body.get(name) is None or true, f"{name}: {body.get(name)!r}")

    good("max_completion_tokens", is_int(body.get("max_completion_tokens"), 1, 131_072))
    good("temperature", is_number(body.get("temperature"), 0, 2))
    good("top_p", is_number(body.get("top_p"), 0, 1))
    if family == "gpt":
        stop = body.get("stop")
        listed = isinstance(stop, list) and 1 <= len(stop) <= 4 and all(isinstance(each, str) for each in stop)
        good("stop", isinstance(stop, str) or listed)
        good("n", is_int(body.get("n"), 1, 128))
        good("seed", is_int(body.get("seed"), -(2**63), 2**63))
        good("reasoning_effort", body.get("reasoning_effort") in EFFORTS)
        good("frequency_penalty", is_number(body.get("frequency_penalty"), -2, 2))
        good("presence_penalty", is_number(body.get("presence_penalty"), -2, 2))
        good("parallel_tool_calls", isinstance(body.get("parallel_tool_calls"), bool))


def check_chat_tools(body: Json, family: Family) -> None:
    names = []
    if body.get("tools") is not None:
        for tool in check_list("tools", body["tools"]):
            if family == "gpt" and isinstance(tool, dict) and tool.get("type") == "custom":
                names.append((tool.get("custom") or {}).get("name"))
                continue
            check_keys("tool", tool, (), ("type", "function"))
            must(tool["type"] == "function", f"a tool of type {tool['type']!r}")
            known = ("description", "parameters", "strict")
            function = check_keys("function", tool["function"], known, ("name",))
            must(is_name(function["name"]), f"a function named {function['name']!r}")
            must(isinstance(function.get("parameters", {}), dict), "function.parameters is no object")
            names.append(function["name"])
    choice = body.get("tool_choice")
    if choice is None:
        return
    must(names, "tool_choice without tools")
    if isinstance(choice, dict):
        kind = choice.get("type")
        if family == "claude" or kind == "function":
            must(kind == "function", f"a tool_choice of type {kind!r}")
            check_keys("tool_choice", choice, (), ("type", "function"))
            check_keys("tool_choice.function", choice["function"], (), ("name",))
            must(choice["function"]["name"] in names, f"tool_choice of {choice['function']['name']!r}")
    else:
        must(choice in ("auto", "none", "required"), f"tool_choice: {choice!r}")


def check_chat_format(wanted: object, family: Family) -> None:
    if wanted is None:
        return
    must(isinstance(wanted, dict), "response_format is no object")
    assert isinstance(wanted, dict)
    if family == "gpt" and wanted.get("type") in ("text", "json_object"):
        return
    must(wanted.get("type") == "json_schema", f"response_format of type {wanted.get('type')!r}")
    inner = check_keys("json_schema", wanted.get("json_schema"), ("description", "schema", "strict"), ("name",))
    must(isinstance(inner.get("schema"), dict), "json_schema.schema is no object", SCHEMA)


def check_chat_messages(messages: object, family: Family) -> list[str]:
    ignored: list[str] = []
    unanswered: list[str] = []
    images = 0
    fields = ("content", "name", "tool_calls", "tool_call_id", "reasoning_details", "refusal")
    for number, message in enumerate(check_list("messages", messages)):
        where = f"messages[{number}]"
        check_keys(where, message, fields, ("role",))
        role = message["role"]
        must(role in ROLES[family], f"{where}.role: {role!r} for {family} models")
        if role == "tool":
            must(message.get("tool_call_id") in unanswered, f"{where} answers no call")
            unanswered.remove(message["tool_call_id"])
        else:
            must("tool_call_id" not in message, f"{where}.tool_call_id of a {role} message")
            must(not unanswered, f"{where} comes before the results of {unanswered}")
        calls = message.get("tool_calls")
        if calls is not None:
            unanswered = check_chat_calls(where, message, family)
        if "reasoning_details" in message:
            ignored += check_reasoning_details(where, message, family)
        content = message.get("content")
        must(isinstance(content, str) or (content is None and calls) or isinstance(content, list), f"{where}.content")
        for part in check_list(f"{where}.content", content) if isinstance(content, list) else []:
            ignored += check_chat_part(where, part, family)
            images += part["type"] == "image_url"
    must(not unanswered, f"no results for {unanswered}")
    must(images <= MOST_IMAGES, f"{images} images")
    return ignored


def check_chat_calls(where: str, message: Json, family: Family) -> list[str]:
    must(family != "other", f"{where}.tool_calls for {family} models")
    must(message["role"] == "assistant", f"{where}.tool_calls of a {message['role']} message")
    ids: list[str] = []
    for call in check_list(f"{where}.tool_calls", message["tool_calls"]):
        check_keys(f"{where}.tool_calls[]", call, (), ("id", "type", "function"))
        must(isinstance(call["id"], str) and call["id"] and call["id"] not in ids, f"{where}: the id {call['id']!r}")
        must(call["type"] == "function", f"{where}: a call of type {call['type']!r}")
        function = check_keys(f"{where}.tool_calls[].function", call["function"], (), ("name", "arguments"))
        must(is_name(function["name"]), f"{where}: a call of {function['name']!r}")
        must(isinstance(function["arguments"], str), f"{where}: arguments are no text")
        ids.append(call["id"])
    return ids


def check_reasoning_details(where: str, message: Json, family: Family) -> list[str]:
    if family != "claude":
        return ["messages[].reasoning_details"]
    must(message["role"] == "assistant", f"{where}.reasoning_details of a {message['role']} message")
    for detail in check_list(f"{where}.reasoning_details", message["reasoning_details"]):
        check_keys(f"{where}.reasoning_details[]", detail, ("signature", "id", "format", "index"), ("type", "text"))
        must(detail["type"] == "reasoning.text", f"{where}: a reasoning detail of type {detail['type']!r}")
        must(isinstance(detail["text"], str), f"{where}: a reasoning detail without text")
        must(isinstance(detail.get("signature"), str | None), f"{where}: a signature that is no text")
    return []


def check_chat_part(where: str, part: object, family: Family) -> list[str]:
    must(isinstance(part, dict), f"{where}: a part that is no object")
    assert isinstance(part, dict)
    kind = part.get("type")
    must(kind in PARTS, f"{where}: a part of type {kind!r}")
    check_keys(f"{where}.content[]", part, ("cache_control",), ("type", str(kind)))
    support = PARTS[str(kind)][family]
    must(support != "error", f"{where}: a part of type {kind!r} for {family} models")
    ignored = [str(kind)] if support == "ignored" else []
    if kind == "text":
        must(isinstance(part["text"], str), f"{where}: a text that is none")
    if kind == "image_url":
        image = check_keys(f"{where}.image_url", part["image_url"], ("detail",), ("url",))
        url = str(image["url"])
        inline = re.match(r"data:image/(jpeg|jpg|png|gif|webp);base64,", url)
        good = is_base64(url[inline.end() :]) if inline else url.startswith(("https://", "http://"))
        must(good, f"{where}: the image {url[:60]}")
    if "cache_control" in part and family == "claude":
        check_cache_control(where, part["cache_control"])
    elif "cache_control" in part:
        ignored.append("cache_control")
    return ignored


# ------------------------------------------------------------------ what a request may say: inference:complete

COMPLETE_FIELDS = (
    "anthropic", "guardrails", "max_output_tokens", "max_tokens", "messages", "model", "openai",
    "provisioned_throughput_id", "response_format", "stream", "temperature", "tool_choice", "tools", "top_p",
)  # fmt: skip
PICTURES = ("image/jpeg", "image/jpg", "image/png", "image/gif", "image/webp", "image/heic", "image/heif")


def check_complete(body: Json, family: Family, also_known: set[str]) -> None:
    check_keys("body", body, {*COMPLETE_FIELDS, *also_known}, ("model", "messages"))
    for name, true in {
        "temperature": is_number(body.get("temperature"), 0, 1),
        "top_p": is_number(body.get("top_p"), 0, 1),
        "max_tokens": is_int(body.get("max_tokens"), 1, 16_384),
        "max_output_tokens": is_int(body.get("max_output_tokens"), 1, 16_384),
        "stream": isinstance(body.get("stream"), bool),
        "provisioned_throughput_id": isinstance(body.get("provisioned_throughput_id"), str),
    }.items():
        must(body.get(name) is None or true, f"{name}: {body.get(name)!r}")
    if body.get("response_format") is not None:
        wanted = check_keys("response_format", body["response_format"], (), ("type", "schema"))
        must(wanted["type"] == "json", f"response_format of type {wanted['type']!r}")
        must(isinstance(wanted["schema"], dict), "response_format.schema is no object", SCHEMA)
    if body.get("guardrails") is not None:
        guard = check_keys("guardrails", body["guardrails"], ("enabled", "response_when_unsafe"))
        must(isinstance(guard.get("enabled", True), bool), "guardrails.enabled is no boolean")
    check_complete_thinking(body, family)
    check_complete_tools(body, family)
    check_complete_messages(body["messages"], family)


def check_complete_thinking(body: Json, family: Family) -> None:
    if body.get("anthropic") is not None:
        must(family == "claude", f"anthropic for {family} models")
        thinking = check_keys("anthropic", body["anthropic"], ("thinking",)).get("thinking")
        if thinking is not None:
            budget = check_keys("anthropic.thinking", thinking, (), ("budget_tokens",))["budget_tokens"]
            limit = body.get("max_tokens") or DEFAULT_LIMIT
            must(is_int(budget, 1024, limit - 1), f"a budget of {budget!r} tokens to think, of {limit}")
    if body.get("openai") is not None:
        must(family == "gpt", f"openai for {family} models")
        reasoning = check_keys("openai", body["openai"], ("reasoning",)).get("reasoning")
        if reasoning is not None:
            effort = check_keys("openai.reasoning", reasoning, ("effort",)).get("effort")
            must(effort in (None, "low", "medium", "high"), f"openai.reasoning.effort: {effort!r}")


def check_complete_tools(body: Json, family: Family) -> None:
    names = []
    if body.get("tools") is not None:
        must(family != "other", f"tools for {family} models")
        for tool in check_list("tools", body["tools"]):
            inner = check_keys("tool", tool, (), ("tool_spec",))["tool_spec"]
            known = ("description", "cache_control")
            spec = check_keys("tool_spec", inner, known, ("type", "name", "input_schema"))
            must(spec["type"] == "generic", f"a tool of type {spec['type']!r}")
            must(is_name(spec["name"]), f"a tool named {spec['name']!r}")
            must(isinstance(spec.get("description", ""), str), "tool_spec.description is no text")
            schema = spec["input_schema"]
            must(isinstance(schema, dict) and schema.get("type") == "object", f"input_schema: {schema!r}", SCHEMA)
            check_cache_control("tool_spec", spec.get("cache_control"))
            names.append(spec["name"])
    if body.get("tool_choice") is not None:
        must(names, "tool_choice without tools")
        choice = check_keys("tool_choice", body["tool_choice"], ("name",), ("type",))
        must(choice["type"] in ("auto", "required", "tool"), f"tool_choice of type {choice['type']!r}")
        must(("name" in choice) == (choice["type"] == "tool"), "tool_choice names a tool when its type is tool")
        for name in check_list("tool_choice.name", choice["name"]) if "name" in choice else []:
            must(name in names, f"tool_choice of {name!r}")


def check_complete_messages(messages: object, family: Family) -> None:
    turns = check_list("messages", messages)
    called: dict[str, str] = {}
    due = "user"
    for number, message in enumerate(turns):
        where = f"messages[{number}]"
        check_keys(where, message, ("content", "content_list"), ("role",))
        role = message["role"]
        both = "content" in message and "content_list" in message
        must("content" in message or "content_list" in message, f"{where} has no content")
        must(not both or role == "assistant", f"{where}: content beside content_list in a {role} message")
        must(isinstance(message.get("content", ""), str), f"{where}.content is no text")
        blocks = check_list(f"{where}.content_list", message["content_list"]) if "content_list" in message else []
        if role == "system":
            must(number == 0, f"{where} is a system message")
            must(all(isinstance(each, dict) and each.get("type") == "text" for each in blocks), f"{where}: no text")
        else:
            must(role == due, f"{where} is of {role!r}, not {due}")
            due = "assistant" if role == "user" else "user"
        found = [check_block(where, role, block, family) for block in blocks]
        uses = [block["tool_use"] for block, kind in zip(blocks, found, strict=True) if kind == "tool_use"]
        results = [block["tool_results"] for block, kind in zip(blocks, found, strict=True) if kind == "tool_results"]
        for result in results:
            id, name = result["tool_use_id"], result["name"]
            must(called.pop(id, None) == name, f"{where}: a result for {id!r} of {name!r}")
        must(not called, f"{where} lacks the results of {sorted(called)}")
        called = {use["tool_use_id"]: use["name"] for use in uses}
        must(len(called) == len(uses), f"{where}: two uses share an id")
    must(turns[-1]["role"] == "user", "the last message is not of the user")


def check_block(where: str, role: str, block: object, family: Family) -> str:
    """What kind of block it is."""
    must(isinstance(block, dict), f"{where}: a block that is no object")
    assert isinstance(block, dict)
    for name in ("thinking", "reasoning"):
        if name in block:
            must(role == "assistant", f"{where}: {name} of a {role}")
            must(family == {"thinking": "claude", "reasoning": "gpt"}[name], f"{where}: {name} for {family} models")
            must(block.get("type", "anthropic") == "anthropic" or name == "reasoning", f"{where}: {block!r}")
            needed = ("thinking", "signature") if name == "thinking" else ("summary", "encrypted_content")
            check_keys(f"{where}.{name}", block[name], (), needed)
            return name
    kind = block.get("type")
    if kind == "text":
        check_keys(f"{where}.text", block, ("cache_control",), ("type", "text"))
        must(isinstance(block["text"], str), f"{where}: a text that is none")
    elif kind == "image":
        must(family != "other" and role == "user", f"{where}: an image of a {role} for {family} models")
        check_keys(f"{where}.image", block, ("cache_control",), ("type", "details"))
        needed = ("type", "content", "content_type")
        details = check_keys(f"{where}.details", block["details"], ("detail",), needed)
        must(details["type"] == "base64" and is_base64(details["content"]), f"{where}: an image that is no base64")
        must(details["content_type"] in PICTURES, f"{where}: an image of type {details['content_type']!r}")
        if "detail" in details:
            must(family == "gpt", f"{where}: details.detail for {family} models")
            must(details["detail"] in ("auto", "low", "high"), f"{where}: details.detail {details['detail']!r}")
    elif kind == "tool_use":
        must(family != "other" and role == "assistant", f"{where}: tool_use of a {role} for {family} models")
        check_keys(f"{where}.tool_use", block, ("cache_control",), ("type", "tool_use"))
        use = check_keys(f"{where}.tool_use", block["tool_use"], (), ("tool_use_id", "name", "input"))
        must(isinstance(use["input"], dict), f"{where}: tool_use.input is no object: {use['input']!r}")
    elif kind == "tool_results":
        must(family != "other" and role == "user", f"{where}: tool_results of a {role} for {family} models")
        check_keys(f"{where}.tool_results", block, ("cache_control",), ("type", "tool_results"))
        needed = ("tool_use_id", "name", "content")
        results = check_keys(f"{where}.tool_results", block["tool_results"], ("status", "result"), needed)
        must(isinstance(results.get("status", ""), str), f"{where}: tool_results.status is no text")
        for part in check_list(f"{where}.tool_results.content", results["content"]):
            must(isinstance(part, dict) and part.get("type") in ("text", "json"), f"{where}: the result {part!r}")
            check_keys(f"{where}.tool_results.content[]", part, (), ("type", part["type"]))
            good = isinstance(part[part["type"]], str if part["type"] == "text" else dict)
            must(good, f"{where}: the result {part!r}")
    else:
        must(False, f"{where}: a block of type {kind!r}")
    check_cache_control(where, block.get("cache_control"))
    return str(kind)


# --------------------------------------------------------------------- what a request may say: inference:embed


def check_embed(body: Json) -> None:
    check_keys("body", body, ("provisioned_throughput_id",), ("model", "text"))
    for text in check_list("text", body["text"]):
        must(isinstance(text, str), f"text: {text!r}")


# ----------------------------------------------------------------------- answers: v1/chat/completions


def limit_of(body: Json) -> int:
    return body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_LIMIT


def stopped(body: Json, scene: Scene) -> Scene:
    """What is left of the scene where stop sequences count."""
    stops = body.get("stop") or []
    found = [scene.text.find(stop) for stop in ([stops] if isinstance(stops, str) else stops) if stop in scene.text]
    return replace(scene, text=scene.text[: min(found)], calls=(), finish="stop") if found else scene


def chat_usage(body: Json, scene: Scene, family: Family) -> Json:
    completion = scene.output_tokens
    if scene.finish == "length" and family != "gpt":
        completion = limit_of(body)  # nothing else tells
    usage: Json = {
        "prompt_tokens": scene.input_tokens,
        "completion_tokens": completion,
        "total_tokens": scene.input_tokens + completion,
    }
    if family == "gpt":
        usage["prompt_tokens_details"] = {"cached_tokens": scene.cached_tokens, "audio_tokens": 0}
        usage["completion_tokens_details"] = {"reasoning_tokens": len(pieces(scene.thinking)), "audio_tokens": 0}
    if family == "claude":
        usage["prompt_tokens_details"] = {"cached_tokens": scene.cached_tokens + scene.cache_write_tokens}
    return usage


def chat_finish(scene: Scene, family: Family) -> str | None:
    if family == "claude":
        return None
    if family == "other":
        return "stop"
    return "content_filter" if scene.finish == "filter" else ("tool_calls" if scene.calls else scene.finish)


def reasoning_detail(**inner: object) -> list[Json]:
    return [{"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0, **inner}]


def chat_head(body: Json, kind: str, family: Family) -> Json:
    head = {"id": str(uuid.uuid4()), "object": kind, "created": int(time.time()), "model": body["model"]}
    return head | ({"system_fingerprint": "fp_fake"} if family == "gpt" else {})


def chat_whole(body: Json, scene: Scene, family: Family, null_finish: bool) -> Json:
    message: Json = {"role": "assistant", "content": scene.text or None}
    if scene.thinking and family != "gpt":  # GPT only counts what it thought
        message["reasoning"] = scene.thinking
        if scene.signature:
            message["reasoning_details"] = reasoning_detail(text=scene.thinking, signature=scene.signature)
    if scene.calls:
        message["tool_calls"] = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id, name, arguments in scene.calls
        ]
    choice: Json = {"message": message}
    if family == "gpt":
        message["refusal"] = None
        choice["logprobs"] = None
    if family != "claude" or null_finish:
        choice["finish_reason"] = chat_finish(scene, family)
    count = body.get("n") or 1 if family == "gpt" else 1
    return {
        **chat_head(body, "chat.completion", family),
        "choices": [{"index": index, **choice} for index in range(count)],
        "usage": chat_usage(body, scene, family),
    }


def chat_deltas(scene: Scene, family: Family) -> Iterator[Json]:
    if family != "claude":
        yield {"role": "assistant", "content": ""} | ({"refusal": None} if family == "gpt" else {})
    for piece in pieces(scene.thinking) if family != "gpt" else []:
        signed = {"reasoning_details": reasoning_detail(text=piece)} if scene.signature else {}
        yield {"reasoning": piece, **signed}
    if scene.thinking and scene.signature and family != "gpt":
        yield {"reasoning_details": reasoning_detail(signature=scene.signature)}
    for piece in scene.pieces():
        yield {"content": piece}
    for index, (id, name, arguments) in enumerate(scene.calls):
        yield {
            "tool_calls": [
                {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}},
            ]
        }
        for start in range(0, len(arguments), 5):
            yield {"tool_calls": [{"index": index, "function": {"arguments": arguments[start : start + 5]}}]}


def chat_chunks(body: Json, scene: Scene, family: Family, null_finish: bool) -> Iterator[Json]:
    head = chat_head(body, "chat.completion.chunk", family)
    count = body.get("n") or 1 if family == "gpt" else 1

    def chunks(delta: Json, finish: str | None = None) -> Iterator[Json]:
        for index in range(count):
            choice: Json = {"index": index, "delta": delta}
            if family == "gpt":
                choice["logprobs"] = None
            if family != "claude" or null_finish:
                choice["finish_reason"] = finish
            yield {**head, "choices": [choice]}

    for delta in chat_deltas(scene, family):
        yield from chunks(delta)
    if family != "claude":
        yield from chunks({}, chat_finish(scene, family))
    if (body.get("stream_options") or {}).get("include_usage"):
        yield {**head, "choices": [], "usage": chat_usage(body, scene, family)}


# ------------------------------------------------------------------------- answers: inference:complete

DeltaShape = Literal["plain", "list", "typed"]


def complete_usage(scene: Scene, completion: int) -> Json:
    return {
        "prompt_tokens": scene.input_tokens,
        "completion_tokens": completion,
        "guard_tokens": 0,
        "total_tokens": scene.input_tokens + completion,
        "cache_read_input_tokens": scene.cached_tokens,
        "cache_write_input_tokens": scene.cache_write_tokens,
    }


def thought(scene: Scene, family: Family, text: str | None, signature: str | None) -> Json:
    if family == "gpt":
        return {"reasoning": {"summary": text, "encrypted_content": signature}}
    return {"thinking": {"thinking": text, "signature": signature}}


def complete_whole(scene: Scene, family: Family, finish_in_choice: bool) -> Json:
    blocks: list[Json] = []
    if scene.thinking:
        blocks.append(thought(scene, family, scene.thinking, scene.signature))
    if scene.text:
        blocks.append({"type": "text", "text": scene.text})
    for id, name, arguments in scene.calls:
        use = {"tool_use_id": id, "name": name, "input": json.loads(arguments)}
        blocks.append({"type": "tool_use", "tool_use": use})
    finish = "prohibited_content" if scene.finish == "filter" else scene.finish
    if scene.calls and scene.finish == "stop":
        finish = "tool_calls"
    choice: Json = {"message": {"content": scene.text, "content_list": blocks}}
    if finish_in_choice:
        choice["finish_reason"] = finish
    answer: Json = {"choices": [choice], "usage": complete_usage(scene, scene.output_tokens)}
    return answer if finish_in_choice else {**answer, "finish_reason": finish}


def complete_deltas(scene: Scene, family: Family, shape: DeltaShape) -> Iterator[Json]:
    def thinks(text: str | None, signature: str | None) -> Json:
        part = thought(scene, family, text, signature)
        if shape == "typed":
            return {"type": "openai" if family == "gpt" else "anthropic", **part}
        return {"content_list": [part]}

    for piece in pieces(scene.thinking):
        yield thinks(piece, None)
    if scene.thinking and scene.signature:
        yield thinks(None, scene.signature)
    for piece in scene.pieces():
        if shape == "plain":
            yield {"content": piece}
        elif shape == "list":
            yield {"content": piece, "content_list": [{"type": "text", "text": piece}]}
        else:
            yield {"type": "text", "content": piece}
    for id, name, arguments in scene.calls:
        parts: list[Json] = [{"tool_use_id": id, "name": name}]
        parts += [{"input": arguments[start : start + 5]} for start in range(0, len(arguments), 5)]
        for part in parts:
            yield {"type": "tool_use", **part} if shape == "typed" else {"content_list": [part]}


def complete_events(body: Json, scene: Scene, family: Family, shape: DeltaShape) -> Iterator[Json]:
    """No role, no finish; the last event has the usage, the list form's earlier ones an empty one."""
    head: Json = {"id": str(uuid.uuid4()), "model": body["model"]}
    if shape == "plain":
        head["created"] = int(time.time())
    final = limit_of(body) if scene.finish == "length" else scene.output_tokens
    for number, delta in enumerate(complete_deltas(scene, family, shape), start=1):
        usage = {} if shape == "list" else complete_usage(scene, min(number, final))
        yield {**head, "choices": [{"delta": delta}], "usage": usage}
    yield {**head, "choices": [{"delta": {}}], "usage": complete_usage(scene, final)}


# ---------------------------------------------------------------------------- answers: inference:embed


def embed_whole(body: Json, tokens: int | None) -> Json:
    counted = sum(len(text.split()) for text in body["text"])
    data = [
        {"object": "embedding", "embedding": [vector(json.dumps(text), DIMENSIONS)], "index": index}
        for index, text in enumerate(body["text"])
    ]
    usage = {"total_tokens": counted if tokens is None else tokens}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


# ------------------------------------------------------------------------------------------- on the wire


def speaks(event: Json) -> bool:
    """Whether some content is in it."""
    deltas = [choice["delta"] for choice in event.get("choices", [])]
    return any(value for delta in deltas for name, value in delta.items() if name not in ("role", "type"))


def until_broken(events: Iterable[Json], scene: Scene, error: Json) -> list[Json]:
    """The events that are sent before, and with, what breaks."""
    if scene.fails == "first":
        return [error]
    sent: list[Json] = []
    for event in events:
        sent.append(event)
        if scene.fails and speaks(event):
            break
    return [*sent, error] if scene.fails == "later" else sent


def spelt(event: Json, *, pretty: bool, eol: str) -> bytes:
    if pretty:
        lines = json.dumps(event, ensure_ascii=False, indent=2).splitlines()
    else:
        lines = [json.dumps(event, ensure_ascii=False, separators=(",", ":"))]
    return (eol.join(f"data: {line}" for line in lines) + eol * 2).encode()


def play_frames(exchange: Exchange, scene: Scene, frames: list[bytes], gate: Gate | None) -> None:
    eol = b"\r\n" if scene.crlf else b"\n"
    exchange.head(200, "text/event-stream", headers=[*request_id(), "Cache-Control: no-cache"])
    for number, frame in enumerate(frames, start=1):
        exchange.hold(lambda number=number: gate is None or gate.allowed >= number)  # type: ignore[misc]
        if scene.comments:
            exchange.chunk(b": keep-alive" + eol * 2)
        *parts, last = torn(frame, scene.bytes_at_once)
        for part in parts:
            exchange.chunk(part)
        exchange.frame(last)
    exchange.end()


def play_whole(exchange: Exchange, scene: Scene, answer: Json, gate: Gate | None) -> None:
    exchange.hold(lambda: gate is None or gate.allowed >= 1)
    data = json.dumps(answer, ensure_ascii=False).encode()
    exchange.head(200, "application/json", length=len(data), headers=request_id())
    if scene.fails == "cut":
        data = data[: len(data) // 2]
        exchange.close()
    for part in torn(data, scene.bytes_at_once):
        exchange.send(part)


# ------------------------------------------------------------------------------------------------ server

NEVER_SENT = ("x-api-key", "api-key", "cookie", "x-gateway-clamped", "origin", "referer", "via", "forwarded", "expect")
CALLERS_OWN = ("x-forwarded-", "x-stainless-", "openai-", "sf-ml-xp-", "x-goog-", "x-request-id", "x-real-ip")


class FakeSnowflake(FakeServer):
    """One account with one user; plays `Scene()` unless told otherwise."""

    def __init__(self, account: str = "MYORG-MYACCT", user: str = "GATEWAY") -> None:
        super().__init__()
        self.url = self.origin
        self.account, self.user = account, user
        self.keys: list[rsa.RSAPublicKey] = []  # RSA_PUBLIC_KEY and RSA_PUBLIC_KEY_2; there is no third
        self.pats: set[str] = set()
        self.oauth_tokens: set[str] = set()
        self.models = [*CHAT_MODELS, *EMBEDDING_MODELS]
        self.embedding_models = set(EMBEDDING_MODELS)
        self._reset()

    def _reset(self) -> None:
        self.tokens_seen: dict[str, float] = {}  # and when they first were
        self.revoked: set[str] = set()
        self.most_age: float = 3600  # of a token since it was first seen
        self.cortex_user = True
        self.session_expired = False
        self.ignored: list[tuple[str, str]] = []  # model and field
        self.refusals: list[str] = []  # why
        self.also_known: set[str] = set()  # body fields beyond the chart's
        self.sends_done = True
        self.null_finish = True  # Claude's finish_reason: null, or not there at all
        self.delta_shape: DeltaShape = "list"
        self.pretty = False  # inference:complete spreads an event over several `data:` lines
        self.finish_in_choice = False  # of a whole inference:complete, instead of beside the choices
        self.error_shape: Literal["bare", "error"] = "bare"  # of an error after the status was sent

    # -- what tests say

    def forget(self) -> None:
        """Keys, tokens and models stay registered."""
        super().forget()
        self._reset()

    def scene(self, model: str, *scenes: Scene) -> None:
        """Plays these on whichever endpoint the model is asked at; one per request, the last stays."""
        self.script(model, *(self.play(scene) for scene in scenes))

    def refuse(self, model: str, status: int, message: str, code: str = "390000") -> None:
        self.script(model, refusal(status, message, code))

    def play(self, scene: Scene, gate: Gate | None = None) -> Behaviour:
        """A gate holds each event (or the whole answer) back."""

        def behave(exchange: Exchange) -> None:
            if exchange.heard.path != EMBED and exchange.body.get("stream", exchange.heard.path == COMPLETE):
                play_frames(exchange, scene, self._frames(exchange, scene), gate)
            elif scene.fails in ("first", "later"):
                play_whole(exchange, scene, self._error(), gate)
            else:
                play_whole(exchange, scene, self._whole(exchange, scene), gate)

        return behave

    # -- how it answers

    def _error(self) -> Json:
        body = error_body("inference failed: the engine ran out of memory", "390000")
        return {"error": body} if self.error_shape == "error" else body

    def _whole(self, exchange: Exchange, scene: Scene) -> Json:
        body, path = exchange.body, exchange.heard.path
        family = family_of(body["model"])
        if path == EMBED:
            return embed_whole(body, scene.input_tokens)
        if path == COMPLETE:
            return complete_whole(scene, family, self.finish_in_choice)
        if path == MESSAGES:
            return message_whole(body["model"], scene)
        return chat_whole(body, stopped(body, scene) if family == "gpt" else scene, family, self.null_finish)

    def _frames(self, exchange: Exchange, scene: Scene) -> list[bytes]:
        body, path = exchange.body, exchange.heard.path
        family = family_of(body["model"])
        eol = "\r\n" if scene.crlf else "\n"
        if path == COMPLETE:
            events = until_broken(complete_events(body, scene, family, self.delta_shape), scene, self._error())
            return [spelt(event, pretty=self.pretty, eol=eol) for event in events]
        if path == MESSAGES:
            named = failing(message_events(body["model"], scene), scene, ("error", self._error()))
            return [sse(name, data, crlf=scene.crlf) for name, data in named]
        shown = stopped(body, scene) if family == "gpt" else scene
        events = until_broken(chat_chunks(body, shown, family, self.null_finish), shown, self._error())
        frames = [spelt(event, pretty=False, eol=eol) for event in events]
        return [*frames, f"data: [DONE]{eol}{eol}".encode()] if self.sends_done and not scene.fails else frames

    def _list_models(self, exchange: Exchange) -> None:
        exchange.json(200, {"models": self.models}, request_id())

    # -- what it accepts

    def behaviour(self, heard: Heard) -> Behaviour:
        try:
            self._check_head(heard)
            self._read_body(heard)
            self._check_token(heard)
            if not self.cortex_user:
                raise Refused(403, "Not Authorized", code="390403")
            if self.session_expired:
                code, message = SESSION_EXPIRED
                return refusal(200, message, code)
            if heard.path == MODELS:
                return self._list_models
            self._check_body(heard)
        except Refused as refused:
            with self._lock:
                self.refusals.append(refused.why)
            raise
        default = self.play(Scene())
        if heard.path == EMBED:
            default = lambda exchange: play_whole(exchange, Scene(), embed_whole(exchange.body, None), None)  # noqa: E731
        return self.scripted(heard.body["model"]) or default

    def _check_head(self, heard: Heard) -> None:
        if heard.path not in METHODS:
            self.complain(f"{heard.method} {heard.path} does not exist here.")
            raise Refused(404, f"{heard.path} not found", code="390404")
        if heard.method != METHODS[heard.path]:
            self.complain(f"{heard.method} {heard.path}")
            raise Refused(405, f"{heard.method} is not allowed", code="390405")
        if heard.headers.get("host") != f"127.0.0.1:{self.port}":
            self.complain(f"Host: {heard.headers.get('host')}")
        foreign = CALLERS_OWN if heard.path == MESSAGES else (*CALLERS_OWN, "anthropic-")
        for name, value in heard.headers.items():
            if name in NEVER_SENT or name.startswith(foreign):
                self.complain(f"The header {name} is none of the upstream's business.")
            if name == "user-agent" and re.match(r"(Async)?(OpenAI|Anthropic)/", value):
                self.complain(f"The caller's User-Agent: {value}")
        accepted = heard.headers.get("accept", "")
        if heard.path not in (EMBED, MODELS) and "*/*" not in accepted:
            for kind in ("application/json", "text/event-stream"):
                if kind not in accepted:
                    self.complain(f"Accept without {kind}: {accepted!r}")

    def _read_body(self, heard: Heard) -> None:
        """Before it asks who it is, so that refused requests have a model too."""
        if heard.path == MODELS:
            if heard.raw:
                self.complain("The listing has a body.")
            return
        if heard.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            self.complain(f"Content-Type: {heard.headers.get('content-type')}")
            raise Refused(415, "unsupported media type", code="390415")
        if len(heard.raw) > MOST_BYTES:
            raise Refused(413, "request too large", code="390413")
        try:
            heard.body = json.loads(heard.raw.decode("utf-8"), object_pairs_hook=unique)
        except ValueError as error:
            self.complain(f"The body is no JSON: {error}")
            raise Refused(400, OPTIONS, why=f"no JSON: {error}") from error
        if not isinstance(heard.body, dict):
            self.complain("The body is no JSON object.")
            raise Refused(400, OPTIONS, why="no JSON object")

    def _check_body(self, heard: Heard) -> None:
        body = heard.body
        for name in body:
            if name.startswith("sf-ml-xp-"):
                self.complain(f"The field {name} is reserved.")
        model = body.get("model")
        must(isinstance(model, str) and model, f"model: {model!r}")
        with self._lock:
            scripted = bool(self._scripts.get(model))
        listed = model in self.models
        if not (listed or scripted) or (listed and (model in self.embedding_models) != (heard.path == EMBED)):
            raise Refused(400, f"unknown model {model}")
        try:
            self._check_fields(heard, model, family_of(model))
        except (AttributeError, KeyError, TypeError) as error:  # a shape so wrong that nobody looked for it
            raise Refused(400, OPTIONS, why=repr(error)) from error

    def _check_fields(self, heard: Heard, model: str, family: Family) -> None:
        body = heard.body
        if heard.path == EMBED:
            check_embed(body)
        elif heard.path == COMPLETE:
            if not isinstance(body.get("stream"), bool):
                self.complain("inference:complete streams unless told otherwise, and nothing was said.")
            if "max_output_tokens" in body:
                self.complain("max_output_tokens is deprecated.")
            check_complete(body, family, self.also_known)
        elif heard.path == MESSAGES:
            self._check_messages(heard, family)
        else:
            ignored = check_chat(body, family, self.also_known)
            with self._lock:
                self.ignored += [(model, name) for name in ignored]

    def _check_messages(self, heard: Heard, family: Family) -> None:
        if heard.headers.get("anthropic-version") != VERSION:
            self.complain(f"anthropic-version: {heard.headers.get('anthropic-version')}")
            raise Refused(400, OPTIONS, why="anthropic-version")
        must(family == "claude", f"messages for {family} models")
        try:
            betas = heard.headers.get("anthropic-beta", "")
            check_messages_body(heard.body, known=MESSAGES_FIELDS | self.also_known, needs_model=True, betas=betas)
        except BadRequest as error:
            raise Refused(400, OPTIONS, why=error.message) from error

    # -- whom it believes

    def _check_token(self, heard: Heard) -> None:
        scheme, _, token = heard.headers.get("authorization", "").partition(" ")
        kind = heard.headers.get("x-snowflake-authorization-token-type")
        if scheme != "Bearer" or not token:
            self.complain("There is no bearer token.")
            raise self._unknown(JWT_INVALID, "no bearer token")
        with self._lock:
            first = self.tokens_seen.setdefault(token, time.time())
        invalid = {"KEYPAIR_JWT": JWT_INVALID, "PROGRAMMATIC_ACCESS_TOKEN": PAT_INVALID, "OAUTH": OAUTH_INVALID}.get(
            kind or ""
        )
        if invalid is None:
            self.complain(f"X-Snowflake-Authorization-Token-Type: {kind}")
            raise self._unknown(OAUTH_INVALID, f"a token of type {kind}")
        if kind == "KEYPAIR_JWT":
            self._check_jwt(token)
        elif token not in (self.pats if kind == "PROGRAMMATIC_ACCESS_TOKEN" else self.oauth_tokens):
            raise self._unknown(invalid, f"not one of the known tokens of type {kind}")
        if token in self.revoked:
            raise self._unknown(invalid, "a revoked token")
        if time.time() - first > self.most_age:
            raise self._unknown(invalid, f"a token first seen more than {self.most_age} s ago")

    def _unknown(self, invalid: tuple[str, str], why: str, *, complain: bool = False) -> Refused:
        if complain:
            self.complain(f"The token: {why}.")
        code, message = invalid
        return Refused(401, message, code=code, why=why)

    def _check_jwt(self, token: str) -> None:
        """Complains where no administrator can have been at fault: a wrong account, user or key is theirs."""

        def wrong(why: str) -> Refused:
            return self._unknown(JWT_INVALID, why, complain=True)

        try:
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(token, options={"verify_signature": False})
        except jwt.PyJWTError as error:
            raise wrong(f"no JWT ({error})") from error
        if header.get("alg") != "RS256" or header.get("typ", "JWT") != "JWT":
            raise wrong(f"header {header}")
        if not isinstance(claims.get("iss"), str) or ".SHA256:" not in claims["iss"]:
            raise wrong(f"iss {claims.get('iss')!r}")
        name, _, print = claims["iss"].rpartition(".SHA256:")
        if claims.get("sub") != name:
            raise wrong(f"sub {claims.get('sub')!r} beside iss {claims['iss']!r}")
        if name != name.upper():
            raise wrong(f"{name} is not in capitals")
        if name != f"{self.account}.{self.user}".upper():
            raise self._unknown(JWT_INVALID, f"nobody here is {name}")
        if re.fullmatch(r"[A-Za-z0-9+/]{43}=", print) is None:
            raise wrong(f"the fingerprint {print!r}")
        found = [key for key in self.keys[:2] if fingerprint(key) == print]
        if not found:
            raise self._unknown(JWT_INVALID, f"no registered key is {print}")
        unchecked = {f"verify_{claim}": False for claim in ("exp", "iat", "nbf", "aud", "iss", "sub")}
        try:
            jwt.decode(token, found[0], algorithms=["RS256"], options=unchecked)  # type: ignore[arg-type]
        except jwt.PyJWTError as error:
            raise wrong(f"signature ({error})") from error
        now, issued, expires = time.time(), seconds(claims.get("iat")), seconds(claims.get("exp"))
        if issued is None or expires is None:
            raise wrong(f"iat {claims.get('iat')!r}, exp {claims.get('exp')!r}")
        if issued > now + 5:
            raise wrong(f"issued {issued - now:.1f} s from now")
        if expires <= now:
            raise wrong(f"expired {now - expires:.1f} s ago")
        if now > issued + 3600:
            raise wrong(f"issued {now - issued:.1f} s ago")
        if expires > issued + 3600:
            self.complain(f"The token: wants to live for {expires - issued:.0f} s; 3600 is the most.")
