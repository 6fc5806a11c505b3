"""Aggregation over workers: counters and histograms are summed, gauges merged by their `MultiprocessMode`."""

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
AdmitSeries = Callable[[Metric, Mapping[Labels, Any], Labels], Labels]


class WorkerTotals:
    """Totals of the metric families of several workers, added one worker at a time.

    The first definition of a metric applies. Series of workers that run another version of the service, and therefore
    have another definition, are converted: labels by name, histogram buckets by their upper bounds.

    Args:
        admit: returns the label values under which a new series is stored; unchanged by default.
    """

    def __init__(self, admit: AdmitSeries | None = None) -> None:
        self.families: dict[str, Snapshot] = {}
        self._admit = admit

    @classmethod
    def from_snapshots(cls, snapshots: Iterable[Snapshot]) -> WorkerTotals:
        """Totals that start with the snapshots of one worker."""
        totals = cls()
        totals.families = {snapshot.metric.name: snapshot for snapshot in snapshots}
        return totals

    def add(self, metric: Metric, series_items: Iterable[tuple[Labels, Any]], is_alive: bool = True) -> None:
        """Add the series of one metric of one worker; values may be stored without a copy.

        Args:
            metric: definition of the metric in the worker.
            series_items: label values and value of each series.
            is_alive: whether the worker still runs; gauges of ended workers are left out, unless they survive it.
        """
        if not is_alive and not metric.survives_worker:
            return
        family = self.families.get(metric.name)
        if family is None:
            family = self.families[metric.name] = Snapshot(metric, {})
        target, series, has_same_definition = family.metric, family.series, metric == family.metric
        merge = _merge_function(target)
        for labels, value in series_items:
            if not has_same_definition:
                converted = _convert_series(metric, target, labels, value)
                if converted is None:
                    return
                labels, value = converted
            existing = series.get(labels)
            if existing is None and self._admit is not None:
                labels = self._admit(target, series, labels)
                existing = series.get(labels)
            series[labels] = value if existing is None else merge(existing, value)

    def snapshots(self) -> list[Snapshot]:
        """All families, in the order in which they were first added."""
        return list(self.families.values())


def _merge_function(metric: Metric) -> Callable[[Any, Any], Any]:
    if metric.instrument is Instrument.HISTOGRAM:
        return _merge_histograms
    if metric.instrument is Instrument.COUNTER:
        return operator.add
    if metric.instrument is Instrument.STATE or metric.merge in (MultiprocessMode.MAX, MultiprocessMode.LATEST):
        return max  # the number of a state is its position in order of severity
    return min if metric.merge is MultiprocessMode.MIN else operator.add


def _merge_histograms(first: HistogramData, second: HistogramData) -> HistogramData:
    cells = list(map(operator.add, first.cells, second.cells))
    if first.encoded_exemplars and second.encoded_exemplars:
        return HistogramData(cells, exemplars.merge_newest(first.encoded_exemplars, second.encoded_exemplars))
    return HistogramData(cells, first.encoded_exemplars or second.encoded_exemplars)


def _convert_series(source: Metric, target: Metric, labels: Labels, value: Any) -> tuple[Labels, Any] | None:
    """Convert a series to another definition of its metric; None if the instrument differs."""
    if source.instrument is not target.instrument:
        return None
    if source.labels != target.labels:
        values_by_name = dict(zip(source.labels, labels, strict=False))
        labels = tuple(values_by_name.get(label, "") for label in target.labels)
    if source.buckets != target.buckets:
        value = HistogramData(_convert_buckets(value.cells, source.buckets, target.buckets))
    return labels, value


def _convert_buckets(
    cells: Sequence[float], source_bounds: tuple[float, ...], target_bounds: tuple[float, ...]
) -> list[float]:
    """Move each count to the bucket that contains the upper bound of its previous bucket."""
    converted = [cells[0], *[0.0] * (len(target_bounds) + 1)]
    for bound, count in zip((*source_bounds, float("inf")), cells[1:], strict=True):
        converted[bisect_left(target_bounds, bound) + 1] += count
    return converted
