"""Observes the sending of messages: a span, a counter, and headers for the message."""

from __future__ import annotations

from contextvars import Token
from datetime import UTC, datetime, timedelta
from time import perf_counter_ns, time_ns
from types import TracebackType
from typing import Any, Final

from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from connectsoft_obs.context import current_operation, inject, otel_context
from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.operations import exception_outcome
from connectsoft_obs.signals.tracing import (
    NO_ENCODED_ATTRIBUTES,
    EncodedAttributes,
    ExternalSpan,
    NonRecordingSpan,
    Span,
    api_span,
    encode_common_attributes,
)
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import (
    ERROR_TYPE,
    MESSAGING_BATCH_COUNT,
    MESSAGING_DESTINATION,
    MESSAGING_OPERATION,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
    SENT_HEADER,
    SENT_MESSAGES,
    TENANT_ID,
    TENANT_MESSAGE_HEADER,
)
from connectsoft_obs.work.options import validate_name
from connectsoft_obs.work.registry import resolve_or_none

SEND = "send"


def producer(destination: str, *, system: str, count: int = 1, telemetry: Telemetry | None = None) -> Producer:
    """Observe the sending of a message: `with obs.producer("orders", system="rabbitmq") as headers: ...`.

    `headers` is a new dict of strings to send with the message: traceparent, tracestate and baggage according to
    OTEL_PROPAGATORS, `X-Correlation-Id`, `tenant-id` if a tenant is bound, and the time of sending. The span ends with the
    block, also if sending fails. For sync and async code.

    Args:
        destination: name of the queue or topic; static, a metric label.
        system: `servicebus`, `rabbitmq`, `kafka`, `redis`, ... as in OpenTelemetry's `messaging.system`.
        count: number of messages that are sent together.
        telemetry: a Telemetry other than that of the process.

    Raises:
        ConfigurationError: a name is not valid as a metric label.
    """
    destination, system = validate_name("producer", destination), validate_name("producer", system)
    try:
        telemetry = telemetry or resolve_or_none()
    except Exception as failure:  # noqa: BLE001  must not affect sending
        record_internal_error("work.start", failure)
        telemetry = None
    return Producer(telemetry, destination, system, count)


class Producer:
    """Context manager around the sending of a message; returns the headers. An instance is used once."""

    __slots__ = (
        "_context",
        "_count",
        "_destination",
        "_span",
        "_start_ns",
        "_system",
        "_telemetry",
        "_token",
        "_wall_ns",
    )

    def __init__(self, telemetry: Telemetry | None, destination: str, system: str, count: int = 1) -> None:
        self._telemetry = telemetry
        self._destination = destination
        self._system = system
        self._count = count
        self._token: Token[Context] | None = None
        self._context: Context | None = None
        self._span: Span | NonRecordingSpan | ExternalSpan | None = None

    @property
    def span(self) -> trace.Span | None:
        """The span, while it is recording."""
        return None if self._span is None else api_span(self._span)

    def __enter__(self) -> dict[str, str]:
        """Start the span, make it current, and return the headers."""
        headers = self.begin()
        if self._context is not None:
            self._token = otel_context.attach(self._context)
        return headers

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """End the span; an exception propagates."""
        token, self._token = self._token, None
        if token is not None:
            otel_context.detach(token, self._context)
        self.end(error)

    def begin(self) -> dict[str, str]:
        """Start the span without making it current, and return the headers."""
        headers: dict[str, str] = {}
        telemetry = self._telemetry
        try:
            if telemetry is not None:
                self._start_span(telemetry)
            token = None if self._context is None else otel_context.attach(self._context)
            try:
                inject(headers)
            finally:
                if token is not None:
                    otel_context.detach(token)
            headers[SENT_HEADER] = _to_datetime(time_ns()).isoformat(timespec="microseconds").replace("+00:00", "Z")
            headers |= self._dimensions()
        except Exception as failure:  # noqa: BLE001  must not affect sending
            if telemetry is not None:
                telemetry.internal_telemetry.record_error("work.producer", failure)
        return headers

    def end(self, error: BaseException | None) -> None:
        """End the span. Idempotent."""
        telemetry, span, self._span = self._telemetry, self._span, None
        self._context = None
        if telemetry is None or span is None:
            return
        try:
            self._finish_span(telemetry, span, error)
        except Exception as failure:  # noqa: BLE001  must not affect sending
            telemetry.internal_telemetry.record_error("work.producer", failure)

    def _start_span(self, telemetry: Telemetry) -> None:
        context = otel_context.get_current()
        parent = trace.get_current_span(context).get_span_context()
        self._wall_ns, self._start_ns = time_ns(), perf_counter_ns()
        self._span = telemetry.tracing.tracer.start_fast(
            f"send {self._destination}",
            SpanKind.PRODUCER,
            parent if parent.is_valid else None,
            self._wall_ns,
            lambda: _attributes(self._system, self._destination).attributes,
            context,
        )
        operation = current_operation()
        for name, value in ((operation.bound_attributes if operation is not None else None) or {}).items():
            if name in telemetry.settings.baggage_keys:
                context = baggage.set_baggage(name, str(value), context)
        self._context = trace.set_span_in_context(api_span(self._span), context)

    def _finish_span(
        self, telemetry: Telemetry, span: Span | NonRecordingSpan | ExternalSpan, error: BaseException | None
    ) -> None:
        name = "" if error is None else exception_outcome(error)[1]
        sent = telemetry.metrics.family(SENT_MESSAGES)
        sent.number_series(self._system, SEND, self._destination, name).add(self._count)
        if isinstance(span, (Span, ExternalSpan)):
            attributes: dict[str, Any] = {ERROR_TYPE: name} if name else {}
            if self._count != 1:
                attributes[MESSAGING_BATCH_COUNT] = self._count
            operation = current_operation()
            if operation is not None and operation.bound_attributes:
                attributes |= operation.bound_attributes
            end_ns = self._wall_ns + perf_counter_ns() - self._start_ns
            common = _attributes(self._system, self._destination)
            span.finish(span.span_name, common, NO_ENCODED_ATTRIBUTES, attributes, isinstance(error, Exception), end_ns)

    def _dimensions(self) -> dict[str, str]:
        operation = current_operation()
        tenant = (operation.bound_attributes or {}).get(TENANT_ID) if operation is not None else None
        return {} if tenant is None else {TENANT_MESSAGE_HEADER: str(tenant)}


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _to_datetime(now_ns: int) -> datetime:
    """Datetime with exact microseconds, which a float of seconds would round."""
    return _EPOCH + timedelta(microseconds=now_ns // 1000)


_attribute_cache: dict[tuple[str, str], EncodedAttributes] = {}


def _attributes(system: str, destination: str) -> EncodedAttributes:
    """Encoded attributes of all spans of a destination; cached."""
    attributes = _attribute_cache.get((system, destination))
    if attributes is None:
        attributes = encode_common_attributes(
            {
                MESSAGING_SYSTEM: system,
                MESSAGING_OPERATION: SEND,
                MESSAGING_OPERATION_TYPE: SEND,
                MESSAGING_DESTINATION: destination,
            }
        )
        if len(_attribute_cache) < 1000:
            _attribute_cache[system, destination] = attributes
    return attributes
