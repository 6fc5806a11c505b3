"""Propagates the context of a call to the threads of executors.

`asyncio.to_thread` and the thread pools of the frameworks propagate all context variables; the default executor of the
loop and `ThreadPoolExecutor` propagate none. This module propagates all context variables to the default executor of the
loop, and the OpenTelemetry context (span, operation and baggage) to a `ThreadPoolExecutor`.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from opentelemetry.context import Context

from connectsoft_obs.context import otel_context

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


_is_submit_wrapped = False


def propagate_to_thread_pools(is_enabled: Callable[[], bool]) -> None:
    """Run calls in a `ThreadPoolExecutor` in the OpenTelemetry context of their caller.

    The class is patched once per process. A call that has no span, operation or baggage is submitted unchanged.

    Args:
        is_enabled: returns whether to propagate the context; called for each call that has one.
    """
    global _is_submit_wrapped
    if _is_submit_wrapped:
        return
    _is_submit_wrapped = True
    submit: Any = ThreadPoolExecutor.submit

    @wraps(submit)
    def submit_in_context(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        context = otel_context.get_current()
        if context and is_enabled():
            return submit(self, _call_with_context, context, fn, *args, **kwargs)
        return submit(self, fn, *args, **kwargs)

    ThreadPoolExecutor.submit = submit_in_context  # type: ignore[method-assign]


def _call_with_context(context: Context, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    token = otel_context.attach(context)
    try:
        return function(*args, **kwargs)
    finally:
        otel_context.detach(token)
