"""One check, run again and again: never twice at once, never for longer than its timeout, whatever it does.

Everything here happens in the health thread, so a state has one writer.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Protocol

from connectsoft_obs.health.check_state import CheckState
from connectsoft_obs.health.executor import CheckExecutor, CheckRun, describe_exception, timeout_message
from connectsoft_obs.health.timer_thread import TimerThread

FIRST = 1.0
"""Seconds between runs at most until a check has passed for the first time: a service is ready when its dependencies are."""

JITTER = 0.1
"""Share by which intervals vary, so that workers and instances do not ask a dependency in step."""

SLOW = 0.5
"""Share of the timeout above which a passing run is called slow."""


class CheckListener(Protocol):
    """Whoever has checks run."""

    def on_result(self, state: CheckState, error: BaseException | None) -> None:
        """There is a result, and what was raised for it."""

    def observed(self, state: CheckState, seconds: float, passed: bool) -> None:
        """A run took so many seconds."""

    def on_slow(self, state: CheckState) -> None:
        """Passing runs begin to take long."""


class CheckRunner:
    """Runs one check.

    Args:
        state: where results go.
        interval: seconds between the beginnings of two runs.
        timeout: seconds a run may take.
        runs: runs it.
        schedule: the health thread.
        owner: told what comes of it.
    """

    def __init__(
        self,
        state: CheckState,
        interval: float,
        timeout: float,
        runs: CheckExecutor,
        schedule: TimerThread,
        owner: CheckListener,
    ) -> None:
        self.state = state
        self._interval = interval
        self._timeout = timeout
        self._runs = runs
        self._schedule = schedule
        self._owner = owner
        self._was_slow = False
        self._run: CheckRun | None = None
        self._again: CheckRun | None = None
        self._ended = False

    def begin(self) -> None:
        """Run it now, and then at its interval."""
        self._schedule.soon(self._due)

    def end(self) -> None:
        """Run it no more; what it is doing ends by itself."""
        self._ended = True

    def _due(self) -> None:
        if self._ended:
            return
        pause = self._interval if self.state.passed_before else min(self._interval, FIRST)
        self._schedule.after(pause * random.uniform(1 - JITTER, 1 + JITTER), self._due)  # noqa: S311  jitter
        run = self._run
        if run is not None and run.loop_closed:
            self._again, run = run, None
        if run is None:
            self._start()
        elif run.judged:  # it was given up and still has not returned: as good as another failure
            self.state.failed(f"still running after {run.duration:.0f} s", run.duration)
            self._owner.on_result(self.state, None)

    def _start(self) -> None:
        check = self.state.check

        def done(run: CheckRun, error: BaseException | None) -> None:
            self._schedule.soon(partial(self._finished, run, error))

        self._run = run = self._runs.begin(f"obs-check-{check.name}", check.run, self._timeout, done, self._again)
        self._again = None
        # A little later than the loop's own timeout, which cancels as well and should be the one to strike.
        self._schedule.after(self._timeout + 0.1, partial(self._overdue, run))

    def _overdue(self, run: CheckRun) -> None:
        if run is not self._run or run.ended or self._ended:
            return
        left = self._timeout - run.duration if run.begun else self._timeout
        if left > 0:  # it began late, or has not begun because the loop is blocked; that is not the check's failure
            self._schedule.after(left + 0.1, partial(self._overdue, run))
            return
        run.judged = True
        self._failed(timeout_message(self._timeout), run.duration, None)

    def _finished(self, run: CheckRun, error: BaseException | None) -> None:
        if run is self._run:
            self._run = None
        if run.judged or self._ended:
            return
        if isinstance(error, asyncio.CancelledError):  # its event loop ended: no result
            self._again = run
            return
        if error is not None:
            self._failed(describe_exception(error), run.duration, error)
            return
        self._owner.observed(self.state, run.duration, True)
        self.state.passed(run.duration)
        slow = run.duration > self._timeout * SLOW
        if slow and not self._was_slow:
            self._owner.on_slow(self.state)
        self._was_slow = slow
        self._owner.on_result(self.state, None)

    def _failed(self, reason: str, duration: float, error: BaseException | None) -> None:
        self._owner.observed(self.state, duration, False)
        self.state.failed(reason, duration)
        self._owner.on_result(self.state, error)
