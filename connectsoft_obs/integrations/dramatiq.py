"""Dramatiq: job metrics and spans for messages, producer spans, and endpoints and health for worker processes.

Call `install(broker)` where the broker is created. It adds a middleware and wraps `broker.enqueue`, because middlewares
are not called for a message that cannot be enqueued.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

from dramatiq.middleware import AgeLimit, Middleware, MiddlewareError, Shutdown, TimeLimitExceeded
from dramatiq.worker import ConsumerThread, WorkerThread

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.settings import load_settings
from connectsoft_obs.telemetry import Telemetry, resolve
from connectsoft_obs.work.loop_monitor import CHECK_INTERVAL, LoopMonitor
from connectsoft_obs.work.producers import Producer
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.run import Run
from connectsoft_obs.work.task_queue import mark_retried, task_run
from connectsoft_obs.work.worker_process import WorkerProcess

SYSTEMS = {"RedisBroker": "redis", "RabbitmqBroker": "rabbitmq"}
"""`messaging.system` by the class of the broker; `dramatiq` for others."""

LOOP_TIMEOUT = 60.0
"""Seconds without progress of any worker thread after which a worker counts as stalled."""

BROKER_WAIT_LIMIT = 10.0
"""Seconds for which all worker threads wait for the broker after which readiness fails."""

_KEY = "connectsoft_obs"
"""Option of a message with the propagation headers."""

_MARK = "_connectsoft_obs"


def install(broker: Any, **settings: Any) -> None:
    """Instrument a broker: the messages it enqueues, and those its workers process. Later calls have no effect.

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
    middleware = ObservabilityMiddleware(broker, settings)
    # The first middleware starts a run before the others and ends it after them, when retries have been decided.
    first = type(broker.middleware[0]) if broker.middleware else None
    broker.add_middleware(middleware, before=first)
    enqueue = broker.enqueue

    def enqueue_with_span(message: Any, *, delay: int | None = None) -> Any:
        if isinstance(threading.current_thread(), ConsumerThread):  # moves a message whose delay is over
            return enqueue(message, delay=delay)
        previous_headers = middleware.mark_retried(message)
        with Producer(resolve_or_none(), str(message.queue_name), middleware.system) as headers:
            return enqueue(message.copy(options={_KEY: {**previous_headers, **headers}}), delay=delay)

    broker.enqueue = enqueue_with_span


class WorkerConfigurationError(ConfigurationError, MiddlewareError):
    """The settings of a worker are invalid. Dramatiq re-raises only exceptions of its type `MiddlewareError`."""


class ObservabilityMiddleware(Middleware):
    """Middleware that records messages. Thread-safe."""

    def __init__(self, broker: Any, settings: dict[str, Any]) -> None:
        self.system: str = next(
            (SYSTEMS[cls.__name__] for cls in type(broker).__mro__ if cls.__name__ in SYSTEMS), "dramatiq"
        )
        self._settings = settings
        self._attempts: dict[int, tuple[str, Run]] = {}  # message id and run by thread
        self._workers: dict[int, _RunningWorker] = {}  # by id of the queue, which a worker and its threads share

    def mark_retried(self, message: Any) -> dict[str, str]:
        """Mark the run of this thread as retried if it enqueues its own message, and return the header of the link."""
        message_id, run = self._attempts.get(threading.get_ident(), ("", None))
        return {} if run is None or message_id != message.message_id else mark_retried(run, message_id)

    # --- Messages ----------------------------------------------------------------------------------------------------
    def before_process_message(self, broker: Any, message: Any) -> None:
        """Start the run of a message, in the thread that processes it."""
        options = message.options
        run = task_run(
            str(message.actor_name),
            source=(self.system, str(message.queue_name)),
            identifier=str(message.message_id),
            headers=options.get(_KEY),
            attempt=int(options.get("retries") or 0) + 1,
        )
        self._attempts[threading.get_ident()] = (message.message_id, run.__enter__())

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """End the run of a message."""
        _, run = self._attempts.pop(threading.get_ident(), ("", None))
        if run is None:
            return
        if exception is None and message.failed:
            run.skip_reason = "the message was rejected"
        run.timed_out = isinstance(exception, TimeLimitExceeded)
        error = asyncio.CancelledError() if isinstance(exception, Shutdown) else exception
        run.__exit__(None if error is None else type(error), error, None)

    def after_skip_message(self, broker: Any, message: Any) -> None:
        """End the run of a message that a middleware has skipped, or whose age limit has passed."""
        _, run = self._attempts.pop(threading.get_ident(), ("", None))
        if run is None:
            return
        error: BaseException | None = None
        if message.failed and _is_too_old(broker, message):
            run.timed_out, error = True, TimeoutError("the message expired before it was processed")
        else:
            run.skip_reason = "a middleware skipped the message"
        run.__exit__(None if error is None else type(error), error, None)

    # --- Workers -----------------------------------------------------------------------------------------------------
    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        """Start the endpoints of a worker process, and monitor its threads."""
        try:
            telemetry = resolve(**self._settings)
        except ConfigurationError as error:
            raise WorkerConfigurationError(*error.args) from None
        self._workers[id(worker.work_queue)] = _RunningWorker(worker, telemetry)

    def after_worker_thread_boot(self, broker: Any, thread: Any) -> None:
        """Monitor a worker thread while it is paused."""
        if (running_worker := self._workers.get(id(thread.work_queue))) is not None:
            running_worker.monitor_pauses(thread)

    def before_ack(self, broker: Any, message: Any) -> None:
        """Record that a worker thread waits for the broker."""
        thread = threading.current_thread()
        if (
            isinstance(thread, WorkerThread)
            and (running_worker := self._workers.get(id(thread.work_queue))) is not None
        ):
            running_worker.on_acknowledge()

    before_nack = before_ack

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Fail readiness; active messages are completed."""
        if (running_worker := self._workers.get(id(worker.work_queue))) is not None:
            running_worker.drain()

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Stop the endpoints and export what is left."""
        if (running_worker := self._workers.pop(id(worker.work_queue), None)) is not None:
            running_worker.stop()


