"""Instruments for metrics of the application: `obs.counter`, `obs.gauge`, `obs.histogram`.

They have the same families, limits and exporters as the metrics of this package. An instrument resolves the current
Telemetry when it records, so it can be created at import and follows `configure()`, `capture()` and forks. No method
raises: measurements that cannot be recorded are counted in `connectsoft.obs.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Any, Protocol

from opentelemetry import trace

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.internal_telemetry import InternalTelemetry, record_internal_error
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.metrics.registry import MetricRegistry
from connectsoft_obs.signals.metrics.series import Child
from connectsoft_obs.signals.metrics.series import Histogram as HistogramSeries
from connectsoft_obs.signals.metrics.validation import check_buckets, check_labels, check_name
from connectsoft_obs.vocabulary import (
    REQUEST_BUCKETS,
    TENANT_ID,
    ErrorType,
    Instrument,
    Metric,
    MultiprocessMode,
    prometheus_name,
)

SIZE_BUCKETS = (256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0)
COUNT_BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0)
_DEFAULT_BUCKETS = {"s": REQUEST_BUCKETS, "By": SIZE_BUCKETS}
_MAX_CACHED_SERIES = 4096

USER_METRICS: dict[str, Metric] = {}
"""Metrics that the application has defined in this process, by name."""


class InstrumentHost(Protocol):
    """The attributes of a Telemetry that an instrument uses."""

    metrics: MetricRegistry
    internal_telemetry: InternalTelemetry
    settings: Settings


ResolveHost = Callable[[], InstrumentHost]


class _SynchronousInstrument:
    """Looks up the series of a measurement in the current Telemetry."""

    def __init__(self, metric: Metric, resolve: ResolveHost) -> None:
        self.metric = metric
        self._resolve_host = resolve
        self._label_indexes = {
            name: index for index, label in enumerate(metric.labels) for name in (label, prometheus_name(label))
        }
        self._tenant_index = metric.labels.index(TENANT_ID) if TENANT_ID in metric.labels else None
        self._cache: tuple[InstrumentHost | None, dict[Any, Child]] = (None, {})

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without objects of this process, for pickle, cloudpickle and `copy.deepcopy`."""
        return {**self.__dict__, "_cache": (None, {})}

    def _get_series(self, host: InstrumentHost, attributes: Mapping[str, Any] | None, labels: dict[str, Any]) -> Child:
        cached_host, cached_series = self._cache
        if host is not cached_host:
            cached_series = {}
            self._cache = (host, cached_series)
        key = (*labels.items(), *attributes.items()) if attributes else tuple(labels.items())
        try:
            return cached_series.get(key) or self._find_series(host, cached_series, key)
        except TypeError:  # a value is not hashable
            return self._find_series(host, {}, key)

    def _find_series(
        self, host: InstrumentHost, cached_series: dict[Any, Child], key: tuple[tuple[str, Any], ...]
    ) -> Child:
        values = [""] * len(self.metric.labels)
        for label, value in key:
            index = self._label_indexes.get(label)
            if index is None:
                allowed = ", ".join(self.metric.labels) or "none"
                host.internal_telemetry.record_error(
                    "metrics.label", KeyError(f"{self.metric.name} has no label {label}; allowed labels: {allowed}")
                )
            elif value is not None:
                values[index] = _label_text(value)
        if self._tenant_index is not None and values[self._tenant_index] not in host.settings.metric_tenants:
            values[self._tenant_index] = ErrorType.OTHER.value
        family = host.metrics.family(self.metric)
        series = family.child(tuple(values))
        # An overflow series is not cached, so that each measurement beyond the limit is counted.
        if tuple(values) in family.children and len(cached_series) < _MAX_CACHED_SERIES:
            cached_series[key] = series
        return series

    def _get_host(self) -> InstrumentHost | None:
        try:
            return self._resolve_host()
        except ConfigurationError:  # reported by the middleware or `configure()`; must not raise into the application
            return None
        except Exception as failure:  # noqa: BLE001  must not raise into the application
            record_internal_error("metrics.instrument", failure)
            return None


