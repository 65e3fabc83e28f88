"""Everything rare that is asked of an upstream: model lists now, tokens and tests later. Uses requests.

The address that was looked at is the one that is connected to, and no redirect is followed.
"""

from __future__ import annotations

from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError, ReadTimeoutError
from urllib3.util.connection import create_connection

from providers.base import Provider, Target, UpstreamModel, UpstreamRequest
from providers.documents import BadDocument, loads
from providers.languages.openai import read_error
from providers.wire import guard
from providers.wire.client import proxy_for, tls_context
from providers.wire.errors import ProviderError

LARGEST_DOCUMENT = 16 << 20  # bytes
LONGEST = 60.0  # seconds, however long calls of the profile may take
PIECE = 64 << 10  # bytes read at a time


class _GuardedConnection(HTTPConnection):
    def _new_conn(self) -> Any:
        problem: OSError | None = None
        for info in guard.resolve(self._dns_host, self.port):
            try:
                return create_connection((str(info[4][0]), self.port), self.timeout)
            except OSError as error:
                problem = error
        raise NewConnectionError(self, "no connection could be made") from problem


class _GuardedTLSConnection(_GuardedConnection, HTTPSConnection):
    pass


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
    """Send `request` and return the JSON of its answer. Raises ProviderError.

    Causes that may show a header or a proxy's address are not chained: they hold credentials.
    """
    try:
        with requests.Session() as session:
            session.trust_env = False  # ~/.netrc would add credentials of its own
            session.mount("http://", _GuardedAdapter(target.ca))
            session.mount("https://", _GuardedAdapter(target.ca))
            status, body = _send(session, request, target)
    except guard.Forbidden as error:
        raise _unreachable(target, "its address is not one that may be reached", "address_refused") from error
    except requests.exceptions.SSLError as error:
        raise _unreachable(target, "its TLS certificate was not accepted") from error
    except (requests.exceptions.Timeout, ReadTimeoutError, TimeoutError) as error:
        raise ProviderError(f"'{target.profile}' did not answer in time.", kind="timeout") from error
    except (requests.exceptions.ConnectionError, HTTPError) as error:
        if isinstance(error, requests.exceptions.ProxyError):
            raise _unreachable(target, "the proxy could not be used") from None
        raise _unreachable(target, "no connection could be made, or it broke") from error
    except (requests.exceptions.RequestException, ValueError, TypeError):
        raise ProviderError(
            f"The settings of profile '{target.profile}' hold an address or a header that cannot be sent.",
            kind="broken",
        ) from None
    except OSError as error:
        raise _unreachable(target, "no connection could be made") from error
    if 300 <= status < 400:
        raise ProviderError(
            f"'{target.profile}' answered with a redirect; its URL should name the final address.",
            kind="broken",
            upstream_status=status,
        )
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
    url = urlsplit(request.url)
    host = url.hostname or ""
    proxy = proxy_for(url.scheme, host, target)
    if proxy is None:
        # Once more in front of everything: from inside the connection urllib3 would hide why it was refused.
        guard.resolve(host, url.port or (443 if url.scheme == "https" else 80))
    else:
        guard.check_host(host)
    for name, value in request.headers.items():
        if not f"{name}{value}".isprintable():
            raise ValueError("a header that cannot be sent")
        value.encode("latin-1")
    last = monotonic() + min(target.total_timeout, LONGEST)
    with session.request(
        request.method,
        request.url,
        headers=dict(request.headers),
        data=request.body or None,
        timeout=(target.connect_timeout, min(target.total_timeout, LONGEST)),
        allow_redirects=False,
        proxies={url.scheme: proxy.geturl()} if proxy else {},
        stream=True,
    ) as response:
        body = bytearray()
        while piece := response.raw.read1(PIECE, decode_content=True):
            body += piece
            if monotonic() > last:
                raise TimeoutError("the answer took too long")
            if len(body) > LARGEST_DOCUMENT:
                raise ValueError("the answer is too large")
        return response.status_code, bytes(body)


def _unreachable(target: Target, why: str, code: str | None = None) -> ProviderError:
    return ProviderError(f"'{target.profile}' could not be reached: {why}.", kind="unreachable", code=code)
