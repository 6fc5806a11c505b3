"""arq: job metrics and spans for jobs, producer spans, and endpoints and health for workers.

Call `install(WorkerSettings)` below the class that `arq` runs, and `install(pool)` where jobs are enqueued; the pool
that arq passes to jobs is instrumented automatically. The propagation headers are stored in the data of the job next to
the arguments, under a key that workers without this integration ignore.
"""

from __future__ import annotations

import functools
import os
import pickle
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import Any

from arq.connections import ArqRedis
from arq.constants import default_queue_name
from arq.cron import next_cron
from arq.worker import Retry, RetryJob, func

from connectsoft_obs.settings import load_settings
from connectsoft_obs.telemetry import resolve
from connectsoft_obs.vocabulary import Trigger
from connectsoft_obs.work.producers import Producer
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.schedule import JobSchedule
from connectsoft_obs.work.schedule_metrics import declare_schedule
from connectsoft_obs.work.task_queue import mark_retried, task_run
from connectsoft_obs.work.worker_process import WorkerProcess

SYSTEM = "redis"
JOB_TIMEOUT = 300.0
"""Default of arq for `job_timeout`, in seconds."""

_KEY = "connectsoft_obs"
_MARK = "_connectsoft_obs"
_ORIGINAL = "_connectsoft_obs_original"
"""Attribute of a wrapper with the function that it wraps; a settings class can inherit wrappers of another one."""

_sent_headers: ContextVar[dict[str, str] | None] = ContextVar("connectsoft-obs-arq-sent", default=None)
_received_headers: ContextVar[dict[str, str] | None] = ContextVar("connectsoft-obs-arq-received", default=None)


def install(target: Any, **settings: Any) -> None:
    """Instrument the worker of a settings class, or a pool that enqueues jobs. Later calls have no effect.

    Args:
        target: the settings class (or dict) of a worker, or the `ArqRedis` pool that enqueues jobs.
        settings: fields of `Settings` for the worker (`service="reports"`), as `configure()` takes them.

    Raises:
        ConfigurationError: a setting is invalid.
    """
    load_settings(os.environ, **settings)
    if isinstance(target, ArqRedis):
        _install_pool(target)
        return
    attributes = target if isinstance(target, dict) else vars(target)
    if _MARK not in attributes:
        _install_worker(_Options(target), settings)


