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

waits = obs.histogram("shop.wait", unit="s", labels=("route",))


write: Any = generate_latest
registry = CollectorRegistry()
legacy_waits = Histogram("legacy_wait_seconds", "The same.", ["route"], registry=registry)


async def legacy(request: Request) -> Response:
    """The same series as prometheus_client writes them, on the event loop as its own ASGI application does."""
    return Response(write(registry), media_type="text/plain")


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


@asynccontextmanager
async def filled(_: Starlette) -> AsyncIterator[None]:
    for number in range(10_000 // 17):
        waits.record(0.02, route=f"/orders/{number}/items")
        legacy_waits.labels(f"/orders/{number}/items").observe(0.02)
    yield


app = Starlette(routes=[Route("/", hello), Route("/legacy", legacy)], lifespan=filled)
app.add_middleware(obs.ObservabilityMiddleware, service="many")
