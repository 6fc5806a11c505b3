"""Aggregation of metrics over running and ended workers, and the size of the shared files."""

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


class Warnings(list[str]):
    """Collects the warnings of a registry."""

    def warn_once(self, key: tuple[str, str], message: str, fields: dict[str, Any]) -> None:
        self.append(f"{message} {fields}")


@pytest.fixture
def metrics(tmp_path: Path) -> Iterator[MetricRegistry]:
    """The registry of one worker that shares its metrics; the test process is the supervisor."""
    registry = MetricRegistry(2000, warn_once=Warnings().warn_once)
    assert registry.join_workers("shop", os.getpid(), str(tmp_path))
    yield registry
    registry.leave_workers()


def collect(metrics: MetricRegistry) -> dict[str, Snapshot]:
    """The snapshots of all workers by metric name."""
    return {snapshot.metric.name: snapshot for snapshot in metrics.collect_all_workers()}


def run_worker(metrics: MetricRegistry, work: Any, keep_alive: bool = False) -> ForkedProcess:
    """Fork a worker that runs a function, and then ends or keeps running."""

    def run() -> None:
        metrics.after_fork_in_child()
        work()

    process = ForkedProcess(run, keep_alive)
    assert process.completed
    return process


def shared_directory(metrics: MetricRegistry) -> Path:
    assert metrics.worker_group is not None
    return metrics.worker_group.directory


def own_file_name(metrics: MetricRegistry) -> str:
    assert metrics.worker_group is not None
    return metrics.worker_group.worker_file.name


def shared_file_names(metrics: MetricRegistry) -> list[str]:
    return sorted(os.listdir(shared_directory(metrics)))


def worker_file_names(metrics: MetricRegistry) -> list[str]:
    return [name for name in shared_file_names(metrics) if name.endswith(".cells")]


def test_counters_and_histograms_are_summed_over_running_and_ended_workers(metrics: MetricRegistry) -> None:
    metrics.add(LOG_RECORDS, ("info",), 5)
    requests = metrics.family(REQUEST_DURATION).histogram_series(*ITEMS)
    requests.observe(0.2)

    def work() -> None:
        metrics.add(LOG_RECORDS, ("info",), 10)
        metrics.add(LOG_RECORDS, ("error",), 1)
        requests.add_exemplar(requests.observe(0.02), 0.02, 7, 9)

    with run_worker(metrics, work, keep_alive=True):
        run_worker(metrics, work)
        for _ in range(3):
            snapshots = collect(metrics)
            assert snapshots[LOG_RECORDS.name].series == {("info",): 25, ("error",): 2}
            content = snapshots[REQUEST_DURATION.name].series[ITEMS]
            assert content.count == 3
            assert content.sum == pytest.approx(0.24)
            assert [exemplar.trace_id for exemplar in content.exemplars if exemplar] == [7]
    snapshots = collect(metrics)
    assert snapshots[LOG_RECORDS.name].series == {("info",): 25, ("error",): 2}
    assert worker_file_names(metrics) == [own_file_name(metrics)]


def test_snapshots_contain_only_the_values_of_the_own_process(metrics: MetricRegistry) -> None:
    metrics.add(LOG_RECORDS, ("info",), 5)
    with run_worker(metrics, lambda: metrics.add(LOG_RECORDS, ("info",), 10), keep_alive=True):
        [own] = [snapshot for snapshot in metrics.snapshots() if snapshot.metric is LOG_RECORDS]
        assert own.series == {("info",): 5}


def test_gauges_are_aggregated_by_their_multiprocess_mode(metrics: MetricRegistry) -> None:
    peak = Metric("pool.peak", Instrument.GAUGE, "{connection}", "Peak.", merge=MultiprocessMode.MAX)

    def work(active: int, timestamp: float) -> None:
        metrics.family(ACTIVE_REQUESTS).number_series("GET", "http").set(active)
        metrics.family(JOB_LAST_SUCCESS).number_series("report").set(timestamp)
        metrics.family(JOB_HEARTBEAT).number_series("poll").set(timestamp)
        metrics.family(peak).number_series().set(active)
        metrics.family(CHECK_STATUS).number_series("postgres", "readiness").set(active % 3)
        metrics.family(BUILD_INFO).number_series("1.0", "", "3.11", "0.1").set(1)

    work(3, 1000.0)
    with run_worker(metrics, lambda: work(2, 500.0), keep_alive=True):
        with run_worker(metrics, lambda: work(4, 2000.0), keep_alive=True):
            snapshots = collect(metrics)
            assert snapshots[ACTIVE_REQUESTS.name].series == {("GET", "http"): 9}
            assert snapshots[JOB_LAST_SUCCESS.name].series == {("report",): 2000}
            assert snapshots[JOB_HEARTBEAT.name].series == {("poll",): 500}
            assert snapshots["pool.peak"].series == {(): 4}
            assert snapshots[CHECK_STATUS.name].series == {("postgres", "readiness"): 2}, "the most severe state"
            assert set(snapshots[BUILD_INFO.name].series.values()) == {1}
        snapshots = collect(metrics)
        assert snapshots[ACTIVE_REQUESTS.name].series == {("GET", "http"): 5}, (
            "active requests of ended workers are not counted"
        )
        assert snapshots[JOB_LAST_SUCCESS.name].series == {("report",): 2000}, (
            "the last success of an ended worker is kept"
        )
        assert snapshots["pool.peak"].series == {(): 3}
    snapshots = collect(metrics)
    assert snapshots[JOB_HEARTBEAT.name].series == {("poll",): 1000}
    assert snapshots[CHECK_STATUS.name].series == {("postgres", "readiness"): 0}


