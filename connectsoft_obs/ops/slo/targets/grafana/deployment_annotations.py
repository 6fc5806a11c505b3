"""Annotations of deployments and restarts, from series that every service exports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from connectsoft_obs.ops.slo.promql import series_selector, service_selector
from connectsoft_obs.ops.slo.targets.grafana.dashboard import BLUE, ORANGE, Dashboard, label_legend
from connectsoft_obs.slo.model import ServiceSLOs
from connectsoft_obs.vocabulary import BUILD_INFO, PROCESS_START_TIME, REVISION, SERVICE_VERSION, prometheus_name

_VERSION, _REVISION = prometheus_name(SERVICE_VERSION), prometheus_name(REVISION)
_MARK: Final = "2m"
"""How long a new version is marked. Grafana merges the marks of one deployment, and increases the step of long ranges."""
_GAP: Final = "5m"
"""A version counts as new if it has no samples for this time before the mark, for example after a rollback."""
_RESTART_RANGE: Final = "15m"
"""Longest time between the last sample before a restart and the first one after it."""


def add_deployment_annotations(dashboard: Dashboard, services: Sequence[ServiceSLOs]) -> None:
    """Mark each deployment of a version once, and each restart of an instance at its time.

    Instances that push their metrics have a new `instance` label after a restart: each start of a process is marked.
    """
    legend = label_legend("job", _VERSION, _REVISION)
    dashboard.add_annotation("deployments", _any(deployments(service) for service in services), legend, BLUE)
    pushing = [service for service in services if service.scraped is False]
    scraped = [service for service in services if service.scraped is not False]
    for name, group, expression in (("restarts", scraped, restarts), ("process starts", pushing, process_starts)):
        if group:
            dashboard.add_annotation(
                name,
                _any(expression(service) for service in group),
                f"{name[:-1]} {label_legend('instance')}",
                ORANGE,
                value_is_time=True,
            )


def deployments(service_slos: ServiceSLOs) -> str:
    """Return an expression with one series for each version in the first minutes after it appears, for any number of instances.

    A version is new if no instance of it had samples just before, while another version had, or if it had none for a day:
    a service that returns after an outage with the same version is not a deployment.
    """
    versions = series_selector(BUILD_INFO.family, service_selector(service_slos))
    by = f"group by (job, {_VERSION}, {_REVISION})"
    recent = f"last_over_time({versions}[{_GAP}] offset {_MARK})"
    is_replaced = f"({by} ({versions}) unless {by} ({recent})) and on (job) group by (job) ({recent})"
    is_first = f"({by} ({versions}) unless {by} (last_over_time({versions}[1d] offset {_MARK})))"
    return f"{is_replaced} or {is_first}"


def restarts(service_slos: ServiceSLOs) -> str:
    """Return an expression with the time in milliseconds at which an instance restarted, for some minutes after it."""
    return _any(f"1000 * {start} and changes({start}[{_RESTART_RANGE}]) > 0" for start in _start_times(service_slos))


def process_starts(service_slos: ServiceSLOs) -> str:
    """Return an expression with the time in milliseconds at which each process started, from the start of the dashboard on."""
    return _any(f"1000 * {start} >= $__from" for start in _start_times(service_slos))


def _start_times(service_slos: ServiceSLOs) -> list[str]:
    selector = service_selector(service_slos)
    return [series_selector(family, selector) for family in (PROCESS_START_TIME.family, PROCESS_START_TIME.otlp_family)]


def _any(expressions: Iterable[str]) -> str:
    return " or ".join(expressions)
