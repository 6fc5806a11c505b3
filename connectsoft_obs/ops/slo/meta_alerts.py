"""Alerts about the alerts: an indicator that nobody sees, a run that did not happen, telemetry that stands still."""

from __future__ import annotations

from collections.abc import Iterator

from connectsoft_obs.ops.slo.burn_rate_windows import cap_severity
from connectsoft_obs.ops.slo.promql import quoted, series, service_selector
from connectsoft_obs.ops.slo.rules import AlertingRule, RuleContext, escape_template
from connectsoft_obs.ops.slo.sli_queries import SliQueries
from connectsoft_obs.slo.durations import MINUTE, humanize, prometheus
from connectsoft_obs.slo.indicators import Events, Freshness, OutageLimit
from connectsoft_obs.slo.model import SLO
from connectsoft_obs.vocabulary import (
    EXPORT_DURATION,
    JOB_NAME,
    JOB_NEXT_EXPECTED,
    OBS_SIGNAL,
    SLO_BAD,
    SLO_COVERAGE,
    Severity,
    Signal,
    prometheus_name,
)

LEAST_COVERED = 0.9


def alerts(subject: RuleContext, slo: SLO, measured: SliQueries) -> Iterator[AlertingRule]:
    """What makes one promise blind."""
    if isinstance(slo.sli, OutageLimit):
        return
    wanted = subject.promises.always_on if slo.alerting.no_data is None else slo.alerting.no_data
    if wanted:
        yield _no_data(subject, slo)
    if unseen := measured.missing_data_query():
        yield _unseen(subject, slo, unseen)
    yield _gaps(subject, slo)
    if job := _job(slo):
        yield _missed(subject, slo, job)


def stalled(subject: RuleContext) -> Iterator[AlertingRule]:
    """What makes a service that pushes look idle: a collector that repeats what it was last told."""
    if subject.promises.scraped or not subject.promises.always_on:
        return
    sent = series(
        f"{EXPORT_DURATION.family}_count",
        service_selector(subject.promises),
        f"{prometheus_name(OBS_SIGNAL)}={quoted(Signal.METRICS.value)}",
    )
    yield subject.alert(
        "TelemetryStalled",
        f"sum(increase({sent}[15m])) == 0",
        Severity.SEV2,
        {
            "summary": f"the numbers of {subject.promises.service} stand still",
            "description": "Every export of metrics is counted, and this counter has not moved for 15 minutes: "
            "something on the way repeats old values. Indicators of this service mean nothing until it moves.",
        },
    )


def _no_data(subject: RuleContext, slo: SLO) -> AlertingRule:
    return subject.alert(
        "NoData",
        f"absent_over_time({subject.recorded(SLO_BAD)}[5m])",
        cap_severity(Severity.SEV2, slo),
        {
            "summary": f"nobody sees whether {subject.id} is kept",
            "description": "Its indicator has had no value for five minutes. That is not an idle service, "
            "whose indicator is zero: the service, its telemetry or the way here is broken.",
        },
        hold=2 * MINUTE,
    )


def _unseen(subject: RuleContext, slo: SLO, unseen: str) -> AlertingRule:
    assert isinstance(slo.sli, Events)
    assert slo.sli.threshold is not None
    return subject.alert(
        "BucketMissing",
        unseen,
        cap_severity(Severity.SEV3, slo),
        {
            "summary": f"{subject.id} cannot tell good from bad",
            "description": f"The histogram has no bucket boundary at {slo.sli.threshold:g} s, so this promise has no "
            "data. Add the boundary to the service, or move the threshold to one that is there.",
        },
        hold=10 * MINUTE,
    )


def _gaps(subject: RuleContext, slo: SLO) -> AlertingRule:
    period = subject.promises.period_of(slo)
    known = f"{subject.recorded(SLO_BAD)} offset {prometheus(period)}"
    return subject.alert(
        "CoverageLow",
        f"{subject.recorded(SLO_COVERAGE)} < {LEAST_COVERED} and {known}",
        Severity.REVIEW,
        {
            "summary": f"{subject.id} has gaps",
            "description": "Its indicator was known for only {{ $value | humanizePercentage }} of the last "
            f"{humanize(period)}. Budgets count what nobody saw as free of errors.",
        },
        hold=60 * MINUTE,
    )


def _missed(subject: RuleContext, slo: SLO, job: str) -> AlertingRule:
    due = series(
        JOB_NEXT_EXPECTED.family, service_selector(subject.promises), f"{prometheus_name(JOB_NAME)}={quoted(job)}"
    )
    return subject.alert(
        "RunMissed",
        # What a worker that has died last said still counts for a day.
        f"time() - max(last_over_time({due}[1d])) > 0",
        cap_severity(Severity.SEV3, slo),
        {
            "summary": f"{escape_template(job)} did not run when it was due",
            "description": "It is {{ $value | humanizeDuration }} late by its schedule, grace included.",
        },
        hold=MINUTE,
    )


def _job(slo: SLO) -> str:
    """The one job that a promise is about, if it is about one."""
    if isinstance(slo.sli, Freshness):
        return slo.sli.job
    if isinstance(slo.sli, Events) and len(slo.sli.values(JOB_NAME)) == 1:
        return slo.sli.values(JOB_NAME)[0]
    return ""
