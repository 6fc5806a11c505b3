"""Tests of generated rules, for promtool: what must fire in an outage, when, and what must let people sleep."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from connectsoft_obs.ops.slo.burn_rate_windows import HARD_DOWN, HARD_DOWN_FOR, hard_down, pairs
from connectsoft_obs.ops.slo.promql import example_series, quoted, series, service_selector
from connectsoft_obs.ops.slo.rule_groups import groups
from connectsoft_obs.ops.slo.rules import camel
from connectsoft_obs.ops.slo.sli_queries import sli_queries
from connectsoft_obs.ops.slo.targets.prometheus import as_tables
from connectsoft_obs.slo.durations import HOUR, MINUTE, prometheus
from connectsoft_obs.slo.event_counter import BAD, GOOD
from connectsoft_obs.slo.indicators import OutageLimit
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import Severity

BUSY = 600
"""Events a minute in a scenario."""
GRACE = 3
"""Minutes after the theoretical moment at which an alert must have fired: a scrape and two evaluations."""
GONE = "stale"


@dataclass(frozen=True, slots=True)
class ExpectedAlerts:
    """At one minute, whether alerts that match fire."""

    minute: int
    matchers: str
    fires: bool


@dataclass(frozen=True, slots=True)
class Scenario:
    """A stretch of history, minute by minute, and what alerts must say about it."""

    name: str
    series: dict[str, str]
    checks: tuple[ExpectedAlerts, ...]


def scenarios(promises: ServiceSLOs, slo: SLO) -> tuple[Scenario, ...]:
    """The scenarios of one promise; none for PromQL of somebody's own, and for how old data is."""
    return tuple(_outages(promises, slo, slo.sli) if isinstance(slo.sli, OutageLimit) else _events(promises, slo))


def documents(promises: ServiceSLOs, slo: SLO) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """A rules file with the rules of one promise and of its service, and promtool's test file for it.

    None where there is no scenario. One promise at a time, because promtool evaluates all rules for each scenario.
    """
    some = scenarios(promises, slo)
    if not some:
        return None
    alone = promises.replace(slos=(slo,), composites=())
    interval = promises.interval if isinstance(slo.sli, OutageLimit) else MINUTE
    tests = [
        {
            "name": scenario.name,
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in scenario.series.items()],
            "promql_expr_test": [_test(check) for check in scenario.checks],
        }
        for scenario in some
    ]
    rules = {"groups": as_tables(groups(alone))}
    return rules, {
        "rule_files": [f"{slo.name}.rules.yaml"],
        "evaluation_interval": prometheus(interval),
        "tests": tests,
    }


def _test(check: ExpectedAlerts) -> dict[str, Any]:
    return {
        "expr": f'count(ALERTS{{alertstate="firing",{check.matchers}}}) > bool 0 or vector(0)',
        "eval_time": f"{check.minute}m",
        "exp_samples": [{"labels": "{}", "value": int(check.fires)}],
    }


class _Minutes:
    """The value of a counter minute by minute, in promtool's notation."""

    def __init__(self) -> None:
        self._value = 0
        self._parts = ["0"]

    def grow(self, minutes: int, events: int) -> _Minutes:
        if minutes > 0:
            self._parts.append(f"{self._value + events}+{events}x{minutes - 1}")
            self._value += minutes * events
        return self

    def end(self, *more: str) -> str:
        return " ".join([*self._parts, *more])


