"""Long work in a background thread that lets the event loop run in between."""

from __future__ import annotations

import time

_WORK = 0.001
_REST = 0.0005


class Pauses:
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


def never() -> None:
    """No pause, for callers that nobody waits for."""
