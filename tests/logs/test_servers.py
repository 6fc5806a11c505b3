"""Logs under every ASGI server: one stream and one schema, no duplicates, correlated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.process import Service, wait_for
from support.webservers import LAUNCHERS
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect


@pytest.fixture(scope="module", params=list(LAUNCHERS))
def service_logs(request: pytest.FixtureRequest) -> Any:
    """A service after one request of each kind, its JSON lines and its metrics page."""
    with LAUNCHERS[request.param]("chatty_logging:app", env={"PYTHONWARNINGS": "default"}) as service:
        service.wait_until_ready()
        codes = [httpx.get(service.url + path).status_code for path in ("/log", "/sync", "/threads-and-tasks", "/boom")]
        codes.append(httpx.get(f"{service.url}/unhandled").status_code)
        assert codes == [200, 200, 200, 500, 200]
        wait_for(lambda: "from a background task" in service.output, 5, "the background task's line")
        page = httpx.get(f"{service.url}/metrics").text
        service.stop()
        yield service, [json.loads(line) for line in service.stdout_lines if line.startswith("{")], page


def by_logger(lines: list[dict[str, Any]], logger: str) -> list[dict[str, Any]]:
    return [line for line in lines if line.get("logger") == logger]


def test_lines_of_a_worker_are_json_objects_in_one_schema(service_logs: Any) -> None:
    service, lines, _ = service_logs
    # Granian's main process, which does not load the application, writes its own lines to the same pipe.
    other_lines = [line for line in service.stdout_lines if not line.startswith(("{", "[INFO]"))]
    assert other_lines == []
    assert len(lines) > 15
    for line in lines:
        assert list(line)[:4] == ["timestamp", "severity", "message", "logger"]
        assert line["service.name"] == "chatty"


def test_records_of_each_api_are_written_once(service_logs: Any) -> None:
    _, lines, _ = service_logs
    messages = [line["message"] for line in lines]
    for message in ("native", "structlog", "standard 3", "UserWarning: a warning", "from a sync endpoint"):
        assert messages.count(message) == 1, message
    assert {line["number"] for line in lines if "number" in line} == {1, 2, 3}


def test_access_log_of_the_server_is_replaced(service_logs: Any) -> None:
    service, lines, _ = service_logs
    routes = ["/log", "/sync", "/threads-and-tasks", "/boom", "/unhandled"]
    assert sorted(line["http.route"] for line in by_logger(lines, "connectsoft_obs.access")) == sorted(routes)
    assert not [
        line
        for line in [*service.stdout_lines, *service.stderr_lines]
        if "GET /log" in line and "connectsoft_obs" not in line
    ]


@pytest.mark.parametrize("server", LAUNCHERS)
def test_handshake_line_of_the_server_is_replaced_by_one_without_query(server: str) -> None:
    with LAUNCHERS[server]("outcomes:app") as service:
        service.wait_until_ready()
        for path in ("/ws/closes", "/ws/rejects", "/nowhere"):
            with (
                suppress(WebSocketException),
                connect(f"{service.url.replace('http', 'ws')}{path}?code=SECRET") as connection,
            ):
                connection.recv()
        wait_for(lambda: len(access_lines(service)) == 3, 10, "three access lines")
        service.stop()
    assert [line.get("http.route") for line in access_lines(service)] == ["/ws/closes", "/ws/rejects", None]
    assert "code=" not in service.output


def access_lines(service: Service) -> list[dict[str, Any]]:
    return by_logger(service.json_lines, "connectsoft_obs.access")


def test_time_of_an_exception_is_not_after_its_access_line(service_logs: Any) -> None:
    _, lines, _ = service_logs
    [access_time] = [line["timestamp"] for line in lines if line["message"] == "GET /boom 500"]
    [exception_time] = [line["timestamp"] for line in by_logger(lines, "connectsoft_obs.request")]
    assert exception_time <= access_time


def test_exception_is_logged_once(service_logs: Any, request: pytest.FixtureRequest) -> None:
    service, lines, page = service_logs
    records = [line for line in lines if line.get("exception.type") == "ValueError"]
    assert [line["otel.event.name"] for line in records] == ["http.server.request.exception"]
    assert records[0]["trace_id"] == next(line for line in lines if line["message"] == "GET /boom 500")["trace_id"]
    assert service.output.count("it broke") - records[0]["exception.stacktrace"].count("it broke") == 1
    if request.node.callspec.params["service_logs"] != "gunicorn_asgi":  # does not log after the error page is sent
        assert (
            'connectsoft_obs_dropped_total{connectsoft_obs_signal="logs",connectsoft_obs_reason="already_reported"}'
            in page
        )
    assert "Traceback" not in "".join(service.stderr_lines)


def test_uncaught_exceptions_have_one_line_each(service_logs: Any) -> None:
    _, lines, _ = service_logs
    [task] = [line for line in lines if line.get("exception.type") == "RuntimeError"]
    [thread] = [line for line in lines if line.get("exception.type") == "LookupError"]
    assert (task["logger"], task["severity"]) == ("asyncio", "ERROR")
    assert task["message"].startswith("Task exception was never retrieved")
    assert "never-awaited" in task["connectsoft.asyncio.source"]
    assert (thread["logger"], thread["thread.name"]) == ("python", "worker-7")


def test_lines_from_threads_and_tasks_have_the_trace_of_the_request(service_logs: Any) -> None:
    _, lines, _ = service_logs
    messages = [
        "from an executor", "standard from an executor", "from to_thread", "from a task", "from a background task",
        "GET /threads-and-tasks 200",
    ]  # fmt: skip
    request_lines = [line for line in lines if line["message"] in messages]
    assert len(request_lines) == len(messages)
    assert len({(line["trace_id"], line["connectsoft.correlation.id"]) for line in request_lines}) == 1


def test_secret_in_an_exception_is_redacted(service_logs: Any) -> None:
    service, _, _ = service_logs
    assert "hunter2" not in service.output
    assert "password=REDACTED" in service.output


def test_lifecycle_records_of_the_server_are_in_the_pipeline(service_logs: Any, request: pytest.FixtureRequest) -> None:
    _, lines, _ = service_logs
    name = request.node.callspec.params["service_logs"]
    loggers = {"uvicorn": "uvicorn.error", "gunicorn": "uvicorn.error", "gunicorn_asgi": "gunicorn.error"}
    if name in loggers:
        assert by_logger(lines, loggers[name])
    if name == "uvicorn":
        assert lines[-1]["message"].startswith("Finished server process")


def test_two_workers_of_uvicorn_write_no_duplicates() -> None:
    with LAUNCHERS["uvicorn"]("chatty_logging:app", workers=2) as service:
        service.wait_until_ready()
        for _ in range(20):
            assert httpx.get(f"{service.url}/log").status_code == 200
        service.stop()
    assert not [line for line in service.stdout_lines if not line.startswith("{")]
    lines = service.json_lines
    assert len([line for line in lines if line["message"] == "native"]) == 20
    assert len([line for line in lines if line["message"] == "standard 3"]) == 20


def test_reload_writes_no_duplicates(tmp_path: Path) -> None:
    source = tmp_path / "four_signals.py"
    source.write_text("")
    with LAUNCHERS["uvicorn"]("chatty_logging:app", "--reload", "--reload-dir", str(tmp_path)) as service:
        service.wait_until_ready()
        assert httpx.get(f"{service.url}/log").status_code == 200
        source.write_text("# changed")
        os.utime(source, (2e9, 2e9))
        wait_for(
            lambda: "Reloading" in service.output and service.output.count("observability configured") == 2,
            15,
            "a reload",
        )
        service.wait_until_ready()
        assert httpx.get(f"{service.url}/log").status_code == 200
        service.stop()
    messages = [line["message"] for line in service.json_lines]
    for message in ("native", "structlog", "standard 3", "GET /log 200"):
        assert messages.count(message) == 2, message


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_console_profile_is_used_on_a_terminal() -> None:
    code = "import connectsoft_obs as obs\nobs.get_logger('orders').info('order placed', order_id=42)\n"
    outputs = {}
    for profile in ({}, {"CONNECTSOFT_OBS_LOG_PROFILE": "otel"}):
        parent_fd, child_fd = os.openpty()
        env = {"PATH": os.environ["PATH"], **profile}
        completed = subprocess.run([sys.executable, "-c", code], stdout=child_fd, env=env, timeout=60, check=False)
        os.close(child_fd)
        outputs[bool(profile)] = os.read(parent_fd, 4096).decode()
        os.close(parent_fd)
        assert completed.returncode == 0
    assert "\x1b[32mINFO" in outputs[False]
    assert "order placed" in outputs[False]
    assert json.loads(outputs[True])["order_id"] == 42