class _RunningWorker:
    """A worker that runs, with the endpoints of its process, and monitors of its threads.

    A worker thread wakes up every `worker_timeout`, whether or not the broker replies, and also while it is paused.
    """

    def __init__(self, worker: Any, telemetry: Telemetry) -> None:
        self._worker_process = WorkerProcess(telemetry)
        self._worker_process.start()
        self._worker = worker
        self._pid = os.getpid()
        self._waiting_since: dict[int, float] = {}  # threads that acknowledge a message
        monitor = self._monitor = LoopMonitor(
            telemetry,
            "dramatiq-worker",
            limit=LOOP_TIMEOUT + worker.worker_timeout / 1000,
            wait_limit=BROKER_WAIT_LIMIT,
            is_disconnected=self._is_waiting_for_broker,
            runs_jobs=True,
        )
        telemetry.health.add_liveness_watch("dramatiq-threads", self._ended_threads)
        get = worker.work_queue.get

        def get_and_beat(*args: Any, **kwargs: Any) -> Any:
            self._waiting_since.pop(threading.get_ident(), None)
            monitor.beat()
            return get(*args, **kwargs)

        worker.work_queue.get = get_and_beat

    def monitor_pauses(self, thread: Any) -> None:
        """Count each iteration of a paused thread as progress; the thread sets its event in each of them."""
        set_event = thread.paused_event.set

        def set_and_beat() -> None:
            self._monitor.beat()
            set_event()

        thread.paused_event.set = set_and_beat

    def on_acknowledge(self) -> None:
        """Record that this thread waits for the broker, until it takes the next message."""
        self._waiting_since.setdefault(threading.get_ident(), time.monotonic())

    def drain(self) -> None:
        """Fail readiness, and stop monitoring threads, which end now."""
        self._monitor.stop()
        self._worker_process.drain()

    def stop(self) -> None:
        """Stop the endpoints, and export what is left."""
        self._worker_process.stop()

    def _is_waiting_for_broker(self) -> bool:
        """Whether all threads have waited for the broker for longer than one check."""
        since = time.monotonic() - CHECK_INTERVAL
        waiting = [start for start in list(self._waiting_since.values()) if start < since]
        return len(waiting) >= max(1, int(self._worker.worker_threads))

    def _ended_threads(self) -> str:
        """Which threads have ended without being stopped; Dramatiq does not start others."""
        if os.getpid() != self._pid:  # threads do not exist in a forked child
            return ""
        threads = (*self._worker.workers, *list(self._worker.consumers.values()))
        ended = [type(thread).__name__ for thread in threads if thread.running and not thread.is_alive()]
        return f"threads of the worker have ended: {', '.join(ended)}" if ended else ""


def _is_too_old(broker: Any, message: Any) -> bool:
    """Whether the age limit of a message has passed, as `AgeLimit` computes it."""
    default = next((middleware.max_age for middleware in broker.middleware if isinstance(middleware, AgeLimit)), None)
    actor = broker.actors.get(message.actor_name)
    max_age = message.options.get("max_age") or (default if actor is None else actor.options.get("max_age", default))
    return bool(max_age and time.time() * 1000 - message.message_timestamp >= max_age)
