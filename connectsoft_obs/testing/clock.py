"""A clock that stands still and is advanced by the test, for comparisons of timestamps and durations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from time import perf_counter_ns
from typing import Final

from connectsoft_obs.errors import ConfigurationError

_PATCHED_MODULES: Final = (
    "asgi.instrumentation", "asgi.request", "asgi.websocket",
    "signals.logs.pipeline", "signals.metrics.series", "signals.tracing.provider", "signals.tracing.span",
    "work.genai", "work.heartbeats", "work.message", "work.producers", "work.run", "work.schedule_metrics", "work.span_api", "work.wrappers",
)  # fmt: skip
"""Modules that read the time of telemetry. They import the functions of `time` by name, so no indirection is needed."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DEFAULT_START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """The clock of telemetry inside `frozen_clock()`. Thread-safe if only one thread advances it.

    Args:
        start: initial time, with a time zone.
    """

    def __init__(self, start: datetime) -> None:
        # Full microseconds, because a float of seconds since 1970 cannot represent nanoseconds.
        self._wall_ns = (start - _EPOCH) // timedelta(microseconds=1) * 1000
        self._monotonic_ns = perf_counter_ns()  # not before the start of operations that were started outside the block

    @property
    def now(self) -> datetime:
        """The current time of the clock, in UTC, in full microseconds."""
        return _EPOCH + timedelta(microseconds=self._wall_ns // 1000)

    def advance(self, seconds: float) -> None:
        """Advance the clock.

        Args:
            seconds: time to add, with a resolution of one nanosecond.

        Raises:
            ConfigurationError: the value is negative; durations would be negative.
        """
        if seconds < 0:
            raise ConfigurationError(
                f"advance({seconds!r})", "the clock cannot go backwards", "Pass zero or a positive number of seconds."
            )
        nanoseconds = round(seconds * 1e9)
        self._wall_ns += nanoseconds
        self._monotonic_ns += nanoseconds

    # --- Replacements of the functions of the module `time` -----------------------------------------------------------
    def time(self) -> float:
        """Seconds since 1970."""
        return self._wall_ns / 1_000_000_000  # a division of two integers is rounded only once

    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        return self._wall_ns

    def perf_counter_ns(self) -> int:
        """Nanoseconds since an undefined reference point, for durations."""
        return self._monotonic_ns


@contextmanager
def frozen_clock(start: datetime = _DEFAULT_START) -> Iterator[Clock]:
    """Freeze the clock of telemetry: timestamps of spans, log lines and samples, and durations.

    The test advances the clock. The application's `time` and `datetime`, timeouts, intervals of health checks, rate
    limits and draining use the real clock. The clock is frozen for all threads of the process, so only one test at a
    time can use it; workers of pytest-xdist are separate processes. Blocks can be nested; the innermost one applies.

    Args:
        start: initial time, with a time zone; 2026-01-01T00:00:00Z by default.

    Raises:
        ConfigurationError: the datetime has no time zone.
    """
    if start.tzinfo is None:
        reason = "the datetime has no time zone, so it would depend on the local time zone"
        raise ConfigurationError(f"frozen_clock({start!r})", reason, "Add tzinfo=datetime.UTC.")
    clock = Clock(start)
    namespaces = [vars(import_module(f"connectsoft_obs.{name}")) for name in _PATCHED_MODULES]
    names = ("time", "time_ns", "perf_counter_ns")
    originals = [
        (namespace, {name: namespace[name] for name in names if name in namespace}) for namespace in namespaces
    ]
    try:
        for namespace, functions in originals:
            namespace.update({name: getattr(clock, name) for name in functions})
        yield clock
    finally:
        for namespace, functions in originals:
            namespace.update(functions)
