"""Turns journals into rows, each call exactly once, whatever dies in between.

Runs in the background process. A batch is one transaction: the rows, who was last used, how far the file
was read. What is read twice changes nothing the second time.
"""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from django.db import DataError, connection, models, transaction

from apikeys.models import APIKey
from profiles.catalog import Prices
from profiles.models import WorkerState
from providers.conversation import Usage
from usage import journal
from usage.metering import BYTES_PER_TOKEN, cost
from usage.models import Ending, JournalPosition, OpenCall, TokensFrom, UsageRecord

BATCH_BYTES = 256 << 10  # of journal per transaction
ROWS_PER_INSERT = 200
STRANDED_AFTER = timedelta(minutes=10)  # calls of a worker that has been silent for so long have no journal left

log = logging.getLogger("switchboard.ledger")


def drain() -> int:
    """Read what the journals on this machine hold and return how many new rows that made."""
    made = 0
    for worker, files in _journals().items():
        gone = _is_gone(worker)
        for number, path in enumerate(files):
            while (rows := _drain_batch(worker, path)) is not None:
                made += rows
            # The writer never comes back to a file once it has begun the next one.
            if gone or number < len(files) - 1:
                _delete(path)
        if gone:
            made += _close_lost(worker)
            with suppress(FileNotFoundError):
                (journal.directory() / f"{worker}.lock").unlink()
    return made


def sweep(now: datetime) -> int:
    """End the calls of workers whose machine has gone with its journal, and forget silent workers."""
    silent = now - STRANDED_AFTER
    here = set(_journals())
    live = set(WorkerState.objects.filter(seen_at__gte=silent).values_list("id", flat=True))
    made = 0
    for worker in set(OpenCall.objects.filter(opened_at__lt=silent).values_list("worker", flat=True)) - here - live:
        made += _close_lost(worker)
    WorkerState.objects.filter(seen_at__lt=silent).delete()
    return made


def _journals() -> dict[uuid.UUID, list[Path]]:
    """The files of each worker of this machine, oldest first; a worker that has none yet is there too."""
    found: dict[uuid.UUID, list[Path]] = {}
    for path in sorted(journal.directory().glob("*.lock")):
        found[uuid.UUID(path.stem)] = []
    for path in sorted(journal.directory().glob("*.jsonl")):
        found.setdefault(uuid.UUID(path.name.partition(".")[0]), []).append(path)
    return found


def _is_gone(worker: uuid.UUID) -> bool:
    path = journal.directory() / f"{worker}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _drain_batch(worker: uuid.UUID, path: Path) -> int | None:
    """One transaction's worth of a file; None when there is nothing more in it."""
    position = JournalPosition.objects.filter(pk=path.name).first() or JournalPosition(file=path.name)
    with path.open("rb") as file:
        file.seek(position.offset)
        text = file.read(BATCH_BYTES)
        if text and b"\n" not in text:
            text += file.readline()
    end = text.rfind(b"\n") + 1
    if end == 0:
        return None
    opened: dict[str, dict[str, Any]] = {}
    closed: dict[str, dict[str, Any]] = {}
    for line in text[:end].splitlines():
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            log.error("journal_line_unreadable", extra={"file": path.name})
            continue
        if row := entry.get("close"):
            closed[row["id"]] = row
            opened.pop(row["id"], None)
        elif row := entry.get("open"):
            opened[row["id"]] = row
    with transaction.atomic():
        made = _each(_insert, list(closed.values()))
        _mark_used(closed.values())
        OpenCall.objects.filter(pk__in=closed).delete()
        _each(functools.partial(_open, worker), list(opened.values()))
        position.offset += end
        position.save()
    return made


def _each(save: Callable[[list[dict[str, Any]]], int], rows: list[dict[str, Any]]) -> int:
    """Save rows together; where the database refuses one, one by one, so that it holds up no other."""
    try:
        with transaction.atomic():
            return save(rows)
    except DataError as error:
        if len(rows) == 1:
            log.error("row_refused", extra={"call": rows[0]["id"]}, exc_info=error)
            return 0
    return sum(_each(save, [row]) for row in rows)


