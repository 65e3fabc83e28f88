"""What a provider is: an account kind that translates and never calls.

A provider declares its settings, says which languages a model speaks, and builds requests. It opens
nothing and saves nothing; `wire/` does the talking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from urllib.parse import SplitResult, urlsplit

from providers.conversation import ChatRequest, EmbeddingRequest, Embeddings, Event
from providers.documents import dumps
from providers.wire.errors import ProviderError

Pause = Callable[[float], None]
LEAST_SECRET = 8  # characters; what is shorter is found in any text


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a profile's form. A `secret` is stored encrypted and can be written, never read."""

    name: str
    label: str
    help: str = ""
    default: str = ""
    required: bool = False
    secret: bool = False
    kind: Literal["text", "url", "integer", "choice", "lines"] = "text"
    choices: tuple[str, ...] = ()
    most: int = 1_000_000_000  # of an integer

    def clean(self, value: str) -> str:
        """The value as it is stored. Raises ValueError with a sentence."""
        value = value.strip()
        if not value:
            if self.required and not self.default:
                raise ValueError(f"{self.label} is needed.")
            return self.default
        if self.kind != "lines" and not value.isprintable():
            raise ValueError(f"{self.label} must be one line without control characters.")
        if self.kind == "url":
            parts = _address(value)
            if parts is None:
                raise ValueError(f"{self.label} must be an address that begins with http:// or https://.")
            if parts.username or parts.password:
                raise ValueError(f"{self.label} must not hold a user name or password.")
            return value.rstrip("/")
        if self.kind == "integer" and not (value.isdecimal() and len(value) < 12 and int(value) <= self.most):
            raise ValueError(f"{self.label} must be a whole number of at most {self.most}.")
        if self.secret and self.kind == "text" and not value.isascii():
            raise ValueError(f"{self.label} must be plain ASCII, as headers are; was it copied with an ellipsis?")
        if self.kind == "choice" and value not in self.choices:
            raise ValueError(f"{self.label} must be one of {', '.join(self.choices)}.")
        return value


def _address(value: str) -> SplitResult | None:
    """The parts of an http(s) address, or None when it is none."""
    try:
        parts = urlsplit(value)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        whole = whole and not (parts.query or parts.fragment)
    except ValueError:
        return None
    return parts if whole and value.isascii() and " " not in value else None


@dataclass(frozen=True, slots=True)
class Target:
    """Everything needed to reach one account. Timeouts are in seconds."""

    profile: str
    kind: str
    settings: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False, default_factory=dict)
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    connect_timeout: float = 10
    first_event_timeout: float = 120
    idle_timeout: float = 60
    total_timeout: float = 600
    proxy_url: str = field(repr=False, default="")
    ca: str = field(repr=False, default="")

    def without_secrets(self, text: str) -> str:
        """`text` as an upstream wrote it, with our credentials taken out if it repeats one."""
        for secret in (*self.secrets.values(), *self.headers.values()):
            if len(secret) >= LEAST_SECRET:
                text = text.replace(secret, "[credential]")
        return text


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    body: bytes = field(repr=False, default=b"")


@dataclass(frozen=True, slots=True)
class UpstreamModel:
    """One model an account offers, as its listing names it."""

    name: str
    context_window: int | None = None


class Provider:
    """One account kind. Instances hold no state."""

    kind: ClassVar[str]
    label: ClassVar[str]
    settings: ClassVar[tuple[Setting, ...]] = ()
    third_party: ClassVar[bool] = False
    answers_itself: ClassVar[bool] = False

    def setting(self, name: str) -> Setting:
        """Raises KeyError when this kind has no such setting."""
        return {setting.name: setting for setting in self.settings}[name]

    def speaks(self, model: str) -> Mapping[str, str]:
        """Language name -> path of its endpoint, best first. A language not listed is translated."""
        raise NotImplementedError

    def request(self, target: Target, path: str, body: Mapping[str, Any]) -> UpstreamRequest:
        """The request that carries `body` to the endpoint `path` of this account."""
        return UpstreamRequest("POST", self.url(target, path), self.headers(target), dumps(body))

    def url(self, target: Target, path: str) -> str:
        return target.settings["url"] + path

    def headers(self, target: Target) -> dict[str, str]:
        return {"Content-Type": "application/json", **target.headers}

    def models_request(self, target: Target) -> UpstreamRequest | None:
        """The request for the account's model list, or None when `known_models` is all there is."""
        return None

    def read_models(self, document: Any) -> list[UpstreamModel]:
        """Read what `models_request` brought. Raises ProviderError when it is not a model list."""
        raise ProviderError(f"{self.label} does not list its models.", kind="broken")

    def known_models(self) -> list[UpstreamModel]:
        """Models that are there without asking."""
        return []

    def answer(self, request: ChatRequest, target: Target, pause: Pause) -> Iterator[Event]:
        """Only for kinds that answer by themselves; `pause` waits, in seconds."""
        raise NotImplementedError

    def embed(self, request: EmbeddingRequest, target: Target) -> Embeddings:
        raise NotImplementedError
