"""Huey: job metrics and spans for tasks, producer spans, and endpoints and health for consumers.

Call `install(huey)` where the `Huey` instance is created, in processes that send tasks and in processes that run them. It
uses Huey's signals and hooks, and wraps methods of the instance where a signal is missing.

Messages of Huey have no headers. The propagation headers are an attribute of the dict with the keyword arguments: pickle
stores it, and consumers without this integration and other serializers ignore it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

from huey.api import Huey, PeriodicTask, Task
from huey.exceptions import TaskTimeout

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.integrations.huey_consumer import ConsumerInstrumentation
from connectsoft_obs.integrations.huey_worker_processes import CurrentTasks
from connectsoft_obs.settings import load_settings
from connectsoft_obs.vocabulary import SENT_HEADER, Trigger
from connectsoft_obs.work.message import to_unix_seconds
from connectsoft_obs.work.producers import Producer
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.run import Run
from connectsoft_obs.work.task_queue import mark_retried, task_run

SYSTEMS = {"RedisStorage": "redis", "PostgresStorage": "postgresql", "SqliteStorage": "sqlite"}
"""`messaging.system` by the class of the storage; `huey` for others."""

ATTEMPT, TRIGGER = "connectsoft-attempt", "connectsoft-trigger"
"""Headers with the number of the attempt and with the trigger of a task."""

_MARK = "_connectsoft_obs"
_HEADERS = "_connectsoft_obs_headers"
"""Attribute with the headers, of a task and of the dict with its keyword arguments."""

_TRIGGER = "_connectsoft_obs_trigger"

_SKIP_REASONS = {
    "canceled": "the task was canceled",
    "locked": "the lock of the task is not available",
    "rate-limited": "the rate limit of the task is exceeded",
}


def install(huey: Any, **settings: Any) -> None:
    """Instrument a Huey instance: the tasks it sends and runs, and its consumers. Later calls have no effect.

    Args:
        huey: the `Huey` instance.
        settings: fields of `Settings` for the consumers (`service="reports"`), as `configure()` takes them.

    Raises:
        ConfigurationError: the object is not a Huey instance, or a setting is invalid.
    """
    if not isinstance(huey, Huey):
        raise ConfigurationError(
            f"install({type(huey).__name__})", "it is not a Huey instance", "Pass the instance that has the tasks."
        )
    if getattr(huey, _MARK, None) is None:
        load_settings({}, **settings)
        current_tasks = CurrentTasks()
        setattr(huey, _MARK, HueyInstrumentation(huey, current_tasks))
        ConsumerInstrumentation(huey, settings, current_tasks)


class HueyInstrumentation:
    """Wrappers and signal receivers of one Huey instance. Thread-safe."""

    def __init__(self, huey: Any, current_tasks: CurrentTasks) -> None:
        self._huey = huey
        self._current_tasks = current_tasks
        self._attempts: dict[int, _Attempt] = {}  # by the identity of the task
        self._enqueue, self._execute_task = huey.enqueue, huey.execute
        self._serialize_task, self._deserialize_task = huey.serialize_task, huey.deserialize_task
        self._read_periodic = huey.read_periodic
        huey.enqueue, huey.execute = self._send, self._execute
        huey.serialize_task, huey.deserialize_task = self._serialize, self._deserialize
        huey.read_periodic = self._read_periodic_tasks
        huey.post_execute(name=_MARK)(self._on_post_execute)
        for names, receiver in (
            (("executing", "revoked", "expired"), self._on_start),
            (("error", "timeout", *_SKIP_REASONS), self._on_outcome),
            (("interrupted",), self._on_interrupted),
            (("retrying",), self._on_retrying),
        ):
            huey.signal(*names)(receiver)

    # --- Sending -----------------------------------------------------------------------------------------------------
    def _send(self, task: Any) -> Any:
        # A task with headers comes from the queue: it is retried, or its time has come. Groups and chords call this again.
        if not isinstance(task, Task) or self._huey.immediate or hasattr(task, _HEADERS):
            return self._enqueue(task)
        with Producer(resolve_or_none(), *self._destination()) as headers:
            if (trigger := getattr(task, _TRIGGER, None)) is not None:
                headers[TRIGGER] = trigger
            setattr(task, _HEADERS, headers)
            try:
                return self._enqueue(task)
            finally:
                delattr(task, _HEADERS)

    def _read_periodic_tasks(self, *args: Any, **kwargs: Any) -> Any:
        """Read the periodic tasks that are due, and mark them, because an application can send them too."""
        tasks = self._read_periodic(*args, **kwargs)
        for task in tasks:
            setattr(task, _TRIGGER, Trigger.TIMER.value)
        return tasks

    def _serialize(self, task: Any) -> Any:
        headers, kwargs = getattr(task, _HEADERS, None), task.kwargs
        if not headers:
            return self._serialize_task(task)
        task.kwargs = OrderedDict(kwargs)  # a dict that can have attributes
        setattr(task.kwargs, _HEADERS, headers)
        try:
            return self._serialize_task(task)
        finally:
            task.kwargs = kwargs

    def _deserialize(self, data: Any) -> Any:
        task = self._deserialize_task(data)
        headers = getattr(task.kwargs, _HEADERS, None)
        if headers is not None:
            task.kwargs = dict(task.kwargs)
        setattr(task, _HEADERS, headers or {})
        return task

    def _destination(self) -> tuple[str, str]:
        """Name of the queue and messaging system."""
        storages = type(self._huey.storage).__mro__
        return str(self._huey.name), next(
            (SYSTEMS[cls.__name__] for cls in storages if cls.__name__ in SYSTEMS), "huey"
        )

    # --- Running -----------------------------------------------------------------------------------------------------
    def _execute(self, task: Any, timestamp: Any = None) -> Any:
        """Execute a task; its signals start the run and determine the outcome."""
        error: BaseException | None = None
        try:
            return self._execute_task(task, timestamp)
        except BaseException as failure:  # for example, the result cannot be stored
            error = failure
            raise
        finally:
            attempt = self._attempts.pop(id(task), None)
            if attempt is not None:
                attempt.end(error)
                self._current_tasks.clear()

    def _on_start(self, signal: str, task: Any) -> None:
        """Start the run of a task, also of one that is not executed, in the thread that executes it."""
        headers = dict(getattr(task, _HEADERS, None) or {})
        number = int(headers.pop(ATTEMPT, 1))
        is_periodic = isinstance(task, PeriodicTask) and (not headers or TRIGGER in headers)
        queue, system = self._destination()
        immediate = bool(self._huey.immediate)
        job = f"{type(task).__module__}.{task.name}"
        trigger = Trigger.TIMER if is_periodic and not immediate else Trigger.QUEUE
        run = task_run(
            job,
            source=None if immediate else (system, queue),
            identifier=str(task.id),
            headers=headers,
            sent_at=self._sent_at(task, headers),
            attempt=number,
            trigger=trigger,
            inline=immediate,
        )
        attempt = self._attempts[id(task)] = _Attempt(run, number)
        if signal == "revoked":
            attempt.error = asyncio.CancelledError()
        elif signal == "expired":
            attempt.set_timeout(TimeoutError("the task expired before it started"))
        self._current_tasks.store(job, str(task.id), headers, number, trigger)
        run.__enter__()

    def _sent_at(self, task: Any, headers: dict[str, str]) -> float | None:
        """Unix time at which the task was sent, or from which on it can run."""
        sent = to_unix_seconds(headers.get(SENT_HEADER))
        if task.eta is None:
            return sent
        eta = task.eta.replace(tzinfo=UTC) if self._huey.utc else task.eta
        return max(float(eta.timestamp()), sent or 0.0)

    def _on_outcome(self, signal: str, task: Any, error: BaseException | None = None) -> None:
        attempt = self._attempts.get(id(task))
        if attempt is None:
            return
        if signal == "timeout":
            attempt.set_timeout(TaskTimeout(f"timeout ({task.timeout}s)"))
        attempt.run.skip_reason = _SKIP_REASONS.get(signal)
        attempt.error = attempt.error or error

    def _on_post_execute(self, task: Any, _value: Any, error: BaseException | None) -> None:
        """Record an exception without a signal of its own, such as `RetryTask`."""
        attempt = self._attempts.get(id(task))
        if attempt is not None and attempt.error is None and attempt.run.skip_reason is None:
            attempt.error = error

    def _on_retrying(self, _signal: str, task: Any) -> None:
        """Mark the run as retried, before Huey serializes the next attempt."""
        attempt = self._attempts.get(id(task))
        if attempt is not None:
            link = mark_retried(attempt.run, str(task.id))
            sent = {SENT_HEADER: datetime.now(UTC).isoformat()}
            setattr(task, _HEADERS, {**getattr(task, _HEADERS, {}), **link, **sent, ATTEMPT: str(attempt.number + 1)})

    def _on_interrupted(self, _signal: str, task: Any) -> None:
        """End the run of an interrupted task; with worker threads, in the main thread, because the task still runs."""
        attempt = self._attempts.pop(id(task), None)
        if attempt is not None:
            attempt.run.end(asyncio.CancelledError())
            self._current_tasks.clear()


class _Attempt:
    """An attempt of a task: its run, and the exception that ended it."""

    def __init__(self, run: Run, number: int) -> None:
        self.run = run
        self.number = number
        self.error: BaseException | None = None

    def set_timeout(self, error: BaseException) -> None:
        """Record that a time limit has ended the attempt."""
        self.run.timed_out, self.error = True, error

    def end(self, error: BaseException | None) -> None:
        """End the run in the thread that has started it, with an exception that left Huey if the task raised none."""
        error = self.error or error
        self.run.__exit__(None if error is None else type(error), error, None)
