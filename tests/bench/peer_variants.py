"""The variants of other libraries. Each function imports its library itself; a library may not be installed."""

from __future__ import annotations

import logging
import os
from typing import Any

from bare_apps import fastapi_app, starlette_app


def structlog_line(with_request_id: bool = False) -> Any:
    """An access log line by structlog, with the fast set-up of its documentation, and nothing else."""
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
    app = starlette_app()

    async def logging_app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        if with_request_id:
            structlog.contextvars.clear_contextvars()
            structlog.contextvars.bind_contextvars(request_id=str(uuid.uuid4()), peer=scope["client"][0])

        async def send_and_record(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await app(scope, receive, send_and_record)
        duration = time.perf_counter() - started
        log.info("request", method=scope["method"], path=scope["path"], status=status, duration=duration)

    return logging_app


def structlog_line_with_request_id() -> Any:
    """The same with a request id on every line, as the documentation of structlog shows for web applications."""
    return structlog_line(with_request_id=True)


def _set_providers(metrics: bool) -> None:
    from opentelemetry import metrics as metrics_api
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    endpoint = os.environ["BENCH_OTLP"]
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")))
    trace.set_tracer_provider(provider)
    if metrics:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{endpoint}/v1/metrics"))
        metrics_api.set_meter_provider(MeterProvider([reader]))


def contrib_asgi() -> Any:
    """OpenTelemetry's ASGI middleware, one span per request, exported."""
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"
    _set_providers(metrics=False)
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    return OpenTelemetryMiddleware(starlette_app(), exclude_spans=["receive", "send"])


def _contrib_starlette(metrics: bool) -> Any:
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"
    _set_providers(metrics)
    from opentelemetry.instrumentation.starlette import StarletteInstrumentor

    app = starlette_app()
    StarletteInstrumentor.instrument_app(app)
    return app


def contrib_traces() -> Any:
    """OpenTelemetry's Starlette instrumentation with its defaults, traces exported."""
    return _contrib_starlette(metrics=False)


def contrib_traces_and_metrics() -> Any:
    """OpenTelemetry's Starlette instrumentation, traces and metrics exported."""
    return _contrib_starlette(metrics=True)


def starlette_opentelemetry() -> Any:
    """Starlette's OpenTelemetry middleware, traces exported."""
    _set_providers(metrics=False)
    from starlette.middleware.opentelemetry import OpenTelemetryMiddleware

    app = starlette_app()
    app.add_middleware(OpenTelemetryMiddleware)
    return app


def fastapi_telemetry() -> Any:
    """FastAPI's built-in telemetry, traces and metrics exported."""
    _set_providers(metrics=True)
    return fastapi_app()


def instrumentator() -> Any:
    """prometheus-fastapi-instrumentator, metrics only."""
    from prometheus_fastapi_instrumentator import Instrumentator

    app = starlette_app()
    Instrumentator().instrument(app)
    return app


def starlette_exporter() -> Any:
    """starlette-exporter, metrics only."""
    from starlette_exporter import PrometheusMiddleware

    app = starlette_app()
    app.add_middleware(PrometheusMiddleware, group_paths=True)
    return app


def logfire() -> Any:
    """Logfire on Starlette, not exported."""
    import logfire as library

    library.configure(send_to_logfire=False, console=False)
    app = starlette_app()
    library.instrument_starlette(app)
    return app


def sentry() -> Any:
    """Sentry with tracing and a transport that discards everything."""
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class DiscardingTransport(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            """Discard an envelope."""

    sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", traces_sample_rate=1.0, transport=DiscardingTransport)
    return starlette_app()


def lite_bootstrap() -> Any:
    """lite-bootstrap on FastAPI with logging, metrics and traces."""
    from lite_bootstrap import FastAPIBootstrapper, FastAPIConfig

    config = FastAPIConfig(service_name="bench", service_debug=False, application=fastapi_app(telemetry=None))
    return FastAPIBootstrapper(config).bootstrap()


def fastapi_observer() -> Any:
    """fastapi-observer on FastAPI with its production profile: logs and metrics."""
    os.environ.update(OBS_PROFILE="production", SERVICE_NAME="bench", METRICS_ENABLED="true")
    from fastapiobserver import install_observability

    app = fastapi_app(telemetry=None)
    install_observability(app)
    return app
