"""Log records in OTLP's wire form (opentelemetry-proto 1.x, logs.proto), encoded when the line is written.

A record says what the JSON line says: the message is its body, the logger its scope, the resource is said once a
request. Equal to the official encoder after decoding; tests/logs/test_otlp_encoder.py holds them side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from connectsoft_obs.export import Chunk, chunks, otlp_request, protobuf
from connectsoft_obs.signals.logs.levels import SEVERITY_NUMBER, SEVERITY_TEXT, standard
from connectsoft_obs.signals.logs.line_template import TraceIds
from connectsoft_obs.signals.logs.profiles import OTEL
from connectsoft_obs.vocabulary import EVENT_NAME, SCHEMA_URL

Item = tuple[str, bytes]
"""A logger's name and an encoded record of it, as the envelope takes it."""

_ATTRIBUTE: Final = 6
_RESERVED: Final = frozenset(OTEL.head)
_SEVERITIES: Final = {
    level: protobuf.integer(2, SEVERITY_NUMBER[level]) + protobuf.text(3, word) for level, word in SEVERITY_TEXT.items()
}
_EXPORTING: Any = getattr(otel_context, "_SUPPRESS_INSTRUMENTATION_KEY", None)
_EXPORTERS: Final = "opentelemetry."


def exporter(put: Callable[[Item], None]) -> Callable[..., None]:
    """What a stream hands its lines to; what exporters say about themselves is not exported, or it would never end."""

    def export(
        context: Context,
        now: int,
        level: int,
        message: str,
        logger: str,
        ids: TraceIds | None,
        attributes: Mapping[str, Any],
    ) -> None:
        if not about_exports(context, logger):
            put((logger, otlp_request.item(record(now, level, message, ids, attributes))))

    return export


def about_exports(context: Context, logger: str) -> bool:
    """Whether exporters say it about themselves."""
    return logger.startswith(_EXPORTERS) or bool(_EXPORTING is not None and context.get(_EXPORTING))


def record(now: int, level: int, message: str, ids: TraceIds | None, attributes: Mapping[str, Any]) -> bytes:
    """A LogRecord; `now` is nanoseconds since 1970, `attributes` are plain values in their order."""
    event = attributes.get(EVENT_NAME)
    encoded = [
        protobuf.pair(_ATTRIBUTE, f"attr.{key}" if key in _RESERVED else key, value)
        for key, value in attributes.items()
        if key != EVENT_NAME
    ]
    correlation = b""
    if ids is not None:
        flags = protobuf.fixed32(8, int(ids[2], 16))
        correlation = b"".join((flags, b"\x4a\x10", bytes.fromhex(ids[0]), b"\x52\x08", bytes.fromhex(ids[1])))
    return b"".join(
        (
            protobuf.fixed64(1, now),
            protobuf.fixed64(11, now),
            _SEVERITIES.get(level) or _SEVERITIES[standard(level)],
            protobuf.length_delimited(5, protobuf.value(message)),
            *encoded,
            correlation,
            protobuf.text(12, str(event)) if event is not None else b"",
        )
    )


def pack(lines: Sequence[Chunk], resource: Mapping[str, Any]) -> bytes:
    """One ExportLogsServiceRequest."""
    loggers = chunks.chunk_bytes(lines).items()
    parts = chain.from_iterable(otlp_request.scope(logger, "", None, records) for logger, records in loggers)
    return otlp_request.request(resource, SCHEMA_URL, parts)
