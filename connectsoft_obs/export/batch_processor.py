"""Exports one signal from a background thread: batches, retries, and counts of dropped items.

Producers only append to a queue. Nothing here blocks the application, raises into it or delays its end; dropped items are
counted by reason.
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
from connectsoft_obs.export.queue import EncodeItems, ExportQueue
from connectsoft_obs.export.transport import ExportResult, Transport
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.process import threads
from connectsoft_obs.process.fork_safety import import_guard, register_fork_handler
from connectsoft_obs.vocabulary import Signal

T = TypeVar("T")
RecordExport = Callable[[Signal, str, float], None]
OnResult = Callable[[ExportResult], None]


class BatchProcessor(Generic[T]):
    """Queue and exporter thread of one signal. `put` never blocks and can be called from any thread.

    Args:
        signal: the exported signal.
        transport: creates the transport, in the exporter thread.
        encode: encodes items into chunks.
        build_request: builds a request from chunks.
        internal_telemetry: counts dropped items and internal errors.
        max_queue_size: maximum number of queued items; further items are dropped.
        max_batch_size: maximum number of items in one request.
        schedule_delay: maximum seconds between two export attempts while items are queued.
        timeout: seconds for one request.
        record_export: called with signal, outcome and seconds of each request.
        on_result: called with the result of each request, except of one that is split and sent again at once.
        collect: called before each batch, for signals that are collected instead of queued.
        name: name in thread names and health details; the signal by default.
        on_accepted: called with the items that the destination accepted.
    """

    def __init__(  # noqa: PLR0913  one parameter per collaborator
        self,
        signal: Signal,
        transport: Callable[[], Transport],
        encode: EncodeItems[T],
        build_request: Callable[[Sequence[Chunk]], Any],
        internal_telemetry: InternalTelemetry,
        *,
        max_queue_size: int,
        max_batch_size: int,
        schedule_delay: float,
        timeout: float,
        record_export: RecordExport,
        on_result: OnResult,
        collect: Callable[[], Sequence[T]] | None = None,
        name: str = "",
        on_accepted: Callable[[Sequence[Chunk]], None] | None = None,
    ) -> None:
        self.signal = signal
        self.name: str = name or signal.value
        self._create_transport = transport
        self._build_request = build_request
        self._internal_telemetry = internal_telemetry
        self._delay = schedule_delay
        self._timeout = timeout
        self._record_export = record_export
        self._on_result = on_result
        self._collect = collect
        self._on_accepted = on_accepted
        self._backoff = Backoff()
        self._wake = threading.Event()
        self._idle = threading.Condition()
        self._flush_requests = 0
        self._flushes_done = 0
        self._deadline: float | None = None
        self._thread: threading.Thread | None = None
        self._queue: ExportQueue[T] = ExportQueue(
            signal, encode, internal_telemetry, max_queue_size, max_batch_size, lambda: self._wake.set(), self.start
        )
        self.put: Callable[[T], None] = self._queue.put
        """Queue an item for export, or count it as dropped."""
        register_fork_handler(self)

    def start(self) -> None:
        """Start the exporter thread of this process, unless it runs already or is shutting down."""
        with self._idle:
            if self._thread is not None or self._deadline is not None:
                return
            self._thread = threads.start_thread(f"obs-{self.name}", self._run)
            self._queue.has_consumer = self._thread is not None

    @property
    def pending(self) -> int:
        """Number of queued items."""
        return len(self._queue)

    def flush(self, timeout: float) -> bool:
        """Try to export all queued items within `timeout` seconds; True if the queue is empty afterwards."""
        return self.wait_flushed(self.request_flush(), timeout)

    def request_flush(self) -> int:
        """Request a flush without waiting; returns a number for `wait_flushed()`. Several processors can flush in parallel."""
        if self._thread is None and not self.pending and self._collect is None:
            return 0
        self.start()
        with self._idle:
            if self._thread is None:
                return 0
            if self._deadline is None:
                self._flush_requests += 1
                self._wake.set()
            return self._flush_requests

    def wait_flushed(self, request: int, timeout: float) -> bool:
        """Wait up to `timeout` seconds for a requested flush; True if the queue is empty afterwards."""
        with self._idle:
            if request and self._deadline is None:
                self._idle.wait_for(lambda: self._flushes_done >= request, timeout)
        return not self.pending

    def stop_collecting(self) -> None:
        """Export only items that are queued already."""
        self._collect = None

    def begin_shutdown(self, timeout: float) -> None:
        """Begin to shut down: export remaining items within `timeout` seconds. `finish_shutdown()` must follow."""
        if self._thread is None and (self.pending or self._collect is not None):
            self.start()
        with self._idle:
            if self._deadline is None:
                self._queue.begin_shutdown()
                self._deadline = time.monotonic() + timeout
                self._wake.set()

    def finish_shutdown(self) -> bool:
        """Wait for the shutdown and count unsent items as dropped; True if there were none."""
        thread, deadline = self._thread, self._deadline or 0.0
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(deadline - time.monotonic(), 0) + 0.05)
        return not self._queue.close()

    # --- Exporter thread ---------------------------------------------------------------------------------------------
    def _run(self) -> None:
        attach(suppressed_context())
        with import_guard():  # it imports modules
            transport = self._create_transport()
        while self._deadline is None:
            full_batch = self._wait_for_batch(self._delay)
            requests = self._flush_requests
            self._drain_guarded(transport, full_batches_only=full_batch and requests == self._flushes_done)
            with self._idle:
                self._flushes_done = requests
                self._idle.notify_all()
        self._drain_guarded(transport, full_batches_only=False)
        transport.close()

    def _drain_guarded(self, transport: Transport, full_batches_only: bool) -> None:
        try:
            self._drain(transport, full_batches_only)
        except Exception as error:  # noqa: BLE001  one invalid batch must not end all exports
            self._internal_telemetry.record_error(f"export.{self.signal.value}", error)
            self._internal_telemetry.count_dropped(self.signal, "internal_error", item_count(self._queue.batch))
            self._queue.release_batch()
            if self._collect is not None:
                self._queue.clear()

    def _wait_for_batch(self, seconds: float) -> bool:
        """Wait for a full batch, a flush or the end of the delay; returns whether there is a full batch."""
        if not self._queue.has_full_batch and self._deadline is None:
            self._wake.wait(seconds)
        self._wake.clear()
        return self._queue.has_full_batch

    def _drain(self, transport: Transport, full_batches_only: bool) -> None:
        """Send batches until the queue is empty, or has no full batch, or the collector is unavailable.

        Items that arrive while full batches are sent wait for the next full batch. Otherwise requests would get smaller
        and smaller at full load, and each costs as much as encoding a hundred spans (tests/bench/inprocess.py).
        """
        queue = self._queue
        if (collect := self._collect) is not None:
            queue.replace_all(collect())
        if not full_batches_only:
            queue.encode_pending()
        while queue.has_full_batch or (queue.count and not full_batches_only):
            if not queue.batch:
                queue.take_batch()
            if not self._send_batch(transport):
                return

    def _send_batch(self, transport: Transport) -> bool:
        """Send the batch; True to continue with the next, False to stop for now."""
        while self._queue.batch:
            timeout = self._remaining_time()
            if timeout <= 0:
                return False
            started = time.monotonic()
            result = transport.send(self._build_request(self._queue.batch), timeout)
            self._record_export(self.signal, "success" if result.accepted else "failure", time.monotonic() - started)
            if self._handle_result(result):
                if result.refused and not result.too_large:
                    self._wait_after_refusal(self._backoff.next_pause(result.retry_after))
                continue
            if not self._pause(self._backoff.next_pause(result.retry_after)):
                return False
        return True

    def _handle_result(self, result: ExportResult) -> bool:
        """Account for the result; False if the batch must be sent again later."""
        if result.accepted:
            if result.rejected:
                self._internal_telemetry.count_dropped(self.signal, "rejected", result.rejected)
            if self._on_accepted is not None:
                self._on_accepted(self._queue.batch)
            self._queue.release_batch()
        elif result.too_large and self._queue.split_batch():
            return True
        elif result.retry:
            self._on_result(result)
            return False
        else:
            self._internal_telemetry.count_dropped(self.signal, result.reason, item_count(self._queue.batch))
            self._queue.release_batch()
        if result.accepted or not result.refused:
            self._backoff.reset()
        self._on_result(result)
        return True

    def _pause(self, seconds: float) -> bool:
        """Wait before the next attempt; False if a shutdown leaves no time for it."""
        until = time.monotonic() + seconds
        while (remaining := until - time.monotonic()) > 0:
            if self._deadline is not None and until > self._deadline:
                return False
            if self._flush_requests != self._flushes_done:
                return False  # a flush is waiting; it ends now without success
            self._wake.wait(min(remaining, 0.2))
            self._wake.clear()
        return True

    def _wait_after_refusal(self, seconds: float) -> None:
        """Limit the rate of attempts while the collector refuses exports. A flush or a shutdown ends the wait."""
        until = time.monotonic() + seconds
        while (remaining := until - time.monotonic()) > 0:
            if self._deadline is not None or self._flush_requests != self._flushes_done:
                return
            self._wake.wait(min(remaining, 0.2))
            self._wake.clear()

    def _remaining_time(self) -> float:
        if self._deadline is None:
            return self._timeout
        return min(self._timeout, self._deadline - time.monotonic())

    def after_fork_in_child(self) -> None:
        """In a forked child: queued items belong to the parent, whose thread does not exist here."""
        self._thread = None
        self._queue.has_consumer = False
        self._queue.clear()
        self._wake = threading.Event()
        self._idle = threading.Condition()
        self._backoff = Backoff()
