"""What lint and explain know: what can fire, when, and what is enough to wake somebody."""

from __future__ import annotations

import pytest

from connectsoft_obs import slo
from connectsoft_obs.ops.slo.burn_rate_windows import pairs
from connectsoft_obs.ops.slo.explain import describe, explain
from connectsoft_obs.ops.slo.lint import Finding, Level, lint
from connectsoft_obs.ops.slo.rule_groups import groups
from connectsoft_obs.slo.model import Source
from connectsoft_obs.vocabulary import Severity


def one(promise: slo.SLO, **more: object) -> slo.ServiceSLOs:
    return slo.ServiceSLOs(service="shop", slos=(promise,), **{"team": "sales", "retention": 90 * 86400, **more})  # type: ignore[arg-type]


def codes(promises: slo.ServiceSLOs, level: Level | None = None, **more: bool) -> set[str]:
    return {finding.code for finding in lint(promises, **more) if level in (None, finding.level)}


@pytest.mark.parametrize(
    ("objective", "expected"),
    # Of the SRE Workbook's pairs: seconds of a total outage until each fires, L F b.
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
    promise = slo.availability("api", objective)
    found = [pair.detection(promise.budget) for pair in pairs(one(promise), promise)]
    assert found == [None if value is None else pytest.approx(value) for value in expected]


@pytest.mark.parametrize(("objective", "expected"), [(99.9, [69, 167, 333, 1000]), (95, [1.4, 3.3, 6.7, 20])])
def test_events_below_which_one_failure_fires(objective: float, expected: list[float]) -> None:
    promise = slo.availability("api", objective)
    assert [pair.min_events(promise.budget) for pair in pairs(one(promise), promise)] == [
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
def test_burn_rates_do_not_follow_the_period_and_never_fall_below_one(
    period: str, factors: list[float], consumed: list[float]
) -> None:
    promise = slo.availability("api", 99.9, period=period)
    made = one(promise)
    found = pairs(made, promise)
    assert [float(pair.factor) for pair in found] == factors
    assert [pair.consumed(made.period_of(promise)) for pair in found] == [
        pytest.approx(value, rel=0.02) for value in consumed
    ]


def test_thresholds_are_written_without_the_noise_of_binary_fractions() -> None:
    [group, _] = groups(one(slo.availability("api", 99.9)))
    text = "\n".join(rule.expression for rule in group.rules)
    assert "> 0.0144" in text
    assert "0.01439" not in text
    assert "999999" not in text


def test_an_alert_that_no_outage_can_fire_is_left_out_and_told() -> None:
    promises = one(slo.availability("api", 90))
    assert "cannot-fire" in codes(promises, Level.NOTE)
    names = {rule.name for group in groups(promises) for rule in group.rules}
    assert "ShopApiBudgetBurn1h" not in names
    assert {"ShopApiHardDown", "ShopApiBudgetBurn6h"} <= names


def test_a_page_that_comes_too_late_for_sev1_is_an_error_unless_the_hard_down_rule_helps() -> None:
    assert "slow-page" not in codes(one(slo.availability("api", 95)))
    off = one(slo.availability("api", 95, alerting=slo.Alerting(hard_down=False)))
    assert "slow-page" in codes(off, Level.ERROR)
    [finding] = [finding for finding in lint(off) if finding.code == "slow-page"]
    assert "43 min 12 s" in finding.message


@pytest.mark.parametrize(
    ("promises", "code", "level"),
    [
        (one(slo.availability("a", 99), scrape_interval=120), "scrape-interval", Level.ERROR),
        (one(slo.availability("a", 99), retention=15 * 86400), "retention", Level.ERROR),
        (one(slo.availability("a", 99), retention=None), "retention", Level.NOTE),
        (one(slo.availability("a", 99), team=""), "owner", Level.WARNING),
        (one(slo.availability("a", 99), selector='job="a" or 1'), "selector", Level.ERROR),
        (one(slo.availability("a", 99.9, traffic=1 / 60, alerting=slo.Alerting(min_bad_events=1))),
         "few-failures-page", Level.WARNING),
        (one(slo.availability("a", 99.9, traffic=1 / 60)), "few-failures-page", Level.NOTE),
        (one(slo.availability("a", 99.9, traffic=1 / 3600)), "too-quiet", Level.WARNING),
        (one(slo.availability("a", 99, period="90d")), "azure-period", Level.NOTE),
        (one(slo.outage("a", limit="3m"), scrape_interval=30), "resolution", Level.WARNING),
        (one(slo.outage("a", limit="5m"), scraped=False), "pushed", Level.WARNING),
        (one(slo.message_success_rate("a", 99, within=3, instrument="their.duration"), source=Source.METRICS),
         "boundary", Level.WARNING),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_will_surprise_is_found(promises: slo.ServiceSLOs, code: str, level: Level) -> None:
    assert code in codes(promises, level)


def test_a_period_that_azure_cannot_query_is_an_error_there() -> None:
    assert "azure-period" in codes(one(slo.availability("a", 99, period="90d")), Level.ERROR, azure=True)


def test_findings_say_what_is_so_and_what_to_do() -> None:
    for finding in lint(one(slo.availability("a", 90, traffic=0.001), retention=None, team="", scrape_interval=200)):
        assert isinstance(finding, Finding)
        assert finding.message
        assert finding.advice.endswith(("...", ".", '".'))


def test_severities_are_those_of_the_company_and_can_be_capped() -> None:
    loud, quiet = (
        one(slo.availability("api", 99.9, alerting=slo.Alerting(severity=cap)))
        for cap in (Severity.SEV1, Severity.SEV3)
    )

    def found(promises: slo.ServiceSLOs) -> list[str]:
        return sorted(
            {alert.labels["severity"] for group in groups(promises) for alert in group.alerts if "api" in group.name}
        )

    assert found(loud) == ["Sev1", "Sev2", "Sev3", "review"]
    assert found(quiet) == ["Sev3", "review"]


def test_a_promise_is_explained_in_minutes_events_and_moments() -> None:
    promise = slo.availability("api", 99.9, traffic=10)
    explained = explain(one(promise), promise)
    assert explained.title == "shop-api: 99.9 % of requests succeed over 30 d"
    text = " ".join(explained.sentences)
    assert "43 min 12 s of a total outage in 30 d" in text
    assert "25,920 of 25,920,000 events" in text
    first = explained.rows[0]
    assert (first.severity, first.outage, first.spent) == ("Sev1", "51.8 s", "2 %")


@pytest.mark.parametrize(
    ("promise", "text"),
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
def test_a_promise_in_words(promise: slo.SLO, text: str) -> None:
    assert describe(promise) == text


def test_every_name_in_rules_is_one_that_is_emitted() -> None:
    import re

    from connectsoft_obs.slo.presets import PRESETS
    from connectsoft_obs.vocabulary import METRICS, Instrument

    emitted = {"up", "ALERTS", "target_info", "process_cpu_seconds_total", "process_resident_memory_bytes"}
    for metric in METRICS:
        ends = {Instrument.COUNTER: ("_total",), Instrument.HISTOGRAM: ("_bucket", "_count", "_sum")}
        emitted |= {metric.family + end for end in ends.get(metric.instrument, ("",))}
    for source in Source:
        for name in PRESETS:
            for group in groups(slo.preset(name).replace(source=source)):
                for rule in group.rules:
                    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", rule.expression)
                    read = set(re.findall(r"([a-z_:][a-z0-9_:]*)\{", bare))
                    assert {one for one in read if not one.startswith("slo:")} <= emitted, rule.expression
