"""Cost and size of a scrape, and its effect on requests: `python tests/bench/scrape.py [pages] [generations] [latency]`.

Three tables, in each of which the variants take turns. The first: rendering a page of 100, 2,000 and 20,000 series
(samples of histograms of the request duration) of 1 or 4 workers, compared with prometheus_client's multi-process mode.
The second: the same after 0 to 1,000 generations of workers. The third: the slowest request to a service with 10,000
series while it is scraped continuously, compared with the same service without scrapes. The third needs curl.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DIRECTORY = Path(tempfile.mkdtemp(prefix="bench-scrape-"))
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(DIRECTORY / "client")
(DIRECTORY / "client").mkdir()
sys.path.insert(0, str(Path(__file__).parent.parent))

import prometheus_client
from prometheus_client import multiprocess, values
from prometheus_client.openmetrics import exposition as client_openmetrics
from support.process import uvicorn

from connectsoft_obs.signals.metrics import MetricRegistry
from connectsoft_obs.signals.metrics.exposition import Exposition
from connectsoft_obs.vocabulary import REQUEST_BUCKETS, REQUEST_DURATION, prometheus_name

generate_openmetrics: Any = client_openmetrics.generate_latest
SAMPLES_PER_HISTOGRAM = len(REQUEST_BUCKETS) + 3
ROUNDS = 9


def no_pause() -> None:
    """Do not yield to other threads, so that only the work is measured."""


def record(metrics: MetricRegistry, series: int) -> None:
    """Record histograms with this number of samples."""
    family = metrics.family(REQUEST_DURATION)
    for number in range(max(1, series // SAMPLES_PER_HISTOGRAM)):
        child = family.histogram_series("GET", "http", "200", f"/orders/{number}/items", "", "1.1")
        for value in (0.004, 0.02, 0.3):
            child.add_exemplar(child.observe(value), value, number << 70 | 5, number + 1)


def record_with_client(histogram: Any, series: int) -> None:
    """Record the same with prometheus_client."""
    for number in range(max(1, series // SAMPLES_PER_HISTOGRAM)):
        child = histogram.labels("GET", "http", "200", f"/orders/{number}/items", "", "1.1")
        for value in (0.004, 0.02, 0.3):
            child.observe(value)


@contextlib.contextmanager
def worker_processes(number: int, function: Callable[[], object]) -> Iterator[None]:
    """Fork processes that run a function and stay alive while the block runs."""
    pids = []
    for _ in range(number):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            function()
            os.write(writer, b"1")
            signal.pause()
            os._exit(0)
        os.read(reader, 1)
        pids.append(pid)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def measure(variants: dict[str, Callable[[], bytes]]) -> dict[str, tuple[float, int]]:
    """Median rendering time and size of each page."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    sizes = {}
    for _ in range(ROUNDS):
        for name, page in variants.items():
            started = time.perf_counter()
            sizes[name] = len(page())
            times[name].append(time.perf_counter() - started)
    return {name: (statistics.median(values[1:]), sizes[name]) for name, values in times.items()}


def render(metrics: MetricRegistry, exposition: Exposition, exemplars: bool = False) -> bytes:
    """Render the page of this package."""
    families = [
        family
        for family in metrics.collect_all_workers(no_pause, exemplars)
        if family.metric.name == REQUEST_DURATION.name
    ]
    return "".join(exposition.format_families(families, no_pause)).encode()


def pages() -> None:
    """Print the first table."""
    print("rendering the page with prometheus_client: time relative to connectsoft-obs, sizes of both in KB")
    print(f"  {'series':>7} {'workers':>8}  {'text':>12}  {'OpenMetrics':>12}  {'size':>14}  {'us per series':>18}")
    for series in (100, 2000, 20_000):
        for workers in (1, 4):
            print(_row(series, workers), flush=True)


