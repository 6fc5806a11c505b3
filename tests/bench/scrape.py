"""What a scrape costs, how large it is, and what it does to requests: run `python tests/bench/scrape.py [pages] [generations] [worst]`.

Three tables, each from one run in which the variants take turns. The first: writing the page of 100, 2,000 and 20,000
series (lines of samples, in histograms of the request duration) held by 1 or 4 workers, against prometheus_client's
multi-process mode. The second: the same with 0 to 1,000 generations of workers ended before. The third: the slowest
request of a service with 10,000 series while it is scraped without a break, against the same service unscraped.
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

PLACE = Path(tempfile.mkdtemp(prefix="bench-scrape-"))
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(PLACE / "client")
(PLACE / "client").mkdir()
sys.path.insert(0, str(Path(__file__).parent.parent))

import prometheus_client
from prometheus_client import multiprocess, values
from prometheus_client.openmetrics import exposition as client_openmetrics
from support.process import uvicorn

from connectsoft_obs.signals.metrics import MetricRegistry
from connectsoft_obs.signals.metrics.exposition import Exposition
from connectsoft_obs.vocabulary import REQUEST_BUCKETS, REQUEST_DURATION, prometheus_name

write_rich: Any = client_openmetrics.generate_latest
LINES = len(REQUEST_BUCKETS) + 3
ROUNDS = 9


def never() -> None:
    """No pause: nobody waits, and what is measured is work."""


def record_ours(metrics: MetricRegistry, series: int) -> None:
    """Histograms that make this many lines."""
    family = metrics.family(REQUEST_DURATION)
    for number in range(max(1, series // LINES)):
        one = family.histogram("GET", "http", "200", f"/orders/{number}/items", "", "1.1")
        for value in (0.004, 0.02, 0.3):
            one.exemplify(one.observe(value), value, number << 70 | 5, number + 1)


def record_theirs(histogram: Any, series: int) -> None:
    """The same with prometheus_client."""
    for number in range(max(1, series // LINES)):
        one = histogram.labels("GET", "http", "200", f"/orders/{number}/items", "", "1.1")
        for value in (0.004, 0.02, 0.3):
            one.observe(value)


@contextlib.contextmanager
def others(number: int, work: Callable[[], object]) -> Iterator[None]:
    """Processes that have done some work and stay."""
    children = []
    for _ in range(number):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            work()
            os.write(writing, b"1")
            signal.pause()
            os._exit(0)
        os.read(reading, 1)
        children.append(child)
    yield
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def seconds(variants: dict[str, Callable[[], bytes]]) -> dict[str, tuple[float, int]]:
    """Median time and size of each page."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    sizes = {}
    for _ in range(ROUNDS):
        for name, page in variants.items():
            began = time.perf_counter()
            sizes[name] = len(page())
            times[name].append(time.perf_counter() - began)
    return {name: (statistics.median(found[1:]), sizes[name]) for name, found in times.items()}


def page_of(metrics: MetricRegistry, exposition: Exposition, exemplars: bool = False) -> bytes:
    """Our page."""
    wanted = [
        found for found in metrics.collect_all_workers(never, exemplars) if found.metric.name == REQUEST_DURATION.name
    ]
    return "".join(exposition.families(wanted, never)).encode()


def pages() -> None:
    """The first table."""
    print("writing the page: times as multiples of ours in the same format, sizes in KB")
    print(f"  {'series':>7} {'workers':>8}  {'text':>12}  {'OpenMetrics':>12}  {'size':>14}  {'us a series, ours':>18}")
    for series in (100, 2000, 20_000):
        for workers in (1, 4):
            print(_row(series, workers), flush=True)


