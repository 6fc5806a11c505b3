"""Default executor of an asyncio event loop that carries the context to its threads: span, operation, context variables.

`asyncio.to_thread` and the thread pools of the frameworks carry the context; the default executor of the loop does not.
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
    """Like the default executor of asyncio, but each call runs in a copy of the context of its caller."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="asyncio")

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a call in a thread, in a copy of the current context."""
        context = copy_context()
        return super().submit(lambda: context.run(fn, *args, **kwargs))


def carry_context(loop: asyncio.AbstractEventLoop) -> bool:
    """Set a `ContextExecutor` as the default executor of a loop. Return False if the loop has an executor already."""
    if _has_executor(loop):
        return False
    loop.set_default_executor(ContextExecutor())
    return True


def _has_executor(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a loop has a default executor. There is no public method, so its references are searched."""
    referents: list[Any] = gc.get_referents(loop)
    referents += [value for referent in referents if isinstance(referent, dict) for value in referent.values()]
    return any(isinstance(referent, Executor) for referent in referents)