def test_metrics_defined_by_another_worker_only_are_collected(metrics: MetricRegistry) -> None:
    own = Metric("orders.placed", Instrument.COUNTER, "{order}", "Orders.", ("tier",))
    with run_worker(metrics, lambda: metrics.family(own).number_series("gold").add(3), keep_alive=True):
        assert own.name not in {snapshot.metric.name for snapshot in metrics.snapshots()}
        assert collect(metrics)["orders.placed"] == Snapshot(own, {("gold",): 3})


def test_forked_child_that_records_nothing_creates_no_file(metrics: MetricRegistry) -> None:
    metrics.add(LOG_RECORDS, ("info",), 5)
    with run_worker(metrics, lambda: metrics.snapshots(), keep_alive=True):
        assert len(worker_file_names(metrics)) == 1
        assert collect(metrics)[LOG_RECORDS.name].series == {("info",): 5}


def test_forked_child_does_not_write_to_series_of_its_parent(metrics: MetricRegistry) -> None:
    number = metrics.family(LOG_RECORDS).number_series("info")
    requests = metrics.family(REQUEST_DURATION).histogram_series(*ITEMS)
    requests.add_exemplar(requests.observe(0.2), 0.2, 1, 1)
    number.add(5)

    def work() -> None:
        number.add(100)
        requests.add_exemplar(requests.observe(0.2), 0.2, 2, 2)
        metrics.add(LOG_RECORDS, ("error",), 1)

    run_worker(metrics, work)
    [own] = [snapshot for snapshot in metrics.snapshots() if snapshot.metric is REQUEST_DURATION]
    assert number.cells[0] == 5
    assert own.series[ITEMS].count == 1
    assert [exemplar.trace_id for exemplar in own.series[ITEMS].exemplars if exemplar] == [1]
    assert collect(metrics)[LOG_RECORDS.name].series == {("info",): 105, ("error",): 1}


def test_grandchild_process_is_counted(metrics: MetricRegistry) -> None:
    def work() -> None:
        metrics.add(LOG_RECORDS, ("info",), 1)
        run_worker(metrics, lambda: metrics.add(LOG_RECORDS, ("info",), 10))

    run_worker(metrics, work)
    assert collect(metrics)[LOG_RECORDS.name].series == {("info",): 11}


def test_child_that_outlives_its_parent_does_not_hold_its_lock(metrics: MetricRegistry) -> None:
    """Forked children share an flock; a child that keeps the lock of its parent makes an ended worker look alive."""
    reading, writing = os.pipe()

    def work() -> None:
        metrics.family(ACTIVE_REQUESTS).number_series("GET", "http").set(4)
        child = run_worker(metrics, lambda: metrics.add(LOG_RECORDS, ("info",), 1), keep_alive=True)
        os.write(writing, str(child.pid).encode())

    with run_worker(metrics, work, keep_alive=True):
        grandchild = int(os.read(reading, 20))
        assert collect(metrics)[ACTIVE_REQUESTS.name].series == {("GET", "http"): 4}
    try:
        snapshots = collect(metrics)
        assert snapshots[ACTIVE_REQUESTS.name].series in ({}, {("GET", "http"): 0})
        assert snapshots[LOG_RECORDS.name].series == {("info",): 1}
    finally:
        os.kill(grandchild, signal.SIGKILL)


