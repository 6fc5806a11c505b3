"""Span pipeline of one Telemetry: its tracer provider, and the encoding of ended spans for export."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.trace import TracerProvider

from connectsoft_obs._version import __version__
from connectsoft_obs.export import Chunk, chunks, otlp_request
from connectsoft_obs.internal_telemetry import InternalTelemetry, record_internal_error
from connectsoft_obs.process.terminal import is_terminal
from connectsoft_obs.settings import Settings, valid_environment
from connectsoft_obs.signals.tracing import otlp_encoder
from connectsoft_obs.signals.tracing.external_span import EndedSpan
from connectsoft_obs.signals.tracing.external_tracer import (
    ExternalTracer,
    add_export_processor,
    find_external_provider,
    is_first_report,
)
from connectsoft_obs.signals.tracing.provider import SAMPLED, Provider, Tracer
from connectsoft_obs.signals.tracing.sampling import create_fast_sampler, create_sampler, is_always_on
from connectsoft_obs.signals.tracing.span import Span
from connectsoft_obs.signals.tracing.span_redaction import SpanRedactor, has_external_data
from connectsoft_obs.signals.tracing.trace_tree import TraceTreePrinter
from connectsoft_obs.vocabulary import SCHEMA_URL, SCOPE, Signal

_item_prefix, _cached_sizes = otlp_request.ITEM_PREFIX, otlp_request.CACHED_SIZES


class SpanPipeline:
    """Creates the tracer provider and encodes ended spans. Thread-safe.

    Args:
        settings: sampler settings.
        attributes: returns the resource attributes of the calling process.
        internal_telemetry: counts and logs internal errors.
    """

    def __init__(
        self, settings: Settings, attributes: Callable[[], Mapping[str, Any]], internal_telemetry: InternalTelemetry
    ) -> None:
        self._attributes = attributes
        self._internal_telemetry = internal_telemetry
        self._cached_resource: tuple[Mapping[str, Any] | None, Resource] = (None, Resource.get_empty())
        self.redactor: SpanRedactor = SpanRedactor(settings.redaction_policy(), frozenset(settings.url_query_allowlist))
        custom_sampler = settings.sampler
        with valid_environment():
            limits = SpanLimits()
        self.provider: Provider = Provider(
            self._resource,
            custom_sampler or create_sampler(settings),
            None if custom_sampler is not None else create_fast_sampler(settings),
            limits,
            custom_sampler is None and is_always_on(settings),
        )
        tracer = self.provider.get_tracer(SCOPE, __version__, SCHEMA_URL)
        self.tracer: Tracer | ExternalTracer = tracer
        self.external_provider: TracerProvider | None = find_external_provider()
        """The global tracer provider if the application has set it before; it creates the spans."""
        if self.external_provider is not None:
            self.provider.pass_on_external_spans()
            self.tracer = ExternalTracer(tracer, self.external_provider)
            self._is_exported = add_export_processor(self.external_provider)

    def export_to(self, put: Callable[[Span], None]) -> None:
        """Also pass each ended span that is sampled to `put`."""

        def export(span: Span) -> None:
            if span.flags & SAMPLED:
                try:
                    put(span)
                except Exception as failure:  # noqa: BLE001  must not raise into the application
                    record_internal_error("tracing.export", failure)

        self.provider.export_to(export)
        external = self.external_provider
        if external is not None and not self._is_exported and is_first_report(external):
            self._internal_telemetry.warn_once(
                ("tracing.external", "export"),
                "spans cannot be exported: the tracer provider that the application has set takes no span processors; "
                "export them with that provider, or do not set it",
                {"provider": class_name(external)},
            )

    def export_to_console(self, log_profile: str | None) -> None:
        """Print ended spans to standard error.

        As with log lines, they are trees for people on a terminal or with the profile `console`, else JSON objects of the
        SDK's exporter.
        """
        if log_profile == "console" or (log_profile is None and is_terminal(sys.stderr)):
            self.provider.add_span_processor(TraceTreePrinter(self.redactor.redact_span))
            return
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

        exporter = ConsoleSpanExporter(
            out=sys.stderr, formatter=lambda span: f"{self.redactor.redact_span(span).to_json()}\n"
        )
        self.provider.add_span_processor(SimpleSpanProcessor(exporter))

    def encode(self, spans: Sequence[Span]) -> list[Chunk]:
        """Encode ended spans, grouped by scope; a span that cannot be encoded is counted as dropped."""
        scopes: dict[tuple[str, str, str | None], list[bytes]] = {}
        encode_span = otlp_encoder.encode_span if self.external_provider is None else _encode_any_span
        redactor = self.redactor
        for span in spans:
            try:
                encoded = encode_span(span, redactor)
                size = len(encoded)
                prefix = _item_prefix[size] if size < _cached_sizes else otlp_request.item_prefix(size)
            except Exception as error:  # noqa: BLE001  the other spans are still exported
                self._internal_telemetry.record_error("tracing.encode", error)
                self._internal_telemetry.count_dropped(Signal.TRACES, "internal_error")
                continue
            scope = span.tracer.scope
            parts = scopes.get(scope)
            if parts is None:
                parts = scopes[scope] = []
            parts.append(prefix)
            parts.append(encoded)
        return [Chunk(scope, len(parts) // 2, b"".join(parts)) for scope, parts in scopes.items()]

    def to_readable(self, spans: Sequence[Span | EndedSpan]) -> list[ReadableSpan]:
        """Convert ended spans to immutable spans of the SDK without secrets, for its exporters."""
        return [
            self.redactor.redact_span(span.to_readable())
            if isinstance(span, EndedSpan) or has_external_data(span)
            else span.to_readable()
            for span in spans
        ]

    def build_request(self, batch: Sequence[Chunk]) -> bytes:
        """Build an ExportTraceServiceRequest."""
        scopes = chunks.content_by_scope(batch).items()
        parts = chain.from_iterable(
            otlp_request.scope(name, version, schema, content) for (name, version, schema), content in scopes
        )
        return otlp_request.request(self._resource_attributes(), SCHEMA_URL, parts)

    def _resource_attributes(self) -> Mapping[str, Any]:
        """Resource attributes of exported spans: those of an external provider, and others of this process."""
        own = self._attributes()
        resource = getattr(self.external_provider, "resource", None)
        if not isinstance(resource, Resource):
            return own
        external = dict(resource.attributes)
        if str(external.get(SERVICE_NAME, "")).startswith("unknown_service"):  # the default of the SDK
            del external[SERVICE_NAME]
        return {**own, **external}

    def _resource(self) -> Resource:
        attributes = self._attributes()
        cached_attributes, resource = self._cached_resource
        if attributes is not cached_attributes:
            resource = Resource(dict(attributes), SCHEMA_URL)
            self._cached_resource = (attributes, resource)
        return resource


def class_name(value: object) -> str:
    """Qualified name of the class of a provider, for log lines."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _encode_any_span(span: Span | EndedSpan, redactor: SpanRedactor) -> bytes:
    if isinstance(span, EndedSpan):
        return otlp_encoder.encode_readable(span.readable, redactor)
    return otlp_encoder.encode_span(span, redactor)
