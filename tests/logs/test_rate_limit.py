"""One event cannot drown the others; whatever is held back is counted, and told in one line."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from support.log_format_cases import Stage
from support.process import uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.signals.logs import rate_limit
from connectsoft_obs.testing import Captured, capture


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(rate_limit, "monotonic", lambda: now[0])
    return now


def lines(stage: Stage) -> list[dict[str, object]]:
    return [json.loads(line) for line in stage.written.getvalue().splitlines()]


def held(stage: Stage) -> int:
    return stage.counted.count(("connectsoft.obs.dropped", ("logs", "rate_limited")))


def test_identical_errors_are_written_ten_times_a_second_and_then_summarised(clock: list[float]) -> None:
    stage = Stage("otel")
    for _ in range(100):
        stage.log.error("database is gone", host="db-1")
    assert len(lines(stage)) == 10
    assert held(stage) == 90
    clock[0] += 1.0
    stage.log.error("another error")
    *_, summary, other = lines(stage)
    assert summary["message"] == "identical lines were suppressed"
    assert (summary["logger"], summary["severity"]) == ("orders", "ERROR")
    assert (summary["connectsoft.log.event"], summary["connectsoft.log.suppressed"]) == ("database is gone", 90)
    assert other["message"] == "another error"
    stage.log.error("database is gone", host="db-1")
    assert lines(stage)[-1]["message"] == "database is gone"


def test_errors_that_say_something_else_are_all_written(clock: list[float]) -> None:
    stage = Stage("otel")
    for number in range(50):
        stage.log.error("order failed", order_id=number)
        stage.log.error("order %d failed", number)
        try:
            raise KeyError(number)
        except KeyError:
            stage.log.exception("lookup failed")
    assert len(lines(stage)) == 150
    assert held(stage) == 0


def test_the_same_exception_from_the_same_place_is_identical_and_from_another_is_not(clock: list[float]) -> None:
    stage = Stage("otel")

    def here() -> None:
        raise ConnectionError("refused")

    def there() -> None:
        raise ConnectionError("refused")

    for function in (here, there) * 30:
        try:
            function()
        except ConnectionError:
            stage.log.exception("call failed")
    assert len(lines(stage)) == 20
    assert held(stage) == 40
    stage.stream.flush(1)
    summaries = [line for line in lines(stage) if "connectsoft.log.suppressed" in line]
    assert [(line["exception.type"], line["connectsoft.log.suppressed"]) for line in summaries] == [
        ("ConnectionError", 20)
    ] * 2


def test_info_is_not_limited_unless_asked_for(clock: list[float]) -> None:
    stage = Stage("otel")
    for _ in range(500):
        stage.log.info("tick")
        stage.log.warning("careful")
    assert len(lines(stage)) == 1000
    limited = Stage("otel", log_rate_limit=3)
    for number in range(100):
        limited.log.info("tick", number=number)
        limited.log.info("tock", number=number)
    assert Counter(line["message"] for line in lines(limited)) == {"tick": 3, "tock": 3}
    assert held(limited) == 194


def test_a_limit_of_zero_is_none(clock: list[float]) -> None:
    stage = Stage("otel", log_error_rate_limit=0)
    for _ in range(500):
        stage.log.error("the same")
    assert len(lines(stage)) == 500


def test_more_events_than_can_be_told_apart_are_written_and_the_table_stays_small(clock: list[float]) -> None:
    stage = Stage("otel", log_rate_limit=1)
    for number in range(3000):
        stage.log.info(f"event {number}")  # noqa: G004  each is an event of its own
    assert len(lines(stage)) == 3000
    assert len(stage.stream._rate_limiter._seen) == rate_limit.EVENTS


def test_written_and_held_back_add_up_from_many_threads() -> None:
    stage = Stage("otel")

    def flood() -> None:
        for _ in range(200):
            stage.log.error("the same")

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stage.stream.flush(1)
    written = [line for line in lines(stage) if line["message"] == "the same"]
    suppressed = sum(
        int(str(line["connectsoft.log.suppressed"])) for line in lines(stage) if "connectsoft.log.suppressed" in line
    )
    assert len(written) + held(stage) == 1600
    assert suppressed == held(stage)


def test_a_summary_comes_by_itself_when_nothing_more_is_said() -> None:
    with uvicorn("chatty_logging:app") as service:
        service.ready()
        httpx.get(f"{service.url}/errors?times=50")
        wait_for(lambda: "identical lines were suppressed" in service.said, 5, "the summary")
        page = httpx.get(f"{service.url}/metrics").text
        service.stop()
    [summary] = [line for line in service.lines if "connectsoft.log.suppressed" in line]
    assert summary["connectsoft.log.suppressed"] == 40
    assert (
        'connectsoft_obs_dropped_total{connectsoft_obs_signal="logs",connectsoft_obs_reason="rate_limited"} 40' in page
    )


async def ok(request: Request) -> Response:
    return PlainTextResponse("ok")


async def status(request: Request) -> Response:
    raise HTTPException(int(request.path_params["code"]))


async def boom(request: Request) -> Response:
    raise ValueError("the same each time")


def observed() -> Starlette:
    app = Starlette(routes=[Route("/ok", ok), Route("/status/{code}", status), Route("/boom", boom)])
    app.add_middleware(obs.ObservabilityMiddleware, service="floods")
    return app


def access(seen: Captured) -> list[dict[str, object]]:
    return [line for line in seen.logs if line["logger"] == "connectsoft_obs.access"]


def test_a_failing_request_has_its_access_line_however_many_there_are() -> None:
    with capture() as seen, TestClient(observed(), raise_server_exceptions=False) as client:
        for _ in range(30):
            client.get("/boom")
    assert len(access(seen)) == 30
    exceptions = [
        line for line in seen.logs if line["logger"] == "connectsoft_obs.request" and "exception.message" in line
    ]
    assert len(exceptions) == 10


def test_sampling_holds_back_successes_only_and_agrees_with_the_trace_sampler() -> None:
    with capture(
        service="floods", access_log_sample=0.3, traces_sampler="traceidratio", traces_sampler_arg=0.3
    ) as seen:
        with TestClient(observed()) as client:
            for _ in range(200):
                client.get("/ok")
            for _ in range(20):
                client.get("/status/404")
                client.get("/status/503")
    written = Counter(line["http.response.status_code"] for line in access(seen))
    assert 0 < written[200] < 200
    assert (written[404], written[503]) == (20, 20)
    assert {line["trace_flags"] for line in access(seen) if line["http.response.status_code"] == 200} == {"03"}
    dropped = seen.metric("connectsoft.obs.dropped", connectsoft_obs_signal="logs", connectsoft_obs_reason="sampled")
    assert written[200] + dropped.value == 200


def test_standard_errors_are_limited_too(clock: list[float]) -> None:
    stage = Stage("otel")
    handler = floods_handler(stage)
    for _ in range(50):
        handler.handle(logging.LogRecord("lib", logging.ERROR, "f", 1, "pool %s exhausted", ("a",), None))
    assert len(lines(stage)) == 10


def floods_handler(stage: Stage) -> logging.Handler:
    from connectsoft_obs.signals.logs.stdlib import Handler

    return Handler(lambda: stage.stream)
