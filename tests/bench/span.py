"""Cost of spans, their encoding, bindings and operation blocks, compared with structlog and the OpenTelemetry SDK.

python tests/bench/span.py [rounds]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

import connectsoft_obs as obs
from connectsoft_obs.context.operation_context import context_with
from connectsoft_obs.operations import Operation
from connectsoft_obs.signals.tracing import otlp_encoder

COMMON: dict[str, Any] = {
    "http.request.method": "GET", "url.scheme": "http", "http.route": "/items/{item_id}",
    "http.response.status_code": 200, "network.protocol.version": "1.1",
}  # fmt: skip
PER_REQUEST: dict[str, Any] = {
    "url.path": "/items/17",
    "http.response.body.size": 43,
}
PER_CONNECTION: dict[str, Any] = {
    "server.address": "api.example", "server.port": 8000, "client.address": "10.1.2.3",
    "network.peer.address": "10.1.2.3", "network.peer.port": 50000, "user_agent.original": "python-httpx/0.28.1",
}  # fmt: skip
CLIENT: dict[str, Any] = {
    "http.request.method": "GET", "url.full": "https://inventory.internal:8443/v1/products/4711/availability?warehouse=north&limit=50",
    "server.address": "inventory.internal", "server.port": 8443, "network.protocol.version": "1.1",
}  # fmt: skip
CALLS = 2000
SDK_TRACER = TracerProvider(shutdown_on_exit=False).get_tracer("bench")


def cases() -> dict[str, dict[str, Callable[[], Any]]]:
    """The comparisons: by title and library, a function that runs the operation once."""
    telemetry = obs.Telemetry(obs.Settings(), exports=False)
    tracer, redactor = telemetry.tracing.tracer, telemetry.tracing.redactor
    common = otlp_encoder.encode_common_attributes(COMMON, "GET /items/{item_id}", SpanKind.SERVER)
    per_connection = otlp_encoder.encode_common_attributes(PER_CONNECTION)

    def record_span() -> Any:
        span: Any = tracer.start_fast("GET", SpanKind.SERVER, None, time.time_ns())
        span.finish("GET /items/{item_id}", common, per_connection, dict(PER_REQUEST), False, time.time_ns())
        return span

    def record_sdk_span() -> Any:
        span = SDK_TRACER.start_span("GET", kind=SpanKind.SERVER)
        span.set_attributes({**COMMON, **PER_CONNECTION, **PER_REQUEST})
        span.update_name("GET /items/{item_id}")
        span.end()
        return span

    def record_client_span(client_tracer: Any) -> Any:
        client_span: Any = client_tracer.start_span("GET", kind=SpanKind.CLIENT, attributes=CLIENT)
        client_span.set_attribute("http.response.status_code", 200)
        client_span.end()
        return client_span

    def touch(touched: Any) -> Any:
        touched.set_attributes({"app.order.id": "o-17", "app.order.lines": 3})
        return touched

    span, sdk_span = record_span(), record_sdk_span()
    client_span, sdk_client_span = record_client_span(tracer), record_client_span(SDK_TRACER)
    touched_span: Any = tracer.start_fast("GET", SpanKind.SERVER, None, time.time_ns())
    touch(touched_span).finish("GET /items/{item_id}", common, per_connection, dict(PER_REQUEST), False, time.time_ns())
    attach(context_with(Operation("GET /items/{item_id}"), trace.INVALID_SPAN, Context()))

    def run_operation() -> None:
        with obs.operation("resize"):
            pass

    def run_sdk_span() -> None:
        with SDK_TRACER.start_as_current_span("resize"):
            pass

    return {
        "bind(order_id=...) in a request": {
            "connectsoft-obs": lambda: obs.bind(order_id="o-1"),
            "structlog.contextvars": lambda: structlog.contextvars.bind_contextvars(order_id="o-1"),
        },
        "operation() compared with a span": {"connectsoft-obs": run_operation, "OpenTelemetry SDK": run_sdk_span},
        "a span, thirteen attributes": {"connectsoft-obs": record_span, "OpenTelemetry SDK": record_sdk_span},
        "encoding a span": {
            "connectsoft-obs": lambda: otlp_encoder.encode_span(span, redactor),
            "official encoder": lambda: encode_spans([sdk_span]).SerializeToString(),
        },
        "encoding a client span, six attributes": {
            "connectsoft-obs": lambda: otlp_encoder.encode_span(client_span, redactor),
            "a plain span": lambda: otlp_encoder.encode_span(span, redactor),
            "official encoder": lambda: encode_spans([sdk_client_span]).SerializeToString(),
        },
        "encoding a request span with two attributes of the application": {
            "connectsoft-obs": lambda: otlp_encoder.encode_span(touched_span, redactor),
            "a plain span": lambda: otlp_encoder.encode_span(span, redactor),
            "through a readable span": lambda: otlp_encoder.encode_readable(touched_span, redactor),
        },
    }


def cpu_seconds(call: Callable[[], Any]) -> float:
    """CPU time of a number of calls."""
    started = time.thread_time()
    for _ in range(CALLS):
        call()
    return time.thread_time() - started


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    for title, variants in cases().items():
        times: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(rounds + 1):
            for name, call in variants.items():
                times[name].append(cpu_seconds(call))
        ratios = {
            name: statistics.median(value / own for value, own in zip(values, times["connectsoft-obs"], strict=True))
            for name, values in times.items()
        }
        print(title)
        for name, ratio in ratios.items():
            print(f"  {name:<22}{ratio:>6.1f}x   {min(times[name]) / CALLS * 1e6:.1f} us on this machine")


if __name__ == "__main__":
    main()
