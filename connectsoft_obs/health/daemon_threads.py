"""Daemon threads of health: one timer thread, and a small pool for checks that are not async.

A daemon thread does not delay the end of the process, even if a check in it never returns.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from connectsoft_obs.internal_telemetry import Guard
from connectsoft_obs.process.threads import start_thread

Call = Callable[[], object]
TimerQueue = SimpleQueue[tuple[float, Call] | None]
WorkQueue = SimpleQueue[tuple[str, Call] | None]

MAX_POOL_THREADS = 16
"""Size of the pool; with as many hanging checks, the next check fails because no thread is free."""


class TimerThread:
    """One daemon thread that runs calls at their due time, independent of the event loop. Calls must not block.

    `call_soon` and `call_later` are safe in any thread and in signal handlers, because a SimpleQueue is reentrant. While
    the thread is stopped they do nothing.

    Args:
        guard: records exceptions of calls.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._queue: TimerQueue | None = None

    @property
    def running(self) -> bool:
        """Whether the thread has been started and not stopped."""
        return self._queue is not None

    def start(self) -> None:
        """Start the thread, unless it runs already. If no thread can be started, `running` stays False."""
        if self._queue is None:
            queue: TimerQueue = SimpleQueue()
            if start_thread("obs-health", self._run, queue) is not None:
                self._queue = queue

    def stop(self) -> None:
        """End the thread after the current call; drop calls that are not due yet."""
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.put(None)

    def call_soon(self, call: Call) -> None:
        """Run a call as soon as possible."""
        self.call_later(0.0, call)

    def call_later(self, seconds: float, call: Call) -> None:
        """Run a call after a delay in seconds."""
        if (queue := self._queue) is not None:
            queue.put((time.monotonic() + seconds, call))

    def call_every(self, seconds: float, call: Call) -> None:
        """Run a call now, and then at an interval in seconds."""

        def repeat() -> None:
            self.call_later(seconds, repeat)
            call()

        self.call_soon(repeat)

    def after_fork_in_child(self) -> None:
        """Forget the thread, which does not exist in a forked child."""
        self._queue = None

    def _run(self, queue: TimerQueue) -> None:
        due: list[tuple[float, int, Call]] = []
        sequence = itertools.count()
        while True:
            timeout = max(due[0][0] - time.monotonic(), 0.0) if due else None
            try:
                item = queue.get(timeout=timeout)
            except Empty:
                _, _, call = heapq.heappop(due)
                with self._guard:
                    call()
                continue
            if item is None:
                return
            heapq.heappush(due, (item[0], next(sequence), item[1]))


class DaemonThreadPool:
    """Runs each call at once in a free thread. A call must not raise.

    The executor of the event loop is not used, because its exhaustion is a failure that checks should detect. A
    ThreadPoolExecutor is not used, because the interpreter joins its threads at exit and would wait for a hanging check.
    """

    def __init__(self) -> None:
        self._free: list[WorkQueue] = []
        self.after_fork_in_child()

    def run(self, name: str, call: Call) -> bool:
        """Run a call in a thread of that name; False if every thread is busy or no thread can be started."""
        with self._lock:
            if self._free:
                queue = self._free.pop()
            elif self._thread_count < MAX_POOL_THREADS:
                queue = SimpleQueue()
                if start_thread("obs-check", self._work, queue) is None:
                    return False
                self._thread_count += 1
            else:
                return False
        queue.put((name, call))
        return True

    def stop(self) -> None:
        """End free threads now, and busy threads after their call."""
        with self._lock:
            self._stopped = True
            free, self._free = self._free, []
        for queue in free:
            queue.put(None)

    def after_fork_in_child(self) -> None:
        """Initialise an empty pool, also in a forked child."""
        self._lock = threading.Lock()
        self._free = []
        self._thread_count = 0
        self._stopped = False

    def _work(self, queue: WorkQueue) -> None:
        while (item := queue.get()) is not None:
            threading.current_thread().name, call = item
            call()
            threading.current_thread().name = "obs-check"
            with self._lock:
                if self._stopped:
                    return
                self._free.append(queue)
