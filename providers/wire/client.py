"""The only file that opens an inference socket.

Connections are pooled by origin and live as long as both sides keep them. HTTP/1.1 on purpose: streams
do not share one TCP connection. Every fault leaves here as a ProviderError and nowhere else.
"""

from __future__ import annotations

import functools
import select
import ssl
from base64 import b64encode
from re import Pattern
from time import monotonic
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import gevent
import gevent.socket
from gevent import monkey
from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPSocketPoolResponse

from providers.base import Target, Upload, UpstreamRequest
from providers.wire import guard
from providers.wire.errors import ProviderError
from providers.wire.frames import BLANK_LINE, READ_SIZE, Frames, FrameTooLarge, receive

POOL_SIZE = 4096  # connections per origin and worker: more than the streams a worker can hold
LARGEST_ANSWER = 64 << 20  # bytes of a whole answer
LARGEST_HEAD = 256 << 10  # bytes of status line and headers
LARGEST_ERROR = 64 << 10  # bytes of an error body that are read
_poll = monkey.get_original("select", "poll")  # gevent's would go through the hub to look
LINGER = 0.1  # seconds to wait for the end mark of an answer that is complete


class Response:
    """One upstream answer whose headers are here. `close` is idempotent and always frees the socket."""

    def __init__(self, response: HTTPSocketPoolResponse, target: Target, deadline: float, begin_by: float) -> None:
        self._response = response
        self.target = target
        self._deadline = deadline
        self._begin_by = begin_by
        self._frames: Frames | None = None
        self.status: int = response.status_code

    def header(self, name: str) -> str:
        value = self._response.get(name, "")
        return value if isinstance(value, str) else ", ".join(value or [])

    @property
    def content_type(self) -> str:
        return self.header("content-type").partition(";")[0].strip().lower()

    def read(self, limit: int = LARGEST_ANSWER) -> bytes:
        """The whole body. Raises ProviderError when it is cut, late, or larger than `limit` bytes."""
        response = self._response
        try:
            while not response.message_complete:
                if len(response._body_buffer) > limit:
                    self.close()
                    raise FrameTooLarge("answer too large")
                receive(response, self._deadline)
        except FAULTS as error:
            raise fault(error, self.target) from error
        return bytes(response._body_buffer)

    def read_error(self) -> bytes:
        """As much of an error's body as helps; a broken or endless one is cut off."""
        try:
            return self.read(LARGEST_ERROR)
        except ProviderError:
            return bytes(self._response._body_buffer[:LARGEST_ERROR])
        finally:
            self.close()

    def frames(self, end: Pattern[bytes] = BLANK_LINE) -> Frames:
        """Until `content_came` the first-event timeout counts: comments alone are no beginning."""
        self._frames = Frames(self._response, self._begin_by, end)
        return self._frames

    def content_came(self) -> None:
        """From now on the idle timeout counts, no longer the one for the first event."""
        if self._frames is not None:
            self._frames.deadline = self._deadline
        if self._response._sock is not None:
            self._response._sock.settimeout(self.target.idle_timeout)

    def finish(self) -> None:
        """The answer is complete: give the connection back, or close it when the end mark does not come."""
        response = self._response
        if not response.message_complete and response._sock is not None:
            last = monotonic() + LINGER
            try:
                while not response.message_complete and len(response._body_buffer) < READ_SIZE:
                    receive(response, last)
            except (OSError, HTTPParseError):
                pass
        response.release()

    def close(self) -> None:
        self._response.release()


