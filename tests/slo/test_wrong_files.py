"""SLO files with mistakes: each is rejected, or reported by `lint` as a warning or an error."""

from __future__ import annotations

from pathlib import Path

import pytest

import connectsoft_obs as obs
from connectsoft_obs import slo
from connectsoft_obs.ops.findings import Level
from connectsoft_obs.ops.slo.lint import lint

SERVICE = '[service]\nname = "orders-api"\nteam = "sales"\n'


def declare(sli: str, objective: str = "99.9", other: str = "", before: str = "") -> str:
    """Return a file with one SLO."""
    value = f"objective = {objective}\n" if objective else ""
    return f'{SERVICE}{before}\n[[slo]]\nname = "a"\ndescription = "d"\n{value}sli = {{ {sli} }}\n{other}\n'


def http(**keys: str) -> str:
    """Return a file with an availability SLO whose indicator has these keys."""
    return declare(", ".join(['kind = "http_availability"', *(f"{key} = {value}" for key, value in keys.items())]))


def latency(**keys: str) -> str:
    """Return a file with a latency SLO whose indicator has these keys."""
    keys = {"threshold": '"500ms"', **keys}
    return declare(", ".join(['kind = "latency"', *(f"{key} = {value}" for key, value in keys.items())]))


HTTP = 'kind = "http_availability"'
RATIO = 'kind = "ratio", bad = "BAD", total = "sum(rate(b[{window}]))"'
OUTAGE = 'kind = "outage_limit", limit = "5m"'
FRESHNESS = 'kind = "freshness", within = "2h"'

REFUSED = {
    "percentage as text": declare(HTTP, '"99.9%"'),
    "number as text": declare(HTTP, '"99.9"'),
    "fraction": declare(HTTP, "0.999"),
    "no error budget": declare(HTTP, "100"),
    "negative objective": declare(HTTP, "-1"),
    "not a number": declare(HTTP, "nan"),
    "infinite objective": declare(HTTP, "inf"),
    "boolean objective": declare(HTTP, "true"),
    "list of objectives": declare(HTTP, "[99.9]"),
    "no objective": declare(HTTP, ""),
    "misspelled key": declare(HTTP, other="ownr = 'x'"),
    "unknown kind": declare('kind = "availability"'),
    "one bracket": http().replace("[[slo]]", "[slo]"),
    "no SLO": SERVICE,
    "empty list of SLOs": SERVICE.replace("[service]", "slo = []\n[service]"),
    "duplicate names": http() + http().removeprefix(SERVICE).replace('"a"', '"A"'),
    "name with a space": http().replace('"a"', '"a b"'),
    "boolean as text": declare(HTTP, other='alerting = { hard_down = "false" }'),
    "negative minimum": declare(HTTP, other="alerting = { min_bad_events = -1 }"),
    "fractional minimum": declare(HTTP, other="alerting = { min_bad_events = 2.5 }"),
    "severity in lower case": declare(HTTP, other='alerting = { severity = "sev1" }'),
    "route without a slash": http(routes='["orders"]'),
    "route with a host": http(routes='["https://shop.example/orders"]'),
    "route with a query": http(routes='["/orders?page=1"]'),
    "route with a space": http(routes='["/orders "]'),
    "no routes": http(routes="[]"),
    "no methods": http(methods="[]"),
    "status as a number": http(bad_status="[429]"),
    "unknown status": http(bad_status='["50x"]'),
    "successful status as bad": http(bad_status='["2xx"]'),
    "job of a request": latency(job='"nightly"'),
    "route of a job": latency(instrument='"connectsoft.job.duration"', routes='["/orders"]'),
    "destination of a job": declare('kind = "success", destination = "orders"'),
    "status of a job": latency(instrument='"connectsoft.job.duration"', bad_status='["429"]'),
    "empty job name": declare('kind = "success", job = ""'),
    "instrument that is not a name": latency(instrument='"http duration"'),
    "threshold without a unit": latency(threshold='"500"'),
    "threshold of zero": latency(threshold='"0s"'),
    "quantile as a percentage": declare('kind = "percentile", quantile = 95, threshold = "500ms"', ""),
    "quantile that contradicts": declare('kind = "percentile", quantile = 0.95, threshold = "500ms"', "99"),
    "period in seconds": declare(HTTP, other="period = 30"),
    "ratio without a window": declare(RATIO.replace("BAD", "sum(rate(a[5m]))")),
    "ratio with an open bracket": declare(RATIO.replace("BAD", "sum(rate(a[{window}])")),
    "ratio of equal queries": declare(RATIO.replace("BAD", "sum(rate(b[{window}]))")),
    "freshness of nothing": declare(FRESHNESS),
    "freshness of a wrong metric name": declare(FRESHNESS + ', timestamp = "last run"'),
    "page after the limit": declare(OUTAGE + ', page_after = "6m"', ""),
    "outage share as a percentage": declare(OUTAGE + ", outage_when = 50", ""),
    "composite of one": http() + '[[composite]]\nname = "c"\nall_of = "a"\n',
    "composite of an unknown SLO": http() + '[[composite]]\nname = "c"\nall_of = ["a", "b"]\n',
    "review above 100": declare(HTTP, before="[policy]\nreview_at = [150]"),
}

