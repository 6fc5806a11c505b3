"""Process metrics: CPU, memory, file descriptors, threads, garbage collection and start time."""

from __future__ import annotations

import gc
import os
import signal
import time
from pathlib import Path

import httpx
import pytest
from support.exposition import MetricsPage, scrape
from support.process import gunicorn, uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.settings import load_settings
from connectsoft_obs.signals.metrics import GcMetrics, MetricRegistry, process_metrics
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.testing import capture

NAMES = [
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_start_time_seconds",
    "process_open_fds",
    "process_max_fds",
    "process_threads",
    "cpython_gc_collections_total",
    "cpython_gc_collected_objects_total",
    "connectsoft_build_info",
    "target_info",
]


def is_single_sample(page: MetricsPage, name: str) -> bool:
    return len(list(page.samples(name))) == 1


@pytest.mark.parametrize("workers", [1, 3])
def test_process_metrics_are_reported_once_per_service(workers: int, tmp_path: Path) -> None:
    env = {"CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path)}
    service = uvicorn("shop:app", env=env) if workers == 1 else gunicorn("shop:app", workers=workers, env=env)
    with service:
        service.wait_until_ready()
        httpx.get(f"{service.url}/order")
        wait_for(lambda: workers == 1 or len(list(tmp_path.rglob("*.cells"))) == workers, 10, "every worker has a file")
        page = scrape(service.url)
        for name in NAMES:
            assert page.has(name), name
        for name in NAMES[:7] + NAMES[9:]:
            assert is_single_sample(page, name), name
        assert page.value("connectsoft_build_info", service_version="1.2.3") == 1
        assert 0 <= time.time() - page.value("process_start_time_seconds") < 60
        assert page.value("process_open_fds") < page.value("process_max_fds")
        target = next(page.samples("target_info")).labels
        assert target["service_name"] == "shop"
        assert ("service_instance_id" in target) == (workers == 1), "several workers are one scrape target"
        if workers > 1:
            expected = sum(_resident_bytes(pid) for pid in _service_pids(service.process.pid))
            assert page.value("process_resident_memory_bytes") == pytest.approx(expected, rel=0.05)
            assert page.value("process_threads") >= workers + 1


def _service_pids(supervisor: int) -> list[int]:
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [supervisor, *map(int, children)]


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_cpu_time_does_not_decrease_when_workers_end(tmp_path: Path) -> None:
    """Prometheus interprets a counter that decreases as a reset and adds its value again."""
    with gunicorn("shop:app", workers=3, env={"CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path)}) as service:
        service.wait_until_ready()
        previous, killed = 0.0, 0
        deadline = time.monotonic() + 30
        while killed < 4 or previous <= 1:
            assert time.monotonic() < deadline, f"{killed} killed, {previous} s used"
            try:
                page = scrape(service.url)
            except httpx.TransportError:
                continue
            current = page.value("process_cpu_seconds_total")
            assert current >= previous, (current, previous, killed)
            previous = current
            worker_pids = _service_pids(service.process.pid)[1:]
            if len(worker_pids) == 3:
                os.kill(worker_pids[0], signal.SIGKILL)
                killed += 1


def test_cpu_time_of_a_zombie_worker_is_counted() -> None:
    pid = os.fork()
    if pid == 0:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            sum(range(1000))
        os._exit(0)
    wait_for(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z", 10)
    zombie_seconds = process_metrics.service_snapshots(os.getpid(), [pid])[0].series[()]
    os.waitpid(pid, 0)
    reaped_seconds = process_metrics.service_snapshots(os.getpid(), [pid])[0].series[()]
    assert zombie_seconds <= reaped_seconds < zombie_seconds + 0.1
    assert reaped_seconds > 0.3


def test_garbage_collections_are_counted_until_shutdown() -> None:
    original_callbacks = list(gc.callbacks)
    telemetry = Telemetry(load_settings({}, service="shop"), environ={}, exports=False)
    telemetry.serve()
    metrics = telemetry.metrics

    def collections() -> float:
        [snapshot] = [snapshot for snapshot in metrics.snapshots() if snapshot.metric.name == "cpython.gc.collections"]
        return float(snapshot.series[("2",)])

    assert collections() == pytest.approx(gc.get_stats()[2]["collections"], abs=1)
    initial = collections()
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    gc.collect()
    gc.collect()
    assert collections() == initial + 2
    telemetry.serve()
    assert len(gc.callbacks) == len(original_callbacks) + 1
    telemetry.shutdown(0)
    assert gc.callbacks == original_callbacks
    gc.collect()
    assert collections() == initial + 2


def test_garbage_collections_are_counted_once_after_repeated_starts() -> None:
    metrics = MetricRegistry(2000)
    gc_metrics = GcMetrics(metrics)
    gc_metrics.start()
    gc_metrics.start()
    gc_metrics.stop()
    gc_metrics.stop()
    gc_metrics.start()
    [snapshot] = [snapshot for snapshot in metrics.snapshots() if snapshot.metric.name == "cpython.gc.collections"]
    assert snapshot.series[("2",)] <= gc.get_stats()[2]["collections"]
    gc_metrics.stop()


def test_event_loop_lag_and_slo_events_exist_from_the_start() -> None:
    with capture() as seen:
        obs.get_logger().info("begin")
        assert seen.metric("connectsoft.event_loop.lag").count == 0
        assert seen.metric("connectsoft.slo.events").series == ()
