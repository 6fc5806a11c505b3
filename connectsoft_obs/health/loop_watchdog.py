"""Watchdog of the event loop: detects from another thread that the loop is blocked, and reports the blocking line.

Costs two callbacks per second on the event loop and two wake-ups per second of the health thread.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable

from connectsoft_obs.process.client_waits import waits_for_client

LOOP_TICK_INTERVAL = 0.5
"""Seconds between two ticks of the loop."""

STALL_THRESHOLD = 1.0
"""Seconds without a due tick after which the loop counts as blocked."""

MAX_FRAMES = 25
"""Innermost stack frames in a report; the outer frames belong to the server and are always the same."""

OnStall = Callable[[float, str, str], None]


class LoopWatchdog:
    """Watches one event loop at a time.

    Counts only time in which the health thread itself ran: a suspended process (SIGSTOP, a paused virtual machine, no
    CPU) is not a blocked loop.

    Args:
        limit: seconds for which the loop must be blocked before `problem()` reports it.
        on_lag: called with the delay of each tick in seconds.
        on_stall: called once per stall with its duration in seconds, the stack trace and the innermost line.
        on_recovery: called after a stall with its duration in seconds.
    """

    def __init__(
        self,
        limit: float,
        on_lag: Callable[[float], None],
        on_stall: OnStall,
        on_recovery: Callable[[float], None],
    ) -> None:
        self._limit = limit
        self._on_lag = on_lag
        self._on_stall = on_stall
        self._on_recovery = on_recovery
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Initialise without a loop, also in a forked child."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread_id = 0
        self._ticks = 0
        self._checked_ticks = -1
        self._blocked_for = 0.0
        self._checked_at = 0.0
        self._stall_reported = False

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch a loop; called in the thread that runs it."""
        self.after_fork_in_child()
        self._loop_thread_id = threading.get_ident()
        self._loop = loop
        self._schedule_tick(loop)

    def stop(self) -> None:
        """Stop watching."""
        self._loop = None

    def problem(self) -> str:
        """Why the process should be restarted, or "". A framework that waits for its broker or store is not a reason."""
        if self._blocked_for < self._limit or not self._loop_runs or waits_for_client(self._loop_thread_id):
            return ""
        return f"the event loop has been blocked for {self._blocked_for:.0f} s"

    def check(self) -> None:
        """Test whether the loop has ticked since the last call; called every `LOOP_TICK_INTERVAL` in the health thread."""
        now = time.monotonic()
        elapsed, self._checked_at = min(now - self._checked_at, 2 * LOOP_TICK_INTERVAL), now
        if self._ticks != self._checked_ticks or not self._loop_runs:
            self._checked_ticks = self._ticks
            if self._stall_reported:
                self._stall_reported = False
                self._on_recovery(self._blocked_for)
            self._blocked_for = 0.0
            return
        self._blocked_for += elapsed
        if self._blocked_for >= STALL_THRESHOLD and not self._stall_reported:
            self._stall_reported = True
            self._on_stall(self._blocked_for, *self._loop_stack())

    @property
    def _loop_runs(self) -> bool:
        """Whether there is a loop, and it should be executing callbacks."""
        loop = self._loop
        return loop is not None and loop.is_running() and not loop.is_closed()

    def _schedule_tick(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + LOOP_TICK_INTERVAL

        def tick() -> None:
            if loop is not self._loop:
                return
            self._ticks += 1
            self._on_lag(max(loop.time() - due, 0.0))
            self._schedule_tick(loop)

        loop.call_at(due, tick)

    def _loop_stack(self) -> tuple[str, str]:
        """The stack trace of the loop's thread, and its innermost line as `file:line`."""
        frame = sys._current_frames().get(self._loop_thread_id)  # noqa: SLF001  documented, despite its name
        if frame is None:
            return "", ""
        rows = traceback.extract_stack(frame)[-MAX_FRAMES:]
        return "".join(traceback.format_list(rows)), f"{rows[-1].filename}:{rows[-1].lineno}"
