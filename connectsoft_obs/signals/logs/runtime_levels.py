"""Log levels that operators set at run time, for a limited time, in all workers of a service.

Workers of one service have only their parent process in common. Each override is a small file in a directory that is
named after the service and the parent process, and that only the current user can access, since its files set log
levels. A thread of each worker reads the directory once a second. If the directory cannot be created, an override applies
only to the worker that received the request.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from connectsoft_obs.process import threads
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.process.private_dir import private_dir
from connectsoft_obs.process.process_info import process_start_time
from connectsoft_obs.signals.logs.levels import INFO, LEVEL_BY_NAME, ROOT_LOGGER, Levels

REFRESH_INTERVAL: Final = 1.0
"""Seconds until all workers apply a change."""

MAX_LOGGERS: Final = 100
"""Loggers that may have an override at the same time."""

MAX_FILES: Final = 1000
"""Files that are read at each refresh."""

LogFunction = Callable[[int, str, dict[str, Any]], None]
_LEVEL_NAMES = {number: name for name, number in LEVEL_BY_NAME.items()}


class Override(NamedTuple):
    """A level and the Unix time in seconds until which it applies."""

    level: int
    until: float


class RuntimeLevels:
    """The run-time levels of one process. Thread-safe; no method raises.

    Args:
        service: name of the service whose workers share the levels.
        levels: the levels that are overridden.
        max_seconds: maximum duration of an override.
        log: logs a record about each change.
    """

    def __init__(self, service: str, levels: Levels, max_seconds: float, log: LogFunction) -> None:
        self.max_seconds = max_seconds
        self._service = service
        self._levels = levels
        self._log = log
        self.after_fork_in_child()
        register_fork_handler(self)

    def after_fork_in_child(self) -> None:
        """Initialise the state, also in a forked child: no thread, and possibly another parent process."""
        self._active: dict[str, Override] = {}
        self._local: dict[str, Override] = {}
        self._stdlib_levels: dict[str, int] = {}
        self._directory_name = f"levels-{_worker_group_key(self._service)}"
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def active_overrides(self) -> dict[str, Override]:
        """The overrides in effect, by logger."""
        return dict(self._active)

    def set(self, logger: str, level: int, seconds: float) -> bool:
        """Override the level of a logger for some seconds; False if too many loggers have an override."""
        override = Override(level, time.time() + min(max(seconds, 0.0), self.max_seconds))
        with self._lock:
            if logger not in self._active and len(self._active) >= MAX_LOGGERS:
                return False
            if not self._write_file(logger, override):
                self._local[logger] = override
        self.refresh()
        return True

    def refresh(self) -> None:
        """Apply the overrides in the directory and end those that have expired."""
        with self._lock:
            now = time.time()
            self._local = {name: override for name, override in self._local.items() if override.until > now}
            overrides = {**self._read_files(now), **self._local}
            previous, self._active = self._active, overrides
            if overrides == previous:
                return
            self._levels.set_overrides({name: override.level for name, override in overrides.items()})
            self._apply_to_stdlib(overrides)
        for name in sorted(overrides.keys() | previous.keys()):
            override = overrides.get(name)
            if override != previous.get(name):
                self._log_change(name, override)

    def start(self) -> None:
        """Refresh once a second in a thread of this process."""
        with self._lock:
            if self._thread is None:
                self._stopped.clear()
                self._thread = threads.start_thread("obs-log-levels", self._run)

    def stop(self) -> None:
        """Stop the thread, and remove the directory unless it has overrides that other workers may apply."""
        self._stopped.set()
        self._thread = None
        self._read_files(time.time())
        with suppress(OSError):
            self._directory().rmdir()

    def _run(self) -> None:
        while not self._stopped.wait(REFRESH_INTERVAL):
            self.refresh()

    def _log_change(self, name: str, override: Override | None) -> None:
        level = self._levels.effective_level("" if name == ROOT_LOGGER else name)
        fields: dict[str, Any] = {"connectsoft.obs.name": name, "connectsoft.obs.level": _LEVEL_NAMES.get(level)}
        if override is None:
            self._log(INFO, "log level was reset to its configured value", fields)
        else:
            seconds = round(override.until - time.time())
            self._log(INFO, "log level was set at run time", {**fields, "connectsoft.obs.seconds": seconds})

    def _apply_to_stdlib(self, overrides: dict[str, Override]) -> None:
        """Set the levels of the standard library's loggers, which would not create the records otherwise."""
        for name in self._stdlib_levels.keys() - overrides.keys():
            logging.getLogger(None if name == ROOT_LOGGER else name).setLevel(self._stdlib_levels.pop(name))
        for name, override in overrides.items():
            logger = logging.getLogger(None if name == ROOT_LOGGER else name)
            self._stdlib_levels.setdefault(name, logger.level)
            logger.setLevel(override.level)

    def _write_file(self, logger: str, override: Override) -> bool:
        """Write an override to a new file, which replaces the earlier ones of the logger; False if that fails.

        The name of the file is unique, so that no other worker can delete it because an earlier override has expired.
        """
        try:
            directory = self._directory()
            directory.mkdir(mode=0o700, exist_ok=True)
            with tempfile.NamedTemporaryFile("wb", dir=directory, prefix=".", delete=False) as file:
                file.write(orjson.dumps([logger, *override]))
            Path(file.name).replace(directory / f"{time.time_ns():020}-{os.getpid()}")
        except OSError:
            return False
        return True

    def _read_files(self, now: float) -> dict[str, Override]:
        """Return the latest override of each logger unless it has expired, and delete the files that have no effect."""
        latest: dict[str, tuple[Path, Override]] = {}
        with suppress(OSError):
            for path in sorted(self._directory().iterdir(), key=lambda path: path.name)[-MAX_FILES:]:
                if path.name.startswith("."):
                    continue
                with suppress(OSError, ValueError, TypeError):
                    logger, level, until = orjson.loads(path.read_bytes())
                    earlier = latest.get(logger)
                    latest[logger] = path, Override(int(level), float(until))
                    if earlier is not None:
                        earlier[0].unlink()
        overrides: dict[str, Override] = {}
        for logger, (path, override) in latest.items():
            if override.until > now:
                overrides[logger] = override
            else:
                with suppress(OSError):
                    path.unlink()
        return overrides

    def _directory(self) -> Path:
        return private_dir(Path(tempfile.gettempdir())) / self._directory_name


def _worker_group_key(service: str) -> str:
    """Identifies the workers of one start of a service: same service name, same parent process."""
    parent = os.getppid() if hasattr(os, "getppid") else 0
    started = process_start_time(parent) or ""
    return hashlib.blake2b(f"{service} {parent} {started}".encode(), digest_size=8).hexdigest()
