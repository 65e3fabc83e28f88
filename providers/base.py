"""What a provider is: an account kind that translates and never calls.

A provider declares its settings, says which languages a model speaks, and builds requests. It opens
nothing and saves nothing; `wire/` does the talking.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol
from urllib.parse import SplitResult, urlsplit

from providers.capabilities import Capability
from providers.conversation import ChatRequest, EmbeddingRequest, Embeddings, Event
from providers.documents import BadDocument, dumps, loads
from providers.languages import errors
from providers.multipart import ReaddressedForm
from providers.wire.errors import Kind, ProviderError

Pause = Callable[[float], None]
LEAST_SECRET = 8  # characters; what is shorter is found in any text
NOTHING: Mapping[str, str] = MappingProxyType({})


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
    any_text: bool = False  # a secret that is never part of a header, so that it need not be ASCII

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
        if self.secret and self.kind == "text" and not self.any_text and not value.isascii():
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
    token: str = field(repr=False, default="")
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    connect_timeout: float = 10
    first_event_timeout: float = 120
    idle_timeout: float = 60
    total_timeout: float = 600
    proxy_url: str = field(repr=False, default="")
    ca: str = field(repr=False, default="")

    def clean(self, error: ProviderError) -> None:
        """Take our credentials out of what an upstream said, if it repeats one."""
        credentials = [each for each in self._credentials() if len(each) >= LEAST_SECRET]
        for name in ("message", "code", "param"):
            if said := getattr(error, name):
                for each in credentials:
                    said = said.replace(each, "[credential]")
                setattr(error, name, said)

    def _credentials(self) -> Iterator[str]:
        yield from (self.token, *self.headers.values(), *self.secrets.values())
        for secret in self.secrets.values():
            if secret.lstrip().startswith("{"):  # a document of credentials, sent in parts
                with suppress(BadDocument):
                    parts = loads(secret.encode()).values()
                    yield from (part for part in parts if isinstance(part, str) and not part.startswith("http"))


class Upload(Protocol):
    """A body too large to be held: its pieces may be asked for more than once."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """Its body is `upload`, where there is one."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    body: bytes = field(repr=False, default=b"")
    upload: Upload | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class UpstreamModel:
    """One model an account offers, as its listing names it.

    `capabilities` holds what is known either way. `url` and `family` are for accounts whose models have
    addresses and wire formats of their own; `note` is for people.
    """

    name: str
    context_window: int | None = None  # tokens
    max_output_tokens: int | None = None
    capabilities: Mapping[Capability, bool] = field(default_factory=dict)
    url: str = ""
    family: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class UpstreamToken:
    """What a login brought. `lifetime` is in seconds; `made_with` names the credential it was made with."""

    value: str = field(repr=False)
    lifetime: float
    made_with: str = ""


