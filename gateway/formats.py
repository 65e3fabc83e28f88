"""JSON in and JSON out, whatever the Accept header says; and forms, where files are taken."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO, Any, cast

import gevent
from django.conf import settings
from django.http.request import UnreadablePostError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from gateway.errors import ClientGone
from providers.documents import dumps, loads_object
from providers.multipart import PIECE, Form, boundary_in

IN_MEMORY = 1 << 20  # bytes of a request body that are not worth a file


class OneFormat(BaseContentNegotiation):
    def select_parser(self, request: Request, parsers: Any) -> Any:
        kind = (request.content_type or "application/json").partition(";")[0].strip().lower()
        return parsers[0] if kind == "application/json" or kind.endswith("+json") else None

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class AnyJSON(OneFormat):
    """A body is JSON, whatever its content type says."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]


class JSONOrForm(OneFormat):
    def select_parser(self, request: Request, parsers: Any) -> Any:
        kind = (request.content_type or "").partition(";")[0].strip().lower()
        return parsers[1] if kind == FormParser.media_type else super().select_parser(request, parsers)


class JSONParser(BaseParser):
    """A request body as an object. Raises BadDocument or ClientGone."""

    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: Any = None, parser_context: Any = None) -> dict[str, Any]:
        return loads_object(b"".join(pieces(stream, parser_context)))


class FormParser(BaseParser):
    """A form, its files on disk. Raises BadRequest or ClientGone. Whoever answers closes `META["switchboard.form"]`."""

    media_type = "multipart/form-data"

    def parse(self, stream: IO[bytes], media_type: Any = None, parser_context: Any = None) -> Any:
        meta = parser_context["request"].META
        form = meta["switchboard.form"] = Form(boundary_in(media_type or ""), spool())
        for piece in pieces(stream, parser_context):
            form.take(piece)
        form.finish()
        return form


def pieces(stream: IO[bytes], parser_context: Any) -> Iterator[bytes]:
    """A body as it comes. Raises ClientGone where it is shorter than was said."""
    left = int(parser_context["request"].META["CONTENT_LENGTH"])
    try:
        while left > 0 and (piece := stream.read(PIECE)):
            yield piece
            left -= len(piece)
            if left > 0:
                gevent.sleep(0)  # a caller that is always faster would keep all others waiting
    except UnreadablePostError as error:
        raise ClientGone from error
    if left > 0:
        raise ClientGone


def spool() -> IO[bytes]:
    """A file without a name: whatever happens, nothing of it stays. Where /tmp is memory, DATA_DIR is still a disk."""
    return cast(IO[bytes], tempfile.SpooledTemporaryFile(IN_MEMORY, dir=settings.DATA_DIR))


class JSONRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None
    render_style = "binary"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return b"" if data is None else dumps(data)
