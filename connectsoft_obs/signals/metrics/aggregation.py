"""Adding up what several workers hold: counters and histograms by sum, gauges by what they mean."""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from connectsoft_obs.signals.metrics import exemplars
from connectsoft_obs.signals.metrics.families import Snapshot
from connectsoft_obs.signals.metrics.series import HistogramData
from connectsoft_obs.vocabulary import Instrument, Metric, MultiprocessMode

Labels = tuple[str, ...]
Admit = Callable[[Metric, Mapping[Labels, Any], Labels], Labels]


class WorkerTotals:
    """Families of several workers, added up one after the other.

    The first definition of a metric stands. What a worker with an older or newer build of the service holds under
    another definition is fitted in: labels by name, buckets by their upper bounds.

    Args:
        admit: gives the label values under which a new series may be kept; all are, as they are, by default.
    """

    def __init__(self, admit: Admit | None = None) -> None:
        self.families: dict[str, Snapshot] = {}
        self._admit = admit

    @classmethod
    def merge(cls, snapshots: Iterable[Snapshot]) -> WorkerTotals:
        """What one worker holds, to add others to."""
        made = cls()
        made.families = {snapshot.metric.name: snapshot for snapshot in snapshots}
        return made

    def add(self, metric: Metric, contents: Iterable[tuple[Labels, Any]], living: bool = True) -> None:
        """Add the series that one worker has of a metric; what they hold may be kept."""
        if not living and not metric.survives_worker:
            return
        family = self.families.get(metric.name)
        if family is None:
            family = self.families[metric.name] = Snapshot(metric, {})
        into, series, same = family.metric, family.series, metric == family.metric
        add = _adder(into)
        for labels, content in contents:
            if not same:
                fitted = _fitted(metric, into, labels, content)
                if fitted is None:
                    return
                labels, content = fitted
            known = series.get(labels)
            if known is None and self._admit is not None:
                labels = self._admit(into, series, labels)
                known = series.get(labels)
            series[labels] = content if known is None else add(known, content)

    def snapshots(self) -> list[Snapshot]:
        """Every family, in the order in which they were first seen."""
        return list(self.families.values())


def _adder(metric: Metric) -> Callable[[Any, Any], Any]:
    if metric.instrument is Instrument.HISTOGRAM:
        return _together
    if metric.instrument is Instrument.COUNTER:
        return operator.add
    if metric.instrument is Instrument.STATE or metric.merge in (MultiprocessMode.MAX, MultiprocessMode.LATEST):
        return max  # a state's number is its place in order of severity
    return min if metric.merge is MultiprocessMode.MIN else operator.add


def _together(one: HistogramData, other: HistogramData) -> HistogramData:
    cells = list(map(operator.add, one.cells, other.cells))
    if one.marks and other.marks:
        return HistogramData(cells, exemplars.newest(one.marks, other.marks))
    return HistogramData(cells, one.marks or other.marks)


def _fitted(metric: Metric, into: Metric, labels: Labels, content: Any) -> tuple[Labels, Any] | None:
    """A series as another definition of its metric has it; None where nothing fits."""
    if metric.instrument is not into.instrument:
        return None
    if metric.labels != into.labels:
        by_name = dict(zip(metric.labels, labels, strict=False))
        labels = tuple(by_name.get(label, "") for label in into.labels)
    if metric.buckets != into.buckets:
        content = HistogramData(_rebucketed(content.cells, metric.buckets, into.buckets))
    return labels, content


def _rebucketed(cells: Sequence[float], bounds: tuple[float, ...], into: tuple[float, ...]) -> list[float]:
    """Counts by the bucket that holds the upper bound of the bucket they were in."""
    found = [cells[0], *[0.0] * (len(into) + 1)]
    for bound, count in zip((*bounds, float("inf")), cells[1:], strict=True):
        found[bisect_left(into, bound) + 1] += count
    return found
