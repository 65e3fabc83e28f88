"""The board between workers: a row each, written and read every second together with the revision."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db import Error as DatabaseError
from django.db import InterfaceError, connections
from django.utils import timezone

from profiles import watch
from profiles.models import WorkerState

INTERVAL = 1.0  # seconds between two looks
GONE_AFTER = timedelta(seconds=15)  # a worker that has said nothing for so long is not live

log = logging.getLogger("switchboard.board")


class Worker:
    """This process, as the others see it."""

    def __init__(self) -> None:
        self.id = uuid.uuid4()
        self.started_at = timezone.now()
        self.counters: Counter[str] = Counter()
        self.gauges: dict[str, Callable[[], int]] = {}
        self.database_reachable = True

    def state(self) -> dict[str, Any]:
        return {**self.counters, **{name: read() for name, read in self.gauges.items()}}


worker = Worker()


def count(name: str) -> None:
    """Add one to a counter of this worker."""
    worker.counters[name] += 1


def tick() -> None:
    """One look: follow the configuration and write this worker's row. Never raises for a database that is down."""
    try:
        revision = watch.follow_all()
        WorkerState.objects.update_or_create(
            id=worker.id,
            defaults={
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "started_at": worker.started_at,
                "seen_at": timezone.now(),
                "revision": revision,
                "state": worker.state(),
            },
        )
        if not worker.database_reachable:
            log.info("database_back")
        worker.database_reachable = True
    except (DatabaseError, InterfaceError) as error:
        if worker.database_reachable:
            log.error("database_unreachable", extra={"error": type(error).__name__})
        worker.database_reachable = False
    finally:
        connections.close_all()


def leave() -> None:
    """Take this worker's row down; a row that stays is swept later."""
    try:
        WorkerState.objects.filter(id=worker.id).delete()
    except (DatabaseError, InterfaceError):
        pass
    finally:
        connections.close_all()


def live_since(now: datetime) -> datetime:
    """Workers seen after this moment are live."""
    return now - GONE_AFTER
