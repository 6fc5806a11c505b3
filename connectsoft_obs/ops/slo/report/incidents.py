"""Incidents: the times in which the error ratio was higher than the objective allows, or the service was down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

MAX_INCIDENTS = 10
_MAX_SAMPLE_SECONDS = 300.0


class Sample(NamedTuple):
    """Unix time at the end of a sampling interval, bad events in it, and their share of all events."""

    end: float
    bad_events: float
    error_ratio: float


@dataclass(frozen=True, slots=True)
class Incident:
    """A period in which the error budget burned too fast, or the service was down.

    Args:
        start: Unix time.
        end: Unix time.
        bad_events: bad events; for an outage, its seconds.
        peak_error_ratio: largest share of bad events in one sampling interval.
        budget_spent: share of the error budget that the incident used; for an outage, its share of the limit.
    """

    start: float
    end: float
    bad_events: float
    peak_error_ratio: float
    budget_spent: float

    @property
    def duration(self) -> float:
        """Seconds from start to end."""
        return self.end - self.start


def find_incidents(
    samples: Iterable[Sample], threshold: float, budget: float, max_gap: float = 900
) -> tuple[Incident, ...]:
    """Return the incidents with the most bad events, largest first; at most `MAX_INCIDENTS`.

    Args:
        samples: in ascending order of time.
        threshold: error ratio above which a sample belongs to an incident.
        budget: number of bad events that the objective allows in the whole period.
        max_gap: largest number of seconds between two samples of the same incident.
    """
    groups: list[list[Sample]] = []
    for sample in samples:
        if sample.error_ratio <= threshold:
            continue
        if groups and sample.end - groups[-1][-1].end <= max_gap:
            groups[-1].append(sample)
        else:
            groups.append([sample])
    incidents = [_incident(group, budget) for group in groups]
    return tuple(sorted(incidents, key=lambda incident: (-incident.bad_events, incident.start))[:MAX_INCIDENTS])


def _incident(samples: list[Sample], budget: float) -> Incident:
    bad_events = sum(sample.bad_events for sample in samples)
    sample_seconds = samples[1].end - samples[0].end if len(samples) > 1 else _MAX_SAMPLE_SECONDS
    return Incident(
        samples[0].end - min(sample_seconds, _MAX_SAMPLE_SECONDS),
        samples[-1].end,
        bad_events,
        max(sample.error_ratio for sample in samples),
        bad_events / budget if budget else 0.0,
    )
