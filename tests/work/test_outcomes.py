"""How a run ends is how it is counted, for every kind of function; whatever ends it goes on to the caller."""

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
from connectsoft_obs.testing import capture
from connectsoft_obs.testing.captured_telemetry import Captured


class Broken(Exception):
    pass


def plain(act: Callable[[], Any]) -> Any:
    return obs.job("job", rejects=LookupError)(lambda: act())()


def coroutine(act: Callable[[], Any]) -> Any:
    @obs.job("job", rejects=LookupError)
    async def work() -> Any:
        await asyncio.sleep(0)
        return act()

    return asyncio.run(work())


def generator(act: Callable[[], Any]) -> Any:
    @obs.job("job", rejects=LookupError)
    def work() -> Any:
        yield 1
        yield act()

    return list(work())


def async_generator(act: Callable[[], Any]) -> Any:
    @obs.job("job", rejects=LookupError)
    async def work() -> Any:
        yield 1
        yield act()

    async def main() -> Any:
        return [one async for one in work()]

    return asyncio.run(main())


def block(act: Callable[[], Any]) -> Any:
    with obs.operation("job", rejects=LookupError):
        return act()


def on_trio(act: Callable[[], Any]) -> Any:
    @obs.job("job", rejects=LookupError)
    async def work() -> Any:
        await trio.lowlevel.checkpoint()
        return act()

    return trio.run(work)


KINDS = [plain, coroutine, generator, async_generator, block, on_trio]


def raising(error: BaseException) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


def counted(seen: Captured, outcome: str, error: str = "") -> None:
    """One run, in every signal, and nothing in flight."""
    [span] = seen.spans
    attributes = dict(span.attributes or {})
    bad = outcome in ("failure", "timeout")
    assert (attributes["connectsoft.outcome"], attributes.get("error.type", "")) == (outcome, error)
    assert span.status.status_code is (StatusCode.ERROR if bad else StatusCode.UNSET)
    assert span.status.description is None
    assert not span.events
    [line] = seen.logs
    assert line["message"] == f"run job {outcome}"
    assert line["severity"] == ("ERROR" if bad else "INFO")
    assert line.get("error.type", "") == error
    assert ("exception.stacktrace" in line) == bad
    samples = seen.metric("connectsoft.job.duration", connectsoft_outcome=outcome, error_type=error)
    assert samples.count == seen.metric("connectsoft.job.duration").count == 1
    assert seen.metric("connectsoft.job.active").value == 0
    last_success = seen.metric("connectsoft.job.last_success.timestamp")
    assert len(last_success.series) == (outcome == "success")
    assert len(seen.metric("connectsoft.job.last_run.timestamp").series) == 1
    assert seen.metric("connectsoft.obs.errors").value == 0


@pytest.mark.parametrize("kind", KINDS)
def test_returning_is_success(kind: Callable[..., Any]) -> None:
    with capture() as seen:
        kind(lambda: 1)
    counted(seen, "success")


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_is_a_failure_and_is_raised_on_as_it_is(kind: Callable[..., Any]) -> None:
    error = Broken("it broke")
    with capture() as seen, pytest.raises(Broken) as raised:
        kind(raising(error))
    assert raised.value is error
    counted(seen, "failure", f"{__name__}.Broken")
    assert seen.log()["exception.message"] == "it broke"
    assert seen.log()["otel.event.name"] == "connectsoft.job.exception"
    assert "in act" in seen.log()["exception.stacktrace"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_timeout_error_of_the_works_own_is_a_timeout_under_its_own_name(kind: Callable[..., Any]) -> None:
    with capture() as seen, pytest.raises(TimeoutError):
        kind(raising(TimeoutError("the database took too long")))
    counted(seen, "timeout", "TimeoutError")


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_input_is_to_blame_for_is_rejected(kind: Callable[..., Any]) -> None:
    with capture() as seen, pytest.raises(KeyError):
        kind(raising(KeyError("no such customer")))
    counted(seen, "rejected")


@pytest.mark.parametrize("kind", KINDS)
def test_skipping_is_rejected_with_its_reason(kind: Callable[..., Any]) -> None:
    with capture() as seen:
        kind(lambda: obs.skip("no orders today"))
    counted(seen, "rejected")
    assert (seen.span().attributes or {})["connectsoft.skip.reason"] == "no orders today"
    assert seen.log()["connectsoft.skip.reason"] == "no orders today"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not on_trio])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError()])
def test_being_told_to_stop_is_neither_success_nor_failure_and_passes_through(
    kind: Callable[..., Any], error: BaseException
) -> None:
    with capture() as seen, pytest.raises(type(error)):
        kind(raising(error))
    counted(seen, "aborted", "cancelled")


