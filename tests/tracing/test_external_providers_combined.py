"""Every combination of a tracer and a meter provider that the application sets before or after this package, or never."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from support.otlp import HttpSink

APPLICATION = """
import json, sys
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

traces, meters, server_instrumentation = sys.argv[1:]
memory, reader = InMemorySpanExporter(), InMemoryMetricReader()
tracer_provider = TracerProvider()
tracer_provider.add_span_processor(SimpleSpanProcessor(memory))

def set_providers(moment):
    if traces == moment:
        trace.set_tracer_provider(tracer_provider)
    if meters == moment:
        metrics.set_meter_provider(MeterProvider([reader]))

set_providers("before")
import connectsoft_obs as obs
from fastapi import FastAPI
from starlette.testclient import TestClient

telemetry = obs.configure(service="shop")
set_providers("after")
app = FastAPI()

@app.get("/orders")
def orders():
    with trace.get_tracer("shop").start_as_current_span("price"):
        metrics.get_meter("shop").create_counter("shop.orders").add(1)

if server_instrumentation == "inside":
    app.add_middleware(OpenTelemetryMiddleware)
app.add_middleware(obs.ObservabilityMiddleware)
served = OpenTelemetryMiddleware(app) if server_instrumentation == "outside" else app
with TestClient(served) as client:
    response = client.get("/orders")
telemetry.flush(timeout=10)
data = reader.get_metrics_data() if meters == "before" else None
print(json.dumps({
    "correlation_id": response.headers["x-correlation-id"],
    "spans": sorted(f"{span.context.span_id:016x}" for span in memory.get_finished_spans()),
    "metrics": [
        metric.name
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ],
}))
"""


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink() as collector:
        yield collector


@pytest.mark.full
@pytest.mark.parametrize("server_instrumentation", ["none", "inside", "outside"])
@pytest.mark.parametrize("meters", ["never", "before", "after"])
@pytest.mark.parametrize("traces", ["never", "before", "after"])
def test_each_combination_of_providers_exports_one_trace(
    traces: str, meters: str, server_instrumentation: str, sink: HttpSink
) -> None:
    completed = subprocess.run(
        [sys.executable, "-c", APPLICATION, traces, meters, server_instrumentation],
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = [json.loads(line) for line in completed.stdout.splitlines()]
    (result,) = [line for line in lines if "spans" in line]
    (price,) = [span for span in sink.received.spans if span.name == "price"]
    (server,) = [span for span in sink.received.spans if span.kind == Span.SPAN_KIND_SERVER]
    assert (price.trace_id, server.trace_id.hex()) == (server.trace_id, result["correlation_id"])
    exported = sorted(span.span_id.hex() for span in sink.received.spans)
    assert result["spans"] == (exported if traces == "before" else [])
    assert ("shop.orders" in result["metrics"]) is (meters == "before")
    assert (sink.received.metric("shop.orders") is None) is (meters == "before")
    assert sink.received.metric("http.server.request.duration") is not None
    refused = [line["connectsoft.obs.signal"] for line in lines if "stays in use" in str(line.get("message"))]
    providers = {"traces": traces, "metrics": meters}
    assert refused == [signal for signal, moment in providers.items() if moment == "after"]
    assert not completed.stderr
