"""Is it alive, is it ready, what is it: for load balancers and operators."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from django.contrib.auth import get_user
from django.db import Error as DatabaseError
from django.db import InterfaceError, connection
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apikeys import keyring
from gateway import VERSION, schema
from profiles import board, catalog, tokens
from profiles.models import Token, WorkerState
from usage import background
from usage.metering import journal

STARTED = time.time()


class OpenView(APIView):
    """Asks for no key and touches no session unless it must."""

    authentication_classes = ()
    permission_classes = ()


class Health(OpenView):
    """The process answers. Nothing else is looked at, so a broken database does not restart it."""

    @schema.system
    def get(self, http: Request) -> Response:
        return Response({"status": "healthy", "service": "switchboard", "version": VERSION})


class Ready(OpenView):
    """Whether calls can be served: 200, or 503 with what is missing."""

    @schema.system
    def get(self, http: Request) -> Response:
        missing = [
            sentence
            for failed, sentence in (
                (not catalog.live.loaded, "The routes have not been read yet."),
                (not keyring.live.loaded, "The keys have not been read yet."),
                (not board.worker.database_reachable, "The database cannot be reached."),
                (journal.broken, "The usage journal cannot be written."),
            )
            if failed
        ]
        # Keys and routes in memory keep working without the database, so that alone is no reason to stop.
        serving = catalog.live.loaded and keyring.live.loaded and not journal.broken
        return Response(
            {"status": "ready" if serving else "not ready", "problems": missing}, status=200 if serving else 503
        )


class Info(OpenView):
    """Name and version; for signed-in staff also the workers and what they have counted."""

    @schema.system
    def get(self, http: Request) -> Response:
        document: dict[str, Any] = {"service": "switchboard", "version": VERSION}
        if is_staff(http._request):
            document |= staff_details()
        return Response(document)


def is_staff(http: HttpRequest) -> bool:
    """Only a request with a session cookie asks the database who it is."""
    if not hasattr(http, "session") or not http.COOKIES:
        return False
    try:
        user = get_user(http)
        return bool(user.is_active and user.is_staff)
    except (DatabaseError, InterfaceError):
        return False


def token_states() -> dict[str, str]:
    """How the token of each profile that needs one is doing, in a word. Raises DatabaseError."""
    profiles = catalog.live.value.logged_in
    if not profiles:
        return {}
    now = timezone.now()
    rows = {row.profile_id: row for row in Token.objects.filter(profile_id__in=profiles)}
    states = {target.profile: tokens.token_state(rows.get(pk), now) for pk, (_, target) in profiles.items()}
    return dict(sorted(states.items()))


def staff_details() -> dict[str, Any]:
    try:
        live = board.live_since(timezone.now())
        workers = list(WorkerState.objects.filter(seen_at__gte=live).values("host", "pid", "started_at", "state"))
        upstream_tokens = token_states()
    except (DatabaseError, InterfaceError):
        return {"database": "unreachable"}
    totals: Counter[str] = Counter()
    for worker in workers:
        totals.update({name: value for name, value in worker["state"].items() if isinstance(value, int)})
    return {
        "database": connection.vendor,
        "uptime_seconds": int(time.time() - STARTED),
        "background": "running" if background.is_running() else "not running",
        "workers": [{**worker, "started_at": worker["started_at"].isoformat()} for worker in workers],
        "totals": dict(totals),
        "tokens": upstream_tokens,
        "routes": len(catalog.live.value.routes),
        "keys": len(keyring.live.value),
    }
