"""Error budgets and alerts for traffic that other SLO tools get wrong. Every expected number is derived by hand."""

from __future__ import annotations

import pytest
from support.promtool_replay import RuleReplay, Value, counter, event_counter

from connectsoft_obs import slo
from connectsoft_obs.slo.durations import parse_duration
from connectsoft_obs.slo.model import Source

HOUR, DAY, WEEK = 3600, 86400, 7 * 86400
UP = 'up{job="shop"}'
COUNT = 'http_server_request_duration_seconds_count{job="shop",http_route="/",http_response_status_code="200"}'
FAILED = COUNT.replace('"200"', '"500"').replace("}", ',error_type="500"}')
REMAINING = "slo:period_error_budget_remaining:ratio"
COVERAGE = "slo:period_coverage:ratio"


def event_selector(outcome: str, name: str = "api") -> str:
    return (
        f'connectsoft_slo_events_total{{job="shop",connectsoft_slo_name="{name}",connectsoft_slo_outcome="{outcome}"}}'
    )


GOOD, BAD = event_selector("good"), event_selector("bad")


def shop(objective: float = 99.9, period: str = "7d", **options: object) -> slo.ServiceSLOs:
    alerting = options.pop("alerting", slo.Alerting())
    return slo.ServiceSLOs(
        service="shop",
        slos=(slo.availability("api", objective, alerting=alerting),),  # type: ignore[arg-type]
        period=parse_duration(period, "period"),
        **options,  # type: ignore[arg-type]
    )


def always_one(_: float) -> float:
    return 1.0


# --- Error ratio and error budget of the period ----------------------------------------------------------------------


