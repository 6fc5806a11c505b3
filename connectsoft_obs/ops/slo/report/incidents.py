"""When budgets were spent: the stretches of time in which more was bad than the promise allows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MOST = 10


@dataclass(frozen=True, slots=True)
class Incident:
    """A stretch in which the budget burned, or the service was down.

    Args:
        start: Unix time.
        end: Unix time.
        events: bad events; seconds of an outage.
        worst: largest share of bad events in five minutes.
        spent: share of the budget that it took.
    """

    start: float
    end: float
    events: float
    worst: float
    spent: float

    @property
    def length(self) -> float:
        """Seconds."""
        return self.end - self.start


def find_incidents(
    samples: Iterable[tuple[float, float, float]], above: float, budget: float, gap: float = 900
) -> tuple[Incident, ...]:
    """The most expensive stretches, the most expensive first.

    Args:
        samples: (end of the tile, bad events in it, share of bad events), in order.
        above: share from which on a tile belongs to one.
        budget: bad events that the promise allows in all.
        gap: seconds between two tiles of one stretch at the most.
    """
    found: list[list[tuple[float, float, float]]] = []
    for sample in samples:
        if sample[2] <= above:
            continue
        if found and sample[0] - found[-1][-1][0] <= gap:
            found[-1].append(sample)
        else:
            found.append([sample])
    incidents = [_incident(part, budget) for part in found]
    return tuple(sorted(incidents, key=lambda incident: (-incident.events, incident.start))[:MOST])


def _incident(part: list[tuple[float, float, float]], budget: float) -> Incident:
    events = sum(sample[1] for sample in part)
    width = part[1][0] - part[0][0] if len(part) > 1 else 300.0
    return Incident(
        part[0][0] - min(width, 300.0),
        part[-1][0],
        events,
        max(sample[2] for sample in part),
        events / budget if budget else 0.0,
    )
