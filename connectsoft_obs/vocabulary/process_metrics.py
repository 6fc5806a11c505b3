"""Process metrics, with the names of the process collector of prometheus_client, which existing dashboards use.

That collector does not count threads. The OpenTelemetry name `process.thread.count` would become `process_thread_count`,
which `promtool check metrics` rejects because the suffix `_count` is reserved for histograms; hence `process_threads`.
"""

from __future__ import annotations

from typing import Final

from .metrics import Instrument, Metric, MultiprocessMode

PER_PROCESS: Final = ("process_", "python_gc_")
"""Prefixes of metric families that describe only the process that is scraped, not other workers."""


def _gauge(name: str, unit: str, help_: str, merge: MultiprocessMode = MultiprocessMode.SUM) -> Metric:
    return Metric(name, Instrument.GAUGE, unit, help_, merge=merge)


PROCESS_CPU = Metric("process.cpu", Instrument.COUNTER, "s", "Total user and system CPU time spent in seconds.")
PROCESS_RESIDENT_MEMORY = _gauge("process.resident_memory", "By", "Resident memory size in bytes.")
PROCESS_VIRTUAL_MEMORY = _gauge("process.virtual_memory", "By", "Virtual memory size in bytes.")
PROCESS_START_TIME = _gauge(
    "process.start_time", "s", "Start time of the process since unix epoch in seconds.", MultiprocessMode.MIN
)
PROCESS_OPEN_FDS = _gauge("process.open_fds", "", "Number of open file descriptors.")
PROCESS_MAX_FDS = _gauge("process.max_fds", "", "Maximum number of open file descriptors.")
PROCESS_THREADS = Metric("process.threads", Instrument.UPDOWN, "{thread}", "Number of threads.")

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
