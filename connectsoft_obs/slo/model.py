"""What a service promises: objectives on indicators, as immutable values that are checked when made."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.durations import DAY, MINUTE, prometheus, seconds
from connectsoft_obs.slo.indicators import Events, Indicator, OutageLimit, enum_member
from connectsoft_obs.vocabulary import Severity

RUNBOOKS = "https://company.connectsoft.dev/ops/runbooks"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class Source(StrEnum):
    """Where good and bad are counted: in the service, which reports `connectsoft.slo.events`, or from its metrics."""

    EVENTS = "events"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerting:
    """How an objective alerts.

    Args:
        min_bad_events: bad events in the long window below which nobody is paged.
        hard_down: page as soon as nine of ten events are bad; by default where burn rates alone are too slow for Sev1.
        no_data: whether a missing indicator alerts; by default where the service is always on.
        wide: 6 h and 3 d windows only, for few and long events; by default for jobs.
        severity: the most urgent severity its alerts may have.
    """

    min_bad_events: int = 3
    hard_down: bool | None = None
    no_data: bool | None = None
    wide: bool | None = None
    severity: Severity = Severity.SEV1

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        object.__setattr__(self, "severity", enum_member(Severity, self.severity, "severity"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SLO:
    """One promise.

    Args:
        name: letters, digits, dots and hyphens; unique in its service whatever the case.
        objective: percent of events, or of time, that are good: `99.9`. None for a limit on outages.
        sli: what is measured.
        description: the promise in one sentence, for those who did not write it.
        owner: who answers for it; the service's team by default.
        runbook: address of its runbook; one below the service's `runbook_base` by default.
        period: seconds over which it holds; the service's by default.
        alerting: how it alerts.
        traffic: events a second on an ordinary day, for `lint`; None when unknown.

    Raises:
        ConfigurationError: a value that cannot work.
    """

    name: str
    objective: float | None
    sli: Indicator
    description: str = ""
    owner: str = ""
    runbook: str = ""
    period: float | None = None
    alerting: Alerting = Alerting()
    traffic: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _checked_name(self.name, "an objective's name")
        if isinstance(self.sli, OutageLimit):
            if self.objective is not None:
                raise ConfigurationError(
                    f"objective={self.objective!r} of {self.name!r}",
                    "a limit on outages has no percentage",
                    "Leave the objective out; `allowed` is the number of longer outages in a period.",
                )
        elif self.objective is None or not 0 < self.objective < 100:
            raise ConfigurationError(
                f"objective={self.objective!r} of {self.name!r}",
                "it leaves no budget, or promises nothing",
                "Write a percentage above 0 and below 100, such as 99.9.",
            )
        if self.period is not None:
            object.__setattr__(self, "period", _checked_period(self.period))

    @property
    def budget(self) -> Decimal:
        """The share of events that may be bad, exactly: 0.001 for 99.9 %."""
        assert self.objective is not None
        return 1 - Decimal(repr(self.objective)) / 100

    @property
    def wide(self) -> bool:
        """Whether its events are too few and too long for windows below half an hour."""
        if self.alerting.wide is not None:
            return self.alerting.wide
        return isinstance(self.sli, Events) and self.sli.kind == "success"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeSLO:
    """A promise that is kept while all of several are.

    Args:
        name: as for an objective.
        all_of: names of objectives of the same service.
        description: the promise in one sentence.
    """

    name: str
    all_of: tuple[str, ...]
    description: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _checked_name(self.name, "a composite's name")
        if len(set(self.all_of)) < 2:
            raise ConfigurationError(
                f"all_of={list(self.all_of)!r} of {self.name!r}", "it is not several promises", "Name two or more."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSLOs:
    """Everything one service promises, and what its rules need to know about it.

    Args:
        service: name of the service, as its telemetry has it.
        slos: the promises.
        composites: promises about promises.
        source: `events` for a service that declares its objectives with this package, `metrics` for any other.
        selector: label matchers of its series; `job=~"(.+/)?NAME"` by default.
        team: who answers for it.
        period: seconds over which promises hold.
        runbook_base: where runbooks are; a promise's is `BASE/SERVICE-NAME.html`.
        dashboard_base: address of Grafana; without it alerts carry no link to a dashboard.
        review_at: percent of budget left at which the promise is reviewed.
        always_on: whether having no instance is an outage; false for what scales to zero.
        scraped: whether Prometheus scrapes it, so that `up` tells whether it lives; false when it only pushes.
        scrape_interval: seconds between scrapes, or between pushes.
        interval: seconds between evaluations of its rules.
        retention: seconds that Prometheus keeps data; None when unknown.

    Raises:
        ConfigurationError: a value that cannot work.
    """

    service: str
    slos: tuple[SLO, ...]
    composites: tuple[CompositeSLO, ...] = ()
    source: Source = Source.EVENTS
    selector: str = ""
    team: str = ""
    period: float = 30 * DAY
    runbook_base: str = RUNBOOKS
    dashboard_base: str = ""
    review_at: tuple[float, ...] = (50, 25, 0)
    always_on: bool = True
    scraped: bool = True
    scrape_interval: float = 30
    interval: float = 30
    retention: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _checked_name(self.service, "a service's name")
        object.__setattr__(self, "source", enum_member(Source, self.source, "source"))
        object.__setattr__(self, "period", _checked_period(self.period))
        if not 1 <= self.interval <= MINUTE or (5 * MINUTE) % self.interval:
            raise ConfigurationError(
                f"interval={self.interval:g} s",
                "budgets are summed in steps of five minutes, which it must divide, and it may be a minute at the most",
                "Use 15s, 30s or 1m.",
            )
        if any(not 0 <= left <= 100 for left in self.review_at):
            raise ConfigurationError(
                f"review_at={list(self.review_at)!r}", "these are not percentages", "Write for example [50, 25, 0]."
            )
        self._refuse_doubles()
        for slo in self.slos:
            if isinstance(slo.sli, Events):
                _refuse_between_boundaries(slo.name, slo.sli, self.source)

    @property
    def all(self) -> tuple[SLO | CompositeSLO, ...]:
        """Promises and composites."""
        return (*self.slos, *self.composites)

    def id(self, promise: SLO | CompositeSLO) -> str:
        """What identifies a promise in rules: the service and its name."""
        return f"{self.service}-{promise.name}"

    def period_of(self, slo: SLO) -> int:
        """Seconds over which a promise holds."""
        return round(slo.period or self.period)

    def runbook_of(self, promise: SLO | CompositeSLO) -> str:
        """Address of a promise's runbook."""
        own = promise.runbook if isinstance(promise, SLO) else ""
        return own or f"{self.runbook_base.rstrip('/')}/{self.id(promise).lower()}.html"

    def named(self, name: str) -> SLO:
        """The promise with a name.

        Raises:
            ConfigurationError: there is none.
        """
        for slo in self.slos:
            if slo.name == name or self.id(slo) == name:
                return slo
        known = ", ".join(slo.name for slo in self.slos)
        raise ConfigurationError(f"{name!r}", f"{self.service} has no such promise", f"It has {known}.")

    def replace(self, **changes: object) -> ServiceSLOs:
        """The same with something changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def _refuse_doubles(self) -> None:
        seen: dict[str, str] = {}
        for promise in self.all:
            plain = re.sub(r"[^a-z0-9]", "", promise.name.lower())
            if plain in seen:
                raise ConfigurationError(
                    f"objectives {seen[plain]!r} and {promise.name!r}",
                    "they are one name to Azure and in alert names, where neither case nor punctuation counts",
                    "Rename one of them.",
                )
            seen[plain] = promise.name
        for composite in self.composites:
            for name in composite.all_of:
                self.named(name)


def _checked_name(name: str, what: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r}", f"{what} is 1 to 63 letters, digits, dots, hyphens and underscores", "Write auth-availability."
        )


def _checked_period(period: float) -> int:
    length = seconds(period, "period")
    if length % DAY or not 7 * DAY <= length <= 366 * DAY:
        raise ConfigurationError(
            f"period={prometheus(length)}",
            "alerts look at windows of up to three days, so a promise holds for whole days, from 7 to 366",
            "Write 7d, 28d, 30d or 90d.",
        )
    return round(length)


def _refuse_between_boundaries(name: str, sli: Events, source: Source) -> None:
    """Between two boundaries of a histogram that we do not write, nobody can tell good from bad."""
    threshold, edges = sli.threshold, sli.edges
    if threshold is None or source is Source.EVENTS or not edges or threshold in edges:
        return
    below = max((edge for edge in edges if edge < threshold), default=None)
    above = min((edge for edge in edges if edge > threshold), default=None)
    near = " or ".join(f"{edge:g} s" for edge in (below, above) if edge is not None)
    raise ConfigurationError(
        f"threshold={threshold:g} s of {name!r}",
        f"{sli.instrument} has no bucket boundary there, so the rule would never see data",
        f"Use {near}; or declare the objective in the service (source = 'events'), which adds the boundary.",
    )
