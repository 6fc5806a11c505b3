"""What a server has of the series that rules read: found by asking, because names alone can be right and dead."""

from __future__ import annotations

from collections.abc import Iterator

from connectsoft_obs.ops.prometheus_api import PrometheusClient
from connectsoft_obs.ops.slo.lint import Finding, Level
from connectsoft_obs.ops.slo.promql import series, service_selector
from connectsoft_obs.ops.slo.rules import PROMETHEUS, RuleContext
from connectsoft_obs.ops.slo.sli_queries import RateWindow, sli_queries
from connectsoft_obs.slo.durations import DAY, prometheus
from connectsoft_obs.slo.indicators import Freshness, OutageLimit
from connectsoft_obs.slo.model import ServiceSLOs
from connectsoft_obs.vocabulary import SLO_OUTAGE, SLO_TOTAL

_OVER = RateWindow("1h")


def check_live(promises: ServiceSLOs, server: PrometheusClient) -> Iterator[Finding]:
    """What promises read that the server does not have.

    Raises:
        Unanswered: the server does not answer.
    """
    if promises.scraped and not server.vector(f"count({series('up', service_selector(promises))})"):
        yield Finding(
            Level.ERROR, "no-target", promises.service, f"the server scrapes nothing that matches {service_selector(promises)}",
            "Correct the name or the selector; or say scraped = false where the service pushes.",
        )  # fmt: skip
    for slo in promises.slos:
        about, measured = promises.id(slo), sli_queries(promises, slo)
        if (unseen := measured.missing_data_query()) and server.vector(unseen):
            yield Finding(
                Level.ERROR, "boundary", about, "the histogram has no bucket boundary at its threshold",
                "Add it to the service, or move the threshold.",
            )  # fmt: skip
        elif not server.vector(measured.total(_OVER)):
            yield Finding(
                Level.ERROR, "no-series", about, "the server has no series that it measures",
                "Is the service deployed, and does it declare this promise?" if not isinstance(slo.sli, Freshness) else
                "Has the job succeeded once?",
            )  # fmt: skip
        recorded = SLO_OUTAGE if isinstance(slo.sli, OutageLimit) else SLO_TOTAL
        selector = RuleContext(promises, slo, PROMETHEUS).recorded(recorded)
        if not server.vector(selector):
            yield Finding(
                Level.WARNING,
                "not-recorded",
                about,
                "the server does not record its rules",
                "Load the generated rules.",
            )
        period = promises.period_of(slo)
        if server.vector(f"{selector} offset {prometheus(DAY)}") and not server.vector(
            f"count_over_time({selector}[1h] offset {prometheus(period)})"
        ):
            yield Finding(
                Level.NOTE, "history", about, f"there is no history of {prometheus(period)} yet",
                "Until there is, what nobody saw counts as free of errors; alerts take that into account.",
            )  # fmt: skip
