"""Twelve log lines that every profile renders for its golden file, with a fixed time and fixed ids."""

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

from connectsoft_obs.context import OPERATION_KEY, SPAN_KEY
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.operations import Operation
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs import ExceptHooks, Logger, LogPipeline, StdoutWriter, pipeline
from connectsoft_obs.signals.logs.levels import ERROR, INFO, WARNING
from connectsoft_obs.signals.logs.stdlib import Handler

NOW = 1795508700_123456789  # 2026-11-24T08:25:00.123456Z
TRACE_ID, SPAN_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
RESOURCE = {
    "service.name": "orders-api",
    "service.namespace": "saas-shop",
    "service.version": "1.4.0",
    "deployment.environment.name": "production",
    "cloud.account.id": "shop-project",
}
FAILING_SOURCE = (
    "def charge(card):\n    raise RuntimeError('payment provider answered 502, token=abc123')\ncharge(None)\n"
)


class LogRecorder:
    """A log pipeline that writes to memory, with helpers to log inside a request."""

    def __init__(self, profile: str, *, stream: io.StringIO | None = None, **settings: Any) -> None:
        self.output = stream or io.StringIO()
        self.counter_calls: list[tuple[str, tuple[str, ...]]] = []
        self.internal_telemetry = InternalTelemetry()
        self.internal_telemetry.attach(
            lambda metric, labels, number: self.counter_calls.append((metric.name, labels)), lambda *_: None
        )
        self.pipeline = LogPipeline(
            Settings(log_profile=profile, **settings),
            RESOURCE,
            self._counter,
            self.internal_telemetry,
            StdoutWriter(self.internal_telemetry, self.output),
        )
        self.log = Logger(lambda: self.pipeline, "orders", {})

    def _counter(self, metric: Any, labels: tuple[str, ...]) -> Callable[[float], None]:
        return lambda number: self.counter_calls.append((metric.name, labels)) if number else None

    @property
    def counted_errors(self) -> list[tuple[str, ...]]:
        """The labels of the internal errors that were counted."""
        return [labels for name, labels in self.counter_calls if name == "connectsoft.obs.errors"]

    def request(self, name: str = "GET /orders/{id}", flags: int = 1) -> tuple[Operation, Context]:
        """The operation and the context of a request, as the middleware creates them."""
        operation = Operation(name, "corr-3a6e1d40")
        span = NonRecordingSpan(SpanContext(TRACE_ID, SPAN_ID, False, TraceFlags(flags)))
        return operation, Context({OPERATION_KEY: operation, SPAN_KEY: span})

    def log_access(self, status: int, outcome: str, level: int, **fields: Any) -> None:
        """Write an access log line as the middleware does."""
        operation, context = self.request()
        operation.bind({"tenant_id": "acme"})
        template = self.pipeline.compile_line(
            f"GET /orders/{{id}} {status}",
            "connectsoft_obs.access",
            {
                "http.request.method": "GET",
                "http.route": "/orders/{id}",
                "http.response.status_code": status,
                **fields,
                "connectsoft.outcome": outcome,
            },
            ("connectsoft.http.server.request.duration", "http.response.body.size"),
        )
        client = self.pipeline.encode_fields({"client.address": "203.0.113.7", "user_agent.original": "Mozilla/5.0"})
        ids = (b"%032x" % TRACE_ID, b"%016x" % SPAN_ID, b"01")
        self.pipeline.write_templated(template, context, ids, level, NOW, operation, (0.012345, 512), client)

    def in_request(self, log: Callable[[], None], flags: int = 1, bound: dict[str, Any] | None = None) -> None:
        """Call a function that logs while a request is current."""
        operation, context = self.request(flags=flags)
        operation.bind(bound or {})
        token = attach(context)
        try:
            log()
        finally:
            detach(token)


def log_exception(recorder: LogRecorder) -> None:
    try:
        exec(compile(FAILING_SOURCE, "/srv/orders.py", "exec"), {})  # noqa: S102
    except RuntimeError as error:
        assert error.__traceback__ is not None  # noqa: PT017
        error.__traceback__ = error.__traceback__.tb_next  # without the frame of this file
        recorder.log.exception("order failed", order_id=42)


class Broken:
    """A value whose representation cannot be computed."""

    def __repr__(self) -> str:
        raise ValueError


def log_stdlib_record(recorder: LogRecorder) -> None:
    record = logging.LogRecord("sqlalchemy.pool", WARNING, "pool.py", 1, "connection %s is %s", ("7", "stale"), None)
    record.__dict__.update({"pool_size": 5, "taskName": None})
    Handler(lambda: recorder.pipeline).handle(record)


def log_warning(recorder: LogRecorder) -> None:
    ExceptHooks(lambda: recorder.pipeline)._handle_warning(
        DeprecationWarning("use place() instead"), DeprecationWarning, "/srv/orders.py", 12
    )


def log_reserved_keys(recorder: LogRecorder) -> None:
    values: dict[str, Any] = {
        "timestamp": "1999", "trace_id": "mine", "message": "other", "service": "other", "error": "text",
        "when": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), "ratio": float("nan"), "huge": 2**70,
        "raw": b"\xff\x00", "unicode": "\ud800", "broken": Broken(), "tags": {"only"}, "nested": {1: (2, None)},
    }  # fmt: skip
    recorder.log.info("unusual\nvalues", **values)


def log_secrets(recorder: LogRecorder) -> None:
    recorder.log.warning(
        "calling with Bearer abc.def-123456",
        password="hunter2",
        headers={"Authorization": "Basic dXNlcjpwYXNz", "Accept": "*/*"},
        dsn="postgresql://app:s3cret@db:5432/orders",
        card="4111 1111 1111 1111",
        tokens=17,
    )


CASES: dict[str, Callable[[LogRecorder], None]] = {
    "a line outside of any operation": lambda recorder: recorder.log.info("service started", port=8080),
    "a line in a request, with bound fields": lambda recorder: recorder.in_request(
        lambda: recorder.log.info("order placed", order_id=42, total=99.5),
        bound={"tenant_id": "acme", "workflow_id": "w-1"},
    ),
    "a line in a request that is not sampled": lambda recorder: recorder.in_request(
        lambda: recorder.log.debug("looked up"), flags=0
    ),
    "an access line of a success": lambda recorder: recorder.log_access(200, "success", INFO),
    "an access line of a rejection": lambda recorder: recorder.log_access(404, "rejected", INFO),
    "an access line of a failure": lambda recorder: recorder.log_access(502, "failure", ERROR, **{"error.type": "502"}),
    "an access line of a client that disconnected": lambda recorder: recorder.log_access(
        200, "aborted", INFO, **{"error.type": "client_disconnect"}
    ),
    "an exception": lambda recorder: recorder.in_request(lambda: log_exception(recorder)),
    "a record of the standard library": log_stdlib_record,
    "a warning": log_warning,
    "reserved keys and values that JSON cannot hold": log_reserved_keys,
    "secrets": log_secrets,
}


def render_cases(profile: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> LogRecorder:
    """Log all cases through one pipeline of a profile."""
    monkeypatch.setattr(pipeline, "time_ns", lambda: NOW)
    recorder = LogRecorder(profile, log_level="debug", **settings)
    with warnings.catch_warnings():
        for log_case in CASES.values():
            log_case(recorder)
    return recorder
