"""Rules for outage limits, scheduled jobs, freshness and composite SLOs."""

from __future__ import annotations

import pytest
from support.promtool_replay import RuleReplay, Value, counter

from connectsoft_obs import slo

HOUR, DAY, WEEK = 3600, 86400, 7 * 86400
UP = 'up{job="config"}'
GOOD = 'connectsoft_slo_events_total{job="config",connectsoft_slo_name="up",connectsoft_slo_outcome="good"}'
BAD = GOOD.replace('"good"', '"bad"')
OUTAGE_START = 1800
OUTAGE, BREACH, BREACHES = "slo:outage:bool", "slo:outage_breach:bool", "slo:outage_breaches:count7d"


def config(**options: object) -> slo.ServiceSLOs:
    return slo.ServiceSLOs(
        service="config",
        slos=(slo.outage("up", limit="5m", **options),),  # type: ignore[arg-type]
        period=WEEK,
        interval=15,
        scrape_interval=15,
    )


def up_series(*outages: tuple[float, float]) -> Value:
    """Return `up`, which is 0 during outages of (start, seconds)."""
    return lambda time: 0.0 if any(start <= time < start + seconds for start, seconds in outages) else 1.0


def failing_requests(start: float, seconds: float) -> dict[str, Value]:
    """Return the series of an instance that is up, and whose requests all fail for some time."""
    return {
        GOOD: counter((start, 10.0), (seconds, 0.0), (1, 10.0)),
        BAD: counter((start, 0.0), (seconds, 10.0), (1, 0.0)),
        UP: lambda _: 1.0,
    }


@pytest.mark.parametrize(
    ("minutes", "is_breach"), [(4, False), (4.75, False), (5, True), (5.25, True), (6, True)], ids=str
)
@pytest.mark.parametrize("cause", ["down", "errors"])
def test_outage_breach_is_detected_to_one_scrape(minutes: float, is_breach: bool, cause: str) -> None:
    seconds = minutes * 60
    start, end = OUTAGE_START, int(OUTAGE_START + seconds + 900)
    series = {UP: up_series((start, seconds))} if cause == "down" else failing_requests(start, seconds)
    replay = RuleReplay(config(), series, end, scrape_interval=15, evaluation_interval=15)
    breach_values = [
        bool(next(iter(samples.values()))) for [samples] in replay.evaluate(range(start, end, 15), [BREACH]) if samples
    ]
    assert any(breach_values) is is_breach
    assert replay.value(OUTAGE) == 0
    assert replay.value(BREACHES) == (1 if is_breach else 0)
    assert replay.value("slo:period_error_budget_remaining:ratio") == (0 if is_breach else 1)


def test_outage_pages_before_it_exceeds_the_limit() -> None:
    down = RuleReplay(
        config(), {UP: up_series((OUTAGE_START, 600))}, OUTAGE_START + 900, scrape_interval=15, evaluation_interval=15
    ).firing_times(start=OUTAGE_START - 300)
    errors = RuleReplay(
        config(), failing_requests(OUTAGE_START, 600), OUTAGE_START + 900, scrape_interval=15, evaluation_interval=15
    ).firing_times(start=OUTAGE_START - 300)
    # The alert waits for two minutes. Failing requests count as an outage when they are half of the requests of the last
    # two minutes, which takes one minute more.
    assert 120 <= down["ConfigUpOutageInProgress"][0] - OUTAGE_START <= 150
    assert 180 <= errors["ConfigUpOutageInProgress"][0] - OUTAGE_START <= 210
    assert down["ConfigUpOutageInProgress"][0] < down["ConfigUpOutageLimitBreached"][0]


def test_outage_when_no_target_is_left() -> None:
    series = {UP: lambda time: 1.0 if time < OUTAGE_START else "stale"}
    firing = RuleReplay(config(), series, OUTAGE_START + 600, scrape_interval=15, evaluation_interval=15).firing_times(
        start=OUTAGE_START - 300
    )
    assert 120 <= firing["ConfigUpOutageInProgress"][0] - OUTAGE_START <= 165
    assert 300 <= firing["ConfigUpOutageLimitBreached"][0] - OUTAGE_START <= 345


