"""Whole lines into a file descriptor that others write to as well.

The workers of a service share one pipe. The kernel keeps a write of up to PIPE_BUF bytes in one piece; a longer line,
as a stack trace makes one, could have another worker's line in its middle when the pipe is full. So writers of a pipe
take turns: each locks the pipe itself for as long as it writes, which costs two system calls a batch, needs no file, and
ends with the process that holds the lock.

Others, such as the application's own `print`, take no turns. A write that finds the pipe empty and room for all of it is
in one piece for them too, so while it is our turn as much is written at once as fits into an empty pipe. Each write lets
go of the GIL and has to get it back from a busy event loop: at full load a write for every six lines took a tenth of the
requests (tests/bench/throughput.py).
"""

from __future__ import annotations

import os
import select
import stat
import struct
import time
from bisect import bisect_right
from contextlib import suppress
from itertools import accumulate
from typing import Any

fcntl: Any = None
termios: Any = None
try:
    import fcntl
    import termios
except ImportError:  # Windows, where a write to a pipe is one piece anyway
    pass

PIECE = 4096
"""Bytes that POSIX lets one writer of a pipe write without another's in between (PIPE_BUF on Linux), lock or not."""

_MOMENT, _MOMENTS = 0.0005, 10
"""Seconds that a reader is given to empty the pipe, and how often; then it is written to in pieces of PIECE."""

_INT = struct.Struct("i")


class WriteTimeout(Exception):
    """Nobody read in time. `lines` is how many were written whole before that."""

    def __init__(self, lines: int) -> None:
        super().__init__(lines)
        self.lines = lines


class PipeWriter:
    """Writes lines to one descriptor; one thread of a process at a time.

    Args:
        number: the descriptor. It may be in non-blocking mode, as some parents leave it.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._turns = fcntl is not None and _is_pipe(number)
        self._capacity = _capacity(number)
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
            ends, size = list(accumulate(map(len, lines))), 0
            while written < len(lines):
                room = self._room() if locked and until is None else PIECE
                last = max(
                    bisect_right(ends, size + room), written + 1
                )  # a line longer than that is a piece of its own
                self._whole(b"".join(lines[written:last]), until)
                written, size = last, ends[last - 1]
        except WriteTimeout:
            raise WriteTimeout(written) from None
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
                    raise WriteTimeout(0)
                time.sleep(0.001)
        except OSError:  # a system that locks no pipes
            self._turns = False
            return False

    def _room(self) -> int:
        """Bytes that are written in one piece whoever else writes, once a reader had a moment to empty the pipe."""
        if not self._capacity:
            return PIECE
        for _ in range(_MOMENTS):
            (waiting,) = _INT.unpack(fcntl.ioctl(self._number, termios.FIONREAD, bytes(_INT.size)))
            if not waiting:
                return self._capacity - 2 * PIECE  # two pages for what others write in between
            time.sleep(_MOMENT)
        return PIECE

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
            raise WriteTimeout(0)


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


def _capacity(number: int) -> int:
    """Bytes that a pipe holds, as far as the system tells; 0 for what is no pipe."""
    try:
        return int(fcntl.fcntl(number, fcntl.F_GETPIPE_SZ))
    except (AttributeError, OSError):
        return 0
