"""Annotations of deployments and restarts, from series that every service exports."""

from __future__ import annotations

from collections.abc import Sequence

from connectsoft_obs.ops.slo.deployments import (
    REVISION_LABEL,
    VERSION_LABEL,
    any_of,
    deployments,
    process_starts,
    restarts,
)
from connectsoft_obs.ops.slo.targets.grafana.dashboard import BLUE, ORANGE, Dashboard, label_legend
from connectsoft_obs.slo.model import ServiceSLOs


def add_deployment_annotations(dashboard: Dashboard, services: Sequence[ServiceSLOs]) -> None:
    """Mark each deployment of a version once, and each restart of an instance at its time.

    Instances that push their metrics have a new `instance` label after a restart: each start of a process is marked.
    """
    legend = label_legend("job", VERSION_LABEL, REVISION_LABEL)
    dashboard.add_annotation("deployments", any_of(deployments(service) for service in services), legend, BLUE)
    pushing = [service for service in services if service.scraped is False]
    scraped = [service for service in services if service.scraped is not False]
    for name, group, expression in (("restarts", scraped, restarts), ("process starts", pushing, process_starts)):
        if group:
            dashboard.add_annotation(
                name,
                any_of(expression(service) for service in group),
                f"{name[:-1]} {label_legend('instance')}",
                ORANGE,
                value_is_time=True,
            )
