"""An application that raises for the lifespan protocol, as Django's and Channels' applications do."""

from __future__ import annotations

from typing import Any

import connectsoft_obs as obs


async def respond(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise ValueError("this application supports http only")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


app = obs.ObservabilityMiddleware(respond, service="no-lifespan", route=lambda scope: "/x")
