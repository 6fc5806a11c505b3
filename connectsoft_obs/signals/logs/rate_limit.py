"""What keeps one event from drowning all others: so many lines a second, then a summary of the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from time import monotonic
from types import TracebackType
from typing import Any, Final, NamedTuple

from connectsoft_obs.operations import exception_name
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.redaction import safe_str
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs.levels import CRITICAL, ERROR

WINDOW: Final = 1.0
"""Seconds in which lines are counted."""

EVENTS: Final = 1000
"""Events that are told apart within a window; lines of further ones are all written."""


class Event(NamedTuple):
    """What makes two lines the same event: below ERROR what is said, from there on all that it says.

    What differs from request to request, such as the trace, does not count.
    """

    level: int
    logger: str
    message: str
    error: str = ""
    where: tuple[str, int] = ("", 0)
    told: int = 0


Summarise = Callable[[Event, int], None]


class RateLimiter:
    """Counts lines by event and lets so many of each through a second. Thread-safe.

    Args:
        settings: how many.
        summarise: told of each event that was held back, and how often, when its second is over.
        later: runs a function after so many seconds, if it can.
    """

    def __init__(
        self, settings: Settings, summarise: Summarise, later: Callable[[float, Callable[[], None]], None]
    ) -> None:
        self._errors = settings.log_error_rate_limit
        self._events = settings.log_rate_limit
        self._summarise = summarise
        self._later = later
        self.lowest = 0 if self._events else ERROR if self._errors else CRITICAL + 1000
        self.after_fork_in_child()
        register_fork_handler(self)

    def after_fork_in_child(self) -> None:
        """In a forked child, and at first: nothing was counted."""
        self._lock = threading.Lock()
        self._seen: dict[Event, int] = {}
        self._held: dict[Event, int] = {}
        self._until = 0.0

    def allow(
        self, level: int, logger: str, message: str, given: Mapping[str, Any], error: BaseException | None
    ) -> bool:
        """Whether a line may be written; asked only for levels from `lowest` on."""
        limit = self._errors if level >= ERROR else self._events
        if not limit:
            return True
        event = _error(level, logger, message, given, error) if level >= ERROR else Event(level, logger, message)
        with self._lock:
            now = monotonic()
            over = self._roll(now) if now >= self._until else ()
            seen = self._seen.get(event, 0) + 1
            if seen > 1 or len(self._seen) < EVENTS:
                self._seen[event] = seen
            held = seen > limit
            first = held and not self._held
            if held:
                self._held[event] = self._held.get(event, 0) + 1
        for past, number in over:
            self._summarise(past, number)
        if first:
            self._later(WINDOW, self.flush_summaries)
        return not held

    def flush_summaries(self, whole: bool = False) -> None:
        """Tell what was held back in windows that are over, or with `whole` in the present one too."""
        with self._lock:
            now = monotonic()
            over = self._roll(now) if whole or now >= self._until else ()
        for past, number in over:
            self._summarise(past, number)

    def _roll(self, now: float) -> list[tuple[Event, int]]:
        over = list(self._held.items())
        self._seen, self._held = {}, {}
        self._until = now + WINDOW
        return over


def _error(level: int, logger: str, message: str, given: Mapping[str, Any], error: BaseException | None) -> Event:
    told = hash(safe_str(given)) if given else 0
    if error is None:
        return Event(level, logger, message, told=told)
    told ^= hash(safe_str(error, str))
    return Event(level, logger, message, exception_name(error), _raised(error.__traceback__), told)


def _raised(trace: TracebackType | None) -> tuple[str, int]:
    """File and line where an exception was raised."""
    if trace is None:
        return "", 0
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename, trace.tb_lineno
