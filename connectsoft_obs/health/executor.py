"""Executes runs of checks and startup tasks: async functions on an event loop, other functions in a pool thread.

Async functions run on the application's event loop, because its pools and clients belong to that loop. Workers without
an event loop and applications on trio have no asyncio loop; there a daemon thread runs one. On it, a check that needs
trio fails with the error that trio raises.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

from opentelemetry.context import attach

from connectsoft_obs.context.suppression import suppressed_context
from connectsoft_obs.health.checks import CheckFunction
from connectsoft_obs.health.daemon_threads import DaemonThreadPool
from connectsoft_obs.process.threads import start_thread
from connectsoft_obs.redaction import safe_str

OnDone = Callable[["CheckRun", BaseException | None], None]


class CheckRun:
    """One run. Times are seconds of the monotonic clock, 0 if the run has not started or not finished."""

    __slots__ = ("finished_at", "loop", "started_at", "timed_out")

    def __init__(self) -> None:
        self.started_at: float = 0.0
        self.finished_at: float = 0.0
        self.timed_out: bool = False
        """Whether a timeout was recorded as the result; the function may still be running."""
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop of an async function."""

    @property
    def duration(self) -> float:
        """Duration in seconds, up to now for a run in progress."""
        return ((self.finished_at or time.monotonic()) - self.started_at) if self.started_at else 0.0

    @property
    def loop_closed(self) -> bool:
        """Whether the run can never finish because its event loop was closed before."""
        loop = self.loop
        # Ask the loop first: a run that finishes just before its loop closes has set `finished_at` by then.
        return loop is not None and loop.is_closed() and not self.finished_at


class NoThreadError(Exception):
    """Every pool thread is busy with a run that does not return."""


class LoopRunner:
    """Provides the application's event loop, or one in a daemon thread if the application has none."""

    def __init__(self) -> None:
        self._application_loop: asyncio.AbstractEventLoop | None = None
        self._own_loop: asyncio.AbstractEventLoop | None = None

    def use_running_loop(self) -> bool:
        """Use the running loop of the caller from now on, unless the previous one still runs. Returns whether it is new."""
        if self._application_loop is not None and self._application_loop.is_running():
            return False
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        self._application_loop = loop
        return True

    def current_loop(self) -> asyncio.AbstractEventLoop:
        """The application's loop if it is not closed, otherwise the loop in a daemon thread."""
        loop = self._application_loop
        return loop if loop is not None and not loop.is_closed() else self.own_loop()

    def own_loop(self) -> asyncio.AbstractEventLoop:
        """The loop in a daemon thread, which is not closed before `stop()`.

        Raises:
            RuntimeError: its thread cannot be started.
        """
        if self._own_loop is None:
            loop = asyncio.new_event_loop()
            if start_thread("obs-health-loop", _run_loop, loop) is None:
                loop.close()
                raise RuntimeError("the thread for the event loop of health checks cannot be started")
            self._own_loop = loop
        return self._own_loop

    def stop(self) -> None:
        """Stop the loop in the daemon thread, and forget the application's loop."""
        own_loop, self._own_loop, self._application_loop = self._own_loop, None, None
        if own_loop is not None:
            own_loop.call_soon_threadsafe(own_loop.stop)

    def after_fork_in_child(self) -> None:
        """Forget both loops, which do not run in a forked child."""
        self._application_loop = self._own_loop = None


class CheckExecutor:
    """Starts runs. Each calls `on_done(run, error)` in the thread that ran it, unless `CheckRun.loop_closed`."""

    def __init__(self, pool: DaemonThreadPool, loop_runner: LoopRunner) -> None:
        self._pool = pool
        self._loop_runner = loop_runner
        self._tasks: set[asyncio.Task[None]] = set()

    def start(
        self,
        name: str,
        function: CheckFunction,
        timeout: float,
        on_done: OnDone,
        cancelled_run: CheckRun | None = None,
    ) -> CheckRun:
        """Start a run. An async function is cancelled after `timeout` seconds; a thread cannot be cancelled.

        `cancelled_run` is a run that is repeated because it was cancelled or its loop was closed. If its loop was closed,
        this run uses the loop in a daemon thread: the application's next loop may be closed as well, as with test
        clients that create a loop for each request.
        """
        run = CheckRun()
        if cancelled_run is not None and cancelled_run.loop is not None and cancelled_run.loop.is_closed():
            run.loop = self._loop_runner.own_loop()
        if is_async(function):
            self._run_on_loop(name, function, timeout, run, on_done)
        elif not self._pool.run(name, lambda: self._run_in_thread(name, function, timeout, run, on_done)):
            on_done(run, NoThreadError("every thread for checks is busy"))
        return run

    def _run_in_thread(
        self, name: str, function: CheckFunction, timeout: float, run: CheckRun, on_done: OnDone
    ) -> None:
        run.started_at = time.monotonic()
        error: BaseException | None = None
        try:
            result = _suppressed_context().run(function)
        except BaseException as raised:  # noqa: BLE001  checks fail by raising, and SystemExit is a failure as well
            error = raised
        else:
            if inspect.isawaitable(result):  # a plain function that returns a coroutine
                self._run_on_loop(name, lambda: result, timeout, run, on_done)
                return
        run.finished_at = time.monotonic()
        on_done(run, error)

    def _run_on_loop(
        self, name: str, function: Callable[[], Awaitable[Any]], timeout: float, run: CheckRun, on_done: OnDone
    ) -> None:
        def create_task() -> None:
            task = _suppressed_context().run(loop.create_task, self._await(function, timeout, run, on_done))
            task.set_name(name)
            self._tasks.add(task)
            task.add_done_callback(on_task_done)

        def on_task_done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not run.finished_at:  # cancelled before its first step
                run.finished_at = time.monotonic()
                on_done(run, asyncio.CancelledError())

        run.loop = loop = run.loop or self._loop_runner.current_loop()
        try:
            loop.call_soon_threadsafe(create_task)
        except RuntimeError:  # closed in the meantime
            on_done(run, asyncio.CancelledError())

    @staticmethod
    async def _await(function: Callable[[], Awaitable[Any]], seconds: float, run: CheckRun, on_done: OnDone) -> None:
        run.started_at = run.started_at or time.monotonic()
        error: BaseException | None = None
        try:
            async with asyncio.timeout(seconds) as timeout:
                await function()
        except TimeoutError as raised:
            error = TimeoutError(timeout_message(seconds)) if timeout.expired() else raised
        except BaseException as raised:  # noqa: BLE001  a SystemExit that leaves a task would end the server
            error = raised
        run.finished_at = time.monotonic()
        on_done(run, error)


def is_async(function: CheckFunction) -> bool:
    """Whether a function, or the `__call__` of an object, is a coroutine function."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def timeout_message(seconds: float) -> str:
    """The failure reason of a run that exceeded its timeout."""
    return f"timed out after {seconds:g} s"


def describe_exception(error: BaseException) -> str:
    """The failure reason for an exception: its class and text."""
    text = safe_str(error, str)
    name = type(error).__name__
    return text if text.startswith("timed out after ") else f"{name}: {text}" if text else name


def _suppressed_context() -> Context:
    """A new context in which outgoing calls of a check create no telemetry."""
    context = Context()
    context.run(attach, suppressed_context())
    return context


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
