"""One-shot event that threads can set and asyncio or trio tasks can await."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

WakeUp = Callable[[], object]


class AsyncEvent:
    """False until `set()` is called. Awaiting it waits for that; `bool()` returns the current value.

    Safe from any thread and any number of event loops. Waiters of a closed loop are skipped.
    """

    __slots__ = ("_is_set", "_lock", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._lock = threading.RLock()  # a signal handler may interrupt the thread that holds it
        self._waiters: list[WakeUp] = []

    def set(self) -> None:
        """Set the event and wake all waiters. Idempotent."""
        with self._lock:
            self._is_set = True
            waiters, self._waiters = self._waiters, []
        for wake_up in waiters:
            with suppress(RuntimeError):  # its event loop is closed
                wake_up()

    def __bool__(self) -> bool:
        return self._is_set

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        wake_up, wait = _create_waiter()
        with self._lock:
            if self._is_set:
                return
            self._waiters.append(wake_up)
        try:
            await wait()
        finally:
            with self._lock:
                if wake_up in self._waiters:
                    self._waiters.remove(wake_up)


def _create_waiter() -> tuple[WakeUp, Callable[[], Any]]:
    """A function that wakes the calling task from any thread, and a function that the task awaits until then."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        trio: Any = sys.modules["trio"]  # Starlette supports asyncio and trio only
        event, token = trio.Event(), trio.lowlevel.current_trio_token()
        return lambda: token.run_sync_soon(event.set), event.wait
    future: asyncio.Future[None] = loop.create_future()

    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    async def wait() -> None:
        await future

    return lambda: loop.call_soon_threadsafe(resolve), wait
