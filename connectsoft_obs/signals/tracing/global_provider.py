"""The global OpenTelemetry tracer provider, set once. It resolves the current Telemetry when a span starts.

Therefore a tracer that a module obtained at import follows `configure()`, `capture()` and forks.
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
from connectsoft_obs.signals.tracing.span_context_manager import start_as_current_span

GetProvider = Callable[[], sdk.TracerProvider | None]


class ProxyTracer(trace.Tracer):
    """A tracer that starts spans with the current provider."""

    def __init__(self, current: GetProvider, arguments: tuple[Any, ...]) -> None:
        self._get_provider = current
        self._arguments = arguments
        self._cached: tuple[sdk.TracerProvider | None, trace.Tracer] = (None, trace.NoOpTracer())

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
        except Exception as failure:  # noqa: BLE001  must not raise into the application
            record_internal_error("tracing.start", failure)
            return trace.INVALID_SPAN
        return tracer.start_span(
            name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )

    def _tracer(self) -> trace.Tracer:
        provider = self._get_provider()
        cached_provider, tracer = self._cached
        if provider is not cached_provider:
            tracer = trace.NoOpTracer() if provider is None else provider.get_tracer(*self._arguments)
            self._cached = (provider, tracer)
        return tracer

    start_as_current_span: Callable[..., Any] = start_as_current_span


class ProxyTracerProvider(sdk.TracerProvider):
    """Returned by `trace.get_tracer_provider()`. A subclass of the SDK's provider, so that libraries can add processors."""

    def __init__(self, current: GetProvider) -> None:
        super().__init__(shutdown_on_exit=False, resource=Resource.get_empty())
        self._get_provider = current

    @property
    def resource(self) -> Resource:
        """Resource of the current provider."""
        provider = self._get_provider()
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
        return ProxyTracer(self._get_provider, arguments)

    def add_span_processor(self, span_processor: sdk.SpanProcessor) -> None:
        """Add a processor to the current provider."""
        if (provider := self._get_provider()) is not None:
            provider.add_span_processor(span_processor)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the current provider."""
        provider = self._get_provider()
        return True if provider is None else provider.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Shut the current provider's added processors down."""
        if (provider := self._get_provider()) is not None:
            provider.shutdown()
