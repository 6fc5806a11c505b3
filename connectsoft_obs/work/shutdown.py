"""Graceful shutdown of workers: SIGTERM fails readiness, active runs can finish within a budget, then the process exits.

A program that checks `draining` ends by itself. Another program is interrupted by SystemExit(0) when no run is active: between
two steps of an asyncio loop, in the main thread elsewhere, and as KeyboardInterrupt under trio. When the budget is spent,
active runs are interrupted too; they are flushed and counted as aborted before the SIGKILL of the platform.
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
from typing import Any

from connectsoft_obs.process import threads
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.signals.logs.levels import INFO, WARNING
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.work.registry import ActiveRun, registry_of

EXIT_GRACE = 2.0
"""Seconds that a program without active runs has to end by itself."""

MARGIN = 2.0
"""Seconds after the interruption until a process that cannot be interrupted is terminated."""

_POLL = 0.02


class GracefulShutdown:
    """Handler of SIGTERM, from `install()` in the main thread until `uninstall()`.

    Args:
        telemetry: the Telemetry whose readiness fails.
        flush: writes and exports queued telemetry.
    """

    def __init__(self, telemetry: Telemetry, flush: Callable[[], None]) -> None:
        self._telemetry = telemetry
        self._flush = flush
        self._registry = registry_of(telemetry)
        self._runs = self._registry.runs
        self._previous_handler: Any = None
        self._installed = False
        self._finished = threading.Event()
        self._sigterm_ns = 0  # time of SIGTERM
        self._interrupt_requested = False
        self._waiting = False
        self.deadline: float | None = None
        self.interrupted: bool = False

    def install(self) -> None:
        """Handle SIGTERM; has no effect outside the main thread, where Python does not handle signals."""
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, self._on_sigterm)
            self._installed = True
            register_fork_handler(self)

    def uninstall(self) -> None:
        """Stop handling SIGTERM; a handler that was installed later stays."""
        self._finished.set()
        self._registry.on_run_end = None
        in_main_thread = threading.current_thread() is threading.main_thread()
        if self._installed and in_main_thread and signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.signal(
                signal.SIGTERM, self._previous_handler if self._previous_handler is not None else signal.SIG_DFL
            )
        self._installed = False

    def wait(self) -> None:
        """While the process drains, wait for active runs of other threads; exit when the budget is spent."""
        self._waiting = True
        while self.deadline is not None and self._runs:
            if self._budget_spent:
                self.force_exit()
            time.sleep(_POLL)

    def after_fork_in_child(self) -> None:
        """In a forked child: signals are not handled here."""
        self.uninstall()

    # --- Signal handler, in the main thread --------------------------------------------------------------------------
    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        is_requested, self._interrupt_requested = self._interrupt_requested, False
        if self.deadline is None:
            self._sigterm_ns = time.perf_counter_ns()
            self.deadline = time.monotonic() + self._telemetry.settings.drain_timeout
            self._registry.on_run_end = self._on_run_end
            self._telemetry.health.drain()
            # If the thread cannot be started, the end of a run or the next SIGTERM ends the process.
            threads.start_thread("obs-shutdown", self._watch)
        elif is_requested and (self._waiting or (self._runs and not self._budget_spent)):
            pass  # a run may have started just now; it can finish
        elif not self._interrupt(number, frame):
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                raise SystemExit(0) from None
            loop.call_soon_threadsafe(_exit)

    @property
    def _budget_spent(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _interrupt(self, number: int, frame: FrameType | None) -> bool:
        """Pass the signal to the previous handler or to trio; return False if there is neither, so the caller must exit."""
        self.interrupted = True
        if callable(self._previous_handler):
            self._previous_handler(number, frame)
            return True
        if _in_trio():
            signal.raise_signal(signal.SIGINT)
            return True
        return False

    def _on_run_end(self, run: ActiveRun) -> None:
        """Called when a run ends. A run that started long after SIGTERM shows that the program ignores `draining`."""
        if self._runs or run.start_ns - self._sigterm_ns <= EXIT_GRACE * 1e9:
            return
        if threading.current_thread() is not threading.main_thread():
            self._interrupt_requested = True
            _signal_main_thread()
            self._finished.wait(MARGIN)  # otherwise the next run starts before the main thread is interrupted
        elif not self._interrupt(signal.SIGTERM, None):
            raise SystemExit(0)  # here, before the next run starts

    # --- In a thread ------------------------------------------------------------------------------------------------
    def _watch(self) -> None:
        """Wait until no run is active or the budget is spent, then interrupt the main thread."""
        fields = {"running": len(self._runs), "budget": self._telemetry.settings.drain_timeout}
        self._telemetry.log(INFO, "SIGTERM received; waiting for active runs", fields)
        idle_since = time.monotonic()
        while not self._finished.wait(_POLL):
            now = time.monotonic()
            if self._runs:
                idle_since = now
            if self._budget_spent or now - idle_since >= EXIT_GRACE:
                self._interrupt_requested = True
                _signal_main_thread()
                if not self._budget_spent:
                    idle_since = now  # a run may have started just now; it can finish
                    continue
                break
        if not self._finished.wait(MARGIN):
            self.force_exit()

    def force_exit(self) -> None:
        """Exit the process from here, if the main thread cannot be interrupted or waits for other threads."""
        active = list(self._runs)
        self._telemetry.log(
            WARNING, "process did not stop in time after SIGTERM; active runs are aborted", {"running": len(active)}
        )
        for run in active:
            run.end(SystemExit())
        self._flush()
        os._exit(0)


def _exit() -> None:
    raise SystemExit(0)


def _signal_main_thread() -> None:
    """Send SIGTERM to the main thread, also if it waits in a system call."""
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
