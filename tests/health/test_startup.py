"""Startup tasks: probes are answered with 503, tasks run in order and once, and failures have a reason."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.process import uvicorn, wait_for
from support.service_client import wait_for_status

import connectsoft_obs as obs

PROBES = ("/health/live", "/health/startup", "/health/ready")


def probe_statuses(client: Any) -> tuple[int, ...]:
    return tuple(client.get(path).status_code for path in PROBES)


@pytest.mark.parametrize("lifespan", ["auto", "off"])
def test_real_server_accepts_connections_while_tasks_run(lifespan: str, tmp_path: Path) -> None:
    env = {"CHECKS": "task", "TASK_FILE": str(tmp_path / "done")}
    with uvicorn("lifecycle:app", "--lifespan", lifespan, env=env) as service:
        service.wait_until_ready("/hello")
        with httpx.Client(base_url=service.url) as client:
            assert probe_statuses(client) == (200, 503, 503)
            body = client.get("/health/startup").json()
            assert body["entries"]["warm-cache"]["status"] == "Unhealthy"
            (tmp_path / "done").touch()
            wait_for(lambda: probe_statuses(client) == (200, 200, 200), 5)
        service.stop()
    lines = [line for line in service.json_lines if line["message"].endswith(("completed", "is healthy"))]
    assert [line["message"] for line in lines] == [
        "startup task warm-cache completed",
        "readiness is healthy",
        "startup is healthy",
    ]
    assert lines[0]["connectsoft.obs.seconds"] > 0


def test_sync_and_async_tasks_run_in_order(run_service: Any) -> None:
    events: list[str] = []

    @obs.startup_task("first")
    async def first() -> None:
        events.append("first started")
        await asyncio.sleep(0.1)
        events.append("first ended")

    @obs.startup_task("second")
    def second() -> None:
        events.append("second started")
        time.sleep(0.05)
        events.append("second ended")

    @obs.startup_task("third")
    async def third() -> None:
        events.append("third")

    with run_service() as (client, captured):
        wait_for_status(client, 200)
        wait_for_status(client, 200, "/health/startup")
    assert events == ["first started", "first ended", "second started", "second ended", "third"]
    lines = [line for line in captured.logs if line["message"].startswith("startup task")]
    assert [line["connectsoft.health.startup_task"] for line in lines] == ["first", "second", "third"]
    assert lines[0]["connectsoft.obs.seconds"] >= 0.1
    [line] = [line for line in captured.logs if line["message"] == "startup is healthy"]
    assert "startup completed after 0." in line["connectsoft.health.cause"]


def test_failing_task_fails_startup_with_a_reason(run_service: Any) -> None:
    later_runs = []

    @obs.startup_task("migrations")
    def migrations() -> None:
        raise ConnectionError("postgres://u:hunter2@db refused")

    @obs.startup_task("never")
    def never() -> None:
        later_runs.append(1)

    with run_service(environment="development") as (client, captured):
        wait_for(lambda: any(line["severity"] == "ERROR" for line in captured.logs))
        assert probe_statuses(client) == (200, 503, 503)
        entry = client.get("/health/startup").json()["entries"]["migrations"]
        assert entry["description"] == "ConnectionError: postgres://u:REDACTED@db refused"
    assert later_runs == []
    [line] = [line for line in captured.logs if line["severity"] == "ERROR"]
    assert line["message"] == "startup task migrations failed"
    assert "refused" in line["connectsoft.obs.reason"]
    assert "Traceback" in line["exception.stacktrace"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_task_that_exceeds_its_timeout_fails(kind: str, run_service: Any) -> None:
    released = threading.Event()

    def hangs() -> None:
        released.wait(10)

    async def hangs_async() -> None:
        await asyncio.sleep(10)

    obs.startup_task("stuck", timeout=0.1)(hangs if kind == "sync" else hangs_async)
    with run_service(environment="development") as (client, captured):
        wait_for(lambda: any(line["severity"] == "ERROR" for line in captured.logs))
        assert probe_statuses(client) == (200, 503, 503)
        assert client.get("/health/startup").json()["entries"]["stuck"]["description"] == "timed out after 0.1 s"
        released.set()
    [line] = [line for line in captured.logs if line["severity"] == "ERROR"]
    assert line["connectsoft.obs.reason"] == "timed out after 0.1 s"


def test_startup_probe_keeps_passing_after_startup(run_service: Any) -> None:
    failing = False

    @obs.readiness_check("db", interval=0.1)
    def db() -> None:
        if failing:
            raise ConnectionError

    with run_service() as (client, captured):
        wait_for_status(client, 200)
        failing = True
        wait_for_status(client, 503)
        assert client.get("/health/startup").status_code == 200
        captured.telemetry.health.drain("a test")
        assert client.get("/health/startup").status_code == 200


def test_failing_check_does_not_fail_startup(run_service: Any) -> None:
    """A failing startup probe would make the platform restart the instance repeatedly."""

    @obs.readiness_check("db")
    def db() -> None:
        raise ConnectionError

    with run_service() as (client, _):
        wait_for_status(client, 200, "/health/startup")
        assert client.get("/health/ready").status_code == 503


def test_startup_grace_period_delays_readiness(run_service: Any) -> None:
    started = time.monotonic()
    with run_service(startup_grace_period=0.5) as (client, captured):
        assert probe_statuses(client) == (200, 200, 503)
        wait_for_status(client, 200)
        assert time.monotonic() - started > 0.5
        wait_for(lambda: any(line["message"] == "readiness is healthy" for line in captured.logs))


def test_tasks_run_once_for_two_middlewares(captured: Any) -> None:
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    runs = []

    @obs.startup_task("once")
    def once() -> None:
        runs.append(1)

    apps = []
    for _ in range(2):
        app = Starlette()
        app.add_middleware(obs.ObservabilityMiddleware, service="shared")
        apps.append(app)
    with TestClient(apps[0]) as orders, TestClient(apps[1]) as billing:
        wait_for_status(orders, 200)
        wait_for_status(billing, 200)
    assert runs == [1]