def _row(series: int, workers: int) -> str:
    shutil.rmtree(DIRECTORY / "client")
    (DIRECTORY / "client").mkdir()
    # As after a restart: no values from files of earlier rows.
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
    registry = prometheus_client.CollectorRegistry()
    names = [prometheus_name(label) for label in REQUEST_DURATION.labels]
    histogram = prometheus_client.Histogram(
        REQUEST_DURATION.family, REQUEST_DURATION.help, names, buckets=REQUEST_BUCKETS, registry=None
    )
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    metrics = MetricRegistry(100_000)
    if workers > 1:
        metrics.join_workers("bench", os.getpid(), str(DIRECTORY))

    def child() -> None:
        metrics.after_fork_in_child()
        record(metrics, series)
        record_with_client(histogram, series)

    text, openmetrics = Exposition(False), Exposition(True)
    with worker_processes(workers - 1, child):
        record(metrics, series)
        record_with_client(histogram, series)
        results = measure(
            {
                "own text": lambda: render(metrics, text),
                "client text": lambda: prometheus_client.generate_latest(registry),
                "own openmetrics": lambda: render(metrics, openmetrics, exemplars=True),
                "client openmetrics": lambda: generate_openmetrics(registry),
            }
        )
    metrics.leave_workers()
    own_text, client_text, own_openmetrics, client_openmetrics = results.values()
    return (
        f"  {series:>7} {workers:>8}  {client_text[0] / own_text[0]:>10.1f} x  {client_openmetrics[0] / own_openmetrics[0]:>10.1f} x"
        f"  {own_text[1] / 1000:>5.0f} : {client_text[1] / 1000:<5.0f}  {own_text[0] / series * 1e6:>18.2f}"
    )


def generations() -> None:
    """Print the second table."""
    print("\nafter generations of workers: time relative to none, number of files; 2,000 series")
    metrics = MetricRegistry(100_000)
    metrics.join_workers("bench", os.getpid(), str(DIRECTORY))
    record(metrics, 2000)
    exposition, completed, first_time = Exposition(False), 0, 0.0

    def generation() -> None:
        metrics.after_fork_in_child()
        record(metrics, 2000)

    for number in (0, 10, 100, 1000):
        for _ in range(number - completed):
            with worker_processes(1, generation):
                pass
        completed = number
        render(metrics, exposition)
        directory = metrics.worker_group.directory if metrics.worker_group else DIRECTORY
        [(seconds, _)] = measure({"page": lambda: render(metrics, exposition)}).values()
        first_time = first_time or seconds
        files = len(os.listdir(directory))
        print(f"  {number:>6} generations: time {seconds / first_time:.2f} x, {files} files", flush=True)
    metrics.leave_workers()


def latency(seconds_per_variant: float = 8.0) -> None:
    """Print the third table."""
    print("\nresponse times of a service with 10,000 series, in milliseconds")
    paths = {
        "without scrapes": "",
        "scraped continuously": "/metrics",
        "scraped continuously, prometheus_client": "/legacy",
    }
    times: dict[str, list[float]] = {name: [] for name in paths}
    slowest_per_window: dict[str, list[float]] = {name: [] for name in paths}
    env = {"CONNECTSOFT_OBS_ACCESS_LOG": "off", "CONNECTSOFT_OBS_CARDINALITY_LIMIT": "100000"}
    with uvicorn("many_series:app", env=env) as service:
        service.wait_until_ready()
        client = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        for _ in range(4):
            for name, path in paths.items():
                with scraping(service.port, path):
                    end = time.perf_counter() + seconds_per_variant / 4
                    while (window := time.perf_counter()) < end:
                        durations = []
                        while (started := time.perf_counter()) < window + 0.25:
                            client.request("GET", "/")
                            client.getresponse().read()
                            durations.append(time.perf_counter() - started)
                            time.sleep(0.001)
                        times[name] += durations
                        slowest_per_window[name].append(max(durations))
    for name, durations in times.items():
        print(
            f"  {name:<45} median {statistics.median(durations) * 1e3:6.2f}"
            f"  p99 {sorted(durations)[int(len(durations) * 0.99)] * 1e3:6.2f}"
            f"  slowest in 250 ms, median {statistics.median(slowest_per_window[name]) * 1e3:6.2f}"
            f"  maximum {max(durations) * 1e3:6.2f}  ({len(durations)} requests)"
        )


@contextlib.contextmanager
def scraping(port: int, path: str) -> Iterator[None]:
    """Scrape a path continuously from another process while the block runs; an empty path means no scrapes."""
    if not path:
        yield
        return
    scrape = (
        f"curl -s -o /dev/null -H 'accept: application/openmetrics-text' --compressed http://127.0.0.1:{port}{path}"
    )
    process = subprocess.Popen(["sh", "-c", f"while {scrape}; do :; done"], start_new_session=True)
    time.sleep(0.2)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    tables = {"pages": pages, "generations": generations, "latency": latency}
    try:
        for name in sys.argv[1:] or tables:
            tables[name]()
    finally:
        shutil.rmtree(DIRECTORY, ignore_errors=True)
