"""A new key pair for an account that proves itself with one, and what its administrator must run for it."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction

from profiles.models import Profile
from providers import snowflake_keys
from providers.snowflake_keys import Statement

KINDS = ("snowflake",)


@dataclass(frozen=True, slots=True)
class PublicHalf:
    """What may be shown of a new pair."""

    line: str
    statements: tuple[Statement, ...]


def make(profile: Profile, slot: str) -> PublicHalf:
    """Keep a new private key sealed in this slot of the profile. Raises SealBroken, or ValueError without a user."""
    if not profile.settings.get("user"):
        raise ValueError("Enter the user and save first: a key pair belongs to a user.")
    private, line = snowflake_keys.new_pair()
    with transaction.atomic():
        stored = Profile.objects.select_for_update().get(pk=profile.pk)
        values = stored.sealed_values()
        values["secrets"][slot] = private
        stored.seal(values)
        stored.save()
    return public_half(profile, slot, line)


def public_half(profile: Profile, slot: str, line: str) -> PublicHalf:
    user, role = (str(profile.settings.get(name) or "") for name in ("user", "role"))
    return PublicHalf(line, snowflake_keys.statements(user, role, slot, line))
