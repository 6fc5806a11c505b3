"""Attempts of one piece of work: each links to the one before, retries are counted, and only the last failure counts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

import connectsoft_obs as obs
from connectsoft_obs.testing import capture
from connectsoft_obs.testing.captured_telemetry import Captured


def tried(failures: int, attempts: int, work: Any) -> None:
    """A retry loop as people write them."""
    for attempt in range(1, attempts + 1):
        try:
            work(attempt, attempt <= failures)
        except ConnectionError:
            if attempt == attempts:
                raise
        else:
            return


def block(attempt: int, fails: bool) -> None:
    with obs.operation("import", attempt=attempt, attempts=3):
        if fails:
            raise ConnectionError("not yet")


@obs.job("import", attempt="number", attempts=3)
def function(number: int, fails: bool) -> None:
    if fails:
        raise ConnectionError("not yet")


def linked(seen: Captured) -> None:
    for before, after in zip(seen.spans, seen.spans[1:], strict=False):
        assert [link.context.span_id for link in after.links] == [before.context.span_id]
        assert [link.context.trace_id for link in after.links] == [before.context.trace_id]
    assert [(span.attributes or {})["connectsoft.job.attempt"] for span in seen.spans] == list(
        range(1, len(seen.spans) + 1)
    )


@pytest.mark.parametrize("work", [block, function])
def test_success_after_retries_is_one_success(work: Any) -> None:
    with capture() as seen:
        tried(2, 3, work)
    linked(seen)
    assert [span.status.status_code for span in seen.spans] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert seen.metric("connectsoft.job.duration").count == 1
    assert seen.metric("connectsoft.job.duration", connectsoft_outcome="success").count == 1
    assert seen.metric("connectsoft.job.retries", connectsoft_job_name="import").value == 2
    assert [line["severity"] for line in seen.logs] == ["WARN", "WARN", "INFO"]
    assert [line["message"] for line in seen.logs] == [
        "run import failure and will be retried",
        "run import failure and will be retried",
        "run import success",
    ]
    assert "exception.stacktrace" not in seen.logs[0]
    assert seen.logs[0]["exception.message"] == "not yet"
    assert "connectsoft.outcome" not in seen.logs[0], "what has no outcome yet has none"


@pytest.mark.parametrize("work", [block, function])
def test_only_the_last_failure_is_the_jobs(work: Any) -> None:
    with capture() as seen, pytest.raises(ConnectionError):
        tried(3, 3, work)
    linked(seen)
    assert seen.metric("connectsoft.job.duration").count == 1
    assert seen.metric("connectsoft.job.duration", connectsoft_outcome="failure").count == 1
    assert seen.metric("connectsoft.job.retries").value == 2
    assert [line["severity"] for line in seen.logs] == ["WARN", "WARN", "ERROR"]
    assert "exception.stacktrace" in seen.logs[2]
    assert seen.metric("connectsoft.job.active").value == 0


def test_a_first_attempt_that_succeeds_is_no_retry_and_links_to_nothing() -> None:
    with capture() as seen:
        tried(2, 3, block)
        tried(0, 3, block)
    assert not seen.spans[3].links
    assert seen.metric("connectsoft.job.retries").value == 2


def test_retries_inside_a_run_are_the_runs_own_business() -> None:
    @obs.job("whole")
    def whole() -> None:
        tried(2, 3, block)

    with capture() as seen:
        whole()
    seen.span("run whole", connectsoft_outcome="success")
    assert seen.metric("connectsoft.job.duration", connectsoft_job_name="whole").count == 1
    assert len({span.context.trace_id for span in seen.spans}) == 1


def test_loops_that_run_at_the_same_time_link_to_their_own_attempts() -> None:
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

    with capture() as seen:
        asyncio.run(main())
    by_id = {span.context.span_id: span for span in seen.spans}
    for span in seen.spans:
        number: Any = (span.attributes or {})["connectsoft.job.attempt"]
        assert len(span.links) == (number > 1)
        for link in span.links:
            assert (by_id[link.context.span_id].attributes or {})["connectsoft.job.attempt"] == number - 1
    linked_to = [link.context.span_id for span in seen.spans for link in span.links]
    assert len(linked_to) == len(set(linked_to)) == 10
