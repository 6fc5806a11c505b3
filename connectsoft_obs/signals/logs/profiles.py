"""The shapes a log line can have: a profile is a table of names, not code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from connectsoft_obs.signals.logs.levels import CRITICAL, DEBUG, ERROR, INFO, SEVERITY_TEXT, WARNING
from connectsoft_obs.vocabulary import (
    DIMENSIONS,
    ENVIRONMENT,
    ERROR_TYPE,
    EVENT_NAME,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
    HTTP_REQUEST_BODY_SIZE,
    HTTP_RESPONSE_BODY_SIZE,
    SERVICE_NAME,
    SERVICE_VERSION,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Which key holds what.

    Args:
        head: the keys that come first, in their order; those that hold nothing are left out.
        timestamp, severity, message, logger, trace_id, span_id, trace_flags, sampled, operation: the keys of what each
            says; "" leaves it out. `sampled` is the trace's sampled flag as truth, `operation` the name of what runs.
        trace_prefix: stands before the trace id, with resource attributes in braces; left out where one is unknown.
        words: what a level is called.
        resource: resource attributes on every line, and their keys.
        always: keys that are null, rather than absent, when nothing is known.
        names: keys of attributes that are called something else.
        camel: whether the other attributes are written in camelCase.
        constants: fields that are the same on every line.
        kept: more keys that a caller may not use as they are.
    """

    head: tuple[str, ...]
    timestamp: str = "timestamp"
    severity: str = "severity"
    message: str = "message"
    logger: str = "logger"
    trace_id: str = "trace_id"
    span_id: str = "span_id"
    trace_flags: str = ""
    sampled: str = ""
    operation: str = ""
    trace_prefix: str = ""
    words: Mapping[int, str] = field(default_factory=lambda: SEVERITY_TEXT)
    resource: Mapping[str, str] = field(default_factory=dict)
    always: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    camel: bool = False
    constants: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()


_SAME: Final = {name: name for name in (SERVICE_NAME, SERVICE_VERSION, ENVIRONMENT)}
_DOTNET_WORDS: Final = {
    DEBUG: "Debug",
    INFO: "Information",
    WARNING: "Warning",
    ERROR: "Error",
    CRITICAL: "Critical",
}
_GCP_WORDS: Final = {DEBUG: "DEBUG", INFO: "INFO", WARNING: "WARNING", ERROR: "ERROR", CRITICAL: "CRITICAL"}
_LOWER: Final = {DEBUG: "debug", INFO: "info", WARNING: "warning", ERROR: "error", CRITICAL: "critical"}

OTEL: Final = Profile(
    head=("timestamp", "severity", "message", "logger", "trace_id", "span_id", "trace_flags", *_SAME),
    trace_flags="trace_flags",
    resource=_SAME,
)

# The .NET services' lines: camelCase, .NET's words for levels, and the fields that every line of theirs has.
CONNECTSOFT: Final = Profile(
    head=(
        "timestamp", "level", "message", "service", "operation", "environment", "version",
        "tenantId", "traceId", "spanId", "correlationId", "logger",
    ),
    severity="level",
    trace_id="traceId",
    span_id="spanId",
    operation="operation",
    words=_DOTNET_WORDS,
    resource={SERVICE_NAME: "service", ENVIRONMENT: "environment", SERVICE_VERSION: "version"},
    always=("service", "operation", "environment", "version", "tenantId", "traceId", "correlationId"),
    names={attribute: f"{attribute.split('.')[1]}Id" for attribute in DIMENSIONS.values()}
    | {EXCEPTION_TYPE: "exceptionType", EXCEPTION_MESSAGE: "exceptionMessage", EXCEPTION_STACKTRACE: "exception"},
    camel=True,
)  # fmt: skip

# Elastic Common Schema 8.11. A store that turns dots into objects cannot hold `error` beside `error.type`: the roots of
# the names we use are kept from callers.
ECS: Final = Profile(
    head=(
        "@timestamp", "log.level", "message", "ecs.version", "log.logger", "trace.id", "span.id",
        "service.name", "service.version", "service.environment",
    ),
    timestamp="@timestamp",
    severity="log.level",
    logger="log.logger",
    trace_id="trace.id",
    span_id="span.id",
    words=_LOWER,
    resource={SERVICE_NAME: SERVICE_NAME, SERVICE_VERSION: SERVICE_VERSION, ENVIRONMENT: "service.environment"},
    names={
        EXCEPTION_TYPE: "error.type",
        EXCEPTION_MESSAGE: "error.message",
        EXCEPTION_STACKTRACE: "error.stack_trace",
        # A document has a field once; the class of an exception and what an operation failed of share one name.
        ERROR_TYPE: "error.code",
        EVENT_NAME: "event.action",
        HTTP_REQUEST_BODY_SIZE: "http.request.body.bytes",
        HTTP_RESPONSE_BODY_SIZE: "http.response.body.bytes",
    },
    constants={"ecs.version": "8.11.0"},
    kept=(
        "client", "code", "connectsoft", "ecs", "error", "event", "http", "log", "otel", "service",
        "span", "thread", "trace", "url", "user_agent",
    ),
)  # fmt: skip

# The special fields of Google Cloud's structured logging.
GCP: Final = Profile(
    head=(
        "time", "severity", "message", "logger", "logging.googleapis.com/trace", "logging.googleapis.com/spanId",
        "logging.googleapis.com/trace_sampled", *_SAME,
    ),
    timestamp="time",
    trace_id="logging.googleapis.com/trace",
    span_id="logging.googleapis.com/spanId",
    sampled="logging.googleapis.com/trace_sampled",
    trace_prefix="projects/{cloud.account.id}/traces/",
    words=_GCP_WORDS,
    resource=_SAME,
    names={EXCEPTION_STACKTRACE: "stack_trace"},
    kept=("timestamp", "timestampSeconds", "timestampNanos"),
)  # fmt: skip

PROFILES: Final = {"otel": OTEL, "connectsoft": CONNECTSOFT, "ecs": ECS, "gcp": GCP}
