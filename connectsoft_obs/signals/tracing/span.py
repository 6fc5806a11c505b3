"""A span of our own: to users and processors an ordinary OpenTelemetry span, at a tenth of its cost.

What makes it cheap: no lock, bounded map or list until a user needs one, ids kept as bytes, and the attributes of
an operation handed over once, at its end. What users set goes through the SDK's own bounded containers, so limits and
cleaning are the SDK's. Measured in tests/bench/span.py; the SDK's contract runs against it in tests/tracing.
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
from connectsoft_obs.signals.tracing.span_data import EncodedAttributes, SpanData, hexadecimal
from connectsoft_obs.vocabulary import EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE, EXCEPTION_TYPE


class Span(SpanData):
    """A recording span. Methods may be called from any thread; after the end they do nothing, as the API has it."""

    # --- What adapters use -------------------------------------------------------------------------------------------
    def finish(
        self,
        title: str,
        shared: EncodedAttributes,
        around: EncodedAttributes,
        own: dict[str, Any] | None,
        failed: bool,
        end_ns: int,
        row: tuple[Any, ...] | None = None,
    ) -> None:
        """End the span of an operation, with all that is known about it; a name that a user gave stays.

        `shared` is what operations of its kind have in common, `around` what those of its caller have, `row` the values
        of `shared.row`, `own` the rest; no two of them have a key in common.
        """
        if not self.open:
            return
        if self.plain or not self.renamed:
            self.title: str = title
        self.shared: EncodedAttributes = shared
        self.around: EncodedAttributes = around
        self.own: dict[str, Any] | None = own
        self.row: tuple[Any, ...] | None = row
        if failed and self.status_code is StatusCode.UNSET:
            self.status_code: StatusCode = StatusCode.ERROR
            self.plain: bool = False
        self.end_ns: int = end_ns
        self.open: bool = False
        ended = self.tracer.provider.ended
        ended(self)

    # --- trace.Span --------------------------------------------------------------------------------------------------
    def is_recording(self) -> bool:
        """True until it has ended."""
        return self.open

    def set_attribute(self, key: str, value: Any) -> None:
        """Set one attribute; wins over what we know ourselves."""
        if self.open:
            self._attributes_of_user()[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set several attributes."""
        if self.open:
            held = self._attributes_of_user()
            for key, value in attributes.items():
                held[key] = value

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """Add an event, at `timestamp` nanoseconds or now."""
        if self.open:
            limits = self.tracer.limits
            bounded = BoundedAttributes(
                limits.max_event_attributes, attributes, max_value_len=limits.max_attribute_length
            )
            if self._events_ is None:
                self._events_ = BoundedList(limits.max_events)
                self.touched: bool = True
                self.plain = False
            when = time_ns() if timestamp is None else timestamp
            self._events_.append(sdk.Event(name=name, attributes=bounded, timestamp=when))

    def link_to(self, links: Sequence[Link]) -> None:
        """The links that it begins with."""
        most = self.tracer.limits.max_links
        self.plain = False
        if (most is None or len(links) <= most) and all(
            link.context.is_valid and not link.attributes for link in links
        ):
            self.linked: Sequence[Link] = links
            return
        for link in links:
            self.add_link(link.context, link.attributes)

    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        """Link to another span; a link to nowhere is ignored, as in the SDK."""
        if self.open and (context.is_valid or attributes or context.trace_state):
            limits = self.tracer.limits
            bounded = BoundedAttributes(
                limits.max_link_attributes, attributes, max_value_len=limits.max_attribute_length
            )
            if self._links_ is None:
                self._links_ = BoundedList.from_seq(limits.max_links, self.linked)
                self.touched = True
                self.plain = False
            self._links_.append(Link(context, bounded))

    def update_name(self, name: str) -> None:
        """Rename the span; the name stays, also over the route's."""
        if self.open:
            self.title = name
            self.renamed: bool = True
            self.plain = False

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status; OK is final and UNSET changes nothing."""
        if not self.open or self.status_code is StatusCode.OK:
            return
        given = status if isinstance(status, Status) else Status(status, description)
        if given.status_code is not StatusCode.UNSET:
            self.status_code = given.status_code
            self.plain = False
            self.status_text: str | None = given.description

    def record_exception(
        self,
        exception: BaseException,
        attributes: Any = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add the `exception` event."""
        # `use_span` calls this with the application's exception in its hands: one that cannot be printed must not be
        # replaced by what printing it raises.
        try:
            recorded = {
                EXCEPTION_TYPE: exception_name(exception),
                EXCEPTION_MESSAGE: safe_str(exception, str),
                EXCEPTION_STACKTRACE: "".join(traceback.format_exception(exception)),
                "exception.escaped": str(escaped),
            }
            self.add_event("exception", {**recorded, **(attributes or {})}, timestamp)
        except Exception as failure:  # noqa: BLE001  ours
            record_internal_error("tracing.exception", failure)

    def end(self, end_time: int | None = None) -> None:
        """End it, at `end_time` nanoseconds or now, and hand it to whoever exports spans."""
        if not self.open:
            return
        self.end_ns = time_ns() if end_time is None else end_time
        self.open = False
        ended = self.tracer.provider.ended
        ended(self)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Record an exception as the SDK does, then end."""
        if exc_val is not None and self.open:
            record, mark = self.on_exit
            if record:
                self.record_exception(exc_val, escaped=True)
            if mark:
                self.set_status(Status(StatusCode.ERROR, f"{type(exc_val).__name__}: {safe_str(exc_val, str)}"))
        self.end()

    def _attributes_of_user(self) -> BoundedAttributes:
        if self._user is None:
            limits = self.tracer.limits
            self._user = BoundedAttributes(
                limits.max_span_attributes, immutable=False, max_value_len=limits.max_span_attribute_length
            )
            self.touched = True
            self.plain = False
        return self._user


class NonRecordingSpan(trace.NonRecordingSpan):
    """A span that is not recorded but still names its trace, for log lines and outgoing headers."""

    # Not the constructor of its class, which wants a context that nearly nobody asks for.
    def __init__(self, ids: bytes, flags: int, state: trace.TraceState | None) -> None:
        self.ids: bytes = ids
        self.flags: int = flags
        self.hexed: tuple[str, str, str] | None = None
        self._state = state

    @property
    def trace_id(self) -> int:
        """The trace's id as OpenTelemetry has it."""
        return int.from_bytes(self.ids[:16], "big")

    @property
    def span_id(self) -> int:
        """Its own id as OpenTelemetry has it."""
        return int.from_bytes(self.ids[16:], "big")

    def get_span_context(self) -> SpanContext:
        """Ids and flags, made when first asked for."""
        return self._context

    @cached_property
    def _context(self) -> SpanContext:  # type: ignore[override]
        return SpanContext(self.trace_id, self.span_id, False, TraceFlags(self.flags), self._state)

    @property
    def hex(self) -> tuple[str, str, str]:
        """Trace id, span id and flags in hexadecimal digits, made once."""
        if self.hexed is None:
            self.hexed = hexadecimal(self.ids, self.flags)
        return self.hexed
