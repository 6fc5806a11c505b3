"""Burn rate arithmetic, as `lint` and `explain` report it: which alerts fire, when, and after how many events."""

from __future__ import annotations

import re

import pytest

from connectsoft_obs import slo
from connectsoft_obs.ops.findings import Finding, Level
from connectsoft_obs.ops.slo.burn_rate_windows import burn_rate_windows
from connectsoft_obs.ops.slo.explain import describe, explain
from connectsoft_obs.ops.slo.lint import lint
from connectsoft_obs.ops.slo.rule_groups import rule_groups
from connectsoft_obs.slo.model import Source
from connectsoft_obs.slo.presets import PRESETS
from connectsoft_obs.vocabulary import METRICS, Instrument, Severity


def shop(declared: slo.SLO, **options: object) -> slo.ServiceSLOs:
    return slo.ServiceSLOs(service="shop", slos=(declared,), **{"team": "sales", "retention": 90 * 86400, **options})  # type: ignore[arg-type]


def finding_codes(service_slos: slo.ServiceSLOs, level: Level | None = None, *, azure: bool = False) -> set[str]:
    return {finding.code for finding in lint(service_slos, azure=azure) if level in (None, finding.level)}


@pytest.mark.parametrize(
    ("objective", "expected"),
    # Seconds of a total outage until each alert of the SRE Workbook fires: window x burn rate x error budget.
    [
        (99.9, [51.84, 129.6, 259.2, 259.2]),
        (99.5, [259.2, 648, 1296, 1296]),
        (99, [518.4, 1296, 2592, 2592]),
        (95, [2592, 6480, 12960, 12960]),
        (90, [None, 12960, 25920, 25920]),
        (50, [None, None, None, 129600]),
    ],
)
def test_detection_times(objective: float, expected: list[float | None]) -> None:
    api = slo.availability("api", objective)
    detection_times = [window.detection_time(api.error_budget) for window in burn_rate_windows(shop(api), api)]
    assert detection_times == [None if value is None else pytest.approx(value) for value in expected]


@pytest.mark.parametrize(("objective", "expected"), [(99.9, [69, 167, 333, 1000]), (95, [1.4, 3.3, 6.7, 20])])
def test_min_events_for_an_alert_after_one_failure(objective: float, expected: list[float]) -> None:
    api = slo.availability("api", objective)
    assert [window.min_events(api.error_budget) for window in burn_rate_windows(shop(api), api)] == [
        pytest.approx(value, rel=0.02) for value in expected
    ]


@pytest.mark.parametrize(
    ("period", "factors", "consumed"),
    [
        ("7d", [13.44, 3.5, 1.4, 1.0], [0.08, 0.125, 0.2, 3 / 7]),
        ("28d", [14.4, 6, 3, 1], [0.0214, 0.0536, 0.107, 0.107]),
        ("30d", [14.4, 6, 3, 1], [0.02, 0.05, 0.1, 0.1]),
        ("90d", [14.4, 6, 3, 1], [0.0067, 0.0167, 0.0333, 0.0333]),
    ],
)
def test_burn_rates_are_lower_for_short_periods_and_never_below_one(
    period: str, factors: list[float], consumed: list[float]
) -> None:
    api = slo.availability("api", 99.9, period=period)
    service_slos = shop(api)
    windows = burn_rate_windows(service_slos, api)
    assert [float(window.factor) for window in windows] == factors
    assert [window.budget_consumed(service_slos.period_seconds(api)) for window in windows] == [
        pytest.approx(value, rel=0.02) for value in consumed
    ]


def test_thresholds_have_no_binary_rounding_errors() -> None:
    [group, _] = rule_groups(shop(slo.availability("api", 99.9)))
    expressions = "\n".join(rule.expression for rule in group.rules)
    assert "> 0.0144" in expressions
    assert "0.01439" not in expressions
    assert "999999" not in expressions


def test_alert_that_cannot_fire_is_omitted_and_reported() -> None:
    service_slos = shop(slo.availability("api", 90))
    assert "cannot-fire" in finding_codes(service_slos, Level.NOTE)
    names = {rule.name for group in rule_groups(service_slos) for rule in group.rules}
    assert "ShopApiBudgetBurn1h" not in names
    assert {"ShopApiHardDown", "ShopApiBudgetBurn6h"} <= names


def test_late_page_is_an_error_without_the_hard_down_alert() -> None:
    assert "slow-page" not in finding_codes(shop(slo.availability("api", 95)))
    without_hard_down = shop(slo.availability("api", 95, alerting=slo.Alerting(hard_down=False)))
    assert "slow-page" in finding_codes(without_hard_down, Level.ERROR)
    [finding] = [finding for finding in lint(without_hard_down) if finding.code == "slow-page"]
    assert "43 min 12 s" in finding.message


