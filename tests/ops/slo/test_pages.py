"""Pages that a service gets: none for the way it exports metrics, one for each outage, and none after its repair."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from support.promtool_replay import RuleReplay, Value, counter

from connectsoft_obs import slo
from connectsoft_obs.ops.slo.importers import import_documents
from connectsoft_obs.ops.slo.rule_groups import rule_groups
from connectsoft_obs.ops.slo.rules import AZURE_LIMITS, PROMETHEUS_LIMITS, TargetLimits
from connectsoft_obs.slo.model import Source

MINUTE, HOUR, DAY = 60, 3600, 86400
UP = 'up{job="shop"}'
TARGET_INFO = 'target_info{job="shop"}'
GOOD = 'connectsoft_slo_events_total{job="shop",connectsoft_slo_name="api",connectsoft_slo_outcome="good"}'
BAD = GOOD.replace('"good"', '"bad"')
COUNT = 'http_server_request_duration_seconds_count{job="shop",http_route="/",http_response_status_code="200"}'


def shop(objective: float = 99.9, **options: object) -> slo.ServiceSLOs:
    return slo.ServiceSLOs(service="shop", slos=(slo.availability("api", objective),), **options)  # type: ignore[arg-type]


def outage_series(start: float, *phases: tuple[float, float]) -> Mapping[str, Value]:
    """Return the events of a service with ten per second: phases of (seconds, share of bad events) from `start`."""
    shares = ((start, 0.0), *phases, (1, 0.0))
    return {
        GOOD: counter(*((seconds, 10 * (1 - share)) for seconds, share in shares)),
        BAD: counter(*((seconds, 10 * share) for seconds, share in shares)),
    }


def alerts_by_severity(replay: RuleReplay, times: range) -> list[set[str]]:
    """Return the severities of the alerts on the objective that fire at each time."""
    firing = replay.evaluate(times, ['ALERTS{alertstate="firing",slo="api",severity=~"Sev.",scope=""}'])
    return [{dict(labels)["severity"] for labels in samples} for [samples] in firing]


# --- How Prometheus sees the service ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scraped", [None, False])
def test_service_that_only_pushes_has_no_alert(scraped: bool | None) -> None:
    series = {GOOD: counter((1, 10)), BAD: counter((1, 0))}
    assert RuleReplay(shop(scraped=scraped), series, 90 * MINUTE).firing_times() == {}


def test_service_that_only_pushes_and_declares_no_slo_has_no_alert() -> None:
    assert RuleReplay(shop(source=Source.METRICS), {COUNT: counter((1, 10))}, HOUR).firing_times() == {}


@pytest.mark.parametrize("scraped", [None, False])
def test_down_alert_fires_seven_minutes_after_the_last_push(scraped: bool | None) -> None:
    """Prometheus returns the last value for five minutes, and the alert waits for two."""
    stopped = 30 * MINUTE
    series: dict[str, Value] = {TARGET_INFO: lambda time: 1.0 if time < stopped else None}
    replay = RuleReplay(shop(scraped=scraped), series, stopped + 15 * MINUTE)
    firing = replay.firing_times(start=stopped)["ShopDown"]
    assert firing[0] - stopped == pytest.approx(7 * MINUTE, abs=MINUTE)
    assert firing[-1] == stopped + 15 * MINUTE


@pytest.mark.parametrize("scraped", [None, True])
def test_down_alert_fires_two_minutes_after_the_last_successful_scrape(scraped: bool | None) -> None:
    stopped = 30 * MINUTE
    series: dict[str, Value] = {UP: lambda time: float(time < stopped)}
    firing = RuleReplay(shop(scraped=scraped), series, stopped + 10 * MINUTE).firing_times(start=stopped)
    assert firing["ShopDown"][0] - stopped == pytest.approx(2 * MINUTE, abs=MINUTE)


@pytest.mark.parametrize("scraped", [None, False])
def test_outage_limit_of_a_service_that_only_pushes(scraped: bool | None) -> None:
    stopped = 30 * MINUTE
    service_slos = slo.ServiceSLOs(service="shop", slos=(slo.outage("up", limit="10m"),), scraped=scraped)
    series: dict[str, Value] = {TARGET_INFO: lambda time: 1.0 if time < stopped else None}
    replay = RuleReplay(service_slos, series, stopped + 15 * MINUTE)
    assert replay.value("slo:outage:bool", stopped) == 0
    assert set(replay.firing_times(stop=stopped)) == set()
    firing = replay.firing_times(start=stopped)["ShopUpOutageInProgress"]
    assert firing[0] - stopped == pytest.approx(7 * MINUTE, abs=MINUTE)


def test_imported_slos_have_no_alert_for_a_missing_service() -> None:
    total = "sum(rate(requests_total[{{.window}}]))"
    events = {"error_query": total.replace("total[", 'total{code="500"}['), "total_query": total}
    document = {
        "version": "prometheus/v1",
        "service": "shop",
        "slos": [{"name": "a", "objective": 99, "sli": {"events": events}}],
    }
    [imported] = import_documents([document])
    names = {alert.name for group in rule_groups(imported) for alert in group.alerts}
    assert not names & {"ShopDown", "ShopExportRefused", "ShopTelemetryStalled"}
    stated = {alert.name for group in rule_groups(imported.replace(scraped=True)) for alert in group.alerts}
    assert "ShopDown" in stated


# --- One page for an outage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [PROMETHEUS_LIMITS, AZURE_LIMITS], ids=["alertmanager", "azure"])
@pytest.mark.parametrize("objective", [99.9, 99], ids=str)
def test_no_alert_fires_after_the_most_urgent_one_has_resolved(objective: float, limits: TargetLimits) -> None:
    """Every event fails for 25 minutes. The windows of 30 minutes, 2 hours and 6 hours contain it long after."""
    start, seconds, interval = 6 * HOUR, 25 * MINUTE, 60
    end = start + seconds + 7 * HOUR
    replay = RuleReplay(
        shop(objective), outage_series(start, (seconds, 1.0)), end, evaluation_interval=interval, limits=limits
    )
    severities = alerts_by_severity(replay, range(start, end, interval))
    assert {"Sev1"} <= set().union(*severities)
    assert [firing for firing in severities if firing and "Sev1" not in firing] == []
    if not limits.supports_inhibition:
        assert [firing for firing in severities if len(firing) > 1] == []


def test_less_urgent_alert_fires_if_errors_continue_after_the_page() -> None:
    """After a total outage 1 % of events still fail: ten times the error budget, which is a matter of Sev2."""
    start, seconds, interval = 6 * HOUR, 10 * MINUTE, 60
    end = start + seconds + 90 * MINUTE
    replay = RuleReplay(
        shop(), outage_series(start, (seconds, 1.0), (3 * HOUR, 0.01)), end, evaluation_interval=interval
    )
    severities = alerts_by_severity(replay, range(start, end, interval))
    last_sev1 = max(index for index, firing in enumerate(severities) if "Sev1" in firing)
    next_alert = min(index for index, firing in enumerate(severities) if index > last_sev1 and firing)
    assert severities[next_alert] >= {"Sev2"}
    assert (next_alert - last_sev1) * interval == pytest.approx(30 * MINUTE, abs=2 * MINUTE)
    assert all("Sev2" in firing for firing in severities[next_alert:])


def test_less_urgent_alert_of_a_slow_burn_fires_without_a_page() -> None:
    start = 6 * HOUR
    end = start + 8 * HOUR
    replay = RuleReplay(shop(), outage_series(start, (8 * HOUR, 0.008)), end, evaluation_interval=60)
    severities = alerts_by_severity(replay, range(start, end, 300))
    assert "Sev2" in set().union(*severities)
    assert "Sev1" not in set().union(*severities)
