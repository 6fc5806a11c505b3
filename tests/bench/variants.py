"""The applications that are compared: one route, set up as each library's documentation recommends.

The route is the thirteenth of twenty, `GET /items/{item_id}`, and answers a small JSON object. A variant is a function
that gives back an ASGI application; what it needs is imported inside it, so that no variant pays for another.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

App = Callable[..., Any]


def starlette() -> Any:
    """The bare application."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def item(request: Any) -> Any:
        return JSONResponse({"id": request.path_params["item_id"], "name": "thing", "price": 9.5})

    routes = [Route(f"/before{n}/{{x}}", item) for n in range(12)]
    routes += [Route("/items/{item_id}", item)]
    routes += [Route(f"/after{n}/{{x}}", item) for n in range(7)]
    return Starlette(routes=routes)


def fastapi(**options: Any) -> Any:
    """The bare application on FastAPI."""
    from fastapi import FastAPI

    app = FastAPI(**options)

    async def item(item_id: int) -> dict[str, Any]:
        return {"id": item_id, "name": "thing", "price": 9.5}

    async def other(x: str) -> str:
        return x

    for n in range(12):
        app.get(f"/before{n}/{{x}}")(other)
    app.get("/items/{item_id}")(item)
    for n in range(7):
        app.get(f"/after{n}/{{x}}")(other)
    return app


def _ours(app: Any, **settings: Any) -> Any:
    import connectsoft_obs as obs

    app.add_middleware(obs.ObservabilityMiddleware, service="bench", instrumentations="none", **settings)
    return app


def _endpoint() -> str:
    return os.environ["BENCH_OTLP"]


def ours_all() -> Any:
    """All four signals, every request sampled, exported over OTLP/HTTP."""
    return _ours(starlette(), otlp_endpoint=_endpoint())


def ours_quiet() -> Any:
    """All four signals, nothing exported."""
    return _ours(starlette())


def ours_ten_percent() -> Any:
    """One request in ten sampled."""
    return _ours(starlette(), otlp_endpoint=_endpoint(), traces_sampler="traceidratio", traces_sampler_arg=0.1)


def ours_unsampled() -> Any:
    """No request sampled."""
    return _ours(starlette(), otlp_endpoint=_endpoint(), traces_sampler="always_off")


def ours_no_lines() -> Any:
    """No access line."""
    return _ours(starlette(), otlp_endpoint=_endpoint(), access_log="off")


def ours_disabled() -> Any:
    """Everything off."""
    return _ours(starlette(), disabled=True)


def ours_fastapi() -> Any:
    """All four signals on FastAPI."""
    return _ours(fastapi(), otlp_endpoint=_endpoint())


