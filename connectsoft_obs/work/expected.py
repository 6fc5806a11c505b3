"""What is expected of scheduled jobs, as metrics: when each should have run next, did run last, and succeeded last."""

from __future__ import annotations

import weakref
from pathlib import Path
from time import time

from connectsoft_obs.telemetry import Telemetry, current, on_made
from connectsoft_obs.vocabulary import JOB_LAST_RUN, JOB_LAST_SUCCESS, JOB_NEXT_EXPECTED
from connectsoft_obs.work import schedule as schedules
from connectsoft_obs.work.schedule import Schedule
from connectsoft_obs.work.state import State


class Expected:
    """The scheduled jobs of one Telemetry. Thread-safe."""

    def __init__(self, telemetry: Telemetry) -> None:
        path = telemetry.settings.state_file
        self.state: State | None = None if path is None else State(Path(path), telemetry.ledger)
        self._telemetry = telemetry
        self._known: dict[str, Schedule] = {}

    def announce(self, schedule: Schedule) -> None:
        """A job is scheduled: it is expected from now on, or from its last run where a state file tells of one."""
        if self._known.get(schedule.job) is schedule:
            return
        self._known[schedule.job] = schedule
        moments = {} if self.state is None else self.state.of(schedule.job)
        family = self._telemetry.metrics.family
        for metric, name in ((JOB_LAST_RUN, "last_run"), (JOB_LAST_SUCCESS, "last_success")):
            if name in moments:
                family(metric).number(schedule.job).set(moments[name])
        began = moments.get("began")
        expected = schedule.due_after(time()) + schedule.grace if began is None else schedule.expected_after(began)
        family(JOB_NEXT_EXPECTED).number(schedule.job).set(expected)

    def began(self, schedule: Schedule) -> None:
        """A run has begun, so the next one is expected."""
        now = time()
        self._telemetry.metrics.family(JOB_NEXT_EXPECTED).number(schedule.job).set(schedule.expected_after(now))
        if self.state is not None:
            self.state.note(schedule.job, began=now)

    def settled(self, schedule: Schedule, success: bool) -> None:
        """A run has ended."""
        if self.state is not None:
            now = time()
            moments = {"last_run": now, "last_success": now} if success else {"last_run": now}
            self.state.note(schedule.job, **moments)


_expected: weakref.WeakKeyDictionary[Telemetry, Expected] = weakref.WeakKeyDictionary()


def expected(telemetry: Telemetry) -> Expected:
    """The scheduled jobs of a Telemetry."""
    known = _expected.get(telemetry)
    return _expected.setdefault(telemetry, Expected(telemetry)) if known is None else known


def declare(schedule: Schedule) -> None:
    """A job has a schedule: for the Telemetry there is, and for those that will be made."""
    schedules.declare(schedule)
    telemetry = current()
    if telemetry is not None:
        expected(telemetry).announce(schedule)


def _announce_all(telemetry: Telemetry) -> None:
    for schedule in schedules.declared():
        expected(telemetry).announce(schedule)


on_made(_announce_all)
