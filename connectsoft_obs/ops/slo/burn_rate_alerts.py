"""Alerts about a budget: one for each pair of windows, one for being all but down, and those that ask for a review."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from connectsoft_obs.ops.slo.burn_rate_windows import (
    HARD_DOWN,
    HARD_DOWN_FOR,
    BurnRateWindow,
    cap_severity,
    hard_down,
    pairs,
)
from connectsoft_obs.ops.slo.promql import number, quoted
from connectsoft_obs.ops.slo.recording_rules import RAW, covered
from connectsoft_obs.ops.slo.rules import AlertingRule, RuleContext
from connectsoft_obs.slo.durations import MINUTE, humanize, prometheus
from connectsoft_obs.slo.indicators import Freshness
from connectsoft_obs.slo.model import SLO
from connectsoft_obs.vocabulary import (
    SLO_BAD_INCREASE,
    SLO_ERROR_RATIO,
    SLO_LABEL_WINDOW,
    SLO_REMAINING,
    Severity,
)

_PAGES = (Severity.SEV1, Severity.SEV2)


def alerts(subject: RuleContext, slo: SLO) -> Iterator[AlertingRule]:
    """Everything that alerts about the budget of one promise, the most urgent first."""
    if hard_down(subject.promises, slo):
        yield _all_but_down(subject, slo)
    for pair in pairs(subject.promises, slo):
        if pair.can_fire(slo.budget):
            yield _burns(subject, slo, pair)
    yield from budget_alerts(subject)


def budget_alerts(subject: RuleContext) -> Iterator[AlertingRule]:
    """One alert for each share of the budget at which the promise is reviewed."""
    remaining = subject.recorded(SLO_REMAINING)
    for left in sorted(subject.promises.review_at, reverse=True):
        what = f"less than {left:g} % of its error budget left" if left else "no error budget left"
        texts = {
            "summary": f"{subject.id} has {what}",
            "description": "{{ $value | humanizePercentage }} of the budget is left. "
            + ("Put reliability before new work until it recovers." if not left else "Look at what spent it."),
        }
        yield subject.alert(
            f"BudgetBelow{left:g}".replace(".", "_") if left else "BudgetGone",
            f"{remaining} <= {number(left / 100)}",
            Severity.REVIEW,
            texts,
            hold=5 * MINUTE,
            labels={"budget_left": f"{left:g}"},
        )


def _burns(subject: RuleContext, slo: SLO, pair: BurnRateWindow) -> AlertingRule:
    threshold = number(pair.threshold(slo.budget))
    long = subject.recorded(f"{SLO_ERROR_RATIO}{pair.name}")
    short = subject.recorded(f"{SLO_ERROR_RATIO}{prometheus(pair.short)}")
    expression = f"{long} * {covered(subject, pair.long)} > {threshold}\nand {short} > {threshold}"
    if pair.severity in _PAGES and not isinstance(slo.sli, Freshness):
        expression += _enough(subject, slo, pair)
    severity = cap_severity(pair.severity, slo)
    return subject.alert(
        f"BudgetBurn{pair.name}",
        expression,
        severity,
        _texts(subject, slo, pair),
        labels={SLO_LABEL_WINDOW: pair.name},
    )


def _all_but_down(subject: RuleContext, slo: SLO) -> AlertingRule:
    first = pairs(subject.promises, slo)[0]
    ratio = subject.recorded(f"{SLO_ERROR_RATIO}{prometheus(first.short)}")
    expression = f"{ratio} > {HARD_DOWN}"
    if not isinstance(slo.sli, Freshness):
        expression += _enough(subject, slo, first)
    texts = {
        "summary": f"{subject.id}: nearly everything fails",
        "description": "{{ $value | humanizePercentage }} of events were bad over the last "
        f"{humanize(first.short)}. At an objective of {slo.objective:g} % burn rates would be too slow to page for this.",
    }
    return subject.alert(
        "HardDown", expression, cap_severity(Severity.SEV1, slo), texts,
        hold=HARD_DOWN_FOR, labels={SLO_LABEL_WINDOW: prometheus(first.short)},
    )  # fmt: skip


def _enough(subject: RuleContext, slo: SLO, pair: BurnRateWindow) -> str:
    """The condition that keeps a page from following from one or two failures of a quiet service."""
    least = slo.alerting.min_bad_events
    if least < 1 or pair.long > RAW:
        return ""
    return f"\nand {subject.recorded(f'{SLO_BAD_INCREASE}{pair.name}')} >= {least}"


def _texts(subject: RuleContext, slo: SLO, pair: BurnRateWindow) -> Mapping[str, str]:
    period = subject.promises.period_of(slo)
    share = pair.consumed(period) * 100
    texts = {
        "summary": f"{subject.id} burns its error budget "
        + (f"more than {pair.factor} times as fast as it may" if pair.factor > 1 else "faster than it may"),
        "description": "{{ $value | humanizePercentage }} of events were bad over the last "
        f"{humanize(pair.long)}; the promise allows {number(slo.budget * 100)} % over {humanize(period)}.",
    }
    if not subject.dialect.queries_in_text:
        return texts | {
            "budget_consumed": f"at least {share:.2g} % of the {humanize(period)} budget within {humanize(pair.long)}",
            "time_to_exhaustion": f"a full budget lasts at most {humanize(pair.time_to_exhaustion(period))} at this rate",
        }
    left = subject.recorded(SLO_REMAINING)
    ratio = subject.recorded(f"{SLO_ERROR_RATIO}{pair.name}")
    exhausted = f"{number(slo.budget * period)} * clamp_min({left}, 0) / ({ratio} > 0)"
    return texts | {
        "budget_consumed": _query_for(f"1 - {left}", "humanizePercentage")
        + f" of the {humanize(period)} budget is gone",
        "time_to_exhaustion": _query_for(exhausted, "humanizeDuration") + " until nothing is left at this rate",
    }


def _query_for(expression: str, shown: str) -> str:
    """A value that Prometheus looks up when it renders an alert."""
    return "{{ with query " + quoted(expression) + " }}{{ . | first | value | " + shown + " }}{{ end }}"
