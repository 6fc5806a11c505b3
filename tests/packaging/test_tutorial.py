"""The tutorial is true: its files, written by its own words, do what it shows."""

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
from support.scripts import run

import connectsoft_obs
from connectsoft_obs import testing

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "tutorial.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has at the end."""
    place = tmp_path_factory.mktemp("shop")
    app, check, test, worker = blocks("python")
    (place / "app.py").write_text(f"{app}\n\n{check}")
    (place / "test_app.py").write_text(test)
    (place / "worker.py").write_text(worker)
    (place / "slo.toml").write_text(blocks("toml")[0])
    return place


def started(folder: Path, *command: str, port: int, **env: str) -> Service:
    program = (
        f"import os, runpy, sys; os.chdir({str(folder)!r}); sys.path.insert(0, ''); sys.argv = {list(command)!r}; "
    )
    begin = "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
    return Service([sys.executable, "-c", program + begin], port, env)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    port = free_port()
    env = {"CONNECTSOFT_OBS_ENVIRONMENT": "development", "CONNECTSOFT_OBS_SLO_FILE": "slo.toml"}
    with started(
        folder, "uvicorn", "app:app", "--port", str(port), OTEL_TRACES_EXPORTER="console", **env, port=port
    ) as one:
        yield one.ready("/health/live")


def test_the_check_fails_with_its_reason_until_the_file_is_there(folder: Path, service: Service) -> None:
    wait_for(lambda: "stock.db is gone" in httpx.get(f"{service.url}/health/ready").text, 10)
    assert httpx.get(f"{service.url}/health/ready").status_code == 503
    assert httpx.get(f"{service.url}/health/live").status_code == 200
    (folder / "stock.db").touch()
    service.ready(seconds=15)


def test_the_requests_give_the_lines_series_and_spans_that_are_shown(service: Service) -> None:
    statuses = [httpx.get(f"{service.url}/orders/{number}").status_code for number in (42, 13, 500)]
    assert statuses == [200, 500, 404]
    shown = blocks("text")[0].splitlines()

    def told() -> list[dict[str, Any]]:
        return [line for line in service.lines if "order_id" in line]

    wait_for(lambda: len(told()) >= len(shown), 10, "a line for each that is shown")
    assert len(told()) == len(shown)
    for line in told():
        assert any(line["message"] in one and f"order_id={line['order_id']}" in one for one in shown), line["message"]
    for series in re.findall(r"^(http_server_request_duration_seconds_count\{.*\}) 1$", PAGE, flags=re.MULTILINE):
        assert f"{series} 1" in scrape(service.url).text
    wait_for(lambda: '"name": "run price"' in "".join(service.err), 10, "spans on standard error")
    page = scrape(service.url)
    assert page.sum("connectsoft_slo_events_total", connectsoft_slo_outcome="good") == 2, "42, and the 404"
    assert page.sum("connectsoft_slo_events_total", connectsoft_slo_outcome="bad") == 1


def test_the_commands_of_the_promise_say_what_is_quoted(folder: Path) -> None:
    call = "import sys; from connectsoft_obs.__main__ import main; sys.exit(main())"
    said = run(call, "slo", "explain", str(folder / "slo.toml"), env={"COLUMNS": "160"})
    assert said.code == 0, said.err
    for quoted in ("3 h 36 min", "4 min 19 s"):
        assert quoted in said.out
        assert quoted in PAGE
    made = run(call, "slo", "generate", str(folder / "slo.toml"), "-t", "prometheus", "-o", str(folder / "alerts"))
    assert made.code == 0, made.err
    assert (folder / "alerts" / "shop.rules.yaml").is_file()


def test_the_test_passes_and_fails_when_the_service_changes(folder: Path) -> None:
    call = f"import os, pytest, sys; os.chdir({str(folder)!r}); sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider']))"
    assert run(call).code == 0
    app = (folder / "app.py").read_text()
    (folder / "app.py").write_text(app.replace('log.info("priced"', 'log.info("cheap"'))
    try:
        broken = run(call)
        assert broken.code == 1
        assert "expected one log line, found 0" in broken.out
    finally:
        (folder / "app.py").write_text(app)


def test_the_worker_counts_its_runs_and_ends_when_it_is_told_to(folder: Path) -> None:
    port = free_port()
    env = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    with started(folder, "worker", port=port, **env) as worker:
        worker.ready()
        wait_for(lambda: scrape(worker.url).sum("connectsoft_job_duration_seconds_count") >= 1, 10)
        assert worker.stop() == 0


def test_the_reference_has_every_public_name() -> None:
    page = (DOCS / "reference" / "api.md").read_text()
    for module in (connectsoft_obs, testing):
        missing = [name for name in module.__all__ if f"{module.__name__}.{name}" not in page]
        assert missing == []


def test_no_block_shows_a_json_that_is_none() -> None:
    for page in DOCS.rglob("*.md"):
        for block in re.findall(r"^```json\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL):
            json.loads(block)
