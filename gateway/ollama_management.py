"""Ollama's management calls, handed on to an account that allows them: pull, push, create, copy, delete, blobs.

They name models of a server and no route, so that nothing is metered; the log says which key did what, and where.
Source: Ollama API reference (ollama/ollama, docs/api.md).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any

from django.db import connection
from django.http import HttpResponse, StreamingHttpResponse
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from apikeys.authentication import HasManagementKey, KeyMayNot, key_of
from gateway import errors
from gateway.asked import measured
from gateway.errors import ClientGone, fault
from gateway.formats import AnyJSON, pieces, spool
from gateway.relay import refusal_of
from gateway.reply import Departure
from gateway.views import InferenceView
from profiles.models import Profile
from profiles.secrets import SealBroken
from providers.base import Target, UpstreamRequest
from providers.languages.errors import read_error
from providers.languages.language import BadRequest
from providers.languages.registry import ollama_chat
from providers.multipart import PIECE
from providers.ollama import Ollama
from providers.wire import client
from providers.wire.errors import ProviderError
from providers.wire.frames import NEWLINE

log = logging.getLogger("switchboard.management")

# A pull of a large model takes hours, and its digest is verified without a word.
LONGEST, LONGEST_SILENCE = 86_400, 3_600  # seconds
TOLD = (400, 404, 409, 413, 500)  # statuses whose words are for the caller: Ollama gives 500 for a pull that fails


class SpooledParser(BaseParser):
    """A body of whatever kind, on disk. Raises ClientGone."""

    media_type = "*/*"

    def parse(self, stream: IO[bytes], media_type: Any = None, parser_context: Any = None) -> Any:
        spooled = Spooled(spool())
        for piece in pieces(stream, parser_context):
            spooled.file.write(piece)
        return spooled


class Spooled:
    """A file as a body whose pieces may be asked for more than once."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def __len__(self) -> int:
        return self.file.seek(0, 2)

    def __iter__(self) -> Iterator[bytes]:
        self.file.seek(0)
        while piece := self.file.read(PIECE):
            yield piece


class Progress:
    """An upstream's lines as they come. Where they break off, and where they tell of an error, the last one says so."""

    def __init__(self, response: client.Response, departure: Departure) -> None:
        self._response = response
        self._frames = response.frames(NEWLINE)
        self._departure = departure
        self._over = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._over:
            raise StopIteration
        target = self._response.target
        self._departure.waiting = True
        try:
            line = next(self._frames)
        except (StopIteration, ClientGone):
            self._over = True
            raise StopIteration from None
        except client.FAULTS as error:
            return self._end(client.fault(error, target))
        finally:
            self._departure.waiting = False
        self._response.content_came()
        self._departure.streaming = True
        if not line.startswith(b'{"error"'):
            return line
        return self._end(read_error(400, line, target.profile))

    def _end(self, error: ProviderError) -> bytes:
        self._over = True
        self._response.target.clean(error)
        return ollama_chat.write_error(fault(error), "") + b"\n"

    def close(self) -> None:
        self._departure.stop()
        self._response.close()


class Management(InferenceView):
    """Pulling, pushing, creating, copying and deleting models, with a management key."""

    language = ollama_chat
    schema = None
    _negotiator = AnyJSON()
    _parsers = [SpooledParser()]
    _permissions = [HasManagementKey()]

    def hand_on(self, http: Request, work: str, digest: str = "") -> Any:
        measured(http, key_of(http))
        upload = http.data if isinstance(http.data, Spooled) else None
        target = account(http.META.get("HTTP_X_GATEWAY_PROFILE", ""))
        provider = Ollama()
        path = f"/api/{work}/{digest}".rstrip("/")
        headers = provider.headers(target)
        if kind := http.META.get("CONTENT_TYPE"):
            headers["Content-Type"] = kind
        request = UpstreamRequest(str(http.method), provider.url(target, path), headers, upload=upload)
        asked = {"key": key_of(http).prefix, "profile": target.profile, "asked": f"{http.method} {path}"}
        log.info("management", extra=asked)
        departure = Departure(http.META)
        departure.heartbeat = ollama_chat.heartbeat
        departure.start()
        try:
            response = client.send(request, target, stream=True)
            if 200 <= response.status < 300 and response.content_type == ollama_chat.stream_type:
                return StreamingHttpResponse(Progress(response, departure), content_type=ollama_chat.stream_type)
            answer = self.whole(response, http)
        except BaseException:
            departure.stop()
            raise
        departure.stop()
        return answer

    head = post = delete = hand_on

    def whole(self, response: client.Response, http: Request) -> HttpResponse:
        if not 200 <= response.status < 300:
            return self.refusal(response, http)
        try:
            body = response.read()
        finally:
            response.close()
        return HttpResponse(body, status=response.status, content_type=response.header("content-type") or "text/plain")

    def refusal(self, response: client.Response, http: Request) -> HttpResponse:
        if http.method == "HEAD" and response.status == 404:
            response.close()
            return HttpResponse(status=404)
        if response.status not in TOLD:
            raise refusal_of(response, Ollama(), response.target)
        error = read_error(400, response.read_error(), response.target.profile)
        response.target.clean(error)
        return errors.write(replace(fault(error), status=response.status), self.language, http._request)


def account(named: str) -> Target:
    """The account that lets management keys in, opened. Raises KeyMayNot, BadRequest or ProviderError."""
    try:
        allowing = {
            profile.name: profile
            for profile in Profile.objects.filter(kind=Ollama.kind, enabled=True)
            if profile.settings.get("management") == "allowed"
        }
    finally:
        connection.close()  # the call may last for hours
    if not allowing:
        raise KeyMayNot(
            "No account lets models be managed through this gateway. Its page in the admin has the field Management.",
            "management_not_allowed",
        )
    if named not in allowing and (named or len(allowing) > 1):
        names = ", ".join(sorted(allowing))
        raise BadRequest(f"Say in the header X-Gateway-Profile whose models are meant: {names}.", "X-Gateway-Profile")
    profile = allowing[named or next(iter(allowing))]
    try:
        target = profile.open()
    except SealBroken as error:
        log.error("profile_cannot_be_opened", extra={"profile": profile.name})
        sentence = f"The credentials of '{profile.name}' cannot be opened. Ask your administrator."
        raise ProviderError(sentence, kind="unavailable") from error
    return replace(target, first_event_timeout=LONGEST_SILENCE, idle_timeout=LONGEST_SILENCE, total_timeout=LONGEST)
