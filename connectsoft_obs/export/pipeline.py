"""The way out of finished telemetry: one thread a process, batches, retries, and an account of losses.

Whoever produces telemetry puts it into the backlog and goes on; nothing here can block, raise into, or outlive the
application. What cannot be kept is counted by reason.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from opentelemetry.context import attach

from connectsoft_obs.context.suppression import suppressed_context
from connectsoft_obs.export.backoff import Backoff
from connectsoft_obs.export.chunks import Chunk, item_count
from connectsoft_obs.export.queue import ExportQueue, Gather
from connectsoft_obs.export.transport import ExportResult, Transport
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.process import threads
from connectsoft_obs.process.fork_safety import import_guard, register_fork_handler
from connectsoft_obs.vocabulary import ExporterState, Signal

T = TypeVar("T")
Observe = Callable[[Signal, str, float], None]
Changed = Callable[[Signal, ExporterState, str], None]


class BatchProcessor(Generic[T]):
    """Backlog and thread of one signal. `put` may be called from any thread, and from none is it ever slow.

    Args:
        signal: what travels here.
        transport: makes the transport, in the thread that uses it.
        gather: makes piles of items.
        pack: makes a request of piles.
        ledger: counts what is dropped.
        limit: items that wait at most; further ones are dropped.
        batch: items in one request at most.
        delay: seconds an item waits at most before an attempt to send it.
        timeout: seconds for one request.
        observe: told signal, outcome and seconds of each request.
        changed: told when the breaker's state changes, with the reason.
        refill: called before each batch, for signals that are collected rather than queued.
        name: tells its thread from those of other pipelines; the signal by default.
        accepted: told what has arrived.
    """

    def __init__(  # noqa: PLR0913  one collaborator each
        self,
        signal: Signal,
        transport: Callable[[], Transport],
        gather: Gather[T],
        pack: Callable[[Sequence[Chunk]], Any],
        internal_telemetry: InternalTelemetry,
        *,
        limit: int,
        batch: int,
        delay: float,
        timeout: float,
        observe: Observe,
        changed: Changed,
        refill: Callable[[], Sequence[T]] | None = None,
        name: str = "",
        accepted: Callable[[Sequence[Chunk]], None] | None = None,
    ) -> None:
        self.signal = signal
        self.name: str = name or signal.value
        self.state: ExporterState = ExporterState.CLOSED
        self._transport = transport
        self._pack = pack
        self._internal_telemetry = internal_telemetry
        self._delay = delay
        self._timeout = timeout
        self._observe = observe
        self._changed = changed
        self._refill = refill
        self._accepted = accepted
        self._backoff = Backoff()
        self._wake = threading.Event()
        self._idle = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._deadline: float | None = None
        self._thread: threading.Thread | None = None
        self._queue: ExportQueue[T] = ExportQueue(
            signal, gather, internal_telemetry, limit, batch, lambda: self._wake.set(), self.start
        )
        self.put: Callable[[T], None] = self._queue.put
        """Keep an item for export, or count it as dropped."""
        register_fork_handler(self)

    def start(self) -> None:
        """Start the thread of this process, if there is none yet and there can be one."""
        with self._idle:
            if self._thread is not None or self._deadline is not None:
                return
            self._thread = threads.start_thread(f"obs-{self.name}", self._run)
            self._queue.served = self._thread is not None

    @property
    def waiting(self) -> int:
        """Items that are neither sent nor dropped."""
        return len(self._queue)

    def flush(self, timeout: float) -> bool:
        """Try to send what waits now; True when nothing waits any more, at the latest after `timeout` seconds."""
        return self.wait_flushed(self.request_flush(), timeout)

    def request_flush(self) -> int:
        """Begin to send what waits now; `sent()` waits for it. Several pipelines are asked first, then waited for."""
        if self._thread is None and not self.waiting and self._refill is None:
            return 0
        self.start()
        with self._idle:
            if self._thread is None:
                return 0
            if self._deadline is None:
                self._asked += 1
                self._wake.set()
            return self._asked

    def wait_flushed(self, asked: int, timeout: float) -> bool:
        """Whether nothing waits any more once what was asked for has been tried, at the latest after `timeout`."""
        with self._idle:
            if asked and self._deadline is None:
                self._idle.wait_for(lambda: self._answered >= asked, timeout)
        return not self.waiting

    def begin_shutdown(self, timeout: float) -> None:
        """Begin to stop for good: send what is left within `timeout` seconds. Follow with `stopped()`."""
        if self._thread is None and (self.waiting or self._refill is not None):
            self.start()
        with self._idle:
            if self._deadline is None:
                self._queue.ending()
                self._deadline = time.monotonic() + timeout
                self._wake.set()

    def finish_shutdown(self) -> bool:
        """Wait for the end of `stop()`, count what could not be sent as dropped; True when there was nothing."""
        thread, deadline = self._thread, self._deadline or 0.0
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(deadline - time.monotonic(), 0) + 0.05)
        return not self._queue.close()

    # --- In the thread -----------------------------------------------------------------------------------------------
    def _run(self) -> None:
        attach(suppressed_context())
        with import_guard():  # it imports what it needs
            transport = self._transport()
        while self._deadline is None:
            full = self._wait(self._delay)
            asked = self._asked
            self._guarded_drain(transport, whole=full and asked == self._answered)
            with self._idle:
                self._answered = asked
                self._idle.notify_all()
        self._guarded_drain(transport, whole=False)
        transport.close()

    def _guarded_drain(self, transport: Transport, whole: bool) -> None:
        try:
            self._drain(transport, whole)
        except Exception as error:  # noqa: BLE001  a batch that we cannot handle must not end all exports
            self._internal_telemetry.record_error(f"export.{self.signal.value}", error)
            self._internal_telemetry.count_dropped(self.signal, "internal_error", item_count(self._queue.taken))
            self._queue.release_batch()
            if self._refill is not None:
                self._queue.clear()

    def _wait(self, seconds: float) -> bool:
        """Wait for a batch; whether there is a whole one, rather than that the time has come for what there is."""
        if not self._queue.has_full_batch and self._deadline is None:
            self._wake.wait(seconds)
        self._wake.clear()
        return self._queue.has_full_batch

    def _drain(self, transport: Transport, whole: bool) -> None:
        """Send until nothing waits, or no whole batch does, or the collector is not to be had.

        What came while whole batches were sent waits until it is one: at full load requests would otherwise get smaller
        and smaller, and each costs as much as encoding a hundred spans (tests/bench/inprocess.py).
        """
        backlog = self._queue
        if self._refill is not None:
            backlog.replace(self._refill())
        if not whole:
            backlog.encode_pending()
        while backlog.has_full_batch or (backlog.count and not whole):
            if not backlog.taken:
                backlog.take()
            if not self._attempt(transport):
                return

    def _attempt(self, transport: Transport) -> bool:
        """Send what was taken; True to go on with the next batch, False to give up for now."""
        while self._queue.taken:
            timeout = self._remaining()
            if timeout <= 0:
                return False
            started = time.monotonic()
            answer = transport.send(self._pack(self._queue.taken), timeout)
            self._observe(self.signal, "success" if answer.accepted else "failure", time.monotonic() - started)
            if self._settled(answer):
                continue
            if not self._pause(self._backoff.failed(answer.retry_after), answer.reason):
                return False
        return True

    def _settled(self, answer: ExportResult) -> bool:
        """Whether the answer decides about what was sent; if not, it is sent again later."""
        if answer.accepted:
            if answer.rejected:
                self._internal_telemetry.count_dropped(self.signal, "rejected", answer.rejected)
            if self._accepted is not None:
                self._accepted(self._queue.taken)
            self._queue.release_batch()
        elif answer.too_large and self._queue.split_batch():
            return True
        elif answer.retry:
            return False
        else:
            self._internal_telemetry.count_dropped(self.signal, answer.reason, item_count(self._queue.taken))
            self._queue.release_batch()
        self._backoff.succeeded()
        self._state("" if answer.accepted else answer.reason)
        return True

    def _pause(self, seconds: float, reason: str) -> bool:
        """Wait before the next attempt; False when a shutdown leaves no time for one."""
        self._state(reason)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._deadline is not None and until > self._deadline:
                return False
            if self._asked != self._answered:
                return False  # somebody waits for a flush; the answer is that it cannot be sent now
            self._wake.wait(min(left, 0.2))
            self._wake.clear()
        return True

    def _state(self, reason: str) -> None:
        state = self._backoff.state
        if state is not self.state:
            self.state = state
            self._changed(self.signal, state, reason)

    def _remaining(self) -> float:
        if self._deadline is None:
            return self._timeout
        return min(self._timeout, self._deadline - time.monotonic())

    def after_fork_in_child(self) -> None:
        """In a forked child: what waits belongs to the parent, and its thread stayed there."""
        self._thread = None
        self._queue.served = False
        self._queue.clear()
        self._wake = threading.Event()
        self._idle = threading.Condition()
        self._backoff = Backoff()
        self.state = ExporterState.CLOSED
