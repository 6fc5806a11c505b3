"""The SLOs of a service, as immutable values that are validated on construction."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.alerting import Alerting
from connectsoft_obs.slo.durations import DAY, MINUTE, format_prometheus, parse_duration
from connectsoft_obs.slo.indicators import COUNTED_INSTRUMENTS, Events, Indicator, OutageLimit, enum_member
from connectsoft_obs.slo.policy import ErrorBudgetPolicy
from connectsoft_obs.slo.receivers import Receiver

DEFAULT_RUNBOOK_BASE = "https://company.connectsoft.dev/ops/runbooks"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class Source(StrEnum):
    """Source of good and bad events: counters of the service (`connectsoft.slo.events`), or its other metrics."""

    EVENTS = "events"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True, kw_only=True)
class SLO:
    """A service level objective.

    Args:
        name: letters, digits, dots, hyphens and underscores; unique in its service, ignoring case and punctuation.
        objective: percent of events, or of time, that must be good: `99.9`. None for a limit on outages.
        sli: the service level indicator.
        description: what the SLO means to its users, in one sentence.
        owner: team or person responsible for it; the service's team by default.
        runbook: URL of its runbook; below the service's `runbook_base` by default.
        period: compliance period in seconds; the service's by default.
        alerting: alerting options.
        traffic: typical events per second, for `lint`; None if unknown.

    Raises:
        ConfigurationError: a value is not valid.
    """

    name: str
    objective: float | None
    sli: Indicator
    description: str = ""
    owner: str = ""
    runbook: str = ""
    period: float | None = None
    alerting: Alerting = field(default_factory=Alerting)
    traffic: float | None = None

    def __post_init__(self) -> None:
        """Validate the values."""
        _validate_name(self.name, "the name of an SLO")
        if isinstance(self.sli, OutageLimit):
            if self.objective is not None:
                raise ConfigurationError(
                    f"objective={self.objective!r} of {self.name!r}",
                    "an outage limit has no percentage",
                    "Remove the objective; `allowed` is the number of longer outages in a compliance period.",
                )
        elif (
            type(self.objective) not in (int, float)  # callers without a type checker pass text
            or self.objective is None
            or not 0 < self.objective < 100
        ):
            raise ConfigurationError(
                f"objective={self.objective!r} of {self.name!r}",
                "the error budget would be empty or unlimited",
                "Write a percentage above 0 and below 100, such as 99.9.",
            )
        if self.period is not None:
            object.__setattr__(self, "period", _validate_period(self.period))

    @property
    def error_budget(self) -> Decimal:
        """The ratio of events that may be bad, as an exact decimal: 0.001 for 99.9 %."""
        assert self.objective is not None
        return 1 - Decimal(repr(self.objective)) / 100

    @property
    def uses_wide_windows(self) -> bool:
        """Whether to use only the 6 h and 3 d windows, because its events are few and long."""
        if self.alerting.wide is not None:
            return self.alerting.wide
        return isinstance(self.sli, Events) and self.sli.kind == "success"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeSLO:
    """An SLO that is met while all of its component SLOs are met.

    Args:
        name: as for an SLO.
        all_of: names of SLOs of the same service.
        description: what it means to its users, in one sentence.
    """

    name: str
    all_of: tuple[str, ...]
    description: str = ""

    def __post_init__(self) -> None:
        """Validate the values."""
        _validate_name(self.name, "the name of a composite SLO")
        if len(set(self.all_of)) < 2:
            raise ConfigurationError(
                f"all_of={list(self.all_of)!r} of {self.name!r}",
                "a composite SLO needs several SLOs",
                "Name two or more.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSLOs:
    """All SLOs of one service, and the settings of the rules generated for it.

    Args:
        service: name of the service in its telemetry.
        slos: the SLOs.
        composites: the composite SLOs.
        source: `events` for a service that declares its SLOs with this package, `metrics` for any other.
        selector: label matchers of its series; `job=~"(.+/)?NAME"` by default.
        team: team responsible for the service.
        period: default compliance period in seconds.
        runbook_base: base URL of runbooks; that of an SLO is `BASE/SERVICE-NAME.html`.
        dashboard_base: base URL of Grafana; without it alerts have no link to a dashboard.
        review_at: percentages of the remaining error budget at which a review alert fires.
        receivers: Alertmanager receivers of the alerts of each severity.
        policy: when the error budget permits a deployment, and who decides.
        always_on: whether having no instance is an outage; false for services that scale to zero.
        scraped: whether Prometheus scrapes the service, so that `up` exists; false if the service only pushes; None if
            it is not stated, and either is possible.
        scrape_interval: seconds between scrapes, or between pushes.
        interval: seconds between rule evaluations.
        retention: seconds that Prometheus retains data; None if unknown.

    Raises:
        ConfigurationError: a value is not valid.
    """

    service: str
    slos: tuple[SLO, ...]
    composites: tuple[CompositeSLO, ...] = ()
    source: Source = Source.EVENTS
    selector: str = ""
    team: str = ""
    period: float = 30 * DAY
    runbook_base: str = DEFAULT_RUNBOOK_BASE
    dashboard_base: str = ""
    review_at: tuple[float, ...] = (50, 25, 0)
    receivers: tuple[Receiver, ...] = ()
    policy: ErrorBudgetPolicy = field(default_factory=ErrorBudgetPolicy)
    always_on: bool = True
    scraped: bool | None = None
    scrape_interval: float = 30
    interval: float = 30
    retention: float | None = None

    def __post_init__(self) -> None:
        """Validate the values."""
        _validate_name(self.service, "the name of a service")
        object.__setattr__(self, "source", enum_member(Source, self.source, "source"))
        object.__setattr__(self, "period", _validate_period(self.period))
        if not 1 <= self.interval <= MINUTE or (5 * MINUTE) % self.interval:
            raise ConfigurationError(
                f"interval={self.interval:g} s",
                "error budgets are summed in steps of five minutes; the interval must divide them and be at most a minute",
                "Use 15s, 30s or 1m.",
            )
        if any(not 0 <= percent <= 100 for percent in self.review_at):
            raise ConfigurationError(
                f"review_at={list(self.review_at)!r}",
                "the values must be percentages from 0 to 100",
                "Write for example [50, 25, 0].",
            )
        self._reject_duplicate_names()
        for slo in self.slos:
            if isinstance(slo.sli, Events):
                if self.source is Source.EVENTS:
                    validate_instrument(slo.name, slo.sli)
                _validate_threshold(slo.name, slo.sli, self.source)

    @property
    def all_slos(self) -> tuple[SLO | CompositeSLO, ...]:
        """SLOs and composite SLOs."""
        return (*self.slos, *self.composites)

    def slo_id(self, slo: SLO | CompositeSLO) -> str:
        """Return the identifier of an SLO in rules: `SERVICE-NAME`."""
        return f"{self.service}-{slo.name}"

    def period_seconds(self, slo: SLO) -> int:
        """Return the compliance period of an SLO in seconds."""
        return round(slo.period or self.period)

    def runbook_url(self, slo: SLO | CompositeSLO) -> str:
        """Return the URL of the runbook of an SLO."""
        runbook = slo.runbook if isinstance(slo, SLO) else ""
        return runbook or f"{self.runbook_base.rstrip('/')}/{self.slo_id(slo).lower()}.html"

    def find(self, name: str) -> SLO:
        """Return the SLO with a name or identifier.

        Raises:
            ConfigurationError: the service has no such SLO.
        """
        for slo in self.slos:
            if slo.name == name or self.slo_id(slo) == name:
                return slo
        names = ", ".join(slo.name for slo in self.slos)
        raise ConfigurationError(f"{name!r}", f"{self.service} has no such SLO", f"Use one of {names}.")

    def replace(self, **changes: object) -> ServiceSLOs:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def _reject_duplicate_names(self) -> None:
        names: dict[str, str] = {}
        for slo in self.all_slos:
            normalized = re.sub(r"[^a-z0-9]", "", slo.name.lower())
            if normalized in names:
                raise ConfigurationError(
                    f"objectives {names[normalized]!r} and {slo.name!r}",
                    "Azure and alert names ignore case and punctuation, so the names are equal",
                    "Rename one of them.",
                )
            names[normalized] = slo.name
        for composite in self.composites:
            for name in composite.all_of:
                self.find(name)


def validate_instrument(name: str, sli: Events) -> None:
    """Reject an indicator whose measurements are not counted as SLO events.

    Raises:
        ConfigurationError: the indicator uses a histogram that this package does not count.
    """
    if sli.instrument not in COUNTED_INSTRUMENTS:
        raise ConfigurationError(
            f"instrument={sli.instrument!r} of {name!r}",
            "this package does not count its events",
            f"Use one of {', '.join(COUNTED_INSTRUMENTS)}; or declare the SLO in a separate file with "
            "source = 'metrics'.",
        )


def _validate_name(name: str, subject: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r}",
            f"{subject} must have 1 to 63 letters, digits, dots, hyphens or underscores",
            "Use a name such as auth-availability.",
        )


def _validate_period(period: float) -> int:
    duration = parse_duration(period, "period")
    if duration % DAY or not 7 * DAY <= duration <= 366 * DAY:
        raise ConfigurationError(
            f"period={format_prometheus(duration)}",
            "alerts use windows of up to three days, so a compliance period is a number of days from 7 to 366",
            "Write 7d, 28d, 30d or 90d.",
        )
    return round(duration)


def _validate_threshold(name: str, sli: Events, source: Source) -> None:
    """Reject a threshold that is not a bucket boundary of a histogram which this package does not write."""
    threshold, boundaries = sli.threshold, sli.effective_boundaries
    if threshold is None or source is Source.EVENTS or not boundaries or threshold in boundaries:
        return
    below = max((boundary for boundary in boundaries if boundary < threshold), default=None)
    above = min((boundary for boundary in boundaries if boundary > threshold), default=None)
    alternatives = " or ".join(f"{boundary:g} s" for boundary in (below, above) if boundary is not None)
    raise ConfigurationError(
        f"threshold={threshold:g} s of {name!r}",
        f"{sli.instrument} has no bucket boundary there, so the rules would have no data",
        f"Use {alternatives}; or declare the SLO in the service (source = 'events'), which adds the boundary.",
    )
