"""The same twelve situations for every profile, at a fixed time, with fixed ids."""

from __future__ import annotations

import datetime
import io
import logging
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from connectsoft_obs.context import OPERATION, SPAN
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.operations import Operation
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs import ExceptHooks, Logger, LogPipeline, StdoutWriter, pipeline
from connectsoft_obs.signals.logs.levels import ERROR, INFO, WARNING
from connectsoft_obs.signals.logs.stdlib import Handler

NOW = 1795508700_123456789  # 2026-11-24T08:25:00.123456Z
TRACE, SPAN_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
RESOURCE = {
    "service.name": "orders-api",
    "service.namespace": "saas-shop",
    "service.version": "1.4.0",
    "deployment.environment.name": "production",
    "cloud.account.id": "shop-project",
}
BROKEN = "def charge(card):\n    raise RuntimeError('payment provider answered 502, token=abc123')\ncharge(None)\n"


class Stage:
    """A stream that writes into memory, and a request to talk in."""

    def __init__(self, profile: str, **settings: Any) -> None:
        self.written = io.StringIO()
        self.counted: list[tuple[str, tuple[str, ...]]] = []
        self.internal_telemetry = InternalTelemetry()
        self.internal_telemetry.attach(
            lambda metric, labels, number: self.counted.append((metric.name, labels)), lambda *_: None
        )
        self.stream = LogPipeline(
            Settings(log_profile=profile, **settings),
            RESOURCE,
            self._counter,
            self.internal_telemetry,
            StdoutWriter(self.internal_telemetry, self.written),
        )
        self.log = Logger(lambda: self.stream, "orders", {})

    def _counter(self, metric: Any, labels: tuple[str, ...]) -> Callable[[float], None]:
        return lambda number: self.counted.append((metric.name, labels)) if number else None

    @property
    def counted_errors(self) -> list[tuple[str, ...]]:
        """Where the instrumentation failed."""
        return [labels for name, labels in self.counted if name == "connectsoft.obs.errors"]

    def request(self, name: str = "GET /orders/{id}", flags: int = 1) -> tuple[Operation, Context]:
        """A request as the middleware would have begun it."""
        operation = Operation(name, "corr-3a6e1d40")
        span = NonRecordingSpan(SpanContext(TRACE, SPAN_ID, False, TraceFlags(flags)))
        return operation, Context({OPERATION: operation, SPAN: span})

    def access(self, status: int, outcome: str, level: int, **more: Any) -> None:
        """An access line as the middleware writes it."""
        operation, context = self.request()
        operation.bind({"tenant_id": "acme"})
        title = "GET /orders/{id}"
        fixed = {"http.request.method": "GET", "http.route": "/orders/{id}", "http.response.status_code": status}
        numbers = {"http.server.request.duration": 0.012345, "http.response.body.size": 512}
        fixed |= {**more, "connectsoft.outcome": outcome}
        form = self.stream.compile_line(f"{title} {status}", "connectsoft_obs.access", fixed, tuple(numbers))
        around = self.stream.fragment({"client.address": "203.0.113.7", "user_agent.original": "Mozilla/5.0"})
        digits = (b"%032x" % TRACE, b"%016x" % SPAN_ID, b"01")
        self.stream.write_templated(form, context, digits, level, NOW, operation, tuple(numbers.values()), around)

    def inside(self, say: Callable[[], None], flags: int = 1, facts: dict[str, Any] | None = None) -> None:
        """Say something while a request runs."""
        operation, context = self.request(flags=flags)
        operation.bind(facts or {})
        token = attach(context)
        try:
            say()
        finally:
            detach(token)


def fails(stage: Stage) -> None:
    try:
        exec(compile(BROKEN, "/srv/orders.py", "exec"), {})  # noqa: S102
    except RuntimeError as error:
        assert error.__traceback__ is not None  # noqa: PT017
        error.__traceback__ = error.__traceback__.tb_next  # without the line of this file
        stage.log.exception("order failed", order_id=42)


class Broken:
    def __repr__(self) -> str:
        raise ValueError


def standard(stage: Stage) -> None:
    record = logging.LogRecord("sqlalchemy.pool", WARNING, "pool.py", 1, "connection %s is %s", ("7", "stale"), None)
    record.__dict__.update({"pool_size": 5, "taskName": None})
    Handler(lambda: stage.stream).handle(record)


def warned(stage: Stage) -> None:
    ExceptHooks(lambda: stage.stream)._warning(
        DeprecationWarning("use place() instead"), DeprecationWarning, "/srv/orders.py", 12
    )


def unusual(stage: Stage) -> None:
    values: dict[str, Any] = {
        "timestamp": "1999", "trace_id": "mine", "message": "other", "service": "other", "error": "text",
        "when": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), "ratio": float("nan"), "huge": 2**70,
        "raw": b"\xff\x00", "unicode": "\ud800", "broken": Broken(), "tags": {"only"}, "nested": {1: (2, None)},
    }  # fmt: skip
    stage.log.info("unusual\nvalues", **values)


def secret(stage: Stage) -> None:
    stage.log.warning(
        "calling with Bearer abc.def-123456",
        password="hunter2",
        headers={"Authorization": "Basic dXNlcjpwYXNz", "Accept": "*/*"},
        dsn="postgresql://app:s3cret@db:5432/orders",
        card="4111 1111 1111 1111",
        tokens=17,
    )


SITUATIONS: dict[str, Callable[[Stage], None]] = {
    "a line outside of any operation": lambda stage: stage.log.info("service started", port=8080),
    "a line in a request, with bound facts": lambda stage: stage.inside(
        lambda: stage.log.info("order placed", order_id=42, total=99.5),
        facts={"tenant_id": "acme", "workflow_id": "w-1"},
    ),
    "a line in a request that is not sampled": lambda stage: stage.inside(
        lambda: stage.log.debug("looked up"), flags=0
    ),
    "an access line of a success": lambda stage: stage.access(200, "success", INFO),
    "an access line of a rejection": lambda stage: stage.access(404, "rejected", INFO),
    "an access line of a failure": lambda stage: stage.access(502, "failure", ERROR, **{"error.type": "502"}),
    "an access line of a client that left": lambda stage: stage.access(
        200, "aborted", INFO, **{"error.type": "client_disconnect"}
    ),
    "an exception": lambda stage: stage.inside(lambda: fails(stage)),
    "a record of the standard library": standard,
    "a warning": warned,
    "reserved keys and values that JSON cannot hold": unusual,
    "secrets": secret,
}


def told(profile: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Stage:
    """All situations, in one stream."""
    monkeypatch.setattr(pipeline, "time_ns", lambda: NOW)
    stage = Stage(profile, log_level="debug", **settings)
    with warnings.catch_warnings():
        for situation in SITUATIONS.values():
            situation(stage)
    return stage
