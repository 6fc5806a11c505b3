"""Rule groups of a service: recording and alerting rules for each SLO, each composite SLO and the service."""

from __future__ import annotations

from collections.abc import Sequence

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo import alert_conditions, burn_rate_alerts, meta_alerts, outages, recording_rules
from connectsoft_obs.ops.slo.burn_rate_windows import burn_rate_windows
from connectsoft_obs.ops.slo.promql import format_number
from connectsoft_obs.ops.slo.rules import (
    PROMETHEUS_LIMITS,
    AlertingRule,
    RecordingRule,
    Rule,
    RuleContext,
    RuleGroup,
    TargetLimits,
    is_enabled,
)
from connectsoft_obs.ops.slo.sli_queries import sli_queries
from connectsoft_obs.slo.durations import format_prometheus, humanize
from connectsoft_obs.slo.indicators import OutageLimit
from connectsoft_obs.slo.model import SLO, CompositeSLO, ServiceSLOs
from connectsoft_obs.vocabulary import SLO_BURN, SLO_ERROR_RATIO, SLO_REMAINING


def rule_groups(service_slos: ServiceSLOs, limits: TargetLimits = PROMETHEUS_LIMITS) -> tuple[RuleGroup, ...]:
    """Return all rules of a service. Alerts follow the rules that they read, in the same group if limits permit.

    Raises:
        ConfigurationError: a compliance period is longer than the target can query.
    """
    groups: list[RuleGroup] = []
    for slo in service_slos.slos:
        _validate_query_range(service_slos, slo, limits)
        context = RuleContext(service_slos, slo, limits)
        groups += _split(context, *slo_rules(context, slo))
    for composite in service_slos.composites:
        context = RuleContext(service_slos, composite, limits)
        groups += _split(context, _composite_rules(context, composite), [*burn_rate_alerts.budget_alerts(context)])
    context = RuleContext(service_slos, None, limits)
    alerts = [
        *outages.service_down_alerts(context, service_slos.slos),
        *meta_alerts.telemetry_stalled_alerts(context),
        *meta_alerts.export_refused_alerts(context),
    ]
    groups += _split(context, [], alerts)
    return tuple(groups)


def slo_rules(context: RuleContext, slo: SLO) -> tuple[list[RecordingRule], list[AlertingRule]]:
    """Return the recording rules and the alerts of one SLO."""
    queries = sli_queries(context.service_slos, slo)
    if isinstance(slo.sli, OutageLimit):
        records = [*outages.recording_rules(context, slo, slo.sli, queries)]
        return records, [alert for alert in outages.alerts(context, slo, slo.sli) if is_enabled(slo, alert.severity)]
    alerts = [
        alert
        for alert in (*burn_rate_alerts.alerts(context, slo), *meta_alerts.alerts(context, slo, queries))
        if is_enabled(slo, alert.severity)
    ]
    records = [
        *recording_rules.recording_rules(context, slo, queries),
        *alert_conditions.recording_rules(context, slo),
        *meta_alerts.recording_rules(context, slo),
    ]
    return records, alerts


def _composite_rules(context: RuleContext, composite: CompositeSLO) -> list[RecordingRule]:
    """Return the minimum remaining error budget and the maximum burn rate of the parts.

    The remaining error budget has no value if that of any part has none.
    """
    service_slos = context.service_slos
    remaining, burn_rates = [], []
    for name in composite.all_of:
        part = service_slos.find(name)
        part_context = RuleContext(service_slos, part, context.limits)
        remaining.append(part_context.recorded_series(SLO_REMAINING))
        if not isinstance(part.sli, OutageLimit):
            window = burn_rate_windows(service_slos, part)[0].name
            ratio = part_context.recorded_series(f"{SLO_ERROR_RATIO}{window}")
            burn_rates.append(f"{ratio} / {format_number(part.error_budget)}")
    any_part = " or ".join(remaining)
    rules = [
        context.recording_rule(SLO_REMAINING, f"min({any_part}) and count({any_part}) == {len(remaining)}"),
    ]
    if burn_rates:
        # An idle part has no error ratio and does not contribute to the burn rate.
        rules.append(context.recording_rule(SLO_BURN, f"max({' or '.join(burn_rates)})"))
    return rules


def _split(context: RuleContext, records: Sequence[Rule], alerts: Sequence[Rule]) -> list[RuleGroup]:
    """Return one group, or several if the target limits the rules per group: alerts after the recording rules."""
    if not records and not alerts:
        return []
    name, limit = f"slo-{context.id}".lower(), context.limits.max_rules_per_group
    if len(records) + len(alerts) <= limit:
        return [RuleGroup(name, context.id, context.interval, (*records, *alerts))]
    groups = []
    for kind, rules in (("records", records), ("alerts", alerts)):
        chunks = [rules[start : start + limit] for start in range(0, len(rules), limit)]
        for index, chunk in enumerate(chunks):
            suffix = f"{kind}-{index + 1}" if len(chunks) > 1 else kind
            groups.append(RuleGroup(f"{name}-{suffix}", context.id, context.interval, tuple(chunk)))
    return groups


def _validate_query_range(service_slos: ServiceSLOs, slo: SLO, limits: TargetLimits) -> None:
    period = service_slos.period_seconds(slo)
    if period > limits.max_query_range:
        raise ConfigurationError(
            f"period={format_prometheus(period)} of {slo.name!r}",
            f"the target supports queries over at most {humanize(limits.max_query_range)}",
            "Use a period of 28d or 30d for it; `slo report` computes longer periods from several queries.",
        )
