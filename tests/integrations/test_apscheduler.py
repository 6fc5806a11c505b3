"""APScheduler 3 with several schedulers and executors: one run per execution, and expected times of the trigger."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.blocking import BlockingScheduler
from support.process import APPS, Service, free_port, wait_for

import connectsoft_obs as obs
from connectsoft_obs.integrations import apscheduler
from connectsoft_obs.testing import capture
from connectsoft_obs.testing.captured_telemetry import Captured


def succeed(number: int = 1) -> int:
    obs.bind(order_id=number)
    return number


def fails() -> None:
    message = "it broke"
    raise ValueError(message)


async def async_succeed() -> None:
    await asyncio.sleep(0)


def run_count(captured: Captured, job: str, outcome: str = "success") -> int:
    if captured.telemetry is None:  # no run yet
        return 0
    return captured.metric("connectsoft.job.duration", connectsoft_job_name=job, connectsoft_outcome=outcome).count


def test_each_execution_is_a_run_with_the_timer_trigger() -> None:
    with capture() as captured:
        scheduler = BackgroundScheduler(timezone="UTC")
        apscheduler.install(scheduler)
        apscheduler.install(scheduler)
        scheduler.add_job(succeed, "interval", seconds=0.1, id="nightly-report", kwargs={"number": 5})
        scheduler.add_job(fails, "interval", seconds=0.1)
        scheduler.start()
        try:
            wait_for(lambda: run_count(captured, "nightly-report") >= 2, 10)
            wait_for(lambda: run_count(captured, "fails", "failure") >= 2, 10)
            expected = captured.metric("connectsoft.job.next_expected.timestamp", connectsoft_job_name="nightly-report")
            assert expected.value == pytest.approx(time.time() + apscheduler.MISFIRE_GRACE, abs=5)
        finally:
            scheduler.shutdown()
    span = next(span for span in captured.spans if span.name == "run nightly-report")
    assert (span.attributes or {})["connectsoft.job.trigger"] == "timer"
    assert (span.attributes or {})["order_id"] == 5
    assert span.parent is None
    assert captured.metric("connectsoft.job.active").value == 0
    names = {series["connectsoft_job_name"] for series in captured.metric("connectsoft.job.duration").series}
    assert names == {"nightly-report", "fails"}, "generated job ids are not used as labels"


def test_asyncio_scheduler_runs_async_and_sync_functions() -> None:
    async def main() -> None:
        scheduler = AsyncIOScheduler(timezone="UTC")
        apscheduler.install(scheduler)
        now = datetime.now(UTC)
        scheduler.add_job(async_succeed, "date", run_date=now, id="async")
        scheduler.add_job(succeed, "date", run_date=now, id="sync")
        scheduler.start()
        await asyncio.to_thread(wait_for, lambda: run_count(captured, "async") and run_count(captured, "sync"), 10)
        scheduler.shutdown()

    with capture() as captured:
        asyncio.run(main())
    assert (run_count(captured, "async"), run_count(captured, "sync")) == (1, 1)


def test_executor_added_after_the_start_is_instrumented() -> None:
    with capture() as captured:
        scheduler = BackgroundScheduler(timezone="UTC")
        apscheduler.install(scheduler)
        scheduler.start()
        scheduler.add_executor(ThreadPoolExecutor(1), "later")
        try:
            scheduler.add_job(succeed, "date", run_date=datetime.now(UTC), id="later", executor="later")
            wait_for(lambda: run_count(captured, "later"), 10)
        finally:
            scheduler.shutdown()


def test_job_in_a_process_pool_returns_its_result() -> None:
    command = [sys.executable, str(APPS / "apscheduler_processes.py")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "1 None" in result.stdout.splitlines(), result.stdout + result.stderr


def test_missed_execution_is_logged_and_not_counted_as_a_run() -> None:
    with capture() as captured:
        scheduler = BackgroundScheduler(timezone="UTC")
        apscheduler.install(scheduler)
        overdue = datetime.now(UTC) - timedelta(seconds=60)
        scheduler.add_job(succeed, "interval", seconds=3600, id="late", next_run_time=overdue, misfire_grace_time=1)
        scheduler.start()
        try:
            wait_for(lambda: [line for line in captured.logs if "was missed" in line["message"]], 10)
        finally:
            scheduler.shutdown()
    assert captured.log("a scheduled run was missed")["connectsoft.job.name"] == "late"
    assert captured.metric("connectsoft.job.duration", connectsoft_job_name="late").count == 0
    assert expected_time(captured, "late") == overdue.timestamp() + apscheduler.MISFIRE_GRACE, "it is still expected"


def expected_time(captured: Captured, job: str) -> float:
    return captured.metric("connectsoft.job.next_expected.timestamp", connectsoft_job_name=job).value


def test_jobs_are_expected_before_their_first_run_and_until_they_are_removed() -> None:
    hour, grace = timedelta(hours=1), apscheduler.MISFIRE_GRACE
    with capture() as captured:
        scheduler = BackgroundScheduler(timezone="UTC")
        apscheduler.install(scheduler)
        due = datetime.now(UTC) + hour
        scheduler.add_job(succeed, "interval", hours=1, id="early", next_run_time=due)
        scheduler.start()
        try:
            assert expected_time(captured, "early") == due.timestamp() + grace
            scheduler.add_job(succeed, "interval", hours=1, id="late", next_run_time=due, misfire_grace_time=600)
            assert expected_time(captured, "late") == due.timestamp() + 600
            scheduler.modify_job("early", next_run_time=due + hour)
            assert expected_time(captured, "early") == (due + hour).timestamp() + grace
            scheduler.pause_job("early")
            assert expected_time(captured, "early") == math.inf
            scheduler.resume_job("early")
            assert expected_time(captured, "early") < math.inf
            scheduler.remove_all_jobs()
            assert expected_time(captured, "early") == expected_time(captured, "late") == math.inf
            scheduler.add_job(succeed, "interval", hours=1, id="runs", next_run_time=datetime.now(UTC))
            wait_for(lambda: expected_time(captured, "runs") > time.time() + grace + 1800, 10, "the run moves it")
            scheduler.add_job(succeed, "date", run_date=datetime.now(UTC), id="once")
            wait_for(lambda: expected_time(captured, "once") == math.inf, 10)
        finally:
            scheduler.shutdown()


WITHOUT_HOST = "the scheduler has no endpoints, no drain and no flush after SIGTERM"


def host_warnings(captured: Captured) -> list[str]:
    return [line["severity"] for line in captured.logs if line["message"].startswith(WITHOUT_HOST)]


def host_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "obs-scheduler-host"}


def test_blocking_scheduler_without_a_worker_is_logged_at_its_start() -> None:
    with capture() as captured:
        scheduler = BlockingScheduler(timezone="UTC")
        apscheduler.install(scheduler)

        def shut_down() -> None:
            wait_for(lambda: host_warnings(captured), 10, "the warning")
            scheduler.shutdown(wait=False)

        thread = threading.Thread(target=shut_down)
        thread.start()
        scheduler.start()
        thread.join()
    assert host_warnings(captured) == ["WARN"]


@pytest.mark.parametrize("begins_to_serve", [True, False])
def test_background_scheduler_without_a_host_is_logged_after_a_delay(
    begins_to_serve: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over = threading.Event()

    def wait(_: float) -> None:
        assert is_over.wait(10)

    monkeypatch.setattr(apscheduler, "time", SimpleNamespace(sleep=wait))
    with capture() as captured:
        scheduler = BackgroundScheduler(timezone="UTC")
        apscheduler.install(scheduler)
        other_threads = host_threads()
        scheduler.start()
        [thread] = host_threads() - other_threads
        assert captured.telemetry is not None
        if begins_to_serve:
            captured.telemetry.serve()
        is_over.set()
        thread.join(10)
        assert not thread.is_alive()
        scheduler.shutdown()
    assert host_warnings(captured) == ([] if begins_to_serve else ["WARN"])


def test_scheduler_in_a_worker_logs_no_warning() -> None:
    with capture() as captured, obs.worker(service="reports", prometheus_port=0):
        scheduler = BackgroundScheduler(timezone="UTC")
        apscheduler.install(scheduler)
        other_threads = host_threads()
        scheduler.start()
        assert not host_threads() - other_threads
        scheduler.shutdown()
    assert host_warnings(captured) == []


def test_no_run_starts_after_sigterm_and_active_runs_finish() -> None:
    port = free_port()
    env = {"CONNECTSOFT_OBS_DRAIN_TIMEOUT": "60", "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    with Service([sys.executable, str(APPS / "apscheduler_overlapping.py")], port, env) as service:
        wait_for(lambda: service.stdout_lines.count("end\n") >= 8, 20)
        assert service.stop(seconds=30) == 0
    runs = [line for line in service.json_lines if line["logger"] == "connectsoft_obs.job"]
    assert service.stdout_lines.count("begin\n") == service.stdout_lines.count("end\n") == len(runs)
    assert {line["connectsoft.outcome"] for line in runs} == {"success"}