def test_an_exception_after_a_skip_decides() -> None:
    def act() -> None:
        obs.skip("never mind")
        raise Broken

    with capture() as seen, pytest.raises(Broken):
        plain(act)
    counted(seen, "failure", f"{__name__}.Broken")


def test_a_cancelled_task_is_aborted_and_leaves_nothing_in_flight() -> None:
    """A popular decorator leaks its gauge here for ever, and counts nothing."""

    @obs.job("job")
    async def work() -> None:
        await asyncio.sleep(30)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        assert seen.metric("connectsoft.job.active").value == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    with capture() as seen:
        asyncio.run(main())
    counted(seen, "aborted", "cancelled")


def test_a_cancelled_trio_task_is_aborted() -> None:
    @obs.job("job")
    async def work() -> None:
        await trio.sleep(30)

    async def main() -> None:
        with trio.move_on_after(0.01) as scope:
            await work()
        assert scope.cancelled_caught

    with capture() as seen:
        trio.run(main)
    counted(seen, "aborted", "cancelled")


def test_a_coroutine_that_is_closed_is_aborted_and_one_that_never_ran_is_no_run() -> None:
    @obs.job("job")
    async def work() -> None:
        await asyncio.sleep(30)

    with capture() as seen:
        never = work()
        never.close()
        assert seen.telemetry is None, "nothing has asked for it"

        async def main() -> None:
            begun = work()
            begun.send(None)
            begun.close()

        asyncio.run(main())
    counted(seen, "aborted", "cancelled")


def test_an_exception_is_logged_once_however_many_runs_it_leaves() -> None:
    @obs.job("inner")
    def inner() -> None:
        raise Broken("once")

    @obs.job("outer")
    def outer() -> None:
        inner()

    with capture() as seen, pytest.raises(Broken):
        outer()
    first, second = seen.logs
    assert (first["message"], second["message"]) == ("run inner failure", "run outer failure")
    assert "exception.stacktrace" in first
    assert "exception.stacktrace" not in second
    assert second["exception.message"] == "once"
    assert seen.metric("connectsoft.job.duration", connectsoft_outcome="failure").count == 2


def test_an_exception_that_cannot_be_printed_or_marked_changes_nothing() -> None:
    class Awkward(Exception):
        __slots__ = ()

        def __str__(self) -> str:
            raise RuntimeError

        def __setattr__(self, name: str, value: object) -> None:
            raise RuntimeError

    with capture() as seen, pytest.raises(Awkward):
        plain(raising(Awkward()))
    assert seen.metric("connectsoft.job.duration", connectsoft_outcome="failure").count == 1
    assert len(seen.logs) == 1


def test_error_types_without_end_share_one_series() -> None:
    with capture() as seen:
        for number in range(300):
            kind = type(f"Odd{number}", (Exception,), {})
            with pytest.raises(kind):
                plain(raising(kind()))
        series = seen.metric("connectsoft.job.duration", connectsoft_outcome="failure").series
        other = seen.metric("connectsoft.job.duration", error_type="_OTHER")
    assert len(series) == 51
    assert other.count == 250
    assert seen.metric("connectsoft.job.duration", connectsoft_outcome="failure").count == 300


def test_outside_a_run_skipping_does_nothing() -> None:
    with capture() as seen:
        obs.skip("nothing runs")
    assert seen.logs == []


def test_a_run_that_ours_fails_to_begin_or_end_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from connectsoft_obs.work.run import Run

    def broken(*_: Any) -> None:
        raise OSError("ours")

    for step in ("_start", "_finish"):
        with capture() as seen, monkeypatch.context() as patch:
            patch.setattr(Run, step, broken)
            assert plain(lambda: 5) == 5
            assert coroutine(lambda: 6) == 6
            assert generator(lambda: 7) == [1, 7]
            assert async_generator(lambda: 8) == [1, 8]
            assert seen.metric("connectsoft.obs.errors").value == 4
            assert seen.metric("connectsoft.job.active").value == 0


def test_the_frames_of_a_failed_run_are_not_kept_alive() -> None:
    import gc
    import weakref

    class Held:
        pass

    kept: list[weakref.ref[Held]] = []

    def act() -> None:
        held = Held()
        kept.append(weakref.ref(held))
        raise Broken

    gc.disable()
    try:
        with capture():
            with suppress(Broken):
                plain(act)
            assert kept[0]() is None, "without a garbage collection"
    finally:
        gc.enable()
