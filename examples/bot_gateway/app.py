"""Conversations over WebSocket and HTTP: `uvicorn app:app`. The message "build NAME" requests a project."""

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

SAAS_URL = os.environ.get("SAAS_URL", "http://127.0.0.1:8003")
FORWARDED_HEADERS = ("authorization", "x-tenant-id")
client = httpx.AsyncClient(timeout=5)
log = obs.get_logger("bot")

# Not critical: without this dependency the bot can still answer that the request failed.
obs.readiness_check("saas", critical=False)(dependency_checks.url(f"{SAAS_URL}/health/ready", client))


async def messages(request: Request) -> Response:
    """Answer a single message."""
    return JSONResponse({"answer": await answer((await request.json())["text"], request.headers)})


async def chat(socket: WebSocket) -> None:
    """Answer the messages of a conversation: one span and one stream duration in total, one job run per message."""
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(await answer(text, socket.headers))


@obs.job("answer")
async def answer(text: str, headers: Headers) -> str:
    """Compute the answer to a message."""
    command, _, arguments = text.partition(" ")
    name, _, model = arguments.partition(" ")
    if command != "build" or not name:
        return 'Say "build NAME".'
    forwarded = {header: headers[header] for header in FORWARDED_HEADERS if header in headers}
    project = {"name": name, "model": model or "well"}
    response = await client.post(f"{SAAS_URL}/projects", json=project, headers=forwarded)
    if response.status_code == 202:
        return f"{name} is being built."
    log.warning("project not created", status=response.status_code)
    return "Sign in first." if response.status_code == 401 else "Sorry, not now."


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Close the connections at shutdown."""
    yield
    await client.aclose()


app = Starlette(
    routes=[Route("/messages", messages, methods=["POST"]), WebSocketRoute("/chat", chat)], lifespan=lifespan
)
app.add_middleware(
    obs.ObservabilityMiddleware, service="bot-gateway", slo_file=str(Path(__file__).with_name("slo.toml"))
)
