"""Job timeouts: enforced for async functions, recorded for sync functions, and distinct from other timeouts."""

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
from connectsoft_obs.work.options import RunOptions


def test_async_job_is_cancelled_at_its_timeout() -> None:
    cleanups = []

    @obs.job("slow", timeout=0.05)
    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            cleanups.append(True)

    started = time.monotonic()
    with capture() as captured, pytest.raises(TimeoutError, match=r"slow took longer than 0.05 s"):
        asyncio.run(slow())
    assert time.monotonic() - started < 10
    assert cleanups == [True]
    captured.span("run slow", connectsoft_outcome="timeout", error_type="timeout")
    assert captured.log("run slow timeout")["exception.type"] == "TimeoutError"
    assert captured.metric("connectsoft.job.active").value == 0


def test_trio_job_is_cancelled_at_its_timeout() -> None:
    @obs.job("slow", timeout=0.05)
    async def slow() -> None:
        await trio.sleep(30)

    with capture() as captured, pytest.raises(TimeoutError, match="took longer"):
        trio.run(slow)
    captured.span("run slow", connectsoft_outcome="timeout", error_type="timeout")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_timeouts_work_inside_anyio(backend: str) -> None:
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

    with capture() as captured:
        anyio.run(main, backend=backend)
    captured.span("run slow", connectsoft_outcome="timeout")
    captured.span("run fast", connectsoft_outcome="success")
    captured.span("run outer-limit", connectsoft_outcome="aborted", error_type="cancelled")


def test_sync_job_completes_and_its_timeout_is_recorded() -> None:
    @obs.job("late", timeout=0.01)
    def late() -> int:
        time.sleep(0.03)
        return 5

    with capture() as captured:
        assert late() == 5
    captured.span("run late", connectsoft_outcome="timeout", error_type="timeout")
    line = captured.log("run late timeout")
    assert line["severity"] == "ERROR"
    assert "exception.type" not in line


def test_exception_after_the_timeout_is_a_failure() -> None:
    @obs.job("late", timeout=0.01)
    def late() -> None:
        time.sleep(0.03)
        raise KeyError("missing")

    with capture() as captured, pytest.raises(KeyError):
        late()
    captured.span("run late", connectsoft_outcome="failure", error_type="KeyError")


def test_timeout_of_an_async_generator_starts_at_its_first_step() -> None:
    @obs.job("steps", timeout=0.1)
    async def steps() -> Any:
        for number in range(100):
            await asyncio.sleep(0.03)
            yield number

    async def main() -> list[int]:
        return [number async for number in steps()]

    with capture() as captured, pytest.raises(TimeoutError):
        asyncio.run(main())
    captured.span("run steps", connectsoft_outcome="timeout", error_type="timeout")


def test_job_within_its_timeout_is_not_cancelled() -> None:
    @obs.job("quick", timeout=30)
    async def quick() -> str:
        await asyncio.sleep(0)
        return "done"

    async def main() -> tuple[str, int]:
        result = await quick()
        task = asyncio.current_task()
        assert task is not None
        return result, task.cancelling()

    with capture() as captured:
        assert asyncio.run(main()) == ("done", 0)
    captured.span("run quick", connectsoft_outcome="success")


def test_external_cancellation_is_not_a_timeout() -> None:
    @obs.job("work", timeout=30)
    async def work() -> None:
        await asyncio.sleep(30)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with capture() as captured:
        asyncio.run(main())
    captured.span("run work", connectsoft_outcome="aborted", error_type="cancelled")


def test_timeout_error_inside_a_job_is_not_the_job_timeout() -> None:
    @obs.job("work", timeout=30)
    async def work() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(30)

    with capture() as captured, pytest.raises(TimeoutError):
        asyncio.run(work())
    captured.span("run work", connectsoft_outcome="timeout", error_type="TimeoutError")


def test_timeout_is_not_enforced_without_an_event_loop() -> None:
    @obs.job("manual", timeout=30)
    async def manual() -> int:
        return 5

    with capture() as captured:
        with pytest.raises(StopIteration) as exc_info:
            manual().send(None)
        assert exc_info.value.value == 5
    captured.span("run manual", connectsoft_outcome="success")


def test_cancellation_shortly_before_the_deadline_counts_as_timeout() -> None:
    options = RunOptions(timeout=1.0)
    assert options.outcome(asyncio.CancelledError(), 950_000_000, False, False)[0] is obs.Outcome.TIMEOUT
    assert options.outcome(asyncio.CancelledError(), 850_000_000, False, False)[0] is obs.Outcome.ABORTED
