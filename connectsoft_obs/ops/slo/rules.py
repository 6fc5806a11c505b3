"""Recording and alerting rules as values, independent of the target that they are generated for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from connectsoft_obs.ops.slo.promql import quote, series_selector
from connectsoft_obs.slo.alerting import AlertGroup, Alerting
from connectsoft_obs.slo.indicators import OutageLimit
from connectsoft_obs.slo.model import SLO, CompositeSLO, ServiceSLOs
from connectsoft_obs.vocabulary import (
    SEVERITY_POLICIES,
    SLO_LABEL_ID,
    SLO_LABEL_NAME,
    SLO_LABEL_SERVICE,
    SLO_LABEL_SEVERITY,
    SLO_LABEL_TEAM,
    Severity,
)


@dataclass(frozen=True, slots=True)
class TargetLimits:
    """Limits of the system that evaluates the rules.

    Args:
        min_interval: minimum seconds between evaluations.
        max_rules_per_group: maximum number of rules in a group.
        max_query_range: maximum range of a query in seconds.
        supports_template_queries: whether annotation templates can query other series.
        supports_inhibition: whether a more urgent alert can mute others, as in Alertmanager.
    """

    min_interval: float = 1
    max_rules_per_group: int = 1000
    max_query_range: float = float("inf")
    supports_template_queries: bool = True
    supports_inhibition: bool = True


PROMETHEUS_LIMITS: Final = TargetLimits()
AZURE_LIMITS: Final = TargetLimits(60, 20, 32 * 86400, supports_template_queries=False, supports_inhibition=False)
"""Documented limits of rule groups and queries in Azure Monitor managed service for Prometheus."""


@dataclass(frozen=True, slots=True)
class RecordingRule:
    """A recording rule."""

    name: str
    expression: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AlertingRule:
    """An alerting rule. `for_seconds` is how long its condition must hold before it fires."""

    name: str
    expression: str
    severity: Severity
    for_seconds: float
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


Rule: TypeAlias = RecordingRule | AlertingRule


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules that are evaluated in order, for one SLO or for a service (`slo_id`)."""

    name: str
    slo_id: str
    interval: float
    rules: tuple[Rule, ...]

    @property
    def alerts(self) -> tuple[AlertingRule, ...]:
        """The alerting rules of the group."""
        return tuple(rule for rule in self.rules if isinstance(rule, AlertingRule))


@dataclass(frozen=True, slots=True)
class RuleContext:
    """Creates the rules of one SLO, or of the service if `slo` is None, with their labels and links."""

    service_slos: ServiceSLOs
    slo: SLO | CompositeSLO | None
    limits: TargetLimits
    labels: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Set the labels that all rules have."""
        labels = {SLO_LABEL_ID: self.id}
        if self.slo is not None:
            labels[SLO_LABEL_NAME] = self.slo.name
        labels[SLO_LABEL_SERVICE] = self.service_slos.service
        object.__setattr__(self, "labels", labels)

    @property
    def id(self) -> str:
        """Value of the label `slo_id`: the identifier of the SLO, or the name of the service."""
        return self.service_slos.service if self.slo is None else self.service_slos.slo_id(self.slo)

    @property
    def interval(self) -> float:
        """Seconds between evaluations, at least the minimum of the target."""
        return max(self.service_slos.interval, self.limits.min_interval)

    def recorded_series(self, name: str) -> str:
        """Return the selector of a series that its recording rules write."""
        return series_selector(name, f"{SLO_LABEL_ID}={quote(self.id)}")

    def recording_rule(self, name: str, expression: str) -> RecordingRule:
        """Create a recording rule."""
        return RecordingRule(name, expression, self.labels)

    def alerting_rule(
        self,
        suffix: str,
        expression: str,
        severity: Severity,
        annotations: Mapping[str, str],
        *,
        for_seconds: float = 0,
        labels: Mapping[str, str] | None = None,
    ) -> AlertingRule:
        """Create an alerting rule, with the links and the required response as annotations."""
        owner = self._owner()
        all_labels = {**self.labels, SLO_LABEL_SEVERITY: severity.value, **(labels or {})}
        alerting = self.slo.alerting if isinstance(self.slo, SLO) else Alerting()
        group_labels, group_annotations = _group_texts(alerting, severity)
        links = {"response": SEVERITY_POLICIES[severity].text, "runbook_url": self._runbook_url()}
        if (dashboard := dashboard_url(self.service_slos, self.id if self.slo is not None else "")) is not None:
            links["dashboard_url"] = dashboard
        return AlertingRule(
            camel_case(self.id) + suffix,
            expression,
            severity,
            for_seconds,
            {
                **all_labels,
                **({SLO_LABEL_TEAM: escape_template(owner)} if owner else {}),
                **alerting.labels,
                **group_labels,
            },
            {**annotations, **links, **alerting.annotations, **group_annotations},
        )

    def _owner(self) -> str:
        owner = self.slo.owner if isinstance(self.slo, SLO) else ""
        return owner or self.service_slos.team

    def _runbook_url(self) -> str:
        if self.slo is not None:
            return self.service_slos.runbook_url(self.slo)
        return f"{self.service_slos.runbook_base.rstrip('/')}/{self.service_slos.service.lower()}.html"


def alert_group(severity: Severity) -> AlertGroup | None:
    """Return the group of the alerts of a severity, None for reviews."""
    groups = {Severity.SEV1: AlertGroup.PAGE, Severity.SEV2: AlertGroup.PAGE, Severity.SEV3: AlertGroup.TICKET}
    return groups.get(severity)


def is_enabled(slo: SLO, severity: Severity) -> bool:
    """Return whether an SLO has alerts of a severity."""
    return alert_group(severity) not in slo.alerting.disable


def _group_texts(alerting: Alerting, severity: Severity) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the declared labels and annotations of pages or of tickets."""
    group = alert_group(severity)
    if group is None:
        return {}, {}
    if group is AlertGroup.PAGE:
        return alerting.page_labels, alerting.page_annotations
    return alerting.ticket_labels, alerting.ticket_annotations


def escape_template(text: str) -> str:
    """Escape text for labels and annotations of alerts, which are Go templates."""
    return text.replace("{{", '{{"{{"}}')


def camel_case(text: str) -> str:
    """Convert an identifier to an alert name: `IdentityAuthAvailability`."""
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", text))


def dashboard_uid(service: str, kind: str) -> str:
    """Return the Grafana UID of a generated dashboard, at most 40 characters."""
    import hashlib

    readable = re.sub(r"[^a-z0-9-]", "-", f"{kind}-{service}".lower())
    return readable if len(readable) <= 40 else f"{readable[:31]}-{hashlib.sha256(readable.encode()).hexdigest()[:8]}"


def dashboard_url(service_slos: ServiceSLOs, slo_id: str) -> str | None:
    """Return the URL of the dashboard of an SLO, or of the service if `slo_id` is empty; None without a base URL."""
    if not service_slos.dashboard_base:
        return None
    base = (
        f"{service_slos.dashboard_base.rstrip('/')}/d/{dashboard_uid(service_slos.service, 'slo' if slo_id else 'red')}"
    )
    outages = {service_slos.slo_id(slo) for slo in service_slos.slos if isinstance(slo.sli, OutageLimit)}
    # The dashboard shows all outage limits in a row of their own; the others are values of a variable.
    return f"{base}?var-slo={slo_id}" if slo_id and slo_id not in outages else base
