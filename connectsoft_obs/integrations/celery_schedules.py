"""Declares the schedules of Celery's beat as job schedules."""

from __future__ import annotations

from typing import Any

from celery.schedules import crontab
from celery.schedules import schedule as every

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.work.schedule import JobSchedule
from connectsoft_obs.work.schedule_metrics import declare_schedule


def declare_beat_schedules(app: Any) -> None:
    """Declare the schedules of beat; a task with more than one entry has no single schedule and is left out."""
    entries: dict[str, list[Any]] = {}
    for entry in dict(app.conf.beat_schedule or {}).values():
        entries.setdefault(str(entry.get("task")), []).append(entry.get("schedule"))
    for task, schedules in entries.items():
        schedule = _schedule_of_entry(task, schedules[0], str(app.timezone)) if len(schedules) == 1 else None
        if schedule is not None:
            declare_schedule(schedule)


def _schedule_of_entry(task: str, schedule: Any, timezone: str) -> JobSchedule | None:
    """Return the schedule of a beat entry; None if it is neither a crontab nor an interval."""
    try:
        if isinstance(schedule, crontab):
            fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
            return JobSchedule(task, " ".join(str(getattr(schedule, f"_orig_{field}")) for field in fields), timezone)
        interval = (
            every(schedule).run_every if isinstance(schedule, int | float) else getattr(schedule, "run_every", schedule)
        )
        return JobSchedule(task, interval)
    except (ConfigurationError, AttributeError, TypeError):
        return None
