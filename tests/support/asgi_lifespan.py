"""Runs the lifespan protocol on the current event loop, where Starlette's test client uses another thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


async def run_lifespan(app: Any, during_shutdown: Callable[[], Awaitable[object]] | None = None) -> list[str]:
    """Start and stop an application as a server does; returns the types of its messages."""
    received: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    sent: list[str] = []
    has_started = asyncio.Event()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message["type"])
        has_started.set()

    await received.put({"type": "lifespan.startup"})
    server = asyncio.ensure_future(app({"type": "lifespan", "asgi": {"version": "3.0"}}, received.get, send))
    await has_started.wait()
    if during_shutdown is not None:
        concurrent = asyncio.ensure_future(during_shutdown())
    await received.put({"type": "lifespan.shutdown"})
    await asyncio.gather(server, return_exceptions=True)
    if during_shutdown is not None:
        concurrent.cancel()
    return sent
