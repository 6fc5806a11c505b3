"""A service for tests of health checks and shutdown; environment variables configure its checks and listeners."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import connectsoft_obs as obs


async def hello(request: Request) -> Response:
    return PlainTextResponse(str(os.getpid()))


async def slow(request: Request) -> Response:
    await anyio.sleep(float(request.query_params["seconds"]))
    return PlainTextResponse("slow")


def blocking(seconds: float) -> None:
    time.sleep(seconds)  # the line that the stall watchdog must name


async def block(request: Request) -> Response:
    blocking(float(request.query_params["seconds"]))
    return PlainTextResponse("blocked")


async def stream(request: Request) -> Response:
    async def ticks() -> AsyncIterator[str]:
        while not obs.draining():
            yield "tick\n"
            await anyio.sleep(0.05)
        yield "draining\n"

    return StreamingResponse(ticks(), media_type="text/event-stream")


async def chat(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


async def mark(request: Request) -> Response:
    state = request.path_params["state"]
    if state == "ready":
        obs.mark_ready()
    else:
        {"unready": obs.mark_unready, "broken": obs.fail_liveness}[state](request.query_params.get("reason", ""))
    return PlainTextResponse(state)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with (
        anyio.create_task_group() as group,
        serve_grpc(os.environ.get("GRPC_PORT")),
        serve_endpoints(os.environ.get("SIDE_PORT")),
    ):
        group.start_soon(report_drain)
        yield
        group.cancel_scope.cancel()
    print("lifespan ended", flush=True)


@asynccontextmanager
async def serve_endpoints(port: str | None) -> AsyncIterator[None]:
    """Serve the endpoints on a separate port, if one is configured."""
    if port is None:
        yield
        return
    from connectsoft_obs.endpoints import EndpointServer

    server = EndpointServer(obs.configure(service="lifecycle"), port=int(port))
    yield
    server.close()


@asynccontextmanager
async def serve_grpc(port: str | None) -> AsyncIterator[None]:
    """Run a gRPC health server, if a port is configured."""
    if port is None:
        yield
        return
    import grpc

    from connectsoft_obs.integrations.grpc_health import add_health

    server = grpc.aio.server()
    add_health(server, services=["shop.Orders"])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    yield
    await server.stop(0)


async def report_drain() -> None:
    await obs.draining()
    print("drain started", flush=True)


routes = [
    Route("/hello", hello),
    Route("/slow", slow),
    Route("/block", block),
    Route("/stream", stream),
    Route("/mark/{state}", mark),
    WebSocketRoute("/chat", chat),
]


def declare_checks() -> None:
    """Declare the checks that the environment variable CHECKS lists."""
    names = os.environ.get("CHECKS", "").split()
    if "file" in names:

        @obs.readiness_check("file", interval=0.2)
        def file() -> None:
            path = Path(os.environ["CHECKED_FILE"])
            if path.exists() and (reason := path.read_text().strip()):
                raise ValueError(reason)

    if "optional" in names:

        @obs.readiness_check("optional", interval=0.2, critical=False, tags=["external"])
        async def optional() -> None:
            msg = "cannot connect to postgres://shop:hunter2@db/orders?password=hunter2"
            raise LookupError(msg)

    if "task" in names:

        @obs.startup_task("warm-cache")
        def warm_cache() -> None:
            while not os.path.exists(os.environ["TASK_FILE"]):
                time.sleep(0.01)


declare_checks()
app = Starlette(routes=routes, lifespan=lifespan)
bare = Starlette(routes=[*routes, Route("/health/ready", hello)])
app.add_middleware(obs.ObservabilityMiddleware, service="lifecycle")
plain = obs.ObservabilityMiddleware(Starlette(routes=routes), service="lifecycle")
