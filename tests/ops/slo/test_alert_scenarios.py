"""What rules say about traffic that the best known tools get wrong, with every expected number worked out by hand."""

from __future__ import annotations

import pytest
from support.promtool_replay import Replay, Value, bursts, counter

from connectsoft_obs import slo
from connectsoft_obs.slo.durations import seconds
from connectsoft_obs.slo.model import Source

HOUR, DAY, WEEK = 3600, 86400, 7 * 86400
UP = 'up{job="shop"}'
COUNT = 'http_server_request_duration_seconds_count{job="shop",http_route="/",http_response_status_code="200"}'
FAILED = COUNT.replace('"200"', '"500"').replace("}", ',error_type="500"}')
REMAINING = "slo:period_error_budget_remaining:ratio"
COVERAGE = "slo:period_coverage:ratio"


def events(outcome: str, name: str = "api") -> str:
    return (
        f'connectsoft_slo_events_total{{job="shop",connectsoft_slo_name="{name}",connectsoft_slo_outcome="{outcome}"}}'
    )


GOOD, BAD = events("good"), events("bad")


def shop(objective: float = 99.9, period: str = "7d", **more: object) -> slo.ServiceSLOs:
    alerting = more.pop("alerting", slo.Alerting())
    return slo.ServiceSLOs(
        service="shop",
        slos=(slo.availability("api", objective, alerting=alerting),),  # type: ignore[arg-type]
        period=seconds(period, "period"),
        **more,  # type: ignore[arg-type]
    )


def always(_: float) -> float:
    return 1.0


# --- The number of the whole period --------------------------------------------------------------------------------


