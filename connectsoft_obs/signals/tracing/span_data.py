"""What a span of ours holds, as OpenTelemetry's ReadableSpan shows it to processors and exporters."""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from connectsoft_obs.signals.tracing.provider import Tracer

_UNSET = Status(StatusCode.UNSET)
FLAGS = [b"%02x" % flags for flags in range(256)]
"""In hexadecimal digits."""


class FixedAttributes(NamedTuple):
    """Attributes of which only the values differ from span to span.

    Args:
        keys: their keys.
        encode: makes the wire form of the values, given in the same order.
    """

    keys: tuple[str, ...]
    encode: Callable[[tuple[Any, ...]], bytes]


class EncodedAttributes:
    """Attributes that many spans have in common (a route's method, template, status), and their encoded form.

    Args:
        items: the attributes.
        encoded: the same on the wire.
        title: the name of such spans, where they all have one.
        sort: their kind.
        head: name and kind on the wire.
        whole: all that a span of theirs has on the wire which is the same in each, as long as nothing went wrong.
        row: what else they all have, with other values in each.
    """

    __slots__ = ("encoded", "head", "items", "row", "sort", "title", "whole")

    def __init__(
        self,
        items: dict[str, Any],
        encoded: bytes,
        title: str | None = None,
        sort: SpanKind | None = None,
        head: bytes = b"",
        whole: bytes = b"",
        row: FixedAttributes | None = None,
    ) -> None:
        self.items: dict[str, Any] = items
        self.encoded: bytes = encoded
        self.title: str | None = title
        self.sort: SpanKind | None = sort
        self.head: bytes = head
        self.whole: bytes = whole
        self.row: FixedAttributes | None = row


def hexadecimal(ids: bytes, flags: int) -> tuple[str, str, str]:
    """Trace id, span id and flags as text: half the cost of formatting them."""
    text = ids.hex()
    return text[:32], text[32:], f"{flags:02x}"


def digits(span: Any) -> tuple[bytes, bytes, bytes]:
    """The same of a span of ours, as bytes."""
    made = hexlify(span.ids)
    return made[:32], made[32:], FLAGS[span.flags]


NO_ENCODED_ATTRIBUTES = EncodedAttributes({}, b"")


