"""Tracing of one Telemetry: its tracer provider, and the encoding of ended spans for export."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits

from connectsoft_obs._version import __version__
from connectsoft_obs.export import Chunk, chunks, otlp_request
from connectsoft_obs.internal_telemetry import InternalTelemetry, record_internal_error
from connectsoft_obs.settings import Settings, valid_environment
from connectsoft_obs.signals.tracing import otlp_encoder
from connectsoft_obs.signals.tracing.provider import SAMPLED, Provider, Tracer
from connectsoft_obs.signals.tracing.sampling import create_fast_sampler, create_sampler, is_always_on
from connectsoft_obs.signals.tracing.span import Span
from connectsoft_obs.signals.tracing.span_redaction import SpanRedactor, has_external_data
from connectsoft_obs.vocabulary import SCHEMA_URL, SCOPE, Signal

_item_prefix, _cached_sizes = otlp_request.ITEM_PREFIX, otlp_request.CACHED_SIZES


class Tracing:
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
        self.tracer: Tracer = self.provider.get_tracer(SCOPE, __version__, SCHEMA_URL)

    def export_to(self, put: Callable[[Span], None]) -> None:
        """Also pass each ended span that is sampled to `put`."""

        def export(span: Span) -> None:
            if span.flags & SAMPLED:
                try:
                    put(span)
                except Exception as failure:  # noqa: BLE001  must not raise into the application
                    record_internal_error("tracing.export", failure)

        self.provider.export_to(export)

    def export_to_console(self) -> None:
        """Print each ended span to standard error with the console exporter of the SDK."""
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

        exporter = ConsoleSpanExporter(
            out=sys.stderr, formatter=lambda span: f"{self.redactor.redact_span(span).to_json()}\n"
        )
        self.provider.add_span_processor(SimpleSpanProcessor(exporter))

    def encode(self, spans: Sequence[Span]) -> list[Chunk]:
        """Encode ended spans, grouped by scope; a span that cannot be encoded is counted as dropped."""
        scopes: dict[tuple[str, str, str | None], list[bytes]] = {}
        encode_span, redactor = otlp_encoder.encode_span, self.redactor
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

    def to_readable(self, spans: Sequence[Span]) -> list[ReadableSpan]:
        """Convert ended spans to immutable spans of the SDK without secrets, for its exporters."""
        return [
            self.redactor.redact_span(span.to_readable()) if has_external_data(span) else span.to_readable()
            for span in spans
        ]

    def build_request(self, batch: Sequence[Chunk]) -> bytes:
        """Build an ExportTraceServiceRequest."""
        scopes = chunks.content_by_scope(batch).items()
        parts = chain.from_iterable(
            otlp_request.scope(name, version, schema, content) for (name, version, schema), content in scopes
        )
        return otlp_request.request(self._attributes(), SCHEMA_URL, parts)

    def _resource(self) -> Resource:
        attributes = self._attributes()
        cached_attributes, resource = self._cached_resource
        if attributes is not cached_attributes:
            resource = Resource(dict(attributes), SCHEMA_URL)
            self._cached_resource = (attributes, resource)
        return resource
