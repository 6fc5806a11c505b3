"""Writes log lines to standard output: synchronously, or by a thread while the process serves requests.

A write to a pipe costs more than building the line, and a write to a full pipe blocks. While requests are served, lines
are therefore queued for up to 50 ms and written by a thread, in batches of complete lines that the kernel writes
atomically. Lines that exceed the queue's limit because nothing reads the pipe are dropped and counted.

A line may be passed as a function that renders it. Such lines are rendered in batches: the code of the renderer is no
longer in the processor's caches when the next request ends, but it is when the next line follows immediately
(tests/bench/inprocess.py).
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, TextIO, TypeAlias

from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.process import terminal, threads
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.signals.logs.pipe_writer import PipeWriter, WriteTimeout
from connectsoft_obs.signals.logs.std_streams import ordinary_descriptor
from connectsoft_obs.vocabulary import Signal

WRITE_INTERVAL = 0.05
"""Seconds between two writes of the thread. An `os._exit` or a SIGKILL loses at most the lines of this time."""

MAX_QUEUED_BYTES = 4 * 1024 * 1024
"""Limit of the queue; lines beyond it are dropped."""

BATCH_LINES = 32
"""Lines that are rendered at once."""

_MAX_LINES_PER_WRITE = 1024
"""Batches are joined to one write until it has this many lines."""

WRITE_TIMEOUT = 1.0
"""Seconds that a write after `stop()` waits for a reader. After the first timeout no write waits."""

Line: TypeAlias = bytes | Callable[[], bytes]
"""A line with its newline, or a function that renders it, at any later time and in any thread."""


class StdoutWriter:
    """Standard output of this process. Thread-safe; no method raises.

    Args:
        internal_telemetry: counts lines that could not be written.
        stream: a text stream to use instead of `sys.stdout`, followed when it is replaced.
    """

    def __init__(self, internal_telemetry: InternalTelemetry, stream: TextIO | None = None) -> None:
        self._internal_telemetry = internal_telemetry
        self._follows_stdout = stream is None
        self._seen_stdout: TextIO | None = sys.stdout
        self._write_timeout: float | None = None
        self._is_started = False
        self._bind(sys.stdout if stream is None else stream)
        self.after_fork_in_child()
        register_fork_handler(self)

    def after_fork_in_child(self) -> None:
        """Initialise the state, also in a forked child: empty queue, no thread, synchronous writes."""
        self._uses_thread = self._is_started = False
        self._writing_thread: int | None = None  # the thread inside a stream's own `write`
        self._new_lines: list[Line] = []
        self._batches: deque[list[bytes]] = deque()
        self._queued_bytes = 0
        self._is_writing = self._flush_requested = self._is_echo = False
        self._is_idle = True  # until a thread runs, the next line has to start it
        self._scheduled_call: tuple[float, Callable[[], None]] | None = None
        self._thread: threading.Thread | None = None
        self._wakeup = threading.Event()
        self._queue_empty = threading.Condition()
        self._render_lock = threading.Lock()
        self._write_lock = threading.Lock()

    @property
    def is_terminal(self) -> bool:
        """Whether the stream is a terminal."""
        return terminal.is_terminal(self.stream)

    def start(self) -> None:
        """Write by a thread, which the next line starts. Lines to a terminal are still written synchronously."""
        self._write_timeout = None
        self._is_started = True
        self._uses_thread = self._pipe_writer is not None and not self.is_terminal

    def _bind(self, stream: TextIO | None) -> None:
        self.stream: Any = stream
        fd = ordinary_descriptor(stream)
        self._pipe_writer = None if fd is None else PipeWriter(fd)

    def _follow_stdout(self) -> None:
        """Continue with the stream that `sys.stdout` is now; lines that are queued go to the previous one."""
        new, self._seen_stdout = sys.stdout, sys.stdout
        if self._follows_stdout and new is not None:
            self.flush(WRITE_TIMEOUT)
            with self._write_lock:
                self._bind(new)
                self._uses_thread = self._is_started and self._pipe_writer is not None and not self.is_terminal

    def write(self, line: Line, urgent: bool) -> None:
        """Write one line, including its newline: within WRITE_INTERVAL, or without delay if it is urgent."""
        if self._writing_thread is not None and self._writing_thread == threading.get_ident():
            self._is_echo = True  # the stream logs what is written to it
            return
        if sys.stdout is not self._seen_stdout:
            self._follow_stdout()
        if not self._uses_thread:
            self._write_now(self._render([line]), self._write_timeout)
            return
        # Threads switch at calls. There is no call between reading `_new_lines` and appending to it, nor between
        # reading and replacing it in `_render_new_lines`, so a line is never appended to a list that is rendered
        # already.
        self._new_lines.append(line)
        if len(self._new_lines) >= BATCH_LINES:
            self._render_new_lines(False)
        if urgent or self._is_idle:
            self._wake(urgent)

    def _render_new_lines(self, wait: bool) -> None:
        """Render new lines to a batch, in their order and up to the limit of the queue.

        If another thread renders already, wait for it, or return if `wait` is False.
        """
        if not self._render_lock.acquire(wait):
            return
        try:
            new_lines = self._new_lines
            self._new_lines = []
            try:
                lines = self._render(new_lines)
            except BaseException:  # raised by a signal handler of the application
                self._new_lines[:0] = new_lines
                raise
            size = sum(map(len, lines))
            if self._queued_bytes + size > MAX_QUEUED_BYTES:
                lines, size = self._drop_excess(lines, MAX_QUEUED_BYTES - self._queued_bytes)
            if lines:
                self._queued_bytes += size  # before appending: the writing thread subtracts it
                self._batches.append(lines)
        finally:
            self._render_lock.release()

    def _drop_excess(self, lines: list[bytes], limit: int) -> tuple[list[bytes], int]:
        """The lines that fit into `limit` bytes, and their size; the others are counted as dropped."""
        accepted, size = [], 0
        for line in lines:
            if size + len(line) <= limit:
                accepted.append(line)
                size += len(line)
        self._internal_telemetry.count_dropped(Signal.LOGS, "stdout_blocked", len(lines) - len(accepted))
        return accepted, size

    def _render(self, lines: list[Line]) -> list[bytes]:
        """Rendered lines, without those that cannot be rendered."""
        rendered = []
        for line in lines:
            try:
                rendered.append(line if isinstance(line, bytes) else line())
            except Exception as error:  # noqa: BLE001  the other lines are written
                self._internal_telemetry.record_error("logs", error)
        return rendered

    def _wake(self, urgent: bool) -> None:
        """Wake the thread. Once per interval, because waking a thread costs as much as a line."""
        if self._thread is None and not self._start_thread():
            self._write_without_thread()
            return
        if urgent and not self._flush_requested:
            self._flush_requested = True
        elif not self._is_idle:
            return
        self._is_idle = False
        self._wakeup.set()

    def flush(self, timeout: float) -> bool:
        """Wait until all queued lines are written; True if they are."""
        if not self._uses_thread:
            if self._pipe_writer is None:
                with suppress(Exception):
                    self.stream.flush()
            return True
        with self._queue_empty:
            if self._thread is None:
                return True
            self._flush_requested = True
            self._wakeup.set()
            return self._queue_empty.wait_for(self._is_drained, timeout)

    def _is_drained(self) -> bool:
        return not (self._new_lines or self._render_lock.locked() or self._batches or self._is_writing)

    def stop(self, timeout: float) -> bool:
        """Flush; later lines are written synchronously, as long as something reads them."""
        is_flushed = self.flush(timeout)
        if self._uses_thread:
            self._write_timeout = WRITE_TIMEOUT if is_flushed else 0.0
            self._uses_thread = False
        self._is_started = False
        return is_flushed

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call a function in the writing thread after a delay. Without a thread it is not called."""
        if self._thread is not None:
            self._scheduled_call = (monotonic() + seconds, function)
            self._wakeup.set()

    def _start_thread(self) -> bool:
        with self._queue_empty:
            if self._thread is None:
                self._thread = threads.start_thread("obs-stdout", self._run)
            return self._thread is not None

    def _write_without_thread(self) -> None:
        """Write queued lines in the calling thread if no thread can be started; a slow reader causes a timeout."""
        with self._queue_empty:
            self._render_new_lines(False)
            while self._batches:
                lines = self._batches.popleft()
                self._write_now(lines, WRITE_TIMEOUT if self._write_timeout is None else self._write_timeout)
                self._queued_bytes -= sum(map(len, lines))

    # --- In the thread -----------------------------------------------------------------------------------------------
    def _run(self) -> None:
        while True:
            # `write()` reads `_is_idle` after appending a line, this thread reads the lines after setting `_is_idle`:
            # at least one of them sees the other's change.
            self._is_idle = True
            if not self._new_lines and not self._batches and not self._flush_requested:
                call = self._scheduled_call
                self._wakeup.wait(None if call is None else max(call[0] - monotonic(), 0))
            self._is_idle = False
            self._wakeup.clear()
            if (self._new_lines or self._batches) and not self._flush_requested:
                self._wakeup.wait(WRITE_INTERVAL)
                self._wakeup.clear()
            self._write_queue()
            self._run_scheduled_call()

    def _write_queue(self) -> None:
        self._is_writing, self._flush_requested = True, False
        batches = self._batches
        self._render_new_lines(True)
        while batches:
            lines: list[bytes] = []
            while batches and len(lines) < _MAX_LINES_PER_WRITE:
                lines += batches.popleft()
            self._write_now(lines, None)
            self._queued_bytes -= sum(map(len, lines))
        self._is_writing = False
        with self._queue_empty:
            self._queue_empty.notify_all()

    def _run_scheduled_call(self) -> None:
        if self._scheduled_call is not None and monotonic() >= self._scheduled_call[0]:
            function, self._scheduled_call = self._scheduled_call[1], None
            with self._internal_telemetry.guard("logs.deferred"):
                function()

    def _write_now(self, lines: list[bytes], timeout: float | None) -> None:
        deadline = None if timeout is None else monotonic() + timeout
        if not self._write_lock.acquire(timeout=-1 if timeout is None else timeout):
            self._internal_telemetry.count_dropped(Signal.LOGS, "stdout_blocked", len(lines))
            return
        try:
            if self._follows_stdout and getattr(self.stream, "closed", self.stream is None):
                self._bind(sys.__stdout__)
            if self._pipe_writer is not None and not self.stream.closed:
                self._pipe_writer.write(lines, deadline)
            else:
                self._write_text(b"".join(lines).decode("utf-8", "replace"))
            if self._is_echo:  # such a stream gets no more lines; the original standard output does
                self._is_echo = False
                self._bind(sys.__stdout__)
                if self._pipe_writer is not None:
                    self._pipe_writer.write(lines, deadline)
        except WriteTimeout as error:
            self._write_timeout = 0.0
            self._internal_telemetry.count_dropped(Signal.LOGS, "stdout_blocked", len(lines) - error.lines)
        except Exception:  # noqa: BLE001  a closed or broken stdout never fails the caller
            self._internal_telemetry.count_dropped(Signal.LOGS, "stdout_failed", len(lines))
        finally:
            self._write_lock.release()

    def _write_text(self, text: str) -> None:
        self._writing_thread = threading.get_ident()
        try:
            self.stream.write(text)
            self.stream.flush()
        finally:
            self._writing_thread = None
