"""arq: every job a run, every enqueuing a span, every worker with endpoints and health.

`install(WorkerSettings)` under the class that `arq` runs, and `install(pool)` where jobs are enqueued; the pool that arq
gives to jobs is installed by itself. What the sender says travels in the job's data beside the arguments, under a key
that workers without this integration do not read.
"""

from __future__ import annotations

import functools
import pickle
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from arq.connections import ArqRedis
from arq.constants import default_queue_name
from arq.worker import Retry, RetryJob, func

from connectsoft_obs.telemetry import resolve
from connectsoft_obs.vocabulary import Trigger
from connectsoft_obs.work.producers import Producer
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.task_queue import mark_retried, task_run
from connectsoft_obs.work.worker_process import WorkerProcess

SYSTEM = "redis"
JOB_TIMEOUT = 300.0
"""arq's own default for `job_timeout`, seconds."""

_KEY = "connectsoft_obs"
_MARK = "_connectsoft_obs"
_sent: ContextVar[dict[str, str] | None] = ContextVar("connectsoft-obs-arq-sent", default=None)
_received: ContextVar[dict[str, str] | None] = ContextVar("connectsoft-obs-arq-received", default=None)


def install(target: Any, **settings: Any) -> None:
    """Observe the jobs of a settings class, or what is enqueued through a pool. Again changes nothing.

    Args:
        target: the settings class (or dict) of a worker, or the `ArqRedis` pool of whoever enqueues.
        settings: fields of `Settings` for the worker (`service="reports"`), as `configure()` takes them.
    """
    if isinstance(target, ArqRedis):
        _install_pool(target)
        return
    held = target if isinstance(target, dict) else vars(target)
    if _MARK not in held:
        _install_worker(_Options(target), settings)


class _Options:
    """The options of a worker, in a class or in a dict."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self.set(_MARK, True)

    def get(self, name: str, default: Any = None) -> Any:
        """An option."""
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
            token = _sent.set(headers)
            try:
                return await enqueue(function, *args, **kwargs)
            finally:
                _sent.reset(token)

    def serializer(data: dict[str, Any]) -> bytes:
        headers = _sent.get()
        written: bytes = serialize({**data, _KEY: headers} if headers and "a" in data and "s" not in data else data)
        return written

    pool.enqueue_job = enqueue_job
    pool.job_serializer = serializer


# --- Running ----------------------------------------------------------------------------------------------------------
def _install_worker(options: _Options, settings: dict[str, Any]) -> None:
    timeout = _seconds(options.get("job_timeout", JOB_TIMEOUT))
    queue = str(options.get("queue_name") or default_queue_name)
    functions = [func(function) for function in options.get("functions") or ()]
    options.set("functions", [_observed(one, queue, timeout, Trigger.QUEUE) for one in functions])
    crons = list(options.get("cron_jobs") or ())
    options.set("cron_jobs", [_observed(one, queue, timeout, Trigger.TIMER) for one in crons])
    deserialize = options.get("job_deserializer") or pickle.loads

    def deserializer(content: bytes) -> dict[str, Any]:
        data: dict[str, Any] = deserialize(content)
        _received.set(data.pop(_KEY, None) or None)
        return data

    options.set("job_deserializer", deserializer)
    _install_life(options, settings)


def _install_life(options: _Options, settings: dict[str, Any]) -> None:
    started, stopped = options.get("on_startup"), options.get("on_shutdown")
    serving: list[WorkerProcess] = []

    async def on_startup(ctx: dict[Any, Any]) -> None:
        one = WorkerProcess(resolve(**settings))
        serving.append(one)
        one.start()
        if isinstance(ctx.get("redis"), ArqRedis):
            _install_pool(ctx["redis"])
        if started is not None:
            await started(ctx)

    async def on_shutdown(ctx: dict[Any, Any]) -> None:
        for one in serving:
            one.telemetry.health.drain()
        if stopped is not None:
            await stopped(ctx)
        while serving:
            serving.pop().stop()

    options.set("on_startup", on_startup)
    options.set("on_shutdown", on_shutdown)


def _observed(one: Any, queue: str, timeout: float, trigger: Trigger) -> Any:
    """A function or cron job of arq's, whose calls are runs."""
    coroutine, name, limit = one.coroutine, one.name, one.timeout_s or timeout

    @functools.wraps(coroutine)
    async def call(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> Any:
        identifier = str(ctx.get("job_id", ""))
        run = task_run(
            name,
            source=(SYSTEM, queue),
            identifier=identifier,
            headers=_received.get(),
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

    return replace(one, coroutine=call)


def _seconds(value: Any) -> float:
    return float(value.total_seconds() if hasattr(value, "total_seconds") else value)
