"""Levels that operators set at run time: for a while, in all workers of a service, and then gone again.

The workers of a service share nothing but their parent. So each level is a small file in a directory named after service
and parent process; a thread of each worker looks there once a second. Where no such directory can be had, a level holds
in the worker that was asked.
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
from urllib.parse import quote, unquote

from connectsoft_obs.process import threads
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.process.identity import process_start_time
from connectsoft_obs.process.private_dir import private_dir
from connectsoft_obs.signals.logs.levels import INFO, LEVEL_BY_NAME, ROOT, Levels

PERIOD: Final = 1.0
"""Seconds until the other workers know."""

LOGGERS: Final = 100
"""Loggers that may have a level of their own at run time."""

Say = Callable[[int, str, dict[str, Any]], None]
_WORDS = {number: name for name, number in LEVEL_BY_NAME.items()}


class Override(NamedTuple):
    """One level: `until` is Unix time in seconds."""

    level: int
    until: float


class RuntimeLevels:
    """The run-time levels of one process. Thread-safe; no method raises.

    Args:
        service: whose workers share them.
        levels: what they are put over.
        longest: seconds a level stays at most.
        say: writes a line about each change.
    """

    def __init__(self, service: str, levels: Levels, longest: float, say: Say) -> None:
        self.longest = longest
        self._service = service
        self._levels = levels
        self._say = say
        self.after_fork_in_child()
        register_fork_handler(self)

    def after_fork_in_child(self) -> None:
        """In a forked child, and at first: no thread runs, and the parent may be another."""
        self._held: dict[str, Override] = {}
        self._alone: dict[str, Override] = {}
        self._before: dict[str, int] = {}
        self._place: Path | None = None
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def current(self) -> dict[str, Override]:
        """The levels in force, by logger."""
        return dict(self._held)

    def set(self, logger: str, level: int, seconds: float) -> bool:
        """Set a logger's level for some seconds; False where there is no room for one more."""
        override = Override(level, time.time() + min(max(seconds, 0.0), self.longest))
        with self._lock:
            if logger not in self._held and len(self._held) >= LOGGERS:
                return False
            if not self._write(logger, override):
                self._alone[logger] = override
        self.look()
        return True

    def look(self) -> None:
        """Put in force what is in the directory now, and end what is over."""
        with self._lock:
            now = time.time()
            self._alone = {name: one for name, one in self._alone.items() if one.until > now}
            found = {**self._read(now), **self._alone}
            before, self._held = self._held, found
            if found == before:
                return
            self._levels.change({name: one.level for name, one in found.items()})
            self._standard(found)
        for name in sorted(found.keys() | before.keys()):
            was, now_is = before.get(name), found.get(name)
            if was != now_is:
                self._tell(name, now_is)

    def start(self) -> None:
        """Look once a second from now on, in a thread of this process."""
        with self._lock:
            if self._thread is None:
                self._stopped.clear()
                self._thread = threads.start_thread("obs-log-levels", self._run)

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        self._thread = None

    def _run(self) -> None:
        while not self._stopped.wait(PERIOD):
            self.look()

    def _tell(self, name: str, now_is: Override | None) -> None:
        facts: dict[str, Any] = {
            "name": name,
            "level": _WORDS.get(self._levels.effective_level("" if name == ROOT else name)),
        }
        if now_is is None:
            self._say(INFO, "log level is back to what was configured", facts)
        else:
            seconds = round(now_is.until - time.time())
            self._say(INFO, "log level was set at run time", {**facts, "seconds": seconds})

    def _standard(self, found: dict[str, Override]) -> None:
        """The same for the standard library's loggers, which would not make the records otherwise."""
        for name in self._before.keys() - found.keys():
            logging.getLogger(None if name == ROOT else name).setLevel(self._before.pop(name))
        for name, one in found.items():
            logger = logging.getLogger(None if name == ROOT else name)
            self._before.setdefault(name, logger.level)
            logger.setLevel(one.level)

    def _write(self, logger: str, override: Override) -> bool:
        try:
            place = self._directory()
            with tempfile.NamedTemporaryFile("w", dir=place, prefix=".", delete=False) as file:
                file.write(f"{override.level} {override.until}")
            Path(file.name).replace(place / quote(logger, safe="")[:200])
        except OSError:
            return False
        return True

    def _read(self, now: float) -> dict[str, Override]:
        found: dict[str, Override] = {}
        with suppress(OSError):
            for path in sorted(self._directory().iterdir())[: LOGGERS * 2]:
                if path.name.startswith("."):
                    continue
                with suppress(OSError, ValueError):
                    level, until = path.read_text()[:100].split()
                    override = Override(int(level), float(until))
                    if override.until > now:
                        found[unquote(path.name)] = override
                    else:
                        path.unlink()
        return found

    def _directory(self) -> Path:
        """The workers' directory; only this user may look into it, because whoever can write there sets levels."""
        if self._place is None:
            place = private_dir(Path(tempfile.gettempdir())) / f"levels-{_worker_group_key(self._service)}"
            place.mkdir(mode=0o700, exist_ok=True)
            self._place = place
        return self._place


def _worker_group_key(service: str) -> str:
    """Tells the workers of one start of a service from all other processes: same service, same parent."""
    parent = os.getppid() if hasattr(os, "getppid") else 0
    started = process_start_time(parent) or ""
    return hashlib.blake2b(f"{service} {parent} {started}".encode(), digest_size=8).hexdigest()
