"""The OTLP encoding of spans equals that of the official encoder after decoding, for arbitrary spans."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from connectsoft_obs.asgi.bindings import FIXED_ATTRIBUTES
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.redaction import DEFAULT_POLICY
from connectsoft_obs.settings import load_settings
from connectsoft_obs.signals.tracing import Span, SpanPipeline, otlp_encoder
from connectsoft_obs.signals.tracing.span_redaction import SpanRedactor

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.one_of(
    text, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.binary(max_size=6), st.none()
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text.filter(bool), inner, max_size=3)),
    max_leaves=6,
)
keys = st.one_of(text.filter(bool), st.sampled_from("abcdefg"), st.sampled_from(FIXED_ATTRIBUTES.keys))
attributes = st.dictionaries(keys, values, max_size=6)
limits = st.fixed_dictionaries(
    {},
    optional={
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": st.sampled_from(["0", "1", "3", "33", "36"]),
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": st.sampled_from(["1", "5"]),
        "OTEL_SPAN_EVENT_COUNT_LIMIT": st.sampled_from(["0", "1"]),
        "OTEL_SPAN_LINK_COUNT_LIMIT": st.sampled_from(["0", "1"]),
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": st.sampled_from(["0", "2"]),
        "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": st.sampled_from(["0", "2"]),
    },
)
states = st.sampled_from([None, TraceState([("a", "1"), ("b", "2")])])
contexts = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.builds(TraceFlags, st.integers(0, 3)),
    states,
)
times = st.integers(1, 2**63)
statuses = st.one_of(
    st.builds(Status, st.sampled_from([StatusCode.UNSET, StatusCode.OK])), st.builds(Status, st.just(StatusCode.ERROR), text)
)  # fmt: skip
SCOPE = ("scope", "1.0", "https://schema")


class NoRedaction(SpanRedactor):
    """Arbitrary numbers can be card numbers; here the encoding is compared."""

    def redact(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        return attributes

    def redact_text(self, text: str) -> str:
        return text


UNCHANGED = NoRedaction(DEFAULT_POLICY)


def decode(encoded: bytes) -> Any:
    return Message.FromString(encoded)


def official_encoding(span: sdk.ReadableSpan) -> Any:
    return encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]


def is_same(actual: Any, expected: Any) -> bool:
    """Equal, and NaN equals NaN."""
    return bool(actual == expected or str(actual) == str(expected))


@settings(max_examples=120, deadline=None)
@given(
    name=text,
    context=contexts,
    parent=st.one_of(st.none(), contexts),
    span_attributes=attributes,
    events=st.lists(st.builds(sdk.Event, text, attributes, times), max_size=3),
    links=st.lists(st.builds(Link, contexts, attributes), max_size=3),
    kind=st.sampled_from(list(SpanKind)),
    status=statuses,
    start=times,
    end=times,
)
def test_readable_span_equals_the_official_encoding(
    name: Any,
    context: Any,
    parent: Any,
    span_attributes: Any,
    events: Any,
    links: Any,
    kind: Any,
    status: Any,
    start: Any,
    end: Any,
) -> None:
    span = sdk.ReadableSpan(
        name, context, parent, Resource({}), span_attributes, events, links, kind, None, status, start, end
    )  # fmt: skip
    assert is_same(decode(otlp_encoder.encode_readable(span, UNCHANGED)), official_encoding(span))


@settings(max_examples=60, deadline=None)
@given(
    own=attributes,
    common=attributes,
    client=attributes,
    application_attributes=attributes,
    failed=st.booleans(),
    parent=st.one_of(st.none(), contexts),
    links=st.lists(st.builds(Link, contexts, st.none() | attributes), max_size=3),
    is_modified=st.booleans(),
    is_linked=st.booleans(),
    is_renamed=st.booleans(),
    has_fixed_values=st.booleans(),
    fixed_values=st.none() | st.tuples(text, st.floats(0, 1e6), st.integers(1, 2**40)),
)
def test_span_of_the_tracer_equals_the_official_encoding(
    own: Any, common: Any, client: Any, application_attributes: Any, failed: bool, parent: Any, links: Any,
    is_modified: bool, is_linked: bool, is_renamed: bool, has_fixed_values: bool, fixed_values: Any,
) -> None:  # fmt: skip
    tracing = SpanPipeline(load_settings({}), dict, InternalTelemetry())
    exported: list[Span] = []
    tracing.provider.export_to(exported.append)
    span = tracing.tracer.start_fast("name", SpanKind.SERVER, parent, 1_000, None, None, links)
    if not isinstance(span, Span):
        return  # the parent is not sampled
    if is_modified:
        for key, value in application_attributes.items():
            span.set_attribute(key, value)
        span.add_event("event", {"a": 1}, 1_500)
    if is_linked:
        span.add_link(SpanContext(1, 2, True), {"late": True})
    if is_renamed:
        span.update_name("renamed")
    common = {key: value for key, value in common.items() if key not in FIXED_ATTRIBUTES.keys}
    client = {key: value for key, value in client.items() if key not in {*common, *FIXED_ATTRIBUTES.keys}}
    own = {key: value for key, value in own.items() if key not in {*common, *client, *FIXED_ATTRIBUTES.keys}}
    encoded_common = otlp_encoder.encode_common_attributes(
        common, *(("GET /", SpanKind.SERVER, FIXED_ATTRIBUTES) if has_fixed_values else ())
    )
    span.finish(
        "GET /",
        encoded_common,
        otlp_encoder.encode_common_attributes(client),
        own,
        failed,
        2_000,
        fixed_values if has_fixed_values else None,
    )
    assert is_same(decode(otlp_encoder.encode_span(exported[0], UNCHANGED)), official_encoding(exported[0]))
    assert len(exported[0].links) == len(links) + is_linked


@settings(max_examples=90, deadline=None)
@given(
    limits=limits,
    initial=attributes,
    later=attributes,
    parent=st.one_of(st.none(), contexts),
    links=st.lists(st.builds(Link, contexts, st.none() | attributes), max_size=3),
    late_links=st.lists(st.builds(Link, contexts, attributes), max_size=2),
    events=st.lists(st.tuples(text, st.none() | attributes, times), max_size=3),
    kind=st.sampled_from(list(SpanKind)),
    status=statuses,
    is_operation=st.booleans(),
    common=attributes,
    client=attributes,
    own=attributes,
    fixed_values=st.none() | st.tuples(text, st.floats(0, 1e6), st.integers(1, 2**40)),
)
def test_span_with_data_of_the_application_equals_the_official_encoding(
    limits: Any, initial: Any, later: Any, parent: Any, links: Any, late_links: Any, events: Any, kind: Any, status: Any,
    is_operation: bool, common: Any, client: Any, own: Any, fixed_values: Any,
) -> None:  # fmt: skip
    with patch.dict(os.environ, limits):
        tracing = SpanPipeline(load_settings({}), dict, InternalTelemetry())
    exported: list[Span] = []
    tracing.provider.export_to(exported.append)
    parent_context = None if parent is None else trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())
    span: Any = tracing.tracer.start_span("name", parent_context or Context(), kind, initial, links)
    if not isinstance(span, Span):
        return  # the parent is not sampled
    span.set_attributes(later)
    for event in events:
        span.add_event(*event)
    for link in late_links:
        span.add_link(link.context, link.attributes)
    span.set_status(status)
    if is_operation:
        common = {key: value for key, value in common.items() if key not in FIXED_ATTRIBUTES.keys}
        client = {key: value for key, value in client.items() if key not in {*common, *FIXED_ATTRIBUTES.keys}}
        own = {key: value for key, value in own.items() if key not in {*common, *client, *FIXED_ATTRIBUTES.keys}}
        encoded = otlp_encoder.encode_common_attributes(common, "GET /", kind, FIXED_ATTRIBUTES)
        encoded_client = otlp_encoder.encode_common_attributes(client)
        span.finish("GET /", encoded, encoded_client, own, False, 2_000, fixed_values)
    else:
        span.end()
    expected = official_encoding(exported[0].to_readable())
    assert is_same(decode(otlp_encoder.encode_span(exported[0], UNCHANGED)), expected)
    assert is_same(decode(otlp_encoder.encode_readable(exported[0], UNCHANGED)), expected)


def test_request_equals_that_of_the_official_exporter() -> None:
    resource = {"service.name": "a", "process.pid": 7}
    tracing = SpanPipeline(load_settings({}), lambda: resource, InternalTelemetry())
    spans: list[Span] = []
    readable: list[sdk.ReadableSpan] = []
    tracing.export_to(spans.append)
    tracing.provider.export_to(lambda span: readable.append(span._readable_span()))
    for scope in ("one", "two", "one"):
        tracing.provider.get_tracer(scope, "1.0", "https://schema").start_span(scope).end()
    actual = ExportTraceServiceRequest.FromString(tracing.build_request(tracing.encode(spans)))
    assert is_same(actual, encode_spans(readable))


def test_invalid_characters_are_replaced() -> None:
    span = sdk.ReadableSpan(
        "a\ud800", SpanContext(1, 2, False), attributes={"k\ud800": "v\udfff"}, resource=Resource({})
    )
    message = decode(otlp_encoder.encode_readable(span, UNCHANGED))
    assert message.name == "a?"
    assert message.attributes[0].value.string_value == "v?"


def test_integers_beyond_64_bits_are_encoded_as_text() -> None:
    span = sdk.ReadableSpan("a", SpanContext(1, 2, False), attributes={"k": 2**70}, resource=Resource({}))
    assert decode(otlp_encoder.encode_readable(span, UNCHANGED)).attributes[0].value.string_value == str(2**70)
