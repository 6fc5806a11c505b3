"""Outages: when a service counts as down, how long that lasts, and how often it lasted longer than promised."""

from __future__ import annotations

import math
from collections.abc import Iterator

from connectsoft_obs.ops.slo.burn_rate_windows import cap_severity
from connectsoft_obs.ops.slo.promql import number, series, service_selector
from connectsoft_obs.ops.slo.rules import AlertingRule, RecordingRule, RuleContext
from connectsoft_obs.ops.slo.sli_queries import RateWindow, SliQueries
from connectsoft_obs.slo.durations import MINUTE, humanize, prometheus
from connectsoft_obs.slo.indicators import OutageLimit
from connectsoft_obs.slo.model import SLO
from connectsoft_obs.vocabulary import (
    SLO_COVERAGE,
    SLO_DOWNTIME,
    SLO_LABEL_SCOPE,
    SLO_OUTAGE,
    SLO_OUTAGE_BREACH,
    SLO_OUTAGE_BREACHES,
    SLO_REMAINING,
    Severity,
)

TARGET_INFO = "target_info"


def records(subject: RuleContext, slo: SLO, sli: OutageLimit, measured: SliQueries) -> Iterator[RecordingRule]:
    """Everything that is recorded for one limit on outages."""
    period = prometheus(subject.promises.period_of(slo))
    yield subject.record(SLO_OUTAGE, _state(subject, sli, measured))
    outage, breach = subject.recorded(SLO_OUTAGE), subject.recorded(SLO_OUTAGE_BREACH)
    # Every sample stands for one interval. Half an interval less than the limit holds as many as make it up, whether a
    # range includes its left end (Prometheus 2) or not (Prometheus 3). A fifth of them may be missing.
    steps = math.ceil(sli.limit / subject.interval)
    over = f"[{prometheus((steps - 0.5) * subject.interval)}]"
    yield subject.record(
        SLO_OUTAGE_BREACH,
        f"min_over_time({outage}{over}) == bool 1 and count_over_time({outage}{over}) >= {max(2, int(0.8 * steps))}",
    )
    yield subject.record(f"{SLO_OUTAGE_BREACHES}{period}", f"resets({breach}[{period}]) + {breach}")
    yield subject.record(f"{SLO_DOWNTIME}{period}", f"avg_over_time({outage}[{period}:1m])")
    minutes = subject.promises.period_of(slo) // MINUTE
    yield subject.record(SLO_COVERAGE, f"clamp_max(count_over_time({outage}[{period}:1m]) / {minutes}, 1)")
    breaches = subject.recorded(f"{SLO_OUTAGE_BREACHES}{period}")
    yield subject.record(SLO_REMAINING, f"clamp_min(1 - {breaches} / {sli.allowed + 1}, 0)")


def alerts(subject: RuleContext, slo: SLO, sli: OutageLimit) -> Iterator[AlertingRule]:
    """Everything that alerts about one limit on outages."""
    yield subject.alert(
        "OutageInProgress",
        f"{subject.recorded(SLO_OUTAGE)} == 1",
        cap_severity(Severity.SEV1, slo),
        {
            "summary": f"{subject.promises.service} is down",
            "description": f"No instance answers, or {sli.outage_when:.0%} of requests fail. "
            f"The promise breaks {humanize(sli.limit - sli.page_after)} after this alert.",
        },
        hold=sli.page_after,
        labels={SLO_LABEL_SCOPE: "service"},
    )
    yield subject.alert(
        "OutageLimitBreached",
        f"{subject.recorded(SLO_OUTAGE_BREACH)} == 1",
        Severity.REVIEW,
        {
            "summary": f"{subject.promises.service} was down for more than {humanize(sli.limit)}",
            "description": f"The promise {subject.id} allows {sli.allowed or 'no'} such "
            f"outage{'' if sli.allowed == 1 else 's'} in {humanize(subject.promises.period_of(slo))}.",
        },
    )


def service_down_alert(subject: RuleContext, slos: tuple[SLO, ...]) -> Iterator[AlertingRule]:
    """The alert of a service that is gone altogether, where no limit on outages says it already."""
    if not subject.promises.always_on or any(isinstance(slo.sli, OutageLimit) for slo in slos):
        return
    yield subject.alert(
        "Down",
        " or ".join(alive for _, alive in _gone(subject, bool_=False)),
        Severity.SEV1,
        {
            "summary": f"no instance of {subject.promises.service} is up",
            "description": "Every target is down or none is left, so no indicator of this service can see anything.",
        },
        hold=2 * MINUTE,
        labels={SLO_LABEL_SCOPE: "service"},
    )


def _state(subject: RuleContext, sli: OutageLimit, measured: SliQueries) -> str:
    """1 while the service is down and 0 while it is not, with a value at every moment."""
    window = RateWindow(prometheus(max(2 * MINUTE, 4 * subject.promises.scrape_interval)))
    failing = f"{measured.bad(window)} / ({measured.total(window)} > 0) >= bool {number(sli.outage_when)}"
    causes = [("errors", failing), *_gone(subject, bool_=True)]
    parts = [f'label_replace({expression}, "cause", "{cause}", "", "")' for cause, expression in causes]
    return "max(\n  " + "\n  or ".join(parts) + "\n)"


def _gone(subject: RuleContext, *, bool_: bool) -> list[tuple[str, str]]:
    """Causes of having no instance: 1 when it is so and, with `bool_`, 0 when it is not."""
    mine = service_selector(subject.promises)
    if subject.promises.scraped:
        up = series("up", mine)
        return [("down", f"max({up}) == {'bool ' if bool_ else ''}0"), ("absent", f"absent({up})")]
    # A service that pushes has no `up`; what it says of itself vanishes five minutes after its last push.
    pushed = series(TARGET_INFO, mine)
    return ([("pushed", f"0 * count({pushed})")] if bool_ else []) + [("absent", f"absent({pushed})")]