def _row(series: int, workers: int) -> str:
    shutil.rmtree(PLACE / "client")
    (PLACE / "client").mkdir()
    # As after a restart: nothing in its files.
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
    registry = prometheus_client.CollectorRegistry()
    names = [prometheus_name(label) for label in REQUEST_DURATION.labels]
    histogram = prometheus_client.Histogram(
        REQUEST_DURATION.family, REQUEST_DURATION.help, names, buckets=REQUEST_BUCKETS, registry=None
    )
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    metrics = MetricRegistry(100_000)
    if workers > 1:
        metrics.join_workers("bench", os.getpid(), str(PLACE))

    def child() -> None:
        metrics.after_fork_in_child()
        record_ours(metrics, series)
        record_theirs(histogram, series)

    text, rich = Exposition(False), Exposition(True)
    with others(workers - 1, child):
        record_ours(metrics, series)
        record_theirs(histogram, series)
        found = seconds(
            {
                "ours": lambda: page_of(metrics, text),
                "theirs": lambda: prometheus_client.generate_latest(registry),
                "ours rich": lambda: page_of(metrics, rich, exemplars=True),
                "theirs rich": lambda: write_rich(registry),
            }
        )
    metrics.leave()
    ours, theirs, rich_ours, rich_theirs = (found[name] for name in ("ours", "theirs", "ours rich", "theirs rich"))
    return (
        f"  {series:>7} {workers:>8}  {theirs[0] / ours[0]:>10.1f} x  {rich_theirs[0] / rich_ours[0]:>10.1f} x"
        f"  {ours[1] / 1000:>5.0f} : {theirs[1] / 1000:<5.0f}  {ours[0] / series * 1e6:>18.2f}"
    )


def generations() -> None:
    """The second table."""
    print("\nafter generations of workers: time and files as multiples of those after none, 2,000 series")
    first: dict[str, tuple[float, int]] = {}
    metrics = MetricRegistry(100_000)
    metrics.join_workers("bench", os.getpid(), str(PLACE))
    record_ours(metrics, 2000)
    exposition, done = Exposition(False), 0

    def generation() -> None:
        metrics.after_fork_in_child()
        record_ours(metrics, 2000)

    for number in (0, 10, 100, 1000):
        for _ in range(number - done):
            with others(1, generation):
                pass
        done = number
        page_of(metrics, exposition)
        directory = metrics.workers.directory if metrics.workers else PLACE
        found = seconds({"ours": lambda: page_of(metrics, exposition)})["ours"][0], len(os.listdir(directory))
        first.setdefault("none", found)
        print(f"  {number:>6} generations: time {found[0] / first['none'][0]:.2f} x, {found[1]} files", flush=True)
    metrics.leave()


def worst(seconds_each: float = 8.0) -> None:
    """The third table."""
    print("\nthe slowest of the requests of a service with 10,000 series, in milliseconds, in turns")
    paths = {
        "unscraped": "",
        "scraped without a break": "/metrics",
        "the same by prometheus_client, on the loop": "/legacy",
    }
    times: dict[str, list[float]] = {name: [] for name in paths}
    windows: dict[str, list[float]] = {name: [] for name in paths}
    env = {"CONNECTSOFT_OBS_ACCESS_LOG": "off", "CONNECTSOFT_OBS_CARDINALITY_LIMIT": "100000"}
    with uvicorn("many_series:app", env=env) as service:
        service.wait_until_ready()
        client = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        for _ in range(4):
            for name, path in paths.items():
                with scraping(service.port, path):
                    until = time.perf_counter() + seconds_each / 4
                    while (window := time.perf_counter()) < until:
                        found = []
                        while (began := time.perf_counter()) < window + 0.25:
                            client.request("GET", "/")
                            client.getresponse().read()
                            found.append(time.perf_counter() - began)
                            time.sleep(0.001)
                        times[name] += found
                        windows[name].append(max(found))
    for name, found in times.items():
        print(
            f"  {name:<45} median {statistics.median(found) * 1e3:6.2f}"
            f"  99 % {sorted(found)[int(len(found) * 0.99)] * 1e3:6.2f}"
            f"  worst of a quarter of a second, median {statistics.median(windows[name]) * 1e3:6.2f}"
            f"  worst of all {max(found) * 1e3:6.2f}  ({len(found)} requests)"
        )


@contextlib.contextmanager
def scraping(port: int, path: str) -> Iterator[None]:
    """Scrapes one after the other from a process of their own, for as long as the context lasts; none without a path."""
    if not path:
        yield
        return
    ask = f"curl -s -o /dev/null -H 'accept: application/openmetrics-text' --compressed http://127.0.0.1:{port}{path}"
    process = subprocess.Popen(["sh", "-c", f"while {ask}; do :; done"], start_new_session=True)
    time.sleep(0.2)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["pages", "generations", "worst"]
    try:
        for name in wanted:
            {"pages": pages, "generations": generations, "worst": worst}[name]()
    finally:
        shutil.rmtree(PLACE, ignore_errors=True)