def test_errors_that_begin_late_count_for_what_they_are() -> None:
    """Ten hours without an error series, then one that is born at its first error: 61 errors, the first unseen."""
    born = 10 * HOUR
    series = {
        COUNT: counter((1, 10)),
        FAILED: lambda moment: float(1 + min((moment - born) // 60, 60)) if moment >= born else None,
    }
    replay = Replay(shop(source=Source.METRICS), series, 12 * HOUR, every=300)
    ratio = replay.value("slo:sli_error:ratio_rate7d")
    # 60 errors seen of 12 h x 10/s; tiles end on the five minutes, so nothing is cut off at either end.
    assert ratio == pytest.approx(60 / (12 * HOUR * 10 + 60), rel=0.01)
    left = replay.value(REMAINING)
    assert left == pytest.approx(1 - 60 / (12 * HOUR * 10 + 60) / 0.001 * (12 * HOUR / WEEK), abs=0.001)


def test_the_first_error_counts_where_the_series_was_there_at_zero_before_it() -> None:
    late = Replay(
        shop(source=Source.METRICS),
        {COUNT: counter((1, 10)), FAILED: lambda moment: 5.0 if moment >= HOUR else None},
        2 * HOUR,
        every=300,
    )
    early = Replay(
        shop(), {GOOD: counter((1, 10)), BAD: lambda moment: 5.0 if moment >= HOUR else 0.0}, 2 * HOUR, every=300
    )
    assert late.value("slo:sli_error:ratio_rate7d") == 0, "PromQL cannot see the step from nothing to 5"
    assert early.value("slo:sli_error:ratio_rate7d") == pytest.approx(5 / (2 * HOUR * 10 + 5), rel=0.01)


def test_an_idle_quarter_of_an_hour_neither_hides_nor_spends_budget() -> None:
    busy = counter((DAY, 10), (900, 0), (1, 10))
    bad = counter((HOUR, 0.01), (1, 0))
    replay = Replay(shop(), {GOOD: busy, BAD: bad}, DAY + 2 * HOUR, every=300)
    [[idle, covered, before], [_, _, after]] = replay.at(
        [DAY + 900, DAY + 2 * HOUR], ["slo:sli_error:ratio_rate5m", COVERAGE, REMAINING]
    )
    assert idle == {}, "no event, no share of bad ones"
    assert next(iter(covered.values())) == pytest.approx((DAY + 900) / WEEK, rel=0.01), "idle time is covered"
    # 36 bad of 864,000; the 36 stay spent, and the idle time neither adds to them nor takes away.
    assert next(iter(before.values())) == pytest.approx(1 - 36 / 864_036 / 0.001 * DAY / WEEK, abs=0.001)
    assert next(iter(after.values())) == pytest.approx(next(iter(before.values())), abs=0.001)


@pytest.mark.parametrize(
    ("busy_bad", "quiet_bad", "share"),
    [(0.01, 0.0, 10 / 1003), (0.0, 0.1, 0.3 / 1003)],
    ids=["in busy hours", "in quiet hours"],
)
def test_errors_weigh_by_their_number_not_by_the_hour_they_fall_in(
    busy_bad: float, quiet_bad: float, share: float
) -> None:
    """Six hours at 1000/s and eighteen at 1/s a day: 1 % bad of the busy, or 10 % of the quiet ones."""

    def daily(busy: float, quiet: float) -> Value:
        return counter(*[part for _ in range(3) for part in ((6 * HOUR, busy), (18 * HOUR, quiet))])

    series = {
        GOOD: daily(1000 * (1 - busy_bad), 1 - quiet_bad),
        BAD: daily(1000 * busy_bad, quiet_bad),
    }
    replay = Replay(shop(95), series, 3 * DAY, every=300)
    ratio = replay.value("slo:sli_error:ratio_rate7d")
    assert ratio == pytest.approx(share, rel=0.01)


def test_a_restarted_process_loses_nothing_but_what_nobody_scraped() -> None:
    """Two processes at 5/s with 1 % bad; one starts anew after six hours, its counters at zero."""
    one = {"good": counter((1, 4.95)), "bad": counter((1, 0.05))}

    def reset(rate: float) -> Value:
        return lambda moment: rate * (moment if moment < 6 * HOUR else moment - 6 * HOUR)

    series = {
        GOOD.replace("}", ',instance="a"}'): one["good"],
        BAD.replace("}", ',instance="a"}'): one["bad"],
        GOOD.replace("}", ',instance="b"}'): reset(4.95),
        BAD.replace("}", ',instance="b"}'): reset(0.05),
    }
    replay = Replay(shop(95), series, 12 * HOUR, every=300)
    ratio, tiles = (
        replay.value("slo:sli_error:ratio_rate7d"),
        replay.value("sum_over_time(slo:sli_total:rate5m[12h:5m]) * 300"),
    )
    assert ratio == pytest.approx(0.01, rel=0.001)
    assert tiles == pytest.approx(10 * 12 * HOUR, rel=0.005)


def test_a_promise_of_which_nobody_saw_anything_is_not_a_promise_kept() -> None:
    replay = Replay(shop(), {UP: always}, HOUR)
    assert replay.value(REMAINING) is None
    assert replay.value(COVERAGE) is None
    assert "ShopApiNoData" in replay.firing()


def test_all_targets_gone_is_told_by_three_alerts_and_improves_no_number() -> None:
    gone = 6 * HOUR

    def until(rate: float) -> Value:
        return lambda moment: rate * moment if moment < gone else "stale" if moment < gone + 30 else None

    series = {GOOD: until(9.99), BAD: until(0.01), UP: lambda moment: 1.0 if moment < gone else "stale"}
    replay = Replay(shop(), series, gone + 1800)
    fired = replay.firing(since=gone - 600)
    # The last tile that still sees something ends 5.5 min after; then 5 min of nothing, and 2 min of patience.
    assert fired["ShopDown"][0] - gone == pytest.approx(120, abs=60)
    assert fired["ShopApiNoData"][0] - gone == pytest.approx(330 + 300 + 120, abs=90)
    [[before], [after]] = replay.at([gone, gone + 1800], [REMAINING])
    # Without data the budget stays what it was (0.1 % bad is what the promise allows).
    assert next(iter(after.values())) == pytest.approx(next(iter(before.values())), abs=0.002)


# --- Who is woken, and when -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "bad", "alert", "theory"),
    [
        (99.9, 1.0, "ShopApiBudgetBurn1h", 51.84),
        (99.9, 0.1, "ShopApiBudgetBurn1h", 518.4),
        (99.5, 1.0, "ShopApiBudgetBurn1h", 259.2),
        (99.5, 1.0, "ShopApiBudgetBurn6h", 648),
        (99, 0.3, "ShopApiBudgetBurn1h", 1728),
        (95, 1.0, "ShopApiBudgetBurn1h", 2592),
    ],
)
def test_a_burst_pages_within_a_scrape_and_two_evaluations_of_the_theory(
    objective: float, bad: float, alert: str, theory: float
) -> None:
    """L x F x b / e seconds: an hour at 14.4 times 0.1 % with all events bad is 51.84 s."""
    promises = shop(objective, "30d", interval=15, scrape_interval=15)
    begins = 6 * HOUR if alert.endswith("6h") else HOUR + 300
    series = {GOOD: counter((begins, 10), (1, 10 * (1 - bad))), BAD: counter((begins, 0), (1, 10 * bad))}
    fired = Replay(promises, series, begins + theory + 120, scrape=15, every=15).firing(since=begins - 600)
    after = fired[alert][0] - begins
    assert theory <= after <= theory + 15 + 2 * 15


def test_the_page_resolves_when_the_short_window_has_recovered() -> None:
    begins, lasts = HOUR + 300, 600
    series = {GOOD: counter((begins, 10), (lasts, 0), (1, 10)), BAD: counter((begins, 0), (lasts, 10), (1, 0))}
    promises = shop(99.9, "30d", interval=15, scrape_interval=15)
    fired = Replay(promises, series, begins + lasts + 600, scrape=15, every=15).firing(since=begins)
    resolved = fired["ShopApiBudgetBurn1h"][-1] - begins - lasts
    # S x (1 - F b / e) = 300 x (1 - 0.0144)
    assert 295.7 - 45 <= resolved <= 295.7 + 45


@pytest.mark.parametrize("objective", [99, 95, 90])
def test_a_promise_too_low_for_burn_rates_pages_for_a_total_outage_all_the_same(objective: float) -> None:
    """9 of 10 events bad over 5 minutes is reached after 270 s, and must last 180 s."""
    begins = 2 * HOUR
    series = {GOOD: counter((begins, 10), (1, 0)), BAD: counter((begins, 0), (1, 10))}
    promises = shop(objective, "30d", interval=15, scrape_interval=15)
    fired = Replay(promises, series, begins + 900, scrape=15, every=15).firing(since=begins)
    assert 450 <= fired["ShopApiHardDown"][0] - begins <= 450 + 45
    assert fired["ShopApiHardDown"][0] - begins < 15 * 60, "what Sev1 promises"


def test_one_failure_of_sixty_requests_an_hour_wakes_nobody() -> None:
    minute = bursts([60.0 * index + 7 for index in range(24 * 60)])
    series = {GOOD: minute, BAD: bursts([8 * HOUR]), UP: always}
    fired = Replay(shop(99.9, "30d"), series, 10 * HOUR, every=60).firing(since=8 * HOUR)
    assert {name for name in fired if "Burn" in name} == set()


def test_three_failures_of_sixty_requests_an_hour_do() -> None:
    minute = bursts([60.0 * index + 7 for index in range(24 * 60)])
    series = {GOOD: minute, BAD: bursts([2 * HOUR, 2 * HOUR + 61, 2 * HOUR + 122])}
    fired = Replay(shop(99.9, "30d"), series, 3 * HOUR, every=60).firing(since=2 * HOUR)
    assert fired["ShopApiBudgetBurn1h"][0] - 2 * HOUR < 300


def test_the_first_error_of_a_new_service_wakes_nobody() -> None:
    """Ten requests a minute from the start, and one error among the first thirty."""
    series = {GOOD: bursts([6.0 * index for index in range(200)]), BAD: bursts([100.0])}
    fired = Replay(shop(99.9, "30d", alerting=slo.Alerting(min_bad_events=1)), series, 1200).firing()
    assert {name for name in fired if "1h" in name or "6h" in name} == set(), "coverage alone keeps the page back"


def test_an_outage_in_the_first_minute_of_a_new_service_pages() -> None:
    series = {GOOD: counter((1, 0)), BAD: counter((1, 10))}
    fired = Replay(shop(99.9, "30d", interval=15, scrape_interval=15), series, 600, scrape=15, every=15).firing()
    assert fired["ShopApiBudgetBurn1h"][0] <= 90


@pytest.mark.parametrize(
    "period", ["28d", pytest.param("7d", marks=pytest.mark.full), pytest.param("30d", marks=pytest.mark.full)]
)
def test_a_service_that_keeps_its_promise_by_a_hair_never_alerts(period: str) -> None:
    series = {GOOD: counter((1, 100 - 0.099)), BAD: counter((1, 0.099)), UP: always}
    replay = Replay(shop(99.9, period, review_at=()), series, 4 * DAY, every=300)
    assert set(replay.firing(since=3 * DAY)) == set()


def test_the_budget_asks_for_reviews_on_its_way_down() -> None:
    """1 % bad of a week's promise of 99.9 % is ten times too much: spent after a tenth of the week."""
    series = {GOOD: counter((1, 9.9)), BAD: counter((1, 0.1))}
    fired = Replay(shop(99.9), series, DAY, every=300).firing()
    tenth = WEEK / 10
    for name, left in (("50", 0.5), ("25", 0.25)):
        assert fired[f"ShopApiBudgetBelow{name}"][0] == pytest.approx(tenth * (1 - left), abs=900)
    assert fired["ShopApiBudgetGone"][0] == pytest.approx(tenth, abs=900)


# --- Latency, and the boundary that decides ----------------------------------------------------------------------------


def latency(source: Source = Source.METRICS) -> slo.ServiceSLOs:
    return slo.ServiceSLOs(service="shop", slos=(slo.percentile("p95", 0.95, under="500ms"),), source=source)


def histogram(edge: str, inside: float, whole: float) -> dict[str, object]:
    bucket = COUNT.replace("_count{", "_bucket{").replace("}", f',le="{edge}"}}')
    return {COUNT: counter((1, whole)), bucket: counter((1, inside))}


def test_a_percentile_is_the_share_of_requests_in_time() -> None:
    replay = Replay(latency(), histogram("0.5", 9.3, 10), 2 * HOUR, every=60)  # type: ignore[arg-type]
    assert replay.value("slo:sli_error:ratio_rate1h") == pytest.approx(0.07, rel=0.001)


@pytest.mark.parametrize("edge", ["5", "5.0"])
def test_a_whole_second_is_found_however_the_client_writes_it(edge: str) -> None:
    promises = slo.ServiceSLOs(service="shop", slos=(slo.latency("slow", 99, under=5),), source=Source.METRICS)
    replay = Replay(promises, histogram(edge, 9.9, 10), 2 * HOUR, every=60)  # type: ignore[arg-type]
    assert replay.value("slo:sli_error:ratio_rate1h") == pytest.approx(0.01, rel=0.001)


def test_a_missing_boundary_is_an_alert_and_never_a_healthy_zero() -> None:
    replay = Replay(latency(), histogram("0.4", 9.3, 10), 2 * HOUR, every=60)  # type: ignore[arg-type]
    assert replay.value("slo:sli_error:ratio_rate1h") is None
    assert replay.value(REMAINING) is None
    fired = replay.firing()
    assert fired["ShopP95BucketMissing"][0] <= 11 * 60
    assert "ShopP95NoData" in fired


def test_failed_requests_burn_the_budget_of_availability_only() -> None:
    """Half of the requests fail at once; the others are in time."""
    series = histogram("0.5", 10, 10) | {
        FAILED: counter((1, 10)),
        FAILED.replace("_count{", "_bucket{").replace("}", ',le="0.5"}'): counter((1, 10)),
    }
    both = slo.ServiceSLOs(
        service="shop",
        slos=(slo.availability("api", 99.9), slo.percentile("p95", 0.95, under="500ms")),
        source=Source.METRICS,
    )
    [[found]] = Replay(both, series, 2 * HOUR, every=60).at([2 * HOUR], ["slo:sli_error:ratio_rate1h"])  # type: ignore[arg-type]
    by_name = {dict(labels)["slo"]: value for labels, value in found.items()}
    assert by_name == {"api": pytest.approx(0.5), "p95": pytest.approx(0.0, abs=1e-9)}


def test_those_who_hang_up_are_in_no_total() -> None:
    left = COUNT.replace("}", ',error_type="client_disconnect"}').replace('"200"', '"499"')
    series = {COUNT: counter((1, 8)), FAILED: counter((1, 2)), left: counter((1, 90))}
    replay = Replay(shop(source=Source.METRICS), series, 2 * HOUR, every=60)
    assert replay.value("slo:sli_error:ratio_rate1h") == pytest.approx(0.2, rel=0.001)


def test_a_bare_five_hundred_of_a_service_that_names_no_error_is_bad() -> None:
    bare = COUNT.replace('"200"', '"502"')
    series = {COUNT: counter((1, 9)), bare: counter((1, 1))}
    replay = Replay(shop(source=Source.METRICS), series, 2 * HOUR, every=60)
    assert replay.value("slo:sli_error:ratio_rate1h") == pytest.approx(0.1, rel=0.001)


def test_an_exception_after_the_status_went_out_is_bad() -> None:
    torn = COUNT.replace("}", ',error_type="ValueError"}')
    series = {COUNT: counter((1, 9)), torn: counter((1, 1))}
    replay = Replay(shop(source=Source.METRICS), series, 2 * HOUR, every=60)
    assert replay.value("slo:sli_error:ratio_rate1h") == pytest.approx(0.1, rel=0.001)


def test_the_series_of_one_service_are_found_with_and_without_a_namespace_and_of_no_other() -> None:
    series = {
        GOOD: counter((1, 5)),
        GOOD.replace('job="shop"', 'job="saas/shop"'): counter((1, 5)),
        BAD.replace('job="shop"', 'job="workshop"'): counter((1, 90)),
        BAD.replace('job="shop"', 'job="shop-eu"'): counter((1, 90)),
    }
    replay = Replay(shop(), series, 2 * HOUR, every=60)
    assert replay.value("slo:sli_total:rate5m") == pytest.approx(10, rel=0.001)
