"""Metrics of others that have the name of one there is already: two series under one name, so theirs go nowhere.

Names are compared as everybody downstream sees them: as OpenTelemetry has them, where upper and lower case are one, and
as Prometheus spells them, its samples included. A gauge `http_server_request_duration_seconds_count` is a twin too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.signals.metrics.families import Snapshot
from connectsoft_obs.vocabulary import Instrument, Metric, Signal, prometheus_name

T = TypeVar("T")
Names: TypeAlias = tuple[str, ...]
"""All names of a metric in lower case, first the one that its maker gave it."""

_TARGET = frozenset({"target", "target_info"})
_SUFFIXES = {
    "counter": ("_total",),
    "gaugehistogram": ("_bucket", "_gcount", "_gsum"),
    "histogram": ("_bucket", "_count", "_sum"),
    "info": ("_info",),
    "summary": ("_count", "_sum"),
}
_SAID = 100
"""Names that are told of; a collector that makes up names must not fill the memory."""


class NameConflicts:
    """Leaves out metrics whose names are taken; counts each as dropped and says so, once. Thread-safe."""

    def __init__(self, internal_telemetry: InternalTelemetry) -> None:
        self._internal_telemetry = internal_telemetry
        self._told: set[tuple[str, str]] = set()

    def without_conflicts(
        self,
        found: Iterable[T],
        taken: Collection[str],
        names: Callable[[T], Names],
        by: str,
    ) -> list[T]:
        """Those that have no name in `taken`; `by` says who made them."""
        kept = []
        for one in found:
            known = names(one)
            if any(name in taken for name in known):
                self._tell(known[0], by)
            else:
                kept.append(one)
        return kept

    def page(
        self,
        found: Iterable[T],
        taken: set[str],
        names: Callable[[T], Names],
        by: str,
    ) -> list[T]:
        """The same, and each takes its names: a page has one of each, whoever made them."""
        kept = []
        for one in found:
            if self.without_conflicts((one,), taken, names, by):
                kept.append(one)
                taken.update(names(one))
        return kept

    def _tell(self, name: str, by: str) -> None:
        if (name, by) in self._told or len(self._told) >= _SAID:
            return
        self._told.add((name, by))
        self._internal_telemetry.count_dropped(Signal.METRICS, "name_taken")
        self._internal_telemetry.warn_once(
            (f"metrics.twin.{name}", by),
            "a metric has the name of one there is already, and is left out of /metrics and of what is sent",
            {"metric": name, "by": by, "instead": "give it another name, or switch off what makes it"},
        )


def taken_by(snapshots: Iterable[Snapshot]) -> set[str]:
    """The names that our families have, those without a series included, and `target_info`."""
    return {*_TARGET, *(name for snapshot in snapshots for name in of_metric(snapshot.metric))}


def of_snapshot(snapshot: Snapshot) -> Names:
    """The names of a family."""
    return of_metric(snapshot.metric)


@lru_cache(4096)
def of_metric(metric: Metric) -> Names:
    """A metric's names: OpenTelemetry's, and those of its family and of its samples."""
    kind = metric.instrument.value if metric.instrument in (Instrument.COUNTER, Instrument.HISTOGRAM) else ""
    return _names(metric.name, metric.family, kind)


def of_client(family: Any) -> Names:
    """The names of a family of prometheus_client, which may have dots."""
    return _names(family.name, prometheus_name(family.name), family.type)


def _names(name: str, family: str, kind: str) -> Names:
    low = family.lower()
    return name.lower(), low, *(low + suffix for suffix in _SUFFIXES.get(kind, ()))