def send(request: UpstreamRequest, target: Target, stream: bool) -> Response:
    """Send `request` and return once the headers of its answer are here. Raises ProviderError.

    A stream must begin within the first-event timeout; a whole answer has the total timeout.
    """
    began = monotonic()
    patience = min(target.first_event_timeout, target.total_timeout) if stream else target.total_timeout
    message, pool = _prepared(request, target)
    late = gevent.Timeout.start_new(patience, TimeoutError("no headers came in time"))
    try:
        sock, reused = pool.take(patience)
        try:
            response = _exchange(sock, pool, message, request)
        except HTTPConnectionClosed:
            # A reused connection that closed before any byte came had been idle too long; on a
            # fresh one the upstream may have seen the call, so it is not sent twice.
            if not reused:
                raise
            response = _exchange(pool.fresh(patience), pool, message, request)
    except FAULTS as error:
        raise fault(error, target) from error
    finally:
        late.close()
    return Response(response, target, began + target.total_timeout, began + patience)


def _prepared(request: UpstreamRequest, target: Target) -> tuple[bytes, Pool]:
    """The bytes to send and the pool to send them through. Raises ProviderError for settings that cannot work."""
    try:
        url = urlsplit(request.url)
        return _head(request, url, target) + request.body, _pool(url.scheme, url.hostname or "", url.port, target)
    except FAULTS as error:
        raise fault(error, target) from error
    except (ValueError, TypeError):
        # Without the cause: it would show the address or header, and with them a credential.
        raise ProviderError(
            f"The settings of profile '{target.profile}' hold an address or a header that cannot be sent.",
            kind="broken",
        ) from None


class _Answer(HTTPSocketPoolResponse):
    """With a bound on the size of the headers, which the library has not."""

    _head_size = 0

    def feed(self, data: Any) -> None:
        if not self.headers_complete:
            self._head_size += len(data)
            if self._head_size > LARGEST_HEAD:
                raise HTTPParseError("the headers are too large")
        super().feed(data)


def _exchange(
    sock: gevent.socket.socket, pool: Pool, message: bytes, request: UpstreamRequest
) -> HTTPSocketPoolResponse:
    try:
        sock.sendall(message)
        if request.upload is not None:
            _send_pieces(sock, request.upload)
    except (ConnectionResetError, BrokenPipeError):
        # The upstream may have refused early and answered before it closed: that answer is worth reading.
        pass
    except BaseException:
        pool.release_socket(sock)
        raise
    # From here on the response frees the socket, also when reading its headers fails.
    return _Answer(sock, pool, block_size=READ_SIZE, method=request.method)


def _send_pieces(sock: gevent.socket.socket, upload: Upload) -> None:
    for piece in upload:
        sock.sendall(piece)
        # A peer that always takes more would keep the hub, and with it every other call, waiting.
        gevent.sleep(0)


