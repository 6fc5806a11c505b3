"""A service that reports how many objects its requests leave to the garbage collector."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import connectsoft_obs as obs


async def item(request: Request) -> Response:
    return PlainTextResponse("an item")


async def stream(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"chunk"

    return StreamingResponse(chunks())


@obs.job
async def empty_job() -> None:
    return None


async def work(request: Request) -> Response:
    await empty_job()
    return PlainTextResponse("done")


async def uncollected(request: Request) -> Response:
    """The number of objects since the last call; automatic collection is off from the first call on."""
    gc.disable()
    return JSONResponse(gc.collect())


async def open_requests(request: Request) -> Response:
    """The number of request objects that are still referenced, including the one of this request."""
    return JSONResponse(sum(type(item).__qualname__ == "HttpRequest" for item in gc.get_objects()))


routes = {"/item": item, "/stream": stream, "/work": work, "/uncollected": uncollected, "/open-requests": open_requests}
app = Starlette(routes=[Route(path, endpoint) for path, endpoint in routes.items()])
if "BARE" not in os.environ:
    app.add_middleware(obs.ObservabilityMiddleware, service="gc-probe")
