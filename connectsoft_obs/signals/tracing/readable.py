"""What a span of ours holds, as OpenTelemetry's ReadableSpan shows it to processors and exporters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from connectsoft_obs.signals.tracing.provider import Tracer

_UNSET = Status(StatusCode.UNSET)
_FLAGS = [f"{flags:02x}" for flags in range(256)]


class Shared:
    """Attributes that many spans have in common (a route's method, template, status), and their encoded form.

    Args:
        items: the attributes.
        encoded: the same on the wire.
        title: the name of such spans, where they all have one.
        sort: their kind.
        head: name and kind on the wire.
    """

    __slots__ = ("encoded", "head", "items", "sort", "title")

    def __init__(
        self,
        items: dict[str, Any],
        encoded: bytes,
        title: str | None = None,
        sort: SpanKind | None = None,
        head: bytes = b"",
    ) -> None:
        self.items: dict[str, Any] = items
        self.encoded: bytes = encoded
        self.title: str | None = title
        self.sort: SpanKind | None = sort
        self.head: bytes = head


def hexadecimal(trace_id: int, span_id: int, flags: int) -> tuple[str, str, str]:
    """Ids as text: half the cost of formatting them."""
    return trace_id.to_bytes(16, "big").hex(), span_id.to_bytes(8, "big").hex(), _FLAGS[flags]


NO_SHARED = Shared({}, b"")


class Readable(sdk.Span):
    """The state of a span, and every property that the SDK's ReadableSpan has."""

    __slots__ = (
        "_events_",
        "_links_",
        "_open",
        "_span_context",
        "_user",
        "around",
        "end_ns",
        "flags",
        "hexed",
        "on_exit",
        "origin",
        "own",
        "renamed",
        "shared",
        "sort",
        "span_id",
        "start_ns",
        "state",
        "status_code",
        "status_text",
        "title",
        "trace_id",
        "tracer",
    )

    def __new__(cls, *_: Any) -> Readable:
        """A plain object: the SDK's own constructor exists to forbid spans without a tracer."""
        return object.__new__(cls)

    def __init__(  # noqa: PLR0917  positional on purpose: keywords cost 0.3 us on the request path
        self,
        tracer: Tracer,
        title: str,
        sort: SpanKind,
        trace_id: int,
        span_id: int,
        flags: int,
        state: TraceState | None,
        origin: SpanContext | None,
        start_ns: int,
    ) -> None:
        self.tracer: Tracer = tracer
        self.title: str = title
        self.sort: SpanKind = sort
        self.trace_id: int = trace_id
        self.span_id: int = span_id
        self.flags: int = flags
        self.state: TraceState | None = state
        self.origin: SpanContext | None = origin
        self.start_ns: int = start_ns
        self.end_ns: int = 0
        self.own: dict[str, Any] | None = None
        self.shared: Shared = NO_SHARED
        self.around: Shared = NO_SHARED
        self.status_code: StatusCode = StatusCode.UNSET
        self.status_text: str | None = None
        self.renamed: bool = False
        self.on_exit: tuple[bool, bool] = (True, True)
        self._open = True
        self.hexed: tuple[str, str, str] | None = None
        self._span_context: SpanContext | None = None
        self._user: BoundedAttributes | None = None
        self._events_: BoundedList[Any] | None = None
        self._links_: BoundedList[Any] | None = None

    @property
    def hex(self) -> tuple[str, str, str]:
        """Trace id, span id and flags in hexadecimal digits, as log lines and headers have them; made once."""
        if self.hexed is None:
            self.hexed = hexadecimal(self.trace_id, self.span_id, self.flags)
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
        return None if self._open else self.end_ns

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
        return tuple(self._links_ or ())

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
            links=self._links_ or (),
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
        limits, user = self.tracer.limits, self._user
        if self.own is None and user is not None:
            return user
        items = {**self.shared.items, **self.around.items, **(self.own or {}), **(user or {})}
        over = limits.max_span_attributes is not None and len(items) > limits.max_span_attributes
        if over or limits.max_span_attribute_length is not None or (user is not None and user.dropped):
            bounded = BoundedAttributes(
                limits.max_span_attributes, items, max_value_len=limits.max_span_attribute_length
            )
            bounded.dropped += user.dropped if user is not None else 0
            return bounded
        return items
