"""Declared schedules of jobs, used to detect missed runs; nothing is scheduled here.

Cron expressions are evaluated by cronsim, which follows Debian's cron at clock changes: a fixed time that is skipped when
summer time starts is due right after it, one that is repeated when summer time ends is due once, and `*` jobs follow local
time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo

from connectsoft_obs.errors import ConfigurationError

EARLY_START_TOLERANCE = 30.0
"""Seconds by which the clock of a scheduler can be ahead: a run that starts this early counts for its due time."""


class JobSchedule:
    """Times at which a job is due.

    Args:
        job: name of the job.
        when: cron expression with five fields, the interval between runs, or a function that returns the next due time
            after a time, both Unix time in seconds.
        timezone: IANA time zone of the cron expression.
        grace: seconds after the due time until a run counts as missed.

    Raises:
        ConfigurationError: the expression, time zone or grace is invalid.
    """

    def __init__(
        self, job: str, when: str | timedelta | Callable[[float], float], timezone: str = "UTC", grace: float = 300.0
    ) -> None:
        self.job = job
        self._when = when
        self.grace = grace
        self._zone = _load_zone(timezone)
        if grace < 0:
            raise ConfigurationError(
                f"job({job!r}, grace={grace!r})",
                "the grace must not be negative",
                "Set the number of seconds that a run can be late.",
            )
        if isinstance(when, timedelta):
            if when <= timedelta(0):
                raise ConfigurationError(
                    f"job({job!r}, schedule={when!r})",
                    "the interval must be positive",
                    "Set the interval between two runs.",
                )
        elif isinstance(when, str):
            _validate_cron(job, when)

    def __str__(self) -> str:
        return f"every {self._when.total_seconds():g} s" if isinstance(self._when, timedelta) else str(self._when)

    def due_after(self, time: float) -> float:
        """Next due time after `time`; Unix time in seconds, infinity for never."""
        if isinstance(self._when, timedelta):
            return time + self._when.total_seconds()
        if not isinstance(self._when, str):
            return self._when(time)
        start = datetime.fromtimestamp(time, self._zone)
        from cronsim import CronSim

        due = next(CronSim(self._when, start), None)
        return float("inf") if due is None else due.timestamp()

    def expected_after(self, start: float) -> float:
        """Time from which on the run after one that started at `start` counts as missed; Unix time in seconds."""
        due = self.due_after(start)
        if due - start <= min(
            EARLY_START_TOLERANCE, (self.due_after(due) - due) / 2
        ):  # the run started early, for this due time
            due = self.due_after(due)
        return due + self.grace


_declared: dict[str, JobSchedule] = {}


def declare(schedule: JobSchedule) -> None:
    """Declare the schedule of a job; a later declaration (after a reload) replaces it."""
    _declared[schedule.job] = schedule


def declared_schedules() -> list[JobSchedule]:
    """All declared schedules."""
    return list(_declared.values())


def schedule_of(job: str) -> JobSchedule | None:
    """The schedule of a job, or None."""
    return _declared.get(job)


def _load_zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ConfigurationError(
            f"timezone={name!r}",
            "unknown time zone",
            "Use an IANA name such as Europe/Berlin; if the system has no time zone data, install tzdata.",
        ) from None


def _validate_cron(job: str, expression: str) -> None:
    from cronsim import CronSim, CronSimError  # imported only if a job has a cron schedule

    try:
        CronSim(expression, datetime.now(UTC))
    except CronSimError as error:
        raise ConfigurationError(
            f"job({job!r}, schedule={expression!r})",
            f"it is not a cron expression ({error})",
            'Use minute, hour, day of month, month and day of week, such as "0 2 * * *".',
        ) from None
