"""Supervisor, start time and boot id of a process, and its statistics from /proc.

uvicorn, hypercorn and granian start workers through `multiprocessing`, which knows the parent; gunicorn forks and has
its own modules loaded. A pid alone does not identify a process because pids are reused; pid, start time and boot do.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


def supervisor_pid() -> int | None:
    """Pid of the process that supervises this worker and its siblings, or None if this process is not a worker."""
    if (parent := multiprocessing.parent_process()) is not None and parent.pid:
        return parent.pid
    if "gunicorn.arbiter" in sys.modules and hasattr(os, "getppid"):
        return os.getppid()
    return None


def process_start_time(pid: int) -> str | None:
    """Start time of a process, precise enough to distinguish it from any other process that had its pid.

    On Linux, clock ticks since boot from /proc/<pid>/stat; elsewhere the output of `ps`. None if there is no such
    process or it is a zombie.
    """
    if Path("/proc/self/stat").exists():
        try:
            fields = read_proc_stat(pid)
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    with suppress(OSError, subprocess.SubprocessError):
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        output = subprocess.run(command, capture_output=True, text=True, timeout=2, check=False).stdout  # noqa: S603
        return output.strip() or None
    return None


def read_proc_stat(pid: int | str) -> list[str]:
    """Fields 3 and following of /proc/<pid>/stat: 0 is the state, 11 to 14 CPU ticks, 17 threads, 19 the start time.

    Raises:
        OSError: there is no such process, or no /proc.
    """
    return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()


def boot_id() -> str:
    """The scope in which a pid is unique: this boot of the machine and this pid namespace."""
    parts = []
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)
