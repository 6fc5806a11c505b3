"""A clock that a test stops and moves on, for tests that keep what was reported in a file or compare durations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from time import perf_counter_ns
from typing import Final

from connectsoft_obs.errors import ConfigurationError

_MODULES: Final = (
    "asgi.instrumentation", "asgi.request", "asgi.websocket",
    "signals.logs.pipeline", "signals.metrics.series", "signals.tracing.provider", "signals.tracing.span",
    "work.genai", "work.heartbeats", "work.message", "work.producers", "work.run", "work.schedule_metrics", "work.wrappers",
)  # fmt: skip
"""Where what is reported takes its time from: by names of their own, so that asking the clock costs nothing more."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """The time that telemetry has inside `frozen_clock()`. Thread-safe as long as one thread moves it.

    Args:
        at: when it begins to stand.
    """

    def __init__(self, at: datetime) -> None:
        # Whole microseconds, because a float of seconds does not hold the nanoseconds of our days.
        self._wall_ns = (at - _EPOCH) // timedelta(microseconds=1) * 1000
        self._running_ns = perf_counter_ns()  # what began before the block is not in the future

    @property
    def now(self) -> datetime:
        """The time it shows, in UTC, in whole microseconds."""
        return _EPOCH + timedelta(microseconds=self._wall_ns // 1000)

    def advance(self, seconds: float) -> None:
        """Move it on.

        Args:
            seconds: by how much; fractions down to nanoseconds count.

        Raises:
            ConfigurationError: less than nothing; durations would be negative.
        """
        if seconds < 0:
            raise ConfigurationError(f"advance({seconds!r})", "time does not go backwards", "Give seconds from now on.")
        passed = round(seconds * 1e9)
        self._wall_ns += passed
        self._running_ns += passed

    # --- As the functions of the module `time` -----------------------------------------------------------------------
    def time(self) -> float:
        """Seconds since 1970."""
        return self._wall_ns / 1_000_000_000  # of two ints: rounded once

    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        return self._wall_ns

    def perf_counter_ns(self) -> int:
        """Nanoseconds since some moment, for durations."""
        return self._running_ns


@contextmanager
def frozen_clock(at: datetime = _START) -> Iterator[Clock]:
    """Stop the clock of what is reported: times of spans, lines and samples, and durations, until the test moves it on.

    The application's own `time` and `datetime` go on, and so does what must really happen after a while: time limits,
    intervals of health checks, limits for floods, draining. For the whole process, so for one test at a time in it;
    pytest-xdist's workers are processes of their own. Blocks nest; the innermost is in force.

    Args:
        at: the time it stands at, with a time zone; 2026-01-01T00:00:00Z by default.

    Raises:
        ConfigurationError: a datetime without a time zone.
    """
    if at.tzinfo is None:
        problem = "it has no time zone, so the run's machine would decide when it is"
        raise ConfigurationError(f"frozen_clock({at!r})", problem, "Add tzinfo=datetime.UTC.")
    clock = Clock(at)
    places = [vars(import_module(f"connectsoft_obs.{name}")) for name in _MODULES]
    names = ("time", "time_ns", "perf_counter_ns")
    before = [(place, {name: place[name] for name in names if name in place}) for place in places]
    try:
        for place, real in before:
            place.update({name: getattr(clock, name) for name in real})
        yield clock
    finally:
        for place, real in before:
            place.update(real)
