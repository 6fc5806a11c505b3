"""Results of health evaluations: the report of a probe, and transitions between states."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from connectsoft_obs.health.checks import Probe
from connectsoft_obs.vocabulary import HealthState

STATES_BY_SEVERITY: Final = list(HealthState)

LIFECYCLE: Final = "lifecycle"
"""Name and tag of the entry for states that no check reports: starting, draining, marked unready, failed liveness."""


class Phase(StrEnum):
    """Phase of the lifecycle of a process."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class Entry(NamedTuple):
    """One line of a report: a check, a startup task, or another reason why the probe fails.

    Args:
        name: name of the check or task.
        state: current state.
        duration: duration of the last run in seconds.
        reason: why it is not healthy; shown only to clients that may see details.
        tags: declared tags, the tag of the probe, and `critical` for critical checks.
        critical: whether a failure fails the probe; otherwise the probe is degraded.
        scope: `instance` or `shared` for a check, otherwise "".
        failures: number of consecutive failed runs.
        age: seconds since the last run, None before the first run.
    """

    name: str
    state: HealthState
    duration: float = 0.0
    reason: str = ""
    tags: tuple[str, ...] = ()
    critical: bool = True
    scope: str = ""
    failures: int = 0
    age: float | None = None


class Report(NamedTuple):
    """State of one probe, with the entries that determine it."""

    probe: Probe
    state: HealthState
    entries: tuple[Entry, ...]
    phase: Phase

    @property
    def passes(self) -> bool:
        """Whether the probe is answered with status 200."""
        return self.state is not HealthState.UNHEALTHY

    @property
    def cause(self) -> str:
        """The entries that determine the state, with their reasons; "" if the state is healthy."""
        if self.state is HealthState.HEALTHY:
            return ""
        return "; ".join(_describe(entry) for entry in self.entries if entry.state is self.state)


def _describe(entry: Entry) -> str:
    if entry.name == LIFECYCLE:
        return entry.reason
    return f"{entry.name}: {entry.reason}" if entry.reason else entry.name


def build_report(probe: Probe, entries: list[Entry], phase: Phase) -> Report:
    """A report with the worst state of its entries."""
    state = HealthState.HEALTHY
    for entry in entries:
        if entry.state is HealthState.UNHEALTHY:
            state = HealthState.UNHEALTHY
            break
        if entry.state is HealthState.DEGRADED:
            state = HealthState.DEGRADED
    return Report(probe, state, tuple(entries), phase)


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of the state of a probe; with `probe` None, a change of the phase of the process.

    Args:
        probe: the probe whose state changed.
        before: previous state, or previous phase.
        after: new state, or new phase.
        cause: why it changed.
        phase: phase of the process after the change.
    """

    probe: Probe | None
    before: HealthState | Phase
    after: HealthState | Phase
    cause: str
    phase: Phase
