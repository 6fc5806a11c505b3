"""Delta temporality, exemplar slots and request sizes: behaviour at resets, forks, clock changes and torn writes."""

from __future__ import annotations

import gc
import os
import struct
import time
from typing import Any

from connectsoft_obs.signals.metrics import (
    GcMetrics,
    HistogramData,
    MetricRegistry,
    Snapshot,
    otlp_encoder,
    process_metrics,
)
from connectsoft_obs.signals.metrics.delta_temporality import DeltaTracker
from connectsoft_obs.signals.metrics.exemplars import decode_exemplars
from connectsoft_obs.signals.metrics.series import Histogram
from connectsoft_obs.signals.metrics.storage import MemoryStorage
from connectsoft_obs.vocabulary import LOG_RECORDS, LOOP_LAG, PROCESS_CPU, Instrument, Metric


def export(tracker: DeltaTracker, metric: Metric, value: Any, accepted: bool = True) -> list[Any]:
    """Export one series and return its data points."""
    batches = tracker.build_batches([("shop", "1", [Snapshot(metric, {("",) * len(metric.labels): value})])], 1, 2)
    if accepted:
        tracker.mark_exported(batches)
    return [
        point
        for batch in batches
        for resource in batch.data.resource_metrics
        for scope in resource.scope_metrics
        for exported in scope.metrics
        for point in exported.data.data_points
    ]


def values(points: list[Any]) -> list[float]:
    return [point.value for point in points]


def test_delta_is_the_increase_since_the_last_accepted_export() -> None:
    tracker = DeltaTracker(dict)
    assert values(export(tracker, LOG_RECORDS, 5.0)) == [5]
    assert values(export(tracker, LOG_RECORDS, 7.0, accepted=False)) == [2]
    assert values(export(tracker, LOG_RECORDS, 8.0)) == [3]
    assert export(tracker, LOG_RECORDS, 8.0) == [], "an unchanged counter is not exported"


def test_delta_after_a_reset_is_the_new_value() -> None:
    tracker = DeltaTracker(dict)
    export(tracker, LOG_RECORDS, 5.0)
    assert values(export(tracker, LOG_RECORDS, 2.0)) == [2]


def test_delta_in_a_forked_child_starts_at_zero() -> None:
    tracker = DeltaTracker(dict)
    export(tracker, LOG_RECORDS, 5.0)
    tracker.after_fork_in_child()
    assert values(export(tracker, LOG_RECORDS, 5.0)) == [5]


def test_values_that_json_cannot_represent_are_not_exported() -> None:
    gauge = Metric("depth", Instrument.GAUGE, "{item}", "Depth.")
    for value in (float("inf"), float("nan")):
        assert export(DeltaTracker(dict), gauge, value) == []


def test_delta_of_a_histogram_has_new_counts_and_sum() -> None:
    tracker = DeltaTracker(dict)
    cells = [0.5, 1.0, *[0.0] * len(LOOP_LAG.buckets)]
    export(tracker, LOOP_LAG, HistogramData(cells))
    [point] = export(tracker, LOOP_LAG, HistogramData([2.0, 1.0, 3.0, *cells[3:]]))
    assert (point.count, point.sum) == (3, 1.5)


def test_exemplar_is_replaced_after_the_clock_went_back() -> None:
    storage = MemoryStorage()
    series = Histogram(
        storage.allocate_cells(LOOP_LAG, (), len(LOOP_LAG.buckets) + 2),
        LOOP_LAG.buckets,
        lambda: storage.allocate_exemplars(LOOP_LAG, (), len(LOOP_LAG.buckets) + 1),
    )
    ids = bytes(range(24))
    for value, timestamp in ((1e-4, 5_000_000_000), (2e-4, 5_000_000_001), (3e-4, 4_000_000_000)):
        series.observe_with_exemplar(value, ids, timestamp)
    assert series.exemplar_slots is not None
    exemplar = decode_exemplars(bytes(series.exemplar_slots))[0]
    assert exemplar is not None
    assert (exemplar.value, exemplar.time_unix_nano) == (3e-4, 4_000_000_000)


def test_exemplar_of_an_interrupted_write_is_ignored() -> None:
    assert decode_exemplars(struct.pack("=qd24sq", 5, 1.0, bytes(range(24)), 4)) == (None,)


def test_requests_do_not_exceed_two_mebibytes() -> None:
    requests = list(otlp_encoder.split_requests([bytes(1_000_000)] * 5))
    assert [len(request) for request in requests] == [2_000_000, 2_000_000, 1_000_000]


def test_gc_callback_is_registered_once() -> None:
    gc_metrics = GcMetrics(MetricRegistry(2000))
    callbacks = list(gc.callbacks)
    gc_metrics.start()
    gc_metrics.start()
    assert len(gc.callbacks) == len(callbacks) + 1
    gc_metrics.stop()
    assert gc.callbacks == callbacks


def test_own_cpu_time_excludes_ended_children() -> None:
    pid = os.fork()
    if pid == 0:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            sum(range(1000))
        os._exit(0)
    os.waitpid(pid, 0)
    [own] = [snapshot for snapshot in process_metrics.own_process_snapshots() if snapshot.metric is PROCESS_CPU]
    assert abs(own.series[()] - time.process_time()) < 0.1
