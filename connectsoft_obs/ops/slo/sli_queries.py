"""PromQL expressions of service level indicators: total rate, bad rate and error ratio over a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from connectsoft_obs.ops.slo.promql import label_matcher, le_matcher, quote, series_selector, service_selector
from connectsoft_obs.slo.durations import DAY, format_prometheus
from connectsoft_obs.slo.event_counter import BAD, GOOD
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
_ABORTED = "|".join((ErrorType.CLIENT_DISCONNECT.value, ErrorType.CANCELLED.value))

TILE_SECONDS = 300
"""Length of the tiles that long windows are summed from."""


@dataclass(frozen=True, slots=True)
class RateWindow:
    """A window over which the rate of a counter is computed.

    Args:
        duration: length of the window as a PromQL duration.
    """

    duration: str

    def rate(self, counter: str) -> str:
        """Return the rate of each series per second, as estimated by Prometheus from the samples in the window."""
        return f"rate({counter}[{self.duration}])"


@dataclass(frozen=True, slots=True)
class FiveMinuteTile(RateWindow):
    """A five-minute window whose increments add up: each increment is in exactly one of consecutive tiles.

    `rate` over five minutes ignores the increase between the last scrape of a window and the first of the next, and
    extrapolates the rest, so that a burst counts not at all or too much. If a series started, ended or was reset within
    the five minutes, there is no difference to compute; its increase is then estimated over `duration`, which is five
    minutes and a scrape interval.
    """

    def rate(self, counter: str) -> str:
        """Return the rate of each series per second: its increase, divided by 300 seconds."""
        return f"(({counter} - {counter} offset 5m) >= 0 or increase({counter}[{self.duration}])) / {TILE_SECONDS}"


class SliQueries(Protocol):
    """PromQL expressions of one indicator. Each has one value without labels, or none if there is no data."""

    def total(self, window: RateWindow) -> str:
        """Return the rate of all events per second."""

    def bad(self, window: RateWindow) -> str:
        """Return the rate of bad events per second; 0, and not missing, if there are only good events."""

    def ratio(self, window: RateWindow) -> str:
        """Return the ratio of bad events to all events; it has no value without events."""

    def missing_data_query(self) -> str:
        """Return an expression that is true if measurements exist and the rules have no data; empty if impossible."""

    def input_series(self) -> tuple[tuple[str, frozenset[str]], ...]:
        """Return the counters for a rule test, each with the events (`good`, `bad`) that increment it; can be empty."""


def sli_queries(service_slos: ServiceSLOs, slo: SLO) -> SliQueries:
    """Return the PromQL expressions of an SLO's indicator; for an outage limit, those of its failed requests."""
    if isinstance(slo.sli, Ratio):
        return _CustomQueries(slo.sli)
    if isinstance(slo.sli, Freshness):
        return _FreshnessQueries(service_selector(service_slos), slo.sli)
    if service_slos.source is Source.EVENTS:
        return _CounterQueries(service_selector(service_slos), slo.name)
    sli = Events(matchers=slo.sli.matchers) if isinstance(slo.sli, OutageLimit) else slo.sli
    return _HistogramQueries(service_selector(service_slos), sli)


@dataclass(frozen=True, slots=True)
class _CounterQueries:
    """Queries of the SLO event counter of a service. Both of its series exist from the start of the service."""

    service_matchers: str
    name: str

    def total(self, window: RateWindow) -> str:
        return f"sum({window.rate(self._series())})"

    def bad(self, window: RateWindow) -> str:
        return f"sum({window.rate(self._series(BAD))})"

    def ratio(self, window: RateWindow) -> str:
        return f"{self.bad(window)} / ({self.total(window)} > 0)"

    def missing_data_query(self) -> str:
        return ""

    def input_series(self) -> tuple[tuple[str, frozenset[str]], ...]:
        return tuple((self._series(outcome), frozenset({outcome})) for outcome in (GOOD, BAD))

    def _series(self, outcome: str = "") -> str:
        """Return the selector of the counter, of one outcome or of both."""
        return series_selector(
            f"{SLO_EVENTS.family}_total",
            self.service_matchers,
            f"{prometheus_name(SLO_NAME)}={quote(self.name)}",
            f'{prometheus_name(SLO_OUTCOME)}="{outcome}"' if outcome else "",
        )


