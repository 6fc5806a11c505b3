"""The OTLP encoding of spans equals that of the official encoder after decoding, for arbitrary spans."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
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
from connectsoft_obs.signals.tracing import Span, Tracing, otlp_encoder
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
attributes = st.dictionaries(text.filter(bool), values, max_size=6)
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

    def redact_span(self, span: sdk.ReadableSpan) -> sdk.ReadableSpan:
        return span

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


@settings(max_examples=400, deadline=None)
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


@settings(max_examples=200, deadline=None)
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
    tracing = Tracing(load_settings({}), dict, InternalTelemetry())
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
    client = {key: value for key, value in client.items() if key not in common}
    own = {key: value for key, value in own.items() if key not in {**common, **client}}
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


def test_request_equals_that_of_the_official_exporter() -> None:
    resource = {"service.name": "a", "process.pid": 7}
    tracing = Tracing(load_settings({}), lambda: resource, InternalTelemetry())
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
