"""Writes complete lines to a pipe that other processes write to as well.

The workers of a service share one pipe. The kernel writes up to PIPE_BUF bytes atomically; a longer line, for example
one with a stack trace, could be interleaved with a line of another worker when the pipe is full. So each worker locks
the pipe while it writes. This costs two system calls per batch, needs no file, and the kernel releases the lock if the
process dies.

Other writers, such as `print()` of the application, take no lock. A write that fits into the empty pipe is atomic for
them too, so a worker with the lock writes as much at once as fits into an empty pipe. Each write releases the GIL and
has to get it back from a busy event loop: at full load one write per six lines cost a tenth of the throughput
(tests/bench/throughput.py).
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
except ImportError:  # Windows, where a write to a pipe is atomic
    pass

PIPE_BUF = 4096
"""Bytes that POSIX guarantees to be written to a pipe atomically on Linux, with or without a lock."""

_POLL_INTERVAL, _MAX_POLLS = 0.0005, 10
"""Seconds between checks whether a reader has emptied the pipe, and their maximum number; after them, a write has at most
PIPE_BUF bytes."""

_INT = struct.Struct("i")


class WriteTimeout(Exception):
    """The reader was too slow. `lines` is the number of lines that were written completely."""

    def __init__(self, lines: int) -> None:
        super().__init__(lines)
        self.lines = lines


class PipeWriter:
    """Writes lines to one file descriptor. Not thread-safe.

    Args:
        fd: the file descriptor. It may be in non-blocking mode, as some parent processes leave it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._uses_lock = fcntl is not None and _is_pipe(fd)
        self._capacity = _pipe_capacity(fd)
        self._has_partial_line = False

    def write(self, lines: list[bytes], deadline: float | None) -> None:
        """Write complete lines.

        Args:
            lines: the lines, each with its newline.
            deadline: time of the monotonic clock until which to wait for the reader; None waits indefinitely.

        Raises:
            WriteTimeout: the deadline has passed.
            OSError: the descriptor is not writable.
        """
        has_lock = self._uses_lock and self._lock(deadline)
        written = 0
        try:
            if self._has_partial_line:
                self._write_all(b"\n", deadline)
                self._has_partial_line = False
            ends, size = list(accumulate(map(len, lines))), 0
            while written < len(lines):
                is_long = ends[-1] - size > PIPE_BUF  # anything else is one atomic write and waits for no reader
                limit = self._max_write_size() if is_long and has_lock and deadline is None else PIPE_BUF
                last = max(bisect_right(ends, size + limit), written + 1)  # a longer line is written on its own
                self._write_all(b"".join(lines[written:last]), deadline)
                written, size = last, ends[last - 1]
        except WriteTimeout:
            raise WriteTimeout(written) from None
        finally:
            if has_lock:
                with suppress(OSError):
                    fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _lock(self, deadline: float | None) -> bool:
        try:
            if deadline is None:
                fcntl.lockf(self._fd, fcntl.LOCK_EX)
                return True
            while True:
                with suppress(BlockingIOError, PermissionError):
                    fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return True
                if time.monotonic() >= deadline:
                    raise WriteTimeout(0)
                time.sleep(0.001)
        except OSError:  # the operating system cannot lock pipes
            self._uses_lock = False
            return False

    def _max_write_size(self) -> int:
        """Bytes that can be written atomically for all writers, after giving the reader time to empty the pipe."""
        if not self._capacity:
            return PIPE_BUF
        for _ in range(_MAX_POLLS):
            (unread,) = _INT.unpack(fcntl.ioctl(self._fd, termios.FIONREAD, bytes(_INT.size)))
            if not unread:
                return self._capacity - 2 * PIPE_BUF  # two pages for writers without the lock
            if _has_no_reader(self._fd):  # what is unread stays unread; the write fails at once
                return PIPE_BUF
            time.sleep(_POLL_INTERVAL)
        return PIPE_BUF

    def _write_all(self, content: bytes, deadline: float | None) -> None:
        rest = memoryview(content)
        while rest:
            if deadline is not None:
                self._wait_writable(deadline, len(rest) < len(content))
            try:
                written = os.write(self._fd, rest if deadline is None else rest[:PIPE_BUF])
            except BlockingIOError:
                self._wait_writable(deadline, len(rest) < len(content))
                continue
            rest = rest[written:]

    def _wait_writable(self, deadline: float | None, is_partial: bool) -> None:
        timeout = None if deadline is None else max(deadline - time.monotonic(), 0)
        if not _poll_writable(self._fd, timeout):
            self._has_partial_line = self._has_partial_line or is_partial
            raise WriteTimeout(0)


def _is_pipe(fd: int) -> bool:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _poll_writable(fd: int, timeout: float | None) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        return bool(poll.poll(None if timeout is None else timeout * 1000))
    if os.name == "nt":  # select() supports only sockets there
        return True
    return bool(select.select([], [fd], [], timeout)[1])


def _has_no_reader(fd: int) -> bool:
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


def _pipe_capacity(fd: int) -> int:
    """Capacity of a pipe in bytes; 0 if it is not a pipe or the operating system does not provide it."""
    try:
        return int(fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ))
    except (AttributeError, OSError):
        return 0
