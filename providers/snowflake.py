"""Snowflake Cortex over its REST API, with a signed key-pair token, a programmatic access token or OAuth.

Sources: Snowflake documentation, "Cortex REST API" and "Authenticating Snowflake REST APIs with Snowflake".
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import jwt

from providers import snowflake_keys
from providers.base import (
    NOTHING,
    Listing,
    Login,
    Provider,
    Setting,
    Target,
    UpstreamModel,
    UpstreamRequest,
    UpstreamToken,
)
from providers.capabilities import CAPABILITIES, Capability
from providers.wire.errors import Kind, ProviderError

CHAT = "/api/v2/cortex/v1/chat/completions"
MESSAGES = "/api/v2/cortex/v1/messages"
COMPLETE = "/api/v2/cortex/inference:complete"
EMBED = "/api/v2/cortex/inference:embed"
MODELS = "/api/v2/cortex/models"

TOKEN_TYPES = {"keypair": "KEYPAIR_JWT", "pat": "PROGRAMMATIC_ACCESS_TOKEN", "oauth": "OAUTH"}
LONGEST_LIFE = 60 * 60  # seconds after `iat`, whatever `exp` says
BACK_DATED = 30  # seconds, for clocks that go slower than ours
MOST_OUTPUT = 16_384  # tokens, of every model

# Context windows in tokens: what is offered while the account cannot be asked.
KNOWN_MODELS: Mapping[str, int] = {
    "claude-opus-4-7": 200_000,
    "claude-sonnet-4-5": 200_000,
    "claude-haiku-4-5": 200_000,
    "claude-4-opus": 200_000,
    "claude-4-sonnet": 200_000,
    "claude-3-7-sonnet": 200_000,
    "claude-3-5-sonnet": 200_000,
    "openai-gpt-5.2": 272_000,
    "openai-gpt-5": 272_000,
    "openai-gpt-5-mini": 272_000,
    "openai-gpt-5-nano": 272_000,
    "openai-gpt-4.1": 1_047_576,
    "openai-o4-mini": 200_000,
    "llama4-maverick": 128_000,
    "llama4-scout": 128_000,
    "llama3.3-70b": 128_000,
    "llama3.1-405b": 128_000,
    "llama3.1-70b": 128_000,
    "llama3.1-8b": 128_000,
    "mistral-large2": 128_000,
    "mistral-large": 32_000,
    "mixtral-8x7b": 32_000,
    "mistral-7b": 32_000,
    "deepseek-r1": 32_768,
    "snowflake-llama-3.3-70b": 128_000,
    "snowflake-arctic": 4096,
}
KNOWN_EMBEDDERS: Mapping[str, int] = {
    "snowflake-arctic-embed-m": 512,
    "snowflake-arctic-embed-m-v1.5": 512,
    "snowflake-arctic-embed-l-v2.0": 8192,
    "e5-base-v2": 512,
    "nv-embed-qa-4": 512,
    "multilingual-e5-large": 512,
    "voyage-multilingual-2": 32_000,
}
EMBEDDERS = ("snowflake-arctic-embed-", "e5-", "nv-embed-", "multilingual-e5-", "voyage-")
BEYOND_OTHERS: frozenset[Capability] = frozenset(("tools", "images", "json_schema", "thinking"))
EVERYTHING: frozenset[Capability] = frozenset(CAPABILITIES)


class Snowflake(Provider):
    kind = "snowflake"
    label = "Snowflake Cortex"
    settings = (
        Setting("url", "Account URL", "As https://myorg-myaccount.snowflakecomputing.com.", required=True, kind="url"),
        Setting("user", "User", "Needed for a key pair. The name is written in capitals by itself."),
        Setting("account", "Account", "Only if it is not the first part of the URL, as MYORG-MY_ACCOUNT."),
        Setting("role", "Role", "The user's default role; it appears in the grant to run."),
        Setting("auth", "Proves itself with", default="keypair", kind="choice", choices=tuple(TOKEN_TYPES)),
        Setting(
            "token_lifetime",
            "Token lifetime",
            "Minutes a signed token is valid, 1 to 60; renewed at 80 %.",
            "60",
            kind="integer",
            most=60,
        ),
        Setting(
            "endpoint",
            "Endpoint",
            "legacy: inference:complete, for accounts without the newer ones.",
            "openai",
            kind="choice",
            choices=("openai", "legacy"),
        ),
        Setting("private_key", "Private key", "PEM, for auth keypair.", secret=True, kind="lines"),
        Setting("private_key_2", "Second private key", "Tried when the first is refused.", secret=True, kind="lines"),
        Setting("passphrase", "Passphrase", "Of private keys that are encrypted.", secret=True, any_text=True),
        Setting("pat", "Programmatic access token", "For auth pat.", secret=True),
        Setting("oauth_token", "OAuth token", "For auth oauth; renewed by you.", secret=True),
    )

    def check(self, target: Target) -> None:
        auth, secrets = target.settings["auth"], target.secrets
        if auth == "pat" and not secrets.get("pat"):
            raise ValueError("A programmatic access token is needed for auth pat.")
        if auth == "oauth" and not secrets.get("oauth_token"):
            raise ValueError("An OAuth token is needed for auth oauth.")
        if auth == "keypair":
            if not target.settings.get("user"):
                raise ValueError("The user's name is needed for a key pair.")
            if int(target.settings["token_lifetime"]) < 1:
                raise ValueError("The token lifetime must be between 1 and 60 minutes.")
            list(_keys(target))

    def speaks(self, model: UpstreamModel, target: Target) -> Mapping[str, str]:
        if embeds(model):
            return {"cortex_embed": EMBED}
        if target.settings["endpoint"] == "legacy":
            return {"cortex": COMPLETE}
        if _family(model.name) == "claude":
            return {"anthropic_messages": MESSAGES, "snowflake_chat": CHAT}
        return {"snowflake_openai" if _family(model.name) == "gpt" else "snowflake_chat": CHAT}

    def lacks(self, model: UpstreamModel) -> frozenset[Capability]:
        if embeds(model):
            return super().lacks(model) | EVERYTHING - {"embeddings"}
        lacking: frozenset[Capability] = super().lacks(model) | {"embeddings"}
        if _family(model.name) == "other":
            return lacking | frozenset(name for name in BEYOND_OTHERS if name not in model.capabilities)
        return lacking

    def offered_as(self, model: str) -> str:
        return f"snowflake[{model}]"

    def headers(self, target: Target) -> dict[str, str]:
        auth = target.settings["auth"]
        stored = target.secrets.get("pat" if auth == "pat" else "oauth_token", "")
        token = target.token if self.needs_login(target) else stored
        return {
            "Accept": "application/json, text/event-stream",
            **super().headers(target),
            "Authorization": f"Bearer {token}",
            "X-Snowflake-Authorization-Token-Type": TOKEN_TYPES[auth],
        }

    def request(
        self, target: Target, path: str, body: Mapping[str, Any], passed: Mapping[str, str] = NOTHING
    ) -> UpstreamRequest:
        if path == MESSAGES:
            # The one version that is documented here; later ones ask for less, and answer alike.
            passed = {**passed, "anthropic-version": "2023-06-01"}
        return super().request(target, path, body, passed)

    def needs_login(self, target: Target) -> bool:
        return target.settings["auth"] == "keypair"

    def login(self, target: Target, refused: str) -> Login:
        """Signed here: nobody is asked."""
        yield from ()
        try:
            keys = list(_keys(target))
        except ValueError as error:
            raise ProviderError(str(error), kind="auth", retryable=False) from error
        prints = [snowflake_keys.fingerprint(key) for key in keys]
        chosen = next((index for index, print_ in enumerate(prints) if print_ not in refused), 0)
        name = f"{account(target)}.{target.settings['user'].upper()}"
        now = int(time.time())
        lifetime = min(int(target.settings["token_lifetime"]) * 60, LONGEST_LIFE - BACK_DATED)
        claims = {"iss": f"{name}.{prints[chosen]}", "sub": name, "iat": now - BACK_DATED, "exp": now + lifetime}
        return UpstreamToken(jwt.encode(claims, keys[chosen], "RS256"), lifetime, f"key {chosen + 1}, {prints[chosen]}")

    def identity(self, target: Target) -> str:
        if not self.needs_login(target):
            return "the owner of the token stored here"
        key = next(_keys(target))
        return f"user {target.settings['user'].upper()} of {account(target)}, key {snowflake_keys.fingerprint(key)}"

    def models(self, target: Target) -> Listing:
        document = yield UpstreamRequest("GET", self.url(target, MODELS), self.headers(target))
        names = document.get("models") if isinstance(document, dict) else None
        if not isinstance(names, list):
            raise ProviderError("Snowflake's answer is not a list of models.", kind="broken")
        return [_model(name) for name in names if isinstance(name, str) and name]

    def known_models(self) -> list[UpstreamModel]:
        return [_model(name) for name in (*KNOWN_MODELS, *KNOWN_EMBEDDERS)]

    def meaning(self, status: int, said: str) -> Kind | None:
        if status == 400:
            for words, kind in IN_A_400.items():
                if words in said:
                    return kind
        if status in (404, 405):
            return "broken"
        if status == 503 and "timed out" in said:
            return "timeout"
        return None


# A status 400 of Snowflake is not always the caller's fault.
IN_A_400: Mapping[str, Kind] = {
    "unknown model": "model_not_found",
    "throttled": "rate_limit",
    "max tokens of": "context_length",
}


def account(target: Target) -> str:
    """The account's name as a signed token must spell it: region and cloud taken off, in capitals."""
    name = (
        target.settings.get("account")
        or (urlsplit(target.settings["url"]).hostname or "").partition(".snowflakecomputing.")[0]
    )
    if ".global" in name:
        return name.partition("-")[0].upper()
    return name.partition(".")[0].upper()


def embeds(model: UpstreamModel) -> bool:
    stated = model.capabilities.get("embeddings")
    return model.name.startswith(EMBEDDERS) if stated is None else stated


def _family(name: str) -> str:
    if name.startswith("claude"):
        return "claude"
    return "gpt" if name.startswith("openai-") else "other"


def _keys(target: Target) -> Iterator[Any]:
    """The private keys, the first one first. Raises ValueError with a sentence."""
    pems = [target.secrets[name] for name in ("private_key", "private_key_2") if target.secrets.get(name)]
    if not pems:
        raise ValueError("A private key is needed for auth keypair.")
    for pem in pems:
        yield snowflake_keys.load(pem, target.secrets.get("passphrase", ""))


def _model(name: str) -> UpstreamModel:
    window = KNOWN_MODELS.get(name) or KNOWN_EMBEDDERS.get(name)
    chats = name not in KNOWN_EMBEDDERS and not name.startswith(EMBEDDERS)
    return UpstreamModel(name, window, MOST_OUTPUT if chats else None, {"embeddings": not chats})
