"""The functions that job.py compares: an async and a sync function that do nothing, with the decorator of a library."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

Call = Callable[..., Any]
Functions = tuple[Call, Call]
"""An async and a sync function."""


def bare() -> Functions:
    async def empty_async() -> None:
        return None

    def empty_sync() -> None:
        return None

    return empty_async, empty_sync


def decorate(decorator: Callable[[Call], Call]) -> Functions:
    empty_async, empty_sync = bare()
    return decorator(empty_async), decorator(empty_sync)


def job() -> Functions:
    import connectsoft_obs as obs

    obs.configure(service="bench").serve()
    return decorate(obs.job)


def unsampled_job() -> Functions:
    os.environ["OTEL_TRACES_SAMPLER"] = "always_off"
    return job()


def job_without_success_lines() -> Functions:
    os.environ["CONNECTSOFT_OBS_ACCESS_LOG"] = "errors"
    return job()


def consumer() -> Functions:
    import connectsoft_obs as obs

    obs.configure(service="bench").serve()
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

    @obs.consumer("orders", system="rabbitmq", headers=lambda _: headers)
    async def consume_async(message: object) -> None:
        return None

    @obs.consumer("orders", system="rabbitmq", headers=lambda _: headers)
    def consume_sync(message: object) -> None:
        return None

    return lambda: consume_async(headers), lambda: consume_sync(headers)


def operation_block() -> Functions:
    import connectsoft_obs as obs

    obs.configure(service="bench").serve()

    async def empty_async() -> None:
        with obs.operation("empty"):
            pass

    def empty_sync() -> None:
        with obs.operation("empty"):
            pass

    return empty_async, empty_sync


def autometrics() -> Functions:
    import autometrics

    peer: Any = autometrics
    peer.init(tracker="prometheus")
    return decorate(peer.autometrics)


def logfire() -> Functions:
    import logfire as peer

    peer.configure(
        send_to_logfire=False, console=False, additional_span_processors=[_exporting_processor()], metrics=False
    )
    return decorate(peer.instrument())


def otel_span() -> Functions:
    tracer = _tracer()

    async def empty_async() -> None:
        with tracer.start_as_current_span("run empty"):
            return None

    def empty_sync() -> None:
        with tracer.start_as_current_span("run empty"):
            return None

    return empty_async, empty_sync


def hand_written() -> Functions:
    """A span, labels() and a structlog line, written by hand."""
    import prometheus_client
    import structlog

    tracer = _tracer()
    duration = prometheus_client.Histogram("job_seconds", "d", ["job", "trigger", "outcome"])
    active = prometheus_client.Gauge("job_active", "a", ["job"])
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ]
    )
    log = structlog.get_logger()

    class Instrumented:
        def __enter__(self) -> None:
            self.started = time.perf_counter()
            active.labels("empty").inc()
            self.span = tracer.start_as_current_span("run empty", attributes={"job": "empty", "trigger": "timer"})
            self.span.__enter__()

        def __exit__(self, *error: Any) -> None:
            seconds = time.perf_counter() - self.started
            duration.labels("empty", "timer", "success").observe(seconds)
            active.labels("empty").dec()
            log.info("run empty", job="empty", outcome="success", duration=seconds)
            self.span.__exit__(*error)

    async def empty_async() -> None:
        with Instrumented():
            return None

    def empty_sync() -> None:
        with Instrumented():
            return None

    return empty_async, empty_sync


def _tracer() -> Any:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}))
    provider.add_span_processor(_exporting_processor())
    return provider.get_tracer("bench")


def _exporting_processor() -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(endpoint=os.environ["BENCH_OTLP"] + "/v1/traces"))


VARIANTS = {
    "bare function": bare,
    "autometrics (metrics)": autometrics,
    "obs.job (metrics, trace, line)": job,
    "obs.job, unsampled": unsampled_job,
    "obs.job, access_log=errors": job_without_success_lines,
    "obs.consumer, message with a trace": consumer,
    "obs.operation() block": operation_block,
    "OpenTelemetry span by hand (trace)": otel_span,
    "logfire.instrument (trace)": logfire,
    "span + labels() + structlog by hand": hand_written,
}
