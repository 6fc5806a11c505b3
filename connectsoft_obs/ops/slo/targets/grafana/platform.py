"""The overview of a platform: every service's promises, traffic and alerts on one page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectsoft_obs.ops.slo.promql import one_of, series, service_selector
from connectsoft_obs.ops.slo.targets.grafana.dashboard import GREEN, ORANGE, RED, Dashboard, graph, query, stat
from connectsoft_obs.ops.slo.targets.grafana.slos import overview
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


def platform_dashboard(services: Sequence[ServiceSLOs]) -> dict[str, Any]:
    """The dashboard of several services."""
    board = Dashboard("connectsoft-platform", "Platform overview", ["platform", "slo"])
    names = one_of(SLO_LABEL_SERVICE, [made.service for made in services])
    board.row("Now")
    for severity, colour in ((Severity.SEV1, RED), (Severity.SEV2, RED), (Severity.SEV3, ORANGE)):
        firing = series("ALERTS", names, 'alertstate="firing"', f'{SLO_LABEL_SEVERITY}="{severity.value}"')
        board.panel(
            stat(f"{severity.value} firing", f"count({firing}) or vector(0)", steps=[(None, GREEN), (1, colour)]), 4, 4
        )
    spent = f"count({series(SLO_REMAINING, names)} <= 0) or vector(0)"
    board.panel(stat("Promises broken", spent, steps=[(None, GREEN), (1, RED)]), 4, 4)
    lowest = f"min({series(SLO_REMAINING, names)})"
    board.panel(
        stat("Least budget left", lowest, "percentunit", steps=[(None, RED), (0.0001, ORANGE), (0.25, GREEN)]), 8, 4
    )
    promises = sum(len(made.all) for made in services)
    board.panel(overview(list(services)), 24, 3 + promises)
    _services(board, services)
    return board.table()


def _services(board: Dashboard, services: Sequence[ServiceSLOs]) -> None:
    board.row("Services")
    board.panel(
        graph(
            "Instances up", [query(f"sum({series('up', service_selector(made))})", made.service) for made in services]
        )
    )
    board.panel(graph("Requests", [query(_rate(made), made.service) for made in services], "reqps"))
    failed = '!~"|client_disconnect|cancelled"'
    settled = '!~"client_disconnect|cancelled"'
    shares = [
        query(f"({_rate(made, failed)} or 0 * {_rate(made, settled)}) / {_rate(made, settled)}", made.service)
        for made in services
    ]
    board.panel(graph("Failed requests", shares, "percentunit"))


def _rate(made: ServiceSLOs, error: str = "") -> str:
    """Requests a second of a service, of those whose error matches."""
    chosen = series(f"{REQUEST_DURATION.family}_count", service_selector(made), f"{_ERROR}{error}" if error else "")
    return f"sum(rate({chosen}[$__rate_interval]))"
