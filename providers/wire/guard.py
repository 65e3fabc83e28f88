"""Which addresses an upstream may have.

The address is looked at after the name was resolved and is the one that is connected to, so a name
that resolves differently the second time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Any

# Cloud metadata services that live outside the link-local range: Alibaba Cloud, AWS over IPv6, Oracle Cloud.
METADATA = frozenset(ipaddress.ip_address(address) for address in ("100.100.100.200", "fd00:ec2::254", "192.0.0.192"))
NAT64 = ipaddress.ip_network("64:ff9b::/96")
COMPATIBLE = ipaddress.ip_network("::/96")
METADATA_NAMES = frozenset(("metadata.google.internal", "metadata.goog", "metadata"))

AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]


@dataclass
class Policy:
    """What the operator allows; set once at start."""

    private_upstreams: bool = True
    ca_bundle: str | None = None


policy = Policy()


class Forbidden(OSError):
    """The address is one that no upstream may have."""


def check_address(address: str) -> None:
    """Raise Forbidden when `address` (an IP literal) must not be connected to."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = _unwrapped(ip)
    if ip in METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        raise Forbidden(f"{ip} is a metadata, link-local or multicast address")
    if not policy.private_upstreams and not ip.is_global:
        raise Forbidden(f"{ip} is a private address and ALLOW_PRIVATE_UPSTREAMS is off")


def _unwrapped(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address inside of an IPv6 one: mapped, compatible, 6to4 or NAT64 (RFC 4291, 3056, 6052)."""
    if inner := ip.ipv4_mapped or ip.sixtofour:
        return inner
    if ip in NAT64 or (ip in COMPATIBLE and int(ip) > 1):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def check_host(host: str) -> None:
    """Raise Forbidden for a host that is forbidden by name or by its literal address."""
    host = host.strip("[]").rstrip(".").lower()
    if host in METADATA_NAMES:
        raise Forbidden(f"{host} is a metadata service")
    try:
        check_address(host)
    except ValueError:
        try:
            # Decimal, octal and shortened spellings that a resolver, or a proxy, takes for an address.
            check_address(socket.inet_ntoa(socket.inet_aton(host)))
        except (OSError, ValueError) as error:
            if isinstance(error, Forbidden):
                raise


def resolve(host: str, port: int) -> list[AddressInfo]:
    """The addresses of `host` that may be connected to, in the resolver's order.

    Raises Forbidden when there are some but none is allowed, OSError when the name is unknown.
    """
    check_host(host)
    allowed: list[AddressInfo] = []
    refusal: Forbidden | None = None
    for info in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, socket.IPPROTO_TCP):
        try:
            check_address(str(info[4][0]))
        except Forbidden as error:
            refusal = error
        else:
            allowed.append(info)
    if not allowed:
        raise refusal or OSError(f"{host} has no address")
    return allowed
