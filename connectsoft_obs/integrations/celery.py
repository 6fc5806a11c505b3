"""Celery: every task a run, every publishing a span, every worker and beat with endpoints, health and an orderly end.

`install(app)` where the app is made; the same line serves those who send tasks and those who run them. It uses
Celery's signals, and wraps `app.send_task`, because no signal tells of a publishing that failed.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import weakref
from contextvars import ContextVar
from typing import Any

from celery import signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded, TimeLimitExceeded
from celery.schedules import crontab
from celery.schedules import schedule as every

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.telemetry import Telemetry, resolve
from connectsoft_obs.vocabulary import Trigger
from connectsoft_obs.work.heartbeats import heartbeat
from connectsoft_obs.work.message import PROPAGATED_HEADERS
from connectsoft_obs.work.producers import Producer
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.run import Run
from connectsoft_obs.work.schedule import JobSchedule
from connectsoft_obs.work.schedule_metrics import declare_schedule
from connectsoft_obs.work.task_queue import mark_retried, task_run
from connectsoft_obs.work.worker_process import WorkerProcess

SYSTEMS = {"amqp": "rabbitmq", "pyamqp": "rabbitmq", "amqps": "rabbitmq", "": "rabbitmq", "rediss": "redis",
           "sentinel": "redis", "sqs": "aws_sqs", "azureservicebus": "servicebus", "gcpubsub": "gcp_pubsub"}  # fmt: skip
"""`messaging.system` of kombu's transports; others are called what kombu calls them."""

TRIGGER = "connectsoft-trigger"
HEARTBEAT_TIMEOUT = 60.0
"""Seconds that the main loop of a worker, which beats every two, may be silent."""

_MARK = "_connectsoft_obs"
_sending: ContextVar[list[Producer] | None] = ContextVar("connectsoft-obs-celery-sending", default=None)


def install(app: Any, **settings: Any) -> None:
    """Observe a Celery app: what it sends, what it runs, and its workers. Again changes nothing.

    Args:
        app: the Celery app.
        settings: fields of `Settings` for the workers (`service="reports"`), as `configure()` takes them.
    """
    if getattr(app, _MARK, None) is None:
        setattr(app, _MARK, CeleryInstrumentation(app, settings))


