"""A span, its bytes, and what a handler calls, beside what one would use otherwise: in multiples of ours, interleaved.

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
from connectsoft_obs.context.current import context_with
from connectsoft_obs.operations import Operation
from connectsoft_obs.signals.tracing import otlp_encoder

KIND: dict[str, Any] = {
    "http.request.method": "GET", "url.scheme": "http", "http.route": "/items/{item_id}",
    "http.response.status_code": 200, "network.protocol.version": "1.1",
}  # fmt: skip
OWN: dict[str, Any] = {
    "url.path": "/items/17",
    "http.response.body.size": 43,
}
AROUND: dict[str, Any] = {
    "server.address": "api.example", "server.port": 8000, "client.address": "10.1.2.3",
    "network.peer.address": "10.1.2.3", "network.peer.port": 50000, "user_agent.original": "python-httpx/0.28.1",
}  # fmt: skip
CALLS = 2000
OTHERS = TracerProvider(shutdown_on_exit=False).get_tracer("bench")


def cases() -> dict[str, dict[str, Callable[[], Any]]]:
    """What is compared: name of the comparison to name of the side to what it does once."""
    telemetry = obs.Telemetry(obs.Settings(), exports=False)
    ours, theirs = telemetry.tracing.tracer, OTHERS
    shared = otlp_encoder.encode_common_attributes(KIND, "GET /items/{item_id}", SpanKind.SERVER)
    around = otlp_encoder.encode_common_attributes(AROUND)

    def our_span() -> Any:
        span: Any = ours.start_fast("GET", SpanKind.SERVER, None, time.time_ns())
        span.finish("GET /items/{item_id}", shared, around, dict(OWN), False, time.time_ns())
        return span

    def their_span() -> Any:
        span = theirs.start_span("GET", kind=SpanKind.SERVER)
        span.set_attributes({**KIND, **AROUND, **OWN})
        span.update_name("GET /items/{item_id}")
        span.end()
        return span

    own, other = our_span(), their_span()
    attach(context_with(Operation("GET /items/{item_id}"), trace.INVALID_SPAN, Context()))

    def named_work() -> None:
        with obs.operation("resize"):
            pass

    def named_span() -> None:
        with OTHERS.start_as_current_span("resize"):
            pass

    return {
        "bind(order_id=...) in a request": {
            "ours": lambda: obs.bind(order_id="o-1"),
            "structlog.contextvars": lambda: structlog.contextvars.bind_contextvars(order_id="o-1"),
        },
        "operation() against a span alone": {"ours": named_work, "OpenTelemetry SDK": named_span},
        "a span, thirteen attributes": {"ours": our_span, "OpenTelemetry SDK": their_span},
        "its bytes": {
            "ours": lambda: otlp_encoder.encode_span(own),
            "official encoder": lambda: encode_spans([other]).SerializeToString(),
        },
    }


def seconds(call: Callable[[], Any]) -> float:
    """Processor time of a number of calls."""
    began = time.thread_time()
    for _ in range(CALLS):
        call()
    return time.thread_time() - began


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    for what, sides in cases().items():
        taken = {name: [seconds(call) for _ in range(1)] for name, call in sides.items()}
        for _ in range(rounds):
            for name, call in sides.items():
                taken[name].append(seconds(call))
        ratios = {
            name: statistics.median(other / own for other, own in zip(values, taken["ours"], strict=True))
            for name, values in taken.items()
        }
        print(what)
        for name, ratio in ratios.items():
            print(f"  {name:<22}{ratio:>6.1f}x   {min(taken[name]) / CALLS * 1e6:.1f} us here")


if __name__ == "__main__":
    main()
