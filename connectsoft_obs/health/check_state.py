"""What is known of one check: its last result, smoothed by thresholds, and how old it is."""

from __future__ import annotations

import time
from dataclasses import dataclass

from connectsoft_obs.health.checks import Check, Probe
from connectsoft_obs.health.report import Entry
from connectsoft_obs.vocabulary import HealthState

_TAGS = {Probe.LIVENESS: "live", Probe.READINESS: "ready", Probe.STARTUP: "startup"}


@dataclass(frozen=True, slots=True)
class Result:
    """One run of a check. `duration` in seconds, `finished` in seconds of the monotonic clock."""

    state: HealthState
    reason: str
    duration: float
    finished: float


@dataclass(slots=True)
class CheckState:
    """A check and its smoothed state. Written by the health thread alone, read by anyone.

    Args:
        check: what it is about.
        stale_after: seconds after which the last result says nothing any more.
    """

    check: Check
    stale_after: float
    result: Result | None = None
    failures: int = 0
    passes: int = 0
    passed_before: bool = False
    _tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check = self.check
        tags = (*check.tags, _TAGS[check.probe], *(("critical",) if check.critical else ()))
        self._tags = tuple(dict.fromkeys(tags))

    def passed(self, duration: float) -> None:
        """A run passed; a red check turns green after `success_threshold` of them in a row."""
        self.failures = 0
        self.passes += 1
        state, reason = HealthState.HEALTHY, ""
        before = self.result
        if before is not None and before.state is not state and self.passes < self.check.success_threshold:
            state, reason = before.state, f"passed {self.passes} of {self.check.success_threshold} times again"
        self.passed_before = True
        self.result = Result(state, reason, duration, time.monotonic())

    def failed(self, reason: str, duration: float) -> None:
        """A run failed; a green check turns red after `failure_threshold` of them in a row."""
        self.passes = 0
        self.failures += 1
        state = self._bad
        before = self.result
        if before is not None and before.state is HealthState.HEALTHY and self.failures < self.check.failure_threshold:
            state = HealthState.HEALTHY
        self.result = Result(state, reason, duration, time.monotonic())

    @property
    def state(self) -> HealthState:
        """The state now."""
        if self.result is None:
            return HealthState.HEALTHY if self.check.probe is Probe.LIVENESS else self._bad
        if self._stale:
            # A schedule of ours that has stopped must not have processes restarted.
            return HealthState.DEGRADED if self.check.probe is Probe.LIVENESS else self._bad
        return self.result.state

    @property
    def reason(self) -> str:
        """Why it is not healthy, or what the last run said although it still is."""
        if self.result is None:
            return "has not run yet"
        if self._stale:
            return f"last ran {time.monotonic() - self.result.finished:.0f} s ago"
        return self.result.reason

    def entry(self) -> Entry:
        """It in a report. Called for each probe, so what only those with access read is worked out for them alone."""
        check, result = self.check, self.result
        return Entry(
            check.name,
            self.state,
            0.0 if result is None else result.duration,
            self.reason,
            self._tags,
            check.critical,
            check.scope.value,
            self.failures,
            None if result is None else time.monotonic() - result.finished,
        )

    @property
    def _stale(self) -> bool:
        return self.result is not None and time.monotonic() - self.result.finished > self.stale_after

    @property
    def _bad(self) -> HealthState:
        return HealthState.UNHEALTHY if self.check.critical else HealthState.DEGRADED
