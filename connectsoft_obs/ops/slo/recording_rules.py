"""The recorded series of a promise on events: bad and total apart, their ratios, what was covered, what is left."""

from __future__ import annotations

from collections.abc import Iterator

from connectsoft_obs.ops.slo.burn_rate_windows import pairs
from connectsoft_obs.ops.slo.promql import number
from connectsoft_obs.ops.slo.rules import RecordingRule, RuleContext
from connectsoft_obs.ops.slo.sli_queries import TILE, FiveMinuteTile, RateWindow, SliQueries
from connectsoft_obs.slo.durations import DAY, HOUR, MINUTE, prometheus
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

RAW = 6 * HOUR
"""Windows up to this length read the counters; longer ones sum tiles, at a five-hundredth of the samples."""


def recording_rules(subject: RuleContext, slo: SLO, measured: SliQueries) -> Iterator[RecordingRule]:
    """Everything that is recorded for one promise, in the order in which it is computed."""
    period = subject.promises.period_of(slo)
    tile = FiveMinuteTile(prometheus(TILE + subject.promises.scrape_interval))
    yield subject.record(SLO_TOTAL, measured.total(tile))
    yield subject.record(SLO_BAD, measured.bad(tile))
    for window in _windows(subject, slo):
        name = prometheus(window)
        ratio = _ratio(subject, measured, window)
        if window in _increases(subject, slo):
            yield subject.record(f"{SLO_BAD_INCREASE}{name}", f"{measured.bad(RateWindow(name))} * {window}")
            bad = subject.recorded(f"{SLO_BAD_INCREASE}{name}")
            ratio = f"{bad} / {window} / on() group_left() ({measured.total(RateWindow(name))} > 0)"
        yield subject.record(f"{SLO_ERROR_RATIO}{name}", ratio)
    yield subject.record(f"{SLO_ERROR_RATIO}{prometheus(period)}", _ratio(subject, measured, period))
    yield subject.record(SLO_COVERAGE, covered(subject, period))
    yield subject.record(SLO_BUDGET, f"0 * {subject.recorded(SLO_COVERAGE)} + {number(slo.budget)}")
    left, ratio = subject.recorded(SLO_COVERAGE), subject.recorded(f"{SLO_ERROR_RATIO}{prometheus(period)}")
    # What nobody saw counts as free of errors, and as much traffic as the rest; a covered period without events is whole.
    yield subject.record(SLO_REMAINING, f"1 - ({ratio} or 0 * {left}) / {number(slo.budget)} * {left}")


def covered(subject: RuleContext, window: int) -> str:
    """The share of a window in which the indicator was known, idle time included.

    Bad events are what is counted, because they are known only where total is: without the bucket of a threshold
    there is a total and nothing to compare it with.
    """
    step = MINUTE if window <= RAW else TILE
    counted = f"count_over_time({subject.recorded(SLO_BAD)}[{prometheus(window)}:{prometheus(step)}])"
    return f"clamp_max({counted} / {window // step}, 1)"


def _windows(subject: RuleContext, slo: SLO) -> list[int]:
    """The windows below the period, those of a week or a month of history included only once."""
    found = {5 * MINUTE, HOUR, DAY}
    for pair in pairs(subject.promises, slo):
        found |= {pair.long, pair.short}
    return sorted(found)


def _increases(subject: RuleContext, slo: SLO) -> set[int]:
    """The windows whose bad events are counted, for alerts that ask for more than one or two."""
    if isinstance(slo.sli, Freshness):
        return set()
    return {pair.long for pair in pairs(subject.promises, slo) if pair.long <= RAW}


def _ratio(subject: RuleContext, measured: SliQueries, window: int) -> str:
    if window <= RAW:
        return measured.ratio(RateWindow(prometheus(window)))
    # The steps of a subquery are multiples of its step, so that tiles neither overlap nor leave anything out.
    over = f"[{prometheus(window)}:{prometheus(TILE)}]"
    bad, total = subject.recorded(SLO_BAD), subject.recorded(SLO_TOTAL)
    return f"sum_over_time({bad}{over}) / (sum_over_time({total}{over}) > 0)"
