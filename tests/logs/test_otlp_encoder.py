"""Our OTLP encoding of log records equals the official one after decoding, for everything that a line can hold."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord as Message
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from connectsoft_obs.export import chunks, otlp_request
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs import otlp_encoder
from connectsoft_obs.signals.logs.levels import SEVERITY_NUMBER, SEVERITY_TEXT, standard
from connectsoft_obs.signals.logs.sanitizer import Sanitizer

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.one_of(text, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.none())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text.filter(bool), inner, max_size=3)),
    max_leaves=6,
)
attributes = st.dictionaries(text.filter(bool), values, max_size=6)
ids = st.none() | st.tuples(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 3))
levels = st.sampled_from([1, 10, 15, 20, 30, 40, 45, 50, 60])
RESOURCE: dict[str, str | int] = {"service.name": "orders", "process.pid": 7}


def hexed(found: tuple[int, int, int] | None) -> tuple[str, str, str] | None:
    return None if found is None else (f"{found[0]:032x}", f"{found[1]:016x}", f"{found[2]:02x}")


def official(now: int, level: int, message: str, logger: str, found: Any, given_: dict[str, Any], event: Any) -> Any:
    context = Context()
    if found is not None:
        span = SpanContext(found[0], found[1], False, TraceFlags(found[2]))
        context = trace.set_span_in_context(NonRecordingSpan(span))
    made = LogRecord(
        timestamp=now,
        observed_timestamp=now,
        context=context or trace.set_span_in_context(trace.INVALID_SPAN),
        severity_text=SEVERITY_TEXT[standard(level)],
        severity_number=SeverityNumber(SEVERITY_NUMBER[standard(level)]),
        body=message,
        attributes=given_,
        event_name=event,
    )
    return ReadableLogRecord(made, Resource(RESOURCE), InstrumentationScope(logger))


def same(one: Any, other: Any) -> bool:
    """Equal, and NaN equals NaN."""
    return bool(one == other or str(one) == str(other))


@settings(max_examples=300)
@given(
    now=st.integers(1, 2**63),
    level=levels,
    message=text,
    found=ids,
    given_=attributes,
    event=st.none() | text.filter(bool),
)
def test_any_record(now: int, level: int, message: str, found: Any, given_: dict[str, Any], event: str | None) -> None:
    cleaned = dict(given_)
    Sanitizer(Settings(), lambda _: None).fields(cleaned)
    named = {**cleaned, "otel.event.name": event} if event else cleaned
    ours = Message.FromString(otlp_encoder.record(now, level, message, hexed(found), named))
    theirs = encode_logs([official(now, level, message, "", found, cleaned, event)])
    expected = theirs.resource_logs[0].scope_logs[0].log_records[0]
    assert same(ours, expected)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["", "orders", "uvicorn.error"]), text), min_size=1, max_size=8))
def test_any_request(said: list[tuple[str, str]]) -> None:
    items = [(logger, otlp_request.item(otlp_encoder.record(5, 20, message, None, {}))) for logger, message in said]
    ours = ExportLogsServiceRequest.FromString(otlp_encoder.pack(chunks.by_scope(items), RESOURCE))
    theirs = encode_logs([official(5, 20, message, logger, None, {}, None) for logger, message in said])

    def by_scope(request: Any) -> dict[str, list[Any]]:
        return {scope.scope.name: list(scope.log_records) for scope in request.resource_logs[0].scope_logs}

    assert by_scope(ours) == by_scope(theirs)
    [one], [other] = ours.resource_logs, theirs.resource_logs
    assert sorted(one.resource.attributes, key=str) == sorted(other.resource.attributes, key=str)


def test_a_key_that_the_line_reserves_is_prefixed_here_too() -> None:
    found = Message.FromString(
        otlp_encoder.record(1, 20, "x", None, {"trace_id": "mine", "service.name": "other", "k": 1})
    )
    assert [pair.key for pair in found.attributes] == ["attr.trace_id", "attr.service.name", "k"]
