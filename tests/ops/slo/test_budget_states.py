"""State, gate and text of an error budget agree, with a real Prometheus and numbers that are calculated by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from support.cli import run_slo_command
from support.event_exporter import constant_rate, counter_history, event_exporter
from support.process import wait_for
from support.prometheus_backfill import TILE_SECONDS, prometheus_with_history, tile_samples

from connectsoft_obs import slo
from connectsoft_obs.ops.slo.report.budget import format_remaining, format_spent
from connectsoft_obs.slo.loader import to_toml

HOUR, DAY = 3600, 86400
RATE = 10.0
PERIOD_EVENTS = RATE * 30 * DAY
BUDGET = 0.001
NAMES = ("young", "failing", "last-week", "no-data", "restarted", "crashed", "quiet")
SERVICE_SLOS = slo.ServiceSLOs(
    service="shop",
    slos=tuple(slo.availability(name, 99.9) for name in NAMES),
    composites=(slo.all_of("agreement", "failing", "restarted"),),
    interval=5,
    scrape_interval=5,
)


@dataclass(frozen=True)
class Results:
    """What the commands report, and the Unix time at which all events of two SLOs began to fail."""

    failure_start: float
    statuses: dict[str, dict[str, Any]]
    gate: dict[str, dict[str, Any]]
    gate_exit_codes: dict[str, int]
    findings: set[tuple[str, str]]
    page: str
    plots: dict[str, str]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """Commands against a server with a month of history that still scrapes the service."""
    project = tmp_path_factory.mktemp("project")
    (project / "slo.toml").write_text(to_toml(SERVICE_SLOS))
    now = int(time.time())
    last_tile = now // TILE_SECONDS * TILE_SECONDS
    month_ago, hour_ago, failure_start = last_tile - 31 * DAY, last_tile - HOUR, last_tile - 600
    outage, crash = last_tile - 7 * DAY, last_tile - 1800

    def share_of(name: str, at: float) -> float:
        is_failing = name in ("young", "failing") and at > failure_start
        return float(is_failing or (name == "last-week" and outage < at <= outage + 1800))

    def rates(name: str) -> Any:
        return lambda at: (RATE, RATE * share_of(name, at))

    histories = [(name, hour_ago if name == "young" else month_ago, crash if name == "crashed" else last_tile)
                 for name in NAMES if name not in ("no-data", "quiet")]  # fmt: skip
    tiles = [
        line for name, start, end in histories for line in tile_samples(SERVICE_SLOS, {name: rates(name)}, start, end)
    ]
    start = now - 7 * HOUR
    counts = {
        "young": constant_rate(hour_ago, RATE, failing_since=failure_start),
        "failing": constant_rate(start, RATE, failing_since=failure_start),
        "last-week": constant_rate(start, RATE),
        "quiet": constant_rate(start, 0.0),
        "restarted": constant_rate(start, RATE, restarted_at=now - 120),
    }
    with event_exporter(counts) as target:
        # Samples of one family must be adjacent in the OpenMetrics format.
        families = {kind: [line for line in tiles if line.startswith(f"slo:sli_{kind}")] for kind in ("total", "bad")}
        history = [line for kind, lines in families.items() for line in (f"# TYPE slo:sli_{kind}:rate5m gauge", *lines)]
        history += counter_history(counts, f'job="shop",instance="{target}"', start, now - 1)
        with prometheus_with_history(SERVICE_SLOS, history, targets=[target], scrape_interval="5s") as server:
            # One group for each SLO, which Prometheus evaluates at different times.
            for query, number in (("slo:period_error_budget_remaining:ratio", 6), ("slo:sev2:bool", 7)):
                wait_for(lambda query=query, number=number: len(server.query(query)) >= number, 60, query)  # type: ignore[misc]
            arguments = ("--prometheus", server.url)
            report = run_slo_command("report", *arguments, "--format", "json", cwd=project)
            assert report.returncode == 0, report.stderr
            gate = run_slo_command("gate", *arguments, "--json", cwd=project)
            assert gate.returncode == 1, gate.stderr
            exit_codes = {
                name: run_slo_command("gate", *arguments, "--name", name, cwd=project).returncode
                for name in ("failing", "last-week")
            }
            lint = run_slo_command("lint", *arguments, "--json", cwd=project)
            assert run_slo_command("report", *arguments, "-o", "report", cwd=project).returncode == 0
            yield Results(
                failure_start,
                {status["id"].removeprefix("shop-"): status for status in json.loads(report.stdout)},
                {result["slo"].removeprefix("shop-"): result for result in json.loads(gate.stdout)},
                exit_codes,
                {(finding["code"], finding["subject"]) for finding in json.loads(lint.stdout)},
                (project / "report" / "shop.report.md").read_text(),
                {file.stem: file.read_text() for file in (project / "report").glob("*.svg")},
            )


def expected_bad(results: Results, status: dict[str, Any]) -> float:
    """Return the events in the complete tiles since the failure."""
    return RATE * (float(status["timestamp"]) // TILE_SECONDS * TILE_SECONDS - results.failure_start)


def test_young_service_in_an_outage_is_an_incident(results: Results) -> None:
    status = results.statuses["young"]
    bad = expected_bad(results, status)
    # The service has about an hour of data. Its events, extrapolated to 30 days, allow 0.1 % of 25,920,000 events.
    assert status["bad"] == pytest.approx(bad, rel=0.1)
    assert status["allowed"] == pytest.approx(PERIOD_EVENTS * BUDGET, rel=0.1)
    assert status["remaining"] == pytest.approx(1 - bad / (PERIOD_EVENTS * BUDGET), abs=0.05)
    assert status["remaining"] == pytest.approx(1 - status["bad"] / status["allowed"], abs=0.03)
    assert status["state"] == "incident"
    assert status["firing"]["ShopYoungBudgetBurn1h"] == "Sev1"
    [incident] = status["incidents"]
    assert incident["budget_spent"] == pytest.approx(status["bad"] / status["allowed"], rel=0.1)
    assert results.gate["young"]["passes"] is False
    for month in status["months"]:
        assert month["budget_spent"] is None or month["budget_spent"] < 1, "of the error budget of a full month"


def test_outage_now_is_an_incident_although_budget_is_left(results: Results) -> None:
    status = results.statuses["failing"]
    bad = expected_bad(results, status)
    assert status["bad"] == pytest.approx(bad, rel=0.1)
    assert status["remaining"] == pytest.approx(1 - bad / (PERIOD_EVENTS * BUDGET), abs=0.03)
    assert status["burn_rates"]["1h"] > 100
    assert (status["state"], results.gate_exit_codes["failing"]) == ("incident", 1)
    assert results.gate["failing"]["reason"].startswith("firing: ShopFailingBudgetBurn1h (Sev1)")
    assert (results.gate["agreement"]["passes"], results.gate["agreement"]["state"]) == (False, "incident")


def test_outage_of_last_week_spends_its_budget_and_is_no_incident(results: Results) -> None:
    """Thirty minutes of a total outage are 18,000 of 25,920 events."""
    status = results.statuses["last-week"]
    assert status["bad"] == pytest.approx(18_000, rel=0.001)
    assert status["remaining"] == pytest.approx(1 - 18_000 / 25_920, abs=0.002)
    assert (status["state"], status["firing"], results.gate_exit_codes["last-week"]) == ("review", {}, 0)
    [incident] = status["incidents"]
    assert incident["end"] - incident["start"] == 1800


def test_slo_without_data_is_unknown(results: Results) -> None:
    status = results.statuses["no-data"]
    assert (status["state"], status["remaining"], status["allowed"]) == ("unknown", None, None)
    assert (results.gate["no-data"]["passes"], results.gate["no-data"]["reason"]) == (False, "there is no data")


def test_counter_reset_neither_spends_nor_adds_events(results: Results) -> None:
    status = results.statuses["restarted"]
    assert status["bad"] == 0
    assert status["good"] == pytest.approx(PERIOD_EVENTS, rel=0.001)
    assert (status["state"], status["remaining"]) == ("ok", 1)
    assert results.gate["restarted"]["passes"] is True


def test_service_whose_data_stopped_is_an_incident(results: Results) -> None:
    status = results.statuses["crashed"]
    assert status["remaining"] == 1
    assert (status["state"], status["firing"]) == ("incident", {"ShopCrashedNoData": "Sev2"})
    assert results.gate["crashed"]["passes"] is False


def test_lint_reports_a_deployed_slo_without_events(results: Results) -> None:
    subjects = {subject for code, subject in results.findings if code == "no-events"}
    assert subjects == {"shop-quiet"}


def test_page_shows_the_state_of_the_gate(results: Results) -> None:
    for name, result in results.gate.items():
        if name != "agreement":
            [row] = [line for line in results.page.splitlines() if line.startswith(f"| shop-{name}:")]
            assert f"| {result['state']} |" in row
    assert "Firing: ShopFailingBudgetBurn1h (Sev1)" in results.page
    assert "e+0" not in results.page


def test_plot_of_a_young_service_shows_its_own_time(results: Results) -> None:
    status = results.statuses["young"]
    points = status["burn_rate_over_time"]
    assert points[-1][0] == status["timestamp"]
    assert points[0][0] >= status["timestamp"] - 2 * HOUR
    # The labels of the time axis are minutes within a day, not days.
    assert ":" in results.plots["shop-young-burn"].split('text-anchor="middle">')[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_spent(0.2314), "23.1 %"),
        (format_spent(2.5), "250 %"),
        (format_spent(884.2), "884 times the budget"),
        (format_remaining(0.769), "76.9 %"),
        (format_remaining(-1.0), "-100.0 %"),
        (format_remaining(-883.2), "spent 884 times the budget"),
        (format_remaining(None), "unknown"),
    ],
)
def test_shares_of_a_budget_are_readable(text: str, expected: str) -> None:
    assert text == expected
