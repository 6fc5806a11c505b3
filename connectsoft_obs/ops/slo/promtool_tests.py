"""Unit tests of the generated rules, for promtool: which alerts fire in an outage, when, and which must not fire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from connectsoft_obs.ops.slo.burn_rate_windows import (
    HARD_DOWN_FOR,
    HARD_DOWN_RATIO,
    burn_rate_windows,
    cap_severity,
    needs_hard_down_alert,
)
from connectsoft_obs.ops.slo.promql import example_series, quote, series_selector, service_selector
from connectsoft_obs.ops.slo.rule_groups import rule_groups
from connectsoft_obs.ops.slo.rules import camel_case, is_enabled
from connectsoft_obs.ops.slo.sli_queries import sli_queries
from connectsoft_obs.ops.slo.targets.prometheus import groups_to_dicts
from connectsoft_obs.slo.durations import HOUR, MINUTE, format_prometheus
from connectsoft_obs.slo.event_counter import BAD, GOOD
from connectsoft_obs.slo.indicators import OutageLimit
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import Severity

EVENTS_PER_MINUTE = 600
"""Events per minute in a scenario."""
GRACE_MINUTES = 3
"""Minutes after the theoretical detection time until an alert must fire: one scrape and two evaluations."""
STALE_MARKER = "stale"

Traffic: TypeAlias = tuple[int, int, int]
"""Length in minutes, good events per minute, bad events per minute."""


@dataclass(frozen=True, slots=True)
class ExpectedAlerts:
    """Whether an alert with these label matchers fires at a minute of a scenario."""

    minute: int
    matchers: str
    is_firing: bool


@dataclass(frozen=True, slots=True)
class Scenario:
    """Input series of a rule test, in steps of one minute, and the expected alerts."""

    name: str
    series: dict[str, str]
    expectations: tuple[ExpectedAlerts, ...]


def scenarios(service_slos: ServiceSLOs, slo: SLO) -> tuple[Scenario, ...]:
    """Return the scenarios of one SLO; none for custom PromQL and for freshness."""
    if isinstance(slo.sli, OutageLimit):
        return tuple(_outage_scenarios(service_slos, slo, slo.sli))
    return tuple(_event_scenarios(service_slos, slo))


def promtool_files(service_slos: ServiceSLOs, slo: SLO) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return a rules file for one SLO and its service, and promtool's test file for it; None without a scenario.

    There is one file per SLO, because promtool evaluates all rules of a file for each scenario.
    """
    slo_scenarios = scenarios(service_slos, slo)
    if not slo_scenarios:
        return None
    single = service_slos.replace(slos=(slo,), composites=())
    interval = service_slos.interval if isinstance(slo.sli, OutageLimit) else MINUTE
    tests = [
        {
            "name": scenario.name,
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in scenario.series.items()],
            "promql_expr_test": [_expression_test(expected) for expected in scenario.expectations],
        }
        for scenario in slo_scenarios
    ]
    rules = {"groups": groups_to_dicts(rule_groups(single))}
    return rules, {
        "rule_files": [f"{slo.name}.rules.yaml"],
        "evaluation_interval": format_prometheus(interval),
        "tests": tests,
    }


def _expression_test(expected: ExpectedAlerts) -> dict[str, Any]:
    return {
        "expr": f'count(ALERTS{{alertstate="firing",{expected.matchers}}}) > bool 0 or vector(0)',
        "eval_time": f"{expected.minute}m",
        "exp_samples": [{"labels": "{}", "value": int(expected.is_firing)}],
    }


class _CounterSeries:
    """The values of a counter in steps of one minute, in promtool's notation."""

    def __init__(self) -> None:
        self._value = 0
        self._parts = ["0"]

    def increase(self, minutes: int, events: int) -> None:
        """Append minutes with this number of events each."""
        if minutes > 0:
            self._parts.append(f"{self._value + events}+{events}x{minutes - 1}")
            self._value += minutes * events

    def render(self) -> str:
        return " ".join(self._parts)


