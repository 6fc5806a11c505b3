"""The error budget of an SLO at one point in time: the computation that state, gate and report share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from connectsoft_obs.ops.prometheus_api import PrometheusClient
from connectsoft_obs.ops.slo.burn_rate_windows import PAGING_SEVERITIES
from connectsoft_obs.ops.slo.report.tiles import covered_seconds, sum_over_tiles
from connectsoft_obs.ops.slo.rule_groups import slo_rules
from connectsoft_obs.ops.slo.rules import PROMETHEUS_LIMITS, AlertingRule, RuleContext
from connectsoft_obs.slo.indicators import OutageLimit
from connectsoft_obs.slo.model import SLO, CompositeSLO, ServiceSLOs
from connectsoft_obs.vocabulary import SLO_BAD, SLO_COVERAGE, SLO_REMAINING, SLO_TOTAL, Severity


class BudgetState(StrEnum):
    """What the error budget policy requires, the most urgent first."""

    INCIDENT = "incident"
    FREEZE = "freeze"
    UNKNOWN = "unknown"
    REVIEW = "review"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """The error budget of one SLO.

    Args:
        state: what the error budget policy requires.
        firing: name and severity of each alert whose condition holds, except reviews.
        remaining: share of the error budget that is left; below zero when overspent, None without data.
        coverage: share of the period for which the indicator has data.
        good: good events in the period; None for an outage limit and a composite.
        bad: bad events in the period; None for an outage limit and a composite.
        allowed: bad events that the objective allows in a full period with the traffic of the covered time; for an
            outage limit, outages. None for a composite, and without data.
    """

    state: BudgetState
    firing: dict[str, Severity]
    remaining: float | None
    coverage: float | None
    good: float | None
    bad: float | None
    allowed: float | None


def fetch_budget(
    service_slos: ServiceSLOs, slo: SLO | CompositeSLO, client: PrometheusClient, timestamp: float
) -> BudgetStatus:
    """Return the error budget of an SLO. Blocks until all queries return.

    `remaining` is the recorded series that alerts and dashboards show, or the same formula if it is not recorded. The number of allowed bad events is scaled to the
    full period in the same way as it: time without data counts as error-free, with the traffic of the other time.

    Raises:
        PrometheusUnavailable: the server is unreachable or returned an error.
    """
    context = RuleContext(service_slos, slo, PROMETHEUS_LIMITS)
    remaining = client.query_value(context.recorded_series(SLO_REMAINING), timestamp)
    coverage = client.query_value(context.recorded_series(SLO_COVERAGE), timestamp)
    parts = [slo] if isinstance(slo, SLO) else [service_slos.find(name) for name in slo.all_of]
    firing: dict[str, Severity] = {}
    for part in parts:
        firing |= _firing_alerts(RuleContext(service_slos, part, PROMETHEUS_LIMITS), part, client, timestamp)
    if not isinstance(slo, SLO) or isinstance(slo.sli, OutageLimit):
        allowed = float(slo.sli.allowed) if isinstance(slo, SLO) and isinstance(slo.sli, OutageLimit) else None
        state = budget_state(service_slos, remaining, firing)
        return BudgetStatus(state, firing, remaining, coverage, None, None, allowed)
    period = service_slos.period_seconds(slo)
    start = timestamp - period
    total, bad = (
        sum_over_tiles(client, context.recorded_series(series), start, timestamp) for series in (SLO_TOTAL, SLO_BAD)
    )
    if coverage is None:  # before the rules of the period were evaluated
        coverage = covered_seconds(client, context.recorded_series(SLO_BAD), start, timestamp) / period or None
    allowed = total * float(slo.error_budget) / coverage if coverage else None
    if remaining is None and allowed:
        remaining = 1 - bad / allowed
    state = budget_state(service_slos, remaining, firing)
    return BudgetStatus(state, firing, remaining, coverage, total - bad, bad, allowed)


def budget_state(
    service_slos: ServiceSLOs, remaining: float | None, firing: dict[str, Severity] | None = None
) -> BudgetState:
    """Return what the error budget policy requires with this share of the budget left and these alerts."""
    severities = set((firing or {}).values())
    if remaining is None:  # every alert about missing data fires for an SLO that never had data
        return BudgetState.UNKNOWN
    if severities & set(PAGING_SEVERITIES):
        return BudgetState.INCIDENT
    if remaining <= 0:
        return BudgetState.FREEZE
    needs_review = bool(severities) or remaining <= max(service_slos.review_at, default=-1) / 100
    return BudgetState.REVIEW if needs_review else BudgetState.OK


def format_remaining(remaining: float | None) -> str:
    """Format the share of an error budget that is left."""
    if remaining is None:
        return "unknown"
    return f"{remaining * 100:.1f} %" if remaining > -9 else f"spent {format_multiple(1 - remaining)}"


def format_spent(share: float) -> str:
    """Format the share of an error budget that was spent."""
    return f"{share * 100:.3g} %" if share < 10 else format_multiple(share)


def format_multiple(share: float) -> str:
    """Format a multiple of the error budget: `884 times the budget`."""
    return f"{share:,.0f} times the budget"


def _firing_alerts(context: RuleContext, slo: SLO, client: PrometheusClient, timestamp: float) -> dict[str, Severity]:
    """Return the alerts of an SLO whose expression has a result, except reviews, by name."""
    _, alerts = slo_rules(context, slo)
    return {alert.name: alert.severity for alert in alerts if _holds(alert, client, timestamp)}


def _holds(alert: AlertingRule, client: PrometheusClient, timestamp: float) -> bool:
    if alert.severity is Severity.REVIEW:
        return False
    return (client.query_value(f"count({alert.expression})", timestamp) or 0) >= 1
