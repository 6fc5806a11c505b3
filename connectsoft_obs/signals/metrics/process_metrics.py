"""CPU, memory, file descriptors and threads of all processes of a service together, read from /proc.

CPU time never goes back when a worker ends: the kernel adds what an ended process has used to its parent once that has
taken note of the end. So the time of each process and of its ended children is the whole.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from connectsoft_obs.process.identity import read_proc_stat
from connectsoft_obs.signals.metrics.families import Snapshot
from connectsoft_obs.vocabulary import (
    PROCESS_CPU,
    PROCESS_MAX_FDS,
    PROCESS_OPEN_FDS,
    PROCESS_RESIDENT_MEMORY,
    PROCESS_START_TIME,
    PROCESS_THREADS,
    PROCESS_VIRTUAL_MEMORY,
    Metric,
)

_TIMES, _CHILDREN, _THREADS, _START, _VIRTUAL, _RESIDENT = slice(11, 15), slice(13, 15), 17, 19, 20, 21
_MOST = re.compile(r"Max open files\s+(\d+)")
_ATTEMPTS = 5


def threads() -> list[Snapshot]:
    """Threads of this process; nothing where there is no /proc."""
    with suppress(OSError):
        return [_one(PROCESS_THREADS, float(read_proc_stat("self")[_THREADS]))]
    return []


def sum_over_processes(supervisor: int, workers: Iterable[int]) -> list[Snapshot]:
    """The supervisor and its workers as one; nothing where there is no /proc."""
    if not sys.platform.startswith("linux"):
        return []
    found: list[list[str]] = []
    for _ in range(_ATTEMPTS):
        before = _ended_time(supervisor)
        found = [fields for pid in {supervisor, *workers} if (fields := _fields(pid)) is not None]
        if _ended_time(supervisor) == before:  # nobody's time has moved to the supervisor while it was added up
            break
    if not found:
        return []
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    open_fds, max_fds = _descriptors({supervisor, *workers})
    sums = {
        PROCESS_CPU: sum(sum(map(int, fields[_TIMES])) for fields in found) / ticks,
        PROCESS_RESIDENT_MEMORY: sum(int(fields[_RESIDENT]) for fields in found) * page,
        PROCESS_VIRTUAL_MEMORY: sum(int(fields[_VIRTUAL]) for fields in found),
        PROCESS_START_TIME: _boot_time() + min(int(fields[_START]) for fields in found) / ticks,
        PROCESS_OPEN_FDS: open_fds,
        PROCESS_MAX_FDS: max_fds,
        PROCESS_THREADS: sum(int(fields[_THREADS]) for fields in found),
    }
    return [_one(metric, float(value)) for metric, value in sums.items()]


def _one(metric: Metric, value: float) -> Snapshot:
    return Snapshot(metric, {(): value})


def _fields(pid: int) -> list[str] | None:
    with suppress(OSError):
        return read_proc_stat(pid)
    return None


def _ended_time(supervisor: int) -> int:
    """CPU ticks of the supervisor's ended children."""
    fields = _fields(supervisor)
    return 0 if fields is None else sum(map(int, fields[_CHILDREN]))


def _descriptors(pids: Iterable[int]) -> tuple[int, int]:
    used = most = 0
    for pid in pids:
        with suppress(OSError):  # gone, or another user's
            used += len(os.listdir(f"/proc/{pid}/fd"))
            limits = Path(f"/proc/{pid}/limits").read_text("utf-8").splitlines()
            most += sum(int(found[1]) for line in limits if (found := _MOST.match(line)))
    return used, most


def _boot_time() -> float:
    with suppress(OSError):
        for line in Path("/proc/stat").read_text("utf-8").splitlines():
            if line.startswith("btime "):
                return float(line.split()[1])
    return 0.0
