"""People and their keys."""

from __future__ import annotations

import ipaddress
import uuid
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction

from apikeys import digests
from profiles.models import Configuration, ConfigurationQuerySet, Revision, Route


class UserManager(DjangoUserManager.from_queryset(ConfigurationQuerySet)):  # type: ignore[misc]
    """Django's; changing people in bulk is a change of the configuration too."""


class User(AbstractUser):
    """A person, or a service with keys of its own."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField("e-mail", blank=True, null=True, unique=True)  # type: ignore[assignment]

    objects = UserManager()  # type: ignore[misc]

    REQUIRED_FIELDS: list[str] = []  # type: ignore[misc]

    class Meta:
        ordering = ("username",)

    def clean(self) -> None:
        super().clean()
        self.email = self.email or None

    def save(self, *args: Any, **options: Any) -> None:
        self.email = self.email or None
        with transaction.atomic():
            if options.get("update_fields") != ["last_login"]:
                Revision.bump()  # an inactive owner's keys stop working
            super().save(*args, **options)

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            Revision.bump()  # the keys go with their owner
            return super().delete(*args, **options)


def clean_networks(value: object) -> None:
    """Raises ValidationError unless `value` is a list of addresses or networks."""
    if not isinstance(value, list):
        raise ValidationError("Give a list of addresses or networks.")
    for item in value:
        try:
            ipaddress.ip_network(item)
        except (ValueError, TypeError) as error:
            raise ValidationError(f"“{item}” is not an address or a network such as 10.0.0.0/8.") from error


def clean_tags(value: object) -> None:
    """Raises ValidationError unless `value` is a list of short texts."""
    if not isinstance(value, list) or not all(isinstance(tag, str) and 0 < len(tag) <= 50 for tag in value):
        raise ValidationError("Give a list of tags of up to 50 characters each.")


class APIKey(Configuration):
    """A caller's secret, kept as a digest."""

    class Kind(models.TextChoices):
        INFERENCE = "inference", "Inference"
        MANAGEMENT = "management", "Management"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="keys")
    name = models.CharField(max_length=100, help_text="What it is for, as “Open WebUI” or “nightly report”.")
    kind = models.CharField(max_length=20, choices=Kind.choices, default=Kind.INFERENCE)
    prefix = models.CharField(max_length=40, editable=False, help_text="The beginning of the key.")
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    tags = models.JSONField(default=list, blank=True, validators=[clean_tags])
    active = models.BooleanField(default=True, help_text="Switch off to revoke; every worker notices within 2 s.")
    expires_at = models.DateTimeField("expires", null=True, blank=True)
    last_used_at = models.DateTimeField("last used", null=True, blank=True, editable=False)
    all_routes = models.BooleanField(default=True, help_text="May use every route, also those made later.")
    routes = models.ManyToManyField(Route, blank=True, related_name="keys", help_text="When not all routes.")
    allowed_ips = models.JSONField("allowed addresses", default=list, blank=True, validators=[clean_networks])
    max_body_mb = models.PositiveIntegerField(
        "largest request",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(1024)],
        help_text="MiB; empty: as the gateway allows.",
    )
    trusts_user_headers = models.BooleanField(
        "trusts user headers",
        default=False,
        help_text="Record X-OpenWebUI-User-* as the end user. Only for keys held by a front end you run.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "API key"
        ordering = ("-created_at",)
        constraints = (models.UniqueConstraint(fields=("owner", "name"), name="one_key_per_owner_and_name"),)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def set_key(self, key: str) -> None:
        """Keep the digest of `key`; the key itself is nowhere after this."""
        self.digest = digests.digest(key)
        self.prefix = digests.shown_prefix(key)
