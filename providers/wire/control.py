"""Everything rare that is asked of an upstream: logins and model lists. Uses requests.

The address that was looked at is the one that is connected to, and no redirect is followed.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError, ReadTimeoutError
from urllib3.util.connection import create_connection

from providers.base import (
    Cookie,
    LoginReply,
    LoginRequest,
    Provider,
    Target,
    UpstreamModel,
    UpstreamRequest,
    UpstreamToken,
)
from providers.documents import BadDocument, loads
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

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
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


def ask(request: UpstreamRequest, provider: Provider, target: Target) -> Any:
    """Send `request` and return the JSON of its answer. Raises ProviderError."""
    with _session(target) as session:
        reply = _exchange(session, request, target)
    if 300 <= reply.status < 400:
        raise ProviderError(
            f"'{target.profile}' answered with a redirect; its URL should name the final address.",
            kind="broken",
            upstream_status=reply.status,
        )
    if not 200 <= reply.status < 300:
        error = provider.read_error(reply.status, reply.body, target.profile)
        target.clean(error)
        raise error
    try:
        return loads(reply.body)
    except BadDocument as error:
        raise ProviderError(f"'{target.profile}' did not answer in JSON.", kind="broken") from error


def list_models(provider: Provider, target: Target) -> list[UpstreamModel]:
    """The models of an account, asked of it or known. Raises ProviderError."""
    listing = provider.models(target)
    try:
        request = next(listing)
        while True:
            request = listing.send(ask(request, provider, target))
    except StopIteration as end:
        found: list[UpstreamModel] = end.value
        return found


def log_in(provider: Provider, target: Target, refused: str) -> UpstreamToken:
    """Walk the steps of a login, with the cookies they set. Raises ProviderError."""
    with _session(target) as session:
        steps = provider.login(target, refused)
        try:
            request = next(steps)
            while True:
                request = steps.send(_exchange(session, request, target))
        except StopIteration as end:
            token: UpstreamToken = end.value
            return token
        except ProviderError as error:
            target.clean(error)
            raise


@contextmanager
def _session(target: Target) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # ~/.netrc would add credentials of its own
        session.mount("http://", _GuardedAdapter(tls_context(target.ca)))
        session.mount("https://", _GuardedAdapter(tls_context(target.ca)))
        yield session


def _exchange(session: requests.Session, request: UpstreamRequest, target: Target) -> LoginReply:
    """Raises ProviderError. Causes that may show a header or a proxy's address are not chained: they hold
    credentials."""
    try:
        if isinstance(request, LoginRequest) and request.certificate:
            # For this address alone: whoever is asked next is not shown it.
            session.mount(request.url, _GuardedAdapter(_client_context(target, request)))
        return _send(session, request, target)
    except guard.Forbidden as error:
        raise _unreachable(target, "its address is not one that may be reached", "address_refused") from error
    except requests.exceptions.SSLError as error:
        shown = isinstance(request, LoginRequest) and request.certificate
        whose = "one of the TLS certificates, its own or the profile's," if shown else "its TLS certificate"
        raise _unreachable(target, f"{whose} was not accepted") from error
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


def _client_context(target: Target, request: LoginRequest) -> ssl.SSLContext:
    """A context that shows the client's certificate. OpenSSL reads it from files alone, so one is made in
    memory that no other process can open. Raises ProviderError."""
    context = tls_context.__wrapped__(target.ca)  # one of its own: others must not show the certificate
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, f"{request.certificate.strip()}\n{request.key.strip()}\n".encode())
        # An empty password, or OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    except ssl.SSLError as error:
        raise ProviderError(
            f"The client certificate of profile '{target.profile}' and its key cannot be read, or do not fit together.",
            kind="auth",
            retryable=False,
        ) from error
    finally:
        os.close(descriptor)
    return context


def _send(session: requests.Session, request: UpstreamRequest, target: Target) -> LoginReply:
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
        cookies=dict(request.cookies) if isinstance(request, LoginRequest) else None,
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
        cookies = {jar.name: Cookie(jar.value or "", jar.domain, jar.expires) for jar in session.cookies}
        headers = {name.lower(): value for name, value in response.headers.items()}
        return LoginReply(response.status_code, headers, bytes(body), cookies)


def _unreachable(target: Target, why: str, code: str | None = None) -> ProviderError:
    return ProviderError(f"'{target.profile}' could not be reached: {why}.", kind="unreachable", code=code)
