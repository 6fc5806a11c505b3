"""Looking at processes from outside: memory, threads, descriptors; and charts of what was seen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def used(pid: int) -> tuple[float, int, int]:
    """Resident memory in MiB, threads and open descriptors of a process; zeros for one that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0.0, 0, 0
    found = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
    return int(found.get("VmRSS", 0)) / 1024, int(found.get("Threads", 0)), descriptors


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return sorted(found)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
