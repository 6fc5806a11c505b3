"""Log records as objects of the OpenTelemetry SDK, for exporters of the SDK; created when they are exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.logs.levels import SEVERITY_NUMBER, SEVERITY_TEXT, standard_level
from connectsoft_obs.signals.logs.log_line_template import TraceIds
from connectsoft_obs.signals.logs.pipeline import Export
from connectsoft_obs.vocabulary import EXCEPTION_MESSAGE, SCHEMA_URL

if TYPE_CHECKING:
    from connectsoft_obs.context.otel_private import ReadableLogRecord

LogRecordRef = tuple[int, int, str, str, "TraceIds | None", dict[str, Any]]
"""Nanoseconds since 1970, level, message, logger, ids and attributes of a record."""


def export_callback(put: Callable[[LogRecordRef], None]) -> Export:
    """A callback for `LogPipeline.export_to()` that passes each record to `put` as it is."""

    def export(*record: *LogRecordRef) -> None:
        put(record)

    return export


def readable_log_records(records: Sequence[LogRecordRef], resource: Mapping[str, Any]) -> list[ReadableLogRecord]:
    """Convert records to records of the SDK. Nested values become JSON text, for flat backends."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import TraceFlags

    from connectsoft_obs.context.otel_private import LogRecord, ReadableLogRecord, SeverityNumber

    readable, sdk_resource = [], Resource(dict(resource), SCHEMA_URL)
    for now, level, message, logger, ids, attributes in records:
        severity = standard_level(level)
        trace_id, span_id, flags = ("0", "0", "0") if ids is None else ids
        body, properties = _body_and_attributes(message, attributes)
        record = LogRecord(
            timestamp=now,
            observed_timestamp=now,
            trace_id=int(trace_id, 16),
            span_id=int(span_id, 16),
            trace_flags=TraceFlags(int(flags, 16)),
            severity_text=SEVERITY_TEXT[severity],
            severity_number=SeverityNumber(SEVERITY_NUMBER[severity]),
            body=body,
            attributes=properties,
        )
        readable.append(ReadableLogRecord(record, sdk_resource, InstrumentationScope(logger)))
    return readable


def _body_and_attributes(message: str, attributes: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Body and attributes. The body of a record with an exception is the exception's message, as from .NET services."""
    properties = {
        key: orjson.dumps(value, safe_str).decode() if isinstance(value, dict | list) else value
        for key, value in attributes.items()
    }
    exception_message = properties.get(EXCEPTION_MESSAGE)
    if not exception_message:
        return message, properties
    return str(exception_message), {"message": message, **properties}
