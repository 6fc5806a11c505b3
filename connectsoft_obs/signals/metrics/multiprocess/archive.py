"""The archive: one file with what all workers counted that have ended, so that neither files nor scrapes pile up.

Folding is safe at every step. A new archive is written beside the old one, with the names of the files it now
contains, and takes its place in one step; only then are those files removed. Whoever is killed before that step has
changed nothing; after it, the names in the archive keep its files from being counted twice until the next folding
removes them. The archive keeps the cap of each family, as one worker does.
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
from connectsoft_obs.process.identity import read_proc_stat
from connectsoft_obs.signals.metrics.aggregation import Labels, WorkerTotals
from connectsoft_obs.signals.metrics.cardinality_limit import CardinalityLimiter
from connectsoft_obs.signals.metrics.multiprocess import file_format
from connectsoft_obs.signals.metrics.multiprocess.directory import CELLS
from connectsoft_obs.signals.metrics.multiprocess.reader import Pause, WorkerFileReader
from connectsoft_obs.signals.metrics.multiprocess.writer import key_of
from connectsoft_obs.signals.metrics.series import HistogramData
from connectsoft_obs.vocabulary import Metric

ARCHIVE = "archive"
_LOCK = "archive.lock"
_ABANDONED = 60.0
_NAMES = 500


def compact(
    directory: Path, supervisor: int, limit: int, pause: Pause, failed: Callable[[Exception], None]
) -> list[int]:
    """Take the files of ended workers into the archive; the pids of those that were.

    None where somebody else is at it already.

    Args:
        directory: where workers meet.
        supervisor: pid of the process that started them.
        limit: series a family may have.
        pause: called between series.
        failed: told of a file that cannot be read; it is given up.

    Raises:
        OSError: the archive cannot be written; nothing is lost, and the next folding tries again.
    """
    if not ended(directory, supervisor):
        return []
    try:
        lock = FileLock(directory / _LOCK)
    except BlockingIOError:
        return []
    try:
        return _fold(directory, supervisor, limit, pause, failed)
    finally:
        lock.release()


def files(directory: Path) -> list[Path]:
    """The files of all workers."""
    with suppress(FileNotFoundError):
        return [path for path in directory.iterdir() if path.suffix == CELLS and not path.name.startswith(".")]
    return []


def ended(directory: Path, supervisor: int) -> list[Path]:
    """The files of workers that have ended, and whose CPU time their parent has been given (`processes.py`)."""
    found = {path: is_locked(path) for path in files(directory)}
    family = {supervisor, *map(pid_of, found)}
    living = {pid_of(path) for path, alive in found.items() if alive}
    return sorted(
        path
        for path, alive in found.items()
        if not alive and (pid_of(path) in living or not _is_zombie(pid_of(path), family))
    )


def pid_of(path: Path) -> int:
    """Whose file it is; 0 for nobody's."""
    pid = path.name.partition("-")[0]
    return int(pid) if pid.isdecimal() else 0


def _is_zombie(pid: int, family: Collection[int]) -> bool:
    """Whether a process that counts no more is there still, on its way out or waiting to be taken note of."""
    try:
        return int(read_proc_stat(pid)[1]) in family
    except (OSError, ValueError):
        return False


def _fold(directory: Path, supervisor: int, limit: int, pause: Pause, failed: Callable[[Exception], None]) -> list[int]:
    before = WorkerFileReader(directory / ARCHIVE)
    totals = WorkerTotals(_Cap(limit).admit)
    _add(before, totals, pause, failed)
    dead = ended(directory, supervisor)
    new = [path for path in dead if path.name not in before.folded]
    for path in new:
        _add(WorkerFileReader(path), totals, pause, failed)
    if new:
        _write(directory, totals, [path.name for path in dead])
    for path in dead:
        with suppress(FileNotFoundError):
            path.unlink()
    _sweep(directory)
    return [pid_of(path) for path in new]


def _add(peer: WorkerFileReader, totals: WorkerTotals, pause: Pause, failed: Callable[[Exception], None]) -> None:
    try:
        peer.add_to(totals, pause, living=False)
    except FileNotFoundError:
        return
    except Exception as error:  # noqa: BLE001  whatever is wrong with one file must not keep the others
        failed(error)


def _write(directory: Path, totals: WorkerTotals, folded: list[str]) -> None:
    """Write the archive and put it in the old one's place."""
    image = _Image()
    for start in range(0, len(folded), _NAMES):
        image.add(file_format.FOLDED, 0, "\0".join(folded[start : start + _NAMES]).encode())
    for number, snapshot in enumerate(totals.snapshots()):
        image.add(file_format.DEFINITION, number, orjson.dumps(dataclasses.asdict(snapshot.metric)))
        for labels, content in snapshot.series.items():
            cells = content.cells if isinstance(content, HistogramData) else (content,)
            image.add(file_format.SERIES, number, key_of(labels), struct.pack(f"={len(cells)}d", *cells))
            if isinstance(content, HistogramData) and content.marks:
                image.add(file_format.MARKS, number, key_of(labels), content.marks)
    fresh = directory / f".{ARCHIVE}.{os.getpid()}"
    try:
        fresh.write_bytes(image.content)
        fresh.replace(directory / ARCHIVE)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise


def _sweep(directory: Path) -> None:
    """Remove what a process left that was killed while it made a file."""
    for path in directory.iterdir():
        with suppress(OSError):
            if path.name.startswith(".") and time.time() - path.stat().st_mtime > _ABANDONED and not is_locked(path):
                path.unlink()


class _Cap:
    """Caps the families of the archive."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._firewalls: dict[str, CardinalityLimiter] = {}

    def admit(self, metric: Metric, series: Mapping[Labels, Any], labels: Labels) -> Labels:
        """The labels under which a series is kept."""
        firewall = self._firewalls.get(metric.name)
        if firewall is None:
            firewall = self._firewalls[metric.name] = CardinalityLimiter(metric, self._limit)
        return firewall.admit(labels, series)[0]


class _Image:
    """The content of a file, as `records` has it."""

    def __init__(self) -> None:
        self.content = bytearray(file_format.FIRST)
        self._offset = 0

    def add(self, kind: int, family: int, key: bytes, cells: bytes = b"") -> None:
        """Add a record."""
        count = len(cells) // 8
        size = file_format.size(key, count)
        if self._offset + size > len(self.content):
            self._offset = len(self.content)
            self.content.extend(bytes(len(self.content)))  # the next segment is as long as all before it
        with memoryview(self.content) as view:
            place = file_format.write(view, self._offset, kind, family, key, count)
        self.content[place : place + len(cells)] = cells
        self._offset += size
