"""A plain ASGI application that lets exceptions go up to the server, as those without a framework do."""

from __future__ import annotations

import asyncio
from typing import Any

import connectsoft_obs as obs


class OrderRejected(Exception):
    """What ends a request here."""


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
    if path == "/at-once":  # many at a time, each in the middle of its request when the next one fails
        await asyncio.sleep(0.02)
        raise OrderRejected(query)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    if path == "/midway":
        raise OrderRejected(query)
    await send({"type": "http.response.body", "body": b""})


observed = obs.ObservabilityMiddleware(plain, service="breaking")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Around us, something that turns one exception into another."""
    try:
        await observed(scope, receive, send)
    except OrderRejected as error:
        if scope["query_string"] == b"changed":
            raise LookupError("something else than OrderRejected") from error
        raise
