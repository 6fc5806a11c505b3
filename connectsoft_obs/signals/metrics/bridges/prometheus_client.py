"""Metrics that applications and libraries register in the default registry of prometheus_client.

prometheus_client selects its value storage at import. With PROMETHEUS_MULTIPROC_DIR its metrics are aggregated over
workers; without it each worker has separate values.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.process.fork_safety import import_guard
from connectsoft_obs.signals.metrics.cardinality_limit import sanitize_label_value
from connectsoft_obs.signals.metrics.families import Snapshot
from connectsoft_obs.signals.metrics.series import HistogramData
from connectsoft_obs.vocabulary import PLATFORM_INFO, REPLACED_FAMILIES, UNIT_WORDS, Instrument, Metric

if TYPE_CHECKING:
    from prometheus_client import Metric as ClientMetric

SCOPE_NAME = "prometheus_client"
"""Name of the instrumentation scope in OTLP."""

_UNITS = {word: unit for unit, word in UNIT_WORDS.items() if word}
_INSTRUMENTS = {
    "counter": Instrument.COUNTER,
    "gauge": Instrument.GAUGE,
    "unknown": Instrument.GAUGE,
    "untyped": Instrument.GAUGE,
    "histogram": Instrument.HISTOGRAM,
    "summary": Instrument.HISTOGRAM,
    "info": Instrument.UPDOWN,
    "stateset": Instrument.UPDOWN,
}


def collect_families(on_error: Callable[[Exception], None], *, aggregate: bool = False) -> list[ClientMetric]:
    """Collect the families of the default registry, without those that process metrics of this package replace.

    Args:
        on_error: called with the error of a collector that raised; families collected before it are returned.
        aggregate: aggregate over workers if prometheus_client is in multiprocess mode; otherwise return the values of
            this process.
    """
    with import_guard():
        from prometheus_client import REGISTRY

    families = {family.name: family for family in _collect(REGISTRY, on_error) if family.name not in REPLACED_FAMILIES}
    if aggregate and is_multiprocess():
        from prometheus_client.multiprocess import MultiProcessCollector

        collector = MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        families |= {family.name: family for family in _collect(collector, on_error)}
    return list(families.values())


def is_multiprocess() -> bool:
    """Whether prometheus_client is in multiprocess mode, which it selects at import."""
    values: Any = sys.modules.get("prometheus_client.values")
    return bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR")) and getattr(values, "ValueClass", None) is not getattr(
        values, "MutexValue", None
    )


def warn_client_families_not_aggregated(
    internal_telemetry: InternalTelemetry, families: Iterable[ClientMetric]
) -> None:
    """Warn once if /metrics of several workers leaves out families, because workers do not share their values."""
    if names := sorted(family.name for family in families if family.name != PLATFORM_INFO):
        internal_telemetry.warn_once(
            ("metrics.prometheus_client", ""),
            "prometheus_client metrics are left out of /metrics, because workers do not share their values; "
            "OTLP exports them",
            {
                "metrics": ", ".join(names[:10]),
                "instead": "use obs.counter, obs.gauge or obs.histogram, or set PROMETHEUS_MULTIPROC_DIR to an empty "
                "directory before the service starts",
            },
        )


def snapshots(families: Iterable[ClientMetric]) -> list[Snapshot]:
    """Convert families to snapshots; names do not change."""
    converted = (_to_snapshot(family) for family in families)
    return [snapshot for snapshot in converted if snapshot is not None]


def _collect(collector: Any, on_error: Callable[[Exception], None]) -> Iterator[ClientMetric]:
    try:
        yield from collector.collect()
    except Exception as error:  # noqa: BLE001  collectors are application code
        on_error(error)


def _to_snapshot(family: ClientMetric) -> Snapshot | None:
    instrument = _INSTRUMENTS.get(family.type)
    if instrument is None:
        return None
    name = f"{family.name}_info" if family.type == "info" else family.name
    keys = dict.fromkeys(key for sample in family.samples for key in sample.labels)
    labels = tuple(key for key in keys if key not in ("le", "quantile"))
    unit = _UNITS.get(family.unit, "")
    read_series = _read_histograms if instrument is Instrument.HISTOGRAM else _read_numbers
    bounds, series = read_series(family, labels)
    metric = Metric(name, instrument, unit, family.documentation, labels, bounds)
    return Snapshot(metric, series, family.type) if series else None


def _read_numbers(
    family: ClientMetric, labels: tuple[str, ...]
) -> tuple[tuple[float, ...], dict[tuple[str, ...], Any]]:
    return (), {
        _label_values(sample.labels, labels): float(sample.value)
        for sample in family.samples
        if not sample.name.endswith(("_created", "_gcount", "_gsum"))
    }


def _read_histograms(
    family: ClientMetric, labels: tuple[str, ...]
) -> tuple[tuple[float, ...], dict[tuple[str, ...], Any]]:
    """Bounds and series of a histogram; a summary becomes a histogram without bounds."""
    cumulative_counts: dict[tuple[str, ...], dict[float, float]] = {}
    sums: dict[tuple[str, ...], float] = {}
    for sample in family.samples:
        values = _label_values(sample.labels, labels)
        if sample.name.endswith("_bucket"):
            cumulative_counts.setdefault(values, {})[float(sample.labels["le"])] = sample.value
        elif sample.name.endswith("_count") and family.type == "summary":
            cumulative_counts.setdefault(values, {})[float("inf")] = sample.value
        elif sample.name.endswith("_sum"):
            sums[values] = sample.value
    bounds = tuple(sorted({bound for counts in cumulative_counts.values() for bound in counts} - {float("inf")}))
    series = {}
    for values, counts in cumulative_counts.items():
        previous, cells = 0.0, [sums.get(values, 0.0)]
        for bound in (*bounds, float("inf")):
            cumulative = counts.get(bound, previous)
            cells.append(cumulative - previous)
            previous = cumulative
        series[values] = HistogramData(cells)
    return bounds, series


def _label_values(sample_labels: dict[str, str], labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sanitize_label_value(sample_labels.get(label, "")) for label in labels)
