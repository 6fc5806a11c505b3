"""Indicators in PromQL: the rate of all events and of bad ones over a window, and bad over total."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from connectsoft_obs.ops.slo.promql import le_matcher, one_of, quoted, series, service_selector
from connectsoft_obs.slo.durations import DAY, prometheus
from connectsoft_obs.slo.event_counter import BAD, GOOD, counted
from connectsoft_obs.slo.indicators import Errors, Events, Freshness, OutageLimit, Ratio
from connectsoft_obs.slo.model import SLO, ServiceSLOs, Source
from connectsoft_obs.vocabulary import (
    ERROR_TYPE,
    HTTP_STATUS,
    JOB_DURATION,
    JOB_LAST_SUCCESS,
    JOB_NAME,
    OUTCOME,
    REQUEST_DURATION,
    SLO_EVENTS,
    SLO_NAME,
    SLO_OUTCOME,
    ErrorType,
    Outcome,
    prometheus_name,
)

_ERROR, _STATUS, _OUTCOME = (prometheus_name(name) for name in (ERROR_TYPE, HTTP_STATUS, OUTCOME))
TILE = 300
"""Seconds of the tiles that long windows are summed from."""

_ABORTED = "|".join((ErrorType.CLIENT_DISCONNECT.value, ErrorType.CANCELLED.value))


@dataclass(frozen=True, slots=True)
class RateWindow:
    """A stretch of time, and how a counter's rate over it is taken.

    Args:
        window: its length as Prometheus writes it.
    """

    window: str

    def rate(self, counter: str) -> str:
        """The rate of each series a second, as Prometheus estimates it from the samples inside."""
        return f"rate({counter}[{self.window}])"


@dataclass(frozen=True, slots=True)
class FiveMinuteTile(RateWindow):
    """Five minutes, so that every increment is in just one of consecutive tiles, whenever scrapes happen.

    `rate` over five minutes misses what happens between the last scrape of one window and the first of the next, and
    scales up the rest: a burst counts not at all or too much. A series that began, ended or was reset inside the five
    minutes has no difference to take; `window`, five minutes and a scrape, is what its rate is estimated over.
    """

    def rate(self, counter: str) -> str:
        """The rate of each series a second: what it grew by, over 300 seconds."""
        return f"(({counter} - {counter} offset 5m) >= 0 or increase({counter}[{self.window}])) / {TILE}"


class SliQueries(Protocol):
    """An indicator in PromQL. Each expression has one value, without labels, or none where nothing is known."""

    def total(self, over: RateWindow) -> str:
        """Events a second."""

    def bad(self, over: RateWindow) -> str:
        """Bad events a second: 0, not nothing, while there are events and none is bad."""

    def ratio(self, over: RateWindow) -> str:
        """Bad over total; nothing while there are no events."""

    def missing_data_query(self) -> str:
        """True where measurements exist and the rule would still see none; empty where that cannot be."""

    def inputs(self) -> tuple[tuple[str, frozenset[str]], ...]:
        """Counters that a test can move, each with the events, `good` or `bad`, that add to it; none where it cannot."""


def sli_queries(promises: ServiceSLOs, slo: SLO) -> SliQueries:
    """The indicator of a promise in PromQL; of a limit on outages, its share of failed requests."""
    if isinstance(slo.sli, Ratio):
        return _CustomQueries(slo.sli)
    if isinstance(slo.sli, Freshness):
        return _FreshnessQueries(service_selector(promises), slo.sli)
    if promises.source is Source.EVENTS:
        counted(slo)
        return _Counters(service_selector(promises), slo.name)
    sli = Events(where=slo.sli.where) if isinstance(slo.sli, OutageLimit) else slo.sli
    return _Histogram(service_selector(promises), sli)


@dataclass(frozen=True, slots=True)
class _Counters:
    """What the service itself counted: both series exist from its start, so nothing is ever missing."""

    own: str
    name: str

    def series(self, outcome: str = "") -> str:
        """The counter, of one outcome or of both."""
        chosen = f'{prometheus_name(SLO_OUTCOME)}="{outcome}"' if outcome else ""
        return series(
            f"{SLO_EVENTS.family}_total", self.own, f"{prometheus_name(SLO_NAME)}={quoted(self.name)}", chosen
        )

    def total(self, over: RateWindow) -> str:
        return f"sum({over.rate(self.series())})"

    def bad(self, over: RateWindow) -> str:
        return f"sum({over.rate(self.series(BAD))})"

    def ratio(self, over: RateWindow) -> str:
        return f"{self.bad(over)} / ({self.total(over)} > 0)"

    def missing_data_query(self) -> str:
        return ""

    def inputs(self) -> tuple[tuple[str, frozenset[str]], ...]:
        return tuple((self.series(outcome), frozenset({outcome})) for outcome in (GOOD, BAD))


@dataclass(frozen=True, slots=True)
class _Histogram:
    """What a duration histogram says, of a service that does not count events itself."""

    own: str
    sli: Events

    @property
    def family(self) -> str:
        """The histogram's Prometheus name."""
        if self.sli.metric is not None:
            return self.sli.metric.family
        name = prometheus_name(self.sli.instrument)
        return name if name == self.sli.instrument or name.endswith("_seconds") else f"{name}_seconds"

    def count(self, *matchers: str) -> str:
        """The counter of its measurements."""
        return series(f"{self.family}_count", self.own, *self._where(), *matchers)

    def bucket(self, *matchers: str) -> str:
        """The counter of its measurements within the threshold."""
        assert self.sli.threshold is not None
        return series(f"{self.family}_bucket", self.own, *self._where(), *matchers, le_matcher(self.sli.threshold))

    def total(self, over: RateWindow) -> str:
        chosen = self._fine() if self.sli.errors is Errors.SEPARATE else self._settled()
        return f"sum({over.rate(self.count(*chosen))})"

    def bad(self, over: RateWindow) -> str:
        if self.sli.threshold is None:
            failed = " or ".join(over.rate(self.count(*chosen)) for chosen in self._failed())
            return f"(sum({failed}) or 0 * {self.total(over)})"
        in_time = f"sum({over.rate(self.bucket(*self._fine()))})"
        if self.sli.errors is Errors.BAD:
            # Nothing was in time yet, but the bucket is there: zero. Without the bucket there is no value at all.
            in_time = f"({in_time} or 0 * sum({over.rate(self.bucket())}))"
        return f"clamp_min({self.total(over)} - {in_time}, 0)"

    def ratio(self, over: RateWindow) -> str:
        return f"{self.bad(over)} / ({self.total(over)} > 0)"

    def missing_data_query(self) -> str:
        if self.sli.threshold is None:
            return ""
        return f"count({self.count()}) unless count({self.bucket()})"

    def _where(self) -> tuple[str, ...]:
        return tuple(one_of(prometheus_name(attribute), values) for attribute, values in self.sli.where)

    def _bad_status(self) -> str:
        return "|".join(dict.fromkeys(status.replace("x", ".") for status in ("5xx", *self.sli.bad_status)))

    def _settled(self) -> tuple[str, ...]:
        """All but the aborted."""
        if self.sli.instrument == JOB_DURATION.name:
            return (f'{_OUTCOME}!="{Outcome.ABORTED.value}"',)
        return (f'{_ERROR}!~"{_ABORTED}"',)

    def _fine(self) -> tuple[str, ...]:
        """Those that did not fail."""
        if self.sli.instrument == JOB_DURATION.name:
            return (f'{_OUTCOME}=~"{Outcome.SUCCESS.value}|{Outcome.REJECTED.value}"',)
        if self.sli.instrument == REQUEST_DURATION.name:
            return (f'{_ERROR}=""', f'{_STATUS}!~"{self._bad_status()}"')
        return (f'{_ERROR}=""',)

    def _failed(self) -> tuple[tuple[str, ...], ...]:
        """Those that failed, as selectors that have no series in common."""
        if self.sli.instrument == JOB_DURATION.name:
            return ((f'{_OUTCOME}=~"{Outcome.FAILURE.value}|{Outcome.TIMEOUT.value}"',),)
        named = (f'{_ERROR}!~"|{_ABORTED}"',)
        if self.sli.instrument == REQUEST_DURATION.name:
            return named, (f'{_ERROR}=""', f'{_STATUS}=~"{self._bad_status()}"')
        return (named,)

    def inputs(self) -> tuple[tuple[str, frozenset[str]], ...]:
        job, http = self.sli.instrument == JOB_DURATION.name, self.sli.instrument == REQUEST_DURATION.name
        good = (f'{_OUTCOME}="success"',) if job else (f'{_STATUS}="200"',) if http else ()
        failed = (
            (f'{_OUTCOME}="failure"',)
            if job
            else (f'{_ERROR}="500"', f'{_STATUS}="500"')
            if http
            else (f'{_ERROR}="ValueError"',)
        )
        if self.sli.threshold is None:
            return (self.count(*good), frozenset({GOOD})), (self.count(*failed), frozenset({BAD}))
        return (self.count(*good), frozenset({GOOD, BAD})), (self.bucket(*good), frozenset({GOOD}))


