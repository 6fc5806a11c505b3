"""Lines as the SDK's log records, for exporters of the SDK's kind: kept when they are written, made when they are sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from opentelemetry.context import Context

from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.logs.levels import SEVERITY_NUMBER, SEVERITY_TEXT, standard
from connectsoft_obs.signals.logs.line_template import TraceIds
from connectsoft_obs.signals.logs.otlp_encoder import about_exports
from connectsoft_obs.vocabulary import EXCEPTION_MESSAGE, SCHEMA_URL

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord

LogRecordRef = tuple[int, int, str, str, "TraceIds | None", dict[str, Any]]
"""Nanoseconds since 1970, level, message, logger, ids, attributes."""


def log_export_callback(put: Callable[[LogRecordRef], None]) -> Callable[..., None]:
    """What a stream hands its lines to; what exporters say about themselves is not exported, or it would never end."""

    def keep(
        context: Context,
        now: int,
        level: int,
        message: str,
        logger: str,
        ids: TraceIds | None,
        attributes: dict[str, Any],
    ) -> None:
        if not about_exports(context, logger):
            put((now, level, message, logger, ids, attributes))

    return keep


def readable(kept: Sequence[LogRecordRef], resource: Mapping[str, Any]) -> list[ReadableLogRecord]:
    """The SDK's records; a nested value is its JSON text, because backends of this kind have flat properties."""
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import TraceFlags

    made, who = [], Resource(dict(resource), SCHEMA_URL)
    for now, level, message, logger, ids, attributes in kept:
        word = standard(level)
        trace_id, span_id, flags = ("0", "0", "0") if ids is None else ids
        body, properties = _said(message, attributes)
        record = LogRecord(
            timestamp=now,
            observed_timestamp=now,
            trace_id=int(trace_id, 16),
            span_id=int(span_id, 16),
            trace_flags=TraceFlags(int(flags, 16)),
            severity_text=SEVERITY_TEXT[word],
            severity_number=SeverityNumber(SEVERITY_NUMBER[word]),
            body=body,
            attributes=properties,
        )
        made.append(ReadableLogRecord(record, who, InstrumentationScope(logger)))
    return made


def _said(message: str, attributes: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Body and attributes; an exception's own message is what its record is found by, as it is from .NET services."""
    properties = {
        key: orjson.dumps(value, safe_str).decode() if isinstance(value, dict | list) else value
        for key, value in attributes.items()
    }
    raised = properties.get(EXCEPTION_MESSAGE)
    if not raised:
        return message, properties
    return str(raised), {"message": message, **properties}
