"""A service with one path for every outcome of a request."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

import connectsoft_obs as obs


async def status(request: Request) -> Response:
    code = int(request.path_params["code"])
    return Response(b"" if code in (204, 304) else b"x", code)


async def http_exception(request: Request) -> Response:
    raise HTTPException(int(request.path_params["code"]))


async def raises(request: Request) -> Response:
    message = "it broke"
    raise LookupError(message)


async def raises_midway(request: Request) -> Response:
    async def body() -> Any:
        yield b"some"
        message = "midway"
        raise LookupError(message)

    return StreamingResponse(body())


async def times_out(request: Request) -> Response:
    async with asyncio.timeout(0.01):
        await asyncio.sleep(5)
    return PlainTextResponse("never")


async def cancelled(request: Request) -> Response:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(0.01, task.cancel)
    await asyncio.sleep(5)
    return PlainTextResponse("never")


async def slow(request: Request) -> Response:
    await asyncio.sleep(0.8)
    return PlainTextResponse("late")


async def chunks(request: Request) -> Response:
    async def body() -> Any:
        for _ in range(100):
            yield b"x" * 1000
            await asyncio.sleep(0.05)

    return StreamingResponse(body(), media_type=request.query_params.get("type", "text/plain"))


async def upload(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


class Raw:
    """A plain ASGI application that violates the protocol, which frameworks prevent."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].endswith("/never"):
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
        if scope["path"].endswith("/twice"):
            await send({"type": "http.response.start", "status": 200, "headers": []})


async def ws_echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


async def ws_closes(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("bye")
    await socket.close()


async def ws_rejects(socket: WebSocket) -> None:
    await socket.close(4403)


async def ws_crashes(socket: WebSocket) -> None:
    await socket.accept()
    message = "socket broke"
    raise LookupError(message)


async def ws_unread(socket: WebSocket) -> None:
    await socket.accept()
    while True:
        await socket.receive_text()


async def ws_sends(socket: WebSocket) -> None:
    await socket.accept()
    for _ in range(150):  # hypercorn and granian do not tell an application that only sends
        await socket.send_text("x" * 1000)
        await asyncio.sleep(0.01)


app = Starlette(
    routes=[
        Route("/status/{code:int}", status),
        Route("/http-exception/{code:int}", http_exception),
        Route("/raises", raises),
        Route("/raises-midway", raises_midway),
        Route("/times-out", times_out),
        Route("/cancelled", cancelled),
        Route("/slow", slow),
        Route("/chunks", chunks),
        Route("/upload", upload, methods=["POST"]),
        Mount("/raw", app=Raw()),
        WebSocketRoute("/ws/echo/{room}", ws_echo),
        WebSocketRoute("/ws/closes", ws_closes),
        WebSocketRoute("/ws/rejects", ws_rejects),
        WebSocketRoute("/ws/crashes", ws_crashes),
        WebSocketRoute("/ws/unread", ws_unread),
        WebSocketRoute("/ws/sends", ws_sends),
    ]
)
app.add_middleware(obs.ObservabilityMiddleware, service="outcomes")
