"""Our OTLP encoding of spans equals the official one after decoding, for everything that can be built."""

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
from connectsoft_obs.settings import load_settings
from connectsoft_obs.signals.tracing import Span, Tracing, otlp_encoder

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


def decoded(encoded: bytes) -> Any:
    return Message.FromString(encoded)


def official(span: sdk.ReadableSpan) -> Any:
    return encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]


def same(one: Any, other: Any) -> bool:
    """Equal, and NaN equals NaN."""
    return bool(one == other or str(one) == str(other))


@settings(max_examples=400, deadline=None)
@given(
    name=text,
    context=contexts,
    parent=st.one_of(st.none(), contexts),
    given_=attributes,
    events=st.lists(st.builds(sdk.Event, text, attributes, times), max_size=3),
    links=st.lists(st.builds(Link, contexts, attributes), max_size=3),
    kind=st.sampled_from(list(SpanKind)),
    status=statuses,
    start=times,
    end=times,
)
def test_any_readable_span(
    name: Any,
    context: Any,
    parent: Any,
    given_: Any,
    events: Any,
    links: Any,
    kind: Any,
    status: Any,
    start: Any,
    end: Any,
) -> None:
    span = sdk.ReadableSpan(
        name, context, parent, Resource({}), given_, events, links, kind, None, status, start, end
    )  # fmt: skip
    assert same(decoded(otlp_encoder.encode_readable(span)), official(span))


@settings(max_examples=200, deadline=None)
@given(
    own=attributes,
    common=attributes,
    around=attributes,
    user=attributes,
    failed=st.booleans(),
    parent=st.one_of(st.none(), contexts),
    links=st.lists(st.builds(Link, contexts, st.none() | attributes), max_size=3),
    touched=st.booleans(),
    linked=st.booleans(),
    renamed=st.booleans(),
    named=st.booleans(),
    row=st.none() | st.tuples(text, st.floats(0, 1e6), st.integers(1, 2**40)),
)
def test_any_span_of_ours(
    own: Any, common: Any, around: Any, user: Any, failed: bool, parent: Any, links: Any, touched: bool, linked: bool,
    renamed: bool, named: bool, row: Any,
) -> None:  # fmt: skip
    tracing = Tracing(load_settings({}), dict, InternalTelemetry())
    kept: list[Span] = []
    tracing.provider.export_to(kept.append)
    span = tracing.tracer.start_fast("name", SpanKind.SERVER, parent, 1_000, None, None, links)
    if not isinstance(span, Span):
        return  # the parent is not sampled
    if touched:
        for key, value in user.items():
            span.set_attribute(key, value)
        span.add_event("event", {"a": 1}, 1_500)
    if linked:
        span.add_link(SpanContext(1, 2, True), {"late": True})
    if renamed:
        span.update_name("renamed")
    around = {key: value for key, value in around.items() if key not in common}
    own = {key: value for key, value in own.items() if key not in {**common, **around}}
    of_kind = otlp_encoder.encode_common_attributes(
        common, *(("GET /", SpanKind.SERVER, FIXED_ATTRIBUTES) if named else ())
    )
    span.finish(
        "GET /", of_kind, otlp_encoder.encode_common_attributes(around), own, failed, 2_000, row if named else None
    )
    assert same(decoded(otlp_encoder.encode_span(kept[0])), official(kept[0]))
    assert len(kept[0].links) == len(links) + linked


def test_a_request_is_what_the_official_exporter_sends() -> None:
    resource = {"service.name": "a", "process.pid": 7}
    tracing = Tracing(load_settings({}), lambda: resource, InternalTelemetry())
    spans: list[Span] = []
    readable: list[sdk.ReadableSpan] = []
    tracing.export_to(spans.append)
    tracing.provider.export_to(lambda span: readable.append(span._readable_span()))
    for scope in ("one", "two", "one"):
        tracing.provider.get_tracer(scope, "1.0", "https://schema").start_span(scope).end()
    mine = ExportTraceServiceRequest.FromString(tracing.build_request(tracing.encode(spans)))
    assert same(mine, encode_spans(readable))


def test_an_invalid_character_does_not_spoil_the_batch() -> None:
    span = sdk.ReadableSpan(
        "a\ud800", SpanContext(1, 2, False), attributes={"k\ud800": "v\udfff"}, resource=Resource({})
    )
    message = decoded(otlp_encoder.encode_readable(span))
    assert message.name == "a?"
    assert message.attributes[0].value.string_value == "v?"


def test_a_number_too_large_for_the_wire_is_text() -> None:
    span = sdk.ReadableSpan("a", SpanContext(1, 2, False), attributes={"k": 2**70}, resource=Resource({}))
    assert decoded(otlp_encoder.encode_readable(span)).attributes[0].value.string_value == str(2**70)
