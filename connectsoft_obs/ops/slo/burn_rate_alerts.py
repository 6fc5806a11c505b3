"""Alerts on the error budget: multi-window burn rate alerts, the hard-down alert, and reviews of the remaining budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from connectsoft_obs.ops.slo.alert_conditions import burn_rate_condition, hard_down_condition
from connectsoft_obs.ops.slo.burn_rate_windows import (
    HARD_DOWN_FOR,
    HARD_DOWN_RATIO,
    BurnRateWindow,
    burn_rate_windows,
    cap_severity,
    needs_hard_down_alert,
)
from connectsoft_obs.ops.slo.promql import format_number, quote
from connectsoft_obs.ops.slo.rules import AlertingRule, RuleContext
from connectsoft_obs.slo.durations import MINUTE, format_prometheus, humanize
from connectsoft_obs.slo.model import SLO
from connectsoft_obs.vocabulary import (
    SLO_ERROR_RATIO,
    SLO_LABEL_BUDGET_LEFT,
    SLO_LABEL_WINDOW,
    SLO_REMAINING,
    Severity,
)


def alerts(context: RuleContext, slo: SLO) -> Iterator[AlertingRule]:
    """Yield the alerts on the error budget of one SLO, the most urgent first."""
    if needs_hard_down_alert(context.service_slos, slo):
        yield _hard_down_alert(context, slo)
    for window in burn_rate_windows(context.service_slos, slo):
        if window.can_fire(slo.error_budget):
            yield _burn_rate_alert(context, slo, window)
    yield from budget_alerts(context)


def budget_alerts(context: RuleContext) -> Iterator[AlertingRule]:
    """Yield one review alert for each configured percentage of the remaining error budget."""
    remaining = context.recorded_series(SLO_REMAINING)
    for percent in sorted(context.service_slos.review_at, reverse=True):
        yield context.alerting_rule(
            f"BudgetBelow{percent:g}".replace(".", "_") if percent else "BudgetGone",
            f"{remaining} <= {format_number(percent / 100)}",
            Severity.REVIEW,
            {
                "summary": f"{context.id} has "
                + (f"less than {percent:g} % of its error budget left" if percent else "no error budget left"),
                "description": "{{ $value | humanizePercentage }} of the error budget is left. "
                + (
                    "Review what consumed it: `connectsoft-obs slo report`."
                    if percent
                    else "Prioritize reliability work over new features until it recovers."
                ),
            },
            for_seconds=5 * MINUTE,
            labels={SLO_LABEL_BUDGET_LEFT: f"{percent:g}"},
        )


def _burn_rate_alert(context: RuleContext, slo: SLO, window: BurnRateWindow) -> AlertingRule:
    return context.alerting_rule(
        f"BudgetBurn{window.name}",
        burn_rate_condition(context, slo, window),
        cap_severity(window.severity, slo),
        _annotations(context, slo, window),
        labels={SLO_LABEL_WINDOW: window.name},
    )


def _hard_down_alert(context: RuleContext, slo: SLO) -> AlertingRule:
    window = burn_rate_windows(context.service_slos, slo)[0]
    return context.alerting_rule(
        "HardDown",
        hard_down_condition(context, slo),
        cap_severity(Severity.SEV1, slo),
        {
            "summary": f"{context.id}: more than {HARD_DOWN_RATIO * 100:.0f} % of events are bad",
            "description": "{{ $value | humanizePercentage }} of events were bad over the last "
            f"{humanize(window.short)}. Burn rate alerts would page too late at an objective of {slo.objective:g} %.",
        },
        for_seconds=HARD_DOWN_FOR,
        labels={SLO_LABEL_WINDOW: format_prometheus(window.short)},
    )


def _annotations(context: RuleContext, slo: SLO, window: BurnRateWindow) -> Mapping[str, str]:
    seconds = context.service_slos.period_seconds(slo)
    period, long = humanize(seconds), humanize(window.long)
    annotations = {
        "summary": f"{context.id}: error budget burn rate above {window.factor} over {long}",
        "description": "{{ $value | humanizePercentage }} of events were bad over the last "
        f"{long}; the error budget allows {format_number(slo.error_budget * 100)} % over {period}.",
    }
    if not context.limits.supports_template_queries:
        exhaustion = humanize(window.time_to_exhaustion(seconds))
        return annotations | {
            "budget_consumed": f"at least {window.budget_consumed(seconds) * 100:.2g} % of the {period} error budget "
            f"within {long}",
            "time_to_exhaustion": f"at most {exhaustion} for a full error budget at this burn rate",
        }
    remaining = context.recorded_series(SLO_REMAINING)
    ratio = context.recorded_series(f"{SLO_ERROR_RATIO}{window.name}")
    exhausted = f"{format_number(slo.error_budget * seconds)} * clamp_min({remaining}, 0) / ({ratio} > 0)"
    return annotations | {
        "budget_consumed": _template_query(f"1 - {remaining}", "humanizePercentage")
        + f" of the {period} error budget is consumed",
        "time_to_exhaustion": _template_query(exhausted, "humanizeDuration")
        + " until the error budget is exhausted at this burn rate",
    }


def _template_query(expression: str, formatter: str) -> str:
    """Return a template that Prometheus evaluates when it renders the annotation."""
    return "{{ with query " + quote(expression) + " }}{{ . | first | value | " + formatter + " }}{{ end }}"
