"""The clock that tests stop: what is reported shows the time that the test says, and nothing else stands still."""

from __future__ import annotations

import ast
import asyncio
import json
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import connectsoft_obs as obs
from connectsoft_obs.testing import Clock, capture, fixed_ids, frozen_clock
from connectsoft_obs.testing import clock as module

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
NOON_NS = 1_777_896_000_000_000_000


def test_a_request_takes_as_long_as_the_test_says() -> None:
    async def hello(request: Request) -> PlainTextResponse:
        clock.advance(0.25)
        obs.get_logger("shop").info("said")
        clock.advance(0.5)
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/hello", hello)])
    app.add_middleware(obs.ObservabilityMiddleware, service="kit")
    with frozen_clock(NOON) as clock, capture() as seen:
        TestClient(app).get("/hello")
    span = seen.span("GET /hello")
    assert (span.start_time, span.end_time) == (NOON_NS, NOON_NS + 750_000_000)
    assert seen.log("said")["timestamp"] == "2026-05-04T12:00:00.250000Z"
    line = seen.log("GET /hello 200")
    assert line["timestamp"] == "2026-05-04T12:00:00.750000Z"
    assert line["http.server.request.duration"] == 0.75
    found = seen.metric("http.server.request.duration")
    assert (found.count, found.sum) == (1, 0.75)
    assert [exemplar.when for exemplar in found.exemplars] == [NOON_NS / 1_000_000_000 + 0.75]


def test_so_do_jobs_messages_model_calls_and_spans_of_opentelemetry() -> None:
    tracer = trace.get_tracer("shop")
    with frozen_clock(NOON) as clock, capture() as seen:
        with obs.operation("outer"):
            with obs.producer("orders", system="redis") as headers:
                clock.advance(1)
            clock.advance(2)
            asyncio.run(consume({"headers": headers}))
            with obs.genai_call("example-1", provider="example"):
                clock.advance(4)
            with tracer.start_as_current_span("theirs") as span:
                clock.advance(8)
                span.add_event("here")
    spans = {span.name: (span.end_time or 0) - (span.start_time or 0) for span in seen.spans}
    assert {name: taken / 1e9 for name, taken in spans.items()} == {
        "send orders": 1,
        "process orders": 0,
        "chat example-1": 4,
        "theirs": 8,
        "run outer": 15,
    }
    assert seen.span("theirs").events[0].timestamp == NOON_NS + 15_000_000_000
    assert seen.metric("connectsoft.job.duration", connectsoft_job_name="outer").sum == 15
    assert seen.metric("connectsoft.message.wait.duration").sum == 3, "from the sender's time to the reader's"
    assert seen.metric("gen_ai.client.operation.duration").sum == 4
    assert seen.metric("connectsoft.job.last_success.timestamp").value == NOON_NS / 1_000_000_000 + 15


@obs.consumer("orders", system="redis", headers=lambda message: message["headers"])
async def consume(message: dict[str, dict[str, str]]) -> None:
    """Nothing."""


def test_with_fixed_ids_two_runs_say_the_same_to_the_letter() -> None:
    def said() -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        with frozen_clock(NOON) as clock, fixed_ids(), capture(service="kit") as seen, obs.operation("import"):
            clock.advance(0.1)
            obs.get_logger("shop").info("half of it")
        spans = [json.loads(span.to_json()) for span in seen.spans]
        return seen.logs, [{**span, "resource": None} for span in spans]  # service.instance.id is made anew each time

    first, second = said(), said()
    assert first == second
    assert [line["message"] for line in first[0]] == ["half of it", "run import success"]


def test_a_time_limit_strikes_in_real_time_and_time_moved_on_counts_against_it() -> None:
    @obs.job("slow", timeout=0.05)
    async def slow(moved: float) -> None:
        clock.advance(moved)
        await asyncio.sleep(60)

    with frozen_clock() as clock, capture() as seen, pytest.raises(TimeoutError):
        asyncio.run(slow(0))
    assert seen.metric("connectsoft.job.duration", connectsoft_outcome="timeout").sum == 0
    with frozen_clock() as clock, capture() as seen, pytest.raises(TimeoutError):
        asyncio.run(slow(2))
    assert seen.metric("connectsoft.job.duration", connectsoft_outcome="timeout").sum == 2


def test_a_loop_that_does_not_beat_is_overdue_when_the_test_says_so() -> None:
    with frozen_clock() as clock, capture() as seen:
        loop = obs.heartbeat("poll-loop", every=30)
        clock.advance(29)
        assert loop.problem() == ""
        clock.advance(2)
        assert loop.problem() == "last heartbeat of loop poll-loop was 31 s ago; expected every 30 s"
        loop.beat()
        assert loop.problem() == ""
        moment = seen.metric("connectsoft.job.heartbeat.timestamp", connectsoft_job_name="poll-loop").value
        assert moment == clock.now.timestamp()


def test_the_time_of_the_application_goes_on_and_ours_too_afterwards() -> None:
    with frozen_clock(NOON) as clock:
        before = time.time(), time.perf_counter()
        time.sleep(0.001)
        assert time.time() > before[0]
        assert time.perf_counter() > before[1]
        assert clock.now == NOON
    with capture() as seen, obs.operation("now"):
        pass
    assert abs((seen.span("run now").end_time or 0) / 1e9 - time.time()) < 60


def test_blocks_nest_and_the_innermost_is_in_force() -> None:
    def when() -> str:
        with capture() as seen:
            obs.get_logger("shop").info("here")
        return str(seen.log("here")["timestamp"])

    with frozen_clock(NOON):
        with frozen_clock() as inner:
            inner.advance(3600.5)
            assert when() == "2026-01-01T01:00:00.500000Z"
            assert inner.now == datetime(2026, 1, 1, 1, 0, 0, 500_000, tzinfo=UTC)
        assert when() == "2026-05-04T12:00:00.000000Z"


def test_an_hour_of_another_zone_is_the_same_moment() -> None:
    with frozen_clock(NOON.astimezone(timezone(timedelta(hours=5)))) as clock:
        assert clock.now == NOON


def test_what_is_no_moment_and_a_step_back_are_refused() -> None:
    naive = datetime(2026, 5, 4, 12)
    with pytest.raises(obs.ConfigurationError, match="no time zone"), frozen_clock(naive):
        pass
    with frozen_clock() as clock, pytest.raises(obs.ConfigurationError, match="backwards"):
        clock.advance(-1)


def test_every_module_that_asks_for_the_time_of_what_is_reported_asks_the_clock() -> None:
    """`from time import ...` is what is reported; `import time` is what must really happen after a while."""
    package = Path(obs.__file__).parent
    asked = set()
    for path in package.rglob("*.py"):
        taken = {
            alias.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ImportFrom) and node.module == "time"
            for alias in node.names
        }
        if taken - {"monotonic"} and path.parent.name != "testing":
            assert taken <= {"time", "time_ns", "perf_counter_ns"}, f"{path.name}: frozen_clock() has no such function"
            asked.add(".".join(path.relative_to(package).with_suffix("").parts))
    assert asked == set(module._MODULES)
    assert {"time", "time_ns", "perf_counter_ns"} <= set(dir(Clock))
