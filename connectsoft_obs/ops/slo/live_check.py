"""Checks against a Prometheus server: whether the series that the generated rules read and write exist."""

from __future__ import annotations

from collections.abc import Iterator

from connectsoft_obs.ops.findings import Finding, Level
from connectsoft_obs.ops.prometheus_api import PrometheusClient
from connectsoft_obs.ops.slo.instances import TARGET_INFO, has_instance_series, running_instances
from connectsoft_obs.ops.slo.promql import series_selector, service_selector
from connectsoft_obs.ops.slo.rules import PROMETHEUS_LIMITS, RuleContext
from connectsoft_obs.ops.slo.sli_queries import RateWindow, sli_queries
from connectsoft_obs.slo.durations import DAY, format_prometheus
from connectsoft_obs.slo.indicators import Freshness, OutageLimit, Ratio
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import ENVIRONMENT, SLO_OUTAGE, SLO_TOTAL, prometheus_name

_WINDOW, _EVENTS_WINDOW = RateWindow("1h"), RateWindow("7d")


def check_live(service_slos: ServiceSLOs, client: PrometheusClient) -> Iterator[Finding]:
    """Check that a server has the series of a service's SLOs.

    Raises:
        PrometheusUnavailable: the server is unreachable or returned an error.
    """
    selector = service_selector(service_slos)
    if has_instance_series(service_slos) and not client.query(f"count({running_instances(service_slos)})"):
        yield Finding(
            Level.ERROR, "no-target", service_slos.service,
            f"no running instance matches {selector}: {running_instances(service_slos)} has no series",
            "Correct the service name or the selector. Set scraped = true if Prometheus scrapes the service, and "
            "scraped = false if it only pushes.",
        )  # fmt: skip
    yield from _check_selection(service_slos, client)
    for slo in service_slos.slos:
        yield from _check_slo(service_slos, slo, client)


def _check_selection(service_slos: ServiceSLOs, client: PrometheusClient) -> Iterator[Finding]:
    """Check that the selector does not mix services or environments, whose events would share an error budget."""
    if not has_instance_series(service_slos):
        return
    environment = prometheus_name(ENVIRONMENT)
    for code, noun, label, series in (
        ("several-jobs", "jobs", "job", running_instances(service_slos)),
        ("environments", "environments", environment, series_selector(TARGET_INFO, service_selector(service_slos))),
    ):
        values = sorted(labels.get(label, "") for labels, _ in client.query(f"count by ({label}) ({series})"))
        if len(values) > 1:
            yield Finding(
                Level.WARNING, code, service_slos.service,
                f"{service_selector(service_slos)} selects series of several {noun}: {', '.join(values)}",
                "Set selector in [service] with a label that matches only one, such as namespace or cluster, or use one "
                "Prometheus for each.",
            )  # fmt: skip


def _check_slo(service_slos: ServiceSLOs, slo: SLO, client: PrometheusClient) -> Iterator[Finding]:
    slo_id, queries = service_slos.slo_id(slo), sli_queries(service_slos, slo)
    if (missing_data := queries.missing_data_query()) and client.query(missing_data):
        yield Finding(
            Level.ERROR, "boundary", slo_id, "the histogram has no bucket boundary at the threshold",
            "Add the boundary in the service, or change the threshold to an existing boundary.",
        )  # fmt: skip
    elif not client.query(queries.total(_WINDOW)):
        yield Finding(
            Level.ERROR, "no-series", slo_id, "Prometheus has no data for the indicator",
            "Check that the job has succeeded at least once."
            if isinstance(slo.sli, Freshness)
            else "Check that the service is deployed and declares this SLO.",
        )  # fmt: skip
    elif client.query(f"{queries.total(_EVENTS_WINDOW)} == 0") and not isinstance(slo.sli, Freshness | Ratio):
        yield Finding(
            Level.WARNING, "no-events", slo_id, "the SLO is deployed and has counted no event in a week",
            "Compare its routes, methods, job or destination with the labels of the metrics of the service.",
        )  # fmt: skip
    name = SLO_OUTAGE if isinstance(slo.sli, OutageLimit) else SLO_TOTAL
    recorded = RuleContext(service_slos, slo, PROMETHEUS_LIMITS).recorded_series(name)
    if not client.query(recorded):
        yield Finding(
            Level.WARNING, "not-recorded", slo_id, "Prometheus has no recorded series of this SLO",
            "Load the generated rules into Prometheus.",
        )  # fmt: skip
    period = format_prometheus(service_slos.period_seconds(slo))
    if client.query(f"{recorded} offset {format_prometheus(DAY)}") and not client.query(
        f"count_over_time({recorded}[1h] offset {period})"
    ):
        yield Finding(
            Level.NOTE, "history", slo_id, f"the recorded series are younger than the compliance period of {period}",
            "No action: intervals without data count as error-free, and alerts account for them.",
        )  # fmt: skip
