"""Delays SIGTERM: readiness fails at once, the server keeps serving for the drain delay, and only then stops.

All Python servers refuse connections within half a second of SIGTERM, before load balancers notice. Therefore the
server's handler is replaced while the service runs, and called after the delay. A handler that the application sets
later is not touched; it may call this one.
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
from connectsoft_obs.process.cpython_internals import is_loop_signal_handler

REPEAT_WINDOW = 1.0
"""Seconds in which another SIGTERM is ignored: systemd and the supervisor of a server both send the first one."""

HANDLER_TIMEOUT = 1.0
"""Seconds after the delay in which the event loop must end it; after them the health thread does."""


class DrainTarget(Protocol):
    """A part of the process that drains on SIGTERM."""

    drain_delay: float

    def drain_seconds(self) -> float:
        """Seconds to keep serving."""

    def drain(self, cause: str) -> None:
        """Make readiness fail; called in a signal handler."""

    def run_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Run a call in another thread after a delay; called in a signal handler."""


class SigtermDelay:
    """The SIGTERM handler of one process. Create and use it on the main thread.

    Args:
        loop: the event loop that runs on the main thread, if any.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._pid = os.getpid()
        self._targets: list[DrainTarget] = []
        self._previous_handler: Any = None
        self._wakeup_fd_proxy: WakeupFdProxy | None = None
        self._first_signal_at = 0.0
        self._delay = 0.0
        self._installed = False

    def add(self, target: DrainTarget) -> None:
        """Drain one more target; the longest delay applies."""
        if target not in self._targets:
            self._targets.append(target)
            if self._installed:
                self._install_wakeup_fd_proxy()

    def remove(self, target: DrainTarget) -> None:
        """Do not drain a target any more; without targets, the previous handler is restored."""
        if target in self._targets:
            self._targets.remove(target)
        if not self._targets:
            self._restore()

    def install(self, previous_handler: Any) -> None:
        """Replace the current handler."""
        self._previous_handler = previous_handler
        self._installed = True
        self._set_handler(self._on_sigterm)
        self._install_wakeup_fd_proxy()

    def reassert(self) -> None:
        """Install the wakeup descriptor again: granian restarts its loop between the lifespan and the first request."""
        if self._wakeup_fd_proxy is not None:
            self._wakeup_fd_proxy.install()

    def _install_wakeup_fd_proxy(self) -> None:
        has_delay = any(target.drain_delay > 0 for target in self._targets)
        if self._loop is not None and self._replaces_loop_handler and self._wakeup_fd_proxy is None and has_delay:
            self._wakeup_fd_proxy = WakeupFdProxy(self._loop, signal.SIGTERM)

    # --- In the signal handler: no locks, no logging -----------------------------------------------------------------
    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if os.getpid() != self._pid or not self._installed:
            self._call_previous_handler(signum, frame)
        elif not self._first_signal_at:
            self._first_signal_at, self._delay = now, self._longest_delay()
            for target in list(self._targets):
                target.drain("SIGTERM")
            if self._delay > 0:
                self._schedule_end(self._delay)
            else:
                self._end_delay()
        elif now - self._first_signal_at > min(REPEAT_WINDOW, self._delay):
            self._end_delay()

    def _longest_delay(self) -> float:
        return max((target.drain_seconds() for target in self._targets), default=0.0)

    def _schedule_end(self, delay: float) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.call_later, delay, self._end_delay)
        for target in list(self._targets)[:1]:
            target.run_later(delay + (HANDLER_TIMEOUT if loop is not None else 0.0), self._interrupt_main_thread)

    def _interrupt_main_thread(self) -> None:
        """In the health thread: send the signal again, because the loop is blocked or there is none."""
        if self._installed:
            os.kill(self._pid, signal.SIGTERM)

    # --- On the main thread ------------------------------------------------------------------------------------------
    def _end_delay(self) -> None:
        """Restore the previous handler and deliver the signal to it."""
        if not self._installed:
            return
        is_current_handler = signal.getsignal(signal.SIGTERM) == self._on_sigterm
        loop_has_signal = self._replaces_loop_handler and self._wakeup_fd_proxy is None
        self._restore()
        if loop_has_signal:
            return
        if is_current_handler:
            signal.raise_signal(signal.SIGTERM)
        else:
            self._call_previous_handler(signal.SIGTERM, None)  # a later handler has called this one

    def _restore(self) -> None:
        self._installed = False
        if self._wakeup_fd_proxy is not None:
            self._wakeup_fd_proxy.remove()
            self._wakeup_fd_proxy = None
        if os.getpid() == self._pid and signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            with suppress(ValueError):  # not on the main thread
                self._set_handler(self._previous_handler)

    def _set_handler(self, handler: Any) -> None:
        signal.signal(signal.SIGTERM, handler)
        if self._replaces_loop_handler and hasattr(signal, "siginterrupt"):
            signal.siginterrupt(signal.SIGTERM, False)  # `signal.signal` resets what the loop had set

    @property
    def _replaces_loop_handler(self) -> bool:
        """Whether the previous handler was installed by `add_signal_handler` of the event loop."""
        return self._loop is not None and is_loop_signal_handler(self._previous_handler, self._loop)

    def _call_previous_handler(self, signum: int, frame: FrameType | None) -> None:
        if callable(self._previous_handler):
            self._previous_handler(signum, frame)
        elif self._previous_handler == signal.SIG_DFL:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)


def delay_sigterm(target: DrainTarget) -> SigtermDelay | None:
    """Drain on SIGTERM, and call the current handler after the drain delay.

    Returns None, and changes nothing, off the main thread, on Windows, and if no handler is set: then nothing in this
    process stops gracefully, and a parent process, such as that of hypercorn, handles the signal.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        return None
    handler = signal.getsignal(signal.SIGTERM)
    owner = getattr(handler, "__self__", None)
    if isinstance(owner, SigtermDelay):  # a second application in this process
        owner.add(target)
        return owner
    if not callable(handler):
        return None
    try:
        loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    sigterm_delay = SigtermDelay(loop)
    sigterm_delay.add(target)
    sigterm_delay.install(handler)
    return sigterm_delay
