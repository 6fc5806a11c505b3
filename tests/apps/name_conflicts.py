"""A service in which other libraries use the names of the package's metrics, as instrumentations do."""

from __future__ import annotations

from opentelemetry import metrics
from prometheus_client import Gauge, Histogram
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs

meter = metrics.get_meter("other.library")
instruments = [
    meter.create_histogram("http.server.request.duration", "s"),
    meter.create_histogram("HTTP.Server.Request.Duration", "s"),
    meter.create_histogram("http_server_request_duration_seconds"),
]
active = meter.create_up_down_counter("http.server.active_requests", "{request}")
unique = meter.create_counter("other.own")
families = [
    Histogram("http_server_request_duration_seconds", "Conflicting.", buckets=(1,)),
    Histogram("http.server.request.duration", "Conflicting, with dots in the name.", buckets=(1,)),
]
in_flight = Gauge("http.server.active_requests", "Conflicting.")


async def work(request: Request) -> Response:
    for instrument in instruments:
        instrument.record(2.0, {"http.route": "/work"})
    active.add(1)
    unique.add(1)
    for family in families:
        family.observe(2.0)
    in_flight.inc()
    return PlainTextResponse("done")


app = Starlette(routes=[Route("/work", work)])
app.add_middleware(obs.ObservabilityMiddleware, service="name-conflicts")
