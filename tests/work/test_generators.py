"""Generators: a run lasts from the first step to the end and is the current context only during a step."""

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

tracer = trace.get_tracer("application")


def current_span_id() -> int:
    return trace.get_current_span().get_span_context().span_id


@obs.job("pages")
def pages(count: int) -> Generator[Any, Any, str]:
    for number in range(count):
        obs.bind(page=number)
        value = yield current_span_id()
        if value is not None:
            yield value
    return "done"


@obs.job("async-pages")
async def async_pages(count: int) -> AsyncGenerator[Any, Any]:
    for number in range(count):
        obs.bind(page=number)
        await asyncio.sleep(0)
        value = yield current_span_id()
        if value is not None:
            yield value


def test_run_is_current_only_during_a_step() -> None:
    with capture() as captured:
        with tracer.start_as_current_span("consumer") as outer:
            outer_span_id = outer.get_span_context().span_id
            step_span_ids = []
            for span_id in pages(3):
                step_span_ids.append(span_id)
                assert current_span_id() == outer_span_id
            assert current_span_id() == outer_span_id
        span = captured.span("run pages")
    assert step_span_ids == [span.context.span_id] * 3
    assert (span.attributes or {})["page"] == 2


def test_async_generator_run_is_current_only_during_a_step() -> None:
    async def main() -> None:
        with tracer.start_as_current_span("consumer") as outer:
            outer_span_id = outer.get_span_context().span_id
            async for span_id in async_pages(3):
                step_span_ids.append(span_id)
                assert current_span_id() == outer_span_id
                await asyncio.sleep(0)
                assert current_span_id() == outer_span_id

    step_span_ids: list[int] = []
    with capture() as captured:
        asyncio.run(main())
    assert step_span_ids == [captured.span("run async-pages").context.span_id] * 3


def test_interleaved_generators_have_separate_contexts() -> None:
    with capture() as captured:
        first, second = pages(3), pages(3)
        steps = [(next(first), next(second)) for _ in range(3)]
        assert current_span_id() == 0
        assert len({span_id for span_id, _ in steps}) == len({span_id for _, span_id in steps}) == 1
        assert steps[0][0] != steps[0][1]
        list(first), list(second)
    assert captured.metric("connectsoft.job.duration").count == 2
    assert len({span.context.trace_id for span in captured.spans}) == 2


def test_span_open_across_a_yield_is_current_in_the_next_step() -> None:
    current_after_yield = []

    @obs.job("spanning")
    def spanning() -> Any:
        with tracer.start_as_current_span("step") as step:
            yield step.get_span_context().span_id
            current_after_yield.append(current_span_id())
        yield current_span_id()

    with capture() as captured:
        step, last = list(spanning())
        assert current_span_id() == 0
    assert current_after_yield == [step]
    assert last == captured.span("run spanning").context.span_id


def test_send_throw_and_return_value_are_preserved() -> None:
    with capture() as captured:
        steps = pages(2)
        next(steps)
        assert steps.send("hello") == "hello"
        with pytest.raises(StopIteration) as exc_info:
            next(steps), next(steps)
        assert exc_info.value.value == "done"

        @obs.job("catches")
        def catches() -> Any:
            try:
                yield 1
            except ValueError as error:
                yield f"caught {error}"

        catching = catches()
        next(catching)
        assert catching.throw(ValueError("it")) == "caught it"
        with pytest.raises(KeyError):
            catching.throw(KeyError("out"))
    captured.span("run pages", connectsoft_outcome="success")
    captured.span("run catches", connectsoft_outcome="failure", error_type="KeyError")


def test_asend_and_athrow_are_preserved() -> None:
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
        catching = catches()
        await catching.__anext__()
        assert await catching.athrow(ValueError("it")) == "caught it"
        with pytest.raises(KeyError):
            await catching.athrow(KeyError("out"))

    with capture() as captured:
        asyncio.run(main())
    captured.span("run async-pages", connectsoft_outcome="success")
    captured.span("run async-catches", connectsoft_outcome="failure", error_type="KeyError")


def test_generator_abandoned_by_its_consumer_is_a_success() -> None:
    current_in_finally = []

    @obs.job("endless")
    def endless() -> Any:
        try:
            while True:
                yield current_span_id()
        finally:
            current_in_finally.append(current_span_id())

    with capture() as captured:
        for _ in endless():
            break
        gc.collect()
        assert captured.metric("connectsoft.job.active").value == 0
    span = captured.span("run endless", connectsoft_outcome="success")
    assert current_in_finally == [span.context.span_id], "the finally block runs inside the run"


@pytest.mark.parametrize("run", [asyncio.run, trio.run])
def test_closed_async_generator_is_a_success(run: Any) -> None:
    @obs.job("endless")
    async def endless() -> Any:
        while True:
            yield current_span_id()

    async def main() -> None:
        steps = endless()
        await steps.__anext__()
        await steps.aclose()

    with capture() as captured:
        run(main) if run is trio.run else run(main())
        assert captured.metric("connectsoft.job.active").value == 0
    captured.span("run endless", connectsoft_outcome="success")


def test_generator_that_is_never_iterated_has_no_run() -> None:
    with capture() as captured:
        pages(3)
        pages(3).close()

        async def main() -> None:
            await async_pages(3).aclose()

        asyncio.run(main())
    assert (captured.spans, captured.logs) == ([], [])


def test_exception_during_close_is_a_failure() -> None:
    @obs.job("fails-on-close")
    def fails_on_close() -> Any:
        try:
            yield 1
        finally:
            raise OSError("disk full")

    with capture() as captured:
        steps = fails_on_close()
        next(steps)
        with pytest.raises(OSError, match="disk full"):
            steps.close()
    captured.span("run fails-on-close", connectsoft_outcome="failure", error_type="OSError")


def test_exception_during_iteration_is_a_failure() -> None:
    """The run does not succeed at the creation of the generator object, as some instrumentation decorators record."""

    @obs.job("breaks")
    def breaks() -> Any:
        yield 1
        raise ValueError("half way")

    with capture() as captured, pytest.raises(ValueError, match="half way"):
        list(breaks())
    captured.span("run breaks", connectsoft_outcome="failure", error_type="ValueError")
    assert captured.metric("connectsoft.job.active").value == 0


def test_async_generator_can_be_iterated_by_several_tasks() -> None:
    async def main() -> None:
        steps = async_pages(4)
        for _ in range(4):
            await asyncio.create_task(steps.__anext__())
        with pytest.raises(StopAsyncIteration):
            await steps.__anext__()

    with capture() as captured:
        asyncio.run(main())
        assert captured.metric("connectsoft.job.active").value == 0
    captured.span("run async-pages", connectsoft_outcome="success")


def test_task_cancelled_during_a_step_aborts_the_run() -> None:
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

    with capture() as captured:
        asyncio.run(main())
    captured.span("run waits", connectsoft_outcome="aborted", error_type="cancelled")