def _events(promises: ServiceSLOs, slo: SLO) -> Iterator[Scenario]:
    counters = [(example_series(selector), moved) for selector, moved in sli_queries(promises, slo).inputs()]
    up = example_series(series("up", service_selector(promises)))
    if not counters or up is None or any(name is None for name, _ in counters):
        return
    known = {str(name): moved for name, moved in counters}
    alive = {up: f"1x{48 * 60}"} if promises.scraped else {}
    about = f"slo_id={quoted(promises.id(slo))}"
    pages = f'{about},severity=~"{Severity.SEV1}|{Severity.SEV2}"'

    def history(*stretches: tuple[int, int, int]) -> dict[str, str]:
        """Stretches of minutes, with good and bad events a minute."""
        made = {}
        for name, moved in known.items():
            line = _Minutes()
            for minutes, good, bad in stretches:
                line.grow(minutes, good * (GOOD in moved) + bad * (BAD in moved))
            made[name] = line.end()
        return made | alive

    yield Scenario(
        f"{slo.name}: a service that keeps its promise wakes nobody",
        history((120, BUSY, 0)),
        tuple(ExpectedAlerts(minute, about, False) for minute in (10, 60, 120)),
    )
    yield from _total_outage(promises, slo, history)
    if slo.alerting.min_bad_events > 1:
        yield Scenario(
            f"{slo.name}: one failure on a quiet day wakes nobody",
            history((120, 1, 0), (1, 0, 1), (60, 1, 0)),
            tuple(ExpectedAlerts(120 + minute, pages, False) for minute in (2, 10, 50)),
        )
    yield Scenario(
        f"{slo.name}: an idle hour is neither an outage nor missing data",
        history((120, BUSY, 0), (60, 0, 0), (30, BUSY, 0)),
        tuple(ExpectedAlerts(minute, about, False) for minute in (179, 210)),
    )
    wanted = promises.always_on if slo.alerting.no_data is None else slo.alerting.no_data
    if wanted:
        gone = {name: f"{values} {GONE}" for name, values in history((120, BUSY, 0)).items()}
        name = camel(promises.id(slo)) + "NoData"
        yield Scenario(
            f"{slo.name}: data that ends is told",
            gone,
            (ExpectedAlerts(119, f'alertname="{name}"', False), ExpectedAlerts(120 + 16, f'alertname="{name}"', True)),
        )


def _total_outage(promises: ServiceSLOs, slo: SLO, history: Any) -> Iterator[Scenario]:
    """Everything fails from one moment on: each pair of windows fires at its time and not before."""
    checks = []
    begin = 6 * 60 + 10
    last = 0
    for pair in pairs(promises, slo):
        detection = pair.detection(slo.budget)
        if detection is None or pair.long > 6 * HOUR:
            continue
        name = f'alertname="{camel(promises.id(slo))}BudgetBurn{pair.name}"'
        early, late = int(detection // MINUTE) - 1, int(detection // MINUTE) + 1 + GRACE
        checks += [ExpectedAlerts(begin + early, name, False)] if early > 0 else []
        checks.append(ExpectedAlerts(begin + late, name, True))
        last = max(last, late)
    if hard_down(promises, slo):
        short = pairs(promises, slo)[0].short
        late = int((short * float(HARD_DOWN) + HARD_DOWN_FOR) // MINUTE) + 1 + GRACE
        checks.append(ExpectedAlerts(begin + late, f'alertname="{camel(promises.id(slo))}HardDown"', True))
        last = max(last, late)
    checks.append(ExpectedAlerts(begin, f"slo_id={quoted(promises.id(slo))}", False))
    yield Scenario(
        f"{slo.name}: a total outage pages in time",
        history((begin, BUSY, 0), (last + 1, 0, BUSY)),
        tuple(sorted(checks, key=lambda check: check.minute)),
    )


def _outages(promises: ServiceSLOs, slo: SLO, sli: OutageLimit) -> Iterator[Scenario]:
    up = example_series(series("up", service_selector(promises)))
    if up is None or not promises.scraped:
        return
    limit, page = int(sli.limit // MINUTE), int(sli.page_after // MINUTE)
    for minutes, breaks in ((limit - 1, False), (limit + 1, True)):
        if minutes <= page:
            continue
        word = "longer" if breaks else "shorter"
        paged = f'alertname="{camel(promises.id(slo))}OutageInProgress"'
        breached = f'alertname="{camel(promises.id(slo))}OutageLimitBreached"'
        yield Scenario(
            f"{slo.name}: an outage {word} than {prometheus(sli.limit)} {'breaks' if breaks else 'keeps'} the promise",
            {up: f"1x60 0x{minutes - 1} 1x60"},
            (
                ExpectedAlerts(59, paged, False),
                ExpectedAlerts(61 + page, paged, True),
                ExpectedAlerts(61 + minutes, paged, False),
                ExpectedAlerts(61 + limit, breached, breaks),
            ),
        )
