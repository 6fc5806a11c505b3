"""Budgets against brute force: random traffic, counted event by event, and replayed through the rules."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.promtool_replay import Replay, Value

from connectsoft_obs import slo
from connectsoft_obs.ops.slo.rule_groups import groups
from connectsoft_obs.slo.model import Source

DAY, WEEK = 86400, 7 * 86400
OBJECTIVE, BUDGET = 99.0, 0.01
TILES = ("slo:sli_total", "slo:sli_bad:rate")
REMAINING, COVERAGE = "slo:period_error_budget_remaining:ratio", "slo:period_coverage:ratio"
EVENTS = (
    'connectsoft_slo_events_total{{job="shop",connectsoft_slo_name="api",connectsoft_slo_outcome="{}",instance="{}"}}'
)
COUNT = 'http_server_request_duration_seconds_count{{job="shop",http_response_status_code="{}",instance="{}"}}'


def written(promises: slo.ServiceSLOs, name: str) -> str:
    """The expression of a recorded series, with those of the series that it reads in their places."""
    texts = {rule.name: rule.expression for group in groups(promises) for rule in group.rules}
    text = texts[name]
    while found := re.search(r'(slo:(?:period|sli_error)[a-z_:]*[0-9a-z]*)\{slo_id="shop-api"\}', text):
        text = text.replace(found[0], f"({texts[found[1]]})")
    return text


class Pod:
    """A process that serves and counts; and what really happened."""

    def __init__(self, scrape: float) -> None:
        self.scrape = scrape
        self.good: list[float] = []
        self.bad: list[float] = []
        self.true_good = self.true_bad = 0.0

    def run(self, rates: list[tuple[float, float]], length: float) -> None:
        """Traffic in stretches of (requests a second, share of bad ones), as the scrapes see it."""
        good = bad = 0.0
        stretch = length / len(rates)
        for index in range(int(length / self.scrape) + 1):
            moment = (index + 0.5) * self.scrape
            rate, share = rates[min(int(moment // stretch), len(rates) - 1)]
            grown = round(rate * self.scrape)
            broken = round(grown * share)
            good, bad = good + grown - broken, bad + broken
            self.good.append(good)
            self.bad.append(bad)
        # What the scrape before the first and that after the last would show is not in the period.
        self.true_good, self.true_bad = self.good[-2] - self.good[0], self.bad[-2] - self.bad[0]


def values(samples: list[float], scrape: float) -> Value:
    return lambda moment: samples[min(int(moment // scrape), len(samples) - 1)]


rates = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, 1.0, 7.0, 50.0, 900.0]), st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.01, 0.3, 1.0])
    ),
    min_size=1,
    max_size=60,
)


week = given(
    source=st.sampled_from(list(Source)),
    pods=st.lists(rates, min_size=1, max_size=3),
    scrape=st.sampled_from([15, 30, 60]),
)
phases = (Phase.explicit, Phase.generate)


@settings(max_examples=5, deadline=None, derandomize=True, phases=phases)
@week
def test_what_is_left_of_a_budget_is_what_counting_event_by_event_leaves(
    source: Source, pods: list[list[tuple[float, float]]], scrape: int
) -> None:
    agrees(source, pods, scrape)


@pytest.mark.full
@settings(max_examples=150, deadline=None, phases=phases, suppress_health_check=[HealthCheck.too_slow])
@week
def test_what_is_left_of_a_budget_is_so_for_a_hundred_and_fifty_random_weeks(
    source: Source, pods: list[list[tuple[float, float]]], scrape: int
) -> None:
    agrees(source, pods, scrape)


def agrees(source: Source, pods: list[list[tuple[float, float]]], scrape: int) -> None:
    """The rules and the count differ by less than half a percent of the budget, or of what was overspent."""
    series, good, bad = {}, 0.0, 0.0
    for index, traffic in enumerate(pods):
        pod = Pod(scrape)
        pod.run(traffic, WEEK)
        if source is Source.EVENTS:
            names = EVENTS.format("good", index), EVENTS.format("bad", index)
        else:
            names = COUNT.format(200, index), COUNT.format(500, index)
        series[names[0]] = values(pod.good, scrape)
        series[names[1]] = values(pod.bad, scrape)
        good, bad = good + pod.true_good, bad + pod.true_bad
    promises = slo.ServiceSLOs(
        service="shop", slos=(slo.availability("api", OBJECTIVE),), period=WEEK, source=source, scrape_interval=scrape
    )
    replay = Replay(promises, series, WEEK, scrape=scrape, every=300, only=TILES)
    # The tiles are recorded all week; what is summed from them is asked for once, by the text of the rules.
    [[left, covered]] = replay.at([WEEK], [written(promises, REMAINING), written(promises, COVERAGE)])
    share = bad / (good + bad) if good + bad else 0.0
    expected = 1 - share / BUDGET
    assert next(iter(covered.values())) >= 0.999
    tolerance = 0.005 * max(1.0, abs(expected))
    assert next(iter(left.values())) == pytest.approx(expected, abs=tolerance)


def test_a_burst_counts_whole_whenever_it_falls_between_two_scrapes() -> None:
    """Fifty bursts of a hundred errors, each within one scrape, at moments that fit no window."""
    chance = random.Random(7)
    moments = sorted(chance.uniform(600, DAY - 600) for _ in range(50))
    series = {
        EVENTS.format("good", 0): lambda moment: float(int(moment * 10)),
        EVENTS.format("bad", 0): lambda moment: 100.0 * sum(at <= moment for at in moments),
    }
    promises = slo.ServiceSLOs(service="shop", slos=(slo.availability("api", OBJECTIVE),), period=WEEK)
    replay = Replay(promises, series, DAY, every=300, only=TILES)
    assert replay.value("sum_over_time(slo:sli_bad:rate5m[1d:5m]) * 300") == pytest.approx(5000, abs=1)
