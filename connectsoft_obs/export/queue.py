"""What waits for an exporter: bounded in number and in bytes, in piles, with an account of what found no room.

Every so many items are gathered into piles, by whoever produces the last of them: encoding is code that the processor has
forgotten when the next request ends, and remembers when the next item follows at once (tests/bench/inprocess.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from connectsoft_obs.export.chunks import Chunk, item_count
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.vocabulary import Signal

T = TypeVar("T")
Gather = Callable[[Sequence[T]], list[Chunk]]
"""Makes piles of items; if these are fewer, it has accounted for the others."""

MAX_QUEUE_BYTES = 64 * 1024 * 1024
"""Bytes of encoded items that wait at most, beyond which further ones are dropped: a span may carry a megabyte of text."""

CHUNK_ITEMS = 32
"""Items that are gathered at once."""

_LARGE = 1024 * 1024
"""Bytes of that many items from which on they are gathered one by one, so that `MOST_BYTES` is soon seen."""

_MAX_BATCH_BYTES = 4 * 1024 * 1024


class ExportQueue(Generic[T]):
    """Items of one signal from their end until they are sent or dropped.

    `put` may be called from any thread, and from none is it ever slow. Batches are taken by one thread.

    Args:
        signal: what the items are.
        gather: makes piles of them.
        ledger: counts what is dropped.
        limit: items that wait at most; further ones are dropped.
        batch: items in one request at most.
        complete: called when there is a whole batch.
        begin: called for each item until `served` is set, by whoever is called.
    """

    def __init__(
        self,
        signal: Signal,
        gather: Gather[T],
        internal_telemetry: InternalTelemetry,
        limit: int,
        batch: int,
        complete: Callable[[], None],
        begin: Callable[[], None],
    ) -> None:
        self.served: bool = False
        self.taken: list[Chunk] = []
        # Items and bytes that were gathered, `taken` among them. Adding to these does not let go of the GIL, as with cells
        # of metrics.
        self.count: int = 0
        self._held = 0
        self._fresh: list[T] = []
        self._chunks: deque[Chunk] = deque()
        self._signal = signal
        self._gather = gather
        self._internal_telemetry = internal_telemetry
        self._limit = limit
        self._batch = batch
        self._complete = complete
        self._begin = begin
        self._few = min(CHUNK_ITEMS, batch)
        self._ending = False
        self._full = "queue_full"

    def __len__(self) -> int:
        return len(self._fresh) + self.count

    @property
    def has_full_batch(self) -> bool:
        """Whether there is a whole batch."""
        return self.count >= self._batch

    def put(self, item: T) -> None:
        """Keep an item for export, or count it as dropped."""
        # No call between finding the list and adding to it, nor between finding and replacing it in `gather`: threads
        # switch at calls, so what is added to a list is still to be gathered.
        self._fresh.append(item)
        if len(self._fresh) >= self._few:
            self.encode_pending()
        if not self.served:
            self._begin()

    def encode_pending(self) -> None:
        """Make piles of what is fresh, as far as there is room."""
        fresh = self._fresh
        self._fresh = []
        room = 0 if self._held > MAX_QUEUE_BYTES else max(self._limit - self.count, 0)
        if len(fresh) > room:
            self._internal_telemetry.count_dropped(self._signal, self._full, len(fresh) - room)
            del fresh[room:]
        if not fresh:
            return
        try:
            chunks = self._gather(fresh)
        except Exception as error:  # noqa: BLE001  whoever produces telemetry must not notice
            self._internal_telemetry.record_error(f"export.{self._signal.value}", error)
            self._internal_telemetry.count_dropped(self._signal, "internal_error", len(fresh))
            return
        except BaseException:  # raised by the application's handler of a signal that came in between
            self._fresh[:0] = fresh
            raise
        before, size = self.count, 0
        for chunk in chunks:
            self.count += chunk.count  # first: whoever sends it takes it off
            self._held += chunk.size
            self._chunks.append(chunk)
            size += chunk.size
        if not self._ending:
            self._few = 1 if size > _LARGE else min(CHUNK_ITEMS, self._batch)
        if before < self._batch <= self.count:
            self._complete()

    def replace(self, collected: Sequence[T]) -> None:
        """Take these in place of all before, which were collected earlier and could not be sent: they are out of date."""
        old = [*self.taken, *self._chunks]
        self.taken = []
        for item in collected:  # first: whoever flushes must not find that nothing waits
            self._chunks.append(Chunk(None, 1, [item]))
        self.count += len(collected)
        for _ in range(len(self._chunks) - len(collected)):
            self._chunks.popleft()
        self.count -= len(old)

    def take(self) -> None:
        """Have a batch in `taken`: as many piles as one request may hold, or one."""
        taken, chunks = self.taken, self._chunks
        count = size = 0
        while chunks:
            chunk = chunks[0]
            if taken and (count + chunk.count > self._batch or size + chunk.size > _MAX_BATCH_BYTES):
                return
            chunks.popleft()
            if chunk.size > _MAX_BATCH_BYTES and chunk.count > 1:
                chunks.extendleft(reversed(chunk.halves()))
                continue
            taken.append(chunk)
            count += chunk.count
            size += chunk.size

    def split_batch(self) -> bool:
        """Keep half of what was taken, the rest for later; whether that is possible."""
        if item_count(self.taken) < 2:
            return False
        chunks = self.taken if len(self.taken) > 1 else self.taken[0].halves()
        half = len(chunks) // 2
        self._chunks.extendleft(reversed(chunks[half:]))
        self.taken = chunks[:half]
        return True

    def release_batch(self) -> None:
        """What was taken is sent or dropped."""
        count, size = item_count(self.taken), sum(chunk.size for chunk in self.taken)
        self.count -= count
        self._held -= size
        self.taken = []

    def ending(self) -> None:
        """What comes from now on may be too late, and is looked at one by one."""
        self._few, self._ending = 1, True

    def close(self) -> int:
        """Count what is left, and later what still comes, as dropped by a shutdown; how many are left."""
        left, self._limit, self._full = len(self), 0, "shutdown"
        if left:
            self._internal_telemetry.count_dropped(self._signal, self._full, left)
            self.clear()
        return left

    def clear(self) -> None:
        """Forget everything."""
        self._fresh, self.taken = [], []
        self._chunks.clear()
        self.count = self._held = 0
