"""Cost of recording the metrics of one request: `python tests/bench/record.py [--multiprocess]`.

One recording is an observation in a histogram with the labels of http.server.request.duration, and an increment and a
decrement of the gauge of active requests. The middlewares are measured around a Starlette application with one route.
Variants take turns in one process; a figure is the median over the rounds, relative to this package in the same run.
Libraries that are not installed are left out
(`pip install prometheus-fastapi-instrumentator starlette-exporter opentelemetry-instrumentation-asgi`).
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

if "--multiprocess" in sys.argv:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp()

import prometheus_client
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import connectsoft_obs as obs
from connectsoft_obs.settings import load_settings
from connectsoft_obs.signals.metrics import MetricRegistry
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import ACTIVE_REQUESTS, REQUEST_BUCKETS, REQUEST_DURATION

ROUNDS, CALLS, REQUESTS = 31, 2000, 300
LABELS = ("GET", "http", "200", "/items/{id}", "", "1.1")
LABEL_NAMES = ("method", "scheme", "status", "route", "error", "version")
ATTRIBUTES: dict[str, Any] = {
    "http.request.method": "GET",
    "url.scheme": "http",
    "http.response.status_code": 200,
    "http.route": "/items/{id}",
    "network.protocol.version": "1.1",
}
Variants = dict[str, Callable[[], Any]]


def recorders() -> Variants:
    """One recording, by library."""
    metrics = MetricRegistry(2000)
    duration, active = metrics.family(REQUEST_DURATION), metrics.family(ACTIVE_REQUESTS)
    own_histogram, own_gauge = duration.histogram_series(*LABELS), active.number_series("GET", "http")
    shared = MetricRegistry(2000)
    shared.join_workers("bench", os.getpid(), tempfile.mkdtemp())
    shared_histogram = shared.family(REQUEST_DURATION).histogram_series(*LABELS)
    shared_gauge = shared.family(ACTIVE_REQUESTS).number_series("GET", "http")
    registry = prometheus_client.CollectorRegistry()
    histogram = prometheus_client.Histogram("d", "D.", LABEL_NAMES, buckets=REQUEST_BUCKETS, registry=registry)
    in_flight = prometheus_client.Gauge("a", "A.", LABEL_NAMES[:2], registry=registry)
    bound_histogram, bound_gauge = histogram.labels(*LABELS), in_flight.labels("GET", "http")
    meter = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("bench")
    sdk_histogram = meter.create_histogram("d", explicit_bucket_boundaries_advisory=list(REQUEST_BUCKETS))
    sdk_gauge = meter.create_up_down_counter("a")
    orders = obs.counter("bench.orders", labels=("tier",))
    obs.configure(service="bench")

    def record() -> None:
        own_gauge.add(1)
        own_gauge.add(-1)
        own_histogram.observe(0.02)

    def record_with_exemplar() -> None:
        own_gauge.add(1)
        own_gauge.add(-1)
        own_histogram.add_exemplar(own_histogram.observe(0.02), 0.02, 1 << 100, 1 << 50)

    def record_shared_with_exemplar() -> None:
        shared_gauge.add(1)
        shared_gauge.add(-1)
        shared_histogram.add_exemplar(shared_histogram.observe(0.02), 0.02, 1 << 100, 1 << 50)

    def record_with_lookup() -> None:
        child = active.number_series("GET", "http")
        child.add(1)
        child.add(-1)
        duration.histogram_series(*LABELS).observe(0.02)

    def record_with_labels() -> None:
        child = in_flight.labels("GET", "http")
        child.inc()
        child.dec()
        histogram.labels(*LABELS).observe(0.02)

    def record_with_keywords() -> None:
        child = in_flight.labels(method="GET", scheme="http")
        child.inc()
        child.dec()
        histogram.labels(**dict(zip(LABEL_NAMES, LABELS, strict=True))).observe(0.02)

    def record_bound_children() -> None:
        bound_gauge.inc()
        bound_gauge.dec()
        bound_histogram.observe(0.02)

    def record_with_sdk() -> None:
        sdk_gauge.add(1, {"http.request.method": "GET", "url.scheme": "http"})
        sdk_gauge.add(-1, {"http.request.method": "GET", "url.scheme": "http"})
        sdk_histogram.record(0.02, ATTRIBUTES)

    client = "prometheus_client" + (", multi-process" if "PROMETHEUS_MULTIPROC_DIR" in os.environ else "")
    return {
        "connectsoft-obs": record,
        "connectsoft-obs, with exemplar": record_with_exemplar,
        "connectsoft-obs, multi-process, with exemplar": record_shared_with_exemplar,
        "connectsoft-obs, series looked up each time": record_with_lookup,
        f"{client}, bound children": record_bound_children,
        f"{client}, labels(*values)": record_with_labels,
        f"{client}, labels(**names)": record_with_keywords,
        "OpenTelemetry metrics SDK": record_with_sdk,
        "one obs.counter().add(1, tier=...), alone": lambda: orders.add(1, tier="gold"),
        "one prometheus_client labels(...).inc(), alone": lambda: in_flight.labels("POST", "http").inc(),
    }


def middlewares() -> Variants:
    """One request through a middleware around one Starlette route, by library."""

    async def endpoint(_: Any) -> PlainTextResponse:
        return PlainTextResponse("ok")

    bare = Starlette(routes=[Route("/items/{id}", endpoint)])
    metrics_settings = {"service": "bench", "access_log": "off", "traces_sampler": "always_off"}
    metrics_only = Telemetry(load_settings({}, **metrics_settings), exports=False)
    all_signals = Telemetry(load_settings({}, service="bench"), exports=False)
    all_signals.output.write = lambda line, urgent: None  # type: ignore[method-assign]
    apps: dict[str, Any] = {
        "bare application": bare,
        "connectsoft-obs, metrics only": obs.ObservabilityMiddleware(bare, telemetry=metrics_only),
        "connectsoft-obs, metrics, traces and access log": obs.ObservabilityMiddleware(bare, telemetry=all_signals),
    }
    try:
        from starlette_exporter import PrometheusMiddleware

        apps["starlette-exporter"] = PrometheusMiddleware(bare)
    except ImportError:
        pass
    try:
        from prometheus_fastapi_instrumentator import metrics as instrumentator_metrics
        from prometheus_fastapi_instrumentator.middleware import PrometheusInstrumentatorMiddleware

        registry = prometheus_client.CollectorRegistry()
        default = instrumentator_metrics.default(registry=registry)
        apps["prometheus-fastapi-instrumentator"] = PrometheusInstrumentatorMiddleware(
            bare, instrumentations=[default] if default else [], registry=registry
        )
    except (ImportError, TypeError):
        pass
    try:
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.trace import NoOpTracerProvider

        meter_provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
        apps["opentelemetry-instrumentation-asgi, metrics only"] = OpenTelemetryMiddleware(
            bare, meter_provider=meter_provider, tracer_provider=NoOpTracerProvider()
        )
    except ImportError:
        pass

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None:
        return None

    def as_function(app: Any) -> Callable[[], Any]:
        async def send_requests() -> None:
            for _ in range(REQUESTS):
                scope = {
                    "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
                    "path": "/items/1", "raw_path": b"/items/1", "query_string": b"", "root_path": "", "headers": [],
                    "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
                }  # fmt: skip
                await app(scope, receive, send)

        return lambda: asyncio.run(send_requests())

    return {name: as_function(app) for name, app in apps.items()}


def measure(variants: Variants, calls: int) -> dict[str, float]:
    """Seconds of one call by variant, median over the rounds."""
    results: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, function in variants.items():
            started = time.perf_counter()
            for _ in range(calls):
                function()
            results[name].append((time.perf_counter() - started) / calls)
    return {name: statistics.median(values[3:]) for name, values in results.items()}


def print_table(title: str, times: dict[str, float], reference: str, baseline: float = 0.0) -> None:
    """Print times relative to the reference, after subtracting the baseline from both."""
    print(f"\n{title}")
    for name, seconds in times.items():
        ratio = (seconds - baseline) / (times[reference] - baseline)
        print(f"  {name:<56} {ratio:8.2f} x")


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    print_table("one recorded request (histogram and gauge)", measure(recorders(), CALLS), "connectsoft-obs")
    times = measure(middlewares(), 1)
    bare = times.pop("bare application")
    print_table("one request: time added to a bare application", times, "connectsoft-obs, metrics only", bare)


if __name__ == "__main__":
    main()
