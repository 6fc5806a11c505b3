"""Context that a run inherits from its caller or from the messages it processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext

from connectsoft_obs.context import SPAN, Inbound, correlation_id, sanitize, w3c
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


@dataclass(slots=True)  # a frozen one takes as long to fill in as the message to read
class InboundContext:
    """What came along with one run, from whoever asked for it; nobody changes it.

    Args:
        base: what the run's context is made of, a remote parent included; None is what runs now.
        explicit: whether `base` was given by the application, and wins over a span that is current.
        links: spans that it belongs to without being their child.
        root_id: trace id that somebody gave a trace which has no parent span; 0 for none.
        correlation_id: id of the business transaction.
        facts: attributes for its span and all its lines.
        own: attributes for its span alone.
        attempt: which attempt it is, from 1; 0 where nobody counts.
        most: how many attempts there are at most; a failure before the last is a retry.
        count: messages in it.
        waits: for each message whose sender's time is known, the seconds since then.
    """

    base: Context | None = None
    explicit: bool = False
    links: tuple[SpanContext, ...] = ()
    root_id: int = 0
    correlation_id: str | None = None
    bound_attributes: dict[str, Any] | None = None
    own: dict[str, Any] | None = None
    attempt: int = 0
    most: int = 0
    count: int = 1
    waits: tuple[float, ...] = ()


NO_INBOUND = InboundContext()


_PREVIOUS = PREVIOUS_ATTEMPT_HEADER.encode()
_TENANT = TENANT_MESSAGE_HEADER.encode()
_LEGACY = b"diagnostic-id"
"""What older Azure SDKs call a traceparent."""


def from_message(telemetry: Telemetry, message: MessageInfo, system: str = "") -> InboundContext:
    """The arrival of one message."""
    settings = telemetry.settings
    inbound = _inbound(telemetry, message.headers)
    age = message.age
    old = bool(message.earlier) or (age is not None and age > settings.message_trace_max_age)
    continues = settings.trust_inbound and settings.message_trace_continuation == "parent" and not old
    sender, previous = inbound.parent, _previous(message.headers)
    base = inbound.base if settings.trust_inbound else Context()
    root = 0
    if continues and sender is not None:
        base = Context({**base, SPAN: NonRecordingSpan(sender)})
    elif continues and message.envelope:
        root = envelope.trace_id(message.envelope)
    return InboundContext(
        base=base,
        links=tuple(span for span in (sender, previous) if span is not None),
        root_id=root,
        correlation_id=_correlation(inbound, message),
        bound_attributes=_facts(telemetry, inbound, message) if settings.trust_inbound else None,
        own=_own(message, system),
        waits=() if age is None else (age,),
    )


def from_batch(telemetry: Telemetry, messages: Sequence[MessageInfo]) -> InboundContext:
    """The arrival of several messages at once: what all of them say is said of the run."""
    each = [from_message(telemetry, message) for message in messages]
    links = {(link.trace_id, link.span_id): link for arrival in each for link in arrival.links}
    first = each[0].bound_attributes or {} if each else {}
    shared = {
        name: value for name, value in first.items() if all((a.bound_attributes or {}).get(name) == value for a in each)
    }
    correlations = {arrival.correlation_id for arrival in each}
    return InboundContext(
        base=Context(),
        links=tuple(links.values()),
        correlation_id=correlations.pop() if len(correlations) == 1 else None,
        bound_attributes=shared or None,
        own={MESSAGING_BATCH_COUNT: len(messages)},
        count=len(messages),
        waits=tuple(age for arrival in each for age in arrival.waits),
    )


def _inbound(telemetry: Telemetry, headers: Headers) -> Inbound:
    if b"traceparent" not in headers and (legacy := headers.get(_LEGACY)) is not None:
        headers = {**headers, b"traceparent": legacy}
    return telemetry.propagation.read(headers.items())


def _previous(headers: Headers) -> SpanContext | None:
    found = w3c.traceparent(headers[_PREVIOUS]) if _PREVIOUS in headers else None
    return None if found is None else SpanContext(found[0], found[1], is_remote=True)


def _correlation(inbound: Inbound, message: MessageInfo) -> str | None:
    """The header's, then the envelope's; a header that only repeats the sender's trace id says nothing of its own."""
    given, sender = inbound.correlation_id, inbound.parent
    if message.envelope and (given is None or (sender is not None and given == f"{sender.trace_id:032x}")):
        return envelope.correlation_id(message.envelope) or given
    return given


def _facts(telemetry: Telemetry, inbound: Inbound, message: MessageInfo) -> dict[str, Any] | None:
    bound_attributes: dict[str, Any] = dict(telemetry.propagation.bindings(inbound.base) or {})
    if (tenant := message.headers.get(_TENANT)) and (name := correlation_id(tenant)) is not None:
        bound_attributes[TENANT_ID] = name
    if message.envelope:
        bound_attributes |= envelope.bound_attributes(message.envelope)
        if (lifecycle := envelope.lifecycle_id(message.envelope)) is not None:
            bound_attributes[LIFECYCLE_ID] = lifecycle
    return sanitize(bound_attributes) if bound_attributes else None


def _own(message: MessageInfo, system: str) -> dict[str, Any] | None:
    own: dict[str, Any] = {}
    if message.identifier is not None:
        own[MESSAGING_MESSAGE_ID] = message.identifier
    if message.earlier:
        name = MESSAGING_DELIVERY_COUNT if system == "servicebus" else DELIVERY_COUNT
        own[name] = message.earlier + 1
    return own or None
