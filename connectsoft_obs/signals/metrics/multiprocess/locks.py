"""Locks that the kernel gives back when their holder dies, however it dies.

`flock` belongs to an open file, not to a process: a forked child shares its parent's and keeps it alive, which is why
each lock has a descriptor that nothing else uses and that a child closes first thing. Closing it there does not unlock
what the parent holds.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

fcntl: Any = None
try:
    import fcntl
except ImportError:  # Windows: nothing is shared, and nobody asks
    pass


class Lock:
    """An exclusive lock on a file, held until `release()` or the end of the process.

    Raises:
        OSError: the file cannot be opened.
        BlockingIOError: somebody else holds it, and `wait` is False.
    """

    def __init__(self, path: Path, wait: bool = False) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BaseException:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        """Give it back; in a forked child, let go of the parent's without giving it back. Again does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


def held(path: Path) -> bool:
    """Whether somebody holds the lock of a file; False when there is no such file.

    Asks with a shared lock: two who ask at once do not take each other for the holder.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return locked(descriptor)
    finally:
        os.close(descriptor)


def locked(descriptor: int) -> bool:
    """Whether somebody else holds the lock of an open file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
