"""A time limit is enforced where the event loop can, observed where it cannot, and told apart from others' timeouts."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

import connectsoft_obs as obs
from connectsoft_obs.testing import capture


def test_an_async_job_is_cancelled_at_its_limit() -> None:
    cleaned = []

    @obs.job("slow", timeout=0.05)
    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            cleaned.append(True)

    began = time.monotonic()
    with capture() as seen, pytest.raises(TimeoutError, match=r"slow took longer than 0.05 s"):
        asyncio.run(slow())
    assert time.monotonic() - began < 10
    assert cleaned == [True]
    seen.span("run slow", connectsoft_outcome="timeout", error_type="timeout")
    assert seen.log("run slow timeout")["exception.type"] == "TimeoutError"
    assert seen.metric("connectsoft.job.active").value == 0


def test_a_trio_job_is_cancelled_at_its_limit() -> None:
    @obs.job("slow", timeout=0.05)
    async def slow() -> None:
        await trio.sleep(30)

    with capture() as seen, pytest.raises(TimeoutError, match="took longer"):
        trio.run(slow)
    seen.span("run slow", connectsoft_outcome="timeout", error_type="timeout")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_limits_work_inside_anyio(backend: str) -> None:
    @obs.job("slow", timeout=0.05)
    async def slow() -> None:
        await anyio.sleep(30)

    @obs.job("fast", timeout=30)
    async def fast() -> int:
        await anyio.lowlevel.checkpoint()
        return 5

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fast)
            with pytest.raises(TimeoutError):
                await slow()
        with anyio.move_on_after(0.01) as scope:
            await obs.job("outer-limit", timeout=30)(slow.__wrapped__)()  # type: ignore[attr-defined]
        assert scope.cancelled_caught

    with capture() as seen:
        anyio.run(main, backend=backend)
    seen.span("run slow", connectsoft_outcome="timeout")
    seen.span("run fast", connectsoft_outcome="success")
    seen.span("run outer-limit", connectsoft_outcome="aborted", error_type="cancelled")


def test_a_sync_job_is_observed_and_what_it_returns_is_returned() -> None:
    @obs.job("late", timeout=0.01)
    def late() -> int:
        time.sleep(0.03)
        return 5

    with capture() as seen:
        assert late() == 5
    seen.span("run late", connectsoft_outcome="timeout", error_type="timeout")
    line = seen.log("run late timeout")
    assert line["severity"] == "ERROR"
    assert "exception.type" not in line


def test_a_late_failure_is_a_failure() -> None:
    @obs.job("late", timeout=0.01)
    def late() -> None:
        time.sleep(0.03)
        raise KeyError("missing")

    with capture() as seen, pytest.raises(KeyError):
        late()
    seen.span("run late", connectsoft_outcome="failure", error_type="KeyError")


def test_the_limit_of_an_async_generator_counts_from_its_first_step() -> None:
    @obs.job("steps", timeout=0.1)
    async def steps() -> Any:
        for number in range(100):
            await asyncio.sleep(0.03)
            yield number

    async def main() -> list[int]:
        return [number async for number in steps()]

    with capture() as seen, pytest.raises(TimeoutError):
        asyncio.run(main())
    seen.span("run steps", connectsoft_outcome="timeout", error_type="timeout")


def test_a_job_within_its_limit_is_left_alone() -> None:
    @obs.job("quick", timeout=30)
    async def quick() -> str:
        await asyncio.sleep(0)
        return "done"

    async def main() -> tuple[str, int]:
        result = await quick()
        task = asyncio.current_task()
        assert task is not None
        return result, task.cancelling()

    with capture() as seen:
        assert asyncio.run(main()) == ("done", 0)
    seen.span("run quick", connectsoft_outcome="success")


def test_a_cancellation_from_outside_stays_one() -> None:
    @obs.job("work", timeout=30)
    async def work() -> None:
        await asyncio.sleep(30)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with capture() as seen:
        asyncio.run(main())
    seen.span("run work", connectsoft_outcome="aborted", error_type="cancelled")


def test_an_inner_timeout_is_not_taken_for_ours() -> None:
    @obs.job("work", timeout=30)
    async def work() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(30)

    with capture() as seen, pytest.raises(TimeoutError):
        asyncio.run(work())
    seen.span("run work", connectsoft_outcome="timeout", error_type="TimeoutError")


def test_a_coroutine_driven_by_hand_has_no_event_loop_to_enforce_anything() -> None:
    @obs.job("by-hand", timeout=30)
    async def by_hand() -> int:
        return 5

    with capture() as seen:
        with pytest.raises(StopIteration) as stopped:
            by_hand().send(None)
        assert stopped.value.value == 5
    seen.span("run by-hand", connectsoft_outcome="success")
