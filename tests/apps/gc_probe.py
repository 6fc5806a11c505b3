"""A service that tells how many objects its requests have left to the garbage collector."""

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
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"piece"

    return StreamingResponse(pieces())


@obs.job
async def nothing() -> None:
    return None


async def work(request: Request) -> Response:
    await nothing()
    return PlainTextResponse("done")


async def left(request: Request) -> Response:
    """How many since the last time; from here on nobody collects them but this."""
    gc.disable()
    return JSONResponse(gc.collect())


async def held(request: Request) -> Response:
    """How many requests are still held by somebody, this one included."""
    return JSONResponse(sum(type(one).__qualname__ == "HttpRequest" for one in gc.get_objects()))


routes = {"/item": item, "/stream": stream, "/work": work, "/left": left, "/held": held}
app = Starlette(routes=[Route(path, endpoint) for path, endpoint in routes.items()])
if "BARE" not in os.environ:
    app.add_middleware(obs.ObservabilityMiddleware, service="litter")
