"""A service that calls others: by httpx, requests and urllib, whatever is asked for."""

from __future__ import annotations

import urllib.request

import httpx
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import connectsoft_obs as obs


async def seen(request: Request) -> JSONResponse:
    return JSONResponse(dict(request.headers))


async def by_httpx(request: Request) -> JSONResponse:
    async with httpx.AsyncClient() as client:
        answer = await client.get(str(request.url_for("seen")))
    return JSONResponse(answer.json())


def by_requests(request: Request) -> JSONResponse:
    return JSONResponse(requests.get(str(request.url_for("seen")), timeout=5).json())


def by_urllib(request: Request) -> JSONResponse:
    with urllib.request.urlopen(str(request.url_for("seen")), timeout=5) as answer:
        return JSONResponse({"body": answer.read().decode()})


app = Starlette(
    routes=[
        Route("/seen", seen, name="seen"),
        Route("/httpx", by_httpx),
        Route("/requests", by_requests),
        Route("/urllib", by_urllib),
    ]
)
app.add_middleware(obs.ObservabilityMiddleware, service="calling")
