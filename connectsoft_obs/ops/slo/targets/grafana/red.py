"""The requests dashboard of a service: rate, errors, duration, saturation and health."""

from __future__ import annotations

from typing import Any

from connectsoft_obs.ops.slo.promql import series_selector, service_selector
from connectsoft_obs.ops.slo.targets.grafana.dashboard import (
    GREEN,
    ORANGE,
    RATE_WINDOW,
    RED,
    Dashboard,
    heatmap_panel,
    label_legend,
    label_values_variable,
    query,
    service_dashboard,
    stat_panel,
    timeseries_panel,
)
from connectsoft_obs.ops.slo.targets.grafana.deployment_annotations import add_deployment_annotations
from connectsoft_obs.slo.indicators import Events
from connectsoft_obs.slo.model import ServiceSLOs
from connectsoft_obs.vocabulary import (
    ACTIVE_REQUESTS,
    CHECK_NAME,
    CHECK_STATUS,
    ERROR_TYPE,
    HEALTH_KIND,
    HEALTH_STATE,
    HEALTH_STATUS,
    HTTP_ROUTE,
    HTTP_STATUS,
    LOOP_LAG,
    PROCESS_CPU,
    PROCESS_RESIDENT_MEMORY,
    REQUEST_DURATION,
    STREAM_ACTIVE,
    STREAM_KIND,
    HealthState,
    prometheus_name,
)

_ROUTE, _ERROR, _STATUS = (prometheus_name(name) for name in (HTTP_ROUTE, ERROR_TYPE, HTTP_STATUS))
_SELECTED_ROUTES = f'{_ROUTE}=~"$route"'
_ABORTED = "client_disconnect|cancelled"
_COUNT, _BUCKET = (f"{REQUEST_DURATION.family}_{suffix}" for suffix in ("count", "bucket"))


def red_dashboard(service_slos: ServiceSLOs) -> dict[str, Any]:
    """Return the requests dashboard of one service."""
    selector = service_selector(service_slos)
    route_variable = label_values_variable("route", "route", series_selector(_COUNT, selector), _ROUTE)
    dashboard = service_dashboard(service_slos, "red", "requests", [route_variable])
    _add_traffic(dashboard, selector)
    _add_latency(dashboard, selector, _latency_thresholds(service_slos))
    _add_saturation(dashboard, selector)
    _add_health(dashboard, selector)
    add_deployment_annotations(dashboard, [service_slos])
    return dashboard.to_dict()


def _add_traffic(dashboard: Dashboard, selector: str) -> None:
    requests = series_selector(_COUNT, selector, _SELECTED_ROUTES)
    completed = series_selector(_COUNT, selector, _SELECTED_ROUTES, f'{_ERROR}!~"{_ABORTED}"')
    failed = series_selector(_COUNT, selector, _SELECTED_ROUTES, f'{_ERROR}!~"|{_ABORTED}"')
    # Services that do not set error.type still report the status code.
    failed_by_status = series_selector(_COUNT, selector, _SELECTED_ROUTES, f'{_ERROR}=""', f'{_STATUS}=~"5.."')
    aborted = series_selector(_COUNT, selector, _SELECTED_ROUTES, f'{_ERROR}=~"{_ABORTED}"')
    per_completed = f"/ on () group_left () sum(rate({completed}{RATE_WINDOW}))"
    dashboard.add_row("Rate and errors")
    dashboard.add_panel(
        timeseries_panel(
            "Requests",
            [query(f"sum by ({_ROUTE}) (rate({requests}{RATE_WINDOW}))", label_legend(_ROUTE))],
            "reqps",
        ),
        6,
    )
    dashboard.add_panel(
        timeseries_panel(
            "Failed requests",
            [
                query(f"sum by ({_ERROR}) (rate({failed}{RATE_WINDOW})) {per_completed}", label_legend(_ERROR)),
                query(
                    f"sum by ({_STATUS}) (rate({failed_by_status}{RATE_WINDOW})) {per_completed}",
                    label_legend(_STATUS),
                ),
            ],
            "percentunit",
            description="Share of requests that failed, by error.type or status code. Aborted requests are excluded.",
        ),
        6,
    )
    dashboard.add_panel(
        timeseries_panel(
            "Responses",
            [query(f"sum by ({_STATUS}) (rate({requests}{RATE_WINDOW}))", label_legend(_STATUS))],
            "reqps",
            stacked=True,
        ),
        6,
    )
    dashboard.add_panel(
        timeseries_panel(
            "Aborted requests",
            [query(f"sum by ({_ERROR}) (rate({aborted}{RATE_WINDOW}))", label_legend(_ERROR))],
            "reqps",
            description="Requests that the client disconnected from or the server cancelled. "
            "SLOs count them as neither good nor bad.",
        ),
        6,
    )


