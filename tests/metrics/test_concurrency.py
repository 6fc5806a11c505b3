"""Threads record at once, and nothing is lost, though nothing is locked."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest

from connectsoft_obs.signals.metrics import Exemplar, Histogram, MetricRegistry, NumberSeries
from connectsoft_obs.signals.metrics.multiprocess.writer import WorkerFile
from connectsoft_obs.signals.metrics.series import read
from connectsoft_obs.signals.metrics.storage import Memory, Storage
from connectsoft_obs.vocabulary import ACTIVE_REQUESTS, LOG_REDACTIONS, LOOP_LAG

THREADS, TIMES = 8, 20_000


@pytest.fixture(autouse=True)
def _switching_all_the_time() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def hammer(*work: Callable[[], None]) -> None:
    """Run each function in THREADS threads at once."""
    start = threading.Barrier(THREADS * len(work))

    def run(function: Callable[[], None]) -> None:
        start.wait()
        function()

    threads = [threading.Thread(target=run, args=(function,)) for function in work for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_no_addition_is_lost_however_often_threads_switch() -> None:
    metrics = MetricRegistry(2000)
    lag, redactions = metrics.family(LOOP_LAG).histogram(), metrics.family(LOG_REDACTIONS).number()
    active = metrics.family(ACTIVE_REQUESTS).number("GET", "http")

    def record() -> None:
        for _, value in zip(range(TIMES), cycle((0.001, 0.25, 60.0)), strict=False):
            active.add(1)
            lag.observe(value)
            redactions.add(2)
            active.add(-1)

    hammer(record)
    total = THREADS * TIMES
    assert redactions.cells[0] == 2 * total
    assert active.cells[0] == 0
    assert sum(lag.cells.tolist()[1:]) == total
    assert sum(1 for count in lag.cells.tolist()[1:] if count) == 3
    expected = THREADS * sum(value for _, value in zip(range(TIMES), cycle((0.001, 0.25, 60.0)), strict=False))
    assert lag.cells[0] == pytest.approx(expected, rel=1e-9)


def test_no_addition_is_lost_while_series_move_to_another_store(tmp_path: Path) -> None:
    metrics = MetricRegistry(2000)
    family = metrics.family(LOOP_LAG)
    lag = family.histogram()
    done = threading.Event()
    moves = 0

    def move() -> None:
        nonlocal moves
        stores: list[Storage] = [Memory(), WorkerFile(tmp_path, lambda error: pytest.fail(str(error)))]
        while not done.is_set():
            for store in stores:
                family.migrate(store)
                moves += 1

    mover = threading.Thread(target=move)
    mover.start()

    def record() -> None:
        for _ in range(TIMES):
            lag.exemplify(lag.observe(0.002), 0.002, 1, 1)

    hammer(record)
    done.set()
    mover.join()
    assert moves > 10
    assert sum(lag.cells.tolist()[1:]) == THREADS * TIMES


def test_threads_that_meet_a_new_series_at_once_share_it() -> None:
    metrics = MetricRegistry(50)
    family = metrics.family(ACTIVE_REQUESTS)
    found: list[set[int]] = []

    def bind() -> None:
        found.append({id(family.number(f"M{number}", "http")) for number in range(40)})

    hammer(bind)
    assert all(ids == found[0] for ids in found)
    assert len(family.children) == 40


def test_an_exemplar_is_one_measurement_and_never_a_mixture() -> None:
    series: Histogram = MetricRegistry(2000).family(LOOP_LAG).histogram()
    mixed: list[Exemplar] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            found = series_exemplars(series)
            mixed.extend(one for one in found if not one.value == one.trace_id == one.span_id)

    reader = threading.Thread(target=look)
    reader.start()

    def record() -> None:
        for number in range(1, 5000):
            series.exemplify(series.observe(number), float(number), number, number)

    hammer(record)
    done.set()
    reader.join()
    assert mixed == []
    assert series_exemplars(series)


def series_exemplars(series: Histogram) -> list[Exemplar]:
    content = read(series)
    assert not isinstance(content, float)
    return [found for found in content.exemplars if found is not None]


def test_recording_holds_no_lock_that_a_fork_could_leave_taken() -> None:
    """A child forked while another thread is inside a family must still be able to record and to admit."""
    metrics = MetricRegistry(2000)
    family = metrics.family(ACTIVE_REQUESTS)
    with family._lock:
        metrics.after_fork_in_child()
        number: NumberSeries = family.number("GET", "http")
        number.add(1)
    assert number.cells[0] == 1
