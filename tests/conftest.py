"""Fixtures that every test may use: a strict upstream, the live gateway before it, and the services of the box."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import NoReturn

import psycopg
import pytest

from tests.every_provider import Bench, bench
from tests.fakes.openai import KEY, FakeOpenAI
from tests.live.server import Gateway, postgres_database

__all__ = ["Gateway", "StartGateway"]

POSTGRES = os.environ.get("TEST_POSTGRES_URL", "postgres://root@127.0.0.1:5432")

StartGateway = Callable[..., Gateway]


def lacking(service: str) -> NoReturn:
    """Skips on a laptop; on the machine that promised the service, fails."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"{service} is missing, and REQUIRE_SERVICES=1 promises it.")
    pytest.skip(f"needs {service}")


@pytest.fixture(scope="session")
def fake_upstream() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as upstream:
        yield upstream


@pytest.fixture
def upstream(fake_upstream: FakeOpenAI) -> Iterator[FakeOpenAI]:
    """The strict upstream, with no memory of other tests; whatever the gateway alone can get wrong fails the test."""
    fake_upstream.forget()
    yield fake_upstream
    assert fake_upstream.complaints == []


@pytest.fixture(scope="session")
def databases() -> Iterator[ExitStack]:
    """What is made here is dropped after the gateways have stopped."""
    with ExitStack() as made:
        yield made


@contextmanager
def starter(folders: pytest.TempPathFactory) -> Iterator[StartGateway]:
    running: list[Gateway] = []

    def start(**settings: str) -> Gateway:
        gateway = Gateway(folders.mktemp("gateway"), **settings)
        running.append(gateway)
        return gateway.__enter__()

    try:
        yield start
    finally:
        with ThreadPoolExecutor(8) as pool:  # each takes some seconds to end as it should
            list(pool.map(lambda gateway: gateway.__exit__(), running))


@pytest.fixture(scope="module")
def start_gateway(tmp_path_factory: pytest.TempPathFactory, databases: ExitStack) -> Iterator[StartGateway]:
    """Starts gateways with settings of their own, `start_gateway(WEB_CONCURRENCY="1")`, which end with the module."""
    with starter(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory, fake_upstream: FakeOpenAI) -> Iterator[Gateway]:
    """The gateway most tests share: profile `fake` with a route for each model of the upstream, and hasty `hasty`."""
    with starter(tmp_path_factory) as start:
        gateway = start()
        gateway.connect("fake", fake_upstream.url, KEY, routes="all")
        gateway.connect("hasty", fake_upstream.url, KEY, connect=1, first_event=1, idle=1, total=4)
        yield gateway


@pytest.fixture
def gateway(live: Gateway, upstream: FakeOpenAI) -> Iterator[Gateway]:
    """The shared live gateway over the strict upstream; its log is shown beside a failure."""
    before = live.log.stat().st_size
    yield live
    with live.log.open("rb") as log:
        log.seek(before)
        print(log.read().decode(errors="replace"))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A gateway with every system connected, shared by the suites of every provider and every language."""
    with starter(tmp_path_factory) as start, bench(start(), tmp_path_factory.mktemp("credentials")) as made:
        yield made


@pytest.fixture
def at(world: Bench) -> Iterator[Bench]:
    """The bench with no memory of other tests; what the gateway alone can get wrong fails the test."""
    world.forget()
    before = world.gateway.log.stat().st_size
    yield world
    with world.gateway.log.open("rb") as log:
        log.seek(before)
        print(log.read().decode(errors="replace"))
    assert world.complaints() == []


@pytest.fixture
def postgres(databases: ExitStack) -> str:
    """A fresh PostgreSQL database's URL."""
    try:
        psycopg.connect(f"{POSTGRES}/postgres", connect_timeout=3).close()
    except psycopg.OperationalError:
        lacking("PostgreSQL")
    return databases.enter_context(postgres_database(POSTGRES))
