"""A service with 10,000 series."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.openmetrics.exposition import generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs

wait_time = obs.histogram("shop.wait", unit="s", labels=("route",))
render: Any = generate_latest
registry = CollectorRegistry()
legacy_wait_time = Histogram(
    "legacy_wait_seconds", "The same series in prometheus_client.", ["route"], registry=registry
)


async def legacy(request: Request) -> Response:
    """The same series rendered by prometheus_client on the event loop, as its ASGI application does."""
    return Response(render(registry), media_type="text/plain")


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


@asynccontextmanager
async def create_series(_: Starlette) -> AsyncIterator[None]:
    for number in range(10_000 // 17):
        wait_time.record(0.02, route=f"/orders/{number}/items")
        legacy_wait_time.labels(f"/orders/{number}/items").observe(0.02)
    yield


app = Starlette(routes=[Route("/", hello), Route("/legacy", legacy)], lifespan=create_series)
app.add_middleware(obs.ObservabilityMiddleware, service="many-series")
