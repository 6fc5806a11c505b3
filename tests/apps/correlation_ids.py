"""A service that uses a query parameter, without validation, as the correlation id of its outgoing headers."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import connectsoft_obs as obs


async def bind(request: Request) -> JSONResponse:
    obs.bind(correlation_id=request.query_params["id"])
    headers: dict[str, str] = {}
    obs.inject(headers)
    return JSONResponse(headers)


app = Starlette(routes=[Route("/bind", bind)])
app.add_middleware(obs.ObservabilityMiddleware, service="correlation-ids")
