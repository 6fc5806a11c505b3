"""What it costs to record one request: run `python tests/bench/record.py`; each figure is a ratio to ours in the same run.

A recorded request is one value into a histogram with the labels of http.server.request.duration, and one up and one down
of the gauge of active requests. Variants take turns in one process, and the median over the rounds is printed. The peers'
middlewares are measured whole, around a Starlette application of one route, as is ours; those that are not installed are
left out (`pip install prometheus-fastapi-instrumentator starlette-exporter opentelemetry-instrumentation-asgi`).
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

ROUNDS, TIMES, REQUESTS = 31, 2000, 300
LABELS = ("GET", "http", "200", "/items/{id}", "", "1.1")
NAMES = ("method", "scheme", "status", "route", "error", "version")
ATTRIBUTES: dict[str, Any] = {
    "http.request.method": "GET",
    "url.scheme": "http",
    "http.response.status_code": 200,
    "http.route": "/items/{id}",
    "network.protocol.version": "1.1",
}
Variants = dict[str, Callable[[], Any]]


def recorders() -> Variants:
    """One recorded request, by whom."""
    metrics = MetricRegistry(2000)
    duration, active = metrics.family(REQUEST_DURATION), metrics.family(ACTIVE_REQUESTS)
    ours, gauge = duration.histogram(*LABELS), active.number("GET", "http")
    shared = MetricRegistry(2000)
    shared.join_workers("bench", os.getpid(), tempfile.mkdtemp())
    theirs, their_gauge = (
        shared.family(REQUEST_DURATION).histogram(*LABELS),
        shared.family(ACTIVE_REQUESTS).number("GET", "http"),
    )
    registry = prometheus_client.CollectorRegistry()
    histogram = prometheus_client.Histogram("d", "D.", NAMES, buckets=REQUEST_BUCKETS, registry=registry)
    in_flight = prometheus_client.Gauge("a", "A.", NAMES[:2], registry=registry)
    bound, bound_gauge = histogram.labels(*LABELS), in_flight.labels("GET", "http")
    meter = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("bench")
    recorded = meter.create_histogram("d", explicit_bucket_boundaries_advisory=list(REQUEST_BUCKETS))
    up_down = meter.create_up_down_counter("a")
    placed = obs.counter("bench.orders", labels=("tier",))
    obs.configure(service="bench")

    def our_request() -> None:
        gauge.add(1)
        gauge.add(-1)
        ours.observe(0.02)

    def our_request_with_exemplar() -> None:
        gauge.add(1)
        gauge.add(-1)
        ours.exemplify(ours.observe(0.02), 0.02, 1 << 100, 1 << 50)

    def our_shared_request_with_exemplar() -> None:
        their_gauge.add(1)
        their_gauge.add(-1)
        theirs.exemplify(theirs.observe(0.02), 0.02, 1 << 100, 1 << 50)

    def our_unbound_request() -> None:
        child = active.number("GET", "http")
        child.add(1)
        child.add(-1)
        duration.histogram(*LABELS).observe(0.02)

    def by_labels() -> None:
        child = in_flight.labels("GET", "http")
        child.inc()
        child.dec()
        histogram.labels(*LABELS).observe(0.02)

    def by_keywords() -> None:
        child = in_flight.labels(method="GET", scheme="http")
        child.inc()
        child.dec()
        histogram.labels(**dict(zip(NAMES, LABELS, strict=True))).observe(0.02)

    def by_bound_children() -> None:
        bound_gauge.inc()
        bound_gauge.dec()
        bound.observe(0.02)

    def by_the_sdk() -> None:
        up_down.add(1, {"http.request.method": "GET", "url.scheme": "http"})
        up_down.add(-1, {"http.request.method": "GET", "url.scheme": "http"})
        recorded.record(0.02, ATTRIBUTES)

    client = "prometheus_client" + (", multi-process" if "PROMETHEUS_MULTIPROC_DIR" in os.environ else "")
    return {
        "ours": our_request,
        "ours, with exemplar": our_request_with_exemplar,
        "ours, shared with other workers, with exemplar": our_shared_request_with_exemplar,
        "ours, series looked up each time": our_unbound_request,
        f"{client}, bound children": by_bound_children,
        f"{client}, labels(*values)": by_labels,
        f"{client}, labels(**names)": by_keywords,
        "OpenTelemetry metrics SDK": by_the_sdk,
        "one obs.counter().add(1, tier=...), alone": lambda: placed.add(1, tier="gold"),
        "one prometheus_client labels(...).inc(), alone": lambda: in_flight.labels("POST", "http").inc(),
    }


def middlewares() -> Variants:
    """One request through a whole middleware, by whom, around one Starlette route."""

    async def endpoint(_: Any) -> PlainTextResponse:
        return PlainTextResponse("ok")

    bare = Starlette(routes=[Route("/items/{id}", endpoint)])
    quiet = {"service": "bench", "access_log": "off", "traces_sampler": "always_off"}
    silent = Telemetry(load_settings({}, **quiet), exports=False)
    devnull = Telemetry(load_settings({}, service="bench"), exports=False)
    devnull.output.write = lambda line, urgent: None  # type: ignore[method-assign]
    apps: dict[str, Any] = {
        "bare application": bare,
        "ours, metrics alone": obs.ObservabilityMiddleware(bare, telemetry=silent),
        "ours, metrics, traces and access lines": obs.ObservabilityMiddleware(bare, telemetry=devnull),
    }
    try:
        from starlette_exporter import PrometheusMiddleware

        apps["starlette-exporter"] = PrometheusMiddleware(bare)
    except ImportError:
        pass
    try:
        from prometheus_fastapi_instrumentator import metrics as theirs
        from prometheus_fastapi_instrumentator.middleware import PrometheusInstrumentatorMiddleware

        registry = prometheus_client.CollectorRegistry()
        apps["prometheus-fastapi-instrumentator"] = PrometheusInstrumentatorMiddleware(
            bare, instrumentations=[made for made in [theirs.default(registry=registry)] if made], registry=registry
        )
    except (ImportError, TypeError):
        pass
    try:
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.trace import NoOpTracerProvider

        meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
        apps["opentelemetry-instrumentation-asgi, metrics alone"] = OpenTelemetryMiddleware(
            bare, meter_provider=meters, tracer_provider=NoOpTracerProvider()
        )
    except ImportError:
        pass

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None:
        return None

    def variant(app: Any) -> Callable[[], Any]:
        async def some() -> None:
            for _ in range(REQUESTS):
                scope = {
                    "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
                    "path": "/items/1", "raw_path": b"/items/1", "query_string": b"", "root_path": "", "headers": [],
                    "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
                }  # fmt: skip
                await app(scope, receive, send)

        return lambda: asyncio.run(some())

    return {name: variant(app) for name, app in apps.items()}


def measured(variants: Variants, times: int) -> dict[str, float]:
    """Median over the rounds of each variant's time for one call, in seconds."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, function in variants.items():
            began = time.perf_counter()
            for _ in range(times):
                function()
            found[name].append((time.perf_counter() - began) / times)
    return {name: statistics.median(values[3:]) for name, values in found.items()}


def table(title: str, times: dict[str, float], reference: str, above: float = 0.0) -> None:
    """Print each as a multiple of the reference, `above` taken from both."""
    print(f"\n{title}")
    for name, seconds in times.items():
        ratio = (seconds - above) / (times[reference] - above)
        print(f"  {name:<56} {ratio:8.2f} x")


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    table("one recorded request (histogram and gauge)", measured(recorders(), TIMES), "ours")
    whole = measured(middlewares(), 1)
    bare = whole.pop("bare application")
    table("one request through a middleware, what it adds to a bare application", whole, "ours, metrics alone", bare)


if __name__ == "__main__":
    main()
