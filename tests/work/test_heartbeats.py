"""Heartbeats: liveness fails when a loop stops sending them, except while it waits for a job within its timeout."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from support.process import wait_for

import connectsoft_obs as obs
from connectsoft_obs.health import Probe
from connectsoft_obs.telemetry import resolve
from connectsoft_obs.testing import capture


def is_alive() -> bool:
    return resolve().health.report(Probe.LIVENESS).passes


def test_liveness_fails_without_heartbeats_and_recovers_with_the_next_one() -> None:
    with capture() as captured:
        obs.heartbeat("poll-loop", every=0.05)
        assert is_alive()
        wait_for(lambda: not is_alive(), 5)
        obs.heartbeat("poll-loop", every=0.05)
        assert is_alive()
        timestamp = captured.metric("connectsoft.job.heartbeat.timestamp", connectsoft_job_name="poll-loop").value
    assert timestamp == pytest.approx(time.time(), abs=2)


def test_job_with_a_timeout_keeps_its_loop_alive_until_the_timeout() -> None:
    release = threading.Event()
    started = threading.Event()

    @obs.job("long", timeout=0.5)
    def long() -> None:
        started.set()
        release.wait(10)

    def loop() -> None:
        obs.heartbeat("poll-loop", every=0.05)
        long()

    with capture():
        thread = threading.Thread(target=loop)
        thread.start()
        assert started.wait(5)
        time.sleep(0.15)  # three heartbeat intervals; only the running job keeps the loop alive
        assert is_alive()
        wait_for(lambda: not is_alive(), 5)
        release.set()
        thread.join(5)


def test_job_without_a_timeout_does_not_keep_its_loop_alive() -> None:
    release = threading.Event()

    @obs.job("endless")
    def endless() -> None:
        release.wait(10)

    def loop() -> None:
        obs.heartbeat("poll-loop", every=0.05)
        endless()

    with capture():
        thread = threading.Thread(target=loop)
        thread.start()
        wait_for(lambda: not is_alive(), 5)
        release.set()
        thread.join(5)


def test_job_keeps_only_the_loop_that_started_it_alive() -> None:
    async def main() -> None:
        @obs.job("long", timeout=30)
        async def long() -> None:
            await asyncio.sleep(30)

        async def busy() -> None:
            obs.heartbeat("busy", every=0.05)
            async with asyncio.TaskGroup() as group:
                group.create_task(long())

        async def stuck() -> None:
            obs.heartbeat("stuck", every=0.05)
            await asyncio.sleep(30)

        first = asyncio.create_task(busy())
        await asyncio.sleep(0.15)
        assert is_alive(), "a job in a task of the loop keeps it alive"
        second = asyncio.create_task(stuck())
        await asyncio.sleep(0.15)
        assert not is_alive()
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)

    with capture():
        asyncio.run(main())


def test_stopped_heartbeat_is_not_monitored() -> None:
    with capture():
        with obs.heartbeat("first", every=0.01):
            pass
        obs.heartbeat("second", every=0.01).stop()
        time.sleep(0.05)
        assert is_alive()


def test_loop_that_ends_with_an_exception_is_not_alive() -> None:
    with capture():
        with pytest.raises(ValueError, match="broken"), obs.heartbeat("first", every=0.01):
            raise ValueError("broken")
        wait_for(lambda: not is_alive(), 5)


def test_draining_process_stays_alive_without_heartbeats() -> None:
    with capture():
        obs.heartbeat("poll-loop", every=0.01)
        resolve().health.drain()
        time.sleep(0.05)
        assert is_alive()


def test_number_of_monitored_heartbeats_is_limited() -> None:
    with capture() as captured:
        for number in range(1200):
            obs.heartbeat(f"loop-{number}", every=30)
        assert is_alive()
        assert captured.telemetry is not None
    assert len(captured.metric("connectsoft.job.heartbeat.timestamp").series) <= 2000
