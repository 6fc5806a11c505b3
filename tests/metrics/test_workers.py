"""What several workers hold together: by meaning, over the living and the dead, and bounded."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.forked_workers import ForkedProcess

from connectsoft_obs.signals.metrics import MetricRegistry, Snapshot
from connectsoft_obs.signals.metrics.multiprocess import archive
from connectsoft_obs.vocabulary import (
    ACTIVE_REQUESTS,
    BUILD_INFO,
    CHECK_STATUS,
    JOB_HEARTBEAT,
    JOB_LAST_SUCCESS,
    LOG_RECORDS,
    REQUEST_DURATION,
    Instrument,
    Metric,
    MultiprocessMode,
)

ITEMS = ("GET", "http", "200", "/items/{id}", "", "1.1")


class Said(list[str]):
    """What an operator was told, once a kind."""

    def once(self, kind: tuple[str, str], message: str, facts: dict[str, Any]) -> None:
        self.append(f"{message} {facts}")


@pytest.fixture
def metrics(tmp_path: Path) -> Iterator[MetricRegistry]:
    """One worker's numbers, shared in a directory of the test's own; the test is the supervisor."""
    made = MetricRegistry(2000, once=Said().once)
    assert made.join_workers("shop", os.getpid(), str(tmp_path))
    yield made
    made.leave()


def together(metrics: MetricRegistry) -> dict[str, Snapshot]:
    return {snapshot.metric.name: snapshot for snapshot in metrics.collect_all_workers()}


def worker(metrics: MetricRegistry, work: Any, stay: bool = False) -> ForkedProcess:
    """A worker forked from this one that does some work, and ends or stays."""

    def run() -> None:
        metrics.after_fork_in_child()
        work()

    child = ForkedProcess(run, stay)
    assert child.completed
    return child


def place(metrics: MetricRegistry) -> Path:
    assert metrics.workers is not None
    return metrics.workers.directory


def own_file(metrics: MetricRegistry) -> str:
    assert metrics.workers is not None
    return metrics.workers.store.name


def files(metrics: MetricRegistry) -> list[str]:
    return sorted(os.listdir(place(metrics)))


def test_counters_and_histograms_sum_over_the_living_and_the_dead(metrics: MetricRegistry) -> None:
    metrics.add(LOG_RECORDS, ("info",), 5)
    requests = metrics.family(REQUEST_DURATION).histogram(*ITEMS)
    requests.observe(0.2)

    def work() -> None:
        metrics.add(LOG_RECORDS, ("info",), 10)
        metrics.add(LOG_RECORDS, ("error",), 1)
        requests.exemplify(requests.observe(0.02), 0.02, 7, 9)

    with worker(metrics, work, stay=True):
        worker(metrics, work)
        for _ in range(3):
            seen = together(metrics)
            assert seen[LOG_RECORDS.name].series == {("info",): 25, ("error",): 2}
            content = seen[REQUEST_DURATION.name].series[ITEMS]
            assert content.count == 3
            assert content.total == pytest.approx(0.24)
            assert [e.trace_id for e in content.exemplars if e] == [7]
    seen = together(metrics)
    assert seen[LOG_RECORDS.name].series == {("info",): 25, ("error",): 2}
    assert [name for name in files(metrics) if name.endswith(".cells")] == [own_file(metrics)]


def test_each_worker_keeps_its_own_share_apart(metrics: MetricRegistry) -> None:
    metrics.add(LOG_RECORDS, ("info",), 5)
    with worker(metrics, lambda: metrics.add(LOG_RECORDS, ("info",), 10), stay=True):
        [own] = [s for s in metrics.snapshots() if s.metric is LOG_RECORDS]
        assert own.series == {("info",): 5}


def test_gauges_add_up_by_what_they_mean(metrics: MetricRegistry) -> None:
    highest = Metric("pool.peak", Instrument.GAUGE, "{connection}", "Peak.", merge=MultiprocessMode.MAX)

    def work(active: int, moment: float) -> None:
        metrics.family(ACTIVE_REQUESTS).number("GET", "http").set(active)
        metrics.family(JOB_LAST_SUCCESS).number("report").set(moment)
        metrics.family(JOB_HEARTBEAT).number("poll").set(moment)
        metrics.family(highest).number().set(active)
        metrics.family(CHECK_STATUS).number("postgres", "readiness").set(active % 3)
        metrics.family(BUILD_INFO).number("1.0", "", "3.11", "0.1").set(1)

    work(3, 1000.0)
    with worker(metrics, lambda: work(2, 500.0), stay=True):
        with worker(metrics, lambda: work(4, 2000.0), stay=True):
            seen = together(metrics)
            assert seen[ACTIVE_REQUESTS.name].series == {("GET", "http"): 9}
            assert seen[JOB_LAST_SUCCESS.name].series == {("report",): 2000}
            assert seen[JOB_HEARTBEAT.name].series == {("poll",): 500}
            assert seen["pool.peak"].series == {(): 4}
            assert seen[CHECK_STATUS.name].series == {("postgres", "readiness"): 2}, "the worst state"
            assert set(seen[BUILD_INFO.name].series.values()) == {1}
        seen = together(metrics)
        assert seen[ACTIVE_REQUESTS.name].series == {("GET", "http"): 5}, "in flight in a dead worker is not in flight"
        assert seen[JOB_LAST_SUCCESS.name].series == {("report",): 2000}, "a moment that has passed stays true"
        assert seen["pool.peak"].series == {(): 3}
    seen = together(metrics)
    assert seen[JOB_HEARTBEAT.name].series == {("poll",): 1000}
    assert seen[CHECK_STATUS.name].series == {("postgres", "readiness"): 0}


def test_what_only_another_worker_has_is_on_the_page_of_each(metrics: MetricRegistry) -> None:
    own = Metric("orders.placed", Instrument.COUNTER, "{order}", "Orders.", ("tier",))
    with worker(metrics, lambda: metrics.family(own).number("gold").add(3), stay=True):
        assert own.name not in {snapshot.metric.name for snapshot in metrics.snapshots()}
        assert together(metrics)["orders.placed"] == Snapshot(own, {("gold",): 3})


def test_a_forked_child_that_records_nothing_costs_nothing(metrics: MetricRegistry) -> None:
    metrics.add(LOG_RECORDS, ("info",), 5)
    with worker(metrics, lambda: metrics.snapshots(), stay=True):
        assert len([name for name in files(metrics) if name.endswith(".cells")]) == 1
        assert together(metrics)[LOG_RECORDS.name].series == {("info",): 5}


def test_a_child_never_writes_into_the_numbers_of_its_parent(metrics: MetricRegistry) -> None:
    number = metrics.family(LOG_RECORDS).number("info")
    requests = metrics.family(REQUEST_DURATION).histogram(*ITEMS)
    requests.exemplify(requests.observe(0.2), 0.2, 1, 1)
    number.add(5)

    def work() -> None:
        number.add(100)
        requests.exemplify(requests.observe(0.2), 0.2, 2, 2)
        metrics.add(LOG_RECORDS, ("error",), 1)

    worker(metrics, work)
    [own] = [s for s in metrics.snapshots() if s.metric is REQUEST_DURATION]
    assert number.cells[0] == 5
    assert own.series[ITEMS].count == 1
    assert [e.trace_id for e in own.series[ITEMS].exemplars if e] == [1]
    assert together(metrics)[LOG_RECORDS.name].series == {("info",): 105, ("error",): 1}


def test_a_child_of_a_child_counts_too(metrics: MetricRegistry) -> None:
    def work() -> None:
        metrics.add(LOG_RECORDS, ("info",), 1)
        worker(metrics, lambda: metrics.add(LOG_RECORDS, ("info",), 10))

    worker(metrics, work)
    assert together(metrics)[LOG_RECORDS.name].series == {("info",): 11}


def test_a_child_that_outlives_its_parent_does_not_keep_it_alive(metrics: MetricRegistry) -> None:
    """Flock is shared with forked children; a child that still held its parent's would make a dead worker look alive."""
    reading, writing = os.pipe()

    def work() -> None:
        metrics.family(ACTIVE_REQUESTS).number("GET", "http").set(4)
        child = worker(metrics, lambda: metrics.add(LOG_RECORDS, ("info",), 1), stay=True)
        os.write(writing, str(child.pid).encode())

    with worker(metrics, work, stay=True):
        grandchild = int(os.read(reading, 20))
        assert together(metrics)[ACTIVE_REQUESTS.name].series == {("GET", "http"): 4}
    try:
        seen = together(metrics)
        assert seen[ACTIVE_REQUESTS.name].series in ({}, {("GET", "http"): 0})
        assert seen[LOG_RECORDS.name].series == {("info",): 1}
    finally:
        os.kill(grandchild, signal.SIGKILL)


