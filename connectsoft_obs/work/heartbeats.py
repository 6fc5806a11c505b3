"""Heartbeats: a loop says that it is alive, and the process is unhealthy when it has not for too long."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter_ns, time
from types import TracebackType
from typing import TYPE_CHECKING

from connectsoft_obs.telemetry import Telemetry, resolve
from connectsoft_obs.vocabulary import JOB_HEARTBEAT
from connectsoft_obs.work.registry import registry_of

if TYPE_CHECKING:
    from connectsoft_obs.work.run import Run

_LOOPS = 1000
"""Loops that are watched; a name made from data would watch one for each value."""


class Heartbeat:
    """A vital loop. Liveness fails when its last beat is older than `every` seconds.

    A run with a time limit that the loop is waiting for counts as progress until its deadline. As a context manager it
    is watched until the block is left; `stop()` does the same. Thread-safe.
    """

    def __init__(self, telemetry: Telemetry, name: str, every: float) -> None:
        self.name = name
        self.every = every
        self.runs: set[Run] = set()
        self.excused: Callable[[], bool] | None = None
        self._health = telemetry.health
        self._moment = telemetry.metrics.family(JOB_HEARTBEAT).number(name)
        self._beat_ns: int | None = perf_counter_ns()

    def beat(self) -> Heartbeat:
        """The loop is alive now."""
        self._beat_ns = perf_counter_ns()
        self._moment.set(time())
        _loop.set(self)
        return self

    def stop(self) -> None:
        """The loop has ended, and needs to beat no more."""
        self._beat_ns = None

    def problem(self) -> str:
        """Why the loop is not alive; "" while it is, while it is stopped, and while the process drains."""
        beat = self._beat_ns
        if beat is None or self._health.draining:
            return ""
        now = perf_counter_ns()
        age = (now - beat) / 1e9
        if self.excused is not None and self.excused():
            return ""
        if age <= self.every or any((run.deadline_ns or 0) > now for run in list(self.runs)):
            return ""
        return f"loop {self.name} was last alive {age:.0f} s ago; it promised every {self.every:g} s"

    def __enter__(self) -> Heartbeat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Stop, unless the loop failed: a loop that an exception ended is not alive."""
        if error is None or not isinstance(error, Exception):
            self.stop()


_loop: ContextVar[Heartbeat | None] = ContextVar("connectsoft-obs-loop", default=None)


def enclosing_heartbeat(run: Run) -> Heartbeat | None:
    """The loop that a run with a deadline was begun in, which is alive until then."""
    loop = _loop.get()
    if loop is not None:
        loop.runs.add(run)
    return loop


def heartbeat(name: str, *, every: float) -> Heartbeat:
    """Say that a loop is alive: call it in each round, at least every `every` seconds.

    Once called, the loop is vital: when it has not called for longer, liveness fails and the platform restarts the
    process. Time spent in a job with a `timeout` that the loop waits for is no silence until that timeout has passed.
    A loop that ends says so: `with obs.heartbeat("poll-loop", every=30) as loop:` and `loop.beat()` in each round, or
    `loop.stop()`. Cheap enough for each round; safe from any thread.

    Args:
        name: static name of the loop; it becomes a metric label.
        every: seconds between two beats, at the most.
    """
    telemetry = resolve()
    loops = registry_of(telemetry).loops
    loop = loops.get(name)
    if loop is None:
        loop = Heartbeat(telemetry, name, every)
        if len(loops) < _LOOPS:
            loop = loops.setdefault(name, loop)
            telemetry.health.add_liveness_watch(f"loop:{name}", loop.problem)
    loop.every = every
    return loop.beat()
