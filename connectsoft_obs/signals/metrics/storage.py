"""Where numbers live: runs of 64-bit floating point cells, in the memory of this process or in a file it shares."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from connectsoft_obs.vocabulary import Metric

Cells: TypeAlias = "memoryview[float]"
"""A run of cells. Adding to one (`cells[i] += x`) does not let go of the GIL in between on CPython 3.11 to 3.13, which
tests/metrics/test_concurrency.py holds it to; a lock would cost as much as the addition and could be held across a fork."""

ExemplarSlots: TypeAlias = "memoryview[int]"
"""Room for exemplars, as bytes: MARK of them for each bucket (`exemplars.py` says how they are used)."""

EXEMPLAR_BYTES = 48


class Storage(Protocol):
    """Gives out cells and marks that start at zero. Thread-safe; never raises."""

    def cells(self, metric: Metric, labels: tuple[str, ...], size: int) -> Cells:
        """Cells for one series."""

    def marks(self, metric: Metric, labels: tuple[str, ...], buckets: int) -> ExemplarSlots:
        """Room for the exemplars of one series."""


class Memory:
    """Cells that only this process sees."""

    def cells(self, metric: Metric, labels: tuple[str, ...], size: int) -> Cells:
        """Cells for one series."""
        return memoryview(bytearray(8 * size)).cast("d")

    def marks(self, metric: Metric, labels: tuple[str, ...], buckets: int) -> ExemplarSlots:
        """Room for the exemplars of one series."""
        return memoryview(bytearray(EXEMPLAR_BYTES * buckets))
