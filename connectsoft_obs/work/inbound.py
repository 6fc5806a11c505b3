"""Context that a run inherits from its caller or from the messages it processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext

from connectsoft_obs.context import SPAN_KEY, Inbound, parse_correlation_id, sanitize, w3c
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import (
    DELIVERY_COUNT,
    LIFECYCLE_ID,
    MESSAGING_BATCH_COUNT,
    MESSAGING_DELIVERY_COUNT,
    MESSAGING_MESSAGE_ID,
    PREVIOUS_ATTEMPT_HEADER,
    TENANT_ID,
    TENANT_MESSAGE_HEADER,
)
from connectsoft_obs.work import envelope
from connectsoft_obs.work.message import Headers, MessageInfo


@dataclass(slots=True)  # creating a frozen instance takes as long as reading the message
class InboundContext:
    """Context that one run inherits from its caller or message. Treat as immutable.

    Args:
        context: OpenTelemetry context, with a remote parent if there is one; None for the current context.
        is_explicit: whether the application passed `context`, which then overrides the current span.
        links: linked spans.
        root_id: trace id of a trace without a parent span; 0 for none.
        correlation_id: correlation id.
        bound_attributes: attributes for the span and all log lines.
        span_attributes: attributes for the span only.
        attempt: number of the attempt, from 1; 0 if unknown.
        max_attempts: maximum number of attempts; a failure before the last is a retry.
        count: number of messages; 0 if another process has counted the start of the run.
        wait_times: seconds since each message was sent, if known.
    """

    context: Context | None = None
    is_explicit: bool = False
    links: tuple[SpanContext, ...] = ()
    root_id: int = 0
    correlation_id: str | None = None
    bound_attributes: dict[str, Any] | None = None
    span_attributes: dict[str, Any] | None = None
    attempt: int = 0
    max_attempts: int = 0
    count: int = 1
    wait_times: tuple[float, ...] = ()


NO_INBOUND = InboundContext()


_PREVIOUS_ATTEMPT = PREVIOUS_ATTEMPT_HEADER.encode()
_TENANT = TENANT_MESSAGE_HEADER.encode()
_DIAGNOSTIC_ID = b"diagnostic-id"
"""Header with the traceparent in older Azure SDKs."""


def from_message(telemetry: Telemetry, message: MessageInfo, system: str = "") -> InboundContext:
    """Inbound context of one message."""
    settings = telemetry.settings
    inbound = _read_headers(telemetry, message.headers)
    age = message.age
    old = bool(message.previous_deliveries) or (age is not None and age > settings.message_trace_max_age)
    continues = settings.trust_inbound and settings.message_trace_continuation == "parent" and not old
    sender, previous = inbound.parent, _previous_attempt(message.headers)
    base = inbound.context if settings.trust_inbound else Context()
    root = 0
    if continues and sender is not None:
        base = Context({**base, SPAN_KEY: NonRecordingSpan(sender)})
    elif continues and message.envelope:
        root = envelope.trace_id(message.envelope)
    return InboundContext(
        context=base,
        links=tuple(span for span in (sender, previous) if span is not None),
        root_id=root,
        correlation_id=_correlation_id(inbound, message),
        bound_attributes=_bound_attributes(telemetry, inbound, message) if settings.trust_inbound else None,
        span_attributes=_span_attributes(message, system),
        wait_times=() if age is None else (age,),
    )


def from_batch(telemetry: Telemetry, messages: Sequence[MessageInfo]) -> InboundContext:
    """Inbound context of a batch of messages: links to all, and attributes that are equal in all."""
    contexts = [from_message(telemetry, message) for message in messages]
    links = {(link.trace_id, link.span_id): link for inbound in contexts for link in inbound.links}
    first = contexts[0].bound_attributes or {} if contexts else {}
    common = {
        name: value
        for name, value in first.items()
        if all((a.bound_attributes or {}).get(name) == value for a in contexts)
    }
    correlations = {inbound.correlation_id for inbound in contexts}
    return InboundContext(
        context=Context(),
        links=tuple(links.values()),
        correlation_id=correlations.pop() if len(correlations) == 1 else None,
        bound_attributes=common or None,
        span_attributes={MESSAGING_BATCH_COUNT: len(messages)},
        count=len(messages),
        wait_times=tuple(age for inbound in contexts for age in inbound.wait_times),
    )


def _read_headers(telemetry: Telemetry, headers: Headers) -> Inbound:
    if b"traceparent" not in headers and (legacy := headers.get(_DIAGNOSTIC_ID)) is not None:
        headers = {**headers, b"traceparent": legacy}
    return telemetry.propagation.read(headers.items())


def _previous_attempt(headers: Headers) -> SpanContext | None:
    parent = w3c.parse_traceparent(headers[_PREVIOUS_ATTEMPT]) if _PREVIOUS_ATTEMPT in headers else None
    return None if parent is None else SpanContext(parent[0], parent[1], is_remote=True)


def _correlation_id(inbound: Inbound, message: MessageInfo) -> str | None:
    """Return the correlation id of the header, or else of the envelope.

    A header that equals the trace id of the sender is only a default, so the id of the envelope takes precedence.
    """
    header_id, sender = inbound.correlation_id, inbound.parent
    if message.envelope and (header_id is None or (sender is not None and header_id == f"{sender.trace_id:032x}")):
        return envelope.correlation_id(message.envelope) or header_id
    return header_id


def _bound_attributes(telemetry: Telemetry, inbound: Inbound, message: MessageInfo) -> dict[str, Any] | None:
    bound_attributes: dict[str, Any] = dict(telemetry.propagation.bindings(inbound.context) or {})
    if (tenant := message.headers.get(_TENANT)) and (name := parse_correlation_id(tenant)) is not None:
        bound_attributes[TENANT_ID] = name
    if message.envelope:
        bound_attributes |= envelope.bound_attributes(message.envelope)
        if (lifecycle := envelope.lifecycle_id(message.envelope)) is not None:
            bound_attributes[LIFECYCLE_ID] = lifecycle
    return sanitize(bound_attributes) if bound_attributes else None


def _span_attributes(message: MessageInfo, system: str) -> dict[str, Any] | None:
    attributes: dict[str, Any] = {}
    if message.identifier is not None:
        attributes[MESSAGING_MESSAGE_ID] = message.identifier
    if message.previous_deliveries:
        name = MESSAGING_DELIVERY_COUNT if system == "servicebus" else DELIVERY_COUNT
        attributes[name] = message.previous_deliveries + 1
    return attributes or None
