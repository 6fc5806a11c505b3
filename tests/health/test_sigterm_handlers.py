"""SIGTERM handlers of event loops and of several applications in one process, and the state after a stop."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from support.process import wait_for
from support.service_client import wait_for_status

import connectsoft_obs as obs
from connectsoft_obs.health.health import Health
from connectsoft_obs.settings import load_settings


@pytest.fixture
def server_calls() -> Iterator[list[int]]:
    """Calls of a SIGTERM handler as servers set it with `signal.signal`."""
    original_handler = signal.getsignal(signal.SIGTERM)
    calls: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, _: calls.append(signum))
    yield calls
    signal.signal(signal.SIGTERM, original_handler)


def start_health(drain_delay: float) -> Health:
    """Health of an application that has started and delays SIGTERM."""
    settings = load_settings({}, service="a", drain_delay=drain_delay, log_level="critical")
    health = obs.Telemetry(settings, exports=False).health
    health.start()
    assert health.install_sigterm_delay()
    return health


async def call_times(calls: list[Any]) -> float:
    """Send SIGTERM, and return the seconds until the only call of the previous handler."""
    started = time.monotonic()
    os.kill(os.getpid(), signal.SIGTERM)
    while not calls:  # noqa: ASYNC110  set by a signal handler
        await asyncio.sleep(0.01)
    seconds = time.monotonic() - started
    await asyncio.sleep(0.3)
    assert len(calls) == 1
    return seconds


@pytest.mark.parametrize("delays", [[0], [0, 1], [1, 0]])
def test_event_loop_handler_is_called_once_after_the_longest_delay(delays: list[float]) -> None:
    async def main() -> None:
        calls: list[int] = []
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, calls.append, signal.SIGTERM)
        healths = [start_health(delay) for delay in delays]
        assert await call_times(calls) >= max(delays)
        for health in healths:
            health.stop()
        loop.remove_signal_handler(signal.SIGTERM)

    original_handler = signal.getsignal(signal.SIGTERM)
    try:
        asyncio.run(main())
    finally:
        signal.signal(signal.SIGTERM, original_handler)


@pytest.mark.parametrize("stopped", [0, 1])
def test_application_that_stops_leaves_the_delay_of_another(stopped: int, server_calls: list[int]) -> None:
    async def main() -> None:
        healths = [start_health(1), start_health(1)]
        healths.pop(stopped).stop()
        assert await call_times(server_calls) >= 1
        healths[0].stop()

    asyncio.run(main())


def test_handler_of_the_server_is_restored_when_the_service_stops(server_calls: list[int]) -> None:
    async def main() -> None:
        handler = signal.getsignal(signal.SIGTERM)
        health = start_health(60)
        assert signal.getsignal(signal.SIGTERM) is not handler
        health.stop()
        assert signal.getsignal(signal.SIGTERM) is handler
        assert await call_times(server_calls) < 30

    asyncio.run(main())


def test_draining_process_does_not_replace_the_handler(server_calls: list[int]) -> None:
    async def main() -> None:
        handler = signal.getsignal(signal.SIGTERM)
        settings = load_settings({}, service="a", drain_delay=60, log_level="critical")
        health = obs.Telemetry(settings, exports=False).health
        health.start()
        health.drain()
        assert not health.install_sigterm_delay()
        assert signal.getsignal(signal.SIGTERM) is handler
        health.stop()

    asyncio.run(main())


def test_drain_of_a_service_that_has_not_started_sets_the_event(captured: Any) -> None:
    health = obs.configure(service="a").health
    assert not obs.draining()
    health.drain()
    assert obs.draining()


def test_checks_do_not_run_while_the_application_closes_its_connections(captured: Any) -> None:
    is_closed = False
    runs = []

    @obs.readiness_check("db", interval=0.1)
    async def db() -> None:
        runs.append(is_closed)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        nonlocal is_closed
        yield
        await anyio.sleep(0.1)  # a run that had begun before the shutdown ends
        is_closed = True
        await anyio.sleep(0.5)

    app = Starlette(lifespan=lifespan)
    app.add_middleware(obs.ObservabilityMiddleware, service="a")
    with TestClient(app) as client:
        wait_for_status(client, 200)
    assert runs
    assert True not in runs


def test_stop_resets_what_the_application_has_marked(captured: Any) -> None:
    app = Starlette()
    app.add_middleware(obs.ObservabilityMiddleware, service="a")
    with TestClient(app) as client:
        wait_for_status(client, 200)
        obs.mark_unready("maintenance")
        obs.fail_liveness("deadlock")
        assert client.get("/health/ready").status_code == client.get("/health/live").status_code == 503
    with TestClient(app) as client:
        wait_for(lambda: client.get("/health/ready").status_code == 200, 10)
        assert client.get("/health/live").status_code == 200
