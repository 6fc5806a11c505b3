"""What is told of the processes themselves: the names of prometheus_client's process collector, which dashboards know.

That one does not count threads. The standard `process.thread.count` would be `process_thread_count`, and `_count` at the
end belongs to histograms (`promtool check metrics` says so); hence `process_threads`.
"""

from __future__ import annotations

from typing import Final

from .metrics import Instrument, Metric, MultiprocessMode

PER_PROCESS: Final = ("process_", "python_gc_")
"""How the families of one process begin that say nothing of the workers beside it."""


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
"""What is told of processes, in the order of the documentation."""
