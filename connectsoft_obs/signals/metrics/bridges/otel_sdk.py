"""Instruments that libraries create with the OpenTelemetry Meter API, for one Telemetry.

The OpenTelemetry SDK aggregates them, its encoder writes them for OTLP, and /metrics of a single process shows them. An
instrument that has the name of one of this package is left out, see `name_conflicts.py`: FastAPI and the ASGI
instrumentations measure requests themselves.
"""

from __future__ import annotations

import dataclasses
import threading
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.process.fork_safety import import_guard
from connectsoft_obs.signals.metrics.bridges.name_conflicts import MetricNames, NameConflicts, metric_names
from connectsoft_obs.signals.metrics.bridges.otel_api import (
    OBSERVABLE_INSTRUMENTS,
    CreateInstrument,
    InstrumentSource,
    MeterArguments,
)
from connectsoft_obs.signals.metrics.cardinality_limit import sanitize_label_value
from connectsoft_obs.signals.metrics.exemplars import write_exemplar
from connectsoft_obs.signals.metrics.families import Snapshot
from connectsoft_obs.signals.metrics.series import HistogramData
from connectsoft_obs.signals.metrics.storage import EXEMPLAR_BYTES
from connectsoft_obs.vocabulary import SCHEMA_URL, Instrument, Metric

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData


class _SdkState:
    """The SDK provider with the values of its instruments. A Telemetry that does not serve yet hands it over."""

    def __init__(self, exemplar_filter: str) -> None:
        self.exemplar_filter = exemplar_filter
        self.lock = threading.Lock()
        self.sdk: tuple[MeterProvider, InMemoryMetricReader] | None = None
        self.observed_count = 0


class OtelMeterBridge(InstrumentSource):
    """Creates and reads SDK instruments. Thread-safe; imports the SDK when the first instrument is created.

    Args:
        get_attributes: returns the resource attributes of the calling process.
        on_error: called with the error if an instrument cannot be created.
        internal_telemetry: counts metrics that are left out because their names are in use.
        exemplar_filter: `trace_based`, `always_on` or `always_off`.
    """

    def __init__(
        self,
        get_attributes: Callable[[], Mapping[str, Any]],
        on_error: Callable[[Exception], None],
        internal_telemetry: InternalTelemetry,
        exemplar_filter: str = "trace_based",
    ) -> None:
        self.name_conflicts: NameConflicts = NameConflicts(internal_telemetry)
        self._get_attributes = get_attributes
        self._on_error = on_error
        self._exemplar_filter = exemplar_filter
        self._state = _SdkState(exemplar_filter)

    def take_over(self, previous: OtelMeterBridge) -> None:
        """Continue the instruments of a Telemetry that does not serve yet, with this resource and exemplar filter."""
        self._state = previous._state
        self._state.exemplar_filter = self._exemplar_filter

    def create_instrument(self, meter_arguments: MeterArguments, create: CreateInstrument) -> Any:
        """Create an SDK instrument, or return None if it cannot be created."""
        try:
            return create(self._get_sdk()[0].get_meter(*meter_arguments))
        except Exception as error:  # noqa: BLE001  an invalid name must not raise in the code that records
            self._on_error(error)
            return None

    def has_instruments(self) -> bool:
        """Whether there are instruments to read."""
        return self._state.sdk is not None or bool(OBSERVABLE_INSTRUMENTS)

    def collect(self, used_names: Collection[str] = ()) -> MetricsData | None:
        """Current values of the instruments, without those whose names are in use; None if there are no values."""
        if not self.has_instruments():
            return None
        reader, state = self._get_sdk()[1], self._state
        with state.lock:
            new_instruments = OBSERVABLE_INSTRUMENTS[state.observed_count :]
            state.observed_count += len(new_instruments)
        for observable in new_instruments:
            self.create_instrument(observable.meter_arguments, observable.create)
        data: MetricsData | None = reader.get_metrics_data()
        return None if data is None else self._filter_conflicts(data, used_names)

    def otlp_requests(self, used_names: Collection[str] = ()) -> list[bytes]:
        """Current values as one OTLP request; an empty list if there are none."""
        data = self.collect(used_names)
        if data is None or not data.resource_metrics:
            return []
        with import_guard():
            from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics

        return [encode_metrics(data).SerializeToString()]

    def snapshots(self, used_names: Collection[str] = ()) -> list[Snapshot]:
        """Current values as snapshots of families."""
        data = self.collect(used_names)
        return [] if data is None else _to_snapshots(data)

    def after_fork_in_child(self) -> None:
        """Reset all instruments in a forked child."""
        self.generation += 1
        self._state = _SdkState(self._exemplar_filter)

    def _filter_conflicts(self, data: MetricsData, used_names: Collection[str]) -> MetricsData:
        """Set the resource; remove metrics whose names are in use, and scopes and resources that become empty."""
        from opentelemetry.sdk.resources import Resource

        own_resource = Resource(dict(self._get_attributes()), SCHEMA_URL)
        resources = []
        for resource in data.resource_metrics:
            scopes = [
                dataclasses.replace(scope, metrics=metrics)
                for scope in resource.scope_metrics
                if (
                    metrics := self.name_conflicts.filter_conflicts(
                        scope.metrics, used_names, _metric_names, scope.scope.name
                    )
                )
            ]
            if scopes:
                resources.append(dataclasses.replace(resource, resource=own_resource, scope_metrics=scopes))
        return dataclasses.replace(data, resource_metrics=resources)

    def _get_sdk(self) -> tuple[MeterProvider, InMemoryMetricReader]:
        state = self._state
        sdk = state.sdk
        if sdk is None:
            with import_guard():
                import opentelemetry.sdk.metrics  # noqa: F401  outside of the lock

            with state.lock:
                if state.sdk is None:
                    state.sdk = _create_sdk(state)
                sdk = state.sdk
        return sdk


