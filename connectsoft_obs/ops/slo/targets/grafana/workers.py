"""The dashboard of a service's background work: runs of jobs, and messages."""

from __future__ import annotations

from typing import Any

from connectsoft_obs.ops.slo.promql import series, service_selector
from connectsoft_obs.ops.slo.rules import dashboard_uid
from connectsoft_obs.ops.slo.targets.grafana.dashboard import RED, Dashboard, graph, query
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

_JOB, _OUTCOME, _ERROR, _QUEUE = (
    prometheus_name(name) for name in (JOB_NAME, OUTCOME, ERROR_TYPE, MESSAGING_DESTINATION)
)
_OVER = "[$__rate_interval]"


def worker_dashboard(promises: ServiceSLOs) -> dict[str, Any]:
    """The dashboard of one service."""
    board = Dashboard(
        dashboard_uid(promises.service, "workers"), f"{promises.service}: work", ["workers", promises.service]
    )
    _jobs(board, service_selector(promises))
    _messages(board, service_selector(promises))
    return board.table()


def _jobs(board: Dashboard, mine: str) -> None:
    runs = series(f"{JOB_DURATION.family}_count", mine)
    settled = series(f"{JOB_DURATION.family}_count", mine, f'{_OUTCOME}!="aborted"')
    failed = series(f"{JOB_DURATION.family}_count", mine, f'{_OUTCOME}=~"failure|timeout"')
    bucket = series(f"{JOB_DURATION.family}_bucket", mine)
    job = f"{{{{{_JOB}}}}}"
    board.row("Runs")
    board.panel(
        graph(
            "Runs an hour",
            [query(f"sum by ({_JOB}, {_OUTCOME}) (increase({runs}[1h]))", f"{job} {{{{{_OUTCOME}}}}}")],
            stacked=True,
        )
    )
    share = f"(sum by ({_JOB}) (increase({failed}[1h])) or 0 * sum by ({_JOB}) (increase({settled}[1h])))"
    board.panel(
        graph(
            "Failed runs",
            [query(f"{share} / (sum by ({_JOB}) (increase({settled}[1h])) > 0)", job)],
            "percentunit",
            about="Share of the last hour's runs that failed or ran out of time.",
        )
    )
    board.panel(
        graph(
            "Duration, p95",
            [query(f"histogram_quantile(0.95, sum by (le, {_JOB}) (increase({bucket}[1h])))", job)],
            "s",
        )
    )
    board.panel(graph("Running", [query(f"sum by ({_JOB}) ({series(JOB_ACTIVE.family, mine)})", job)]), 6)
    retries = series(f"{JOB_RETRIES.family}_total", mine)
    board.panel(graph("Retries", [query(f"sum by ({_JOB}) (increase({retries}[1h]))", job)]), 6)
    last, due = series(JOB_LAST_SUCCESS.family, mine), series(JOB_NEXT_EXPECTED.family, mine)
    board.panel(graph("Since the last success", [query(f"time() - max by ({_JOB}) ({last})", job)], "s"), 6)
    board.panel(
        graph(
            "Late by",
            [query(f"time() - max by ({_JOB}) ({due})", job)],
            "s",
            lines=[(0, RED)],
            low=None,
            about="Above zero a scheduled run is missed.",
        ),
        6,
    )


def _messages(board: Dashboard, mine: str) -> None:
    consumed = series(f"{CONSUMED_MESSAGES.family}_total", mine)
    sent = series(f"{SENT_MESSAGES.family}_total", mine)
    count = series(f"{PROCESS_DURATION.family}_count", mine, f'{_ERROR}!=""')
    process, wait = (series(f"{metric.family}_bucket", mine) for metric in (PROCESS_DURATION, MESSAGE_WAIT))
    queue = f"{{{{{_QUEUE}}}}}"
    board.row("Messages")
    board.panel(
        graph(
            "Consumed and sent",
            [
                query(f"sum by ({_QUEUE}) (rate({consumed}{_OVER}))", f"{queue} in"),
                query(f"sum by ({_QUEUE}) (rate({sent}{_OVER}))", f"{queue} out"),
            ],
            "ops",
        )
    )
    board.panel(
        graph(
            "Failed messages",
            [query(f"sum by ({_QUEUE}, {_ERROR}) (rate({count}{_OVER}))", f"{queue} {{{{{_ERROR}}}}}")],
            "ops",
        )
    )
    board.panel(
        graph(
            "Time, p95",
            [
                query(
                    f"histogram_quantile(0.95, sum by (le, {_QUEUE}) (rate({process}{_OVER})))", f"{queue} processing"
                ),
                query(f"histogram_quantile(0.95, sum by (le, {_QUEUE}) (rate({wait}{_OVER})))", f"{queue} waiting"),
            ],
            "s",
        )
    )
