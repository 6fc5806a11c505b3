"""Declares the periodic tasks of Huey as job schedules."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from connectsoft_obs.work.schedule import JobSchedule
from connectsoft_obs.work.schedule_metrics import declare_schedule

SEARCH_DAYS = 32
"""Days in which a task must be due to be expected; a search over a year would take a second."""

_MINUTE = 60


def declare_periodic_tasks(huey: Any) -> None:
    """Declare the schedules of the tasks with a `crontab()` that is due at least once in `SEARCH_DAYS`.

    Other functions are not called: they can have side effects, or depend on more than the time.
    """
    for task in huey._registry.periodic_tasks:  # noqa: SLF001  Huey has no public list of tasks
        validate = inspect.getclosurevars(type(task).validate_datetime).nonlocals.get("validate_datetime")
        if validate is None or getattr(validate, "__qualname__", "") != "crontab.<locals>.validate_date":
            continue
        times = _CrontabTimes(validate, utc=bool(huey.utc))
        if times.is_regular:
            declare_schedule(JobSchedule(f"{type(task).__module__}.{task.name}", times))


class _CrontabTimes:
    """Times at which a crontab of Huey is due. Huey evaluates it once a minute.

    Args:
        validate: the function that `crontab()` returns.
        utc: whether it is evaluated in UTC; else in local time.
    """

    def __init__(self, validate: Callable[[datetime], bool], utc: bool) -> None:
        self._validate = validate
        self._zone = UTC if utc else None
        self._last = (math.inf, -math.inf)  # a time and the due time after it

    @property
    def is_regular(self) -> bool:
        """Whether the crontab is due within `SEARCH_DAYS` from now and after that."""
        due = self(datetime.now(UTC).timestamp())
        return self(due) < math.inf if due < math.inf else False

    def __call__(self, time: float) -> float:
        """The next due time after `time`; infinity if it is later than `SEARCH_DAYS`."""
        start, due = self._last
        if start <= time < due:
            return due
        first = (int(time) // _MINUTE + 1) * _MINUTE
        minutes = range(first, first + SEARCH_DAYS * 24 * 60 * _MINUTE, _MINUTE)
        due = next((float(minute) for minute in minutes if self._is_due(minute)), math.inf)
        self._last = (time, due)
        return due

    def _is_due(self, minute: int) -> bool:
        return self._validate(datetime.fromtimestamp(minute, self._zone))

    def __str__(self) -> str:
        return "crontab of Huey"