class CeleryInstrumentation:
    """What is connected to one app. Lives as long as the app."""

    def __init__(self, app: Any, settings: dict[str, Any]) -> None:
        self._app = app
        self._settings = settings
        self._runs: dict[str, Run] = {}
        self._requests: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self._serving: WorkerProcess | None = None
        self._pid = os.getpid()
        self._beats = self._watched = False
        self._send_task = app.send_task
        app.send_task = self._send
        for signal, receiver in (
            (signals.before_task_publish, self._publishing),
            (signals.task_prerun, self._begins),
            (signals.task_postrun, self._ends),
            (signals.task_received, self._received),
            (signals.task_failure, self._on_worker_lost),
            (signals.task_revoked, self._revoked),
            (signals.setup_logging, self._logging),
            (signals.celeryd_init, self._configured),
            (signals.worker_ready, self._ready),
            (signals.heartbeat_sent, self._alive),
            (signals.worker_shutting_down, self._drains),
            (signals.worker_shutdown, self._stopped),
            (signals.worker_process_init, self._child_ready),
            (signals.worker_process_shutdown, self._child_stopped),
            (signals.beat_init, self._beat_ready),
        ):
            signal.connect(receiver, weak=False)

    # --- Sending -----------------------------------------------------------------------------------------------------
    def _send(self, *args: Any, **kwargs: Any) -> Any:
        """`app.send_task`, with whatever it publishes ended when it is over."""
        opened: list[Producer] = []
        token = _sending.set(opened)
        error: BaseException | None = None
        try:
            return self._send_task(*args, **kwargs)
        except BaseException as failure:
            error = failure
            raise
        finally:
            _sending.reset(token)
            for producer in opened:
                producer.end(error)

    def _publishing(self, headers: Any = None, exchange: Any = None, routing_key: Any = None, **_: Any) -> None:
        opened = _sending.get()
        if not isinstance(headers, dict) or opened is None:
            return
        run = self._runs.get(str(headers.get("id")))
        if run is not None and headers.get("retries"):
            headers |= mark_retried(run, str(headers["id"]))
        producer = Producer(resolve_or_none(), str(routing_key or exchange or "celery"), self._system())
        headers |= producer.begin()
        opened.append(producer)
        if self._beats:
            headers[TRIGGER] = Trigger.TIMER.value

    def _system(self) -> str:
        scheme = str(self._app.conf.broker_url or "").partition("://")[0]
        return SYSTEMS.get(scheme, scheme)

    # --- Running -----------------------------------------------------------------------------------------------------
    def _begins(self, task_id: str = "", task: Any = None, **_: Any) -> None:
        request = task.request
        given = {name: request.get(name) for name in (*PROPAGATED_HEADERS, TRIGGER)}
        delivered = request.delivery_info or {}
        eager = bool(request.is_eager or request.called_directly)
        queue = str(delivered.get("routing_key") or delivered.get("exchange") or "celery")
        run = task_run(
            task.name,
            source=None if eager else (self._system(), queue),
            identifier=task_id,
            headers=given,
            inline=eager,
            redelivered=bool(delivered.get("redelivered")),
            attempt=int(request.retries or 0) + 1,
            trigger=_trigger(given[TRIGGER]),
        )
        self._runs[task_id] = run.__enter__()

    def _ends(self, task_id: str = "", state: str | None = None, retval: Any = None, **_: Any) -> None:
        run = self._runs.pop(task_id, None)
        if run is None:
            return
        error = retval if isinstance(retval, BaseException) and state != "SUCCESS" else None
        if state is None:
            error = sys.exc_info()[1]  # what ends the process, on its way through
            if os.getpid() != self._pid:  # the process that has the pool is going to tell
                run.discard()
                return
        if state == "RETRY" or (isinstance(error, Reject) and error.requeue):
            mark_retried(run, task_id)
            error = getattr(error, "exc", None) or error
        elif isinstance(error, Ignore | Reject):
            run.skip_reason, error = str(error), None
        run.timed_out = isinstance(error, SoftTimeLimitExceeded)
        run.__exit__(type(error) if error is not None else None, error, None)

    def _received(self, request: Any = None, **_: Any) -> None:
        """In the process that has a pool: what it gave to the pool, for as long as it keeps it itself."""
        self._requests[str(request.id)] = request

    def _on_worker_lost(self, sender: Any = None, task_id: str = "", exception: Any = None, **_: Any) -> None:
        """A task whose process was killed: only the process that has the pool can tell."""
        if type(exception).__name__ in ("TimeLimitExceeded", "WorkerLostError"):
            self._record_from_pool(str(sender.name), task_id, exception, isinstance(exception, TimeLimitExceeded))

    def _revoked(self, sender: Any = None, request: Any = None, terminated: bool = False, **_: Any) -> None:
        """A task that somebody had terminated."""
        if terminated:
            self._record_from_pool(str(sender.name), str(request.id), SystemExit(), False)

    def _record_from_pool(self, task: str, task_id: str, error: BaseException, struck: bool) -> None:
        request = self._requests.pop(task_id, None)
        if request is None:  # told before: Celery tells of a hard time limit twice
            return
        given = request.request_dict
        run = task_run(
            task,
            identifier=task_id,
            headers={name: given.get(name) for name in PROPAGATED_HEADERS},
            attempt=int(given.get("retries") or 0) + 1,
            trigger=_trigger(given.get(TRIGGER)),
        )
        run.timed_out = struck
        if run.begin():
            run.backdate_start(max(0.0, time.time() - request.time_start) if request.time_start else 0.0)
            run.end(error)

    # --- Workers -----------------------------------------------------------------------------------------------------
    def _configured(self, **_: Any) -> None:
        self._pid = os.getpid()
        telemetry = self._telemetry()
        if telemetry is not None:
            self._serving = WorkerProcess(telemetry)
            self._serving.join_children()
            self._declare()

    def _ready(self, sender: Any = None, **_: Any) -> None:
        """The pool has been started, so threads may be too."""
        if self._serving is None:
            return
        self._serving.start()
        self._watched = "solo" not in type(getattr(sender, "pool", None)).__module__  # there the loop does the tasks
        if self._watched:
            loop = heartbeat("celery-worker", every=HEARTBEAT_TIMEOUT)
            loop.is_excused = lambda: getattr(sender, "connection", None) is None  # busy with getting its broker back

    def _alive(self, **_: Any) -> None:
        if self._serving is not None and self._watched:
            heartbeat("celery-worker", every=HEARTBEAT_TIMEOUT)

    def _drains(self, **_: Any) -> None:
        if self._serving is not None:
            self._serving.telemetry.health.drain()

    def _stopped(self, **_: Any) -> None:
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.stop()

    def _child_ready(self, **_: Any) -> None:
        if os.getpid() == self._pid:  # a pool without processes of its own
            return
        self._serving = None
        if (telemetry := self._telemetry()) is not None:
            telemetry.serve()

    def _child_stopped(self, **_: Any) -> None:
        if (telemetry := self._telemetry()) is not None:
            telemetry.flush(telemetry.settings.shutdown_timeout)

    def _logging(self, loglevel: Any = None, **_: Any) -> None:
        """That somebody listens here keeps Celery from putting handlers of its own beside our stream."""
        if self._telemetry() is not None and isinstance(loglevel, int):
            logging.getLogger().setLevel(loglevel)

    def _telemetry(self) -> Telemetry | None:
        try:
            return resolve(**self._settings)
        except ConfigurationError:
            return resolve_or_none()

    # --- Beat --------------------------------------------------------------------------------------------------------
    def _beat_ready(self, sender: Any = None, **_: Any) -> None:
        """Beat runs here: what it sends is on a timer, and its loop is vital."""
        self._beats = True
        telemetry = self._telemetry()
        if telemetry is None:
            return
        self._declare()
        WorkerProcess(telemetry).start()
        scheduler = sender.scheduler
        tick, pause = scheduler.tick, float(getattr(scheduler, "max_interval", 300) or 300) + HEARTBEAT_TIMEOUT

        def ticked(*args: Any, **kwargs: Any) -> Any:
            heartbeat("celery-beat", every=pause)
            return tick(*args, **kwargs)

        scheduler.tick = ticked

    def _declare(self) -> None:
        """What beat should send is expected to run: an entry that is the only one of its task."""
        entries: dict[str, list[Any]] = {}
        for entry in dict(self._app.conf.beat_schedule or {}).values():
            entries.setdefault(str(entry.get("task")), []).append(entry.get("schedule"))
        for task, schedules in entries.items():
            planned = (
                _schedule_of_beat_entry(task, schedules[0], str(self._app.timezone)) if len(schedules) == 1 else None
            )
            if planned is not None:
                declare_schedule(planned)


def _trigger(word: Any) -> Trigger:
    return Trigger.TIMER if word == Trigger.TIMER.value else Trigger.QUEUE


def _schedule_of_beat_entry(task: str, when: Any, zone: str) -> JobSchedule | None:
    """The schedule of a beat entry, where it is one of cron's or an interval."""
    try:
        if isinstance(when, crontab):
            fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
            return JobSchedule(task, " ".join(str(getattr(when, f"_orig_{field}")) for field in fields), zone)
        interval = every(when).run_every if isinstance(when, int | float) else getattr(when, "run_every", when)
        return JobSchedule(task, interval)
    except (ConfigurationError, AttributeError, TypeError):
        return None
