"""Reads memory, threads, descriptors and children of processes from /proc."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def resource_usage(pid: int) -> tuple[float, int, int]:
    """Resident memory in MiB, number of threads and of open descriptors of a process; zeros if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0.0, 0, 0
    fields = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
    return int(fields.get("VmRSS", 0)) / 1024, int(fields.get("Threads", 0)), descriptors


def child_pids(pid: int) -> list[int]:
    """The ids of the processes that a process has started."""
    pids = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        pids += [int(child) for child in (task / "children").read_text().split()]
    return sorted(pids)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that is not exceeded by `percent` % of the values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
