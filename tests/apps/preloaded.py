"""A service that configures telemetry and records metrics at import, before its server forks the workers."""

from __future__ import annotations

import os

from opentelemetry import metrics
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs

telemetry = obs.configure(service="preloaded", version="7")
loaded = obs.counter("models.loaded", unit="{model}")
ready = obs.gauge("models.ready", unit="{model}", merge="max")
shipped = metrics.get_meter("preloaded").create_counter("parcels.shipped")
loaded.add(5)
ready.set(3)
shipped.add(5)
obs.get_logger().info("loaded")


async def load(request: Request) -> Response:
    loaded.add(1)
    shipped.add(1)
    return JSONResponse({"pid": os.getpid()})


app = Starlette(routes=[Route("/load", load)])
app.add_middleware(obs.ObservabilityMiddleware)
