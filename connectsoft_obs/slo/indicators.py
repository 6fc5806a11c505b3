"""What is measured: the kinds of service level indicator, as immutable values that are checked when made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias, TypeVar

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.vocabulary import (
    HTTP_METHOD,
    HTTP_ROUTE,
    JOB_DURATION,
    JOB_NAME,
    MESSAGE_WAIT,
    MESSAGING_DESTINATION,
    PROCESS_DURATION,
    REQUEST_DURATION,
    Metric,
)

KNOWN: Final[Mapping[str, Metric]] = {
    metric.name: metric for metric in (REQUEST_DURATION, JOB_DURATION, PROCESS_DURATION, MESSAGE_WAIT)
}
"""Histograms whose labels and boundaries we know, by OpenTelemetry name."""

Matchers: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
"""Which measurements count: attribute names, each with the values it may have."""

_STATUS = re.compile(r"[1-5](xx|\d\d)")
_PLACEHOLDER = "{window}"
Word = TypeVar("Word", bound=StrEnum)


class Errors(StrEnum):
    """What a failed event is to an indicator with a threshold."""

    BAD = "bad"
    SEPARATE = "apart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """The share of good events among the measurements of one duration histogram.

    An event is bad when its outcome is failure or timeout, or when it took longer than `threshold`. Aborted ones are
    neither good nor bad.

    Args:
        instrument: OpenTelemetry name of the histogram; any other name is taken as a Prometheus histogram of seconds.
        where: which of its measurements count; all of them by default.
        threshold: seconds within which an event is good; None leaves time out of it.
        errors: whether a failed event is bad, or left to another objective (`apart`, with a threshold only).
        quantile: what the threshold was stated for, when it was a percentile.
        bad_status: status codes or classes that are bad besides every 5xx: `429`, `4xx`.
        boundaries: bucket boundaries in seconds of a histogram that is not ours and not standard.
    """

    instrument: str = REQUEST_DURATION.name
    where: Matchers = ()
    threshold: float | None = None
    errors: Errors = Errors.BAD
    quantile: float | None = None
    bad_status: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.errors is Errors.SEPARATE and self.threshold is None:
            raise ConfigurationError(
                "errors='apart'", "without a threshold only errors can be bad", "Give a threshold, or leave errors out."
            )
        for status in self.bad_status:
            if not _STATUS.fullmatch(status):
                raise ConfigurationError(
                    f"bad_status={status!r}", "it is neither a status code nor a class", "Write 429 or 4xx."
                )
        if self.quantile is not None and not 0 < self.quantile < 1:
            raise ConfigurationError(
                f"quantile={self.quantile!r}", "a quantile lies between 0 and 1", "Write 0.95 for p95."
            )

    @property
    def metric(self) -> Metric | None:
        """The histogram's definition, where it is one of ours or of the standard."""
        return KNOWN.get(self.instrument)

    @property
    def edges(self) -> tuple[float, ...]:
        """Boundaries that the histogram has without us doing anything; empty where nobody knows."""
        return self.boundaries or (self.metric.buckets if self.metric else ())

    @property
    def kind(self) -> str:
        """The word for it in files and tables."""
        if self.quantile is not None:
            return "percentile"
        if self.threshold is not None:
            return "latency"
        return {REQUEST_DURATION.name: "http_availability"}.get(self.instrument, "success")

    def values(self, attribute: str) -> tuple[str, ...]:
        """The values an attribute may have; none where it may have any."""
        return dict(self.where).get(attribute, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """The share of time in which something last succeeded no longer ago than `within` seconds.

    Args:
        within: seconds.
        job: the job whose last success counts.
        timestamp: a gauge with a Unix time in seconds instead, by its Prometheus name.
    """

    within: float
    job: str = ""
    timestamp: str = ""
    kind = "freshness"

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if bool(self.job) == bool(self.timestamp):
            raise ConfigurationError(
                f"freshness of job={self.job!r}, timestamp={self.timestamp!r}",
                "it needs one of the two",
                "Name the job, or a gauge that holds a Unix time.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageLimit:
    """No outage longer than `limit` seconds: down is no target up, no data, or too many errors.

    Args:
        limit: seconds an outage may last.
        allowed: longer ones in a period that the promise allows.
        page_after: seconds of an outage after which somebody is paged.
        outage_when: share of failed requests from which on the service counts as down.
        where: which requests count.
    """

    limit: float
    allowed: int = 0
    page_after: float = 120.0
    outage_when: float = 0.5
    where: Matchers = ()
    kind = "outage_limit"

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.page_after >= self.limit:
            raise ConfigurationError(
                f"page_after={self.page_after:g} s with limit={self.limit:g} s",
                "the page would come after the limit is broken",
                "Page before the limit, by as much time as a repair takes.",
            )
        if not 0 < self.outage_when <= 1:
            raise ConfigurationError(
                f"outage_when={self.outage_when!r}", "it is not a share of requests", "Write 0.5 for one half."
            )
        if self.allowed < 0:
            raise ConfigurationError(f"allowed={self.allowed}", "it is a number of outages", "Write 0 or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Bad over total in PromQL of your own, for what no other kind can say.

    Args:
        bad: an expression of one number with `{window}` where a range stands: a rate of bad events a second.
        total: the same of all events.
    """

    bad: str
    total: str
    kind = "ratio"

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        for name, expression in (("bad", self.bad), ("total", self.total)):
            if _PLACEHOLDER not in expression:
                raise ConfigurationError(
                    f"{name}={expression!r}",
                    "it has no {window}, and rules need it over several windows",
                    "Write [{window}] where a range such as [5m] would stand.",
                )

    @staticmethod
    def over(expression: str, window: str) -> str:
        """One of the expressions over one window."""
        return expression.strip().replace(_PLACEHOLDER, window)


Indicator: TypeAlias = Events | Freshness | OutageLimit | Ratio


def enum_member(kind: type[Word], value: str, place: str) -> Word:
    """One of the words of a kind.

    Raises:
        ConfigurationError: there is no such word.
    """
    try:
        return kind(value)
    except ValueError:
        words = ", ".join(kind)
        raise ConfigurationError(f"{place} = {value!r}", "there is no such word", f"There are {words}.") from None


def matchers(
    *,
    routes: Iterable[str] = (),
    methods: Iterable[str] = (),
    job: str = "",
    destination: str = "",
) -> Matchers:
    """Which measurements count, by the attributes that people name."""
    named = {
        HTTP_ROUTE: tuple(routes),
        HTTP_METHOD: tuple(method.upper() for method in methods),
        JOB_NAME: (job,) if job else (),
        MESSAGING_DESTINATION: (destination,) if destination else (),
    }
    return tuple((attribute, values) for attribute, values in named.items() if values)
