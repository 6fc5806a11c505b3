"""Process metrics (CPU, memory, file descriptors, threads) of this process or of all workers; read from /proc.

The CPU time of a service does not decrease when a worker ends: the kernel adds the time of an ended process to its parent
when the parent waits for it. The total is therefore the time of each process plus that of its ended children. The CPU
time of a single process is that of this process only.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from connectsoft_obs.process.process_info import read_proc_stat
from connectsoft_obs.signals.metrics.families import Snapshot
from connectsoft_obs.vocabulary import (
    PROCESS_CPU,
    PROCESS_MAX_FDS,
    PROCESS_OPEN_FDS,
    PROCESS_RESIDENT_MEMORY,
    PROCESS_START_TIME,
    PROCESS_THREADS,
    PROCESS_VIRTUAL_MEMORY,
)

# Fields of /proc/<pid>/stat.
_OWN_CPU_TIMES, _CHILDREN_CPU_TIMES, _ALL_CPU_TIMES = slice(11, 13), slice(13, 15), slice(11, 15)
_THREADS, _START_TIME, _VIRTUAL_MEMORY, _RESIDENT_MEMORY = 17, 19, 20, 21
_MAX_OPEN_FILES = re.compile(r"Max open files\s+(\d+)")
_MAX_ATTEMPTS = 5


def own_process_snapshots() -> list[Snapshot]:
    """Metrics of this process; empty without /proc."""
    pid = os.getpid()
    stat = _read_stat(pid)
    return [] if stat is None else _snapshots([stat], [pid], _OWN_CPU_TIMES)


def service_snapshots(supervisor: int, workers: Iterable[int]) -> list[Snapshot]:
    """Metrics of the supervisor and its workers, summed; empty without /proc."""
    pids = {supervisor, *workers}
    stats: list[list[str]] = []
    for _ in range(_MAX_ATTEMPTS):
        ended_before = _ended_children_ticks(supervisor)
        stats = [stat for pid in pids if (stat := _read_stat(pid)) is not None]
        if _ended_children_ticks(supervisor) == ended_before:  # no worker ended meanwhile, so no time is counted twice
            break
    return _snapshots(stats, pids, _ALL_CPU_TIMES)


def _snapshots(stats: Sequence[list[str]], pids: Iterable[int], cpu_times: slice) -> list[Snapshot]:
    if not stats:
        return []
    ticks_per_second, page_size = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    open_fds, max_fds = _count_file_descriptors(pids)
    totals = {
        PROCESS_CPU: sum(sum(map(int, stat[cpu_times])) for stat in stats) / ticks_per_second,
        PROCESS_RESIDENT_MEMORY: sum(int(stat[_RESIDENT_MEMORY]) for stat in stats) * page_size,
        PROCESS_VIRTUAL_MEMORY: sum(int(stat[_VIRTUAL_MEMORY]) for stat in stats),
        PROCESS_START_TIME: _boot_time() + min(int(stat[_START_TIME]) for stat in stats) / ticks_per_second,
        PROCESS_OPEN_FDS: open_fds,
        PROCESS_MAX_FDS: max_fds,
        PROCESS_THREADS: sum(int(stat[_THREADS]) for stat in stats),
    }
    return [Snapshot(metric, {(): float(value)}) for metric, value in totals.items()]


def _read_stat(pid: int) -> list[str] | None:
    if sys.platform.startswith("linux"):
        with suppress(OSError):
            return read_proc_stat(pid)
    return None


def _ended_children_ticks(pid: int) -> int:
    """CPU ticks of the ended children of a process."""
    stat = _read_stat(pid)
    return 0 if stat is None else sum(map(int, stat[_CHILDREN_CPU_TIMES]))


def _count_file_descriptors(pids: Iterable[int]) -> tuple[int, int]:
    """Number of open file descriptors, and their limit, summed over the processes."""
    open_fds = max_fds = 0
    for pid in pids:
        with suppress(OSError):  # the process has ended, or belongs to another user
            open_fds += len(os.listdir(f"/proc/{pid}/fd"))
            limits = Path(f"/proc/{pid}/limits").read_text("utf-8").splitlines()
            max_fds += sum(int(match[1]) for line in limits if (match := _MAX_OPEN_FILES.match(line)))
    return open_fds, max_fds


def _boot_time() -> float:
    with suppress(OSError):
        for line in Path("/proc/stat").read_text("utf-8").splitlines():
            if line.startswith("btime "):
                return float(line.split()[1])
    return 0.0
