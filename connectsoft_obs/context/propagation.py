"""Identity on the wire: trace context, baggage and correlation id, in from requests and messages, out to others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final, NamedTuple

from opentelemetry import baggage as otel_baggage
from opentelemetry import propagate, trace
from opentelemetry.context import Context, create_key, get_current
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import CarrierT, Setter, TextMapPropagator, default_setter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from connectsoft_obs.context import w3c
from connectsoft_obs.context.current import SPAN, current_operation
from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.settings import Settings
from connectsoft_obs.vocabulary import BAGGAGE, CORRELATION_HEADER, REQUEST_ID_HEADER, TRACEPARENT, TRACESTATE

CORRELATION: Final = create_key("connectsoft-correlation")
_STANDARD: Final = frozenset({"tracecontext", "baggage"})
_CORRELATION_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Inbound(NamedTuple):
    """What a request or message brought along.

    Args:
        parent: the caller's span, or None.
        base: context with the baggage (and what other propagators found), without a span.
        correlation_id: validated, or None.
    """

    parent: SpanContext | None
    base: Context
    correlation_id: str | None


_EMPTY: Final = Context()
EMPTY_INBOUND: Final = Inbound(None, _EMPTY, None)


class Propagation:
    """Reads what is configured by OTEL_PROPAGATORS; W3C formats by our own bounded readers, others by their own.

    Immutable and thread-safe.
    """

    def __init__(self, settings: Settings) -> None:
        names = {name.lower() for name in settings.propagators}
        self._trace = "tracecontext" in names
        self._baggage = "baggage" in names
        self._others = bool(names - _STANDARD - {"none"})
        self._keys = frozenset(settings.baggage_keys)

    def read(self, headers: Iterable[tuple[bytes, bytes]]) -> Inbound:
        """Whatever is valid in these headers (lower-case names, as ASGI has them); what is not is ignored."""
        values: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            values.setdefault(name.lower(), []).append(value)
        context, parent = Context(), None
        if self._trace:
            parent = _parent(values.get(b"traceparent", []), values.get(b"tracestate", []))
        if self._baggage and (given := values.get(b"baggage")):
            context = _with_baggage(context, b",".join(given))
        if self._others:
            context, parent = self._by_others(values, context, parent)
        return Inbound(parent, context, _correlation(values))

    def read_unique(self, headers: Mapping[bytes, bytes]) -> Inbound:
        """The same of headers with lower-case names of which there is one each, as nearly all requests have them."""
        if self._others:
            return self.read(headers.items())
        context, parent = _EMPTY, None
        if self._trace and (given := headers.get(b"traceparent")) is not None:
            parent = _sender(given, headers.get(b"tracestate"))
        if self._baggage and (given := headers.get(b"baggage")) is not None:
            context = _with_baggage(context, given)
        correlation = None
        if (given := headers.get(b"x-correlation-id")) is not None:
            correlation = correlation_id(given)
        if correlation is None and (given := headers.get(b"x-request-id")) is not None:
            correlation = correlation_id(given)
        return Inbound(parent, context, correlation)

    def bindings(self, base: Context) -> dict[str, str] | None:
        """The allow-listed baggage entries, for spans and log lines."""
        found = {key: str(value) for key, value in otel_baggage.get_all(base).items() if key in self._keys}
        return found or None

    def _by_others(
        self, values: Mapping[bytes, list[bytes]], context: Context, parent: SpanContext | None
    ) -> tuple[Context, SpanContext | None]:
        carrier = {name.decode("latin-1"): value[0].decode("latin-1") for name, value in values.items()}
        try:
            extracted = propagate.extract(carrier, context)
        except Exception:  # noqa: BLE001  a third party's reader must not decide about a request
            return context, parent
        found = trace.get_current_span(extracted).get_span_context()
        rest = Context({key: value for key, value in extracted.items() if key != SPAN})
        return rest, parent or (found if found.is_valid else None)


def _parent(parents: list[bytes], states: list[bytes]) -> SpanContext | None:
    # More than one traceparent is as good as none (W3C Trace Context 3.2); several tracestate headers are one list.
    return _sender(parents[0], b",".join(states) if states else None) if len(parents) == 1 else None


def _with_baggage(context: Context, given: bytes) -> Context:
    for key, content in w3c.baggage(given.decode("latin-1")).items():
        context = otel_baggage.set_baggage(key, content, context)
    return context


def _sender(parent: bytes, states: bytes | None) -> SpanContext | None:
    found = w3c.traceparent(parent)
    if found is None:
        return None
    trace_id, span_id, flags = found
    state = None if states is None else w3c.tracestate(states.decode("latin-1"))
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags), trace_state=state)


def _correlation(values: Mapping[bytes, list[bytes]]) -> str | None:
    for name in (b"x-correlation-id", b"x-request-id"):
        for value in values.get(name, ()):
            if (valid := correlation_id(value)) is not None:
                return valid
    return None


def correlation_id(value: bytes) -> str | None:
    """The id as text when it is 1 to 128 of letters, digits, dot, underscore and dash; else None."""
    text = value.decode("latin-1")
    return text if _CORRELATION_ID.fullmatch(text) else None


def inject(headers: MutableMapping[str, Any]) -> None:
    """Write what runs now into headers to send along: traceparent, tracestate, baggage, X-Correlation-Id.

    For HTTP clients and messages that no instrumentation covers. Does nothing where nothing runs. Never raises.
    """
    try:
        propagate.inject(headers)
        # Also before a Telemetry exists, when the global propagators are still the API's own.
        CorrelationPropagator().inject(headers)
    except Exception as failure:  # noqa: BLE001  ours, or a third party's; the request goes out without
        record_internal_error("context.inject", failure)


def extract(headers: Mapping[Any, Any]) -> Context:
    """What a message or request brought along, as an OpenTelemetry context to pass to `operation(parent=...)`.

    Keys may be text or bytes in any case; values that are not text are ignored, and so is what is malformed. Never
    raises.
    """
    try:
        return _extracted(headers)
    except Exception as failure:  # noqa: BLE001  ours, or no mapping; the work begins a trace of its own
        record_internal_error("context.extract", failure)
        return Context()


def _extracted(headers: Mapping[Any, Any]) -> Context:
    pairs = [(_bytes(name), _bytes(value)) for name, value in headers.items()]
    inbound = _DEFAULT.read([(name, value) for name, value in pairs if name is not None and value is not None])
    context = inbound.base
    if inbound.parent is not None:
        context = trace.set_span_in_context(NonRecordingSpan(inbound.parent), context)
    return Context({**context, CORRELATION: inbound.correlation_id}) if inbound.correlation_id else context


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, bytes):
        return value
    return value.encode("utf-8", "replace") if isinstance(value, str) else None


class CorrelationPropagator(TextMapPropagator):
    """Sends X-Correlation-Id with whatever sends a traceparent."""

    def extract(self, carrier: CarrierT, context: Context | None = None, getter: Any = None) -> Context:
        """Nothing: what comes in is read by `Propagation`."""
        return context if context is not None else Context()

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Write the correlation id of what runs now."""
        operation = current_operation()
        where = get_current() if context is None else context
        if operation is not None and operation.correlation_id is not None:
            setter.set(carrier, CORRELATION_HEADER, operation.correlation_id)
            return
        span = trace.get_current_span(where).get_span_context()
        if span.is_valid:
            setter.set(carrier, CORRELATION_HEADER, f"{span.trace_id:032x}")

    @property
    def fields(self) -> set[str]:
        """The header it writes."""
        return {CORRELATION_HEADER}


def install() -> None:
    """Add the correlation id to what the process's global propagators send; doing it again changes nothing."""
    present = propagate.get_global_textmap()
    if not isinstance(present, _Outbound):
        propagate.set_global_textmap(_Outbound([present, CorrelationPropagator()]))


class _Outbound(CompositePropagator):
    """The propagators that were there and ours."""


_DEFAULT = Propagation(Settings())
HEADERS: Final = (TRACEPARENT, TRACESTATE, BAGGAGE, CORRELATION_HEADER.lower(), REQUEST_ID_HEADER.lower())
