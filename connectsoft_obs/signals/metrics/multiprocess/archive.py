"""The archive: one file with the metric values of all ended workers, which bounds the number of files and scrape time.

Compaction can be interrupted at any step. A new archive is written next to the old one, together with the names of the
files that it contains, and replaces the old one atomically; only then are those files removed. A process that is
killed before the replacement has changed nothing. After the replacement, the names in the archive prevent files that
still exist from being counted twice, until the next compaction removes them. The archive applies the same cardinality
limit to each family as a worker does.
"""

from __future__ import annotations

import dataclasses
import os
import struct
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from connectsoft_obs.process.file_lock import FileLock, is_locked
from connectsoft_obs.process.process_info import read_proc_stat
from connectsoft_obs.signals.metrics.aggregation import Labels, WorkerTotals
from connectsoft_obs.signals.metrics.cardinality_limit import CardinalityLimiter
from connectsoft_obs.signals.metrics.multiprocess import file_format
from connectsoft_obs.signals.metrics.multiprocess.directory import WORKER_FILE_SUFFIX
from connectsoft_obs.signals.metrics.multiprocess.reader import Pause, WorkerFileReader
from connectsoft_obs.signals.metrics.multiprocess.writer import encode_labels
from connectsoft_obs.signals.metrics.series import HistogramData
from connectsoft_obs.vocabulary import Metric

ARCHIVE_NAME = "archive"
_LOCK_NAME = "archive.lock"
_TEMPORARY_FILE_SECONDS = 60.0
_NAMES_PER_RECORD = 500


def compact(
    directory: Path,
    supervisor_pid: int,
    cardinality_limit: int,
    pause: Pause,
    on_error: Callable[[Exception], None],
) -> list[int]:
    """Merge the files of ended workers into the archive and return the pids of those workers.

    Returns an empty list if no worker has ended or another process is compacting.

    Args:
        directory: the directory of the worker group.
        supervisor_pid: pid of the process that started the workers.
        cardinality_limit: maximum number of series per family.
        pause: called between series.
        on_error: called with the error for a file that cannot be read; the file is removed.

    Raises:
        OSError: the archive cannot be written; no data is lost, and the next compaction tries again.
    """
    if not ended_worker_files(directory, supervisor_pid):
        return []
    try:
        lock = FileLock(directory / _LOCK_NAME)
    except BlockingIOError:
        return []
    try:
        return _compact_locked(directory, supervisor_pid, cardinality_limit, pause, on_error)
    finally:
        lock.release()


def worker_files(directory: Path) -> list[Path]:
    """The files of all workers."""
    with suppress(FileNotFoundError):
        return [
            path for path in directory.iterdir() if path.suffix == WORKER_FILE_SUFFIX and not path.name.startswith(".")
        ]
    return []


def ended_worker_files(directory: Path, supervisor_pid: int) -> list[Path]:
    """The files of ended workers whose CPU time is included in that of their parent (see `process_metrics`)."""
    is_alive_by_path = {path: is_locked(path) for path in worker_files(directory)}
    parent_pids = {supervisor_pid, *map(worker_pid, is_alive_by_path)}
    alive_pids = {worker_pid(path) for path, is_alive in is_alive_by_path.items() if is_alive}
    return sorted(
        path
        for path, is_alive in is_alive_by_path.items()
        if not is_alive and (worker_pid(path) in alive_pids or not is_child(worker_pid(path), parent_pids))
    )


def worker_pid(path: Path) -> int:
    """The pid of the worker that wrote a file; 0 if the file name contains none."""
    pid = path.name.partition("-")[0]
    return int(pid) if pid.isdecimal() else 0


def is_child(pid: int, parent_pids: Collection[int]) -> bool:
    """Whether a process exists, including zombies, and is a child of one of these processes."""
    try:
        return int(read_proc_stat(pid)[1]) in parent_pids
    except (OSError, ValueError):
        return False


