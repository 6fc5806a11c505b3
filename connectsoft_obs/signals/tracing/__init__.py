"""Traces: custom span and provider classes that implement the OpenTelemetry interfaces."""

from connectsoft_obs.signals.tracing.external_span import ApiSpan as ApiSpan
from connectsoft_obs.signals.tracing.external_span import ExternalSpan as ExternalSpan
from connectsoft_obs.signals.tracing.external_span import api_span as api_span
from connectsoft_obs.signals.tracing.external_tracer import ExternalTracer as ExternalTracer
from connectsoft_obs.signals.tracing.external_tracer import add_export_processor as add_export_processor
from connectsoft_obs.signals.tracing.external_tracer import find_external_provider as find_external_provider
from connectsoft_obs.signals.tracing.external_tracer import set_current_provider_getter as set_current_provider_getter
from connectsoft_obs.signals.tracing.global_provider import ProxyTracerProvider as ProxyTracerProvider
from connectsoft_obs.signals.tracing.otlp_encoder import encode_common_attributes as encode_common_attributes
from connectsoft_obs.signals.tracing.pipeline import SpanPipeline as SpanPipeline
from connectsoft_obs.signals.tracing.pipeline import class_name as class_name
from connectsoft_obs.signals.tracing.provider import SAMPLED as SAMPLED
from connectsoft_obs.signals.tracing.provider import Provider as Provider
from connectsoft_obs.signals.tracing.provider import Tracer as Tracer
from connectsoft_obs.signals.tracing.span import NonRecordingSpan as NonRecordingSpan
from connectsoft_obs.signals.tracing.span import Span as Span
from connectsoft_obs.signals.tracing.span_data import FLAGS_HEX as FLAGS_HEX
from connectsoft_obs.signals.tracing.span_data import NO_ENCODED_ATTRIBUTES as NO_ENCODED_ATTRIBUTES
from connectsoft_obs.signals.tracing.span_data import EncodedAttributes as EncodedAttributes
from connectsoft_obs.signals.tracing.span_data import FixedAttributes as FixedAttributes
from connectsoft_obs.signals.tracing.span_data import hex_id_bytes as hex_id_bytes
from connectsoft_obs.signals.tracing.span_data import hex_ids as hex_ids
