"""The instruments that libraries make with OpenTelemetry's Meter API, for one Telemetry.

The SDK counts them, its own encoder writes them for OTLP, and the page of this worker shows them. One that is named as
one of ours (FastAPI has a meter of its own, and so have instrumentations for ASGI) goes nowhere: `twins.py`.
"""

from __future__ import annotations

import dataclasses
import threading
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.process.fork_safety import import_guard
from connectsoft_obs.signals.metrics.bridges.name_conflicts import NameConflicts, Names, of_metric
from connectsoft_obs.signals.metrics.bridges.otel_api import OBSERVABLES, Arguments, Make, ObservableSource
from connectsoft_obs.signals.metrics.cardinality_limit import clean
from connectsoft_obs.signals.metrics.exemplars import write
from connectsoft_obs.signals.metrics.families import Snapshot
from connectsoft_obs.signals.metrics.series import HistogramData
from connectsoft_obs.signals.metrics.storage import EXEMPLAR_BYTES
from connectsoft_obs.vocabulary import SCHEMA_URL, Instrument, Metric

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData


class OtelMeterBridge(ObservableSource):
    """Makes instruments and reads them. Thread-safe; imports the SDK when the first one is made.

    Args:
        attributes: gives the resource's attributes in the calling process.
        failed: told of an instrument that cannot be made.
        ledger: where metrics are counted that are left out because of their names.
    """

    def __init__(
        self,
        attributes: Callable[[], Mapping[str, Any]],
        failed: Callable[[Exception], None],
        internal_telemetry: InternalTelemetry,
    ) -> None:
        self.twins: NameConflicts = NameConflicts(internal_telemetry)
        self._attributes = attributes
        self._failed = failed
        self._lock = threading.Lock()
        self._made: tuple[MeterProvider, InMemoryMetricReader] | None = None
        self._observed = 0

    def instrument(self, arguments: Arguments, make: Make) -> Any:
        """The real instrument, or None where it cannot be made."""
        try:
            return make(self._provider()[0].get_meter(*arguments))
        except Exception as error:  # noqa: BLE001  a name that the SDK refuses must not stop who records
            self._failed(error)
            return None

    def used(self) -> bool:
        """Whether there is anything to read."""
        return self._made is not None or bool(OBSERVABLES)

    def collect(self, taken: Collection[str] = ()) -> MetricsData | None:
        """What the instruments hold now, without those whose names are taken; None for nothing."""
        if not self.used():
            return None
        reader = self._provider()[1]
        with self._lock:
            waiting, self._observed = OBSERVABLES[self._observed :], len(OBSERVABLES)
        for observable in waiting:
            self.instrument(observable.arguments, observable.make)
        data: MetricsData | None = reader.get_metrics_data()
        return None if data is None else self._free(data, taken)

    def otlp_requests(self, taken: Collection[str] = ()) -> list[bytes]:
        """One OTLP request with what they hold, or none."""
        data = self.collect(taken)
        if data is None or not data.resource_metrics:
            return []
        with import_guard():
            from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics

        return [encode_metrics(data).SerializeToString()]

    def snapshots(self, taken: Collection[str] = ()) -> list[Snapshot]:
        """What they hold, as our own families."""
        data = self.collect(taken)
        return [] if data is None else _snapshots(data)

    def after_fork_in_child(self) -> None:
        """In a forked child: instruments that begin at zero."""
        self.era += 1
        self._lock = threading.Lock()
        self._made = None
        self._observed = 0

    def _free(self, data: MetricsData, taken: Collection[str]) -> MetricsData:
        """Without the metrics whose names are taken, and without scopes that have no other."""
        kept = []
        for resource in data.resource_metrics:
            scopes = [
                dataclasses.replace(scope, metrics=others)
                for scope in resource.scope_metrics
                if (others := self.twins.without_conflicts(scope.metrics, taken, _names, scope.scope.name))
            ]
            if scopes:
                kept.append(dataclasses.replace(resource, scope_metrics=scopes))
        return dataclasses.replace(data, resource_metrics=kept)

    def _provider(self) -> tuple[MeterProvider, InMemoryMetricReader]:
        made = self._made
        if made is None:
            with import_guard():
                from opentelemetry.sdk.metrics import MeterProvider
                from opentelemetry.sdk.metrics.export import InMemoryMetricReader
                from opentelemetry.sdk.resources import Resource

            with self._lock:
                if self._made is None:
                    reader = InMemoryMetricReader()
                    resource = Resource(dict(self._attributes()), SCHEMA_URL)
                    self._made = (MeterProvider([reader], resource, shutdown_on_exit=False), reader)
                made = self._made
        return made


def warn_of_instruments(internal_telemetry: InternalTelemetry) -> None:
    """Say once that instruments of the Meter API do not add up over workers on /metrics."""
    internal_telemetry.warn_once(
        ("metrics.meter_api", ""),
        "instruments of OpenTelemetry's Meter API are on /metrics of the worker that answers; over OTLP they add up",
        {"instead": "use obs.counter, obs.gauge, obs.histogram where /metrics has to show the sum"},
    )


def _snapshots(data: MetricsData) -> list[Snapshot]:
    """Families by their Prometheus name; of instruments of two scopes with one name the first decides what it is."""
    found: dict[str, tuple[Any, list[Any]]] = {}
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                first, points = found.setdefault(metric.name.lower(), (metric, []))
                if type(first.data) is type(metric.data):
                    points += metric.data.data_points
    made = [_snapshot(metric, points) for metric, points in found.values()]
    return [snapshot for snapshot in made if snapshot is not None]


def _snapshot(metric: Any, points: list[Any]) -> Snapshot | None:
    instrument = _instrument(metric.data)
    if instrument is None or not points:
        return None
    labels = tuple(sorted({str(key) for point in points for key in point.attributes or ()}))
    bounds = tuple(points[0].explicit_bounds) if instrument is Instrument.HISTOGRAM else ()
    made = Metric(metric.name, instrument, metric.unit or "", metric.description or metric.name, labels, bounds)
    series: dict[tuple[str, ...], Any] = {}
    for point in points:
        attributes = point.attributes or {}
        values = tuple(clean(_text(attributes[label])) if label in attributes else "" for label in labels)
        if instrument is not Instrument.HISTOGRAM:
            series[values] = float(point.value)
        elif tuple(point.explicit_bounds) == bounds:
            cells = [float(point.sum), *map(float, point.bucket_counts)]
            series[values] = HistogramData(cells, _marks(point.exemplars, bounds))
    return Snapshot(made, series)


def _names(metric: Any) -> Names:
    instrument = _instrument(metric.data) or Instrument.HISTOGRAM
    return of_metric(Metric(metric.name, instrument, metric.unit or "", ""))


def _instrument(data: Any) -> Instrument | None:
    kind = type(data).__name__
    if kind == "Sum":
        return Instrument.COUNTER if data.is_monotonic else Instrument.UPDOWN
    return {"Gauge": Instrument.GAUGE, "Histogram": Instrument.HISTOGRAM}.get(kind)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _marks(exemplars: Iterable[Any], bounds: tuple[float, ...]) -> bytes:
    marks = bytearray(EXEMPLAR_BYTES * (len(bounds) + 1))
    for found in exemplars:
        if found.trace_id and found.span_id:
            when, place = found.time_unix_nano, bisect_left(bounds, found.value) * EXEMPLAR_BYTES
            try:
                ids = found.trace_id.to_bytes(16, "big") + found.span_id.to_bytes(8, "big")
            except OverflowError:
                continue
            write(marks, place, when, float(found.value), ids, when)
    return bytes(marks)
