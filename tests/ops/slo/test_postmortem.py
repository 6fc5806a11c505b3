"""The first version of a postmortem has what a real Prometheus recorded, and numbers that are calculated by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.cli import run_slo_command
from support.prometheus_backfill import prometheus_with_history, tile_samples
from support.servers import Prometheus

from connectsoft_obs import slo
from connectsoft_obs.ops.slo.postmortem.impact import budget_severity, counted_time
from connectsoft_obs.slo.loader import to_toml
from connectsoft_obs.vocabulary import Severity

DAY, MINUTE, RATE = 86400, 60, 10.0
SHOP = slo.ServiceSLOs(
    service="shop",
    team="sales",
    slos=(
        slo.availability("api", 99.9),
        slo.latency("quick", 99, under="300ms"),
        slo.availability("unseen", 99),
        slo.outage("outage", limit="5m"),
    ),
)
START = (int(time.time()) - 6 * 3600) // 300 * 300
END = START + 30 * MINUTE


def history() -> Iterator[str]:
    def api(at: float) -> tuple[float, float]:
        return RATE, RATE / 2 if START < at <= END else 0.0

    yield from tile_samples(SHOP, {"api": api, "quick": lambda _: (RATE, 0.0)}, START - 31 * DAY, END + 3600)
    yield "# TYPE slo:outage:bool gauge"
    for at in range(START, END, 30):  # two outages of four minutes
        is_down = START + 300 <= at < START + 540 or START + 900 <= at < START + 1140
        yield f'slo:outage:bool{{slo_id="shop-outage"}} {int(is_down)} {at}'
    yield "# TYPE ALERTS gauge"
    labels = 'alertname="ShopApiBudgetBurn1h",alertstate="firing",service="shop",slo_id="shop-api",severity="Sev1"'
    yield from (f"ALERTS{{{labels}}} 1 {at}" for at in range(START + 5 * MINUTE, END - 10 * MINUTE, 30))
    yield "# TYPE connectsoft_build_info gauge"
    for instance, version, first, last in (("a:1", "1.0", -240, -12), ("b:1", "1.1", -12, 60), ("c:1", "1.1", -10, 60)):
        labels = f'job="shop",instance="{instance}",service_version="{version}",connectsoft_revision="r{version}"'
        for at in range(START + first * MINUTE, START + last * MINUTE, 30):
            yield f"connectsoft_build_info{{{labels}}} 1 {at}"
    yield "# TYPE process_start_time_seconds gauge"
    for at in range(START - 600, END, 30):
        started = START - 3600 if at < START + 900 else START + 890
        yield f'process_start_time_seconds{{job="shop",instance="b:1"}} {started} {at}'
    yield "# TYPE connectsoft_health_status gauge"
    labels = 'job="shop",instance="c:1",connectsoft_health_kind="readiness",connectsoft_health_state="unhealthy"'
    for at in range(START - 600, END, 30):
        yield f"connectsoft_health_status{{{labels}}} {int(START + 600 <= at < START + 1200)} {at}"


@pytest.fixture(scope="module")
def server() -> Iterator[Prometheus]:
    with prometheus_with_history(SHOP, [*history()]) as prometheus:
        yield prometheus


def utc(timestamp: float) -> str:
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M:%S}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "slo.toml").write_text(to_toml(SHOP))
    return tmp_path


def write_postmortem(server: Prometheus, project: Path, start: float, end: float) -> str:
    times = ("--from", utc(start), "--to", utc(end))
    completed = run_slo_command("postmortem", *times, "--prometheus", server.url, "-o", "pages/page.md", cwd=project)
    assert completed.returncode == 0, completed.stderr
    return (project / "pages/page.md").read_text()


def test_postmortem_has_severity_impact_and_timeline(server: Prometheus, project: Path) -> None:
    page = write_postmortem(server, project, START, END)
    assert "| severity | Sev1 |" in page
    assert "A Sev1 incident requires a postmortem." in page
    # Half of ten requests per second in 30 minutes: 9,000. Allowed in 30 d: 25,920,000 x 0.1 % = 25,920.
    assert "| shop-api: 99.9 % of requests succeed | 9,000 events | 18,000 | 34.7 % | Sev1 |" in page
    assert "| 0 events | 18,000 | 0 % | - |" in page
    assert "| shop-unseen: 99 % of requests succeed | 0 events | 0 | no data | - |" in page
    assert "| shop-outage: no outage longer than 5 min | 480 seconds | 1,800 | 80 % | Sev1 |" in page
    assert f"Events are counted in whole steps of five minutes, from {utc(START)} to {utc(END)}." in page
    assert "Prometheus has no series" not in page
    rows = [line for line in page.splitlines() if line.startswith("| 20")]
    texts = [row.split(" | ")[1].removesuffix(" |") for row in rows]
    assert texts == [
        "version 1.1, revision r1.1 is deployed",
        "ShopApiBudgetBurn1h (Sev1) fires",
        "instance c:1 is not ready",
        "instance b:1 restarts",
        "instance c:1 is ready",
        "ShopApiBudgetBurn1h (Sev1) resolves",
        "_first action_",
    ]
    assert rows[1].startswith(f"| {utc(START + 300)} ")
    assert rows[3].startswith(f"| {utc(START + 890)} ")
    assert page.count("Owner: _name_. Due: ") == 6


def test_postmortem_of_an_hour_without_an_incident_is_voluntary(server: Prometheus, project: Path) -> None:
    page = write_postmortem(server, project, START - 10 * 3600, START - 9 * 3600)
    assert "| severity | below Sev3 |" in page
    assert "this one is voluntary" in page


def test_postmortem_does_not_overwrite_a_file_and_rejects_a_wrong_time(project: Path) -> None:
    arguments = ("postmortem", "--prometheus", "http://127.0.0.1:9", "--from", utc(START))
    (project / "page.md").write_text("text of the team")
    completed = run_slo_command(*arguments, "--to", utc(END), "-o", "page.md", cwd=project)
    assert (completed.returncode, "the file exists" in completed.stderr) == (2, True)
    for start, end, reason in (
        (START, START - 1, "the end is not after the start"),
        (START, time.time() + 3600, "the end is in the future: it is "),
        (START - 11 * DAY, START, "it is longer than 10 d"),
    ):
        times = ("--from", utc(start), "--to", utc(end))
        completed = run_slo_command("postmortem", "--prometheus", "http://127.0.0.1:9", *times, cwd=project)
        assert (completed.returncode, reason in completed.stderr) == (2, True), completed.stderr


@pytest.mark.parametrize(
    ("spent", "hours", "severity"),
    [
        (0.02, 1, Severity.SEV1),  # what the Sev1 alert consumes before it fires
        (0.019, 1, None),
        (0.05, 6, Severity.SEV2),
        (0.10, 24, Severity.SEV3),
        (0.10, 72, Severity.SEV3),
        (0.09, 72, None),
        (1.0, 240, Severity.SEV1),  # a whole error budget
    ],
)
def test_severity_follows_the_used_error_budget(spent: float, hours: float, severity: Severity | None) -> None:
    assert budget_severity(SHOP, SHOP.slos[0], spent, hours * 3600) is severity


def test_events_are_counted_until_the_last_five_minutes_that_have_ended() -> None:
    assert counted_time(START + 10, START + 700, START + 3600) == (START, START + 900)
    assert counted_time(START + 10, START + 700, START + 720) == (START, START + 600)
    assert counted_time(START + 10, START + 20, START + 30) == (START, START)


@pytest.mark.parametrize("spent", [0.5, 2.0])
def test_severity_is_not_above_that_of_the_alerts_of_the_slo(spent: float) -> None:
    service_slos = SHOP.replace(
        slos=tuple(
            slo.availability(f"api-{severity.value}", 99.9, alerting=slo.Alerting(severity=severity))
            for severity in (Severity.SEV2, Severity.SEV3, Severity.REVIEW)
        )
    )
    severities = [budget_severity(service_slos, item, spent, 3600) for item in service_slos.slos]
    assert severities == [Severity.SEV2, Severity.SEV3, None]


def test_timeline_of_a_pushing_service_has_the_start_of_each_process(server: Prometheus, project: Path) -> None:
    (project / "slo.toml").write_text(to_toml(SHOP.replace(scraped=False)))
    page = write_postmortem(server, project, START, END)
    assert f"| {utc(START + 890)} | instance b:1 starts |" in page
    assert "restarts" not in page


def test_postmortem_names_series_that_prometheus_does_not_have(server: Prometheus, project: Path) -> None:
    (project / "slo.toml").write_text(to_toml(slo.ServiceSLOs(service="other", slos=SHOP.slos)))
    page = write_postmortem(server, project, START, END)
    for series, events in (
        ("connectsoft_build_info", "deployments"),
        ("process_start_time_seconds", "restarts"),
        ("connectsoft_health_status", "changes of readiness"),
    ):
        assert f"no series {series} of this service in this time, so the timeline has no {events}." in page
