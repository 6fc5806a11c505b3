"""Metric families: all series of one metric, one for each combination of label values, up to the cardinality limit.

Instrumentation looks a series up once and caches it; only new combinations of label values are created here.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

from connectsoft_obs.signals.metrics.cardinality_limit import CardinalityLimiter, sanitize_label_value
from connectsoft_obs.signals.metrics.series import Child, ForkedSeries, Histogram, NumberSeries, read_series
from connectsoft_obs.signals.metrics.storage import ExemplarSlots, Storage
from connectsoft_obs.vocabulary import Instrument, Metric, MultiprocessMode


class Family:
    """All series of one metric. Thread-safe.

    Args:
        metric: definition of the metric.
        storage: allocates the cells.
        limit: maximum number of series; further label values share series whose unbounded labels are empty.
        on_overflow: called with the metric for each look-up beyond the limit.
    """

    def __init__(self, metric: Metric, storage: Storage, limit: int, on_overflow: Callable[[Metric], None]) -> None:
        self.metric = metric
        self.children: dict[tuple[str, ...], Child] = {}
        self._storage = storage
        self._limiter = CardinalityLimiter(metric, limit)
        self._on_overflow = on_overflow
        self._lock = threading.RLock()  # a signal handler can record while its thread creates a series
        self._allocate_after_fork: Callable[[], None] | None = None

    def child(self, values: tuple[str, ...]) -> Child:
        """The series of label values, in the order of the definition; an empty string is an absent label."""
        return self.children.get(values) or self._add_child(values)

    def number_series(self, *values: str) -> NumberSeries:
        """`child` of a counter or gauge."""
        series = self.child(values)
        assert isinstance(series, NumberSeries)
        return series

    def histogram_series(self, *values: str) -> Histogram:
        """`child` of a histogram."""
        series = self.child(values)
        assert isinstance(series, Histogram)
        return series

    def migrate(self, storage: Storage) -> None:
        """Move all series and their values to another storage."""
        with self._lock:
            self._storage, self._allocate_after_fork = storage, None
            for values, child in self.children.items():
                old_cells = child.cells
                cells = storage.allocate_cells(self.metric, values, len(old_cells))
                if isinstance(old_cells, ForkedSeries):
                    for index, value in enumerate(old_cells.tolist()):
                        cells[index] = value
                    child.cells = cells
                else:
                    # No function call between copy and assignment: threads switch at calls, so no addition is lost.
                    cells[:] = old_cells
                    child.cells = cells
                if isinstance(child, Histogram) and child.exemplar_slots is not None:
                    slots = storage.allocate_exemplars(self.metric, values, len(child.bounds) + 1)
                    slots[:] = child.exemplar_slots
                    child.exemplar_slots = slots

    def take_over(self, previous: Family) -> None:
        """Take over the series of another family of the same metric; measurements for `previous` are then recorded here.

        A series that exists here already, or has other buckets, receives the values. Gauges that exist here keep theirs.
        """
        is_additive = self.metric.instrument in (Instrument.COUNTER, Instrument.HISTOGRAM)
        for values, child in list(previous.children.items()):
            with self._lock:
                if values not in self.children and previous.metric.buckets == self.metric.buckets:
                    self.children[values] = child
                    if isinstance(child, Histogram):
                        child.allocate_exemplars = partial(self._allocate_exemplars, values)
                    continue
            if is_additive:
                _add_values(self.child(values), child)

    def reset_after_fork(self, allocate: Callable[[], None]) -> None:
        """Reset in a forked child: all values start at zero, except gauges that describe state the child inherits.

        Args:
            allocate: allocates cells for all families; called when the child first records a measurement.
        """
        self._lock = threading.RLock()
        self._allocate_after_fork = allocate
        metric = self.metric
        is_cumulative = metric.instrument in (Instrument.COUNTER, Instrument.HISTOGRAM)
        is_summed = metric.instrument is Instrument.UPDOWN and metric.merge is MultiprocessMode.SUM
        is_inherited = not is_cumulative and not is_summed
        for child in self.children.values():
            values = [*child.cells.tolist()] if is_inherited else [0.0] * len(child.cells)
            child.cells = ForkedSeries(child, values, allocate)
            if isinstance(child, Histogram):
                child.exemplar_slots = None

    def _add_child(self, values: tuple[str, ...]) -> Child:
        if (allocate := self._allocate_after_fork) is not None:
            allocate()
        values = tuple(map(sanitize_label_value, values))
        with self._lock:
            values, has_overflowed = self._limiter.admit(values, self.children)
            child = self.children.get(values)
            if child is None:
                child = self.children.setdefault(values, self._create_child(values))
        if has_overflowed:
            self._on_overflow(self.metric)
        return child

    def _create_child(self, values: tuple[str, ...]) -> Child:
        metric = self.metric
        if metric.instrument is Instrument.HISTOGRAM:
            cells = self._storage.allocate_cells(metric, values, len(metric.buckets) + 2)
            return Histogram(cells, metric.buckets, partial(self._allocate_exemplars, values))
        return NumberSeries(self._storage.allocate_cells(metric, values, 1))

    def _allocate_exemplars(self, values: tuple[str, ...]) -> ExemplarSlots:
        with self._lock:
            child = self.children.get(values)
            if isinstance(child, Histogram) and child.exemplar_slots is not None:
                return child.exemplar_slots
            slots = self._storage.allocate_exemplars(self.metric, values, len(self.metric.buckets) + 1)
            if isinstance(child, Histogram):
                child.exemplar_slots = slots
            return slots


def _add_values(target: Child, source: Child) -> None:
    """Add the values of a series to another one; counts of a bucket go to the bucket with the next higher bound."""
    target.cells[0] += source.cells[0]
    if isinstance(target, Histogram) and isinstance(source, Histogram):
        for index, count in enumerate(source.cells.tolist()[1:]):
            bound = source.bounds[index] if index < len(source.bounds) else inf
            target.cells[bisect_left(target.bounds, bound) + 1] += count


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Values of one family at one time, by label values: numbers or `HistogramData`.

    `prometheus_type` is the type of a family that was created with prometheus_client.
    """

    metric: Metric
    series: dict[tuple[str, ...], Any]
    prometheus_type: str = ""


def take_snapshot(family: Family, pause: Callable[[], None], exemplars: bool) -> Snapshot:
    """Read all current values of a family; `pause` is called between series."""
    series = {}
    for values, child in list(family.children.items()):
        pause()
        series[values] = read_series(child, exemplars)
    return Snapshot(family.metric, series)
