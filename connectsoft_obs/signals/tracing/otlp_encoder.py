"""Spans in OTLP's wire form (opentelemetry-proto 1.x, trace.proto), encoded when they end.

Equal to the official encoder after decoding; tests/tracing/test_otlp_encoder.py holds them side by side.
"""

from __future__ import annotations

import struct
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceState

from connectsoft_obs.export import protobuf
from connectsoft_obs.signals.tracing.span import Span
from connectsoft_obs.signals.tracing.span_data import EncodedAttributes, FixedAttributes

_ATTRIBUTE = 9
_KIND = {kind: protobuf.integer(6, kind.value + 1) for kind in SpanKind}
_HAS_REMOTE, _IS_REMOTE = 0x100, 0x200
_UNSET = b"\x7a\x00"
_REMOTE_PARENT = protobuf.fixed32(16, _HAS_REMOTE | _IS_REMOTE)
_LOCAL_PARENT = protobuf.fixed32(16, _HAS_REMOTE)
_times = struct.Struct("<BQBQ").pack


def encode_common_attributes(
    items: dict[str, Any],
    title: str | None = None,
    sort: SpanKind = SpanKind.INTERNAL,
    row: FixedAttributes | None = None,
) -> EncodedAttributes:
    """Attributes that many spans have in common, and their name and kind where those are given, encoded once."""
    encoded = protobuf.attributes(_ATTRIBUTE, items)
    if title is None:
        return EncodedAttributes(items, encoded)
    head = _head(title, sort)
    return EncodedAttributes(items, encoded, title, sort, head, b"".join((head, encoded, _UNSET, _LOCAL_PARENT)), row)


def _head(title: str, sort: SpanKind) -> bytes:
    return protobuf.text(5, title) + _KIND[sort]


def span(done: Span) -> bytes:
    """A finished span of ours."""
    own, row, common, ids = done.own, done.row, done.shared, done.ids
    if done.plain and not own and common.title is done.title and common.sort is done.sort:
        # What the span of nearly every request is: all but its ids, its times and its row is known beforehand.
        return b"".join(
            (
                b"\x0a\x10", ids[:16], b"\x12\x08", ids[16:], _times(0x39, done.start_ns, 0x41, done.end_ns),
                common.whole, done.around.encoded, b"" if row is None or common.row is None else common.row.encode(row),
            )
        )  # fmt: skip
    if done.touched or (len(own) if own else 0) > done.tracer.room:
        return readable(done)
    parent = done.origin
    encoded = b"" if row is None or common.row is None else common.row.encode(row)
    return b"".join(
        (
            b"\x0a\x10",
            ids[:16],
            b"\x12\x08",
            ids[16:],
            _state(done.state) if done.state else b"",
            b"" if parent is None else b"\x22\x08" + parent.span_id.to_bytes(8, "big"),
            common.head if common.title == done.title and common.sort is done.sort else _head(done.title, done.sort),
            _times(0x39, done.start_ns, 0x41, done.end_ns),
            common.encoded,
            done.around.encoded,
            encoded,
            protobuf.attributes(_ATTRIBUTE, own) if own else b"",
            protobuf.join(13, [_link(link) for link in done.linked]) if done.linked else b"",
            _UNSET if done.status_code is StatusCode.UNSET else _status(done.status_code, done.status_text),
            _REMOTE_PARENT if parent is not None and parent.is_remote else _LOCAL_PARENT,
        )
    )


def readable(done: ReadableSpan) -> bytes:
    """A finished span of anybody's."""
    context = done.get_span_context()
    assert context is not None
    return b"".join(
        (
            b"\x0a\x10",
            context.trace_id.to_bytes(16, "big"),
            b"\x12\x08",
            context.span_id.to_bytes(8, "big"),
            _state(context.trace_state),
            b"" if done.parent is None else b"\x22\x08" + done.parent.span_id.to_bytes(8, "big"),
            protobuf.text(5, done.name),
            _KIND[done.kind],
            _times(0x39, done.start_time or 0, 0x41, done.end_time or 0),
            protobuf.attributes(_ATTRIBUTE, done.attributes or {}),
            _number(10, done.dropped_attributes),
            protobuf.join(11, [_event(event) for event in done.events]),
            _number(12, done.dropped_events),
            protobuf.join(13, [_link(link) for link in done.links]),
            _number(14, done.dropped_links),
            _status(done.status.status_code, done.status.description),
            _flags(16, done.parent),
        )
    )


def _state(state: TraceState | None) -> bytes:
    return protobuf.text(3, ",".join(f"{key}={value}" for key, value in state.items())) if state else b""


def _number(field: int, number: int) -> bytes:
    return protobuf.integer(field, number) if number else b""


def _status(code: StatusCode, description: str | None) -> bytes:
    if code is StatusCode.UNSET:
        return _UNSET
    return protobuf.length_delimited(
        15, (protobuf.text(2, description) if description else b"") + protobuf.integer(3, code.value)
    )


def _flags(field: int, parent: SpanContext | None) -> bytes:
    return protobuf.fixed32(field, _HAS_REMOTE | _IS_REMOTE if parent is not None and parent.is_remote else _HAS_REMOTE)


def _event(event: Event) -> bytes:
    return b"".join(
        (
            protobuf.fixed64(1, event.timestamp or 0),
            protobuf.text(2, event.name),
            protobuf.attributes(3, event.attributes or {}),
            _number(4, event.dropped_attributes),
        )
    )


def _link(link: Link) -> bytes:
    context = link.context
    return b"".join(
        (
            b"\x0a\x10",
            context.trace_id.to_bytes(16, "big"),
            b"\x12\x08",
            context.span_id.to_bytes(8, "big"),
            protobuf.attributes(4, link.attributes or {}),
            _number(5, link.dropped_attributes),
            _flags(6, context),
        )
    )