@pytest.mark.parametrize("generations", [75, pytest.param(1000, marks=pytest.mark.full)])
def test_many_generations_of_workers_leave_one_archive_and_all_counts(
    metrics: MetricRegistry, generations: int
) -> None:
    requests = metrics.family(REQUEST_DURATION)
    sizes = []

    def work(number: int) -> None:
        series = requests.histogram_series("GET", "http", "200", f"/route{number % 7}", "", "1.1")
        series.add_exemplar(series.observe(0.01), 0.01, number + 1, number + 1)
        metrics.family(ACTIVE_REQUESTS).number_series("GET", "http").add(1)
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
            snapshots = collect(metrics)
            assert sum(content.count for content in snapshots[REQUEST_DURATION.name].series.values()) == number + 1
            sizes.append(sum(path.stat().st_size for path in shared_directory(metrics).iterdir()))
            assert len(shared_file_names(metrics)) <= 12
    file_names = shared_file_names(metrics)
    assert len(file_names) == 4, file_names  # the archive and its lock, supervisor.json, and the file of this worker
    assert sizes[-1] == sizes[1], "files do not grow"
    assert len(snapshots[REQUEST_DURATION.name].series) == 7
    newest = {
        exemplar.trace_id
        for content in snapshots[REQUEST_DURATION.name].series.values()
        for exemplar in content.exemplars
        if exemplar
    }
    assert newest == set(range(generations - 6, generations + 1))


def test_files_of_ended_workers_do_not_accumulate_without_scrapes(metrics: MetricRegistry) -> None:
    for _ in range(40):
        run_worker(metrics, lambda: metrics.add(LOG_RECORDS, ("info",), 1))
    assert len(worker_file_names(metrics)) <= 10
    assert collect(metrics)[LOG_RECORDS.name].series == {("info",): 40}


def test_archive_applies_cardinality_limit_and_keeps_totals(tmp_path: Path) -> None:
    metrics = MetricRegistry(20)
    assert metrics.join_workers("shop", os.getpid(), str(tmp_path))
    for generation in range(10):
        run_worker(
            metrics,
            lambda generation=generation: [
                metrics.family(REQUEST_DURATION)
                .histogram_series("GET", "http", status, f"/g{generation}/r{route}", "", "1.1")
                .observe(1)
                for route in range(8)
                for status in ("200", "500")
            ],
        )
        collect(metrics)
    series = collect(metrics)[REQUEST_DURATION.name].series
    assert len(series) <= 40
    by_status = {
        status: sum(content.count for labels, content in series.items() if labels[2] == status)
        for status in ("200", "500")
    }
    assert by_status == {"200": 80, "500": 80}, "overflow series keep method and status"
    metrics.leave_workers()


def test_metrics_of_another_build_are_converted(metrics: MetricRegistry) -> None:
    """Workers of one master can run two builds: after a reload, or after worker recycling during a deployment."""
    new = Metric("report.duration", Instrument.HISTOGRAM, "s", "New.", ("kind", "tier"), (0.1, 1.0, 10.0))
    old = Metric("report.duration", Instrument.HISTOGRAM, "s", "Old.", ("kind",), (0.5, 1.0, 5.0))
    changed = Metric("report.size", Instrument.GAUGE, "By", "Was a gauge.")
    metrics.family(new).histogram_series("pdf", "gold").observe(0.05)
    metrics.family(Metric("report.size", Instrument.COUNTER, "By", "Is a counter.")).number_series().add(1)

    def work() -> None:
        del metrics._families["report.duration"], metrics._families["report.size"]
        series = metrics.family(old).histogram_series("pdf")
        for value in (0.2, 0.7, 3, 100):
            series.observe(value)
        metrics.family(changed).number_series().set(7)

    with run_worker(metrics, work, keep_alive=True):
        snapshots = collect(metrics)
    assert snapshots["report.duration"].metric == new
    assert snapshots["report.duration"].series[("pdf", "gold")].counts == (1, 0, 0, 0)
    # Counts are converted by upper bound: 0.5 and 1.0 belong to the bucket up to 1.0, and 5.0 to that up to 10.0.
    assert snapshots["report.duration"].series[("pdf", "")].counts == (0, 2, 1, 1)
    assert snapshots["report.size"].series == {(): 1}


