"""Our span and the SDK's, side by side: the same calls leave the same span."""

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
from connectsoft_obs.signals.tracing.sampling import fast_sampler, sampler

RESOURCE = Resource({"service.name": "contract"})


def ours(limits: sdk.SpanLimits | None = None) -> tuple[Provider, InMemorySpanExporter]:
    settings_ = load_settings({})
    provider = Provider(lambda: RESOURCE, sampler(settings_), fast_sampler(settings_), limits or sdk.SpanLimits())
    return provider, _exporting(provider)


def theirs(limits: sdk.SpanLimits | None = None) -> tuple[sdk.TracerProvider, InMemorySpanExporter]:
    provider = sdk.TracerProvider(resource=RESOURCE, span_limits=limits, shutdown_on_exit=False)
    return provider, _exporting(provider)


def _exporting(provider: sdk.TracerProvider) -> InMemorySpanExporter:
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


def shown(span: sdk.ReadableSpan) -> dict[str, Any]:
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
    steps=calls,
    start=attributes,
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
def test_the_same_calls_leave_the_same_span(steps: list[Call], start: Any, kind: SpanKind, limits: Any) -> None:
    found = []
    for make in (ours, theirs):
        provider, exporter = make(sdk.SpanLimits(**limits))
        span = provider.get_tracer("scope", "1.0").start_span("name", kind=kind, attributes=start, start_time=1_000)
        answers = [step(span) for step in steps]
        span.end(3_000)
        [finished] = exporter.get_finished_spans()
        found.append((shown(finished), [str(answer) for answer in answers]))
    assert found[0] == found[1]


@pytest.mark.parametrize("make", [ours, theirs])
def test_context_managers_record_exceptions_alike(make: Any) -> None:
    provider, exporter = make()
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


@pytest.mark.parametrize("make", [ours, theirs])
def test_start_as_current_span_nests_and_decorates(make: Any) -> None:
    provider, exporter = make()
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


def test_it_is_an_sdk_span_to_whoever_asks() -> None:
    provider, _ = ours()
    span = provider.get_tracer("scope").start_span("name")
    assert isinstance(span, sdk.Span)
    assert isinstance(span, sdk.ReadableSpan)
    assert json.loads(span.to_json())["name"] == "name"
    for name in dir(sdk.ReadableSpan):
        if not name.startswith("_") and name != "instrumentation_info":  # deprecated, and says so
            value = getattr(span, name)
            if callable(value) and name == "get_span_context":
                assert value().is_valid


def test_every_public_member_of_the_sdks_span_is_our_own() -> None:
    """The SDK's members read private attributes that ours does not have."""
    inherited = [
        name
        for name in dir(sdk.Span)
        if not name.startswith("_") and getattr(Span, name, None) is getattr(sdk.Span, name, None)
    ]
    assert inherited == ["start"], "`start` is called by the SDK's tracer alone"


def test_processors_see_it_start_and_end() -> None:
    events: list[tuple[str, str, Any]] = []

    class Own(sdk.SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            span.set_attribute("added", True)
            events.append(("start", span.name, dict(span.attributes)))

        def on_end(self, span: sdk.ReadableSpan) -> None:
            events.append(("end", span.name, dict(span.attributes or {})))

    provider, _ = ours()
    provider.add_span_processor(Own())
    provider.get_tracer("scope").start_span("name", attributes={"a": 1}).end()
    assert events == [("start", "name", {"a": 1, "added": True}), ("end", "name", {"a": 1, "added": True})]


@pytest.mark.parametrize("name", ["always_on", "always_off", "traceidratio"])
@pytest.mark.parametrize("based", [True, False])
@given(
    trace_id=st.integers(1, 2**128 - 1),
    parent=st.sampled_from([None, True, False]),
    share=st.sampled_from(["0", "0.1", "0.5", "1"]),
)
def test_the_shortcut_decides_as_the_sampler_does(
    name: str, based: bool, trace_id: int, parent: bool | None, share: str
) -> None:
    full = f"parentbased_{name}" if based else name
    chosen = load_settings({"OTEL_TRACES_SAMPLER": full, "OTEL_TRACES_SAMPLER_ARG": share})
    context = None
    if parent is not None:
        above = SpanContext(trace_id, 1, True, TraceFlags(int(parent)))
        context = trace.set_span_in_context(trace.NonRecordingSpan(above))
    decision = sampler(chosen).should_sample(context, trace_id, "n").decision
    ids = trace_id.to_bytes(16, "big") + bytes(8)
    assert fast_sampler(chosen)(ids, parent) == decision.is_sampled()  # type: ignore[no-untyped-call]


def test_samplers_are_the_ones_the_variable_names() -> None:
    def made(name: str) -> Any:
        return sampler(load_settings({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": "0.25"}))

    assert made("always_on") is ALWAYS_ON
    assert made("always_off") is ALWAYS_OFF
    assert isinstance(made("traceidratio"), TraceIdRatioBased)
    assert isinstance(made("parentbased_traceidratio"), ParentBased)


def test_the_applications_random_numbers_are_left_alone() -> None:
    random.seed(7)
    expected = [random.random() for _ in range(3)]
    random.seed(7)
    provider, _ = ours()
    found = []
    for _ in range(3):
        provider.get_tracer("scope").start_span("name").end()
        found.append(random.random())
    assert found == expected


def test_links_given_at_the_start_are_kept() -> None:
    provider, exporter = ours()
    provider.get_tracer("scope").start_span("name", links=[Link(CONTEXT, {"a": 1})]).end()
    [span] = exporter.get_finished_spans()
    assert [(link.context, dict(link.attributes or {})) for link in span.links] == [(CONTEXT, {"a": 1})]