class Counter(_SynchronousInstrument):
    """A monotonic counter. Thread-safe."""

    def add(self, amount: float = 1, attributes: Mapping[str, Any] | None = None, /, **labels: Any) -> None:
        """Add to the counter: `placed.add(1, tier="gold")`.

        Labels with dots are written with underscores, or passed as a mapping. A negative or infinite amount is ignored and
        counted as an error.
        """
        if (host := self._get_host()) is None:
            return
        try:
            series = self._get_series(host, attributes, labels)
            if not 0 <= amount < inf:
                raise ValueError(f"{self.metric.name} cannot be increased by {amount}")
            series.cells[0] += amount
        except Exception as error:  # noqa: BLE001  must not raise into the application
            host.internal_telemetry.record_error("metrics.counter", error)


class Gauge(_SynchronousInstrument):
    """A current value. Thread-safe."""

    def set(self, value: float, attributes: Mapping[str, Any] | None = None, /, **labels: Any) -> None:
        """Set the value: `depth.set(12, queue="mail")`."""
        if (host := self._get_host()) is None:
            return
        try:
            self._get_series(host, attributes, labels).cells[0] = value
        except Exception as error:  # noqa: BLE001  must not raise into the application
            host.internal_telemetry.record_error("metrics.gauge", error)

    def add(self, amount: float = 1, attributes: Mapping[str, Any] | None = None, /, **labels: Any) -> None:
        """Add to the value, or subtract with a negative amount: `open_files.add(-1)`."""
        if (host := self._get_host()) is None:
            return
        try:
            self._get_series(host, attributes, labels).cells[0] += amount
        except Exception as error:  # noqa: BLE001  must not raise into the application
            host.internal_telemetry.record_error("metrics.gauge", error)


class Histogram(_SynchronousInstrument):
    """A distribution of measurements. Thread-safe."""

    def record(self, value: float, attributes: Mapping[str, Any] | None = None, /, **labels: Any) -> None:
        """Record a measurement: `size.record(4096, kind="pdf")`.

        A value that is not a finite number is ignored and counted as an error. In a sampled span, the trace becomes the
        exemplar of the bucket.
        """
        if (host := self._get_host()) is None:
            return
        try:
            series = self._get_series(host, attributes, labels)
            if not -inf < value < inf:
                raise ValueError(f"{self.metric.name} cannot record {value}")
            assert isinstance(series, HistogramSeries)
            bucket = series.observe(value)
            span = trace.get_current_span().get_span_context()
            if span.trace_flags.sampled and host.settings.exemplar_filter != "always_off":
                series.add_exemplar(bucket, value, span.trace_id, span.span_id)
        except Exception as error:  # noqa: BLE001  must not raise into the application
            host.internal_telemetry.record_error("metrics.histogram", error)


def register(
    instrument: Instrument,
    name: str,
    unit: str,
    help_: str,
    labels: Iterable[str],
    *,
    buckets: Sequence[float] | None = None,
    merge: str | MultiprocessMode = MultiprocessMode.SUM,
) -> Metric:
    """Validate and register a metric definition; the same definition again returns the same metric.

    Raises:
        ConfigurationError: the definition is invalid, or another metric has the same name.
    """
    check_name(name, unit, instrument)
    label_names = check_labels(name, labels)
    bounds: tuple[float, ...] = ()
    if instrument is Instrument.HISTOGRAM:
        bounds = check_buckets(name, _DEFAULT_BUCKETS.get(unit, COUNT_BUCKETS) if buckets is None else buckets)
    try:
        mode = MultiprocessMode(merge)
    except ValueError:
        modes = ", ".join(MultiprocessMode)
        raise ConfigurationError(f"{name} with merge={merge!r}", f"it is not one of {modes}", "Choose one.") from None
    metric = Metric(name, instrument, unit, help_ or f"Application metric {name}.", label_names, bounds, mode)
    for existing in [*USER_METRICS.values()]:
        if existing.family == metric.family and existing != metric:
            raise ConfigurationError(
                f"{instrument.value}({name!r})",
                f"{existing.instrument.value}({existing.name!r}) has the same name on /metrics and a different definition",
                "Define it once and import it from there, or rename one of the two.",
            )
    return USER_METRICS.setdefault(name, metric)


def _label_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)
