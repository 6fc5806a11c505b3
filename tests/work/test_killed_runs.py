"""A run whose process was killed counts as a failure at the next start of its job, if there is a state file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.process import wait_for

import connectsoft_obs as obs
from connectsoft_obs import slo
from connectsoft_obs.testing import capture

KILLED_JOB = """
import os, signal, sys, time
import connectsoft_obs as obs

@obs.job("nightly", schedule="0 2 * * *")
def nightly():
    end = sys.argv[1]
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "wait":
        time.sleep(60)
    if end == "exit":
        sys.exit(1)

@obs.job("nightly", schedule="0 2 * * *", attempt="number", attempts=2)
def retried(number):
    raise ValueError(number)

if sys.argv[1] == "retry":
    try:
        retried(1)
    except ValueError:
        pass
else:
    nightly()
"""


@obs.job("nightly", schedule="0 2 * * *")
def nightly() -> None:
    """The same job in this process."""


def start(file: Path, end: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "CONNECTSOFT_OBS_SCHEDULE_STATE_FILE": str(file)}
    return subprocess.Popen([sys.executable, "-c", KILLED_JOB, end], env=env)


def failures_after(file: Path) -> dict[str, int]:
    """The runs that the next start of the job counts, by error type."""
    with capture(schedule_state_file=str(file)) as captured:
        nightly()
        assert captured.metric("connectsoft.job.duration", connectsoft_outcome="success").count == 1
        return {
            error: count
            for error in ("killed", "SystemExit", "ValueError")
            if (count := captured.metric("connectsoft.job.duration", error_type=error).count)
        }


def test_killed_run_is_a_failure_at_the_next_start(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    assert start(file, "kill").wait(60) == -signal.SIGKILL
    objectives = slo.ServiceSLOs(service="batch", team="t", slos=(slo.job_success_rate("nightly", 95, job="nightly"),))
    with capture(schedule_state_file=str(file), objectives=objectives) as captured:
        nightly()
        nightly()
        runs = "connectsoft.job.duration"
        assert captured.metric(runs, connectsoft_outcome="failure", error_type="killed").count == 1
        assert captured.metric(runs, connectsoft_outcome="success").count == 2
        assert captured.metric("connectsoft.slo.events", connectsoft_slo_outcome="bad").value == 1
        assert captured.metric("connectsoft.slo.events", connectsoft_slo_outcome="good").value == 2
        [line] = [line for line in captured.logs if line.get("error.type") == "killed"]
    assert (line["severity"], line["message"], line["logger"]) == (
        "ERROR",
        "run nightly failure",
        "connectsoft_obs.job",
    )
    assert line["started"].startswith("20")
    assert json.loads(file.read_text())["nightly"].keys() == {"began", "last_run", "last_success"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".state.json.lock", "state.json"]


@pytest.mark.parametrize("end", ["return", "exit", "retry"])
def test_run_that_ended_in_another_process_is_not_killed(tmp_path: Path, end: str) -> None:
    process = start(tmp_path / "state.json", end)
    assert process.wait(60) == (1 if end == "exit" else 0)
    assert failures_after(tmp_path / "state.json") == {}


def test_run_that_is_active_in_another_process_is_not_killed(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    process = start(file, "wait")
    try:
        wait_for(lambda: file.exists() and "running" in file.read_text(), 30)
        assert failures_after(file) == {}
    finally:
        process.kill()
        process.wait(10)
    assert failures_after(file) == {"killed": 1}
    assert failures_after(file) == {}
