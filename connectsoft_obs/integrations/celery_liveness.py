"""Probes of Celery workers and of beat: endpoints before the first connection to the broker, and monitored main loops."""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from connectsoft_obs.work.loop_monitor import LoopMonitor
from connectsoft_obs.work.worker_process import WorkerProcess

LOOP_TIMEOUT = 60.0
"""Seconds without progress after which the main loop of a worker, or a tick of beat, counts as stalled."""

BROKER_WAIT_LIMIT = 10.0
"""Seconds without a reply of the broker after which readiness fails."""

_ATTRIBUTE = "_connectsoft_obs"
"""Attribute of a worker with its `WorkerProbes`."""


class WorkerProbes:
    """Endpoints and monitored main loop of one worker.

    The main loop executes a call every second, so that liveness does not depend on events that the worker publishes.

    Args:
        worker: the worker, before its boot steps are created.
        worker_process: the process in which it runs.
    """

    def __init__(self, worker: Any, worker_process: WorkerProcess) -> None:
        self._worker_process = worker_process
        self._is_consuming = False
        self._monitor: LoopMonitor | None = None
        setattr(worker, _ATTRIBUTE, self)
        worker.app.steps["worker"].add(_ProbesStep)

    def start(self, worker: Any) -> None:
        """Start the endpoints and monitor the main loop."""
        health = self._worker_process.telemetry.health
        health.add_readiness_watch("consumer", lambda: "" if self._is_consuming else "the worker does not consume yet")
        self._worker_process.start()
        consumer = worker.consumer
        self._monitor = LoopMonitor(
            self._worker_process.telemetry,
            "celery-worker",
            limit=LOOP_TIMEOUT,
            wait_limit=BROKER_WAIT_LIMIT,
            call_soon=consumer.call_soon,
            is_disconnected=lambda: getattr(consumer, "connection", None) is None,
            runs_jobs="solo" in type(worker.pool).__module__,
        )

    def stop(self) -> None:
        """Stop monitoring the main loop; a worker that runs in a thread of a test ends before its process."""
        if self._monitor is not None:
            self._monitor.stop()

    def on_worker_ready(self) -> None:
        """Record that the worker has connected to the broker and consumes."""
        self._is_consuming = True


class _ProbesStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Boot step of a worker: after the pool has forked, and before the worker connects to the broker."""

    requires: tuple[str, ...] = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        """Start the probes of the worker; no effect if its app is not instrumented."""
        probes: WorkerProbes | None = getattr(parent, _ATTRIBUTE, None)
        if probes is not None:
            probes.start(parent)


def monitor_beat(worker_process: WorkerProcess, service: Any) -> None:
    """Start the endpoints of a beat process and monitor its loop.

    Args:
        worker_process: the process.
        service: the `celery.beat.Service` that is about to start.
    """
    worker_process.start()
    scheduler = service.scheduler
    interval = float(getattr(scheduler, "max_interval", 300) or 300)
    monitor = LoopMonitor(
        worker_process.telemetry,
        "celery-beat",
        limit=interval + LOOP_TIMEOUT,
        wait_limit=BROKER_WAIT_LIMIT,
    )
    tick = scheduler.tick

    def monitored_tick(*args: Any, **kwargs: Any) -> Any:
        monitor.beat()
        return tick(*args, **kwargs)

    scheduler.tick = monitored_tick
