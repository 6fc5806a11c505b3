"""A small Starlette service with the middleware, and the same routes without it as `bare`."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

import connectsoft_obs as obs

log = obs.get_logger("orders")


async def item(request: Request) -> Response:
    return JSONResponse({"id": request.path_params["id"]})


async def logged(request: Request) -> Response:
    obs.bind(tenant_id="acme", order_id=42)
    log.info("order placed", total=99.5)
    return JSONResponse({"ok": True})


async def boom(request: Request) -> Response:
    msg = "it broke"
    raise ValueError(msg)


async def status(request: Request) -> Response:
    code = int(request.path_params["code"])
    if code >= 400:
        raise HTTPException(code)
    return PlainTextResponse("ok", code)


async def slow(request: Request) -> Response:
    await asyncio.sleep(float(request.query_params.get("seconds", "1")))
    return PlainTextResponse("slow")


async def stream(request: Request) -> Response:
    async def chunks() -> AsyncIterator[str]:
        for number in range(int(request.query_params.get("chunks", "3"))):
            yield f"{number}\n"
            await asyncio.sleep(float(request.query_params.get("pause", "0")))

    return StreamingResponse(chunks(), media_type=request.query_params.get("type", "text/plain"))


async def echo(request: Request) -> Response:
    return Response(await request.body())


async def threads(request: Request) -> Response:
    return JSONResponse(sorted(thread.name for thread in threading.enumerate()))


async def background(request: Request) -> Response:
    async def log_later() -> None:
        await asyncio.sleep(0.3)
        log.info("background done")

    return PlainTextResponse("now", background=BackgroundTask(log_later))


routes = [
    Route("/items/{id:int}", item),
    Route("/logged", logged),
    Route("/boom", boom),
    Route("/status/{code}", status),
    Route("/slow", slow),
    Route("/stream", stream),
    Route("/echo", echo, methods=["POST"]),
    Route("/background", background),
    Route("/threads", threads),
    Mount("/api/{version}", routes=[Route("/items/{id}", item)]),
]

app: Any = Starlette(routes=routes)
bare = Starlette(routes=routes)
if os.environ.get("WRAP") == "outside":
    app = obs.ObservabilityMiddleware(app, service="orders-api")
else:
    app.add_middleware(obs.ObservabilityMiddleware, service="orders-api")
