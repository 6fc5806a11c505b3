"""An event loop that is blocked: the log names the line, lag is measured, and liveness has patience."""

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


def test_a_blocked_loop_is_told_with_its_line_and_liveness_turns_red_only_above_the_limit() -> None:
    """Liveness is read from a side listener in a thread of the same process: the main port cannot answer meanwhile."""
    side = free_port()
    env = {"CONNECTSOFT_OBS_LIVENESS_STALL": str(LIMIT), "SIDE_PORT": str(side)}
    with uvicorn("lifecycle:app", env=env) as service:
        service.ready()
        began = time.monotonic()
        asked = threading.Thread(target=lambda: httpx.get(f"{service.url}/block?seconds=5", timeout=15))
        asked.start()
        seen: list[tuple[float, int]] = []
        while time.monotonic() - began < 4.9:
            answer = httpx.get(f"http://127.0.0.1:{side}/health/live", timeout=1)
            seen.append((time.monotonic() - began, answer.status_code))
            time.sleep(0.05)
        asked.join(10)
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{side}/health/live", timeout=1).status_code == 200, 5)
        metrics = httpx.get(f"{service.url}/metrics").text
        service.stop()
    red = [when for when, status in seen if status == 503]
    assert {status for when, status in seen if when < LIMIT - 0.1} == {200}
    assert red, seen
    assert {status for when, status in seen if when > LIMIT + 1.2} == {503}

    stalls = [line for line in service.lines if line["message"].startswith("the event loop is blocked")]
    assert len(stalls) == 1
    source, number = inspect.getsourcelines(lifecycle.blocking)
    blocking = number + next(index for index, row in enumerate(source) if "time.sleep" in row)
    assert stalls[0]["line"].endswith(f"lifecycle.py:{blocking}")
    assert "time.sleep(seconds)" in stalls[0]["stack"]
    assert "in block" in stalls[0]["stack"]
    assert 1 <= stalls[0]["seconds"] < 2
    [over] = [line for line in service.lines if line["message"] == "the event loop turns again"]
    assert 4 <= over["seconds"] <= 6
    [line] = [line for line in service.lines if line["message"] == "liveness is unhealthy"]
    assert "event-loop: the event loop has been blocked for" in line["cause"]
    slow = [row for row in metrics.splitlines() if row.startswith("connectsoft_event_loop_lag_seconds_bucket")]
    counts = [int(row.split()[1]) for row in slow]
    assert counts[-1] > counts[-4]  # one tick was more than 2.5 s late


def test_each_stall_is_told_once(seen: Any) -> None:
    health = obs.configure(service="a", liveness_stall=60).health

    async def main() -> None:
        health.start()
        for _ in range(2):
            time.sleep(2.2)  # noqa: ASYNC251  the stall
            await asyncio.sleep(1.2)

    asyncio.run(main())
    assert len([line for line in seen.logs if line["message"].startswith("the event loop is blocked")]) == 2
    assert len([line for line in seen.logs if line["message"] == "the event loop turns again"]) == 2
    assert not [line for line in seen.logs if line["message"] == "liveness is unhealthy"]


def test_a_loop_that_has_ended_is_not_a_stalled_one(seen: Any) -> None:
    health = obs.configure(service="a", liveness_stall=1).health

    async def main() -> None:
        health.start()

    asyncio.run(main())
    kept = asyncio.new_event_loop()
    kept.run_until_complete(main())
    time.sleep(2.5)
    kept.close()
    assert seen.logs == []


def test_a_process_that_was_suspended_is_not_restarted_for_it() -> None:
    """A paused virtual machine, or a container without CPU, is not a program that hangs."""
    code = """
import asyncio, time
import connectsoft_obs as obs
from connectsoft_obs.health import Probe
async def main():
    telemetry = obs.configure(service="a", liveness_stall=2)
    telemetry.health.start()
    print("runs", flush=True)
    for _ in range(60):
        await asyncio.sleep(0.05)
        if not telemetry.health.report(Probe.LIVENESS).passes:
            print("red", flush=True)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(4)
        os.kill(process.pid, signal.SIGCONT)
        said = process.stdout.read()
    assert "red" not in said
    assert "liveness is unhealthy" not in said


def test_an_async_check_on_a_blocked_loop_is_not_blamed(seen: Any) -> None:
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

        def watch() -> None:
            states.append(health.report(Probe.READINESS).passes)

        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            watch()
            time.sleep(0.01)  # noqa: ASYNC251  the stall, shorter than the 0.8 s after which results are stale

    asyncio.run(main())
    assert len(states) > 20
    assert all(states)
