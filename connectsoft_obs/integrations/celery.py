"""Celery: job metrics and spans for tasks, producer spans, and endpoints and health for workers and beat.

Call `install(app)` where the app is created, in processes that send tasks and in processes that run them. It uses
Celery's signals and wraps `app.send_task`, because no signal reports a failed publish.
"""

from __future__ import annotations

import logging
import os
import sys
from contextvars import ContextVar
from typing import Any

from celery import signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.integrations.celery_liveness import WorkerProbes, monitor_beat
from connectsoft_obs.integrations.celery_schedules import declare_beat_schedules
from connectsoft_obs.integrations.celery_unfinished_tasks import TRIGGER, UnfinishedTasks, read_trigger
from connectsoft_obs.settings import load_settings
from connectsoft_obs.telemetry import Telemetry, resolve
from connectsoft_obs.vocabulary import Trigger
from connectsoft_obs.work.message import PROPAGATED_HEADERS
from connectsoft_obs.work.producers import Producer
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.run import Run
from connectsoft_obs.work.task_queue import mark_retried, task_run
from connectsoft_obs.work.worker_process import WorkerProcess

SYSTEMS = {"amqp": "rabbitmq", "pyamqp": "rabbitmq", "amqps": "rabbitmq", "": "rabbitmq", "rediss": "redis",
           "sentinel": "redis", "sqs": "aws_sqs", "azureservicebus": "servicebus", "gcpubsub": "gcp_pubsub"}  # fmt: skip
"""`messaging.system` of kombu's transports; other transports keep their kombu name."""

_MARK = "_connectsoft_obs"
_pending_producers: ContextVar[tuple[Any, list[Producer]] | None] = ContextVar(
    "connectsoft-obs-celery-producers", default=None
)
"""The app that sends, and the producer spans of the messages that it has published."""


def install(app: Any, **settings: Any) -> None:
    """Instrument a Celery app: the tasks it sends and runs, and its workers. Later calls have no effect.

    Args:
        app: the Celery app.
        settings: fields of `Settings` for the workers (`service="reports"`), as `configure()` takes them.

    Raises:
        ConfigurationError: a setting is invalid.
    """
    load_settings(os.environ, **settings)  # Celery logs exceptions of signal receivers and continues
    if getattr(app, _MARK, None) is None:
        setattr(app, _MARK, CeleryInstrumentation(app, settings))