def test_error_ratio_is_exact_when_the_error_series_starts_late() -> None:
    """The error series starts at its first error after ten hours. It has 61 errors; PromQL cannot see the first."""
    series_start = 10 * HOUR
    series = {
        COUNT: counter((1, 10)),
        FAILED: lambda time: float(1 + min((time - series_start) // 60, 60)) if time >= series_start else None,
    }
    replay = RuleReplay(shop(source=Source.METRICS), series, 12 * HOUR, evaluation_interval=300)
    ratio = replay.value("slo:sli_error:ratio_rate7d")
    # 60 visible errors of 12 h x 10/s. Tiles end at multiples of five minutes, so both ends are complete.
    assert ratio == pytest.approx(60 / (12 * HOUR * 10 + 60), rel=0.01)
    remaining = replay.value(REMAINING)
    assert remaining == pytest.approx(1 - 60 / (12 * HOUR * 10 + 60) / 0.001 * (12 * HOUR / WEEK), abs=0.001)


def test_first_error_counts_when_its_series_existed_at_zero() -> None:
    without_zero = RuleReplay(
        shop(source=Source.METRICS),
        {COUNT: counter((1, 10)), FAILED: lambda time: 5.0 if time >= HOUR else None},
        2 * HOUR,
        evaluation_interval=300,
    )
    with_zero = RuleReplay(
        shop(),
        {GOOD: counter((1, 10)), BAD: lambda time: 5.0 if time >= HOUR else 0.0},
        2 * HOUR,
        evaluation_interval=300,
    )
    assert without_zero.value("slo:sli_error:ratio_rate7d") == 0, "PromQL cannot see the step from absent to 5"
    assert with_zero.value("slo:sli_error:ratio_rate7d") == pytest.approx(5 / (2 * HOUR * 10 + 5), rel=0.01)


def test_idle_time_neither_restores_nor_spends_error_budget() -> None:
    good = counter((DAY, 10), (900, 0), (1, 10))
    bad = counter((HOUR, 0.01), (1, 0))
    replay = RuleReplay(shop(), {GOOD: good, BAD: bad}, DAY + 2 * HOUR, evaluation_interval=300)
    [[idle_ratio, coverage, before], [_, _, after]] = replay.evaluate(
        [DAY + 900, DAY + 2 * HOUR], ["slo:sli_error:ratio_rate5m", COVERAGE, REMAINING]
    )
    assert idle_ratio == {}, "no ratio without events"
    assert next(iter(coverage.values())) == pytest.approx((DAY + 900) / WEEK, rel=0.01), "idle time counts as covered"
    # 36 of 864,036 events are bad. The idle time adds and removes none.
    assert next(iter(before.values())) == pytest.approx(1 - 36 / 864_036 / 0.001 * DAY / WEEK, abs=0.001)
    assert next(iter(after.values())) == pytest.approx(next(iter(before.values())), abs=0.001)


@pytest.mark.parametrize(
    ("busy_bad", "quiet_bad", "share"),
    [(0.01, 0.0, 10 / 1003), (0.0, 0.1, 0.3 / 1003)],
    ids=["in busy hours", "in quiet hours"],
)
def test_errors_are_weighted_by_events_not_by_time(busy_bad: float, quiet_bad: float, share: float) -> None:
    """A day has six hours at 1000/s and eighteen at 1/s: 1 % bad events in the busy or 10 % in the quiet hours."""

    def daily_counter(busy: float, quiet: float) -> Value:
        return counter(*[phase for _ in range(3) for phase in ((6 * HOUR, busy), (18 * HOUR, quiet))])

    series = {
        GOOD: daily_counter(1000 * (1 - busy_bad), 1 - quiet_bad),
        BAD: daily_counter(1000 * busy_bad, quiet_bad),
    }
    replay = RuleReplay(shop(95), series, 3 * DAY, evaluation_interval=300)
    ratio = replay.value("slo:sli_error:ratio_rate7d")
    assert ratio == pytest.approx(share, rel=0.01)


def test_process_restart_loses_only_events_after_the_last_scrape() -> None:
    """Two processes serve 5/s each with 1 % bad events. One restarts after six hours, with its counters at zero."""

    def restarted_counter(rate: float) -> Value:
        return lambda time: rate * (time if time < 6 * HOUR else time - 6 * HOUR)

    series = {
        GOOD.replace("}", ',instance="a"}'): counter((1, 4.95)),
        BAD.replace("}", ',instance="a"}'): counter((1, 0.05)),
        GOOD.replace("}", ',instance="b"}'): restarted_counter(4.95),
        BAD.replace("}", ',instance="b"}'): restarted_counter(0.05),
    }
    replay = RuleReplay(shop(95), series, 12 * HOUR, evaluation_interval=300)
    total_events = replay.value("sum_over_time(slo:sli_total:rate5m[12h:5m]) * 300")
    assert replay.value("slo:sli_error:ratio_rate7d") == pytest.approx(0.01, rel=0.001)
    assert total_events == pytest.approx(10 * 12 * HOUR, rel=0.005)


def test_slo_without_data_has_no_error_budget_and_alerts() -> None:
    replay = RuleReplay(shop(), {UP: always_one}, HOUR)
    assert replay.value(REMAINING) is None
    assert replay.value(COVERAGE) is None
    assert "ShopApiNoData" in replay.firing_times()


def test_lost_targets_alert_and_do_not_change_the_error_budget() -> None:
    lost_at = 6 * HOUR

    def ending_counter(rate: float) -> Value:
        return lambda time: rate * time if time < lost_at else "stale" if time < lost_at + 30 else None

    series = {
        GOOD: ending_counter(9.99),
        BAD: ending_counter(0.01),
        UP: lambda time: 1.0 if time < lost_at else "stale",
    }
    replay = RuleReplay(shop(), series, lost_at + 1800)
    firing = replay.firing_times(start=lost_at - 600)
    # The last tile with data ends 5.5 min later; then follow 5 min without data, and the alert waits for 2 min.
    assert firing["ShopDown"][0] - lost_at == pytest.approx(120, abs=60)
    assert firing["ShopApiNoData"][0] - lost_at == pytest.approx(330 + 300 + 120, abs=90)
    [[before], [after]] = replay.evaluate([lost_at, lost_at + 1800], [REMAINING])
    # Before, 0.1 % of the events were bad, which is what the objective allows.
    assert next(iter(after.values())) == pytest.approx(next(iter(before.values())), abs=0.002)


def test_refused_exports_alert_after_five_minutes_and_resolve() -> None:
    status = 'connectsoft_obs_exporter_status{job="shop",connectsoft_obs_signal="traces",connectsoft_obs_exporter_state="STATE"}'
    series = {
        UP: always_one,
        status.replace("STATE", "refused"): lambda time: float(1200 <= time < 2400),
        status.replace("STATE", "open"): lambda time: float(time >= 2400),
    }
    firing = RuleReplay(shop(), series, 3600).firing_times()["ShopExportRefused"]
    assert firing[0] == pytest.approx(1200 + 300, abs=60)
    assert firing[-1] == pytest.approx(2400, abs=60)


# --- Burn rate alerts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "bad_share", "alert", "detection_time"),
    [
        (99.9, 1.0, "ShopApiBudgetBurn1h", 51.84),
        (99.9, 0.1, "ShopApiBudgetBurn1h", 518.4),
        (99.5, 1.0, "ShopApiBudgetBurn1h", 259.2),
        (99.5, 1.0, "ShopApiBudgetBurn6h", 648),
        (99, 0.3, "ShopApiBudgetBurn1h", 1728),
        (95, 1.0, "ShopApiBudgetBurn1h", 2592),
    ],
)
def test_burn_rate_alert_fires_at_its_detection_time(
    objective: float, bad_share: float, alert: str, detection_time: float
) -> None:
    """Window x burn rate x error budget / bad share: 1 h x 14.4 x 0.1 % with all events bad is 51.84 s."""
    service_slos = shop(objective, "30d", interval=15, scrape_interval=15)
    failure_start = 6 * HOUR if alert.endswith("6h") else HOUR + 300
    series = {
        GOOD: counter((failure_start, 10), (1, 10 * (1 - bad_share))),
        BAD: counter((failure_start, 0), (1, 10 * bad_share)),
    }
    firing = RuleReplay(
        service_slos, series, failure_start + detection_time + 120, scrape_interval=15, evaluation_interval=15
    ).firing_times(start=failure_start - 600)
    delay = firing[alert][0] - failure_start
    assert detection_time <= delay <= detection_time + 15 + 2 * 15, "one scrape and two evaluations later at most"


def test_burn_rate_alert_resolves_with_its_short_window() -> None:
    failure_start, failure_seconds = HOUR + 300, 600
    series = {
        GOOD: counter((failure_start, 10), (failure_seconds, 0), (1, 10)),
        BAD: counter((failure_start, 0), (failure_seconds, 10), (1, 0)),
    }
    service_slos = shop(99.9, "30d", interval=15, scrape_interval=15)
    firing = RuleReplay(
        service_slos, series, failure_start + failure_seconds + 600, scrape_interval=15, evaluation_interval=15
    ).firing_times(start=failure_start)
    reset_time = firing["ShopApiBudgetBurn1h"][-1] - failure_start - failure_seconds
    # Short window x (1 - burn rate x error budget / bad share) = 300 x (1 - 0.0144).
    assert 295.7 - 45 <= reset_time <= 295.7 + 45


@pytest.mark.parametrize("objective", [99, 95, 90])
def test_low_objective_pages_for_a_total_outage(objective: float) -> None:
    """Nine of ten events are bad over 5 minutes after 270 s, and the condition must hold for 180 s."""
    failure_start = 2 * HOUR
    series = {GOOD: counter((failure_start, 10), (1, 0)), BAD: counter((failure_start, 0), (1, 10))}
    service_slos = shop(objective, "30d", interval=15, scrape_interval=15)
    firing = RuleReplay(
        service_slos, series, failure_start + 900, scrape_interval=15, evaluation_interval=15
    ).firing_times(start=failure_start)
    assert 450 <= firing["ShopApiHardDown"][0] - failure_start <= 450 + 45
    assert firing["ShopApiHardDown"][0] - failure_start < 15 * 60, "the response time of Sev1"


def test_one_failure_at_sixty_requests_per_hour_does_not_page() -> None:
    good = event_counter([60.0 * index + 7 for index in range(24 * 60)])
    series = {GOOD: good, BAD: event_counter([8 * HOUR]), UP: always_one}
    firing = RuleReplay(shop(99.9, "30d"), series, 10 * HOUR, evaluation_interval=60).firing_times(start=8 * HOUR)
    assert {name for name in firing if "Burn" in name} == set()


def test_three_failures_at_sixty_requests_per_hour_page() -> None:
    good = event_counter([60.0 * index + 7 for index in range(24 * 60)])
    series = {GOOD: good, BAD: event_counter([2 * HOUR, 2 * HOUR + 61, 2 * HOUR + 122])}
    firing = RuleReplay(shop(99.9, "30d"), series, 3 * HOUR, evaluation_interval=60).firing_times(start=2 * HOUR)
    assert firing["ShopApiBudgetBurn1h"][0] - 2 * HOUR < 300


def test_first_error_of_a_new_service_does_not_page() -> None:
    """Ten requests per minute from the start, and one error among the first thirty."""
    series = {GOOD: event_counter([6.0 * index for index in range(200)]), BAD: event_counter([100.0])}
    firing = RuleReplay(shop(99.9, "30d", alerting=slo.Alerting(min_bad_events=1)), series, 1200).firing_times()
    assert {name for name in firing if "1h" in name or "6h" in name} == set(), "low coverage prevents the page"


def test_outage_in_the_first_minute_of_a_new_service_pages() -> None:
    series = {GOOD: counter((1, 0)), BAD: counter((1, 10))}
    firing = RuleReplay(
        shop(99.9, "30d", interval=15, scrape_interval=15), series, 600, scrape_interval=15, evaluation_interval=15
    ).firing_times()
    assert firing["ShopApiBudgetBurn1h"][0] <= 90


@pytest.mark.parametrize(
    "period", ["28d", pytest.param("7d", marks=pytest.mark.full), pytest.param("30d", marks=pytest.mark.full)]
)
def test_service_that_just_meets_its_objective_never_alerts(period: str) -> None:
    series = {GOOD: counter((1, 100 - 0.099)), BAD: counter((1, 0.099)), UP: always_one}
    replay = RuleReplay(shop(99.9, period, review_at=()), series, 4 * DAY, evaluation_interval=300)
    assert set(replay.firing_times(start=3 * DAY)) == set()


def test_budget_alerts_fire_at_each_review_threshold() -> None:
    """1 % bad events at an objective of 99.9 % use up the error budget of a week in a tenth of the week."""
    series = {GOOD: counter((1, 9.9)), BAD: counter((1, 0.1))}
    firing = RuleReplay(shop(99.9), series, DAY, evaluation_interval=300).firing_times()
    exhausted_at = WEEK / 10
    for name, left in (("50", 0.5), ("25", 0.25)):
        assert firing[f"ShopApiBudgetBelow{name}"][0] == pytest.approx(exhausted_at * (1 - left), abs=900)
    assert firing["ShopApiBudgetGone"][0] == pytest.approx(exhausted_at, abs=900)


# --- SLIs from metrics -----------------------------------------------------------------------------------------------


def latency_slos() -> slo.ServiceSLOs:
    return slo.ServiceSLOs(service="shop", slos=(slo.percentile("p95", 0.95, under="500ms"),), source=Source.METRICS)


def histogram(le: str, rate_below: float, rate: float) -> dict[str, Value]:
    bucket = COUNT.replace("_count{", "_bucket{").replace("}", f',le="{le}"}}')
    return {COUNT: counter((1, rate)), bucket: counter((1, rate_below))}


def test_percentile_objective_is_measured_as_share_of_slow_requests() -> None:
    replay = RuleReplay(latency_slos(), histogram("0.5", 9.3, 10), 2 * HOUR, evaluation_interval=60)
    assert replay.value("slo:sli_error:ratio_rate1h") == pytest.approx(0.07, rel=0.001)


@pytest.mark.parametrize("le", ["5", "5.0"])
def test_integer_bucket_boundary_matches_both_spellings(le: str) -> None:
    service_slos = slo.ServiceSLOs(service="shop", slos=(slo.latency("slow", 99, under=5),), source=Source.METRICS)
    replay = RuleReplay(service_slos, histogram(le, 9.9, 10), 2 * HOUR, evaluation_interval=60)
    assert replay.value("slo:sli_error:ratio_rate1h") == pytest.approx(0.01, rel=0.001)


def test_missing_bucket_boundary_alerts_and_has_no_error_ratio() -> None:
    replay = RuleReplay(latency_slos(), histogram("0.4", 9.3, 10), 2 * HOUR, evaluation_interval=60)
    assert replay.value("slo:sli_error:ratio_rate1h") is None
    assert replay.value(REMAINING) is None
    firing = replay.firing_times()
    assert firing["ShopP95BucketMissing"][0] <= 11 * 60
    assert "ShopP95NoData" in firing


def test_failed_requests_count_for_availability_only() -> None:
    """Half of the requests fail immediately; the others succeed within the threshold."""
    series = histogram("0.5", 10, 10) | {
        FAILED: counter((1, 10)),
        FAILED.replace("_count{", "_bucket{").replace("}", ',le="0.5"}'): counter((1, 10)),
    }
    service_slos = slo.ServiceSLOs(
        service="shop",
        slos=(slo.availability("api", 99.9), slo.percentile("p95", 0.95, under="500ms")),
        source=Source.METRICS,
    )
    [[samples]] = RuleReplay(service_slos, series, 2 * HOUR, evaluation_interval=60).evaluate(
        [2 * HOUR], ["slo:sli_error:ratio_rate1h"]
    )
    by_name = {dict(labels)["slo"]: value for labels, value in samples.items()}
    assert by_name == {"api": pytest.approx(0.5), "p95": pytest.approx(0.0, abs=1e-9)}


def test_client_disconnects_are_excluded_from_the_total() -> None:
    disconnected = COUNT.replace("}", ',error_type="client_disconnect"}').replace('"200"', '"499"')
    series = {COUNT: counter((1, 8)), FAILED: counter((1, 2)), disconnected: counter((1, 90))}
    replay = RuleReplay(shop(source=Source.METRICS), series, 2 * HOUR, evaluation_interval=60)
    assert replay.value("slo:sli_error:ratio_rate1h") == pytest.approx(0.2, rel=0.001)


def test_status_500_without_error_type_is_bad() -> None:
    without_error_type = COUNT.replace('"200"', '"502"')
    series = {COUNT: counter((1, 9)), without_error_type: counter((1, 1))}
    replay = RuleReplay(shop(source=Source.METRICS), series, 2 * HOUR, evaluation_interval=60)
    assert replay.value("slo:sli_error:ratio_rate1h") == pytest.approx(0.1, rel=0.001)


def test_exception_after_the_response_status_is_bad() -> None:
    failed_after_status = COUNT.replace("}", ',error_type="ValueError"}')
    series = {COUNT: counter((1, 9)), failed_after_status: counter((1, 1))}
    replay = RuleReplay(shop(source=Source.METRICS), series, 2 * HOUR, evaluation_interval=60)
    assert replay.value("slo:sli_error:ratio_rate1h") == pytest.approx(0.1, rel=0.001)


def test_selector_matches_only_the_service_with_and_without_namespace() -> None:
    series = {
        GOOD: counter((1, 5)),
        GOOD.replace('job="shop"', 'job="saas/shop"'): counter((1, 5)),
        BAD.replace('job="shop"', 'job="workshop"'): counter((1, 90)),
        BAD.replace('job="shop"', 'job="shop-eu"'): counter((1, 90)),
    }
    replay = RuleReplay(shop(), series, 2 * HOUR, evaluation_interval=60)
    assert replay.value("slo:sli_total:rate5m") == pytest.approx(10, rel=0.001)
