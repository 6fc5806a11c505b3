"""What health says: an answer to one probe, and the moment when an answer changes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from connectsoft_obs.health.checks import Probe
from connectsoft_obs.vocabulary import HealthState

SEVERITY: Final = list(HealthState)

LIFECYCLE: Final = "lifecycle"
"""Name and tag of the entry that says what no check says: starting, draining, marked unready, broken."""


class Phase(StrEnum):
    """Where a process is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class Entry(NamedTuple):
    """One line of a report: a check, a task of start-up, or whatever else makes the probe fail.

    Args:
        name: its name.
        state: its state now.
        duration: seconds of its last run.
        reason: why it is not healthy; not for strangers.
        tags: its own, the probe's, and `critical` where it is.
        critical: whether it decides; otherwise it degrades.
        scope: `instance` or `shared` for a check, else "".
        failures: consecutive failed runs.
        age: seconds since its last run, None for what has not run.
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
    """The answer to one probe."""

    probe: Probe
    state: HealthState
    entries: tuple[Entry, ...]
    phase: Phase

    @property
    def passes(self) -> bool:
        """Whether the probe gets a 200."""
        return self.state is not HealthState.UNHEALTHY

    @property
    def cause(self) -> str:
        """The entries that make it what it is, with their reasons."""
        if self.state is HealthState.HEALTHY:
            return ""
        return "; ".join(_why(entry) for entry in self.entries if entry.state is self.state)


def _why(entry: Entry) -> str:
    if entry.name == LIFECYCLE:
        return entry.reason
    return f"{entry.name}: {entry.reason}" if entry.reason else entry.name


def reported(probe: Probe, entries: list[Entry], phase: Phase) -> Report:
    """The report that these entries add up to: as bad as the worst of them."""
    worst = HealthState.HEALTHY
    for entry in entries:
        if entry.state is HealthState.UNHEALTHY:
            worst = HealthState.UNHEALTHY
            break
        if entry.state is HealthState.DEGRADED:
            worst = HealthState.DEGRADED
    return Report(probe, worst, tuple(entries), phase)


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of what a probe is answered, or of the phase alone when `probe` is None.

    Args:
        probe: whose answer changed.
        before: its state until then, or the phase.
        after: its state from now on, or the phase.
        cause: why.
        phase: where the process is in its life.
    """

    probe: Probe | None
    before: HealthState | Phase
    after: HealthState | Phase
    cause: str
    phase: Phase
