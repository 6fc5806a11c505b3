"""Reads the files of other workers and keeps an index of each file between reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from connectsoft_obs.process.file_lock import is_descriptor_locked
from connectsoft_obs.signals.metrics.aggregation import WorkerTotals
from connectsoft_obs.signals.metrics.multiprocess import file_format
from connectsoft_obs.signals.metrics.multiprocess.writer import decode_labels
from connectsoft_obs.signals.metrics.series import HistogramData
from connectsoft_obs.vocabulary import Instrument, Metric, MultiprocessMode

Pause = Callable[[], None]
_CELL_SIZE = 8


class _FamilyIndex:
    """The index of one family in a file.

    `series` contains labels, number of the first cell and number of cells; `exemplars` maps labels to byte ranges.
    """

    __slots__ = ("exemplars", "metric", "series")

    def __init__(self) -> None:
        self.metric: Metric | None = None
        self.series: list[tuple[tuple[str, ...], int, int]] = []
        self.exemplars: dict[tuple[str, ...], slice] = {}


class WorkerFileReader:
    """Reads one worker file or the archive. Not thread-safe.

    Complete records are never moved or changed, so each record is indexed once, however often the file is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0
        self._families: dict[int, _FamilyIndex] = {}
        self.archived_files: set[str] = set()

    def add_to(
        self, totals: WorkerTotals, pause: Pause, is_alive: bool | None = None, with_exemplars: bool = True
    ) -> bool:
        """Add the values in the file to `totals` and return whether the writer of the file is alive.

        Args:
            totals: receives the values.
            pause: called between series.
            is_alive: whether the writer of the file is alive; determined from the lock of the file by default.
            with_exemplars: whether to read exemplars.

        Raises:
            FileNotFoundError: the file was merged into the archive.
        """
        data, is_file_locked = self._read()
        is_alive = is_file_locked if is_alive is None else is_alive
        self._update_index(data)
        for family in self._families.values():
            if family.metric is not None:
                totals.add(family.metric, _iter_series(family, family.metric, data, pause, with_exemplars), is_alive)
        return is_alive

    def _read(self) -> tuple[memoryview, bool]:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # The lock is tested before reading: the read then includes all that an ended writer wrote.
            is_file_locked = is_descriptor_locked(descriptor)
            length = os.fstat(descriptor).st_size
            content = os.read(descriptor, length)
        finally:
            os.close(descriptor)
        return memoryview(content)[: len(content) // _CELL_SIZE * _CELL_SIZE], is_file_locked

    def _update_index(self, data: memoryview) -> None:
        for record, next_position in file_format.scan_records(data, self._position):
            self._position = next_position
            if record.kind == file_format.ARCHIVED_FILES:
                self.archived_files.update(record.key.decode().split("\0"))
                continue
            family = self._families.setdefault(record.family, _FamilyIndex())
            if record.kind == file_format.DEFINITION:
                family.metric = decode_metric(orjson.loads(record.key))
            elif record.kind == file_format.SERIES:
                first_cell = record.cells_offset // _CELL_SIZE
                family.series.append((decode_labels(record.key), first_cell, record.cell_count))
            elif record.kind == file_format.EXEMPLARS:
                byte_range = slice(record.cells_offset, record.cells_offset + _CELL_SIZE * record.cell_count)
                family.exemplars[decode_labels(record.key)] = byte_range


def _iter_series(
    family: _FamilyIndex, metric: Metric, data: memoryview, pause: Pause, with_exemplars: bool
) -> Iterator[tuple[tuple[str, ...], float | HistogramData]]:
    cells = data.cast("d")
    if metric.instrument is not Instrument.HISTOGRAM:
        for labels, first_cell, _ in family.series:
            pause()
            yield labels, cells[first_cell]
        return
    exemplars = family.exemplars if with_exemplars else {}
    for labels, first_cell, cell_count in family.series:
        pause()
        byte_range = exemplars.get(labels)
        yield (
            labels,
            HistogramData(
                cells[first_cell : first_cell + cell_count].tolist(),
                b"" if byte_range is None else data[byte_range].tobytes(),
            ),
        )


def decode_metric(fields: dict[str, Any]) -> Metric:
    """The metric that a definition record describes."""
    return Metric(
        fields["name"],
        Instrument(fields["instrument"]),
        fields["unit"],
        fields["help"],
        tuple(fields["labels"]),
        tuple(map(float, fields["buckets"])),
        MultiprocessMode(fields["merge"]),
        tuple(fields["states"]),
    )
