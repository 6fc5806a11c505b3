"""CPU that each variant adds to a request, in process, interleaved: shuffled rounds, ratios within a round.

    python tests/bench/inprocess.py [--rounds 9] [--requests 1500] [variant ...]

Every variant runs in a process of its own, all of them alive at once; in each round each of them handles a chunk of
requests, in a new order. A figure is the median over rounds of added CPU over the bare application's in the same
round, both divided by how long the machine took for a fixed piece of work at that moment.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from sink import collector
from variants import VARIANTS

HERE = Path(__file__).parent


class Child:
    """A variant's process."""

    def __init__(self, name: str, otlp: str) -> None:
        self.name = name
        reader, writer = os.pipe()
        environment = {**os.environ, "BENCH_OTLP": otlp, "PYTHONPATH": str(HERE), "PYTHONHASHSEED": "0"}
        for variable in list(environment):
            if variable.startswith(("OTEL_", "CONNECTSOFT_")):
                del environment[variable]
        self._drain = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "{sys.executable}" child.py "$0" 3>&{writer}', name],
            cwd=HERE, env=environment, stdin=subprocess.PIPE, stdout=self._drain.stdin, stderr=subprocess.DEVNULL,
            pass_fds=(writer,), text=True,
        )  # fmt: skip
        os.close(writer)
        self._answers = os.fdopen(reader)
        self.alive = self._answers.readline() == "ready\n"

    def run(self, requests: int) -> dict[str, float]:
        """CPU seconds of a chunk."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"run {requests}\n")
        self._process.stdin.flush()
        answer: dict[str, float] = json.loads(self._answers.readline())
        return answer

    def end(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.wait()
        assert self._drain.stdin is not None
        self._drain.stdin.close()
        self._drain.wait()


def measure(names: list[str], rounds: int, requests: int) -> dict[str, dict[str, Any]]:
    """Added microseconds and ratios of each variant, from interleaved rounds."""
    with collector() as otlp:
        children = [Child(name, otlp) for name in names]
        missing = [child.name for child in children if not child.alive]
        running = [child for child in children if child.alive]
        samples: dict[str, list[dict[str, float]]] = {child.name: [] for child in running}
        for _ in range(rounds):
            for child in random.sample(running, len(running)):
                samples[child.name].append(child.run(requests))
        for child in children:
            child.end()
    found: dict[str, dict[str, Any]] = {name: {"missing": True} for name in missing}
    for name, rows in samples.items():
        base = samples[VARIANTS[name][2]]
        for kind in ("loop", "process"):
            costs = [row[kind] / row["machine"] for row in rows]
            bare = [row[kind] / row["machine"] for row in base]
            added = [(cost - plain) / plain for cost, plain in zip(costs, bare, strict=True)]
            found.setdefault(name, {})[kind] = {
                "added": statistics.median(added),
                "spread": (min(added), max(added)),
                "noise": (statistics.quantiles(added, n=4)[2] - statistics.quantiles(added, n=4)[0]) / 2,
                "microseconds": statistics.median(row[kind] for row in rows) / requests * 1e6,
            }
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """The figures as text."""
    lines = [f"{'variant':<26}{'signals':<9}{'us/request':>11}{'added, loop':>13}{'added, all':>12}   spread of all"]
    for name, (_, signals, _) in VARIANTS.items():
        row = found.get(name)
        if row is None:
            continue
        if "missing" in row:
            lines.append(f"{name:<26}{signals:<9}{'not installed':>11}")
            continue
        low, high = row["process"]["spread"]
        lines.append(
            f"{name:<26}{signals:<9}{row['process']['microseconds']:>11.1f}"
            f"{row['loop']['added']:>12.2f}x{row['process']['added']:>11.2f}x   {low:.2f}..{high:.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("variants", nargs="*")
    options = parser.parse_args()
    names = options.variants or list(VARIANTS)
    for name in list(names):
        if VARIANTS[name][2] not in names:
            names.insert(0, VARIANTS[name][2])
    print(table(measure(names, options.rounds, options.requests)))


if __name__ == "__main__":
    main()
