"""Whatever starts, ends, forks or has another event loop: health follows it and leaves nothing behind."""

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
from support.asgi_server_commands import serve
from support.process import APPS, uvicorn, wait_for
from support.service_client import becomes

import connectsoft_obs as obs
from connectsoft_obs.health import Probe
from connectsoft_obs.settings import load_settings
from connectsoft_obs.testing import capture


def service() -> Starlette:
    app = Starlette()
    app.add_middleware(obs.ObservabilityMiddleware, service="lived")
    return app


def ours(before: Collection[threading.Thread] = ()) -> set[str]:
    """Our threads, without those that were there before."""
    now = [thread for thread in threading.enumerate() if thread not in before]
    return {thread.name for thread in now if thread.name.startswith(("obs-health", "obs-check"))}


def test_a_service_can_live_again_and_again_in_one_process(seen: Any) -> None:
    runs: list[str] = []
    before = threading.enumerate()

    @obs.startup_task("warm")
    async def warm() -> None:
        runs.append("warm")

    @obs.readiness_check("db", interval=0.1)
    async def db() -> None:
        runs.append("db")

    app = service()
    for life in range(1, 4):
        with TestClient(app) as client:
            becomes(client, 200)
            assert not obs.draining()
        assert obs.draining()
        assert runs.count("warm") == life
    wait_for(lambda: not ours(before), 5, f"no thread of ours is left: {ours(before)}")
    number = len(runs)
    time.sleep(0.3)
    assert len(runs) == number


def test_without_a_lifespan_each_request_may_have_an_event_loop_of_its_own(seen: Any) -> None:
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
    becomes(client, 200, seconds=30)  # each question brings a loop that lives as long as it is answered
    for _ in range(20):
        assert client.get("/health/ready").status_code == 200
    assert seen.metric("connectsoft.obs.errors").series == ()


def test_checks_go_on_when_an_event_loop_is_closed_and_another_one_starts(seen: Any) -> None:
    loops = []

    @obs.readiness_check("loop", interval=0.1)
    async def loop() -> None:
        loops.append(id(asyncio.get_running_loop()))

    health = obs.configure(service="a").health

    async def live() -> int:
        health.start()
        number = len(loops)
        while len(loops) < number + 2:  # noqa: ASYNC110  set by a check
            await asyncio.sleep(0.01)
        return id(asyncio.get_running_loop())

    assert asyncio.run(live()) == loops[-1]
    number = len(loops)
    wait_for(lambda: len(loops) >= number + 2, 5, "checks on a loop of our own while there is none")
    kept = asyncio.new_event_loop()  # not closed before the other one ends, so that ids differ
    first = loops[-1]
    assert kept.run_until_complete(live()) == loops[-1] != first
    kept.close()


def test_what_was_given_to_an_event_loop_that_closes_before_running_it_is_run_elsewhere(
    seen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    @obs.readiness_check("check", interval=0.1)
    async def check() -> None: ...

    @obs.startup_task("warm")
    async def warm() -> None: ...

    health = obs.configure(service="a").health
    loop, given = asyncio.new_event_loop(), []
    give = loop.call_soon_threadsafe

    def counted(*call: Any) -> asyncio.Handle:
        given.append(call)
        return give(*call)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)

    async def begin() -> None:
        health.start()

    loop.run_until_complete(begin())
    wait_for(lambda: len(given) >= 2, 5, "the check and the task are given to the loop")
    assert not health.report(Probe.READINESS).passes
    loop.close()
    wait_for(lambda: health.report(Probe.READINESS).passes, 5, "both have run on a loop of ours")
    health.stop()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_under_starlette_s_test_client_on_any_backend(backend: Any, seen: Any) -> None:
    @obs.readiness_check("sync")
    def sync() -> None: ...

    @obs.readiness_check("plain-async")
    async def plain() -> None: ...

    @obs.startup_task("warm")
    def warm() -> None: ...

    with TestClient(service(), backend=backend) as client:
        becomes(client, 200)
    assert client.get("/alive").status_code == 200
    assert seen.metric("connectsoft.obs.errors").series == ()


def test_a_check_that_needs_trio_s_loop_is_red_with_the_error_and_breaks_nothing(seen: Any) -> None:
    @obs.readiness_check("trio-only")
    async def trio_only() -> None:
        await trio.lowlevel.checkpoint()

    app = Starlette()
    app.add_middleware(obs.ObservabilityMiddleware, service="lived", environment="development")
    with TestClient(app, backend="trio") as client:
        wait_for(lambda: "RuntimeError: Task got bad yield" in client.get("/health/ready").text)
        assert client.get("/health/live").status_code == 200


