"""The technical dashboard of a service: rate, errors, duration and saturation of its requests, and its health."""

from __future__ import annotations

from typing import Any

from connectsoft_obs.ops.slo.promql import series, service_selector
from connectsoft_obs.ops.slo.rules import dashboard_uid
from connectsoft_obs.ops.slo.targets.grafana.dashboard import (
    GREEN,
    ORANGE,
    RED,
    Dashboard,
    graph,
    heatmap_panel,
    label_values,
    query,
    stat,
)
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
    REQUEST_DURATION,
    STREAM_ACTIVE,
    STREAM_KIND,
    HealthState,
    prometheus_name,
)

_ROUTE, _ERROR, _STATUS = (prometheus_name(name) for name in (HTTP_ROUTE, ERROR_TYPE, HTTP_STATUS))
_NEITHER = "client_disconnect|cancelled"
_OVER = "[$__rate_interval]"


def red_dashboard(promises: ServiceSLOs) -> dict[str, Any]:
    """The dashboard of one service."""
    mine, chosen = service_selector(promises), f'{_ROUTE}=~"$route"'
    count, bucket = (f"{REQUEST_DURATION.family}_{kind}" for kind in ("count", "bucket"))
    board = Dashboard(
        dashboard_uid(promises.service, "red"),
        f"{promises.service}: requests",
        ["red", promises.service],
        [label_values("route", "route", series(count, mine), _ROUTE)],
    )
    _traffic(board, count, mine, chosen)
    _durations(board, promises, count, bucket, mine, chosen)
    _saturation(board, mine)
    _health(board, mine)
    return board.table()


def _traffic(board: Dashboard, count: str, mine: str, chosen: str) -> None:
    settled = f'{_ERROR}!~"{_NEITHER}"'
    total = f"sum(rate({series(count, mine, chosen, settled)}{_OVER}))"
    failed = series(count, mine, chosen, f'{_ERROR}!~"|{_NEITHER}"')
    bare = series(count, mine, chosen, f'{_ERROR}=""', f'{_STATUS}=~"5.."')
    board.row("Rate and errors")
    board.panel(
        graph(
            "Requests",
            [query(f"sum by ({_ROUTE}) (rate({series(count, mine, chosen)}{_OVER}))", f"{{{{{_ROUTE}}}}}")],
            "reqps",
        ),
        6,
    )
    board.panel(
        graph(
            "Failed requests",
            [
                query(f"sum by ({_ERROR}) (rate({failed}{_OVER})) / on () group_left () {total}", f"{{{{{_ERROR}}}}}"),
                query(f"sum by ({_STATUS}) (rate({bare}{_OVER})) / on () group_left () {total}", f"{{{{{_STATUS}}}}}"),
            ],
            "percentunit",
            about="Share of requests that failed, by error.type. Clients that hung up are neither here nor in the total.",
        ),
        6,
    )
    board.panel(
        graph(
            "Responses",
            [query(f"sum by ({_STATUS}) (rate({series(count, mine, chosen)}{_OVER}))", f"{{{{{_STATUS}}}}}")],
            "reqps",
            stacked=True,
        ),
        6,
    )
    left = series(count, mine, chosen, f'{_ERROR}=~"{_NEITHER}"')
    board.panel(
        graph(
            "Neither good nor bad",
            [query(f"sum by ({_ERROR}) (rate({left}{_OVER}))", f"{{{{{_ERROR}}}}}")],
            "reqps",
            about="Requests whose client hung up, or which the server cancelled.",
        ),
        6,
    )


def _durations(board: Dashboard, promises: ServiceSLOs, count: str, bucket: str, mine: str, chosen: str) -> None:
    thresholds = {
        slo.sli.threshold
        for slo in promises.slos
        if isinstance(slo.sli, Events) and slo.sli.threshold and slo.sli.instrument == REQUEST_DURATION.name
    }
    by_le = f"sum by (le) (rate({series(bucket, mine, chosen)}{_OVER}))"
    board.row("Duration")
    board.panel(
        graph(
            "Percentiles",
            [
                query(f"histogram_quantile({share}, {by_le})", f"p{share * 100:g}", exemplars=share == 0.99)
                for share in (0.5, 0.95, 0.99)
            ],
            "s",
            lines=[(threshold, RED) for threshold in sorted(thresholds)],
            about="Dashed: what objectives promise.",
        )
    )
    board.panel(
        graph(
            "p95 by route",
            [
                query(
                    f"histogram_quantile(0.95, sum by (le, {_ROUTE}) (rate({series(bucket, mine, chosen)}{_OVER})))",
                    f"{{{{{_ROUTE}}}}}",
                )
            ],
            "s",
        )
    )
    board.panel(heatmap_panel("Distribution", by_le))


def _saturation(board: Dashboard, mine: str) -> None:
    lag = f"sum by (le) (rate({series(f'{LOOP_LAG.family}_bucket', mine)}{_OVER}))"
    kind = prometheus_name(STREAM_KIND)
    board.row("Saturation")
    board.panel(
        graph(
            "In flight",
            [
                query(f"sum({series(ACTIVE_REQUESTS.family, mine)})", "requests"),
                query(f"sum by ({kind}) ({series(STREAM_ACTIVE.family, mine)})", f"{{{{{kind}}}}}"),
            ],
        ),
        6,
    )
    board.panel(
        graph(
            "Event loop is late by",
            [query(f"histogram_quantile({share}, {lag})", f"p{share * 100:g}") for share in (0.5, 0.99)],
            "s",
        ),
        6,
    )
    board.panel(
        graph(
            "Processors", [query(f"sum(rate({series('process_cpu_seconds_total', mine)}{_OVER}))", "cores")], "short"
        ),
        6,
    )
    board.panel(
        graph("Memory", [query(f"sum({series('process_resident_memory_bytes', mine)})", "resident")], "bytes"), 6
    )


def _health(board: Dashboard, mine: str) -> None:
    kind, state, check = (prometheus_name(name) for name in (HEALTH_KIND, HEALTH_STATE, CHECK_NAME))
    ready = f'{kind}="readiness"'
    sick = f'{state}="{HealthState.UNHEALTHY.value}"'
    board.row("Health")
    board.panel(
        stat(
            "Instances up", f"sum({series('up', mine)})", steps=[(None, RED), (1, GREEN)], about="Targets that answer."
        ),
        4,
    )
    board.panel(
        stat(
            "Not ready",
            f"sum({series(HEALTH_STATUS.family, mine, ready, sick)}) or vector(0)",
            steps=[(None, GREEN), (1, ORANGE)],
            about="Instances that ask for no traffic.",
        ),
        4,
    )
    board.panel(
        graph(
            "Failing checks",
            [query(f"sum by ({check}) ({series(CHECK_STATUS.family, mine, sick)})", f"{{{{{check}}}}}")],
        ),
        16,
    )
