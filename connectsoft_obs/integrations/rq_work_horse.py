"""RQ: the processes that perform one job each, as seen by the worker that starts them.

A work horse is forked or spawned, and ends by `os._exit`. It reports through a pipe whether it has recorded its run, so
that the worker records a run of a killed work horse, and no run twice.
"""

from __future__ import annotations

import asyncio
import base64
import os
import pickle
import signal
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from rq import worker as rq_workers
from rq.timeouts import BaseDeathPenalty

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.telemetry import Telemetry, resolve
from connectsoft_obs.work.task_queue import task_run

KEY = "connectsoft_obs"
"""Key of the propagation headers in `Job.meta`."""

ATTEMPT = "connectsoft-attempt"
_SPAWN_VARIABLE = "_CONNECTSOFT_OBS_RQ_WORK_HORSE"
"""Descriptor of the pipe and settings, for a work horse that does not inherit the memory of the worker."""

_SPAWN_WORKERS: tuple[type[Any], ...] = (rq_workers.SpawnWorker,) if hasattr(rq_workers, "SpawnWorker") else ()
_STARTED, _RECORDED = b"s", b"r"
_descriptor: int | None = None
"""In a work horse: the pipe to the worker."""


class WorkHorses:
    """Starts and watches the work horses of a worker.

    Args:
        worker: the RQ worker.
        telemetry: its Telemetry.
        settings: arguments of `install()`.
        killed_error: exception of the runs of killed work horses.
    """

    def __init__(
        self, worker: Any, telemetry: Telemetry, settings: dict[str, Any], killed_error: type[Exception]
    ) -> None:
        self._settings = _dump(settings, telemetry) if isinstance(worker, _SPAWN_WORKERS) else None
        self._killed_error = killed_error
        self._pid = os.getpid()
        self._pipe: int | None = None
        self._fork = worker.fork_work_horse
        self._execute_job = worker.execute_job
        self._handle_job_failure = worker.handle_job_failure
        self._killed_handler = worker._work_horse_killed_handler  # noqa: SLF001  set from the constructor argument
        worker.fork_work_horse = self._fork_work_horse
        worker.execute_job = self._execute
        worker.handle_job_failure = self._on_job_failure
        worker._work_horse_killed_handler = self._on_killed  # noqa: SLF001

    def _fork_work_horse(self, job: Any, *args: Any, **kwargs: Any) -> None:
        global _descriptor
        try:
            read_end, write_end = os.pipe()
        except OSError:  # too many open files
            self._fork(job, *args, **kwargs)
            return
        _descriptor = write_end
        if self._settings is not None:
            os.set_inheritable(write_end, True)
            os.environ[_SPAWN_VARIABLE] = f"{self._pid}:{write_end}:{self._settings}"
        try:
            self._fork(job, *args, **kwargs)
        finally:
            if os.getpid() == self._pid:
                _descriptor = None
                os.environ.pop(_SPAWN_VARIABLE, None)
                os.close(write_end)
                self._pipe = read_end

    def _execute(self, job: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._execute_job(job, *args, **kwargs)
        except SystemExit:  # a second SIGTERM has killed the work horse
            self._record_aborted(job)
            raise
        finally:
            reports = self._take_reports()
            if reports is not None and _STARTED in reports and _RECORDED not in reports:  # `os._exit(0)` in the job
                self._record(job, self._killed_error(f"the work horse of job {job.id} ended before the job"))

    def _on_killed(self, job: Any, process: int | None, status: int | None = None, *rest: Any) -> None:
        """Record a job whose work horse was killed. Without an exit status, RQ has killed it after its timeout."""
        reports = self._take_reports()
        if reports is None or _RECORDED not in reports:
            error = self._killed_error(f"the work horse of job {job.id} was killed")
            self._record(job, error, retried=bool(job.should_retry), timed_out=status is None)
        if self._killed_handler is not None:
            self._killed_handler(job, process, status, *rest)

    def _on_job_failure(self, job: Any, *args: Any, **kwargs: Any) -> Any:
        """Record a job that was stopped by `send_stop_job_command`; other killed jobs are recorded before this call."""
        self._record_aborted(job)
        return self._handle_job_failure(job, *args, **kwargs)

    def _record_aborted(self, job: Any) -> None:
        reports = self._take_reports()
        if reports is not None and _RECORDED not in reports:
            self._record(job, asyncio.CancelledError())

    def _take_reports(self) -> bytes | None:
        """What the work horse has written; None if this was read before, and in the work horse."""
        pipe, self._pipe = self._pipe, None
        if pipe is None or os.getpid() != self._pid:
            return None
        reports = b""
        with suppress(OSError):
            os.set_blocking(pipe, False)
            reports = os.read(pipe, 16)
        os.close(pipe)
        return reports

    def _record(self, job: Any, error: BaseException, retried: bool = False, timed_out: bool = False) -> None:
        headers = dict(job.meta.get(KEY) or {})
        attempt = int(headers.pop(ATTEMPT, 1))
        run = task_run(str(job.func_name), identifier=job.id, headers=headers, attempt=attempt, is_start_counted=True)
        run.retried, run.timed_out = retried, timed_out
        if run.begin():
            started = job.started_at
            if started is not None:
                now = datetime.now(UTC) if started.tzinfo is not None else datetime.now(UTC).replace(tzinfo=None)
                run.backdate_start(max(0.0, (now - started).total_seconds()))
            run.end(error)


def report_started() -> None:
    """In a work horse: join the Telemetry of the worker, and report that a run begins. No effect elsewhere."""
    global _descriptor
    if (value := os.environ.pop(_SPAWN_VARIABLE, None)) is not None:
        worker, descriptor, settings = value.split(":", 2)
        _descriptor = int(descriptor)
        with suppress(OSError):
            os.set_inheritable(_descriptor, False)
        _configure_spawned(int(worker), settings)
    _report(_STARTED)


def report_recorded() -> None:
    """In a work horse: report that the run is recorded. No effect elsewhere."""
    _report(_RECORDED)


def _report(report: bytes) -> None:
    if _descriptor is not None:
        with suppress(OSError):
            os.write(_descriptor, report)


def _dump(settings: dict[str, Any], telemetry: Telemetry) -> str:
    """Settings for a spawned process; one that cannot be pickled is left out and reported."""
    dumped = {}
    for name, value in settings.items():
        with telemetry.internal_telemetry.guard(f"rq.settings.{name}"):
            dumped[name] = pickle.dumps(value)
    return base64.b64encode(pickle.dumps(dumped)).decode()


def _configure_spawned(worker: int, dumped: str) -> None:
    """Configure a spawned process as its worker is, and add its metrics to those of the worker."""
    settings, errors = {}, {}
    for name, value in pickle.loads(base64.b64decode(dumped)).items():  # noqa: S301  written by the worker
        try:
            settings[name] = pickle.loads(value)  # noqa: S301
        except Exception as error:  # noqa: BLE001  must not affect the job
            errors[name] = error
    try:
        telemetry = resolve(**settings)
    except ConfigurationError:
        return  # reported when the job starts
    for name, failure in errors.items():
        telemetry.internal_telemetry.record_error(f"rq.settings.{name}", failure)
    if telemetry.exporters is not None:
        directory = telemetry.settings.metrics_multiprocess_dir
        telemetry.metrics.join_parent(directory, worker)


def cancel_job_timeout() -> None:
    """Cancel the alarm of RQ's job timeout, which must not interrupt what follows the job."""
    if hasattr(signal, "SIGALRM"):
        handler = signal.getsignal(signal.SIGALRM)
        if isinstance(getattr(handler, "__self__", None), BaseDeathPenalty):
            signal.alarm(0)
