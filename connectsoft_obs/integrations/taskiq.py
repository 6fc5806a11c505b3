"""taskiq: job metrics and spans for tasks, producer spans, and endpoints and health for worker processes.

Call `install(broker)` where the broker is created. It adds a middleware and wraps `broker.kick`, because middlewares are
not called for a kick that fails.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from taskiq import TaskiqMessage, TaskiqMiddleware, TaskiqResult

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.settings import load_settings
from connectsoft_obs.telemetry import resolve
from connectsoft_obs.vocabulary import Trigger
from connectsoft_obs.work.message import PROPAGATED_HEADERS
from connectsoft_obs.work.producers import Producer
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.run import Run
from connectsoft_obs.work.schedule import JobSchedule
from connectsoft_obs.work.schedule_metrics import declare_schedule
from connectsoft_obs.work.task_queue import mark_retried, task_run
from connectsoft_obs.work.worker_process import WorkerProcess

SYSTEMS = {"taskiq_redis": "redis", "taskiq_aio_pika": "rabbitmq", "taskiq_nats": "nats", "taskiq_aio_kafka": "kafka",
           "taskiq_aio_sqs": "aws_sqs"}  # fmt: skip
"""`messaging.system` by the package of the broker; `taskiq` for others."""

RETRIES = "_retries"
"""Label in which the retry middlewares of taskiq store the number of retries."""

_MARK = "_connectsoft_obs"
_pending_producer: ContextVar[_PendingProducer | None] = ContextVar("connectsoft-obs-taskiq-producer", default=None)


def install(broker: Any, **settings: Any) -> None:
    """Instrument a broker: the tasks it kicks, and the tasks its workers run. Later calls have no effect.

    Args:
        broker: the broker.
        settings: fields of `Settings` for the workers (`service="reports"`), as `configure()` takes them.

    Raises:
        ConfigurationError: a setting is invalid.
    """
    load_settings(os.environ, **settings)
    if getattr(broker, _MARK, False):
        return
    setattr(broker, _MARK, True)
    middleware = ObservabilityMiddleware(settings)
    broker.add_middlewares(middleware)
    kick = broker.kick

    async def kick_with_span(message: Any) -> None:
        producer = middleware.take_producer()
        error: BaseException | None = None
        try:
            await kick(message)
        except BaseException as failure:
            error = failure
            raise
        finally:
            if producer is not None:
                producer.end(error)

    broker.kick = kick_with_span


class _PendingProducer(NamedTuple):
    """The producer span of a task between `pre_send` and `kick`; middlewares can kick tasks of other brokers meanwhile."""

    middleware: ObservabilityMiddleware
    producer: Producer
    outer: _PendingProducer | None


@dataclass
class _Attempt:
    """An attempt of a task; the next one can begin before it has ended, and tasks can run inside others."""

    task_id: str
    run: Run
    outer: _Attempt | None
    error: BaseException | None = None


_innermost_attempt: ContextVar[_Attempt | None] = ContextVar("connectsoft-obs-taskiq-attempt", default=None)
"""The innermost attempt that the current asyncio task executes."""


def _current_attempt(message: TaskiqMessage) -> _Attempt | None:
    attempt = _innermost_attempt.get()
    return attempt if attempt is not None and attempt.task_id == message.task_id else None


class ObservabilityMiddleware(TaskiqMiddleware):
    """Middleware that records tasks. Safe for concurrent tasks of one event loop."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self._settings = settings
        self._worker_process: WorkerProcess | None = None

    def startup(self) -> None:
        """Start the endpoints of a worker process; processes that only kick tasks have none."""
        if self.broker.is_worker_process and self._worker_process is None:
            self._worker_process = WorkerProcess(resolve(**self._settings))
            self._worker_process.start()
            for name, task in self.broker.get_all_tasks().items():
                schedule = _schedule(name, task.labels.get("schedule")) if task.broker is self.broker else None
                if schedule is not None:
                    declare_schedule(schedule)

    def shutdown(self) -> None:
        """Stop the endpoints and export what is left."""
        worker_process, self._worker_process = self._worker_process, None
        if worker_process is not None:
            worker_process.stop()

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        """Start the producer span and add its headers to the labels of the task."""
        attempt = _current_attempt(message)
        headers = {} if attempt is None else mark_retried(attempt.run, message.task_id)
        producer = Producer(resolve_or_none(), self._queue(), self._system())
        message.labels.update({**headers, **producer.begin()})
        outer = _pending_producer.get()
        if outer is not None and outer.middleware is self:  # the previous task was not kicked
            outer = outer.outer
        _pending_producer.set(_PendingProducer(self, producer, outer))
        return message

    def take_producer(self) -> Producer | None:
        """Return the producer span of the task that is kicked."""
        pending = _pending_producer.get()
        if pending is None or pending.middleware is not self:
            return None
        _pending_producer.set(pending.outer)
        return pending.producer

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Start the run of a task, in the asyncio task that executes it."""
        labels = message.labels
        run = task_run(
            message.task_name,
            source=(self._system(), self._queue()),
            identifier=message.task_id,
            headers={name: labels.get(name) for name in PROPAGATED_HEADERS},
            attempt=int(labels.get(RETRIES) or 0) + 1,
            trigger=Trigger.TIMER if labels.get("schedule_id") else Trigger.QUEUE,
            timeout=_seconds(labels.get("timeout")),
        )
        _innermost_attempt.set(_Attempt(message.task_id, run.__enter__(), _innermost_attempt.get()))
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """End the run of a task."""
        attempt = _current_attempt(message)
        if attempt is not None:
            _innermost_attempt.set(attempt.outer)
            run, error = attempt.run, result.error if attempt.error is None else attempt.error
            run.timed_out = isinstance(error, TimeoutError) and run.deadline_passed
            run.__exit__(None if error is None else type(error), error, None)

    def on_error(self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException) -> None:
        """Keep the exception of a failed task; a retry middleware replaces it in the result."""
        if (attempt := _current_attempt(message)) is not None:
            attempt.error = exception

    def _queue(self) -> str:
        return str(getattr(self.broker, "queue_name", None) or "taskiq")

    def _system(self) -> str:
        return SYSTEMS.get(type(self.broker).__module__.partition(".")[0], "taskiq")


def _schedule(task: str, entries: Any) -> JobSchedule | None:
    """The schedule in the label of a task; None if there is none, or several, or a single time."""
    if not isinstance(entries, list | tuple) or len(entries) != 1:
        return None
    entry = entries[0]
    cron, offset, interval = entry.get("cron"), entry.get("cron_offset"), entry.get("interval")
    try:
        if cron and (offset is None or isinstance(offset, str)):
            return JobSchedule(task, cron, offset or "UTC")
        if interval:
            period = interval if isinstance(interval, timedelta) else timedelta(seconds=float(interval))
            return JobSchedule(task, period)
    except ConfigurationError:  # a cron expression that only the scheduler understands
        return None
    return None


def _seconds(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
