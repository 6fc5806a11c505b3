"""A service with metrics of the package, of prometheus_client and of OpenTelemetry's Meter API."""

from __future__ import annotations

import asyncio
import os
import signal

from opentelemetry import metrics
from prometheus_client import Counter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs

placed = obs.counter("orders.placed", unit="{order}", labels=("tier",), help="Number of orders.")
depth = obs.gauge("mail.queue.depth", unit="{message}")
newest = obs.gauge("mail.newest.timestamp", unit="s", merge="latest")
size = obs.histogram("report.size", unit="By", labels=("kind",), buckets=(100, 1000))
plain = Counter("legacy_sales", "Created with prometheus_client.", ["shop"])
meter = metrics.get_meter("shop", "1.0")
shipped = meter.create_counter("parcels.shipped", unit="{parcel}", description="Created with the Meter API.")
meter.create_observable_gauge("warehouse.load", [lambda _: [metrics.Observation(7, {"hall": "a"})]])


async def order(request: Request) -> Response:
    tier = request.query_params.get("tier", "gold")
    placed.add(1, tier=tier)
    size.record(int(request.query_params.get("size", "50")), kind="pdf")
    plain.labels("north").inc()
    shipped.add(2, {"carrier": "dhl"})
    return JSONResponse({"pid": os.getpid()})


async def queue(request: Request) -> Response:
    depth.set(float(request.path_params["depth"]))
    newest.set(float(request.path_params["depth"]))
    return JSONResponse({"pid": os.getpid()})


async def slow(request: Request) -> Response:
    await asyncio.sleep(float(request.query_params.get("seconds", "1")))
    return PlainTextResponse("slow")


async def die(request: Request) -> Response:
    os.kill(os.getpid(), signal.SIGKILL)
    return PlainTextResponse("never")


app = Starlette(
    routes=[
        Route("/order", order, methods=["GET", "POST"]),
        Route("/queue/{depth:int}", queue),
        Route("/slow", slow),
        Route("/die", die),
    ]
)
app.add_middleware(obs.ObservabilityMiddleware, service="shop", version="1.2.3")
