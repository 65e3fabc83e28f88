"""Two doors into Django: API paths pass two short layers, pages the full stack."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import IO, Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.db import connections
from django.test.utils import override_settings

Environ = dict[str, Any]

django.setup(set_prefix=False)

from gateway.formats import spool
from providers.multipart import PIECE

API_PATHS = ("/v1/", "/api/", f"{settings.BASE_PATH}/", "/health", "/ready")


class Door(WSGIHandler):
    """Django's handler with the middleware it is given."""

    def __init__(self, middleware: list[str]) -> None:
        with override_settings(MIDDLEWARE=middleware):
            super().__init__()


class ApiDoor(Door):
    """Without Django's request signals: all they do is look after database connections.

    No API view keeps one; what a look for a missing route or key has opened is given back here.
    """

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Any:
        response: Any = self.get_response(WSGIRequest(environ))
        for connection in connections.all(initialized_only=True):
            connection.close()
        if not response.streaming:
            response.headers["Content-Length"] = str(len(response.content))
        start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
        return response if response.streaming else [response.content]


class Doors:
    """The WSGI application."""

    def __init__(self) -> None:
        self.api = ApiDoor(settings.API_MIDDLEWARE)
        self.pages = Door(settings.MIDDLEWARE)
        self.limit = settings.MAX_BODY_MB << 20

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = self.chunks(environ) if "HTTP_TRANSFER_ENCODING" in environ else None
        if environ["PATH_INFO"].startswith("//"):
            # A base URL with a slash at its end; a redirect would lose the body.
            environ["PATH_INFO"] = "/" + environ["PATH_INFO"].lstrip("/")
        if environ["PATH_INFO"].startswith("/v1/v1/"):
            # A base URL that ends in /v1, given to a client that adds it.
            environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/v1")
        door = self.api if environ["PATH_INFO"].startswith(API_PATHS) else self.pages
        try:
            answer = door(environ, start_response)
            if environ["REQUEST_METHOD"] == "HEAD":
                # gunicorn would drop the body too, with a warning in the log for each.
                close = getattr(answer, "close", lambda: None)
                close()
                return ()
            return answer
        finally:
            if body is not None:
                body.close()

    def chunks(self, environ: Environ) -> IO[bytes] | None:
        """A chunked body, taken whole: Django goes by Content-Length and would see an empty one."""
        if "chunked" not in environ["HTTP_TRANSFER_ENCODING"].lower():
            return None
        body, size = spool(), 0
        while piece := environ["wsgi.input"].read(min(PIECE, self.limit + 1 - size)):
            size += body.write(piece)
        body.seek(0)
        environ["CONTENT_LENGTH"] = str(size)
        environ["wsgi.input"] = body
        return body


def refuse_nonsense() -> None:
    """Stop with a sentence instead of serving with settings that make no sense."""
    from gateway.checks import serving_problems

    if problems := serving_problems():
        print("\n".join(["Switchboard cannot start:", *problems]), file=sys.stderr)
        sys.exit(4)  # gunicorn's "the application cannot be loaded": the master stops instead of trying again


refuse_nonsense()
application = Doors()
