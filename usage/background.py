"""The one background process of a machine: drains journals, sweeps, renews tokens, syncs models."""

from __future__ import annotations

import fcntl
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import FrameType

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import InterfaceError, connections
from django.utils import timezone

from profiles import discovery, tokens
from usage import ledger

DRAIN_EVERY = 0.5  # seconds
SWEEP_EVERY = 60.0  # seconds
RENEW_EVERY = 0.5  # seconds between two looks at the upstreams' tokens
SYNC_EVERY = 10.0  # seconds between two looks at which account's models are due

log = logging.getLogger("switchboard.background")


class Stopped(Exception):
    """The gateway this process belongs to has ended, or asked it to."""


def lock_path() -> Path:
    return Path(settings.DATA_DIR) / "background.lock"


def is_running() -> bool:
    """Whether some process of this machine holds the lock."""
    try:
        descriptor = os.open(lock_path(), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


class Lifeline:
    """Standard input, held open by the gateway: when it ends, so do we. A terminal is no lifeline."""

    def __init__(self) -> None:
        self._descriptor = None if sys.stdin is None or sys.stdin.isatty() else sys.stdin.fileno()
        self._stopped = False
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        self._stopped = True

    def wait(self, seconds: float) -> None:
        """Raises Stopped when it is time to end."""
        last = time.monotonic() + seconds
        while True:
            if self._stopped:
                raise Stopped
            left = last - time.monotonic()
            if left <= 0:
                return
            if self._descriptor is None:
                time.sleep(min(left, 0.2))
            elif select.select([self._descriptor], [], [], min(left, 0.2))[0] and not os.read(self._descriptor, 1024):
                raise Stopped


def run() -> None:
    """Work until the gateway ends. Another background process of this machine is waited for."""
    lifeline = Lifeline()
    with suppress(Stopped):
        lock_path().parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock_path(), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        while not _take(descriptor):
            lifeline.wait(1)
        _work(lifeline)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _work(lifeline: Lifeline) -> None:
    swept_at = 0.0
    drained = False
    # Upstreams are slow at times, and rows must not wait for them.
    for work, pause in ((tokens.renew_due, RENEW_EVERY), (discovery.sync_due, SYNC_EVERY)):
        Thread(target=_again_and_again, args=(work, pause), daemon=True).start()
    try:
        while True:
            drained = _step(ledger.drain)
            if time.monotonic() - swept_at > SWEEP_EVERY:
                swept_at = time.monotonic()
                _step(lambda: ledger.sweep(timezone.now()))
            lifeline.wait(DRAIN_EVERY)
    finally:
        # What was written while the workers ended is in the database before this process is gone. A
        # database that is away keeps nobody waiting: the journals are read at the next start.
        if drained:
            _step(ledger.drain)


def _again_and_again(work: Callable[[], object], pause: float) -> None:
    while True:
        _step(work)
        time.sleep(pause)


def _step(work: Callable[[], object]) -> bool:
    """One piece of work; what goes wrong is logged and tried again at the next turn."""
    try:
        work()
    except (DatabaseError, InterfaceError) as error:
        log.error("database_unreachable", extra={"error": str(error)})
    except Exception:
        log.exception("background_step_failed")
    else:
        return True
    connections.close_all()
    return False
