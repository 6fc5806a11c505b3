"""Spans of the provider compared with those of the SDK: the same calls give the same span."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from connectsoft_obs.settings import load_settings
from connectsoft_obs.signals.tracing import Provider, Span
from connectsoft_obs.signals.tracing.sampling import create_fast_sampler, create_sampler

RESOURCE = Resource({"service.name": "contract"})


def create_provider(limits: sdk.SpanLimits | None = None) -> tuple[Provider, InMemorySpanExporter]:
    settings_ = load_settings({})
    provider = Provider(
        lambda: RESOURCE, create_sampler(settings_), create_fast_sampler(settings_), limits or sdk.SpanLimits()
    )
    return provider, _add_exporter(provider)


def create_sdk_provider(limits: sdk.SpanLimits | None = None) -> tuple[sdk.TracerProvider, InMemorySpanExporter]:
    provider = sdk.TracerProvider(resource=RESOURCE, span_limits=limits, shutdown_on_exit=False)
    return provider, _add_exporter(provider)


def _add_exporter(provider: sdk.TracerProvider) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


CONTEXT = SpanContext(0xABC, 0xDEF, True, TraceFlags(1))
values = st.one_of(
    st.text(max_size=20),
    st.booleans(),
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False),
    st.binary(max_size=5),
    st.none(),
    st.lists(st.text(max_size=4), max_size=3),
    st.dictionaries(st.text(min_size=1, max_size=4), st.integers(0, 9), max_size=2),
)
keys = st.text(max_size=6)
attributes = st.dictionaries(keys, values, max_size=5)

Call = Callable[[Any], Any]
calls = st.lists(
    st.one_of(
        st.builds(lambda k, v: lambda span: span.set_attribute(k, v), keys, values),
        st.builds(lambda a: lambda span: span.set_attributes(a), attributes),
        st.builds(lambda n, a, t: lambda span: span.add_event(n, a, t), keys, attributes, st.integers(1, 10**18)),
        st.builds(lambda a: lambda span: span.add_link(CONTEXT, a), attributes),
        st.builds(lambda a: lambda span: span.add_link(trace.INVALID_SPAN_CONTEXT, a), attributes),
        st.builds(lambda n: lambda span: span.update_name(n), keys),
        st.builds(
            lambda c, d: lambda span: span.set_status(Status(c, d if c is StatusCode.ERROR else None)),
            st.sampled_from(list(StatusCode)),
            st.text(max_size=5),
        ),
        st.builds(lambda c: lambda span: span.set_status(c, "why"), st.sampled_from([StatusCode.ERROR, StatusCode.OK])),
        st.just(lambda span: span.end(2_000)),
        st.just(lambda span: span.is_recording()),
    ),
    max_size=12,
)


def as_dict(span: sdk.ReadableSpan) -> dict[str, Any]:
    return {
        "name": span.name,
        "kind": span.kind,
        "times": (span.start_time, span.end_time),
        "attributes": dict(span.attributes or {}),
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "events": [(event.name, dict(event.attributes or {}), event.timestamp) for event in span.events],
        "links": [(link.context, dict(link.attributes or {})) for link in span.links],
        "status": (span.status.status_code, span.status.description),
        "parent": span.parent,
        "resource": span.resource,
        "scope": span.instrumentation_scope,
    }


@settings(max_examples=300, deadline=None)
@given(
    span_calls=calls,
    initial_attributes=attributes,
    kind=st.sampled_from(list(SpanKind)),
    limits=st.sampled_from(
        [
            {},
            {"max_span_attributes": 3, "max_events": 2, "max_links": 1},
            {"max_span_attribute_length": 4, "max_attribute_length": 3, "max_event_attributes": 2},
            {"max_span_attributes": 0},
        ]
    ),
)
@pytest.mark.filterwarnings("ignore")
def test_same_calls_give_the_same_span_as_the_sdk(
    span_calls: list[Call], initial_attributes: Any, kind: SpanKind, limits: Any
) -> None:
    results = []
    for create in (create_provider, create_sdk_provider):
        provider, exporter = create(sdk.SpanLimits(**limits))
        span = provider.get_tracer("scope", "1.0").start_span(
            "name", kind=kind, attributes=initial_attributes, start_time=1_000
        )
        returned = [call(span) for call in span_calls]
        span.end(3_000)
        [finished] = exporter.get_finished_spans()
        results.append((as_dict(finished), [str(value) for value in returned]))
    assert results[0] == results[1]


@pytest.mark.parametrize("create", [create_provider, create_sdk_provider])
def test_context_managers_record_exceptions(create: Any) -> None:
    provider, exporter = create()
    tracer = provider.get_tracer("scope")
    with pytest.raises(ValueError, match="broken"), tracer.start_as_current_span("outer"), tracer.start_span("inner"):
        raise ValueError("broken")
    for span in exporter.get_finished_spans():
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "ValueError: broken"
        [event] = span.events
        assert event.name == "exception"
        recorded = dict(event.attributes or {})
        assert (recorded["exception.type"], recorded["exception.message"]) == ("ValueError", "broken")
        assert "test_context_managers" in str(recorded["exception.stacktrace"])


@pytest.mark.parametrize("create", [create_provider, create_sdk_provider])
def test_start_as_current_span_works_as_block_and_decorator(create: Any) -> None:
    provider, exporter = create()
    tracer: trace.Tracer = provider.get_tracer("scope")

    @tracer.start_as_current_span("decorated")
    def work() -> int:
        with tracer.start_as_current_span("child"):
            return 7

    assert work() == 7
    child, parent = exporter.get_finished_spans()
    assert child.parent is not None
    assert child.parent.span_id == parent.get_span_context().span_id
    assert child.get_span_context().trace_id == parent.get_span_context().trace_id


def test_span_is_an_instance_of_the_sdk_classes() -> None:
    provider, _ = create_provider()
    span = provider.get_tracer("scope").start_span("name")
    assert isinstance(span, sdk.Span)
    assert isinstance(span, sdk.ReadableSpan)
    assert json.loads(span.to_json())["name"] == "name"
    for name in dir(sdk.ReadableSpan):
        if not name.startswith("_") and name != "instrumentation_info":  # deprecated, and warns
            value = getattr(span, name)
            if callable(value) and name == "get_span_context":
                assert value().is_valid


def test_every_public_member_of_the_sdk_span_is_overridden() -> None:
    """The members of the SDK read private attributes that this span does not have."""
    inherited = [
        name
        for name in dir(sdk.Span)
        if not name.startswith("_") and getattr(Span, name, None) is getattr(sdk.Span, name, None)
    ]
    assert inherited == ["start"], "only `start` may be inherited: it is called by the tracer of the SDK only"


def test_span_processors_are_called_at_start_and_end() -> None:
    events: list[tuple[str, str, Any]] = []

    class RecordingProcessor(sdk.SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            span.set_attribute("added", True)
            events.append(("start", span.name, dict(span.attributes)))

        def on_end(self, span: sdk.ReadableSpan) -> None:
            events.append(("end", span.name, dict(span.attributes or {})))

    provider, _ = create_provider()
    provider.add_span_processor(RecordingProcessor())
    provider.get_tracer("scope").start_span("name", attributes={"a": 1}).end()
    assert events == [("start", "name", {"a": 1, "added": True}), ("end", "name", {"a": 1, "added": True})]


@pytest.mark.parametrize("name", ["always_on", "always_off", "traceidratio"])
@pytest.mark.parametrize("parent_based", [True, False])
@given(
    trace_id=st.integers(1, 2**128 - 1),
    parent_sampled=st.sampled_from([None, True, False]),
    ratio=st.sampled_from(["0", "0.1", "0.5", "1"]),
)
def test_fast_sampler_decides_as_the_sampler(
    name: str, parent_based: bool, trace_id: int, parent_sampled: bool | None, ratio: str
) -> None:
    sampler_name = f"parentbased_{name}" if parent_based else name
    sampler_settings = load_settings({"OTEL_TRACES_SAMPLER": sampler_name, "OTEL_TRACES_SAMPLER_ARG": ratio})
    context = None
    if parent_sampled is not None:
        parent = SpanContext(trace_id, 1, True, TraceFlags(int(parent_sampled)))
        context = trace.set_span_in_context(trace.NonRecordingSpan(parent))
    decision = create_sampler(sampler_settings).should_sample(context, trace_id, "n").decision
    ids = trace_id.to_bytes(16, "big") + bytes(8)
    assert create_fast_sampler(sampler_settings)(ids, parent_sampled) == decision.is_sampled()  # type: ignore[no-untyped-call]


def test_sampler_variable_selects_the_sampler() -> None:
    def sampler_named(name: str) -> Any:
        return create_sampler(load_settings({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": "0.25"}))

    assert sampler_named("always_on") is ALWAYS_ON
    assert sampler_named("always_off") is ALWAYS_OFF
    assert isinstance(sampler_named("traceidratio"), TraceIdRatioBased)
    assert isinstance(sampler_named("parentbased_traceidratio"), ParentBased)


def test_starting_spans_does_not_advance_the_random_module() -> None:
    random.seed(7)
    expected = [random.random() for _ in range(3)]
    random.seed(7)
    provider, _ = create_provider()
    numbers = []
    for _ in range(3):
        provider.get_tracer("scope").start_span("name").end()
        numbers.append(random.random())
    assert numbers == expected


def test_links_passed_at_the_start_are_exported() -> None:
    provider, exporter = create_provider()
    provider.get_tracer("scope").start_span("name", links=[Link(CONTEXT, {"a": 1})]).end()
    [span] = exporter.get_finished_spans()
    assert [(link.context, dict(link.attributes or {})) for link in span.links] == [(CONTEXT, {"a": 1})]