def test_outages_are_counted_and_their_durations_added() -> None:
    series = {UP: up_series((OUTAGE_START, 360), (2 * HOUR, 360), (3 * HOUR, 120))}
    replay = RuleReplay(config(allowed=2), series, 4 * HOUR, scrape_interval=15, evaluation_interval=15)
    [[breaches, downtime, remaining]] = replay.evaluate(
        [4 * HOUR], [BREACHES, "slo:outage:ratio7d", "slo:period_error_budget_remaining:ratio"]
    )
    assert list(breaches.values()) == [2]
    # Of 241 full minutes, 14 are outages, and so is the first one, before the first scrape.
    assert next(iter(downtime.values())) == pytest.approx(15 / 241)
    assert next(iter(remaining.values())) == pytest.approx(1 / 3), "two are allowed, and a third uses up the budget"


def test_scaling_to_zero_is_not_an_outage() -> None:
    scaled_to_zero = config().replace(always_on=False, slos=(slo.availability("up", 99.9),))
    firing = RuleReplay(
        scaled_to_zero, {UP: lambda time: 1.0 if time < OUTAGE_START else "stale"}, OUTAGE_START + HOUR
    ).firing_times()
    assert firing == {}


# --- Jobs, freshness and composites -----------------------------------------------------------------------------------

RUNS = 'connectsoft_slo_events_total{job="factory",connectsoft_slo_name="runs",connectsoft_slo_outcome="good"}'


