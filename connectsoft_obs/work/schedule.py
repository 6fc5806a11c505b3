"""When a job should run: declared, not scheduled, so that a run that did not happen shows in a metric.

Cron expressions are read by cronsim, which follows Debian's cron to the letter where clocks change: a fixed time that
a change to summer time skips is run right after it, one that a change back repeats is run once, and `*` jobs run by
the clock on the wall.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from connectsoft_obs.errors import ConfigurationError

SLACK = 30.0
"""Seconds that a scheduler's clock may be ahead: a run that begins so little before its time is the run of that time."""


class JobSchedule:
    """The times at which a job is due.

    Args:
        job: name of the job.
        when: five fields of cron, or the time between two runs.
        timezone: IANA name of the zone that the fields are meant in.
        grace: seconds after which a run counts as missed.

    Raises:
        ConfigurationError: an expression, zone or grace that cannot work.
    """

    def __init__(self, job: str, when: str | timedelta, timezone: str = "UTC", grace: float = 300.0) -> None:
        self.job = job
        self.when = when
        self.grace = grace
        self._zone = _zone(timezone)
        if grace < 0:
            raise ConfigurationError(
                f"job({job!r}, grace={grace!r})", "a grace cannot be negative", "Give the seconds a run may be late."
            )
        if isinstance(when, timedelta):
            if when <= timedelta(0):
                raise ConfigurationError(
                    f"job({job!r}, schedule={when!r})", "time does not go backwards", "Give the time between two runs."
                )
        else:
            _checked(job, when)

    def __str__(self) -> str:
        return self.when if isinstance(self.when, str) else f"every {self.when.total_seconds():g} s"

    def due_after(self, moment: float) -> float:
        """The next time it is due after `moment`; Unix time in seconds, infinity for never."""
        if isinstance(self.when, timedelta):
            return moment + self.when.total_seconds()
        start = datetime.fromtimestamp(moment, self._zone)
        from cronsim import CronSim

        found = next(CronSim(self.when, start), None)
        return float("inf") if found is None else found.timestamp()

    def expected_after(self, began: float) -> float:
        """When the run after one that began at `began` counts as missed; Unix time in seconds."""
        due = self.due_after(began)
        if due - began <= min(SLACK, (self.due_after(due) - due) / 2):  # it began a little early, for this very time
            due = self.due_after(due)
        return due + self.grace


_declared: dict[str, JobSchedule] = {}


def declare(schedule: JobSchedule) -> None:
    """A job has a schedule; declared again (after a reload) the new one counts."""
    _declared[schedule.job] = schedule


def declared() -> list[JobSchedule]:
    """Every schedule that code has declared so far."""
    return list(_declared.values())


def schedule_of(job: str) -> JobSchedule | None:
    """The schedule of a job, if it has one."""
    return _declared.get(job)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ConfigurationError(
            f"timezone={name!r}",
            "there is no such time zone here",
            "Use an IANA name such as Europe/Berlin; where the system has no zones, pip install tzdata.",
        ) from None


def _checked(job: str, expression: str) -> None:
    from cronsim import CronSim, CronSimError  # where a job is scheduled

    try:
        CronSim(expression, datetime.now(UTC))
    except CronSimError as error:
        raise ConfigurationError(
            f"job({job!r}, schedule={expression!r})",
            f"it is no cron expression ({error})",
            'Give minute, hour, day of month, month and day of week, such as "0 2 * * *".',
        ) from None
