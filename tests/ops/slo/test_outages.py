"""Limits on outages, runs that are due, data that grows old, and promises about promises."""

from __future__ import annotations

import pytest
from support.promtool_replay import Replay, Value, counter

from connectsoft_obs import slo

HOUR, DAY, WEEK = 3600, 86400, 7 * 86400
UP = 'up{job="config"}'
GOOD = 'connectsoft_slo_events_total{job="config",connectsoft_slo_name="up",connectsoft_slo_outcome="good"}'
BAD = GOOD.replace('"good"', '"bad"')
BEGIN = 1800
OUTAGE, BREACH, BREACHES = "slo:outage:bool", "slo:outage_breach:bool", "slo:outage_breaches:count7d"


def config(**more: object) -> slo.ServiceSLOs:
    return slo.ServiceSLOs(
        service="config",
        slos=(slo.outage("up", limit="5m", **more),),  # type: ignore[arg-type]
        period=WEEK,
        interval=15,
        scrape_interval=15,
    )


def down_for(*outages: tuple[float, float]) -> Value:
    return lambda moment: 0.0 if any(start <= moment < start + lasts for start, lasts in outages) else 1.0


def failing_for(*outages: tuple[float, float]) -> dict[str, object]:
    parts: list[tuple[float, bool]] = []
    position = 0.0
    for start, lasts in outages:
        parts += [(start - position, False), (lasts, True)]
        position = start + lasts
    parts.append((1.0, False))
    return {
        GOOD: counter(*[(length, 0.0 if bad else 10.0) for length, bad in parts]),
        BAD: counter(*[(length, 10.0 if bad else 0.0) for length, bad in parts]),
        UP: lambda _: 1.0,
    }


@pytest.mark.parametrize(
    ("minutes", "breaks"), [(4, False), (4.75, False), (5, True), (5.25, True), (6, True)], ids=str
)
@pytest.mark.parametrize("cause", ["down", "errors"])
def test_an_outage_is_measured_to_one_scrape(minutes: float, breaks: bool, cause: str) -> None:
    lasts = minutes * 60
    series = {UP: down_for((BEGIN, lasts))} if cause == "down" else failing_for((BEGIN, lasts))
    replay = Replay(config(), series, BEGIN + lasts + 900, scrape=15, every=15)  # type: ignore[arg-type]
    breached = [
        bool(next(iter(samples.values())))
        for [samples] in replay.at(range(BEGIN, int(BEGIN + lasts + 900), 15), [BREACH])
        if samples
    ]
    assert any(breached) is breaks
    assert replay.value(OUTAGE) == 0
    assert replay.value(BREACHES) == (1 if breaks else 0)
    assert replay.value("slo:period_error_budget_remaining:ratio") == (0 if breaks else 1)


def test_somebody_is_paged_while_the_promise_can_still_be_kept() -> None:
    down = Replay(config(), {UP: down_for((BEGIN, 600))}, BEGIN + 900, scrape=15, every=15).firing(since=BEGIN - 300)
    errors = Replay(config(), failing_for((BEGIN, 600)), BEGIN + 900, scrape=15, every=15).firing(since=BEGIN - 300)  # type: ignore[arg-type]
    # Two minutes, after a scrape and an evaluation; half of the last two minutes' requests failed after one minute.
    assert 120 <= down["ConfigUpOutageInProgress"][0] - BEGIN <= 150
    assert 180 <= errors["ConfigUpOutageInProgress"][0] - BEGIN <= 210
    assert down["ConfigUpOutageInProgress"][0] < down["ConfigUpOutageLimitBreached"][0]


def test_no_target_left_is_an_outage_too() -> None:
    series = {UP: lambda moment: 1.0 if moment < BEGIN else "stale"}
    fired = Replay(config(), series, BEGIN + 600, scrape=15, every=15).firing(since=BEGIN - 300)
    assert 120 <= fired["ConfigUpOutageInProgress"][0] - BEGIN <= 165
    assert 300 <= fired["ConfigUpOutageLimitBreached"][0] - BEGIN <= 345


def test_outages_are_counted_one_by_one_and_their_time_is_added_up() -> None:
    series = {UP: down_for((BEGIN, 360), (2 * HOUR, 360), (3 * HOUR, 120))}
    replay = Replay(config(allowed=2), series, 4 * HOUR, scrape=15, every=15)
    [[count, down, left]] = replay.at(
        [4 * HOUR], [BREACHES, "slo:outage:ratio7d", "slo:period_error_budget_remaining:ratio"]
    )
    assert list(count.values()) == [2]
    # Of 241 whole minutes, 14 in the outages and the very first one, before anything was scraped.
    assert next(iter(down.values())) == pytest.approx(15 / 241)
    assert next(iter(left.values())) == pytest.approx(1 / 3), "a third one would break a promise that allows two"


def test_a_service_that_scales_to_nothing_is_not_down() -> None:
    idle = config().replace(always_on=False, slos=(slo.availability("up", 99.9),))
    fired = Replay(idle, {UP: lambda moment: 1.0 if moment < BEGIN else "stale"}, BEGIN + HOUR).firing()
    assert fired == {}


# --- Jobs and data ---------------------------------------------------------------------------------------------------

RUNS = 'connectsoft_slo_events_total{job="factory",connectsoft_slo_name="runs",connectsoft_slo_outcome="good"}'


