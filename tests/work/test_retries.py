"""Retries: each attempt links to the previous one, retries are counted, and only the last attempt has an outcome."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

import connectsoft_obs as obs
from connectsoft_obs.testing import capture
from connectsoft_obs.testing.captured_telemetry import Captured


def run_with_retries(failures: int, attempts: int, work: Any) -> None:
    """A retry loop of an application."""
    for attempt in range(1, attempts + 1):
        try:
            work(attempt, attempt <= failures)
        except ConnectionError:
            if attempt == attempts:
                raise
        else:
            return


def attempt_in_block(attempt: int, fails: bool) -> None:
    with obs.operation("import", attempt=attempt, attempts=3):
        if fails:
            raise ConnectionError("not yet")


@obs.job("import", attempt="number", attempts=3)
def attempt_in_function(number: int, fails: bool) -> None:
    if fails:
        raise ConnectionError("not yet")


def assert_attempts_linked(captured: Captured) -> None:
    for previous, following in itertools.pairwise(captured.spans):
        assert [link.context.span_id for link in following.links] == [previous.context.span_id]
        assert [link.context.trace_id for link in following.links] == [previous.context.trace_id]
    assert [(span.attributes or {})["connectsoft.job.attempt"] for span in captured.spans] == list(
        range(1, len(captured.spans) + 1)
    )


@pytest.mark.parametrize("work", [attempt_in_block, attempt_in_function])
def test_success_after_retries_is_one_successful_run(work: Any) -> None:
    with capture() as captured:
        run_with_retries(2, 3, work)
    assert_attempts_linked(captured)
    assert [span.status.status_code for span in captured.spans] == [
        StatusCode.ERROR,
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]
    assert captured.metric("connectsoft.job.duration").count == 1
    assert captured.metric("connectsoft.job.duration", connectsoft_outcome="success").count == 1
    assert captured.metric("connectsoft.job.retries", connectsoft_job_name="import").value == 2
    assert [line["severity"] for line in captured.logs] == ["WARN", "WARN", "INFO"]
    assert [line["message"] for line in captured.logs] == [
        "run import failure and will be retried",
        "run import failure and will be retried",
        "run import success",
    ]
    assert "exception.stacktrace" not in captured.logs[0]
    assert captured.logs[0]["exception.message"] == "not yet"
    assert "connectsoft.outcome" not in captured.logs[0], "an attempt that will be retried has no outcome"


@pytest.mark.parametrize("work", [attempt_in_block, attempt_in_function])
def test_only_the_last_failure_is_recorded_as_a_failed_run(work: Any) -> None:
    with capture() as captured, pytest.raises(ConnectionError):
        run_with_retries(3, 3, work)
    assert_attempts_linked(captured)
    assert captured.metric("connectsoft.job.duration").count == 1
    assert captured.metric("connectsoft.job.duration", connectsoft_outcome="failure").count == 1
    assert captured.metric("connectsoft.job.retries").value == 2
    assert [line["severity"] for line in captured.logs] == ["WARN", "WARN", "ERROR"]
    assert "exception.stacktrace" in captured.logs[2]
    assert captured.metric("connectsoft.job.active").value == 0


def test_first_attempt_is_not_a_retry_and_has_no_link() -> None:
    with capture() as captured:
        run_with_retries(2, 3, attempt_in_block)
        run_with_retries(0, 3, attempt_in_block)
    assert not captured.spans[3].links
    assert captured.metric("connectsoft.job.retries").value == 2


def test_retries_inside_a_successful_run_do_not_affect_its_outcome() -> None:
    @obs.job("outer")
    def outer() -> None:
        run_with_retries(2, 3, attempt_in_block)

    with capture() as captured:
        outer()
    captured.span("run outer", connectsoft_outcome="success")
    assert captured.metric("connectsoft.job.duration", connectsoft_job_name="outer").count == 1
    assert len({span.context.trace_id for span in captured.spans}) == 1


def test_concurrent_retry_loops_link_to_their_own_attempts() -> None:
    async def attempt(name: str, number: int) -> None:
        with obs.operation(name, attempt=number, attempts=3):
            obs.bind(loop=name)
            await asyncio.sleep(0.001)
            if number < 3:
                raise ConnectionError

    async def loop(name: str) -> None:
        for number in range(1, 4):
            try:
                await attempt("same", number)
            except ConnectionError:
                continue

    async def main() -> None:
        await asyncio.gather(*(loop(f"loop-{number}") for number in range(5)))

    with capture() as captured:
        asyncio.run(main())
    spans_by_id = {span.context.span_id: span for span in captured.spans}
    for span in captured.spans:
        number: Any = (span.attributes or {})["connectsoft.job.attempt"]
        assert len(span.links) == (number > 1)
        for link in span.links:
            assert (spans_by_id[link.context.span_id].attributes or {})["connectsoft.job.attempt"] == number - 1
    linked_span_ids = [link.context.span_id for span in captured.spans for link in span.links]
    assert len(linked_span_ids) == len(set(linked_span_ids)) == 10
