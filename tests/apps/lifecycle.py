"""A service whose health the tests play with: each instance says who it is, and what stops are worth waiting for."""

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


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    async for said in socket.iter_text():
        await socket.send_text(said)


async def mark(request: Request) -> Response:
    what = request.path_params["what"]
    if what == "ready":
        obs.mark_ready()
    else:
        {"unready": obs.mark_unready, "broken": obs.fail_liveness}[what](request.query_params.get("reason", ""))
    return PlainTextResponse(what)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with (
        anyio.create_task_group() as group,
        answering_grpc(os.environ.get("GRPC_PORT")),
        listening(os.environ.get("SIDE_PORT")),
    ):
        group.start_soon(told)
        yield
        group.cancel_scope.cancel()
    print("lifespan ended", flush=True)


@asynccontextmanager
async def listening(port: str | None) -> AsyncIterator[None]:
    """The endpoints on a port of their own, if an environment variable asks for it."""
    if port is None:
        yield
        return
    from connectsoft_obs.endpoints import Listener

    listener = Listener(obs.configure(service="lived"), port=int(port))
    yield
    listener.close()


@asynccontextmanager
async def answering_grpc(port: str | None) -> AsyncIterator[None]:
    """A gRPC server beside the HTTP one, if an environment variable asks for it."""
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


async def told() -> None:
    await obs.draining()
    print("told of the drain", flush=True)


routes = [
    Route("/hello", hello),
    Route("/slow", slow),
    Route("/block", block),
    Route("/stream", stream),
    Route("/mark/{what}", mark),
    WebSocketRoute("/talk", talk),
]


def checks() -> None:
    """What an environment variable asks for."""
    wanted = os.environ.get("CHECKS", "").split()
    if "file" in wanted:

        @obs.readiness_check("file", interval=0.2)
        def file() -> None:
            content = Path(os.environ["CHECKED_FILE"])
            if content.exists() and (word := content.read_text().strip()):
                raise ValueError(word)

    if "optional" in wanted:

        @obs.readiness_check("optional", interval=0.2, critical=False, tags=["external"])
        async def optional() -> None:
            msg = "no luck at postgres://shop:hunter2@db/orders?password=hunter2"
            raise LookupError(msg)

    if "task" in wanted:

        @obs.startup_task("warm-cache")
        def warm() -> None:
            while not os.path.exists(os.environ["TASK_FILE"]):
                time.sleep(0.01)


checks()
app = Starlette(routes=routes, lifespan=lifespan)
bare = Starlette(routes=[*routes, Route("/health/ready", hello)])
app.add_middleware(obs.ObservabilityMiddleware, service="lived")
plain = obs.ObservabilityMiddleware(Starlette(routes=routes), service="lived")
