"""The file of one worker: cells that only this worker writes, in memory shared with the processes that read the file.

Space is allocated before it is mapped, so that a full disk causes an error for a new series instead of killing the
process: a write to a mapped page without disk space raises SIGBUS.
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
from connectsoft_obs.signals.metrics.multiprocess.directory import WORKER_FILE_SUFFIX
from connectsoft_obs.signals.metrics.storage import EXEMPLAR_BYTES, Cells, ExemplarSlots, MemoryStorage
from connectsoft_obs.vocabulary import Metric


class WorkerFile:
    """Metric storage in a file in the shared directory of the workers. Thread-safe.

    The file is locked while the process is alive; other workers test the lock. A series for which the file has no space
    is stored in the memory of this process, and `on_error` is called.

    Args:
        directory: the directory that the workers share.
        on_error: called with each error after construction.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, directory: Path, on_error: Callable[[OSError], None]) -> None:
        self.name: str = f"{os.getpid()}-{secrets.token_hex(4)}{WORKER_FILE_SUFFIX}"
        self._on_error = on_error
        self._lock = threading.RLock()  # reentrant because a signal handler may record while its thread holds the lock
        self._families: dict[str, int] = {}
        self._segment = -1
        self._offset = self._segment_end = self._segment_start = 0
        self._buffer = memoryview(b"")
        temporary = directory / f".{self.name}"
        # Locked before it is renamed: otherwise another worker could see the file without a lock, as that of an ended writer.
        self._file_lock = FileLock(temporary)
        try:
            # The lock has a separate descriptor; mmap duplicates the one it gets, and duplicates share a lock.
            self._descriptor = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
            self._add_segment()
            temporary.rename(directory / self.name)
        except OSError:
            self._file_lock.release()
            with suppress(OSError):
                temporary.unlink()
            raise

    def allocate_cells(self, metric: Metric, labels: tuple[str, ...], size: int) -> Cells:
        """Allocate the cells of one series."""
        buffer = self._allocate(file_format.SERIES, metric, labels, size)
        return MemoryStorage().allocate_cells(metric, labels, size) if buffer is None else buffer.cast("d")

    def allocate_exemplars(self, metric: Metric, labels: tuple[str, ...], buckets: int) -> ExemplarSlots:
        """Allocate the exemplar slots of one series."""
        buffer = self._allocate(file_format.EXEMPLARS, metric, labels, EXEMPLAR_BYTES // 8 * buckets)
        return MemoryStorage().allocate_exemplars(metric, labels, buckets) if buffer is None else buffer

    def close(self) -> None:
        """Stop recording into the file; in a forked child, close the descriptors of the parent's file."""
        self._file_lock.release()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)

    def _allocate(self, kind: int, metric: Metric, labels: tuple[str, ...], cell_count: int) -> memoryview | None:
        """Append a record for a series, and the definition of its metric before the first one; None on failure."""
        with self._lock:
            if self._descriptor < 0:
                return None
            try:
                family = self._families.get(metric.name)
                if family is None:
                    family = self._families[metric.name] = len(self._families)
                    self._append_record(file_format.DEFINITION, family, orjson.dumps(dataclasses.asdict(metric)), 0)
                return self._append_record(kind, family, encode_labels(labels), cell_count)
            except OSError as error:
                self._on_error(error)
                return None

    def _append_record(self, kind: int, family: int, key: bytes, cell_count: int) -> memoryview:
        size = file_format.record_size(key, cell_count)
        if size > file_format.MAX_RECORD_SIZE:
            raise OSError(f"a series of {size} bytes is too large for a worker file")
        while self._offset + size > self._segment_end:
            self._add_segment()
        # The space is taken before it is written, without a call in between: a signal handler that runs while the
        # record is written appends its records after it.
        buffer, offset = self._buffer, self._offset - self._segment_start
        self._offset += size
        cells_offset = file_format.write_record(buffer, offset, kind, family, key, cell_count)
        return buffer[cells_offset : cells_offset + 8 * cell_count]

    def _add_segment(self) -> None:
        segment = self._segment + 1
        start, length = file_format.segment_range(segment)
        allocate_space(self._descriptor, start, length)
        # The cells of earlier segments keep their mappings alive.
        buffer = memoryview(mmap.mmap(self._descriptor, length, offset=start))
        if self._segment < segment:  # otherwise a signal handler has added the segment
            self._segment, self._buffer = segment, buffer
            self._segment_start = self._offset = start
            self._segment_end = start + length


def encode_labels(labels: tuple[str, ...]) -> bytes:
    """The key of a series record: label values, each followed by a NUL; families remove NUL from values."""
    return "\0".join((*labels, "")).encode()


def decode_labels(key: bytes) -> tuple[str, ...]:
    """The label values in the key of a series record; the inverse of `encode_labels`."""
    return tuple(key.decode().split("\0")[:-1])


def allocate_space(descriptor: int, offset: int, length: int) -> None:
    """Extend a file with zeros and allocate disk space for them.

    Raises:
        OSError: there is no space.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, offset, length)
    else:
        os.lseek(descriptor, offset, os.SEEK_SET)
        os.write(descriptor, bytes(length))
