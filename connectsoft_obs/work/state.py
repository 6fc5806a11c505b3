"""The last runs of scheduled jobs in a file, so that what they say survives the process.

One small JSON object, replaced as a whole; processes that share it lock it while they merge, and of each moment the
later one is kept. A file that cannot be read or written is told once and never stands in a job's way.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson

from connectsoft_obs import daemons
from connectsoft_obs.forks import renew
from connectsoft_obs.ledger import Ledger

Moments = dict[str, float]
"""Unix times in seconds: `began`, `last_run`, `last_success`."""


class State:
    """The moments of each job. Thread-safe, and safe for several processes.

    Args:
        path: the file; its folder must exist and be writable.
        ledger: told what fails.
    """

    def __init__(self, path: Path, ledger: Ledger) -> None:
        self._path = path
        self._ledger = ledger
        self._new: dict[str, Moments] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        renew(self)
        _states.add(self)

    def of(self, job: str) -> Moments:
        """What is known of a job; empty for nothing."""
        try:
            return dict(self._read().get(job, {}))
        except Exception as error:  # noqa: BLE001  a broken file is no reason not to start
            self._ledger.error("work.state", error)
            return {}

    def note(self, job: str, **moments: float) -> None:
        """Keep moments of a job; at once, or from a thread where an event loop would wait for the disk."""
        with self._lock:
            self._new.setdefault(job, {}).update(moments)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._write()
        else:
            thread = daemons.start("obs-state", self._write)
            if thread is None:
                self._write()
            else:
                self._threads = [known for known in self._threads if known.is_alive()] + [thread]

    def flush(self, timeout: float = 2.0) -> None:
        """Wait for what is being written."""
        for thread in self._threads:
            thread.join(timeout)

    def forked(self) -> None:
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
            with _locked(self._path):
                with suppress(Exception):  # what cannot be read is written anew
                    new = _later(self._read(), new)
                _replace(self._path, orjson.dumps(new, option=orjson.OPT_INDENT_2))
        except Exception as error:  # noqa: BLE001  a full or read-only disk is not the job's problem
            self._ledger.error("work.state", error)


_states: weakref.WeakSet[State] = weakref.WeakSet()


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


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among the processes that share a file; where the system has no such locks, alone in this process."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with path.with_name(f".{path.name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
