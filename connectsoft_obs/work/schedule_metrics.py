"""Metrics of scheduled jobs: last run, last success, next expected; and the file that keeps them across restarts."""

from __future__ import annotations

import asyncio
import atexit
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
from connectsoft_obs.process.file_lock import FileLock
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.telemetry import Telemetry, current, on_configured
from connectsoft_obs.vocabulary import JOB_LAST_RUN, JOB_LAST_SUCCESS, JOB_NEXT_EXPECTED
from connectsoft_obs.work import schedule as schedules
from connectsoft_obs.work.schedule import JobSchedule

Moments = dict[str, float]
"""Unix times in seconds: `began`, `last_run`, `last_success`."""


class ScheduleStateFile:
    """The moments of each job. Thread-safe, and safe for several processes.

    Args:
        path: the file; its folder must exist and be writable.
        ledger: told what fails.
    """

    def __init__(self, path: Path, internal_telemetry: InternalTelemetry) -> None:
        self._path = path
        self._internal_telemetry = internal_telemetry
        self._new: dict[str, Moments] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        register_fork_handler(self)
        _states.add(self)

    def last_runs(self, job: str) -> Moments:
        """What is known of a job; empty for nothing."""
        try:
            return dict(self._read().get(job, {}))
        except Exception as error:  # noqa: BLE001  a broken file is no reason not to start
            self._internal_telemetry.record_error("work.state", error)
            return {}

    def record(self, job: str, **moments: float) -> None:
        """Keep moments of a job; at once, or from a thread where an event loop would wait for the disk."""
        with self._lock:
            self._new.setdefault(job, {}).update(moments)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._write()
        else:
            thread = threads.start_thread("obs-schedule-state", self._write)
            if thread is None:
                self._write()
            else:
                self._threads = [known for known in self._threads if known.is_alive()] + [thread]

    def flush(self, timeout: float = 2.0) -> None:
        """Wait for what is being written."""
        for thread in self._threads:
            thread.join(timeout)

    def after_fork_in_child(self) -> None:
        """In a forked child: nothing waits."""
        self._new, self._lock, self._threads = {}, threading.Lock(), []

    def _read(self) -> dict[str, Moments]:
        try:
            content = orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        return {
            str(job): {str(name): float(moment) for name, moment in moments.items()}
            for job, moments in content.items()
            if isinstance(moments, dict)
        }

    def _write(self) -> None:
        with self._lock:
            new, self._new = self._new, {}
        if not new:
            return
        try:
            with FileLock(self._path.with_name(f".{self._path.name}.lock"), wait=True):
                with suppress(Exception):  # what cannot be read is written anew
                    new = _later(self._read(), new)
                _replace(self._path, orjson.dumps(new, option=orjson.OPT_INDENT_2))
        except Exception as error:  # noqa: BLE001  a full or read-only disk is not the job's problem
            self._internal_telemetry.record_error("work.state", error)


_states: weakref.WeakSet[ScheduleStateFile] = weakref.WeakSet()


@atexit.register
def _at_exit() -> None:
    for state in list(_states):
        state.flush()


def _later(known: Mapping[str, Moments], new: Mapping[str, Moments]) -> dict[str, Moments]:
    merged = {job: dict(moments) for job, moments in known.items()}
    for job, moments in new.items():
        there = merged.setdefault(job, {})
        for name, moment in moments.items():
            there[name] = max(moment, there.get(name, 0.0))
    return merged


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class ScheduleMetrics:
    """The scheduled jobs of one Telemetry. Thread-safe."""

    def __init__(self, telemetry: Telemetry) -> None:
        path = telemetry.settings.schedule_state_file
        self.state: ScheduleStateFile | None = (
            None if path is None else ScheduleStateFile(Path(path), telemetry.internal_telemetry)
        )
        self._telemetry = telemetry
        self._known: dict[str, JobSchedule] = {}

    def announce(self, schedule: JobSchedule) -> None:
        """A job is scheduled: it is expected from now on, or from its last run where a state file tells of one."""
        if self._known.get(schedule.job) is schedule:
            return
        self._known[schedule.job] = schedule
        moments = {} if self.state is None else self.state.last_runs(schedule.job)
        family = self._telemetry.metrics.family
        for metric, name in ((JOB_LAST_RUN, "last_run"), (JOB_LAST_SUCCESS, "last_success")):
            if name in moments:
                family(metric).number(schedule.job).set(moments[name])
        began = moments.get("began")
        expected = schedule.due_after(time()) + schedule.grace if began is None else schedule.expected_after(began)
        family(JOB_NEXT_EXPECTED).number(schedule.job).set(expected)

    def on_start(self, schedule: JobSchedule) -> None:
        """A run has begun, so the next one is expected."""
        now = time()
        self._telemetry.metrics.family(JOB_NEXT_EXPECTED).number(schedule.job).set(schedule.expected_after(now))
        if self.state is not None:
            self.state.record(schedule.job, began=now)

    def on_finish(self, schedule: JobSchedule, success: bool) -> None:
        """A run has ended."""
        if self.state is not None:
            now = time()
            moments = {"last_run": now, "last_success": now} if success else {"last_run": now}
            self.state.record(schedule.job, **moments)


_expected: weakref.WeakKeyDictionary[Telemetry, ScheduleMetrics] = weakref.WeakKeyDictionary()


def expected(telemetry: Telemetry) -> ScheduleMetrics:
    """The scheduled jobs of a Telemetry."""
    known = _expected.get(telemetry)
    return _expected.setdefault(telemetry, ScheduleMetrics(telemetry)) if known is None else known


def declare(schedule: JobSchedule) -> None:
    """A job has a schedule: for the Telemetry there is, and for those that will be made."""
    schedules.declare(schedule)
    telemetry = current()
    if telemetry is not None:
        expected(telemetry).announce(schedule)


def _announce_all(telemetry: Telemetry) -> None:
    for schedule in schedules.declared():
        expected(telemetry).announce(schedule)


on_configured(_announce_all)
