"""Accounts at upstreams, the tokens we hold from them, and the routes callers may name."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from profiles import secrets
from profiles.money import PriceField
from profiles.revision import Configuration, ConfigurationQuerySet, Revision
from providers.base import Provider, Target, UpstreamModel
from providers.capabilities import known
from providers.registry import kinds

__all__ = [
    "Configuration",
    "ConfigurationQuerySet",
    "Deployment",
    "Profile",
    "Revision",
    "Route",
    "Token",
    "WorkerState",
]

WORKS = (
    ("chat", "Chat"),
    ("completion", "Completion"),
    ("embedding", "Embedding"),
    ("image", "Images"),
    ("speech", "Speech"),
    ("transcription", "Transcription"),
    ("moderation", "Moderation"),
    ("rerank", "Reranking"),
)


def all_works() -> list[str]:
    return [work for work, _ in WORKS]


def _seconds(default: int, help_text: str) -> models.PositiveIntegerField[int, int]:
    return models.PositiveIntegerField(
        default=default, validators=[MinValueValidator(1), MaxValueValidator(86_400)], help_text=help_text
    )


class Profile(Configuration):
    """An account at an upstream."""

    name = models.CharField(max_length=100, unique=True, help_text="What operators call this account.")
    kind = models.CharField(max_length=50)
    enabled = models.BooleanField(default=True)
    settings = models.JSONField(default=dict, blank=True)
    sealed = models.TextField(editable=False, default="", blank=True)
    connect_timeout = _seconds(10, "Seconds to open a connection.")
    first_event_timeout = _seconds(120, "Seconds until a stream must have begun.")
    idle_timeout = _seconds(60, "Seconds a stream may be silent once it has begun.")
    total_timeout = _seconds(600, "Seconds a call may take in all.")
    ca = models.TextField(
        "private CA", blank=True, help_text="Certificates (PEM) to trust besides the system's.", default=""
    )
    third_party = models.BooleanField(
        "third party", default=False, help_text="Prompts leave for machines that are not under contract."
    )
    sync_minutes = models.PositiveIntegerField(
        "look for models every",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(10_080)],
        help_text="Minutes. New models become routes, vanished ones are switched off. Empty: only when asked.",
    )
    synced_at = models.DateTimeField(null=True, blank=True, editable=False)
    sync_error = models.TextField(blank=True, default="", editable=False)
    notes = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def provider(self) -> Provider | None:
        """None when this version knows no such kind."""
        return kinds().get(self.kind)

    def sealed_values(self) -> dict[str, Any]:
        """`secrets` by name, `proxy_url` and `headers`. Raises SealBroken."""
        return {"secrets": {}, "proxy_url": "", "headers": {}} | (secrets.unseal(self.sealed) if self.sealed else {})

    def seal(self, values: dict[str, Any]) -> None:
        self.sealed = secrets.seal(values) if any(values.values()) else ""

    def open(self) -> Target:
        """All that a call needs to reach this account. Raises SealBroken."""
        values = self.sealed_values()
        provider = self.provider
        defaults = {s.name: s.default for s in provider.settings if not s.secret} if provider else {}
        return Target(
            profile=self.name,
            kind=self.kind,
            settings=defaults | {name: value for name, value in self.settings.items() if value},
            secrets=values["secrets"],
            headers=values["headers"],
            connect_timeout=self.connect_timeout,
            first_event_timeout=self.first_event_timeout,
            idle_timeout=self.idle_timeout,
            total_timeout=self.total_timeout,
            proxy_url=values["proxy_url"],
            ca=self.ca,
        )


class Token(models.Model):
    """What a login at an upstream gave us for a profile; renewed ahead of its end.

    `number` counts the tokens and the refusals, so that of several who want a new one a single one fetches it, under a
    lease until `lease_until`. `credential` is a digest of what the login was made from: with another
    credential the token is nobody's.
    """

    profile = models.OneToOneField(Profile, on_delete=models.CASCADE, related_name="token")
    sealed = models.TextField(editable=False, default="", blank=True)
    made_with = models.CharField(max_length=200, blank=True, default="")
    credential = models.CharField(max_length=64, blank=True, default="", editable=False)
    number = models.PositiveBigIntegerField(default=0, editable=False)
    obtained_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    refused = models.BooleanField(default=False, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    failures = models.PositiveIntegerField("failures in a row", default=0)
    failed_at = models.DateTimeField(null=True, blank=True)
    next_try_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True, default="")

    class Meta:
        ordering = ("profile__name",)

    def __str__(self) -> str:
        return f"Token of {self.profile}"

    @property
    def lifetime(self) -> timedelta:
        if self.obtained_at is None or self.expires_at is None:
            return timedelta()
        return self.expires_at - self.obtained_at


class Route(Configuration):
    """A public model name."""

    class ModelName(models.TextChoices):
        ROUTE = "route", "The route's name"
        UPSTREAM = "upstream", "The upstream's own name"

    name = models.CharField(
        max_length=200, unique=True, help_text="What callers put into “model”. Any text, as a/b:c or snowflake[x]."
    )
    works = models.JSONField("kinds of work", default=all_works)
    context_window = models.PositiveIntegerField(null=True, blank=True, help_text="Tokens; shown to callers.")
    max_output_tokens = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Larger requests are lowered to this and say so in x-gateway-clamped.",
    )
    model_name = models.CharField("model in answers", max_length=10, choices=ModelName.choices, default=ModelName.ROUTE)
    public = models.BooleanField(default=False, help_text="Named on the status page, to everyone.")
    third_party = models.BooleanField(
        "may leave for third parties",
        default=False,
        help_text="Whether profiles marked as third party may serve it: prompts then reach machines of strangers.",
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Deployment(Configuration):
    """One place where a route is served. Prices are micro-USD per million tokens."""

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="deployments")
    profile = models.ForeignKey(Profile, on_delete=models.CASCADE, related_name="deployments")
    upstream_model = models.CharField(max_length=300, help_text="What the upstream calls this model.")
    upstream_url = models.CharField(
        "address of the model",
        max_length=500,
        blank=True,
        default="",
        help_text="Only where each model has an address of its own, as a deployment of SAP AI Core has.",
    )
    capabilities = models.JSONField(
        default=dict, blank=True, help_text="What you know better than the upstream's listing: yes or no."
    )
    listed = models.JSONField("as listed", default=dict, blank=True, editable=False)
    vanished_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When the upstream stopped listing it, and it was switched off.",
    )
    priority = models.PositiveIntegerField(default=0, help_text="Lower is tried first.")
    weight = models.PositiveIntegerField(
        default=1, validators=[MinValueValidator(1)], help_text="Share of the calls among equal priorities."
    )
    price_input = PriceField("input price", help_text="USD per million tokens.")
    price_cached = PriceField("cached input price", help_text="Empty: as input.")
    price_cache_write = PriceField("cache write price", help_text="Empty: as input.")
    price_output = PriceField("output price", help_text="USD per million tokens.")
    price_reasoning = PriceField("reasoning price", help_text="Empty: as output.")
    price_audio = PriceField("audio price", help_text="Empty: as input and output.")
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ("route__name", "priority", "pk")
        constraints = (
            models.UniqueConstraint(
                fields=("route", "profile", "upstream_model", "upstream_url"),
                name="one_deployment_per_place",
                violation_error_message="This route is already served by this model of this profile.",
            ),
        )

    def __str__(self) -> str:
        return f"{self.route} at {self.profile}"

    @property
    def model(self) -> UpstreamModel:
        """What is known of it: the operator's word wins over the listing's."""
        listed = self.listed
        return UpstreamModel(
            name=self.upstream_model,
            context_window=listed.get("context_window"),
            max_output_tokens=listed.get("max_output_tokens"),
            capabilities=known(listed.get("capabilities")) | known(self.capabilities),
            url=self.upstream_url,
            family=listed.get("family") or "",
            note=listed.get("note") or "",
        )


class WorkerState(models.Model):
    """One serving process and what it last said of itself."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)
    revision = models.BigIntegerField(default=0)
    state = models.JSONField(default=dict)

    class Meta:
        verbose_name = "worker"
        ordering = ("started_at",)

    def __str__(self) -> str:
        return f"Worker {self.pid} on {self.host}"
