"""Timeline of an incident: alerts, deployments, restarts, and changes of readiness."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

from connectsoft_obs.ops.prometheus_api import Points, PrometheusClient
from connectsoft_obs.ops.slo.deployments import REVISION_LABEL, VERSION_LABEL, deployments, process_starts, restarts
from connectsoft_obs.ops.slo.promql import label_matcher, quote, series_selector, service_selector
from connectsoft_obs.slo.durations import HOUR, MINUTE, format_prometheus
from connectsoft_obs.slo.model import ServiceSLOs
from connectsoft_obs.vocabulary import (
    BUILD_INFO,
    HEALTH_KIND,
    HEALTH_STATE,
    HEALTH_STATUS,
    PROCESS_START_TIME,
    SLO_LABEL_SERVICE,
    SLO_LABEL_SEVERITY,
    HealthState,
    Severity,
    prometheus_name,
)

MAX_DURATION = 10 * 24 * HOUR
"""Longest incident in seconds: with more, the step of the queries would be longer than the mark of a deployment."""
LEAD = HOUR
"""Seconds before the incident whose deployments and restarts belong to the timeline."""
_STEPS = 9000
_SOURCES: Final = (
    ((BUILD_INFO.family,), "deployments"),
    ((PROCESS_START_TIME.family, PROCESS_START_TIME.otlp_family), "restarts"),
    ((HEALTH_STATUS.family,), "changes of readiness"),
)
"""Series of the service that events of the timeline come from."""


class TimelineEvent(NamedTuple):
    """Something that happened. `severity` is that of an alert that fires."""

    timestamp: float
    text: str
    severity: Severity | None = None


def fetch_timeline(
    service_slos: ServiceSLOs, client: PrometheusClient, start: float, end: float
) -> list[TimelineEvent]:
    """Return the events of an incident in order of time. Blocks until all queries return.

    Raises:
        PrometheusUnavailable: the server is unreachable or returned an error.
    """
    step = max(service_slos.interval, math.ceil((end - start + LEAD) / _STEPS))
    events = [
        *_alerts(service_slos, client, start, end, step),
        *_deployments(service_slos, client, start - LEAD, end, max(step, MINUTE)),
        *_readiness(service_slos, client, start, end, step),
    ]
    return sorted(events, key=lambda event: event.timestamp)


def fetch_missing_series(
    service_slos: ServiceSLOs, client: PrometheusClient, start: float, end: float
) -> list[tuple[str, str]]:
    """Return each series that Prometheus does not have of the service, and what the timeline lacks without it.

    Raises:
        PrometheusUnavailable: the server is unreachable or returned an error.
    """
    selector, window = service_selector(service_slos), format_prometheus(end - start + LEAD)
    return [
        (families[0], events)
        for families, events in _SOURCES
        if not any(
            client.query_value(f"count(count_over_time({series_selector(family, selector)}[{window}]))", end)
            for family in families
        )
    ]


def _alerts(
    service_slos: ServiceSLOs, client: PrometheusClient, start: float, end: float, step: float
) -> Iterator[TimelineEvent]:
    firing = series_selector(
        "ALERTS",
        f"{SLO_LABEL_SERVICE}={quote(service_slos.service)}",
        'alertstate="firing"',
        label_matcher(SLO_LABEL_SEVERITY, (Severity.SEV1, Severity.SEV2, Severity.SEV3)),
    )
    for labels, points in client.query_range_series(firing, start, end, step):
        severity = Severity(labels[SLO_LABEL_SEVERITY])
        subject = f"{labels['alertname']} ({severity})"
        for first, last in _intervals(points, step):
            before = first <= start + step
            yield TimelineEvent(first, f"{subject} {'is firing' if before else 'fires'}", severity)
            if last + 2 * step < end:
                yield TimelineEvent(last + step, f"{subject} resolves")


def _deployments(
    service_slos: ServiceSLOs, client: PrometheusClient, start: float, end: float, step: float
) -> Iterator[TimelineEvent]:
    for labels, points in client.query_range_series(deployments(service_slos), start, end, step):
        version = labels.get(VERSION_LABEL) or "without a version"
        revision = f", revision {labels[REVISION_LABEL]}" if labels.get(REVISION_LABEL) else ""
        for first, _ in _intervals(points, step):
            yield TimelineEvent(first, f"version {version}{revision} is deployed")
    is_pushing = service_slos.scraped is False  # its processes have a new instance label after each start
    starts = process_starts(service_slos, f"{start * 1000:.0f}") if is_pushing else restarts(service_slos)
    for labels, points in client.query_range_series(starts, start, end, step):
        for timestamp in dict.fromkeys(value / 1000 for _, value in points):
            if timestamp >= start:
                verb = "starts" if is_pushing else "restarts"
                yield TimelineEvent(timestamp, f"instance {labels.get('instance', '')} {verb}")


def _readiness(
    service_slos: ServiceSLOs, client: PrometheusClient, start: float, end: float, step: float
) -> Iterator[TimelineEvent]:
    not_ready = series_selector(
        HEALTH_STATUS.family,
        service_selector(service_slos),
        f'{prometheus_name(HEALTH_KIND)}="readiness"',
        f"{prometheus_name(HEALTH_STATE)}={quote(HealthState.UNHEALTHY.value)}",
    )
    for labels, points in client.query_range_series(not_ready, start, end, step):
        instance, previous = labels.get("instance", ""), 0.0
        for timestamp, value in points:
            if value != previous:
                yield TimelineEvent(timestamp, f"instance {instance} is {'not ready' if value else 'ready'}")
            previous = value


def _intervals(points: Points, step: float) -> Iterator[tuple[float, float]]:
    """Yield the first and the last time of each sequence of points without a gap."""
    first = previous = points[0][0]
    for timestamp, _ in points[1:]:
        if timestamp > previous + 1.5 * step:
            yield first, previous
            first = timestamp
        previous = timestamp
    yield first, previous
