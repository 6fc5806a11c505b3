"""Start-up: probers see 503 and not a closed port, tasks run in order and once, and what fails says why."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.process import uvicorn, wait_for
from support.service_client import becomes

import connectsoft_obs as obs

PROBES = ("/health/live", "/health/startup", "/health/ready")


def statuses(client: Any) -> tuple[int, ...]:
    return tuple(client.get(path).status_code for path in PROBES)


@pytest.mark.parametrize("lifespan", ["auto", "off"])
def test_on_a_real_server_the_port_is_open_while_tasks_run(lifespan: str, tmp_path: Path) -> None:
    env = {"CHECKS": "task", "TASK_FILE": str(tmp_path / "done")}
    with uvicorn("lifecycle:app", "--lifespan", lifespan, env=env) as service:
        service.ready("/hello")
        with httpx.Client(base_url=service.url) as client:
            assert statuses(client) == (200, 503, 503)
            body = client.get("/health/startup").json()
            assert body["entries"]["warm-cache"]["status"] == "Unhealthy"
            (tmp_path / "done").touch()
            wait_for(lambda: statuses(client) == (200, 200, 200), 5)
        service.stop()
    lines = [line for line in service.lines if line["message"].endswith(("is done", "is healthy"))]
    assert [line["message"] for line in lines] == [
        "start-up task warm-cache is done",
        "readiness is healthy",
        "startup is healthy",
    ]
    assert lines[0]["seconds"] > 0


def test_tasks_run_in_order_one_after_the_other_sync_and_async(life: Any) -> None:
    story: list[str] = []

    @obs.startup_task("first")
    async def first() -> None:
        story.append("first begins")
        await asyncio.sleep(0.1)
        story.append("first ends")

    @obs.startup_task("second")
    def second() -> None:
        story.append("second begins")
        time.sleep(0.05)
        story.append("second ends")

    @obs.startup_task("third")
    async def third() -> None:
        story.append("third")

    with life() as (client, seen):
        becomes(client, 200)
        becomes(client, 200, "/health/startup")
    assert story == ["first begins", "first ends", "second begins", "second ends", "third"]
    done = [line for line in seen.logs if line["message"].startswith("start-up task")]
    assert [line["task"] for line in done] == ["first", "second", "third"]
    assert done[0]["seconds"] >= 0.1
    [line] = [line for line in seen.logs if line["message"] == "startup is healthy"]
    assert "start-up is complete after 0." in line["cause"]


def test_a_task_that_fails_ends_the_start_up_and_says_why(life: Any) -> None:
    later = []

    @obs.startup_task("migrations")
    def migrations() -> None:
        raise ConnectionError("postgres://u:hunter2@db refused")

    @obs.startup_task("never")
    def never() -> None:
        later.append(1)

    with life(environment="development") as (client, seen):
        wait_for(lambda: any(line["severity"] == "ERROR" for line in seen.logs))
        assert statuses(client) == (200, 503, 503)
        entry = client.get("/health/startup").json()["entries"]["migrations"]
        assert entry["description"] == "ConnectionError: postgres://***@db refused"
    assert later == []
    [line] = [line for line in seen.logs if line["severity"] == "ERROR"]
    assert line["message"] == "start-up task migrations failed"
    assert "refused" in line["reason"]
    assert "Traceback" in line["exception.stacktrace"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_task_that_takes_too_long_is_timed_out(kind: str, life: Any) -> None:
    free = threading.Event()

    def hangs() -> None:
        free.wait(10)

    async def hangs_async() -> None:
        await asyncio.sleep(10)

    obs.startup_task("stuck", timeout=0.1)(hangs if kind == "sync" else hangs_async)
    with life(environment="development") as (client, seen):
        wait_for(lambda: any(line["severity"] == "ERROR" for line in seen.logs))
        assert statuses(client) == (200, 503, 503)
        assert client.get("/health/startup").json()["entries"]["stuck"]["description"] == "timed out after 0.1 s"
        free.set()
    [line] = [line for line in seen.logs if line["severity"] == "ERROR"]
    assert line["reason"] == "timed out after 0.1 s"


def test_startup_stays_green_once_it_has_passed_whatever_fails_later(life: Any) -> None:
    failing = False

    @obs.readiness_check("db", interval=0.1)
    def db() -> None:
        if failing:
            raise ConnectionError

    with life() as (client, seen):
        becomes(client, 200)
        failing = True
        becomes(client, 503)
        assert client.get("/health/startup").status_code == 200
        seen.telemetry.health.drain("a test")
        assert client.get("/health/startup").status_code == 200


def test_a_failing_dependency_does_not_hold_up_startup(life: Any) -> None:
    """The platform would restart the instance for it, again and again."""

    @obs.readiness_check("db")
    def db() -> None:
        raise ConnectionError

    with life() as (client, _):
        becomes(client, 200, "/health/startup")
        assert client.get("/health/ready").status_code == 503


def test_startup_grace_keeps_readiness_red_for_a_while(life: Any) -> None:
    began = time.monotonic()
    with life(startup_grace_period=0.5) as (client, seen):
        assert statuses(client) == (200, 200, 503)
        becomes(client, 200)
        assert time.monotonic() - began > 0.5
        wait_for(lambda: any(line["message"] == "readiness is healthy" for line in seen.logs))


def test_tasks_run_once_for_two_middlewares_of_one_process(seen: Any) -> None:
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
    with TestClient(apps[0]) as one, TestClient(apps[1]) as two:
        becomes(one, 200)
        becomes(two, 200)
    assert runs == [1]