@dataclass(frozen=True, slots=True)
class _FreshnessQueries:
    """How long ago something succeeded; every minute is one event, bad when that was too long ago."""

    own: str
    sli: Freshness

    @property
    def timestamp(self) -> str:
        """When it last did."""
        family, chosen = (
            (self.sli.timestamp, "")
            if self.sli.timestamp
            else (
                JOB_LAST_SUCCESS.family,
                f"{prometheus_name(JOB_NAME)}={quoted(self.sli.job)}",
            )
        )
        # A restarted worker knows no last success until its next one; the one before it still says when that was.
        return (
            f"max(last_over_time({series(family, self.own, chosen)}[{prometheus(min(2 * self.sli.within, 30 * DAY))}]))"
        )

    def total(self, over: RateWindow) -> str:
        return f"0 * {self.timestamp} + 1"

    def bad(self, over: RateWindow) -> str:
        return f"avg_over_time(((time() - {self.timestamp}) > bool {self.sli.within:g})[{over.window}:1m])"

    def ratio(self, over: RateWindow) -> str:
        return self.bad(over)

    def missing_data_query(self) -> str:
        return ""

    def inputs(self) -> tuple[tuple[str, frozenset[str]], ...]:
        return ()


@dataclass(frozen=True, slots=True)
class _CustomQueries:
    """PromQL that somebody wrote."""

    sli: Ratio

    def total(self, over: RateWindow) -> str:
        return f"({self.sli.over(self.sli.total, over.window)})"

    def bad(self, over: RateWindow) -> str:
        return f"(({self.sli.over(self.sli.bad, over.window)}) or 0 * {self.total(over)})"

    def ratio(self, over: RateWindow) -> str:
        return f"{self.bad(over)} / ({self.total(over)} > 0)"

    def missing_data_query(self) -> str:
        return ""

    def inputs(self) -> tuple[tuple[str, frozenset[str]], ...]:
        return ()
