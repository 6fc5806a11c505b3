"""The directory that the workers of one start of a service share, or all workers that use one management port.

Each worker computes its path. Without a port, the name is derived from the service and from the supervisor's pid, start time, pid namespace and boot, so that two
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

from connectsoft_obs.process.file_lock import FileLock, is_locked
from connectsoft_obs.process.private_dir import private_dir
from connectsoft_obs.process.process_info import boot_id, process_start_time

WORKER_FILE_SUFFIX = ".cells"
"""Suffix of the files that workers write."""

_SUPERVISOR_FILE = "supervisor.json"
_EXPIRY_SECONDS = 86400.0


def candidate_directories(directory: str | None = None) -> list[Path]:
    """Parent directories to try: `directory` if it is set, else shared memory and the directory for temporary files."""
    if directory is not None:
        return [Path(directory)]
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
    name = _directory_name(service, str(supervisor_pid), identity)
    # All workers must select the same directory, so an existing one is preferred to a better candidate.
    roots = [root for root in map(_usable_private_dir, candidates) if root is not None]
    roots.sort(key=lambda root: not (root / name).is_dir())
    for root in roots:
        with suppress(OSError):
            _create(root / name, identity)
            _remove_ended(root, name)
            return root / name
    return None


def shared_directory_of(service: str, supervisor_pid: int, candidates: Sequence[Path], port: int = 0) -> Path | None:
    """The directory of the workers that share a port, or of those of a supervisor if the port is 0."""
    if port:
        return find_or_create_port_directory(service, port, candidates, supervisor_pid)
    return find_or_create_directory(service, supervisor_pid, candidates)


def find_or_create_port_directory(
    service: str, port: int, candidates: Sequence[Path], supervisor_pid: int | None = None
) -> Path | None:
    """The directory of all running workers of a service that use one management port of this machine.

    Registers this process and its supervisor. A directory whose processes have all ended is emptied first.

    Args:
        service: name of the service.
        port: the management port.
        candidates: parent directories, in order of preference.
        supervisor_pid: pid of the process that starts this worker again when it ends; this process if there is none.
    """
    registered = {os.getpid(), supervisor_pid or os.getpid()}
    identity: dict[str, object] = {"service": service, "port": port, "boot_id": boot_id()}
    name = _directory_name(service, f"port-{port}", identity)
    for root in filter(None, map(_usable_private_dir, candidates)):
        with suppress(OSError):
            directory = root / name
            with FileLock(root / f".{name}.lock", wait=True):
                if directory.is_dir() and _has_ended(directory):
                    shutil.rmtree(directory)
                directory.mkdir(0o700, exist_ok=True)
                processes = {str(pid): process_start_time(pid) for pid in {*running_processes(directory), *registered}}
                _write_identity(directory, {**identity, "processes": processes})
            _remove_ended(root, name)
            return directory
    return None


def running_processes(directory: Path) -> list[int]:
    """Pids of the running processes that are registered in a directory."""
    try:
        identity = json.loads((directory / _SUPERVISOR_FILE).read_text())
        if identity["boot_id"] != boot_id():
            return []
        processes = identity.get("processes") or {identity["pid"]: identity["start_time"]}
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [int(pid) for pid, start_time in processes.items() if process_start_time(int(pid)) == start_time]


def find_directory(supervisor_pid: int, candidates: Sequence[Path]) -> Path | None:
    """The directory that a running process has created for its children, whatever its service; None if there is none.

    Args:
        supervisor_pid: pid of the process.
        candidates: parent directories, in order of preference.
    """
    for root in filter(None, map(_usable_private_dir, candidates)):
        for directory in root.iterdir():
            if supervisor_pid in running_processes(directory):
                return directory
    return None


def _directory_name(service: str, kind: str, identity: dict[str, object]) -> str:
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return f"{re.sub(r'[^A-Za-z0-9-]+', '-', service)[:40].strip('-')}-{kind}-{digest}"


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
    if not (directory / _SUPERVISOR_FILE).exists():
        _write_identity(directory, identity)


def _write_identity(directory: Path, identity: dict[str, object]) -> None:
    temporary = directory / f"{_SUPERVISOR_FILE}.{os.getpid()}"
    temporary.write_text(json.dumps(identity))
    temporary.replace(directory / _SUPERVISOR_FILE)


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
        return not running_processes(directory)
    except (OSError, ValueError, KeyError, TypeError):
        return _is_expired(directory)


def _is_expired(directory: Path) -> bool:
    with suppress(OSError):
        return time.time() - directory.stat().st_mtime > _EXPIRY_SECONDS
    return False
