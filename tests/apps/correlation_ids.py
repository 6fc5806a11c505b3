"""A careless service: takes whatever a stranger sends for its correlation id, and calls others with it."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import connectsoft_obs as obs


async def bound(request: Request) -> JSONResponse:
    obs.bind(correlation_id=request.query_params["id"])
    onward: dict[str, str] = {}
    obs.inject(onward)
    return JSONResponse(onward)


app = Starlette(routes=[Route("/bound", bound)])
app.add_middleware(obs.ObservabilityMiddleware, service="bound")
