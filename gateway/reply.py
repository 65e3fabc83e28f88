"""Bytes out: a stream on its way to a caller, and the watch for a caller who leaves."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import gevent
from django.http import HttpResponse
from django.http.response import HttpResponseBase

from gateway.errors import ClientGone, Draining, fault
from providers.languages.language import Language
from providers.streams import AnswerStream
from providers.wire.errors import ProviderError
from usage.metering import Call
from usage.models import Ending

TCP_ESTABLISHED, TCP_CLOSE, TCP_CLOSE_WAIT = 1, 7, 8  # linux/tcp_states.h
LOOK_EVERY = 0.25  # seconds between two looks at a connection that cannot be waited for
PROOF_AFTER = 1.0  # seconds in which a closed peer would have answered with a reset
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"  # every HTTP/1.1 client must skip it (RFC 9110, 15.2)

open_replies: set[Reply] = set()


class Departure:
    """Sees the caller leave within milliseconds and ends the call by raising ClientGone in its greenlet."""

    def __init__(self, meta: Mapping[str, Any]) -> None:
        sock = meta.get("gunicorn.socket")
        # A TLS socket cannot be peeked into; there the next write tells.
        self._sock = sock if isinstance(sock, gevent.socket.socket) and hasattr(sock, "_sock") else None
        self._http11 = meta.get("SERVER_PROTOCOL") == "HTTP/1.1"
        self._caller = gevent.getcurrent()
        self._over = False
        self._io: Any = None
        self.streaming = False
        self.heartbeat = Language.heartbeat  # of the caller's language; empty where nothing may be put in between
        self.waiting = True  # the caller's greenlet waits for the upstream, so nothing is being written

    def start(self) -> None:
        """The request body must have been read: its bytes would look like the next request."""
        if self._sock is not None:
            self._io = gevent.get_hub().loop.io(self._sock.fileno(), 1)
            self._io.start(self._readable)

    def stop(self) -> None:
        self._over = True
        if self._io is not None:
            self._io.stop()
            self._io.close()
            self._io = None

    def end_with(self, error: Exception) -> None:
        """Raise `error` where the call waits, unless it has ended by then."""
        gevent.get_hub().loop.run_callback(self._throw, error)

    def _throw(self, error: Exception) -> None:
        if not self._over:
            self._caller.throw(error)

    def _readable(self) -> None:
        self._io.stop()
        gevent.spawn(self._inspect)

    def _inspect(self) -> None:
        sock = self._sock
        try:
            if self._over or sock is None:
                return
            if sock.recv(1, socket.MSG_PEEK):
                self._outlast_pipelined_request(sock)
            if self._over or self._is_half_closed(sock):
                return
        except OSError:
            pass
        self.end_with(ClientGone())

    def _outlast_pipelined_request(self, sock: socket.socket) -> None:
        while not self._over and _tcp_state(sock) == TCP_ESTABLISHED:
            gevent.sleep(LOOK_EVERY)

    def _is_half_closed(self, sock: socket.socket) -> bool:
        """Whether a caller who sends no more still reads: only a write makes a closed peer answer with a reset."""
        if not self._http11 or _tcp_state(sock) != TCP_CLOSE_WAIT:
            return False
        if not self.streaming:
            sock.sendall(CONTINUE)
        elif self.waiting and self.heartbeat:
            sock.sendall(b"%x\r\n%b\r\n" % (len(self.heartbeat), self.heartbeat))
        for _ in range(int(PROOF_AFTER / 0.025)):
            gevent.sleep(0.025)
            if self._over or _tcp_state(sock) == TCP_CLOSE:
                return False
        return True


def _tcp_state(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0]


class Reply:
    """The body of a streamed answer. Whoever iterates must close it; `close` always reaches the upstream."""

    def __init__(self, stream: AnswerStream, call: Call, departure: Departure) -> None:
        self._stream = stream
        self._call = call
        self._departure = departure
        self._over = False
        departure.waiting = False
        open_replies.add(self)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._over:
            raise StopIteration
        self._departure.waiting = True
        try:
            piece = next(self._stream)
        except StopIteration:
            self._settle(Ending.COMPLETED)
            raise
        except ClientGone:
            self._settle(Ending.CLIENT_GONE, "client_gone")
            raise StopIteration from None
        except Draining as error:
            return self._break_off(Ending.DRAINED, error)
        except ProviderError as error:
            return self._break_off(Ending.UPSTREAM_CUT, error)
        except gevent.GreenletExit:
            self._settle(Ending.DRAINED, "gateway_restarting")
            raise
        except Exception as error:
            return self._break_off(Ending.FAILED, error)
        finally:
            self._departure.waiting = False
        if self._stream.ended:
            self._settle(Ending.COMPLETED)
        self._departure.streaming = True  # the head goes out with the first piece
        return piece

    def drain(self) -> None:
        """Say that the gateway stops, and end."""
        self._departure.end_with(Draining())

    def close(self) -> None:
        open_replies.discard(self)
        self._departure.stop()
        self._settle(Ending.CLIENT_GONE, "client_gone")
        self._stream.close()

    def _break_off(self, ending: Ending, error: Exception) -> bytes:
        trouble = fault(error)
        self._settle(ending, trouble.code or "")
        self._over = True
        said = self._stream.fail(trouble, self._call.request_id)
        if said is None:
            # The server closes the connection: only the missing end tells the caller that the body is not whole.
            raise ConnectionResetError(errno.ECONNRESET, "an answer that broke off") from error
        return said

    def _settle(self, ending: Ending, error_code: str = "") -> None:
        if not self._call.closed:
            self._call.usage, self._call.pieces = self._stream.usage, self._stream.pieces
            self._call.close(ending, 200, error_code)


class StreamResponse(HttpResponseBase):
    """Hands a Reply to the server as it is: no buffering, no re-encoding, nothing per chunk."""

    streaming = True

    def __init__(self, reply: Reply, content_type: str, headers: Mapping[str, str]) -> None:
        super().__init__(content_type=content_type, headers=dict(headers))
        self.headers["Cache-Control"] = "no-cache"
        self.headers["X-Accel-Buffering"] = "no"
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        return self._reply

    def close(self) -> None:
        self._reply.close()


def whole(body: bytes, headers: Mapping[str, str]) -> HttpResponse:
    """A body that is complete."""
    return HttpResponse(body, content_type="application/json", headers=dict(headers))
