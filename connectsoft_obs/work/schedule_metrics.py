"""Metrics of scheduled jobs: last run, last success, next expected; and the file that keeps them across restarts."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import time

import orjson

from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.process import threads
from connectsoft_obs.process.exit_hooks import call_at_exit
from connectsoft_obs.process.file_lock import FileLock
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.telemetry import Telemetry, current, on_configured
from connectsoft_obs.vocabulary import JOB_LAST_RUN, JOB_LAST_SUCCESS, JOB_NEXT_EXPECTED
from connectsoft_obs.work import schedule as schedules
from connectsoft_obs.work.schedule import JobSchedule

Timestamps = dict[str, float]
"""Unix times in seconds by name: `began`, `last_run`, `last_success`."""


class ScheduleStateFile:
    """Timestamps of the last runs of each job in a JSON file. Safe for several threads and processes.

    Args:
        path: the file; its directory must exist and be writable.
        internal_telemetry: records errors.
    """

    def __init__(self, path: Path, internal_telemetry: InternalTelemetry) -> None:
        self._path = path
        self._internal_telemetry = internal_telemetry
        self._unwritten: dict[str, Timestamps] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        register_fork_handler(self)
        _state_files.add(self)

    def last_runs(self, job: str) -> Timestamps:
        """Timestamps of a job; empty if there are none."""
        try:
            return dict(self._read().get(job, {}))
        except Exception as error:  # noqa: BLE001  a broken file must not prevent the start
            self._internal_telemetry.record_error("work.state", error)
            return {}

    def record(self, job: str, **timestamps: float) -> None:
        """Store timestamps of a job; from a thread if an event loop is running, which must not wait for the disk."""
        with self._lock:
            self._unwritten.setdefault(job, {}).update(timestamps)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._write()
        else:
            thread = threads.start_thread("obs-schedule-state", self._write)
            if thread is None:
                self._write()
            else:
                self._threads = [running for running in self._threads if running.is_alive()] + [thread]

    def flush(self, timeout: float = 2.0) -> None:
        """Wait for pending writes."""
        for thread in self._threads:
            thread.join(timeout)

    def after_fork_in_child(self) -> None:
        """In a forked child: pending writes belong to the parent."""
        self._unwritten, self._lock, self._threads = {}, threading.Lock(), []

    def _read(self) -> dict[str, Timestamps]:
        try:
            content = orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        return {
            str(job): {str(name): float(timestamp) for name, timestamp in timestamps.items()}
            for job, timestamps in content.items()
            if isinstance(timestamps, dict)
        }

    def _write(self) -> None:
        with self._lock:
            new, self._unwritten = self._unwritten, {}
        if not new:
            return
        try:
            with FileLock(self._path.with_name(f".{self._path.name}.lock"), wait=True):
                with suppress(Exception):  # an unreadable file is overwritten
                    new = _merge_latest(self._read(), new)
                _replace_file(self._path, orjson.dumps(new, option=orjson.OPT_INDENT_2))
        except Exception as error:  # noqa: BLE001  a full or read-only disk must not affect the job
            self._internal_telemetry.record_error("work.state", error)


_state_files: weakref.WeakSet[ScheduleStateFile] = weakref.WeakSet()


def _flush_state_files() -> None:
    for state in list(_state_files):
        state.flush()


call_at_exit(_flush_state_files)


def _merge_latest(known: Mapping[str, Timestamps], new: Mapping[str, Timestamps]) -> dict[str, Timestamps]:
    merged = {job: dict(timestamps) for job, timestamps in known.items()}
    for job, timestamps in new.items():
        there = merged.setdefault(job, {})
        for name, timestamp in timestamps.items():
            there[name] = max(timestamp, there.get(name, 0.0))
    return merged


def _replace_file(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class ScheduleMetrics:
    """Metrics of the scheduled jobs of one Telemetry. Thread-safe."""

    def __init__(self, telemetry: Telemetry) -> None:
        path = telemetry.settings.schedule_state_file
        self.state_file: ScheduleStateFile | None = (
            None if path is None else ScheduleStateFile(Path(path), telemetry.internal_telemetry)
        )
        self._telemetry = telemetry
        self._announced: dict[str, JobSchedule] = {}

    def announce(self, schedule: JobSchedule) -> None:
        """Expect the next run of a job, counted from now or from the last run in the state file."""
        if self._announced.get(schedule.job) is schedule:
            return
        self._announced[schedule.job] = schedule
        timestamps = {} if self.state_file is None else self.state_file.last_runs(schedule.job)
        family = self._telemetry.metrics.family
        for metric, name in ((JOB_LAST_RUN, "last_run"), (JOB_LAST_SUCCESS, "last_success")):
            if name in timestamps:
                family(metric).number_series(schedule.job).set(timestamps[name])
        began = timestamps.get("began")
        expected = schedule.due_after(time()) + schedule.grace if began is None else schedule.expected_after(began)
        family(JOB_NEXT_EXPECTED).number_series(schedule.job).set(expected)

    def on_start(self, schedule: JobSchedule) -> None:
        """Record the start of a run, and expect the next one."""
        now = time()
        self._telemetry.metrics.family(JOB_NEXT_EXPECTED).number_series(schedule.job).set(schedule.expected_after(now))
        if self.state_file is not None:
            self.state_file.record(schedule.job, began=now)

    def on_finish(self, schedule: JobSchedule, success: bool) -> None:
        """Record the end of a run."""
        if self.state_file is not None:
            now = time()
            timestamps = {"last_run": now, "last_success": now} if success else {"last_run": now}
            self.state_file.record(schedule.job, **timestamps)


_schedule_metrics: weakref.WeakKeyDictionary[Telemetry, ScheduleMetrics] = weakref.WeakKeyDictionary()


def schedule_metrics_of(telemetry: Telemetry) -> ScheduleMetrics:
    """The schedule metrics of a Telemetry; created on first use."""
    metrics = _schedule_metrics.get(telemetry)
    return _schedule_metrics.setdefault(telemetry, ScheduleMetrics(telemetry)) if metrics is None else metrics


def declare_schedule(schedule: JobSchedule) -> None:
    """Declare the schedule of a job, for the current Telemetry and those that are created later."""
    schedules.declare(schedule)
    telemetry = current()
    if telemetry is not None:
        schedule_metrics_of(telemetry).announce(schedule)


def _announce_declared(telemetry: Telemetry) -> None:
    for schedule in schedules.declared_schedules():
        schedule_metrics_of(telemetry).announce(schedule)


on_configured(_announce_declared)