def test_job_slo_pages_when_all_runs_fail() -> None:
    factory = slo.ServiceSLOs(service="factory", slos=(slo.job_success_rate("runs", 95, job="factory-run"),))
    # One run every ten minutes; after a day, all of them fail.
    series = {
        RUNS: lambda time: float(min(time, DAY) // 600),
        RUNS.replace("good", "bad"): lambda time: float(max(0, time - DAY) // 600),
        'up{job="factory"}': lambda _: 1.0,
    }
    firing = RuleReplay(factory, series, DAY + 3 * HOUR, evaluation_interval=60).firing_times(start=DAY - HOUR)
    assert firing["FactoryRunsHardDown"][0] - DAY <= 45 * 60, (
        "three failed runs, and no successful one for half an hour"
    )
    assert firing["FactoryRunsBudgetBurn6h"][0] - DAY == pytest.approx(6 * HOUR * 0.3, abs=15 * 60)


def test_one_failed_run_per_day_does_not_alert() -> None:
    factory = slo.ServiceSLOs(service="factory", slos=(slo.job_success_rate("runs", 95, job="factory-run"),))
    series = {
        RUNS: lambda time: float(time // 600),
        RUNS.replace("good", "bad"): lambda time: 1.0 if time > 20 * HOUR else 0.0,
        'up{job="factory"}': lambda _: 1.0,
    }
    assert RuleReplay(factory, series, DAY, evaluation_interval=60).firing_times() == {}


def test_missed_scheduled_run_alerts_until_the_next_run() -> None:
    nightly = slo.ServiceSLOs(service="factory", slos=(slo.job_success_rate("runs", 95, job="report"),))
    next_expected = 'connectsoft_job_next_expected_timestamp_seconds{job="factory",connectsoft_job_name="report"}'
    series = {next_expected: lambda time: 3600.0 if time < 7200 else 90_000.0, 'up{job="factory"}': lambda _: 1.0}
    firing = RuleReplay(nightly, series, 3 * HOUR, evaluation_interval=60).firing_times()
    assert firing["FactoryRunsRunMissed"][0] == pytest.approx(3660, abs=60)
    assert firing["FactoryRunsRunMissed"][-1] <= 7200 + 60, "it resolves after the next run"


def test_missed_run_alerts_after_its_worker_has_stopped() -> None:
    nightly = slo.ServiceSLOs(service="factory", slos=(slo.job_success_rate("runs", 95, job="report"),))
    next_expected = 'connectsoft_job_next_expected_timestamp_seconds{job="factory",connectsoft_job_name="report"}'
    series = {next_expected: lambda time: 7200.0 if time < 3600 else "stale"}
    firing = RuleReplay(nightly, series, 3 * HOUR, evaluation_interval=60).firing_times()
    assert firing["FactoryRunsRunMissed"][0] == pytest.approx(7260, abs=60)


@pytest.mark.parametrize(("runs_again", "is_missed"), [(True, False), (False, True)])
def test_nightly_job_that_pushes_once_is_missed_a_day_later(runs_again: bool, is_missed: bool) -> None:
    nightly = slo.ServiceSLOs(service="factory", slos=(slo.job_success_rate("runs", 95, job="report"),))
    next_expected = 'connectsoft_job_next_expected_timestamp_seconds{job="factory",connectsoft_job_name="report"}'

    def pushed_value(time: float) -> float | str | None:
        start = DAY if runs_again and time >= DAY else 0
        return start + DAY + 900.0 if start <= time < start + 300 else "stale" if time < start + 360 else None

    firing = RuleReplay(nightly, {next_expected: pushed_value}, DAY + 3 * HOUR, evaluation_interval=60).firing_times()
    assert ("FactoryRunsRunMissed" in firing) is is_missed
    if is_missed:
        assert firing["FactoryRunsRunMissed"][0] == pytest.approx(DAY + 960, abs=60)
        assert firing["FactoryRunsRunMissed"][-1] == pytest.approx(DAY + 3 * HOUR, abs=60)


def test_freshness_slo_burns_budget_while_data_is_stale() -> None:
    prices = slo.ServiceSLOs(
        service="shop", slos=(slo.freshness("prices", 99, within="1h", job="sync"),), period=WEEK, review_at=()
    )
    last_success = 'connectsoft_job_last_success_timestamp_seconds{job="shop",connectsoft_job_name="sync"}'
    # A success every ten minutes, except for three hours from noon: the data is fresh for one of them, stale for two.
    noon = 12 * HOUR

    def last_success_time(time: float) -> float:
        return float(min(time, noon) // 600 * 600) if time < noon + 3 * HOUR else float(time // 600 * 600)

    replay = RuleReplay(
        prices, {last_success: last_success_time, 'up{job="shop"}': lambda _: 1.0}, 16 * HOUR, evaluation_interval=60
    )
    firing = replay.firing_times(start=HOUR)
    # Burn rate 13.44 x error budget 1 % x 1 h, after the hour for which the data counts as fresh.
    assert firing["ShopPricesBudgetBurn1h"][0] - noon == pytest.approx(HOUR + 0.1344 * HOUR, abs=180)
    assert replay.value("slo:sli_error:ratio_rate7d") == pytest.approx(2 / 16, rel=0.03)


def test_composite_has_the_lowest_budget_of_its_parts_and_none_without_data() -> None:
    saas = slo.ServiceSLOs(
        service="saas",
        slos=(slo.availability("api", 99.5), slo.percentile("p95", 0.95, under="500ms")),
        composites=(slo.all_of("all", "api", "p95"),),
        period=WEEK,
    )

    def event_series(name: str, bad_rate: float) -> dict[str, Value]:
        good = (
            f'connectsoft_slo_events_total{{job="saas",connectsoft_slo_name="{name}",connectsoft_slo_outcome="good"}}'
        )
        return {good: counter((1, 10 - bad_rate)), good.replace("good", "bad"): counter((1, bad_rate))}

    both = RuleReplay(saas, event_series("api", 0.05) | event_series("p95", 2.0), DAY, evaluation_interval=300)
    remaining = 'slo:period_error_budget_remaining:ratio{slo="all"}'
    assert both.value(remaining) == pytest.approx(1 - 0.2 / 0.05 / 7, rel=0.01)
    assert both.value('slo:composite_burn_rate:ratio{slo="all"}') == pytest.approx(0.2 / 0.05, rel=0.01)
    api_only = RuleReplay(saas, event_series("api", 0.05), DAY, evaluation_interval=300)
    assert api_only.value(remaining) is None
