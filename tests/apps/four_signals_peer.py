"""The service of four_signals.py with OpenTelemetry's instrumentation, SDK and exporter, for comparison."""

from __future__ import annotations

import os

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("four-signals")


async def item(request: Request) -> Response:
    number = int(request.path_params["id"])
    with tracer.start_as_current_span("price"):
        total = number * 3
    return JSONResponse({"id": number, "total": total})


async def internals(_: Request) -> Response:
    return JSONResponse({"pid": os.getpid(), "dropped": {}})


app = OpenTelemetryMiddleware(
    Starlette(routes=[Route("/items/{id:int}", item), Route("/internals", internals)]),
    exclude_spans=["receive", "send"],
)
