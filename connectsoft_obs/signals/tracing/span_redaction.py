"""Redacts ended spans when they are exported.

The package redacts what it records itself. Everything else on a span comes from the application, from instrumentations or
from another provider: name, attributes, events, links and status description. The span that the application and its own
processors have is not changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as sdk
from opentelemetry.trace import Link, Status, StatusCode

from connectsoft_obs.redaction import AttributeRedactor
from connectsoft_obs.signals.tracing.span_data import SpanData


class SpanRedactor(AttributeRedactor):
    """Applies the redaction policy to ended spans. Thread-safe."""

    def redact_span(self, span: sdk.ReadableSpan) -> sdk.ReadableSpan:
        """The same span if it has no secret, else a copy without secrets."""
        name, status = self.redact_text(span.name), self._redact_status(span.status)
        attributes = span.attributes or {}
        redacted = self.redact(attributes)
        events = [self._redact_event(event) for event in span.events]
        links = [self._redact_link(link) for link in span.links]
        if (
            name is span.name
            and status is span.status
            and redacted is attributes
            and _are_same(events, span.events)
            and _are_same(links, span.links)
        ):
            return span
        return RedactedSpan(span, name, redacted, events, links, status)

    def _redact_status(self, status: Status) -> Status:
        text = status.description
        if status.status_code is not StatusCode.ERROR or not text or (redacted := self.redact_text(text)) is text:
            return status
        return Status(StatusCode.ERROR, redacted)

    def _redact_event(self, event: sdk.Event) -> sdk.Event:
        name, attributes = self.redact_text(event.name), self._redact_bounded(event.attributes)
        if name is event.name and attributes is event.attributes:
            return event
        return sdk.Event(name, attributes, event.timestamp)

    def _redact_link(self, link: Link) -> Link:
        attributes = self._redact_bounded(link.attributes)
        return link if attributes is link.attributes else Link(link.context, attributes)

    def _redact_bounded(self, attributes: Any) -> Any:
        """Redacted attributes of an event or link, with the number of dropped ones."""
        if not attributes or (redacted := self.redact(attributes)) is attributes:
            return attributes
        if not isinstance(attributes, BoundedAttributes):
            return redacted
        bounded = BoundedAttributes(attributes=dict(redacted))
        bounded.dropped = attributes.dropped
        return bounded


class RedactedSpan(sdk.ReadableSpan):
    """A copy of an ended span without secrets."""

    def __init__(
        self,
        span: sdk.ReadableSpan,
        name: str,
        attributes: Mapping[str, Any],
        events: Sequence[sdk.Event],
        links: Sequence[Link],
        status: Status,
    ) -> None:
        super().__init__(
            name=name,
            context=span.get_span_context(),
            parent=span.parent,
            resource=span.resource,
            attributes=attributes,
            events=events,
            links=links,
            kind=span.kind,
            status=status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )
        self._dropped = (span.dropped_attributes, span.dropped_events, span.dropped_links)

    @property
    def dropped_attributes(self) -> int:
        """Number of attributes that exceeded the limit."""
        return self._dropped[0]

    @property
    def dropped_events(self) -> int:
        """Number of events that exceeded the limit."""
        return self._dropped[1]

    @property
    def dropped_links(self) -> int:
        """Number of links that exceeded the limit."""
        return self._dropped[2]


def has_external_data(span: SpanData) -> bool:
    """Whether a span has a name, attributes or other data that the package has not redacted itself."""
    return span.has_user_data or span.status_text is not None or span.common_attributes.span_name is not span.span_name


def _are_same(copies: Sequence[Any], originals: Sequence[Any]) -> bool:
    return all(copy is original for copy, original in zip(copies, originals, strict=True))
