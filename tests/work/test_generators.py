"""A generator's run lasts from its first step to its end, is current inside each step, and never leaks out of one."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest
import trio
from opentelemetry import trace

import connectsoft_obs as obs
from connectsoft_obs.testing import capture

tracer = trace.get_tracer("mine")


def here() -> int:
    return trace.get_current_span().get_span_context().span_id


@obs.job("pages")
def pages(count: int) -> Generator[Any, Any, str]:
    for number in range(count):
        obs.bind(page=number)
        got = yield here()
        if got is not None:
            yield got
    return "done"


@obs.job("async-pages")
async def async_pages(count: int) -> AsyncGenerator[Any, Any]:
    for number in range(count):
        obs.bind(page=number)
        await asyncio.sleep(0)
        got = yield here()
        if got is not None:
            yield got


def test_the_run_is_current_in_each_step_and_not_between_them() -> None:
    with capture() as seen:
        with tracer.start_as_current_span("whoever iterates") as outer:
            mine = outer.get_span_context().span_id
            inside = []
            for step in pages(3):
                inside.append(step)
                assert here() == mine
            assert here() == mine
        span = seen.span("run pages")
    assert inside == [span.context.span_id] * 3
    assert (span.attributes or {})["page"] == 2


def test_the_run_of_an_async_generator_is_current_in_each_step_and_not_between_them() -> None:
    async def main() -> None:
        with tracer.start_as_current_span("whoever iterates") as outer:
            mine = outer.get_span_context().span_id
            async for step in async_pages(3):
                inside.append(step)
                assert here() == mine
                await asyncio.sleep(0)
                assert here() == mine

    inside: list[int] = []
    with capture() as seen:
        asyncio.run(main())
    assert inside == [seen.span("run async-pages").context.span_id] * 3


def test_two_generators_iterated_in_turns_do_not_mix() -> None:
    with capture() as seen:
        one, two = pages(3), pages(3)
        steps = [(next(one), next(two)) for _ in range(3)]
        assert here() == 0
        assert len({first for first, _ in steps}) == len({second for _, second in steps}) == 1
        assert steps[0][0] != steps[0][1]
        list(one), list(two)
    assert seen.metric("connectsoft.job.duration").count == 2
    assert len({span.context.trace_id for span in seen.spans}) == 2


def test_a_span_that_stays_open_over_a_yield_is_current_again_in_the_next_step() -> None:
    seen_inside = []

    @obs.job("spanning")
    def spanning() -> Any:
        with tracer.start_as_current_span("step") as step:
            yield step.get_span_context().span_id
            seen_inside.append(here())
        yield here()

    with capture() as seen:
        step, after = list(spanning())
        assert here() == 0
    assert seen_inside == [step]
    assert after == seen.span("run spanning").context.span_id


def test_send_throw_and_the_return_value_work_as_without_us() -> None:
    with capture() as seen:
        steps = pages(2)
        next(steps)
        assert steps.send("hello") == "hello"
        with pytest.raises(StopIteration) as stopped:
            next(steps), next(steps)
        assert stopped.value.value == "done"

        @obs.job("catches")
        def catches() -> Any:
            try:
                yield 1
            except ValueError as error:
                yield f"caught {error}"

        caught = catches()
        next(caught)
        assert caught.throw(ValueError("it")) == "caught it"
        with pytest.raises(KeyError):
            caught.throw(KeyError("out"))
    seen.span("run pages", connectsoft_outcome="success")
    seen.span("run catches", connectsoft_outcome="failure", error_type="KeyError")


def test_asend_and_athrow_work_as_without_us() -> None:
    @obs.job("async-catches")
    async def catches() -> Any:
        try:
            yield 1
        except ValueError as error:
            yield f"caught {error}"

    async def main() -> None:
        steps = async_pages(2)
        await steps.__anext__()
        assert await steps.asend("hello") == "hello"
        assert len([step async for step in steps]) == 1
        caught = catches()
        await caught.__anext__()
        assert await caught.athrow(ValueError("it")) == "caught it"
        with pytest.raises(KeyError):
            await caught.athrow(KeyError("out"))

    with capture() as seen:
        asyncio.run(main())
    seen.span("run async-pages", connectsoft_outcome="success")
    seen.span("run async-catches", connectsoft_outcome="failure", error_type="KeyError")


def test_whoever_has_had_enough_ends_the_run_with_success() -> None:
    closed = []

    @obs.job("endless")
    def endless() -> Any:
        try:
            while True:
                yield here()
        finally:
            closed.append(here())

    with capture() as seen:
        for _ in endless():
            break
        gc.collect()
        assert seen.metric("connectsoft.job.active").value == 0
    span = seen.span("run endless", connectsoft_outcome="success")
    assert closed == [span.context.span_id], "the clean-up runs inside the run"


@pytest.mark.parametrize("run", [asyncio.run, trio.run])
def test_an_async_generator_that_is_closed_ends_with_success(run: Any) -> None:
    @obs.job("endless")
    async def endless() -> Any:
        while True:
            yield here()

    async def main() -> None:
        steps = endless()
        await steps.__anext__()
        await steps.aclose()

    with capture() as seen:
        run(main) if run is trio.run else run(main())
        assert seen.metric("connectsoft.job.active").value == 0
    seen.span("run endless", connectsoft_outcome="success")


def test_a_generator_that_is_never_iterated_is_never_run() -> None:
    with capture() as seen:
        pages(3)
        pages(3).close()

        async def main() -> None:
            await async_pages(3).aclose()

        asyncio.run(main())
    assert (seen.spans, seen.logs) == ([], [])


def test_a_failing_clean_up_is_a_failure() -> None:
    @obs.job("unclean")
    def unclean() -> Any:
        try:
            yield 1
        finally:
            raise OSError("disk full")

    with capture() as seen:
        steps = unclean()
        next(steps)
        with pytest.raises(OSError, match="disk full"):
            steps.close()
    seen.span("run unclean", connectsoft_outcome="failure", error_type="OSError")


def test_an_iteration_that_fails_is_a_failure() -> None:
    """A popular decorator counts a generator as fine as soon as it is made."""

    @obs.job("breaks")
    def breaks() -> Any:
        yield 1
        raise ValueError("half way")

    with capture() as seen, pytest.raises(ValueError, match="half way"):
        list(breaks())
    seen.span("run breaks", connectsoft_outcome="failure", error_type="ValueError")
    assert seen.metric("connectsoft.job.active").value == 0


def test_an_async_generator_may_be_iterated_by_several_tasks() -> None:
    async def main() -> None:
        steps = async_pages(4)
        for _ in range(4):
            await asyncio.create_task(steps.__anext__())
        with pytest.raises(StopAsyncIteration):
            await steps.__anext__()

    with capture() as seen:
        asyncio.run(main())
        assert seen.metric("connectsoft.job.active").value == 0
    seen.span("run async-pages", connectsoft_outcome="success")


def test_a_task_cancelled_in_a_step_aborts_the_run() -> None:
    @obs.job("waits")
    async def waits() -> Any:
        yield 1
        await asyncio.sleep(30)

    async def main() -> None:
        async def iterate() -> None:
            async for _ in waits():
                pass

        task = asyncio.create_task(iterate())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with capture() as seen:
        asyncio.run(main())
    seen.span("run waits", connectsoft_outcome="aborted", error_type="cancelled")
