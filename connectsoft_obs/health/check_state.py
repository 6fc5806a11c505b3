"""State of one check: its last result, smoothed by thresholds, and the age of that result."""

from __future__ import annotations

import time
from dataclasses import dataclass

from connectsoft_obs.health.checks import Check, Probe
from connectsoft_obs.health.report import Entry
from connectsoft_obs.vocabulary import HealthState

_PROBE_TAGS = {Probe.LIVENESS: "live", Probe.READINESS: "ready", Probe.STARTUP: "startup"}


@dataclass(frozen=True, slots=True)
class Result:
    """Result of one run. `duration` in seconds, `finished` in seconds of the monotonic clock."""

    state: HealthState
    reason: str
    duration: float
    finished: float


@dataclass(slots=True)
class CheckState:
    """A check and its smoothed state. Only the health thread writes it; any thread may read it.

    Args:
        check: the declared check.
        stale_after: maximum age of the last result in seconds; an older result counts as failed.
    """

    check: Check
    stale_after: float
    result: Result | None = None
    consecutive_failures: int = 0
    consecutive_passes: int = 0
    has_passed: bool = False
    """Whether any run has passed."""
    _tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check = self.check
        tags = (*check.tags, _PROBE_TAGS[check.probe], *(("critical",) if check.critical else ()))
        self._tags = tuple(dict.fromkeys(tags))

    def record_pass(self, duration: float) -> None:
        """Record a passed run; after `success_threshold` in a row an unhealthy check becomes healthy."""
        self.consecutive_failures = 0
        self.consecutive_passes += 1
        state, reason = HealthState.HEALTHY, ""
        passes, threshold = self.consecutive_passes, self.check.success_threshold
        previous = self.result
        if previous is not None and previous.state is not state and passes < threshold:
            state, reason = previous.state, f"recovering: {passes} of {threshold} consecutive passes"
        self.has_passed = True
        self.result = Result(state, reason, duration, time.monotonic())

    def record_failure(self, reason: str, duration: float) -> None:
        """Record a failed run; after `failure_threshold` in a row a healthy check becomes unhealthy."""
        self.consecutive_passes = 0
        self.consecutive_failures += 1
        state = self._failure_state
        previous = self.result
        if (
            previous is not None
            and previous.state is HealthState.HEALTHY
            and self.consecutive_failures < self.check.failure_threshold
        ):
            state = HealthState.HEALTHY
        self.result = Result(state, reason, duration, time.monotonic())

    @property
    def state(self) -> HealthState:
        """The current state."""
        if self.result is None:
            return HealthState.HEALTHY if self.check.probe is Probe.LIVENESS else self._failure_state
        if self._is_stale:
            # A stopped health thread must not cause restarts.
            return HealthState.DEGRADED if self.check.probe is Probe.LIVENESS else self._failure_state
        return self.result.state

    @property
    def reason(self) -> str:
        """Why the check is not healthy, or the failure of the last run if the check is still healthy."""
        if self.result is None:
            return "has not run yet"
        if self._is_stale:
            return f"last ran {time.monotonic() - self.result.finished:.0f} s ago"
        return self.result.reason

    def entry(self) -> Entry:
        """The entry of this check in a report. Called for each probe request, so values are not formatted here."""
        check, result = self.check, self.result
        return Entry(
            check.name,
            self.state,
            0.0 if result is None else result.duration,
            self.reason,
            self._tags,
            check.critical,
            check.scope.value,
            self.consecutive_failures,
            None if result is None else time.monotonic() - result.finished,
        )

    @property
    def _is_stale(self) -> bool:
        return self.result is not None and time.monotonic() - self.result.finished > self.stale_after

    @property
    def _failure_state(self) -> HealthState:
        return HealthState.UNHEALTHY if self.check.critical else HealthState.DEGRADED
