"""SLO status at one point in time: events, error budget, burn rates and incidents, from the recorded series."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from connectsoft_obs.ops.prometheus_api import Points, PrometheusClient
from connectsoft_obs.ops.slo.burn_rate_windows import burn_rate_windows
from connectsoft_obs.ops.slo.explain import describe
from connectsoft_obs.ops.slo.report.budget import BudgetState, BudgetStatus, fetch_budget
from connectsoft_obs.ops.slo.report.incidents import Incident, Sample, find_incidents
from connectsoft_obs.ops.slo.report.months import MonthlyEvents, fetch_months
from connectsoft_obs.ops.slo.rules import PROMETHEUS_LIMITS, RuleContext
from connectsoft_obs.ops.slo.sli_queries import TILE_SECONDS
from connectsoft_obs.slo.durations import MINUTE, format_prometheus
from connectsoft_obs.slo.indicators import Freshness, OutageLimit
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import (
    SLO_BAD,
    SLO_ERROR_RATIO,
    SLO_OUTAGE,
    SLO_OUTAGE_BREACHES,
    SLO_REMAINING,
    SLO_TOTAL,
    Severity,
)

MAX_HISTORY = 500
"""Points of a series in a plot."""


@dataclass(frozen=True, slots=True)
class SloStatus:
    """Status of one SLO at one point in time.

    Args:
        id: service and name of the SLO.
        objective: the objective in words.
        period: length of the SLO period in seconds.
        timestamp: Unix time.
        state: what the error budget policy requires.
        firing: severity of each alert whose condition holds, except reviews, by name.
        remaining: share of the error budget that is left; below zero when overspent, None without data.
        coverage: share of the period for which the indicator has data.
        budget_minutes: the error budget as minutes of total outage; None for an outage limit.
        unit: what `good` and `bad` count: `events`, or `seconds` for freshness.
        good: good events in the period; None for an outage limit.
        bad: bad events in the period; None for an outage limit.
        allowed: bad events, or outages, that the objective allows in a full period; None without data.
        burn_rates: burn rate by window, for windows with events.
        time_to_exhaustion: seconds until the error budget is used up at the burn rate of the last six hours; None when
            it lasts, because that rate is at most 1, or is already used up.
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
    firing: dict[str, Severity]
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
    budget = fetch_budget(service_slos, slo, client, timestamp)
    series = context.recorded_series(SLO_REMAINING)
    common_fields = {
        **{field.name: getattr(budget, field.name) for field in dataclasses.fields(budget)},
        "id": context.id,
        "objective": describe(slo),
        "period": period,
        "timestamp": timestamp,
        "remaining_over_time": fetch_history(client, series, timestamp - period, timestamp),
        "unit": "seconds" if isinstance(slo.sli, Freshness) else "events",
        "runbook": service_slos.runbook_url(slo),
    }
    kind_fields = (
        _outage_fields(context, slo, slo.sli, client, timestamp)
        if isinstance(slo.sli, OutageLimit)
        else _event_fields(context, slo, client, timestamp, budget)
    )
    return SloStatus(**common_fields, **kind_fields)  # type: ignore[arg-type]


def fetch_history(client: PrometheusClient, series: str, start: float, end: float) -> Points:
    """Return about 500 points of a series, from its first value in this time on.

    Raises:
        PrometheusUnavailable: the server is unreachable or returned an error.
    """
    coarse_step = max(TILE_SECONDS, round((end - start) / MAX_HISTORY / TILE_SECONDS) * TILE_SECONDS)
    points = client.query_range(series, start, end, coarse_step)
    first = (points[0][0] if points else end) - coarse_step  # it can have begun just after the point before
    if first <= start:
        return points
    step = max(MINUTE, round((end - first) / MAX_HISTORY / MINUTE) * MINUTE)
    points = client.query_range(series, first, end, step)
    last = client.query_value(series, end)
    return [*points, (end, last)] if last is not None and (not points or points[-1][0] < end) else points


def _event_fields(
    context: RuleContext, slo: SLO, client: PrometheusClient, timestamp: float, budget: BudgetStatus
) -> dict[str, object]:
    period, budget_ratio = context.service_slos.period_seconds(slo), float(slo.error_budget)
    start = timestamp - period
    windows = burn_rate_windows(context.service_slos, slo)
    burn_rates = {}
    for name in dict.fromkeys(window.name for window in windows):
        ratio = client.query_value(context.recorded_series(f"{SLO_ERROR_RATIO}{name}"), timestamp)
        if ratio is not None:
            burn_rates[name] = ratio / budget_ratio
    recent_burn_rate = burn_rates.get("6h", 0.0)
    time_to_exhaustion = None
    if budget.remaining is not None and budget.remaining > 0 and recent_burn_rate > 1:
        time_to_exhaustion = period * budget.remaining / recent_burn_rate
    bad_rates = client.query_range(context.recorded_series(SLO_BAD), start, timestamp, TILE_SECONDS)
    total_rates = dict(client.query_range(context.recorded_series(SLO_TOTAL), start, timestamp, TILE_SECONDS))
    samples = [
        Sample(time, rate * TILE_SECONDS, rate / total_rates[time])
        for time, rate in bad_rates
        if total_rates.get(time, 0) > 0
    ]
    ratio_series = context.recorded_series(f"{SLO_ERROR_RATIO}{windows[0].name}")
    return {
        "budget_minutes": period * budget_ratio / 60,
        "burn_rates": burn_rates,
        "time_to_exhaustion": time_to_exhaustion,
        "incidents": find_incidents(samples, budget_ratio, budget.allowed or 0.0),
        "breaches": None,
        "downtime": None,
        "months": tuple(fetch_months(context, slo, client, start, timestamp)),
        "burn_rate_over_time": [
            (time, ratio / budget_ratio) for time, ratio in fetch_history(client, ratio_series, start, timestamp)
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
        "burn_rates": {},
        "time_to_exhaustion": None,
        "incidents": outages,
        "breaches": client.query_value(breaches_series, timestamp),
        "downtime": sum(outage.bad_events for outage in outages),
        "months": (),
        "burn_rate_over_time": [],
    }
