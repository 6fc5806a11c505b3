"""A loop that has gone quiet makes the process unhealthy; one that waits for a job within its limit does not."""

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


def alive() -> bool:
    return resolve().health.report(Probe.LIVENESS).passes


def test_a_loop_that_stops_beating_turns_liveness_red_and_the_next_beat_turns_it_green() -> None:
    with capture() as seen:
        obs.heartbeat("poll-loop", every=0.05)
        assert alive()
        wait_for(lambda: not alive(), 5)
        obs.heartbeat("poll-loop", every=0.05)
        assert alive()
        moment = seen.metric("connectsoft.job.heartbeat.timestamp", connectsoft_job_name="poll-loop").value
    assert moment == pytest.approx(time.time(), abs=2)


def test_a_job_within_its_limit_counts_as_progress_until_the_limit_has_passed() -> None:
    release = threading.Event()
    began = threading.Event()

    @obs.job("long", timeout=0.5)
    def long() -> None:
        began.set()
        release.wait(10)

    def loop() -> None:
        obs.heartbeat("poll-loop", every=0.05)
        long()

    with capture():
        thread = threading.Thread(target=loop)
        thread.start()
        assert began.wait(5)
        time.sleep(0.15)  # three times what the loop promised; only the job can excuse it
        assert alive()
        wait_for(lambda: not alive(), 5)
        release.set()
        thread.join(5)


def test_a_job_without_a_limit_excuses_nobody() -> None:
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
        wait_for(lambda: not alive(), 5)
        release.set()
        thread.join(5)


def test_a_job_excuses_the_loop_it_was_begun_in_and_no_other() -> None:
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
        assert alive(), "the task that the loop started keeps it alive"
        second = asyncio.create_task(stuck())
        await asyncio.sleep(0.15)
        assert not alive()
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)

    with capture():
        asyncio.run(main())


def test_a_loop_that_ends_is_watched_no_more() -> None:
    with capture():
        with obs.heartbeat("first", every=0.01):
            pass
        obs.heartbeat("second", every=0.01).stop()
        time.sleep(0.05)
        assert alive()


def test_a_loop_that_an_exception_ended_is_not_alive() -> None:
    with capture():
        with pytest.raises(ValueError, match="broken"), obs.heartbeat("first", every=0.01):
            raise ValueError("broken")
        wait_for(lambda: not alive(), 5)


def test_a_process_that_drains_stays_alive_without_its_loops() -> None:
    with capture():
        obs.heartbeat("poll-loop", every=0.01)
        resolve().health.drain()
        time.sleep(0.05)
        assert alive()


def test_names_made_from_data_do_not_watch_without_end() -> None:
    with capture() as seen:
        for number in range(1200):
            obs.heartbeat(f"loop-{number}", every=30)
        assert alive()
        assert seen.telemetry is not None
    assert len(seen.metric("connectsoft.job.heartbeat.timestamp").series) <= 2000