@pytest.mark.parametrize("generations", [100, pytest.param(1000, marks=pytest.mark.full)])
def test_generations_of_workers_leave_one_archive_and_every_count(metrics: MetricRegistry, generations: int) -> None:
    requests = metrics.family(REQUEST_DURATION)
    sizes = []

    def work(number: int) -> None:
        series = requests.histogram("GET", "http", "200", f"/route{number % 7}", "", "1.1")
        series.exemplify(series.observe(0.01), 0.01, number + 1, number + 1)
        metrics.family(ACTIVE_REQUESTS).number("GET", "http").add(1)
        if number % 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def generation(number: int) -> Callable[[], None]:
        def run() -> None:
            metrics.after_fork_in_child()
            work(number)

        return run

    for number in range(generations):
        ForkedProcess(generation(number))
        if number % 25 == 24:
            seen = together(metrics)
            assert sum(content.count for content in seen[REQUEST_DURATION.name].series.values()) == number + 1
            sizes.append(sum(path.stat().st_size for path in place(metrics).iterdir()))
            assert len(files(metrics)) <= 12
    assert len(files(metrics)) == 4, files(metrics)  # the archive and its lock, who we are, and this worker
    assert sizes[-1] == sizes[1], "files do not grow"
    assert len(seen[REQUEST_DURATION.name].series) == 7
    newest = {e.trace_id for content in seen[REQUEST_DURATION.name].series.values() for e in content.exemplars if e}
    assert newest == set(range(generations - 6, generations + 1))


