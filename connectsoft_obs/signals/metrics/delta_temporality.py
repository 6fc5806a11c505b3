"""Our families as the SDK's metrics, by what was added since they last arrived, for backends that add up themselves.

What could not be sent is in the next difference, so a backend that was away misses nothing and counts nothing twice.
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

Series = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Name, labels and their values."""

_POINTS = 1000
"""Points in one part; a point is up to a kilobyte there."""


class _Name(str):
    """A metric's name that equals no other.

    Azure's exporter compares names with those of OpenTelemetry's HTTP metrics, whose labels it replaces by others, and
    most of which it leaves out; here all metrics are alike, as they are from .NET services.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return super().__hash__()


@dataclass(frozen=True, slots=True)
class Part:
    """Some metrics, and what their series hold once these have arrived."""

    data: MetricsData
    held: Mapping[Series, Sequence[float]]


@dataclass(slots=True)
class _Point:
    metric: Metric
    point: Any
    series: Series
    held: Sequence[float] | None


class DeltaTracker:
    """Remembers what has arrived of counters and histograms; used by the thread of one pipeline.

    Args:
        resource: gives the resource's attributes in the calling process.
    """

    def __init__(self, resource: Callable[[], Mapping[str, Any]]) -> None:
        self._resource = resource
        self._arrived: dict[Series, Sequence[float]] = {}
        register_fork_handler(self)

    def parts(
        self,
        scopes: Iterable[tuple[str, str, Sequence[Snapshot]]],
        start_ns: int,
        now_ns: int,
        pause: Callable[[], None] = no_pause,
    ) -> list[Part]:
        """What there is to send, in requests that no backend finds too large.

        Args:
            scopes: name, version and families of each instrumentation scope.
            start_ns: when the process began, in nanoseconds since 1970.
            now_ns: when the families held this.
            pause: called between series.
        """
        parts = []
        for name, version, snapshots in scopes:
            points = [point for snapshot in snapshots for point in self._points(snapshot, (start_ns, now_ns), pause)]
            parts += [
                self._part(name, version, points[start : start + _POINTS]) for start in range(0, len(points), _POINTS)
            ]
        return parts

    def arrived(self, parts: Iterable[Part]) -> None:
        """These parts were taken."""
        for part in parts:
            self._arrived.update(part.held)

    def after_fork_in_child(self) -> None:
        """In a forked child, whose numbers begin at zero."""
        self._arrived = {}

    def _points(self, snapshot: Snapshot, times: tuple[int, int], pause: Callable[[], None]) -> Iterable[_Point]:
        metric = snapshot.metric
        for values, content in snapshot.series.items():
            pause()
            series = (metric.name, metric.labels, values)
            attributes = _attributes(metric, values)
            if metric.instrument is Instrument.STATE:
                for position, state in enumerate(metric.states):
                    labelled = _attributes(metric, (*values, state))
                    yield _Point(metric, _number(labelled, times, float(position == content)), series, None)
                continue
            cells = tuple(content.cells) if isinstance(content, HistogramData) else (float(content),)
            if not all(map(math.isfinite, cells)):
                continue  # no number in JSON
            if metric.instrument not in (Instrument.COUNTER, Instrument.HISTOGRAM):
                yield _Point(metric, _number(attributes, times, cells[0]), series, None)
            elif any(added := self._added(series, cells)):
                if metric.instrument is Instrument.COUNTER:
                    yield _Point(metric, _number(attributes, times, added[0]), series, cells)
                else:
                    yield _Point(metric, _histogram(attributes, times, added, metric.buckets), series, cells)

    def _added(self, series: Series, cells: Sequence[float]) -> Sequence[float]:
        before = self._arrived.get(series)
        counts = cells[1:] or cells  # a histogram's sum may fall, its counts and a counter may not
        if before is None or len(before) != len(cells):
            return cells
        if any(now < then for now, then in zip(counts, before[1:] or before, strict=True)):
            return cells  # somebody set it back
        return [now - then for now, then in zip(cells, before, strict=True)]

    def _part(self, scope: str, version: str, points: Sequence[_Point]) -> Part:
        with import_guard():
            from opentelemetry.sdk.metrics import export as sdk
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        families: dict[str, tuple[Metric, list[Any]]] = {}
        for point in points:
            families.setdefault(point.metric.name, (point.metric, []))[1].append(point.point)
        rest = CooperativePause()
        metrics = [
            sdk.Metric(_Name(metric.name), metric.help, metric.unit, _data(metric, PausingList(made, rest)))
            for metric, made in families.values()
        ]
        scopes = sdk.ScopeMetrics(InstrumentationScope(scope, version), metrics, SCHEMA_URL)
        resource = sdk.ResourceMetrics(Resource(dict(self._resource()), SCHEMA_URL), [scopes], SCHEMA_URL)
        held = {point.series: point.held for point in points if point.held is not None}
        return Part(sdk.MetricsData([resource]), held)


def _attributes(metric: Metric, values: tuple[str, ...]) -> dict[str, Any]:
    present = zip(metric.labels, values, strict=False)
    return {name: int(value) if name in INTEGER_LABELS else value for name, value in present if value}


def _number(attributes: dict[str, Any], times: tuple[int, int], value: float) -> Any:
    from opentelemetry.sdk.metrics.export import NumberDataPoint

    return NumberDataPoint(attributes, *times, value)


def _histogram(
    attributes: dict[str, Any], times: tuple[int, int], cells: Sequence[float], bounds: tuple[float, ...]
) -> Any:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    counts = [int(count) for count in cells[1:]]
    unknown: Any = None  # the least and the greatest are not kept
    return HistogramDataPoint(attributes, *times, sum(counts), cells[0], counts, bounds, unknown, unknown)


def _data(metric: Metric, points: list[Any]) -> Any:
    from opentelemetry.sdk.metrics import export as sdk

    if metric.instrument is Instrument.HISTOGRAM:
        return sdk.Histogram(points, sdk.AggregationTemporality.DELTA)
    if metric.instrument is Instrument.GAUGE:
        return sdk.Gauge(points)
    if metric.instrument is Instrument.COUNTER:
        return sdk.Sum(points, sdk.AggregationTemporality.DELTA, True)
    return sdk.Sum(points, sdk.AggregationTemporality.CUMULATIVE, False)