@pytest.mark.parametrize("step", ["write_bytes", "replace", "unlink"])
@pytest.mark.parametrize("after", [False, True])
def test_compaction_killed_at_any_step_keeps_counts_exact(
    metrics: MetricRegistry, step: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        run_worker(metrics, lambda number=number: metrics.add(LOG_RECORDS, ("info",), 10**number))
    collect(metrics)
    for number in range(3, 6):
        run_worker(metrics, lambda number=number: metrics.add(LOG_RECORDS, ("info",), 10**number))
    original = getattr(Path, step)

    def compact_and_die() -> None:
        def kill_process(self: Path, *arguments: Any, **keywords: Any) -> Any:
            result = original(self, *arguments, **keywords) if after else None
            os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(Path, step, kill_process)
        archive.compact(shared_directory(metrics), os.getppid(), 2000, lambda: None, lambda error: None)

    assert ForkedProcess(compact_and_die).status == signal.SIGKILL
    assert collect(metrics)[LOG_RECORDS.name].series == {("info",): 111_111}
    assert collect(metrics)[LOG_RECORDS.name].series == {("info",): 111_111}
    assert worker_file_names(metrics) == [own_file_name(metrics)]


def test_unwritable_archive_loses_no_counts(metrics: MetricRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        run_worker(metrics, lambda number=number: metrics.add(LOG_RECORDS, ("info",), 10**number))

    def raise_disk_full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", raise_disk_full)
        assert collect(metrics)[LOG_RECORDS.name].series == {("info",): 111}
        assert collect(metrics)[LOG_RECORDS.name].series == {("info",): 111}
    assert collect(metrics)[LOG_RECORDS.name].series == {("info",): 111}
    assert len(worker_file_names(metrics)) == 1


def test_concurrent_scrapes_and_compactions_never_decrease_a_counter(metrics: MetricRegistry) -> None:
    """Prometheus interprets a counter that decreases as a reset."""
    deadline = time.monotonic() + 4

    def reader() -> None:
        metrics.after_fork_in_child()
        metrics.add(LOG_RECORDS, ("debug",), 1)  # the first measurement joins the group
        previous = 0.0
        while time.monotonic() < deadline:
            current = collect(metrics)[LOG_RECORDS.name].series.get(("info",), 0.0)
            assert current >= previous, (current, previous)
            previous = current

    readers = [ForkedProcess(reader, wait=False) for _ in range(2)]
    added = 0
    while time.monotonic() < deadline or added < 5:
        run_worker(metrics, lambda: metrics.add(LOG_RECORDS, ("info",), 1))
        added += 1
    assert [process.end(None) for process in readers] == [0, 0]
    assert collect(metrics)[LOG_RECORDS.name].series[("info",)] == added


def test_invalid_files_are_reported_and_other_files_are_read(metrics: MetricRegistry) -> None:
    from connectsoft_obs.signals.metrics.multiprocess import file_format

    run_worker(metrics, lambda: metrics.add(LOG_RECORDS, ("info",), 3))
    content = bytearray(file_format.FIRST_SEGMENT_SIZE)
    file_format.write_record(memoryview(content), 0, file_format.DEFINITION, 0, b"{not json", 0)
    (shared_directory(metrics) / "4194301-bad.cells").write_bytes(content)
    (shared_directory(metrics) / "4194302-short.cells").write_bytes(b"abc")
    (shared_directory(metrics) / "4194303-random.cells").write_bytes(os.urandom(5000))
    assert collect(metrics)[LOG_RECORDS.name].series == {("info",): 3}
    [errors] = [snapshot for snapshot in metrics.snapshots() if snapshot.metric.name == "connectsoft.obs.errors"]
    assert errors.series[("metrics.shared",)] >= 1
    assert len(worker_file_names(metrics)) == 1, "invalid files are removed"


def test_removed_files_are_created_again_with_values_of_running_workers(tmp_path: Path) -> None:
    """With RemoveIPC, systemd removes the files in /dev/shm of a user that logs out, even if they are open."""
    warnings = Warnings()
    metrics = MetricRegistry(2000, warn_once=warnings.warn_once)
    assert metrics.join_workers("shop", os.getpid(), str(tmp_path))
    metrics.add(LOG_RECORDS, ("info",), 5)
    shutil.rmtree(shared_directory(metrics).parent)
    assert collect(metrics)[LOG_RECORDS.name].series == {("info",): 5}
    metrics.add(LOG_RECORDS, ("info",), 1)
    run_worker(metrics, lambda: metrics.add(LOG_RECORDS, ("info",), 10))
    assert collect(metrics)[LOG_RECORDS.name].series == {("info",): 16}
    assert ["shared metric files were removed" in line for line in warnings] == [True]
    metrics.leave_workers()


def test_collection_fails_if_the_archive_keeps_changing(
    metrics: MetricRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An incomplete page looks like a reset of each counter; after a failed scrape, Prometheus tries again."""
    assert metrics.worker_group is not None
    numbers = iter(range(1000))
    monkeypatch.setattr(metrics.worker_group, "_archive_identity", lambda: (next(numbers), 0))
    with pytest.raises(TimeoutError):
        metrics.collect_all_workers()


def test_signal_handler_records_while_its_thread_admits_a_series(metrics: MetricRegistry) -> None:
    def handler(*_: object) -> None:
        metrics.add(LOG_RECORDS, (f"handler {time.monotonic_ns()}",), 1)

    original_handler = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for number in range(1500):
            metrics.add(LOG_RECORDS, (f"level{number}",), 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, original_handler)
    series = collect(metrics)[LOG_RECORDS.name].series
    assert sum(count for (level,), count in series.items() if level.startswith("level")) == 1500
    reader = MetricRegistry(2000)
    assert reader.join_workers("shop", os.getpid(), str(shared_directory(metrics).parent.parent))
    assert collect(reader)[LOG_RECORDS.name].series == series, "another worker reads all records"
    reader.leave_workers()
