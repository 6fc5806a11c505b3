"""OpenTelemetry's global tracer provider, set once: it asks which Telemetry is current each time a span starts.

So a tracer that a module took at import follows `configure()`, `capture()` and a fork.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import Link, SpanKind

from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.signals.tracing.current_span import start_as_current_span

Current = Callable[[], sdk.TracerProvider | None]


class ProxyTracer(trace.Tracer):
    """A tracer that starts its spans with whatever provider is current."""

    def __init__(self, current: Current, arguments: tuple[Any, ...]) -> None:
        self._current = current
        self._arguments = arguments
        self._known: tuple[sdk.TracerProvider | None, trace.Tracer] = (None, trace.NoOpTracer())

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
        """Start a span with the current provider."""
        try:
            tracer = self._tracer()
        except Exception as failure:  # noqa: BLE001  ours; what is traced goes on
            record_internal_error("tracing.start", failure)
            return trace.INVALID_SPAN
        return tracer.start_span(
            name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )

    def _tracer(self) -> trace.Tracer:
        provider = self._current()
        known, tracer = self._known
        if provider is not known:
            tracer = trace.NoOpTracer() if provider is None else provider.get_tracer(*self._arguments)
            self._known = (provider, tracer)
        return tracer

    start_as_current_span: Callable[..., Any] = start_as_current_span


class ProxyTracerProvider(sdk.TracerProvider):
    """What `trace.get_tracer_provider()` returns. An SDK provider to whoever asks, so that libraries can add to it."""

    def __init__(self, current: Current) -> None:
        super().__init__(shutdown_on_exit=False, resource=Resource.get_empty())
        self._current = current

    @property
    def resource(self) -> Resource:
        """Resource of the current provider."""
        provider = self._current()
        return super().resource if provider is None else provider.resource

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> trace.Tracer:
        """A tracer that resolves the provider when it starts a span."""
        arguments = (instrumenting_module_name, instrumenting_library_version, schema_url, attributes)
        return ProxyTracer(self._current, arguments)

    def add_span_processor(self, span_processor: sdk.SpanProcessor) -> None:
        """Add a processor to the current provider."""
        if (provider := self._current()) is not None:
            provider.add_span_processor(span_processor)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the current provider."""
        provider = self._current()
        return True if provider is None else provider.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Shut the current provider's added processors down."""
        if (provider := self._current()) is not None:
            provider.shutdown()
