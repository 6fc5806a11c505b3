"""SIGTERM put off: readiness turns red at once, the server goes on serving for the drain delay and only then stops.

All Python servers refuse connections within half a second of SIGTERM, before any load balancer can know. So the
server's handler is replaced while the service runs, and called when the delay is over. Whoever sets a handler after us
has it; one that was there before is called after us.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Protocol

from connectsoft_obs.health.wakeup_fd import WakeupFdProxy

AGAIN = 1.0
"""Seconds after which another SIGTERM means it: systemd and the supervisors of servers both send the first one."""

HANDLER_TIMEOUT = 1.0
"""Seconds after the delay that an event loop has to end it; then the health thread does."""


class Drained(Protocol):
    """Whoever is told that the process will stop."""

    drain_delay: float

    def drain_seconds(self) -> float:
        """Seconds to go on serving."""

    def drain(self, cause: str) -> None:
        """Readiness turns red; called in a signal handler."""

    def run_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call it in another thread after so many seconds; called in a signal handler."""


class SigtermDelay:
    """Our handler of SIGTERM in one process. Made and used on the main thread.

    Args:
        loop: the event loop that runs on the main thread, if one does.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._pid = os.getpid()
        self._drained: list[Drained] = []
        self._before: Any = None
        self._wakeups: WakeupFdProxy | None = None
        self._first = 0.0
        self._wait = 0.0
        self._given_back = True

    def add(self, drained: Drained) -> None:
        """Drain one more part of the process; the longest delay counts."""
        if drained not in self._drained:
            self._drained.append(drained)
            if not self._given_back:
                self._stand_before_loop()

    def remove(self, drained: Drained) -> None:
        """Drain it no more; without any the handler that was there before is put back."""
        if drained in self._drained:
            self._drained.remove(drained)
        if not self._drained:
            self._give_back()

    def take(self, before: Any) -> None:
        """Replace the handler that is there."""
        self._before = before
        self._given_back = False
        self._set(self._received)
        self._stand_before_loop()

    def reassert(self) -> None:
        """Be there still: granian runs its loop anew between the lifespan and the first request."""
        if self._wakeups is not None:
            self._wakeups.install()

    def _stand_before_loop(self) -> None:
        waits = any(drained.drain_delay > 0 for drained in self._drained)
        if self._loop is not None and self._of_loop and self._wakeups is None and waits:
            self._wakeups = WakeupFdProxy(self._loop, signal.SIGTERM)

    # --- In the signal handler: nothing here takes a lock or writes a line -------------------------------------------
    def _received(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if os.getpid() != self._pid or self._given_back:
            self._call_before(signum, frame)
        elif not self._first:
            self._first, self._wait = now, self._delay()
            for drained in list(self._drained):
                drained.drain("SIGTERM")
            if self._wait > 0:
                self._arm(self._wait)
            else:
                self._hand_over()
        elif now - self._first > min(AGAIN, self._wait):
            self._hand_over()

    def _delay(self) -> float:
        return max((drained.drain_seconds() for drained in self._drained), default=0.0)

    def _arm(self, delay: float) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.call_later, delay, self._hand_over)
        for drained in list(self._drained)[:1]:
            drained.run_later(delay + (HANDLER_TIMEOUT if loop is not None else 0.0), self._overdue)

    def _overdue(self) -> None:
        """In the health thread: the loop is blocked, or there is none; only a signal gets the main thread's attention."""
        if not self._given_back:
            os.kill(self._pid, signal.SIGTERM)

    # --- On the main thread ------------------------------------------------------------------------------------------
    def _hand_over(self) -> None:
        """The delay is over: now what would have happened without us happens."""
        if self._given_back:
            return
        ours = signal.getsignal(signal.SIGTERM) == self._received
        told = self._of_loop and self._wakeups is None  # nothing kept back what tells the loop
        self._give_back()
        if told:
            return
        if ours:
            signal.raise_signal(signal.SIGTERM)
        else:
            self._call_before(signal.SIGTERM, None)  # somebody stands before us and has called us

    def _give_back(self) -> None:
        self._given_back = True
        if self._wakeups is not None:
            self._wakeups.leave()
            self._wakeups = None
        if os.getpid() == self._pid and signal.getsignal(signal.SIGTERM) == self._received:
            with suppress(ValueError):  # not on the main thread any more
                self._set(self._before)

    def _set(self, handler: Any) -> None:
        signal.signal(signal.SIGTERM, handler)
        if self._of_loop and hasattr(signal, "siginterrupt"):
            signal.siginterrupt(signal.SIGTERM, False)  # what the loop had set for its own handler

    @property
    def _of_loop(self) -> bool:
        """Whether the handler that was there is the one that an event loop sets for its `add_signal_handler`."""
        package = str(getattr(self._before, "__module__", "")).partition(".")[0]
        return self._loop is not None and package in ("asyncio", type(self._loop).__module__.partition(".")[0])

    def _call_before(self, signum: int, frame: FrameType | None) -> None:
        if callable(self._before):
            self._before(signum, frame)
        elif self._before == signal.SIG_DFL:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)


def delay_sigterm(drained: Drained) -> SigtermDelay | None:
    """Drain on SIGTERM before the handler that is there now is called.

    Gives None, and changes nothing, off the main thread, on Windows, and where no handler is set: then nothing in this
    process stops gracefully, and a parent process (hypercorn's) has the say.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        return None
    before = signal.getsignal(signal.SIGTERM)
    owner = getattr(before, "__self__", None)
    if isinstance(owner, SigtermDelay):  # a second application in this process
        owner.add(drained)
        return owner
    if not callable(before):
        return None
    try:
        loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    made = SigtermDelay(loop)
    made.add(drained)
    made.take(before)
    return made
