"""Latency of a uvicorn that is not saturated: requests leave at their time, whatever becomes of those before.

    python tests/bench/latency.py [--rounds 7] [--seconds 3] [--rate 800] [variant ...]

A request's time counts from when it was due, so a server that stalls is charged for all that had to wait. All servers are
alive at once on one core, the client has the other to itself and asks its sockets without pause; one server is loaded at
a time, in a new order each round. Figures are medians of the rounds, ratios are within a round. Log lines go to a pipe
that is read, exports to a collector.
"""

from __future__ import annotations

import argparse
import os
import random
import selectors
import socket
import statistics
from collections import deque
from pathlib import Path
from time import perf_counter
from typing import Any

from sink import collector
from throughput import Served
from variants import VARIANTS

NAMES = ("bare", "ours", "ours, not exported", "structlog line", "contrib with metrics")
REQUEST = b"GET /items/7 HTTP/1.1\r\nhost: api.example\r\nuser-agent: openloop\r\naccept: */*\r\n\r\n"
CONNECTIONS = 32
PATIENCE = 10.0
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


class Client:
    """Connections that are kept open; each carries one request at a time."""

    def __init__(self, port: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._idle: list[socket.socket] = []
        self._due: dict[socket.socket, float] = {}
        self._answers: dict[socket.socket, bytes] = {}
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ)
            self._idle.append(connection)

    def run(self, rate: float, seconds: float) -> list[float]:
        """Milliseconds of each request, from the moment at which it was due."""
        took: list[float] = []
        waiting: deque[float] = deque()
        count = int(rate * seconds)
        began, made = perf_counter() + 0.01, 0
        while len(took) < count:
            now = perf_counter()
            assert now < began + seconds + PATIENCE, f"{len(took)} of {count} were answered"
            while made < count and began + made / rate <= now:
                waiting.append(began + made / rate)
                made += 1
            while waiting and self._idle:
                connection = self._idle.pop()
                self._due[connection] = waiting.popleft()
                self._answers[connection] = b""
                connection.send(REQUEST)
            for key, _ in self._selector.select(0):
                connection = key.fileobj  # type: ignore[assignment]
                if self._whole(connection):
                    took.append((perf_counter() - self._due.pop(connection)) * 1e3)
                    self._idle.append(connection)
        return took

    def close(self) -> None:
        """Hang up."""
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _whole(self, connection: socket.socket) -> bool:
        """Read what is there; whether the answer is complete."""
        answer = self._answers[connection] = self._answers[connection] + connection.recv(65536)
        head, found, body = answer.partition(b"\r\n\r\n")
        if not found:
            return False
        assert head.startswith(b"HTTP/1.1 200"), head
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return len(body) >= int(length.partition(b":")[2])


def quantile(values: list[float], share: float) -> float:
    """The value that so much of them is not above."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def measure(names: tuple[str, ...], rounds: int, seconds: float, rate: float = 800.0) -> dict[str, dict[str, Any]]:
    """By variant and quantile: milliseconds, ratio to bare, spread of that, from interleaved rounds."""
    before = os.sched_getaffinity(0)
    cores = sorted(before)
    with collector() as otlp:
        servers = [Served(name, otlp) for name in names]
        try:
            running = [server for server in servers if server.answers()]
            for server in running:
                server.load(1)
                _pin(server.pid, cores[0])
            os.sched_setaffinity(0, {cores[-1]})
            found: dict[str, list[dict[str, float]]] = {server.name: [] for server in running}
            for _ in range(rounds):
                for server in random.sample(running, len(running)):
                    client = Client(server.port)
                    client.run(rate, 0.5)
                    took = client.run(rate, seconds)
                    client.close()
                    found[server.name].append({name: quantile(took, share) for name, share in QUANTILES.items()})
        finally:
            os.sched_setaffinity(0, before)
            for server in servers:
                server.end()
    return {name: _summed(rows, found[VARIANTS[name][2]]) for name, rows in found.items()}


def _summed(rows: list[dict[str, float]], base: list[dict[str, float]]) -> dict[str, Any]:
    summed: dict[str, Any] = {}
    for name in QUANTILES:
        ratios = [own[name] / bare[name] for own, bare in zip(rows, base, strict=True)]
        summed[name] = {
            "ms": statistics.median(row[name] for row in rows),
            "ratio": statistics.median(ratios),
            "spread": (min(ratios), max(ratios)),
            "noise": _half_between_quartiles(ratios),
        }
    return summed


def _half_between_quartiles(values: list[float]) -> float:
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2


def _pin(process: int, core: int) -> None:
    for thread in Path(f"/proc/{process}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def table(found: dict[str, dict[str, Any]]) -> str:
    """The figures as text."""
    lines = [f"{'variant':<26}" + "".join(f"{name:>9} ms {'of bare':>8}" for name in QUANTILES) + "   spread of p99"]
    for name, row in found.items():
        cells = "".join(f"{row[one]['ms']:>12.2f} {row[one]['ratio']:>7.2f}x" for one in QUANTILES)
        low, high = row["p99"]["spread"]
        lines.append(f"{name:<26}{cells}   {low:.2f}..{high:.2f}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rate", type=float, default=800)
    parser.add_argument("variants", nargs="*")
    options = parser.parse_args()
    print(table(measure(tuple(options.variants) or NAMES, options.rounds, options.seconds, options.rate)))


if __name__ == "__main__":
    main()
