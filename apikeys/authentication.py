"""Who is calling: the key of a request, for every API view."""

from __future__ import annotations

import ipaddress
import time
from typing import Any, cast

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apikeys import keyring
from apikeys.digests import digest
from apikeys.keyring import Key


class KeyRefused(Exception):
    """No key, or one that does not open this door (401)."""

    def __init__(self, message: str, code: str = "invalid_api_key") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class KeyMayNot(Exception):
    """A good key that may not do this (403)."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer KEY`, `x-api-key: KEY` (Anthropic SDKs) or `api-key: KEY` (Azure-style clients)."""

    def authenticate(self, request: Request) -> tuple[Key, Key] | None:
        secret = presented_key(request.META)
        if secret is None:
            raise KeyRefused(
                "You did not provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'.", "missing_api_key"
            )
        key = keyring.find(digest(secret))
        if key is None:
            raise KeyRefused("Incorrect API key provided: it is not known here. Ask your administrator for one.")
        if not key.active:
            raise KeyRefused("This API key has been revoked. Ask your administrator for a new one.")
        if key.expires is not None and key.expires <= time.time():
            raise KeyRefused("This API key has expired. Ask your administrator for a new one.")
        if key.allowed_ips:
            _check_address(key, request.META)
        return key, key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def key_of(request: Request) -> Key:
    """The key of a request that HasKey has let in."""
    return cast(Key, request.auth)


class HasKey(BasePermission):
    """Inference asks for an inference key."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, Key):
            raise KeyRefused("You did not provide an API key.", "missing_api_key")
        if request.auth.kind != "inference":
            raise KeyMayNot("A management key cannot ask models. Use an inference key.", "wrong_key_kind")
        return True


class HasManagementKey(BasePermission):
    """Running what is behind the gateway asks for a management key."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, Key):
            raise KeyRefused("You did not provide an API key.", "missing_api_key")
        if request.auth.kind != "management":
            raise KeyMayNot("This takes a management key. Ask your administrator.", "wrong_key_kind")
        return True


def presented_key(meta: dict[str, Any]) -> str | None:
    if authorization := meta.get("HTTP_AUTHORIZATION"):
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer" and value.strip():
            return str(value.strip())
    return meta.get("HTTP_X_API_KEY") or meta.get("HTTP_API_KEY") or None


def _check_address(key: Key, meta: dict[str, Any]) -> None:
    address = client_address(meta)
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        ip = None
    if ip is None or not any(ip in network for network in key.allowed_ips):
        raise KeyMayNot(f"This API key may not be used from {address or 'here'}.", "address_not_allowed")


def client_address(meta: dict[str, Any]) -> str:
    """The caller's address: the last one in X-Forwarded-For that no trusted proxy of ours has added.

    A connection over a Unix socket comes from a proxy on this machine.
    """
    address = str(meta.get("REMOTE_ADDR") or "")
    if not settings.TRUSTED_PROXIES:
        return address
    hops = [hop.strip() for hop in str(meta.get("HTTP_X_FORWARDED_FOR") or "").split(",") if hop.strip()]
    while hops and (not address or _is_trusted(address)):
        address = hops.pop()
    return address


def _is_trusted(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in settings.TRUSTED_PROXIES)
