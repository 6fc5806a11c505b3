"""Families: all series of one metric, one for each combination of label values, and the firewall that caps them.

Children are bound once by whoever records and kept; only a combination that was never seen gets here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from connectsoft_obs.signals.metrics.cardinality_limit import CardinalityLimiter, clean
from connectsoft_obs.signals.metrics.series import Child, ForkedSeries, Histogram, NumberSeries, read
from connectsoft_obs.signals.metrics.storage import ExemplarSlots, Storage
from connectsoft_obs.vocabulary import Instrument, Metric, MultiprocessMode


class Family:
    """All series of one metric. Thread-safe.

    Args:
        metric: its definition.
        store: where its cells live.
        limit: series it may have; further label values share series whose open labels are blank.
        overflow: told the metric for each measurement beyond the limit, or each child made for one.
    """

    def __init__(self, metric: Metric, store: Storage, limit: int, overflow: Callable[[Metric], None]) -> None:
        self.metric = metric
        self.children: dict[tuple[str, ...], Child] = {}
        self._store = store
        self._firewall = CardinalityLimiter(metric, limit)
        self._overflow = overflow
        self._lock = threading.RLock()  # a signal handler may record while its thread admits a series
        self._open: Callable[[], None] | None = None

    def child(self, values: tuple[str, ...]) -> Child:
        """The series of these label values, in the order of the definition; `""` is an absent label."""
        return self.children.get(values) or self._admit(values)

    def number(self, *values: str) -> NumberSeries:
        """`child` of a counter or gauge."""
        found = self.child(values)
        assert isinstance(found, NumberSeries)
        return found

    def histogram(self, *values: str) -> Histogram:
        """`child` of a histogram."""
        found = self.child(values)
        assert isinstance(found, Histogram)
        return found

    def migrate(self, store: Storage) -> None:
        """Let every series go on in another store, with what it holds."""
        with self._lock:
            self._store, self._open = store, None
            for values, child in self.children.items():
                before = child.cells
                cells = store.cells(self.metric, values, len(before))
                if isinstance(before, ForkedSeries):
                    for position, value in enumerate(before.tolist()):
                        cells[position] = value
                    child.cells = cells
                else:
                    # No call between copy and change: threads switch at calls, so no addition is lost in between.
                    cells[:] = before
                    child.cells = cells
                if isinstance(child, Histogram) and child.marks is not None:
                    marks = store.marks(self.metric, values, len(child.bounds) + 1)
                    marks[:] = child.marks
                    child.marks = marks

    def reset_in_child(self, open_: Callable[[], None]) -> None:
        """In a forked child: begin at zero, with the gauges that describe what the child has inherited."""
        self._lock = threading.RLock()
        self._open = open_
        metric = self.metric
        sums = metric.instrument in (Instrument.COUNTER, Instrument.HISTOGRAM)
        kept = not sums and (metric.instrument is not Instrument.UPDOWN or metric.merge is not MultiprocessMode.SUM)
        for child in self.children.values():
            values = [*child.cells.tolist()] if kept else [0.0] * len(child.cells)
            child.cells = ForkedSeries(child, values, open_)
            if isinstance(child, Histogram):
                child.marks = None

    def _admit(self, values: tuple[str, ...]) -> Child:
        if (open_ := self._open) is not None:
            open_()
        values = tuple(map(clean, values))
        with self._lock:
            values, over = self._firewall.admit(values, self.children)
            child = self.children.get(values)
            if child is None:
                child = self.children.setdefault(values, self._make(values))
        if over:
            self._overflow(self.metric)
        return child

    def _make(self, values: tuple[str, ...]) -> Child:
        metric = self.metric
        if metric.instrument is Instrument.HISTOGRAM:
            cells = self._store.cells(metric, values, len(metric.buckets) + 2)
            return Histogram(cells, metric.buckets, partial(self._room, values))
        return NumberSeries(self._store.cells(metric, values, 1))

    def _room(self, values: tuple[str, ...]) -> ExemplarSlots:
        with self._lock:
            child = self.children.get(values)
            if isinstance(child, Histogram) and child.marks is not None:
                return child.marks
            marks = self._store.marks(self.metric, values, len(self.metric.buckets) + 1)
            if isinstance(child, Histogram):
                child.marks = marks
            return marks


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One family at one moment: label values to a number or a distribution.

    `bridged` is what Prometheus calls its type, where it was made with prometheus_client.
    """

    metric: Metric
    series: dict[tuple[str, ...], Any]
    bridged: str = ""


def snapshot(family: Family, pause: Callable[[], None], exemplars: bool) -> Snapshot:
    """What a family holds now; `pause` is called between series."""
    series = {}
    for values, child in list(family.children.items()):
        pause()
        series[values] = read(child, exemplars)
    return Snapshot(family.metric, series)