@pytest.mark.parametrize(
    ("service_slos", "code", "level"),
    [
        (shop(slo.availability("a", 99), scrape_interval=120), "scrape-interval", Level.ERROR),
        (shop(slo.availability("a", 99), retention=15 * 86400), "retention", Level.ERROR),
        (shop(slo.availability("a", 99), retention=None), "retention", Level.NOTE),
        (shop(slo.availability("a", 99), team=""), "owner", Level.WARNING),
        (shop(slo.availability("a", 99), selector='job="a" or 1'), "selector", Level.ERROR),
        (shop(slo.availability("a", 99.9, traffic=1 / 60, alerting=slo.Alerting(min_bad_events=1))),
         "few-failures-page", Level.WARNING),
        (shop(slo.availability("a", 99.9, traffic=1 / 60)), "few-failures-page", Level.NOTE),
        (shop(slo.availability("a", 99.9, traffic=1 / 3600)), "too-quiet", Level.WARNING),
        (shop(slo.availability("a", 99, period="90d")), "azure-period", Level.NOTE),
        (shop(slo.outage("a", limit="3m"), scrape_interval=30), "resolution", Level.WARNING),
        (shop(slo.outage("a", limit="5m"), scraped=False), "pushed", Level.WARNING),
        (shop(slo.message_success_rate("a", 99, within=3, instrument="app.duration"), source=Source.METRICS),
         "boundary", Level.WARNING),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_lint_finding(service_slos: slo.ServiceSLOs, code: str, level: Level) -> None:
    assert code in finding_codes(service_slos, level)


def test_period_beyond_azure_query_limit_is_an_error_for_azure() -> None:
    assert "azure-period" in finding_codes(shop(slo.availability("a", 99, period="90d")), Level.ERROR, azure=True)


def test_findings_have_message_and_advice() -> None:
    for finding in lint(shop(slo.availability("a", 90, traffic=0.001), retention=None, team="", scrape_interval=200)):
        assert isinstance(finding, Finding)
        assert finding.message
        assert finding.advice.endswith(("...", ".", '".'))


def test_alert_severities_can_be_capped() -> None:
    uncapped, capped = (
        shop(slo.availability("api", 99.9, alerting=slo.Alerting(severity=severity)))
        for severity in (Severity.SEV1, Severity.SEV3)
    )

    def severities(service_slos: slo.ServiceSLOs) -> list[str]:
        return sorted(
            {
                alert.labels["severity"]
                for group in rule_groups(service_slos)
                for alert in group.alerts
                if "api" in group.name
            }
        )

    assert severities(uncapped) == ["Sev1", "Sev2", "Sev3", "review"]
    assert severities(capped) == ["Sev3", "review"]


def test_explain_shows_budget_in_minutes_and_events_and_alert_times() -> None:
    api = slo.availability("api", 99.9, traffic=10)
    explanation = explain(shop(api), api)
    assert explanation.title == "shop-api: 99.9 % of requests succeed over 30 d"
    text = " ".join(explanation.sentences)
    assert "43 min 12 s of a total outage in 30 d" in text
    assert "25,920 of 25,920,000 events" in text
    first = explanation.rows[0]
    assert (first.severity, first.detection_time, first.budget_consumed) == ("Sev1", "51.8 s", "2 %")


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        (slo.availability("a", 99.9, routes=["/x"]), "99.9 % of requests with route /x succeed"),
        (slo.percentile("a", 0.95, under="500ms"), "95 % of requests take at most 500 ms"),
        (slo.job_success_rate("a", 95, job="x"), "95 % of runs with name x succeed"),
        (slo.message_success_rate("a", 99, within="5s"), "99 % of messages take at most 5 s"),
        (slo.freshness("a", 99, job="x", within="2h"), "for 99 % of the time x succeeded within the last 2 h"),
        (slo.outage("a", limit="5m"), "no outage longer than 5 min"),
        (slo.ratio("a", 99, bad="x[{window}]", total="y[{window}]"), "99 % of events are good"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_describe(declared: slo.SLO, text: str) -> None:
    assert describe(declared) == text


def test_rules_read_only_exported_metrics() -> None:
    exported = {"up", "ALERTS", "target_info", "process_cpu_seconds_total", "process_resident_memory_bytes"}
    for metric in METRICS:
        suffixes = {Instrument.COUNTER: ("_total",), Instrument.HISTOGRAM: ("_bucket", "_count", "_sum")}
        exported |= {metric.family + suffix for suffix in suffixes.get(metric.instrument, ("",))}
    for source in Source:
        for name in PRESETS:
            for group in rule_groups(slo.preset(name).replace(source=source)):
                for rule in group.rules:
                    without_strings = re.sub(r'"(?:[^"\\]|\\.)*"', "", rule.expression)
                    metrics = set(re.findall(r"([a-z_:][a-z0-9_:]*)\{", without_strings))
                    assert {metric for metric in metrics if not metric.startswith("slo:")} <= exported, rule.expression
