"""State of a span with the properties of the SDK's ReadableSpan, for processors and exporters."""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

_UNSET = Status(StatusCode.UNSET)
FLAGS_HEX = [b"%02x" % flags for flags in range(256)]
"""Trace flags in hexadecimal digits."""


class FixedAttributes(NamedTuple):
    """Attribute names that all spans of a kind have; the values differ from span to span.

    Args:
        keys: attribute names.
        encode: encodes the values, which are passed in the order of `keys`.
    """

    keys: tuple[str, ...]
    encode: Callable[[tuple[Any, ...]], bytes]


class EncodedAttributes:
    """Attributes that many spans have in common (method, route and status of a request), and their encoded form.

    Args:
        attributes: the attributes.
        encoded: the encoded attributes.
        span_name: the name of these spans, if they have the same name.
        span_kind: the kind of these spans.
        encoded_name: encoded name and kind.
        encoded_span: all encoded fields that are equal in each of these spans if it has no error.
        fixed_attributes: attributes that each of these spans has with its own values.
    """

    __slots__ = (
        "attributes", "encoded", "encoded_name", "encoded_span", "fixed_attributes", "span_kind", "span_name",
    )  # fmt: skip

    def __init__(
        self,
        attributes: dict[str, Any],
        encoded: bytes,
        span_name: str | None = None,
        span_kind: SpanKind | None = None,
        encoded_name: bytes = b"",
        encoded_span: bytes = b"",
        fixed_attributes: FixedAttributes | None = None,
    ) -> None:
        self.attributes: dict[str, Any] = attributes
        self.encoded: bytes = encoded
        self.span_name: str | None = span_name
        self.span_kind: SpanKind | None = span_kind
        self.encoded_name: bytes = encoded_name
        self.encoded_span: bytes = encoded_span
        self.fixed_attributes: FixedAttributes | None = fixed_attributes


def hex_ids(ids: bytes, flags: int) -> tuple[str, str, str]:
    """Trace id, span id and flags in hexadecimal; half the cost of formatting them."""
    text = ids.hex()
    return text[:32], text[32:], f"{flags:02x}"


def hex_id_bytes(span: Any) -> tuple[bytes, bytes, bytes]:
    """Trace id, span id and flags of a span in hexadecimal, as bytes."""
    digits = hexlify(span.ids)
    return digits[:32], digits[32:], FLAGS_HEX[span.flags]


NO_ENCODED_ATTRIBUTES = EncodedAttributes({}, b"")


class SpanProvider(Protocol):
    """What a span needs of its provider."""

    on_end: Callable[[Any], None]

    @property
    def resource(self) -> Resource:
        """Resource of the calling process."""


class SpanTracer(Protocol):
    """What a span needs of its tracer."""

    limits: sdk.SpanLimits
    scope: tuple[str, str, str | None]
    free_attributes: int
    instrumentation_scope: InstrumentationScope

    @property
    def provider(self) -> SpanProvider:
        """The provider of the tracer."""

    @property
    def instrumentation_info(self) -> Any:
        """Deprecated in OpenTelemetry; same as `instrumentation_scope`."""


