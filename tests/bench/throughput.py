"""Requests per second of a saturated uvicorn under wrk with 64 connections, by variant.

    python tests/bench/throughput.py [--rounds 5] [--seconds 3] [variant ...]

All servers run at once, and one of them is loaded at a time, in a new random order each round. A figure is the median
of the ratios to the bare application in the same round. Log lines go to a pipe with a reader, exports to a collector.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sink import discarding_collector, free_port, is_listening
from variants import VARIANTS

HERE = Path(__file__).parent
_RATE = re.compile(r"Requests/sec:\s+([\d.]+)")


class ServerProcess:
    """A variant under uvicorn with a number of workers."""

    def __init__(self, name: str, otlp: str, workers: int = 1) -> None:
        self.name = name
        self.port = free_port()
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "CONNECTSOFT_"))}
        environment = {**inherited, "BENCH_OTLP": otlp, "BENCH_VARIANT": name, "PYTHONPATH": str(HERE)}
        self._output_reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        command = [sys.executable, "-m", "uvicorn", "server_app:app", f"--port={self.port}", "--no-access-log"]
        if workers > 1:
            command.append(f"--workers={workers}")
        self._process = subprocess.Popen(
            [*command, "--log-level=warning"],
            cwd=HERE, env=environment, stdout=self._output_reader.stdin, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._process.pid

    def wait_until_listening(self, seconds: float = 20.0) -> bool:
        """Wait until the server listens; False if it exits, for example because a library is not installed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            if is_listening(self.port):
                return True
            time.sleep(0.1)
        return False

    def load(self, seconds: int) -> float:
        """Load the server with wrk; return the requests per second."""
        command = ["wrk", "-t1", "-c64", f"-d{seconds}s", f"http://127.0.0.1:{self.port}/items/7"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rate = _RATE.search(output)
        assert rate, output
        assert "Non-2xx" not in output, output
        return float(rate[1])

    def stop(self) -> None:
        """Terminate the server, which stops its workers."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._output_reader.stdin is not None
        self._output_reader.stdin.close()
        self._output_reader.wait()


def measure(names: list[str], rounds: int, seconds: int) -> dict[str, dict[str, Any]]:
    """Requests per second, and ratios to the bare application, of each variant that is installed."""
    with discarding_collector() as otlp:
        servers = [ServerProcess(name, otlp) for name in names]
        try:
            running = [server for server in servers if server.wait_until_listening()]
            for server in running:
                server.load(1)
            rates: dict[str, list[float]] = {server.name: [] for server in running}
            for _ in range(rounds):
                for server in random.sample(running, len(running)):
                    rates[server.name].append(server.load(seconds))
        finally:
            for server in servers:
                server.stop()
    results: dict[str, dict[str, Any]] = {}
    for name, variant_rates in rates.items():
        ratios = [rate / base for rate, base in zip(variant_rates, rates[VARIANTS[name][2]], strict=True)]
        results[name] = {
            "rate": statistics.median(variant_rates),
            "ratio": statistics.median(ratios),
            "spread": (min(ratios), max(ratios)),
        }
    return results


def measure_workers(rounds: int, seconds: int) -> dict[str, float]:
    """By number of workers: requests per second relative to the bare application, median of the rounds."""
    results = {}
    with discarding_collector() as otlp:
        for count in (1, 2, 4):
            servers = [ServerProcess(name, otlp, count) for name in ("bare", "connectsoft-obs")]
            try:
                assert all(server.wait_until_listening() for server in servers)
                for server in servers:
                    server.load(2)
                ratios = []
                for _ in range(rounds):
                    rates = {server.name: server.load(seconds) for server in random.sample(servers, 2)}
                    ratios.append(rates["connectsoft-obs"] / rates["bare"])
            finally:
                for server in servers:
                    server.stop()
            results[str(count)] = statistics.median(ratios)
    return results


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as text."""
    lines = [f"{'variant':<26}{'requests/s':>11}{'of bare':>9}   spread"]
    for name in VARIANTS:
        if name in results:
            row = results[name]
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
    names = options.variants or ["bare", "connectsoft-obs", "structlog line", "instrumentator", "contrib with metrics"]
    print(table(measure(names, options.rounds, options.seconds)))


if __name__ == "__main__":
    main()
