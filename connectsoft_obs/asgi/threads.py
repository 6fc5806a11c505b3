"""A thread of our own for what would hold up the event loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from connectsoft_obs import daemons

T = TypeVar("T")


async def run(function: Callable[[], T]) -> T:
    """Call a function in a thread that ends with it, and wait for its result; under asyncio and trio alike.

    Where there can be no thread it is called here. Not in the loop's default pool: the application may have filled that with calls that wait for something.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        trio = sys.modules.get("trio")
        if trio is None:
            return function()
        result: T = await trio.to_thread.run_sync(function, limiter=trio.CapacityLimiter(1))
        return result
    done: asyncio.Future[T] = loop.create_future()
    if daemons.start("obs-page", _call, function, loop, done) is None:
        return function()
    return await done


def _call(function: Callable[[], T], loop: asyncio.AbstractEventLoop, done: asyncio.Future[T]) -> None:
    settle: Callable[[], None]
    try:
        settle = partial(done.set_result, function())
    except BaseException as error:  # noqa: BLE001  raised again where it is waited for
        settle = partial(done.set_exception, error)

    def tell() -> None:
        if not done.cancelled():
            settle()

    with suppress(RuntimeError):  # the loop was closed meanwhile; nobody waits
        loop.call_soon_threadsafe(tell)
