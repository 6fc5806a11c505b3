"""The applications that the benchmarks compare: one route, set up as the documentation of each library recommends.

The route is the thirteenth of twenty, `GET /items/{item_id}`, and returns a small JSON object. A variant is a function
that creates an ASGI application; it imports what it needs itself, so that no variant includes the import cost of another.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import peer_variants as peers
from bare_apps import fastapi_app, starlette_app

AppFactory = Callable[[], Any]


def _instrument(app: Any, **settings: Any) -> Any:
    import connectsoft_obs as obs

    app.add_middleware(obs.ObservabilityMiddleware, service="bench", instrumentations="none", **settings)
    return app


def all_signals() -> Any:
    """All four signals, every request sampled, exported over OTLP/HTTP."""
    return _instrument(starlette_app(), otlp_endpoint=os.environ["BENCH_OTLP"])


def not_exported() -> Any:
    """All four signals, nothing exported."""
    return _instrument(starlette_app())


def ten_percent_sampled() -> Any:
    """One request in ten sampled."""
    endpoint = os.environ["BENCH_OTLP"]
    return _instrument(starlette_app(), otlp_endpoint=endpoint, traces_sampler="traceidratio", traces_sampler_arg=0.1)


def not_sampled() -> Any:
    """No request sampled."""
    return _instrument(starlette_app(), otlp_endpoint=os.environ["BENCH_OTLP"], traces_sampler="always_off")


def without_access_log() -> Any:
    """No access log."""
    return _instrument(starlette_app(), otlp_endpoint=os.environ["BENCH_OTLP"], access_log="off")


def disabled() -> Any:
    """Everything disabled."""
    return _instrument(starlette_app(), disabled=True)


def all_signals_on_fastapi() -> Any:
    """All four signals on FastAPI."""
    return _instrument(fastapi_app(), otlp_endpoint=os.environ["BENCH_OTLP"])


VARIANTS: dict[str, tuple[AppFactory, str, str]] = {
    # name: (factory, signals, variant that it is compared with); names that start with "connectsoft-obs" use this package
    "bare": (starlette_app, "", "bare"),
    "connectsoft-obs": (all_signals, "MTLR", "bare"),
    "connectsoft-obs, not exported": (not_exported, "MTLR", "bare"),
    "connectsoft-obs, 10 % sampled": (ten_percent_sampled, "MTLR", "bare"),
    "connectsoft-obs, 0 % sampled": (not_sampled, "MLR", "bare"),
    "connectsoft-obs, no access line": (without_access_log, "MTR", "bare"),
    "connectsoft-obs, disabled": (disabled, "", "bare"),
    "structlog line": (peers.structlog_line, "L", "bare"),
    "structlog line, request id": (peers.structlog_line_with_request_id, "LR", "bare"),
    "instrumentator": (peers.instrumentator, "M", "bare"),
    "starlette-exporter": (peers.starlette_exporter, "M", "bare"),
    "contrib ASGI, one span": (peers.contrib_asgi, "T", "bare"),
    "contrib": (peers.contrib_traces, "T", "bare"),
    "contrib with metrics": (peers.contrib_traces_and_metrics, "MT", "bare"),
    "Starlette's own": (peers.starlette_opentelemetry, "T", "bare"),
    "Logfire": (peers.logfire, "MT", "bare"),
    "Sentry": (peers.sentry, "T", "bare"),
    "bare FastAPI": (fastapi_app, "", "bare FastAPI"),
    "connectsoft-obs on FastAPI": (all_signals_on_fastapi, "MTLR", "bare FastAPI"),
    "FastAPI's own": (peers.fastapi_telemetry, "MT", "bare FastAPI"),
    "lite-bootstrap": (peers.lite_bootstrap, "MT", "bare FastAPI"),
    "fastapi-observer": (peers.fastapi_observer, "ML", "bare FastAPI"),
}
"""Signals: M metrics, T traces, L access log, R request id."""


def build(name: str) -> Any:
    """Create the application of a variant; its log lines go to standard output."""
    logging.getLogger().setLevel(logging.WARNING)
    return VARIANTS[name][0]()


if __name__ == "__main__":
    json.dump(sorted(VARIANTS), sys.stdout)
