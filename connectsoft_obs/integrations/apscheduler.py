"""APScheduler 3: every scheduled function a run on a timer, every job's schedule expected, what was missed counted.

`install(scheduler)` before `scheduler.start()`. The executors' public `submit_job` is wrapped, because listeners are
told of a run only when it is over.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from apscheduler.events import EVENT_EXECUTOR_ADDED, EVENT_JOB_MISSED

from connectsoft_obs.signals.logs.levels import WARNING
from connectsoft_obs.telemetry import resolve
from connectsoft_obs.vocabulary import JOB_NEXT_EXPECTED, Trigger
from connectsoft_obs.work.job_recorder import job_recorder
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.run import Run
from connectsoft_obs.work.worker_process import use_running_loop

MISFIRE_GRACE = 300.0
"""Seconds after its time until a run counts as missed, where the job has no `misfire_grace_time`."""

_MARK = "_connectsoft_obs"


def install(scheduler: Any, **settings: Any) -> None:
    """Observe what a scheduler runs. Again changes nothing.

    The name of a job is its id where that was given, else the name of its function; ids made by APScheduler are random
    and no metric labels.

    Args:
        scheduler: a scheduler of APScheduler 3.
        settings: fields of `Settings` (`service="reports"`), as `configure()` takes them.
    """
    if getattr(scheduler, _MARK, None) is not None:
        return
    setattr(scheduler, _MARK, True)
    if settings:
        resolve(**settings)
    scheduler.add_listener(lambda event: _wrap(scheduler, event.alias), EVENT_EXECUTOR_ADDED)
    scheduler.add_listener(lambda event: _missed(scheduler, event), EVENT_JOB_MISSED)
    for alias in list(scheduler._executors):  # noqa: SLF001  those that were added before; there is no public list
        _wrap(scheduler, alias)


def _wrap(scheduler: Any, alias: str) -> None:
    executor = scheduler._executors[alias]  # noqa: SLF001
    if getattr(executor, _MARK, False):
        return
    setattr(executor, _MARK, True)
    submit = executor.submit_job

    def submit_job(job: Any, run_times: Any) -> Any:
        _expect(job)
        return submit(_wrapped_job(job), run_times)

    executor.submit_job = submit_job


def _wrapped_job(job: Any) -> Any:
    """The same job with a function of this module around its own, found by reference: process pools pickle it so."""
    around = _observed_async if inspect.iscoroutinefunction(_innermost(job.func)) else _observed
    twin = object.__new__(type(job))  # copying goes through pickling, which forgets the scheduler and the store
    for name in type(job).__slots__:
        if name != "__weakref__" and hasattr(job, name):
            object.__setattr__(twin, name, getattr(job, name))
    twin.func, twin.func_ref = around, f"{__name__}:{around.__name__}"
    twin.args = (_name(job), job.func, *job.args)
    return twin


def _observed(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with _run(name):
        return function(*args, **kwargs)


async def _observed_async(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with _run(name):
        return await function(*args, **kwargs)


def _run(name: str) -> Run:
    telemetry = resolve_or_none()
    if telemetry is None:
        return Run(None)
    use_running_loop(telemetry)
    return Run(job_recorder(telemetry, name, Trigger.TIMER))


def _expect(job: Any) -> None:
    """When the next run counts as missed, from the trigger itself."""
    telemetry = resolve_or_none()
    due = job.next_run_time
    if telemetry is not None and due is not None:
        grace = MISFIRE_GRACE if job.misfire_grace_time is None else float(job.misfire_grace_time)
        telemetry.metrics.family(JOB_NEXT_EXPECTED).number(_name(job)).set(due.timestamp() + grace)


def _missed(scheduler: Any, event: Any) -> None:
    telemetry = resolve_or_none()
    job = scheduler.get_job(event.job_id)
    if telemetry is not None:
        name = event.job_id if job is None else _name(job)
        facts = {"connectsoft.job.name": name, "scheduled": event.scheduled_run_time.isoformat()}
        telemetry.log(WARNING, "a scheduled run was missed", facts)


def _name(job: Any) -> str:
    made_up = len(job.id) == 32 and all(character in "0123456789abcdef" for character in job.id)
    return str(job.name if made_up else job.id)


def _innermost(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function
