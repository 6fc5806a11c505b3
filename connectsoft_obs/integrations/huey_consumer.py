"""Huey: endpoints, health, drain and schedules of a consumer, with threads or processes as workers."""

from __future__ import annotations

import os
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.integrations.huey_schedules import declare_periodic_tasks
from connectsoft_obs.integrations.huey_worker_processes import CurrentTasks
from connectsoft_obs.telemetry import resolve
from connectsoft_obs.work.loop_monitor import LoopMonitor
from connectsoft_obs.work.worker_process import WorkerProcess

LOOP_TIMEOUT = 60.0
"""Seconds without progress after which the main loop or the scheduler of a consumer counts as stalled."""

BROKER_WAIT_LIMIT = 10.0
"""Seconds for which the scheduler waits for the storage after which readiness fails."""

_NAME = "_connectsoft_obs"


class ConsumerInstrumentation:
    """Wrappers of the consumers of one Huey instance.

    Args:
        huey: the Huey instance.
        settings: arguments of `install()`.
        current_tasks: the tasks that worker processes execute.
    """

    def __init__(self, huey: Any, settings: dict[str, Any], current_tasks: CurrentTasks) -> None:
        self._huey = huey
        self._current_tasks = current_tasks
        self._consumer: Any = None
        self._settings = settings
        self._worker_process: WorkerProcess | None = None
        self._pid = os.getpid()
        self._create_consumer, self._read_schedule = huey.create_consumer, huey.read_schedule
        self._notify_interrupted_tasks = huey.notify_interrupted_tasks
        huey.create_consumer = self._create_observed_consumer
        huey.notify_interrupted_tasks = self._notify_and_stop
        huey.on_startup(name=_NAME)(self._on_worker_startup)
        huey.on_shutdown(name=_NAME)(self._on_worker_shutdown)

    def _create_observed_consumer(self, *args: Any, **options: Any) -> Any:
        if options.get("worker_type") in ("greenlet", "gevent"):
            raise ConfigurationError(
                f"worker_type={options['worker_type']!r}",
                "the Huey integration does not support greenlets",
                "Start the consumer with `-k thread` or `-k process`.",
            )
        consumer = self._create_consumer(*args, **options)
        worker_process = WorkerProcess(resolve(**self._settings))
        if consumer.worker_type == "process":
            worker_process.join_children()
            self._current_tasks.allocate(consumer.workers)
        run, start, stop = consumer.run, consumer.start, consumer.stop
        has_main_loop = False

        def run_wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal has_main_loop
            has_main_loop = True  # an application can also call `start()` without a main loop
            return run(*args, **kwargs)

        def start_wrapper(*args: Any, **kwargs: Any) -> Any:
            self._pid, self._worker_process, self._consumer = os.getpid(), worker_process, consumer
            declare_periodic_tasks(self._huey)
            if consumer.worker_type == "thread":
                worker_process.start()
                if has_main_loop:
                    self._monitor_main_loop(consumer, worker_process)
                self._monitor_scheduler(consumer, worker_process)
                return start(*args, **kwargs)
            result = start(*args, **kwargs)  # first: without threads, this process can fork
            worker_process.start()
            if has_main_loop:
                self._monitor_main_loop(consumer, worker_process)
            return result

        def stop_wrapper(*args: Any, **kwargs: Any) -> Any:
            worker_process.drain()
            return stop(*args, **kwargs)

        consumer.run, consumer.start, consumer.stop = run_wrapper, start_wrapper, stop_wrapper
        return consumer

    def _notify_and_stop(self) -> None:
        """Stop the endpoints when the workers have ended, before the consumer exits or replaces its process."""
        self._notify_interrupted_tasks()
        worker_process, self._worker_process = self._worker_process, None
        if worker_process is not None and os.getpid() == self._pid:
            with worker_process.telemetry.internal_telemetry.guard("integrations.huey"):
                self._current_tasks.record_of_ended([process for _, process in self._consumer.worker_threads])
            worker_process.stop()
            if getattr(self._consumer, "_restart", False):  # SIGHUP: the consumer calls `exec`, without exit functions
                worker_process.telemetry.stop_serving()

    # --- Liveness ----------------------------------------------------------------------------------------------------
    @staticmethod
    def _monitor_main_loop(consumer: Any, worker_process: WorkerProcess) -> None:
        """Monitor the loop that handles signals and replaces workers; it does not use the storage."""
        loop = consumer.loop
        monitor = LoopMonitor(
            worker_process.telemetry, "huey-consumer", limit=LOOP_TIMEOUT, wait_limit=BROKER_WAIT_LIMIT
        )

        def loop_and_beat(*args: Any, **kwargs: Any) -> Any:
            monitor.beat()
            return loop(*args, **kwargs)

        consumer.loop = loop_and_beat

    def _monitor_scheduler(self, consumer: Any, worker_process: WorkerProcess) -> None:
        """Monitor the thread of the scheduler, which reads the schedule at each interval."""
        has_failed = False
        limit = LOOP_TIMEOUT + float(consumer.scheduler_interval)
        monitor = LoopMonitor(
            worker_process.telemetry,
            "huey-scheduler",
            limit=limit,
            wait_limit=BROKER_WAIT_LIMIT,
            is_disconnected=lambda: has_failed,
        )

        def read_and_beat(*args: Any, **kwargs: Any) -> Any:
            nonlocal has_failed
            monitor.beat()
            try:
                tasks = self._read_schedule(*args, **kwargs)
            except Exception:
                has_failed = True
                raise
            has_failed = False
            return tasks

        self._huey.read_schedule = read_and_beat

    # --- Worker processes --------------------------------------------------------------------------------------------
    def _on_worker_startup(self) -> None:
        """Start the exporters of a forked worker process, and record the task of the process that it replaces."""
        if os.getpid() != self._pid:
            telemetry = resolve(**self._settings)
            telemetry.serve()
            with telemetry.internal_telemetry.guard("integrations.huey"):
                self._current_tasks.record_of_predecessor()

    def _on_worker_shutdown(self) -> None:
        """Export what is left in a forked worker process."""
        if os.getpid() != self._pid:
            telemetry = resolve(**self._settings)
            telemetry.flush(telemetry.settings.shutdown_timeout)