@dataclass(frozen=True, slots=True)
class LoginReply:
    """The answer to one step of a login. Header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    body: bytes = field(repr=False, default=b"")
    cookies: Mapping[str, Cookie] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cookie:
    """One cookie an answer has set; `expires` is in Unix seconds."""

    value: str = field(repr=False)
    domain: str = ""
    expires: float | None = None


Login = Generator["LoginRequest", LoginReply, UpstreamToken]
Listing = Generator[UpstreamRequest, Any, list[UpstreamModel]]


@dataclass(frozen=True, slots=True)
class LoginRequest(UpstreamRequest):
    """One step of a login. Cookies of earlier steps are sent along, as a browser would.

    `certificate` and `key` (PEM) are shown to the server as the client's own.
    """

    cookies: Mapping[str, str] = field(repr=False, default_factory=dict)
    certificate: str = field(repr=False, default="")
    key: str = field(repr=False, default="")


class Provider:
    """One account kind. Instances hold no state."""

    kind: ClassVar[str]
    label: ClassVar[str]
    settings: ClassVar[tuple[Setting, ...]] = ()
    third_party: ClassVar[bool] = False
    answers_itself: ClassVar[bool] = False
    drops: ClassVar[tuple[str, ...]] = ()  # fields of ChatRequest that a kind which answers by itself pays no heed to
    has_addressed_models: ClassVar[bool] = False  # each model has an address of its own
    node_header: ClassVar[str] = ""  # of an answer: which machine made it

    def setting(self, name: str) -> Setting:
        """Raises KeyError when this kind has no such setting."""
        return {setting.name: setting for setting in self.settings}[name]

    def check(self, target: Target) -> None:
        """Whether settings and secrets fit together. Raises ValueError with a sentence."""

    def speaks(self, model: UpstreamModel, target: Target) -> Mapping[str, str]:
        """Language name -> path of its endpoint, or its whole address, best first.

        A language not listed is translated. A dialect that needs repairs has a name of its own.
        """
        raise NotImplementedError

    def lacks(self, model: UpstreamModel) -> frozenset[Capability]:
        """What this model is known not to do."""
        return frozenset(name for name, has in model.capabilities.items() if not has)

    def address(self, target: Target) -> str:
        """Where the account is, for people."""
        return target.settings.get("url", "")

    def canonical(self, model: str) -> str:
        """One spelling for a model that upstreams and operators may spell in several ways."""
        return model

    def offered_as(self, model: str) -> str:
        """The name callers are offered for an upstream's model, unless the operator wishes another."""
        return model

    def request(
        self, target: Target, path: str, body: Mapping[str, Any], passed: Mapping[str, str] = NOTHING
    ) -> UpstreamRequest:
        """The request that carries `body` to the endpoint `path` of this account.

        `passed` are headers of the caller's, their names in lower case, where the body is the caller's own as well.
        """
        headers = self.headers(target)
        if passed:
            headers = {name: value for name, value in headers.items() if name.lower() not in passed} | dict(passed)
        return UpstreamRequest("POST", self.url(target, path), headers, dumps(body))

    def upload(self, target: Target, path: str, form: ReaddressedForm) -> UpstreamRequest:
        """The request that carries a caller's own form to the endpoint `path` of this account."""
        headers = {name: value for name, value in self.headers(target).items() if name.lower() != "content-type"}
        headers["Content-Type"] = form.content_type
        return UpstreamRequest("POST", self.url(target, path), headers, upload=form)

    def leaves_out(self, path: str, body: Mapping[str, Any]) -> list[str]:
        """The fields of a caller's own body that the endpoint has no place for and `request` leaves out."""
        return []

    def url(self, target: Target, path: str) -> str:
        return path if "://" in path else target.settings["url"] + path

    def headers(self, target: Target) -> dict[str, str]:
        return {"Content-Type": "application/json", **target.headers}

    def needs_login(self, target: Target) -> bool:
        """Whether calls carry a token that a login brings, instead of a stored credential."""
        return False

    def login(self, target: Target, refused: str) -> Login:
        """The steps of a login: requests are yielded, their replies sent in, the token returned.

        `refused` is the `made_with` of a token the upstream has just refused. Raises ProviderError.
        """
        raise NotImplementedError

    def identity(self, target: Target) -> str:
        """Whom the upstream takes us for, as `user ADA`, without any secret."""
        return ""

    def models(self, target: Target) -> Listing:
        """The account's models: requests are yielded, their JSON sent in, the list returned.

        Raises ProviderError when what came is no model list.
        """
        yield from ()
        return self.known_models()

    def known_models(self) -> list[UpstreamModel]:
        """Models that are there without asking."""
        return []

    def read_error(self, status: int, body: bytes, profile: str) -> ProviderError:
        """What a refusal means; sees the upstream's words besides its status."""
        return errors.read_error(status, body, profile, self.meaning)

    def meaning(self, status: int, said: str) -> Kind | None:
        """For upstreams whose status says something else; `said` is code and message in lower case."""
        return None

    def dropped(self, request: ChatRequest, model: str) -> list[str]:
        return request.left_out(self.drops)

    def answer(self, request: ChatRequest, target: Target, pause: Pause) -> Iterator[Event]:
        """Only for kinds that answer by themselves; `pause` waits, in seconds."""
        raise NotImplementedError

    def embed(self, request: EmbeddingRequest, target: Target) -> Embeddings:
        raise NotImplementedError
