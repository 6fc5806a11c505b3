"""Full load for a while: two workers, all signals on, a real collector; what grows, and what it costs in time.

python tests/bench/soak.py [SECONDS] [--plot FILE.png] [--faults]

Samples resident memory, threads and descriptors of the workers, their queues, and the latency that a client beside the
load sees, once a second. It fails when a worker grows by more than 10 MiB after the warm-up (the first fifth, at most
two minutes), when threads or descriptors grow, when a request fails, or when anything of ours does. With
`--faults` the collector misbehaves all the time, in another way every tenth of the run, and 20 MiB are allowed.
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
from sink import collector
from support.faulty_collector import Faulty
from support.process import Service, free_port
from support.process_stats import children, percentile, used

APPS = Path(__file__).parent.parent / "apps"
FAULTS = ("refuse", "hang", "503", "429:1", "400", "413", "garbage", "cut", "reset", "slow:10")
"""What `support.faulty_collector` can do, each for a tenth of the run."""

PROBES = 10
"""Requests beside the load, for each sample."""


@dataclass
class Soak:
    """The samples of one run: seconds since its start, and what was seen then."""

    seconds: float
    began: float = 0.0
    rss: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    threads: dict[int, list[int]] = field(default_factory=dict)
    descriptors: dict[int, list[int]] = field(default_factory=dict)
    waiting: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    latency: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: {"p50": [], "p99": []})
    inside: dict[int, dict[str, Any]] = field(default_factory=dict)
    failed: int = 0
    allowed: float = 10.0

    def sample(self, client: httpx.Client, workers: list[int]) -> None:
        """Look once."""
        now = time.time()
        for pid in workers:
            memory, threads, descriptors = used(pid)
            self.rss.setdefault(pid, []).append((now, memory))
            self.threads.setdefault(pid, []).append(threads)
            self.descriptors.setdefault(pid, []).append(descriptors)
        took = []
        for number in range(PROBES):
            started = time.perf_counter()
            self.failed += client.get(f"/items/{number}").status_code != 200
            took.append((time.perf_counter() - started) * 1000)
        self.latency["p50"].append((now, percentile(took, 50)))
        self.latency["p99"].append((now, max(took)))
        seen = client.get("/inside").json()
        self.inside[seen["pid"]] = seen
        for signal, number in seen["waiting"].items():
            self.waiting.setdefault(signal, []).append((now, number))

    def settled(self, values: list[Any]) -> list[Any]:
        """Those after the warm-up."""
        return values[round(min(len(values) / 5, 120)) :]

    def growth(self, pid: int) -> float:
        """MiB between the medians of the first and the last tenth after the warm-up."""
        values = [memory for _, memory in self.settled(self.rss[pid])]
        tenth = max(1, len(values) // 10)
        return float(statistics.median(values[-tenth:]) - statistics.median(values[:tenth]))

    def problems(self) -> list[str]:
        """What must not be."""
        found = [f"{self.failed} requests failed"] if self.failed else []
        for pid in self.rss:
            if (growth := self.growth(pid)) > self.allowed:
                found.append(f"worker {pid} grew by {growth:.1f} MiB after the warm-up")
            for what, values in (("threads", self.threads[pid]), ("descriptors", self.descriptors[pid])):
                late = self.settled(values)
                tenth = max(1, len(late) // 10)
                # A scrape and a connection come and go between two samples; what leaks keeps growing.
                if statistics.median(late[-tenth:]) > statistics.median(late[:tenth]) + 2:
                    found.append(f"worker {pid} has {late[-1]} {what} after {late[0]}")
        found += [
            f"worker {pid} counts errors: {seen['errors']}" for pid, seen in self.inside.items() if seen["errors"]
        ]
        return found

    def plot(self, path: Path) -> None:
        """Memory, latency and queues over time, as PNG."""
        from charts import panels  # a picture needs matplotlib, a run does not

        memory = {f"worker {number}": points for number, points in enumerate(self.rss.values(), 1)}
        shown = [
            ("Resident memory of each worker", "MiB", memory),
            ("Latency beside the load", "ms", self.latency),
            ("Waiting to be sent, of 8,192", "items", self.waiting),
        ]
        since = [
            (title, unit, {name: [(at - self.began, value) for at, value in line] for name, line in rows.items()})
            for title, unit, rows in shown
        ]
        panels(path, since)


def main() -> int:
    """Run it, say what was seen, and whether it holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=600.0)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--faults", action="store_true")
    options = parser.parse_args()
    port = free_port()
    with Faulty(FAULTS[0]) if options.faults else collector() as to:
        faulty, endpoint = (to, to.url) if isinstance(to, Faulty) else (None, to)
        command = [sys.executable, "-m", "uvicorn", "four_signals:app", "--app-dir", str(APPS), "--port", str(port)]
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "10000"}
        with Service([*command, "--workers", "2", "--no-access-log"], port, environment) as service:
            service.ready()
            soak = loaded(service, options.seconds, faulty)
            # Read and thrown away: a list of every line would be the memory of this process, not of theirs.
            service.stop()
    if options.plot is not None:
        soak.plot(options.plot)
    return told(soak)


def loaded(service: Service, seconds: float, faulty: Faulty | None) -> Soak:
    """Sample a service under full load."""
    soak = Soak(seconds, time.time(), allowed=10.0 if faulty is None else 20.0)
    # One after the other: connections that come all at once are accepted by one worker, and the other one would rest.
    loads = []
    for _ in range(2):
        command = ["wrk", "-t1", "-c16", f"-d{seconds:.0f}s", f"{service.url}/items/7"]
        loads.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        time.sleep(1)
    with httpx.Client(base_url=service.url, timeout=30, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        while loads[0].poll() is None:
            service.out.clear()
            if faulty is not None:
                mode = FAULTS[min(int((time.time() - soak.began) / seconds * len(FAULTS)), len(FAULTS) - 1)]
                if mode != faulty.mode:
                    faulty.set(mode)
            # The supervisor's children are the workers, and multiprocessing's resource tracker.
            workers = [pid for pid in children(service.process.pid) if used(pid)[0] > 30]
            soak.sample(client, workers)
            time.sleep(1)
    for load in loads:
        said = load.communicate()[0]
        print(said)
        if (bad := re.search(r"Non-2xx or 3xx responses: (\d+)", said)) is not None:
            soak.failed += int(bad[1])
    return soak


def told(soak: Soak) -> int:
    """Print the result; the exit code."""
    for pid, points in soak.rss.items():
        late = soak.settled([memory for _, memory in points])
        print(
            f"worker {pid}: RSS {late[0]:.1f} -> {late[-1]:.1f} MiB (growth {soak.growth(pid):+.1f}), "
            f"threads {min(soak.threads[pid])}-{max(soak.threads[pid])}, "
            f"descriptors {min(soak.descriptors[pid])}-{max(soak.descriptors[pid])}"
        )
    for name, points in soak.latency.items():
        print(f"latency {name}: {statistics.median([value for _, value in points]):.1f} ms (median of samples)")
    for pid, seen in soak.inside.items():
        print(f"worker {pid}: dropped {seen['dropped']}, errors {seen['errors']}")
    problems = soak.problems()
    print("\n".join(problems) or "nothing grew, nothing failed")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