def _event_scenarios(service_slos: ServiceSLOs, slo: SLO) -> Iterator[Scenario]:
    counters: dict[str, frozenset[str]] = {}
    for selector, outcomes in sli_queries(service_slos, slo).input_series():
        if (name := example_series(selector)) is None:
            return
        counters[name] = outcomes
    up = example_series(series_selector("up", service_selector(service_slos)))
    if not counters or up is None:
        return
    up_series = {up: f"1x{48 * 60}"} if service_slos.scraped is not False else {}
    slo_matcher = f"slo_id={quote(service_slos.slo_id(slo))}"
    page_matcher = f'{slo_matcher},severity=~"{Severity.SEV1}|{Severity.SEV2}"'

    def simulate(*traffic: Traffic) -> dict[str, str]:
        """Return the input series for consecutive intervals of traffic."""
        series = {}
        for counter, outcomes in counters.items():
            values = _CounterSeries()
            for minutes, good, bad in traffic:
                values.increase(minutes, good * (GOOD in outcomes) + bad * (BAD in outcomes))
            series[counter] = values.render()
        return series | up_series

    yield Scenario(
        f"{slo.name}: no alert while the objective is met",
        simulate((120, EVENTS_PER_MINUTE, 0)),
        tuple(ExpectedAlerts(minute, slo_matcher, False) for minute in (10, 60, 120)),
    )
    yield _total_outage_scenario(service_slos, slo, simulate)
    if slo.alerting.min_bad_events > 1:
        yield Scenario(
            f"{slo.name}: no page for a single failure at low traffic",
            simulate((120, 1, 0), (1, 0, 1), (60, 1, 0)),
            tuple(ExpectedAlerts(120 + minute, page_matcher, False) for minute in (2, 10, 50)),
        )
    yield Scenario(
        f"{slo.name}: no alert for an idle hour",
        simulate((120, EVENTS_PER_MINUTE, 0), (60, 0, 0), (30, EVENTS_PER_MINUTE, 0)),
        tuple(ExpectedAlerts(minute, slo_matcher, False) for minute in (179, 210)),
    )
    alerts_without_data = service_slos.always_on if slo.alerting.no_data is None else slo.alerting.no_data
    if alerts_without_data and is_enabled(slo, cap_severity(Severity.SEV2, slo)):
        stopped = {name: f"{values} {STALE_MARKER}" for name, values in simulate((120, EVENTS_PER_MINUTE, 0)).items()}
        no_data = f'alertname="{camel_case(service_slos.slo_id(slo))}NoData"'
        yield Scenario(
            f"{slo.name}: alert when data stops",
            stopped,
            (ExpectedAlerts(119, no_data, False), ExpectedAlerts(120 + 16, no_data, True)),
        )


def _total_outage_scenario(service_slos: ServiceSLOs, slo: SLO, simulate: Callable[..., dict[str, str]]) -> Scenario:
    """All events fail from one minute on: each burn rate alert fires at its detection time, and not earlier."""
    expectations = []
    start = 6 * 60 + 10
    last = 0
    alert_prefix = camel_case(service_slos.slo_id(slo))
    windows = burn_rate_windows(service_slos, slo)
    for window in windows:
        detection_time = window.detection_time(slo.error_budget)
        if detection_time is None or window.long > 6 * HOUR or not is_enabled(slo, cap_severity(window.severity, slo)):
            continue
        matcher = f'alertname="{alert_prefix}BudgetBurn{window.name}"'
        early, late = int(detection_time // MINUTE) - 1, int(detection_time // MINUTE) + 1 + GRACE_MINUTES
        expectations += [ExpectedAlerts(start + early, matcher, False)] if early > 0 else []
        expectations.append(ExpectedAlerts(start + late, matcher, True))
        last = max(last, late)
    if needs_hard_down_alert(service_slos, slo) and is_enabled(slo, cap_severity(Severity.SEV1, slo)):
        detection_time = windows[0].short * float(HARD_DOWN_RATIO) + HARD_DOWN_FOR
        late = int(detection_time // MINUTE) + 1 + GRACE_MINUTES
        expectations.append(ExpectedAlerts(start + late, f'alertname="{alert_prefix}HardDown"', True))
        last = max(last, late)
    expectations.append(ExpectedAlerts(start, f"slo_id={quote(service_slos.slo_id(slo))}", False))
    return Scenario(
        f"{slo.name}: page in time in a total outage",
        simulate((start, EVENTS_PER_MINUTE, 0), (last + 1, 0, EVENTS_PER_MINUTE)),
        tuple(sorted(expectations, key=lambda expected: expected.minute)),
    )


def _outage_scenarios(service_slos: ServiceSLOs, slo: SLO, sli: OutageLimit) -> Iterator[Scenario]:
    up = example_series(series_selector("up", service_selector(service_slos)))
    if up is None or service_slos.scraped is False or not is_enabled(slo, cap_severity(Severity.SEV1, slo)):
        return
    limit, page_after = int(sli.limit // MINUTE), int(sli.page_after // MINUTE)
    alert_prefix = camel_case(service_slos.slo_id(slo))
    in_progress = f'alertname="{alert_prefix}OutageInProgress"'
    breached = f'alertname="{alert_prefix}OutageLimitBreached"'
    for minutes, is_breach in ((limit - 1, False), (limit + 1, True)):
        if minutes <= page_after:
            continue
        yield Scenario(
            f"{slo.name}: an outage {'longer' if is_breach else 'shorter'} than {format_prometheus(sli.limit)} "
            f"{'breaches' if is_breach else 'does not breach'} the limit",
            {up: f"1x60 0x{minutes - 1} 1x60"},
            (
                ExpectedAlerts(59, in_progress, False),
                ExpectedAlerts(61 + page_after, in_progress, True),
                ExpectedAlerts(61 + minutes, in_progress, False),
                ExpectedAlerts(61 + limit, breached, is_breach),
            ),
        )
