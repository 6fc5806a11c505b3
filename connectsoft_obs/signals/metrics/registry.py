"""The families of one Telemetry, what they hold now, and what those of all workers hold together."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from connectsoft_obs.process.identity import supervisor_pid
from connectsoft_obs.signals.metrics.aggregation import WorkerTotals
from connectsoft_obs.signals.metrics.cooperative import no_pause
from connectsoft_obs.signals.metrics.families import Family, Snapshot, snapshot
from connectsoft_obs.signals.metrics.multiprocess import (
    WorkerGroup,
    candidate_dirs,
    find_or_create,
)
from connectsoft_obs.signals.metrics.storage import Memory, Storage
from connectsoft_obs.vocabulary import DROPPED, ERRORS, LOG_RECORDS, METRICS, OVERFLOW, Instrument, Metric

WarnOnce = Callable[[tuple[str, str], str, dict[str, Any]], None]
_UNCOUNTED = frozenset({OVERFLOW.name, DROPPED.name, ERRORS.name, LOG_RECORDS.name})


class MetricRegistry:
    """Every metric of the vocabulary, and those that users add. Thread-safe; recording never waits.

    Args:
        limit: series a family may have.
        store: where numbers live; the memory of this process by default.
        thresholds: more bucket boundaries, by metric name.
        defined: metrics that users have defined so far, by name; read again at each snapshot.
        once: told of what an operator should know, once a kind.
    """

    def __init__(
        self,
        limit: int,
        store: Storage | None = None,
        thresholds: Mapping[str, tuple[float, ...]] | None = None,
        defined: Mapping[str, Metric] | None = None,
        once: WarnOnce | None = None,
    ) -> None:
        self.started_ns: int = time.time_ns()
        self.workers: WorkerGroup | None = None
        self.limit = limit
        self._store = store or Memory()
        self._thresholds = thresholds or {}
        self._defined = {} if defined is None else defined
        self._once = once
        self._families: dict[str, Family] = {}
        self._sharing = threading.RLock()
        self._reading = threading.Lock()
        self._parent: WorkerGroup | None = None
        self._place: tuple[str, int, str | None] | None = None
        self._unopened = False
        for metric in METRICS:
            self.family(metric)

    def family(self, metric: Metric) -> Family:
        """The family of a metric, made when first asked for."""
        return self._families.get(metric.name) or self._add_family(metric)

    def add(self, metric: Metric, labels: tuple[str, ...], amount: float = 1.0) -> None:
        """Add to a counter or gauge."""
        self.family(metric).number(*labels).add(amount)

    def snapshots(self, pause: Callable[[], None] = no_pause, exemplars: bool = True) -> list[Snapshot]:
        """What every family of this process holds now; `pause` is called between series."""
        for metric in list(self._defined.values()):
            family = self.family(metric)
            # A count that exists from the start shows its first increase to `rate()`; a gauge that nobody has set says
            # nothing, and a zero would be the lowest of all workers, or a moment in 1970.
            if not metric.labels and metric.instrument in (Instrument.COUNTER, Instrument.HISTOGRAM):
                family.child(())
        return [snapshot(family, pause, exemplars) for family in list(self._families.values())]

    def collect_all_workers(self, pause: Callable[[], None] = no_pause, exemplars: bool = True) -> list[Snapshot]:
        """What all workers of the service hold together; the same as `snapshots()` where there is one process."""
        workers = self.workers
        if workers is None:
            return self.snapshots(pause, exemplars)

        def own() -> WorkerTotals:
            return WorkerTotals.merge(self.snapshots(pause, exemplars))

        with self._reading:
            if workers.removed():
                workers = self._again(workers)
            return own().snapshots() if workers is None else workers.collect_all(own, pause, exemplars).snapshots()

    # --- Several processes -------------------------------------------------------------------------------------------
    def join_workers(self, service: str, over: int | None = None, directory: str | None = None) -> bool:
        """Count together with the other workers of the service from now on; True where this process does.

        Args:
            service: name of the service.
            over: pid of the process that starts its workers; found out by default, and nothing is shared without one.
            directory: where to meet, instead of the places that are tried by default.
        """
        over = supervisor_pid() if over is None else over
        self._open()
        with self._sharing:
            if self.workers is not None or over is None:
                return self.workers is not None
            self._place = (service, over, directory)
            candidates: Sequence[Path] = candidate_dirs() if directory is None else [Path(directory)]
            found = find_or_create(service, over, candidates)
            if found is not None:
                try:
                    self._join(WorkerGroup(found, over, self.limit, self._failed))
                except OSError as error:
                    self._failed(error)
            if self.workers is None:
                self._tell(
                    "metrics.directory",
                    "metrics of the workers cannot be added up; /metrics shows those of the worker that answers",
                    {"tried": ", ".join(map(str, candidates)), "setting": "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR"},
                )
            return self.workers is not None

    def leave(self) -> None:
        """Count together with others no more; what was counted stays with them."""
        if self.workers is not None:
            self.workers.leave()

    def after_fork_in_child(self) -> None:
        """In a forked child: numbers of its own that begin at zero, shared with the parent's where the parent shares."""
        self.started_ns = time.time_ns()
        self._sharing = threading.RLock()
        self._reading = threading.Lock()
        parent, self.workers = self.workers, None
        if parent is not None:
            parent.leave()
            self._parent = parent
        self._unopened = True
        for family in self._families.values():
            family.reset_in_child(self._open)

    def _open(self) -> None:
        """In a forked child that begins to record: get cells."""
        with self._sharing:
            if not self._unopened:
                return
            parent, self._parent = self._parent, None
            try:
                if parent is not None:
                    self._join(parent.join())
            except OSError as error:
                self._failed(error)
            if self.workers is None:
                self._move(Memory())
            self._unopened = False

    def _again(self, lost: WorkerGroup) -> WorkerGroup | None:
        """Meet the others anew, with what this worker holds, where somebody removed its file."""
        self._tell(
            "metrics.removed",
            "files that the workers share were removed; what ended workers had counted is lost",
            {"directory": str(lost.directory), "setting": "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR"},
        )
        with self._sharing:
            if self.workers is lost and self._place is not None:
                self.workers = None
                lost.leave()
                if not self.join_workers(*self._place):
                    self._move(Memory())
            return self.workers

    def _join(self, workers: WorkerGroup) -> None:
        self._move(workers.store)
        self.workers = workers

    def _move(self, store: Storage) -> None:
        self._store = store
        for family in self._families.values():
            family.migrate(store)

    def _add_family(self, metric: Metric) -> Family:
        self._open()
        with self._sharing:
            return self._families.get(metric.name) or self._families.setdefault(metric.name, self._made(metric))

    def _made(self, metric: Metric) -> Family:
        more = self._thresholds.get(metric.name, ())
        if more and metric.instrument is Instrument.HISTOGRAM:
            metric = dataclasses.replace(metric, buckets=tuple(sorted({*metric.buckets, *more})))
        return Family(metric, self._store, self.limit, self._overflowed)

    def _overflowed(self, metric: Metric) -> None:
        if metric.name in _UNCOUNTED:
            return
        self.add(OVERFLOW, (metric.name,))
        self._tell(
            f"metrics.overflow.{metric.name}",
            f"{metric.name} has too many series; further ones share series without its open labels",
            {"metric": metric.name, "limit": self.limit, "setting": "CONNECTSOFT_OBS_CARDINALITY_LIMIT"},
        )

    def _failed(self, error: Exception) -> None:
        self.add(ERRORS, ("metrics.shared",))
        facts = {"error": f"{type(error).__name__}: {error}"}
        self._tell("metrics.shared", "a metric cannot be shared with the other workers; this worker has it", facts)

    def _tell(self, kind: str, message: str, facts: dict[str, Any]) -> None:
        if self._once is not None:
            self._once((kind, ""), message, facts)
