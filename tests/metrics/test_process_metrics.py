"""CPU, memory, descriptors, threads, garbage and start time: true for one process, and for many."""

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


def once(page: MetricsPage, name: str) -> bool:
    return len(list(page.samples(name))) == 1


@pytest.mark.parametrize("workers", [1, 3])
def test_each_is_there_once_however_many_workers(workers: int, tmp_path: Path) -> None:
    env = {"CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path)}
    service = uvicorn("shop:app", env=env) if workers == 1 else gunicorn("shop:app", workers=workers, env=env)
    with service:
        service.wait_until_ready()
        httpx.get(f"{service.url}/order")
        wait_for(lambda: workers == 1 or len(list(tmp_path.rglob("*.cells"))) == workers, 10, "every worker serves")
        page = scrape(service.url)
        for name in NAMES:
            assert page.has(name), name
        for name in NAMES[:7] + NAMES[9:]:
            assert once(page, name), name
        assert page.value("connectsoft_build_info", service_version="1.2.3") == 1
        assert 0 <= time.time() - page.value("process_start_time_seconds") < 60
        assert page.value("process_open_fds") < page.value("process_max_fds")
        target = next(page.samples("target_info")).labels
        assert target["service_name"] == "shop"
        assert ("service_instance_id" in target) == (workers == 1), "several workers are one target"
        if workers > 1:
            alone = sum(_resident(pid) for pid in _family(service.process.pid))
            assert page.value("process_resident_memory_bytes") == pytest.approx(alone, rel=0.05)
            assert page.value("process_threads") >= workers + 1


def _family(master: int) -> list[int]:
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    return [master, *map(int, children)]


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_cpu_time_never_goes_back_when_workers_end(tmp_path: Path) -> None:
    """A counter that goes back is a reset to Prometheus, which then adds the whole of it again."""
    with gunicorn("shop:app", workers=3, env={"CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path)}) as service:
        service.wait_until_ready()
        last, killed = 0.0, 0
        deadline = time.monotonic() + 30
        while killed < 4 or last <= 1:
            assert time.monotonic() < deadline, f"{killed} killed, {last} s used"
            try:
                page = scrape(service.url)
            except httpx.TransportError:
                continue
            now = page.value("process_cpu_seconds_total")
            assert now >= last, (now, last, killed)
            last = now
            victims = _family(service.process.pid)[1:]
            if len(victims) == 3:
                os.kill(victims[0], signal.SIGKILL)
                killed += 1


def test_a_worker_that_ended_and_was_not_waited_for_still_has_its_time() -> None:
    child = os.fork()
    if child == 0:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            sum(range(1000))
        os._exit(0)
    wait_for(lambda: Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z", 10)
    unburied = process_metrics.sum_over_processes(os.getpid(), [child])[0].series[()]
    os.waitpid(child, 0)
    buried = process_metrics.sum_over_processes(os.getpid(), [child])[0].series[()]
    assert unburied <= buried < unburied + 0.1
    assert buried > 0.3


def test_collections_of_garbage_are_counted_while_it_serves_and_no_longer() -> None:
    before = list(gc.callbacks)
    telemetry = Telemetry(load_settings({}, service="shop"), environ={}, exports=False)
    telemetry.serve()
    metrics = telemetry.metrics

    def collections() -> float:
        [found] = [s for s in metrics.snapshots() if s.metric.name == "cpython.gc.collections"]
        return float(found.series[("2",)])

    assert collections() == pytest.approx(gc.get_stats()[2]["collections"], abs=1)
    start = collections()
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    gc.collect()
    gc.collect()
    assert collections() == start + 2
    telemetry.serve()
    assert len(gc.callbacks) == len(before) + 1
    telemetry.shutdown(0)
    assert gc.callbacks == before
    gc.collect()
    assert collections() == start + 2


def test_garbage_is_counted_once_by_two_that_start_twice() -> None:
    metrics = MetricRegistry(2000)
    garbage = GcMetrics(metrics)
    garbage.start()
    garbage.start()
    garbage.stop()
    garbage.stop()
    garbage.start()
    [found] = [s for s in metrics.snapshots() if s.metric.name == "cpython.gc.collections"]
    assert found.series[("2",)] <= gc.get_stats()[2]["collections"]
    garbage.stop()


def test_the_event_loop_lag_and_the_objectives_are_in_the_vocabulary() -> None:
    with capture() as seen:
        obs.get_logger().info("begin")
        assert seen.metric("connectsoft.event_loop.lag").count == 0
        assert seen.metric("connectsoft.slo.events").series == ()
