"""Under every server: one stream, one line for each thing that happened, in one schema, correlated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.process import wait_for
from support.webservers import ALL


@pytest.fixture(scope="module", params=list(ALL))
def said(request: pytest.FixtureRequest) -> Any:
    """A service after one request of each kind; what it wrote, as lines."""
    with ALL[request.param]("chatty_logging:app", env={"PYTHONWARNINGS": "default"}) as service:
        service.ready()
        codes = [httpx.get(service.url + path).status_code for path in ("/say", "/sync", "/elsewhere", "/boom")]
        codes.append(httpx.get(f"{service.url}/unraised").status_code)
        assert codes == [200, 200, 200, 500, 200]
        wait_for(lambda: "from a background task" in service.said, 5, "the background task's line")
        page = httpx.get(f"{service.url}/metrics").text
        service.stop()
        yield service, [json.loads(line) for line in service.out if line.startswith("{")], page


def of(lines: list[dict[str, Any]], logger: str) -> list[dict[str, Any]]:
    return [line for line in lines if line.get("logger") == logger]


def test_every_line_of_a_worker_is_one_json_object_in_one_schema(said: Any) -> None:
    service, lines, _ = said
    # Granian's main process, which never loads the application, writes its own lines to the same pipe.
    strangers = [line for line in service.out if not line.startswith(("{", "[INFO]"))]
    assert strangers == []
    assert len(lines) > 15
    for line in lines:
        assert list(line)[:4] == ["timestamp", "severity", "message", "logger"]
        assert line["service.name"] == "talk"


def test_each_source_is_there_once(said: Any) -> None:
    _, lines, _ = said
    messages = [line["message"] for line in lines]
    for message in ("native", "structlog", "standard 3", "UserWarning: a warning", "from a sync endpoint"):
        assert messages.count(message) == 1, message
    assert {line["number"] for line in lines if "number" in line} == {1, 2, 3}


def test_the_servers_access_log_is_replaced_by_ours(said: Any) -> None:
    service, lines, _ = said
    routes = ["/say", "/sync", "/elsewhere", "/boom", "/unraised"]
    assert sorted(line["http.route"] for line in of(lines, "connectsoft_obs.access")) == sorted(routes)
    assert not [line for line in [*service.out, *service.err] if "GET /say" in line and "connectsoft_obs" not in line]


def test_an_exception_is_told_once_however_often_the_server_says_it(said: Any, request: pytest.FixtureRequest) -> None:
    service, lines, page = said
    told = [line for line in lines if line.get("exception.type") == "ValueError"]
    assert [line["otel.event.name"] for line in told] == ["http.server.request.exception"]
    assert told[0]["trace_id"] == next(line for line in lines if line["message"] == "GET /boom 500")["trace_id"]
    assert service.said.count("it broke") - told[0]["exception.stacktrace"].count("it broke") == 1
    if request.node.callspec.params["said"] != "gunicorn_asgi":  # says nothing once the error page is out
        assert (
            'connectsoft_obs_dropped_total{connectsoft_obs_signal="logs",connectsoft_obs_reason="already_reported"}'
            in page
        )
    assert "Traceback" not in "".join(service.err)


def test_what_nobody_caught_is_one_line_each(said: Any) -> None:
    _, lines, _ = said
    [task] = [line for line in lines if line.get("exception.type") == "RuntimeError"]
    [thread] = [line for line in lines if line.get("exception.type") == "LookupError"]
    assert (task["logger"], task["severity"]) == ("asyncio", "ERROR")
    assert task["message"].startswith("Task exception was never retrieved")
    assert "lonely" in task["connectsoft.asyncio.source"]
    assert (thread["logger"], thread["thread.name"]) == ("python", "worker-7")


def test_lines_of_a_request_have_its_trace_wherever_they_are_said(said: Any) -> None:
    _, lines, _ = said
    messages = [
        "from an executor", "standard from an executor", "from to_thread", "from a task", "from a background task",
        "GET /elsewhere 200",
    ]  # fmt: skip
    found = [line for line in lines if line["message"] in messages]
    assert len(found) == len(messages)
    assert len({(line["trace_id"], line["connectsoft.correlation.id"]) for line in found}) == 1


def test_a_secret_in_an_exception_is_in_no_line(said: Any) -> None:
    service, _, _ = said
    assert "hunter2" not in service.said
    assert "password=REDACTED" in service.said


def test_lifecycle_lines_of_the_server_join_the_stream(said: Any, request: pytest.FixtureRequest) -> None:
    _, lines, _ = said
    name = request.node.callspec.params["said"]
    loggers = {"uvicorn": "uvicorn.error", "gunicorn": "uvicorn.error", "gunicorn_asgi": "gunicorn.error"}
    if name in loggers:
        assert of(lines, loggers[name])
    if name == "uvicorn":
        assert lines[-1]["message"].startswith("Finished server process")


def test_two_workers_of_uvicorn_add_nothing() -> None:
    with ALL["uvicorn"]("chatty_logging:app", workers=2) as service:
        service.ready()
        for _ in range(20):
            assert httpx.get(f"{service.url}/say").status_code == 200
        service.stop()
    assert not [line for line in service.out if not line.startswith("{")]
    lines = service.lines
    assert len([line for line in lines if line["message"] == "native"]) == 20
    assert len([line for line in lines if line["message"] == "standard 3"]) == 20


def test_a_reload_adds_nothing(tmp_path: Path) -> None:
    source = tmp_path / "four_signals.py"
    source.write_text("")
    with ALL["uvicorn"]("chatty_logging:app", "--reload", "--reload-dir", str(tmp_path)) as service:
        service.ready()
        assert httpx.get(f"{service.url}/say").status_code == 200
        source.write_text("# changed")
        os.utime(source, (2e9, 2e9))
        wait_for(lambda: "Reloading" in service.said and service.said.count("observability is on") == 2, 15, "a reload")
        service.ready()
        assert httpx.get(f"{service.url}/say").status_code == 200
        service.stop()
    messages = [line["message"] for line in service.lines]
    for message in ("native", "structlog", "standard 3", "GET /say 200"):
        assert messages.count(message) == 2, message


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_lines_are_for_people_when_standard_output_is_a_terminal() -> None:
    code = "import connectsoft_obs as obs\nobs.get_logger('orders').info('order placed', order_id=42)\n"
    found = {}
    for profile in ({}, {"CONNECTSOFT_OBS_LOG_PROFILE": "otel"}):
        ours, theirs = os.openpty()
        env = {"PATH": os.environ["PATH"], **profile}
        done = subprocess.run([sys.executable, "-c", code], stdout=theirs, env=env, timeout=60, check=False)
        os.close(theirs)
        found[bool(profile)] = os.read(ours, 4096).decode()
        os.close(ours)
        assert done.returncode == 0
    assert "\x1b[32mINFO" in found[False]
    assert "order placed" in found[False]
    assert json.loads(found[True])["order_id"] == 42
