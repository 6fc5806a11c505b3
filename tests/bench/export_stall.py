"""Longest delay of a request while spans are exported at full load: `python tests/bench/export_stall.py [--seconds 20]`.

Each variant handles requests in a process of its own as fast as possible, one second at a time, all variants in turn.
Every request is timed from outside the application, and the slowest one of each window of 250 ms is recorded. The output
is the median and the 95th percentile of those, in milliseconds. Effects of the GIL, of garbage collection and of the
machine are included in all variants, also in the bare application; the cost of exporting is the difference.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

from sink import discarding_collector
from variants import build

HERE = Path(__file__).parent
VARIANTS = ("bare", "connectsoft-obs, not exported", "connectsoft-obs", "contrib with metrics")
WINDOW = 0.25


async def serve_commands(name: str) -> None:
    """For each line on standard input, handle requests for a second and write the slowest one of each window."""
    from variant_process import receive, scope, send

    app, results = build(name), os.fdopen(3, "w", buffering=1)
    for number in range(1000):
        await app(scope(number % 100), receive, send)
    results.write("[]\n")
    while await asyncio.to_thread(sys.stdin.readline):
        slowest_per_window, end = [], time.perf_counter() + 1.0
        while time.perf_counter() < end:
            window_end, slowest, number = time.perf_counter() + WINDOW, 0.0, 0
            while (started := time.perf_counter()) < window_end:
                await app(scope(number % 100), receive, send)
                slowest = max(slowest, time.perf_counter() - started)
                number += 1
                if not number % 50:
                    await asyncio.sleep(0)
            slowest_per_window.append(slowest * 1e3)
        results.write(json.dumps(slowest_per_window) + "\n")


class VariantProcess:
    """The process of one variant."""

    def __init__(self, name: str, otlp: str) -> None:
        reader, writer = os.pipe()
        environment = {**os.environ, "BENCH_OTLP": otlp, "PYTHONPATH": str(HERE)}
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "{sys.executable}" export_stall.py --variant "$0" 3>&{writer}', name],
            cwd=HERE, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=(writer,), text=True,
        )  # fmt: skip
        os.close(writer)
        self._results = os.fdopen(reader)
        self._results.readline()

    def run_for_a_second(self) -> list[float]:
        """The slowest request of each window of one second, in milliseconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        result: list[float] = json.loads(self._results.readline())
        return result

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()


def measure(seconds: int) -> dict[str, tuple[float, float]]:
    """By variant: median and 95th percentile of the slowest request of a window, in milliseconds."""
    with discarding_collector() as otlp:
        processes = {name: VariantProcess(name, otlp) for name in VARIANTS}
        slowest: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for _ in range(seconds):
            for name in random.sample(VARIANTS, len(VARIANTS)):
                slowest[name] += processes[name].run_for_a_second()
        for process in processes.values():
            process.stop()
    return {
        name: (statistics.median(values), statistics.quantiles(values, n=20)[-1]) for name, values in slowest.items()
    }


def table(results: dict[str, tuple[float, float]]) -> str:
    """The results as text."""
    rows = [f"{'slowest request in 250 ms, ms':<48}{'median':>8}{'p95':>8}"]
    rows += [f"{name:<48}{median:>8.2f}{p95:>8.2f}" for name, (median, p95) in results.items()]
    return "\n".join(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--variant", help="run the process of this variant (used internally)")
    options = parser.parse_args()
    if options.variant:
        asyncio.run(serve_commands(options.variant))
        return
    print(table(measure(options.seconds)))


if __name__ == "__main__":
    main()
