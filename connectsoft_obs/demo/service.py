"""The service of the demo: a small shop that is instrumented with one line."""

from __future__ import annotations

import asyncio
import random

from opentelemetry import trace
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs
from connectsoft_obs.signals.logs import Logger

log: Logger = obs.get_logger("shop")
tracer: trace.Tracer = trace.get_tracer("shop")
generator: random.Random = random.Random(7)  # noqa: S311  not for cryptography


@obs.readiness_check("warehouse", timeout=1.0)
async def warehouse() -> None:
    """Simulate a database query; a real check would be `await pool.fetchval("select 1")`."""
    await asyncio.sleep(0.001)


async def order(request: Request) -> Response:
    """Return an order; each of the two steps is a span."""
    number = int(request.path_params["id"])
    obs.bind(tenant_id=f"tenant-{number % 3}", order_id=number)
    with tracer.start_as_current_span("load order"):
        await asyncio.sleep(generator.uniform(0.001, 0.004))
    with tracer.start_as_current_span("price order"), tracer.start_as_current_span("request tax rate"):
        await asyncio.sleep(generator.uniform(0.002, 0.01))
    if number % 50 == 13:
        log.warning("order is on hold", reason="address")
        raise HTTPException(409)
    return JSONResponse({"id": number, "total": 99.5})


async def checkout(_: Request) -> Response:
    """Place an order; one request in thirty fails, to show errors."""
    with obs.operation("reserve-stock"):
        await asyncio.sleep(generator.uniform(0.005, 0.03))
    if generator.random() < 1 / 30:
        message = "payment provider returned 502"
        raise RuntimeError(message)
    log.info("order placed", total=99.5)
    return JSONResponse({"placed": True}, status_code=201)


async def browse(_: Request) -> Response:
    """Return the products."""
    return JSONResponse([{"sku": "A1"}, {"sku": "B2"}])


app: Starlette = Starlette(
    routes=[
        Route("/products", browse),
        Route("/orders/{id:int}", order),
        Route("/checkout", checkout, methods=["POST"]),
    ]
)
app.add_middleware(obs.ObservabilityMiddleware, service="demo-shop", environment="development")
