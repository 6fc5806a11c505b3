"""The file that keeps the timestamps of scheduled jobs across restarts, and detects runs of killed processes.

While a run is active, its process holds the lock of a file next to the state file. When the process ends for any reason,
the kernel releases the lock. The next start of the job then detects the incomplete run, also that of another container.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import orjson

from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.process import threads
from connectsoft_obs.process.exit_hooks import call_at_exit
from connectsoft_obs.process.file_lock import FileLock, is_locked
from connectsoft_obs.process.fork_safety import register_fork_handler

Timestamps = dict[str, float]
"""Unix times in seconds by name: `began`, `last_run`, `last_success`, and `running:<process>:<run>` of an active run."""

Changes = dict[str, dict[str, float | None]]
"""New timestamps by job; None removes one."""

_RUNNING = "running:"


class ScheduleStateFile:
    """Timestamps of the last runs of each job in a JSON file. Safe for several threads and processes.

    Args:
        path: the file; its directory must exist and be writable.
        internal_telemetry: records errors.
    """

    def __init__(self, path: Path, internal_telemetry: InternalTelemetry) -> None:
        self._path = path
        self._internal_telemetry = internal_telemetry
        self._process_lock: FileLock | None = None
        self._reset()
        register_fork_handler(self)
        _state_files.add(self)

    def _reset(self) -> None:
        self._unwritten: Changes = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._process = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._run_count = 0
        self._active_runs: dict[str, list[str]] = {}
        self._on_killed: dict[str, Callable[[float], None]] = {}

    def last_runs(self, job: str) -> Timestamps:
        """Timestamps of a job; empty if there are none."""
        try:
            return dict(self._read().get(job, {}))
        except Exception as error:  # noqa: BLE001  a broken file must not prevent the start
            self._internal_telemetry.record_error("work.state", error)
            return {}

    def record(self, job: str, **timestamps: float) -> None:
        """Store timestamps of a job; from a thread if an event loop is running, which must not wait for the disk."""
        self._change(job, dict(timestamps))
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

    def begin_run(self, job: str, began: float, on_killed: Callable[[float], None] | None) -> None:
        """Store the start of a run; `on_killed` gets the starts of earlier runs whose processes were killed."""
        timestamps = {"began": began}
        if on_killed is not None:
            with self._lock:
                self._run_count += 1
                run = f"{_RUNNING}{self._process}:{self._run_count}"
                self._active_runs.setdefault(job, []).append(run)
                self._on_killed[job] = on_killed
            timestamps[run] = began
        self.record(job, **timestamps)

    def end_run(self, job: str) -> None:
        """Remove one active run with the next write."""
        with self._lock:
            runs = self._active_runs.get(job)
            run = runs.pop(0) if runs else None
        if run is not None:
            self._change(job, {run: None})

    def flush(self, timeout: float = 2.0) -> None:
        """Write what is not written yet, and wait for pending writes."""
        for thread in self._threads:
            thread.join(timeout)
        self._write()

    def after_fork_in_child(self) -> None:
        """In a forked child: pending writes and active runs belong to the parent."""
        if self._process_lock is not None:
            self._process_lock.release()
            self._process_lock = None
        self._reset()

    def _change(self, job: str, timestamps: Mapping[str, float | None]) -> None:
        with self._lock:
            self._unwritten.setdefault(job, {}).update(timestamps)

    def _take_changes(self) -> Changes:
        with self._lock:
            changes, self._unwritten = self._unwritten, {}
        return changes

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
        if not self._unwritten:
            return
        killed_runs: list[tuple[str, float]] = []
        try:
            with FileLock(self._path.with_name(f".{self._path.name}.lock"), wait=True):
                changes = self._take_changes()  # with the lock of the file: writes are in the order of the changes
                stored: dict[str, Timestamps] = {}
                with suppress(Exception):  # an unreadable file is overwritten
                    stored = self._read()
                killed_runs = self._remove_killed_runs(stored, changes)
                self._hold_process_lock()
                _replace_file(self._path, orjson.dumps(_merge(stored, changes), option=orjson.OPT_INDENT_2))
        except Exception as error:  # noqa: BLE001  a full or read-only disk must not affect the job
            self._take_changes()
            self._internal_telemetry.record_error("work.state", error)
        else:
            for job, began in killed_runs:
                with self._internal_telemetry.guard("work.state"):
                    self._on_killed[job](began)

    def _remove_killed_runs(self, stored: dict[str, Timestamps], changes: Changes) -> list[tuple[str, float]]:
        """For each job that begins a run, remove the active runs of ended processes. Return their jobs and start times."""
        killed_runs = []
        for job, new in changes.items():
            if not any(name.startswith(_RUNNING) and timestamp is not None for name, timestamp in new.items()):
                continue
            timestamps = stored.get(job, {})
            for name in [name for name in timestamps if name.startswith(_RUNNING)]:
                process = name.removeprefix(_RUNNING).partition(":")[0]
                if process != self._process and not is_locked(self._process_file(process)):
                    killed_runs.append((job, timestamps.pop(name)))
                    self._process_file(process).unlink(missing_ok=True)
        return killed_runs

    def _hold_process_lock(self) -> None:
        """Hold the lock of this process while it has active runs; called with the lock of the state file."""
        is_active = any(self._active_runs.values())
        if is_active and self._process_lock is None:
            self._process_lock = FileLock(self._process_file(self._process))
        elif not is_active and self._process_lock is not None:
            self._process_file(self._process).unlink(missing_ok=True)
            self._process_lock.release()
            self._process_lock = None

    def _process_file(self, process: str) -> Path:
        return self._path.with_name(f".{self._path.name}.{process}.lock")


_state_files: weakref.WeakSet[ScheduleStateFile] = weakref.WeakSet()


def _flush_state_files() -> None:
    for state in list(_state_files):
        state.flush()


call_at_exit(_flush_state_files)


def _merge(stored: Mapping[str, Timestamps], changes: Changes) -> dict[str, Timestamps]:
    """Apply changes: of two timestamps, the later one is kept."""
    merged = {job: dict(timestamps) for job, timestamps in stored.items()}
    for job, new in changes.items():
        timestamps = merged.setdefault(job, {})
        for name, timestamp in new.items():
            if timestamp is None:
                timestamps.pop(name, None)
            else:
                timestamps[name] = max(timestamp, timestamps.get(name, 0.0))
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