class SpanData(sdk.Span):
    """State of a span, and all properties of the SDK's ReadableSpan.

    Attributes that few spans need have a default on the class and are set on the instance only when needed.
    """

    tracer: SpanTracer
    span_name: str
    span_kind: SpanKind
    ids: bytes
    flags: int
    state: TraceState | None = None
    parent_context: SpanContext | None = None
    start_ns: int
    end_ns: int = 0
    common_attributes: EncodedAttributes = NO_ENCODED_ATTRIBUTES
    client_attributes: EncodedAttributes = NO_ENCODED_ATTRIBUTES
    fixed_values: tuple[Any, ...] | None = None
    own_attributes: dict[str, Any] | None = None
    status_code: StatusCode = StatusCode.UNSET
    status_text: str | None = None
    has_user_name: bool = False
    has_user_data: bool = False
    """Whether the application has set attributes, events or links."""
    is_ordinary: bool
    """Whether this is a root span without data, name or status from the application, so that it is encoded in one step."""
    exception_options: tuple[bool, bool] = (True, True)
    cached_hex_ids: tuple[str, str, str] | None = None
    open: bool
    _span_context: SpanContext | None = None
    user_attributes: BoundedAttributes | None = None
    user_events: BoundedList[Any] | None = None
    initial_links: Sequence[Link] = ()
    """Links that were passed at start, without attributes, if no link was added later."""
    user_links: BoundedList[Any] | None = None

    @property
    def trace_id(self) -> int:
        """Trace id as integer."""
        return int.from_bytes(self.ids[:16], "big")

    @property
    def span_id(self) -> int:
        """Span id as integer."""
        return int.from_bytes(self.ids[16:], "big")

    @property
    def hex(self) -> tuple[str, str, str]:
        """Trace id, span id and flags in hexadecimal, for log lines and headers; cached."""
        if self.cached_hex_ids is None:
            self.cached_hex_ids = hex_ids(self.ids, self.flags)
        return self.cached_hex_ids

    @property
    def name(self) -> str:
        """Current name."""
        return self.span_name

    @property
    def context(self) -> SpanContext:
        """The same as `get_span_context()`."""
        return self.get_span_context()

    @property
    def kind(self) -> SpanKind:
        """SERVER, CLIENT, PRODUCER, CONSUMER or INTERNAL."""
        return self.span_kind

    @property
    def parent(self) -> SpanContext | None:
        """Context of the parent, None for a root span."""
        return self.parent_context

    @property
    def start_time(self) -> int:
        """Nanoseconds since 1970."""
        return self.start_ns

    @property
    def end_time(self) -> int | None:
        """Nanoseconds since 1970, None until the span ends."""
        return None if self.open else self.end_ns

    @property
    def status(self) -> Status:
        """Current status."""
        return _UNSET if self.status_code is StatusCode.UNSET else Status(self.status_code, self.status_text)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """All attributes; those of the application override others."""
        return self._merge_attributes()

    @property
    def events(self) -> Sequence[sdk.Event]:
        """Events in the order they were added."""
        return tuple(self.user_events or ())

    @property
    def links(self) -> Sequence[Link]:
        """Links in the order they were added."""
        return tuple(self.initial_links if self.user_links is None else self.user_links)

    @property
    def dropped_attributes(self) -> int:
        """Number of attributes that exceeded the limit."""
        attributes = self._merge_attributes()
        return attributes.dropped if isinstance(attributes, BoundedAttributes) else 0

    @property
    def dropped_events(self) -> int:
        """Number of events that exceeded the limit."""
        return self.user_events.dropped if self.user_events is not None else 0

    @property
    def dropped_links(self) -> int:
        """Number of links that exceeded the limit."""
        return self.user_links.dropped if self.user_links is not None else 0

    @property
    def resource(self) -> Resource:
        """OpenTelemetry resource of the process."""
        return self.tracer.provider.resource

    @property
    def instrumentation_info(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Deprecated in OpenTelemetry; same as `instrumentation_scope`."""
        return self.tracer.instrumentation_info

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        """Instrumentation scope of the tracer."""
        return self.tracer.instrumentation_scope

    def to_json(self, indent: int | None = 4) -> str:
        """JSON in the format of the SDK."""
        text: str = self._readable_span().to_json(indent)
        return text

    def __repr__(self) -> str:
        """Same format as the SDK."""
        return f'{type(self).__name__}(name="{self.span_name}", context={self.get_span_context()})'

    def _readable_span(self) -> sdk.ReadableSpan:
        return self.to_readable()

    def to_readable(self) -> sdk.ReadableSpan:
        """An immutable copy for processors and exporters of the SDK."""
        return sdk.ReadableSpan(
            name=self.span_name,
            context=self.get_span_context(),
            parent=self.parent_context,
            resource=self.resource,
            attributes=self._merge_attributes(),
            events=() if self.user_events is None else self.user_events,
            links=self.initial_links if self.user_links is None else self.user_links,
            kind=self.span_kind,
            status=self.status,
            start_time=self.start_ns,
            end_time=self.end_time,
            instrumentation_scope=self.instrumentation_scope,
        )

    def get_span_context(self) -> SpanContext:
        """Span context; created on first use."""
        context = self._span_context
        if context is None:
            context = SpanContext(self.trace_id, self.span_id, False, TraceFlags(self.flags), self.state)
            self._span_context = context
        return context

    def _merge_attributes(self) -> Mapping[str, Any]:
        limits, user, common = self.tracer.limits, self.user_attributes, self.common_attributes
        own: dict[str, Any] = self.own_attributes or {}
        if self.fixed_values is not None and common.fixed_attributes is not None:
            own = {**dict(zip(common.fixed_attributes.keys, self.fixed_values, strict=True)), **own}
        has_shared = common is not NO_ENCODED_ATTRIBUTES or self.client_attributes is not NO_ENCODED_ATTRIBUTES
        if user is not None and not own and not has_shared:
            return user
        merged = {**common.attributes, **self.client_attributes.attributes, **own, **(user or {})}
        exceeds = limits.max_span_attributes is not None and len(merged) > limits.max_span_attributes
        if exceeds or limits.max_span_attribute_length is not None or (user is not None and user.dropped):
            bounded = BoundedAttributes(
                limits.max_span_attributes, merged, max_value_len=limits.max_span_attribute_length
            )
            bounded.dropped += user.dropped if user is not None else 0
            return bounded
        return merged
