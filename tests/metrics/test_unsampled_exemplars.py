"""Exemplars name traces that exist: work whose trace is not sampled leaves none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import metrics
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import connectsoft_obs as obs
from connectsoft_obs.testing import capture

OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
PARENT = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"


async def plain(request: Request) -> Response:
    return PlainTextResponse("done")


async def events(request: Request) -> Response:
    async def body() -> Any:
        yield "data: 1\n\n"

    return StreamingResponse(body(), media_type="text/event-stream")


async def own_metrics(request: Request) -> Response:
    obs.histogram("shop.price", unit="s").record(0.5)
    metrics.get_meter("shop").create_histogram("shop.weight").record(3)
    return PlainTextResponse("done")


async def fails(request: Request) -> Response:
    return PlainTextResponse("no", 503)


@obs.job("exemplar-job")
def job() -> None: ...


@obs.consumer("exemplar-events", system="servicebus", headers=lambda message: message)
def consume(message: dict[str, str]) -> None: ...


def run_job() -> None:
    job()


def run_consumer() -> None:
    consume({"traceparent": f"00-{PARENT}-00"})


def run_async_operation() -> None:
    async def main() -> None:
        with obs.operation("exemplar-operation"):
            await asyncio.sleep(0)

    asyncio.run(main())


WORK: dict[str, Callable[[TestClient], object]] = {
    "request": lambda client: client.get("/plain"),
    "event stream": lambda client: client.get("/events"),
    "failed request": lambda client: client.get("/fails"),
    "request without route": lambda client: client.get("/nothing"),
    "metrics of the application": lambda client: client.get("/own"),
    "job": lambda client: run_job(),
    "message": lambda client: run_consumer(),
    "operation": lambda client: run_async_operation(),
}


def exemplars_of(work: Callable[[TestClient], object], **settings: Any) -> list[str]:
    """Run some work and return the lines of `/metrics` that have an exemplar."""
    routes = [Route("/plain", plain), Route("/events", events), Route("/fails", fails), Route("/own", own_metrics)]
    with capture(**settings):
        app = Starlette(routes=routes)
        app.add_middleware(obs.ObservabilityMiddleware, service="exemplars")
        client = TestClient(app)
        work(client)
        page = client.get("/metrics", headers=OPENMETRICS).text
    return [line for line in page.splitlines() if "# {" in line]


@pytest.mark.parametrize("work", WORK)
def test_work_that_is_not_sampled_leaves_no_exemplar(work: str) -> None:
    assert exemplars_of(WORK[work], traces_sampler="always_off") == []
    assert exemplars_of(WORK[work], traces_sampler="always_on")


def test_request_whose_parent_is_not_sampled_leaves_no_exemplar() -> None:
    def send(flags: str) -> Callable[[TestClient], object]:
        return lambda client: client.get("/own", headers={"traceparent": f"00-{PARENT}-{flags}"})

    assert exemplars_of(send("00")) == []
    assert {line.partition('trace_id="')[2][:32] for line in exemplars_of(send("01"))} == {PARENT[:32]}


def test_exemplar_filter_always_off_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "no such filter")  # an invalid variable has no effect
    assert exemplars_of(WORK["metrics of the application"], exemplar_filter="always_off") == []
