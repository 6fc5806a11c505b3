"""Threads of `loop.run_in_executor` that know what runs: the trace, the operation, whatever a ContextVar holds.

`asyncio.to_thread` and the frameworks' thread pools carry the context; the loop's default executor does not.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ContextExecutor(ThreadPoolExecutor):
    """The executor that an event loop makes for itself, except that each call runs in a copy of its caller's context."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="asyncio")

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a call in a thread, in the context of whoever submits it."""
        context = copy_context()
        return super().submit(lambda: context.run(fn, *args, **kwargs))


def carry_context(loop: asyncio.AbstractEventLoop) -> bool:
    """Give a loop an executor that carries the context; False for a loop that has an executor already, which stays."""
    if _has_executor(loop):
        return False
    loop.set_default_executor(ContextExecutor())
    return True


def _has_executor(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a loop holds an executor. There is no question for it, so we look at what it refers to."""
    held: list[Any] = gc.get_referents(loop)
    held += [value for one in held if isinstance(one, dict) for value in one.values()]
    return any(isinstance(one, Executor) for one in held)
