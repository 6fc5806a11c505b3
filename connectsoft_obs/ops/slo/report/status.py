"""SLO status at one point in time: events, error budget, burn rates and incidents, from the recorded series."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from connectsoft_obs.ops.prometheus_api import Points, PrometheusClient
from connectsoft_obs.ops.slo.burn_rate_windows import burn_rate_windows
from connectsoft_obs.ops.slo.explain import describe
from connectsoft_obs.ops.slo.report.incidents import Incident, Sample, find_incidents
from connectsoft_obs.ops.slo.rules import PROMETHEUS_LIMITS, RuleContext
from connectsoft_obs.ops.slo.sli_queries import TILE_SECONDS
from connectsoft_obs.slo.durations import DAY, format_prometheus
from connectsoft_obs.slo.indicators import Freshness, OutageLimit
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import (
    SLO_BAD,
    SLO_COVERAGE,
    SLO_ERROR_RATIO,
    SLO_OUTAGE,
    SLO_OUTAGE_BREACHES,
    SLO_REMAINING,
    SLO_TOTAL,
)

QUERY_CHUNK = 31 * DAY
"""Longest time that one query sums over. Longer sums take several queries: Azure Monitor allows at most 32 days."""


class BudgetState(StrEnum):
    """What the error budget policy requires."""

    OK = "ok"
    REVIEW = "review"
    FREEZE = "freeze"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class MonthlyEvents:
    """Events of one calendar month, or of the elapsed part of it.

    Args:
        name: year and month, as `2026-10`.
        good: good events.
        bad: bad events.
        budget_spent: share used of an error budget for this month alone; None without events.
    """

    name: str
    good: float
    bad: float
    budget_spent: float | None


@dataclass(frozen=True, slots=True)
class SloStatus:
    """Status of one SLO at one point in time.

    Args:
        id: service and name of the SLO.
        objective: the objective in words.
        period: length of the SLO period in seconds.
        timestamp: Unix time.
        state: what the error budget policy requires.
        remaining: share of the error budget that is left; below zero when overspent, None without data.
        coverage: share of the period for which the indicator has data.
        budget_minutes: the error budget as minutes of total outage; None for an outage limit.
        unit: what `good` and `bad` count: `events`, or `seconds` for freshness.
        good: good events in the period; None for an outage limit.
        bad: bad events in the period; None for an outage limit.
        allowed: bad events, or outages, that the objective allows.
        burn_rates: burn rate by window, for windows with events.
        time_to_exhaustion: seconds until the error budget is used up at the burn rate of the last six hours; None when
            it is not decreasing or already used up.
        incidents: when the error budget burned too fast, or the outages; largest first.
        breaches: outages longer than the limit; None for other kinds of SLO.
        downtime: seconds of outage; None for other kinds of SLO.
        months: the calendar months of the period.
        remaining_over_time: share of the error budget left over the period.
        burn_rate_over_time: burn rate over the period.
        runbook: URL of the runbook.
    """

    id: str
    objective: str
    period: int
    timestamp: float
    state: BudgetState
    remaining: float | None
    coverage: float | None
    budget_minutes: float | None
    unit: str
    good: float | None
    bad: float | None
    allowed: float | None
    burn_rates: dict[str, float]
    time_to_exhaustion: float | None
    incidents: tuple[Incident, ...]
    breaches: float | None
    downtime: float | None
    months: tuple[MonthlyEvents, ...]
    remaining_over_time: Points
    burn_rate_over_time: Points
    runbook: str


def fetch_status(service_slos: ServiceSLOs, slo: SLO, client: PrometheusClient, timestamp: float) -> SloStatus:
    """Return the status of an SLO, from the series that its recording rules write. Blocks until all queries return.

    Raises:
        PrometheusUnavailable: the server is unreachable or returned an error.
    """
    context = RuleContext(service_slos, slo, PROMETHEUS_LIMITS)
    period = service_slos.period_seconds(slo)
    remaining_series = context.recorded_series(SLO_REMAINING)
    remaining = client.query_value(remaining_series, timestamp)
    step = max(TILE_SECONDS, round(period / 500 / TILE_SECONDS) * TILE_SECONDS)
    common_fields = {
        "id": context.id,
        "objective": describe(slo),
        "period": period,
        "timestamp": timestamp,
        "state": budget_state(service_slos, remaining),
        "remaining": remaining,
        "coverage": client.query_value(context.recorded_series(SLO_COVERAGE), timestamp),
        "remaining_over_time": client.query_range(remaining_series, timestamp - period, timestamp, step),
        "unit": "seconds" if isinstance(slo.sli, Freshness) else "events",
        "runbook": service_slos.runbook_url(slo),
    }
    kind_fields = (
        _outage_fields(context, slo, slo.sli, client, timestamp)
        if isinstance(slo.sli, OutageLimit)
        else _event_fields(context, slo, client, timestamp, remaining, step)
    )
    return SloStatus(**common_fields, **kind_fields)  # type: ignore[arg-type]


def budget_state(service_slos: ServiceSLOs, remaining: float | None) -> BudgetState:
    """Return what the error budget policy requires when this share of the budget is left."""
    if remaining is None:
        return BudgetState.UNKNOWN
    if remaining <= 0:
        return BudgetState.FREEZE
    return BudgetState.REVIEW if remaining * 100 <= max(service_slos.review_at, default=-1) else BudgetState.OK


def sum_over_tiles(client: PrometheusClient, series: str, start: float, end: float) -> float:
    """Return the number of events between two Unix times, as the sum over five-minute tiles of a recorded rate."""
    total, chunk_end = 0.0, end
    while chunk_end > start:
        length = min(QUERY_CHUNK, chunk_end - start)
        length -= length % TILE_SECONDS
        if length <= 0:
            break
        # One second less than the length, so that no tile is counted twice: before Prometheus 3 a range includes its
        # left end.
        window = format_prometheus(length - 1)
        total += (client.query_value(f"sum_over_time({series}[{window}:5m])", chunk_end) or 0.0) * TILE_SECONDS
        chunk_end -= length
    return total


def _event_fields(
    context: RuleContext, slo: SLO, client: PrometheusClient, timestamp: float, remaining: float | None, step: float
) -> dict[str, object]:
    period, budget = context.service_slos.period_seconds(slo), float(slo.error_budget)
    start = timestamp - period
    total_series, bad_series = context.recorded_series(SLO_TOTAL), context.recorded_series(SLO_BAD)
    total, bad = (sum_over_tiles(client, series, start, timestamp) for series in (total_series, bad_series))
    windows = burn_rate_windows(context.service_slos, slo)
    burn_rates = {}
    for name in dict.fromkeys(window.name for window in windows):
        ratio = client.query_value(context.recorded_series(f"{SLO_ERROR_RATIO}{name}"), timestamp)
        if ratio is not None:
            burn_rates[name] = ratio / budget
    recent_burn_rate = burn_rates.get("6h", 0.0)
    time_to_exhaustion = None
    if remaining is not None and remaining > 0 and recent_burn_rate > 0:
        time_to_exhaustion = period * remaining / recent_burn_rate
    bad_rates = client.query_range(bad_series, start, timestamp, TILE_SECONDS)
    total_rates = dict(client.query_range(total_series, start, timestamp, TILE_SECONDS))
    samples = [
        Sample(time, rate * TILE_SECONDS, rate / total_rates[time])
        for time, rate in bad_rates
        if total_rates.get(time, 0) > 0
    ]
    ratio_series = context.recorded_series(f"{SLO_ERROR_RATIO}{windows[0].name}")
    return {
        "budget_minutes": period * budget / 60,
        "good": total - bad,
        "bad": bad,
        "allowed": total * budget,
        "burn_rates": burn_rates,
        "time_to_exhaustion": time_to_exhaustion,
        "incidents": find_incidents(samples, budget, total * budget),
        "breaches": None,
        "downtime": None,
        "months": tuple(_fetch_months(client, total_series, bad_series, start, timestamp, budget)),
        "burn_rate_over_time": [
            (time, ratio / budget) for time, ratio in client.query_range(ratio_series, start, timestamp, step)
        ],
    }


def _outage_fields(
    context: RuleContext, slo: SLO, sli: OutageLimit, client: PrometheusClient, timestamp: float
) -> dict[str, object]:
    period = context.service_slos.period_seconds(slo)
    outage_points = client.query_range(context.recorded_series(SLO_OUTAGE), timestamp - period, timestamp, 60)
    samples = [Sample(time, 60.0, is_down) for time, is_down in outage_points if is_down > 0]
    outages = find_incidents(samples, 0.0, sli.limit, max_gap=90)
    breaches_series = context.recorded_series(f"{SLO_OUTAGE_BREACHES}{format_prometheus(period)}")
    return {
        "budget_minutes": None,
        "good": None,
        "bad": None,
        "allowed": float(sli.allowed),
        "burn_rates": {},
        "time_to_exhaustion": None,
        "incidents": outages,
        "breaches": client.query_value(breaches_series, timestamp),
        "downtime": sum(outage.bad_events for outage in outages),
        "months": (),
        "burn_rate_over_time": [],
    }


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
    context = RuleContext(service_slos, slo, PROMETHEUS_LIMITS)
    total_series, bad_series = context.recorded_series(SLO_TOTAL), context.recorded_series(SLO_BAD)
    end = min(now, _next_month(start))
    months = _fetch_months(client, total_series, bad_series, start, end, float(slo.error_budget))
    return months[0] if months else None


def _next_month(start: float) -> float:
    """Return the Unix time at which the month after the one that starts at `start` begins."""
    month = datetime.fromtimestamp(start, UTC)
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1).timestamp()


def _fetch_months(
    client: PrometheusClient, total_series: str, bad_series: str, start: float, end: float, budget: float
) -> list[MonthlyEvents]:
    months = []
    month = datetime.fromtimestamp(start, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month.timestamp() < end:
        month_start = month.timestamp()
        next_start = _next_month(month_start)
        month_end = min(next_start, end)
        total, bad = (sum_over_tiles(client, series, month_start, month_end) for series in (total_series, bad_series))
        budget_spent = bad / total / budget if total else None
        months.append(MonthlyEvents(f"{month:%Y-%m}", total - bad, bad, budget_spent))
        month = datetime.fromtimestamp(next_start, UTC)
    return months
