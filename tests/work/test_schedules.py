"""Schedules are declared: what should have run next is a metric, right over clock changes and across restarts."""

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


def berlin(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


def expected(seen: Captured, job: str) -> float:
    return seen.metric("connectsoft.job.next_expected.timestamp", connectsoft_job_name=job).value


def test_a_declared_job_is_expected_before_it_has_ever_run() -> None:
    @obs.job("nightly", schedule="0 2 * * *", grace=900, timezone="Europe/Berlin")
    def nightly() -> None:
        pass

    with capture() as seen:
        resolve()
        due = datetime.fromtimestamp(expected(seen, "nightly") - 900, BERLIN)
        assert (due.hour, due.minute) == (2, 0)
        assert time.time() < due.timestamp() < time.time() + 25 * 3600
        for never in ("last_run", "last_success"):
            assert not seen.metric(f"connectsoft.job.{never}.timestamp", connectsoft_job_name="nightly").series


def test_a_run_moves_what_is_expected_when_it_begins_and_a_failure_is_a_run() -> None:
    @obs.job("every-hour", schedule=timedelta(hours=1), grace=60)
    def hourly(fails: bool) -> None:
        inside.append(expected(seen, "every-hour"))
        if fails:
            raise OSError

    inside: list[float] = []
    with capture() as seen:
        with pytest.raises(OSError):  # noqa: PT011  nothing else raises here
            hourly(True)
        assert inside[0] == pytest.approx(time.time() + 3660, abs=5)
        assert seen.metric("connectsoft.job.last_run.timestamp", connectsoft_job_name="every-hour").value
        assert not seen.metric("connectsoft.job.last_success.timestamp", connectsoft_job_name="every-hour").series
    seen.span("run every-hour", connectsoft_job_trigger="timer", connectsoft_job_schedule="every 3600 s")


def test_a_run_that_begins_a_little_early_is_the_run_of_that_time() -> None:
    daily = JobSchedule("daily", "0 2 * * *", "Europe/Berlin", 900)
    assert daily.expected_after(berlin("2026-06-01T01:59:59")) == berlin("2026-06-02T02:15:00")
    assert daily.expected_after(berlin("2026-06-01T02:00:01")) == berlin("2026-06-02T02:15:00")
    assert daily.expected_after(berlin("2026-06-01T01:00:00")) == berlin("2026-06-01T02:15:00")
    minutely = JobSchedule("minutely", "* * * * *", "UTC", 10)
    assert minutely.expected_after(1_000_000_020.0 - 0.5) == 1_000_000_080.0 + 10
    assert minutely.expected_after(1_000_000_020.0 + 0.5) == 1_000_000_080.0 + 10


@pytest.mark.parametrize(
    ("when", "begun", "due"),
    [
        # Clocks go forward: 02:30 does not exist on the 29th and is run right after the gap.
        ("30 2 * * *", "2026-03-28T02:30:00", "2026-03-29T03:00:00"),
        ("30 2 * * *", "2026-03-29T03:00:00", "2026-03-30T02:30:00"),
        # Clocks go back: 02:30 comes twice on the 25th and is run once.
        ("30 2 * * *", "2026-10-24T02:30:00", "2026-10-25T02:30:00"),
        ("30 2 * * *", "2026-10-25T02:30:00", "2026-10-26T02:30:00"),
        # Other jobs keep their hour by the clock on the wall.
        ("0 5 * * *", "2026-03-28T05:00:00", "2026-03-29T05:00:00"),
        ("0 5 * * *", "2026-10-24T05:00:00", "2026-10-25T05:00:00"),
    ],
)
def test_clock_changes(when: str, begun: str, due: str) -> None:
    assert JobSchedule("job", when, "Europe/Berlin", 0).due_after(berlin(begun)) == berlin(due)


def test_a_job_of_every_hour_runs_every_hour_through_clock_changes() -> None:
    hourly = JobSchedule("job", "0 * * * *", "Europe/Berlin", 0)
    for start in ("2026-03-28T22:00:00", "2026-10-24T22:00:00"):
        moment = berlin(start)
        for _ in range(8):
            following = hourly.due_after(moment)
            assert following - moment == 3600
            moment = following


def test_what_is_known_survives_the_process(tmp_path: Path) -> None:
    file = tmp_path / "state.json"

    @obs.job("nightly", schedule="0 2 * * *", grace=900)
    def nightly() -> None:
        pass

    with capture(schedule_state_file=str(file)) as first:
        nightly()
        before = expected(first, "nightly")
        ran = first.metric("connectsoft.job.last_success.timestamp", connectsoft_job_name="nightly").value
    with capture(schedule_state_file=str(file)) as second:
        resolve()
        assert expected(second, "nightly") == before
        for name in ("last_run", "last_success"):
            restored = second.metric(f"connectsoft.job.{name}.timestamp", connectsoft_job_name="nightly").value
            assert restored == pytest.approx(ran, abs=1)


def test_a_run_that_was_missed_while_the_process_was_away_is_missed_when_it_is_back(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    two_days_ago = time.time() - 2 * 86400
    file.write_text(json.dumps({"nightly": {"began": two_days_ago, "last_success": two_days_ago}}))

    @obs.job("nightly", schedule="0 2 * * *", grace=900)
    def nightly() -> None:
        pass

    with capture(schedule_state_file=str(file)) as seen:
        resolve()
        assert expected(seen, "nightly") < time.time()
        nightly()
        assert expected(seen, "nightly") > time.time()


def test_an_async_job_writes_its_state_off_the_event_loop(tmp_path: Path) -> None:
    file = tmp_path / "state.json"

    @obs.job("nightly", schedule="0 2 * * *")
    async def nightly() -> None:
        await asyncio.sleep(0)

    from connectsoft_obs.work.schedule_metrics import schedule_metrics_of as of

    with capture(schedule_state_file=str(file)):
        asyncio.run(nightly())
        state = of(resolve()).state_file
        assert state is not None
        state.flush()
    assert json.loads(file.read_text())["nightly"].keys() == {"began", "last_run", "last_success"}


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"nightly": 5}', '{"nightly": {"began": "soon"}}'])
def test_a_file_that_cannot_be_read_is_told_and_changes_nothing(tmp_path: Path, content: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(content)

    @obs.job("nightly", schedule="0 2 * * *")
    def nightly() -> str:
        return "done"

    with capture(schedule_state_file=str(file)) as seen:
        assert nightly() == "done"
        assert expected(seen, "nightly") > time.time()
    assert json.loads(file.read_text())["nightly"]["last_run"] == pytest.approx(time.time(), abs=60)


def test_a_folder_that_cannot_be_written_is_told_and_changes_nothing(tmp_path: Path) -> None:
    @obs.job("nightly", schedule="0 2 * * *")
    def nightly() -> str:
        return "done"

    with capture(schedule_state_file=str(tmp_path / "missing" / "state.json")) as seen:
        assert nightly() == "done"
    assert seen.metric("connectsoft.obs.errors", connectsoft_obs_where="work.state").value >= 1


WRITES = """
import pathlib, sys
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.work.schedule_metrics import ScheduleStateFile

state = ScheduleStateFile(pathlib.Path(sys.argv[1]), InternalTelemetry())
sys.stdin.readline()
for number in range(40):
    state.record(sys.argv[2], began=float(number))
"""


def test_processes_that_share_a_file_lose_nothing_of_each_other(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITES, str(file), f"job-{number}"], stdin=subprocess.PIPE)
        for number in range(3)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert json.loads(file.read_text()) == {f"job-{number}": {"began": 39.0} for number in range(3)}
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == ["state.json"]
