"""The platform dashboard: SLOs, traffic and firing alerts of several services."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectsoft_obs.ops.slo.promql import label_matcher, series_selector, service_selector
from connectsoft_obs.ops.slo.targets.grafana.dashboard import (
    BUDGET_THRESHOLDS,
    GREEN,
    ORANGE,
    RATE_WINDOW,
    RED,
    Dashboard,
    query,
    stat_panel,
    timeseries_panel,
)
from connectsoft_obs.ops.slo.targets.grafana.deployment_annotations import add_deployment_annotations
from connectsoft_obs.ops.slo.targets.grafana.slos import overview_table
from connectsoft_obs.slo.model import ServiceSLOs
from connectsoft_obs.vocabulary import (
    ERROR_TYPE,
    REQUEST_DURATION,
    SLO_LABEL_SERVICE,
    SLO_LABEL_SEVERITY,
    SLO_REMAINING,
    Severity,
    prometheus_name,
)

_ERROR = prometheus_name(ERROR_TYPE)
_FAILED, _NOT_ABORTED = (f'{_ERROR}!~"{excluded}client_disconnect|cancelled"' for excluded in ("|", ""))


def platform_dashboard(services: Sequence[ServiceSLOs]) -> dict[str, Any]:
    """Return the dashboard of several services."""
    dashboard = Dashboard("connectsoft-platform", "Platform overview", ["platform", "slo"])
    matcher = label_matcher(SLO_LABEL_SERVICE, [service_slos.service for service_slos in services])
    dashboard.add_row("Alerts and error budgets")
    for severity, colour in ((Severity.SEV1, RED), (Severity.SEV2, RED), (Severity.SEV3, ORANGE)):
        firing = series_selector("ALERTS", matcher, 'alertstate="firing"', f'{SLO_LABEL_SEVERITY}="{severity.value}"')
        dashboard.add_panel(
            stat_panel(
                f"{severity.value} firing", f"count({firing}) or vector(0)", thresholds=[(None, GREEN), (1, colour)]
            ),
            4,
            4,
        )
    remaining = series_selector(SLO_REMAINING, matcher)
    dashboard.add_panel(
        stat_panel("SLOs out of budget", f"count({remaining} <= 0) or vector(0)", thresholds=[(None, GREEN), (1, RED)]),
        4,
        4,
    )
    dashboard.add_panel(
        stat_panel("Lowest error budget left", f"min({remaining})", "percentunit", thresholds=BUDGET_THRESHOLDS), 8, 4
    )
    slo_count = sum(len(service_slos.all_slos) for service_slos in services)
    dashboard.add_panel(overview_table(services), 24, 3 + slo_count)
    _add_services(dashboard, services)
    add_deployment_annotations(dashboard, services)
    return dashboard.to_dict()


def _add_services(dashboard: Dashboard, services: Sequence[ServiceSLOs]) -> None:
    instances, requests, failures = [], [], []
    for service_slos in services:
        service = service_slos.service
        total, failed, completed = (_request_rate(service_slos, matcher) for matcher in ("", _FAILED, _NOT_ABORTED))
        instances.append(query(f"sum({series_selector('up', service_selector(service_slos))})", service))
        requests.append(query(total, service))
        failures.append(query(f"({failed} or 0 * {completed}) / {completed}", service))
    dashboard.add_row("Services")
    dashboard.add_panel(timeseries_panel("Instances up", instances))
    dashboard.add_panel(timeseries_panel("Requests", requests, "reqps"))
    dashboard.add_panel(timeseries_panel("Failed requests", failures, "percentunit"))


def _request_rate(service_slos: ServiceSLOs, error_matcher: str) -> str:
    """Return the request rate of a service, of requests that match."""
    count = series_selector(f"{REQUEST_DURATION.family}_count", service_selector(service_slos), error_matcher)
    return f"sum(rate({count}{RATE_WINDOW}))"
