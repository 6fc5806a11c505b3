"""Wraps functions, coroutine functions and generators so that each call is recorded: as a run or as a plain span."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextvars import Token
from time import perf_counter_ns
from types import CoroutineType, TracebackType
from typing import Any, Protocol, TypeAlias, TypeVar

from opentelemetry.context import Context

T = TypeVar("T")


class CallRecord(Protocol):
    """Records one call: a `Run` or a `SpanBlock`."""

    def __enter__(self) -> Any:
        """Start the record and make it current."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """End the record."""

    @property
    def deadline_ns(self) -> int | None:
        """Deadline in nanoseconds of `time.perf_counter_ns`, None without a timeout."""

    def begin(self) -> bool:
        """Start the record without making it current; False if nothing is recorded."""

    def resume(self) -> Token[Context] | None:
        """Make the record current for one step; pass the token to `pause`."""

    def pause(self, token: Token[Context] | None) -> None:
        """End a step and keep its context for the next step."""

    def end(self, error: BaseException | None) -> None:
        """End the record."""

    def warn(self, message: str) -> None:
        """Log a warning about this call once."""


async def with_deadline(run: CallRecord, work: Awaitable[T]) -> T:
    """Await one step of a run, until its deadline.

    Raises:
        TimeoutError: the deadline passed; the step was cancelled.
    """
    deadline = run.deadline_ns
    if deadline is None:
        return await work
    remaining = max(0.0, (deadline - perf_counter_ns()) / 1e9)
    if (trio := _current_trio()) is not None:
        with trio.move_on_after(remaining):
            return await work
        raise _timeout_error(run)
    if _current_task() is None:  # an unknown event loop
        return await work
    limit = asyncio.timeout(remaining)
    try:
        async with limit:
            return await work
    except TimeoutError as error:
        if limit.expired():
            raise _timeout_error(run) from error.__cause__
        raise


def _timeout_error(run: Any) -> TimeoutError:
    run.timed_out = True
    message = f"{run.name} took longer than {run.options.timeout:g} s"
    return TimeoutError(message)


def _current_trio() -> Any:
    """The trio module if the calling coroutine is a trio task, else None."""
    trio = sys.modules.get("trio")
    try:
        trio.lowlevel.current_task()  # type: ignore[union-attr]
    except (AttributeError, RuntimeError):
        return None
    return trio


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


Function: TypeAlias = Callable[..., Any]
RunFactory: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], CallRecord]
"""Creates the record of one call from its arguments. Must not raise."""


def wrap(function: Function, create_run: RunFactory, timeout: float | None) -> Function:
    """Wrap a function so that each call is recorded; kind and signature stay the same."""
    inner = _innermost(function)
    if inspect.isasyncgenfunction(inner):
        wrapper = _wrap_async_generator(function, create_run)
    elif _is_generator_coroutine(inner):
        coroutine_wrapper = _wrap_coroutine_with_deadline(function, create_run)
        wrapper = types.coroutine(_wrap_generator_coroutine(coroutine_wrapper))
    elif inspect.isgeneratorfunction(inner):
        wrapper = _wrap_generator(function, create_run)
    elif inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(function):
        wrapper = (
            _wrap_coroutine(function, create_run)
            if timeout is None
            else _wrap_coroutine_with_deadline(function, create_run)
        )
    else:
        wrapper = _wrap_function(function, create_run)
    return functools.wraps(function)(wrapper)


def _innermost(function: Function) -> Function:
    """The function that decides the kind of a callable: without partials; of an object, its `__call__`."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else function.__call__  # type: ignore[operator]


def _is_generator_coroutine(function: Function) -> bool:
    """Whether `types.coroutine` has made a generator function awaitable."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)


def _wrap_generator_coroutine(coroutine_function: Function) -> Function:
    """A generator function for `types.coroutine`: callers can await it and use it with `yield from`, as before."""

    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return (yield from coroutine_function(*args, **kwargs).__await__())

    return call


def _wrap_function(function: Function, create_run: RunFactory) -> Function:
    def call(*args: Any, **kwargs: Any) -> Any:
        with (run := create_run(args, kwargs)):
            result = function(*args, **kwargs)
            kind = type(result)
            if kind is CoroutineType or (hasattr(kind, "__await__") and inspect.isawaitable(result)):
                run.warn("function returned an awaitable; the run covers only the call, not the awaited work")
            return result

    return call


def _wrap_coroutine(function: Function, create_run: RunFactory) -> Function:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with create_run(args, kwargs):
            return await function(*args, **kwargs)

    return call


def _wrap_coroutine_with_deadline(function: Function, create_run: RunFactory) -> Function:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with (run := create_run(args, kwargs)):
            return await with_deadline(run, function(*args, **kwargs))

    return call


def _wrap_generator(function: Function, create_run: RunFactory) -> Function:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        run = create_run(args, kwargs)
        run.begin()
        try:
            result = yield from _iterate(run, function(*args, **kwargs))
        except GeneratorExit:  # the caller stopped iterating
            run.end(None)
            raise
        except BaseException as error:
            run.end(error)
            raise
        run.end(None)
        return result

    return call


def _iterate(run: CallRecord, inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """`yield from` that makes the run current only inside `inner`."""
    resume: Function = inner.send
    argument: Any = None
    while True:
        token = run.resume()
        try:
            value = resume(argument)
        except StopIteration as stop:
            return stop.value
        finally:
            run.pause(token)
        try:
            argument = yield value
            resume = inner.send
        except GeneratorExit:
            token = run.resume()
            try:
                inner.close()
            finally:
                run.pause(token)
            raise
        except BaseException as thrown:  # noqa: BLE001  passed to the generator
            resume, argument = inner.throw, thrown


def _wrap_async_generator(function: Function, create_run: RunFactory) -> Function:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        run = create_run(args, kwargs)
        run.begin()
        inner = function(*args, **kwargs)
        resume: Function = inner.asend
        argument: Any = None
        try:
            while True:
                token = run.resume()
                try:
                    value = await with_deadline(run, resume(argument))
                except StopAsyncIteration:
                    break
                finally:
                    run.pause(token)
                try:
                    argument = yield value
                    resume = inner.asend
                except GeneratorExit:
                    token = run.resume()
                    try:
                        await inner.aclose()
                    finally:
                        run.pause(token)
                    raise
                except BaseException as thrown:  # noqa: BLE001  passed to the generator
                    resume, argument = inner.athrow, thrown
        except GeneratorExit:  # the caller stopped iterating
            run.end(None)
            raise
        except BaseException as error:
            run.end(error)
            raise
        run.end(None)

    return call
