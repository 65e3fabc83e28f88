"""The one table: a row per figure, a column per server, and the targets beside them."""

from collections.abc import Callable
from functools import partial

from measure import CONNECTIONS, OPEN_STREAMS, Figures, middle

GATEWAY, MOCK = "gateway", "mock"
RATE_CONNECTIONS = 32
MOST_STREAMS = OPEN_STREAMS[-1]
Reader = Callable[[Figures], float | None]


def table(figures: dict[str, Figures]) -> str:
    mock, gateway = figures[MOCK], figures.get(GATEWAY)
    lines = [["", *("mock, direct" if name == MOCK else name for name in figures), "target"]]

    def row(label: str, cell: Callable[[Figures], str], target: str = "", *, with_mock: bool = False) -> None:
        cells = [cell(seen) if with_mock or seen is not mock else "" for seen in figures.values()]
        lines.append([label, *cells, target])

    def asked(text: str, read: Reader, met: Callable[[float], bool]) -> str:
        return text + verdict(read(gateway) if gateway else None, met)

    row(f"calls/s, {RATE_CONNECTIONS} connections", rate, with_mock=True)
    limit = asked("≤ 600", cpu_per_call, lambda value: value <= 600e-6)
    row("CPU per call, µs", lambda seen: number(cpu_per_call(seen), 1e6), limit)
    row("latency p50 / p99, ms, 1 connection", partial(latency, connections=1), with_mock=True)
    for count in CONNECTIONS:
        plural = "connection" if count == 1 else "connections"
        row(f"added p50 / p99, ms, {count} {plural}", partial(added, mock=mock, connections=count))
    row("CPU per 50-chunk stream, same language, µs", lambda seen: number(cpu_per_stream(seen), 1e6))
    row("… translated, µs", lambda seen: number(cpu_per_translated_stream(seen), 1e6))
    for count in OPEN_STREAMS:
        label = f"first token p50 / p99, ms, {count:,} streams"
        row(label, partial(first_token, count=count), with_mock=True)
        whole = ""
        if count == MOST_STREAMS:
            whole = asked("all", partial(delivered, count=MOST_STREAMS), lambda value: value == MOST_STREAMS)
        row("… with every frame", partial(share, count=count), whole, with_mock=True)
    row("memory idle, MB", lambda seen: number(seen.memory_idle, 1e-6))
    limit = asked("≤ 250", memory, lambda value: value <= 250e6)
    row(f"memory at {MOST_STREAMS:,} streams, MB", lambda seen: number(memory(seen), 1e-6), limit)
    row("start-up, s", lambda seen: number(seen.startup, digits=2))
    row("usage rows of calls", rows_of_calls)
    row("errors", lambda seen: number(seen.errors()), with_mock=True)
    if gateway:
        lines += ratios(figures, gateway)
    return aligned(lines)


def ratios(figures: dict[str, Figures], gateway: Figures) -> list[list[str]]:
    """How many times better the gateway is than each of the others; below 1 it is worse."""
    wanted: list[tuple[str, Reader, bool, dict[str, int]]] = [
        ("gateway ÷ it: calls/s", calls_per_second, False, {"litellm": 12, "portkey": 2}),
        ("it ÷ gateway: CPU per call", cpu_per_call, True, {}),
        ("it ÷ gateway: CPU per stream", cpu_per_stream, True, {"litellm": 12}),
        ("… translated", cpu_per_translated_stream, True, {}),
        (f"it ÷ gateway: memory at {MOST_STREAMS:,} streams", memory, True, {}),
    ]
    lines = []
    for label, read, less_is_better, targets in wanted:
        cells, verdicts = [], []
        for name, seen in figures.items():
            value = ratio(read(seen), read(gateway)) if less_is_better else ratio(read(gateway), read(seen))
            cells.append("" if name in (MOCK, GATEWAY) else times(value))
            if (least := targets.get(name)) is not None:
                verdicts.append(f"{name} ≥ {least} ×{verdict(value, at_least(least))}")
        lines.append([label, *cells, "; ".join(verdicts)])
    return lines


def at_least(least: float) -> Callable[[float], bool]:
    return lambda value: value >= least


def verdict(value: float | None, met: Callable[[float], bool]) -> str:
    return "" if value is None else ": met" if met(value) else ": MISSED"


def calls_per_second(seen: Figures) -> float | None:
    return middle(seen.calls.get(RATE_CONNECTIONS), "per_second")


def cpu_per_call(seen: Figures) -> float | None:
    return middle(seen.calls.get(RATE_CONNECTIONS), "cpu_each")


def cpu_per_stream(seen: Figures) -> float | None:
    return middle(seen.streams.get("same"), "cpu_each")


def cpu_per_translated_stream(seen: Figures) -> float | None:
    return middle(seen.streams.get("translated"), "cpu_each")


def memory(seen: Figures) -> float | None:
    return middle(seen.open.get(MOST_STREAMS), "memory")


def delivered(seen: Figures, count: int) -> float | None:
    return middle(seen.open.get(count), "completed")


def rate(seen: Figures) -> str:
    busy = middle(seen.calls.get(RATE_CONNECTIONS), "load_core_busy") or 0
    # With the load's core full, the server could have answered more.
    return number(calls_per_second(seen)) + ("+" if busy > 0.9 else "")


def latency(seen: Figures, connections: int) -> str:
    calls = seen.calls.get(connections)
    return pair(middle(calls, "p50"), middle(calls, "p99"), digits=2)


def added(seen: Figures, mock: Figures, connections: int) -> str:
    own, floor = seen.calls.get(connections), mock.calls.get(connections)
    differences = [less(middle(own, name), middle(floor, name)) for name in ("p50", "p99")]
    return pair(differences[0], differences[1], digits=2)


def first_token(seen: Figures, count: int) -> str:
    streams = seen.open.get(count)
    return pair(middle(streams, "first_token_p50"), middle(streams, "first_token_p99"), digits=1)


def share(seen: Figures, count: int) -> str:
    return f"{number(delivered(seen, count))} of {count:,}"


def rows_of_calls(seen: Figures) -> str:
    return "–" if seen.rows_written is None else f"{seen.rows_written:,} of {seen.answered:,}"


def less(own: float | None, floor: float | None) -> float | None:
    return None if own is None or floor is None else own - floor


def ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


def number(value: float | None, unit: float = 1, digits: int = 0) -> str:
    return "–" if value is None else f"{value * unit:,.{digits}f}"


def pair(first: float | None, second: float | None, digits: int) -> str:
    """Two times, in milliseconds."""
    return "–" if first is None else f"{number(first, 1e3, digits)} / {number(second, 1e3, digits)}"


def times(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} ×" if value >= 10 else f"{value:.2f} ×"


def aligned(lines: list[list[str]]) -> str:
    widths = [max(len(line[position]) for line in lines) for position in range(len(lines[0]))]
    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in ruled)
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)
