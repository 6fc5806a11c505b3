"""Reports, gates and live checks with a real Prometheus, whose history contains a known number of events."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cli import run_slo_command
from support.process import free_port, wait_for
from support.prometheus_backfill import TILE_SECONDS, budget_samples, prometheus_with_history, tile_samples
from support.servers import Prometheus

from connectsoft_obs import slo
from connectsoft_obs.ops.slo.report.plot import line_chart
from connectsoft_obs.slo.loader import to_toml

DAY = 86400
NOW = int(time.time()) // TILE_SECONDS * TILE_SECONDS
INCIDENT_START = NOW - 3 * DAY
SERVICE_SLOS = slo.ServiceSLOs(
    service="shop",
    slos=(
        # No service runs, so the data ends when the server starts.
        slo.availability("api", 99.9, alerting=slo.Alerting(no_data=False)),
        slo.availability("overspent", 99.9, alerting=slo.Alerting(no_data=False)),
        slo.availability("no-data", 99.9),
    ),
    interval=1,
    scrape_interval=1,
    team="sales",
)


def api_rates(time: float) -> tuple[float, float]:
    """Ten requests per second; half of them failed for twenty minutes three days ago: 6,000 of 25,920 allowed."""
    return 10.0, 5.0 if INCIDENT_START < time <= INCIDENT_START + 1200 else 0.0


def overspent_rates(time: float) -> tuple[float, float]:
    """Ten requests per second; 0.2 % of them fail all the time, which is twice the error budget."""
    return 10.0, 0.02


@pytest.fixture(scope="module")
def server() -> Iterator[Prometheus]:
    rates, start = {"api": api_rates, "overspent": overspent_rates}, NOW - 62 * DAY
    history = [*tile_samples(SERVICE_SLOS, rates, start, NOW), *budget_samples(SERVICE_SLOS, rates, start, NOW)]
    with prometheus_with_history(SERVICE_SLOS, history) as prometheus:
        # Prometheus evaluates the rule group of each SLO at a different time.
        remaining = 'slo:period_error_budget_remaining:ratio{slo=~"api|overspent"}'
        wait_for(lambda: len(prometheus.query(remaining)) == len(rates), 30, "the rules of both SLOs were evaluated")
        yield prometheus


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "slo.toml").write_text(to_toml(SERVICE_SLOS))
    return tmp_path


def test_report_numbers_equal_the_event_count(server: Prometheus, project: Path) -> None:
    timestamp = f"{datetime.fromtimestamp(NOW, UTC):%Y-%m-%dT%H:%M:%S}"
    completed = run_slo_command(
        "report", "--prometheus", server.url, "--at", timestamp, "--format", "json", cwd=project
    )
    assert completed.returncode == 0, completed.stderr
    [status] = [status for status in json.loads(completed.stdout) if status["id"] == "shop-api"]
    assert status["bad"] == pytest.approx(6_000, abs=1)
    assert status["good"] + status["bad"] == pytest.approx(10 * 30 * DAY, rel=1e-3)
    assert status["allowed"] == pytest.approx(25_920, rel=1e-3)
    assert status["budget_minutes"] == pytest.approx(43.2)
    [incident] = status["incidents"]
    assert (incident["start"], incident["end"]) == (INCIDENT_START, INCIDENT_START + 1200)
    assert incident["peak_error_ratio"] == pytest.approx(0.5)
    assert incident["budget_spent"] == pytest.approx(6_000 / 25_920, rel=1e-3)
    assert sum(month["bad"] for month in status["months"]) == pytest.approx(6_000, abs=1)


def test_report_is_a_markdown_page_with_plots(server: Prometheus, project: Path) -> None:
    completed = run_slo_command("report", "--prometheus", server.url, "-o", "report", cwd=project)
    assert completed.returncode == 0, completed.stderr
    page = (project / "report" / "shop.report.md").read_text()
    rows = {line.split(":")[0].strip("| "): line for line in page.splitlines() if line.startswith("| shop-")}
    assert "| ok | 76.9 % |" in rows["shop-api"]
    assert "| freeze | -100" in rows["shop-overspent"]
    assert "| unknown | unknown |" in rows["shop-no-data"]
    # 6,000 of 25,920, or of slightly fewer: there are no events since the history was written.
    assert re.search(r"20 min \| 6,000 \| 50 % \| 23\.[1-4] % \|", page)
    for link in (line for line in page.splitlines() if line.startswith("![")):
        plot = ElementTree.parse(project / "report" / link.split("(")[1].rstrip(")"))  # noqa: S314  a generated file
        assert plot.getroot().tag.endswith("svg")
    budget_plot = (project / "report" / "shop-api-budget.svg").read_text()
    assert "review at 25 %" in budget_plot
    assert (project / "report" / "shop-api-burn.svg").exists()
    if directory := os.environ.get("PREVIEWS"):  # updates the picture in the documentation
        shutil.copy(project / "report" / "shop-api-budget.svg", Path(directory) / "slo-budget.svg")


def test_report_of_one_calendar_month(server: Prometheus, project: Path) -> None:
    month = f"{datetime.fromtimestamp(INCIDENT_START, UTC):%Y-%m}"
    completed = run_slo_command("report", "--prometheus", server.url, "--month", month, cwd=project)
    assert completed.returncode == 0, completed.stderr
    row = next(line for line in completed.stdout.splitlines() if line.startswith("| shop-api "))
    assert "| 6,000 |" in row
    empty_month = run_slo_command("report", "--prometheus", server.url, "--month", "2020-01", cwd=project)
    assert "no events" in empty_month.stdout


def test_gate_fails_without_budget_and_without_data(server: Prometheus, project: Path) -> None:
    def gate_exit_code(*arguments: str) -> int:
        return run_slo_command("gate", "--prometheus", server.url, *arguments, cwd=project).returncode

    assert gate_exit_code("--name", "api") == 0
    assert gate_exit_code("--name", "api", "--min-remaining", "80") == 1
    assert gate_exit_code("--name", "overspent") == 1
    assert gate_exit_code("--name", "no-data") == 1
    assert gate_exit_code("--name", "no-data", "--unknown", "pass") == 0
    assert gate_exit_code() == 1


def test_gate_exits_with_2_when_the_server_does_not_answer(project: Path) -> None:
    completed = run_slo_command("gate", "--prometheus", f"http://127.0.0.1:{free_port()}", cwd=project)
    assert (completed.returncode, "does not answer" in completed.stderr, "Traceback" in completed.stderr) == (
        2,
        True,
        False,
    )


def test_lint_checks_series_on_a_server(server: Prometheus, project: Path) -> None:
    completed = run_slo_command("lint", "--prometheus", server.url, "--json", cwd=project)
    assert completed.returncode == 1
    findings = {(finding["code"], finding["subject"]) for finding in json.loads(completed.stdout)}
    assert {("no-target", "shop"), ("no-series", "shop-api"), ("not-recorded", "shop-no-data")} <= findings


def test_token_is_sent_as_bearer_token(project: Path) -> None:
    requests: list[tuple[str, str | None]] = []

    class QueryEndpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append((self.path, self.headers["Authorization"]))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"data": {"result": [{"metric": {}, "value": [0, "0.5"]}]}}')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), QueryEndpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        completed = run_slo_command("gate", "--prometheus", url, "--token", "secret", cwd=project)
        server.shutdown()
    assert completed.returncode == 0, completed.stderr
    assert set(requests) == {("/api/v1/query", "Bearer secret")}


@given(st.lists(st.floats(-1e6, 1e6) | st.sampled_from([33.3333333333, 33.3333333334, math.inf, math.nan]), max_size=6))
def test_line_chart_is_valid_svg_for_any_numbers(values: list[float]) -> None:
    svg = line_chart("x", [("a", [(NOW + 300.0 * index, value) for index, value in enumerate(values)])], NOW, NOW + DAY)
    ElementTree.fromstring(svg)  # noqa: S314  generated text
    assert "nan" not in svg
    assert ("no data" in svg) is not any(math.isfinite(value) for value in values)


def test_gate_does_not_need_promtool(project: Path, server: Prometheus) -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "connectsoft_obs", "slo", "gate", "--name", "api"],
        cwd=project, env={"PATH": "", "PROMETHEUS_URL": server.url}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
