"""What the caller wants: the body, the route it names, and the limits of both."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, cast

from django.conf import settings
from rest_framework.request import Request

from apikeys.keyring import Key
from gateway.errors import RouteUnknown, TooLarge
from profiles import catalog
from profiles.catalog import LiveDeployment, LiveRoute
from providers.base import Provider
from providers.capabilities import Capability, Needs
from providers.conversation import ChatRequest, EmbeddingRequest
from providers.languages.language import BadRequest, EmbeddingLanguage, Envelope, Language
from providers.languages.messages import without_pictures
from providers.languages.openai_passthrough import PassThrough
from providers.multipart import Form
from providers.wire.errors import CannotCarry
from usage.metering import Call


class Asked:
    """What the caller wants, read as far as it must be."""

    def __init__(self, body: dict[str, Any], envelope: Envelope, route: LiveRoute, language: Language) -> None:
        self.body = body
        self.envelope = envelope
        self.route = route
        self.language = language
        self.form: Form | None = None  # what `body` are only the fields of
        self.headers: dict[str, str] = {}
        self.passed: dict[str, str] = {}  # headers of the caller's that go where the body goes untouched
        self._request: ChatRequest | None = None
        self._embedding: EmbeddingRequest | None = None
        self._needs: Needs | None = None

    @property
    def needs(self) -> Needs:
        """What this asks of a model beyond plain text."""
        if self._needs is None:
            self._needs = self.language.needs(self.body)
        return self._needs

    def written_in(self, language: Language, deployment: LiveDeployment) -> dict[str, Any]:
        """The body for an upstream that speaks another language. Raises BadRequest or CannotCarry."""
        if isinstance(language, EmbeddingLanguage):
            return language.write_embedding_request(self.embedding, deployment.upstream_model)
        return language.write_request(self.fitted(deployment.lacks)[0], deployment.upstream_model)

    def dropped_in(self, language: Language | Provider, deployment: LiveDeployment) -> list[str]:
        """What finds no place there, by the names of the middle."""
        if isinstance(self.language, EmbeddingLanguage):
            kept = language.extras_of(self.embedding) if isinstance(language, EmbeddingLanguage) else {}
            return [name for name in self.embedding.extras if name not in kept]
        fitted, unfit = self.fitted(deployment.lacks)
        return [*language.dropped(fitted, deployment.upstream_model), *unfit]

    def fitted(self, lacks: Collection[Capability]) -> tuple[ChatRequest, list[str]]:
        """The request without what the model lacks and the caller can do without, and the names of that."""
        request, unfit = self.request, []
        if "streaming" in lacks:
            request = replace(request, stream=False)  # the answer is cut into events
        if "thinking" in lacks and (effort := request.reasoning_effort) is not None:
            request = replace(request, reasoning_effort=None)
            unfit += [] if effort == "none" else ["reasoning_effort"]
        if "images" in lacks and (messages := without_pictures(request.messages)) != request.messages:
            request = replace(request, messages=messages)
            unfit.append("images")
        return request, unfit

    def in_callers_words(self, refusal: CannotCarry | None) -> CannotCarry | None:
        """Upstreams' languages name what they cannot carry as the middle does."""
        if refusal is not None:
            refusal.param = self.language.named(refusal.param, self.body)
        return refusal

    @property
    def embedding(self) -> EmbeddingRequest:
        if self._embedding is None:
            self._embedding = cast(EmbeddingLanguage, self.language).parse_embedding(self.body)
        return self._embedding

    @property
    def request(self) -> ChatRequest:
        """The whole request in the words of the middle; only translating needs it. Raises BadRequest."""
        if self._request is None:
            request = self.language.parse_request(self.body)
            self._request = replace(request, ceiling=self.route.max_output_tokens)
        return self._request


def read(http: Request, call: Call, language: Language) -> Asked:
    """The body, the route it names, and the limits of both."""
    call.size = measured(http, call.key)
    call.estimates = not isinstance(language, PassThrough)  # the size of a file says nothing about tokens
    form = http.data if isinstance(http.data, Form) else None
    body = cast(dict[str, Any], http.data if form is None else form.fields)
    envelope = language.peek(body)
    call.asked_for, call.streamed = envelope.model, envelope.stream
    call.end_user = end_user(http, call, envelope)
    call.route = route = route_for(call.key, envelope.model, *language.spellings(envelope.model))
    if language.work not in route.works:
        raise BadRequest(f"The model '{route.name}' does not do this kind of work ({language.work}).", "model")
    asked = Asked(body, envelope, route, language)
    asked.form, asked.passed = form, passed_headers(http, language)
    if route.max_output_tokens is not None:
        asked.body, clamped = language.clamp(body, route.max_output_tokens)
        if clamped:
            asked.headers["x-gateway-clamped"] = f"{clamped}={route.max_output_tokens}"
    return asked


def measured(http: Request, key: Key) -> int:
    """The size of the body in bytes, before it is read. Raises TooLarge."""
    size = int(http.META.get("CONTENT_LENGTH") or 0)
    limit = min(key.max_body_mb or settings.MAX_BODY_MB, settings.MAX_BODY_MB)
    if size > limit << 20:
        raise TooLarge(limit)
    return size


def route_for(key: Key, model: str, *spellings: str) -> LiveRoute:
    """The route a caller means by `model`, which has these spellings. Raises RouteUnknown."""
    route = catalog.find(*spellings or (model,))
    if route is None or not key.may_use(route):
        raise RouteUnknown(model)
    return route


def routes_of(key: Key) -> list[LiveRoute]:
    """The routes this key may use."""
    return [route for route in catalog.live.value if key.may_use(route)]


def passed_headers(http: Request, language: Language) -> dict[str, str]:
    """The caller's headers that belong to the language; what is no plain text is not handed on."""
    given = {name: http.META.get(f"HTTP_{name.upper().replace('-', '_')}", "") for name in language.passes}
    return {name: value for name, value in given.items() if value and value.isascii() and value.isprintable()}


def end_user(http: Request, call: Call, envelope: Envelope) -> str:
    """Whom the caller asks for: its front end's word when the key is trusted with that, else `user`."""
    if call.key.trusts_user_headers:
        for name in ("EMAIL", "ID", "NAME"):
            if value := http.META.get(f"HTTP_X_OPENWEBUI_USER_{name}"):
                return str(value)
    return envelope.user or ""
