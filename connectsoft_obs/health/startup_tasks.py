"""Startup tasks: run once, one after the other, in the background, before the service is ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from connectsoft_obs.health.check_runner import TIMEOUT_MARGIN
from connectsoft_obs.health.checks import StartupTask
from connectsoft_obs.health.daemon_threads import TimerThread
from connectsoft_obs.health.executor import CheckExecutor, CheckRun, describe_exception, timeout_message
from connectsoft_obs.health.report import Entry
from connectsoft_obs.vocabulary import HealthState

MAX_ATTEMPTS = 3
"""Maximum runs of a task; a task is repeated only if its event loop was closed during the run."""

RETRY_DELAY = 0.1
"""Seconds before a task is repeated, and between two tests whether its event loop was closed."""

OnTaskDone = Callable[[StartupTask, float, str, BaseException | None], None]


class StartupTaskRunner:
    """Runs startup tasks once. Only the health thread writes it; any thread may read it.

    Args:
        tasks: the tasks in order.
        executor: executes the runs.
        timer: the health thread.
        on_task_done: called with each task, its duration in seconds, its failure reason or "", and its exception.
        on_complete: called after the last task has passed.
    """

    def __init__(
        self,
        tasks: Sequence[StartupTask],
        executor: CheckExecutor,
        timer: TimerThread,
        on_task_done: OnTaskDone,
        on_complete: Callable[[], None],
    ) -> None:
        self._tasks = list(tasks)
        self._executor = executor
        self._timer = timer
        self._on_task_done = on_task_done
        self._on_complete = on_complete
        self._position = 0
        self._attempts = 0
        self._run: CheckRun | None = None
        self._cancelled_run: CheckRun | None = None
        self._entries = [_entry(task, 0.0, "has not run yet") for task in tasks]

    @property
    def complete(self) -> bool:
        """Whether all tasks have passed."""
        return self._position >= len(self._tasks)

    @property
    def names(self) -> list[str]:
        """Names of all tasks, in order."""
        return [task.name for task in self._tasks]

    def entries(self) -> list[Entry]:
        """The entries of all tasks in a report."""
        return list(self._entries)

    def run_next(self) -> None:
        """Run the next task; called in the health thread."""
        if self.complete:
            self._on_complete()
            return
        task = self._tasks[self._position]
        self._attempts += 1
        self._entries[self._position] = _entry(task, 0.0, "is running")

        def on_done(run: CheckRun, error: BaseException | None) -> None:
            self._timer.call_soon(partial(self._on_run_done, task, run, error))

        self._run = run = self._executor.start(
            f"obs-startup-{task.name}", task.run, task.timeout, on_done, self._cancelled_run
        )
        self._cancelled_run = None
        self._timer.call_later(task.timeout + TIMEOUT_MARGIN, partial(self._on_timeout, task, run, time.monotonic()))
        self._timer.call_later(RETRY_DELAY, partial(self._check_loop, task, run))

    def _check_loop(self, task: StartupTask, run: CheckRun) -> None:
        if run is not self._run or run.finished_at:
            return
        if run.loop_closed:
            self._on_run_done(task, run, asyncio.CancelledError())
        else:
            self._timer.call_later(RETRY_DELAY, partial(self._check_loop, task, run))

    def _on_timeout(self, task: StartupTask, run: CheckRun, started_at: float) -> None:
        if run is self._run and not run.finished_at:
            self._record_failure(task, time.monotonic() - started_at, timeout_message(task.timeout), None)

    def _on_run_done(self, task: StartupTask, run: CheckRun, error: BaseException | None) -> None:
        if run is not self._run:
            return
        self._run = None
        if isinstance(error, asyncio.CancelledError) and self._attempts < MAX_ATTEMPTS:
            # Its event loop has ended, as with test clients that create a loop for each request.
            self._cancelled_run = run
            self._timer.call_later(RETRY_DELAY, self.run_next)
        elif isinstance(error, asyncio.CancelledError):
            self._record_failure(task, run.duration, "was cancelled", None)
        elif error is not None:
            self._record_failure(task, run.duration, describe_exception(error), error)
        else:
            self._entries[self._position] = _entry(task, run.duration, "")
            self._position += 1
            self._attempts = 0
            self._on_task_done(task, run.duration, "", None)
            self.run_next()

    def _record_failure(self, task: StartupTask, seconds: float, reason: str, error: BaseException | None) -> None:
        self._run = None
        self._entries[self._position] = _entry(task, seconds, reason)
        self._on_task_done(task, seconds, reason, error)


def _entry(task: StartupTask, seconds: float, reason: str) -> Entry:
    state = HealthState.UNHEALTHY if reason else HealthState.HEALTHY
    return Entry(task.name, state, seconds, reason, ("startup", "critical"))
