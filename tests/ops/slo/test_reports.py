"""Reports, gates and questions to a real Prometheus that remembers a month of which every event is known."""

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
from support.cli import run
from support.process import free_port, wait_for
from support.prometheus_backfill import TILE, remembering, standings, tiles
from support.servers import Prometheus

from connectsoft_obs import slo
from connectsoft_obs.ops.slo.report.plot import lines
from connectsoft_obs.slo.loader import to_toml

DAY = 86400
NOW = int(time.time()) // TILE * TILE
INCIDENT = NOW - 3 * DAY
PROMISES = slo.ServiceSLOs(
    service="shop",
    slos=(slo.availability("api", 99.9), slo.availability("spent", 99.9), slo.availability("dark", 99.9)),
    interval=1,
    scrape_interval=1,
    team="sales",
)


def api(at: float) -> tuple[float, float]:
    """Ten requests a second; half of them fail for twenty minutes three days ago: 6,000 of the 25,920 allowed."""
    return 10.0, 5.0 if INCIDENT < at <= INCIDENT + 1200 else 0.0


def spent(at: float) -> tuple[float, float]:
    """Two permille fail all the time, which is twice what is allowed."""
    return 10.0, 0.02


@pytest.fixture(scope="module")
def server() -> Iterator[Prometheus]:
    rates, start = {"api": api, "spent": spent}, NOW - 62 * DAY
    past = [*tiles(PROMISES, rates, start, NOW), *standings(PROMISES, rates, start, NOW)]
    with remembering(PROMISES, past) as found:
        # Each promise is a group of rules, evaluated when its turn comes.
        left = 'slo:period_error_budget_remaining:ratio{slo=~"api|spent"}'
        wait_for(lambda: len(found.query(left)) == len(rates), 30, "the rules of both were evaluated")
        yield found


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "slo.toml").write_text(to_toml(PROMISES))
    return tmp_path


def test_a_report_says_what_counting_says(server: Prometheus, here: Path) -> None:
    moment = f"{datetime.fromtimestamp(NOW, UTC):%Y-%m-%dT%H:%M:%S}"
    done = run("report", "--prometheus", server.url, "--at", moment, "--format", "json", cwd=here)
    assert done.returncode == 0, done.stderr
    by_name = {one["id"]: one for one in json.loads(done.stdout)}
    one = by_name["shop-api"]
    assert one["bad"] == pytest.approx(6_000, abs=1)
    assert one["good"] + one["bad"] == pytest.approx(10 * 30 * DAY, rel=1e-3)
    assert one["allowed"] == pytest.approx(25_920, rel=1e-3)
    assert one["budget_minutes"] == pytest.approx(43.2)
    [incident] = one["incidents"]
    assert (incident["start"], incident["end"]) == (INCIDENT, INCIDENT + 1200)
    assert incident["worst"] == pytest.approx(0.5)
    assert incident["spent"] == pytest.approx(6_000 / 25_920, rel=1e-3)
    months = {month["name"]: month for month in one["months"]}
    assert sum(month["bad"] for month in months.values()) == pytest.approx(6_000, abs=1)


def test_a_report_is_a_page_with_plots(server: Prometheus, here: Path) -> None:
    done = run("report", "--prometheus", server.url, "-o", "report", cwd=here)
    assert done.returncode == 0, done.stderr
    page = (here / "report" / "shop.report.md").read_text()
    rows = {line.split(":")[0].strip("| "): line for line in page.splitlines() if line.startswith("| shop-")}
    assert "| ok | 76.9 % |" in rows["shop-api"]
    assert "| freeze | -100" in rows["shop-spent"]
    assert "| unknown | unknown |" in rows["shop-dark"]
    # 6,000 of 25,920, or of a few less: nothing has happened since the history was made.
    assert re.search(r"20 min \| 6,000 \| 50 % \| 23\.[1-4] % \|", page)
    for link in (line for line in page.splitlines() if line.startswith("![")):
        picture = ElementTree.parse(here / "report" / link.split("(")[1].rstrip(")"))  # noqa: S314  our own file
        assert picture.getroot().tag.endswith("svg")
    drawn = (here / "report" / "shop-api-budget.svg").read_text()
    assert "review at 25 %" in drawn
    assert (here / "report" / "shop-api-burn.svg").exists()
    if place := os.environ.get("PREVIEWS"):  # the picture in the docs
        shutil.copy(here / "report" / "shop-api-budget.svg", Path(place) / "slo-budget.svg")


def test_one_calendar_month_is_reported_by_itself(server: Prometheus, here: Path) -> None:
    month = f"{datetime.fromtimestamp(INCIDENT, UTC):%Y-%m}"
    done = run("report", "--prometheus", server.url, "--month", month, cwd=here)
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| shop-api "))
    assert "| 6,000 |" in row
    nothing = run("report", "--prometheus", server.url, "--month", "2020-01", cwd=here)
    assert "no events" in nothing.stdout


def test_the_gate_stops_what_has_no_budget_and_what_nobody_knows(server: Prometheus, here: Path) -> None:
    def gate(*arguments: str) -> int:
        return run("gate", "--prometheus", server.url, *arguments, cwd=here).returncode

    assert gate("--name", "api") == 0
    assert gate("--name", "api", "--min-remaining", "80") == 1
    assert gate("--name", "spent") == 1
    assert gate("--name", "dark") == 1
    assert gate("--name", "dark", "--unknown", "pass") == 0
    assert gate() == 1


def test_a_server_that_does_not_answer_is_neither_a_pass_nor_a_stop(here: Path) -> None:
    done = run("gate", "--prometheus", f"http://127.0.0.1:{free_port()}", cwd=here)
    assert (done.returncode, "does not answer" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_lint_asks_a_server_whether_the_series_are_there(server: Prometheus, here: Path) -> None:
    done = run("lint", "--prometheus", server.url, "--json", cwd=here)
    assert done.returncode == 1
    found = {(one["code"], one["about"]) for one in json.loads(done.stdout)}
    assert {("no-target", "shop"), ("no-series", "shop-api"), ("not-recorded", "shop-dark")} <= found


def test_a_token_travels_as_azure_monitor_wants_it(here: Path) -> None:
    asked: list[tuple[str, str | None]] = []

    class Workspace(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"data": {"result": [{"metric": {}, "value": [0, "0.5"]}]}}')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Workspace) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        done = run("gate", "--prometheus", url, "--token", "secret", cwd=here)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert set(asked) == {("/api/v1/query", "Bearer secret")}


@given(st.lists(st.floats(-1e6, 1e6) | st.sampled_from([33.3333333333, 33.3333333334, math.inf, math.nan]), max_size=6))
def test_any_numbers_make_a_picture(values: list[float]) -> None:
    picture = lines("x", [("a", [(NOW + 300.0 * index, value) for index, value in enumerate(values)])], NOW, NOW + DAY)
    ElementTree.fromstring(picture)  # noqa: S314  our own text
    assert "nan" not in picture
    assert ("no data" in picture) is not any(math.isfinite(value) for value in values)


def test_promtool_is_not_needed_to_ask(here: Path, server: Prometheus) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "connectsoft_obs", "slo", "gate", "--name", "api"],
        cwd=here, env={"PATH": "", "PROMETHEUS_URL": server.url}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
