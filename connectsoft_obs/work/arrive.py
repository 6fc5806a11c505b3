"""From a message to the run that processes it: which trace it belongs to, and what it brings along.

The policy, for each message:

- A single message that is fresh continues its sender's trace: the sender's span is the parent, and linked.
- A message that was delivered before, or is older than `message_parent_age`, and every message of a batch, is linked
  and begins a trace of its own: its sender's trace is long over, or there are several.
- Inside another span of this process that span is the parent, and the sender is linked.
- `message_parent=link` links always; `trust_inbound=false` links, and takes no baggage and no dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext

from connectsoft_obs.context import SPAN, Inbound, clean, correlation_id, w3c
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
from connectsoft_obs.work.arrival import Arrival
from connectsoft_obs.work.delivery import Delivery, Headers

_PREVIOUS = PREVIOUS_ATTEMPT_HEADER.encode()
_TENANT = TENANT_MESSAGE_HEADER.encode()
_LEGACY = b"diagnostic-id"
"""What older Azure SDKs call a traceparent."""


def single(telemetry: Telemetry, message: Delivery, system: str = "") -> Arrival:
    """The arrival of one message."""
    settings = telemetry.settings
    inbound = _inbound(telemetry, message.headers)
    age = message.age
    old = bool(message.earlier) or (age is not None and age > settings.message_parent_age)
    continues = settings.trust_inbound and settings.message_parent == "parent" and not old
    sender, previous = inbound.parent, _previous(message.headers)
    base = inbound.base if settings.trust_inbound else Context()
    root = 0
    if continues and sender is not None:
        base = Context({**base, SPAN: NonRecordingSpan(sender)})
    elif continues and message.envelope:
        root = envelope.trace_id(message.envelope)
    return Arrival(
        base=base,
        links=tuple(span for span in (sender, previous) if span is not None),
        root_id=root,
        correlation_id=_correlation(inbound, message),
        facts=_facts(telemetry, inbound, message) if settings.trust_inbound else None,
        own=_own(message, system),
        waits=() if age is None else (age,),
    )


def batch(telemetry: Telemetry, messages: Sequence[Delivery]) -> Arrival:
    """The arrival of several messages at once: what all of them say is said of the run."""
    each = [single(telemetry, message) for message in messages]
    links = {(link.trace_id, link.span_id): link for arrival in each for link in arrival.links}
    first = each[0].facts or {} if each else {}
    shared = {name: value for name, value in first.items() if all((a.facts or {}).get(name) == value for a in each)}
    correlations = {arrival.correlation_id for arrival in each}
    return Arrival(
        base=Context(),
        links=tuple(links.values()),
        correlation_id=correlations.pop() if len(correlations) == 1 else None,
        facts=shared or None,
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


def _correlation(inbound: Inbound, message: Delivery) -> str | None:
    """The header's, then the envelope's; a header that only repeats the sender's trace id says nothing of its own."""
    given, sender = inbound.correlation_id, inbound.parent
    if message.envelope and (given is None or (sender is not None and given == f"{sender.trace_id:032x}")):
        return envelope.correlation_id(message.envelope) or given
    return given


def _facts(telemetry: Telemetry, inbound: Inbound, message: Delivery) -> dict[str, Any] | None:
    facts: dict[str, Any] = dict(telemetry.propagation.facts(inbound.base) or {})
    if (tenant := message.headers.get(_TENANT)) and (name := correlation_id(tenant)) is not None:
        facts[TENANT_ID] = name
    if message.envelope:
        facts |= envelope.facts(message.envelope)
        if (lifecycle := envelope.lifecycle_id(message.envelope)) is not None:
            facts[LIFECYCLE_ID] = lifecycle
    return clean(facts) if facts else None


def _own(message: Delivery, system: str) -> dict[str, Any] | None:
    own: dict[str, Any] = {}
    if message.identifier is not None:
        own[MESSAGING_MESSAGE_ID] = message.identifier
    if message.earlier:
        name = MESSAGING_DELIVERY_COUNT if system == "servicebus" else DELIVERY_COUNT
        own[name] = message.earlier + 1
    return own or None
