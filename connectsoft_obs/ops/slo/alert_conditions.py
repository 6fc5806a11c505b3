"""Conditions of the alerts on one error budget. They prevent that several windows of an objective page separately.

Windows of several lengths detect the same outage. While it lasts, an inhibition rule mutes the less urgent alerts. A
shorter window also recovers sooner, so the less urgent alerts would be sent after the repair, when the alert that muted
them resolves. Therefore an alert does not fire while its short window still contains a more urgent alert that has
resolved. Where alerts cannot inhibit each other, as in Azure Monitor, it does not fire during the more urgent alert either.
"""

from __future__ import annotations

from collections.abc import Iterator

from connectsoft_obs.ops.slo.burn_rate_windows import (
    HARD_DOWN_FOR,
    HARD_DOWN_RATIO,
    PAGING_SEVERITIES,
    BurnRateWindow,
    burn_rate_windows,
    cap_severity,
    needs_hard_down_alert,
)
from connectsoft_obs.ops.slo.promql import format_number
from connectsoft_obs.ops.slo.recording_rules import MAX_RAW_WINDOW, coverage_expression
from connectsoft_obs.ops.slo.rules import RecordingRule, RuleContext, is_enabled
from connectsoft_obs.slo.durations import format_prometheus
from connectsoft_obs.slo.indicators import Freshness
from connectsoft_obs.slo.model import SLO
from connectsoft_obs.vocabulary import (
    SLO_BAD_INCREASE,
    SLO_ERROR_RATIO,
    SLO_LABEL_ID,
    SLO_SEV1,
    SLO_SEV2,
    Severity,
)

_CONDITION_SERIES = {Severity.SEV1: SLO_SEV1, Severity.SEV2: SLO_SEV2}


def recording_rules(context: RuleContext, slo: SLO) -> Iterator[RecordingRule]:
    """Yield the series that are 1 while a paging alert of a severity fires, else 0, the most urgent first."""
    for severity, series in _CONDITION_SERIES.items():
        if conditions := _conditions(context, slo, severity):
            yield context.recording_rule(series, f"count({' or '.join(conditions)}) or vector(0)")


def burn_rate_condition(context: RuleContext, slo: SLO, window: BurnRateWindow) -> str:
    """Return the expression of a burn rate alert."""
    threshold = format_number(window.threshold(slo.error_budget))
    long = context.recorded_series(f"{SLO_ERROR_RATIO}{window.name}")
    short = context.recorded_series(f"{SLO_ERROR_RATIO}{format_prometheus(window.short)}")
    condition = f"{long} * {coverage_expression(context, window.long)} > {threshold}\nand {short} > {threshold}"
    if window.severity in PAGING_SEVERITIES:
        condition += _min_bad_events_condition(context, slo, window)
    return condition + _suppression(context, slo, window)


def hard_down_condition(context: RuleContext, slo: SLO) -> str:
    """Return the expression of the hard-down alert, which must hold for `HARD_DOWN_FOR` seconds."""
    window = burn_rate_windows(context.service_slos, slo)[0]
    ratio = context.recorded_series(f"{SLO_ERROR_RATIO}{format_prometheus(window.short)}")
    return f"{ratio} > {HARD_DOWN_RATIO}" + _min_bad_events_condition(context, slo, window)


def _conditions(context: RuleContext, slo: SLO, severity: Severity) -> list[str]:
    """Return the expressions that have a series while an alert of a severity fires."""
    if not is_enabled(slo, cap_severity(severity, slo)):
        return []
    windows = burn_rate_windows(context.service_slos, slo)
    conditions = [
        f"({burn_rate_condition(context, slo, window)})"
        for window in windows
        if window.severity is severity and window.can_fire(slo.error_budget)
    ]
    if severity is Severity.SEV1 and needs_hard_down_alert(context.service_slos, slo):
        ratio = context.recorded_series(f"{SLO_ERROR_RATIO}{format_prometheus(windows[0].short)}")
        held = f"min_over_time({ratio}[{format_prometheus(HARD_DOWN_FOR)}]) > {HARD_DOWN_RATIO}"
        conditions.append(f"({held}{_min_bad_events_condition(context, slo, windows[0])})")
    return conditions


def _suppression(context: RuleContext, slo: SLO, window: BurnRateWindow) -> str:
    """Return the end of an alert expression that suppresses it during a more urgent alert; empty for the most urgent one."""
    severities = list(Severity)
    series = [
        context.recorded_series(name)
        for severity, name in _CONDITION_SERIES.items()
        if severities.index(severity) < severities.index(window.severity) and _conditions(context, slo, severity)
    ]
    if not series:
        return ""
    duration = format_prometheus(window.short)
    recent = " or ".join(f"max_over_time({name}[{duration}]) == 1" for name in series)
    if context.limits.supports_inhibition:
        now = " or ".join(f"{name} == 1" for name in series)
        recent = f"({recent}) unless on ({SLO_LABEL_ID}) ({now})"
    return f"\nunless on ({SLO_LABEL_ID}) ({recent})"


def _min_bad_events_condition(context: RuleContext, slo: SLO, window: BurnRateWindow) -> str:
    """Return the condition that prevents a page for one or two failures at low traffic; empty if not needed."""
    min_bad_events = slo.alerting.min_bad_events
    if isinstance(slo.sli, Freshness) or min_bad_events < 1 or window.long > MAX_RAW_WINDOW:
        return ""
    return f"\nand {context.recorded_series(f'{SLO_BAD_INCREASE}{window.name}')} >= {min_bad_events}"
