"""Process metrics: OpenTelemetry names over OTLP, and the names of prometheus_client's process collector on /metrics.

Existing dashboards and alerts for Prometheus use the names of prometheus_client. That collector does not count threads.
The translation `process_thread_count` of the OpenTelemetry name is not used on /metrics because `promtool check metrics`
rejects it: the suffix `_count` is reserved for histograms.
"""

from __future__ import annotations

from typing import Final

from .metrics import Instrument, Metric, MultiprocessMode

PROCESS_CPU = Metric(
    "process.cpu.time", Instrument.COUNTER, "s", "Total user and system CPU time spent in seconds.",
    prometheus_family="process_cpu_seconds",
)  # fmt: skip
PROCESS_RESIDENT_MEMORY = Metric(
    "process.memory.usage", Instrument.UPDOWN, "By", "Resident memory size in bytes.",
    prometheus_family="process_resident_memory_bytes",
)  # fmt: skip
PROCESS_VIRTUAL_MEMORY = Metric(
    "process.memory.virtual", Instrument.UPDOWN, "By", "Virtual memory size in bytes.",
    prometheus_family="process_virtual_memory_bytes",
)  # fmt: skip
PROCESS_START_TIME = Metric(
    "connectsoft.process.start.timestamp", Instrument.GAUGE, "s",
    "Start time of the process since unix epoch in seconds.",
    merge=MultiprocessMode.MIN, prometheus_family="process_start_time_seconds",
)  # fmt: skip
PROCESS_OPEN_FDS = Metric(
    "process.unix.file_descriptor.count", Instrument.UPDOWN, "{file_descriptor}", "Number of open file descriptors.",
    prometheus_family="process_open_fds",
)  # fmt: skip
PROCESS_MAX_FDS = Metric(
    "connectsoft.process.file_descriptor.limit", Instrument.UPDOWN, "{file_descriptor}",
    "Maximum number of open file descriptors.", prometheus_family="process_max_fds",
)  # fmt: skip
PROCESS_THREADS = Metric(
    "process.thread.count", Instrument.UPDOWN, "{thread}", "Number of threads.", prometheus_family="process_threads"
)

PROCESS_METRICS: Final = (
    PROCESS_CPU,
    PROCESS_RESIDENT_MEMORY,
    PROCESS_VIRTUAL_MEMORY,
    PROCESS_START_TIME,
    PROCESS_OPEN_FDS,
    PROCESS_MAX_FDS,
    PROCESS_THREADS,
)
"""All process metrics, in the order of the documentation."""

PLATFORM_INFO: Final = "python_info"
"""Family of prometheus_client's platform collector; over OTLP, resource attributes contain this information."""

REPLACED_FAMILIES: Final = frozenset(
    {
        *(metric.family for metric in PROCESS_METRICS),
        "python_gc_collections",
        "python_gc_objects_collected",
        "python_gc_objects_uncollectable",
    }
)
"""Families of prometheus_client's process and GC collectors, which cover one process only.

`PROCESS_METRICS` and the metrics `cpython.gc.*` replace them.
"""
