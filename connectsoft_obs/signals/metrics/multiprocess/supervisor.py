"""Whose worker this process is: the process that started it together with others, told from what the servers leave.

uvicorn, hypercorn and granian start workers through `multiprocessing`, which knows the parent; gunicorn forks, and its
own modules are loaded. A pid alone names nobody: it is used again. With its start time and the boot it belongs to it
does.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


def supervisor_identity() -> int | None:
    """Pid of the process that supervises this one and others of its service, or None."""
    if (parent := multiprocessing.parent_process()) is not None and parent.pid:
        return parent.pid
    if "gunicorn.arbiter" in sys.modules and hasattr(os, "getppid"):
        return os.getppid()
    return None


def process_start_time(pid: int) -> str | None:
    """When a process started, exact enough to tell it from any other with its pid; None if there is no such process.

    On Linux the clock ticks since boot of /proc/<pid>/stat, elsewhere what `ps` says.
    """
    if Path("/proc/self/stat").exists():
        try:
            fields = stat(pid)
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    with suppress(OSError, subprocess.SubprocessError):
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=2, check=False).stdout  # noqa: S603
        return found.strip() or None
    return None


def stat(pid: int | str) -> list[str]:
    """Fields 3 and up of /proc/<pid>/stat: 0 is the state, 11 to 14 are CPU ticks, 17 threads, 19 the start.

    Raises:
        OSError: there is no such process, or no /proc.
    """
    return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()


def boot_id() -> str:
    """What a pid is unique in: this boot and this namespace of pids."""
    found = []
    with suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        found.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(found)