def test_few_long_runs_are_judged_over_hours_and_page_when_all_of_them_fail() -> None:
    factory = slo.ServiceSLOs(service="factory", slos=(slo.job_success_rate("runs", 95, job="factory-run"),))
    ten_minutes = {RUNS: lambda moment: float(min(moment, DAY) // 600), RUNS.replace("good", "bad"): lambda moment: 0.0}
    series = ten_minutes | {
        RUNS.replace("good", "bad"): lambda moment: float(max(0, moment - DAY) // 600),
        'up{job="factory"}': lambda _: 1.0,
    }
    fired = Replay(factory, series, DAY + 3 * HOUR, every=60).firing(since=DAY - HOUR)
    assert fired["FactoryRunsHardDown"][0] - DAY <= 45 * 60, "three failed runs, and no other in half an hour"
    assert fired["FactoryRunsBudgetBurn6h"][0] - DAY == pytest.approx(6 * HOUR * 0.3, abs=15 * 60)


def test_one_failed_run_of_a_day_wakes_nobody() -> None:
    factory = slo.ServiceSLOs(service="factory", slos=(slo.job_success_rate("runs", 95, job="factory-run"),))
    series = {
        RUNS: lambda moment: float(moment // 600),
        RUNS.replace("good", "bad"): lambda moment: 1.0 if moment > 20 * HOUR else 0.0,
        'up{job="factory"}': lambda _: 1.0,
    }
    assert Replay(factory, series, DAY, every=60).firing() == {}


def test_a_run_that_did_not_happen_is_told_by_its_schedule() -> None:
    nightly = slo.ServiceSLOs(service="factory", slos=(slo.job_success_rate("runs", 95, job="report"),))
    due = 'connectsoft_job_next_expected_timestamp_seconds{job="factory",connectsoft_job_name="report"}'
    series = {due: lambda moment: 3600.0 if moment < 7200 else 90_000.0, 'up{job="factory"}': lambda _: 1.0}
    fired = Replay(nightly, series, 3 * HOUR, every=60).firing()
    assert fired["FactoryRunsRunMissed"][0] == pytest.approx(3660, abs=60)
    assert fired["FactoryRunsRunMissed"][-1] <= 7200 + 60, "until it has run"


def test_a_run_that_is_due_is_missed_although_its_worker_has_died() -> None:
    nightly = slo.ServiceSLOs(service="factory", slos=(slo.job_success_rate("runs", 95, job="report"),))
    due = 'connectsoft_job_next_expected_timestamp_seconds{job="factory",connectsoft_job_name="report"}'
    series = {due: lambda moment: 7200.0 if moment < 3600 else "stale"}
    assert Replay(nightly, series, 3 * HOUR, every=60).firing()["FactoryRunsRunMissed"][0] == pytest.approx(
        7260, abs=60
    )


def test_data_that_grows_old_burns_a_budget_of_time() -> None:
    prices = slo.ServiceSLOs(
        service="shop", slos=(slo.freshness("prices", 99, within="1h", job="sync"),), period=WEEK, review_at=()
    )
    last = 'connectsoft_job_last_success_timestamp_seconds{job="shop",connectsoft_job_name="sync"}'
    # Every ten minutes until noon, then nothing for three hours: fresh for one of them, old for two.
    noon = 12 * HOUR

    def successes(moment: float) -> float:
        return float(min(moment, noon) // 600 * 600) if moment < noon + 3 * HOUR else float(moment // 600 * 600)

    replay = Replay(prices, {last: successes, 'up{job="shop"}': lambda _: 1.0}, 16 * HOUR, every=60)
    fired = replay.firing(since=HOUR)
    # 13.44 times 1 % of an hour's minutes, after the hour that the data may be old.
    assert fired["ShopPricesBudgetBurn1h"][0] - noon == pytest.approx(HOUR + 0.1344 * HOUR, abs=180)
    assert replay.value("slo:sli_error:ratio_rate7d") == pytest.approx(2 / 16, rel=0.03)


def test_a_composite_is_as_good_as_its_worst_part_and_unknown_while_one_is() -> None:
    saas = slo.ServiceSLOs(
        service="saas",
        slos=(slo.availability("api", 99.5), slo.percentile("p95", 0.95, under="500ms")),
        composites=(slo.all_of("all", "api", "p95"),),
        period=WEEK,
    )

    def series(name: str, bad: float) -> dict[str, object]:
        one = f'connectsoft_slo_events_total{{job="saas",connectsoft_slo_name="{name}",connectsoft_slo_outcome="good"}}'
        return {one: counter((1, 10 - bad)), one.replace("good", "bad"): counter((1, bad))}

    both = Replay(saas, series("api", 0.05) | series("p95", 2.0), DAY, every=300)  # type: ignore[arg-type]
    left = 'slo:period_error_budget_remaining:ratio{slo="all"}'
    assert both.value(left) == pytest.approx(1 - 0.2 / 0.05 / 7, rel=0.01)
    assert both.value('slo:composite_burn_rate:ratio{slo="all"}') == pytest.approx(0.2 / 0.05, rel=0.01)
    one = Replay(saas, series("api", 0.05), DAY, every=300)  # type: ignore[arg-type]
    assert one.value(left) is None
