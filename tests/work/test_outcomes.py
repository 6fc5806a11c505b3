"""Outcomes of runs for every kind of function; exceptions always reach the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.lowlevel
from opentelemetry.trace import StatusCode

import connectsoft_obs as obs
from connectsoft_obs.telemetry import resolve
from connectsoft_obs.testing import capture
from connectsoft_obs.testing.captured_telemetry import Captured


class ApplicationError(Exception):
    pass


class FrameworkExit(SystemExit):
    """Like `celery.exceptions.WorkerShutdown`, by which Celery stops a worker."""


def run_function(action: Callable[[], Any]) -> Any:
    return obs.job("job", rejects=LookupError)(lambda: action())()


def run_coroutine(action: Callable[[], Any]) -> Any:
    @obs.job("job", rejects=LookupError)
    async def work() -> Any:
        await asyncio.sleep(0)
        return action()

    return asyncio.run(work())


def run_generator(action: Callable[[], Any]) -> Any:
    @obs.job("job", rejects=LookupError)
    def work() -> Any:
        yield 1
        yield action()

    return list(work())


def run_async_generator(action: Callable[[], Any]) -> Any:
    @obs.job("job", rejects=LookupError)
    async def work() -> Any:
        yield 1
        yield action()

    async def main() -> Any:
        return [value async for value in work()]

    return asyncio.run(main())


def run_block(action: Callable[[], Any]) -> Any:
    with obs.operation("job", rejects=LookupError):
        return action()


def run_trio_coroutine(action: Callable[[], Any]) -> Any:
    @obs.job("job", rejects=LookupError)
    async def work() -> Any:
        await trio.lowlevel.checkpoint()
        return action()

    return trio.run(work)


RUNNERS = [run_function, run_coroutine, run_generator, run_async_generator, run_block, run_trio_coroutine]


def action_raising(error: BaseException) -> Callable[[], Any]:
    """An action that raises the error."""

    def action() -> Any:
        raise error

    return action


def assert_one_run(captured: Captured, outcome: str, error_type: str = "") -> None:
    """Assert that every signal has recorded exactly one run, and that no run is active."""
    [span] = captured.spans
    attributes = dict(span.attributes or {})
    is_error = outcome in ("failure", "timeout")
    assert (attributes["connectsoft.outcome"], attributes.get("error.type", "")) == (outcome, error_type)
    assert span.status.status_code is (StatusCode.ERROR if is_error else StatusCode.UNSET)
    assert span.status.description is None
    assert not span.events
    [line] = captured.logs
    assert line["message"] == f"run job {outcome}"
    assert line["severity"] == ("ERROR" if is_error else "INFO")
    assert line.get("error.type", "") == error_type
    assert ("exception.stacktrace" in line) == is_error
    runs = captured.metric("connectsoft.job.duration", connectsoft_outcome=outcome, error_type=error_type)
    assert runs.count == captured.metric("connectsoft.job.duration").count == 1
    assert captured.metric("connectsoft.job.active").value == 0
    last_success = captured.metric("connectsoft.job.last_success.timestamp")
    assert len(last_success.series) == (outcome == "success")
    assert len(captured.metric("connectsoft.job.last_run.timestamp").series) == 1
    assert captured.metric("connectsoft.obs.errors").value == 0


@pytest.mark.parametrize("run", RUNNERS)
def test_return_is_a_success(run: Callable[..., Any]) -> None:
    with capture() as captured:
        run(lambda: 1)
    assert_one_run(captured, "success")


@pytest.mark.parametrize("run", RUNNERS)
def test_exception_is_a_failure_and_is_reraised_unchanged(run: Callable[..., Any]) -> None:
    error = ApplicationError("it broke")
    with capture() as captured, pytest.raises(ApplicationError) as exc_info:
        run(action_raising(error))
    assert exc_info.value is error
    assert_one_run(captured, "failure", f"{__name__}.ApplicationError")
    assert captured.log()["exception.message"] == "it broke"
    assert captured.log()["otel.event.name"] == "connectsoft.job.exception"
    assert "in action" in captured.log()["exception.stacktrace"]


@pytest.mark.parametrize("run", RUNNERS)
def test_timeout_error_of_the_application_is_a_timeout_with_its_own_type(run: Callable[..., Any]) -> None:
    with capture() as captured, pytest.raises(TimeoutError):
        run(action_raising(TimeoutError("the database took too long")))
    assert_one_run(captured, "timeout", "TimeoutError")


@pytest.mark.parametrize("run", RUNNERS)
def test_exception_listed_in_rejects_is_rejected(run: Callable[..., Any]) -> None:
    with capture() as captured, pytest.raises(KeyError):
        run(action_raising(KeyError("no such customer")))
    assert_one_run(captured, "rejected")


@pytest.mark.parametrize("run", RUNNERS)
def test_skip_is_rejected_with_its_reason(run: Callable[..., Any]) -> None:
    with capture() as captured:
        run(lambda: obs.skip("no orders today"))
    assert_one_run(captured, "rejected")
    assert (captured.span().attributes or {})["connectsoft.skip.reason"] == "no orders today"
    assert captured.log()["connectsoft.skip.reason"] == "no orders today"


@pytest.mark.parametrize("run", [run for run in RUNNERS if run is not run_trio_coroutine])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError(), FrameworkExit(3)])
def test_interrupt_cancellation_and_stop_are_aborted_and_reraised(
    run: Callable[..., Any], error: BaseException
) -> None:
    with capture() as captured, pytest.raises(type(error)):
        run(action_raising(error))
    assert_one_run(captured, "aborted", "cancelled")


@pytest.mark.parametrize("run", [run for run in RUNNERS if run is not run_trio_coroutine])
@pytest.mark.parametrize("code", [1, 3, "disk full"])
def test_exit_with_an_error_code_is_a_failure(run: Callable[..., Any], code: object) -> None:
    with capture() as captured, pytest.raises(SystemExit):
        run(action_raising(SystemExit(code)))
    assert_one_run(captured, "failure", "SystemExit")


@pytest.mark.parametrize("run", [run for run in RUNNERS if run is not run_trio_coroutine])
@pytest.mark.parametrize("code", [None, 0])
def test_exit_without_an_error_code_is_a_success(run: Callable[..., Any], code: object) -> None:
    with capture() as captured, pytest.raises(SystemExit):
        run(action_raising(SystemExit(code)))
    assert_one_run(captured, "success")


def test_exit_while_the_process_stops_is_aborted() -> None:
    with capture() as captured:
        resolve().health.drain()
        with pytest.raises(SystemExit):
            run_function(action_raising(SystemExit(1)))
    assert_one_run(captured, "aborted", "cancelled")


def test_exception_after_a_skip_determines_the_outcome() -> None:
    def action() -> None:
        obs.skip("nothing to do")
        raise ApplicationError

    with capture() as captured, pytest.raises(ApplicationError):
        run_function(action)
    assert_one_run(captured, "failure", f"{__name__}.ApplicationError")


def test_cancelled_task_is_aborted_and_no_longer_active() -> None:
    """Some instrumentation decorators do not decrement the gauge and record no run in this case."""

    @obs.job("job")
    async def work() -> None:
        await asyncio.sleep(30)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        assert captured.metric("connectsoft.job.active").value == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    with capture() as captured:
        asyncio.run(main())
    assert_one_run(captured, "aborted", "cancelled")


def test_cancelled_trio_task_is_aborted() -> None:
    @obs.job("job")
    async def work() -> None:
        await trio.sleep(30)

    async def main() -> None:
        with trio.move_on_after(0.01) as scope:
            await work()
        assert scope.cancelled_caught

    with capture() as captured:
        trio.run(main)
    assert_one_run(captured, "aborted", "cancelled")


def test_closed_coroutine_is_aborted_and_unstarted_coroutine_is_not_recorded() -> None:
    @obs.job("job")
    async def work() -> None:
        await asyncio.sleep(30)

    with capture() as captured:
        unstarted = work()
        unstarted.close()
        assert captured.telemetry is None, "telemetry is created on first use"

        async def main() -> None:
            started = work()
            started.send(None)
            started.close()

        asyncio.run(main())
    assert_one_run(captured, "aborted", "cancelled")


def test_stack_trace_is_logged_once_for_nested_runs() -> None:
    @obs.job("inner")
    def inner() -> None:
        raise ApplicationError("once")

    @obs.job("outer")
    def outer() -> None:
        inner()

    with capture() as captured, pytest.raises(ApplicationError):
        outer()
    first, second = captured.logs
    assert (first["message"], second["message"]) == ("run inner failure", "run outer failure")
    assert "exception.stacktrace" in first
    assert "exception.stacktrace" not in second
    assert second["exception.message"] == "once"
    assert captured.metric("connectsoft.job.duration", connectsoft_outcome="failure").count == 2


def test_exception_that_cannot_be_printed_or_modified_is_recorded() -> None:
    class UnprintableError(Exception):
        __slots__ = ()

        def __str__(self) -> str:
            raise RuntimeError

        def __setattr__(self, name: str, value: object) -> None:
            raise RuntimeError

    with capture() as captured, pytest.raises(UnprintableError):
        run_function(action_raising(UnprintableError()))
    assert captured.metric("connectsoft.job.duration", connectsoft_outcome="failure").count == 1
    assert len(captured.logs) == 1


def test_number_of_error_type_series_is_limited() -> None:
    with capture() as captured:
        for number in range(300):
            error_class = type(f"Odd{number}", (Exception,), {})
            with pytest.raises(error_class):
                run_function(action_raising(error_class()))
        series = captured.metric("connectsoft.job.duration", connectsoft_outcome="failure").series
        other = captured.metric("connectsoft.job.duration", error_type="_OTHER")
    assert len(series) == 51
    assert other.count == 250
    assert captured.metric("connectsoft.job.duration", connectsoft_outcome="failure").count == 300


def test_skip_outside_a_run_has_no_effect() -> None:
    with capture() as captured:
        obs.skip("no run is active")
    assert captured.logs == []


def test_internal_fault_at_start_or_finish_does_not_stop_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from connectsoft_obs.work.run import Run

    def fail(*_: Any) -> None:
        raise OSError("internal fault")

    for method in ("_start", "_finish"):
        with capture() as captured, monkeypatch.context() as patch:
            patch.setattr(Run, method, fail)
            assert run_function(lambda: 5) == 5
            assert run_coroutine(lambda: 6) == 6
            assert run_generator(lambda: 7) == [1, 7]
            assert run_async_generator(lambda: 8) == [1, 8]
            assert captured.metric("connectsoft.obs.errors").value == 4
            assert captured.metric("connectsoft.job.active").value == 0


def test_frames_of_a_failed_run_are_released_without_garbage_collection() -> None:
    import gc
    import weakref

    class LocalObject:
        pass

    references: list[weakref.ref[LocalObject]] = []

    def action() -> None:
        local_object = LocalObject()
        references.append(weakref.ref(local_object))
        raise ApplicationError

    gc.disable()
    try:
        with capture():
            with suppress(ApplicationError):
                run_function(action)
            assert references[0]() is None, "released without a garbage collection"
    finally:
        gc.enable()
