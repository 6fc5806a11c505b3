"""The time limit of an async run: enforced where the event loop can, on asyncio and on trio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from time import perf_counter_ns
from typing import Any, TypeVar

from connectsoft_obs.work.run import Run

T = TypeVar("T")


async def limited(run: Run, work: Awaitable[T]) -> T:
    """Wait for one step of a run, at most until its deadline.

    Raises:
        TimeoutError: the deadline came first; the step was cancelled as the event loop cancels tasks.
    """
    deadline = run.deadline_ns
    if deadline is None:
        return await work
    left = max(0.0, (deadline - perf_counter_ns()) / 1e9)
    if (trio := _trio()) is not None:
        with trio.move_on_after(left):
            return await work
        raise _struck(run)
    if _task() is None:  # an event loop that we do not know
        return await work
    limit = asyncio.timeout(left)
    try:
        async with limit:
            return await work
    except TimeoutError as error:
        if limit.expired():
            raise _struck(run) from error.__cause__
        raise


def _struck(run: Run) -> TimeoutError:
    run.struck = True
    message = f"{run.name} took longer than {run.terms.timeout:g} s"
    return TimeoutError(message)


def _trio() -> Any:
    """The trio module, when the calling coroutine is one of its tasks."""
    trio = sys.modules.get("trio")
    try:
        trio.lowlevel.current_task()  # type: ignore[union-attr]
    except (AttributeError, RuntimeError):
        return None
    return trio


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
