"""Schedules: the next expected run is a metric that is correct across daylight saving changes and restarts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import connectsoft_obs as obs
from connectsoft_obs.telemetry import resolve
from connectsoft_obs.testing import capture
from connectsoft_obs.testing.captured_telemetry import Captured
from connectsoft_obs.work.schedule import JobSchedule

BERLIN = ZoneInfo("Europe/Berlin")


def berlin_timestamp(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


def next_expected(captured: Captured, job: str) -> float:
    return captured.metric("connectsoft.job.next_expected.timestamp", connectsoft_job_name=job).value


def test_scheduled_job_has_an_expected_time_before_its_first_run() -> None:
    @obs.job("nightly", schedule="0 2 * * *", grace=900, timezone="Europe/Berlin")
    def nightly() -> None:
        pass

    with capture() as captured:
        resolve()
        due = datetime.fromtimestamp(next_expected(captured, "nightly") - 900, BERLIN)
        assert (due.hour, due.minute) == (2, 0)
        assert time.time() < due.timestamp() < time.time() + 25 * 3600
        for name in ("last_run", "last_success"):
            assert not captured.metric(f"connectsoft.job.{name}.timestamp", connectsoft_job_name="nightly").series


def test_start_of_a_run_advances_the_expected_time_even_if_it_fails() -> None:
    @obs.job("every-hour", schedule=timedelta(hours=1), grace=60)
    def hourly(fails: bool) -> None:
        expected_during_run.append(next_expected(captured, "every-hour"))
        if fails:
            raise OSError

    expected_during_run: list[float] = []
    with capture() as captured:
        with pytest.raises(OSError):  # noqa: PT011  no other call in the block raises
            hourly(True)
        assert expected_during_run[0] == pytest.approx(time.time() + 3660, abs=5)
        assert captured.metric("connectsoft.job.last_run.timestamp", connectsoft_job_name="every-hour").value
        assert not captured.metric("connectsoft.job.last_success.timestamp", connectsoft_job_name="every-hour").series
    captured.span("run every-hour", connectsoft_job_trigger="timer", connectsoft_job_schedule="every 3600 s")


def test_run_that_starts_slightly_early_satisfies_its_due_time() -> None:
    daily = JobSchedule("daily", "0 2 * * *", "Europe/Berlin", 900)
    assert daily.expected_after(berlin_timestamp("2026-06-01T01:59:59")) == berlin_timestamp("2026-06-02T02:15:00")
    assert daily.expected_after(berlin_timestamp("2026-06-01T02:00:01")) == berlin_timestamp("2026-06-02T02:15:00")
    assert daily.expected_after(berlin_timestamp("2026-06-01T01:00:00")) == berlin_timestamp("2026-06-01T02:15:00")
    minutely = JobSchedule("minutely", "* * * * *", "UTC", 10)
    assert minutely.expected_after(1_000_000_020.0 - 0.5) == 1_000_000_080.0 + 10
    assert minutely.expected_after(1_000_000_020.0 + 0.5) == 1_000_000_080.0 + 10


@pytest.mark.parametrize(
    ("schedule", "started_at", "due_at"),
    [
        # Clocks go forward: 02:30 does not exist on the 29th, and the job runs at the end of the gap.
        ("30 2 * * *", "2026-03-28T02:30:00", "2026-03-29T03:00:00"),
        ("30 2 * * *", "2026-03-29T03:00:00", "2026-03-30T02:30:00"),
        # Clocks go back: 02:30 occurs twice on the 25th, and the job runs once.
        ("30 2 * * *", "2026-10-24T02:30:00", "2026-10-25T02:30:00"),
        ("30 2 * * *", "2026-10-25T02:30:00", "2026-10-26T02:30:00"),
        # Other jobs run at the same local time.
        ("0 5 * * *", "2026-03-28T05:00:00", "2026-03-29T05:00:00"),
        ("0 5 * * *", "2026-10-24T05:00:00", "2026-10-25T05:00:00"),
    ],
)
def test_due_times_across_daylight_saving_changes(schedule: str, started_at: str, due_at: str) -> None:
    job = JobSchedule("job", schedule, "Europe/Berlin", 0)
    assert job.due_after(berlin_timestamp(started_at)) == berlin_timestamp(due_at)


def test_hourly_job_is_due_every_hour_across_daylight_saving_changes() -> None:
    hourly = JobSchedule("job", "0 * * * *", "Europe/Berlin", 0)
    for start in ("2026-03-28T22:00:00", "2026-10-24T22:00:00"):
        due = berlin_timestamp(start)
        for _ in range(8):
            next_due = hourly.due_after(due)
            assert next_due - due == 3600
            due = next_due


def test_schedule_state_survives_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "state.json"

    @obs.job("nightly", schedule="0 2 * * *", grace=900)
    def nightly() -> None:
        pass

    with capture(schedule_state_file=str(file)) as first:
        nightly()
        expected_before = next_expected(first, "nightly")
        last_success = first.metric("connectsoft.job.last_success.timestamp", connectsoft_job_name="nightly").value
    with capture(schedule_state_file=str(file)) as second:
        resolve()
        assert next_expected(second, "nightly") == expected_before
        for name in ("last_run", "last_success"):
            restored = second.metric(f"connectsoft.job.{name}.timestamp", connectsoft_job_name="nightly").value
            assert restored == pytest.approx(last_success, abs=1)


def test_run_missed_during_downtime_is_overdue_after_the_restart(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    two_days_ago = time.time() - 2 * 86400
    file.write_text(json.dumps({"nightly": {"began": two_days_ago, "last_success": two_days_ago}}))

    @obs.job("nightly", schedule="0 2 * * *", grace=900)
    def nightly() -> None:
        pass

    with capture(schedule_state_file=str(file)) as captured:
        resolve()
        assert next_expected(captured, "nightly") < time.time()
        nightly()
        assert next_expected(captured, "nightly") > time.time()


def test_async_job_writes_its_state_outside_the_event_loop(tmp_path: Path) -> None:
    file = tmp_path / "state.json"

    @obs.job("nightly", schedule="0 2 * * *")
    async def nightly() -> None:
        await asyncio.sleep(0)

    from connectsoft_obs.work.schedule_metrics import schedule_metrics_of

    with capture(schedule_state_file=str(file)):
        asyncio.run(nightly())
        state = schedule_metrics_of(resolve()).state_file
        assert state is not None
        state.flush()
    assert json.loads(file.read_text())["nightly"].keys() == {"began", "last_run", "last_success"}


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"nightly": 5}', '{"nightly": {"began": "soon"}}'])
def test_invalid_state_file_does_not_affect_the_job_and_is_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(content)

    @obs.job("nightly", schedule="0 2 * * *")
    def nightly() -> str:
        return "done"

    with capture(schedule_state_file=str(file)) as captured:
        assert nightly() == "done"
        assert next_expected(captured, "nightly") > time.time()
    assert json.loads(file.read_text())["nightly"]["last_run"] == pytest.approx(time.time(), abs=60)


def test_missing_state_directory_is_counted_as_an_internal_error(tmp_path: Path) -> None:
    @obs.job("nightly", schedule="0 2 * * *")
    def nightly() -> str:
        return "done"

    with capture(schedule_state_file=str(tmp_path / "missing" / "state.json")) as captured:
        assert nightly() == "done"
    assert captured.metric("connectsoft.obs.errors", connectsoft_obs_where="work.state").value >= 1


WRITER_SCRIPT = """
import pathlib, sys
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.work.schedule_state_file import ScheduleStateFile

state = ScheduleStateFile(pathlib.Path(sys.argv[1]), InternalTelemetry())
sys.stdin.readline()
for number in range(40):
    state.record(sys.argv[2], began=float(number))
"""


def test_processes_that_share_a_state_file_keep_all_entries(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER_SCRIPT, str(file), f"job-{number}"], stdin=subprocess.PIPE)
        for number in range(3)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert json.loads(file.read_text()) == {f"job-{number}": {"began": 39.0} for number in range(3)}
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == ["state.json"]
