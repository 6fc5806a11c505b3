"""Requests a second of a saturated uvicorn, variant by variant, under wrk with 64 connections, interleaved.

    python tests/bench/throughput.py [--rounds 5] [--seconds 3] [variant ...]

All servers are alive at once and one of them is loaded at a time, in a new order each round. A figure is the median of
its ratios to the bare application in the same round. Log lines go to a pipe that is read, exports to a collector.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sink import collector
from variants import VARIANTS

HERE = Path(__file__).parent
_RATE = re.compile(r"Requests/sec:\s+([\d.]+)")


class Served:
    """A variant behind uvicorn, with so many workers."""

    def __init__(self, name: str, otlp: str, workers: int = 1) -> None:
        self.name = name
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "CONNECTSOFT_"))}
        environment = {**kept, "BENCH_OTLP": otlp, "BENCH_VARIANT": name, "PYTHONPATH": str(HERE)}
        self._drain = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        command = [sys.executable, "-m", "uvicorn", "served:app", f"--port={self.port}", "--no-access-log"]
        if workers > 1:
            command.append(f"--workers={workers}")
        self._process = subprocess.Popen(
            [*command, "--log-level=warning"], cwd=HERE, env=environment, stdout=self._drain.stdin, stderr=subprocess.DEVNULL
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Of the server's process."""
        return self._process.pid

    def answers(self, seconds: float = 20.0) -> bool:
        """Whether it comes up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return True
            time.sleep(0.1)
        return False

    def load(self, seconds: int) -> float:
        """Requests a second."""
        address = f"http://127.0.0.1:{self.port}/items/7"
        ran = subprocess.run(
            ["wrk", "-t1", "-c64", f"-d{seconds}s", address], capture_output=True, text=True, check=True
        )
        found = _RATE.search(ran.stdout)
        assert found, ran.stdout
        assert "Non-2xx" not in ran.stdout, ran.stdout
        return float(found[1])

    def end(self) -> None:
        """Stop it, workers first."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._drain.stdin is not None
        self._drain.stdin.close()
        self._drain.wait()


def measure(names: list[str], rounds: int, seconds: int) -> dict[str, dict[str, Any]]:
    """Requests a second and ratios to bare of each variant that is installed."""
    with collector() as otlp:
        servers = [Served(name, otlp) for name in names]
        try:
            running = [server for server in servers if server.answers()]
            for server in running:
                server.load(1)
            rates: dict[str, list[float]] = {server.name: [] for server in running}
            for _ in range(rounds):
                for server in random.sample(running, len(running)):
                    rates[server.name].append(server.load(seconds))
        finally:
            for server in servers:
                server.end()
    found: dict[str, dict[str, Any]] = {}
    for name, own in rates.items():
        ratios = [rate / base for rate, base in zip(own, rates[VARIANTS[name][2]], strict=True)]
        found[name] = {
            "rate": statistics.median(own),
            "ratio": statistics.median(ratios),
            "spread": (min(ratios), max(ratios)),
        }
    return found


def workers(rounds: int, seconds: int) -> dict[str, float]:
    """By number of workers: requests a second of ours over those of the bare application, median of the rounds."""
    found = {}
    with collector() as otlp:
        for count in (1, 2, 4):
            pair = [Served(name, otlp, count) for name in ("bare", "ours")]
            try:
                assert all(server.answers() for server in pair)
                for server in pair:
                    server.load(2)
                ratios = []
                for _ in range(rounds):
                    rates = {server.name: server.load(seconds) for server in random.sample(pair, 2)}
                    ratios.append(rates["ours"] / rates["bare"])
            finally:
                for server in pair:
                    server.end()
            found[str(count)] = statistics.median(ratios)
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """The figures as text."""
    lines = [f"{'variant':<26}{'requests/s':>11}{'of bare':>9}   spread"]
    for name in VARIANTS:
        if name in found:
            row = found[name]
            low, high = row["spread"]
            lines.append(f"{name:<26}{row['rate']:>11.0f}{row['ratio']:>8.2f}x   {low:.2f}..{high:.2f}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("variants", nargs="*")
    options = parser.parse_args()
    names = options.variants or ["bare", "ours", "structlog line", "instrumentator", "contrib with metrics"]
    print(table(measure(names, options.rounds, options.seconds)))


if __name__ == "__main__":
    main()
