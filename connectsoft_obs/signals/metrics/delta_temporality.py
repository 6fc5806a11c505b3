"""Delta temporality: converts metric families to data of the OpenTelemetry SDK, for backends that sum values themselves.

A delta contains everything since the last successful export. After an outage the backend therefore misses nothing and
counts nothing twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectsoft_obs.process.fork_safety import import_guard, register_fork_handler
from connectsoft_obs.signals.metrics.cooperative import CooperativePause, PausingList, no_pause
from connectsoft_obs.signals.metrics.families import Snapshot
from connectsoft_obs.signals.metrics.series import HistogramData
from connectsoft_obs.vocabulary import INTEGER_LABELS, SCHEMA_URL, Instrument, Metric

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData

SeriesKey = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Metric name, label names and label values."""

_MAX_POINTS = 1000
"""Data points per request; a point takes up to a kilobyte in the format of Azure Monitor."""


class _UniqueName(str):
    """A metric name that equals no other string, so that the Azure Monitor exporter applies no special rules to it.

    The Azure Monitor exporter compares metric names with those of OpenTelemetry's HTTP metrics. It replaces the labels of
    these metrics, and does not export most of them. With this class all metrics are exported unchanged, as from .NET.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return super().__hash__()


@dataclass(frozen=True, slots=True)
class DeltaBatch:
    """Metrics of one request, and the cumulative values of their series after its export."""

    data: MetricsData
    cumulative: Mapping[SeriesKey, Sequence[float]]


@dataclass(slots=True)
class _Point:
    metric: Metric
    point: Any
    series: SeriesKey
    cumulative: Sequence[float] | None


class DeltaTracker:
    """Tracks the exported values of counters and histograms. Used by the exporter thread only.

    Args:
        resource: returns the resource attributes of the calling process.
    """

    def __init__(self, resource: Callable[[], Mapping[str, Any]]) -> None:
        self._resource = resource
        self._exported: dict[SeriesKey, Sequence[float]] = {}
        register_fork_handler(self)

    def take_over(self, previous: DeltaTracker) -> None:
        """Continue with the values that `previous` has exported, and those of an export that has not ended yet."""
        self._exported = previous._exported

    def build_batches(
        self,
        scopes: Iterable[tuple[str, str, Sequence[Snapshot]]],
        start_ns: int,
        now_ns: int,
        pause: Callable[[], None] = no_pause,
    ) -> list[DeltaBatch]:
        """Build the requests that export the current deltas; the size of each is limited.

        Args:
            scopes: name, version and families of each instrumentation scope.
            start_ns: start time of the process, in nanoseconds since 1970.
            now_ns: time of the snapshots, in nanoseconds since 1970.
            pause: called between series.
        """
        batches = []
        for name, version, snapshots in scopes:
            points = [point for snapshot in snapshots for point in self._points(snapshot, (start_ns, now_ns), pause)]
            batches += [
                self._build_batch(name, version, points[start : start + _MAX_POINTS])
                for start in range(0, len(points), _MAX_POINTS)
            ]
        return batches

    def mark_exported(self, batches: Iterable[DeltaBatch]) -> None:
        """Record that the backend has accepted these batches."""
        for batch in batches:
            self._exported.update(batch.cumulative)

    def after_fork_in_child(self) -> None:
        """Reset in a forked child, whose values start at zero."""
        self._exported = {}

    def _points(self, snapshot: Snapshot, times: tuple[int, int], pause: Callable[[], None]) -> Iterable[_Point]:
        metric = snapshot.metric
        for values, content in snapshot.series.items():
            pause()
            series = (metric.name, metric.labels, values)
            attributes = _attributes(metric, values)
            if metric.instrument is Instrument.STATE:
                for index, state in enumerate(metric.states):
                    state_attributes = _attributes(metric, (*values, state))
                    yield _Point(metric, _number_point(state_attributes, times, float(index == content)), series, None)
                continue
            cells = tuple(content.cells) if isinstance(content, HistogramData) else (float(content),)
            if not all(map(math.isfinite, cells)):
                continue  # JSON has no such number
            if metric.instrument not in (Instrument.COUNTER, Instrument.HISTOGRAM):
                yield _Point(metric, _number_point(attributes, times, cells[0]), series, None)
            elif any(delta := self._delta(series, cells)):
                if metric.instrument is Instrument.COUNTER:
                    yield _Point(metric, _number_point(attributes, times, delta[0]), series, cells)
                else:
                    yield _Point(metric, _histogram_point(attributes, times, delta, metric.buckets), series, cells)

    def _delta(self, series: SeriesKey, cells: Sequence[float]) -> Sequence[float]:
        exported = self._exported.get(series)
        counts = cells[1:] or cells  # the sum of a histogram can decrease; its counts and a counter cannot
        if exported is None or len(exported) != len(cells):
            return cells
        if any(current < previous for current, previous in zip(counts, exported[1:] or exported, strict=True)):
            return cells  # the series was reset
        return [current - previous for current, previous in zip(cells, exported, strict=True)]

    def _build_batch(self, scope: str, version: str, points: Sequence[_Point]) -> DeltaBatch:
        with import_guard():
            from opentelemetry.sdk.metrics import export as sdk
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        families: dict[str, tuple[Metric, list[Any]]] = {}
        for point in points:
            families.setdefault(point.metric.name, (point.metric, []))[1].append(point.point)
        pause = CooperativePause()
        metrics = [
            sdk.Metric(
                _UniqueName(metric.name), metric.help, metric.unit, _sdk_data(metric, PausingList(sdk_points, pause))
            )
            for metric, sdk_points in families.values()
        ]
        scopes = sdk.ScopeMetrics(InstrumentationScope(scope, version), metrics, SCHEMA_URL)
        resource = sdk.ResourceMetrics(Resource(dict(self._resource()), SCHEMA_URL), [scopes], SCHEMA_URL)
        cumulative = {point.series: point.cumulative for point in points if point.cumulative is not None}
        return DeltaBatch(sdk.MetricsData([resource]), cumulative)


def _attributes(metric: Metric, values: tuple[str, ...]) -> dict[str, Any]:
    labels = zip(metric.labels, values, strict=False)
    return {name: int(value) if name in INTEGER_LABELS else value for name, value in labels if value}


def _number_point(attributes: dict[str, Any], times: tuple[int, int], value: float) -> Any:
    from opentelemetry.sdk.metrics.export import NumberDataPoint

    return NumberDataPoint(attributes, *times, value)


def _histogram_point(
    attributes: dict[str, Any], times: tuple[int, int], cells: Sequence[float], bounds: tuple[float, ...]
) -> Any:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    counts = [int(count) for count in cells[1:]]
    not_recorded: Any = None  # minimum and maximum
    return HistogramDataPoint(attributes, *times, sum(counts), cells[0], counts, bounds, not_recorded, not_recorded)


def _sdk_data(metric: Metric, points: list[Any]) -> Any:
    from opentelemetry.sdk.metrics import export as sdk

    if metric.instrument is Instrument.HISTOGRAM:
        return sdk.Histogram(points, sdk.AggregationTemporality.DELTA)
    if metric.instrument is Instrument.GAUGE:
        return sdk.Gauge(points)
    if metric.instrument is Instrument.COUNTER:
        return sdk.Sum(points, sdk.AggregationTemporality.DELTA, True)
    return sdk.Sum(points, sdk.AggregationTemporality.CUMULATIVE, False)
