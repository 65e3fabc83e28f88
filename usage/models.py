"""One row per call, and what the ledger needs to write each exactly once."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

from django.db import models

from apikeys.models import APIKey, User
from profiles.models import Deployment, Profile, Route
from profiles.money import usd_from_cost


class Ending(models.TextChoices):
    """How a call ended; every call has exactly one."""

    COMPLETED = "completed", "Completed"
    REFUSED = "refused", "Refused by the gateway"
    FAILED = "failed", "Failed upstream"
    UPSTREAM_CUT = "upstream_cut", "Cut by the upstream"
    CLIENT_GONE = "client_gone", "Client left"
    DRAINED = "drained", "Ended by a restart"
    WORKER_LOST = "worker_lost", "Worker died"


class TokensFrom(models.TextChoices):
    UPSTREAM = "upstream", "Upstream"
    ESTIMATED = "estimated", "Estimated"
    NONE = "none", "None"


def _history(to: type[models.Model], related_name: str) -> models.ForeignKey[Any, Any]:
    """A link that outlives its target: rows are written after the fact and kept when what they name is gone."""
    return models.ForeignKey(
        to, null=True, blank=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name=related_name
    )


def _tokens(verbose_name: str) -> models.PositiveIntegerField[int, int]:
    return models.PositiveIntegerField(verbose_name, default=0)


class UsageRecord(models.Model):
    """What one call was, did and cost. No prompt and no answer is kept. Money is nano-USD."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    request_id = models.CharField("request id", max_length=64)
    client_request_id = models.CharField("client's request id", max_length=200, blank=True, default="")
    started_at = models.DateTimeField("started", db_index=True)
    key = _history(APIKey, "usage")
    key_name = models.CharField("key", max_length=100, blank=True, default="")
    key_prefix = models.CharField(max_length=40, blank=True, default="")
    owner = _history(User, "usage")
    owner_name = models.CharField("owner", max_length=150, blank=True, default="")
    route = _history(Route, "usage")
    route_name = models.CharField("route", max_length=200, blank=True, default="")
    deployment = _history(Deployment, "usage")
    profile = _history(Profile, "usage")
    profile_name = models.CharField("profile", max_length=100, blank=True, default="")
    upstream_model = models.CharField(max_length=300, blank=True, default="")
    language_in = models.CharField("caller's language", max_length=40, blank=True, default="")
    language_out = models.CharField("upstream's language", max_length=40, blank=True, default="")
    lane = models.CharField(max_length=20, blank=True, default="")
    streamed = models.BooleanField(default=False)
    status = models.PositiveSmallIntegerField()
    ending = models.CharField(max_length=20, choices=Ending.choices)
    error_code = models.CharField("error", max_length=100, blank=True, default="")
    input_tokens = _tokens("input")
    cached_tokens = _tokens("cached")
    cache_write_tokens = _tokens("cache write")
    output_tokens = _tokens("output")
    reasoning_tokens = _tokens("reasoning")
    audio_tokens = _tokens("audio")
    tokens_from = models.CharField(max_length=20, choices=TokensFrom.choices, default=TokensFrom.NONE)
    cost = models.BigIntegerField(default=0, help_text="Nano-USD.")
    prices = models.JSONField(default=dict, help_text="Micro-USD per million tokens, as they were.")
    duration_ms = models.PositiveIntegerField("duration", default=0)
    first_token_ms = models.PositiveIntegerField("first token", null=True, blank=True)
    attempts = models.JSONField(default=list)
    end_user = models.CharField(max_length=200, blank=True, default="")
    client = models.CharField(max_length=200, blank=True, default="")
    tags = models.JSONField(default=list)

    class Meta:
        verbose_name = "call"
        ordering = ("-id",)  # UUIDv7: the order of their beginning, on the primary key's own index
        indexes = (
            models.Index(fields=("key", "-id"), name="calls_of_a_key"),
            models.Index(fields=("request_id",), name="call_by_request_id"),
        )

    def __str__(self) -> str:
        return self.request_id

    @property
    def cost_usd(self) -> Decimal:
        return usd_from_cost(self.cost)


class OpenCall(models.Model):
    """A call whose `open` line has been read and whose `close` line has not."""

    id = models.UUIDField(primary_key=True)
    worker = models.UUIDField(db_index=True)
    opened_at = models.DateTimeField()
    row = models.JSONField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.id)


class JournalPosition(models.Model):
    """How far a journal file has been read, in bytes."""

    file = models.CharField(max_length=200, primary_key=True)
    offset = models.BigIntegerField(default=0)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.file} at {self.offset}"
