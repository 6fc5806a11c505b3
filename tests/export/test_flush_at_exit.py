"""Telemetry that is queued when a process ends is exported; `docs/explanation/process-exit.md` has the same table."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from support.otlp import HttpSink
from support.process import Service, free_port, granian, gunicorn, hypercorn, uvicorn, wait_for

StartServer = Callable[[str, dict[str, str]], Service]
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "process-exit.md"
REQUESTS = 6

SERVERS: dict[str, StartServer] = {
    "uvicorn": lambda app, env: uvicorn(app, env=env),
    "uvicorn, `--lifespan off`": lambda app, env: uvicorn(app, "--lifespan", "off", env=env),
    "uvicorn, `--workers 2`": lambda app, env: uvicorn(app, "--workers", "2", env=env),
    "gunicorn with uvicorn workers": lambda app, env: gunicorn(app, workers=1, env=env),
    "hypercorn, `--workers 0`": lambda app, env: hypercorn(app, workers=0, env=env),
    "hypercorn": lambda app, env: hypercorn(app, workers=1, env=env),
    "granian": lambda app, env: granian(app, workers=1, env=env),
}
RECYCLING_SERVERS: dict[str, StartServer] = {
    "uvicorn, `--limit-max-requests`": lambda app, env: uvicorn(app, "--limit-max-requests", str(REQUESTS), env=env),
    "gunicorn with uvicorn workers, `--max-requests`": lambda app, env: gunicorn(
        app, "--max-requests", str(REQUESTS), workers=1, env=env
    ),
}


class ScriptEnding(NamedTuple):
    """The last statement of a script, and whether telemetry that is queued then is exported."""

    description: str
    statement: str
    is_exported: bool = True


SCRIPT = """
import multiprocessing, os, signal, sys, time
from concurrent.futures import ProcessPoolExecutor
import connectsoft_obs as obs
obs.configure(service="script")
def run(*_):
    with obs.operation("import"):
        pass
if __name__ == "__main__":
    {statement}
"""

SCRIPT_ENDINGS = [
    ScriptEnding("end of the script", "run()"),
    ScriptEnding("`sys.exit`", "run(); sys.exit(3)"),
    ScriptEnding("an exception that is not caught", "run(); 1 / 0"),
    ScriptEnding("Ctrl-C (SIGINT)", "run(); os.kill(os.getpid(), signal.SIGINT); time.sleep(9)"),
    *(
        ScriptEnding(
            f"end of a `multiprocessing` child, `{method}`",
            f"process = multiprocessing.get_context({method!r}).Process(target=run); process.start(); process.join()",
        )
        for method in ("fork", "spawn", "forkserver")
    ),
    ScriptEnding(
        "end of a `multiprocessing.Pool` that was closed",
        "pool = multiprocessing.get_context('fork').Pool(1); pool.map(run, [1]); pool.close(); pool.join()",
    ),
    ScriptEnding(
        "end of a `ProcessPoolExecutor`",
        "executor = ProcessPoolExecutor(1); executor.submit(run).result(); executor.shutdown()",
    ),
    ScriptEnding("SIGTERM without a handler", "run(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", False),
    ScriptEnding("SIGKILL", "run(); os.kill(os.getpid(), signal.SIGKILL)", False),
    ScriptEnding("`os._exit`", "run(); os._exit(0)", False),
]


def environment(sink: HttpSink) -> dict[str, str]:
    """Environment that exports so rarely that only the flush at the end sends anything."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        "OTEL_BSP_SCHEDULE_DELAY": "60000",
        "OTEL_METRIC_EXPORT_INTERVAL": "60000",
        "CONNECTSOFT_OBS_DRAIN_DELAY": "0",
    }


def send_requests(service: Service) -> None:
    for _ in range(REQUESTS):
        httpx.get(f"{service.url}/x")


@pytest.mark.parametrize("app", ["no_lifespan:app", "outcomes:app"])
@pytest.mark.parametrize("server", SERVERS)
def test_server_exports_queued_telemetry_after_sigterm(server: str, app: str) -> None:
    with HttpSink() as sink, SERVERS[server](app, environment(sink)) as service:
        service.wait_until_ready("/health/live")
        send_requests(service)
        service.stop(signal.SIGTERM)
        assert len(sink.received.spans) == REQUESTS, service.output
        assert sink.received.metric("http.server.request.duration") is not None, service.output


@pytest.mark.parametrize("server", RECYCLING_SERVERS)
def test_recycled_worker_exports_queued_telemetry(server: str) -> None:
    with HttpSink() as sink, RECYCLING_SERVERS[server]("no_lifespan:app", environment(sink)) as service:
        wait_for(lambda: httpx.get(f"{service.url}/x").status_code == 200, 15)
        for _ in range(REQUESTS - 1):
            httpx.get(f"{service.url}/x")
        wait_for(lambda: len(sink.received.spans) >= REQUESTS, 15, "spans of the worker that has ended")


@pytest.mark.parametrize("ending", SCRIPT_ENDINGS, ids=lambda ending: ending.description)
def test_script_exports_queued_telemetry(ending: ScriptEnding, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(statement=ending.statement))
    with HttpSink() as sink, Service([sys.executable, str(script)], free_port(), environment(sink)) as process:
        process.process.wait(20)
        assert len(sink.received.spans) == int(ending.is_exported), process.output


def test_table_of_the_documentation_lists_the_tested_endings() -> None:
    rows = [
        *(f"| {server} | SIGTERM | yes |" for server in SERVERS),
        *(f"| {server} | recycled worker | yes |" for server in RECYCLING_SERVERS),
        *(f"| script | {ending.description} | {'yes' if ending.is_exported else 'no'} |" for ending in SCRIPT_ENDINGS),
    ]
    page = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert page[1:] == rows