class _Options:
    """Worker settings in a class or in a dict."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self.set(_MARK, True)

    def get(self, name: str, default: Any = None) -> Any:
        """Return an option."""
        if isinstance(self._target, dict):
            return self._target.get(name, default)
        return getattr(self._target, name, default)

    def set(self, name: str, value: Any) -> None:
        """Set an option."""
        if isinstance(self._target, dict):
            self._target[name] = value
        elif callable(value):
            setattr(self._target, name, staticmethod(value))
        else:
            setattr(self._target, name, value)


# --- Sending ----------------------------------------------------------------------------------------------------------
def _install_pool(pool: Any) -> None:
    if getattr(pool, _MARK, False):
        return
    setattr(pool, _MARK, True)
    enqueue, serialize = pool.enqueue_job, pool.job_serializer or pickle.dumps

    async def enqueue_job(function: str, *args: Any, **kwargs: Any) -> Any:
        queue = kwargs.get("_queue_name") or pool.default_queue_name or default_queue_name
        with Producer(resolve_or_none(), str(queue), SYSTEM) as headers:
            token = _sent_headers.set(headers)
            try:
                return await enqueue(function, *args, **kwargs)
            finally:
                _sent_headers.reset(token)

    def serialize_with_headers(data: dict[str, Any]) -> bytes:
        headers = _sent_headers.get()
        content: bytes = serialize({**data, _KEY: headers} if headers and "a" in data and "s" not in data else data)
        return content

    pool.enqueue_job = enqueue_job
    pool.job_serializer = serialize_with_headers


# --- Running ----------------------------------------------------------------------------------------------------------
def _install_worker(options: _Options, settings: dict[str, Any]) -> None:
    timeout = _seconds(options.get("job_timeout", JOB_TIMEOUT))
    queue = str(options.get("queue_name") or default_queue_name)
    functions = [func(function) for function in options.get("functions") or ()]
    options.set("functions", [_instrument(function, queue, timeout, Trigger.QUEUE) for function in functions])
    cron_jobs = list(options.get("cron_jobs") or ())
    options.set("cron_jobs", [_instrument(cron_job, queue, timeout, Trigger.TIMER) for cron_job in cron_jobs])
    deserialize = _original(options.get("job_deserializer")) or pickle.loads

    def deserialize_headers(content: bytes) -> dict[str, Any]:
        data: dict[str, Any] = deserialize(content)
        _received_headers.set(data.pop(_KEY, None) or None)
        return data

    setattr(deserialize_headers, _ORIGINAL, deserialize)
    options.set("job_deserializer", deserialize_headers)
    _install_lifecycle(options, settings, [_schedule(cron_job, options.get("timezone")) for cron_job in cron_jobs])


def _install_lifecycle(options: _Options, settings: dict[str, Any], schedules: list[JobSchedule]) -> None:
    startup_hook, shutdown_hook = _original(options.get("on_startup")), _original(options.get("on_shutdown"))
    worker_processes: dict[int, WorkerProcess] = {}  # by the identity of the context, which each worker has

    async def on_startup(ctx: dict[Any, Any]) -> None:
        worker_process = worker_processes[id(ctx)] = WorkerProcess(resolve(**settings))
        worker_process.start()
        for schedule in schedules:
            declare_schedule(schedule)
        if isinstance(ctx.get("redis"), ArqRedis):
            _install_pool(ctx["redis"])
        if startup_hook is not None:
            await startup_hook(ctx)

    async def on_shutdown(ctx: dict[Any, Any]) -> None:
        worker_process = worker_processes.pop(id(ctx), None)
        if worker_process is not None:
            worker_process.drain()
        if shutdown_hook is not None:
            await shutdown_hook(ctx)
        if worker_process is not None:
            worker_process.stop()

    setattr(on_startup, _ORIGINAL, startup_hook)
    setattr(on_shutdown, _ORIGINAL, shutdown_hook)
    options.set("on_startup", on_startup)
    options.set("on_shutdown", on_shutdown)


class _CronTimes:
    """Times at which a cron job of arq is due."""

    _FIELDS = ("month", "day", "weekday", "hour", "minute", "second", "microsecond")

    def __init__(self, cron_job: Any, timezone: tzinfo | None) -> None:
        self._fields = {name: getattr(cron_job, name) for name in self._FIELDS}
        self._timezone = timezone

    def __call__(self, time: float) -> float:
        """The next due time after `time`."""
        start = (
            datetime.fromtimestamp(time, self._timezone)
            if self._timezone
            else datetime.fromtimestamp(time).astimezone()
        )
        return next_cron(start, **self._fields).timestamp()

    def __str__(self) -> str:
        fields = (
            f"{name}={value}" for name, value in self._fields.items() if value is not None and name != "microsecond"
        )
        return " ".join(fields)


def _schedule(cron_job: Any, timezone: tzinfo | None) -> JobSchedule:
    return JobSchedule(cron_job.name, _CronTimes(cron_job, timezone))


def _instrument(function: Any, queue: str, timeout: float, trigger: Trigger) -> Any:
    """Return a copy of a function or cron job of arq whose calls are recorded as runs."""
    coroutine, name, limit = function.coroutine, function.name, function.timeout_s or timeout
    coroutine = _original(coroutine)

    @functools.wraps(coroutine)
    async def call(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> Any:
        identifier = str(ctx.get("job_id", ""))
        run = task_run(
            name,
            source=(SYSTEM, queue),
            identifier=identifier,
            headers=_received_headers.get(),
            sent_at=ctx.get("enqueue_time"),
            attempt=int(ctx.get("job_try") or 1),
            trigger=trigger,
            timeout=limit,
        )
        with run:
            try:
                return await coroutine(ctx, *args, **kwargs)
            except (Retry, RetryJob):
                mark_retried(run, identifier)
                raise

    setattr(call, _ORIGINAL, coroutine)
    return replace(function, coroutine=call)


def _original(function: Any) -> Any:
    return getattr(function, _ORIGINAL, function)


def _seconds(value: Any) -> float:
    return float(value.total_seconds() if hasattr(value, "total_seconds") else value)
