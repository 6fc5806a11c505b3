"""One call of a check or a start-up task: async on an event loop, other functions in a thread, never on ours."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

from opentelemetry.context import attach

from connectsoft_obs.context.suppression import suppressed_context
from connectsoft_obs.health.checks import Function
from connectsoft_obs.health.event_loop import LoopRunner
from connectsoft_obs.health.thread_pool import DaemonThreadPool
from connectsoft_obs.redaction import safe_str

Done = Callable[["CheckRun", BaseException | None], None]


class CheckRun:
    """One call. Times are seconds of the monotonic clock, 0 for what has not happened."""

    __slots__ = ("begun", "ended", "judged", "loop")

    def __init__(self) -> None:
        self.begun: float = 0.0
        self.ended: float = 0.0
        self.judged: bool = False
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where it was sent to, if it is async."""

    @property
    def duration(self) -> float:
        """Seconds it took, or has taken so far."""
        return ((self.ended or time.monotonic()) - self.begun) if self.begun else 0.0

    @property
    def loop_closed(self) -> bool:
        """Whether it will never end: its event loop was closed with it inside, and nobody was told."""
        loop = self.loop  # asked first: what ends a run on a loop that is about to close has ended it by then
        return loop is not None and loop.is_closed() and not self.ended


class NoThreadError(Exception):
    """Every thread for checks is busy with a call that does not return."""


class CheckExecutor:
    """Begins calls; each ends by `done(run, error)`, in the thread it ran in, unless it is `lost` with its loop."""

    def __init__(self, threads: DaemonThreadPool, loops: LoopRunner) -> None:
        self._threads = threads
        self._loops = loops
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(
        self, name: str, function: Function, timeout: float, done: Done, again: CheckRun | None = None
    ) -> CheckRun:
        """Begin a call. An async one is cancelled after `timeout` seconds; a thread cannot be.

        `again` is the call that has to be made again because it was cancelled or lost. Where its loop was closed, the
        next one of the application may not last either, as with test clients that have a loop for each request: this
        call is on a loop of our own.
        """
        run = CheckRun()
        if again is not None and again.loop is not None and again.loop.is_closed():
            run.loop = self._loops.own()
        if is_async(function):
            self._on_loop(name, function, timeout, run, done)
        elif not self._threads.run(name, lambda: self._in_thread(name, function, timeout, run, done)):
            done(run, NoThreadError("every thread for checks is busy"))
        return run

    def _in_thread(self, name: str, function: Function, timeout: float, run: CheckRun, done: Done) -> None:
        run.begun = time.monotonic()
        error: BaseException | None = None
        try:
            result = _quiet().run(function)
        except BaseException as raised:  # noqa: BLE001  failing is what checks do, and SystemExit is a failure too
            error = raised
        else:
            if inspect.isawaitable(result):  # a plain function around an async call
                self._on_loop(name, lambda: result, timeout, run, done)
                return
        run.ended = time.monotonic()
        done(run, error)

    def _on_loop(
        self, name: str, function: Callable[[], Awaitable[Any]], timeout: float, run: CheckRun, done: Done
    ) -> None:
        def begin() -> None:
            task = _quiet().run(loop.create_task, self._awaited(function, timeout, run, done))
            task.set_name(name)
            self._tasks.add(task)
            task.add_done_callback(ended)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not run.ended:  # cancelled before its first step
                run.ended = time.monotonic()
                done(run, asyncio.CancelledError())

        run.loop = loop = run.loop or self._loops.current()
        try:
            loop.call_soon_threadsafe(begin)
        except RuntimeError:  # closed since we asked
            done(run, asyncio.CancelledError())

    @staticmethod
    async def _awaited(function: Callable[[], Awaitable[Any]], seconds: float, run: CheckRun, done: Done) -> None:
        run.begun = run.begun or time.monotonic()
        error: BaseException | None = None
        try:
            async with asyncio.timeout(seconds) as limit:
                await function()
        except TimeoutError as raised:
            error = TimeoutError(timeout_message(seconds)) if limit.expired() else raised
        except BaseException as raised:  # noqa: BLE001  a SystemExit that leaves a task would end the server
            error = raised
        run.ended = time.monotonic()
        done(run, error)


def is_async(function: Function) -> bool:
    """Whether calling it gives a coroutine; also for objects whose `__call__` does."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def timeout_message(seconds: float) -> str:
    """What is said of a call that took too long."""
    return f"timed out after {seconds:g} s"


def describe_exception(error: BaseException) -> str:
    """An exception as a reason."""
    text = safe_str(error, str)
    name = type(error).__name__
    return text if text.startswith("timed out after ") else f"{name}: {text}" if text else name


def _quiet() -> Context:
    """A fresh context, in which what a check asks of others is nobody's telemetry."""
    context = Context()
    context.run(attach, suppressed_context())
    return context
