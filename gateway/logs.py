"""Log lines: one JSON object each, with what the caller put into `extra` beside the message."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import orjson

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "request", "taskName"}


# What no line shows need not be found out for each: the calling frame and thread.
logging._srcfile = None  # type: ignore[attr-defined]
logging.logThreads = logging.logMultiprocessing = False


class JSONLines(logging.Formatter):
    """`extra={"line": {...}}` is taken whole; any other extra becomes a field of its own."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if whole := vars(record).get("line"):
            return orjson.dumps({**line, **whole}, default=str).decode()
        line.update((name, value) for name, value in vars(record).items() if name not in STANDARD)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()
