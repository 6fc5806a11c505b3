"""Long work in a background thread that lets the event loop run in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_WORK = 0.001
_REST = 0.0005


class CooperativePause:
    """Called between small steps, it rests after each millisecond of work.

    A thread that computes gives up the GIL only when it is made to, 5 ms later, and the event loop asks for it after
    each of its system calls. Half a millisecond of sleep, rather than none, is what hands it over for certain.
    """

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def __call__(self) -> None:
        """Rest if it is time to."""
        if time.perf_counter() - self._since > _WORK:
            time.sleep(_REST)
            self._since = time.perf_counter()


class PausingList(list[Any]):
    """A list that rests while somebody goes through it: Azure's exporter takes 0.2 ms for each span or point.

    Args:
        items: what is in it.
        pause: called before each item; a rest after each millisecond by default.
    """

    def __init__(self, items: Iterable[Any], pause: Callable[[], None] | None = None) -> None:
        super().__init__(items)
        self._pause = pause or CooperativePause()

    def __iter__(self) -> Iterator[Any]:
        """Item by item."""
        for item in super().__iter__():
            self._pause()
            yield item


def no_pause() -> None:
    """No pause, for callers that nobody waits for."""
