"""Our tracer provider: the SDK's interface, our span, and one place where finished spans arrive."""

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
from connectsoft_obs.signals.tracing.current_span import start_as_current_span
from connectsoft_obs.signals.tracing.id_generator import bits
from connectsoft_obs.signals.tracing.sampling import FastSampler
from connectsoft_obs.signals.tracing.span import NonRecordingSpan, Span

SAMPLED, RANDOM = 0x01, 0x02
_new = object.__new__

Export = Callable[[Span], None]


_OURS = 32
"""More attributes than an operation of ours has before anybody adds any."""


def _room(limits: sdk.SpanLimits) -> int:
    """How many attributes may be added to an operation's own before a limit has to be looked at; -1 for always."""
    most = limits.max_span_attributes
    if limits.max_span_attribute_length is not None or (most is not None and most < _OURS):
        return -1
    return sys.maxsize if most is None else most - _OURS


class Tracer(trace.Tracer):
    """Starts spans for one instrumentation scope. Thread-safe."""

    def __init__(self, provider: Provider, scope: InstrumentationScope) -> None:
        self.provider = provider
        self.instrumentation_scope = scope
        self.limits: sdk.SpanLimits = provider.limits
        self.scope: tuple[str, str, str | None] = (scope.name, scope.version or "", scope.schema_url)
        self.room: int = _room(provider.limits)
        self.roomy: bool = self.room >= 0

    @property
    def instrumentation_info(self) -> InstrumentationInfo:
        """Deprecated in OpenTelemetry; the scope says the same."""
        scope = self.instrumentation_scope
        return InstrumentationInfo(scope.name, scope.version, scope.schema_url)

    def start_fast(  # noqa: PLR0917  positional on purpose: keywords cost on the request path
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
        """A started span, recording or not; `attributes` is called only when a sampler or processor will look.

        What the request path uses. `start_span` is the same with OpenTelemetry's arguments. `root_id` is the trace id of
        a span without parent, where somebody has given the trace one.
        """
        provider = self.provider
        state: TraceState | None = None
        initial: dict[str, Any] | None = None
        if parent is None and provider.keeps_all and not root_id:  # nearly every request that begins a trace
            own, flags, plain = bits(192).to_bytes(24, "big"), SAMPLED | RANDOM, self.roomy
        else:
            plain = False
            sampled: bool | None = None
            if parent is not None:
                own, flags, state = (
                    id_generator.new_child_ids(parent.trace_id),
                    parent.trace_flags & RANDOM,
                    parent.trace_state,
                )
                sampled = bool(parent.trace_flags & SAMPLED)
            elif root_id:
                own, flags = id_generator.new_child_ids(root_id), 0
            else:
                own, flags = id_generator.new_root_ids(), RANDOM
            initial = attributes() if attributes is not None and provider.watched else None
            if provider.decide is not None:
                record = keep = provider.decide(own, sampled)
            else:
                trace_id = int.from_bytes(own[:16], "big")
                decision = provider.sampler.should_sample(context, trace_id, name, kind, initial, links)
                record = decision.decision is not Decision.DROP
                keep = decision.decision is Decision.RECORD_AND_SAMPLE
                state = decision.trace_state or None
                initial = dict(decision.attributes or {})
            flags |= SAMPLED if keep else 0
            if not record:
                return NonRecordingSpan(own, flags, state)
        # Filled in from here: the SDK's constructor exists to forbid spans without a tracer, and a call of a class whose
        # `__new__` and `__init__` are Python costs as much as all of this (tests/bench/span.py).
        span: Span = _new(Span)
        span.tracer = self
        span.title = name
        span.sort = kind
        span.ids = own
        span.flags = flags
        span.start_ns = start_ns
        span.plain = plain
        span.open = True
        if not plain or links:
            _complete(span, parent, state, initial, links)
        if provider.others:
            provider.started(span, context)
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
        """Start a span as OpenTelemetry's API has it; one that cannot be started is not recorded."""
        try:
            return self._started(
                name, context, kind, attributes, links, start_time, (record_exception, set_status_on_exception)
            )
        except Exception as failure:  # noqa: BLE001  ours, or a sampler of somebody's; what is traced goes on
            record_internal_error("tracing.start", failure)
            return trace.INVALID_SPAN

    def _started(
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
            if attributes and not self.provider.watched:
                span.set_attributes(attributes)
            span.on_exit = on_exit
        return span

    start_as_current_span: Callable[..., Any] = start_as_current_span


class Provider(sdk.TracerProvider):
    """The provider of one Telemetry. Thread-safe.

    Args:
        resource: gives who reports; asked for each span, so that a forked child reports as itself.
        sampler: OpenTelemetry's sampler.
        decide: the same decision without asking it, or None when the sampler is not a standard one.
        limits: OpenTelemetry's span limits.
        keeps_all: whether every trace that begins here is recorded.
    """

    def __init__(
        self,
        resource: Callable[[], Resource],
        sampler: Sampler,
        decide: FastSampler | None,
        limits: sdk.SpanLimits,
        keeps_all: bool = False,
    ) -> None:
        super().__init__(sampler=sampler, resource=resource(), shutdown_on_exit=False, span_limits=limits)
        self.limits = limits
        self.decide = decide
        self.others: bool = False
        self.heard: bool = False
        """Whether anybody takes finished spans; where nobody does, what a span would say need not be put together."""
        self.watched: bool = decide is None
        """Whether somebody looks at a span when it starts: a sampler of the user's, or another processor."""
        self.keeps_all: bool = keeps_all
        """Whether a root span is recorded and nobody looks at its start, so that there is nothing to decide."""
        self._current_resource = resource
        self._ours: dict[tuple[Any, ...], Tracer] = {}
        self._export: tuple[Export, ...] = ()
        self.ended: Export = self._to_all
        """Takes a span that has ended."""

    @property
    def resource(self) -> Resource:
        """Who reports, in the calling process."""
        return self._current_resource()

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> Tracer:
        """The tracer of an instrumentation; the same one each time."""
        key = (instrumenting_module_name, instrumenting_library_version, schema_url, str(attributes or ""))
        if (known := self._ours.get(key)) is not None:
            return known
        scope = InstrumentationScope(
            instrumenting_module_name or "", instrumenting_library_version or "", schema_url, attributes
        )
        return self._ours.setdefault(key, Tracer(self, scope))

    def export_to(self, export: Export) -> None:
        """Hand every finished span to `export` too, which looks whether it is sampled and must not block or raise."""
        self._export = (*self._export, export)
        self.heard = True
        self._choose()

    def add_span_processor(self, span_processor: sdk.SpanProcessor) -> None:
        """Add an OpenTelemetry span processor."""
        super().add_span_processor(span_processor)
        self.others = self.heard = self.watched = True
        self.keeps_all = False
        self._choose()

    def started(self, span: Span, context: Context | None) -> None:
        """Tell the processors that users added."""
        self._active_span_processor.on_start(span, parent_context=context)

    def _choose(self) -> None:
        """Where finished spans go: straight to the one who wants them, where there is only one."""
        alone = len(self._export) == 1 and not self.others
        self.ended = self._export[0] if alone else self._to_all

    def _to_all(self, span: Span) -> None:
        """To our exporters and to the processors that users added."""
        for export in self._export:
            export(span)
        if self.others:
            self._active_span_processor.on_end(span._readable_span())  # noqa: SLF001  our own class


def _complete(
    span: Span,
    parent: SpanContext | None,
    state: TraceState | None,
    initial: dict[str, Any] | None,
    links: Sequence[Link],
) -> None:
    """Give a span what it was begun with; what a span has not is said by its class."""
    if parent is not None:
        span.origin = parent
    if state is not None:
        span.state = state
    if initial:
        span.set_attributes(initial)
    if links:
        span.link_to(links)
