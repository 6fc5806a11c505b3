"""RQ: job metrics and spans for jobs, producer spans, and endpoints and health for workers.

Call `install(worker)` before `worker.work()`, and `install(queue)` where jobs are enqueued. On the command line,
`rq worker --job-class connectsoft_obs.integrations.rq.ObservedJob` instruments jobs without endpoints.
"""

from __future__ import annotations

import copyreg
import os
from typing import Any

from rq import Queue, Retry
from rq.job import Job
from rq.timeouts import JobTimeoutException

from connectsoft_obs.integrations.rq_work_horse import (
    ATTEMPT,
    KEY,
    WorkHorses,
    cancel_job_timeout,
    report_recorded,
    report_started,
)
from connectsoft_obs.telemetry import resolve
from connectsoft_obs.work.loop_monitor import LoopMonitor
from connectsoft_obs.work.producers import Producer
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.task_queue import mark_retried, task_run
from connectsoft_obs.work.worker_process import WorkerProcess, flush_child

SYSTEM = "redis"
HEARTBEAT_TIMEOUT = 60.0
"""Seconds beyond `worker_ttl` and `job_monitoring_interval` without a heartbeat after which a worker counts as stalled."""

_MARK = "_connectsoft_obs"


class WorkHorseKilled(Exception):
    """The process that ran a job was killed."""


class ObservedJob(Job):
    """A job that is recorded as a run."""

    def perform(self) -> Any:
        """Perform the job and record it."""
        report_started()
        headers = dict(self.meta.get(KEY) or {})
        attempt = int(headers.pop(ATTEMPT, 1))
        run = task_run(
            str(self.func_name),
            source=(SYSTEM, str(self.origin)),
            identifier=self.id,
            headers=headers,
            sent_at=self.enqueued_at,
            attempt=attempt,
        )
        try:
            with run:
                try:
                    result = super().perform()
                except BaseException as error:
                    cancel_job_timeout()
                    run.timed_out = isinstance(error, JobTimeoutException)
                    if self.should_retry:
                        self._set_next_attempt(mark_retried(run, self.id), attempt)
                    raise
                cancel_job_timeout()
                if isinstance(result, Retry):
                    self._set_next_attempt(mark_retried(run, self.id), attempt)
                return result
        finally:
            report_recorded()
            telemetry = resolve_or_none()
            if telemetry is not None and not telemetry.serving:  # a work horse, which runs no exit handlers
                flush_child(telemetry)

    def _set_next_attempt(self, headers: dict[str, str], attempt: int) -> None:
        self.meta[KEY] = {**(self.meta.get(KEY) or {}), **headers, ATTEMPT: attempt + 1}


class _ObservedJobType(type):
    """The type of the classes that `observed_job_class` creates; registers how they are pickled."""


def observed_job_class(job_class: Any) -> Any:
    """Return a class of recorded jobs that behave as those of the job class of a worker."""
    if issubclass(job_class, ObservedJob):
        return job_class
    if job_class is Job:
        return ObservedJob
    name, attributes = job_class.__name__, {"__module__": job_class.__module__}
    return _ObservedJobType(name, (ObservedJob, job_class), attributes)


# SpawnWorker pickles the job class for its work horses.
copyreg.pickle(_ObservedJobType, lambda cls: (observed_job_class, (cls.__bases__[1],)))


def install(target: Any, **settings: Any) -> None:
    """Instrument the jobs of a worker, or a queue into which jobs are enqueued. Later calls have no effect.

    Args:
        target: a worker that has not been started, or a queue.
        settings: fields of `Settings` for the worker (`service="reports"`), as `configure()` takes them.
    """
    if getattr(target, _MARK, False):
        return
    setattr(target, _MARK, True)
    if isinstance(target, Queue):
        _install_queue(target)
    else:
        _install_worker(target, settings)


def _install_queue(queue: Any) -> None:
    enqueue = queue.enqueue_job

    def enqueue_job(job: Any, *args: Any, **kwargs: Any) -> Any:
        with Producer(resolve_or_none(), str(queue.name), SYSTEM) as headers:
            job.meta[KEY] = headers
            return enqueue(job, *args, **kwargs)

    queue.enqueue_job = enqueue_job


def _install_worker(worker: Any, settings: dict[str, Any]) -> None:
    worker_process = WorkerProcess(resolve(**settings))
    worker_process.join_children()
    worker_pid = os.getpid()
    worker.job_class = observed_job_class(worker.job_class)
    for queue in worker.queues:
        queue.job_class = observed_job_class(queue.job_class)
        install(queue)
    bootstrap, send_heartbeat = worker.bootstrap, worker.heartbeat
    teardown, request_stop = worker.teardown, worker.request_stop
    monitors: list[LoopMonitor] = []

    def bootstrap_wrapper(*args: Any, **kwargs: Any) -> Any:
        worker_process.start()
        limit = float(max(worker.worker_ttl, worker.job_monitoring_interval)) + HEARTBEAT_TIMEOUT
        monitor = LoopMonitor(worker_process.telemetry, "rq-worker", limit=limit, wait_limit=limit, runs_jobs=True)
        monitors[:] = [monitor]
        return bootstrap(*args, **kwargs)

    def heartbeat_wrapper(*args: Any, **kwargs: Any) -> Any:
        if os.getpid() == worker_pid and monitors:
            monitors[0].beat()
        return send_heartbeat(*args, **kwargs)

    def request_stop_wrapper(*args: Any, **kwargs: Any) -> Any:
        worker_process.drain()
        return request_stop(*args, **kwargs)

    def teardown_wrapper(*args: Any, **kwargs: Any) -> Any:
        result = teardown(*args, **kwargs)
        if os.getpid() == worker_pid:
            for monitor in monitors:
                monitor.stop()
            worker_process.stop()
        return result

    worker.bootstrap, worker.heartbeat = bootstrap_wrapper, heartbeat_wrapper
    worker.teardown, worker.request_stop = teardown_wrapper, request_stop_wrapper
    if hasattr(worker, "fork_work_horse"):
        WorkHorses(worker, worker_process.telemetry, settings, WorkHorseKilled)
