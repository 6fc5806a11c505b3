"""The directory that the workers of one start of a service share; each worker determines it on its own.

Its name is derived from the service and from the supervisor's pid, start time, pid namespace and boot, so that two
services started from one shell, two starts of one service and two containers that share memory never mix. A directory
in memory (/dev/shm) is preferred to one on a disk: a write to a mapped page of a file on a disk can block on I/O, and
requests perform such writes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from connectsoft_obs.process.file_lock import is_locked
from connectsoft_obs.process.private_dir import private_dir
from connectsoft_obs.process.process_info import boot_id, process_start_time

WORKER_FILE_SUFFIX = ".cells"
"""Suffix of the files that workers write."""

_SUPERVISOR_FILE = "supervisor.json"
_EXPIRY_SECONDS = 86400.0


def candidate_directories() -> list[Path]:
    """Parent directories to try, in order of preference: shared memory, then the directory for temporary files."""
    shared_memory = Path("/dev/shm")  # noqa: S108  a private directory with mode 0700 is created in it
    candidates = [shared_memory] if shared_memory.is_dir() else []
    with suppress(OSError):
        candidates.append(Path(tempfile.gettempdir()))
    return candidates


def find_or_create_directory(service: str, supervisor_pid: int, candidates: Sequence[Path]) -> Path | None:
    """The directory of this start of the service, created if it does not exist.

    Also removes the directories of starts that have ended.

    Args:
        service: name of the service.
        supervisor_pid: pid of the process that started the workers.
        candidates: parent directories, in order of preference.

    Returns:
        The directory, or None if no candidate is writable or the supervisor does not exist.
    """
    start_time = process_start_time(supervisor_pid)
    if start_time is None:
        return None
    identity = {"service": service, "pid": supervisor_pid, "start_time": start_time, "boot_id": boot_id()}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    name = f"{re.sub(r'[^A-Za-z0-9-]+', '-', service)[:40].strip('-')}-{supervisor_pid}-{digest}"
    # All workers must select the same directory, so an existing one is preferred to a better candidate.
    roots = [root for root in map(_usable_private_dir, candidates) if root is not None]
    roots.sort(key=lambda root: not (root / name).is_dir())
    for root in roots:
        with suppress(OSError):
            _create(root / name, identity)
            _remove_ended(root, name)
            return root / name
    return None


def find_directory(supervisor_pid: int, candidates: Sequence[Path]) -> Path | None:
    """The directory that a running process has created for its children, whatever its service; None if there is none.

    Args:
        supervisor_pid: pid of the process.
        candidates: parent directories, in order of preference.
    """
    for root in filter(None, map(_usable_private_dir, candidates)):
        for directory in root.glob(f"*-{supervisor_pid}-*"):
            if not _has_ended(directory):
                return directory
    return None


def _usable_private_dir(parent: Path) -> Path | None:
    """The private directory in a candidate location, or None if it cannot be used or users do not exist (Windows)."""
    if not hasattr(os, "geteuid"):
        return None
    try:
        directory = private_dir(parent)
    except OSError:
        return None
    return directory if os.access(directory, os.W_OK | os.X_OK) else None


def _create(directory: Path, identity: dict[str, object]) -> None:
    directory.mkdir(0o700, exist_ok=True)
    supervisor_file = directory / _SUPERVISOR_FILE
    if not supervisor_file.exists():
        temporary = directory / f"{_SUPERVISOR_FILE}.{os.getpid()}"
        temporary.write_text(json.dumps(identity))
        temporary.replace(supervisor_file)


def _remove_ended(root: Path, current: str) -> None:
    for directory in root.iterdir():
        if directory.name != current and _has_ended(directory):
            shutil.rmtree(directory, ignore_errors=True)


def _has_ended(directory: Path) -> bool:
    """Whether no process will use the directory again: all its workers and its supervisor have ended.

    Whether a supervisor in another pid namespace exists cannot be determined; its directory expires after a day.
    """
    try:
        if any(is_locked(path) for path in directory.glob(f"*{WORKER_FILE_SUFFIX}")):
            return False
        age = time.time() - directory.stat().st_mtime
        identity = json.loads((directory / _SUPERVISOR_FILE).read_text())
        if identity["boot_id"] != boot_id():
            return age > _EXPIRY_SECONDS
        return bool(process_start_time(int(identity["pid"])) != identity["start_time"])
    except (OSError, ValueError, KeyError, TypeError):
        return _is_expired(directory)


def _is_expired(directory: Path) -> bool:
    with suppress(OSError):
        return time.time() - directory.stat().st_mtime > _EXPIRY_SECONDS
    return False
