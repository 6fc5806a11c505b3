"""The way out of finished telemetry: a bounded queue, one thread a process, batches, retries, and an account of losses.

Whoever produces telemetry appends to a list and goes on; nothing here can block, raise into, or outlive the
application. What cannot be kept is counted by reason.

Every so many items are gathered into piles, by whoever produces the last of them: encoding is code that the processor has
forgotten when the next request ends, and remembers when the next item follows at once (tests/bench/inprocess.py).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from opentelemetry.context import attach

from connectsoft_obs.context.quiet import uninstrumented
from connectsoft_obs.export.breaker import Breaker
from connectsoft_obs.export.piles import Pile, total
from connectsoft_obs.export.transport import Answer, Transport
from connectsoft_obs.forks import renew, unforked
from connectsoft_obs.ledger import Ledger
from connectsoft_obs.vocabulary import ExporterState, Signal

T = TypeVar("T")
Observe = Callable[[Signal, str, float], None]
Changed = Callable[[Signal, ExporterState, str], None]

_MAX_BATCH_BYTES = 4 * 1024 * 1024

MOST_BYTES = 64 * 1024 * 1024
"""Bytes of encoded items that wait at most, beyond which further ones are dropped: a span may carry a megabyte of text."""

FEW = 32
"""Items that are gathered at once."""

_LARGE = 1024 * 1024
"""Bytes of that many items from which on they are gathered one by one, so that `MOST_BYTES` is soon seen."""


class Pipeline(Generic[T]):
    """Queue and thread of one signal. `put` may be called from any thread, and from none is it ever slow.

    Args:
        signal: what travels here.
        transport: makes the transport, in the thread that uses it.
        gather: makes piles of items, for which it has accounted if they are fewer.
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
        gather: Callable[[Sequence[T]], list[Pile]],
        pack: Callable[[Sequence[Pile]], Any],
        ledger: Ledger,
        *,
        limit: int,
        batch: int,
        delay: float,
        timeout: float,
        observe: Observe,
        changed: Changed,
        refill: Callable[[], Sequence[T]] | None = None,
        name: str = "",
        accepted: Callable[[Sequence[Pile]], None] | None = None,
    ) -> None:
        self.signal = signal
        self.name: str = name or signal.value
        self.state: ExporterState = ExporterState.CLOSED
        self._transport = transport
        self._gather = gather
        self._pack = pack
        self._ledger = ledger
        self._limit = limit
        self._batch = batch
        self._delay = delay
        self._timeout = timeout
        self._observe = observe
        self._changed = changed
        self._refill = refill
        self._accepted = accepted
        self._breaker = Breaker()
        self._few = min(FEW, batch)
        self._fresh: list[T] = []
        self._queue: deque[Pile] = deque()
        self._taken: list[Pile] = []
        # Items and bytes of `_queue` and `_taken`. Adding to these does not let go of the GIL, as with cells of metrics.
        self._count = self._held = 0
        self._wake = threading.Event()
        self._idle = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._full = "queue_full"
        self._deadline: float | None = None
        self._thread: threading.Thread | None = None
        renew(self)

    def put(self, item: T) -> None:
        """Keep an item for export, or count it as dropped."""
        # No call between finding the list and adding to it, nor between finding and replacing it in `_pile_up`: threads
        # switch at calls, so what is added to a list is still to be gathered.
        self._fresh.append(item)
        if len(self._fresh) >= self._few:
            self._pile_up()
        if self._thread is None:
            self.start()

    def _pile_up(self) -> None:
        """Gather what is fresh, as far as there is room."""
        fresh = self._fresh
        self._fresh = []
        room = 0 if self._held > MOST_BYTES else max(self._limit - self._count, 0)
        if len(fresh) > room:
            self._ledger.dropped(self.signal, self._full, len(fresh) - room)
            del fresh[room:]
        if not fresh:
            return
        try:
            piles = self._gather(fresh)
        except Exception as error:  # noqa: BLE001  whoever produces telemetry must not notice
            self._ledger.error(f"export.{self.signal.value}", error)
            self._ledger.dropped(self.signal, "internal_error", len(fresh))
            return
        except BaseException:  # raised by the application's handler of a signal that came in between
            self._fresh[:0] = fresh
            raise
        before, size = self._count, 0
        for pile in piles:
            self._count += pile.count  # first: whoever sends it takes it off
            self._held += pile.size
            self._queue.append(pile)
            size += pile.size
        if self._deadline is None:
            self._few = 1 if size > _LARGE else min(FEW, self._batch)
        if before < self._batch <= self._count:
            self._wake.set()

    def start(self) -> None:
        """Start the thread of this process, if there is none yet."""
        with self._idle:
            if self._thread is not None or self._deadline is not None:
                return
            self._thread = threading.Thread(target=self._run, name=f"obs-{self.name}", daemon=True)
            self._thread.start()

    @property
    def waiting(self) -> int:
        """Items that are neither sent nor dropped."""
        return len(self._fresh) + self._count

    def flush(self, timeout: float) -> bool:
        """Try to send what waits now; True when nothing waits any more, at the latest after `timeout` seconds."""
        return self.sent(self.ask(), timeout)

    def ask(self) -> int:
        """Begin to send what waits now; `sent()` waits for it. Several pipelines are asked first, then waited for."""
        if self._thread is None and not self.waiting and self._refill is None:
            return 0
        self.start()
        with self._idle:
            if self._deadline is None:
                self._asked += 1
                self._wake.set()
            return self._asked

    def sent(self, asked: int, timeout: float) -> bool:
        """Whether nothing waits any more once what was asked for has been tried, at the latest after `timeout`."""
        with self._idle:
            if asked and self._deadline is None:
                self._idle.wait_for(lambda: self._answered >= asked, timeout)
        return not self.waiting

    def stop(self, timeout: float) -> None:
        """Begin to stop for good: send what is left within `timeout` seconds. Follow with `stopped()`."""
        if self._thread is None and (self.waiting or self._refill is not None):
            self.start()
        with self._idle:
            if self._deadline is None:
                self._few = 1  # what comes now is too late, and is to be counted at once
                self._deadline = time.monotonic() + timeout
                self._wake.set()

    def stopped(self) -> bool:
        """Wait for the end of `stop()`, count what could not be sent as dropped; True when there was nothing."""
        thread, deadline = self._thread, self._deadline or 0.0
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(deadline - time.monotonic(), 0) + 0.05)
        left, self._limit, self._full = self.waiting, 0, "shutdown"
        if left:
            self._ledger.dropped(self.signal, "shutdown", left)
            self._clear()
        return not left

    # --- In the thread -----------------------------------------------------------------------------------------------
    def _run(self) -> None:
        attach(uninstrumented())
        with unforked:  # it imports what it needs
            transport = self._transport()
        while self._deadline is None:
            full = self._wait(self._delay)
            asked = self._asked
            self._guarded_drain(transport, self._batch if full and asked == self._answered else 1)
            with self._idle:
                self._answered = asked
                self._idle.notify_all()
        self._guarded_drain(transport, 1)
        transport.close()

    def _guarded_drain(self, transport: Transport, least: int) -> None:
        try:
            self._drain(transport, least)
        except Exception as error:  # noqa: BLE001  a batch that we cannot handle must not end all exports
            self._ledger.error(f"export.{self.signal.value}", error)
            self._ledger.dropped(self.signal, "internal_error", total(self._taken))
            self._let_go()
            if self._refill is not None:
                self._clear()

    def _wait(self, seconds: float) -> bool:
        """Wait for a batch; whether there is a whole one, rather than that the time has come for what there is."""
        if self._count < self._batch and self._deadline is None:
            self._wake.wait(seconds)
        self._wake.clear()
        return self._count >= self._batch

    def _drain(self, transport: Transport, least: int) -> None:
        """Send until fewer than `least` items wait or the collector is not to be had.

        What came while whole batches were sent waits until it is one: at full load requests would otherwise get smaller
        and smaller, and each costs as much as encoding a hundred spans (tests/bench/inprocess.py).
        """
        if self._refill is not None:
            self._anew(self._refill())
        if least == 1:
            self._pile_up()
        while self._count >= least:
            if not self._taken:
                self._take()
            if not self._attempt(transport):
                return

    def _anew(self, collected: Sequence[T]) -> None:
        """What was collected before and could not be sent is out of date."""
        old = [*self._taken, *self._queue]
        self._taken = []
        for item in collected:  # first: whoever flushes must not find that nothing waits
            self._queue.append(Pile(None, 1, [item]))
        self._count += len(collected)
        for _ in range(len(self._queue) - len(collected)):
            self._queue.popleft()
        self._count -= len(old)

    def _take(self) -> None:
        """A batch: as many piles as one request may hold, or one."""
        taken, queue = self._taken, self._queue
        count = size = 0
        while queue:
            pile = queue[0]
            if taken and (count + pile.count > self._batch or size + pile.size > _MAX_BATCH_BYTES):
                return
            queue.popleft()
            if pile.size > _MAX_BATCH_BYTES and pile.count > 1:
                queue.extendleft(reversed(pile.halves()))
                continue
            taken.append(pile)
            count += pile.count
            size += pile.size

    def _attempt(self, transport: Transport) -> bool:
        """Send what was taken; True to go on with the next batch, False to give up for now."""
        while self._taken:
            timeout = self._remaining()
            if timeout <= 0:
                return False
            started = time.monotonic()
            answer = transport.send(self._pack(self._taken), timeout)
            self._observe(self.signal, "success" if answer.accepted else "failure", time.monotonic() - started)
            if self._settled(answer):
                continue
            if not self._pause(self._breaker.failed(answer.retry_after), answer.reason):
                return False
        return True

    def _settled(self, answer: Answer) -> bool:
        """Whether the answer decides about what was sent; if not, it is sent again later."""
        if answer.accepted:
            if answer.rejected:
                self._ledger.dropped(self.signal, "rejected", answer.rejected)
            if self._accepted is not None:
                self._accepted(self._taken)
            self._let_go()
        elif answer.too_large and total(self._taken) > 1:
            piles = self._taken if len(self._taken) > 1 else self._taken[0].halves()
            half = len(piles) // 2
            self._queue.extendleft(reversed(piles[half:]))
            self._taken = piles[:half]
            return True
        elif answer.retry:
            return False
        else:
            self._ledger.dropped(self.signal, answer.reason, total(self._taken))
            self._let_go()
        self._breaker.worked()
        self._state("" if answer.accepted else answer.reason)
        return True

    def _let_go(self) -> None:
        """What was taken is sent or dropped."""
        count, size = total(self._taken), sum(pile.size for pile in self._taken)
        self._count -= count
        self._held -= size
        self._taken = []

    def _clear(self) -> None:
        self._fresh, self._taken = [], []
        self._queue.clear()
        self._count = self._held = 0

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
        state = self._breaker.state
        if state is not self.state:
            self.state = state
            self._changed(self.signal, state, reason)

    def _remaining(self) -> float:
        if self._deadline is None:
            return self._timeout
        return min(self._timeout, self._deadline - time.monotonic())

    def forked(self) -> None:
        """In a forked child: what waits belongs to the parent, and its thread stayed there."""
        self._thread = None
        self._clear()
        self._wake = threading.Event()
        self._idle = threading.Condition()
        self._breaker = Breaker()
        self.state = ExporterState.CLOSED
