"""Deployments and restarts of a service, from the series that its instances export."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from connectsoft_obs.ops.slo.promql import series_selector, service_selector
from connectsoft_obs.slo.model import ServiceSLOs
from connectsoft_obs.vocabulary import BUILD_INFO, PROCESS_START_TIME, REVISION, SERVICE_VERSION, prometheus_name

VERSION_LABEL, REVISION_LABEL = prometheus_name(SERVICE_VERSION), prometheus_name(REVISION)
_MARK: Final = "2m"
"""How long a new version is marked. Grafana merges the marks of one deployment, and increases the step of long ranges."""
_GAP: Final = "5m"
"""A version counts as new if it has no samples for this time before the mark, for example after a rollback."""
_RESTART_RANGE: Final = "15m"
"""Longest time between the last sample before a restart and the first one after it."""


def deployments(service_slos: ServiceSLOs) -> str:
    """Return an expression with one series for each version in the first minutes after it appears, for any number of instances.

    A version is new if no instance of it had samples just before, while another version had, or if it had none for a day:
    a service that returns after an outage with the same version is not a deployment.
    """
    versions = series_selector(BUILD_INFO.family, service_selector(service_slos))
    by = f"group by (job, {VERSION_LABEL}, {REVISION_LABEL})"
    recent = f"last_over_time({versions}[{_GAP}] offset {_MARK})"
    is_replaced = f"({by} ({versions}) unless {by} ({recent})) and on (job) group by (job) ({recent})"
    is_first = f"({by} ({versions}) unless {by} (last_over_time({versions}[1d] offset {_MARK})))"
    return f"{is_replaced} or {is_first}"


def restarts(service_slos: ServiceSLOs) -> str:
    """Return an expression with the time in milliseconds at which an instance restarted, for some minutes after it."""
    return any_of(f"1000 * {start} and changes({start}[{_RESTART_RANGE}]) > 0" for start in _start_times(service_slos))


def process_starts(service_slos: ServiceSLOs, since: str = "$__from") -> str:
    """Return an expression with the time in milliseconds at which each process started.

    Args:
        service_slos: the service.
        since: earliest time in milliseconds; by default the start of the dashboard.
    """
    return any_of(f"1000 * {start} >= {since}" for start in _start_times(service_slos))


def _start_times(service_slos: ServiceSLOs) -> list[str]:
    selector = service_selector(service_slos)
    return [series_selector(family, selector) for family in (PROCESS_START_TIME.family, PROCESS_START_TIME.otlp_family)]


def any_of(expressions: Iterable[str]) -> str:
    """Return an expression with the series of all expressions."""
    return " or ".join(expressions)
