"""Each worker's append-only record of its calls: a line before an upstream is asked, a line when a call ends.

A line is one `write`, so what is in the file survives the death of the worker. The worker holds a lock on
its lock file for as long as it lives: who can take that lock knows that the worker is gone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings

LARGEST_FILE = 64 << 20  # bytes; then a new file is begun, so that read ones can be deleted

log = logging.getLogger("switchboard.journal")


def directory() -> Path:
    return Path(settings.DATA_DIR) / "journal"


def file_name(worker: uuid.UUID, number: int) -> str:
    return f"{worker}.{number:06d}.jsonl"


class Journal:
    """The journal of one worker."""

    def __init__(self, worker: uuid.UUID) -> None:
        self._worker = worker
        self._number = 0
        self._file = -1
        self._size = 0
        self._lock = -1
        self.broken = False

    def begin(self) -> None:
        """Take the lock and open the first file. Raises OSError."""
        directory().mkdir(parents=True, exist_ok=True)
        lock = directory() / f"{self._worker}.lock"
        self._lock = os.open(lock.with_suffix(".new"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # Named once it is held: a lock that lies there unheld means that its worker is gone.
        lock.with_suffix(".new").rename(lock)
        self._next_file()

    def opened(self, row: Mapping[str, Any]) -> None:
        self._write({"open": row})

    def closed(self, row: Mapping[str, Any]) -> None:
        self._write({"close": row})

    def end(self) -> None:
        """Let go of the files; called when the worker leaves in good order."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def _write(self, line: Mapping[str, Any]) -> None:
        text = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        try:
            if self._file < 0:
                self.begin()
            if self._size > LARGEST_FILE:
                self._next_file()
            if os.write(self._file, text) != len(text):
                raise OSError("the line was written in part")
            self._size += len(text)
            self.broken = False
        except OSError as error:
            # The call is not failed for it; the log keeps what the journal could not, and /ready says so.
            self.broken = True
            log.critical("journal_write_failed", extra={"error": str(error), "lost": text.decode()})
            if self._file >= 0:
                self._next_file_quietly()

    def _next_file(self) -> None:
        self._number += 1
        path = directory() / file_name(self._worker, self._number)
        descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._size = descriptor, 0

    def _next_file_quietly(self) -> None:
        """After a torn line: what follows must not be glued to it."""
        try:
            self._next_file()
        except OSError:
            pass
