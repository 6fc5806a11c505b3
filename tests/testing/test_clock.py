"""`frozen_clock()`: telemetry has the time of the test, the application has the real time."""

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
from connectsoft_obs.testing import clock as clock_module

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
NOON_NS = 1_777_896_000_000_000_000


def test_request_duration_is_that_of_the_frozen_clock() -> None:
    async def hello(request: Request) -> PlainTextResponse:
        clock.advance(0.25)
        obs.get_logger("shop").info("in handler")
        clock.advance(0.5)
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/hello", hello)])
    app.add_middleware(obs.ObservabilityMiddleware, service="kit")
    with frozen_clock(NOON) as clock, capture() as captured:
        TestClient(app).get("/hello")
    span = captured.span("GET /hello")
    assert (span.start_time, span.end_time) == (NOON_NS, NOON_NS + 750_000_000)
    assert captured.log("in handler")["timestamp"] == "2026-05-04T12:00:00.250000Z"
    line = captured.log("GET /hello 200")
    assert line["timestamp"] == "2026-05-04T12:00:00.750000Z"
    assert line["connectsoft.http.server.request.duration"] == 0.75
    duration = captured.metric("http.server.request.duration")
    assert (duration.count, duration.sum) == (1, 0.75)
    assert [exemplar.timestamp for exemplar in duration.exemplars] == [NOON_NS / 1_000_000_000 + 0.75]


def test_jobs_messages_genai_calls_and_spans_use_the_frozen_clock() -> None:
    tracer = trace.get_tracer("shop")
    with frozen_clock(NOON) as clock, capture() as captured:
        with obs.operation("outer"):
            with obs.producer("orders", system="redis") as headers:
                clock.advance(1)
            clock.advance(2)
            asyncio.run(consume({"headers": headers}))
            with obs.genai_call("example-1", provider="example"):
                clock.advance(4)
            with tracer.start_as_current_span("external") as span:
                clock.advance(8)
                span.add_event("here")
    spans = {span.name: (span.end_time or 0) - (span.start_time or 0) for span in captured.spans}
    assert {name: duration / 1e9 for name, duration in spans.items()} == {
        "send orders": 1,
        "process orders": 0,
        "chat example-1": 4,
        "external": 8,
        "run outer": 15,
    }
    assert captured.span("external").events[0].timestamp == NOON_NS + 15_000_000_000
    assert captured.metric("connectsoft.job.duration", connectsoft_job_name="outer").sum == 15
    assert captured.metric("connectsoft.message.wait.duration").sum == 3, "the time between send and receive"
    assert captured.metric("gen_ai.client.operation.duration").sum == 4
    assert captured.metric("connectsoft.job.last_success.timestamp").value == NOON_NS / 1_000_000_000 + 15


@obs.consumer("orders", system="redis", headers=lambda message: message["headers"])
async def consume(message: dict[str, dict[str, str]]) -> None:
    """Consumer that does nothing."""


def test_two_runs_with_fixed_ids_are_equal() -> None:
    def run() -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        with frozen_clock(NOON) as clock, fixed_ids(), capture(service="kit") as captured, obs.operation("import"):
            clock.advance(0.1)
            obs.get_logger("shop").info("half done")
        spans = [json.loads(span.to_json()) for span in captured.spans]
        return captured.logs, [{**span, "resource": None} for span in spans]  # service.instance.id is random

    first, second = run(), run()
    assert first == second
    assert [line["message"] for line in first[0]] == ["half done", "run import success"]


def test_timeout_uses_real_time_and_the_frozen_clock() -> None:
    @obs.job("slow", timeout=0.05)
    async def slow(step: float) -> None:
        clock.advance(step)
        await asyncio.sleep(60)

    with frozen_clock() as clock, capture() as captured, pytest.raises(TimeoutError):
        asyncio.run(slow(0))
    assert captured.metric("connectsoft.job.duration", connectsoft_outcome="timeout").sum == 0
    with frozen_clock() as clock, capture() as captured, pytest.raises(TimeoutError):
        asyncio.run(slow(2))
    assert captured.metric("connectsoft.job.duration", connectsoft_outcome="timeout").sum == 2


def test_heartbeat_uses_the_frozen_clock() -> None:
    with frozen_clock() as clock, capture() as captured:
        loop = obs.heartbeat("poll-loop", every=30)
        clock.advance(29)
        assert loop.problem() == ""
        clock.advance(2)
        assert loop.problem() == "last heartbeat of loop poll-loop was 31 s ago; expected every 30 s"
        loop.beat()
        assert loop.problem() == ""
        timestamp = captured.metric("connectsoft.job.heartbeat.timestamp", connectsoft_job_name="poll-loop").value
        assert timestamp == clock.now.timestamp()


def test_application_time_is_not_frozen() -> None:
    with frozen_clock(NOON) as clock:
        before = time.time(), time.perf_counter()
        time.sleep(0.001)
        assert time.time() > before[0]
        assert time.perf_counter() > before[1]
        assert clock.now == NOON
    with capture() as captured, obs.operation("now"):
        pass
    assert abs((captured.span("run now").end_time or 0) / 1e9 - time.time()) < 60


def test_frozen_clocks_can_be_nested() -> None:
    def log_time() -> str:
        with capture() as captured:
            obs.get_logger("shop").info("here")
        return str(captured.log("here")["timestamp"])

    with frozen_clock(NOON):
        with frozen_clock() as inner:
            inner.advance(3600.5)
            assert log_time() == "2026-01-01T01:00:00.500000Z"
            assert inner.now == datetime(2026, 1, 1, 1, 0, 0, 500_000, tzinfo=UTC)
        assert log_time() == "2026-05-04T12:00:00.000000Z"


def test_frozen_clock_accepts_any_time_zone() -> None:
    with frozen_clock(NOON.astimezone(timezone(timedelta(hours=5)))) as clock:
        assert clock.now == NOON


def test_naive_time_and_negative_step_are_rejected() -> None:
    naive = datetime(2026, 5, 4, 12)
    with pytest.raises(obs.ConfigurationError, match="no time zone"), frozen_clock(naive):
        pass
    with frozen_clock() as clock, pytest.raises(obs.ConfigurationError, match="backwards"):
        clock.advance(-1)


def test_frozen_clock_covers_every_module_that_reads_the_time() -> None:
    """Modules that read times for telemetry use `from time import ...`; those that wait use `import time`."""
    package = Path(obs.__file__).parent
    modules = set()
    for path in package.rglob("*.py"):
        names = {
            alias.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ImportFrom) and node.module == "time"
            for alias in node.names
        }
        if names - {"monotonic"} and path.parent.name != "testing":
            assert names <= {"time", "time_ns", "perf_counter_ns"}, f"{path.name}: frozen_clock() has no such function"
            modules.add(".".join(path.relative_to(package).with_suffix("").parts))
    assert modules == set(clock_module._PATCHED_MODULES)
    assert {"time", "time_ns", "perf_counter_ns"} <= set(dir(Clock))
