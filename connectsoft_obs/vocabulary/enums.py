"""The closed sets of words: outcomes, states, triggers, signals, and the headers and methods of HTTP."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
SCOPE: Final = "connectsoft_obs"


class Outcome(StrEnum):
    """How an operation ended: the single definition of success.

    Good is SUCCESS and REJECTED, bad is FAILURE and TIMEOUT; ABORTED counts as neither.
    """

    SUCCESS = "success"
    REJECTED = "rejected"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    ABORTED = "aborted"

    __hash__ = str.__hash__  # equal values have equal hashes; Enum's own is a call of Python's for each look-up

    @property
    def good(self) -> bool | None:
        """True for good, False for bad, None for what an objective must not count."""
        if self is Outcome.ABORTED:
            return None
        return self in (Outcome.SUCCESS, Outcome.REJECTED)


class ErrorType(StrEnum):
    """The values of `error.type` that are neither an exception class nor a status code."""

    OTHER = "_OTHER"
    CLIENT_DISCONNECT = "client_disconnect"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


class Trigger(StrEnum):
    """What started a job."""

    TIMER = "timer"
    QUEUE = "queue"
    MANUAL = "manual"
    STARTUP = "startup"
    OTHER = "other"


class HealthState(StrEnum):
    """State of a check or of a probe, in order of severity."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class ExporterState(StrEnum):
    """State of an exporter's circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"


class Signal(StrEnum):
    """What is exported."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"


HTTP_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"}
)
"""Methods that are recorded as given; any other is `_OTHER`."""

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
BAGGAGE: Final = "baggage"
CORRELATION_HEADER: Final = "X-Correlation-Id"
REQUEST_ID_HEADER: Final = "X-Request-ID"
SENT_HEADER: Final = "connectsoft-sent-at"
"""Header of a message: when it was sent, RFC 3339 in UTC."""
PREVIOUS_ATTEMPT_HEADER: Final = "connectsoft-previous-attempt"
"""Header of a message that is a retry: the span of the attempt before it, in the form of a traceparent."""
TENANT_MESSAGE_HEADER: Final = "tenant-id"
"""Header of a message: the tenant it belongs to."""
