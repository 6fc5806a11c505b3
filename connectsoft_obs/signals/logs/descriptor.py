"""Whole lines into a file descriptor that others write to as well.

The workers of a service share one pipe. The kernel keeps a write of up to PIPE_BUF bytes in one piece; a longer line,
as a stack trace makes one, could have another worker's line in its middle when the pipe is full. So writers of a pipe
take turns: each locks the pipe itself for as long as it writes, which costs two system calls a batch, needs no file, and
ends with the process that holds the lock.
"""

from __future__ import annotations

import os
import select
import stat
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from typing import Any

fcntl: Any = None
try:
    import fcntl
except ImportError:  # Windows, where a write to a pipe is one piece anyway
    pass

PIECE = 4096
"""Bytes that POSIX lets one writer of a pipe write without another's in between (PIPE_BUF on Linux), lock or not."""


class Blocked(Exception):
    """Nobody read in time. `lines` is how many were written whole before that."""

    def __init__(self, lines: int) -> None:
        super().__init__(lines)
        self.lines = lines


class Descriptor:
    """Writes lines to one descriptor; one thread of a process at a time.

    Args:
        number: the descriptor. It may be in non-blocking mode, as some parents leave it.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._turns = fcntl is not None and _is_pipe(number)
        self._torn = False

    def write(self, lines: list[bytes], until: float | None) -> None:
        """Write whole lines, waiting for a reader for ever, or until a moment of the monotonic clock.

        Raises:
            Blocked: that moment came.
            OSError: the descriptor cannot be written to any more.
        """
        locked = self._turns and self._lock(until)
        written = 0
        try:
            if self._torn:
                self._whole(b"\n", until)
                self._torn = False
            for piece, number in _pieces(lines):
                self._whole(piece, until)
                written += number
        except Blocked:
            raise Blocked(written) from None
        finally:
            if locked:
                with suppress(OSError):
                    fcntl.lockf(self._number, fcntl.LOCK_UN)

    def _lock(self, until: float | None) -> bool:
        try:
            if until is None:
                fcntl.lockf(self._number, fcntl.LOCK_EX)
                return True
            while True:
                with suppress(BlockingIOError, PermissionError):
                    fcntl.lockf(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return True
                if time.monotonic() >= until:
                    raise Blocked(0)
                time.sleep(0.001)
        except OSError:  # a system that locks no pipes
            self._turns = False
            return False

    def _whole(self, content: bytes, until: float | None) -> None:
        rest = memoryview(content)
        while rest:
            if until is not None:
                self._wait(until, len(rest) < len(content))
            try:
                written = os.write(self._number, rest if until is None else rest[:PIECE])
            except BlockingIOError:
                self._wait(until, len(rest) < len(content))
                continue
            rest = rest[written:]

    def _wait(self, until: float | None, begun: bool) -> None:
        """Wait until something can be written."""
        seconds = None if until is None else max(until - time.monotonic(), 0)
        if not _writable(self._number, seconds):
            self._torn = self._torn or begun
            raise Blocked(0)


def _is_pipe(number: int) -> bool:
    try:
        mode = os.fstat(number).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _writable(number: int, seconds: float | None) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(number, select.POLLOUT)
        return bool(poll.poll(None if seconds is None else seconds * 1000))
    if os.name == "nt":  # only sockets can be asked there
        return True
    return bool(select.select([], [number], [], seconds)[1])


def _pieces(lines: list[bytes]) -> Iterator[tuple[bytes, int]]:
    """Whole lines joined to at most PIECE bytes, and how many there are; a longer line is a piece of its own."""
    ends = list(accumulate(map(len, lines)))
    first = written = 0
    while first < len(lines):
        last = max(bisect_right(ends, written + PIECE), first + 1)
        yield b"".join(lines[first:last]), last - first
        first, written = last, ends[last - 1]
