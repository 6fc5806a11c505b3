"""Runs one check periodically: never concurrently with itself, and with a timeout for each run.

All methods run in the health thread, so a CheckState has a single writer.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Protocol

from connectsoft_obs.health.check_state import CheckState
from connectsoft_obs.health.daemon_threads import TimerThread
from connectsoft_obs.health.executor import CheckExecutor, CheckRun, describe_exception, timeout_message

MAX_INITIAL_INTERVAL = 1.0
"""Maximum seconds between runs until a check has passed once, so that a service is ready soon after its dependencies."""

JITTER = 0.1
"""Share by which intervals vary, so that workers and instances do not check a dependency at the same time."""

SLOW_SHARE = 0.5
"""Share of the timeout above which a passing run is reported as slow."""

TIMEOUT_MARGIN = 0.1
"""Seconds added to the timeout of the health thread, so that the timeout of an async run cancels the run first."""


class CheckListener(Protocol):
    """Receives the results of checks."""

    def on_result(self, state: CheckState, error: BaseException | None) -> None:
        """A check has a new result; `error` is the exception of a failed run."""

    def on_run(self, state: CheckState, seconds: float, passed: bool) -> None:
        """A run has ended after a number of seconds."""

    def on_slow(self, state: CheckState) -> None:
        """A passing run exceeded `SLOW_SHARE` of its timeout; the run before it did not."""


class CheckRunner:
    """Runs one check.

    Args:
        state: receives the results.
        interval: seconds between the starts of two runs.
        timeout: maximum duration of a run in seconds.
        executor: executes the runs.
        timer: the health thread.
        listener: receives results, durations and slow runs.
    """

    def __init__(
        self,
        state: CheckState,
        interval: float,
        timeout: float,
        executor: CheckExecutor,
        timer: TimerThread,
        listener: CheckListener,
    ) -> None:
        self.state = state
        self._interval = interval
        self._timeout = timeout
        self._executor = executor
        self._timer = timer
        self._listener = listener
        self._was_slow = False
        self._run: CheckRun | None = None
        self._cancelled_run: CheckRun | None = None
        self._stopped = False

    def start(self) -> None:
        """Run the check now, and then at its interval."""
        self._timer.call_soon(self._on_interval)

    def stop(self) -> None:
        """Start no more runs; a run in progress is not interrupted, and its result is ignored."""
        self._stopped = True

    def _on_interval(self) -> None:
        if self._stopped:
            return
        interval = self._interval if self.state.has_passed else min(self._interval, MAX_INITIAL_INTERVAL)
        jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  not for cryptography
        self._timer.call_later(interval * jitter, self._on_interval)
        run = self._run
        if run is not None and run.loop_closed:
            self._cancelled_run, run = run, None
        if run is None:
            self._start_run()
        elif run.timed_out:  # it has still not returned, which counts as another failure
            self.state.record_failure(f"still running after {run.duration:.0f} s", run.duration)
            self._listener.on_result(self.state, None)

    def _start_run(self) -> None:
        check = self.state.check

        def on_done(run: CheckRun, error: BaseException | None) -> None:
            self._timer.call_soon(partial(self._on_run_done, run, error))

        self._run = run = self._executor.start(
            f"obs-check-{check.name}", check.run, self._timeout, on_done, self._cancelled_run
        )
        self._cancelled_run = None
        self._timer.call_later(self._timeout + TIMEOUT_MARGIN, partial(self._on_timeout, run))

    def _on_timeout(self, run: CheckRun) -> None:
        if run is not self._run or run.finished_at or self._stopped:
            return
        remaining = self._timeout - run.duration if run.started_at else self._timeout
        if remaining > 0:  # it started late, or not yet because the event loop is blocked: not a failure of the check
            self._timer.call_later(remaining + TIMEOUT_MARGIN, partial(self._on_timeout, run))
            return
        run.timed_out = True
        self._record_failure(timeout_message(self._timeout), run.duration, None)

    def _on_run_done(self, run: CheckRun, error: BaseException | None) -> None:
        if run is self._run:
            self._run = None
        if run.timed_out or self._stopped:
            return
        if isinstance(error, asyncio.CancelledError):  # its event loop has ended: no result
            self._cancelled_run = run
            return
        if error is not None:
            self._record_failure(describe_exception(error), run.duration, error)
            return
        self._listener.on_run(self.state, run.duration, True)
        self.state.record_pass(run.duration)
        is_slow = run.duration > self._timeout * SLOW_SHARE
        if is_slow and not self._was_slow:
            self._listener.on_slow(self.state)
        self._was_slow = is_slow
        self._listener.on_result(self.state, None)

    def _record_failure(self, reason: str, duration: float, error: BaseException | None) -> None:
        self._listener.on_run(self.state, duration, False)
        self.state.record_failure(reason, duration)
        self._listener.on_result(self.state, error)
