"""Latency of a uvicorn that is not saturated, measured with an open-loop client.

    python tests/bench/latency.py [--rounds 7] [--seconds 3] [--rate 800] [variant ...]

Requests are due at a constant rate, independently of earlier responses, and latency counts from the time at which a
request was due: a stall of the server increases the latency of all requests that had to wait. All servers run at once on one core;
the client has the other core and polls its sockets without pause. One server is loaded at a time, in a new random order
each round. Figures are medians over the rounds, ratios are within a round. Log lines go to a pipe with a reader, exports
to a collector.
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

from sink import discarding_collector
from throughput import ServerProcess
from variants import VARIANTS

DEFAULT_VARIANTS = (
    "bare",
    "connectsoft-obs",
    "connectsoft-obs, not exported",
    "structlog line",
    "contrib with metrics",
)
REQUEST = b"GET /items/7 HTTP/1.1\r\nhost: api.example\r\nuser-agent: openloop\r\naccept: */*\r\n\r\n"
CONNECTIONS = 32
TIMEOUT = 10.0
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


class OpenLoopClient:
    """Persistent connections, each of which carries one request at a time."""

    def __init__(self, port: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._idle: list[socket.socket] = []
        self._due: dict[socket.socket, float] = {}
        self._responses: dict[socket.socket, bytes] = {}
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ)
            self._idle.append(connection)

    def run(self, rate: float, seconds: float) -> list[float]:
        """Latency of each request in milliseconds, from the time at which it was due."""
        latencies: list[float] = []
        overdue: deque[float] = deque()
        count = int(rate * seconds)
        started, scheduled = perf_counter() + 0.01, 0
        while len(latencies) < count:
            now = perf_counter()
            assert now < started + seconds + TIMEOUT, f"{len(latencies)} of {count} requests were answered"
            while scheduled < count and started + scheduled / rate <= now:
                overdue.append(started + scheduled / rate)
                scheduled += 1
            while overdue and self._idle:
                connection = self._idle.pop()
                self._due[connection] = overdue.popleft()
                self._responses[connection] = b""
                connection.send(REQUEST)
            for key, _ in self._selector.select(0):
                connection = key.fileobj  # type: ignore[assignment]
                if self._receive(connection):
                    latencies.append((perf_counter() - self._due.pop(connection)) * 1e3)
                    self._idle.append(connection)
        return latencies

    def close(self) -> None:
        """Close all connections."""
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _receive(self, connection: socket.socket) -> bool:
        """Read available data; return whether the response is complete."""
        response = self._responses[connection] = self._responses[connection] + connection.recv(65536)
        head, separator, body = response.partition(b"\r\n\r\n")
        if not separator:
            return False
        assert head.startswith(b"HTTP/1.1 200"), head
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return len(body) >= int(length.partition(b":")[2])


def quantile(values: list[float], share: float) -> float:
    """The smallest value that is not exceeded by a share of the values."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def measure(names: tuple[str, ...], rounds: int, seconds: float, rate: float = 800.0) -> dict[str, dict[str, Any]]:
    """By variant and quantile: milliseconds, ratio to bare and its spread, from interleaved rounds."""
    initial_affinity = os.sched_getaffinity(0)
    cores = sorted(initial_affinity)
    with discarding_collector() as otlp:
        servers = [ServerProcess(name, otlp) for name in names]
        try:
            running = [server for server in servers if server.wait_until_listening()]
            for server in running:
                server.load(1)
                _pin_threads(server.pid, cores[0])
            os.sched_setaffinity(0, {cores[-1]})
            rows: dict[str, list[dict[str, float]]] = {server.name: [] for server in running}
            for _ in range(rounds):
                for server in random.sample(running, len(running)):
                    client = OpenLoopClient(server.port)
                    client.run(rate, 0.5)
                    latencies = client.run(rate, seconds)
                    client.close()
                    rows[server.name].append({name: quantile(latencies, share) for name, share in QUANTILES.items()})
        finally:
            os.sched_setaffinity(0, initial_affinity)
            for server in servers:
                server.stop()
    return {name: _summarize(variant_rows, rows[VARIANTS[name][2]]) for name, variant_rows in rows.items()}


def _summarize(rows: list[dict[str, float]], base_rows: list[dict[str, float]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for name in QUANTILES:
        ratios = [row[name] / base[name] for row, base in zip(rows, base_rows, strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        summary[name] = {
            "ms": statistics.median(row[name] for row in rows),
            "ratio": statistics.median(ratios),
            "spread": (min(ratios), max(ratios)),
            "noise": (high - low) / 2,
        }
    return summary


def _pin_threads(pid: int, core: int) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as text."""
    lines = [f"{'variant':<26}" + "".join(f"{name:>9} ms {'of bare':>8}" for name in QUANTILES) + "   spread of p99"]
    for name, row in results.items():
        cells = "".join(f"{row[quantile]['ms']:>12.2f} {row[quantile]['ratio']:>7.2f}x" for quantile in QUANTILES)
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
    names = tuple(options.variants) or DEFAULT_VARIANTS
    print(table(measure(names, options.rounds, options.seconds, options.rate)))


if __name__ == "__main__":
    main()
