"""Health functions called at import apply to the service that the middleware or a worker starts later."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from support.process import wait_for

import connectsoft_obs as obs
from connectsoft_obs.health import AsyncEvent
from connectsoft_obs.testing import capture


def watch_ended_thread() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    obs.liveness_task("poller", thread)


@pytest.mark.parametrize(
    ("at_import", "path"),
    [
        pytest.param(lambda: obs.mark_unready("loading the model"), "/health/ready", id="mark-unready"),
        pytest.param(lambda: obs.fail_liveness("broken"), "/health/live", id="fail-liveness"),
        pytest.param(watch_ended_thread, "/health/live", id="liveness-task"),
        pytest.param(lambda: obs.heartbeat("loop", every=0.01), "/health/live", id="heartbeat"),
    ],
)
def test_health_reported_at_import_holds_for_the_web_service(at_import: Callable[[], object], path: str) -> None:
    app = Starlette()
    app.add_middleware(obs.ObservabilityMiddleware, service="orders")
    with capture():
        at_import()
        with TestClient(app) as client:
            other = {"/health/ready", "/health/live"} - {path}
            wait_for(lambda: [client.get(name).status_code for name in (path, *other)] == [503, 200], 10)


def test_heartbeat_from_import_is_not_overdue_while_the_worker_drains() -> None:
    with capture() as captured:
        loop = obs.heartbeat("loop", every=0.01)
        with obs.worker(service="mailer", prometheus_port=0) as worker:
            wait_for(lambda: loop.problem(), 10)
            worker.drain()
            wait_for(lambda: not loop.problem(), 10)
            assert captured.telemetry is worker.telemetry


def test_draining_event_from_import_is_set_when_the_worker_drains() -> None:
    with capture():
        event = obs.draining()

        async def wait_for_drain() -> None:
            async with obs.worker(service="mailer", prometheus_port=0) as worker:
                assert not event
                asyncio.get_running_loop().call_soon(worker.drain)
                await asyncio.wait_for(_wait(event), 10)

        asyncio.run(wait_for_drain())
        assert event
        assert obs.draining()


async def _wait(event: AsyncEvent) -> None:
    await event
