"""A service that calls itself with httpx, requests or urllib."""

from __future__ import annotations

import urllib.request

import httpx
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import connectsoft_obs as obs


async def echo_headers(request: Request) -> JSONResponse:
    return JSONResponse(dict(request.headers))


def chosen_headers(request: Request) -> dict[str, str]:
    """Headers that the application sets itself on its outgoing call."""
    correlation_id = request.query_params.get("correlation_id")
    return {"X-CORRELATION-ID": correlation_id} if correlation_id else {}


async def call_with_httpx(request: Request) -> JSONResponse:
    async with httpx.AsyncClient() as client:
        response = await client.get(str(request.url_for("headers")), headers=chosen_headers(request))
    return JSONResponse(response.json())


def call_with_requests(request: Request) -> JSONResponse:
    response = requests.get(str(request.url_for("headers")), headers=chosen_headers(request), timeout=5)
    return JSONResponse(response.json())


def call_with_urllib(request: Request) -> JSONResponse:
    call = urllib.request.Request(str(request.url_for("headers")), headers=chosen_headers(request))
    with urllib.request.urlopen(call, timeout=5) as response:
        return JSONResponse({"body": response.read().decode()})


app = Starlette(
    routes=[
        Route("/headers", echo_headers, name="headers"),
        Route("/httpx", call_with_httpx),
        Route("/requests", call_with_requests),
        Route("/urllib", call_with_urllib),
    ]
)
app.add_middleware(obs.ObservabilityMiddleware, service="outgoing-calls")
