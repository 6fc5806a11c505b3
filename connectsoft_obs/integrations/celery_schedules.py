"""Declares the schedules of Celery's beat as job schedules."""

from __future__ import annotations

from typing import Any

from celery.schedules import crontab
from celery.schedules import schedule as every

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.work.schedule import JobSchedule
from connectsoft_obs.work.schedule_metrics import declare_schedule


def declare_beat_schedules(app: Any, queues: Any = None) -> None:
    """Declare the schedules of the tasks that a worker runs.

    Tasks of other queues are omitted, and tasks with several entries, because they have no single schedule.

    Args:
        app: the Celery app.
        queues: names of the queues of the worker, as a list or separated by commas; all queues if empty.
    """
    names = {name.strip() for name in (queues.split(",") if isinstance(queues, str) else queues or ())}
    entries: dict[str, list[Any]] = {}
    for entry in dict(app.conf.beat_schedule or {}).values():
        entries.setdefault(str(entry.get("task")), []).append(entry)
    for task, [entry, *others] in entries.items():
        if others or (names and (queue := _queue_of_entry(app, task, entry)) is not None and queue not in names):
            continue
        if (schedule := _schedule_of_entry(task, entry.get("schedule"), str(app.timezone))) is not None:
            declare_schedule(schedule)


def _queue_of_entry(app: Any, task: str, entry: Any) -> str | None:
    """The queue to which beat sends a task; None if routes are functions or patterns. Celery's router creates queues."""
    routes = app.conf.task_routes or {}
    if not isinstance(routes, dict) or any(not isinstance(name, str) or "*" in name for name in routes):
        return None
    route = routes.get(task)
    routed = route if isinstance(route, str) or route is None else route.get("queue")
    options = entry.get("options") or {}
    queue = options.get("queue") or routed or getattr(app.tasks.get(task), "queue", None) or app.conf.task_default_queue
    return str(getattr(queue, "name", queue))


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
