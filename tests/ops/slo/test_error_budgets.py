"""Error budgets of random traffic: the result of the rules equals the result of counting every event."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.promtool_replay import RuleReplay, Value

from connectsoft_obs import slo
from connectsoft_obs.ops.slo.rule_groups import rule_groups
from connectsoft_obs.slo.model import Source

DAY, WEEK = 86400, 7 * 86400
OBJECTIVE, BUDGET = 99.0, 0.01
TILES = ("slo:sli_total", "slo:sli_bad:rate")
REMAINING, COVERAGE = "slo:period_error_budget_remaining:ratio", "slo:period_coverage:ratio"
EVENTS = (
    'connectsoft_slo_events_total{{job="shop",connectsoft_slo_name="api",connectsoft_slo_outcome="{}",instance="{}"}}'
)
COUNT = 'http_server_request_duration_seconds_count{{job="shop",http_response_status_code="{}",instance="{}"}}'


def expanded_expression(service_slos: slo.ServiceSLOs, name: str) -> str:
    """Return the expression of a recording rule with the recorded ratios that it reads replaced by their expressions."""
    expressions = {rule.name: rule.expression for group in rule_groups(service_slos) for rule in group.rules}
    expression = expressions[name]
    while match := re.search(r'(slo:(?:period|sli_error)[a-z_:]*[0-9a-z]*)\{slo_id="shop-api"\}', expression):
        expression = expression.replace(match[0], f"({expressions[match[1]]})")
    return expression


class Pod:
    """The scraped counters of one process with invented traffic, and the number of events in the period.

    Args:
        phases: requests per second and share of bad requests, for equal parts of the duration.
        duration: seconds.
        scrape_interval: seconds between scrapes.
    """

    def __init__(self, phases: list[tuple[float, float]], duration: float, scrape_interval: float) -> None:
        self._scrape_interval = scrape_interval
        self._good: list[float] = []
        self._bad: list[float] = []
        good = bad = 0.0
        phase_seconds = duration / len(phases)
        for index in range(int(duration / scrape_interval) + 1):
            time = (index + 0.5) * scrape_interval
            rate, bad_share = phases[min(int(time // phase_seconds), len(phases) - 1)]
            new_events = round(rate * scrape_interval)
            new_bad_events = round(new_events * bad_share)
            good, bad = good + new_events - new_bad_events, bad + new_bad_events
            self._good.append(good)
            self._bad.append(bad)
        # Events before the first and after the last scrape in the period are not visible to the rules.
        self.good_events, self.bad_events = self._good[-2] - self._good[0], self._bad[-2] - self._bad[0]

    def good_counter(self, time: float) -> float:
        return self._good[self._index(time)]

    def bad_counter(self, time: float) -> float:
        return self._bad[self._index(time)]

    def _index(self, time: float) -> int:
        return min(int(time // self._scrape_interval), len(self._good) - 1)


traffic = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, 1.0, 7.0, 50.0, 900.0]), st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.01, 0.3, 1.0])
    ),
    min_size=1,
    max_size=60,
)


random_week = given(
    source=st.sampled_from(list(Source)),
    pods=st.lists(traffic, min_size=1, max_size=3),
    scrape_interval=st.sampled_from([15, 30, 60]),
)
PHASES = (Phase.explicit, Phase.generate)


@settings(max_examples=5, deadline=None, derandomize=True, phases=PHASES)
@random_week
def test_error_budget_equals_event_count_for_random_traffic(
    source: Source, pods: list[list[tuple[float, float]]], scrape_interval: int
) -> None:
    assert_budget_equals_event_count(source, pods, scrape_interval)


@pytest.mark.full
@settings(max_examples=150, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@random_week
def test_error_budget_equals_event_count_for_150_random_weeks(
    source: Source, pods: list[list[tuple[float, float]]], scrape_interval: int
) -> None:
    assert_budget_equals_event_count(source, pods, scrape_interval)


def assert_budget_equals_event_count(
    source: Source, pods: list[list[tuple[float, float]]], scrape_interval: int
) -> None:
    """The rules and the count differ by less than 0.5 % of the error budget, or of the overspent budget."""
    series: dict[str, Value] = {}
    good = bad = 0.0
    for index, phases in enumerate(pods):
        pod = Pod(phases, WEEK, scrape_interval)
        if source is Source.EVENTS:
            good_series, bad_series = EVENTS.format("good", index), EVENTS.format("bad", index)
        else:
            good_series, bad_series = COUNT.format(200, index), COUNT.format(500, index)
        series |= {good_series: pod.good_counter, bad_series: pod.bad_counter}
        good, bad = good + pod.good_events, bad + pod.bad_events
    service_slos = slo.ServiceSLOs(
        service="shop",
        slos=(slo.availability("api", OBJECTIVE),),
        period=WEEK,
        source=source,
        scrape_interval=scrape_interval,
    )
    replay = RuleReplay(
        service_slos, series, WEEK, scrape_interval=scrape_interval, evaluation_interval=300, recorded=TILES
    )
    # Only the tiles are recorded all week. The sums over them are evaluated once, which is much faster.
    [[remaining, coverage]] = replay.evaluate(
        [WEEK], [expanded_expression(service_slos, REMAINING), expanded_expression(service_slos, COVERAGE)]
    )
    error_ratio = bad / (good + bad) if good + bad else 0.0
    expected = 1 - error_ratio / BUDGET
    assert next(iter(coverage.values())) >= 0.999
    tolerance = 0.005 * max(1.0, abs(expected))
    assert next(iter(remaining.values())) == pytest.approx(expected, abs=tolerance)


def test_short_bursts_count_completely_at_any_time() -> None:
    """Fifty bursts of a hundred errors, each between two scrapes, at times that are not aligned with the tiles."""
    generator = random.Random(7)
    burst_times = sorted(generator.uniform(600, DAY - 600) for _ in range(50))
    series = {
        EVENTS.format("good", 0): lambda time: float(int(time * 10)),
        EVENTS.format("bad", 0): lambda time: 100.0 * sum(burst_time <= time for burst_time in burst_times),
    }
    service_slos = slo.ServiceSLOs(service="shop", slos=(slo.availability("api", OBJECTIVE),), period=WEEK)
    replay = RuleReplay(service_slos, series, DAY, evaluation_interval=300, recorded=TILES)
    assert replay.value("sum_over_time(slo:sli_bad:rate5m[1d:5m]) * 300") == pytest.approx(5000, abs=1)
