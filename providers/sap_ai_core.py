"""SAP AI Core, the generative AI hub: one account, several families of models, each with a wire format of its own.

Sources: SAP AI SDK (AI_CORE_API.yaml, foundation-models) and the service key as SAP BTP issues it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlencode

from providers.base import (
    NOTHING,
    Listing,
    Login,
    LoginRequest,
    Provider,
    Setting,
    Target,
    UpstreamModel,
    UpstreamRequest,
    UpstreamToken,
)
from providers.capabilities import CAPABILITIES, Capability
from providers.documents import BadDocument, loads_object
from providers.languages.fields import count_in, object_in, objects_in, text_in
from providers.languages.sap import THROUGH, reasons
from providers.wire.errors import CannotCarry, Kind, ProviderError, cannot_carry

API_VERSION = "2024-10-21"
REASONING_API_VERSION = "2024-12-01-preview"
PAGE = 1000  # deployments
TOKEN_LIFE = 3600  # seconds, should the identity provider not say
LONGEST_LIFE = 30 * 24 * 60 * 60  # seconds, whatever it says
SCHEMES = ("https://", "http://")
BEDROCK_VERSION = "bedrock-2023-05-31"
# Bedrock refuses a request for a beta it does not know, and its latest models know no other.
BETAS = frozenset(["interleaved-thinking-2025-05-14"])

# What `invoke` takes; anything else is refused there.
INVOKE_FIELDS = frozenset(
    (
        "anthropic_version anthropic_beta max_tokens system messages temperature top_p top_k stop_sequences tools "
        "tool_choice thinking"
    ).split()
)
IN_THE_ADDRESS = frozenset(("model", "stream"))  # what the path says already
TOOL_FIELDS = ("type", "name", "description", "input_schema", "cache_control")
MARK_FIELDS = ("type", "ttl")
# Fields of Messages that change what the answer is.
NEVER_DROPPED = ("container", "mcp_servers", "output_format")
ONLY_VECTORS: frozenset[Capability] = frozenset(CAPABILITIES) - {"embeddings"}


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """The service key, read. Either a secret, or a certificate with its key (PEM)."""

    client_id: str
    token_url: str
    api: str
    secret: str = field(repr=False, default="")
    certificate: str = field(repr=False, default="")
    key: str = field(repr=False, default="")

    @classmethod
    def read(cls, text: str) -> ServiceKey:
        """Raises ValueError with a sentence."""
        try:
            document = loads_object(text.encode(errors="replace"))
        except BadDocument as error:
            raise ValueError("The service key is not JSON. Paste the whole key, from { to }.") from error
        nested = document.get("credentials")
        values = nested if isinstance(nested, dict) else document
        client_id, secret, certificate, key = (
            text_in(values, name) for name in ("clientid", "clientsecret", "certificate", "key")
        )
        if not client_id:
            raise ValueError("The service key holds no 'clientid'. Paste the key of an SAP AI Core instance.")
        urls = values.get("serviceurls")
        api = text_in(urls, "AI_API_URL").rstrip("/") if isinstance(urls, dict) else ""
        if not api.startswith(SCHEMES):
            raise ValueError("The service key holds no 'serviceurls.AI_API_URL', or it is no address.")
        if bool(secret) == bool(certificate and key):
            raise ValueError("The service key must hold either a 'clientsecret', or a 'certificate' and its 'key'.")
        base = (text_in(values, "url") if secret else text_in(values, "certurl", "url")).rstrip("/")
        if not base.startswith(SCHEMES):
            raise ValueError(f"The service key holds no '{'url' if secret else 'certurl'}', or it is no address.")
        return cls(
            client_id=client_id,
            token_url=base if base.endswith("/oauth/token") else f"{base}/oauth/token",
            api=api if api.endswith("/v2") else f"{api}/v2",
            secret=secret,
            certificate=certificate.replace("\\n", "\n"),
            key=key.replace("\\n", "\n"),
        )


class SAPAICore(Provider):
    kind = "sap_ai_core"
    label = "SAP AI Core"
    has_addressed_models = True
    settings = (
        Setting("resource_group", "Resource group", "Where the deployments are.", "default"),
        Setting(
            "api_version",
            "API version",
            f"Of OpenAI models. Empty: {API_VERSION}, for models that think {REASONING_API_VERSION}.",
        ),
        Setting(
            "service_key",
            "Service key",
            "The whole JSON, from { to }, as BTP shows it.",
            required=True,
            secret=True,
            kind="lines",
        ),
    )

    def check(self, target: Target) -> None:
        ServiceKey.read(target.secrets.get("service_key", ""))

    def address(self, target: Target) -> str:
        return ServiceKey.read(target.secrets.get("service_key", "")).api

    def identity(self, target: Target) -> str:
        return f"client {ServiceKey.read(target.secrets['service_key']).client_id}"

    def speaks(self, model: UpstreamModel, target: Target) -> Mapping[str, str]:
        url = model.url.rstrip("/")
        match family(model):
            case _ if not url:
                return {}
            case "azure-openai":
                stated = target.settings.get("api_version")
                version = quote(stated or (REASONING_API_VERSION if reasons(model.name) else API_VERSION))
                if embeds(model):
                    return {"openai_embeddings": f"{url}/embeddings?api-version={version}"}
                language = "azure_reasoning" if reasons(model.name) else "azure_chat"
                return {language: f"{url}/chat/completions?api-version={version}"}
            case "claude":
                # Messages itself is for callers who speak it.
                invoke = dict.fromkeys(("bedrock_messages", "anthropic_messages"), f"{url}/invoke")
                return {**invoke, "bedrock_converse": f"{url}/converse"}
            case "titan":
                return {"titan_embed": f"{url}/invoke"}
            case "bedrock":
                return {"bedrock_converse": f"{url}/converse"}
            case "gcp-vertexai":
                return {"gemini": f"{url}/models/{quote(model.name)}:generateContent"}
            case "orchestration" if embeds(model):
                return {"sap_orchestration_embed": f"{url}/v2/embeddings"}
            case "orchestration":
                language = "sap_orchestration_reasoning" if reasons(model.name) else "sap_orchestration"
                return {language: f"{url}/v2/completion"}
        if embeds(model):
            return {"openai_embeddings": f"{url}/embeddings"}
        return {"aicore_chat": f"{url}/chat/completions"}

    def lacks(self, model: UpstreamModel) -> frozenset[Capability]:
        lacking = super().lacks(model)
        if embeds(model):
            return lacking | ONLY_VECTORS
        lacking |= {"embeddings"}
        # SAP's Gemini deployments refused `thinkingConfig`; an operator who knows better says so.
        if family(model) == "gcp-vertexai" and "thinking" not in model.capabilities:
            lacking |= {"thinking"}
        return lacking

    def headers(self, target: Target) -> dict[str, str]:
        return {
            **super().headers(target),
            "Authorization": f"Bearer {target.token}",
            "AI-Resource-Group": target.settings.get("resource_group") or "default",
        }

    def request(
        self, target: Target, path: str, body: Mapping[str, Any], passed: Mapping[str, str] = NOTHING
    ) -> UpstreamRequest:
        streams = body.get("stream") is True or "stream" in body.get("config", {})
        if path.endswith("/invoke") and "inputText" not in body:
            path, body = f"{path}-with-response-stream" if streams else path, _invoked(body, passed)
        elif path.endswith("/converse"):
            path, body = f"{path}-stream" if streams else path, _without(body, "stream", "model")
        elif path.endswith(":generateContent"):
            path = path.removesuffix(":generateContent") + ":streamGenerateContent?alt=sse" if streams else path
            body = _without(body, "stream", "model")
        elif "api-version=" in path:
            body = _without(body, "model")
        request = super().request(target, path, body)
        accept = "text/event-stream" if streams else "application/json"
        return UpstreamRequest(request.method, request.url, {**request.headers, "Accept": accept}, request.body)

    def leaves_out(self, path: str, body: Mapping[str, Any]) -> list[str]:
        if not path.endswith("/invoke"):
            return []
        return [name for name in body if name not in INVOKE_FIELDS | IN_THE_ADDRESS]

    def needs_login(self, target: Target) -> bool:
        return True

    def login(self, target: Target, refused: str) -> Login:
        """Client credentials: RFC 6749, section 4.4, and with a certificate RFC 8705."""
        try:
            key = ServiceKey.read(target.secrets.get("service_key", ""))
        except ValueError as error:
            raise ProviderError(str(error), kind="auth", retryable=False) from error
        form = {"grant_type": "client_credentials", "client_id": key.client_id}
        if key.secret:
            form["client_secret"] = key.secret
        reply = yield LoginRequest(
            "POST",
            key.token_url,
            {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
            urlencode(form).encode(),
            certificate=key.certificate,
            key=key.key,
        )
        try:
            document = loads_object(reply.body)
        except BadDocument:
            document = {}
        if reply.status in (400, 401, 403):
            said = text_in(document, "error")
            why = f" ({said})" if said.isidentifier() else ""
            raise ProviderError(
                f"SAP's identity provider does not accept the service key{why}. "
                "It may have been deleted: make a new one in BTP and paste it into the profile.",
                kind="auth",
                upstream_status=reply.status,
            )
        token = text_in(document, "access_token")
        if reply.status != 200 or not token:
            raise ProviderError(
                f"SAP's identity provider answered with status {reply.status} and no token.",
                kind="unavailable",
                upstream_status=reply.status,
            )
        lifetime = document.get("expires_in")
        seconds = min(lifetime, LONGEST_LIFE) if isinstance(lifetime, (int, float)) and lifetime > 0 else TOKEN_LIFE
        return UpstreamToken(token, float(seconds), f"client {key.client_id}")

    def models(self, target: Target) -> Listing:
        """What runs in the resource group; a model deployed twice comes twice.

        Through each deployment of orchestration come the models of the catalogue that allow it.
        """
        api, headers = self.address(target), self.headers(target)
        running: list[dict[str, Any]] = []
        seen = 0
        while True:
            query = urlencode({"status": "RUNNING", "$top": PAGE, "$skip": seen}, safe="$")
            document = yield UpstreamRequest("GET", f"{api}/lm/deployments?{query}", headers)
            rows = _resources(document)
            running += [row for row in rows if text_in(row, "status") == "RUNNING" and text_in(row, "deploymentUrl")]
            seen += len(rows)
            if not rows or seen >= count_in(document, "count"):
                break
        found = [model for row in running if (model := _model(row))]
        if orchestrating := [row for row in running if text_in(row, "scenarioId") == "orchestration"]:
            catalogue = yield UpstreamRequest("GET", f"{api}/lm/scenarios/foundation-models/models", headers)
            names = _orchestrated(catalogue)
            found += [_listed(THROUGH + name, row, "orchestration") for row in orchestrating for name in names]
        return found

    def meaning(self, status: int, said: str) -> Kind | None:
        if status == 404:
            return "model_not_found"  # stopped, or in another resource group
        if status in (412, 424):
            return "unavailable"
        if status == 400 and "content" in said and "filter" in said:
            return "content_filter"
        # Claude; Bedrock of any model; Gemini.
        if status == 400 and ("is too long" in said or ("token count" in said and "exceeds" in said)):
            return "context_length"
        return None


def family(model: UpstreamModel) -> str:
    """The executable decides; for a deployment given by its address the model's name must do."""
    name, executable = model.name.lower(), model.family
    if name.startswith(THROUGH):
        return "orchestration"
    if executable == "aws-bedrock" or not executable:
        if name.startswith("anthropic"):
            return "claude"
        if name.startswith("amazon--titan-embed"):
            return "titan"
        if executable or name.startswith("amazon"):
            return "bedrock"
    if executable:
        return executable
    if name.startswith("gemini"):
        return "gcp-vertexai"
    return "azure-openai" if name.startswith(("gpt", "o1", "o3", "o4", "text-embedding")) else "aicore"


