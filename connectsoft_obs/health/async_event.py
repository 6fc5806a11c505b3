"""A fact that becomes true once, told to whoever waits: any thread sets it, asyncio and trio tasks await it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

Wake = Callable[[], object]


class AsyncEvent:
    """False until `set()`. Awaiting it waits until then; `bool()` tells without waiting.

    Safe from any thread and any number of event loops; a loop that has ended is not woken.
    """

    __slots__ = ("_lock", "_set", "_waiting")

    def __init__(self) -> None:
        self._set = False
        self._lock = threading.RLock()  # a signal handler may interrupt its holder
        self._waiting: list[Wake] = []

    def set(self) -> None:
        """Make it true, and wake whoever waits; doing it again changes nothing."""
        with self._lock:
            self._set = True
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            with suppress(RuntimeError):  # its loop is closed
                wake()

    def __bool__(self) -> bool:
        return self._set

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        wake, waiting = _waiter()
        with self._lock:
            if self._set:
                return
            self._waiting.append(wake)
        try:
            await waiting()
        finally:
            with self._lock:
                if wake in self._waiting:
                    self._waiting.remove(wake)


def _waiter() -> tuple[Wake, Callable[[], Any]]:
    """How a thread wakes the calling task, and how the task waits for that."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        trio: Any = sys.modules["trio"]  # the only other one there is: Starlette runs on these two
        event, token = trio.Event(), trio.lowlevel.current_trio_token()
        return lambda: token.run_sync_soon(event.set), event.wait
    future: asyncio.Future[None] = loop.create_future()

    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    async def waiting() -> None:
        await future

    return lambda: loop.call_soon_threadsafe(resolve), waiting
