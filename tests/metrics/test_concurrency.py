"""Concurrent recording loses no measurement, although series have no locks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest

from connectsoft_obs.signals.metrics import Exemplar, Histogram, MetricRegistry, NumberSeries
from connectsoft_obs.signals.metrics.multiprocess.writer import WorkerFile
from connectsoft_obs.signals.metrics.series import read_series
from connectsoft_obs.signals.metrics.storage import MemoryStorage, Storage
from connectsoft_obs.vocabulary import ACTIVE_REQUESTS, LOG_REDACTIONS, LOOP_LAG

THREADS, REPETITIONS = 8, 20_000


@pytest.fixture(autouse=True)
def _frequent_thread_switches() -> Iterator[None]:
    original_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(original_interval)


def run_concurrently(*functions: Callable[[], None]) -> None:
    """Run each function in THREADS threads concurrently."""
    start = threading.Barrier(THREADS * len(functions))

    def run(function: Callable[[], None]) -> None:
        start.wait()
        function()

    threads = [threading.Thread(target=run, args=(function,)) for function in functions for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_concurrent_additions_are_exact() -> None:
    metrics = MetricRegistry(2000)
    lag, redactions = metrics.family(LOOP_LAG).histogram_series(), metrics.family(LOG_REDACTIONS).number_series()
    active = metrics.family(ACTIVE_REQUESTS).number_series("GET", "http")

    def record() -> None:
        for _, value in zip(range(REPETITIONS), cycle((0.001, 0.25, 60.0)), strict=False):
            active.add(1)
            lag.observe(value)
            redactions.add(2)
            active.add(-1)

    run_concurrently(record)
    total = THREADS * REPETITIONS
    assert redactions.cells[0] == 2 * total
    assert active.cells[0] == 0
    assert sum(lag.cells.tolist()[1:]) == total
    assert sum(1 for count in lag.cells.tolist()[1:] if count) == 3
    expected = THREADS * sum(value for _, value in zip(range(REPETITIONS), cycle((0.001, 0.25, 60.0)), strict=False))
    assert lag.cells[0] == pytest.approx(expected, rel=1e-9)


def test_additions_are_exact_while_series_migrate_to_another_storage(tmp_path: Path) -> None:
    metrics = MetricRegistry(2000)
    family = metrics.family(LOOP_LAG)
    lag = family.histogram_series()
    done = threading.Event()
    migrations = 0

    def migrate() -> None:
        nonlocal migrations
        storages: list[Storage] = [MemoryStorage(), WorkerFile(tmp_path, lambda error: pytest.fail(str(error)))]
        while not done.is_set():
            for storage in storages:
                family.migrate(storage)
                migrations += 1

    migration_thread = threading.Thread(target=migrate)
    migration_thread.start()

    def record() -> None:
        for _ in range(REPETITIONS):
            lag.add_exemplar(lag.observe(0.002), 0.002, 1, 1)

    run_concurrently(record)
    done.set()
    migration_thread.join()
    assert migrations > 10
    assert sum(lag.cells.tolist()[1:]) == THREADS * REPETITIONS


def test_series_created_concurrently_is_shared() -> None:
    metrics = MetricRegistry(50)
    family = metrics.family(ACTIVE_REQUESTS)
    ids_by_thread: list[set[int]] = []

    def create_series() -> None:
        ids_by_thread.append({id(family.number_series(f"M{number}", "http")) for number in range(40)})

    run_concurrently(create_series)
    assert all(ids == ids_by_thread[0] for ids in ids_by_thread)
    assert len(family.children) == 40


def test_exemplars_are_consistent_while_they_are_written() -> None:
    series: Histogram = MetricRegistry(2000).family(LOOP_LAG).histogram_series()
    inconsistent: list[Exemplar] = []
    done = threading.Event()

    def read_exemplars() -> None:
        while not done.is_set():
            inconsistent.extend(
                exemplar
                for exemplar in series_exemplars(series)
                if not exemplar.value == exemplar.trace_id == exemplar.span_id
            )

    reader = threading.Thread(target=read_exemplars)
    reader.start()

    def record() -> None:
        for number in range(1, 5000):
            series.add_exemplar(series.observe(number), float(number), number, number)

    run_concurrently(record)
    done.set()
    reader.join()
    assert inconsistent == []
    assert series_exemplars(series)


def series_exemplars(series: Histogram) -> list[Exemplar]:
    content = read_series(series)
    assert not isinstance(content, float)
    return [exemplar for exemplar in content.exemplars if exemplar is not None]


def test_forked_child_records_although_the_parent_held_a_lock() -> None:
    """A child that is forked while another thread holds the lock of a family can record and create series."""
    metrics = MetricRegistry(2000)
    family = metrics.family(ACTIVE_REQUESTS)
    with family._lock:
        metrics.after_fork_in_child()
        number: NumberSeries = family.number_series("GET", "http")
        number.add(1)
    assert number.cells[0] == 1
