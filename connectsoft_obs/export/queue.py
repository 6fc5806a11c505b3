"""Export queue of chunks, bounded by items and bytes; counts what it drops.

The thread that adds the last item of a chunk encodes the chunk. Encoding several items at once is faster, because the
encoder stays in the instruction cache (tests/bench/inprocess.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from connectsoft_obs.export.chunks import Chunk, item_count
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.vocabulary import Signal

T = TypeVar("T")
EncodeItems = Callable[[Sequence[T]], list[Chunk]]
"""Encodes items to chunks; items that it leaves out it has counted as dropped."""

MAX_QUEUE_BYTES = 64 * 1024 * 1024
"""Limit of queued bytes; further items are dropped. A span can contain megabytes of text."""

CHUNK_ITEMS = 32
"""Items per chunk."""

_LARGE_CHUNK_BYTES = 1024 * 1024
"""Size of a chunk from which on items are encoded one by one, so that `MAX_QUEUE_BYTES` is checked often."""

_MAX_BATCH_BYTES = 4 * 1024 * 1024


class ExportQueue(Generic[T]):
    """Items of one signal that wait for export.

    `put` never blocks and can be called from any thread. One thread takes batches.

    Args:
        signal: signal of the items.
        encode: encodes items to chunks.
        internal_telemetry: counts dropped items.
        max_queue_size: maximum number of queued items; further items are dropped.
        max_batch_size: maximum number of items in one request.
        on_full_batch: called when there is a full batch.
        start_consumer: called for each item while `has_consumer` is False; starts the consumer thread.
    """

    def __init__(
        self,
        signal: Signal,
        encode: EncodeItems[T],
        internal_telemetry: InternalTelemetry,
        max_queue_size: int,
        max_batch_size: int,
        on_full_batch: Callable[[], None],
        start_consumer: Callable[[], None],
    ) -> None:
        self.has_consumer: bool = False
        self.batch: list[Chunk] = []
        # Encoded items and their bytes, including `batch`. Adding to these integers does not release the GIL.
        self.count: int = 0
        self._bytes = 0
        self._pending: list[T] = []
        self._chunks: deque[Chunk] = deque()
        self._signal = signal
        self._encode = encode
        self._internal_telemetry = internal_telemetry
        self._max_queue_size = max_queue_size
        self._max_batch_size = max_batch_size
        self._on_full_batch = on_full_batch
        self._start_consumer = start_consumer
        self._chunk_items = min(CHUNK_ITEMS, max_batch_size)
        self._shutting_down = False
        self._drop_reason = "queue_full"

    def __len__(self) -> int:
        return len(self._pending) + self.count

    @property
    def has_full_batch(self) -> bool:
        """Whether there are enough items for a full batch."""
        return self.count >= self._max_batch_size

    def put(self, item: T) -> None:
        """Queue an item, or count it as dropped."""
        # No function call between reading the list and appending to it, nor between reading and replacing it in
        # `encode_pending`: threads switch at calls, so an item that was appended is always encoded later.
        self._pending.append(item)
        if len(self._pending) >= self._chunk_items:
            self.encode_pending()
        if not self.has_consumer:
            self._start_consumer()

    def encode_pending(self) -> None:
        """Encode pending items, as far as the limits allow."""
        pending = self._pending
        self._pending = []
        capacity = 0 if self._bytes > MAX_QUEUE_BYTES else max(self._max_queue_size - self.count, 0)
        if len(pending) > capacity:
            self._internal_telemetry.count_dropped(self._signal, self._drop_reason, len(pending) - capacity)
            del pending[capacity:]
        if not pending:
            return
        try:
            chunks = self._encode(pending)
        except Exception as error:  # noqa: BLE001  must not raise into the application
            self._internal_telemetry.record_error(f"export.{self._signal.value}", error)
            self._internal_telemetry.count_dropped(self._signal, "internal_error", len(pending))
            return
        except BaseException:  # raised by a signal handler of the application
            self._pending[:0] = pending
            raise
        before, size = self.count, 0
        for chunk in chunks:
            self.count += chunk.count  # before the chunk is visible to the consumer, which subtracts it
            self._bytes += chunk.size
            self._chunks.append(chunk)
            size += chunk.size
        if not self._shutting_down:
            self._chunk_items = 1 if size > _LARGE_CHUNK_BYTES else min(CHUNK_ITEMS, self._max_batch_size)
        if before < self._max_batch_size <= self.count:
            self._on_full_batch()

    def replace_all(self, collected: Sequence[T]) -> None:
        """Replace everything that is queued by newly collected items; older collected items are out of date."""
        old = [*self.batch, *self._chunks]
        self.batch = []
        for item in collected:  # before old items are removed: a flush must not see an empty queue
            self._chunks.append(Chunk(None, 1, [item]))
        self.count += len(collected)
        for _ in range(len(self._chunks) - len(collected)):
            self._chunks.popleft()
        self.count -= len(old)

    def take_batch(self) -> None:
        """Move chunks to `batch`: as many as one request can hold, at least one."""
        batch, chunks = self.batch, self._chunks
        count = size = 0
        while chunks:
            chunk = chunks[0]
            if batch and (count + chunk.count > self._max_batch_size or size + chunk.size > _MAX_BATCH_BYTES):
                return
            chunks.popleft()
            if chunk.size > _MAX_BATCH_BYTES and chunk.count > 1:
                chunks.extendleft(reversed(chunk.split()))
                continue
            batch.append(chunk)
            count += chunk.count
            size += chunk.size

    def split_batch(self) -> bool:
        """Put half of the batch back into the queue; False if it has only one item."""
        if item_count(self.batch) < 2:
            return False
        chunks = self.batch if len(self.batch) > 1 else self.batch[0].split()
        half = len(chunks) // 2
        self._chunks.extendleft(reversed(chunks[half:]))
        self.batch = chunks[:half]
        return True

    def release_batch(self) -> None:
        """Remove the batch, which is sent or dropped."""
        count, size = item_count(self.batch), sum(chunk.size for chunk in self.batch)
        self.count -= count
        self._bytes -= size
        self.batch = []

    def begin_shutdown(self) -> None:
        """Encode each further item at once, because the next batch may be the last."""
        self._chunk_items, self._shutting_down = 1, True

    def close(self) -> int:
        """Count remaining and further items as dropped by shutdown; returns the number of remaining items."""
        remaining, self._max_queue_size, self._drop_reason = len(self), 0, "shutdown"
        if remaining:
            self._internal_telemetry.count_dropped(self._signal, self._drop_reason, remaining)
            self.clear()
        return remaining

    def clear(self) -> None:
        """Remove all items."""
        self._pending, self.batch = [], []
        self._chunks.clear()
        self.count = self._bytes = 0
