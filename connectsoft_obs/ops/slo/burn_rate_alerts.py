"""Alerts on the error budget: multi-window burn rate alerts, the hard-down alert, and reviews of the remaining budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from connectsoft_obs.ops.slo.burn_rate_windows import (
    HARD_DOWN_FOR,
    HARD_DOWN_RATIO,
    BurnRateWindow,
    burn_rate_windows,
    cap_severity,
    needs_hard_down_alert,
)
from connectsoft_obs.ops.slo.promql import format_number, quote
from connectsoft_obs.ops.slo.recording_rules import MAX_RAW_WINDOW, coverage_expression
from connectsoft_obs.ops.slo.rules import AlertingRule, RuleContext
from connectsoft_obs.slo.durations import MINUTE, format_prometheus, humanize
from connectsoft_obs.slo.indicators import Freshness
from connectsoft_obs.slo.model import SLO
from connectsoft_obs.vocabulary import (
    SLO_BAD_INCREASE,
    SLO_ERROR_RATIO,
    SLO_LABEL_WINDOW,
    SLO_REMAINING,
    Severity,
)

_PAGING_SEVERITIES = (Severity.SEV1, Severity.SEV2)


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
            labels={"budget_left": f"{percent:g}"},
        )


def _burn_rate_alert(context: RuleContext, slo: SLO, window: BurnRateWindow) -> AlertingRule:
    threshold = format_number(window.threshold(slo.error_budget))
    long = context.recorded_series(f"{SLO_ERROR_RATIO}{window.name}")
    short = context.recorded_series(f"{SLO_ERROR_RATIO}{format_prometheus(window.short)}")
    expression = f"{long} * {coverage_expression(context, window.long)} > {threshold}\nand {short} > {threshold}"
    if window.severity in _PAGING_SEVERITIES:
        expression += _min_bad_events_condition(context, slo, window)
    return context.alerting_rule(
        f"BudgetBurn{window.name}",
        expression,
        cap_severity(window.severity, slo),
        _annotations(context, slo, window),
        labels={SLO_LABEL_WINDOW: window.name},
    )


def _hard_down_alert(context: RuleContext, slo: SLO) -> AlertingRule:
    window = burn_rate_windows(context.service_slos, slo)[0]
    short = format_prometheus(window.short)
    ratio = context.recorded_series(f"{SLO_ERROR_RATIO}{short}")
    return context.alerting_rule(
        "HardDown",
        f"{ratio} > {HARD_DOWN_RATIO}" + _min_bad_events_condition(context, slo, window),
        cap_severity(Severity.SEV1, slo),
        {
            "summary": f"{context.id}: more than {HARD_DOWN_RATIO * 100:.0f} % of events are bad",
            "description": "{{ $value | humanizePercentage }} of events were bad over the last "
            f"{humanize(window.short)}. Burn rate alerts would page too late at an objective of {slo.objective:g} %.",
        },
        for_seconds=HARD_DOWN_FOR,
        labels={SLO_LABEL_WINDOW: short},
    )


def _min_bad_events_condition(context: RuleContext, slo: SLO, window: BurnRateWindow) -> str:
    """Return the condition that prevents a page for one or two failures at low traffic; empty if not needed."""
    min_bad_events = slo.alerting.min_bad_events
    if isinstance(slo.sli, Freshness) or min_bad_events < 1 or window.long > MAX_RAW_WINDOW:
        return ""
    return f"\nand {context.recorded_series(f'{SLO_BAD_INCREASE}{window.name}')} >= {min_bad_events}"


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
