"""How a worker stops: SIGTERM turns readiness red and lets what runs finish, within a budget, and then the process end.

A program that looks at `draining` ends by itself. One that does not is interrupted when it has nothing to do, by
SystemExit(0): raised between two steps of an asyncio loop, in the main thread elsewhere, and as a KeyboardInterrupt
under trio, which knows how to deliver one. When the budget is spent it is interrupted whatever it does; what the
platform's SIGKILL would cut off a moment later has then been flushed, and counted as aborted.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from connectsoft_obs.process import threads
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.signals.logs.levels import INFO, WARNING
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.work.registry import registry_of

if TYPE_CHECKING:
    from connectsoft_obs.work.run import Run

EXIT_GRACE = 2.0
"""Seconds that a program which does nothing more is given to end by itself."""

MARGIN = 2.0
"""Seconds after the interruption until a process that cannot be interrupted is ended."""

_POLL = 0.02


class GracefulShutdown:
    """Our handler of SIGTERM, from `begin()` on the main thread until `end()`.

    Args:
        telemetry: whose readiness turns red, and what is flushed.
        flush: writes and sends what waits.
    """

    def __init__(self, telemetry: Telemetry, flush: Callable[[], None]) -> None:
        self._telemetry = telemetry
        self._flush = flush
        self._running = registry_of(telemetry)
        self._runs = self._running.runs
        self._before: Any = None
        self._ours = False
        self._ended = threading.Event()
        self._told_ns = 0  # when SIGTERM came
        self._due = False
        self.deadline: float | None = None
        self.interrupted: bool = False

    def begin(self) -> None:
        """Handle SIGTERM from now on; outside the main thread, where Python has no signals, nothing happens."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._received)
            self._ours = True
            register_fork_handler(self)

    def end(self) -> None:
        """Handle it no more; whoever set a handler since then keeps it."""
        self._ended.set()
        self._running.after = None
        here = threading.current_thread() is threading.main_thread()
        if self._ours and here and signal.getsignal(signal.SIGTERM) == self._received:
            signal.signal(signal.SIGTERM, self._before if self._before is not None else signal.SIG_DFL)
        self._ours = False

    def wait(self) -> None:
        """While the process drains: wait for what runs elsewhere, and end the process when the budget is spent."""
        while self.deadline is not None and self._runs:
            if self._spent:
                self.force_exit()
            time.sleep(_POLL)

    def after_fork_in_child(self) -> None:
        """In a forked child: its signals are its own."""
        self.end()

    # --- In the main thread, as a signal handler ---------------------------------------------------------------------
    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.deadline is None:
            self._told_ns = time.perf_counter_ns()
            self.deadline = time.monotonic() + self._telemetry.settings.drain_timeout
            self._running.after = self._over
            self._telemetry.health.drain()
            threads.start_thread(
                "obs-shutdown", self._watch
            )  # without it a run ends when it ends, or at the next SIGTERM
        elif (not self._due or self._spent or not self._runs) and not self._interrupt(number, frame):
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                raise SystemExit(0) from None
            loop.call_soon_threadsafe(_leave)

    @property
    def _spent(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _interrupt(self, number: int, frame: FrameType | None) -> bool:
        """Tell whoever else ends this program; False where nobody does."""
        self._due, self.interrupted = False, True
        if callable(self._before):
            self._before(number, frame)
            return True
        if _in_trio():
            signal.raise_signal(signal.SIGINT)
            return True
        return False

    def _over(self, run: Run) -> None:
        """A run is over. One that was begun well after SIGTERM says that the program does not look at `draining`."""
        if self._runs or run.start_ns - self._told_ns <= EXIT_GRACE * 1e9:
            return
        if threading.current_thread() is not threading.main_thread():
            self._due = True
            _signal_main_thread()
        elif not self._interrupt(signal.SIGTERM, None):
            raise SystemExit(0)  # here, before the next run begins

    # --- In a thread -------------------------------------------------------------------------------------------------
    def _watch(self) -> None:
        """Wait until the process has nothing to do or its time is up, then have the main thread interrupted."""
        bound_attributes = {"running": len(self._runs), "budget": self._telemetry.settings.drain_timeout}
        self._telemetry.log(INFO, "SIGTERM: no new work, waiting for what runs", bound_attributes)
        quiet_since = time.monotonic()
        while not self._ended.wait(_POLL):
            now = time.monotonic()
            if self._runs:
                quiet_since = now
            if self._spent or now - quiet_since >= EXIT_GRACE:
                self._due = True
                _signal_main_thread()
                if not self._spent:
                    quiet_since = now  # it may have begun something in this very moment; then it is left to finish it
                    continue
                break
        if not self._ended.wait(MARGIN):
            self.force_exit()

    def force_exit(self) -> None:
        """The main thread cannot be interrupted, or waits for threads that cannot: end here what SIGKILL would end."""
        left = list(self._runs)
        self._telemetry.log(
            WARNING, "the time for stopping is over; what still runs is aborted", {"running": len(left)}
        )
        for run in left:
            run.end(SystemExit())
        self._flush()
        os._exit(0)


def _leave() -> None:
    raise SystemExit(0)


def _signal_main_thread() -> None:
    """Have our handler called, also where the main thread waits in a system call."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGTERM)
    else:
        signal.raise_signal(signal.SIGTERM)


def _in_trio() -> bool:
    trio = sys.modules.get("trio")
    try:
        return bool(trio.lowlevel.in_trio_run())  # type: ignore[union-attr]
    except AttributeError:
        return False
