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
from connectsoft_obs.ops.slo.postmortem.impact import budget_severity
from connectsoft_obs.slo.loader import to_toml
from connectsoft_obs.vocabulary import Severity

DAY, MINUTE, RATE = 86400, 60, 10.0
SHOP = slo.ServiceSLOs(
    service="shop",
    team="sales",
    slos=(slo.availability("api", 99.9), slo.latency("quick", 99, under="300ms"), slo.availability("unseen", 99)),
)
START = (int(time.time()) - 6 * 3600) // 300 * 300
END = START + 30 * MINUTE


def history() -> Iterator[str]:
    def api(at: float) -> tuple[float, float]:
        return RATE, RATE / 2 if START < at <= END else 0.0

    yield from tile_samples(SHOP, {"api": api, "quick": lambda _: (RATE, 0.0)}, START - 31 * DAY, END + 3600)
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
    completed = run_slo_command(
        "postmortem", "--from", utc(start), "--to", utc(end), "--prometheus", server.url, "-o", "page.md", cwd=project
    )
    assert completed.returncode == 0, completed.stderr
    return (project / "page.md").read_text()


def test_postmortem_has_severity_impact_and_timeline(server: Prometheus, project: Path) -> None:
    page = write_postmortem(server, project, START, END)
    assert "| severity | Sev1 |" in page
    assert "A Sev1 incident requires a postmortem." in page
    # Half of ten requests per second in 30 minutes: 9,000. Allowed in 30 d: 25,920,000 x 0.1 % = 25,920.
    assert "| shop-api: 99.9 % of requests succeed | 9,000 events | 18,000 | 34.7 % | Sev1 |" in page
    assert "| 0 events | 18,000 | 0 % | - |" in page
    assert "| shop-unseen: 99 % of requests succeed | 0 events | 0 | no data | - |" in page
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
    for end in (START - 1, START + 11 * DAY, time.time() + 3600):
        completed = run_slo_command(*arguments, "--to", utc(end), cwd=project)
        assert (completed.returncode, "in the past of at most 10 d" in completed.stderr) == (2, True)


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
