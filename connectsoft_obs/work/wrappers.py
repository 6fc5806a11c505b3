"""Wraps functions, coroutine functions and generators so that each call is recorded as a run."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from time import perf_counter_ns
from types import CoroutineType
from typing import Any, TypeAlias, TypeVar

from connectsoft_obs.work.run import Run

T = TypeVar("T")


async def with_deadline(run: Run, work: Awaitable[T]) -> T:
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


Function: TypeAlias = Callable[..., Any]
RunFactory: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Run]
"""Makes the run of one call from its arguments. Must not raise."""


def wrap(function: Function, open_run: RunFactory, timeout: float | None) -> Function:
    """A function of the same kind and signature whose calls are runs."""
    inner = function if inspect.isroutine(function) or isinstance(function, functools.partial) else function.__call__  # type: ignore[operator]
    if inspect.isasyncgenfunction(inner):
        wrapper = _async_generator(function, open_run)
    elif inspect.isgeneratorfunction(inner):
        wrapper = _generator(function, open_run)
    elif inspect.iscoroutinefunction(inner):
        wrapper = _coroutine(function, open_run) if timeout is None else _limited_coroutine(function, open_run)
    else:
        wrapper = _plain(function, open_run)
    return functools.wraps(function)(wrapper)


def _plain(function: Function, open_run: RunFactory) -> Function:
    def call(*args: Any, **kwargs: Any) -> Any:
        with open_run(args, kwargs) as run:
            result = function(*args, **kwargs)
            if type(result) is CoroutineType:
                run.warn("a plain function returned a coroutine: its run covers the call and not what is awaited")
            return result

    return call


def _coroutine(function: Function, open_run: RunFactory) -> Function:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with open_run(args, kwargs):
            return await function(*args, **kwargs)

    return call


def _limited_coroutine(function: Function, open_run: RunFactory) -> Function:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with open_run(args, kwargs) as run:
            return await with_deadline(run, function(*args, **kwargs))

    return call


def _generator(function: Function, open_run: RunFactory) -> Function:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        run = open_run(args, kwargs)
        run.begin()
        try:
            result = yield from _steps(run, function(*args, **kwargs))
        except GeneratorExit:  # whoever iterates has had enough
            run.end(None)
            raise
        except BaseException as error:
            run.end(error)
            raise
        run.end(None)
        return result

    return call


def _steps(run: Run, inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """`yield from`, with the run current inside `inner` and nowhere else."""
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
        except BaseException as thrown:  # noqa: BLE001  it belongs to the generator
            resume, argument = inner.throw, thrown


def _async_generator(function: Function, open_run: RunFactory) -> Function:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        run = open_run(args, kwargs)
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
                except BaseException as thrown:  # noqa: BLE001  it belongs to the generator
                    resume, argument = inner.athrow, thrown
        except GeneratorExit:  # whoever iterates has had enough
            run.end(None)
            raise
        except BaseException as error:
            run.end(error)
            raise
        run.end(None)

    return call
