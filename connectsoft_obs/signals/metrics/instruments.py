"""Metrics of users: the same families, rules, caps and ways out as ours, by `obs.counter`, `obs.gauge`, `obs.histogram`.

An instrument resolves the Telemetry in force when it records, so it may be made at import and follows `configure()`,
`capture()` and forks. No method raises: what cannot be recorded is counted in `connectsoft.obs.errors`.
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
from connectsoft_obs.signals.metrics.series import Histogram as Series
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
_KEPT = 4096

DEFINED: dict[str, Metric] = {}
"""The metrics of users in this process, by name."""


class InstrumentHost(Protocol):
    """What an instrument needs of a Telemetry."""

    metrics: MetricRegistry
    internal_telemetry: InternalTelemetry
    settings: Settings


Resolve = Callable[[], InstrumentHost]


class _Recorder:
    """Finds the series of a measurement in the Telemetry in force."""

    def __init__(self, metric: Metric, resolve: Resolve) -> None:
        self.metric = metric
        self._resolve = resolve
        self._names = {
            name: index for index, label in enumerate(metric.labels) for name in (label, prometheus_name(label))
        }
        self._tenant = metric.labels.index(TENANT_ID) if TENANT_ID in metric.labels else None
        self._known: tuple[InstrumentHost | None, dict[Any, Child]] = (None, {})

    def _child(self, owner: InstrumentHost, attributes: Mapping[str, Any] | None, labels: dict[str, Any]) -> Child:
        known, children = self._known
        if owner is not known:
            children = {}
            self._known = (owner, children)
        key = (*labels.items(), *attributes.items()) if attributes else tuple(labels.items())
        try:
            return children.get(key) or self._bind(owner, children, key)
        except TypeError:  # a value that cannot be a key
            return self._bind(owner, {}, key)

    def _bind(self, owner: InstrumentHost, children: dict[Any, Child], key: tuple[tuple[str, Any], ...]) -> Child:
        values = [""] * len(self.metric.labels)
        for label, value in key:
            index = self._names.get(label)
            if index is None:
                allowed = ", ".join(self.metric.labels) or "none"
                owner.internal_telemetry.record_error(
                    "metrics.label", KeyError(f"{self.metric.name} has no label {label}, only {allowed}")
                )
            elif value is not None:
                values[index] = _text(value)
        if self._tenant is not None and values[self._tenant] not in owner.settings.metric_tenants:
            values[self._tenant] = ErrorType.OTHER.value
        family = owner.metrics.family(self.metric)
        child = family.child(tuple(values))
        if tuple(values) in family.children and len(children) < _KEPT:  # one beyond the cap is counted each time
            children[key] = child
        return child

    def _owner(self) -> InstrumentHost | None:
        try:
            return self._resolve()
        except ConfigurationError:  # the middleware or `configure()` says so; who records must not fail for it
            return None
        except Exception as failure:  # noqa: BLE001  ours
            record_internal_error("metrics.instrument", failure)
            return None


class Counter(_Recorder):
    """A number that only grows. Safe from any thread."""

    def add(self, amount: float = 1, attributes: Mapping[str, Any] | None = None, /, **labels: Any) -> None:
        """Add to it: `placed.add(1, tier="gold")`. Labels with dots are written with underscores, or given as a mapping.

        A negative or infinite amount is not added.
        """
        if (owner := self._owner()) is None:
            return
        try:
            child = self._child(owner, attributes, labels)
            if not 0 <= amount < inf:
                raise ValueError(f"{self.metric.name} cannot grow by {amount}")
            child.cells[0] += amount
        except Exception as error:  # noqa: BLE001  ours; who counts must not fail for it
            owner.internal_telemetry.record_error("metrics.counter", error)


class Gauge(_Recorder):
    """A number that is what it is now. Safe from any thread."""

    def set(self, value: float, attributes: Mapping[str, Any] | None = None, /, **labels: Any) -> None:
        """Set it: `depth.set(12, queue="mail")`."""
        if (owner := self._owner()) is None:
            return
        try:
            self._child(owner, attributes, labels).cells[0] = value
        except Exception as error:  # noqa: BLE001  ours; who measures must not fail for it
            owner.internal_telemetry.record_error("metrics.gauge", error)

    def add(self, amount: float = 1, attributes: Mapping[str, Any] | None = None, /, **labels: Any) -> None:
        """Add to it, or take away: `open_files.add(-1)`."""
        if (owner := self._owner()) is None:
            return
        try:
            self._child(owner, attributes, labels).cells[0] += amount
        except Exception as error:  # noqa: BLE001  ours; who measures must not fail for it
            owner.internal_telemetry.record_error("metrics.gauge", error)


class Histogram(_Recorder):
    """A distribution of measurements. Safe from any thread."""

    def record(self, value: float, attributes: Mapping[str, Any] | None = None, /, **labels: Any) -> None:
        """Record a measurement: `size.record(4096, kind="pdf")`. One that is no finite number is not recorded.

        Inside a sampled span, its trace becomes the exemplar of the bucket.
        """
        if (owner := self._owner()) is None:
            return
        try:
            child = self._child(owner, attributes, labels)
            if not -inf < value < inf:
                raise ValueError(f"{self.metric.name} cannot record {value}")
            assert isinstance(child, Series)
            bucket = child.observe(value)
            span = trace.get_current_span().get_span_context()
            if span.trace_flags.sampled and owner.settings.exemplar_filter != "always_off":
                child.exemplify(bucket, value, span.trace_id, span.span_id)
        except Exception as error:  # noqa: BLE001  ours; who measures must not fail for it
            owner.internal_telemetry.record_error("metrics.histogram", error)


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
    """Check a definition and keep it; the same one again is the same metric.

    Raises:
        ConfigurationError: it breaks a rule, or something else already has its name.
    """
    check_name(name, unit, instrument)
    allowed = check_labels(name, labels)
    bounds: tuple[float, ...] = ()
    if instrument is Instrument.HISTOGRAM:
        bounds = check_buckets(name, _DEFAULT_BUCKETS.get(unit, COUNT_BUCKETS) if buckets is None else buckets)
    try:
        meaning = MultiprocessMode(merge)
    except ValueError:
        words = ", ".join(MultiprocessMode)
        raise ConfigurationError(f"{name} with merge={merge!r}", f"it is none of {words}", "Choose one.") from None
    made = Metric(name, instrument, unit, help_ or f"{name}, as the application counts it.", allowed, bounds, meaning)
    for known in [*DEFINED.values()]:
        if known.family == made.family and known != made:
            raise ConfigurationError(
                f"{instrument.value}({name!r})",
                f"{known.instrument.value}({known.name!r}) has that name on /metrics, and another definition",
                "Define it once and import it from there, or give one of the two another name.",
            )
    return DEFINED.setdefault(name, made)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)
