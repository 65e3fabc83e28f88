"""What runs beside the calls in a serving worker: the look at the board, and the goodbye to streams."""

from __future__ import annotations

import time
from typing import Any

import gevent
from django.db import Error as DatabaseError
from django.db import InterfaceError, connections

from gateway.reply import open_replies
from profiles import board, tokens
from usage.metering import journal


def begin(worker: Any, drain_seconds: float) -> None:
    """Called once per worker, after the fork. Reads the configuration before the first call is taken."""
    journal.begin()
    board.tick()
    look_at_tokens()
    gevent.spawn(_look_at_board)
    gevent.spawn(_drain, worker, drain_seconds)


def end() -> None:
    journal.end()
    board.leave()


def _look_at_board() -> None:
    while True:
        gevent.sleep(board.INTERVAL)
        board.tick()
        look_at_tokens()


def look_at_tokens() -> None:
    try:
        tokens.follow()
    except (DatabaseError, InterfaceError):
        pass  # the board has said so already; what is held goes on serving
    finally:
        connections.close_all()


def _drain(worker: Any, seconds: float) -> None:
    """When the worker must stop, open streams may go on for `seconds`; then they are told and end."""
    while worker.alive:
        gevent.sleep(0.25)
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        gevent.sleep(0.25)
    for reply in list(open_replies):
        reply.drain()
