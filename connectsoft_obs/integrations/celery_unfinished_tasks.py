"""Celery: tasks whose own process cannot record their end: killed, cancelled, revoked or expired tasks."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.exceptions import TimeLimitExceeded

from connectsoft_obs.vocabulary import Trigger
from connectsoft_obs.work.message import PROPAGATED_HEADERS
from connectsoft_obs.work.task_queue import task_run

TRIGGER = "connectsoft-trigger"
"""Header with the trigger of a task."""

_cancel_callbacks: list[Callable[[Any], None]] = []


class UnfinishedTasks:
    """Records tasks of an app that its main process ends or discards. Each task is recorded once.

    Args:
        app: the Celery app.
        source: returns messaging system and queue of a delivery.
    """

    def __init__(self, app: Any, source: Callable[[Any], tuple[str, str]]) -> None:
        self._app = app
        self._source = source
        self._pid = os.getpid()
        self._requests: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        for signal, receiver in (
            (signals.task_received, self._on_task_received),
            (signals.task_failure, self._on_worker_lost),
            (signals.task_revoked, self._on_task_revoked),
        ):
            signal.connect(receiver, weak=False)

    def watch_cancellations(self) -> None:
        """Record tasks that the worker cancels, for which Celery has no signal; call in the main process of a worker."""
        self._pid = os.getpid()
        if not _cancel_callbacks:
            _wrap_cancel()
        _cancel_callbacks.append(self._on_task_cancelled)

    def on_task_start(self, task_id: str) -> None:
        """Forget the request of a task that starts in this process, because this process records it."""
        self._requests.pop(task_id, None)

    def _on_task_received(self, request: Any = None, **_: Any) -> None:
        """Keep a weak reference to the request in the main process, which records tasks whose child process is lost."""
        if request.task.app == self._app:
            self._requests[str(request.id)] = request

    def _on_worker_lost(self, sender: Any = None, task_id: str = "", exception: Any = None, **_: Any) -> None:
        """Record a task whose child process was killed; only the main process can."""
        if type(exception).__name__ in ("TimeLimitExceeded", "WorkerLostError"):
            self._record_started(
                str(sender.name), task_id, exception, timed_out=isinstance(exception, TimeLimitExceeded)
            )

    def _on_task_revoked(
        self, sender: Any = None, request: Any = None, terminated: bool = False, expired: bool = False, **_: Any
    ) -> None:
        """Record a task that was revoked, or that has expired before it started."""
        if sender.app != self._app:
            return
        task_id = str(request.id)
        if terminated:
            self._record_started(str(sender.name), task_id, asyncio.CancelledError())
            return
        self._requests.pop(task_id, None)
        error = TimeoutError("the task expired before it started") if expired else asyncio.CancelledError()
        run = self._create_run(str(sender.name), task_id, request, self._source(request.get("delivery_info") or {}))
        run.timed_out = expired
        if run.begin():
            run.end(error)

    def _on_task_cancelled(self, request: Any) -> None:
        """Record a task that a cold shutdown or a lost connection has cancelled; with `acks_late` it runs again."""
        if os.getpid() == self._pid and request.task.app == self._app and request.time_start:
            will_run_again = bool(request.task.acks_late)
            self._record_started(str(request.name), str(request.id), asyncio.CancelledError(), retried=will_run_again)

    def _record_started(
        self, task: str, task_id: str, error: BaseException, *, timed_out: bool = False, retried: bool = False
    ) -> None:
        request = self._requests.pop(task_id, None)
        if request is None:  # recorded already: Celery reports a hard time limit twice
            return
        run = self._create_run(task, task_id, request.request_dict, None)
        run.timed_out, run.retried = timed_out, retried
        if run.begin():
            run.backdate_start(max(0.0, time.time() - request.time_start) if request.time_start else 0.0)
            run.end(error)

    @staticmethod
    def _create_run(task: str, task_id: str, message: Any, source: tuple[str, str] | None) -> Any:
        return task_run(
            task,
            source=source,
            identifier=task_id,
            headers={name: message.get(name) for name in PROPAGATED_HEADERS},
            attempt=int(message.get("retries") or 0) + 1,
            trigger=read_trigger(message.get(TRIGGER)),
            is_start_counted=source is None,
        )


def _wrap_cancel() -> None:
    from celery.worker.request import Request  # a process that only sends tasks does not import it

    cancel = Request.cancel

    def cancel_and_report(request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return cancel(request, *args, **kwargs)
        finally:
            for callback in _cancel_callbacks:
                callback(request)

    Request.cancel = cancel_and_report


def read_trigger(value: Any) -> Trigger:
    """The trigger in a header."""
    return Trigger.TIMER if value == Trigger.TIMER.value else Trigger.QUEUE
