"""A new key pair for an account that proves itself with one, and what its administrator must run for it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.db import transaction

from profiles.models import Profile
from providers import keypairs

KINDS = ("snowflake",)
FIRST, SECOND = "private_key", "private_key_2"
COLUMNS = {FIRST: "RSA_PUBLIC_KEY", SECOND: "RSA_PUBLIC_KEY_2"}
UNQUOTED = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
NO_ROLE = "YOUR_ROLE"  # where the profile names none


@dataclass(frozen=True, slots=True)
class Statement:
    """A line of SQL, and what it is for."""

    says: str
    sql: str


@dataclass(frozen=True, slots=True)
class PublicHalf:
    """What may be shown of a new pair."""

    line: str
    statements: tuple[Statement, ...]


def make(profile: Profile, slot: str) -> PublicHalf:
    """Keep a new private key sealed in this slot of the profile. Raises SealBroken, or ValueError without a user."""
    if not profile.settings.get("user"):
        raise ValueError("Enter the user and save first: a key pair belongs to a user.")
    private, line = keypairs.new_pair()
    with transaction.atomic():
        stored = Profile.objects.select_for_update().get(pk=profile.pk)
        values = stored.sealed_values()
        values["secrets"][slot] = private
        stored.seal(values)
        stored.save()
    return public_half(profile, slot, line)


def public_half(profile: Profile, slot: str, line: str) -> PublicHalf:
    user, role = (str(profile.settings.get(name) or "") for name in ("user", "role"))
    return PublicHalf(line, statements(user, role, slot, line))


def statements(user: str, role: str, slot: str, line: str) -> tuple[Statement, ...]:
    # A signed token names the user in capitals, whatever the case it was typed in.
    who, which = quoted(user.upper()), quoted(as_stored(role)) if role else NO_ROLE
    grant = f"GRANT DATABASE ROLE SNOWFLAKE.CORTEX_USER TO ROLE {which};"
    made = [
        Statement("Register the key with the user", f"ALTER USER {who} SET {COLUMNS[slot]}='{line}';"),
        Statement("Let the user's default role use the models", grant),
    ]
    if role:
        both = f"GRANT ROLE {which} TO USER {who};\nALTER USER {who} SET DEFAULT_ROLE = {which};"
        made.append(Statement("Give the user this role, and make it the default one", both))
    return tuple(made)


def as_stored(name: str) -> str:
    """Snowflake stores plain names in capitals; others only exist as they were quoted."""
    return name.upper() if UNQUOTED.fullmatch(name) else name


def quoted(name: str) -> str:
    """An SQL identifier, safe whatever it holds."""
    return '"' + name.replace('"', '""') + '"'
