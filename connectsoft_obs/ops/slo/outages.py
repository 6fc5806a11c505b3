"""Rules for outages: when a service counts as down, how long an outage lasts, and how many exceed the limit."""

from __future__ import annotations

import math
from collections.abc import Iterator

from connectsoft_obs.ops.slo.burn_rate_windows import cap_severity
from connectsoft_obs.ops.slo.instances import has_instance_series, running_instances
from connectsoft_obs.ops.slo.promql import format_number
from connectsoft_obs.ops.slo.rules import AlertingRule, RecordingRule, RuleContext
from connectsoft_obs.ops.slo.sli_queries import RateWindow, SliQueries
from connectsoft_obs.slo.durations import MINUTE, format_prometheus, humanize
from connectsoft_obs.slo.indicators import OutageLimit
from connectsoft_obs.slo.model import SLO
from connectsoft_obs.vocabulary import (
    SCOPE_SERVICE,
    SLO_COVERAGE,
    SLO_DOWNTIME,
    SLO_LABEL_SCOPE,
    SLO_OUTAGE,
    SLO_OUTAGE_BREACH,
    SLO_OUTAGE_BREACHES,
    SLO_REMAINING,
    Severity,
)

_ABSENCE = {
    True: "Every target is down, or no target exists",
    False: "No instance has pushed metrics for five minutes",
    None: "No target is up, and no instance has pushed metrics for five minutes",
}
"""Reason in alert texts if no series shows a running instance, by `ServiceSLOs.scraped`."""


def recording_rules(context: RuleContext, slo: SLO, sli: OutageLimit, queries: SliQueries) -> Iterator[RecordingRule]:
    """Yield the recording rules of one outage limit, in evaluation order."""
    seconds = context.service_slos.period_seconds(slo)
    period = format_prometheus(seconds)
    yield context.recording_rule(SLO_OUTAGE, _outage_expression(context, sli, queries))
    outage, breach = context.recorded_series(SLO_OUTAGE), context.recorded_series(SLO_OUTAGE_BREACH)
    # Each sample represents one interval. A range half an interval shorter than the limit contains exactly as many
    # samples as the limit has intervals, whether ranges include their left end (Prometheus 2) or not (Prometheus 3).
    # Up to a fifth of the samples may be missing.
    samples = math.ceil(sli.limit / context.interval)
    limit = f"[{format_prometheus((samples - 0.5) * context.interval)}]"
    yield context.recording_rule(
        SLO_OUTAGE_BREACH,
        f"min_over_time({outage}{limit}) == bool 1 "
        f"and count_over_time({outage}{limit}) >= {max(2, int(0.8 * samples))}",
    )
    yield context.recording_rule(f"{SLO_OUTAGE_BREACHES}{period}", f"resets({breach}[{period}]) + {breach}")
    yield context.recording_rule(f"{SLO_DOWNTIME}{period}", f"avg_over_time({outage}[{period}:1m])")
    yield context.recording_rule(
        SLO_COVERAGE, f"clamp_max(count_over_time({outage}[{period}:1m]) / {seconds // MINUTE}, 1)"
    )
    breaches = context.recorded_series(f"{SLO_OUTAGE_BREACHES}{period}")
    yield context.recording_rule(SLO_REMAINING, f"clamp_min(1 - {breaches} / {sli.allowed + 1}, 0)")


def alerts(context: RuleContext, slo: SLO, sli: OutageLimit) -> Iterator[AlertingRule]:
    """Yield the alerts of one outage limit."""
    service, limit = context.service_slos.service, humanize(sli.limit)
    yield context.alerting_rule(
        "OutageInProgress",
        f"{context.recorded_series(SLO_OUTAGE)} == 1",
        cap_severity(Severity.SEV1, slo),
        {
            "summary": f"{service} is down",
            "description": f"No instance is up, or at least {sli.outage_when:.0%} of requests fail. "
            f"The outage exceeds its limit of {limit} in {humanize(sli.limit - sli.page_after)}.",
        },
        for_seconds=sli.page_after,
        labels={SLO_LABEL_SCOPE: SCOPE_SERVICE},
    )
    yield context.alerting_rule(
        "OutageLimitBreached",
        f"{context.recorded_series(SLO_OUTAGE_BREACH)} == 1",
        Severity.REVIEW,
        {
            "summary": f"{service} was down for more than {limit}",
            "description": f"SLO {context.id} allows {sli.allowed or 'no'} such "
            f"outage{'' if sli.allowed == 1 else 's'} in {humanize(context.service_slos.period_seconds(slo))}.",
        },
    )


def service_down_alerts(context: RuleContext, slos: tuple[SLO, ...]) -> Iterator[AlertingRule]:
    """Yield the alert for a service without instances, unless an outage limit has such an alert."""
    service_slos = context.service_slos
    if not service_slos.always_on or any(isinstance(slo.sli, OutageLimit) for slo in slos):
        return
    if not has_instance_series(service_slos):
        return
    yield context.alerting_rule(
        "Down",
        f"absent({running_instances(service_slos)})",
        Severity.SEV1,
        {
            "summary": f"no instance of {service_slos.service} is up",
            "description": f"{_ABSENCE[service_slos.scraped]}, so the SLOs of this service have no data. "
            "Check that instances are running and reachable.",
        },
        for_seconds=2 * MINUTE,
        labels={SLO_LABEL_SCOPE: SCOPE_SERVICE},
    )


def _outage_expression(context: RuleContext, sli: OutageLimit, queries: SliQueries) -> str:
    """Return an expression that is 1 while the service is down and 0 otherwise, without gaps."""
    window = RateWindow(format_prometheus(max(2 * MINUTE, 4 * context.service_slos.scrape_interval)))
    errors = f"{queries.bad(window)} / ({queries.total(window)} > 0) >= bool {format_number(sli.outage_when)}"
    instances = running_instances(context.service_slos)
    causes = [("errors", errors), ("running", f"0 * count({instances})"), ("absent", f"absent({instances})")]
    parts = [f'label_replace({expression}, "cause", "{cause}", "", "")' for cause, expression in causes]
    return "max(\n  " + "\n  or ".join(parts) + "\n)"
