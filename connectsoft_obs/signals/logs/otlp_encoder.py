"""Encodes log records in the OTLP wire format (opentelemetry-proto 1.x, logs.proto) when they are written.

A record has the content of the JSON line: the message is its body, the logger its scope; the resource is encoded once
per request. It equals the output of the official encoder after decoding; tests/logs/test_otlp_encoder.py compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from connectsoft_obs.export import Chunk, chunks, otlp_request, protobuf
from connectsoft_obs.signals.logs.levels import SEVERITY_NUMBER, SEVERITY_TEXT, standard_level
from connectsoft_obs.signals.logs.log_line_template import TraceIds
from connectsoft_obs.signals.logs.pipeline import Export
from connectsoft_obs.signals.logs.profiles import OTEL
from connectsoft_obs.vocabulary import EVENT_NAME, SCHEMA_URL

ScopedRecord = tuple[str, bytes]
"""Name of a logger and an encoded record of it."""

_ATTRIBUTES_FIELD: Final = 6
_RESERVED: Final = frozenset(OTEL.leading_keys)
_ENCODED_SEVERITIES: Final = {
    level: protobuf.integer(2, SEVERITY_NUMBER[level]) + protobuf.text(3, name) for level, name in SEVERITY_TEXT.items()
}


def export_callback(put: Callable[[ScopedRecord], None]) -> Export:
    """A callback for `LogPipeline.export_to()` that encodes each record and passes it to `put`."""

    def export(
        now: int, level: int, message: str, logger: str, ids: TraceIds | None, attributes: dict[str, Any]
    ) -> None:
        put((logger, otlp_request.item(encode_record(now, level, message, ids, attributes))))

    return export


def encode_record(now: int, level: int, message: str, ids: TraceIds | None, attributes: Mapping[str, Any]) -> bytes:
    """A LogRecord message.

    Args:
        now: nanoseconds since 1970.
        level: level number of the standard library.
        message: the body.
        ids: trace id, span id and flags; None outside a span.
        attributes: sanitized values, in their order.
    """
    event_name = attributes.get(EVENT_NAME)
    encoded_attributes = [
        protobuf.key_value(_ATTRIBUTES_FIELD, f"attr.{key}" if key in _RESERVED else key, value)
        for key, value in attributes.items()
        if key != EVENT_NAME
    ]
    encoded_ids = b""
    if ids is not None:
        flags = protobuf.fixed32(8, int(ids[2], 16))
        encoded_ids = b"".join((flags, b"\x4a\x10", bytes.fromhex(ids[0]), b"\x52\x08", bytes.fromhex(ids[1])))
    return b"".join(
        (
            protobuf.fixed64(1, now),
            protobuf.fixed64(11, now),
            _ENCODED_SEVERITIES.get(level) or _ENCODED_SEVERITIES[standard_level(level)],
            protobuf.length_delimited(5, protobuf.any_value(message)),
            *encoded_attributes,
            encoded_ids,
            protobuf.text(12, str(event_name)) if event_name is not None else b"",
        )
    )


def pack(lines: Sequence[Chunk], resource: Mapping[str, Any]) -> bytes:
    """An ExportLogsServiceRequest message of encoded records."""
    records_by_logger = chunks.content_by_scope(lines).items()
    scopes = chain.from_iterable(otlp_request.scope(logger, "", None, records) for logger, records in records_by_logger)
    return otlp_request.request(resource, SCHEMA_URL, scopes)
