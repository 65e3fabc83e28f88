"""Every key in memory, by digest, so that a warm call asks no database."""

from __future__ import annotations

import ipaddress
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from apikeys.models import APIKey
from profiles.catalog import LiveRoute
from profiles.watch import Watched

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Key:
    """What a call needs to know of its key; `expires` is in Unix seconds."""

    id: uuid.UUID
    name: str
    owner_id: uuid.UUID
    owner: str
    prefix: str
    kind: str
    active: bool
    expires: float | None
    routes: frozenset[int] | None  # None: all of them
    allowed_ips: tuple[Network, ...]
    max_body_mb: int | None
    trusts_user_headers: bool
    tags: tuple[str, ...]

    is_authenticated = True

    def may_use(self, route: LiveRoute) -> bool:
        return self.routes is None or route.id in self.routes


def load() -> Mapping[bytes, Key]:
    """Read all keys, the revoked and expired ones too: their holders are told what happened."""
    routes: dict[uuid.UUID, set[int]] = defaultdict(set)
    for key_id, route_id in APIKey.routes.through.objects.values_list("apikey_id", "route_id").iterator():
        routes[key_id].add(route_id)
    rows = APIKey.objects.select_related("owner").order_by()
    return {
        bytes(row.digest): Key(
            id=row.id,
            name=row.name,
            owner_id=row.owner_id,
            owner=row.owner.username,
            prefix=row.prefix,
            kind=row.kind,
            active=row.active and row.owner.is_active,
            expires=row.expires_at.timestamp() if row.expires_at else None,
            routes=None if row.all_routes else frozenset(routes[row.id]),
            allowed_ips=tuple(ipaddress.ip_network(network) for network in row.allowed_ips),
            max_body_mb=row.max_body_mb,
            trusts_user_headers=row.trusts_user_headers,
            tags=tuple(row.tags),
        )
        for row in rows.iterator(chunk_size=500)
    }


live: Watched[Mapping[bytes, Key]] = Watched(load, {})


def find(digest: bytes) -> Key | None:
    """The key with this digest; one that is not in memory is looked for in the database once more.

    Raises ConfigurationUnavailable.
    """
    key = live.value.get(digest)
    if key is None and live.refresh():
        key = live.value.get(digest)
    return key
