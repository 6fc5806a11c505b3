"""Counting good and bad where they happen: `connectsoft.slo.events`, bound once for each kind of event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.indicators import KNOWN, Errors, Events, OutageLimit
from connectsoft_obs.slo.model import SLO
from connectsoft_obs.vocabulary import HTTP_STATUS, JOB_DURATION, PROCESS_DURATION, REQUEST_DURATION, Metric, Outcome

COUNTED = (REQUEST_DURATION.name, JOB_DURATION.name, PROCESS_DURATION.name)
"""The instruments whose events are counted while they are recorded."""

GOOD, BAD = "good", "bad"


class CounterLike(Protocol):
    """A counter's series."""

    def add(self, amount: float = 1.0) -> None:
        """Add to it."""


class Timed(NamedTuple):
    """An objective that decides by time: seconds within which an event is good, and where it is counted."""

    threshold: float
    good: CounterLike
    bad: CounterLike


class BoundCounter:
    """What one more event of a kind adds to, and where its duration decides. Thread-safe as the counters are."""

    __slots__ = ("_sure", "_timed")

    def __init__(self, sure: tuple[CounterLike, ...], timed: tuple[Timed, ...]) -> None:
        self._sure = sure
        self._timed = timed

    def __call__(self, seconds: float) -> None:
        """Count one event that took so long."""
        for number in self._sure:
            number.add(1.0)
        for threshold, good, bad in self._timed:
            (good if seconds <= threshold else bad).add(1.0)


class EventCounter:
    """The objectives that one process counts events for; every series is there, at zero, from the start.

    Args:
        slos: what is promised; freshness, and ratios in PromQL, are not counted here.
        series: the counter of an objective's name and `good` or `bad`.

    Raises:
        ConfigurationError: an objective on a histogram that this package does not record.
    """

    def __init__(self, slos: Iterable[SLO], series: Callable[[str, str], CounterLike]) -> None:
        self._rules: dict[str, list[tuple[Events, CounterLike, CounterLike]]] = defaultdict(list)
        for slo in slos:
            if (sli := counted(slo)) is not None:
                self._rules[sli.instrument].append((sli, series(slo.name, GOOD), series(slo.name, BAD)))

    def bind(self, metric: Metric, labels: Mapping[str, str], outcome: Outcome) -> BoundCounter | None:
        """What to call with the duration of each event of one kind; None where no objective counts it.

        To be asked once a kind and kept. The labels are attribute names and values as the histogram has them; a label
        that the histogram had to blank may be given as it was.
        """
        good = outcome.good
        rules = self._rules.get(metric.name)
        if good is None or not rules:
            return None
        sure: list[CounterLike] = []
        timed: list[Timed] = []
        for sli, good_series, bad_series in rules:
            if any(labels.get(attribute, "") not in values for attribute, values in sli.where):
                continue
            if not good or _bad_status(sli, labels.get(HTTP_STATUS, "")):
                sure += [bad_series] if sli.errors is Errors.BAD else []
            elif sli.threshold is None:
                sure.append(good_series)
            else:
                timed.append(Timed(sli.threshold, good_series, bad_series))
        return BoundCounter(tuple(sure), tuple(timed)) if sure or timed else None


def counted(slo: SLO) -> Events | None:
    """The events that an objective counts in the process; None where it counts none.

    Raises:
        ConfigurationError: they are measurements of a histogram that this package does not record.
    """
    if isinstance(slo.sli, OutageLimit):
        return Events(where=slo.sli.where)
    if not isinstance(slo.sli, Events):
        return None
    if slo.sli.instrument not in COUNTED:
        raise ConfigurationError(
            f"instrument={slo.sli.instrument!r} of {slo.name!r}",
            "this package does not count its events",
            f"Use one of {', '.join(COUNTED)}; or keep the objective in a file of its own with source = 'metrics'.",
        )
    return slo.sli


def required_buckets(slos: Iterable[SLO]) -> dict[str, tuple[float, ...]]:
    """The bucket boundaries that objectives need, by the histogram's OpenTelemetry name."""
    found: dict[str, set[float]] = defaultdict(set)
    for slo in slos:
        if isinstance(slo.sli, Events) and slo.sli.threshold is not None and slo.sli.instrument in KNOWN:
            found[slo.sli.instrument].add(slo.sli.threshold)
    return {name: tuple(sorted(edges)) for name, edges in found.items()}


def _bad_status(sli: Events, status: str) -> bool:
    return any(status == bad or (bad.endswith("xx") and status[:1] == bad[0]) for bad in sli.bad_status)
