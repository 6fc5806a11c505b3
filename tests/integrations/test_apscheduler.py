"""APScheduler 3, all its schedulers and executors: one run a firing, expected when the trigger says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler
from support.process import APPS, wait_for

import connectsoft_obs as obs
from connectsoft_obs.integrations import apscheduler
from connectsoft_obs.testing import capture
from connectsoft_obs.testing.captured_telemetry import Captured


def fine(number: int = 1) -> int:
    obs.bind(order_id=number)
    return number


def fails() -> None:
    message = "it broke"
    raise ValueError(message)


async def async_fine() -> None:
    await asyncio.sleep(0)


def counted(seen: Captured, job: str, outcome: str = "success") -> int:
    if seen.telemetry is None:  # nothing has been reported yet
        return 0
    return seen.metric("connectsoft.job.duration", connectsoft_job_name=job, connectsoft_outcome=outcome).count


def test_each_firing_is_a_run_on_a_timer() -> None:
    with capture() as seen:
        scheduler = BackgroundScheduler(timezone="UTC")
        apscheduler.install(scheduler)
        apscheduler.install(scheduler)
        scheduler.add_job(fine, "interval", seconds=0.1, id="nightly-report", kwargs={"number": 5})
        scheduler.add_job(fails, "interval", seconds=0.1)
        scheduler.start()
        try:
            wait_for(lambda: counted(seen, "nightly-report") >= 2, 10)
            wait_for(lambda: counted(seen, "fails", "failure") >= 2, 10)
            expected = seen.metric("connectsoft.job.next_expected.timestamp", connectsoft_job_name="nightly-report")
            assert expected.value == pytest.approx(time.time(), abs=5)
        finally:
            scheduler.shutdown()
    span = next(span for span in seen.spans if span.name == "run nightly-report")
    assert (span.attributes or {})["connectsoft.job.trigger"] == "timer"
    assert (span.attributes or {})["order_id"] == 5
    assert span.parent is None
    assert seen.metric("connectsoft.job.active").value == 0
    names = {series["connectsoft_job_name"] for series in seen.metric("connectsoft.job.duration").series}
    assert names == {"nightly-report", "fails"}, "ids that the scheduler makes up are no labels"


def test_on_an_event_loop_both_kinds_of_functions_are_runs() -> None:
    async def main() -> None:
        scheduler = AsyncIOScheduler(timezone="UTC")
        apscheduler.install(scheduler)
        now = datetime.now(UTC)
        scheduler.add_job(async_fine, "date", run_date=now, id="async")
        scheduler.add_job(fine, "date", run_date=now, id="sync")
        scheduler.start()
        await asyncio.to_thread(wait_for, lambda: counted(seen, "async") and counted(seen, "sync"), 10)
        scheduler.shutdown()

    with capture() as seen:
        asyncio.run(main())
    assert (counted(seen, "async"), counted(seen, "sync")) == (1, 1)


def test_an_executor_that_is_added_later_works_too() -> None:
    with capture() as seen:
        scheduler = BackgroundScheduler(timezone="UTC")
        apscheduler.install(scheduler)
        scheduler.start()
        scheduler.add_executor(ThreadPoolExecutor(1), "later")
        try:
            scheduler.add_job(fine, "date", run_date=datetime.now(UTC), id="later", executor="later")
            wait_for(lambda: counted(seen, "later"), 10)
        finally:
            scheduler.shutdown()


def test_jobs_in_a_pool_of_processes_run() -> None:
    command = [sys.executable, str(APPS / "apscheduler_processes.py")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "1 None" in said.stdout.splitlines(), said.stdout + said.stderr


def test_a_firing_that_was_missed_is_said() -> None:
    with capture() as seen:
        scheduler = BackgroundScheduler(timezone="UTC")
        apscheduler.install(scheduler)
        late = datetime.now(UTC) - timedelta(seconds=60)
        scheduler.add_job(fine, "interval", seconds=3600, id="late", next_run_time=late, misfire_grace_time=1)
        scheduler.start()
        try:
            wait_for(lambda: [line for line in seen.logs if "was missed" in line["message"]], 10)
        finally:
            scheduler.shutdown()
    assert seen.log("a scheduled run was missed")["connectsoft.job.name"] == "late"
    assert seen.metric("connectsoft.job.duration", connectsoft_job_name="late").count == 0
