"""CPU time that a job decorator adds to an empty function, compared with other libraries.

    python tests/bench/job.py [--rounds 30] [--calls 2000]

Each variant runs in a process of its own. A round measures the CPU time (all threads) of a number of calls in each
process, in random order, and subtracts that of the bare function. Log lines go to a pipe with a reader, spans to a
collector in another process. Figures are medians over the rounds, and ratios to autometrics, which records metrics only.

Other libraries: pip install logfire autometrics opentelemetry-exporter-prometheus (autometrics with --no-deps, as it pins
versions of 2023).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

from job_variants import VARIANTS
from sink import discarding_collector


def serve_commands(variant: str, control: socket.socket, calls: int) -> None:
    """Measure once for each byte received on the socket and send the result, nanoseconds per call."""
    async_function, sync_function = VARIANTS[variant]()

    async def measure_async() -> int:
        started = time.process_time_ns()
        for _ in range(calls):
            await async_function()
        return time.process_time_ns() - started

    def measure_sync() -> int:
        started = time.process_time_ns()
        for _ in range(calls):
            sync_function()
        return time.process_time_ns() - started

    with asyncio.Runner() as runner:
        runner.run(measure_async())
        measure_sync()
        gc.collect()
        gc.freeze()
        while kind := control.recv(1):
            nanoseconds = runner.run(measure_async()) if kind == b"a" else measure_sync()
            control.sendall(json.dumps(nanoseconds / calls).encode() + b"\n")


class VariantProcess:
    """The process of one variant."""

    def __init__(self, variant: str, calls: int, otlp: str) -> None:
        self._control, child_end = socket.socketpair()
        env = {**os.environ, "BENCH_OTLP": otlp, "OTEL_EXPORTER_OTLP_ENDPOINT": otlp, "OTEL_TRACES_EXPORTER": "otlp"}
        fd = child_end.fileno()
        command = [sys.executable, __file__, "--variant", variant, "--fd", str(fd), "--calls", str(calls)]
        self._process = subprocess.Popen(command, env=env, pass_fds=[fd], stdout=subprocess.PIPE)
        child_end.close()
        threading.Thread(target=self._discard_output, daemon=True).start()

    def _discard_output(self) -> None:
        stream: Any = self._process.stdout
        while stream.read1(1 << 20):
            pass

    def cost(self, kind: bytes) -> float:
        """Nanoseconds per call of the async (`a`) or the sync (`s`) function."""
        self._control.sendall(kind)
        result = b""
        while not result.endswith(b"\n"):
            chunk = self._control.recv(64)
            if not chunk:
                message = "the process of a variant exited"
                raise SystemExit(message)
            result += chunk
        return float(result)

    def stop(self) -> None:
        """Kill the process."""
        self._control.close()
        self._process.kill()


def measure(rounds: int, calls: int) -> dict[str, dict[str, float]]:
    """By variant: nanoseconds added to an async and to a sync function, and both relative to autometrics."""
    with discarding_collector() as otlp:
        processes = {name: VariantProcess(name, calls, otlp) for name in VARIANTS}
        costs: dict[tuple[str, bytes], list[float]] = {}
        for _ in range(rounds):
            order = [(name, kind) for name in processes for kind in (b"a", b"s")]
            random.shuffle(order)
            for name, kind in order:
                costs.setdefault((name, kind), []).append(processes[name].cost(kind))
        for process in processes.values():
            process.stop()
    results: dict[str, dict[str, float]] = {}
    for kind, title in ((b"a", "async"), (b"s", "sync")):
        bare_cost = statistics.median(costs["bare function", kind])
        reference = statistics.median(costs["autometrics (metrics)", kind]) - bare_cost
        for name in VARIANTS:
            added = statistics.median(costs[name, kind]) - bare_cost
            results.setdefault(name, {}).update({title: added, f"{title} ratio": added / reference})
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--variant", help="run the process of this variant (used internally)")
    parser.add_argument("--fd", type=int)
    options = parser.parse_args()
    if options.variant:
        serve_commands(options.variant, socket.socket(fileno=options.fd), options.calls)
        return
    print(f"{'variant':<40}{'async ns':>10}{'x autometrics':>15}{'sync ns':>10}{'x autometrics':>15}")
    for name, row in measure(options.rounds, options.calls).items():
        cells = [f"{row[title]:>10.0f}{row[f'{title} ratio']:>15.2f}" for title in ("async", "sync")]
        print(f"{name:<40}{''.join(cells)}")


if __name__ == "__main__":
    main()