def _head(request: UpstreamRequest, url: SplitResult, target: Target) -> bytes:
    host = url.netloc.rpartition("@")[2]
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    proxy = proxy_for(url.scheme, url.hostname or "", target)
    if proxy is not None and url.scheme == "http":
        path = f"http://{host}{path}"
    lines = [f"{request.method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if proxy is not None and url.scheme == "http" and proxy.username:
        lines.append(f"Proxy-Authorization: {_basic(proxy)}")
    lines.append(f"Content-Length: {len(request.body if request.upload is None else request.upload)}")
    text = "\r\n".join(lines)
    # A line break in a name or a value would be a second header.
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or " " in path or "\0" in text:
        raise ValueError("a character that no header or address may have")
    return (text + "\r\n\r\n").encode("latin-1")


class Pool(ConnectionPool):
    """Connections to one origin; names are resolved by the guard, waiting for a place is bounded."""

    def _resolve(self) -> Any:
        return guard.resolve(self._connection_host, self._connection_port)

    def take(self, patience: float) -> tuple[gevent.socket.socket, bool]:
        """A connection, and whether it was used before."""
        self._wait_for_place()
        try:
            while not self._socket_queue.empty():
                sock = self._socket_queue.get(block=False)
                if _is_idle(sock):
                    sock.settimeout(patience)
                    return sock, True
                sock.close()
            return self._connect(patience), False
        except BaseException:
            self._semaphore.release()
            raise

    def fresh(self, patience: float) -> gevent.socket.socket:
        self._wait_for_place()
        try:
            return self._connect(patience)
        except BaseException:
            self._semaphore.release()
            raise

    def _wait_for_place(self) -> None:
        if not self._semaphore.acquire(timeout=self.connection_timeout):
            raise TimeoutError("all connections are in use")

    def _connect(self, patience: float) -> gevent.socket.socket:
        sock = self._create_socket()
        sock.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
        sock.settimeout(patience)
        return sock


def _is_idle(sock: gevent.socket.socket) -> bool:
    """Whether a kept connection is as it was left: one that can be read was closed, or holds what nobody asked for."""
    if sock.fileno() < 0:
        return False
    look = _poll()
    look.register(sock.fileno(), select.POLLIN)
    return not look.poll(0)


class SSLPool(Pool, SSLConnectionPool):
    pass


_pools: dict[tuple[object, ...], Pool] = {}


def _pool(scheme: str, host: str, port: int | None, target: Target) -> Pool:
    key = (scheme, host, port, target.proxy_url, target.ca, target.connect_timeout)
    pool = _pools.get(key)
    if pool is None:
        pool = _pools[key] = _new_pool(scheme, host, port, target)
    return pool


def _new_pool(scheme: str, host: str, port: int | None, target: Target) -> Pool:
    proxy = proxy_for(scheme, host, target)
    port = port or (443 if scheme == "https" else 80)
    near_host, near_port = (proxy.hostname or "", proxy.port or 8080) if proxy else (host, port)
    if proxy is not None:
        guard.check_host(host)
    options: dict[str, Any] = {
        "size": POOL_SIZE,
        "connection_timeout": target.connect_timeout,
        "use_proxy": proxy is not None,
        "proxy_user": unquote(proxy.username) if proxy and proxy.username else None,
        "proxy_password": unquote(proxy.password) if proxy and proxy.password else None,
    }
    if scheme == "https":
        context = tls_context(target.ca)
        return SSLPool(near_host, near_port, host, port, ssl_context_factory=lambda cafile=None: context, **options)
    return Pool(near_host, near_port, host, port, **options)


@functools.cache
def tls_context(ca: str = "") -> ssl.SSLContext:
    """One context per private CA (PEM text): loading the system's store takes 20 ms."""
    context = ssl.create_default_context(cafile=guard.policy.ca_bundle)
    if ca:
        context.load_verify_locations(cadata=ca)
    return context


@functools.lru_cache(maxsize=1024)
def _environment_proxy(scheme: str, host: str) -> str:
    return "" if proxy_bypass(host) else getproxies().get(scheme, "")


def proxy_for(scheme: str, host: str, target: Target) -> SplitResult | None:
    """The profile's own proxy, else the environment's (HTTPS_PROXY, HTTP_PROXY, NO_PROXY)."""
    address = target.proxy_url or _environment_proxy(scheme, host)
    return urlsplit(address if "://" in address else f"http://{address}") if address else None


def _basic(proxy: SplitResult) -> str:
    return "Basic " + b64encode(unquote(f"{proxy.username}:{proxy.password or ''}").encode()).decode("ascii")


FAULTS = (OSError, HTTPParseError, RuntimeError)


def fault(error: Exception, target: Target) -> ProviderError:
    """One of FAULTS as a ProviderError with a sentence."""
    name = target.profile
    match error:
        case guard.Forbidden():
            return ProviderError(
                f"The address of upstream '{name}' is not one that may be reached.",
                kind="unreachable",
                code="address_refused",
            )
        case FrameTooLarge():
            return ProviderError(f"Upstream '{name}' sent an answer that is too large.", kind="broken")
        case TimeoutError():
            return ProviderError(f"Upstream '{name}' did not answer in time.", kind="timeout")
        case ssl.SSLError():
            return ProviderError(
                f"Upstream '{name}' could not be reached: its TLS certificate was not accepted.",
                kind="unreachable",
            )
    return ProviderError(f"Upstream '{name}' could not be reached or closed the connection.", kind="unreachable")