REPORTED = {
    "threshold in milliseconds": (latency(threshold="500"), "threshold-unit"),
    "objective of 9.99": (declare(HTTP, "9.99"), "low-objective"),
    "objective with too many nines": (declare(HTTP, "99.99999"), "high-objective"),
    "selector without quotes": (
        http().replace('team = "sales"', "team = \"sales\"\nselector = 'job=orders'"),
        "selector",
    ),
    "misspelled method": (http(methods='["GTE"]'), "method-not-counted"),
    "route that is not counted": (http(routes='["/health/ready"]'), "route-not-counted"),
    "reviews as fractions": (declare(HTTP, before="[policy]\nreview_at = [0.5, 0.25]"), "review-fraction"),
    "runbook that is no URL": (declare(HTTP, other='runbook = "runbook.md"'), "url"),
    "retention below the period": (declare(HTTP, before='[prometheus]\nretention = "15d"'), "retention"),
}


def test_list_has_sixty_files() -> None:
    assert len(REFUSED) + len(REPORTED) == 60


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_file_is_refused_with_value_reason_and_correction(name: str, tmp_path: Path) -> None:
    file = tmp_path / "slo.toml"
    file.write_text(REFUSED[name])
    with pytest.raises(obs.ConfigurationError) as raised:
        slo.load(file)
    assert str(file) in raised.value.given
    assert raised.value.why
    assert raised.value.instead


@pytest.mark.parametrize("name", REPORTED)
def test_file_that_is_probably_wrong_is_reported(name: str, tmp_path: Path) -> None:
    text, code = REPORTED[name]
    file = tmp_path / "slo.toml"
    file.write_text(text)
    findings = {finding.code: finding.level for finding in lint(slo.load(file))}
    assert findings.get(code) in (Level.WARNING, Level.ERROR), findings


def test_files_with_the_corrections_are_accepted(tmp_path: Path) -> None:
    corrections = [
        http(routes='["/orders", "/orders/{id}"]', methods='["GET", "post"]', bad_status='["429", "4xx"]'),
        latency(threshold="0.5", errors='"bad"'),
        latency(instrument='"connectsoft.job.duration"', job='"nightly"'),
        latency(instrument='"messaging.process.duration"', destination='"orders"'),
        declare('kind = "success", job = "nightly"'),
        declare(FRESHNESS + ', timestamp = "last_run_timestamp_seconds"'),
        declare(RATIO.replace("BAD", r"sum(rate(a{x=\"(\"}[{window}]))")),
        declare(OUTAGE + ', page_after = "2m"', ""),
        declare(HTTP, before="[policy]\nreview_at = []"),
    ]
    for text in corrections:
        file = tmp_path / "slo.toml"
        file.write_text(text)
        levels = {finding.level for finding in lint(slo.load(file))}
        assert not levels & {Level.ERROR, Level.WARNING}, text
