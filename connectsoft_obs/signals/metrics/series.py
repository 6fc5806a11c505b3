"""One series: a number or a distribution in cells. Recording into one is an addition to a cell, nothing more."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from time import time_ns
from typing import TypeAlias

from connectsoft_obs.signals.metrics import exemplars
from connectsoft_obs.signals.metrics.exemplars import Exemplar
from connectsoft_obs.signals.metrics.storage import EXEMPLAR_BYTES, Cells, ExemplarSlots

_write = exemplars.write

EXEMPLAR_MIN_INTERVAL_NS = 10_000_000
"""Nanoseconds for which the trace of a bucket is as good as a newer one; keeping one costs as much as the rest of a
measurement (tests/bench/record.py), and whoever reads it comes every few seconds."""


class NumberSeries:
    """A counter, an up-down counter or a gauge. Safe from any thread."""

    __slots__ = ("cells",)

    def __init__(self, cells: Cells) -> None:
        self.cells: Cells | ForkedSeries = cells

    def add(self, amount: float = 1.0) -> None:
        """Add to it."""
        self.cells[0] += amount

    def set(self, value: float) -> None:
        """Set it."""
        self.cells[0] = value


class Histogram:
    """A distribution: its sum in the first cell, then one count for each bucket, the infinite one last.

    Safe from any thread.

    Args:
        cells: where it counts.
        bounds: upper bounds of the buckets, without the infinite one.
        room: gives room for exemplars when the first one is kept.
    """

    __slots__ = ("bounds", "cells", "kept", "marks", "room")

    def __init__(self, cells: Cells, bounds: tuple[float, ...], room: Callable[[], ExemplarSlots]) -> None:
        self.cells: Cells | ForkedSeries = cells
        self.bounds: tuple[float, ...] = bounds
        self.marks: ExemplarSlots | None = None
        self.kept: list[int] = []
        self.room: Callable[[], ExemplarSlots] = room

    def observe(self, value: float) -> int:
        """Count a value; gives back its bucket, for `exemplify`."""
        bucket = bisect_left(self.bounds, value)
        # No call from here on: threads switch at calls, so nobody can move the cells between the two additions.
        cells = self.cells
        cells[bucket + 1] += 1.0
        cells[0] += value
        return bucket

    def observe_with_exemplar(self, value: float, ids: bytes, when: int) -> None:
        """Count a value, and keep its trace if that of its bucket is older than FRESH.

        `ids` are the trace's and the span's, `when` is in nanoseconds since 1970.
        """
        bucket = bisect_left(self.bounds, value)
        cells = self.cells
        cells[bucket + 1] += 1.0
        cells[0] += value
        marks = self.marks
        if marks is None:
            marks = self._opened()
        kept = self.kept
        if not 0 <= when - kept[bucket] < EXEMPLAR_MIN_INTERVAL_NS:
            kept[bucket] = when
            _write(marks, bucket * EXEMPLAR_BYTES, when, value, ids, when)

    def exemplify(self, bucket: int, value: float, trace_id: int, span_id: int) -> None:
        """Keep a trace that fell into a bucket; the latest one stays."""
        marks = self.marks
        if marks is None:
            marks = self._opened()
        when = time_ns()
        ids = trace_id.to_bytes(16, "big") + span_id.to_bytes(8, "big")
        _write(marks, bucket * EXEMPLAR_BYTES, when, value, ids, when)

    def _opened(self) -> ExemplarSlots:
        self.kept = [0] * (len(self.bounds) + 1)
        marks = self.marks = self.room()
        return marks


Child: TypeAlias = NumberSeries | Histogram


class ForkedSeries:
    """Stands in a forked child for the cells of a series until the child first records anything.

    The cells themselves belong to the parent. `open` gives every series of the child cells of its own, so that a child
    that records nothing costs nothing.
    """

    __slots__ = ("_child", "_open", "_values")

    def __init__(self, child: Child, values: list[float], open_: Callable[[], None]) -> None:
        self._child = child
        self._values = values
        self._open = open_

    def __len__(self) -> int:
        """Number of cells."""
        return len(self._values)

    def __getitem__(self, index: int) -> float:
        """Open, and read."""
        return self._cells()[index]

    def __setitem__(self, index: int, value: float) -> None:
        """Open, and write."""
        self._cells()[index] = value

    def tolist(self) -> list[float]:
        """What the child began with."""
        return list(self._values)

    def _cells(self) -> Cells:
        if isinstance(self._child.cells, ForkedSeries):
            self._open()
        cells = self._child.cells
        assert not isinstance(cells, ForkedSeries)
        return cells


class HistogramData:
    """What a histogram holds at one moment.

    Args:
        cells: the sum, then one count for each bucket, not cumulative, the infinite one last.
        marks: its exemplars as they are stored, b"" for none.
    """

    __slots__ = ("cells", "marks")

    def __init__(self, cells: Sequence[float], marks: bytes = b"") -> None:
        self.cells: Sequence[float] = cells
        self.marks: bytes = marks

    @property
    def total(self) -> float:
        """Sum of the measurements."""
        return self.cells[0]

    @property
    def counts(self) -> tuple[int, ...]:
        """Measurements in each bucket."""
        return tuple(map(int, self.cells[1:]))

    @property
    def count(self) -> int:
        """Number of measurements."""
        return int(sum(self.cells[1:]))

    @property
    def exemplars(self) -> tuple[Exemplar | None, ...]:
        """The exemplar of each bucket."""
        return exemplars.read(self.marks) if self.marks else (None,) * (len(self.cells) - 1)


def read(child: Child, with_exemplars: bool = True) -> float | HistogramData:
    """What a series holds now."""
    if type(child) is Histogram:
        marks = child.marks if with_exemplars else None
        return HistogramData(child.cells.tolist(), b"" if marks is None else marks.tobytes())
    cells = child.cells
    return cells.tolist()[0] if isinstance(cells, ForkedSeries) else cells[0]
