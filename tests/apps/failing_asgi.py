"""A plain ASGI application whose exceptions propagate to the server, as they do without a framework."""

from __future__ import annotations

import asyncio
from typing import Any

import connectsoft_obs as obs


class OrderRejected(Exception):
    """Raised to fail a request."""


async def plain(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path, query = scope["path"], scope["query_string"].decode()
    if path == "/before":
        raise OrderRejected(query)
    if path == "/at-once":  # several requests are in progress when one of them fails
        await asyncio.sleep(0.02)
        raise OrderRejected(query)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    if path == "/midway":
        raise OrderRejected(query)
    await send({"type": "http.response.body", "body": b""})


observed = obs.ObservabilityMiddleware(plain, service="failing-asgi")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """An outer layer that replaces one exception with another."""
    try:
        await observed(scope, receive, send)
    except OrderRejected as error:
        if scope["query_string"] == b"changed":
            raise LookupError("something else than OrderRejected") from error
        raise
