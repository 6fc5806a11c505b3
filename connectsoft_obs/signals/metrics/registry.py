"""Registry of the metric families of one Telemetry; collects them for this process or for all workers."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

from connectsoft_obs.process.process_info import supervisor_pid
from connectsoft_obs.signals.metrics.aggregation import WorkerTotals
from connectsoft_obs.signals.metrics.cooperative import no_pause
from connectsoft_obs.signals.metrics.families import Family, Snapshot, take_snapshot
from connectsoft_obs.signals.metrics.multiprocess import (
    WORKER_FILE_SUFFIX,
    WorkerGroup,
    candidate_directories,
    find_directory,
    running_processes,
    shared_directory_of,
)
from connectsoft_obs.signals.metrics.storage import MemoryStorage, Storage
from connectsoft_obs.vocabulary import DROPPED, ERRORS, LOG_RECORDS, METRICS, OVERFLOW, Instrument, Metric

WarnOnce = Callable[[tuple[str, str], str, dict[str, Any]], None]
_EXEMPT_FROM_OVERFLOW = frozenset({OVERFLOW.name, DROPPED.name, ERRORS.name, LOG_RECORDS.name})
"""Metrics whose overflow is not counted, because counting and logging it records these metrics."""


class MetricRegistry:
    """All metrics of the vocabulary, and those that the application defines. Thread-safe; recording never blocks.

    Args:
        limit: maximum number of series per metric.
        storage: allocates the cells; the memory of this process by default.
        extra_buckets: additional bucket boundaries, by metric name.
        user_metrics: metrics that the application has defined, by name; read again at each snapshot.
        warn_once: logs a warning, once per kind.
    """

    def __init__(
        self,
        limit: int,
        storage: Storage | None = None,
        extra_buckets: Mapping[str, tuple[float, ...]] | None = None,
        user_metrics: Mapping[str, Metric] | None = None,
        warn_once: WarnOnce | None = None,
    ) -> None:
        self.started_ns: int = time.time_ns()
        self.worker_group: WorkerGroup | None = None
        self.limit = limit
        self._storage = storage or MemoryStorage()
        self._extra_buckets = extra_buckets or {}
        self._user_metrics = {} if user_metrics is None else user_metrics
        self._warn_once = warn_once
        self._families: dict[str, Family] = {}
        self._lock = threading.RLock()
        self._collect_lock = threading.Lock()
        self._snapshot_callbacks: list[Callable[[], None]] = []
        self._parent_group: WorkerGroup | None = None
        self._join_arguments: tuple[str, int, str | None, int] | None = None
        self._children_directory: tuple[Path, int] | None = None
        self._children_group: WorkerGroup | None = None
        self._needs_allocation = False
        for metric in METRICS:
            self.family(metric)

    def family(self, metric: Metric) -> Family:
        """The family of a metric; created on first use."""
        return self._families.get(metric.name) or self._add_family(metric)

    def add(self, metric: Metric, labels: tuple[str, ...], amount: float = 1.0) -> None:
        """Add to a counter or gauge."""
        self.family(metric).number_series(*labels).add(amount)

    def on_snapshot(self, callback: Callable[[], None]) -> None:
        """Call a function, which must not raise, before each snapshot."""
        self._snapshot_callbacks.append(callback)

    def take_over(self, previous: MetricRegistry, exclude: Container[str]) -> None:
        """Take over the series of a registry whose Telemetry does not serve yet, except those of excluded metrics."""
        self.started_ns = previous.started_ns
        for family in list(previous._families.values()):
            if family.metric.name not in exclude:
                self.family(family.metric).take_over(family)

    def snapshots(self, pause: Callable[[], None] = no_pause, exemplars: bool = True) -> list[Snapshot]:
        """Current values of all families of this process; `pause` is called between series."""
        for callback in self._snapshot_callbacks:
            callback()
        for metric in list(self._user_metrics.values()):
            family = self.family(metric)
            # A counter that is exported as zero shows its first increase to `rate()`. A gauge that was never set is not
            # exported: zero would be the minimum of all workers, or a timestamp in 1970.
            if not metric.labels and metric.instrument in (Instrument.COUNTER, Instrument.HISTOGRAM):
                family.child(())
        return [take_snapshot(family, pause, exemplars) for family in list(self._families.values())]

    def collect_all_workers(self, pause: Callable[[], None] = no_pause, exemplars: bool = True) -> list[Snapshot]:
        """Aggregated values of all workers of the service; the same as `snapshots()` in a single process."""
        if self.worker_group is None:
            self.share_with_peers()
        group = self.worker_group or self._group_of_children()
        if group is None:
            return self.snapshots(pause, exemplars)

        def own_totals() -> WorkerTotals:
            return WorkerTotals.from_snapshots(self.snapshots(pause, exemplars))

        with self._collect_lock:
            if group is self.worker_group and group.is_file_removed():
                group = self._rejoin_workers(group)
            if group is None:
                return own_totals().snapshots()
            return group.collect_all(own_totals, pause, exemplars).snapshots()

    # --- Multiple processes ------------------------------------------------------------------------------------------
    def join_workers(
        self, service: str, supervisor: int | None = None, directory: str | None = None, port: int = 0
    ) -> bool:
        """Share metrics with the other workers of the service from now on; returns whether this succeeded.

        Args:
            service: name of the service.
            supervisor: pid of the process that starts the workers; detected by default. Without a supervisor, metrics are
                not shared.
            directory: directory of the shared files; the first usable default directory if not set.
            port: management port that workers of this machine share; 0 for none.
        """
        supervisor = supervisor_pid() if supervisor is None else supervisor
        self._allocate_after_fork()
        with self._lock:
            if self.worker_group is not None or supervisor is None:
                return self.worker_group is not None
            self._join_arguments = (service, supervisor, directory, port)
            candidates = candidate_directories(directory)
            shared_directory = shared_directory_of(service, supervisor, candidates, port)
            if shared_directory is not None:
                try:
                    self._join_group(WorkerGroup(shared_directory, supervisor, self.limit, self._record_sharing_error))
                except OSError as error:
                    self._record_sharing_error(error)
            if self.worker_group is None:
                self._log_once(
                    "metrics.directory",
                    "worker metrics cannot be aggregated; /metrics shows only the values of the worker that responds",
                    {"tried": ", ".join(map(str, candidates)), "setting": "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR"},
                )
            return self.worker_group is not None

    def accept_children(self, service: str, directory: str | None = None, port: int = 0) -> None:
        """Add the values of child processes, such as those of process pools, to those of this process.

        Children find the shared directory by the pid of this process, and create files in it. The values of this process
        stay in its memory. The arguments are those of `join_workers`.
        """
        shared_directory = shared_directory_of(service, os.getpid(), candidate_directories(directory), port)
        if shared_directory is not None:
            self._children_directory = (shared_directory, os.getpid())
            self._join_arguments = (service, os.getpid(), directory, port)

    def join_parent(self, directory: str | None = None, pid: int | None = None) -> None:
        """Share metrics with a process that accepts children; the parent in a child of multiprocessing by default."""
        if pid is None and (parent := multiprocessing.parent_process()) is not None:
            pid = parent.pid
        if pid is None or self.worker_group is not None:
            return
        shared_directory = find_directory(pid, candidate_directories(directory))
        if shared_directory is not None:
            with self._lock:
                self._children_directory = (shared_directory, pid)
                self._join_children_directory()

    def share_with_peers(self) -> bool:
        """Share metrics with other workers of the same port; returns whether there are any."""
        group, children = self.worker_group, self._children_directory
        directory = group.directory if group is not None else children[0] if children is not None else None
        if directory is None or len(running_processes(directory)) < 2:
            return False
        with self._collect_lock, self._lock:
            self._join_children_directory()
        return True

    def _group_of_children(self) -> WorkerGroup | None:
        """The worker group of the child processes; None if no child has recorded a value."""
        if self._children_directory is None:
            return None
        with self._collect_lock:
            group = self._children_group
            if group is None and any(self._children_directory[0].glob(f"*{WORKER_FILE_SUFFIX}")):
                try:
                    group = WorkerGroup(*self._children_directory, self.limit, self._record_sharing_error)
                except OSError as error:
                    self._record_sharing_error(error)
            self._children_group = group
        return group if group is not None and group.has_others() else None

    def _join_children_directory(self) -> None:
        if self._children_directory is not None and self.worker_group is None:
            try:
                self._join_group(WorkerGroup(*self._children_directory, self.limit, self._record_sharing_error))
            except OSError as error:
                self._record_sharing_error(error)
            if self._children_group is not None:
                self._children_group.leave()
                self._children_group = None

    def leave_workers(self) -> None:
        """Stop sharing metrics; recorded values remain in the totals of the other workers."""
        if self.worker_group is not None:
            self.worker_group.leave()

    def after_fork_in_child(self) -> None:
        """Reset in a forked child: values start at zero, and are shared if the parent shares its values."""
        self.started_ns = time.time_ns()
        self._lock = threading.RLock()
        self._collect_lock = threading.Lock()
        parent_group, self.worker_group = self.worker_group, None
        children_group, self._children_group = self._children_group, None
        self._parent_group = parent_group or self._parent_group
        for group in filter(None, (parent_group, children_group)):
            group.leave()
        self._needs_allocation = True
        for family in self._families.values():
            family.reset_after_fork(self._allocate_after_fork)

    def _allocate_after_fork(self) -> None:
        """Allocate cells in a forked child, when it first records a measurement."""
        with self._lock:
            if not self._needs_allocation:
                return
            parent_group, self._parent_group = self._parent_group, None
            try:
                if parent_group is not None:
                    self._join_group(parent_group.join_forked_child())
            except OSError as error:
                self._record_sharing_error(error)
            self._join_children_directory()
            if self.worker_group is None:
                self._migrate(MemoryStorage())
            self._needs_allocation = False

    def _rejoin_workers(self, removed_group: WorkerGroup) -> WorkerGroup | None:
        """Share the values of this worker again, after its file was removed."""
        self._log_once(
            "metrics.removed",
            "shared metric files were removed; values of ended workers are lost",
            {"directory": str(removed_group.directory), "setting": "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR"},
        )
        with self._lock:
            if self.worker_group is removed_group and self._join_arguments is not None:
                self.worker_group = None
                removed_group.leave()
                if not self.join_workers(*self._join_arguments):
                    self._migrate(MemoryStorage())
            return self.worker_group

    def _join_group(self, group: WorkerGroup) -> None:
        self._migrate(group.worker_file)
        self.worker_group = group

    def _migrate(self, storage: Storage) -> None:
        self._storage = storage
        for family in self._families.values():
            family.migrate(storage)

    def _add_family(self, metric: Metric) -> Family:
        self._allocate_after_fork()
        with self._lock:
            existing = self._families.get(metric.name)
            return existing or self._families.setdefault(metric.name, self._create_family(metric))

    def _create_family(self, metric: Metric) -> Family:
        extra = self._extra_buckets.get(metric.name, ())
        if extra and metric.instrument is Instrument.HISTOGRAM:
            metric = dataclasses.replace(metric, buckets=tuple(sorted({*metric.buckets, *extra})))
        return Family(metric, self._storage, self.limit, self._record_overflow)

    def _record_overflow(self, metric: Metric) -> None:
        if metric.name in _EXEMPT_FROM_OVERFLOW:
            return
        self.add(OVERFLOW, (metric.name,))
        self._log_once(
            f"metrics.overflow.{metric.name}",
            "metric has reached the cardinality limit; further values of unbounded labels are recorded as empty",
            {"metric": metric.name, "limit": self.limit, "setting": "CONNECTSOFT_OBS_CARDINALITY_LIMIT"},
        )

    def _record_sharing_error(self, error: Exception) -> None:
        self.add(ERRORS, ("metrics.shared",))
        fields = {"error": f"{type(error).__name__}: {error}"}
        self._log_once("metrics.shared", "metric is not shared with other workers; only this worker reports it", fields)

    def _log_once(self, kind: str, message: str, fields: dict[str, Any]) -> None:
        if self._warn_once is not None:
            self._warn_once((kind, ""), message, fields)
