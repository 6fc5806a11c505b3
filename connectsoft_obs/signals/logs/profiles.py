"""Log profiles: tables of the JSON keys and severity names of each supported log format."""

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
    """JSON keys and severity names of a log format.

    Args:
        leading_keys: keys that come first, in their order; those without a value are left out.
        timestamp, severity, message, logger, trace_id, span_id, trace_flags, sampled, operation: key of each; "" leaves
            it out. `sampled` is the sampled flag of the trace as a boolean, `operation` the name of the operation.
        trace_prefix: prefix of the trace id, with resource attributes in braces; left out if one of them is unknown.
        severity_names: name of each level.
        resource: resource attributes on every line, and their keys.
        always_present: keys that are null instead of absent if there is no value.
        renamed_attributes: attributes whose key is not derived from their name.
        camel_case: whether the keys of other attributes are written in camelCase.
        constants: fields that are the same on every line.
        reserved_keys: more keys that attributes of the application cannot use; they get the prefix `attr.`.
    """

    leading_keys: tuple[str, ...]
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
    severity_names: Mapping[int, str] = field(default_factory=lambda: SEVERITY_TEXT)
    resource: Mapping[str, str] = field(default_factory=dict)
    always_present: tuple[str, ...] = ()
    renamed_attributes: Mapping[str, str] = field(default_factory=dict)
    camel_case: bool = False
    constants: Mapping[str, str] = field(default_factory=dict)
    reserved_keys: tuple[str, ...] = ()


_RESOURCE_KEYS: Final = {name: name for name in (SERVICE_NAME, SERVICE_VERSION, ENVIRONMENT)}
_DOTNET_SEVERITY: Final = {
    DEBUG: "Debug",
    INFO: "Information",
    WARNING: "Warning",
    ERROR: "Error",
    CRITICAL: "Critical",
}
_GCP_SEVERITY: Final = {DEBUG: "DEBUG", INFO: "INFO", WARNING: "WARNING", ERROR: "ERROR", CRITICAL: "CRITICAL"}
_LOWER_CASE_SEVERITY: Final = {DEBUG: "debug", INFO: "info", WARNING: "warning", ERROR: "error", CRITICAL: "critical"}

OTEL: Final = Profile(
    leading_keys=("timestamp", "severity", "message", "logger", "trace_id", "span_id", "trace_flags", *_RESOURCE_KEYS),
    trace_flags="trace_flags",
    resource=_RESOURCE_KEYS,
)

# The format of ConnectSoft's .NET services: camelCase, .NET's level names, and the fields that each of their lines has.
CONNECTSOFT: Final = Profile(
    leading_keys=(
        "timestamp", "level", "message", "service", "operation", "environment", "version",
        "tenantId", "traceId", "spanId", "correlationId", "logger",
    ),
    severity="level",
    trace_id="traceId",
    span_id="spanId",
    operation="operation",
    severity_names=_DOTNET_SEVERITY,
    resource={SERVICE_NAME: "service", ENVIRONMENT: "environment", SERVICE_VERSION: "version"},
    always_present=("service", "operation", "environment", "version", "tenantId", "traceId", "correlationId"),
    renamed_attributes={attribute: f"{attribute.split('.')[1]}Id" for attribute in DIMENSIONS.values()}
    | {EXCEPTION_TYPE: "exceptionType", EXCEPTION_MESSAGE: "exceptionMessage", EXCEPTION_STACKTRACE: "exception"},
    camel_case=True,
)  # fmt: skip

# Elastic Common Schema 8.11. Elasticsearch turns dots into objects and rejects a document with both `error` and
# `error.type`, so the first segments of all names in use are reserved.
ECS: Final = Profile(
    leading_keys=(
        "@timestamp", "log.level", "message", "ecs.version", "log.logger", "trace.id", "span.id",
        "service.name", "service.version", "service.environment",
    ),
    timestamp="@timestamp",
    severity="log.level",
    logger="log.logger",
    trace_id="trace.id",
    span_id="span.id",
    severity_names=_LOWER_CASE_SEVERITY,
    resource={SERVICE_NAME: SERVICE_NAME, SERVICE_VERSION: SERVICE_VERSION, ENVIRONMENT: "service.environment"},
    renamed_attributes={
        EXCEPTION_TYPE: "error.type",
        EXCEPTION_MESSAGE: "error.message",
        EXCEPTION_STACKTRACE: "error.stack_trace",
        # ECS has one `error.type`, which is the exception class; the low-cardinality error type gets another key.
        ERROR_TYPE: "error.code",
        EVENT_NAME: "event.action",
        HTTP_REQUEST_BODY_SIZE: "http.request.body.bytes",
        HTTP_RESPONSE_BODY_SIZE: "http.response.body.bytes",
    },
    constants={"ecs.version": "8.11.0"},
    reserved_keys=(
        "client", "code", "connectsoft", "ecs", "error", "event", "http", "log", "otel", "service",
        "span", "thread", "trace", "url", "user_agent",
    ),
)  # fmt: skip

# The special fields of Google Cloud's structured logging.
GCP: Final = Profile(
    leading_keys=(
        "time", "severity", "message", "logger", "logging.googleapis.com/trace", "logging.googleapis.com/spanId",
        "logging.googleapis.com/trace_sampled", *_RESOURCE_KEYS,
    ),
    timestamp="time",
    trace_id="logging.googleapis.com/trace",
    span_id="logging.googleapis.com/spanId",
    sampled="logging.googleapis.com/trace_sampled",
    trace_prefix="projects/{cloud.account.id}/traces/",
    severity_names=_GCP_SEVERITY,
    resource=_RESOURCE_KEYS,
    renamed_attributes={EXCEPTION_STACKTRACE: "stack_trace"},
    reserved_keys=("timestamp", "timestampSeconds", "timestampNanos"),
)  # fmt: skip

PROFILES: Final = {"otel": OTEL, "connectsoft": CONNECTSOFT, "ecs": ECS, "gcp": GCP}