def embeds(model: UpstreamModel) -> bool:
    stated = model.capabilities.get("embeddings")
    return "embed" in model.name.lower() if stated is None else stated


def _resources(document: Any) -> list[dict[str, Any]]:
    if not isinstance(document, dict) or not isinstance(document.get("resources"), list):
        raise ProviderError("SAP AI Core's answer is not a list.", kind="broken")
    return objects_in(document, "resources")


def _model(row: Mapping[str, Any]) -> UpstreamModel | None:
    """The model of a deployment; None for orchestration, which has none of its own, and for what is no model."""
    name = text_in(_deployed(row), "name")
    if not name or text_in(row, "scenarioId") == "orchestration":
        return None
    return _listed(name, row, text_in(row, "executableId"))


def _deployed(row: Mapping[str, Any]) -> dict[str, Any]:
    resources = object_in(object_in(row, "details"), "resources")
    return object_in(object_in(resources, "backendDetails") or object_in(resources, "backend_details"), "model")


def _listed(name: str, row: Mapping[str, Any], family: str) -> UpstreamModel:
    version = text_in(_deployed(row), "version")
    note = f"deployment {text_in(row, 'id')}{f', version {version}' if version else ''}"
    model = UpstreamModel(name, url=text_in(row, "deploymentUrl"), family=family, note=note)
    return replace(model, capabilities={"embeddings": embeds(model)})


