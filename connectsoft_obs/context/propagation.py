"""Propagation of trace context, baggage and correlation id in the headers of requests and messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final, NamedTuple

from opentelemetry import baggage as otel_baggage
from opentelemetry import trace
from opentelemetry.context import Context, create_key
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import CarrierT, Setter, TextMapPropagator, default_setter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from connectsoft_obs.context import w3c
from connectsoft_obs.context.operation_context import SPAN_KEY, current_operation
from connectsoft_obs.context.safe_opentelemetry_import import propagate
from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.settings import Settings
from connectsoft_obs.vocabulary import CORRELATION_HEADER

CORRELATION_KEY: Final = create_key("connectsoft-correlation")
_W3C_PROPAGATORS: Final = frozenset({"tracecontext", "baggage"})
_CORRELATION_HEADER_LOWER: Final = CORRELATION_HEADER.lower()
_CORRELATION_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Inbound(NamedTuple):
    """What is read from the headers of a request or message.

    Args:
        parent: span context of the caller, or None.
        context: context with the baggage and what other propagators have extracted, without a span.
        correlation_id: valid correlation id, or None.
    """

    parent: SpanContext | None
    context: Context
    correlation_id: str | None


_EMPTY: Final = Context()
EMPTY_INBOUND: Final = Inbound(None, _EMPTY, None)


class Propagation:
    """Reads inbound headers with the propagators of OTEL_PROPAGATORS. Immutable and thread-safe.

    The W3C formats are read by the bounded parsers of this package, other formats by OpenTelemetry's propagators.
    """

    def __init__(self, settings: Settings) -> None:
        names = {name.lower() for name in settings.propagators}
        self._has_tracecontext = "tracecontext" in names
        self._has_baggage = "baggage" in names
        self._has_other_propagators = bool(names - _W3C_PROPAGATORS - {"none"})
        self._baggage_keys = frozenset(settings.baggage_keys)

    def read(self, headers: Iterable[tuple[bytes, bytes]]) -> Inbound:
        """Read headers. Names are in lower case, as in ASGI. Invalid values are ignored."""
        values: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            values.setdefault(name.lower(), []).append(value)
        context, parent = Context(), None
        if self._has_tracecontext:
            parent = _parse_unique_parent(values.get(b"traceparent", []), values.get(b"tracestate", []))
        if self._has_baggage and (baggage := values.get(b"baggage")):
            context = _with_baggage(context, b",".join(baggage))
        if self._has_other_propagators:
            context, parent = self._read_with_global_propagators(values, context, parent)
        return Inbound(parent, context, _find_correlation_id(values))

    def read_unique(self, headers: Mapping[bytes, bytes]) -> Inbound:
        """Read headers whose names are unique and in lower case. This is faster than `read`, and the usual case."""
        if self._has_other_propagators:
            return self.read(headers.items())
        context, parent = _EMPTY, None
        if self._has_tracecontext and (traceparent := headers.get(b"traceparent")) is not None:
            parent = _parse_parent(traceparent, headers.get(b"tracestate"))
        if self._has_baggage and (baggage := headers.get(b"baggage")) is not None:
            context = _with_baggage(context, baggage)
        correlation_id = None
        if (value := headers.get(b"x-correlation-id")) is not None:
            correlation_id = parse_correlation_id(value)
        if correlation_id is None and (value := headers.get(b"x-request-id")) is not None:
            correlation_id = parse_correlation_id(value)
        return Inbound(parent, context, correlation_id)

    def bindings(self, context: Context) -> dict[str, str] | None:
        """Return the allow-listed baggage entries of a context, for spans and log lines."""
        entries = {key: str(value) for key, value in otel_baggage.get_all(context).items() if key in self._baggage_keys}
        return entries or None

    def _read_with_global_propagators(
        self, values: Mapping[bytes, list[bytes]], context: Context, parent: SpanContext | None
    ) -> tuple[Context, SpanContext | None]:
        carrier = {name.decode("latin-1"): value[0].decode("latin-1") for name, value in values.items()}
        try:
            extracted = propagate.extract(carrier, context)
        except Exception:  # noqa: BLE001  raised by a third-party propagator; the request is handled without it
            return context, parent
        span_context = trace.get_current_span(extracted).get_span_context()
        without_span = Context({key: value for key, value in extracted.items() if key != SPAN_KEY})
        return without_span, parent or (span_context if span_context.is_valid else None)


def _parse_unique_parent(traceparents: list[bytes], tracestates: list[bytes]) -> SpanContext | None:
    # Several traceparent headers are ignored (W3C Trace Context 3.2); several tracestate headers are one list.
    if len(traceparents) != 1:
        return None
    return _parse_parent(traceparents[0], b",".join(tracestates) if tracestates else None)


def _with_baggage(context: Context, header: bytes) -> Context:
    for key, value in w3c.parse_baggage(header.decode("latin-1")).items():
        context = otel_baggage.set_baggage(key, value, context)
    return context


def _parse_parent(traceparent: bytes, tracestate: bytes | None) -> SpanContext | None:
    ids = w3c.parse_traceparent(traceparent)
    if ids is None:
        return None
    trace_id, span_id, flags = ids
    state = None if tracestate is None else w3c.parse_tracestate(tracestate.decode("latin-1"))
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags), trace_state=state)


def _find_correlation_id(values: Mapping[bytes, list[bytes]]) -> str | None:
    for name in (b"x-correlation-id", b"x-request-id"):
        for value in values.get(name, ()):
            if (correlation_id := parse_correlation_id(value)) is not None:
                return correlation_id
    return None


def parse_correlation_id(value: bytes) -> str | None:
    """Return a correlation id as text, or None if it is not 1 to 128 letters, digits, dots, underscores and dashes."""
    text = value.decode("latin-1")
    return text if _CORRELATION_ID.fullmatch(text) else None


def inject(headers: MutableMapping[str, Any]) -> None:
    """Write traceparent, tracestate, baggage and X-Correlation-Id of the current operation into outgoing headers.

    For HTTP clients and messages that are not instrumented. Replaces values that the headers already have. Does nothing
    outside of an operation or span. Never raises.
    """
    try:
        propagate.inject(headers)
        # The global propagators keep an id that is already there, and do not write one before a Telemetry exists.
        if (correlation_id := _current_correlation_id(None)) is not None:
            headers[CORRELATION_HEADER] = correlation_id
    except Exception as failure:  # noqa: BLE001  the request is sent without the headers
        record_internal_error("context.inject", failure)


def extract(headers: Mapping[Any, Any]) -> Context:
    """Read the headers of a message or request into an OpenTelemetry context for `operation(parent=...)`.

    Keys may be str or bytes in any case. Values of other types and malformed values are ignored. Never raises.
    """
    try:
        return _extract(headers)
    except Exception as failure:  # noqa: BLE001  an internal error, or not a mapping; the operation starts a new trace
        record_internal_error("context.extract", failure)
        return Context()


def _extract(headers: Mapping[Any, Any]) -> Context:
    pairs = [(_to_bytes(name), _to_bytes(value)) for name, value in headers.items()]
    inbound = _DEFAULT.read([(name, value) for name, value in pairs if name is not None and value is not None])
    context = inbound.context
    if inbound.parent is not None:
        context = trace.set_span_in_context(NonRecordingSpan(inbound.parent), context)
    return Context({**context, CORRELATION_KEY: inbound.correlation_id}) if inbound.correlation_id else context


def _to_bytes(value: Any) -> bytes | None:
    if isinstance(value, bytes):
        return value
    return value.encode("utf-8", "replace") if isinstance(value, str) else None


def _current_correlation_id(context: Context | None) -> str | None:
    """Return the correlation id of the current operation, or else the trace id of the span."""
    operation = current_operation()
    if operation is not None and operation.correlation_id is not None:
        return operation.correlation_id
    span_context = trace.get_current_span(context).get_span_context()
    return f"{span_context.trace_id:032x}" if span_context.is_valid else None


def _has_correlation_id(carrier: Any) -> bool:
    if not isinstance(carrier, Mapping):
        return False  # lists of pairs, which some message brokers use
    return any(isinstance(name, str) and name.lower() == _CORRELATION_HEADER_LOWER for name in carrier)


class CorrelationPropagator(TextMapPropagator):
    """Writes X-Correlation-Id into the headers of instrumented clients, unless the application has set it."""

    def extract(self, carrier: CarrierT, context: Context | None = None, getter: Any = None) -> Context:
        """Return the context unchanged. Inbound headers are read by `Propagation`."""
        return context if context is not None else Context()

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Write the correlation id of the current operation, or else the trace id of the span."""
        if not _has_correlation_id(carrier) and (correlation_id := _current_correlation_id(context)) is not None:
            setter.set(carrier, CORRELATION_HEADER, correlation_id)

    @property
    def fields(self) -> set[str]:
        """Names of the headers that are written."""
        return {CORRELATION_HEADER}


class _OutboundPropagator(CompositePropagator):
    """The previous global propagators and the `CorrelationPropagator`."""


def install_correlation_propagator() -> None:
    """Add the `CorrelationPropagator` to the global propagators of the process. Idempotent."""
    propagator = propagate.get_global_textmap()
    if not isinstance(propagator, _OutboundPropagator):
        propagate.set_global_textmap(_OutboundPropagator([propagator, CorrelationPropagator()]))


_DEFAULT = Propagation(Settings())
