"""Tracer and provider that create the custom span class and pass ended spans to exporters and processors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from time import time_ns
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationInfo, InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceState

from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.signals.tracing import id_generator
from connectsoft_obs.signals.tracing.id_generator import random_bits
from connectsoft_obs.signals.tracing.sampling import FastSampler
from connectsoft_obs.signals.tracing.span import NonRecordingSpan, Span
from connectsoft_obs.signals.tracing.span_context_manager import start_as_current_span

SAMPLED, RANDOM = 0x01, 0x02
_new_object = object.__new__

Export = Callable[[Span], None]


_MAX_OWN_ATTRIBUTES = 32
"""More attributes than an operation has without those of the application."""


def _free_attributes(limits: sdk.SpanLimits) -> int:
    """Number of attributes that can be added to an operation without checking a limit; -1 if each needs a check."""
    limit = limits.max_span_attributes
    if limits.max_span_attribute_length is not None or (limit is not None and limit < _MAX_OWN_ATTRIBUTES):
        return -1
    return sys.maxsize if limit is None else limit - _MAX_OWN_ATTRIBUTES


class Tracer(trace.Tracer):
    """Starts spans for one instrumentation scope. Thread-safe."""

    def __init__(self, provider: Provider, scope: InstrumentationScope) -> None:
        self.provider = provider
        self.instrumentation_scope = scope
        self.limits: sdk.SpanLimits = provider.limits
        self.scope: tuple[str, str, str | None] = (scope.name, scope.version or "", scope.schema_url)
        self.free_attributes: int = _free_attributes(provider.limits)
        self.has_free_attributes: bool = self.free_attributes >= 0

    @property
    def instrumentation_info(self) -> InstrumentationInfo:
        """Deprecated in OpenTelemetry; same as `instrumentation_scope`."""
        scope = self.instrumentation_scope
        return InstrumentationInfo(scope.name, scope.version, scope.schema_url)

    def start_fast(  # noqa: PLR0917  positional, because keyword arguments cost time on the request path
        self,
        name: str,
        kind: SpanKind,
        parent: SpanContext | None,
        start_ns: int,
        attributes: Callable[[], dict[str, Any]] | None = None,
        context: Context | None = None,
        links: Sequence[Link] = (),
        root_id: int = 0,
    ) -> Span | NonRecordingSpan:
        """Start a span on the request path; `start_span` does the same with the arguments of OpenTelemetry.

        Args:
            name: span name.
            kind: span kind.
            parent: context of the parent, or None.
            start_ns: nanoseconds since 1970.
            attributes: called only if a sampler or processor needs the attributes.
            context: context for samplers and processors.
            links: links to other spans.
            root_id: trace id of a root span; 0 for a random one.
        """
        provider = self.provider
        state: TraceState | None = None
        initial: dict[str, Any] | None = None
        if parent is None and provider.records_all_roots and not root_id:  # most requests that start a trace
            ids, flags, is_ordinary = random_bits(192).to_bytes(24, "big"), SAMPLED | RANDOM, self.has_free_attributes
        else:
            is_ordinary = False
            is_parent_sampled: bool | None = None
            if parent is not None:
                ids, flags, state = (
                    id_generator.new_child_ids(parent.trace_id),
                    parent.trace_flags & RANDOM,
                    parent.trace_state,
                )
                is_parent_sampled = bool(parent.trace_flags & SAMPLED)
            elif root_id:
                ids, flags = id_generator.new_child_ids(root_id), 0
            else:
                ids, flags = id_generator.new_root_ids(), RANDOM
            initial = attributes() if attributes is not None and provider.needs_start_attributes else None
            if provider.fast_sampler is not None:
                is_recorded = is_sampled = provider.fast_sampler(ids, is_parent_sampled)
            else:
                trace_id = int.from_bytes(ids[:16], "big")
                result = provider.sampler.should_sample(context, trace_id, name, kind, initial, links)
                is_recorded = result.decision is not Decision.DROP
                is_sampled = result.decision is Decision.RECORD_AND_SAMPLE
                state = result.trace_state or None
                initial = dict(result.attributes or {})
            flags |= SAMPLED if is_sampled else 0
            if not is_recorded:
                return NonRecordingSpan(ids, flags, state)
        # The attributes are set here instead of in a constructor: calling a class with `__new__` and `__init__` in Python
        # costs as much as all of this (tests/bench/span.py).
        span: Span = _new_object(Span)
        span.tracer = self
        span.span_name = name
        span.span_kind = kind
        span.ids = ids
        span.flags = flags
        span.start_ns = start_ns
        span.is_ordinary = is_ordinary
        span.open = True
        if not is_ordinary or links:
            _set_initial_data(span, parent, state, initial, links)
        if provider.has_processors:
            provider.on_start(span, context)
        return span

    def start_span(  # noqa: PLR0917  OpenTelemetry's own signature
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Any = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace.Span:
        """Start a span with the OpenTelemetry API; on an internal error an invalid span is returned."""
        try:
            return self._start_span(
                name, context, kind, attributes, links, start_time, (record_exception, set_status_on_exception)
            )
        except Exception as failure:  # noqa: BLE001  also errors of samplers; must not raise into the application
            record_internal_error("tracing.start", failure)
            return trace.INVALID_SPAN

    def _start_span(
        self,
        name: str,
        context: Context | None,
        kind: SpanKind,
        attributes: Any,
        links: Sequence[Link] | None,
        start_time: int | None,
        on_exit: tuple[bool, bool],
    ) -> trace.Span:
        parent: SpanContext | None = trace.get_current_span(context).get_span_context()
        if parent is not None and not parent.is_valid:
            parent = None
        span = self.start_fast(
            name, kind, parent, start_time or time_ns(), lambda: attributes or {}, context, links or ()
        )
        if isinstance(span, Span):
            if attributes and not self.provider.needs_start_attributes:
                span.set_attributes(attributes)
            span.exception_options = on_exit
        return span

    start_as_current_span: Callable[..., Any] = start_as_current_span


class Provider(sdk.TracerProvider):
    """The provider of one Telemetry. Thread-safe.

    Args:
        resource: returns the resource; called for each span, so that a forked child uses its own.
        sampler: the OpenTelemetry sampler.
        fast_sampler: a function with the same decisions, or None for a custom sampler.
        limits: OpenTelemetry span limits.
        records_all_roots: whether every root span is recorded.
    """

    def __init__(
        self,
        resource: Callable[[], Resource],
        sampler: Sampler,
        fast_sampler: FastSampler | None,
        limits: sdk.SpanLimits,
        records_all_roots: bool = False,
    ) -> None:
        self._span_processors = sdk.SynchronousMultiSpanProcessor()  # type: ignore[no-untyped-call]
        super().__init__(
            sampler=sampler,
            resource=resource(),
            shutdown_on_exit=False,
            active_span_processor=self._span_processors,
            span_limits=limits,
        )
        self.limits = limits
        self.fast_sampler = fast_sampler
        self.has_processors: bool = False
        self.has_consumers: bool = False
        """Whether ended spans are exported or processed; otherwise their attributes need not be built."""
        self.needs_start_attributes: bool = fast_sampler is None
        """Whether a custom sampler or another processor needs the attributes when a span starts."""
        self.records_all_roots: bool = records_all_roots
        """Whether each root span is recorded without asking a sampler or processor."""
        self._get_resource = resource
        self._own_tracers: dict[tuple[Any, ...], Tracer] = {}
        self._exports: tuple[Export, ...] = ()
        self.on_end: Export = self._pass_to_all
        """Receives each span that has ended."""

    @property
    def resource(self) -> Resource:
        """Resource of the calling process."""
        return self._get_resource()

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> Tracer:
        """The tracer of an instrumentation scope; cached."""
        key = (instrumenting_module_name, instrumenting_library_version, schema_url, str(attributes or ""))
        if (cached := self._own_tracers.get(key)) is not None:
            return cached
        scope = InstrumentationScope(
            instrumenting_module_name or "", instrumenting_library_version or "", schema_url, attributes
        )
        return self._own_tracers.setdefault(key, Tracer(self, scope))

    def export_to(self, export: Export) -> None:
        """Also pass each ended span to `export`, which checks the sampled flag and must not block or raise."""
        self._exports = (*self._exports, export)
        self.has_consumers = True
        self._select_consumer()

    def pass_on_external_spans(self) -> None:
        """Receive the spans of another provider: attributes are needed when a span starts, and when it ends."""
        self.needs_start_attributes = self.has_consumers = True
        self.records_all_roots = False

    def add_span_processor(self, span_processor: sdk.SpanProcessor) -> None:
        """Add an OpenTelemetry span processor."""
        super().add_span_processor(span_processor)
        self.has_processors = self.has_consumers = self.needs_start_attributes = True
        self.records_all_roots = False
        self._select_consumer()

    def on_start(self, span: Span, context: Context | None) -> None:
        """Call `on_start` of the span processors that users added."""
        self._span_processors.on_start(span, parent_context=context)

    def _select_consumer(self) -> None:
        """Select where ended spans go: directly to the exporter if it is the only consumer."""
        single = len(self._exports) == 1 and not self.has_processors
        self.on_end = self._exports[0] if single else self._pass_to_all

    def _pass_to_all(self, span: Span) -> None:
        """Pass an ended span to the exporters and to the processors that users added."""
        for export in self._exports:
            export(span)
        if self.has_processors:
            self._span_processors.on_end(span._readable_span())  # noqa: SLF001  a class of this package


def _set_initial_data(
    span: Span,
    parent: SpanContext | None,
    state: TraceState | None,
    initial: dict[str, Any] | None,
    links: Sequence[Link],
) -> None:
    """Set data that was passed at start; otherwise the defaults of the class apply."""
    if parent is not None:
        span.parent_context = parent
    if state is not None:
        span.state = state
    if initial:
        span.set_attributes(initial)
    if links:
        span.set_initial_links(links)
