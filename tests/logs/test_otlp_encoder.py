"""The OTLP encoding of log records equals that of the official encoder after decoding, for all attribute values."""

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
from connectsoft_obs.signals.logs.levels import SEVERITY_NUMBER, SEVERITY_TEXT, standard_level
from connectsoft_obs.signals.logs.sanitizer import Sanitizer

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.one_of(text, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.none())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text.filter(bool), inner, max_size=3)),
    max_leaves=6,
)
keys = text.filter(lambda key: key and key not in otlp_encoder._RESERVED)
attributes = st.dictionaries(keys, values, max_size=6)
ids = st.none() | st.tuples(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 3))
levels = st.sampled_from([1, 10, 15, 20, 30, 40, 45, 50, 60])
RESOURCE: dict[str, str | int] = {"service.name": "orders", "process.pid": 7}


def hex_ids(span_ids: tuple[int, int, int] | None) -> tuple[str, str, str] | None:
    return None if span_ids is None else (f"{span_ids[0]:032x}", f"{span_ids[1]:016x}", f"{span_ids[2]:02x}")


def sdk_record(
    now: int, level: int, message: str, logger: str, span_ids: Any, fields: dict[str, Any], event: Any
) -> Any:
    context = Context()
    if span_ids is not None:
        span = SpanContext(span_ids[0], span_ids[1], False, TraceFlags(span_ids[2]))
        context = trace.set_span_in_context(NonRecordingSpan(span))
    record = LogRecord(
        timestamp=now,
        observed_timestamp=now,
        context=context or trace.set_span_in_context(trace.INVALID_SPAN),
        severity_text=SEVERITY_TEXT[standard_level(level)],
        severity_number=SeverityNumber(SEVERITY_NUMBER[standard_level(level)]),
        body=message,
        attributes=fields,
        event_name=event,
    )
    return ReadableLogRecord(record, Resource(RESOURCE), InstrumentationScope(logger))


def is_same(actual: Any, expected: Any) -> bool:
    """Equal, and NaN equals NaN."""
    return bool(actual == expected or str(actual) == str(expected))


@settings(max_examples=300)
@given(
    now=st.integers(1, 2**63),
    level=levels,
    message=text,
    span_ids=ids,
    fields=attributes,
    event=st.none() | text.filter(bool),
)
def test_record_equals_the_official_encoding(
    now: int, level: int, message: str, span_ids: Any, fields: dict[str, Any], event: str | None
) -> None:
    sanitized = dict(fields)
    Sanitizer(Settings(), lambda _: None).sanitize_fields(sanitized)
    with_event = {**sanitized, "otel.event.name": event} if event else sanitized
    actual = Message.FromString(otlp_encoder.encode_record(now, level, message, hex_ids(span_ids), with_event))
    official = encode_logs([sdk_record(now, level, message, "", span_ids, sanitized, event)])
    expected = official.resource_logs[0].scope_logs[0].log_records[0]
    assert is_same(actual, expected)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["", "orders", "uvicorn.error"]), text), min_size=1, max_size=8))
def test_request_equals_the_official_encoding(records: list[tuple[str, str]]) -> None:
    items = [
        (logger, otlp_request.item(otlp_encoder.encode_record(5, 20, message, None, {}))) for logger, message in records
    ]
    actual = ExportLogsServiceRequest.FromString(otlp_encoder.pack(chunks.chunks_by_scope(items), RESOURCE))
    official = encode_logs([sdk_record(5, 20, message, logger, None, {}, None) for logger, message in records])

    def records_by_scope(request: Any) -> dict[str, list[Any]]:
        return {scope.scope.name: list(scope.log_records) for scope in request.resource_logs[0].scope_logs}

    assert records_by_scope(actual) == records_by_scope(official)
    [actual_logs], [official_logs] = actual.resource_logs, official.resource_logs
    assert sorted(actual_logs.resource.attributes, key=str) == sorted(official_logs.resource.attributes, key=str)


def test_reserved_keys_are_prefixed_as_in_the_json_line() -> None:
    record = Message.FromString(
        otlp_encoder.encode_record(1, 20, "x", None, {"trace_id": "mine", "service.name": "other", "k": 1})
    )
    assert [pair.key for pair in record.attributes] == ["attr.trace_id", "attr.service.name", "k"]
