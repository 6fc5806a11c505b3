"""Detects external metrics that have the name of another metric, and leaves them out of scrapes and exports.

Names are compared as receivers compare them: as OpenTelemetry names, which are case-insensitive, and as Prometheus names
including those of the samples. A gauge `http_server_request_duration_seconds_count` therefore conflicts with the
histogram `http.server.request.duration`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.signals.metrics.families import Snapshot
from connectsoft_obs.vocabulary import Instrument, Metric, Signal, prometheus_name

T = TypeVar("T")
MetricNames: TypeAlias = tuple[str, ...]
"""All names of a metric in lower case; the first is the name with which it was created."""

_TARGET_NAMES = frozenset({"target", "target_info"})
_SAMPLE_SUFFIXES = {
    "counter": ("_total",),
    "gaugehistogram": ("_bucket", "_gcount", "_gsum"),
    "histogram": ("_bucket", "_count", "_sum"),
    "info": ("_info",),
    "summary": ("_count", "_sum"),
}
_MAX_REPORTED = 100
"""Maximum number of conflicts that are reported; bounds the memory used if a collector generates names."""


class NameConflicts:
    """Leaves out metrics whose names are in use; counts and logs each conflict once. Thread-safe."""

    def __init__(self, internal_telemetry: InternalTelemetry) -> None:
        self._internal_telemetry = internal_telemetry
        self._reported: set[tuple[str, str]] = set()

    def filter_conflicts(
        self,
        metrics: Iterable[T],
        used_names: Collection[str],
        get_names: Callable[[T], MetricNames],
        source: str,
    ) -> list[T]:
        """Return the metrics that have no name in `used_names`.

        Args:
            metrics: metrics to filter.
            used_names: names of other metrics, in lower case.
            get_names: returns the names of a metric.
            source: the scope or API that created the metrics, for the log.
        """
        result = []
        for metric in metrics:
            names = get_names(metric)
            if any(name in used_names for name in names):
                self._report(names[0], source)
            else:
                result.append(metric)
        return result

    def filter_unique(
        self,
        metrics: Iterable[T],
        used_names: set[str],
        get_names: Callable[[T], MetricNames],
        source: str,
    ) -> list[T]:
        """Like `filter_conflicts`, but adds the names of each returned metric to `used_names`."""
        result = []
        for metric in metrics:
            if self.filter_conflicts((metric,), used_names, get_names, source):
                result.append(metric)
                used_names.update(get_names(metric))
        return result

    def _report(self, name: str, source: str) -> None:
        if (name, source) in self._reported or len(self._reported) >= _MAX_REPORTED:
            return
        self._reported.add((name, source))
        self._internal_telemetry.count_dropped(Signal.METRICS, "name_taken")
        self._internal_telemetry.warn_once(
            (f"metrics.name_conflict.{name}", source),
            "metric name is already in use; the metric is left out of /metrics and of exports",
            {"metric": name, "by": source, "instead": "rename the metric, or disable the library that creates it"},
        )


def names_in_use(snapshots: Iterable[Snapshot]) -> set[str]:
    """All names of the families, including families without series, and `target_info`."""
    return {*_TARGET_NAMES, *(name for snapshot in snapshots for name in metric_names(snapshot.metric))}


def snapshot_names(snapshot: Snapshot) -> MetricNames:
    """The names of the family of a snapshot."""
    return metric_names(snapshot.metric)


@lru_cache(4096)
def metric_names(metric: Metric) -> MetricNames:
    """The names of a metric: its OpenTelemetry name and the names of its Prometheus family and samples."""
    kind = metric.instrument.value if metric.instrument in (Instrument.COUNTER, Instrument.HISTOGRAM) else ""
    return _all_names(metric.name, metric.family, kind)


def client_family_names(family: Any) -> MetricNames:
    """The names of a prometheus_client family, whose name may contain dots."""
    return _all_names(family.name, prometheus_name(family.name), family.type)


def _all_names(name: str, family: str, kind: str) -> MetricNames:
    family = family.lower()
    return name.lower(), family, *(family + suffix for suffix in _SAMPLE_SUFFIXES.get(kind, ()))
