"""Spans of tracers outside this package; they are read and written through the OpenTelemetry API only."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, StatusCode

from connectsoft_obs.signals.tracing.span_data import EncodedAttributes, hex_ids


class ApiSpan:
    """Span of another tracer with its ids in the formats that logs, exemplars and propagation use.

    Args:
        span: the span.
    """

    __slots__ = ("__weakref__", "cached_hex_ids", "flags", "ids", "span")

    def __init__(self, span: trace.Span) -> None:
        context = span.get_span_context()
        self.span: trace.Span = span
        self.ids: bytes = context.trace_id.to_bytes(16, "big") + context.span_id.to_bytes(8, "big")
        self.flags: int = int(context.trace_flags)
        self.cached_hex_ids: tuple[str, str, str] = hex_ids(self.ids, self.flags)

    def get_span_context(self) -> SpanContext:
        """Span context of the span."""
        return self.span.get_span_context()


class ExternalSpan(ApiSpan):
    """The span of an operation that another tracer has created. It has the methods of `Span` that operations use.

    Args:
        span: the span.
        provider: the provider of this package whose exporters receive the span.
        name: the name with which the span was started.
    """

    __slots__ = ("_start_name", "provider")

    def __init__(self, span: trace.Span, provider: Any, name: str) -> None:
        super().__init__(span)
        self.provider: Any = provider
        self._start_name = name

    @property
    def span_name(self) -> str:
        """The name with which the span was started."""
        return self._start_name

    def record_exception(self, exception: BaseException) -> None:
        """Add the `exception` event."""
        self.span.record_exception(exception)

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
        """End the span of an operation like `Span.finish`. A name, attributes and status that the application set are kept.

        Attributes, name and status are compared with those of the span if it has them, as spans of the SDK have.
        """
        span = self.span
        if span.is_recording():
            attributes = {**common_attributes.attributes, **client_attributes.attributes, **(own_attributes or {})}
            if fixed_values is not None and common_attributes.fixed_attributes is not None:
                attributes |= zip(common_attributes.fixed_attributes.keys, fixed_values, strict=True)
            existing = getattr(span, "attributes", None) or {}
            span.set_attributes({key: value for key, value in attributes.items() if key not in existing})
            if getattr(span, "name", self._start_name) == self._start_name != name:
                span.update_name(name)
            status = getattr(span, "status", None)
            if is_error and (status is None or status.status_code is StatusCode.UNSET):
                span.set_status(StatusCode.ERROR)
        span.end(end_ns)


class SpanScope:
    """Instrumentation scope of a span, in the place of its tracer."""

    __slots__ = ("scope",)

    def __init__(self, span: ReadableSpan) -> None:
        scope = span.instrumentation_scope
        self.scope: tuple[str, str, str | None] = (
            ("", "", None) if scope is None else (scope.name, scope.version or "", scope.schema_url)
        )


class EndedSpan:
    """An ended span of another provider of the SDK. It has the attributes of `Span` that exporters use."""

    __slots__ = ("flags", "readable", "tracer")

    def __init__(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        self.readable: ReadableSpan = span
        self.flags: int = 0 if context is None else int(context.trace_flags)
        self.tracer: SpanScope = SpanScope(span)

    def to_readable(self) -> ReadableSpan:
        """The span of the SDK."""
        return self.readable

    def _readable_span(self) -> ReadableSpan:
        return self.readable


def api_span(span: trace.Span | ApiSpan) -> trace.Span:
    """The span that is made current and that the application sees."""
    return span.span if isinstance(span, ApiSpan) else span
