"""Soak test: two workers at full load with all signals and a real collector; checks for growth, failures and losses.

python tests/bench/soak.py [SECONDS] [--plot FILE.png] [--faults]

Once a second it samples resident memory, threads and descriptors of the workers, their export queues, and the latency of
a client besides the load. It fails if a worker grows by more than 10 MiB after the warm-up (the first fifth, at most two
minutes), if threads or descriptors grow, if a request fails, or if a worker counts an internal error. With `--faults` the
collector fails during the whole run, in another way in each tenth of it, and a growth of 20 MiB is allowed.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]

import httpx
from sink import discarding_collector
from support.faulty_collector import FaultyCollector
from support.process import Service, free_port
from support.process_stats import child_pids, percentile, resource_usage

APPS = Path(__file__).parent.parent / "apps"
FAULTS = ("refuse", "hang", "503", "429:1", "400", "413", "garbage", "cut", "reset", "slow:10")
"""Modes of `support.faulty_collector`, each of which is used for a tenth of the run."""

REQUESTS_PER_SAMPLE = 10
"""Requests besides the load whose latency is measured for each sample."""


@dataclass
class SoakResult:
    """The samples of one run."""

    started: float = field(default_factory=time.time)
    allowed_growth: float = 10.0
    memory: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    threads: dict[int, list[int]] = field(default_factory=dict)
    descriptors: dict[int, list[int]] = field(default_factory=dict)
    queued: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    latency: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: {"p50": [], "p99": []})
    internals: dict[int, dict[str, Any]] = field(default_factory=dict)
    failed_requests: int = 0

    def add_sample(self, client: httpx.Client, workers: list[int]) -> None:
        """Take one sample."""
        now = time.time()
        for pid in workers:
            memory, threads, descriptors = resource_usage(pid)
            self.memory.setdefault(pid, []).append((now, memory))
            self.threads.setdefault(pid, []).append(threads)
            self.descriptors.setdefault(pid, []).append(descriptors)
        latencies = []
        for number in range(REQUESTS_PER_SAMPLE):
            started = time.perf_counter()
            self.failed_requests += client.get(f"/items/{number}").status_code != 200
            latencies.append((time.perf_counter() - started) * 1000)
        self.latency["p50"].append((now, percentile(latencies, 50)))
        self.latency["p99"].append((now, max(latencies)))
        internals = client.get("/internals").json()
        self.internals[internals["pid"]] = internals
        for signal, count in internals["queued"].items():
            self.queued.setdefault(signal, []).append((now, count))

    def after_warm_up(self, values: list[Any]) -> list[Any]:
        """The values without those of the warm-up."""
        return values[round(min(len(values) / 5, 120)) :]

    def growth(self, pid: int) -> float:
        """MiB between the medians of the first and the last tenth after the warm-up."""
        values = [memory for _, memory in self.after_warm_up(self.memory[pid])]
        tenth = max(1, len(values) // 10)
        return float(statistics.median(values[-tenth:]) - statistics.median(values[:tenth]))

    def problems(self) -> list[str]:
        """Descriptions of all failed criteria."""
        problems = [f"{self.failed_requests} requests failed"] if self.failed_requests else []
        for pid in self.memory:
            if (growth := self.growth(pid)) > self.allowed_growth:
                problems.append(f"worker {pid} grew by {growth:.1f} MiB after the warm-up")
            for resource, values in (("threads", self.threads[pid]), ("descriptors", self.descriptors[pid])):
                samples = self.after_warm_up(values)
                tenth = max(1, len(samples) // 10)
                # Connections and scrapes change a sample by one or two; a leak keeps growing.
                if statistics.median(samples[-tenth:]) > statistics.median(samples[:tenth]) + 2:
                    problems.append(f"worker {pid} has {samples[-1]} {resource}, {samples[0]} after the warm-up")
        problems += [
            f"worker {pid} counted internal errors: {internals['errors']}"
            for pid, internals in self.internals.items()
            if internals["errors"]
        ]
        return problems

    def plot(self, path: Path) -> None:
        """Draw memory, latency and queues over time as PNG."""
        from charts import panels  # needs matplotlib, which a run without a plot does not

        memory = {f"worker {number}": points for number, points in enumerate(self.memory.values(), 1)}
        rows = [
            ("Resident memory of each worker", "MiB", memory),
            ("Latency of requests besides the load", "ms", self.latency),
            ("Items in export queues, limit 8,192", "items", self.queued),
        ]
        panels(
            path,
            [
                (title, unit, {name: self._since_start(points) for name, points in lines.items()})
                for title, unit, lines in rows
            ],
        )

    def _since_start(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(at - self.started, value) for at, value in points]


def main() -> int:
    """Run the test and print the result; the exit code is 1 if it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=600.0)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--faults", action="store_true")
    options = parser.parse_args()
    port = free_port()
    with FaultyCollector(FAULTS[0]) if options.faults else discarding_collector() as collector:
        faulty, endpoint = (collector, collector.url) if isinstance(collector, FaultyCollector) else (None, collector)
        command = [sys.executable, "-m", "uvicorn", "four_signals:app", "--app-dir", str(APPS), "--port", str(port)]
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "10000"}
        with Service([*command, "--workers", "2", "--no-access-log"], port, environment) as service:
            service.wait_until_ready()
            result = run_under_load(service, options.seconds, faulty)
            service.stop()
    if options.plot is not None:
        result.plot(options.plot)
    return print_result(result)


def run_under_load(service: Service, seconds: float, faulty: FaultyCollector | None) -> SoakResult:
    """Load a service with wrk and take a sample every second."""
    result = SoakResult(allowed_growth=10.0 if faulty is None else 20.0)
    # The two clients start one after the other: one worker would accept all connections that arrive at once.
    loads = []
    for _ in range(2):
        command = ["wrk", "-t1", "-c16", f"-d{seconds:.0f}s", f"{service.url}/items/7"]
        loads.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        time.sleep(1)
    with httpx.Client(base_url=service.url, timeout=30, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        while loads[0].poll() is None:
            service.stdout_lines.clear()  # otherwise this process would grow with every log line
            if faulty is not None:
                share = (time.time() - result.started) / seconds
                mode = FAULTS[min(int(share * len(FAULTS)), len(FAULTS) - 1)]
                if mode != faulty.mode:
                    faulty.set_mode(mode)
            # The children of the supervisor are the workers and multiprocessing's resource tracker.
            workers = [pid for pid in child_pids(service.process.pid) if resource_usage(pid)[0] > 30]
            result.add_sample(client, workers)
            time.sleep(1)
    for load in loads:
        output = load.communicate()[0]
        print(output)
        if (failures := re.search(r"Non-2xx or 3xx responses: (\d+)", output)) is not None:
            result.failed_requests += int(failures[1])
    return result


def print_result(result: SoakResult) -> int:
    """Print the result and return the exit code."""
    for pid, points in result.memory.items():
        memory = result.after_warm_up([value for _, value in points])
        print(
            f"worker {pid}: RSS {memory[0]:.1f} -> {memory[-1]:.1f} MiB (growth {result.growth(pid):+.1f}), "
            f"threads {min(result.threads[pid])}-{max(result.threads[pid])}, "
            f"descriptors {min(result.descriptors[pid])}-{max(result.descriptors[pid])}"
        )
    for name, points in result.latency.items():
        print(f"latency {name}: {statistics.median([value for _, value in points]):.1f} ms (median of samples)")
    for pid, internals in result.internals.items():
        print(f"worker {pid}: dropped {internals['dropped']}, errors {internals['errors']}")
    problems = result.problems()
    print("\n".join(problems) or "no growth, no failures")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
