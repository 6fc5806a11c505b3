"""Encodes ended spans in OTLP (opentelemetry-proto 1.x, trace.proto).

The result equals that of the official encoder after decoding; tests/tracing/test_otlp_encoder.py compares them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceState

from connectsoft_obs.export import protobuf
from connectsoft_obs.signals.tracing.span import Span
from connectsoft_obs.signals.tracing.span_data import NO_ENCODED_ATTRIBUTES, EncodedAttributes, FixedAttributes
from connectsoft_obs.signals.tracing.span_redaction import SpanRedactor

_ATTRIBUTES_FIELD = 9
_KIND_FIELD = {kind: protobuf.integer(6, kind.value + 1) for kind in SpanKind}
_HAS_REMOTE, _IS_REMOTE = 0x100, 0x200
_UNSET = b"\x7a\x00"
_REMOTE_PARENT = protobuf.fixed32(16, _HAS_REMOTE | _IS_REMOTE)
_LOCAL_PARENT = protobuf.fixed32(16, _HAS_REMOTE)
_pack_times = struct.Struct("<BQBQ").pack


def encode_common_attributes(
    attributes: dict[str, Any],
    span_name: str | None = None,
    span_kind: SpanKind = SpanKind.INTERNAL,
    fixed_attributes: FixedAttributes | None = None,
) -> EncodedAttributes:
    """Encode attributes that many spans have in common; also their name and kind, if given."""
    encoded = protobuf.attributes(_ATTRIBUTES_FIELD, attributes)
    if span_name is None:
        return EncodedAttributes(attributes, encoded)
    encoded_name = _encode_name(span_name, span_kind)
    encoded_span = b"".join((encoded_name, encoded, _UNSET, _LOCAL_PARENT))
    return EncodedAttributes(attributes, encoded, span_name, span_kind, encoded_name, encoded_span, fixed_attributes)


def _encode_name(span_name: str, span_kind: SpanKind) -> bytes:
    return protobuf.text(5, span_name) + _KIND_FIELD[span_kind]


def encode_span(span: Span, redactor: SpanRedactor) -> bytes:
    """Encode a span of the custom class. Data of this package is redacted when it is set, data of others here."""
    own, values, common, ids = span.own_attributes, span.fixed_values, span.common_attributes, span.ids
    if span.is_ordinary and not own and common.span_name is span.span_name and common.span_kind is span.span_kind:
        # Most requests: everything except ids, times and fixed values is already encoded.
        return b"".join(
            (
                b"\x0a\x10", ids[:16], b"\x12\x08", ids[16:], _pack_times(0x39, span.start_ns, 0x41, span.end_ns),
                common.encoded_span, span.client_attributes.encoded, b"" if values is None or common.fixed_attributes is None else common.fixed_attributes.encode(values),
            )
        )  # fmt: skip
    parent, user_data = span.parent_context, b""
    if span.has_user_data or (len(own) if own else 0) > span.tracer.free_attributes:
        encoded_attributes = _encode_all_attributes(span, redactor)
        user_data = _encode_events_and_links(span, redactor)
    else:
        encoded_attributes = b"".join(
            (
                common.encoded,
                span.client_attributes.encoded,
                b"" if values is None or common.fixed_attributes is None else common.fixed_attributes.encode(values),
                protobuf.attributes(_ATTRIBUTES_FIELD, own) if own else b"",
            )
        )
        if span.initial_links:
            user_data = protobuf.join(13, [_encode_link(link, redactor) for link in span.initial_links])
    return b"".join(
        (
            b"\x0a\x10",
            ids[:16],
            b"\x12\x08",
            ids[16:],
            _encode_tracestate(span.state) if span.state else b"",
            b"" if parent is None else b"\x22\x08" + parent.span_id.to_bytes(8, "big"),
            common.encoded_name
            if common.span_name == span.span_name and common.span_kind is span.span_kind
            else _encode_name(redactor.redact_text(span.span_name), span.span_kind),
            _pack_times(0x39, span.start_ns, 0x41, span.end_ns),
            encoded_attributes,
            user_data,
            _UNSET
            if span.status_code is StatusCode.UNSET
            else _encode_status(span.status_code, span.status_text and redactor.redact_text(span.status_text)),
            _REMOTE_PARENT if parent is not None and parent.is_remote else _LOCAL_PARENT,
        )
    )


def _encode_all_attributes(span: Span, redactor: SpanRedactor) -> bytes:
    """Encode the attributes of this package and of the application, and the number of dropped attributes.

    An attribute of the application overrides one of this package.

    Encoded parts are joined if no attribute is in two of them and no limit can be exceeded. Merging them into one mapping would
    quadruple the cost of the span (tests/bench/span.py).
    """
    common, own, values, user = span.common_attributes, span.own_attributes, span.fixed_values, span.user_attributes
    client = span.client_attributes
    added: dict[str, Any] = {} if user is None else user.copy()  # type: ignore[assignment]
    dropped = 0 if user is None else user.dropped
    if own is None and values is None and common is client is NO_ENCODED_ATTRIBUTES:
        return _encode_values(_ATTRIBUTES_FIELD, added, redactor) + _encode_number(10, dropped)
    fixed = None if values is None else common.fixed_attributes
    if (
        len(added) + (len(own) if own else 0) <= span.tracer.free_attributes
        and added.keys().isdisjoint(common.attributes)
        and added.keys().isdisjoint(client.attributes)
        and (not own or added.keys().isdisjoint(own))
        and (fixed is None or added.keys().isdisjoint(fixed.keys))
    ):
        return b"".join(
            (
                common.encoded,
                client.encoded,
                b"" if fixed is None else fixed.encode(values),  # type: ignore[arg-type]
                protobuf.attributes(_ATTRIBUTES_FIELD, own) if own else b"",
                _encode_values(_ATTRIBUTES_FIELD, added, redactor),
                _encode_number(10, dropped),
            )
        )
    merged = span.attributes
    dropped = merged.dropped if isinstance(merged, BoundedAttributes) else 0
    return _encode_values(_ATTRIBUTES_FIELD, merged, redactor) + _encode_number(10, dropped)


def _encode_events_and_links(span: Span, redactor: SpanRedactor) -> bytes:
    events, links = span.user_events, span.user_links
    parts = []
    if events is not None:
        parts = [protobuf.join(11, [_encode_event(event, redactor) for event in events])]
        parts.append(_encode_number(12, events.dropped))
    all_links = span.initial_links if links is None else links
    parts.append(protobuf.join(13, [_encode_link(link, redactor) for link in all_links]))
    if links is not None:
        parts.append(_encode_number(14, links.dropped))
    return b"".join(parts)


def encode_readable(span: ReadableSpan, redactor: SpanRedactor) -> bytes:
    """Encode an ended span of any class, without its secrets."""
    context, status = span.get_span_context(), span.status
    assert context is not None
    return b"".join(
        (
            b"\x0a\x10",
            context.trace_id.to_bytes(16, "big"),
            b"\x12\x08",
            context.span_id.to_bytes(8, "big"),
            _encode_tracestate(context.trace_state),
            b"" if span.parent is None else b"\x22\x08" + span.parent.span_id.to_bytes(8, "big"),
            _encode_name(redactor.redact_text(span.name), span.kind),
            _pack_times(0x39, span.start_time or 0, 0x41, span.end_time or 0),
            _encode_values(_ATTRIBUTES_FIELD, span.attributes, redactor),
            _encode_number(10, span.dropped_attributes),
            protobuf.join(11, [_encode_event(event, redactor) for event in span.events]),
            _encode_number(12, span.dropped_events),
            protobuf.join(13, [_encode_link(link, redactor) for link in span.links]),
            _encode_number(14, span.dropped_links),
            _encode_status(status.status_code, status.description and redactor.redact_text(status.description)),
            _encode_flags(16, span.parent),
        )
    )


def _encode_values(field: int, attributes: Mapping[str, Any] | None, redactor: SpanRedactor) -> bytes:
    """Encode attributes of the application without their secrets."""
    if not attributes:
        return b""
    if not isinstance(attributes, dict):
        attributes = dict(attributes)
    return protobuf.attributes(field, redactor.redact(attributes))


def _encode_tracestate(state: TraceState | None) -> bytes:
    return protobuf.text(3, ",".join(f"{key}={value}" for key, value in state.items())) if state else b""


def _encode_number(field: int, number: int) -> bytes:
    return protobuf.integer(field, number) if number else b""


def _encode_status(code: StatusCode, description: str | None) -> bytes:
    if code is StatusCode.UNSET:
        return _UNSET
    return protobuf.length_delimited(
        15, (protobuf.text(2, description) if description else b"") + protobuf.integer(3, code.value)
    )


def _encode_flags(field: int, parent: SpanContext | None) -> bytes:
    return protobuf.fixed32(field, _HAS_REMOTE | _IS_REMOTE if parent is not None and parent.is_remote else _HAS_REMOTE)


def _encode_event(event: Event, redactor: SpanRedactor) -> bytes:
    return b"".join(
        (
            protobuf.fixed64(1, event.timestamp or 0),
            protobuf.text(2, redactor.redact_text(event.name)),
            _encode_values(3, event.attributes, redactor),
            _encode_number(4, event.dropped_attributes),
        )
    )


def _encode_link(link: Link, redactor: SpanRedactor) -> bytes:
    context = link.context
    return b"".join(
        (
            b"\x0a\x10",
            context.trace_id.to_bytes(16, "big"),
            b"\x12\x08",
            context.span_id.to_bytes(8, "big"),
            _encode_values(4, link.attributes, redactor),
            _encode_number(5, link.dropped_attributes),
            _encode_flags(6, context),
        )
    )