class CeleryInstrumentation:
    """Signal receivers of one app. Celery sends each signal to the receivers of all apps in the process."""

    _running_instrumentation: CeleryInstrumentation | None = None
    """The instrumentation of the app whose worker or beat runs in this process."""

    def __init__(self, app: Any, settings: dict[str, Any]) -> None:
        self._app = app
        self._settings = settings
        self._runs: dict[int, Run] = {}  # by id of the request: two attempts of a task can overlap
        self._unfinished_tasks = UnfinishedTasks(app, self._source)
        self._worker_process: WorkerProcess | None = None
        self._worker_probes: WorkerProbes | None = None
        self._pid = os.getpid()
        self._is_beat = False
        self._send_task = app.send_task
        app.send_task = self._send
        for signal, receiver in (
            (signals.before_task_publish, self._before_task_publish),
            (signals.task_prerun, self._on_task_prerun),
            (signals.task_postrun, self._on_task_postrun),
            (signals.setup_logging, self._on_setup_logging),
            (signals.celeryd_init, self._on_worker_init),
            (signals.worker_ready, self._on_worker_ready),
            (signals.worker_shutting_down, self._on_worker_shutting_down),
            (signals.worker_shutdown, self._on_worker_shutdown),
            (signals.worker_process_init, self._on_child_init),
            (signals.worker_process_shutdown, self._on_child_shutdown),
            (signals.beat_init, self._on_beat_init),
        ):
            signal.connect(receiver, weak=False)

    # --- Sending -----------------------------------------------------------------------------------------------------
    def _send(self, *args: Any, **kwargs: Any) -> Any:
        """Call `app.send_task` and end the producer spans of the messages that it published."""
        producers: list[Producer] = []
        token = _pending_producers.set((self._app, producers))
        error: BaseException | None = None
        try:
            return self._send_task(*args, **kwargs)
        except BaseException as failure:
            error = failure
            raise
        finally:
            _pending_producers.reset(token)
            for producer in producers:
                producer.end(error)

    def _before_task_publish(
        self, headers: Any = None, exchange: Any = None, routing_key: Any = None, **_: Any
    ) -> None:
        app, producers = _pending_producers.get() or (None, [])
        if not isinstance(headers, dict) or app is None or app is not self._app:
            return
        request = getattr(app.current_task, "request", None)
        run = self._runs.get(id(request)) if request is not None and request.id == headers.get("id") else None
        if run is not None and headers.get("retries"):
            headers |= mark_retried(run, str(headers["id"]))
        producer = Producer(resolve_or_none(), str(routing_key or exchange or "celery"), self._system())
        headers |= producer.begin()
        producers.append(producer)
        if self._is_beat:
            headers[TRIGGER] = Trigger.TIMER.value

    def _source(self, delivery_info: Any) -> tuple[str, str]:
        """Messaging system and queue of a delivery."""
        queue = str(delivery_info.get("routing_key") or delivery_info.get("exchange") or "celery")
        return self._system(), queue

    def _system(self) -> str:
        scheme = str(self._app.conf.broker_url or "").partition("://")[0]
        return SYSTEMS.get(scheme, scheme)

    # --- Running -----------------------------------------------------------------------------------------------------
    def _on_task_prerun(self, task_id: str = "", task: Any = None, **_: Any) -> None:
        if task.app != self._app:
            return
        request = task.request
        headers = {name: request.get(name) for name in (*PROPAGATED_HEADERS, TRIGGER)}
        delivery_info = request.delivery_info or {}
        eager = bool(request.is_eager or request.called_directly)
        self._unfinished_tasks.on_task_start(task_id)
        run = task_run(
            task.name,
            source=None if eager else self._source(delivery_info),
            identifier=task_id,
            headers=headers,
            inline=eager,
            redelivered=bool(delivery_info.get("redelivered")),
            attempt=int(request.retries or 0) + 1,
            trigger=read_trigger(headers[TRIGGER]),
        )
        self._runs[id(request)] = run.__enter__()

    def _on_task_postrun(
        self, task_id: str = "", task: Any = None, state: str | None = None, retval: Any = None, **_: Any
    ) -> None:
        run = self._runs.pop(id(task.request), None)
        if run is None:
            return
        error = retval if isinstance(retval, BaseException) and state != "SUCCESS" else None
        if state is None:
            error = sys.exc_info()[1]  # the exception that terminates the process, for example SystemExit
            if os.getpid() != self._pid:  # the main process records the task, in UnfinishedTasks
                run.discard()
                return
        if state == "RETRY" or (isinstance(error, Reject) and error.requeue):
            mark_retried(run, task_id)
            error = getattr(error, "exc", None) or error
        elif isinstance(error, Ignore | Reject):
            run.skip_reason, error = str(error), None
        run.timed_out = isinstance(error, SoftTimeLimitExceeded)
        run.__exit__(type(error) if error is not None else None, error, None)

    # --- Workers -----------------------------------------------------------------------------------------------------
    def _on_worker_init(self, instance: Any = None, options: Any = None, **_: Any) -> None:
        if instance.app != self._app:
            return
        CeleryInstrumentation._running_instrumentation = self
        self._pid = os.getpid()
        telemetry = self._telemetry()
        if telemetry is not None:
            self._worker_process = WorkerProcess(telemetry)
            self._worker_process.join_children()
            self._unfinished_tasks.watch_cancellations()
            self._drain_before_soft_shutdown(instance)
            self._worker_probes = WorkerProbes(instance, self._worker_process)
            declare_beat_schedules(self._app, (options or {}).get("queues"))

    def _on_worker_ready(self, **_: Any) -> None:
        if self._worker_probes is not None:
            self._worker_probes.on_worker_ready()

    def _on_worker_shutting_down(self, **_: Any) -> None:
        if self._worker_process is not None:
            self._worker_process.drain()

    def _drain_before_soft_shutdown(self, worker: Any) -> None:
        """Drain as soon as a cold shutdown begins; its signal is sent after the soft shutdown and the end of the pool."""
        if (wait := getattr(worker, "wait_for_soft_shutdown", None)) is not None:

            def drain_and_wait(*args: Any, **kwargs: Any) -> Any:
                self._on_worker_shutting_down()
                return wait(*args, **kwargs)

            worker.wait_for_soft_shutdown = drain_and_wait

    def _on_worker_shutdown(self, **_: Any) -> None:
        worker_process, self._worker_process = self._worker_process, None
        if self._worker_probes is not None:
            self._worker_probes.stop()
        if worker_process is not None:
            CeleryInstrumentation._running_instrumentation = self._worker_probes = None
            worker_process.stop()

    def _on_child_init(self, **_: Any) -> None:
        if os.getpid() == self._pid or self._is_other_app_running():  # a pool of threads or greenlets; another app
            return
        self._worker_process = None
        if (telemetry := self._telemetry()) is not None:
            telemetry.serve()

    def _on_child_shutdown(self, **_: Any) -> None:
        if not self._is_other_app_running() and (telemetry := self._telemetry()) is not None:
            telemetry.flush(telemetry.settings.shutdown_timeout)

    def _on_setup_logging(self, loglevel: Any = None, **_: Any) -> None:
        """Set the log level; a receiver of this signal keeps Celery from adding its own log handlers."""
        if self._is_other_app_running():
            return
        if self._telemetry() is not None and isinstance(loglevel, int):
            logging.getLogger().setLevel(loglevel)

    def _is_other_app_running(self) -> bool:
        return CeleryInstrumentation._running_instrumentation not in (None, self)

    def _telemetry(self) -> Telemetry | None:
        try:
            return resolve(**self._settings)
        except ConfigurationError:
            return resolve_or_none()

    # --- Beat --------------------------------------------------------------------------------------------------------
    def _on_beat_init(self, sender: Any = None, **_: Any) -> None:
        """Mark tasks of this process as scheduled, and monitor the loop of beat.

        Beat declares no schedules: tasks run in the workers, so the expected times of beat would never be updated.
        """
        if sender.app != self._app:
            return
        self._is_beat = True
        telemetry = self._telemetry()
        if telemetry is None:
            return
        monitor_beat(WorkerProcess(telemetry), sender)