def test_workers_that_come_and_go_unscraped_do_not_pile_up(metrics: MetricRegistry) -> None:
    for _ in range(40):
        worker(metrics, lambda: metrics.add(LOG_RECORDS, ("info",), 1))
    assert len([name for name in files(metrics) if name.endswith(".cells")]) <= 10
    assert together(metrics)[LOG_RECORDS.name].series == {("info",): 40}


def test_the_archive_keeps_the_cap_and_the_totals(tmp_path: Path) -> None:
    metrics = MetricRegistry(20)
    assert metrics.join_workers("shop", os.getpid(), str(tmp_path))
    for generation in range(10):
        worker(
            metrics,
            lambda generation=generation: [
                metrics.family(REQUEST_DURATION)
                .histogram("GET", "http", status, f"/g{generation}/r{route}", "", "1.1")
                .observe(1)
                for route in range(8)
                for status in ("200", "500")
            ],
        )
        together(metrics)
    series = together(metrics)[REQUEST_DURATION.name].series
    assert len(series) <= 40
    by_status = {s: sum(c.count for v, c in series.items() if v[2] == s) for s in ("200", "500")}
    assert by_status == {"200": 80, "500": 80}, "blank routes keep method and status"
    metrics.leave()


def test_another_build_of_the_service_is_fitted_in(metrics: MetricRegistry) -> None:
    """Workers of one master may run two builds for a while: after a reload, or when recycled during a deployment."""
    new = Metric("report.duration", Instrument.HISTOGRAM, "s", "New.", ("kind", "tier"), (0.1, 1.0, 10.0))
    old = Metric("report.duration", Instrument.HISTOGRAM, "s", "Old.", ("kind",), (0.5, 1.0, 5.0))
    changed = Metric("report.size", Instrument.GAUGE, "By", "Was a gauge.")
    metrics.family(new).histogram("pdf", "gold").observe(0.05)
    metrics.family(Metric("report.size", Instrument.COUNTER, "By", "Is a counter.")).number().add(1)

    def work() -> None:
        del metrics._families["report.duration"], metrics._families["report.size"]
        series = metrics.family(old).histogram("pdf")
        for value in (0.2, 0.7, 3, 100):
            series.observe(value)
        metrics.family(changed).number().set(7)

    with worker(metrics, work, stay=True):
        seen = together(metrics)
    assert seen["report.duration"].metric == new
    assert seen["report.duration"].series[("pdf", "gold")].counts == (1, 0, 0, 0)
    # 0.2 and 0.7 had at most 0.5 and 1.0, which are in the bucket up to 1.0; 3 had at most 5.
    assert seen["report.duration"].series[("pdf", "")].counts == (0, 2, 1, 1)
    assert seen["report.size"].series == {(): 1}