def test_hypercorn_on_trio_serves_and_says_that_it_cannot_wait() -> None:
    with serve(
        "hypercorn-trio", "lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": "5", "CHECKS": "optional"}
    ) as found:
        found.ready()
        began = time.monotonic()
        found.stop()
        assert time.monotonic() - began < 4
    [line] = [line for line in found.lines if "not told of SIGTERM" in line["message"]]
    assert "preStop" in line["message"]
    assert "Traceback" not in "".join(found.err)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_draining_can_be_asked_and_awaited(backend: str, seen: Any) -> None:
    health = obs.configure(service="a").health
    story: list[str] = []

    async def main() -> None:
        async def waits(name: str) -> None:
            await obs.draining()
            story.append(name)

        async with anyio.create_task_group() as group:
            group.start_soon(waits, "one")
            group.start_soon(waits, "two")
            with anyio.move_on_after(0.05):
                await obs.draining()
                story.append("too early")
            assert not obs.draining()
            threading.Timer(0.05, health.drain).start()
        assert obs.draining()
        await obs.draining()

    anyio.run(main, backend=backend)
    assert sorted(story) == ["one", "two"]


def test_a_forked_child_is_a_process_that_has_not_started(seen: Any) -> None:
    @obs.readiness_check("db", interval=0.1)
    def db() -> None: ...

    with TestClient(service()) as client:
        becomes(client, 200)
        health = seen.telemetry.health
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            answer = f"{health.phase} {health.running} {health.draining} {sorted(ours())}"
            os.write(write, answer.encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 1000) == b"starting False False []"
        assert client.get("/health/ready").status_code == 200
    os.close(read)
    os.close(write)


def test_a_child_that_an_application_forks_dies_of_sigterm_as_it_would_without_us() -> None:
    """The handler that a child inherits must not wait there for a loop that only the parent runs."""
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=True)
    assert "42" in done.stdout.splitlines()


def test_gunicorn_with_preload_runs_checks_in_each_worker() -> None:
    def degraded() -> int:
        return sum(line["message"] == "health check optional is degraded" for line in found.lines)

    with serve("gunicorn", "lifecycle:app", "--preload", env={"CHECKS": "optional"}) as found:
        found.ready()
        wait_for(lambda: degraded() >= 2, 15, "a line from each of the two workers")
        found.stop()
    assert degraded() == 2


def test_no_thread_and_no_handler_before_a_service_starts() -> None:
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=True)
    assert done.stdout.split() == ["1", "True"]


def test_a_capture_that_ends_ends_what_runs_in_it() -> None:
    runs = []
    before = threading.enumerate()
    with capture():

        @obs.readiness_check("mine", interval=0.1)
        def mine() -> None:
            runs.append(1)

        client = TestClient(service())
        becomes(client, 200)
    wait_for(lambda: not ours(before), 5, f"no thread of ours is left: {ours(before)}")
    number = len(runs)
    time.sleep(0.3)
    assert len(runs) == number
    gc.collect()


def test_reload_stops_at_once_whatever_the_platform(tmp_path: Any) -> None:
    (tmp_path / "four_signals.py").write_text("from lived import app\n")
    env = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "PYTHONPATH": f"{APPS}{os.pathsep}{tmp_path}"}
    with uvicorn("four_signals:app", "--reload", "--reload-dir", str(tmp_path), env=env) as found:
        found.ready()
        began = time.monotonic()
        found.stop()
        assert time.monotonic() - began < 5


def test_a_hanging_check_does_not_keep_a_process_from_ending() -> None:
    code = """
import time, threading
import connectsoft_obs as obs
hung = threading.Event()
@obs.readiness_check("hangs")
def hangs():
    hung.set()
    time.sleep(60)
telemetry = obs.configure(service="a")
telemetry.health.start()
hung.wait(5)
"""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], timeout=15, check=True, capture_output=True)
    assert time.monotonic() - began < 10


def test_two_telemetries_of_one_process_share_one_handler_and_the_longer_delay() -> None:
    before = signal.getsignal(signal.SIGTERM)
    called: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, _: called.append(signum))
    mine = signal.getsignal(signal.SIGTERM)
    try:

        async def main() -> None:
            healths = [
                obs.Telemetry(load_settings({}, service="a", drain_delay=delay), exports=False).health
                for delay in (0.1, 0.4)
            ]
            for health in healths:
                health.start()
                assert health.install_sigterm_delay()
            began = time.monotonic()
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.05)
            assert all(health.draining for health in healths)
            assert called == []
            while not called:  # noqa: ASYNC110  set by a signal handler
                await asyncio.sleep(0.01)
            assert 0.35 < time.monotonic() - began < 1.5
            assert signal.getsignal(signal.SIGTERM) is mine
            for health in healths:
                health.stop()

        asyncio.run(main())
        assert called == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
