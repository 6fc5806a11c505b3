"""Lifecycle of health: restarts, forks, changing event loops, trio, and threads that end with the service."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from typing import Any

import anyio
import pytest
import trio
from starlette.applications import Starlette
from starlette.testclient import TestClient
from support.asgi_server_commands import start_server
from support.process import APPS, uvicorn, wait_for
from support.service_client import wait_for_status

import connectsoft_obs as obs
from connectsoft_obs.health import Probe
from connectsoft_obs.settings import load_settings
from connectsoft_obs.testing import capture


def service() -> Starlette:
    app = Starlette()
    app.add_middleware(obs.ObservabilityMiddleware, service="lifecycle")
    return app


def health_threads(existing: Collection[threading.Thread] = ()) -> set[str]:
    """Names of the threads of health, without those that existed before."""
    threads = [thread for thread in threading.enumerate() if thread not in existing]
    return {thread.name for thread in threads if thread.name.startswith(("obs-health", "obs-check"))}


def test_service_can_be_restarted_in_one_process(captured: Any) -> None:
    runs: list[str] = []
    existing = threading.enumerate()

    @obs.startup_task("warm")
    async def warm() -> None:
        runs.append("warm")

    @obs.readiness_check("db", interval=0.1)
    async def db() -> None:
        runs.append("db")

    app = service()
    for starts in range(1, 4):
        with TestClient(app) as client:
            wait_for_status(client, 200)
            assert not obs.draining()
        assert obs.draining()
        assert runs.count("warm") == starts
    wait_for(lambda: not health_threads(existing), 5, f"threads have ended: {health_threads(existing)}")
    run_count = len(runs)
    time.sleep(0.3)
    assert len(runs) == run_count


def test_each_request_may_have_its_own_event_loop_without_a_lifespan(captured: Any) -> None:
    @obs.readiness_check("async", interval=0.1)
    async def asynchronous() -> None:
        await asyncio.sleep(0.01)

    @obs.readiness_check("sync", interval=0.1)
    def sync() -> None: ...

    @obs.startup_task("warm")
    async def warm() -> None:
        await asyncio.sleep(0.05)

    client = TestClient(service())
    assert client.get("/health/ready").status_code == 503
    wait_for_status(client, 200, seconds=30)  # each request has its own loop, which ends with the response
    for _ in range(20):
        assert client.get("/health/ready").status_code == 200
    assert captured.metric("connectsoft.obs.errors").series == ()


def test_checks_continue_when_the_event_loop_is_replaced(captured: Any) -> None:
    loops = []

    @obs.readiness_check("loop", interval=0.1)
    async def loop() -> None:
        loops.append(id(asyncio.get_running_loop()))

    health = obs.configure(service="a").health

    async def run_application() -> int:
        health.start()
        run_count = len(loops)
        while len(loops) < run_count + 2:  # noqa: ASYNC110  set by a check
            await asyncio.sleep(0.01)
        return id(asyncio.get_running_loop())

    assert asyncio.run(run_application()) == loops[-1]
    run_count = len(loops)
    wait_for(lambda: len(loops) >= run_count + 2, 5, "checks run on the loop in a daemon thread")
    application_loop = asyncio.new_event_loop()  # created while the other loop exists, so that ids differ
    daemon_thread_loop = loops[-1]
    assert application_loop.run_until_complete(run_application()) == loops[-1] != daemon_thread_loop
    application_loop.close()


def test_run_on_a_loop_that_closes_before_executing_it_is_repeated(
    captured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    @obs.readiness_check("check", interval=0.1)
    async def check() -> None: ...

    @obs.startup_task("warm")
    async def warm() -> None: ...

    health = obs.configure(service="a").health
    loop, scheduled_calls = asyncio.new_event_loop(), []
    call_soon_threadsafe = loop.call_soon_threadsafe
    loop_has_stopped = threading.Event()

    def record_call(*call: Any) -> asyncio.Handle:
        loop_has_stopped.wait(5)  # the loop must not execute the call before it is closed
        scheduled_calls.append(call)
        return call_soon_threadsafe(*call)

    monkeypatch.setattr(loop, "call_soon_threadsafe", record_call)

    async def start() -> None:
        health.start()

    loop.run_until_complete(start())
    loop_has_stopped.set()
    wait_for(lambda: len(scheduled_calls) >= 2, 5, "the check and the task are scheduled on the loop")
    assert not health.report(Probe.READINESS).passes
    loop.close()
    wait_for(lambda: health.report(Probe.READINESS).passes, 5, "both have run on the loop in a daemon thread")
    health.stop()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_starlette_test_client_on_both_backends(backend: Any, captured: Any) -> None:
    @obs.readiness_check("sync")
    def sync() -> None: ...

    @obs.readiness_check("plain-async")
    async def plain() -> None: ...

    @obs.startup_task("warm")
    def warm() -> None: ...

    with TestClient(service(), backend=backend) as client:
        wait_for_status(client, 200)
    assert client.get("/alive").status_code == 200
    assert captured.metric("connectsoft.obs.errors").series == ()


def test_check_that_needs_trio_fails_with_its_error(captured: Any) -> None:
    @obs.readiness_check("trio-only")
    async def trio_only() -> None:
        await trio.lowlevel.checkpoint()

    app = Starlette()
    app.add_middleware(obs.ObservabilityMiddleware, service="lifecycle", environment="development")
    with TestClient(app, backend="trio") as client:
        wait_for(lambda: "RuntimeError: Task got bad yield" in client.get("/health/ready").text)
        assert client.get("/health/live").status_code == 200


def test_hypercorn_on_trio_serves_and_warns_that_it_has_no_delay() -> None:
    with start_server(
        "hypercorn-trio", "lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": "5", "CHECKS": "optional"}
    ) as process:
        process.wait_until_ready()
        started = time.monotonic()
        process.stop()
        assert time.monotonic() - started < 4
    [line] = [line for line in process.json_lines if "do not receive SIGTERM" in line["message"]]
    assert "preStop" in line["message"]
    assert "Traceback" not in "".join(process.stderr_lines)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_draining_can_be_read_and_awaited(backend: str, captured: Any) -> None:
    health = obs.configure(service="a").health
    events: list[str] = []

    async def main() -> None:
        async def wait_for_drain(name: str) -> None:
            await obs.draining()
            events.append(name)

        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_drain, "one")
            group.start_soon(wait_for_drain, "two")
            with anyio.move_on_after(0.05):
                await obs.draining()
                events.append("too early")
            assert not obs.draining()
            threading.Timer(0.05, health.drain).start()
        assert obs.draining()
        await obs.draining()

    anyio.run(main, backend=backend)
    assert sorted(events) == ["one", "two"]


def test_forked_child_has_not_started(captured: Any) -> None:
    @obs.readiness_check("db", interval=0.1)
    def db() -> None: ...

    with TestClient(service()) as client:
        wait_for_status(client, 200)
        health = captured.telemetry.health
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            state = f"{health.phase} {health.running} {health.draining} {sorted(health_threads())}"
            os.write(write, state.encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 1000) == b"starting False False []"
        assert client.get("/health/ready").status_code == 200
    os.close(read)
    os.close(write)


def test_forked_child_handles_sigterm_without_delay() -> None:
    """The inherited handler must not wait in the child for an event loop that runs only in the parent."""
    code = """
