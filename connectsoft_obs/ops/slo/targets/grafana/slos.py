"""The SLO dashboard of a service: a table of all SLOs, and the details of one selected SLO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectsoft_obs.ops.slo.promql import label_matcher, series_selector
from connectsoft_obs.ops.slo.targets.grafana.dashboard import (
    BUDGET_THRESHOLDS,
    GREEN,
    ORANGE,
    RED,
    Dashboard,
    custom_variable,
    query,
    service_dashboard,
    stat_panel,
    table_panel,
    timeseries_panel,
)
from connectsoft_obs.ops.slo.targets.grafana.deployment_annotations import add_deployment_annotations
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

_SELECTED_SLO = f'{SLO_LABEL_ID}="$slo"'


def slo_dashboard(service_slos: ServiceSLOs) -> dict[str, Any]:
    """Return the SLO dashboard of one service."""
    outages = [slo for slo in service_slos.slos if isinstance(slo.sli, OutageLimit)]
    ids = [service_slos.slo_id(slo) for slo in service_slos.all_slos if slo not in outages]
    variables = [custom_variable("slo", "SLO", ids)] if ids else []
    dashboard = service_dashboard(service_slos, "slo", "SLOs", variables)
    dashboard.add_row("All SLOs")
    dashboard.add_panel(overview_table([service_slos]), 24, 3 + len(service_slos.all_slos))
    if ids:
        dashboard.add_row("$slo")
        _add_details(dashboard)
    if outages:
        _add_outages(dashboard, service_slos)
    of_service = f'{SLO_LABEL_SERVICE}="{service_slos.service}"'
    dashboard.add_row("Alerts")
    count = f"count by (alertname, alertstate) ({series_selector('ALERTS', of_service)})"
    dashboard.add_panel(timeseries_panel("Alerts", [query(count, "{{alertname}} {{alertstate}}")]), 24, 6)
    for slo in service_slos.slos:
        dashboard.add_link(f"runbook: {slo.name}", service_slos.runbook_url(slo))
    firing = series_selector("ALERTS", of_service, 'alertstate="firing"')
    dashboard.add_annotation("alerts", firing, "{{alertname}} {{severity}}", RED)
    add_deployment_annotations(dashboard, [service_slos])
    return dashboard.to_dict()


def overview_table(services: Sequence[ServiceSLOs]) -> dict[str, Any]:
    """Return a table panel of all SLOs of some services."""
    ids = [service_slos.slo_id(slo) for service_slos in services for slo in service_slos.all_slos]
    matcher = label_matcher(SLO_LABEL_ID, ids)
    budget = series_selector(SLO_BUDGET, matcher)
    burn_rate = f"{series_selector(f'{SLO_ERROR_RATIO}1h', matcher)} / on ({SLO_LABEL_ID}) group_left () {budget}"
    columns = [
        ("objective", "percentunit", f"1 - {budget}"),
        ("error budget left", "percentunit", series_selector(SLO_REMAINING, matcher)),
        ("burn rate, 1h", "short", burn_rate),
        ("data coverage", "percentunit", series_selector(SLO_COVERAGE, matcher)),
    ]
    description = "A burn rate of 1 uses up the error budget in exactly one period."
    return table_panel("SLOs", columns, ["service", "slo"], description)


def _add_details(dashboard: Dashboard) -> None:
    budget = series_selector(SLO_BUDGET, _SELECTED_SLO)
    remaining = series_selector(SLO_REMAINING, _SELECTED_SLO)
    dashboard.add_panel(stat_panel("Error budget left", remaining, "percentunit", thresholds=BUDGET_THRESHOLDS), 4, 6)
    dashboard.add_panel(stat_panel("Objective", f"1 - {budget}", "percentunit"), 4, 6)
    dashboard.add_panel(
        stat_panel(
            "Data coverage",
            series_selector(SLO_COVERAGE, _SELECTED_SLO),
            "percentunit",
            thresholds=[(None, RED), (0.5, ORANGE), (0.9, GREEN)],
            description="Share of the period for which the indicator has data. Time without data counts as error-free.",
        ),
        4,
        6,
    )
    dashboard.add_panel(
        timeseries_panel(
            "Error budget left",
            [query(remaining, "left")],
            "percentunit",
            thresholds=[(0, RED), (0.25, ORANGE)],
            min_value=None,
        ),
        12,
        6,
    )
    burn_rates = [
        query(f"{series_selector(f'{SLO_ERROR_RATIO}{window}', _SELECTED_SLO)} / on ({SLO_LABEL_ID}) {budget}", window)
        for window in ("5m", "1h", "6h", "3d")
    ]
    alert_thresholds = [(1, GREEN), (3, ORANGE), (6, ORANGE), (14.4, RED)]
    dashboard.add_panel(
        timeseries_panel(
            "Burn rate",
            burn_rates,
            thresholds=alert_thresholds,
            description="Dashed lines: burn rates at which alerts fire.",
        ),
        12,
    )
    total, bad = series_selector(SLO_TOTAL, _SELECTED_SLO), series_selector(SLO_BAD, _SELECTED_SLO)
    dashboard.add_panel(
        timeseries_panel(
            "Events per hour",
            [
                query(f"sum_over_time({bad}[1h:5m]) * 300", "bad"),
                query(f"(sum_over_time({total}[1h:5m]) - sum_over_time({bad}[1h:5m])) * 300", "good"),
            ],
        ),
        12,
    )


def _add_outages(dashboard: Dashboard, service_slos: ServiceSLOs) -> None:
    """Add the panels of outage limits, which have neither an objective in percent nor a burn rate."""
    matcher = label_matcher(
        SLO_LABEL_ID, [service_slos.slo_id(slo) for slo in service_slos.slos if isinstance(slo.sli, OutageLimit)]
    )
    dashboard.add_row("Outages")
    remaining = series_selector(SLO_REMAINING, matcher)
    dashboard.add_panel(stat_panel("Outages left", remaining, "percentunit", thresholds=BUDGET_THRESHOLDS), 4, 6)
    dashboard.add_panel(
        timeseries_panel(
            "Outage",
            [query(series_selector(SLO_OUTAGE, matcher), "{{slo}}")],
            description="1 while the service is down, else 0.",
        ),
        20,
        6,
    )