def structlog_line(bound: bool = False) -> Any:
    """An access line by structlog, as its documentation's fast set-up has it, and nothing else."""
    import time
    import uuid

    import orjson
    import structlog

    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        logger_factory=structlog.BytesLoggerFactory(),
    )
    log = structlog.get_logger()
    app = starlette()

    async def line(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        if bound:
            structlog.contextvars.clear_contextvars()
            structlog.contextvars.bind_contextvars(request_id=str(uuid.uuid4()), peer=scope["client"][0])

        async def noting(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await app(scope, receive, noting)
        took = time.perf_counter() - began
        log.info("request", method=scope["method"], path=scope["path"], status=status, duration=took)

    return line


def structlog_bound() -> Any:
    """The same with a request id on every line, as its documentation has it for web applications."""
    return structlog_line(bound=True)


def _providers(metrics: bool) -> None:
    from opentelemetry import metrics as metrics_api
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{_endpoint()}/v1/traces")))
    trace.set_tracer_provider(provider)
    if metrics:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{_endpoint()}/v1/metrics"))
        metrics_api.set_meter_provider(MeterProvider([reader]))


def contrib_asgi() -> Any:
    """OpenTelemetry's ASGI middleware, one span a request, exported."""
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"
    _providers(metrics=False)
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    return OpenTelemetryMiddleware(starlette(), exclude_spans=["receive", "send"])


def contrib_traces() -> Any:
    """OpenTelemetry's Starlette instrumentation, defaults, traces exported."""
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"
    _providers(metrics=False)
    from opentelemetry.instrumentation.starlette import StarletteInstrumentor

    app = starlette()
    StarletteInstrumentor.instrument_app(app)
    return app


def contrib_traces_metrics() -> Any:
    """OpenTelemetry's Starlette instrumentation, traces and metrics exported."""
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"
    _providers(metrics=True)
    from opentelemetry.instrumentation.starlette import StarletteInstrumentor

    app = starlette()
    StarletteInstrumentor.instrument_app(app)
    return app


def starlette_own() -> Any:
    """Starlette's own OpenTelemetry middleware, traces exported."""
    _providers(metrics=False)
    from starlette.middleware.opentelemetry import OpenTelemetryMiddleware

    app = starlette()
    app.add_middleware(OpenTelemetryMiddleware)
    return app


def fastapi_own() -> Any:
    """FastAPI's own telemetry, traces and metrics exported."""
    _providers(metrics=True)
    return fastapi()


def instrumentator() -> Any:
    """prometheus-fastapi-instrumentator, metrics only."""
    from prometheus_fastapi_instrumentator import Instrumentator

    app = starlette()
    Instrumentator().instrument(app)
    return app


def starlette_exporter() -> Any:
    """starlette-exporter, metrics only."""
    from starlette_exporter import PrometheusMiddleware

    app = starlette()
    app.add_middleware(PrometheusMiddleware, group_paths=True)
    return app


def logfire() -> Any:
    """Logfire on Starlette; nothing is sent."""
    import logfire as library

    library.configure(send_to_logfire=False, console=False)
    app = starlette()
    library.instrument_starlette(app)
    return app


def sentry() -> Any:
    """Sentry with tracing, into a transport that drops everything."""
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Nowhere(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            """Drop it."""

    sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", traces_sample_rate=1.0, transport=Nowhere)
    return starlette()


def lite_bootstrap() -> Any:
    """lite-bootstrap on FastAPI with logging, metrics and traces."""
    from lite_bootstrap import FastAPIBootstrapper, FastAPIConfig
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> Any:
            return SpanExportResult.SUCCESS

    config = FastAPIConfig(service_name="bench", service_debug=False, application=fastapi(telemetry=None))
    return FastAPIBootstrapper(config).bootstrap()


def fastapi_observer() -> Any:
    """fastapi-observer on FastAPI by its production profile: logs and metrics."""
    os.environ.update(OBS_PROFILE="production", SERVICE_NAME="bench", METRICS_ENABLED="true")
    from fastapiobserver import install_observability

    app = fastapi(telemetry=None)
    install_observability(app)
    return app


VARIANTS: dict[str, tuple[App, str, str]] = {
    # name: (how it is built, its signals, what it is compared with)
    "bare": (starlette, "", "bare"),
    "ours": (ours_all, "MTLR", "bare"),
    "ours, not exported": (ours_quiet, "MTLR", "bare"),
    "ours, 10 % sampled": (ours_ten_percent, "MTLR", "bare"),
    "ours, 0 % sampled": (ours_unsampled, "MLR", "bare"),
    "ours, no access line": (ours_no_lines, "MTR", "bare"),
    "ours, disabled": (ours_disabled, "", "bare"),
    "structlog line": (structlog_line, "L", "bare"),
    "structlog line, request id": (structlog_bound, "LR", "bare"),
    "instrumentator": (instrumentator, "M", "bare"),
    "starlette-exporter": (starlette_exporter, "M", "bare"),
    "contrib ASGI, one span": (contrib_asgi, "T", "bare"),
    "contrib": (contrib_traces, "T", "bare"),
    "contrib with metrics": (contrib_traces_metrics, "MT", "bare"),
    "Starlette's own": (starlette_own, "T", "bare"),
    "Logfire": (logfire, "MT", "bare"),
    "Sentry": (sentry, "T", "bare"),
    "bare FastAPI": (fastapi, "", "bare FastAPI"),
    "ours on FastAPI": (ours_fastapi, "MTLR", "bare FastAPI"),
    "FastAPI's own": (fastapi_own, "MT", "bare FastAPI"),
    "lite-bootstrap": (lite_bootstrap, "MT", "bare FastAPI"),
    "fastapi-observer": (fastapi_observer, "ML", "bare FastAPI"),
}
"""M metrics, T traces, L access line, R request id."""


def build(name: str) -> Any:
    """The application of a variant, its log on standard output."""
    logging.getLogger().setLevel(logging.WARNING)
    return VARIANTS[name][0]()


if __name__ == "__main__":
    json.dump(sorted(VARIANTS), sys.stdout)
