"""RQ: every job a run, every enqueuing a span, every worker with endpoints and health.

`install(worker)` before `worker.work()`, `install(queue)` where jobs are enqueued. With the command line:
`rq worker --job-class connectsoft_obs.integrations.rq.ObservedJob`, which observes jobs and begins no endpoints.
"""

from __future__ import annotations

import os
from typing import Any

from rq import Queue, Retry
from rq.job import Job
from rq.timeouts import JobTimeoutException

from connectsoft_obs.telemetry import resolve
from connectsoft_obs.work.heartbeats import heartbeat
from connectsoft_obs.work.producers import Producer
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.task_queue import mark_retried, task_run
from connectsoft_obs.work.worker_process import WorkerProcess, flush_child

SYSTEM = "redis"
KEY = "connectsoft_obs"
"""Where what the sender says is kept in a job's `meta`."""

ATTEMPT = "connectsoft-attempt"
HEARTBEAT_TIMEOUT = 60.0
"""Seconds that a worker may be silent beyond the time it waits for a job."""

_MARK = "_connectsoft_obs"


class WorkHorseKilled(Exception):
    """The process that ran a job was killed."""


class ObservedJob(Job):
    """A job whose performing is a run."""

    def perform(self) -> Any:
        """Perform it, observed."""
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
                    run.timed_out = isinstance(error, JobTimeoutException)
                    if self.should_retry:
                        self._again(mark_retried(run, self.id), attempt)
                    raise
                if isinstance(result, Retry):
                    self._again(mark_retried(run, self.id), attempt)
                return result
        finally:
            telemetry = resolve_or_none()
            if telemetry is not None and not telemetry.serving:  # a work horse, which ends without saying goodbye
                flush_child(telemetry)

    def _again(self, headers: dict[str, str], attempt: int) -> None:
        self.meta[KEY] = {**(self.meta.get(KEY) or {}), **headers, ATTEMPT: attempt + 1}


def install(target: Any, **settings: Any) -> None:
    """Observe the jobs of a worker, or what is enqueued into a queue. Again changes nothing.

    Args:
        target: a worker that has not begun to work, or a queue.
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
    serving = WorkerProcess(resolve(**settings))
    serving.join_children()
    owner = os.getpid()
    worker.job_class = ObservedJob
    for queue in worker.queues:
        queue.job_class = ObservedJob
        install(queue)
    beat, teardown, stop = worker.heartbeat, worker.teardown, worker.request_stop
    killed = worker._work_horse_killed_handler  # noqa: SLF001  the constructor's argument, kept under this name
    every = float(worker.worker_ttl) + HEARTBEAT_TIMEOUT

    def beating(*args: Any, **kwargs: Any) -> Any:
        if os.getpid() == owner:
            heartbeat("rq-worker", every=every)
        return beat(*args, **kwargs)

    def stopping(*args: Any, **kwargs: Any) -> Any:
        serving.telemetry.health.drain()
        return stop(*args, **kwargs)

    def ending(*args: Any, **kwargs: Any) -> Any:
        result = teardown(*args, **kwargs)
        if os.getpid() == owner:
            serving.stop()
        return result

    def horse_killed(job: Any, *rest: Any) -> None:
        headers = dict(job.meta.get(KEY) or {})
        attempt = int(headers.pop(ATTEMPT, 1))
        run = task_run(str(job.func_name), identifier=job.id, headers=headers, attempt=attempt)
        if run.begin():
            run.retried = bool(job.should_retry)
            run.end(WorkHorseKilled(f"the work horse of job {job.id} was killed"))
        if killed is not None:
            killed(job, *rest)

    worker.heartbeat, worker.teardown, worker.request_stop = beating, ending, stopping
    worker._work_horse_killed_handler = horse_killed  # noqa: SLF001
    serving.start()
