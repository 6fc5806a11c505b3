"""Storage of metric values: arrays of 64-bit floating point cells, in process memory or in a shared file."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from connectsoft_obs.vocabulary import Metric

Cells: TypeAlias = "memoryview[float]"
"""Cells of one series. `cells[i] += x` does not release the GIL on CPython 3.11 to 3.13, which
tests/metrics/test_concurrency.py verifies. A lock would cost as much as the addition, and a fork could leave it locked."""

ExemplarSlots: TypeAlias = "memoryview[int]"
"""Memory for exemplars: EXEMPLAR_BYTES bytes for each bucket; `exemplars.py` describes the layout."""

EXEMPLAR_BYTES = 48


class Storage(Protocol):
    """Allocates cells and exemplar slots, initialized with zeros. Thread-safe; never raises."""

    def allocate_cells(self, metric: Metric, labels: tuple[str, ...], size: int) -> Cells:
        """Allocate the cells of one series."""

    def allocate_exemplars(self, metric: Metric, labels: tuple[str, ...], buckets: int) -> ExemplarSlots:
        """Allocate the exemplar slots of one series."""


class MemoryStorage:
    """Storage in the memory of this process."""

    def allocate_cells(self, metric: Metric, labels: tuple[str, ...], size: int) -> Cells:
        """Allocate the cells of one series."""
        return memoryview(bytearray(8 * size)).cast("d")

    def allocate_exemplars(self, metric: Metric, labels: tuple[str, ...], buckets: int) -> ExemplarSlots:
        """Allocate the exemplar slots of one series."""
        return memoryview(bytearray(EXEMPLAR_BYTES * buckets))
