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


async def call_with_httpx(request: Request) -> JSONResponse:
    async with httpx.AsyncClient() as client:
        response = await client.get(str(request.url_for("headers")))
    return JSONResponse(response.json())


def call_with_requests(request: Request) -> JSONResponse:
    return JSONResponse(requests.get(str(request.url_for("headers")), timeout=5).json())


def call_with_urllib(request: Request) -> JSONResponse:
    with urllib.request.urlopen(str(request.url_for("headers")), timeout=5) as response:
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