def _create_sdk(state: _SdkState) -> tuple[MeterProvider, InMemoryMetricReader]:
    from opentelemetry.sdk import metrics
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.resources import Resource

    filters: dict[str, metrics.ExemplarFilter] = {
        "always_on": metrics.AlwaysOnExemplarFilter(),
        "always_off": metrics.AlwaysOffExemplarFilter(),
    }
    trace_based = metrics.TraceBasedExemplarFilter()

    class CurrentExemplarFilter(metrics.ExemplarFilter):
        """The filter that the settings name now."""

        def should_sample(self, *measurement: Any) -> bool:
            return filters.get(state.exemplar_filter, trace_based).should_sample(*measurement)

    reader = InMemoryMetricReader()
    resource = Resource({}, SCHEMA_URL)  # the current resource is set when the values are read
    return metrics.MeterProvider([reader], resource, CurrentExemplarFilter(), shutdown_on_exit=False), reader


def warn_meter_api_not_aggregated(internal_telemetry: InternalTelemetry) -> None:
    """Warn once that /metrics of several workers leaves out instruments of the Meter API."""
    internal_telemetry.warn_once(
        ("metrics.meter_api", ""),
        "instruments of the OpenTelemetry Meter API are left out of /metrics, because workers do not share their values; "
        "OTLP exports them",
        {"instead": "use obs.counter, obs.gauge or obs.histogram for metrics that /metrics must sum over workers"},
    )


def _to_snapshots(data: MetricsData) -> list[Snapshot]:
    """Snapshots by metric name; if several scopes use a name, the first scope determines the definition."""
    points_by_name: dict[str, tuple[Any, list[Any]]] = {}
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                first, points = points_by_name.setdefault(metric.name.lower(), (metric, []))
                if type(first.data) is type(metric.data):
                    points += metric.data.data_points
    snapshots = [_to_snapshot(metric, points) for metric, points in points_by_name.values()]
    return [snapshot for snapshot in snapshots if snapshot is not None]


def _to_snapshot(otel_metric: Any, points: list[Any]) -> Snapshot | None:
    instrument = _get_instrument(otel_metric.data)
    if instrument is None or not points:
        return None
    labels = tuple(sorted({str(key) for point in points for key in point.attributes or ()}))
    bounds = tuple(points[0].explicit_bounds) if instrument is Instrument.HISTOGRAM else ()
    help_ = otel_metric.description or otel_metric.name
    metric = Metric(otel_metric.name, instrument, otel_metric.unit or "", help_, labels, bounds)
    series: dict[tuple[str, ...], Any] = {}
    for point in points:
        attributes = point.attributes or {}
        values = tuple(
            sanitize_label_value(_to_text(attributes[label])) if label in attributes else "" for label in labels
        )
        if instrument is not Instrument.HISTOGRAM:
            series[values] = float(point.value)
        elif tuple(point.explicit_bounds) == bounds:
            cells = [float(point.sum), *map(float, point.bucket_counts)]
            series[values] = HistogramData(cells, _encode_exemplars(point.exemplars, bounds))
    return Snapshot(metric, series)


def _metric_names(otel_metric: Any) -> MetricNames:
    instrument = _get_instrument(otel_metric.data) or Instrument.HISTOGRAM
    return metric_names(Metric(otel_metric.name, instrument, otel_metric.unit or "", ""))


def _get_instrument(data: Any) -> Instrument | None:
    kind = type(data).__name__
    if kind == "Sum":
        return Instrument.COUNTER if data.is_monotonic else Instrument.UPDOWN
    return {"Gauge": Instrument.GAUGE, "Histogram": Instrument.HISTOGRAM}.get(kind)


def _to_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _encode_exemplars(exemplars: Iterable[Any], bounds: tuple[float, ...]) -> bytes:
    encoded = bytearray(EXEMPLAR_BYTES * (len(bounds) + 1))
    for exemplar in exemplars:
        if exemplar.trace_id and exemplar.span_id:
            timestamp, offset = exemplar.time_unix_nano, bisect_left(bounds, exemplar.value) * EXEMPLAR_BYTES
            try:
                ids = exemplar.trace_id.to_bytes(16, "big") + exemplar.span_id.to_bytes(8, "big")
            except OverflowError:
                continue
            write_exemplar(encoded, offset, timestamp, float(exemplar.value), ids, timestamp)
    return bytes(encoded)
