"""CPU time that each variant adds to a request, without a server.

    python tests/bench/inprocess.py [--rounds 9] [--requests 1500] [variant ...]

Every variant runs in a process of its own, and all processes exist at once. In each round every process handles a batch
of requests, in a new random order. A figure is the median over the rounds of the added CPU time relative to the bare
application in the same round, both divided by the CPU time of a fixed calibration loop at that moment.
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

from sink import discarding_collector
from variants import VARIANTS

HERE = Path(__file__).parent


class VariantProcess:
    """The process of one variant, see variant_process.py."""

    def __init__(self, name: str, otlp: str) -> None:
        self.name = name
        reader, writer = os.pipe()
        environment = {**os.environ, "BENCH_OTLP": otlp, "PYTHONPATH": str(HERE), "PYTHONHASHSEED": "0"}
        for variable in list(environment):
            if variable.startswith(("OTEL_", "CONNECTSOFT_")):
                del environment[variable]
        self._output_reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "{sys.executable}" variant_process.py "$0" 3>&{writer}', name],
            cwd=HERE, env=environment, stdin=subprocess.PIPE, stdout=self._output_reader.stdin,
            stderr=subprocess.DEVNULL, pass_fds=(writer,), text=True,
        )  # fmt: skip
        os.close(writer)
        self._results = os.fdopen(reader)
        self.is_ready = self._results.readline() == "ready\n"

    def run(self, requests: int) -> dict[str, float]:
        """CPU seconds of a batch of requests."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"run {requests}\n")
        self._process.stdin.flush()
        result: dict[str, float] = json.loads(self._results.readline())
        return result

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        assert self._output_reader.stdin is not None
        self._output_reader.stdin.close()
        self._output_reader.wait()


def measure(names: list[str], rounds: int, requests: int) -> dict[str, dict[str, Any]]:
    """Added CPU time and ratios of each variant, from interleaved rounds."""
    with discarding_collector() as otlp:
        processes = [VariantProcess(name, otlp) for name in names]
        missing = [process.name for process in processes if not process.is_ready]
        running = [process for process in processes if process.is_ready]
        samples: dict[str, list[dict[str, float]]] = {process.name: [] for process in running}
        for _ in range(rounds):
            for process in random.sample(running, len(running)):
                samples[process.name].append(process.run(requests))
        for process in processes:
            process.stop()
    results: dict[str, dict[str, Any]] = {name: {"missing": True} for name in missing}
    for name, rows in samples.items():
        base_rows = samples[VARIANTS[name][2]]
        for kind in ("loop", "process"):
            costs = [row[kind] / row["machine"] for row in rows]
            base_costs = [row[kind] / row["machine"] for row in base_rows]
            added = [(cost - base) / base for cost, base in zip(costs, base_costs, strict=True)]
            quartiles = statistics.quantiles(added, n=4)
            results.setdefault(name, {})[kind] = {
                "added": statistics.median(added),
                "spread": (min(added), max(added)),
                "noise": (quartiles[2] - quartiles[0]) / 2,
                "microseconds": statistics.median(row[kind] for row in rows) / requests * 1e6,
            }
    return results


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as text."""
    lines = [f"{'variant':<26}{'signals':<9}{'us/request':>11}{'added, loop':>13}{'added, all':>12}   spread of all"]
    for name, (_, signals, _) in VARIANTS.items():
        row = results.get(name)
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
