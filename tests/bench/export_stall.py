"""The longest time for which an export holds up the event loop at full load: `python tests/bench/export_stall.py [--seconds 20]`.

Each variant handles requests in a process of its own as fast as it can, a second at a time, all variants in turn. Every
request is timed from outside; of each quarter of a second the slowest one is kept. Printed are the median and the 95th
percentile of those, in milliseconds: what the interpreter's lock, garbage collection and this machine do to the bare
application is in all of them, what exporting adds is the difference.
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

from sink import collector
from variants import build

HERE = Path(__file__).parent
VARIANTS = ("bare", "ours, not exported", "ours", "contrib with metrics")
WINDOW = 0.25


async def worst(name: str) -> None:
    """For each line on standard input: a second of requests, answered with the slowest one of each window."""
    from variant_process import receive, scope, send

    app, answers = build(name), os.fdopen(3, "w", buffering=1)
    for number in range(1000):
        await app(scope(number % 100), receive, send)
    answers.write("[]\n")
    while await asyncio.to_thread(sys.stdin.readline):
        found, until = [], time.perf_counter() + 1.0
        while time.perf_counter() < until:
            end, slowest, number = time.perf_counter() + WINDOW, 0.0, 0
            while (began := time.perf_counter()) < end:
                await app(scope(number % 100), receive, send)
                slowest = max(slowest, time.perf_counter() - began)
                number += 1
                if not number % 50:
                    await asyncio.sleep(0)
            found.append(slowest * 1e3)
        answers.write(json.dumps(found) + "\n")


class Child:
    """A variant's process."""

    def __init__(self, name: str, otlp: str) -> None:
        reader, writer = os.pipe()
        environment = {**os.environ, "BENCH_OTLP": otlp, "PYTHONPATH": str(HERE)}
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "{sys.executable}" stall.py --child "$0" 3>&{writer}', name],
            cwd=HERE, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=(writer,), text=True,
        )  # fmt: skip
        os.close(writer)
        self._answers = os.fdopen(reader)
        self._answers.readline()

    def second(self) -> list[float]:
        """The slowest request of each window of a second, in milliseconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        found: list[float] = json.loads(self._answers.readline())
        return found

    def end(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.wait()


def measure(seconds: int) -> dict[str, tuple[float, float]]:
    """By variant: median and 95th percentile, in milliseconds, of the slowest request of a quarter of a second."""
    with collector() as otlp:
        children = {name: Child(name, otlp) for name in VARIANTS}
        found: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for _ in range(seconds):
            for name in random.sample(VARIANTS, len(VARIANTS)):
                found[name] += children[name].second()
        for child in children.values():
            child.end()
    return {name: (statistics.median(values), statistics.quantiles(values, n=20)[-1]) for name, values in found.items()}


def table(found: dict[str, tuple[float, float]]) -> str:
    """The figures as text."""
    rows = [f"{'slowest request of a quarter of a second, ms':<48}{'median':>8}{'p95':>8}"]
    rows += [f"{name:<48}{median:>8.2f}{high:>8.2f}" for name, (median, high) in found.items()]
    return "\n".join(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--child")
    options = parser.parse_args()
    if options.child:
        asyncio.run(worst(options.child))
        return
    print(table(measure(options.seconds)))


if __name__ == "__main__":
    main()
