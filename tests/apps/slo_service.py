"""A service with SLOs. Tests make /buy fail or respond slowly with /faults?fail=1 and /faults?seconds=0.5."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import connectsoft_obs as obs
from connectsoft_obs import slo

SERVICE_SLOS = slo.ServiceSLOs(
    service="shop",
    slos=(
        slo.availability("buying", float(os.environ.get("OBJECTIVE", "99.9")), routes=["/buy"]),
        slo.latency("quick", 99, under="300ms", routes=["/buy"]),
        slo.job_success_rate("restock", 95, job="restock"),
        slo.outage("open", limit="5m"),
    ),
    composites=(slo.all_of("all", "buying", "quick"),),
    team="sales",
    dashboard_base="https://grafana.example",
    scrape_interval=1,
    interval=1,
)
FAULTS = {"fail": False, "seconds": 0.0}


async def buy(request: Request) -> Response:
    if FAULTS["seconds"]:
        await asyncio.sleep(FAULTS["seconds"])
    if FAULTS["fail"]:
        msg = "out of stock"
        raise LookupError(msg)
    return PlainTextResponse("sold", 200)


async def set_faults(request: Request) -> Response:
    FAULTS["fail"] = request.query_params.get("fail") == "1"
    FAULTS["seconds"] = float(request.query_params.get("seconds", "0"))
    return PlainTextResponse("ok")


async def restock(request: Request) -> Response:
    with obs.operation("restock", trigger="timer"):
        if request.query_params.get("fail") == "1":
            msg = "no trucks"
            try:
                with obs.operation("restock", trigger="timer"):
                    raise RuntimeError(msg)
            except RuntimeError:
                pass
    return PlainTextResponse("ok")


async def events(request: Request) -> Response:
    async def stream() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


app = Starlette(
    routes=[
        Route("/buy", buy, methods=["GET", "POST"]),
        Route("/faults", set_faults),
        Route("/restock", restock),
        Route("/events", events),
    ]
)
app.add_middleware(obs.ObservabilityMiddleware, service="shop", objectives=SERVICE_SLOS)
