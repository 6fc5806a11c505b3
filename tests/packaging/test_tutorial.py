"""Runs the files of the tutorial and compares the results with what the page shows."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.process import Service, free_port, wait_for
from support.scrape import scrape
from support.scripts import run_script
from support.terminal import TerminalService

import connectsoft_obs
from connectsoft_obs import testing

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "tutorial.md").read_text()


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that a reader has at the end of the tutorial."""
    directory = tmp_path_factory.mktemp("shop")
    app, check, test, worker = code_blocks("python")
    (directory / "app.py").write_text(f"{app}\n\n{check}")
    (directory / "test_app.py").write_text(test)
    (directory / "worker.py").write_text(worker)
    (directory / "slo.toml").write_text(code_blocks("toml")[0])
    return directory


def start(folder: Path, *command: str, port: int, **env: str) -> Service:
    program = (
        f"import os, runpy, sys; os.chdir({str(folder)!r}); sys.path.insert(0, ''); sys.argv = {list(command)!r}; "
    )
    run = "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
    return Service([sys.executable, "-c", program + run], port, env)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    port = free_port()
    env = {"CONNECTSOFT_OBS_ENVIRONMENT": "development", "CONNECTSOFT_OBS_SLO_FILE": "slo.toml"}
    with start(
        folder, "uvicorn", "app:app", "--port", str(port), OTEL_TRACES_EXPORTER="console", **env, port=port
    ) as process:
        yield process.wait_until_ready("/health/live")


def test_the_check_fails_until_the_file_exists(folder: Path, service: Service) -> None:
    wait_for(lambda: "stock.db is gone" in httpx.get(f"{service.url}/health/ready").text, 10)
    assert httpx.get(f"{service.url}/health/ready").status_code == 503
    assert httpx.get(f"{service.url}/health/live").status_code == 200
    (folder / "stock.db").touch()
    service.wait_until_ready(seconds=15)


def test_requests_produce_the_lines_series_and_spans_shown(service: Service) -> None:
    statuses = [httpx.get(f"{service.url}/orders/{number}").status_code for number in (42, 13, 500)]
    assert statuses == [200, 500, 404]
    shown = [row for row in code_blocks("text")[0].splitlines() if "order_id=" in row]

    def order_lines() -> list[dict[str, Any]]:
        return [line for line in service.json_lines if "order_id" in line]

    wait_for(lambda: len(order_lines()) >= len(shown), 10, "one log line for each line shown")
    assert len(order_lines()) == len(shown)
    for series in re.findall(r"^(http_server_request_duration_seconds_count\{.*\}) 1$", PAGE, flags=re.MULTILINE):
        assert f"{series} 1" in scrape(service.url).text
    wait_for(lambda: '"name": "price"' in "".join(service.stderr_lines), 10, "spans on standard error")
    page = scrape(service.url)
    assert page.sum("connectsoft_slo_events_total", connectsoft_slo_outcome="good") == 2, "42, and the 404"
    assert page.sum("connectsoft_slo_events_total", connectsoft_slo_outcome="bad") == 1


def test_output_on_a_terminal_equals_the_tutorial(folder: Path) -> None:
    env = {"CONNECTSOFT_OBS_ENVIRONMENT": "development", "OTEL_TRACES_EXPORTER": "console"}
    with TerminalService("app:app", 100, env, folder) as service:
        service.wait_until_live()
        for number in (42, 13, 500):
            httpx.get(f"{service.url}/orders/{number}", timeout=20)
        wait_for(lambda: "/orders/500" in service.output, 20)
        service.stop()
    output = "\n".join(map(comparable, service.rows))
    log_rows, tree = (block.splitlines() for block in code_blocks("text")[:2])
    assert "\n".join(map(comparable, tree)) in output
    for row in log_rows:
        assert comparable(row) in output.splitlines(), output


def comparable(row: str) -> str:
    """A row of the terminal without time, ids, durations, and fields that do not fit at other widths."""
    row = re.sub(r"^[\d:.]{12} ", "", row)
    row = re.sub(r"\b([0-9a-f]{32}|[0-9a-f]{8})\b", "ID", row)
    row = re.sub(r" ((route|bytes)=.*|\w*…)$", "", row.removesuffix(" ID"))
    row = re.sub(r"\d+ frames", "N frames", re.sub(r"[\d.]+ m?s", "N ms", row))
    return re.sub(r" +", " ", row).strip()


def test_output_of_slo_commands_equals_the_tutorial(folder: Path) -> None:
    code = "import sys; from connectsoft_obs.__main__ import main; sys.exit(main())"
    explanation = run_script(code, "slo", "explain", str(folder / "slo.toml"), env={"COLUMNS": "160"})
    assert explanation.exit_code == 0, explanation.stderr
    for quoted in ("3 h 36 min", "4 min 19 s"):
        assert quoted in explanation.stdout
        assert quoted in PAGE
    generated = run_script(
        code, "slo", "generate", str(folder / "slo.toml"), "-t", "prometheus", "-o", str(folder / "alerts")
    )
    assert generated.exit_code == 0, generated.stderr
    assert (folder / "alerts" / "shop.rules.yaml").is_file()


def test_the_shown_test_detects_a_change_of_the_service(folder: Path) -> None:
    code = f"import os, pytest, sys; os.chdir({str(folder)!r}); sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider']))"
    assert run_script(code).exit_code == 0
    app = (folder / "app.py").read_text()
    (folder / "app.py").write_text(app.replace('log.info("priced"', 'log.info("cheap"'))
    try:
        result = run_script(code)
        assert result.exit_code == 1
        assert "expected one log line, found 0" in result.stdout
    finally:
        (folder / "app.py").write_text(app)


def test_the_worker_counts_its_runs_and_stops(folder: Path) -> None:
    port = free_port()
    env = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    with start(folder, "worker", port=port, **env) as worker:
        worker.wait_until_ready()
        wait_for(lambda: scrape(worker.url).sum("connectsoft_job_duration_seconds_count") >= 1, 10)
        assert worker.stop() == 0


def test_the_reference_lists_every_public_name() -> None:
    page = (DOCS / "reference" / "api.md").read_text()
    for module in (connectsoft_obs, testing):
        missing = [name for name in module.__all__ if f"{module.__name__}.{name}" not in page]
        assert missing == []


def test_json_blocks_are_valid_json() -> None:
    for page in DOCS.rglob("*.md"):
        for block in re.findall(r"^```json\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL):
            json.loads(block)
