"""The stall watchdog: notices from another thread that the event loop does not turn, and says where it is stuck.

Costs two callbacks a second on the loop and two wake-ups a second of the health thread.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable

LOOP_TICK_INTERVAL = 0.5
"""Seconds between two ticks of the loop."""

STALLED = 1.0
"""Seconds without a due tick that make a stall."""

FRAMES = 25
"""Innermost frames that are told; the outer ones are the server's and the same each time."""

Stalled = Callable[[float, str, str], None]


class LoopWatchdog:
    """Watches one event loop at a time.

    A process that was suspended as a whole (SIGSTOP, a paused virtual machine, no CPU) is not a stalled loop: only time
    during which the watching thread itself ran is counted.

    Args:
        limit: seconds of stall that make `problem()` say so.
        lag: told seconds by which each tick was late.
        stalled: told seconds, stack and innermost line of a stall, once.
        recovered: told the seconds it took.
    """

    def __init__(
        self,
        limit: float,
        lag: Callable[[float], None],
        stalled: Stalled,
        recovered: Callable[[float], None],
    ) -> None:
        self._limit = limit
        self._lag = lag
        self._stalled = stalled
        self._recovered = recovered
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """At first, and in a forked child: no loop."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._ticks = 0
        self._seen = -1
        self._still = 0.0
        self._looked = 0.0
        self._told = False

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch the running loop of the caller."""
        self.after_fork_in_child()
        self._thread = threading.get_ident()
        self._loop = loop
        self._schedule(loop)

    def end(self) -> None:
        """Watch none."""
        self._loop = None

    def problem(self) -> str:
        """Why the process should be restarted, or ""."""
        if self._still < self._limit or not self._turning:
            return ""
        return f"the event loop has been blocked for {self._still:.0f} s"

    def look(self) -> None:
        """See whether the loop has ticked since the last look; called every TICK seconds in the health thread."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, 2 * LOOP_TICK_INTERVAL), now
        if self._ticks != self._seen or not self._turning:
            self._seen = self._ticks
            if self._told:
                self._told = False
                self._recovered(self._still)
            self._still = 0.0
            return
        self._still += passed
        if self._still >= STALLED and not self._told:
            self._told = True
            self._stalled(self._still, *self._stack())

    @property
    def _turning(self) -> bool:
        """Whether the loop is there and should be turning."""
        loop = self._loop
        return loop is not None and loop.is_running() and not loop.is_closed()

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + LOOP_TICK_INTERVAL

        def tick() -> None:
            if loop is not self._loop:
                return
            self._ticks += 1
            self._lag(max(loop.time() - due, 0.0))
            self._schedule(loop)

        loop.call_at(due, tick)

    def _stack(self) -> tuple[str, str]:
        """The stack of the loop's thread as Python prints it, and the line it is in."""
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001  the interpreter's own way to ask
        if frame is None:
            return "", ""
        rows = traceback.extract_stack(frame)[-FRAMES:]
        return "".join(traceback.format_list(rows)), f"{rows[-1].filename}:{rows[-1].lineno}"
