"""Counts good and bad events of SLOs in the process that records them: the counter `connectsoft.slo.events`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from connectsoft_obs.slo.indicators import BUILT_IN_HISTOGRAMS, Errors, Events, Matchers, OutageLimit
from connectsoft_obs.slo.model import SLO, validate_instrument
from connectsoft_obs.vocabulary import HTTP_STATUS, REQUEST_DURATION, Metric, Outcome

GOOD, BAD = "good", "bad"


class CounterLike(Protocol):
    """One series of a counter."""

    def add(self, amount: float = 1.0) -> None:
        """Increment the series."""


class ThresholdCounters(NamedTuple):
    """The counters of a latency SLO: an event is good up to `threshold` seconds, and bad above."""

    threshold: float
    good: CounterLike
    bad: CounterLike


class BoundCounter:
    """Counts events with one set of labels. Thread-safe if its counters are."""

    __slots__ = ("_counters", "_threshold_counters")

    def __init__(self, counters: tuple[CounterLike, ...], threshold_counters: tuple[ThresholdCounters, ...]) -> None:
        self._counters = counters
        self._threshold_counters = threshold_counters

    def __call__(self, seconds: float) -> None:
        """Count one event with this duration."""
        for counter in self._counters:
            counter.add(1.0)
        for threshold, good, bad in self._threshold_counters:
            (good if seconds <= threshold else bad).add(1.0)


class EventCounter:
    """Counts the events of a process's SLOs. Every series is created at zero.

    Args:
        slos: SLOs of the service; freshness and PromQL ratios are not counted in the process.
        create_counter: returns the counter for an SLO name and `good` or `bad`.

    Raises:
        ConfigurationError: an SLO uses a histogram that this package does not record.
    """

    def __init__(self, slos: Iterable[SLO], create_counter: Callable[[str, str], CounterLike]) -> None:
        self._indicators: dict[str, list[tuple[Events, CounterLike, CounterLike]]] = defaultdict(list)
        self._slos_without_events: dict[int, tuple[str, Events]] = {}
        self._has_requests = False
        for slo in slos:
            if (sli := resolve_event_sli(slo)) is not None:
                counters = create_counter(slo.name, GOOD), create_counter(slo.name, BAD)
                self._indicators[sli.instrument].append((sli, *counters))
                self._slos_without_events[id(counters[0])] = slo.name, sli

    def bind(self, metric: Metric, labels: Mapping[str, str], outcome: Outcome) -> BoundCounter | None:
        """Return the counter for events with these labels and outcome; None if no SLO counts them.

        Call it once per combination and cache the result. Labels are attribute names and values as on the histogram,
        except that a value which the cardinality limit replaced may be passed in its original form.
        """
        is_good = outcome.good
        indicators = self._indicators.get(metric.name)
        if is_good is None or not indicators:
            return None
        self._has_requests = self._has_requests or metric.name == REQUEST_DURATION.name
        counters: list[CounterLike] = []
        threshold_counters: list[ThresholdCounters] = []
        for sli, good, bad in indicators:
            if any(labels.get(attribute, "") not in values for attribute, values in sli.matchers):
                continue
            self._slos_without_events.pop(id(good), None)
            if not is_good or _is_bad_status(sli, labels.get(HTTP_STATUS, "")):
                counters += [bad] if sli.errors is Errors.BAD else []
            elif sli.threshold is None:
                counters.append(good)
            else:
                threshold_counters.append(ThresholdCounters(sli.threshold, good, bad))
        if not counters and not threshold_counters:
            return None
        return BoundCounter(tuple(counters), tuple(threshold_counters))

    def slos_without_events(self) -> Iterator[tuple[str, Matchers]]:
        """Yield the name and the matchers of each SLO on requests without an event, if other requests were recorded.

        SLOs on jobs and messages are omitted, because another process of the service may record these.
        """
        for name, sli in list(self._slos_without_events.values()):
            if sli.instrument == REQUEST_DURATION.name and self._has_requests:
                yield name, sli.matchers


def resolve_event_sli(slo: SLO) -> Events | None:
    """Return the indicator whose events the process counts for an SLO; None if it counts none.

    Raises:
        ConfigurationError: the indicator uses a histogram that this package does not record.
    """
    if isinstance(slo.sli, OutageLimit):
        return Events(matchers=slo.sli.matchers)
    if not isinstance(slo.sli, Events):
        return None
    validate_instrument(slo.name, slo.sli)
    return slo.sli


def required_buckets(slos: Iterable[SLO]) -> dict[str, tuple[float, ...]]:
    """Return the bucket boundaries that SLO thresholds need, by the OpenTelemetry name of the histogram."""
    boundaries: dict[str, set[float]] = defaultdict(set)
    for slo in slos:
        if isinstance(slo.sli, Events) and slo.sli.threshold is not None and slo.sli.instrument in BUILT_IN_HISTOGRAMS:
            boundaries[slo.sli.instrument].add(slo.sli.threshold)
    return {instrument: tuple(sorted(thresholds)) for instrument, thresholds in boundaries.items()}


def _is_bad_status(sli: Events, status: str) -> bool:
    return any(status == bad or (bad.endswith("xx") and status[:1] == bad[0]) for bad in sli.bad_status)
