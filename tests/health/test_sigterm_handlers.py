"""SIGTERM handlers of event loops and of several applications in one process, and the state after a stop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from support.asgi_lifespan import run_lifespan
from support.process import wait_for
from support.service_client import wait_for_status

import connectsoft_obs as obs
from connectsoft_obs.health.health import Health
from connectsoft_obs.settings import load_settings
from connectsoft_obs.testing import capture


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
def test_stop_of_one_application_keeps_the_delay_of_another(stopped: int, server_calls: list[int]) -> None:
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


def test_process_without_an_event_loop_stops_after_the_delay() -> None:
    code = """
import os, signal, time
import connectsoft_obs as obs
signal.signal(signal.SIGTERM, lambda *_: os._exit(42))
health = obs.configure(service="a", drain_delay=0.3).health
health.start()
assert health.install_sigterm_delay()
os.kill(os.getpid(), signal.SIGTERM)
assert health.draining
time.sleep(60)
"""
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert completed.returncode == 42, completed.stderr


@pytest.mark.parametrize(
    ("delay", "in_main_thread", "is_warned"), [(5, True, True), (0, True, False), (5, False, False)]
)
def test_missing_handler_logs_a_warning_if_there_is_a_delay(
    delay: float, in_main_thread: bool, is_warned: bool, server_calls: list[int]
) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with capture() as captured:
        app = obs.ObservabilityMiddleware(Starlette(), service="a", drain_delay=delay)
        if in_main_thread:
            asyncio.run(run_lifespan(app))
        else:
            with TestClient(app):
                pass
    assert any("do not receive SIGTERM" in line["message"] for line in captured.logs) is is_warned


def test_child_that_is_forked_during_a_drain_does_not_drain(captured: Any) -> None:
    health = obs.configure(service="a").health
    health.drain()
    if (child := os.fork()) == 0:
        os._exit(1 if health.draining or obs.draining() else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(("http_version", "expected"), [("1.0", True), ("1.1", True), ("2", False), ("3", False)])
def test_connections_are_closed_by_the_header_of_http_1(http_version: str, expected: bool, captured: Any) -> None:
    """HTTP/2 and HTTP/3 do not allow the header (RFC 9113, section 8.2.2)."""
    app = obs.ObservabilityMiddleware(Starlette(), service="a")
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": http_version, "method": "GET", "scheme": "http",
        "path": "/", "raw_path": b"/", "query_string": b"", "root_path": "", "headers": [], "client": None, "server": None,
    }  # fmt: skip

    async def request() -> dict[bytes, bytes]:
        messages: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        await app(dict(scope), receive, send)
        return dict(messages[0]["headers"])

    async def main() -> None:
        assert b"connection" not in await request()
        captured.telemetry.health.drain()
        assert ((await request()).get(b"connection") == b"close") is expected
        captured.telemetry.health.stop()

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


def test_shutdown_of_the_telemetry_stops_the_checks(captured: Any) -> None:
    telemetry = obs.configure(service="a")
    telemetry.health.start()
    telemetry.shutdown(1)
    assert not telemetry.health.running
    assert obs.draining()


def test_stop_resets_the_marks_of_the_application(captured: Any) -> None:
    app = Starlette()
    app.add_middleware(obs.ObservabilityMiddleware, service="a")
    with TestClient(app) as client:
        wait_for_status(client, 200)
        obs.mark_unready("maintenance")
        obs.fail_liveness("deadlock")
        assert client.get("/health/ready").status_code == client.get("/health/live").status_code == 503
        assert captured.telemetry.serving
    assert not captured.telemetry.serving
    with TestClient(app) as client:
        wait_for(lambda: client.get("/health/ready").status_code == 200, 10)
        assert client.get("/health/live").status_code == 200