def _latency_thresholds(service_slos: ServiceSLOs) -> list[float]:
    """Return the thresholds of all latency SLOs on requests, in seconds."""
    indicators = [slo.sli for slo in service_slos.slos if isinstance(slo.sli, Events)]
    return sorted({sli.threshold for sli in indicators if sli.threshold and sli.instrument == REQUEST_DURATION.name})


def _add_latency(dashboard: Dashboard, selector: str, slo_thresholds: list[float]) -> None:
    buckets = series_selector(_BUCKET, selector, _SELECTED_ROUTES)
    by_le = f"sum by (le) (rate({buckets}{RATE_WINDOW}))"
    by_le_and_route = f"sum by (le, {_ROUTE}) (rate({buckets}{RATE_WINDOW}))"
    dashboard.add_row("Latency")
    dashboard.add_panel(
        timeseries_panel(
            "Latency percentiles",
            [
                query(f"histogram_quantile({quantile}, {by_le})", f"p{quantile * 100:g}", exemplars=quantile == 0.99)
                for quantile in (0.5, 0.95, 0.99)
            ],
            "s",
            thresholds=[(threshold, RED) for threshold in slo_thresholds],
            description="Dashed lines: thresholds of the latency SLOs.",
        )
    )
    dashboard.add_panel(
        timeseries_panel(
            "p95 by route", [query(f"histogram_quantile(0.95, {by_le_and_route})", label_legend(_ROUTE))], "s"
        )
    )
    dashboard.add_panel(heatmap_panel("Latency distribution", by_le))


def _add_saturation(dashboard: Dashboard, selector: str) -> None:
    lag_buckets = series_selector(f"{LOOP_LAG.family}_bucket", selector)
    lag_by_le = f"sum by (le) (rate({lag_buckets}{RATE_WINDOW}))"
    # A Prometheus that scrapes /metrics has other names than one that receives OTLP.
    cpu = " or ".join(
        f"sum(rate({series_selector(f'{family}_total', selector)}{RATE_WINDOW}))"
        for family in (PROCESS_CPU.family, PROCESS_CPU.otlp_family)
    )
    memory = " or ".join(
        f"sum({series_selector(family, selector)})"
        for family in (PROCESS_RESIDENT_MEMORY.family, PROCESS_RESIDENT_MEMORY.otlp_family)
    )
    stream_kind = prometheus_name(STREAM_KIND)
    dashboard.add_row("Saturation")
    dashboard.add_panel(
        timeseries_panel(
            "Active requests and streams",
            [
                query(f"sum({series_selector(ACTIVE_REQUESTS.family, selector)})", "requests"),
                query(
                    f"sum by ({stream_kind}) ({series_selector(STREAM_ACTIVE.family, selector)})",
                    label_legend(stream_kind),
                ),
            ],
        ),
        6,
    )
    dashboard.add_panel(
        timeseries_panel(
            "Event loop lag",
            [query(f"histogram_quantile({quantile}, {lag_by_le})", f"p{quantile * 100:g}") for quantile in (0.5, 0.99)],
            "s",
        ),
        6,
    )
    dashboard.add_panel(timeseries_panel("CPU usage", [query(cpu, "cores")], "short"), 6)
    dashboard.add_panel(timeseries_panel("Memory", [query(memory, "resident")], "bytes"), 6)


def _add_health(dashboard: Dashboard, selector: str) -> None:
    kind, state, check = (prometheus_name(name) for name in (HEALTH_KIND, HEALTH_STATE, CHECK_NAME))
    readiness = f'{kind}="readiness"'
    unhealthy = f'{state}="{HealthState.UNHEALTHY.value}"'
    dashboard.add_row("Health")
    dashboard.add_panel(
        stat_panel(
            "Instances up",
            f"sum({series_selector('up', selector)})",
            thresholds=[(None, RED), (1, GREEN)],
            description="Instances that Prometheus can scrape.",
        ),
        4,
    )
    dashboard.add_panel(
        stat_panel(
            "Not ready",
            f"sum({series_selector(HEALTH_STATUS.family, selector, readiness, unhealthy)}) or vector(0)",
            thresholds=[(None, GREEN), (1, ORANGE)],
            description="Instances whose readiness probe fails, so that they receive no traffic.",
        ),
        4,
    )
    dashboard.add_panel(
        timeseries_panel(
            "Failing checks",
            [
                query(
                    f"sum by ({check}) ({series_selector(CHECK_STATUS.family, selector, unhealthy)})",
                    label_legend(check),
                )
            ],
        ),
        16,
    )
