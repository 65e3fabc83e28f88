"""Values read from the database into memory, and read again when the configuration has changed."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import ClassVar, Generic, TypeVar

from django.db import Error as DatabaseError
from django.db import InterfaceError, connection

from profiles.models import Revision

T = TypeVar("T")


class ConfigurationUnavailable(Exception):
    """What was asked for is not in memory and the database cannot be asked."""


class Watched(Generic[T]):
    """One such value. Reading `value` never touches the database."""

    everything: ClassVar[list[Watched[object]]] = []

    def __init__(self, load: Callable[[], T], empty: T) -> None:
        self._load = load
        self._lock = Lock()
        self._checked_at = 0.0
        self.value = empty
        self.revision = 0
        self.everything.append(self)  # type: ignore[arg-type]

    @property
    def loaded(self) -> bool:
        return self.revision > 0

    def follow(self, revision: int) -> None:
        """Load again unless what is held is of this revision. Raises DatabaseError."""
        if revision != self.revision:
            self.value = self._load()
            # The number was read before the rows: a change in between is seen at the next look.
            self.revision = revision

    def refresh(self) -> bool:
        """Look whether something is new, for somebody who missed something; True when it was.

        Those who ask at the same time share one look. Raises ConfigurationUnavailable.
        """
        asked_at = monotonic()
        with self._lock:
            if self._checked_at > asked_at:
                return True
            before = self.revision
            try:
                started_at = monotonic()
                self.follow(Revision.current())
                self._checked_at = started_at
            except (DatabaseError, InterfaceError) as error:
                raise ConfigurationUnavailable("The configuration cannot be read at the moment.") from error
            finally:
                # Given back before an upstream is called: a stream may hold its greenlet for minutes.
                connection.close()
            return self.revision != before


def follow_all() -> int:
    """Bring every watched value up to date and return the revision. Raises DatabaseError."""
    revision = Revision.current()
    for watched in Watched.everything:
        watched.follow(revision)
    return revision
