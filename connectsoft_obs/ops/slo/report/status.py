"""Where a promise stands: what was spent of its budget, when, and what is left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from connectsoft_obs.ops.prometheus_api import Points, PrometheusClient
from connectsoft_obs.ops.slo.burn_rate_windows import pairs
from connectsoft_obs.ops.slo.explain import describe
from connectsoft_obs.ops.slo.report.incidents import Incident, find_incidents
from connectsoft_obs.ops.slo.rules import PROMETHEUS, RuleContext
from connectsoft_obs.ops.slo.sli_queries import TILE
from connectsoft_obs.slo.durations import DAY, prometheus
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
"""Sums over longer times are put together from several queries; Azure answers none over more than 32 days."""


class BudgetState(StrEnum):
    """What the budget policy says."""

    OK = "ok"
    REVIEW = "review"
    FREEZE = "freeze"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Month:
    """One calendar month, or the part of it that has passed: its events, and its own budget."""

    name: str
    good: float
    bad: float
    spent: float | None


@dataclass(frozen=True, slots=True)
class SloStatus:
    """Where one promise stands at one moment.

    Args:
        id: service and name.
        promise: the promise in a clause.
        period: seconds over which it holds.
        at: Unix time.
        state: what the budget policy says.
        remaining: share of the budget that is left; below zero when overspent, None when nobody knows.
        coverage: share of the period in which the indicator was known.
        budget_minutes: minutes of total outage that the budget is.
        counted: what good and bad are: `events`, or `seconds` for how old data is.
        good: good events in the period; None for a limit on outages.
        bad: bad events.
        allowed: bad events that the promise allows.
        burns: burn rate over each window, where there were events.
        exhausted_in: seconds until nothing is left at the rate of the last hours; None where it never will be.
        incidents: when the budget burned, the most expensive first.
        breaches: outages longer than the limit; None for other promises.
        downtime: seconds of outage; None for other promises.
        months: the calendar months of the period.
        left_over_time: the share of the budget left over the period.
        burn_over_time: the burn rate over the period.
        runbook: address of its runbook.
    """

    id: str
    promise: str
    period: int
    at: float
    state: BudgetState
    remaining: float | None
    coverage: float | None
    budget_minutes: float | None
    counted: str
    good: float | None
    bad: float | None
    allowed: float | None
    burns: dict[str, float]
    exhausted_in: float | None
    incidents: tuple[Incident, ...]
    breaches: float | None
    downtime: float | None
    months: tuple[Month, ...]
    left_over_time: Points
    burn_over_time: Points
    runbook: str


def fetch_status(promises: ServiceSLOs, slo: SLO, server: PrometheusClient, at: float) -> SloStatus:
    """Where a promise stands, from the series that its rules recorded.

    Raises:
        Unanswered: the server does not answer.
    """
    subject = RuleContext(promises, slo, PROMETHEUS)
    period = promises.period_of(slo)
    remaining = server.value(subject.recorded(SLO_REMAINING), at)
    step = max(TILE, round(period / 500 / TILE) * TILE)
    common = {
        "id": subject.id,
        "promise": describe(slo),
        "period": period,
        "at": at,
        "state": state(promises, remaining),
        "remaining": remaining,
        "coverage": server.value(subject.recorded(SLO_COVERAGE), at),
        "left_over_time": server.range(subject.recorded(SLO_REMAINING), at - period, at, step),
        "counted": "seconds" if isinstance(slo.sli, Freshness) else "events",
        "runbook": promises.runbook_of(slo),
    }
    found = (
        _outage(subject, slo, slo.sli, server, at)
        if isinstance(slo.sli, OutageLimit)
        else (_ratio(subject, slo, server, at, remaining, step))
    )
    return SloStatus(**common, **found)  # type: ignore[arg-type]


def state(promises: ServiceSLOs, remaining: float | None) -> BudgetState:
    """What the budget policy says about a share that is left."""
    if remaining is None:
        return BudgetState.UNKNOWN
    if remaining <= 0:
        return BudgetState.FREEZE
    return BudgetState.REVIEW if remaining * 100 <= max(promises.review_at, default=-1) else BudgetState.OK


def sum_over_tiles(server: PrometheusClient, series: str, start: float, end: float) -> float:
    """The events that tiles from `start` to `end` add up to."""
    total, position = 0.0, end
    while position > start:
        length = min(QUERY_CHUNK, position - start)
        length -= length % TILE
        if length <= 0:
            break
        # Two tiles never overlap, so neither may two pieces: a range includes its left end before Prometheus 3.
        over = prometheus(length - 1)
        total += (server.value(f"sum_over_time({series}[{over}:5m])", position) or 0.0) * TILE
        position -= length
    return total


def _ratio(
    subject: RuleContext, slo: SLO, server: PrometheusClient, at: float, remaining: float | None, step: float
) -> dict[str, object]:
    period, budget = subject.promises.period_of(slo), float(slo.budget)
    total_series, bad_series = subject.recorded(SLO_TOTAL), subject.recorded(SLO_BAD)
    total, bad = (sum_over_tiles(server, series, at - period, at) for series in (total_series, bad_series))
    burns = {}
    for window in dict.fromkeys(prometheus(pair.long) for pair in pairs(subject.promises, slo)):
        ratio = server.value(subject.recorded(f"{SLO_ERROR_RATIO}{window}"), at)
        if ratio is not None:
            burns[window] = ratio / budget
    quick = pairs(subject.promises, slo)[0].name
    lately = burns.get("6h", 0.0)
    bads = server.range(bad_series, at - period, at, TILE)
    totals = dict(server.range(total_series, at - period, at, TILE))
    spent = [(moment, value * TILE, value / totals[moment]) for moment, value in bads if totals.get(moment, 0) > 0]
    return {
        "budget_minutes": period * budget / 60,
        "good": total - bad,
        "bad": bad,
        "allowed": total * budget,
        "burns": burns,
        "exhausted_in": period * remaining / lately if remaining and remaining > 0 and lately > 0 else None,
        "incidents": find_incidents(spent, budget, total * budget),
        "breaches": None,
        "downtime": None,
        "months": tuple(_months(server, total_series, bad_series, at - period, at, budget)),
        "burn_over_time": [
            (moment, ratio / budget)
            for moment, ratio in server.range(subject.recorded(f"{SLO_ERROR_RATIO}{quick}"), at - period, at, step)
        ],
    }


def _outage(subject: RuleContext, slo: SLO, sli: OutageLimit, server: PrometheusClient, at: float) -> dict[str, object]:
    period = subject.promises.period_of(slo)
    down = server.range(subject.recorded(SLO_OUTAGE), at - period, at, 60)
    outages = find_incidents([(moment, 60.0, value) for moment, value in down if value > 0], 0.0, sli.limit, gap=90)
    return {
        "budget_minutes": None,
        "good": None,
        "bad": None,
        "allowed": float(sli.allowed),
        "burns": {},
        "exhausted_in": None,
        "incidents": outages,
        "breaches": server.value(subject.recorded(f"{SLO_OUTAGE_BREACHES}{prometheus(period)}"), at),
        "downtime": sum(outage.events for outage in outages),
        "months": (),
        "burn_over_time": [],
    }


def month_of(promises: ServiceSLOs, slo: SLO, server: PrometheusClient, start: float, now: float) -> Month | None:
    """One calendar month of a promise on events, or what has passed of it; None where there is nothing to add up.

    Args:
        promises: of the service.
        slo: the promise.
        server: whom to ask.
        start: Unix time of the month's beginning.
        now: Unix time up to which there can be data.

    Raises:
        Unanswered: the server does not answer.
    """
    if isinstance(slo.sli, OutageLimit):
        return None
    subject = RuleContext(promises, slo, PROMETHEUS)
    total, bad = subject.recorded(SLO_TOTAL), subject.recorded(SLO_BAD)
    found = _months(server, total, bad, start, min(now, _following(start)), float(slo.budget))
    return found[0] if found else None


def _following(start: float) -> float:
    """The beginning of the month after the one that begins at `start`."""
    month = datetime.fromtimestamp(start, UTC)
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1).timestamp()


def _months(
    server: PrometheusClient, total_series: str, bad_series: str, start: float, end: float, budget: float
) -> list[Month]:
    found = []
    month = datetime.fromtimestamp(start, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month.timestamp() < end:
        following = _following(month.timestamp())
        last = min(following, end)
        total, bad = (sum_over_tiles(server, series, month.timestamp(), last) for series in (total_series, bad_series))
        spent = bad / total / budget if total else None
        found.append(Month(f"{month:%Y-%m}", total - bad, bad, spent))
        month = datetime.fromtimestamp(following, UTC)
    return found
