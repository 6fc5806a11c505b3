"""The background work dashboard of a service: job runs and messages."""

from __future__ import annotations

from typing import Any

from connectsoft_obs.ops.slo.promql import series_selector, service_selector
from connectsoft_obs.ops.slo.targets.grafana.dashboard import (
    RATE_WINDOW,
    RED,
    Dashboard,
    label_legend,
    query,
    service_dashboard,
    timeseries_panel,
)
from connectsoft_obs.ops.slo.targets.grafana.deployment_annotations import add_deployment_annotations
from connectsoft_obs.slo.model import ServiceSLOs
from connectsoft_obs.vocabulary import (
    CONSUMED_MESSAGES,
    ERROR_TYPE,
    JOB_ACTIVE,
    JOB_DURATION,
    JOB_LAST_SUCCESS,
    JOB_NAME,
    JOB_NEXT_EXPECTED,
    JOB_RETRIES,
    MESSAGE_WAIT,
    MESSAGING_DESTINATION,
    OUTCOME,
    PROCESS_DURATION,
    SENT_MESSAGES,
    prometheus_name,
)

_JOB, _OUTCOME, _ERROR, _DESTINATION = (
    prometheus_name(name) for name in (JOB_NAME, OUTCOME, ERROR_TYPE, MESSAGING_DESTINATION)
)


def worker_dashboard(service_slos: ServiceSLOs) -> dict[str, Any]:
    """Return the background work dashboard of one service."""
    selector = service_selector(service_slos)
    dashboard = service_dashboard(service_slos, "workers", "background work")
    _add_jobs(dashboard, selector)
    _add_messages(dashboard, selector)
    add_deployment_annotations(dashboard, [service_slos])
    return dashboard.to_dict()


def _add_jobs(dashboard: Dashboard, selector: str) -> None:
    count = f"{JOB_DURATION.family}_count"
    runs = series_selector(count, selector)
    completed = f"""sum by ({_JOB}) (increase({series_selector(count, selector, f'{_OUTCOME}!="aborted"')}[1h]))"""
    failed = f"""sum by ({_JOB}) (increase({series_selector(count, selector, f'{_OUTCOME}=~"failure|timeout"')}[1h]))"""
    buckets = series_selector(f"{JOB_DURATION.family}_bucket", selector)
    active = series_selector(JOB_ACTIVE.family, selector)
    retries = series_selector(f"{JOB_RETRIES.family}_total", selector)
    last_success = series_selector(JOB_LAST_SUCCESS.family, selector)
    next_expected = series_selector(JOB_NEXT_EXPECTED.family, selector)
    job_legend = label_legend(_JOB)
    dashboard.add_row("Job runs")
    dashboard.add_panel(
        timeseries_panel(
            "Runs per hour",
            [query(f"sum by ({_JOB}, {_OUTCOME}) (increase({runs}[1h]))", label_legend(_JOB, _OUTCOME))],
            stacked=True,
        )
    )
    dashboard.add_panel(
        timeseries_panel(
            "Failed runs",
            [query(f"({failed} or 0 * {completed}) / ({completed} > 0)", job_legend)],
            "percentunit",
            description="Share of the runs of the last hour that failed or timed out.",
        )
    )
    dashboard.add_panel(
        timeseries_panel(
            "Duration, p95",
            [query(f"histogram_quantile(0.95, sum by (le, {_JOB}) (increase({buckets}[1h])))", job_legend)],
            "s",
        )
    )
    dashboard.add_panel(timeseries_panel("Active runs", [query(f"sum by ({_JOB}) ({active})", job_legend)]), 6)
    dashboard.add_panel(
        timeseries_panel("Retries per hour", [query(f"sum by ({_JOB}) (increase({retries}[1h]))", job_legend)]), 6
    )
    dashboard.add_panel(
        timeseries_panel(
            "Time since last success", [query(f"time() - max by ({_JOB}) ({last_success})", job_legend)], "s"
        ),
        6,
    )
    dashboard.add_panel(
        timeseries_panel(
            "Overdue by",
            [query(f"time() - max by ({_JOB}) ({next_expected})", job_legend)],
            "s",
            thresholds=[(0, RED)],
            min_value=None,
            description="Time since the next run was expected. Above zero, a scheduled run is missing.",
        ),
        6,
    )


def _add_messages(dashboard: Dashboard, selector: str) -> None:
    consumed = series_selector(f"{CONSUMED_MESSAGES.family}_total", selector)
    sent = series_selector(f"{SENT_MESSAGES.family}_total", selector)
    failed = series_selector(f"{PROCESS_DURATION.family}_count", selector, f'{_ERROR}!=""')
    processing_buckets = series_selector(f"{PROCESS_DURATION.family}_bucket", selector)
    waiting_buckets = series_selector(f"{MESSAGE_WAIT.family}_bucket", selector)
    destination_legend = label_legend(_DESTINATION)
    dashboard.add_row("Messages")
    dashboard.add_panel(
        timeseries_panel(
            "Messages consumed and sent",
            [
                query(f"sum by ({_DESTINATION}) (rate({consumed}{RATE_WINDOW}))", f"{destination_legend} consumed"),
                query(f"sum by ({_DESTINATION}) (rate({sent}{RATE_WINDOW}))", f"{destination_legend} sent"),
            ],
            "ops",
        )
    )
    dashboard.add_panel(
        timeseries_panel(
            "Failed messages",
            [
                query(
                    f"sum by ({_DESTINATION}, {_ERROR}) (rate({failed}{RATE_WINDOW}))",
                    label_legend(_DESTINATION, _ERROR),
                )
            ],
            "ops",
        )
    )
    dashboard.add_panel(
        timeseries_panel(
            "Processing and waiting time, p95",
            [
                query(
                    f"histogram_quantile(0.95, sum by (le, {_DESTINATION}) (rate({buckets}{RATE_WINDOW})))",
                    f"{destination_legend} {phase}",
                )
                for buckets, phase in ((processing_buckets, "processing"), (waiting_buckets, "waiting"))
            ],
            "s",
        )
    )
