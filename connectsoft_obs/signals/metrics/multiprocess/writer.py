"""The file of one worker: cells that it alone writes, in memory it shares with whoever reads the file.

Space is reserved before it is mapped, so that a full disk refuses a new series instead of killing the process (a write
to a mapped page that cannot be stored is a SIGBUS).
"""

from __future__ import annotations

import dataclasses
import mmap
import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import orjson

from connectsoft_obs.process.file_lock import FileLock
from connectsoft_obs.signals.metrics.multiprocess import file_format
from connectsoft_obs.signals.metrics.multiprocess.directory import CELLS
from connectsoft_obs.signals.metrics.storage import EXEMPLAR_BYTES, Cells, ExemplarSlots, Memory
from connectsoft_obs.vocabulary import Metric


class WorkerFile:
    """A store in a file of a directory where workers meet. Thread-safe.

    It is locked for as long as the process lives, which is how others know that it does. What finds no room in it goes
    to the memory of this process, and `failed` is told why.

    Args:
        directory: where.
        failed: told of each error.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, directory: Path, failed: Callable[[OSError], None]) -> None:
        self.name: str = f"{os.getpid()}-{secrets.token_hex(4)}{CELLS}"
        self._failed = failed
        self._lock = threading.RLock()  # a signal handler may record while its thread is in here
        self._families: dict[str, int] = {}
        self._segment = -1
        self._offset = self._end = self._start = 0
        self._buffer = memoryview(b"")
        fresh = directory / f".{self.name}"
        # Locked before it gets its name: nobody sees it unlocked and takes its writer for dead.
        self._held = FileLock(fresh)
        try:
            # The lock has a descriptor of its own; mmap copies the one it gets, and copies share their lock.
            self._descriptor = os.open(fresh, os.O_RDWR | os.O_CLOEXEC)
            self._grow()
            fresh.rename(directory / self.name)
        except OSError:
            self._held.release()
            with suppress(OSError):
                fresh.unlink()
            raise

    def cells(self, metric: Metric, labels: tuple[str, ...], size: int) -> Cells:
        """Cells for one series."""
        found = self._record(file_format.SERIES, metric, labels, size)
        return Memory().cells(metric, labels, size) if found is None else found.cast("d")

    def marks(self, metric: Metric, labels: tuple[str, ...], buckets: int) -> ExemplarSlots:
        """Room for the exemplars of one series."""
        found = self._record(file_format.MARKS, metric, labels, EXEMPLAR_BYTES // 8 * buckets)
        return Memory().marks(metric, labels, buckets) if found is None else found

    def close(self) -> None:
        """This process counts here no more; in a forked child, let go of the parent's file."""
        self._held.release()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)

    def _record(self, kind: int, metric: Metric, labels: tuple[str, ...], cells: int) -> memoryview | None:
        with self._lock:
            if self._descriptor < 0:
                return None
            try:
                number = self._families.get(metric.name)
                if number is None:
                    number = self._families[metric.name] = len(self._families)
                    self._write(file_format.DEFINITION, number, orjson.dumps(dataclasses.asdict(metric)), 0)
                return self._write(kind, number, key_of(labels), cells)
            except OSError as error:
                self._failed(error)
                return None

    def _write(self, kind: int, family: int, key: bytes, cells: int) -> memoryview:
        size = file_format.size(key, cells)
        if size > file_format.LARGEST:
            raise OSError(f"a series of {size} bytes is too large to share")
        while self._offset + size > self._end:
            self._grow()
        # Taken before it is written, and no call in between: a handler that runs meanwhile writes behind it.
        buffer, offset = self._buffer, self._offset - self._start
        self._offset += size
        place = file_format.write(buffer, offset, kind, family, key, cells)
        return buffer[place : place + 8 * cells]

    def _grow(self) -> None:
        segment = self._segment + 1
        start, length = file_format.segment(segment)
        reserve(self._descriptor, start, length)
        # Earlier mappings live on in the cells that were given out of them.
        buffer = memoryview(mmap.mmap(self._descriptor, length, offset=start))
        if self._segment < segment:  # else a signal handler was faster
            self._segment, self._buffer = segment, buffer
            self._start = self._offset = start
            self._end = start + length


def key_of(labels: tuple[str, ...]) -> bytes:
    """Label values as a record has them, each with a NUL behind it; families let no NUL into a value."""
    return "\0".join((*labels, "")).encode()


def labels_of(key: bytes) -> tuple[str, ...]:
    """The opposite of `key_of`."""
    return tuple(key.decode().split("\0")[:-1])


def reserve(descriptor: int, offset: int, length: int) -> None:
    """Make zeros at the end of a file that are really there.

    Raises:
        OSError: there is no room for them.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, offset, length)
    else:
        os.lseek(descriptor, offset, os.SEEK_SET)
        os.write(descriptor, bytes(length))
