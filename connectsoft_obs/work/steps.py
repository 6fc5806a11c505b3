"""How a function of each kind is run: def, async def, generator, async generator; a run lasts as long as its work.

A generator's run begins with its first step and ends when it is exhausted, closed or fails. It is current inside each
step and never for whoever iterates; a generator that is never iterated is never run.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from types import CoroutineType
from typing import Any, TypeAlias

from connectsoft_obs.work.limits import limited
from connectsoft_obs.work.run import Run

Function: TypeAlias = Callable[..., Any]
Open: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Run]
"""Makes the run of one call from its arguments. Must not raise."""


def observed(function: Function, open_run: Open, timeout: float | None) -> Function:
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


def _plain(function: Function, open_run: Open) -> Function:
    def call(*args: Any, **kwargs: Any) -> Any:
        with open_run(args, kwargs) as run:
            result = function(*args, **kwargs)
            if type(result) is CoroutineType:
                run.warn("a plain function returned a coroutine: its run covers the call and not what is awaited")
            return result

    return call


def _coroutine(function: Function, open_run: Open) -> Function:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with open_run(args, kwargs):
            return await function(*args, **kwargs)

    return call


def _limited_coroutine(function: Function, open_run: Open) -> Function:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with open_run(args, kwargs) as run:
            return await limited(run, function(*args, **kwargs))

    return call


def _generator(function: Function, open_run: Open) -> Function:
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


def _async_generator(function: Function, open_run: Open) -> Function:
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
                    value = await limited(run, resume(argument))
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
