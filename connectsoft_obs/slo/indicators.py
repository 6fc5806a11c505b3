"""The types of service level indicator (SLI), as immutable values that are validated on construction."""

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
    HTTP_STATUS,
    JOB_DURATION,
    JOB_NAME,
    MESSAGE_WAIT,
    MESSAGING_DESTINATION,
    PROCESS_DURATION,
    REQUEST_DURATION,
    Metric,
)

BUILT_IN_HISTOGRAMS: Final[Mapping[str, Metric]] = {
    metric.name: metric for metric in (REQUEST_DURATION, JOB_DURATION, PROCESS_DURATION, MESSAGE_WAIT)
}
"""Histograms whose labels and bucket boundaries are defined in this package, by OpenTelemetry name."""

COUNTED_INSTRUMENTS: Final = (REQUEST_DURATION.name, JOB_DURATION.name, PROCESS_DURATION.name)
"""Instruments whose measurements are counted as SLO events when they are recorded."""

Matchers: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
"""Which measurements count: attribute names, each with its allowed values."""

_STATUS = re.compile(r"[1-5](xx|\d\d)")
_PLACEHOLDER = "{window}"
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_STRINGS = re.compile(r"""\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`""")
EnumT = TypeVar("EnumT", bound=StrEnum)


class Errors(StrEnum):
    """How an indicator with a threshold treats failed events: as bad, or ignored because another SLO counts them."""

    BAD = "bad"
    SEPARATE = "apart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """The ratio of good events among the measurements of one duration histogram.

    An event is bad if its outcome is failure or timeout, or if it took longer than `threshold`. Aborted events are
    neither good nor bad.

    Args:
        instrument: OpenTelemetry name of the histogram; any other name is read as a Prometheus histogram in seconds.
        matchers: which measurements count; all by default.
        threshold: seconds up to which an event is good; None if the duration does not matter.
        errors: whether a failed event is bad, or ignored (`apart`, with a threshold only).
        quantile: the quantile that the SLO was declared with, if it was declared as a percentile.
        bad_status: status codes or classes that are bad in addition to every 5xx: `429`, `4xx`.
        boundaries: bucket boundaries, in seconds, of a histogram that this package does not define.
    """

    instrument: str = REQUEST_DURATION.name
    matchers: Matchers = ()
    threshold: float | None = None
    errors: Errors = Errors.BAD
    quantile: float | None = None
    bad_status: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Validate the values."""
        if self.errors is Errors.SEPARATE and self.threshold is None:
            raise ConfigurationError(
                "errors='apart'",
                "without a threshold only failed events can be bad",
                "Set a threshold, or remove errors.",
            )
        for status in self.bad_status:
            if not _STATUS.fullmatch(status):
                raise ConfigurationError(
                    f"bad_status={status!r}", "it is neither a status code nor a status class", "Write 429 or 4xx."
                )
            if status in ("1xx", "2xx"):
                raise ConfigurationError(
                    f"bad_status={status!r}", "every successful request would be bad", "Write 429 or 4xx."
                )
        self._validate_labels()
        if self.quantile is not None and not 0 < self.quantile < 1:
            raise ConfigurationError(
                f"quantile={self.quantile!r}", "a quantile is between 0 and 1", "Write 0.95 for p95."
            )

    def _validate_labels(self) -> None:
        """Reject matchers of labels that the histogram does not have: the indicator would never count an event."""
        if self.metric is None:
            return
        required = [attribute for attribute, _ in self.matchers] + ([HTTP_STATUS] if self.bad_status else [])
        for attribute in required:
            if attribute not in self.metric.labels:
                raise ConfigurationError(
                    f"{attribute} of {self.instrument}",
                    "the histogram has no such label, so no event would count",
                    f"Its labels are {', '.join(self.metric.labels)}. Remove the key, or set another instrument.",
                )

    @property
    def metric(self) -> Metric | None:
        """Definition of the histogram; None if this package does not define it."""
        return BUILT_IN_HISTOGRAMS.get(self.instrument)

    @property
    def effective_boundaries(self) -> tuple[float, ...]:
        """Bucket boundaries that the histogram is known to have; empty if unknown."""
        return self.boundaries or (self.metric.buckets if self.metric else ())

    @property
    def kind(self) -> str:
        """Name of the SLI type in `slo.toml`."""
        if self.quantile is not None:
            return "percentile"
        if self.threshold is not None:
            return "latency"
        return {REQUEST_DURATION.name: "http_availability"}.get(self.instrument, "success")

    def allowed_values(self, attribute: str) -> tuple[str, ...]:
        """Return the allowed values of an attribute; empty if every value is allowed."""
        return dict(self.matchers).get(attribute, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """The ratio of time in which the last success is at most `within` seconds old.

    Args:
        within: maximum age of the last success, in seconds.
        job: the job whose last success counts.
        timestamp: alternatively, the Prometheus name of a gauge that holds a Unix time in seconds.
    """

    within: float
    job: str = ""
    timestamp: str = ""
    kind = "freshness"

    def __post_init__(self) -> None:
        """Validate the values."""
        if bool(self.job) == bool(self.timestamp):
            raise ConfigurationError(
                f"freshness of job={self.job!r}, timestamp={self.timestamp!r}",
                "exactly one of the two is required",
                "Set job, or set timestamp to a gauge that holds a Unix time.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageLimit:
    """No outage longer than `limit` seconds. A service is down if no target is up, data is missing, or requests fail.

    Args:
        limit: maximum duration of an outage, in seconds.
        allowed: number of longer outages that the SLO allows in its compliance period.
        page_after: seconds of an outage before it pages.
        outage_when: ratio of failed requests at which the service counts as down.
        matchers: which requests count; all by default.
    """

    limit: float
    allowed: int = 0
    page_after: float = 120.0
    outage_when: float = 0.5
    matchers: Matchers = ()
    kind = "outage_limit"

    def __post_init__(self) -> None:
        """Validate the values."""
        if self.page_after >= self.limit:
            raise ConfigurationError(
                f"page_after={self.page_after:g} s with limit={self.limit:g} s",
                "the page would be sent after the limit is exceeded",
                "Set page_after below limit, with enough time left for a repair.",
            )
        if not 0 < self.outage_when <= 1:
            raise ConfigurationError(
                f"outage_when={self.outage_when!r}",
                "it is not a ratio above 0 and up to 1",
                "Write 0.5 for half of the requests.",
            )
        if self.allowed < 0:
            raise ConfigurationError(
                f"allowed={self.allowed}", "it is a negative number of outages", "Write 0 or more."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Bad over total events in custom PromQL, for indicators that no other type covers.

    Args:
        bad: expression with one value, the rate of bad events per second, with `{window}` in place of the range.
        total: the same for all events.
    """

    bad: str
    total: str
    kind = "ratio"

    def __post_init__(self) -> None:
        """Validate the values."""
        for name, expression in (("bad", self.bad), ("total", self.total)):
            if _PLACEHOLDER not in expression:
                raise ConfigurationError(
                    f"{name}={expression!r}",
                    "it has no {window}, and rules evaluate it over several windows",
                    "Write [{window}] in place of a range such as [5m].",
                )
            if not _has_matching_brackets(expression):
                raise ConfigurationError(
                    f"{name}={expression!r}", "its brackets do not match, so it is not PromQL", "Close each bracket."
                )
        if "".join(self.bad.split()) == "".join(self.total.split()):
            raise ConfigurationError(
                f"bad={self.bad!r}", "it is equal to total, so every event is bad", "Select the bad events only."
            )

    @staticmethod
    def render(expression: str, window: str) -> str:
        """Return an expression with its window filled in."""
        return expression.strip().replace(_PLACEHOLDER, window)


Indicator: TypeAlias = Events | Freshness | OutageLimit | Ratio


def _has_matching_brackets(expression: str) -> bool:
    """Return whether each bracket outside of strings is closed, in order."""
    expected: list[str] = []
    for character in _STRINGS.sub("", expression):
        if character in _BRACKETS:
            expected.append(_BRACKETS[character])
        elif character in _BRACKETS.values() and (not expected or expected.pop() != character):
            return False
    return not expected


def enum_member(enum_type: type[EnumT], value: str, field: str) -> EnumT:
    """Return the member of an enumeration with this value.

    Args:
        enum_type: the enumeration.
        value: value of the member.
        field: name of the setting, for the error message.

    Raises:
        ConfigurationError: the enumeration has no such value.
    """
    try:
        return enum_type(value)
    except ValueError:
        allowed = ", ".join(enum_type)
        raise ConfigurationError(f"{field} = {value!r}", "the value is not allowed", f"Use one of {allowed}.") from None


def as_tuple(values: str | Iterable[str]) -> tuple[str, ...]:
    """Return one or several texts as a tuple; a single text is not split into letters."""
    return (values,) if isinstance(values, str) else tuple(values)


def matchers(
    *,
    routes: Iterable[str] = (),
    methods: Iterable[str] = (),
    job: str = "",
    destination: str = "",
) -> Matchers:
    """Return matchers for these HTTP routes and methods, this job or this messaging destination."""
    attributes = {
        HTTP_ROUTE: as_tuple(routes),
        HTTP_METHOD: tuple(method.upper() for method in as_tuple(methods)),
        JOB_NAME: (job,) if job else (),
        MESSAGING_DESTINATION: (destination,) if destination else (),
    }
    return tuple((attribute, values) for attribute, values in attributes.items() if values)