def _open(worker: uuid.UUID, rows: list[dict[str, Any]]) -> int:
    calls = [OpenCall(id=row["id"], worker=worker, opened_at=_moment(row["started_at"]), row=row) for row in rows]
    OpenCall.objects.bulk_create(calls, update_conflicts=True, unique_fields=["id"], update_fields=["row"])
    return len(calls)


def _close_lost(worker: uuid.UUID) -> int:
    """Rows for the calls a worker had begun and did not live to end."""
    with transaction.atomic():
        lost = list(OpenCall.objects.filter(worker=worker))
        made = _each(_insert, [_lost_row(call.row) for call in lost])
        OpenCall.objects.filter(pk__in=[call.pk for call in lost]).delete()
    if made:
        log.warning("worker_lost", extra={"worker": str(worker), "calls": made})
    return made


def _lost_row(row: dict[str, Any]) -> dict[str, Any]:
    usage = Usage(input=-(-row["size"] // BYTES_PER_TOKEN))
    return {
        **row,
        "status": 502,
        "ending": str(Ending.WORKER_LOST),
        "error_code": "worker_lost",
        "input_tokens": usage.input,
        "tokens_from": str(TokensFrom.ESTIMATED if usage.input else TokensFrom.NONE),
        "cost": cost(usage, Prices(**row["prices"])),
    }


def _delete(path: Path) -> None:
    # The position first: a file without one is read again, which changes nothing.
    JournalPosition.objects.filter(pk=path.name).delete()
    path.unlink(missing_ok=True)


def _insert(rows: Iterable[dict[str, Any]]) -> int:
    """Insert rows that are not there yet, by raw SQL, because Django does not say which were new."""
    columns = _columns(connection.vendor)
    names = ", ".join(connection.ops.quote_name(column.name) for column in columns)
    table = connection.ops.quote_name(UsageRecord._meta.db_table)
    place = f"({', '.join(['%s'] * len(columns))})"
    waiting = [[column.value(row) for column in columns] for row in rows]
    made = 0
    with connection.cursor() as cursor:
        for start in range(0, len(waiting), ROWS_PER_INSERT):
            chunk = waiting[start : start + ROWS_PER_INSERT]
            cursor.execute(
                # Only names of our own columns and placeholders go into the text.
                f"INSERT INTO {table} ({names}) VALUES {', '.join([place] * len(chunk))}"  # noqa: S608
                " ON CONFLICT DO NOTHING RETURNING id",
                [value for values in chunk for value in values],
            )
            made += len(cursor.fetchall())
    return made


class Column(NamedTuple):
    """One column of a row, and how a journal's value becomes one of the database's.

    Going through model instances would cost more than the insert itself.
    """

    name: str
    default: Any
    convert: Callable[[Any], Any] | None

    def value(self, row: dict[str, Any]) -> Any:
        value = row.get(self.name)
        if value is None:
            value = self.default
        return value if self.convert is None or value is None else self.convert(value)


@functools.cache
def _columns(vendor: str) -> tuple[Column, ...]:
    def converter(field: models.Field[Any, Any]) -> Callable[[Any], Any] | None:
        target = field.target_field if isinstance(field, models.ForeignKey) else field
        if isinstance(target, models.DateTimeField):
            return lambda seconds: connection.ops.adapt_datetimefield_value(_moment(seconds))
        if isinstance(target, models.UUIDField):
            return (lambda text: text.replace("-", "")) if vendor == "sqlite" else None
        if isinstance(target, models.JSONField):
            return lambda value: connection.ops.adapt_json_value(value, None)
        return None

    return tuple(
        Column(field.column or "", field.get_default(), converter(field)) for field in UsageRecord._meta.concrete_fields
    )


def _mark_used(rows: Iterable[dict[str, Any]]) -> None:
    latest: dict[str, float] = {}
    for row in rows:
        latest[row["key_id"]] = max(latest.get(row["key_id"], 0), row["started_at"])
    for key, moment in sorted(latest.items()):
        # The base manager: when a key was last used is no change of the configuration.
        APIKey._base_manager.filter(pk=key).exclude(last_used_at__gt=_moment(moment)).update(
            last_used_at=_moment(moment)
        )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
