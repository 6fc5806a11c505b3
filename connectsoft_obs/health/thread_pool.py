"""A small pool of daemon threads for checks that are not async.

Not the event loop's executor, because an executor that is full is something checks should find out; and not a
ThreadPoolExecutor, because the interpreter joins its threads when it ends, for ever if a check hangs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from connectsoft_obs.process import threads

Call = Callable[[], object]
Work = SimpleQueue[tuple[str, Call] | None]

LIMIT = 16
"""Threads at most; so many checks must hang before another one finds none free."""


class DaemonThreadPool:
    """Runs calls at once in a thread that is free. A call must not raise."""

    def __init__(self) -> None:
        self._free: list[Work] = []
        self.after_fork_in_child()

    def run(self, name: str, call: Call) -> bool:
        """Run a call in a thread of that name; False when every thread is busy, or there can be no more."""
        with self._lock:
            if self._free:
                work = self._free.pop()
            elif self._number < LIMIT:
                work = SimpleQueue()
                if threads.start_thread("obs-check", self._work, work) is None:
                    return False
                self._number += 1
            else:
                return False
        work.put((name, call))
        return True

    def stop(self) -> None:
        """End the threads that are free, and the others when they are."""
        with self._lock:
            self._stopped = True
            free, self._free = self._free, []
        for work in free:
            work.put(None)

    def after_fork_in_child(self) -> None:
        """At first, and in a forked child: no thread."""
        self._lock = threading.Lock()
        self._free = []
        self._number = 0
        self._stopped = False

    def _work(self, work: Work) -> None:
        while (item := work.get()) is not None:
            threading.current_thread().name, call = item
            call()
            threading.current_thread().name = "obs-check"
            with self._lock:
                if self._stopped:
                    return
                self._free.append(work)
