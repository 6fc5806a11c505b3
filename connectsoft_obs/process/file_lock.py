"""Advisory file locks that the kernel releases when the holder exits.

`flock` belongs to an open file, not to a process: a forked child shares its parent's lock and keeps it held. Each lock
therefore has a file descriptor that nothing else uses, and a child closes it first. Closing it in the child does not
release the parent's lock. Windows has no `flock`; there `FileLock` holds nothing and `is_locked` returns False.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

fcntl: Any = None
try:
    import fcntl
except ImportError:  # Windows
    pass


class FileLock:
    """An exclusive lock on a file, held until `release()` or the end of the process. Also a context manager.

    Args:
        path: the file to lock; created with mode 0600 if it does not exist.
        wait: wait until the lock is free instead of raising.

    Raises:
        OSError: the file cannot be opened.
        BlockingIOError: another process holds the lock, and `wait` is False.
    """

    def __init__(self, path: Path, wait: bool = False) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        if fcntl is None:
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock. In a forked child, close the descriptor without releasing the parent's lock. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file; False if the file does not exist.

    It tests with a shared lock, so that two processes that test at the same time do not report each other.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return False
    try:
        return is_descriptor_locked(descriptor)
    finally:
        os.close(descriptor)


def is_descriptor_locked(descriptor: int) -> bool:
    """Whether another open file description holds the lock of this open file."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
