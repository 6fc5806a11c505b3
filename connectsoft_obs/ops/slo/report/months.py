"""Events and error budgets of calendar months."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from connectsoft_obs.ops.prometheus_api import PrometheusClient
from connectsoft_obs.ops.slo.report.tiles import covered_seconds, sum_over_tiles
from connectsoft_obs.ops.slo.rules import PROMETHEUS_LIMITS, RuleContext
from connectsoft_obs.slo.indicators import OutageLimit
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import SLO_BAD, SLO_TOTAL


@dataclass(frozen=True, slots=True)
class MonthlyEvents:
    """Events of one calendar month, or of the elapsed part of it.

    Args:
        name: year and month, as `2026-10`.
        good: good events.
        bad: bad events.
        budget_spent: share used of an error budget for this month alone; time without data, and the rest of the month,
            count as error-free with the traffic of the other time. None without events.
    """

    name: str
    good: float
    bad: float
    budget_spent: float | None


def fetch_month(
    service_slos: ServiceSLOs, slo: SLO, client: PrometheusClient, start: float, now: float
) -> MonthlyEvents | None:
    """Return the events of one calendar month, or of the elapsed part of it; None for an outage limit.

    Args:
        service_slos: the service.
        slo: one of its SLOs.
        client: the server with the recorded series.
        start: Unix time at which the month starts.
        now: current Unix time.

    Raises:
        PrometheusUnavailable: the server is unreachable or returned an error.
    """
    if isinstance(slo.sli, OutageLimit):
        return None
    months = fetch_months(
        RuleContext(service_slos, slo, PROMETHEUS_LIMITS), slo, client, start, min(now, _next_month(start))
    )
    return months[0] if months else None


def _next_month(start: float) -> float:
    """Return the Unix time at which the month after the one that starts at `start` begins."""
    month = datetime.fromtimestamp(start, UTC)
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1).timestamp()


def fetch_months(
    context: RuleContext, slo: SLO, client: PrometheusClient, start: float, end: float
) -> list[MonthlyEvents]:
    """Return the events of each calendar month from the one that contains `start`, up to `end`.

    Raises:
        PrometheusUnavailable: the server is unreachable or returned an error.
    """
    total_series, bad_series = context.recorded_series(SLO_TOTAL), context.recorded_series(SLO_BAD)
    months = []
    month = datetime.fromtimestamp(start, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month.timestamp() < end:
        month_start = month.timestamp()
        next_start = _next_month(month_start)
        month_end = min(next_start, end)
        total, bad = (sum_over_tiles(client, series, month_start, month_end) for series in (total_series, bad_series))
        covered = covered_seconds(client, bad_series, month_start, month_end)
        allowed = total * float(slo.error_budget) * (next_start - month_start) / covered if covered else 0.0
        budget_spent = bad / allowed if allowed else None
        months.append(MonthlyEvents(f"{month:%Y-%m}", total - bad, bad, budget_spent))
        month = datetime.fromtimestamp(next_start, UTC)
    return months
