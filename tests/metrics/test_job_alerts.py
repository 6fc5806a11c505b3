"""The alert rules for jobs in the documentation, evaluated by promtool for common set-ups."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.servers import program_path

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "workers.md"
HOUR, DAY = 3600, 86400
MINUTES_BETWEEN_SAMPLES = 1

Value = Callable[[float], float | None]
"""A metric as a function of the seconds since the start; None while no process exports it."""


def rules() -> str:
    [content] = [
        block for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.M | re.S) if "JobMissed" in block
    ]
    return str(content)


@dataclass(frozen=True)
class Instance:
    """The timestamps that one process exports, in seconds since the start."""

    next_expected: Value = lambda _: None
    last_run: Value = lambda _: None
    last_success: Value = lambda _: None
    job: str = "batch"


def input_series(instances: list[Instance], duration: int) -> list[dict[str, str]]:
    result = []
    for number, instance in enumerate(instances):
        for name in ("next_expected", "last_run", "last_success"):
            values = [getattr(instance, name)(time) for time in range(0, duration + 1, 60)]
            samples = " ".join("_" if value is None else f"{value:g}" for value in values)
            labels = f'{{job="{instance.job}",instance="{number}",connectsoft_job_name="report"}}'
            result.append({"series": f"connectsoft_job_{name}_timestamp_seconds{labels}", "values": samples})
    return result


def firing(path: Path, instances: list[Instance], times: list[int]) -> list[tuple[int, str, list[str]]]:
    """The alerts that fire at some times, as (time, alert, values of the label `job`)."""
    (path / "rules.yml").write_text(rules())
    alerts = [(time, alert) for time in times for alert in ("JobMissed", "JobNotSucceeding")]
    document: dict[str, Any] = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": input_series(instances, max(times)),
                "promql_expr_test": [
                    {
                        "expr": f'count by (job) (ALERTS{{alertname="{alert}",alertstate="firing"}})',
                        "eval_time": f"{time}s",
                        "exp_samples": [],
                    }
                    for time, alert in alerts
                ],
            }
        ],
    }
    (path / "tests.yml").write_bytes(orjson.dumps(document))
    command = [program_path("promtool"), "test", "rules", "tests.yml"]
    completed = subprocess.run(command, cwd=path, capture_output=True, text=True, timeout=120, check=False)
    output = completed.stdout + completed.stderr
    pattern = r'alertname=\\"(\w+)\\".*?", time: ([0-9a-z]+),\s+exp: nil\s+got: (.*)'
    failures = re.findall(pattern, output)
    assert completed.returncode == 0 or failures, output
    return [(to_seconds(time), alert, re.findall(r'job="(\w+)"', got)) for alert, time, got in failures]


def to_seconds(duration: str) -> int:
    units = {"w": 7 * DAY, "d": DAY, "h": HOUR, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([wdhms])", duration))


def alerts_at(path: Path, instances: list[Instance], times: list[int]) -> dict[int, set[str]]:
    result: dict[int, set[str]] = {time: set() for time in times}
    for time, alert, _ in firing(path, instances, times):
        result[time].add(alert)
    return result


def alive(*periods: tuple[float, float], value: Value) -> Value:
    """The value while a process exports it, else None."""
    return lambda time: value(time) if any(start <= time <= end for start, end in periods) else None


def test_rules_are_valid(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(rules())
    command = [program_path("promtool"), "check", "rules", str(tmp_path / "rules.yml")]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr


RUN = HOUR
"""Start of the run of a nightly job, which pushes its metrics once and ends."""


@pytest.mark.parametrize(("runs_again", "missed"), [(False, True), (True, False)])
def test_nightly_job_that_pushes_once_and_ends(tmp_path: Path, runs_again: bool, missed: bool) -> None:
    pushes = [(RUN, RUN + 300)] + [(RUN + DAY, RUN + DAY + 300)] * runs_again

    def last(time: float) -> float:
        return float(RUN + DAY if time >= RUN + DAY else RUN)

    process = Instance(
        next_expected=alive(*pushes, value=lambda time: last(time) + DAY + 300),
        last_run=alive(*pushes, value=last),
        last_success=alive(*pushes, value=last),
    )
    alerts = alerts_at(tmp_path, [process], [RUN + DAY - HOUR, RUN + DAY + 200, RUN + DAY + 2 * HOUR])
    assert list(alerts.values()) == [set(), set(), {"JobMissed"} if missed else set()]


def test_failed_run_of_a_short_process_alerts_after_it_has_ended(tmp_path: Path) -> None:
    process = Instance(
        last_run=alive((RUN, RUN + 60), (2 * RUN, 2 * RUN + 60), value=lambda time: time // RUN * RUN),
        last_success=alive((2 * RUN, 2 * RUN + 60), value=lambda _: 2 * RUN),
    )
    alerts = alerts_at(tmp_path, [process], [RUN + 240, RUN + 1800, 2 * RUN + 240, 3 * RUN])
    assert list(alerts.values()) == [set(), {"JobNotSucceeding"}, set(), set()]


def test_success_on_another_replica_ends_the_alert(tmp_path: Path) -> None:
    failed = Instance(last_run=lambda _: 600, last_success=lambda _: 300)
    successful = Instance(
        last_run=lambda time: 3600 if time >= 3600 else None, last_success=lambda time: 3600 if time >= 3600 else None
    )
    alerts = alerts_at(tmp_path, [failed, successful], [1800, 3660, 3 * HOUR])
    assert list(alerts.values()) == [{"JobNotSucceeding"}, set(), set()]


def test_run_on_one_of_two_replicas_is_not_missed_by_the_other(tmp_path: Path) -> None:
    idle = Instance(next_expected=lambda _: HOUR + 300)
    running = Instance(
        # It runs the job at the due time, and is removed an hour later.
        next_expected=lambda time: HOUR + 300 if time < HOUR else DAY + HOUR + 300 if time < 2 * HOUR else None
    )
    alerts = alerts_at(tmp_path, [idle, running], [HOUR + 600, 4 * HOUR, DAY, DAY + 2 * HOUR])
    assert list(alerts.values()) == [set(), set(), set(), {"JobMissed"}]


def test_first_run_that_never_happens_is_missed(tmp_path: Path) -> None:
    worker = Instance(next_expected=lambda _: HOUR + 300)
    alerts = alerts_at(tmp_path, [worker], [HOUR, HOUR + 600])
    assert list(alerts.values()) == [set(), {"JobMissed"}]


def test_job_that_is_not_due_again_is_not_missed(tmp_path: Path) -> None:
    removed = Instance(next_expected=lambda time: HOUR if time < 1800 else float("inf"))
    replaced = Instance(next_expected=lambda time: float("inf") if time < 1800 else HOUR, job="replaced")
    assert [firing(tmp_path, [removed], [2 * HOUR])] == [[]]
    assert firing(tmp_path, [replaced], [HOUR, 2 * HOUR]) == [(2 * HOUR, "JobMissed", ["replaced"])]


def test_series_of_a_removed_job_ends_after_a_week(tmp_path: Path) -> None:
    removed = Instance(next_expected=lambda time: HOUR if time < 1800 else None)
    alerts = alerts_at(tmp_path, [removed], [2 * HOUR, 7 * DAY, 7 * DAY + 2 * HOUR])
    assert list(alerts.values()) == [{"JobMissed"}, {"JobMissed"}, set()]


def test_services_are_separate(tmp_path: Path) -> None:
    instances = [Instance(next_expected=lambda _: 2 * DAY), Instance(next_expected=lambda _: HOUR, job="other")]
    assert firing(tmp_path, instances, [2 * HOUR]) == [(2 * HOUR, "JobMissed", ["other"])]


SHORT_PROCESSES = PAGE.with_name("short-lived-processes.md")


@pytest.mark.parametrize(
    ("series", "value", "times"),
    [
        (
            'connectsoft_job_last_success_timestamp_seconds{job="reports",connectsoft_job_name="report"}',
            0,
            {25 * HOUR: 0, 27 * HOUR: 1},
        ),
        ('push_failure_time_seconds{job="reports"}', 0, {HOUR: 0}),
        ('push_failure_time_seconds{job="reports"}', 120, {HOUR: 1}),
    ],
)
def test_old_success_and_failed_push_of_short_processes_alert(
    tmp_path: Path, series: str, value: int, times: dict[int, int]
) -> None:
    [content] = re.findall(r"^```yaml\n(groups:.*?)^```$", SHORT_PROCESSES.read_text(), re.M | re.S)
    (tmp_path / "rules.yml").write_text(content)
    failed_push = [{"series": 'push_time_seconds{job="reports"}', "values": "60x1700"}]
    document: dict[str, Any] = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": series, "values": f"{value}x1700"}, *failed_push],
                "promql_expr_test": [
                    {
                        "expr": 'count(ALERTS{alertstate="firing"})',
                        "eval_time": f"{time}s",
                        "exp_samples": [{"labels": "{}", "value": count}] if count else [],
                    }
                    for time, count in times.items()
                ],
            }
        ],
    }
    (tmp_path / "tests.yml").write_bytes(orjson.dumps(document))
    command = [program_path("promtool"), "test", "rules", "tests.yml"]
    completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
