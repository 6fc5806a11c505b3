"""Enumerations of attribute values, and names of HTTP and message headers."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
SCOPE: Final = "connectsoft_obs"


class Outcome(StrEnum):
    """How an operation ended; the only definition of success.

    SUCCESS and REJECTED are good, FAILURE and TIMEOUT are bad, ABORTED counts as neither.
    """

    SUCCESS = "success"
    REJECTED = "rejected"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    ABORTED = "aborted"

    __hash__ = str.__hash__  # Enum.__hash__ is a Python function, which each dictionary look-up would call

    @property
    def good(self) -> bool | None:
        """True for good, False for bad, None for outcomes that SLOs do not count."""
        if self is Outcome.ABORTED:
            return None
        return self in (Outcome.SUCCESS, Outcome.REJECTED)


class ErrorType(StrEnum):
    """Values of `error.type` that are neither an exception class nor a status code."""

    OTHER = "_OTHER"
    CLIENT_DISCONNECT = "client_disconnect"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    KILLED = "killed"


class Trigger(StrEnum):
    """What started a job."""

    TIMER = "timer"
    QUEUE = "queue"
    MANUAL = "manual"
    STARTUP = "startup"
    OTHER = "other"


class HealthState(StrEnum):
    """State of a check or a probe, in order of severity."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class ExporterState(StrEnum):
    """State of an exporter, in order of severity, named like those of a circuit breaker.

    CLOSED exports, OPEN waits before a retry after a temporary failure. REFUSED is a permanent failure: the destination does
    not accept exports until its configuration or that of the service is changed.
    """

    CLOSED = "closed"
    OPEN = "open"
    REFUSED = "refused"


class Signal(StrEnum):
    """Telemetry signal."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"


HTTP_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"}
)
"""Methods that are recorded by name; any other is recorded as `_OTHER`."""

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
BAGGAGE: Final = "baggage"
CORRELATION_HEADER: Final = "X-Correlation-Id"
REQUEST_ID_HEADER: Final = "X-Request-ID"
SENT_HEADER: Final = "connectsoft-sent-at"
"""Message header: time of sending, RFC 3339 in UTC."""
PREVIOUS_ATTEMPT_HEADER: Final = "connectsoft-previous-attempt"
"""Message header of a retry: the span of the previous attempt, in traceparent format."""
TENANT_MESSAGE_HEADER: Final = "tenant-id"
"""Message header: tenant id."""