@dataclass(frozen=True, slots=True)
class _HistogramQueries:
    """Queries of a duration histogram, for a service that does not count SLO events."""

    service_matchers: str
    sli: Events

    def total(self, window: RateWindow) -> str:
        matchers = self._successful() if self.sli.errors is Errors.SEPARATE else self._completed()
        return f"sum({window.rate(self._count(*matchers))})"

    def bad(self, window: RateWindow) -> str:
        if self.sli.threshold is None:
            failed = " or ".join(window.rate(self._count(*matchers)) for matchers in self._failed())
            return f"(sum({failed}) or 0 * {self.total(window)})"
        in_time = f"sum({window.rate(self._bucket(*self._successful()))})"
        if self.sli.errors is Errors.BAD:
            # The bucket exists and no request was in time: zero. Without the bucket there is no value.
            in_time = f"({in_time} or 0 * sum({window.rate(self._bucket())}))"
        return f"clamp_min({self.total(window)} - {in_time}, 0)"

    def ratio(self, window: RateWindow) -> str:
        return f"{self.bad(window)} / ({self.total(window)} > 0)"

    def missing_data_query(self) -> str:
        if self.sli.threshold is None:
            return ""
        return f"count({self._count()}) unless count({self._bucket()})"

    def input_series(self) -> tuple[tuple[str, frozenset[str]], ...]:
        good, failed = self._example_matchers()
        if self.sli.threshold is None:
            return (self._count(good), frozenset({GOOD})), (self._count(*failed), frozenset({BAD}))
        return (self._count(good), frozenset({GOOD, BAD})), (self._bucket(good), frozenset({GOOD}))

    def _example_matchers(self) -> tuple[str, tuple[str, ...]]:
        """Return the labels of a successful and of a failed event."""
        if self.sli.instrument == JOB_DURATION.name:
            return f'{_OUTCOME}="success"', (f'{_OUTCOME}="failure"',)
        if self.sli.instrument == REQUEST_DURATION.name:
            return f'{_STATUS}="200"', (f'{_ERROR}="500"', f'{_STATUS}="500"')
        return "", (f'{_ERROR}="ValueError"',)

    def _family(self) -> str:
        """Return the Prometheus name of the histogram."""
        if self.sli.metric is not None:
            return self.sli.metric.family
        name = prometheus_name(self.sli.instrument)
        return name if name == self.sli.instrument or name.endswith("_seconds") else f"{name}_seconds"

    def _count(self, *matchers: str) -> str:
        """Return the selector of the number of measurements."""
        return series_selector(f"{self._family()}_count", self.service_matchers, *self._label_matchers(), *matchers)

    def _bucket(self, *matchers: str) -> str:
        """Return the selector of the number of measurements within the threshold."""
        assert self.sli.threshold is not None
        return series_selector(
            f"{self._family()}_bucket",
            self.service_matchers,
            *self._label_matchers(),
            *matchers,
            le_matcher(self.sli.threshold),
        )

    def _label_matchers(self) -> tuple[str, ...]:
        return tuple(label_matcher(prometheus_name(attribute), values) for attribute, values in self.sli.matchers)

    def _bad_status(self) -> str:
        return "|".join(dict.fromkeys(status.replace("x", ".") for status in ("5xx", *self.sli.bad_status)))

    def _completed(self) -> tuple[str, ...]:
        """Return the matchers of all events except aborted ones."""
        if self.sli.instrument == JOB_DURATION.name:
            return (f'{_OUTCOME}!="{Outcome.ABORTED.value}"',)
        return (f'{_ERROR}!~"{_ABORTED}"',)

    def _successful(self) -> tuple[str, ...]:
        """Return the matchers of events that neither failed nor were aborted."""
        if self.sli.instrument == JOB_DURATION.name:
            return (f'{_OUTCOME}=~"{Outcome.SUCCESS.value}|{Outcome.REJECTED.value}"',)
        if self.sli.instrument == REQUEST_DURATION.name:
            return (f'{_ERROR}=""', f'{_STATUS}!~"{self._bad_status()}"')
        return (f'{_ERROR}=""',)

    def _failed(self) -> tuple[tuple[str, ...], ...]:
        """Return the matchers of failed events, as disjoint sets of series."""
        if self.sli.instrument == JOB_DURATION.name:
            return ((f'{_OUTCOME}=~"{Outcome.FAILURE.value}|{Outcome.TIMEOUT.value}"',),)
        with_error = (f'{_ERROR}!~"|{_ABORTED}"',)
        if self.sli.instrument == REQUEST_DURATION.name:
            return with_error, (f'{_ERROR}=""', f'{_STATUS}=~"{self._bad_status()}"')
        return (with_error,)


@dataclass(frozen=True, slots=True)
class _FreshnessQueries:
    """Queries of the age of the last success. Each minute is one event, bad if the last success is too old."""

    service_matchers: str
    sli: Freshness

    def total(self, window: RateWindow) -> str:
        return f"0 * {self._last_success()} + 1"

    def bad(self, window: RateWindow) -> str:
        return f"avg_over_time(((time() - {self._last_success()}) > bool {self.sli.within:g})[{window.duration}:1m])"

    def ratio(self, window: RateWindow) -> str:
        return self.bad(window)

    def missing_data_query(self) -> str:
        return ""

    def input_series(self) -> tuple[tuple[str, frozenset[str]], ...]:
        return ()

    def _last_success(self) -> str:
        """Return the Unix time of the last success."""
        if self.sli.timestamp:
            metric, matcher = self.sli.timestamp, ""
        else:
            metric, matcher = JOB_LAST_SUCCESS.family, f"{prometheus_name(JOB_NAME)}={quote(self.sli.job)}"
        series = series_selector(metric, self.service_matchers, matcher)
        # A restarted worker has no last success until its next one, so values of earlier workers are used as well.
        return f"max(last_over_time({series}[{format_prometheus(min(2 * self.sli.within, 30 * DAY))}]))"


@dataclass(frozen=True, slots=True)
class _CustomQueries:
    """Queries with custom PromQL."""

    sli: Ratio

    def total(self, window: RateWindow) -> str:
        return f"({self.sli.render(self.sli.total, window.duration)})"

    def bad(self, window: RateWindow) -> str:
        return f"(({self.sli.render(self.sli.bad, window.duration)}) or 0 * {self.total(window)})"

    def ratio(self, window: RateWindow) -> str:
        return f"{self.bad(window)} / ({self.total(window)} > 0)"

    def missing_data_query(self) -> str:
        return ""

    def input_series(self) -> tuple[tuple[str, frozenset[str]], ...]:
        return ()
