"""Reading the files of other workers: what each holds now, with what was found in it last time kept as an index."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from connectsoft_obs.process.file_lock import is_descriptor_locked
from connectsoft_obs.signals.metrics.aggregation import WorkerTotals
from connectsoft_obs.signals.metrics.multiprocess import file_format
from connectsoft_obs.signals.metrics.multiprocess.writer import labels_of
from connectsoft_obs.signals.metrics.series import HistogramData
from connectsoft_obs.vocabulary import Instrument, Metric, MultiprocessMode

Pause = Callable[[], None]
_EIGHT = 8


class _Family:
    """Where the series of one metric are in a file: labels, first cell and number of cells; and their marks by labels."""

    __slots__ = ("marks", "metric", "series")

    def __init__(self) -> None:
        self.metric: Metric | None = None
        self.series: list[tuple[tuple[str, ...], int, int]] = []
        self.marks: dict[tuple[str, ...], slice] = {}


class WorkerFileReader:
    """One file and the places of its series. Used by one thread at a time.

    Records are never moved or changed once they are whole, so each is looked at once however often the file is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0
        self._families: dict[int, _Family] = {}
        self.folded: set[str] = set()

    def add_to(self, totals: WorkerTotals, pause: Pause, living: bool | None = None, exemplars: bool = True) -> bool:
        """Add what the file holds; `living` says whether its writer lives, the file's lock does by default.

        Raises:
            FileNotFoundError: it was folded into the archive meanwhile.
        """
        data, alive = self._read()
        living = alive if living is None else living
        self._index(data)
        for family in self._families.values():
            if family.metric is not None:
                totals.add(family.metric, _contents(family, family.metric, data, pause, exemplars), living)
        return living

    def _read(self) -> tuple[memoryview, bool]:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Asked before reading: a writer that dies in between has all it wrote in what is read.
            alive = is_descriptor_locked(descriptor)
            length = os.fstat(descriptor).st_size
            content = os.read(descriptor, length)
        finally:
            os.close(descriptor)
        return memoryview(content)[: len(content) // _EIGHT * _EIGHT], alive

    def _index(self, data: memoryview) -> None:
        for record, position in file_format.scan(data, self._position):
            self._position = position
            if record.kind == file_format.FOLDED:
                self.folded.update(record.key.decode().split("\0"))
                continue
            family = self._families.setdefault(record.family, _Family())
            if record.kind == file_format.DEFINITION:
                family.metric = metric_of(orjson.loads(record.key))
            elif record.kind == file_format.SERIES:
                family.series.append((labels_of(record.key), record.place // _EIGHT, record.cells))
            elif record.kind == file_format.MARKS:
                place = slice(record.place, record.place + _EIGHT * record.cells)
                family.marks[labels_of(record.key)] = place


def _contents(
    family: _Family, metric: Metric, data: memoryview, pause: Pause, exemplars: bool
) -> Iterator[tuple[tuple[str, ...], float | HistogramData]]:
    numbers = data.cast("d")
    if metric.instrument is not Instrument.HISTOGRAM:
        for labels, at, _ in family.series:
            pause()
            yield labels, numbers[at]
        return
    places = family.marks if exemplars else {}
    for labels, at, cells in family.series:
        pause()
        place = places.get(labels)
        yield labels, HistogramData(numbers[at : at + cells].tolist(), b"" if place is None else data[place].tobytes())


def metric_of(fields: dict[str, Any]) -> Metric:
    """A definition as a file has it."""
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
