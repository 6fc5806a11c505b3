"""Metrics that applications and libraries registered with prometheus_client itself, on its default registry.

Their store was chosen when prometheus_client was imported. With PROMETHEUS_MULTIPROC_DIR set they add up over workers;
without it each worker has its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.process.fork_safety import import_guard
from connectsoft_obs.signals.metrics.cardinality_limit import clean
from connectsoft_obs.signals.metrics.families import Snapshot
from connectsoft_obs.signals.metrics.series import HistogramData
from connectsoft_obs.vocabulary import PER_PROCESS, UNIT_WORDS, Instrument, Metric

if TYPE_CHECKING:
    from prometheus_client import Metric as ClientMetric

SCOPE = "prometheus_client"
"""Who made them, as OTLP has it."""

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
_PLAIN = frozenset({"python_info"})


def families(failed: Callable[[Exception], None], *, page: bool = False, shared: bool = False) -> list[ClientMetric]:
    """What the default registry holds.

    Args:
        failed: told of a collector that raised; what came before it is given back.
        page: added up over the workers where prometheus_client does that; otherwise what this process counted.
        shared: leave out what says something of this process alone.
    """
    with import_guard():
        from prometheus_client import REGISTRY

    found = {family.name: family for family in _collected(REGISTRY, failed)}
    if shared:
        found = {name: family for name, family in found.items() if not name.startswith(PER_PROCESS)}
    if page and multiprocess():
        from prometheus_client.multiprocess import MultiProcessCollector

        collector = MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        found |= {family.name: family for family in _collected(collector, failed)}
    return list(found.values())


def multiprocess() -> bool:
    """Whether prometheus_client adds its metrics up over workers; decided when it was imported."""
    values: Any = sys.modules.get("prometheus_client.values")
    return bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR")) and getattr(values, "ValueClass", None) is not getattr(
        values, "MutexValue", None
    )


def own_names() -> list[str]:
    """The families of the application and its libraries, without those of prometheus_client itself."""
    if "prometheus_client" not in sys.modules:
        return []
    found = families(lambda _: None)
    return sorted(
        family.name for family in found if not family.name.startswith(PER_PROCESS) and family.name not in _PLAIN
    )


def warn_of_plain_families(internal_telemetry: InternalTelemetry) -> None:
    """Say once that metrics made with prometheus_client itself do not add up over workers, where there are any."""
    if (names := own_names()) and not multiprocess():
        internal_telemetry.warn_once(
            ("metrics.prometheus_client", ""),
            "metrics made with prometheus_client itself are those of the worker that answers",
            {
                "metrics": ", ".join(names[:10]),
                "instead": "use obs.counter, obs.gauge, obs.histogram, or set PROMETHEUS_MULTIPROC_DIR to an empty "
                "directory before the service starts",
            },
        )


def snapshots(found: Iterable[ClientMetric]) -> list[Snapshot]:
    """The same as our own families, under the names they have."""
    made = (_snapshot(family) for family in found)
    return [snapshot for snapshot in made if snapshot is not None]


def _collected(registry: Any, failed: Callable[[Exception], None]) -> Iterator[ClientMetric]:
    try:
        yield from registry.collect()
    except Exception as error:  # noqa: BLE001  somebody's collector
        failed(error)


def _snapshot(family: ClientMetric) -> Snapshot | None:
    instrument = _INSTRUMENTS.get(family.type)
    if instrument is None:
        return None
    name = f"{family.name}_info" if family.type == "info" else family.name
    keys = dict.fromkeys(key for sample in family.samples for key in sample.labels)
    labels = tuple(key for key in keys if key not in ("le", "quantile"))
    unit = _UNITS.get(family.unit, "")
    read = _distributions if instrument is Instrument.HISTOGRAM else _numbers
    bounds, series = read(family, labels)
    metric = Metric(name, instrument, unit, family.documentation, labels, bounds)
    return Snapshot(metric, series, family.type) if series else None


def _numbers(family: ClientMetric, labels: tuple[str, ...]) -> tuple[tuple[float, ...], dict[tuple[str, ...], Any]]:
    return (), {
        _values(sample.labels, labels): float(sample.value)
        for sample in family.samples
        if not sample.name.endswith(("_created", "_gcount", "_gsum"))
    }


def _distributions(
    family: ClientMetric, labels: tuple[str, ...]
) -> tuple[tuple[float, ...], dict[tuple[str, ...], Any]]:
    """Histograms with their buckets, summaries as histograms with none."""
    running: dict[tuple[str, ...], dict[float, float]] = {}
    sums: dict[tuple[str, ...], float] = {}
    for sample in family.samples:
        values = _values(sample.labels, labels)
        if sample.name.endswith("_bucket"):
            running.setdefault(values, {})[float(sample.labels["le"])] = sample.value
        elif sample.name.endswith("_count") and family.type == "summary":
            running.setdefault(values, {})[float("inf")] = sample.value
        elif sample.name.endswith("_sum"):
            sums[values] = sample.value
    bounds = tuple(sorted({edge for edges in running.values() for edge in edges if edge != float("inf")}))
    series = {}
    for values, edges in running.items():
        before, cells = 0.0, [sums.get(values, 0.0)]
        for edge in (*bounds, float("inf")):
            upto = edges.get(edge, before)
            cells.append(upto - before)
            before = upto
        series[values] = HistogramData(cells)
    return bounds, series


def _values(given: dict[str, str], labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(clean(given.get(label, "")) for label in labels)
