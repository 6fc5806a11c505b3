"""A blocked event loop: the log shows the blocking line, lag is measured, and liveness fails after the limit."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import httpx
import lifecycle
from support.process import free_port, uvicorn, wait_for

import connectsoft_obs as obs

LIMIT = 3.0


def test_blocked_loop_is_logged_and_fails_liveness_above_the_limit() -> None:
    """Reads liveness from an endpoint server in a thread of the same process; the main port is blocked."""
    side_port = free_port()
    env = {"CONNECTSOFT_OBS_LIVENESS_STALL": str(LIMIT), "SIDE_PORT": str(side_port)}
    with uvicorn("lifecycle:app", env=env) as service:
        service.wait_until_ready()
        started = time.monotonic()
        request = threading.Thread(target=lambda: httpx.get(f"{service.url}/block?seconds=5", timeout=15))
        request.start()
        responses: list[tuple[float, int]] = []
        while time.monotonic() - started < 4.9:
            response = httpx.get(f"http://127.0.0.1:{side_port}/health/live", timeout=1)
            responses.append((time.monotonic() - started, response.status_code))
            time.sleep(0.05)
        request.join(10)
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{side_port}/health/live", timeout=1).status_code == 200, 5)
        metrics = httpx.get(f"{service.url}/metrics").text
        service.stop()
    assert {status for seconds, status in responses if seconds < LIMIT - 0.1} == {200}
    assert {status for seconds, status in responses if seconds > LIMIT + 1.2} == {503}, responses

    stalls = [line for line in service.json_lines if line["message"] == "event loop blocked"]
    assert len(stalls) == 1
    source, number = inspect.getsourcelines(lifecycle.blocking)
    blocking = number + next(index for index, row in enumerate(source) if "time.sleep" in row)
    assert stalls[0]["connectsoft.event_loop.line"].endswith(f"lifecycle.py:{blocking}")
    assert "time.sleep(seconds)" in stalls[0]["code.stacktrace"]
    assert "in block" in stalls[0]["code.stacktrace"]
    assert 1 <= stalls[0]["connectsoft.obs.seconds"] < 2
    [recovery] = [line for line in service.json_lines if line["message"] == "event loop responsive again"]
    assert 4 <= recovery["connectsoft.obs.seconds"] <= 6
    [line] = [line for line in service.json_lines if line["message"] == "liveness is unhealthy"]
    assert "event-loop: the event loop has been blocked for" in line["connectsoft.health.cause"]
    buckets = [row for row in metrics.splitlines() if row.startswith("connectsoft_event_loop_lag_seconds_bucket")]
    counts = [int(row.split()[1]) for row in buckets]
    assert counts[-1] > counts[-4]  # a tick was more than 2.5 s late


def test_each_stall_is_logged_once(captured: Any) -> None:
    health = obs.configure(service="a", liveness_stall=60).health

    async def main() -> None:
        health.start()
        for _ in range(2):
            time.sleep(2.2)  # noqa: ASYNC251  the stall
            await asyncio.sleep(1.2)

    asyncio.run(main())
    assert len([line for line in captured.logs if line["message"] == "event loop blocked"]) == 2
    assert len([line for line in captured.logs if line["message"] == "event loop responsive again"]) == 2
    assert not [line for line in captured.logs if line["message"] == "liveness is unhealthy"]


def test_ended_loop_does_not_count_as_blocked(captured: Any) -> None:
    health = obs.configure(service="a", liveness_stall=1).health

    async def main() -> None:
        health.start()

    asyncio.run(main())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    time.sleep(2.5)
    loop.close()
    assert captured.logs == []


def test_suspended_process_does_not_count_as_blocked() -> None:
    """As with a paused virtual machine, or a container without CPU."""
    code = """
import asyncio, time
import connectsoft_obs as obs
from connectsoft_obs.health import Probe
async def main():
    telemetry = obs.configure(service="a", liveness_stall=2)
    telemetry.health.start()
    print("started", flush=True)
    for _ in range(60):
        await asyncio.sleep(0.05)
        if not telemetry.health.report(Probe.LIVENESS).passes:
            print("liveness failed", flush=True)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(4)
        os.kill(process.pid, signal.SIGCONT)
        output = process.stdout.read()
    assert "liveness failed" not in output
    assert "liveness is unhealthy" not in output


def test_async_check_on_a_blocked_loop_does_not_fail(captured: Any) -> None:
    from connectsoft_obs.health import Probe

    runs = []

    @obs.readiness_check("db", interval=0.2, timeout=0.2, failure_threshold=1)
    async def db() -> None:
        runs.append(1)

    health = obs.configure(service="a").health
    states = []

    async def main() -> None:
        health.start()
        while not health.report(Probe.READINESS).passes:  # noqa: ASYNC110  set by a thread
            await asyncio.sleep(0.01)

        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            states.append(health.report(Probe.READINESS).passes)
            time.sleep(0.01)  # noqa: ASYNC251  a stall shorter than the 0.8 s after which results are stale

    asyncio.run(main())
    assert len(states) > 20
    assert all(states)
