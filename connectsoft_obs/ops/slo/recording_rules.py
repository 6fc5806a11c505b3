"""Recording rules of an event-based SLO: bad and total rates, error ratios, coverage and the remaining error budget."""

from __future__ import annotations

from collections.abc import Iterator

from connectsoft_obs.ops.slo.burn_rate_windows import burn_rate_windows
from connectsoft_obs.ops.slo.promql import format_number
from connectsoft_obs.ops.slo.rules import RecordingRule, RuleContext
from connectsoft_obs.ops.slo.sli_queries import TILE_SECONDS, FiveMinuteTile, RateWindow, SliQueries
from connectsoft_obs.slo.durations import DAY, HOUR, MINUTE, format_prometheus
from connectsoft_obs.slo.indicators import Freshness
from connectsoft_obs.slo.model import SLO
from connectsoft_obs.vocabulary import (
    SLO_BAD,
    SLO_BAD_INCREASE,
    SLO_BUDGET,
    SLO_COVERAGE,
    SLO_ERROR_RATIO,
    SLO_REMAINING,
    SLO_TOTAL,
)

MAX_RAW_WINDOW = 6 * HOUR
"""Longest window that is computed from the counters; longer windows sum tiles, with a five-hundredth of the samples."""


def recording_rules(context: RuleContext, slo: SLO, queries: SliQueries) -> Iterator[RecordingRule]:
    """Yield the recording rules of one SLO, in evaluation order."""
    seconds = context.service_slos.period_seconds(slo)
    period = format_prometheus(seconds)
    tile = FiveMinuteTile(format_prometheus(TILE_SECONDS + context.service_slos.scrape_interval))
    yield context.recording_rule(SLO_TOTAL, queries.total(tile))
    yield context.recording_rule(SLO_BAD, queries.bad(tile))
    for window in ratio_windows(context, slo):
        duration = format_prometheus(window)
        ratio = _ratio_expression(context, queries, window)
        if window in _increase_windows(context, slo):
            rate_window, increase = RateWindow(duration), f"{SLO_BAD_INCREASE}{duration}"
            yield context.recording_rule(increase, f"{queries.bad(rate_window)} * {window}")
            bad = context.recorded_series(increase)
            ratio = f"{bad} / {window} / on() group_left() ({queries.total(rate_window)} > 0)"
        yield context.recording_rule(f"{SLO_ERROR_RATIO}{duration}", ratio)
    yield context.recording_rule(f"{SLO_ERROR_RATIO}{period}", _ratio_expression(context, queries, seconds))
    yield context.recording_rule(SLO_COVERAGE, coverage_expression(context, seconds))
    budget, coverage = format_number(slo.error_budget), context.recorded_series(SLO_COVERAGE)
    yield context.recording_rule(SLO_BUDGET, f"0 * {coverage} + {budget}")
    # Intervals without data count as error-free, with the same traffic as the others. A period that is covered and has
    # no events has its full error budget.
    period_ratio = context.recorded_series(f"{SLO_ERROR_RATIO}{period}")
    yield context.recording_rule(SLO_REMAINING, f"1 - ({period_ratio} or 0 * {coverage}) / {budget} * {coverage}")


def coverage_expression(context: RuleContext, window: int) -> str:
    """Return an expression for the ratio of a window in which the indicator has data, idle time included.

    It counts samples of the bad rate, which exists only if the total rate does: if the histogram has no bucket at the
    threshold, there is a total and no bad rate.
    """
    step = MINUTE if window <= MAX_RAW_WINDOW else TILE_SECONDS
    subquery = f"{context.recorded_series(SLO_BAD)}[{format_prometheus(window)}:{format_prometheus(step)}]"
    return f"clamp_max(count_over_time({subquery}) / {window // step}, 1)"


def ratio_windows(context: RuleContext, slo: SLO) -> list[int]:
    """Return the windows of error ratios that are shorter than the compliance period, in seconds."""
    windows = {5 * MINUTE, HOUR, DAY}
    for window in burn_rate_windows(context.service_slos, slo):
        windows |= {window.long, window.short}
    return sorted(windows)


def _increase_windows(context: RuleContext, slo: SLO) -> set[int]:
    """Return the windows whose bad events are counted, for alerts that require a minimum number of them."""
    if isinstance(slo.sli, Freshness):
        return set()
    windows = burn_rate_windows(context.service_slos, slo)
    return {window.long for window in windows if window.long <= MAX_RAW_WINDOW}


def _ratio_expression(context: RuleContext, queries: SliQueries, window: int) -> str:
    duration = format_prometheus(window)
    if window <= MAX_RAW_WINDOW:
        return queries.ratio(RateWindow(duration))
    # Prometheus aligns the steps of a subquery to multiples of its resolution, so tiles neither overlap nor leave gaps.
    tiles = f"[{duration}:{format_prometheus(TILE_SECONDS)}]"
    bad, total = context.recorded_series(SLO_BAD), context.recorded_series(SLO_TOTAL)
    return f"sum_over_time({bad}{tiles}) / (sum_over_time({total}{tiles}) > 0)"
