"""One call from its first byte to its last: what it used, what it cost, and how it ended, exactly once."""

from __future__ import annotations

import logging
import os
import time
import uuid
from typing import Any

from apikeys.keyring import Key
from profiles import board
from profiles.catalog import LiveRoute, Prices
from profiles.routing import Lane
from providers.conversation import Usage
from usage.journal import Journal
from usage.models import Ending, TokensFrom

BYTES_PER_TOKEN = 4  # of a request whose upstream did not count

log = logging.getLogger("switchboard.calls")
journal = Journal(board.worker.id)
open_calls: set[Call] = set()
board.worker.gauges["open_calls"] = lambda: len(open_calls)


def new_call_id() -> uuid.UUID:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds since 1970, then 74 random ones."""
    random = int.from_bytes(os.urandom(10), "big")
    high = (time.time_ns() // 1_000_000) << 16 | 0x7000 | (random >> 68)
    low = 1 << 63 | random & ((1 << 62) - 1)
    return uuid.UUID(int=high << 64 | low)


def cost(usage: Usage, prices: Prices) -> int:
    """Nano-USD, rounded once, half up. Prices are micro-USD per million tokens.

    Tokens of a kind without a price of its own are charged as the input or output they are part of.
    """
    input_price, output_price = prices.input or 0, prices.output or 0
    total = usage.input * input_price + usage.output * output_price
    for count, price, part_of in (
        (usage.cached, prices.cached, input_price),
        (usage.cache_write, prices.cache_write, input_price),
        (usage.audio_input, prices.audio, input_price),
        (usage.reasoning, prices.reasoning, output_price),
        (usage.audio_output, prices.audio, output_price),
    ):
        if price is not None:
            total += count * (price - part_of)
    return max(0, (total + 500) // 1000)


class Call:
    """One client request. It must be closed; closing it twice does nothing."""

    def __init__(self, id: uuid.UUID, key: Key, language: str, client: str, client_request_id: str) -> None:
        self.id = id
        self.request_id = str(id)
        self.key = key
        self.language = language
        self.client = plain(client)
        self.client_request_id = plain(client_request_id)
        self.started = time.time()
        self._began = time.monotonic()
        self._first_token: float | None = None
        self._closed = False
        self._opened: dict[str, Any] | None = None  # the row as the last attempt began
        self.route: LiveRoute | None = None
        self.asked_for = ""
        self.lane: Lane | None = None
        self.streamed = False
        self.end_user = ""
        self.size = 0
        self.estimates = True  # whether tokens may be guessed from what was sent and said
        self.attempts: list[dict[str, Any]] = []
        self.usage: Usage | None = None
        self.pieces = 0
        open_calls.add(self)

    @property
    def closed(self) -> bool:
        return self._closed

    def attempt(self, lane: Lane) -> None:
        """An upstream is about to be asked: from now on the call is in the journal."""
        self.lane = lane
        self.attempts.append({"profile": lane.deployment.target.profile, "model": lane.deployment.upstream_model})
        self._opened = self._row()
        journal.opened({**self._opened, "worker": board.worker.id, "size": self.size if self.estimates else 0})

    def attempt_failed(self, error: str, status: int | None) -> None:
        if self.attempts and "error" not in self.attempts[-1]:  # a login that fails is no attempt
            self.attempts[-1] |= {"error": error, "status": status, "ms": self._elapsed_ms()}

    def answered_by(self, node: str) -> None:
        """Which machine of the upstream answered, in its own words."""
        if node and self.attempts:
            self.attempts[-1]["node"] = plain(node)

    def first_token(self) -> None:
        if self._first_token is None:
            self._first_token = time.monotonic()

    def close(self, ending: Ending, status: int, error_code: str = "") -> None:
        """The one ending of this call; written before the last byte of its answer goes out."""
        if self._closed:
            return
        self._closed = True
        open_calls.discard(self)
        board.count("calls")
        board.count(f"ended_{ending}")
        row = self._opened or self._row()
        usage, source = self._final_usage(ending)
        prices = self.lane.deployment.prices if self.lane else Prices()
        row.update(
            status=status,
            ending=str(ending),
            error_code=plain(error_code, 100),
            input_tokens=usage.input,
            cached_tokens=usage.cached,
            cache_write_tokens=usage.cache_write,
            output_tokens=usage.output,
            reasoning_tokens=usage.reasoning,
            audio_tokens=usage.audio_input + usage.audio_output,
            tokens_from=str(source),
            cost=cost(usage, prices),
            duration_ms=self._elapsed_ms(),
            first_token_ms=int((self._first_token - self._began) * 1000) if self._first_token else None,
        )
        journal.closed(row)
        log.info("call", extra={"line": _log_line(row)})

    def forget(self) -> None:
        """End without a row: the call was for something that is not there."""
        self._closed = True
        open_calls.discard(self)

    @property
    def elapsed(self) -> float:
        """Seconds since the call came in."""
        return time.monotonic() - self._began

    def _elapsed_ms(self) -> int:
        return int(self.elapsed * 1000)

    def _final_usage(self, ending: Ending) -> tuple[Usage, TokensFrom]:
        if self.usage is not None:
            return self.usage, TokensFrom.UPSTREAM
        if self._opened and self.estimates and ending not in (Ending.FAILED, Ending.REFUSED):
            return Usage(input=-(-self.size // BYTES_PER_TOKEN), output=self.pieces), TokensFrom.ESTIMATED
        return Usage(), TokensFrom.NONE

    def _row(self) -> dict[str, Any]:
        key, route, lane = self.key, self.route, self.lane
        deployment = lane.deployment if lane else None
        return {
            "id": self.request_id,
            "request_id": self.request_id,
            "client_request_id": self.client_request_id,
            "started_at": self.started,
            "key_id": key.id,
            "key_name": key.name,
            "key_prefix": key.prefix,
            "owner_id": key.owner_id,
            "owner_name": key.owner,
            "tags": key.tags,
            "route_id": route.id if route else None,
            "route_name": route.name if route else plain(self.asked_for),
            "deployment_id": deployment.id if deployment else None,
            "profile_id": deployment.profile_id if deployment else None,
            "profile_name": deployment.target.profile if deployment else "",
            "upstream_model": deployment.upstream_model if deployment else "",
            "language_in": self.language,
            "language_out": (lane.language.name if lane.language else lane.deployment.target.kind) if lane else "",
            "lane": lane.name if lane else "",
            "streamed": self.streamed,
            "prices": _prices(deployment.prices) if deployment else {},
            "attempts": self.attempts,
            "end_user": plain(self.end_user),
            "client": self.client,
        }


def plain(text: str, longest: int = 200) -> str:
    """A text of somebody else's as every database takes it: no longer than its column, without what is no character."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")[:longest]


LOGGED = (
    "request_id client_request_id key_prefix owner_name route_name profile_name upstream_model "
    "language_in language_out lane streamed status ending error_code input_tokens output_tokens "
    "tokens_from duration_ms first_token_ms"
).split()


def _log_line(row: dict[str, Any]) -> dict[str, Any]:
    line = {name: row[name] for name in LOGGED if row[name] not in ("", None)}
    line["cost_usd"] = row["cost"] / 1e9
    line["attempts"] = len(row["attempts"])
    return line


def _prices(prices: Prices) -> dict[str, int]:
    named = {
        "input": prices.input,
        "cached": prices.cached,
        "cache_write": prices.cache_write,
        "output": prices.output,
        "reasoning": prices.reasoning,
        "audio": prices.audio,
    }
    return {name: price for name, price in named.items() if price is not None}