import os, signal, sys, time, threading, asyncio
import connectsoft_obs as obs
signal.signal(signal.SIGTERM, lambda *_: os._exit(42))
async def main():
    health = obs.configure(service="a", drain_delay=30).health
    health.start()
    assert health.install_sigterm_delay()
    child = os.fork()
    if child == 0:
        time.sleep(20)
        os._exit(1)
    await asyncio.sleep(0.2)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
asyncio.run(main())
"""
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=True)
    assert "42" in completed.stdout.splitlines()


def test_gunicorn_with_preload_runs_checks_in_each_worker() -> None:
    def degraded_lines() -> int:
        return sum(line["message"] == "health check optional is degraded" for line in process.json_lines)

    with start_server("gunicorn", "lifecycle:app", "--preload", env={"CHECKS": "optional"}) as process:
        process.wait_until_ready()
        wait_for(lambda: degraded_lines() >= 2, 15, "a line from each of the two workers")
        process.stop()
    assert degraded_lines() == 2


def test_no_thread_or_signal_handler_before_the_service_starts() -> None:
    code = """
import signal, threading
import connectsoft_obs as obs
from starlette.applications import Starlette
@obs.readiness_check("a")
def a(): ...
@obs.startup_task("b")
async def b(): ...
app = Starlette()
app.add_middleware(obs.ObservabilityMiddleware, service="x")
obs.configure(service="x")
print(threading.active_count(), signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=True)
    assert completed.stdout.split() == ["1", "True"]


def test_checks_stop_when_a_capture_ends() -> None:
    runs = []
    existing = threading.enumerate()
    with capture():

        @obs.readiness_check("own", interval=0.1)
        def own() -> None:
            runs.append(1)

        client = TestClient(service())
        wait_for_status(client, 200)
    wait_for(lambda: not health_threads(existing), 5, f"threads have ended: {health_threads(existing)}")
    run_count = len(runs)
    time.sleep(0.3)
    assert len(runs) == run_count
    gc.collect()


def test_reloader_stops_at_once_on_any_platform(tmp_path: Any) -> None:
    (tmp_path / "reloaded.py").write_text("from lifecycle import app\n")
    env = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "PYTHONPATH": f"{APPS}{os.pathsep}{tmp_path}"}
    with uvicorn("reloaded:app", "--reload", "--reload-dir", str(tmp_path), env=env) as process:
        process.wait_until_ready()
        started = time.monotonic()
        process.stop()
        assert time.monotonic() - started < 5


def test_hanging_check_does_not_delay_the_end_of_the_process() -> None:
    code = """
import time, threading
import connectsoft_obs as obs
started = threading.Event()
@obs.readiness_check("hangs")
def hangs():
    started.set()
    time.sleep(60)
telemetry = obs.configure(service="a")
telemetry.health.start()
started.wait(5)
"""
    start_time = time.monotonic()
    subprocess.run([sys.executable, "-c", code], timeout=15, check=True, capture_output=True)
    assert time.monotonic() - start_time < 10


def test_two_telemetries_share_one_handler_and_the_longer_delay() -> None:
    original_handler = signal.getsignal(signal.SIGTERM)
    called: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, _: called.append(signum))
    server_handler = signal.getsignal(signal.SIGTERM)
    try:

        async def main() -> None:
            healths = [
                obs.Telemetry(load_settings({}, service="a", drain_delay=delay), exports=False).health
                for delay in (0.1, 0.4)
            ]
            for health in healths:
                health.start()
                assert health.install_sigterm_delay()
            started = time.monotonic()
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.05)
            assert all(health.draining for health in healths)
            assert called == []
            while not called:  # noqa: ASYNC110  set by a signal handler
                await asyncio.sleep(0.01)
            assert 0.35 < time.monotonic() - started < 1.5
            assert signal.getsignal(signal.SIGTERM) is server_handler
            for health in healths:
                health.stop()

        asyncio.run(main())
        assert called == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is server_handler
    finally:
        signal.signal(signal.SIGTERM, original_handler)
