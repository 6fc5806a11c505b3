"""Rules as values, before they are written for Prometheus or for Azure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from connectsoft_obs.ops.slo.promql import quoted, series
from connectsoft_obs.slo.model import SLO, CompositeSLO, ServiceSLOs
from connectsoft_obs.vocabulary import (
    RESPONSES,
    SLO_LABEL_ID,
    SLO_LABEL_NAME,
    SLO_LABEL_SERVICE,
    SLO_LABEL_SEVERITY,
    SLO_LABEL_TEAM,
    Severity,
)


@dataclass(frozen=True, slots=True)
class TargetLimits:
    """What a target asks of rules.

    Args:
        shortest_interval: seconds between evaluations at the least.
        most_rules: rules a group may have.
        longest_query: seconds a query may look back.
        queries_in_text: whether annotations may ask for values besides their own.
    """

    shortest_interval: float = 1
    most_rules: int = 1000
    longest_query: float = float("inf")
    queries_in_text: bool = True


PROMETHEUS: Final = TargetLimits()
AZURE: Final = TargetLimits(60, 20, 32 * 86400, False)
"""Azure Monitor managed service for Prometheus: its documented limits of rule groups and queries."""


@dataclass(frozen=True, slots=True)
class RecordingRule:
    """A recorded series."""

    name: str
    expression: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AlertingRule:
    """An alert. `hold` is how many seconds its condition must last; 0 for none."""

    name: str
    expression: str
    severity: Severity
    hold: float
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


Rule: TypeAlias = RecordingRule | AlertingRule


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after the other; `about` says for which promise."""

    name: str
    about: str
    interval: float
    rules: tuple[Rule, ...]

    @property
    def alerts(self) -> tuple[AlertingRule, ...]:
        """Its alerts."""
        return tuple(rule for rule in self.rules if isinstance(rule, AlertingRule))


@dataclass(frozen=True, slots=True)
class RuleContext:
    """The promise, or the service, that rules are about: their labels, names and links."""

    promises: ServiceSLOs
    promise: SLO | CompositeSLO | None
    dialect: TargetLimits
    labels: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Work out the labels."""
        found = {SLO_LABEL_ID: self.id}
        if self.promise is not None:
            found[SLO_LABEL_NAME] = self.promise.name
        found[SLO_LABEL_SERVICE] = self.promises.service
        object.__setattr__(self, "labels", found)

    @property
    def id(self) -> str:
        """What identifies it in every series and alert."""
        return self.promises.service if self.promise is None else self.promises.id(self.promise)

    @property
    def interval(self) -> float:
        """Seconds between evaluations."""
        return max(self.promises.interval, self.dialect.shortest_interval)

    def recorded(self, name: str) -> str:
        """The selector of one of its recorded series."""
        return series(name, f"{SLO_LABEL_ID}={quoted(self.id)}")

    def record(self, name: str, expression: str) -> RecordingRule:
        """A recorded series of it."""
        return RecordingRule(name, expression, self.labels)

    def alert(
        self,
        suffix: str,
        expression: str,
        severity: Severity,
        texts: Mapping[str, str],
        *,
        hold: float = 0,
        labels: Mapping[str, str] | None = None,
    ) -> AlertingRule:
        """An alert about it, with its links and what its severity asks for."""
        team = self._team()
        all_labels = {**self.labels, SLO_LABEL_SEVERITY: severity.value, **(labels or {})}
        annotations = {**texts, "response": RESPONSES[severity].text, "runbook_url": self._runbook()}
        if (link := dashboard_url(self.promises, self.id if self.promise is not None else "")) is not None:
            annotations["dashboard_url"] = link
        return AlertingRule(
            camel(self.id) + suffix,
            expression,
            severity,
            hold,
            all_labels | ({SLO_LABEL_TEAM: escape_template(team)} if team else {}),
            annotations,
        )

    def _team(self) -> str:
        own = self.promise.owner if isinstance(self.promise, SLO) else ""
        return own or self.promises.team

    def _runbook(self) -> str:
        if self.promise is not None:
            return self.promises.runbook_of(self.promise)
        return f"{self.promises.runbook_base.rstrip('/')}/{self.promises.service.lower()}.html"


def escape_template(text: str) -> str:
    """Text that a template shows as it is; labels and annotations of alerts are templates."""
    return text.replace("{{", '{{"{{"}}')


def camel(text: str) -> str:
    """An alert's name from an id: `IdentityAuthAvailability`."""
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", text))


def dashboard_uid(service: str, kind: str) -> str:
    """The identity of a generated dashboard in Grafana, at most 40 characters."""
    import hashlib

    readable = re.sub(r"[^a-z0-9-]", "-", f"{kind}-{service}".lower())
    return readable if len(readable) <= 40 else f"{readable[:31]}-{hashlib.sha256(readable.encode()).hexdigest()[:8]}"


def dashboard_url(promises: ServiceSLOs, slo_id: str) -> str | None:
    """The address of the dashboard of a promise, or of a service where no promise is given."""
    if not promises.dashboard_base:
        return None
    base = f"{promises.dashboard_base.rstrip('/')}/d/{dashboard_uid(promises.service, 'slo' if slo_id else 'red')}"
    return f"{base}?var-slo={slo_id}" if slo_id else base
