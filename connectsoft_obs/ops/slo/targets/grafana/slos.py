"""The dashboard of a service's promises: all of them in a table, one of them in detail."""

from __future__ import annotations

from typing import Any

from connectsoft_obs.ops.slo.promql import one_of, series
from connectsoft_obs.ops.slo.rules import dashboard_uid
from connectsoft_obs.ops.slo.targets.grafana.dashboard import (
    GREEN,
    ORANGE,
    RED,
    Dashboard,
    custom,
    graph,
    query,
    stat,
    table_panel,
)
from connectsoft_obs.slo.indicators import OutageLimit
from connectsoft_obs.slo.model import ServiceSLOs
from connectsoft_obs.vocabulary import (
    SLO_BAD,
    SLO_BUDGET,
    SLO_COVERAGE,
    SLO_ERROR_RATIO,
    SLO_LABEL_ID,
    SLO_LABEL_SERVICE,
    SLO_OUTAGE,
    SLO_REMAINING,
    SLO_TOTAL,
)

LEFT: list[tuple[float | None, str]] = [(None, RED), (0.0001, ORANGE), (0.25, GREEN)]
"""Colours of a share of the budget: spent, nearly spent, and enough."""


def slo_dashboard(promises: ServiceSLOs) -> dict[str, Any]:
    """The dashboard of one service."""
    ids = [promises.id(promise) for promise in promises.all]
    board = Dashboard(
        dashboard_uid(promises.service, "slo"),
        f"{promises.service}: promises",
        ["slo", promises.service],
        [custom("slo", "promise", ids)],
    )
    board.row("All promises")
    board.panel(overview([promises]), 24, 3 + len(ids))
    board.row("$slo")
    _detail(board)
    if any(isinstance(slo.sli, OutageLimit) for slo in promises.slos):
        mine = series(SLO_OUTAGE, f'{SLO_LABEL_SERVICE}="{promises.service}"')
        board.row("Outages")
        board.panel(graph("Down", [query(mine, "{{slo}}")], about="1 while the service counts as down."), 24, 6)
    for promise in promises.slos:
        board.link(f"runbook: {promise.name}", promises.runbook_of(promise))
    chosen = f'{SLO_LABEL_ID}="$slo"'
    firing = series("ALERTS", chosen, 'alertstate="firing"')
    board.annotate("alerts", firing, "{{alertname}} {{severity}}")
    return board.table()


def overview(services: list[ServiceSLOs]) -> dict[str, Any]:
    """The table of all promises of some services."""
    ids = [made.id(promise) for made in services for promise in made.all]
    mine = one_of(SLO_LABEL_ID, ids)
    budget = series(SLO_BUDGET, mine)
    burn = f"{series(f'{SLO_ERROR_RATIO}1h', mine)} / on ({SLO_LABEL_ID}) group_left () {budget}"
    columns = [
        ("objective", "percentunit", f"1 - {budget}"),
        ("budget left", "percentunit", series(SLO_REMAINING, mine)),
        ("burn rate, 1h", "short", burn),
        ("known for", "percentunit", series(SLO_COVERAGE, mine)),
    ]
    return table_panel("Promises", columns, ["service", "slo"], "Burn rate 1 spends the budget in just one period.")


def _detail(board: Dashboard) -> None:
    chosen = f'{SLO_LABEL_ID}="$slo"'
    budget = series(SLO_BUDGET, chosen)
    remaining = series(SLO_REMAINING, chosen)
    board.panel(stat("Budget left", remaining, "percentunit", steps=LEFT), 4, 6)
    board.panel(stat("Objective", f"1 - {budget}", "percentunit"), 4, 6)
    board.panel(
        stat(
            "Known for",
            series(SLO_COVERAGE, chosen),
            "percentunit",
            steps=[(None, RED), (0.5, ORANGE), (0.9, GREEN)],
            about="Share of the period in which the indicator was known. What nobody saw counts as free of errors.",
        ),
        4,
        6,
    )
    board.panel(
        graph("Budget left", [query(remaining, "left")], "percentunit", lines=[(0, RED), (0.25, ORANGE)], low=None),
        12,
        6,
    )
    burns = [
        query(f"{series(f'{SLO_ERROR_RATIO}{window}', chosen)} / on ({SLO_LABEL_ID}) {budget}", window)
        for window in ("5m", "1h", "6h", "3d")
    ]
    lines = [(1, GREEN), (3, ORANGE), (6, ORANGE), (14.4, RED)]
    board.panel(graph("Burn rate", burns, lines=lines, about="Dashed: where alerts fire."), 12)
    total, bad = series(SLO_TOTAL, chosen), series(SLO_BAD, chosen)
    board.panel(
        graph(
            "Events an hour",
            [
                query(f"sum_over_time({bad}[1h:5m]) * 300", "bad"),
                query(f"(sum_over_time({total}[1h:5m]) - sum_over_time({bad}[1h:5m])) * 300", "good"),
            ],
        ),
        12,
    )
    alerts = series("ALERTS", chosen)
    board.panel(
        graph("Alerts", [query(f"count by (alertname, alertstate) ({alerts})", "{{alertname}} {{alertstate}}")]), 24, 6
    )
