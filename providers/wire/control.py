"""Everything rare that is asked of an upstream: model lists now, tokens and tests later. Uses requests.

The address that is connected to is looked at before anything is sent, and no redirect is followed.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from providers.base import Provider, Target, UpstreamModel, UpstreamRequest
from providers.documents import BadDocument, loads
from providers.languages.openai import read_error
from providers.wire import guard
from providers.wire.client import proxy_for, tls_context
from providers.wire.errors import ProviderError

LARGEST_DOCUMENT = 16 << 20  # bytes


class _GuardedConnection(HTTPConnection):
    def _new_conn(self) -> Any:
        sock = super()._new_conn()
        try:
            guard.check_address(sock.getpeername()[0])
        except guard.Forbidden:
            sock.close()
            raise
        return sock


class _GuardedTLSConnection(HTTPSConnection):
    _new_conn = _GuardedConnection._new_conn


class _GuardedPool(HTTPConnectionPool):
    ConnectionCls = _GuardedConnection


class _GuardedTLSPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedTLSConnection


class _GuardedAdapter(HTTPAdapter):
    """Trusts the profile's CA besides the system's, and connects only where the guard allows."""

    def __init__(self, ca: str) -> None:
        self._context = tls_context(ca)
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _GuardedPool, "https": _GuardedTLSPool}

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=self._context, **options)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        host, options = super().build_connection_pool_key_attributes(request, verify, cert)
        # Our context knows whom to trust; requests would load its own bundle over it.
        options.pop("ca_certs", None)
        return host, options

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        conn.cert_reqs = "CERT_REQUIRED"


def ask(request: UpstreamRequest, target: Target) -> Any:
    """Send `request` and return the JSON of its answer. Raises ProviderError."""
    session = requests.Session()
    session.trust_env = False  # ~/.netrc would add credentials of its own
    session.mount("http://", _GuardedAdapter(target.ca))
    session.mount("https://", _GuardedAdapter(target.ca))
    with closing(session):
        try:
            status, body = _send(session, request, target)
        except guard.Forbidden as error:
            raise _unreachable(target, "its address is not one that may be reached") from error
        except requests.exceptions.SSLError as error:
            raise _unreachable(target, "its TLS certificate was not accepted") from error
        except requests.exceptions.Timeout as error:
            raise ProviderError(f"'{target.profile}' did not answer in time.", kind="timeout") from error
        except (requests.exceptions.RequestException, OSError) as error:
            raise _unreachable(target, "no connection could be made") from error
    if not 200 <= status < 300:
        raise read_error(status, body, target.profile)
    try:
        return loads(body)
    except BadDocument as error:
        raise ProviderError(f"'{target.profile}' did not answer in JSON.", kind="broken") from error


def list_models(provider: Provider, target: Target) -> list[UpstreamModel]:
    """The models of an account, asked of it or known. Raises ProviderError."""
    request = provider.models_request(target)
    if request is None:
        return provider.known_models()
    return provider.read_models(ask(request, target))


def _send(session: requests.Session, request: UpstreamRequest, target: Target) -> tuple[int, bytes]:
    scheme, _, rest = request.url.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    host = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    guard.check_host(host)
    proxy = proxy_for(scheme, host, target)
    with session.request(
        request.method,
        request.url,
        headers=dict(request.headers),
        data=request.body or None,
        timeout=(target.connect_timeout, min(target.total_timeout, 60)),
        allow_redirects=False,
        proxies={scheme: proxy.geturl()} if proxy else {},
        stream=True,
    ) as response:
        body = response.raw.read(LARGEST_DOCUMENT, decode_content=True)
        return response.status_code, body


def _unreachable(target: Target, why: str) -> ProviderError:
    return ProviderError(f"'{target.profile}' could not be reached: {why}.", kind="unreachable")
