"""Custom span class: an OpenTelemetry span for users and processors, at a tenth of the cost of the SDK's span.

It has no lock, and no bounded containers until the application adds data; ids are bytes, and the attributes of an
operation are passed once, at its end. Data of the application goes through the bounded containers of the SDK, so limits and
validation are those of the SDK. Measured in tests/bench/span.py; tests/tracing runs the contract of the SDK against it.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from functools import cached_property
from time import time_ns
from types import TracebackType
from typing import Any

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.operations import exception_name
from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.tracing.span_data import EncodedAttributes, SpanData, hex_ids
from connectsoft_obs.vocabulary import EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE, EXCEPTION_TYPE


class Span(SpanData):
    """A recording span. Thread-safe. After the end, methods have no effect, as the API specifies."""

    # --- For adapters -----------------------------------------------------------------------------------------------
    def finish(
        self,
        name: str,
        common_attributes: EncodedAttributes,
        client_attributes: EncodedAttributes,
        own_attributes: dict[str, Any] | None,
        is_error: bool,
        end_ns: int,
        fixed_values: tuple[Any, ...] | None = None,
    ) -> None:
        """End the span of an operation and set its data; a name that the application has set stays.

        Args:
            name: span name.
            common_attributes: attributes of all operations of this kind.
            client_attributes: attributes of all operations of this client.
            own_attributes: attributes of this operation only. A key must be in one of the three only.
            is_error: set the status to ERROR if it is unset.
            end_ns: nanoseconds since 1970.
            fixed_values: values of `common_attributes.fixed_attributes`.
        """
        if not self.open:
            return
        if self.is_ordinary or not self.has_user_name:
            self.span_name: str = name
        self.common_attributes: EncodedAttributes = common_attributes
        self.client_attributes: EncodedAttributes = client_attributes
        self.own_attributes: dict[str, Any] | None = own_attributes
        self.fixed_values: tuple[Any, ...] | None = fixed_values
        if is_error and self.status_code is StatusCode.UNSET:
            self.status_code: StatusCode = StatusCode.ERROR
            self.is_ordinary: bool = False
        self.end_ns: int = end_ns
        self.open: bool = False
        on_end = self.tracer.provider.on_end
        on_end(self)

    # --- trace.Span --------------------------------------------------------------------------------------------------
    def is_recording(self) -> bool:
        """True until the span has ended."""
        return self.open

    def set_attribute(self, key: str, value: Any) -> None:
        """Set one attribute; it overrides attributes of the operation."""
        if self.open:
            self._get_user_attributes()[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set several attributes."""
        if self.open:
            user_attributes = self._get_user_attributes()
            for key, value in attributes.items():
                user_attributes[key] = value

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """Add an event, at `timestamp` nanoseconds or now."""
        if self.open:
            limits = self.tracer.limits
            bounded = BoundedAttributes(
                limits.max_event_attributes, attributes, max_value_len=limits.max_attribute_length
            )
            if self.user_events is None:
                self.user_events: BoundedList[Any] | None = BoundedList(limits.max_events)
                self.has_user_data: bool = True
                self.is_ordinary = False
            event_time = time_ns() if timestamp is None else timestamp
            self.user_events.append(sdk.Event(name=name, attributes=bounded, timestamp=event_time))

    def set_initial_links(self, links: Sequence[Link]) -> None:
        """Set the links that were passed at start."""
        max_links = self.tracer.limits.max_links
        self.is_ordinary = False
        if (max_links is None or len(links) <= max_links) and all(
            link.context.is_valid and not link.attributes for link in links
        ):
            self.initial_links: Sequence[Link] = links
            return
        for link in links:
            self.add_link(link.context, link.attributes)

    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        """Add a link to another span; an invalid link without attributes is ignored, as in the SDK."""
        if self.open and (context.is_valid or attributes or context.trace_state):
            limits = self.tracer.limits
            bounded = BoundedAttributes(
                limits.max_link_attributes, attributes, max_value_len=limits.max_attribute_length
            )
            if self.user_links is None:
                self.user_links: BoundedList[Any] | None = BoundedList.from_seq(limits.max_links, self.initial_links)
                self.has_user_data = True
                self.is_ordinary = False
            self.user_links.append(Link(context, bounded))

    def update_name(self, name: str) -> None:
        """Set the name; the operation does not override it."""
        if self.open:
            self.span_name = name
            self.has_user_name: bool = True
            self.is_ordinary = False

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status; OK is final and UNSET changes nothing."""
        if not self.open or self.status_code is StatusCode.OK:
            return
        new_status = status if isinstance(status, Status) else Status(status, description)
        if new_status.status_code is not StatusCode.UNSET:
            self.status_code = new_status.status_code
            self.is_ordinary = False
            self.status_text: str | None = new_status.description

    def record_exception(
        self,
        exception: BaseException,
        attributes: Any = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add the `exception` event."""
        # `use_span` calls this while it handles an exception of the application, which must not be replaced by an error
        # that formatting it raises.
        try:
            recorded = {
                EXCEPTION_TYPE: exception_name(exception),
                EXCEPTION_MESSAGE: safe_str(exception, str),
                EXCEPTION_STACKTRACE: "".join(traceback.format_exception(exception)),
                "exception.escaped": str(escaped),
            }
            self.add_event("exception", {**recorded, **(attributes or {})}, timestamp)
        except Exception as failure:  # noqa: BLE001  must not raise into the application
            record_internal_error("tracing.exception", failure)

    def end(self, end_time: int | None = None) -> None:
        """End the span, at `end_time` nanoseconds or now, and pass it to exporters and processors."""
        if not self.open:
            return
        self.end_ns = time_ns() if end_time is None else end_time
        self.open = False
        on_end = self.tracer.provider.on_end
        on_end(self)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Record an exception like the SDK, then end the span."""
        if exc_val is not None and self.open:
            should_record, should_set_status = self.exception_options
            if should_record:
                self.record_exception(exc_val, escaped=True)
            if should_set_status:
                self.set_status(Status(StatusCode.ERROR, f"{type(exc_val).__name__}: {safe_str(exc_val, str)}"))
        self.end()

    def _get_user_attributes(self) -> BoundedAttributes:
        if self.user_attributes is None:
            limits = self.tracer.limits
            self.user_attributes: BoundedAttributes | None = BoundedAttributes(
                limits.max_span_attributes, immutable=False, max_value_len=limits.max_span_attribute_length
            )
            self.has_user_data = True
            self.is_ordinary = False
        return self.user_attributes


class NonRecordingSpan(trace.NonRecordingSpan):
    """A span that is not recorded; it provides ids for log lines and outgoing headers."""

    # Does not call the constructor of the base class, which requires a SpanContext that is rarely needed.
    def __init__(self, ids: bytes, flags: int, state: trace.TraceState | None) -> None:
        self.ids: bytes = ids
        self.flags: int = flags
        self.cached_hex_ids: tuple[str, str, str] | None = None
        self._state = state

    @property
    def trace_id(self) -> int:
        """Trace id as integer."""
        return int.from_bytes(self.ids[:16], "big")

    @property
    def span_id(self) -> int:
        """Span id as integer."""
        return int.from_bytes(self.ids[16:], "big")

    def get_span_context(self) -> SpanContext:
        """Span context; created on first use."""
        return self._context

    @cached_property
    def _context(self) -> SpanContext:  # type: ignore[override]
        return SpanContext(self.trace_id, self.span_id, False, TraceFlags(self.flags), self._state)

    @property
    def hex(self) -> tuple[str, str, str]:
        """Trace id, span id and flags in hexadecimal; cached."""
        if self.cached_hex_ids is None:
            self.cached_hex_ids = hex_ids(self.ids, self.flags)
        return self.cached_hex_ids
