"""Meta-alerts: indicators without data, missing bucket boundaries, missed runs, stale telemetry and refused exports."""

from __future__ import annotations

from collections.abc import Iterator

from connectsoft_obs.ops.slo.burn_rate_windows import cap_severity
from connectsoft_obs.ops.slo.instances import has_instance_series
from connectsoft_obs.ops.slo.promql import quote, series_selector, service_selector
from connectsoft_obs.ops.slo.rules import AlertingRule, RecordingRule, RuleContext, escape_template
from connectsoft_obs.ops.slo.sli_queries import SliQueries
from connectsoft_obs.slo.durations import DAY, MINUTE, format_prometheus, humanize
from connectsoft_obs.slo.indicators import Events, Freshness, OutageLimit
from connectsoft_obs.slo.model import SLO
from connectsoft_obs.vocabulary import (
    EXPORT_DURATION,
    EXPORTER_STATUS,
    JOB_NAME,
    JOB_NEXT_EXPECTED,
    OBS_EXPORTER_STATE,
    OBS_SIGNAL,
    SCOPE_DATA,
    SLO_BAD,
    SLO_COVERAGE,
    SLO_LABEL_SCOPE,
    SLO_NEXT_RUN,
    ExporterState,
    Severity,
    Signal,
    prometheus_name,
)

MIN_COVERAGE = 0.9


def alerts(context: RuleContext, slo: SLO, queries: SliQueries) -> Iterator[AlertingRule]:
    """Yield the alerts for conditions in which an SLO cannot be evaluated, or a scheduled run is missing."""
    if isinstance(slo.sli, OutageLimit):
        return
    if context.service_slos.always_on if slo.alerting.no_data is None else slo.alerting.no_data:
        yield _no_data_alert(context, slo)
    if missing_data := queries.missing_data_query():
        yield _bucket_missing_alert(context, slo, missing_data)
    yield _low_coverage_alert(context, slo)
    if job := _job_name(slo):
        yield _run_missed_alert(context, slo, job)


def telemetry_stalled_alerts(context: RuleContext) -> Iterator[AlertingRule]:
    """Yield the alert for a service that pushes, or may push, when its collector repeats old values."""
    service_slos = context.service_slos
    if service_slos.scraped or not service_slos.always_on or not has_instance_series(service_slos):
        return
    exports = series_selector(
        f"{EXPORT_DURATION.family}_count",
        service_selector(service_slos),
        f"{prometheus_name(OBS_SIGNAL)}={quote(Signal.METRICS.value)}",
    )
    yield context.alerting_rule(
        "TelemetryStalled",
        f"sum(increase({exports}[15m])) == 0",
        Severity.SEV2,
        {
            "summary": f"metrics of {service_slos.service} are stale",
            "description": "The counter of metric exports has not increased for 15 minutes: exports have stopped, or a "
            "collector repeats old values. Check the collector; until then the SLOs of this service are not reliable.",
        },
        labels={SLO_LABEL_SCOPE: SCOPE_DATA},
    )


def export_refused_alerts(context: RuleContext) -> Iterator[AlertingRule]:
    """Yield the alert for exports that a destination refuses until a configuration is changed."""
    if not has_instance_series(context.service_slos):
        return
    signal = prometheus_name(OBS_SIGNAL)
    refused = series_selector(
        EXPORTER_STATUS.family,
        service_selector(context.service_slos),
        f"{prometheus_name(OBS_EXPORTER_STATE)}={quote(ExporterState.REFUSED.value)}",
    )
    yield context.alerting_rule(
        "ExportRefused",
        f"max by ({signal}) ({refused}) > 0",
        Severity.SEV3,
        {
            "summary": f"exports of {context.service_slos.service} are refused",
            "description": f"The destination refuses {{{{ $labels.{signal} }}}} of this service, and they are dropped. The log "
            "line that begins with 'export refused' and /health name the reason and what to change.",
        },
        for_seconds=5 * MINUTE,
        labels={SLO_LABEL_SCOPE: SCOPE_DATA},
    )


