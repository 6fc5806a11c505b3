"""Metrics of scheduled jobs: last run, last success, next expected."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from time import time

from connectsoft_obs.telemetry import Telemetry, current, on_configured
from connectsoft_obs.vocabulary import JOB_LAST_RUN, JOB_LAST_SUCCESS, JOB_NEXT_EXPECTED
from connectsoft_obs.work import schedule as schedules
from connectsoft_obs.work.schedule import JobSchedule
from connectsoft_obs.work.schedule_state_file import ScheduleStateFile


class ScheduleMetrics:
    """Metrics of the scheduled jobs of one Telemetry. Thread-safe."""

    def __init__(self, telemetry: Telemetry) -> None:
        path = telemetry.settings.schedule_state_file
        self.state_file: ScheduleStateFile | None = (
            None if path is None else ScheduleStateFile(Path(path), telemetry.internal_telemetry)
        )
        self._telemetry = telemetry
        self._announced: dict[str, JobSchedule] = {}

    def announce(self, schedule: JobSchedule) -> None:
        """Expect the next run of a job, counted from now or from the last run in the state file."""
        if self._announced.get(schedule.job) is schedule:
            return
        self._announced[schedule.job] = schedule
        timestamps = {} if self.state_file is None else self.state_file.last_runs(schedule.job)
        family = self._telemetry.metrics.family
        for metric, name in ((JOB_LAST_RUN, "last_run"), (JOB_LAST_SUCCESS, "last_success")):
            if name in timestamps:
                family(metric).number_series(schedule.job).set(timestamps[name])
        began = timestamps.get("began")
        expected = schedule.due_after(time()) + schedule.grace if began is None else schedule.expected_after(began)
        family(JOB_NEXT_EXPECTED).number_series(schedule.job).set(expected)

    def on_start(self, schedule: JobSchedule, on_killed: Callable[[float], None] | None) -> None:
        """Record the start of a run, and expect the next one.

        `on_killed` is called with the start time of each earlier run whose process was killed. None if another process
        records such runs.
        """
        now = time()
        self._telemetry.metrics.family(JOB_NEXT_EXPECTED).number_series(schedule.job).set(schedule.expected_after(now))
        if self.state_file is not None:
            self.state_file.begin_run(schedule.job, now, on_killed)

    def on_end(self, schedule: JobSchedule) -> None:
        """Record the end of a run, with or without an outcome."""
        if self.state_file is not None:
            self.state_file.end_run(schedule.job)

    def on_finish(self, schedule: JobSchedule, success: bool) -> None:
        """Record the outcome of a run."""
        if self.state_file is not None:
            now = time()
            timestamps = {"last_run": now, "last_success": now} if success else {"last_run": now}
            self.state_file.record(schedule.job, **timestamps)


_schedule_metrics: weakref.WeakKeyDictionary[Telemetry, ScheduleMetrics] = weakref.WeakKeyDictionary()


def schedule_metrics_of(telemetry: Telemetry) -> ScheduleMetrics:
    """The schedule metrics of a Telemetry; created on first use."""
    metrics = _schedule_metrics.get(telemetry)
    return _schedule_metrics.setdefault(telemetry, ScheduleMetrics(telemetry)) if metrics is None else metrics


def declare_schedule(schedule: JobSchedule) -> None:
    """Declare the schedule of a job, for the current Telemetry and those that are created later."""
    schedules.declare(schedule)
    telemetry = current()
    if telemetry is not None:
        schedule_metrics_of(telemetry).announce(schedule)


def _announce_declared(telemetry: Telemetry) -> None:
    for schedule in schedules.declared_schedules():
        schedule_metrics_of(telemetry).announce(schedule)


on_configured(_announce_declared)
