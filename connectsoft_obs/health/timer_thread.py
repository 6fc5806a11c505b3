"""The health thread: calls what is due, one after the other, whatever the event loop does meanwhile."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from connectsoft_obs.process import threads

Call = Callable[[], object]
Failed = Callable[[str, BaseException], None]


class TimerThread:
    """One daemon thread and what it is to call when. Calls must not wait for anything.

    `soon` and `after` may be called from any thread and from signal handlers (a SimpleQueue is reentrant); while it is
    stopped they do nothing.

    Args:
        failed: told of a call that raised.
    """

    def __init__(self, failed: Failed) -> None:
        self._failed = failed
        self._queue: SimpleQueue[tuple[float, Call] | None] | None = None

    @property
    def running(self) -> bool:
        """Whether there is a thread."""
        return self._queue is not None

    def start(self) -> None:
        """Start the thread, if there is none and there can be one."""
        if self._queue is None:
            queue: SimpleQueue[tuple[float, Call] | None] = SimpleQueue()
            if threads.start_thread("obs-health", self._run, queue) is not None:
                self._queue = queue

    def stop(self) -> None:
        """End the thread after the call it is in; what is not due yet is forgotten."""
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.put(None)

    def soon(self, call: Call) -> None:
        """Call it as soon as the thread is free."""
        self.after(0.0, call)

    def after(self, seconds: float, call: Call) -> None:
        """Call it in so many seconds."""
        if (queue := self._queue) is not None:
            queue.put((time.monotonic() + seconds, call))

    def every(self, seconds: float, call: Call) -> None:
        """Call it now and then again and again."""

        def again() -> None:
            self.after(seconds, again)
            call()

        self.soon(again)

    def after_fork_in_child(self) -> None:
        """In a forked child: the thread stayed with the parent."""
        self._queue = None

    def _run(self, queue: SimpleQueue[tuple[float, Call] | None]) -> None:
        due: list[tuple[float, int, Call]] = []
        numbers = itertools.count()
        while True:
            wait = max(due[0][0] - time.monotonic(), 0.0) if due else None
            try:
                item = queue.get(timeout=wait)
            except Empty:
                _, _, call = heapq.heappop(due)
                try:
                    call()
                except Exception as error:  # noqa: BLE001  ours; the other calls are still due
                    self._failed("health.schedule", error)
                continue
            if item is None:
                return
            heapq.heappush(due, (item[0], next(numbers), item[1]))
