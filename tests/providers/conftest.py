"""The ground floor by itself: no database, no Django, sockets of our own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from providers.wire import client


@pytest.fixture(scope="session", autouse=True)
def _no_proxy_from_outside() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        yield


@pytest.fixture(autouse=True)
def _every_place_is_given_back() -> Iterator[None]:
    """Whatever happened to a call, its connection is closed or back in the pool."""
    client._environment_proxy.cache_clear()
    yield
    pools = list(client._pools.values())
    taken = [pool.size - pool._semaphore.counter for pool in pools]
    for pool in pools:
        pool.close()
    client._pools.clear()
    assert taken == [0] * len(taken)
