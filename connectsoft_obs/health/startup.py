"""Start-up: the tasks that must have run before the service is ready, one after the other, in the background."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from connectsoft_obs.health.checks import Task
from connectsoft_obs.health.executor import CheckExecutor, CheckRun, describe_exception, timeout_message
from connectsoft_obs.health.report import Entry
from connectsoft_obs.health.timer_thread import TimerThread
from connectsoft_obs.vocabulary import HealthState

ATTEMPTS = 3
"""Times a task is begun at most; only one whose event loop ended under it is begun again."""

RETRY_DELAY = 0.1
"""Seconds until then."""

Ended = Callable[[Task, float, str, BaseException | None], None]


class StartupTasks:
    """Runs tasks once. Written by the health thread, read by anyone.

    Args:
        tasks: what to run, in order.
        ended: called with each task, its seconds, the reason why it failed or "", and what it raised.
        done: called when the last one has run.
    """

    def __init__(
        self, tasks: Sequence[Task], runs: CheckExecutor, schedule: TimerThread, ended: Ended, done: Callable[[], None]
    ) -> None:
        self._tasks = list(tasks)
        self._runs = runs
        self._schedule = schedule
        self._ended = ended
        self._done = done
        self._next = 0
        self._attempts = 0
        self._run: CheckRun | None = None
        self._again: CheckRun | None = None
        self._entries = [
            Entry(task.name, HealthState.UNHEALTHY, 0.0, "has not run yet", ("startup", "critical")) for task in tasks
        ]

    @property
    def complete(self) -> bool:
        """Whether every task has run."""
        return self._next >= len(self._tasks)

    def entries(self) -> list[Entry]:
        """Every task in a report."""
        return list(self._entries)

    def begin(self) -> None:
        """Run the next task; called in the health thread."""
        if self.complete:
            self._done()
            return
        task = self._tasks[self._next]
        self._attempts += 1
        self._entries[self._next] = self._entry(task, 0.0, "is running")

        def done(run: CheckRun, error: BaseException | None) -> None:
            self._schedule.soon(partial(self._finished, task, run, error))

        self._run = self._runs.begin(f"obs-startup-{task.name}", task.run, task.timeout, done, self._again)
        self._again = None
        self._schedule.after(task.timeout + 0.1, partial(self._overdue, task, self._run, time.monotonic()))
        self._schedule.after(RETRY_DELAY, partial(self._look, task, self._run))

    def _look(self, task: Task, run: CheckRun) -> None:
        if run is not self._run or run.ended:
            return
        if run.loop_closed:
            self._finished(task, run, asyncio.CancelledError())
        else:
            self._schedule.after(RETRY_DELAY, partial(self._look, task, run))

    def _overdue(self, task: Task, run: CheckRun, since: float) -> None:
        if run is self._run and not run.ended:
            self._failed(task, time.monotonic() - since, timeout_message(task.timeout), None)

    def _finished(self, task: Task, run: CheckRun, error: BaseException | None) -> None:
        if run is not self._run:
            return
        self._run = None
        if isinstance(error, asyncio.CancelledError) and self._attempts < ATTEMPTS:
            self._again = run
            self._schedule.after(
                RETRY_DELAY, self.begin
            )  # its event loop ended, as test clients have one for each request
        elif isinstance(error, asyncio.CancelledError):
            self._failed(task, run.duration, "was cancelled", None)
        elif error is not None:
            self._failed(task, run.duration, describe_exception(error), error)
        else:
            self._entries[self._next] = self._entry(task, run.duration, "")
            self._next += 1
            self._attempts = 0
            self._ended(task, run.duration, "", None)
            self.begin()

    def _failed(self, task: Task, seconds: float, reason: str, error: BaseException | None) -> None:
        self._run = None
        self._entries[self._next] = self._entry(task, seconds, reason)
        self._ended(task, seconds, reason, error)

    @staticmethod
    def _entry(task: Task, seconds: float, reason: str) -> Entry:
        state = HealthState.UNHEALTHY if reason else HealthState.HEALTHY
        return Entry(task.name, state, seconds, reason, ("startup", "critical"))
