"""Rate limiting of repeated log events, with a summary of what was suppressed."""

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
"""Seconds in which records are counted."""

MAX_EVENTS: Final = 1000
"""Events that are counted separately within a window; records of further events are not limited."""


class EventKey(NamedTuple):
    """Identity of a log event.

    Below ERROR: level, logger and message. From ERROR on also the exception, where it was raised, and the fields of the
    log call. Correlation ids and bound attributes are not part of it.
    """

    level: int
    logger: str
    message: str
    error: str = ""
    raised_at: tuple[str, int] = ("", 0)
    content_hash: int = 0


LogSummary = Callable[[EventKey, int], None]


class RateLimiter:
    """Limits the records per second of each event. Thread-safe.

    Args:
        settings: the limits.
        log_summary: called with an event and the number of its suppressed records when the window is over.
        call_later: calls a function after a delay in seconds, if it can.
    """

    def __init__(
        self, settings: Settings, log_summary: LogSummary, call_later: Callable[[float, Callable[[], None]], None]
    ) -> None:
        self._error_limit = settings.log_error_rate_limit
        self._limit = settings.log_rate_limit
        self._log_summary = log_summary
        self._call_later = call_later
        self.min_level = 0 if self._limit else ERROR if self._error_limit else CRITICAL + 1000
        """Records below this level are never limited."""
        self.after_fork_in_child()
        register_fork_handler(self)

    def after_fork_in_child(self) -> None:
        """Initialise the state, also in a forked child: all counts are zero."""
        self._lock = threading.Lock()
        self._counts: dict[EventKey, int] = {}
        self._suppressed: dict[EventKey, int] = {}
        self._window_end = 0.0

    def allow(
        self, level: int, logger: str, message: str, fields: Mapping[str, Any], error: BaseException | None
    ) -> bool:
        """Whether a record may be written. Call it only for levels from `min_level` on."""
        limit = self._error_limit if level >= ERROR else self._limit
        if not limit:
            return True
        event = (
            _error_event(level, logger, message, fields, error) if level >= ERROR else EventKey(level, logger, message)
        )
        with self._lock:
            now = monotonic()
            summaries = self._start_window(now) if now >= self._window_end else ()
            count = self._counts.get(event, 0) + 1
            if count > 1 or len(self._counts) < MAX_EVENTS:
                self._counts[event] = count
            is_suppressed = count > limit
            is_first = is_suppressed and not self._suppressed
            if is_suppressed:
                self._suppressed[event] = self._suppressed.get(event, 0) + 1
        for past_event, number in summaries:
            self._log_summary(past_event, number)
        if is_first:
            self._call_later(WINDOW, self.flush_summaries)
        return not is_suppressed

    def flush_summaries(self, include_current: bool = False) -> None:
        """Log summaries of windows that are over; with `include_current` of the current window too."""
        with self._lock:
            now = monotonic()
            summaries = self._start_window(now) if include_current or now >= self._window_end else ()
        for event, number in summaries:
            self._log_summary(event, number)

    def _start_window(self, now: float) -> list[tuple[EventKey, int]]:
        summaries = list(self._suppressed.items())
        self._counts, self._suppressed = {}, {}
        self._window_end = now + WINDOW
        return summaries


def _error_event(
    level: int, logger: str, message: str, fields: Mapping[str, Any], error: BaseException | None
) -> EventKey:
    content_hash = hash(safe_str(fields)) if fields else 0
    if error is None:
        return EventKey(level, logger, message, content_hash=content_hash)
    content_hash ^= hash(safe_str(error, str))
    return EventKey(level, logger, message, exception_name(error), _raised_at(error.__traceback__), content_hash)


def _raised_at(trace: TracebackType | None) -> tuple[str, int]:
    """File and line at which an exception was raised."""
    if trace is None:
        return "", 0
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename, trace.tb_lineno
