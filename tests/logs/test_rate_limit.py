"""Rate limiting of repeated log events: suppressed records are counted, and summarised in one line."""

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
from support.log_format_cases import LogRecorder
from support.process import uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.signals.logs import rate_limit
from connectsoft_obs.testing import Captured, capture


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(rate_limit, "monotonic", lambda: now[0])
    return now


def written_lines(recorder: LogRecorder) -> list[dict[str, object]]:
    return [json.loads(line) for line in recorder.output.getvalue().splitlines()]


def count_suppressed(recorder: LogRecorder) -> int:
    return recorder.counter_calls.count(("connectsoft.obs.dropped", ("logs", "rate_limited")))


def test_identical_errors_are_limited_and_summarised(clock: list[float]) -> None:
    recorder = LogRecorder("otel")
    for _ in range(100):
        recorder.log.error("database is gone", host="db-1")
    assert len(written_lines(recorder)) == 10
    assert count_suppressed(recorder) == 90
    clock[0] += 1.0
    recorder.log.error("another error")
    *_, summary, other = written_lines(recorder)
    assert summary["message"] == "identical lines were suppressed"
    assert (summary["logger"], summary["severity"]) == ("orders", "ERROR")
    assert (summary["connectsoft.log.event"], summary["connectsoft.log.suppressed"]) == ("database is gone", 90)
    assert other["message"] == "another error"
    recorder.log.error("database is gone", host="db-1")
    assert written_lines(recorder)[-1]["message"] == "database is gone"


def test_errors_with_different_content_are_not_limited(clock: list[float]) -> None:
    recorder = LogRecorder("otel")
    for number in range(50):
        recorder.log.error("order failed", order_id=number)
        recorder.log.error("order %d failed", number)
        try:
            raise KeyError(number)
        except KeyError:
            recorder.log.exception("lookup failed")
    assert len(written_lines(recorder)) == 150
    assert count_suppressed(recorder) == 0


def test_exceptions_are_distinguished_by_where_they_are_raised(clock: list[float]) -> None:
    recorder = LogRecorder("otel")

    def raise_first() -> None:
        raise ConnectionError("refused")

    def raise_second() -> None:
        raise ConnectionError("refused")

    for function in (raise_first, raise_second) * 30:
        try:
            function()
        except ConnectionError:
            recorder.log.exception("call failed")
    assert len(written_lines(recorder)) == 20
    assert count_suppressed(recorder) == 40
    recorder.pipeline.flush(1)
    summaries = [line for line in written_lines(recorder) if "connectsoft.log.suppressed" in line]
    assert [(line["exception.type"], line["connectsoft.log.suppressed"]) for line in summaries] == [
        ("ConnectionError", 20)
    ] * 2


def test_levels_below_error_are_limited_only_by_setting(clock: list[float]) -> None:
    recorder = LogRecorder("otel")
    for _ in range(500):
        recorder.log.info("tick")
        recorder.log.warning("careful")
    assert len(written_lines(recorder)) == 1000
    limited_recorder = LogRecorder("otel", log_rate_limit=3)
    for number in range(100):
        limited_recorder.log.info("tick", number=number)
        limited_recorder.log.info("tock", number=number)
    assert Counter(line["message"] for line in written_lines(limited_recorder)) == {"tick": 3, "tock": 3}
    assert count_suppressed(limited_recorder) == 194


def test_limit_of_zero_disables_the_rate_limit(clock: list[float]) -> None:
    recorder = LogRecorder("otel", log_error_rate_limit=0)
    for _ in range(500):
        recorder.log.error("the same")
    assert len(written_lines(recorder)) == 500


def test_number_of_distinguished_events_is_bounded(clock: list[float]) -> None:
    recorder = LogRecorder("otel", log_rate_limit=1)
    for number in range(3000):
        recorder.log.info(f"event {number}")  # noqa: G004  each message is a separate event
    assert len(written_lines(recorder)) == 3000
    assert len(recorder.pipeline._rate_limiter._counts) == rate_limit.MAX_EVENTS


def test_written_and_suppressed_records_add_up_over_threads() -> None:
    recorder = LogRecorder("otel")

    def log_errors() -> None:
        for _ in range(200):
            recorder.log.error("the same")

    threads = [threading.Thread(target=log_errors) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.pipeline.flush(1)
    written = [line for line in written_lines(recorder) if line["message"] == "the same"]
    suppressed = sum(
        int(str(line["connectsoft.log.suppressed"]))
        for line in written_lines(recorder)
        if "connectsoft.log.suppressed" in line
    )
    assert len(written) + count_suppressed(recorder) == 1600
    assert suppressed == count_suppressed(recorder)


def test_summary_is_written_without_further_records() -> None:
    with uvicorn("chatty_logging:app") as service:
        service.wait_until_ready()
        httpx.get(f"{service.url}/errors?times=50")
        wait_for(lambda: "identical lines were suppressed" in service.output, 5, "the summary")
        page = httpx.get(f"{service.url}/metrics").text
        service.stop()
    [summary] = [line for line in service.json_lines if "connectsoft.log.suppressed" in line]
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


def observed_app() -> Starlette:
    app = Starlette(routes=[Route("/ok", ok), Route("/status/{code}", status), Route("/boom", boom)])
    app.add_middleware(obs.ObservabilityMiddleware, service="rate-limit")
    return app


def access_lines(seen: Captured) -> list[dict[str, object]]:
    return [line for line in seen.logs if line["logger"] == "connectsoft_obs.access"]


def test_access_lines_of_failing_requests_are_not_limited() -> None:
    with capture() as seen, TestClient(observed_app(), raise_server_exceptions=False) as client:
        for _ in range(30):
            client.get("/boom")
    assert len(access_lines(seen)) == 30
    exceptions = [
        line for line in seen.logs if line["logger"] == "connectsoft_obs.request" and "exception.message" in line
    ]
    assert len(exceptions) == 10


def test_sampling_applies_to_successes_and_follows_the_trace_sampler() -> None:
    with capture(
        service="rate-limit", access_log_sample=0.3, traces_sampler="traceidratio", traces_sampler_arg=0.3
    ) as seen:
        with TestClient(observed_app()) as client:
            for _ in range(200):
                client.get("/ok")
            for _ in range(20):
                client.get("/status/404")
                client.get("/status/503")
    written = Counter(line["http.response.status_code"] for line in access_lines(seen))
    assert 0 < written[200] < 200
    assert (written[404], written[503]) == (20, 20)
    assert {line["trace_flags"] for line in access_lines(seen) if line["http.response.status_code"] == 200} == {"03"}
    dropped = seen.metric("connectsoft.obs.dropped", connectsoft_obs_signal="logs", connectsoft_obs_reason="sampled")
    assert written[200] + dropped.value == 200


def test_records_of_the_standard_library_are_limited(clock: list[float]) -> None:
    recorder = LogRecorder("otel")
    handler = create_handler(recorder)
    for _ in range(50):
        handler.handle(logging.LogRecord("lib", logging.ERROR, "f", 1, "pool %s exhausted", ("a",), None))
    assert len(written_lines(recorder)) == 10


def create_handler(recorder: LogRecorder) -> logging.Handler:
    from connectsoft_obs.signals.logs.stdlib import Handler

    return Handler(lambda: recorder.pipeline)