@pytest.mark.parametrize("step", ["write_bytes", "replace", "unlink"])
@pytest.mark.parametrize("after", [False, True])
def test_a_folding_that_is_killed_at_any_step_neither_loses_nor_doubles(
    metrics: MetricRegistry, step: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        worker(metrics, lambda number=number: metrics.add(LOG_RECORDS, ("info",), 10**number))
    together(metrics)
    for number in range(3, 6):
        worker(metrics, lambda number=number: metrics.add(LOG_RECORDS, ("info",), 10**number))
    real = getattr(Path, step)

    def killed() -> None:
        def dies(self: Path, *arguments: Any, **more: Any) -> Any:
            done = real(self, *arguments, **more) if after else None
            os.kill(os.getpid(), signal.SIGKILL)
            return done

        setattr(Path, step, dies)
        archive.compact(place(metrics), os.getppid(), 2000, lambda: None, lambda error: None)

    assert ForkedProcess(killed).status == signal.SIGKILL
    assert together(metrics)[LOG_RECORDS.name].series == {("info",): 111_111}
    assert together(metrics)[LOG_RECORDS.name].series == {("info",): 111_111}
    assert [name for name in files(metrics) if name.endswith(".cells")] == [own_file(metrics)]


def test_an_archive_that_cannot_be_written_loses_nothing(
    metrics: MetricRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        worker(metrics, lambda number=number: metrics.add(LOG_RECORDS, ("info",), 10**number))

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        assert together(metrics)[LOG_RECORDS.name].series == {("info",): 111}
        assert together(metrics)[LOG_RECORDS.name].series == {("info",): 111}
    assert together(metrics)[LOG_RECORDS.name].series == {("info",): 111}
    assert len([name for name in files(metrics) if name.endswith(".cells")]) == 1


def test_scrapes_and_foldings_at_once_never_show_less_or_more(metrics: MetricRegistry) -> None:
    """Every reader sees every count, whatever others fold meanwhile: a counter that goes back is a reset to Prometheus."""
    deadline = time.monotonic() + 4

    def reader() -> None:
        metrics.after_fork_in_child()
        metrics.add(LOG_RECORDS, ("debug",), 1)  # joins
        last = 0.0
        while time.monotonic() < deadline:
            now = together(metrics)[LOG_RECORDS.name].series.get(("info",), 0.0)
            assert now >= last, (now, last)
            last = now

    readers = [ForkedProcess(reader, wait=False) for _ in range(2)]
    written = 0
    while time.monotonic() < deadline or written < 5:
        worker(metrics, lambda: metrics.add(LOG_RECORDS, ("info",), 1))
        written += 1
    assert [child.end(None) for child in readers] == [0, 0]
    assert together(metrics)[LOG_RECORDS.name].series[("info",)] == written


def test_garbage_in_a_file_is_told_of_and_spoils_nothing_else(metrics: MetricRegistry) -> None:
    from connectsoft_obs.signals.metrics.multiprocess import file_format

    worker(metrics, lambda: metrics.add(LOG_RECORDS, ("info",), 3))
    content = bytearray(file_format.FIRST)
    file_format.write(memoryview(content), 0, file_format.DEFINITION, 0, b"{not json", 0)
    (place(metrics) / "4194301-bad.cells").write_bytes(content)
    (place(metrics) / "4194302-short.cells").write_bytes(b"abc")
    (place(metrics) / "4194303-random.cells").write_bytes(os.urandom(5000))
    assert together(metrics)[LOG_RECORDS.name].series == {("info",): 3}
    [errors] = [s for s in metrics.snapshots() if s.metric.name == "connectsoft.obs.errors"]
    assert errors.series[("metrics.shared",)] >= 1
    assert len([name for name in files(metrics) if name.endswith(".cells")]) == 1, "it is not read again and again"


def test_files_that_somebody_removed_are_made_again_with_what_the_living_hold(tmp_path: Path) -> None:
    """RemoveIPC: systemd removes the files in /dev/shm of a user that logs out, whoever still has them open."""
    said = Said()
    metrics = MetricRegistry(2000, once=said.once)
    assert metrics.join_workers("shop", os.getpid(), str(tmp_path))
    metrics.add(LOG_RECORDS, ("info",), 5)
    shutil.rmtree(place(metrics).parent)
    assert together(metrics)[LOG_RECORDS.name].series == {("info",): 5}
    metrics.add(LOG_RECORDS, ("info",), 1)
    worker(metrics, lambda: metrics.add(LOG_RECORDS, ("info",), 10))
    assert together(metrics)[LOG_RECORDS.name].series == {("info",): 16}
    assert ["files that the workers share were removed" in line for line in said] == [True]
    metrics.leave()


def test_no_page_is_better_than_one_with_numbers_missing(
    metrics: MetricRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page with some workers missing looks like a reset of every counter; Prometheus just tries again after none."""
    assert metrics.workers is not None
    changing = iter(range(1000))
    monkeypatch.setattr(metrics.workers, "_archive_identity", lambda: (next(changing), 0))
    with pytest.raises(TimeoutError):
        metrics.collect_all_workers()


def test_a_signal_handler_may_record_while_its_thread_admits_a_series(metrics: MetricRegistry) -> None:
    def handler(*_: object) -> None:
        metrics.add(LOG_RECORDS, (f"from a handler {time.monotonic_ns()}",), 1)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for number in range(1500):
            metrics.add(LOG_RECORDS, (f"level{number}",), 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    series = together(metrics)[LOG_RECORDS.name].series
    assert sum(count for (level,), count in series.items() if level.startswith("level")) == 1500
    copy = MetricRegistry(2000)
    assert copy.join_workers("shop", os.getpid(), str(place(metrics).parent.parent))
    assert together(copy)[LOG_RECORDS.name].series == series, "and what others read is whole"
    copy.leave()
