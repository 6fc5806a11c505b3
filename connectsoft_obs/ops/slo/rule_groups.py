"""Promises to groups of rules: what is recorded and what alerts, for each promise and for the service."""

from __future__ import annotations

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo import burn_rate_alerts, meta_alerts, outages, recording_rules
from connectsoft_obs.ops.slo.burn_rate_windows import pairs
from connectsoft_obs.ops.slo.promql import number
from connectsoft_obs.ops.slo.rules import (
    PROMETHEUS,
    AlertingRule,
    Group,
    RecordingRule,
    Rule,
    RuleContext,
    TargetLimits,
)
from connectsoft_obs.ops.slo.sli_queries import sli_queries
from connectsoft_obs.slo.durations import humanize, prometheus
from connectsoft_obs.slo.indicators import OutageLimit
from connectsoft_obs.slo.model import SLO, CompositeSLO, ServiceSLOs
from connectsoft_obs.vocabulary import SLO_BURN, SLO_ERROR_RATIO, SLO_REMAINING


def groups(promises: ServiceSLOs, dialect: TargetLimits = PROMETHEUS) -> tuple[Group, ...]:
    """All rules of one service. Alerts stand behind what they read, in its group where the target's limits allow it.

    Raises:
        ConfigurationError: a period that the target cannot look back over.
    """
    found: list[Group] = []
    for slo in promises.slos:
        _refuse_long(promises, slo, dialect)
        found += _split(RuleContext(promises, slo, dialect), *_promise(RuleContext(promises, slo, dialect), slo))
    for composite in promises.composites:
        subject = RuleContext(promises, composite, dialect)
        found += _split(subject, list(_composite(subject, composite)), list(burn_rate_alerts.budget_alerts(subject)))
    service = RuleContext(promises, None, dialect)
    found += _split(service, [], [*outages.service_down_alert(service, promises.slos), *meta_alerts.stalled(service)])
    return tuple(found)


def _promise(subject: RuleContext, slo: SLO) -> tuple[list[RecordingRule], list[AlertingRule]]:
    measured = sli_queries(subject.promises, slo)
    if isinstance(slo.sli, OutageLimit):
        return [*outages.records(subject, slo, slo.sli, measured)], [*outages.alerts(subject, slo, slo.sli)]
    alerts = [*burn_rate_alerts.alerts(subject, slo), *meta_alerts.alerts(subject, slo, measured)]
    return [*recording_rules.recording_rules(subject, slo, measured)], alerts


def _composite(subject: RuleContext, composite: CompositeSLO) -> list[RecordingRule]:
    """What is left of the promise that has least left, and how fast the fastest burns; nothing while one is unknown."""
    promises = subject.promises
    parts = [promises.named(name) for name in composite.all_of]
    left = [RuleContext(promises, part, subject.dialect).recorded(SLO_REMAINING) for part in parts]
    found = [subject.record(SLO_REMAINING, _all(left, "min"))]
    burning = []
    for part in parts:
        if not isinstance(part.sli, OutageLimit):
            window = pairs(promises, part)[0].name
            ratio = RuleContext(promises, part, subject.dialect).recorded(f"{SLO_ERROR_RATIO}{window}")
            burning.append(f"{ratio} / {number(part.budget)}")
    if burning:
        # An idle component has no ratio; it burns nothing.
        found.append(subject.record(SLO_BURN, f"max({' or '.join(burning)})"))
    return found


def _all(expressions: list[str], operator: str) -> str:
    together = " or ".join(expressions)
    return f"{operator}({together}) and count({together}) == {len(expressions)}"


def _split(subject: RuleContext, records: list[RecordingRule], alerts: list[AlertingRule]) -> list[Group]:
    """One group; or several of the target's size, alerts after records, where one would be too large."""
    rules: list[Rule] = [*records, *alerts]
    if not rules:
        return []
    name, most = f"slo-{subject.id}".lower(), subject.dialect.most_rules
    if len(rules) <= most:
        return [Group(name, subject.id, subject.interval, tuple(rules))]
    parts: list[tuple[str, list[Rule]]] = []
    for kind, some in (("records", [*records]), ("alerts", [*alerts])):
        pieces = [some[start : start + most] for start in range(0, len(some), most)]
        for index, piece in enumerate(pieces):
            suffix = f"{kind}-{index + 1}" if len(pieces) > 1 else kind
            parts.append((suffix, list(piece)))
    return [Group(f"{name}-{suffix}", subject.id, subject.interval, tuple(rules)) for suffix, rules in parts]


def _refuse_long(promises: ServiceSLOs, slo: SLO, dialect: TargetLimits) -> None:
    period = promises.period_of(slo)
    if period > dialect.longest_query:
        raise ConfigurationError(
            f"period={prometheus(period)} of {slo.name!r}",
            f"the target answers no query that looks back further than {humanize(dialect.longest_query)}",
            "Use a period of 28d or 30d there; `report` adds up longer ones from shorter queries.",
        )