def _compact_locked(
    directory: Path,
    supervisor_pid: int,
    cardinality_limit: int,
    pause: Pause,
    on_error: Callable[[Exception], None],
) -> list[int]:
    archive_reader = WorkerFileReader(directory / ARCHIVE_NAME)
    totals = WorkerTotals(_FamilyLimiters(cardinality_limit).admit)
    _add_file(archive_reader, totals, pause, on_error)
    ended_files = ended_worker_files(directory, supervisor_pid)
    new_files = [path for path in ended_files if path.name not in archive_reader.archived_files]
    for path in new_files:
        _add_file(WorkerFileReader(path), totals, pause, on_error)
    if new_files:
        _write_archive(directory, totals, [path.name for path in ended_files])
    for path in ended_files:
        with suppress(FileNotFoundError):
            path.unlink()
    _remove_temporary_files(directory)
    return [worker_pid(path) for path in new_files]


def _add_file(
    reader: WorkerFileReader, totals: WorkerTotals, pause: Pause, on_error: Callable[[Exception], None]
) -> None:
    try:
        reader.add_to(totals, pause, is_alive=False)
    except FileNotFoundError:
        return
    except Exception as error:  # noqa: BLE001  an unreadable file must not prevent reading the others
        on_error(error)


def _write_archive(directory: Path, totals: WorkerTotals, archived_files: list[str]) -> None:
    """Write a new archive and replace the old one."""
    records = _RecordBuffer()
    for start in range(0, len(archived_files), _NAMES_PER_RECORD):
        names = archived_files[start : start + _NAMES_PER_RECORD]
        records.append(file_format.ARCHIVED_FILES, 0, "\0".join(names).encode())
    for family, snapshot in enumerate(totals.snapshots()):
        records.append(file_format.DEFINITION, family, orjson.dumps(dataclasses.asdict(snapshot.metric)))
        for labels, content in snapshot.series.items():
            cells = content.cells if isinstance(content, HistogramData) else (content,)
            records.append(file_format.SERIES, family, encode_labels(labels), struct.pack(f"={len(cells)}d", *cells))
            if isinstance(content, HistogramData) and content.encoded_exemplars:
                records.append(file_format.EXEMPLARS, family, encode_labels(labels), content.encoded_exemplars)
    temporary = directory / f".{ARCHIVE_NAME}.{os.getpid()}"
    try:
        temporary.write_bytes(records.content)
        temporary.replace(directory / ARCHIVE_NAME)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def _remove_temporary_files(directory: Path) -> None:
    """Remove the temporary files of processes that were killed while they created a file."""
    for path in directory.iterdir():
        with suppress(OSError):
            if (
                path.name.startswith(".")
                and time.time() - path.stat().st_mtime > _TEMPORARY_FILE_SECONDS
                and not is_locked(path)
            ):
                path.unlink()


class _FamilyLimiters:
    """The cardinality limiters of the families in the archive."""

    def __init__(self, cardinality_limit: int) -> None:
        self._cardinality_limit = cardinality_limit
        self._limiters: dict[str, CardinalityLimiter] = {}

    def admit(self, metric: Metric, series: Mapping[Labels, Any], labels: Labels) -> Labels:
        """The labels under which a new series is stored."""
        limiter = self._limiters.get(metric.name)
        if limiter is None:
            limiter = self._limiters[metric.name] = CardinalityLimiter(metric, self._cardinality_limit)
        return limiter.admit(labels, series)[0]


class _RecordBuffer:
    """The content of a file in the format of `file_format`, built in memory."""

    def __init__(self) -> None:
        self.content = bytearray(file_format.FIRST_SEGMENT_SIZE)
        self._offset = 0

    def append(self, kind: int, family: int, key: bytes, cells: bytes = b"") -> None:
        """Append a record."""
        cell_count = len(cells) // 8
        size = file_format.record_size(key, cell_count)
        if self._offset + size > len(self.content):
            self._offset = len(self.content)
            self.content.extend(bytes(len(self.content)))  # each segment is as long as all segments before it
        with memoryview(self.content) as view:
            cells_offset = file_format.write_record(view, self._offset, kind, family, key, cell_count)
        self.content[cells_offset : cells_offset + len(cells)] = cells
        self._offset += size