class SpanData(sdk.Span):
    """The state of a span, and every property that the SDK's ReadableSpan has.

    What nearly no span needs is an attribute of the class until one does; the SDK's span has a dictionary anyway.
    """

    tracer: Tracer
    title: str
    sort: SpanKind
    ids: bytes
    flags: int
    state: TraceState | None = None
    origin: SpanContext | None = None
    start_ns: int
    end_ns: int = 0
    shared: EncodedAttributes = NO_ENCODED_ATTRIBUTES
    around: EncodedAttributes = NO_ENCODED_ATTRIBUTES
    row: tuple[Any, ...] | None = None
    own: dict[str, Any] | None = None
    status_code: StatusCode = StatusCode.UNSET
    status_text: str | None = None
    renamed: bool = False
    touched: bool = False
    """Whether anybody set attributes, events or links on it."""
    plain: bool
    """Whether it is a root that nobody has touched, named or marked: all of it is what its operation says."""
    on_exit: tuple[bool, bool] = (True, True)
    hexed: tuple[str, str, str] | None = None
    open: bool
    _span_context: SpanContext | None = None
    _user: BoundedAttributes | None = None
    _events_: BoundedList[Any] | None = None
    linked: Sequence[Link] = ()
    """Links it began with, as long as they are all: without attributes, and nobody has added one."""
    _links_: BoundedList[Any] | None = None

    @property
    def trace_id(self) -> int:
        """The trace's id as OpenTelemetry has it."""
        return int.from_bytes(self.ids[:16], "big")

    @property
    def span_id(self) -> int:
        """Its own id as OpenTelemetry has it."""
        return int.from_bytes(self.ids[16:], "big")

    @property
    def hex(self) -> tuple[str, str, str]:
        """Trace id, span id and flags in hexadecimal digits, as log lines and headers have them; made once."""
        if self.hexed is None:
            self.hexed = hexadecimal(self.ids, self.flags)
        return self.hexed

    @property
    def name(self) -> str:
        """Its name now."""
        return self.title

    @property
    def context(self) -> SpanContext:
        """The same as `get_span_context()`."""
        return self.get_span_context()

    @property
    def kind(self) -> SpanKind:
        """SERVER, CLIENT, PRODUCER, CONSUMER or INTERNAL."""
        return self.sort

    @property
    def parent(self) -> SpanContext | None:
        """Context of the parent, or None at a root."""
        return self.origin

    @property
    def start_time(self) -> int:
        """Nanoseconds since 1970."""
        return self.start_ns

    @property
    def end_time(self) -> int | None:
        """Nanoseconds since 1970, None while it runs."""
        return None if self.open else self.end_ns

    @property
    def status(self) -> Status:
        """Its status now."""
        return _UNSET if self.status_code is StatusCode.UNSET else Status(self.status_code, self.status_text)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """All attributes, what users set last."""
        merged: Mapping[str, Any] = self._merged()
        return merged

    @property
    def events(self) -> Sequence[sdk.Event]:
        """Events in the order they were added."""
        return tuple(self._events_ or ())

    @property
    def links(self) -> Sequence[Link]:
        """Links in the order they were added."""
        return tuple(self._links_ or self.linked)

    @property
    def dropped_attributes(self) -> int:
        """Attributes beyond the limit."""
        merged = self._merged()
        return merged.dropped if isinstance(merged, BoundedAttributes) else 0

    @property
    def dropped_events(self) -> int:
        """Events beyond the limit."""
        return self._events_.dropped if self._events_ is not None else 0

    @property
    def dropped_links(self) -> int:
        """Links beyond the limit."""
        return self._links_.dropped if self._links_ is not None else 0

    @property
    def resource(self) -> Resource:
        """Who reports it."""
        return self.tracer.provider.resource

    @property
    def instrumentation_info(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Deprecated in OpenTelemetry; the scope says the same."""
        return self.tracer.instrumentation_info

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        """Which instrumentation made it."""
        return self.tracer.instrumentation_scope

    def to_json(self, indent: int | None = 4) -> str:
        """The SDK's JSON form."""
        text: str = self._readable_span().to_json(indent)
        return text

    def __repr__(self) -> str:
        """As the SDK prints spans."""
        return f'{type(self).__name__}(name="{self.title}", context={self.get_span_context()})'

    def _readable_span(self) -> sdk.ReadableSpan:
        return self.readable()

    def readable(self) -> sdk.ReadableSpan:
        """A frozen copy, for processors and exporters of the SDK's kind."""
        return sdk.ReadableSpan(
            name=self.title,
            context=self.get_span_context(),
            parent=self.origin,
            resource=self.resource,
            attributes=self._merged(),
            events=self._events_ or (),
            links=self._links_ or self.linked,
            kind=self.sort,
            status=self.status,
            start_time=self.start_ns,
            end_time=self.end_time,
            instrumentation_scope=self.instrumentation_scope,
        )

    def get_span_context(self) -> SpanContext:
        """Ids and flags, made when first asked for."""
        made = self._span_context
        if made is None:
            made = SpanContext(self.trace_id, self.span_id, False, TraceFlags(self.flags), self.state)
            self._span_context = made
        return made

    def _merged(self) -> Any:
        limits, user, common = self.tracer.limits, self._user, self.shared
        own: dict[str, Any] = self.own or {}
        if self.row is not None and common.row is not None:
            own = {**dict(zip(common.row.keys, self.row, strict=True)), **own}
        if not own and common is NO_ENCODED_ATTRIBUTES and self.around is NO_ENCODED_ATTRIBUTES and user is not None:
            return user
        items = {**common.items, **self.around.items, **own, **(user or {})}
        over = limits.max_span_attributes is not None and len(items) > limits.max_span_attributes
        if over or limits.max_span_attribute_length is not None or (user is not None and user.dropped):
            bounded = BoundedAttributes(
                limits.max_span_attributes, items, max_value_len=limits.max_span_attribute_length
            )
            bounded.dropped += user.dropped if user is not None else 0
            return bounded
        return items
