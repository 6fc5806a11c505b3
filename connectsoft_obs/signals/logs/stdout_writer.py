"""Where lines go: standard output, at once, or from a thread once the process serves.

A write to a pipe costs more than making the line, and one to a full pipe blocks. So while requests are served lines are
collected for up to 50 ms and written by a thread, in pieces of whole lines that the kernel writes in one go. What does
not fit into the buffer while nobody reads is dropped and counted.

A line may be handed over before it is put into words. That is then done for many at once: it is code that the processor
has forgotten when the next request ends, and remembers when the next line follows at once (tests/bench/inprocess.py).
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import TextIO, TypeAlias

from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.process import threads
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.signals.logs.pipe_writer import PipeWriter, WriteTimeout
from connectsoft_obs.vocabulary import Signal

PAUSE = 0.05
"""Longest time in seconds that a line waits in memory; what an `os._exit` or a SIGKILL can lose."""

LIMIT = 4 * 1024 * 1024
"""Bytes that may wait for a reader."""

BATCH_LINES = 32
"""Lines that are put into words at once."""

_TAKEN = 1024
"""Lines from which on no more are written at once."""

WRITE_TIMEOUT = 1.0
"""Seconds that lines said after the service has stopped wait for a reader, all of them together."""

Line: TypeAlias = bytes | Callable[[], bytes]
"""A line with its newline, or what makes it, now or later, in any thread."""


class StdoutWriter:
    """Standard output of this process. Thread-safe; no method raises.

    Args:
        ledger: counts lines that could not be written.
        stream: a text stream to use instead of `sys.stdout`.
    """

    def __init__(self, internal_telemetry: InternalTelemetry, stream: TextIO | None = None) -> None:
        self._internal_telemetry = internal_telemetry
        self._stream = sys.stdout if stream is None else stream
        number = _number(self._stream)
        self._descriptor = None if number is None else PipeWriter(number)
        self._patience: float | None = None
        self.after_fork_in_child()
        register_fork_handler(self)

    def after_fork_in_child(self) -> None:
        """In a forked child, and at first: lines are written at once, nothing waits here, and no thread runs."""
        self._started = False
        self._fresh: list[Line] = []
        self._pieces: deque[list[bytes]] = deque()
        self._size = 0
        self._busy = self._hurry = False
        self._idle = True  # until a thread runs, the next line has to start it
        self._due: tuple[float, Callable[[], None]] | None = None
        self._thread: threading.Thread | None = None
        self._wakeup = threading.Event()
        self._empty = threading.Condition()
        self._gathering = threading.Lock()
        self._writing = threading.Lock()

    @property
    def terminal(self) -> bool:
        """Whether somebody is looking."""
        try:
            return self._stream.isatty()
        except (AttributeError, ValueError):
            return False

    def start(self) -> None:
        """From now on a thread writes; the next line starts it. A terminal keeps getting its lines at once."""
        self._patience = None
        self._started = self._descriptor is not None and not self.terminal

    def write(self, line: Line, urgent: bool) -> None:
        """Write one line, its newline included, now or within PAUSE; an urgent one without delay."""
        if not self._started:
            self._now(self._render([line]), self._patience)
            return
        # No call between finding the list and adding to it, nor between finding and replacing it in `_gather`: threads
        # switch at calls, so what is added to a list is still to be gathered.
        self._fresh.append(line)
        if len(self._fresh) >= BATCH_LINES:
            self._gather(False)
        if urgent or self._idle:
            self._wake(urgent)

    def _gather(self, wait: bool) -> None:
        """Put into words what was said, in its order, as far as there is room; not if somebody does and `wait` is false."""
        if not self._gathering.acquire(wait):
            return
        try:
            fresh = self._fresh
            self._fresh = []
            try:
                lines = self._render(fresh)
            except BaseException:  # raised by the application's handler of a signal that came in between
                self._fresh[:0] = fresh
                raise
            size = sum(map(len, lines))
            if self._size + size > LIMIT:
                lines, size = self._fitting(lines, LIMIT - self._size)
            if lines:
                self._size += size  # first: whoever writes them takes it off
                self._pieces.append(lines)
        finally:
            self._gathering.release()

    def _fitting(self, lines: list[bytes], room: int) -> tuple[list[bytes], int]:
        """The lines that fit into so many bytes, and their size; the others are counted as dropped."""
        fitting, size = [], 0
        for line in lines:
            if size + len(line) <= room:
                fitting.append(line)
                size += len(line)
        self._internal_telemetry.count_dropped(Signal.LOGS, "stdout_blocked", len(lines) - len(fitting))
        return fitting, size

    def _render(self, lines: list[Line]) -> list[bytes]:
        """Lines in words, without those that cannot be said."""
        worded = []
        for line in lines:
            try:
                worded.append(line if isinstance(line, bytes) else line())
            except Exception as error:  # noqa: BLE001  ours; the others are said
                self._internal_telemetry.record_error("logs", error)
        return worded

    def _wake(self, urgent: bool) -> None:
        """Have the thread look; once for all lines of a pause, because waking a thread costs as much as a line."""
        if self._thread is None and not self._begin():
            self._unthreaded()
            return
        if urgent and not self._hurry:
            self._hurry = True
        elif not self._idle:
            return
        self._idle = False
        self._wakeup.set()

    def flush(self, timeout: float) -> bool:
        """Wait until what was logged before is written; True when nothing waits any more."""
        if not self._started:
            if self._descriptor is None:
                with suppress(Exception):
                    self._stream.flush()
            return True
        with self._empty:
            if self._thread is None:
                return True
            self._hurry = True
            self._wakeup.set()
            return self._empty.wait_for(self._done, timeout)

    def _done(self) -> bool:
        return not (self._fresh or self._gathering.locked() or self._pieces or self._busy)

    def stop(self, timeout: float) -> bool:
        """As `flush`; from now on lines are written at once again, for as long as somebody reads them."""
        done = self.flush(timeout)
        if self._started:
            self._patience = WRITE_TIMEOUT if done else 0.0
            self._started = False
        return done

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Run `call` in the writing thread after so many seconds; where there is none, not at all."""
        if self._thread is not None:
            self._due = (monotonic() + seconds, call)
            self._wakeup.set()

    def _begin(self) -> bool:
        with self._empty:
            if self._thread is None:
                self._thread = threads.start_thread("obs-stdout", self._run)
            return self._thread is not None

    def _unthreaded(self) -> None:
        """Where there can be no thread: write here what waits; a reader who does not read is not waited for long."""
        with self._empty:
            self._gather(False)
            while self._pieces:
                lines = self._pieces.popleft()
                self._now(lines, WRITE_TIMEOUT if self._patience is None else self._patience)
                self._size -= sum(map(len, lines))

    # --- In the thread -----------------------------------------------------------------------------------------------
    def _run(self) -> None:
        while True:
            # Whoever adds a line looks at `_idle` after that, and we at the lines after setting it: one of us sees.
            self._idle = True
            if not self._fresh and not self._pieces and not self._hurry:
                self._wakeup.wait(None if self._due is None else max(self._due[0] - monotonic(), 0))
            self._idle = False
            self._wakeup.clear()
            if (self._fresh or self._pieces) and not self._hurry:
                self._wakeup.wait(PAUSE)
                self._wakeup.clear()
            self._write_all()
            self._run_due()

    def _write_all(self) -> None:
        self._busy, self._hurry = True, False
        pieces = self._pieces
        self._gather(True)
        while pieces:
            taken: list[bytes] = []
            while pieces and len(taken) < _TAKEN:
                taken += pieces.popleft()
            self._now(taken, None)
            written = sum(map(len, taken))
            self._size -= written
        self._busy = False
        with self._empty:
            self._empty.notify_all()

    def _run_due(self) -> None:
        if self._due is not None and monotonic() >= self._due[0]:
            (_, call), self._due = self._due, None
            try:
                call()
            except Exception as error:  # noqa: BLE001  the thread goes on
                self._internal_telemetry.record_error("logs.deferred", error)

    def _now(self, lines: list[bytes], patience: float | None) -> None:
        until = None if patience is None else monotonic() + patience
        if not self._writing.acquire(timeout=-1 if patience is None else patience):
            self._internal_telemetry.count_dropped(Signal.LOGS, "stdout_blocked", len(lines))
            return
        try:
            if self._descriptor is not None and not self._stream.closed:
                self._descriptor.write(lines, until)
            else:
                self._stream.write(b"".join(lines).decode("utf-8", "replace"))
                self._stream.flush()
        except WriteTimeout as blocked:
            self._patience = 0.0
            self._internal_telemetry.count_dropped(Signal.LOGS, "stdout_blocked", len(lines) - blocked.lines)
        except Exception:  # noqa: BLE001  a closed or broken stdout must not reach whoever logs
            self._internal_telemetry.count_dropped(Signal.LOGS, "stdout_failed", len(lines))
        finally:
            self._writing.release()


def _number(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None
