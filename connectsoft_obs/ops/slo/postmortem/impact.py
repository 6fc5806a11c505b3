"""Impact of an incident on each SLO: bad events, the share of the error budget that they used, and the severity of that."""

from __future__ import annotations

import math
from dataclasses import dataclass

from connectsoft_obs.ops.prometheus_api import Points, PrometheusClient
from connectsoft_obs.ops.slo.burn_rate_windows import burn_rate_windows, cap_severity
from connectsoft_obs.ops.slo.report.budget import fetch_budget
from connectsoft_obs.ops.slo.report.tiles import sum_over_tiles
from connectsoft_obs.ops.slo.rules import PROMETHEUS_LIMITS, RuleContext
from connectsoft_obs.ops.slo.sli_queries import TILE_SECONDS
from connectsoft_obs.slo.durations import MINUTE
from connectsoft_obs.slo.indicators import Freshness, OutageLimit
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import SLO_BAD, SLO_OUTAGE, SLO_TOTAL, Severity


@dataclass(frozen=True, slots=True)
class SloImpact:
    """Impact of an incident on one SLO.

    Args:
        slo: the SLO.
        unit: what `bad` and `total` count: `events` or `seconds`.
        bad: bad events in the incident; for an outage limit, seconds of outage.
        total: all events in the incident; for an outage limit, its seconds.
        budget_spent: share of the error budget of a full period that the bad events used; for an outage limit, the share
            of the limit that the longest outage used. None if the SLO has no data.
        severity: severity of that share; None if it is lower than Sev3.
    """

    slo: SLO
    unit: str
    bad: float
    total: float
    budget_spent: float | None
    severity: Severity | None


def fetch_impact(
    service_slos: ServiceSLOs, slo: SLO, client: PrometheusClient, start: float, end: float, now: float
) -> SloImpact:
    """Return the impact of an incident on one SLO. Blocks until all queries return.

    Events are counted in whole tiles of five minutes that contain the incident.

    Raises:
        PrometheusUnavailable: the server is unreachable or returned an error.
    """
    context = RuleContext(service_slos, slo, PROMETHEUS_LIMITS)
    if isinstance(slo.sli, OutageLimit):
        points = client.query_range(context.recorded_series(SLO_OUTAGE), start, end, MINUTE)
        downtime = sum(MINUTE for _, is_down in points if is_down > 0)
        longest = _longest_outage(points)
        spent = longest / slo.sli.limit if points else None
        severity = _severity_of(Severity.SEV1, slo) if longest >= slo.sli.page_after else None
        return SloImpact(slo, "seconds", downtime, end - start, spent, severity)
    first, last = counted_time(start, end, now)
    total, bad = (
        sum_over_tiles(client, context.recorded_series(series), first, last) for series in (SLO_TOTAL, SLO_BAD)
    )
    allowed = fetch_budget(service_slos, slo, client, last).allowed
    spent = bad / allowed if allowed else None
    severity = None if spent is None else budget_severity(service_slos, slo, spent, end - start)
    return SloImpact(slo, "seconds" if isinstance(slo.sli, Freshness) else "events", bad, total, spent, severity)


def counted_time(start: float, end: float, now: float) -> tuple[int, int]:
    """Return start and end of the tiles of five minutes that contain an incident, without a tile that has not ended."""
    first = math.floor(start / TILE_SECONDS) * TILE_SECONDS
    return first, min(math.ceil(end / TILE_SECONDS), math.floor(now / TILE_SECONDS)) * TILE_SECONDS


def budget_severity(service_slos: ServiceSLOs, slo: SLO, spent: float, duration: float) -> Severity | None:
    """Return the severity of an incident that used a share of the error budget in a time; None if lower than Sev3.

    It is that of the most urgent alert whose budget consumption and burn rate the incident reached. A whole error budget
    is Sev1 in any time. No severity is more urgent than that of the alerts of the SLO.
    """
    if spent >= 1:
        return _severity_of(Severity.SEV1, slo)
    period = service_slos.period_seconds(slo)
    for window in burn_rate_windows(service_slos, slo):
        burn_rate = spent * period / duration
        if spent >= window.budget_consumed(period) and burn_rate >= float(window.factor):
            return _severity_of(window.severity, slo)
    return None


def _severity_of(severity: Severity, slo: SLO) -> Severity | None:
    """Return a severity, limited to the most urgent one that the SLO declares; None if that is lower than Sev3."""
    capped = cap_severity(severity, slo)
    return None if capped is Severity.REVIEW else capped


def _longest_outage(points: Points) -> int:
    """Return the seconds of the longest outage, from one point a minute."""
    longest = current = 0
    for _, is_down in points:
        current = current + MINUTE if is_down > 0 else 0
        longest = max(longest, current)
    return longest