def _no_data_alert(context: RuleContext, slo: SLO) -> AlertingRule:
    return context.alerting_rule(
        "NoData",
        f"absent_over_time({context.recorded_series(SLO_BAD)}[5m])",
        cap_severity(Severity.SEV2, slo),
        {
            "summary": f"no data for SLO {context.id}",
            "description": "The indicator has had no data for five minutes. An idle service reports zero, so the "
            "service is down or its metrics do not reach Prometheus. Check the service, then the metrics pipeline.",
        },
        for_seconds=2 * MINUTE,
        labels={SLO_LABEL_SCOPE: SCOPE_DATA},
    )


def _bucket_missing_alert(context: RuleContext, slo: SLO, missing_data: str) -> AlertingRule:
    assert isinstance(slo.sli, Events)
    assert slo.sli.threshold is not None
    return context.alerting_rule(
        "BucketMissing",
        missing_data,
        cap_severity(Severity.SEV3, slo),
        {
            "summary": f"no bucket boundary at the threshold of SLO {context.id}",
            "description": f"The histogram has no bucket boundary at {slo.sli.threshold:g} s, so this SLO has no data. "
            "Add the boundary in the service, or change the threshold to an existing boundary.",
        },
        for_seconds=10 * MINUTE,
        labels={SLO_LABEL_SCOPE: SCOPE_DATA},
    )


def _low_coverage_alert(context: RuleContext, slo: SLO) -> AlertingRule:
    period = context.service_slos.period_seconds(slo)
    has_history = f"{context.recorded_series(SLO_BAD)} offset {format_prometheus(period)}"
    return context.alerting_rule(
        "CoverageLow",
        f"{context.recorded_series(SLO_COVERAGE)} < {MIN_COVERAGE} and {has_history}",
        Severity.REVIEW,
        {
            "summary": f"incomplete data for SLO {context.id}",
            "description": "The indicator had data for only {{ $value | humanizePercentage }} of the last "
            f"{humanize(period)}. Intervals without data count as error-free. Find out why data was missing.",
        },
        for_seconds=60 * MINUTE,
        labels={SLO_LABEL_SCOPE: SCOPE_DATA},
    )


def recording_rules(context: RuleContext, slo: SLO) -> Iterator[RecordingRule]:
    """Yield the rule that keeps the latest expected time of a job while no process exports it.

    Between two runs of a short process, no series exists. With several replicas, only the one that runs the job knows the
    next time, and it may end before the others. The series of a job that no process exports ends a week after its due time.
    """
    if job := _job_name(slo):
        matcher = f"{prometheus_name(JOB_NAME)}={quote(job)}"
        series = series_selector(JOB_NEXT_EXPECTED.family, service_selector(context.service_slos), matcher)
        recorded = f"last_over_time({context.recorded_series(SLO_NEXT_RUN)}[1d])"
        yield context.recording_rule(SLO_NEXT_RUN, f"max({series} or {recorded} < Inf > time() - {7 * DAY})")


def _run_missed_alert(context: RuleContext, slo: SLO, job: str) -> AlertingRule:
    return context.alerting_rule(
        "RunMissed",
        f"time() - {context.recorded_series(SLO_NEXT_RUN)} > 0",
        cap_severity(Severity.SEV3, slo),
        {
            "summary": f"scheduled run of {escape_template(job)} is overdue",
            "description": "No run has started for {{ $value | humanizeDuration }} after the due time and its grace "
            "period. Check that the scheduler and the worker are running.",
        },
        for_seconds=MINUTE,
    )


def _job_name(slo: SLO) -> str:
    """Return the job that an SLO measures; empty if it measures none, or several."""
    if isinstance(slo.sli, Freshness):
        return slo.sli.job
    if isinstance(slo.sli, Events) and len(slo.sli.allowed_values(JOB_NAME)) == 1:
        return slo.sli.allowed_values(JOB_NAME)[0]
    return ""