def _orchestrated(catalogue: Any) -> list[str]:
    """The models that may be called through orchestration."""
    return [
        name
        for row in _resources(catalogue)
        if (name := text_in(row, "model"))
        and any(text_in(each, "scenarioId") == "orchestration" for each in objects_in(row, "allowedScenarios"))
    ]


def _invoked(body: Mapping[str, Any], passed: Mapping[str, str]) -> dict[str, Any]:
    """Messages as Bedrock takes them, be they written here or by the caller. Raises CannotCarry."""
    _refuse(body)
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "none":
        body = _without(body, "tool_choice", "tools")
    betas = [beta for said in passed.get("anthropic-beta", "").split(",") if (beta := said.strip()) in BETAS]
    invoked = {"anthropic_version": BEDROCK_VERSION} | ({"anthropic_beta": betas} if betas else {})
    invoked |= {name: value for name, value in body.items() if name in INVOKE_FIELDS}
    for name in ("system", "messages", "tools"):
        if isinstance(blocks := invoked.get(name), list):
            invoked[name] = [_plain(block, TOOL_FIELDS if name == "tools" else None) for block in blocks]
    return invoked


def _refuse(body: Mapping[str, Any]) -> None:
    """What would be lost without a word. Whoever asks by the middle instead may have it in another way."""
    for name in NEVER_DROPPED:
        if body.get(name):
            raise cannot_carry(name)
    config = body.get("output_config")
    if isinstance(config, dict) and config.get("format"):
        raise cannot_carry("output_config.format")
    tools = body.get("tools")
    if isinstance(tools, list) and any(isinstance(t, dict) and t.get("type", "custom") != "custom" for t in tools):
        raise CannotCarry("This upstream knows no tools but those with a schema.", "tools")
    for message in body["messages"]:
        if message.get("role") == "system":
            raise CannotCarry("A system message has no place among the others on this upstream.", "messages")
        if _must_be_fetched(message.get("content")):
            raise CannotCarry("This upstream takes an image as a data URL in base64 alone.", "messages")


def _must_be_fetched(content: object) -> bool:
    """Whether blocks, or the results of tools among them, hold an image by its address."""
    return isinstance(content, list) and any(
        (isinstance(source := block.get("source"), dict) and source.get("type") == "url")
        or _must_be_fetched(block.get("content"))
        for block in content
        if isinstance(block, dict)
    )


def _plain(block: Any, fields: tuple[str, ...] | None = None) -> Any:
    """A message, block or tool whose cache marks say what Bedrock knows, and with no more than these fields."""
    if not isinstance(block, dict):
        return block
    kept = block if fields is None else {name: block[name] for name in block if name in fields}
    if isinstance(mark := kept.get("cache_control"), dict):
        kept = {**kept, "cache_control": {name: mark[name] for name in mark if name in MARK_FIELDS}}
    if isinstance(inner := kept.get("content"), list):
        kept = {**kept, "content": [_plain(each) for each in inner]}
    return kept


def _without(body: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}
