"""Heartbeats of loops: liveness fails if a loop does not report in time."""

from __future__ import annotations

from contextvars import ContextVar
from time import perf_counter_ns, time
from types import TracebackType

from connectsoft_obs.telemetry import Telemetry, resolve
from connectsoft_obs.vocabulary import JOB_HEARTBEAT
from connectsoft_obs.work.registry import ActiveRun, registry_of

_MAX_HEARTBEATS = 1000
"""Limit of heartbeats that are checked; a name that contains data would add one for each value."""


class Heartbeat:
    """Heartbeat of one loop. Liveness fails if the last beat is older than `every` seconds.

    A run with a timeout that the loop waits for counts as progress until its deadline. As a context manager it is checked
    until the block is left; `stop()` has the same effect. Thread-safe.
    """

    def __init__(self, telemetry: Telemetry, name: str, every: float) -> None:
        self.name = name
        self.every = every
        self.runs: set[ActiveRun] = set()
        self._health = telemetry.health
        self._timestamp = telemetry.metrics.family(JOB_HEARTBEAT).number_series(name)
        self._last_beat_ns: int | None = perf_counter_ns()

    def beat(self) -> Heartbeat:
        """Report progress."""
        self._last_beat_ns = perf_counter_ns()
        self._timestamp.set(time())
        _current_heartbeat.set(self)
        return self

    def stop(self) -> None:
        """Stop checking this loop."""
        self._last_beat_ns = None

    def problem(self) -> str:
        """Why the loop is not alive; "" if it is, if it is stopped, and while the process drains."""
        last_beat = self._last_beat_ns
        if last_beat is None or self._health.draining or self._health.stopping:
            return ""
        now = perf_counter_ns()
        age = (now - last_beat) / 1e9
        if age <= self.every or any((run.deadline_ns or 0) > now for run in list(self.runs)):
            return ""
        return f"last heartbeat of loop {self.name} was {age:.0f} s ago; expected every {self.every:g} s"

    def __enter__(self) -> Heartbeat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Stop checking, unless an exception ended the loop: then it is not alive."""
        if error is None or not isinstance(error, Exception):
            self.stop()


_current_heartbeat: ContextVar[Heartbeat | None] = ContextVar("connectsoft-obs-loop", default=None)


def enclosing_heartbeat(run: ActiveRun) -> Heartbeat | None:
    """The heartbeat of the loop that started a run with a deadline; the run counts as progress until then."""
    loop = _current_heartbeat.get()
    if loop is not None:
        loop.runs.add(run)
    return loop


def heartbeat(name: str, *, every: float) -> Heartbeat:
    """Report progress of a loop: call it in each iteration, at least every `every` seconds.

    After the first call, liveness fails if the next call is late, and the platform restarts the process. A job with a
    `timeout` that the loop waits for counts as progress until the timeout. To end a loop use
    `with obs.heartbeat("poll-loop", every=30) as loop:` and `loop.beat()` in each iteration, or `loop.stop()`. Cheap
    enough for each iteration; thread-safe.

    Args:
        name: static name of the loop; it becomes a metric label.
        every: maximum number of seconds between two beats.
    """
    telemetry = resolve()
    heartbeats = registry_of(telemetry).heartbeats
    loop: Heartbeat | None = heartbeats.get(name)
    if loop is None:
        loop = Heartbeat(telemetry, name, every)
        if len(heartbeats) < _MAX_HEARTBEATS:
            loop = heartbeats.setdefault(name, loop)
            telemetry.health.add_liveness_watch(f"loop:{name}", loop.problem)
    loop.every = every
    return loop.beat()
