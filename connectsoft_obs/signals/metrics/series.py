"""Series: one number or one histogram in cells. Recording a measurement only adds to cells."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from time import time_ns
from typing import TypeAlias

from connectsoft_obs.signals.metrics import exemplars
from connectsoft_obs.signals.metrics.exemplars import Exemplar
from connectsoft_obs.signals.metrics.storage import EXEMPLAR_BYTES, Cells, ExemplarSlots

_write_exemplar = exemplars.write_exemplar

EXEMPLAR_MIN_INTERVAL_NS = 10_000_000
"""Minimum nanoseconds between two exemplars of one bucket: storing an exemplar costs as much as the rest of a measurement
(tests/bench/record.py), and exemplars are read only every few seconds."""


class NumberSeries:
    """A series of a counter, up-down counter or gauge. Thread-safe."""

    __slots__ = ("cells",)

    def __init__(self, cells: Cells) -> None:
        self.cells: Cells | ForkedSeries = cells

    def add(self, amount: float = 1.0) -> None:
        """Add to the value."""
        self.cells[0] += amount

    def set(self, value: float) -> None:
        """Set the value."""
        self.cells[0] = value


class Histogram:
    """A series of a histogram: the sum in the first cell, then one count per bucket, the `+Inf` bucket last.

    Thread-safe.

    Args:
        cells: memory for the sum and the counts.
        bounds: upper bounds of the buckets, without `+Inf`.
        allocate_exemplars: allocates memory for exemplars; called with the first exemplar.
    """

    __slots__ = ("allocate_exemplars", "bounds", "cells", "exemplar_slots", "exemplar_times")

    def __init__(
        self, cells: Cells, bounds: tuple[float, ...], allocate_exemplars: Callable[[], ExemplarSlots]
    ) -> None:
        self.cells: Cells | ForkedSeries = cells
        self.bounds: tuple[float, ...] = bounds
        self.exemplar_slots: ExemplarSlots | None = None
        self.exemplar_times: list[int] = []
        self.allocate_exemplars: Callable[[], ExemplarSlots] = allocate_exemplars

    def observe(self, value: float) -> int:
        """Record a value; returns the index of its bucket, for `add_exemplar`."""
        bucket = bisect_left(self.bounds, value)
        # No function call after this line: threads switch at calls, so `migrate` cannot replace the cells between the
        # two additions.
        cells = self.cells
        cells[bucket + 1] += 1.0
        cells[0] += value
        return bucket

    def observe_with_exemplar(self, value: float, ids: bytes, time_unix_nano: int) -> None:
        """Record a value, with an exemplar unless that of its bucket is newer than EXEMPLAR_MIN_INTERVAL_NS.

        Args:
            value: the measurement.
            ids: trace id (16 bytes) and span id (8 bytes).
            time_unix_nano: nanoseconds since 1970.
        """
        bucket = bisect_left(self.bounds, value)
        cells = self.cells
        cells[bucket + 1] += 1.0
        cells[0] += value
        slots = self.exemplar_slots
        if slots is None:
            slots = self._allocate_slots()
        times = self.exemplar_times
        if not 0 <= time_unix_nano - times[bucket] < EXEMPLAR_MIN_INTERVAL_NS:
            times[bucket] = time_unix_nano
            _write_exemplar(slots, bucket * EXEMPLAR_BYTES, time_unix_nano, value, ids, time_unix_nano)

    def add_exemplar(self, bucket: int, value: float, trace_id: int, span_id: int) -> None:
        """Set the exemplar of a bucket; it replaces the previous one."""
        slots = self.exemplar_slots
        if slots is None:
            slots = self._allocate_slots()
        time_unix_nano = time_ns()
        ids = trace_id.to_bytes(16, "big") + span_id.to_bytes(8, "big")
        _write_exemplar(slots, bucket * EXEMPLAR_BYTES, time_unix_nano, value, ids, time_unix_nano)

    def _allocate_slots(self) -> ExemplarSlots:
        self.exemplar_times = [0] * (len(self.bounds) + 1)
        slots = self.exemplar_slots = self.allocate_exemplars()
        return slots


Child: TypeAlias = NumberSeries | Histogram


class ForkedSeries:
    """Replaces the cells of a series in a forked child until the child records a measurement.

    The cells belong to the parent process. The first access to one calls `allocate`, which allocates cells for all series
    of the child; a child that records nothing allocates nothing.

    Args:
        child: the series.
        values: initial values in the child.
        allocate: allocates cells for all series.
    """

    __slots__ = ("_allocate", "_child", "_values")

    def __init__(self, child: Child, values: list[float], allocate: Callable[[], None]) -> None:
        self._child = child
        self._values = values
        self._allocate = allocate

    def __len__(self) -> int:
        """Number of cells."""
        return len(self._values)

    def __getitem__(self, index: int) -> float:
        """Allocate cells and read one."""
        return self._get_cells()[index]

    def __setitem__(self, index: int, value: float) -> None:
        """Allocate cells and write one."""
        self._get_cells()[index] = value

    def tolist(self) -> list[float]:
        """Initial values in the child."""
        return list(self._values)

    def _get_cells(self) -> Cells:
        if isinstance(self._child.cells, ForkedSeries):
            self._allocate()
        cells = self._child.cells
        assert not isinstance(cells, ForkedSeries)
        return cells


class HistogramData:
    """Values of a histogram at one time.

    Args:
        cells: the sum, then one count per bucket, not cumulative, the `+Inf` bucket last.
        encoded_exemplars: exemplars in the format of their storage, empty if there are none.
    """

    __slots__ = ("cells", "encoded_exemplars")

    def __init__(self, cells: Sequence[float], encoded_exemplars: bytes = b"") -> None:
        self.cells: Sequence[float] = cells
        self.encoded_exemplars: bytes = encoded_exemplars

    @property
    def sum(self) -> float:
        """Sum of the measurements."""
        return self.cells[0]

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of measurements in each bucket."""
        return tuple(map(int, self.cells[1:]))

    @property
    def count(self) -> int:
        """Number of measurements."""
        return int(sum(self.cells[1:]))

    @property
    def exemplars(self) -> tuple[Exemplar | None, ...]:
        """Exemplar of each bucket, None for a bucket without one."""
        encoded = self.encoded_exemplars
        return exemplars.decode_exemplars(encoded) if encoded else (None,) * (len(self.cells) - 1)


def read_series(child: Child, with_exemplars: bool = True) -> float | HistogramData:
    """Current value of a series."""
    if type(child) is Histogram:
        slots = child.exemplar_slots if with_exemplars else None
        return HistogramData(child.cells.tolist(), b"" if slots is None else slots.tobytes())
    cells = child.cells
    return cells.tolist()[0] if isinstance(cells, ForkedSeries) else cells[0]
