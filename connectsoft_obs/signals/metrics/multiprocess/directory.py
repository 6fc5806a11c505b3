"""Where the workers of one start of one service meet: a directory of their own, found by each of them alone.

Its name is made of the service and of the supervisor's pid, start time, pid namespace and boot, so that two services
started from one shell, two starts of one service and two containers that share memory never mix. It lies in memory
(/dev/shm) rather than on a disk where there is both: writing to a mapped page of a disk file can wait for the disk,
and requests write there.
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
from connectsoft_obs.process.identity import boot_id, process_start_time
from connectsoft_obs.process.private_dir import private_dir

CELLS = ".cells"
"""Ending of the files that workers write to."""

_WHO = "supervisor.json"
_FORGOTTEN = 86400.0


def candidate_dirs() -> list[Path]:
    """Where directories may be, best first: memory, then the place for temporary files."""
    found = [Path("/dev/shm")] if Path("/dev/shm").is_dir() else []  # noqa: S108  a folder of our own in it, 0700
    with suppress(OSError):
        found.append(Path(tempfile.gettempdir()))
    return found


def find_or_create(service: str, supervisor: int, candidates: Sequence[Path]) -> Path | None:
    """The directory of this start, made if need be; None where none of the places can be written to.

    Directories of starts that have ended are removed on the way.
    """
    since = process_start_time(supervisor)
    if since is None:
        return None
    who = {"service": service, "pid": supervisor, "born": since, "machine": boot_id()}
    digest = hashlib.sha256(json.dumps(who, sort_keys=True).encode()).hexdigest()[:16]
    name = f"{re.sub(r'[^A-Za-z0-9-]+', '-', service)[:40].strip('-')}-{supervisor}-{digest}"
    # Every worker must come to the same answer, so an existing directory wins over a better place.
    roots = [root for root in map(_usable_private_dir, candidates) if root is not None]
    roots.sort(key=lambda root: not (root / name).is_dir())
    for root in roots:
        with suppress(OSError):
            _make(root / name, who)
            _remove_ended(root, name)
            return root / name
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


def _make(directory: Path, who: dict[str, object]) -> None:
    directory.mkdir(0o700, exist_ok=True)
    description = directory / _WHO
    if not description.exists():
        fresh = directory / f"{_WHO}.{os.getpid()}"
        fresh.write_text(json.dumps(who))
        fresh.replace(description)


def _remove_ended(root: Path, current: str) -> None:
    for directory in root.iterdir():
        if directory.name != current and _ended(directory):
            shutil.rmtree(directory, ignore_errors=True)


def _ended(directory: Path) -> bool:
    """Whether no process will come here again: no worker is left, and its supervisor is gone.

    A supervisor in another pid namespace cannot be asked for; its directory is left alone for a day.
    """
    try:
        if any(is_locked(path) for path in directory.glob(f"*{CELLS}")):
            return False
        age = time.time() - directory.stat().st_mtime
        who = json.loads((directory / _WHO).read_text())
        if who["machine"] != boot_id():
            return age > _FORGOTTEN
        return bool(process_start_time(int(who["pid"])) != who["born"])
    except (OSError, ValueError, KeyError, TypeError):
        return _old(directory)


def _old(directory: Path) -> bool:
    with suppress(OSError):
        return time.time() - directory.stat().st_mtime > _FORGOTTEN
    return False
