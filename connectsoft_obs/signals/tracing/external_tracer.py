"""Use of a tracer provider that was set before this package sets its own.

Its tracer creates the spans, so its sampler, id generator, limits, resource and processors apply. The spans are exported
by this package too, through a span processor that is added to it once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, WeakValueDictionary

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.trace import Link, SpanContext, SpanKind

from connectsoft_obs._version import __version__
from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.signals.tracing.external_span import EndedSpan, ExternalSpan
from connectsoft_obs.signals.tracing.global_provider import ProxyTracerProvider
from connectsoft_obs.signals.tracing.span_context_manager import start_as_current_span
from connectsoft_obs.vocabulary import SCHEMA_URL, SCOPE

if TYPE_CHECKING:
    from connectsoft_obs.signals.tracing.provider import Provider, Tracer
    from connectsoft_obs.signals.tracing.span import NonRecordingSpan, Span

_open_spans: WeakValueDictionary[int, ExternalSpan] = WeakValueDictionary()
_exported_providers: WeakSet[Any] = WeakSet()
_reported_providers: list[trace.TracerProvider] = []
_get_current_provider: Callable[[], Any] = lambda: None  # noqa: E731  replaced by `set_current_provider_getter`


def set_current_provider_getter(getter: Callable[[], Any]) -> None:
    """Set the function that returns the provider whose exporters receive spans of the application's own tracers."""
    global _get_current_provider
    _get_current_provider = getter


def find_external_provider() -> trace.TracerProvider | None:
    """The global tracer provider if it was set outside this package; None otherwise."""
    provider = trace.get_tracer_provider()
    is_unset = isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider))
    return None if is_unset or isinstance(provider, ProxyTracerProvider) else provider


def add_export_processor(provider: trace.TracerProvider) -> bool:
    """Export the spans of a provider. Idempotent. Returns False if it takes no span processors."""
    add_span_processor = getattr(provider, "add_span_processor", None)
    if not callable(add_span_processor):
        return False
    if provider not in _exported_providers:
        _exported_providers.add(provider)
        add_span_processor(ExportProcessor())
    return True


def is_first_report(provider: trace.TracerProvider) -> bool:
    """Return True the first time for each provider that takes no span processors."""
    if any(reported is provider for reported in _reported_providers):
        return False
    _reported_providers.append(provider)
    return True


class ExportProcessor(sdk.SpanProcessor):
    """Passes each ended span to the exporters of the Telemetry that started it, or else of the current one."""

    def on_end(self, span: sdk.ReadableSpan) -> None:
        """Export a span. Does not raise."""
        try:
            context = span.get_span_context()
            owner = None if context is None else _open_spans.get(context.span_id)
            provider = _get_current_provider() if owner is None else owner.provider
            if provider is not None:
                provider.on_end(EndedSpan(span))
        except Exception as failure:  # noqa: BLE001  must not raise into the application
            record_internal_error("tracing.export", failure)


class ExternalTracer:
    """Starts spans with the tracer of another provider. Has the methods of `Tracer` that operations use. Thread-safe.

    Args:
        own: tracer of this package, used if the other one returns an invalid span.
        provider: the other provider.
    """

    def __init__(self, own: Tracer, provider: trace.TracerProvider) -> None:
        self.provider: Provider = own.provider
        self._own = own
        self._tracer = provider.get_tracer(SCOPE, __version__, schema_url=SCHEMA_URL)

    def start_fast(  # noqa: PLR0917  as `Tracer.start_fast`
        self,
        name: str,
        kind: SpanKind,
        parent: SpanContext | None,
        start_ns: int,
        attributes: Callable[[], dict[str, Any]] | None = None,
        context: Context | None = None,
        links: Sequence[Link] = (),
        root_id: int = 0,
    ) -> Span | NonRecordingSpan | ExternalSpan:
        """Start a span as `Tracer.start_fast`. The id generator of the other provider applies, so `root_id` has no effect."""
        try:
            span = self._tracer.start_span(
                name,
                _context_with_parent(context, parent),
                kind,
                None if attributes is None else attributes(),
                links,
                start_ns,
            )
            span_context = span.get_span_context()
            if span_context.is_valid and span_context != parent:  # a tracer without effect returns the parent
                external = ExternalSpan(span, self.provider, name)
                if span.is_recording():
                    _open_spans[span_context.span_id] = external
                return external
        except Exception as failure:  # noqa: BLE001  raised by the other provider; must not raise into the application
            record_internal_error("tracing.start", failure)
        return self._own.start_fast(name, kind, parent, start_ns, attributes, context, links, root_id)

    def start_span(self, name: str, *arguments: Any, **options: Any) -> trace.Span:
        """Start a span with the OpenTelemetry API."""
        try:
            return self._tracer.start_span(name, *arguments, **options)
        except Exception as failure:  # noqa: BLE001  raised by the other provider; must not raise into the application
            record_internal_error("tracing.start", failure)
            return self._own.start_span(name, *arguments, **options)

    start_as_current_span: Callable[..., Any] = start_as_current_span


def _context_with_parent(context: Context | None, parent: SpanContext | None) -> Context:
    """Return the context of a new span: its current span is the parent, or an invalid span for a root span."""
    base = context or Context()
    current = trace.get_current_span(base)
    if current.get_span_context() == (parent or trace.INVALID_SPAN_CONTEXT):
        return base
    return trace.set_span_in_context(trace.INVALID_SPAN if parent is None else trace.NonRecordingSpan(parent), base)
