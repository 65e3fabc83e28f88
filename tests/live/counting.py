"""The product's application, telling how many database queries each request made: `x-queries`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import gevent
from django.db.backends.signals import connection_created

from gateway.wsgi import application as product

queries: dict[Any, int] = {}


def _count(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    queries[gevent.getcurrent()] = queries.get(gevent.getcurrent(), 0) + 1
    return execute(sql, params, many, context)


def _watch(connection: Any, **_: Any) -> None:
    if _count not in connection.execute_wrappers:
        connection.execute_wrappers.append(_count)


connection_created.connect(_watch)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    queries[gevent.getcurrent()] = 0

    def start(status: str, headers: list[tuple[str, str]], error: Any = None) -> Any:
        counted = [*headers, ("x-queries", str(queries.pop(gevent.getcurrent(), 0)))]
        return start_response(status, counted, error) if error else start_response(status, counted)

    return product(environ, start)
