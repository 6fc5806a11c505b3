"""Conversations over WebSocket and HTTP: `uvicorn app:app`. Say "build NAME", and a project is built."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import connectsoft_obs as obs
from connectsoft_obs.health import dependency_checks

SAAS = os.environ.get("SAAS_URL", "http://127.0.0.1:8003")
PASSED_ON = ("authorization", "x-tenant-id")
client = httpx.AsyncClient(timeout=5)
log = obs.get_logger("bot")

# Not critical: without it the bot says that it is sorry, which it could not if it were out of rotation.
obs.readiness_check("saas", critical=False)(dependency_checks.url(f"{SAAS}/health/ready", client))


async def messages(request: Request) -> Response:
    """One message, one answer."""
    return JSONResponse({"answer": await answer((await request.json())["text"], request.headers)})


async def chat(socket: WebSocket) -> None:
    """A conversation: one span and one stream duration for all of it, one run of `answer` for each message."""
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(await answer(text, socket.headers))


@obs.job("answer")
async def answer(text: str, headers: Headers) -> str:
    """What the bot says."""
    word, _, name = text.partition(" ")
    if word != "build" or not name:
        return 'Say "build NAME".'
    wish = {"name": name.partition(" ")[0], "model": name.partition(" ")[2] or "well"}
    passed_on = {key: headers[key] for key in PASSED_ON if key in headers}
    found = await client.post(f"{SAAS}/projects", json=wish, headers=passed_on)
    if found.status_code == 202:
        return f"{wish['name']} is being built."
    log.warning("no project was created", status=found.status_code)
    return "Sign in first." if found.status_code == 401 else "Sorry, not now."


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Let go of the connections at the end."""
    yield
    await client.aclose()


app = Starlette(
    routes=[Route("/messages", messages, methods=["POST"]), WebSocketRoute("/chat", chat)], lifespan=lifespan
)
app.add_middleware(
    obs.ObservabilityMiddleware, service="bot-gateway", slo_file=str(Path(__file__).with_name("slo.toml"))
)
