"""Reads headers, ids, delivery counts and send times of messages of any client library.

The names of attributes that are read: `headers` or `application_properties`, `message_id`,
`redelivered`, `delivery_count` or `dequeue_count`, `enqueued_time_utc`, `inserted_on` or `timestamp`, `body` or
`content`. Missing values and values of other types are ignored; nothing here raises for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from time import time
from typing import Any, TypeAlias
from uuid import UUID

from connectsoft_obs.vocabulary import (
    BAGGAGE,
    CORRELATION_HEADER,
    PREVIOUS_ATTEMPT_HEADER,
    SENT_HEADER,
    TENANT_MESSAGE_HEADER,
    TRACEPARENT,
    TRACESTATE,
)
from connectsoft_obs.work import envelope
from connectsoft_obs.work.envelope import is_mapping

Headers: TypeAlias = dict[bytes, bytes]
Accessor: TypeAlias = Callable[[Any], Any]
Lookup: TypeAlias = Callable[[str], Any]

_HEADER_ATTRIBUTES = ("headers", "application_properties")
_SENT_ATTRIBUTES = ("enqueued_time_utc", "inserted_on", "timestamp")
_BODY_ATTRIBUTES = ("body", "content")
_ID_ATTRIBUTES = ("message_id", "id")
PROPAGATED_HEADERS = (
    TRACEPARENT,
    TRACESTATE,
    BAGGAGE,
    CORRELATION_HEADER,
    SENT_HEADER,
    PREVIOUS_ATTEMPT_HEADER,
    TENANT_MESSAGE_HEADER,
)
"""Headers that `producer` writes and that are read from messages."""

_SENT_KEY = SENT_HEADER.encode()
_DELIVERY_COUNT_HEADERS = (b"x-delivery-count", b"x-delivery_count")
_MILLISECONDS_FROM = 100_000_000_000
"""Numbers from here on are milliseconds; as seconds they would be after the year 5138."""


@dataclass(slots=True)  # creating a frozen instance takes as long as reading the message
class MessageInfo:
    """Metadata of one message. Treat as immutable.

    Args:
        headers: headers with lower-case names; only values that are text, bytes or integers.
        sent_at: Unix time of sending in seconds, or None.
        identifier: message id, or None.
        previous_deliveries: number of earlier deliveries, None if unknown; 1 or more is a redelivery.
        envelope: fields of a ConnectSoft event envelope, if the body is one.
    """

    headers: Headers
    sent_at: float | None
    identifier: str | None
    previous_deliveries: int | None
    envelope: Mapping[str, Any]

    @property
    def age(self) -> float | None:
        """Seconds since sending; never negative."""
        return None if self.sent_at is None else max(0.0, time() - self.sent_at)


def read_message(message: Any, headers: Accessor | None = None, sent: Accessor | None = None) -> MessageInfo:
    """Read one message; `headers` and `sent` are optional accessors of the application."""
    mapping = is_mapping(message)
    lookup: Lookup = message.get if mapping else partial(_get_attribute, message)
    values = read_headers(headers(message) if headers is not None else _first_value(lookup, _HEADER_ATTRIBUTES))
    is_body = isinstance(message, bytes | str) or (mapping and envelope.is_envelope(message))
    fields = envelope.parse(message if is_body else _read_body(message, lookup))
    if not values:  # queues without headers have them in the body
        body_fields = fields or (message if mapping else {})
        values = read_headers({name: body_fields[name] for name in PROPAGATED_HEADERS if name in body_fields})
    sent_at = sent(message) if sent is not None else values.get(_SENT_KEY) or _first_value(lookup, _SENT_ATTRIBUTES)
    return MessageInfo(
        values,
        to_unix_seconds(sent_at),
        _read_identifier(lookup, fields),
        _read_previous_deliveries(lookup, values),
        fields,
    )


def read_headers(headers: Any) -> Headers:
    """Headers from a mapping or a sequence of pairs, with text or bytes."""
    items: Iterable[Any] = (
        headers.items() if is_mapping(headers) else headers if isinstance(headers, list | tuple) else ()
    )
    result: Headers = {}
    for item in items:
        if isinstance(item, tuple) and len(item) == 2:
            name, value = _to_bytes(item[0]), _to_bytes(item[1])
            if name is not None and value is not None:
                result[name.lower()] = value
    return result


def to_unix_seconds(value: Any) -> float | None:
    """Unix time of a datetime (UTC without a time zone), of seconds or milliseconds, or of RFC 3339 text; else None."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MILLISECONDS_FROM * 1000:
        return value / 1000 if value >= _MILLISECONDS_FROM else float(value)
    return None


def _get_attribute(message: Any, name: str) -> Any:
    return getattr(message, name, None)


def _first_value(lookup: Lookup, names: tuple[str, ...]) -> Any:
    for name in names:
        value = lookup(name)
        if value is not None and not callable(value):
            return value
    return None


def _read_body(message: Any, lookup: Lookup) -> Any:
    body = _first_value(lookup, _BODY_ATTRIBUTES)
    if hasattr(message, "body_type") and not isinstance(body, bytes | str | Mapping):
        # Service Bus returns a new iterator over the sections of the body at each access.
        sections = list(body) if isinstance(body, Iterable) else []
        return b"".join(sections) if all(isinstance(section, bytes) for section in sections) else None
    return body


def _read_identifier(lookup: Lookup, fields: Mapping[str, Any]) -> str | None:
    for value in (_first_value(lookup, _ID_ATTRIBUTES), fields.get("eventId")):
        if value is None:
            continue
        if isinstance(value, bytes):
            return value.decode("latin-1")[:256]
        if isinstance(value, str | int | UUID) and not isinstance(value, bool) and value:
            return str(value)[:256]
    return None


def _read_previous_deliveries(lookup: Lookup, headers: Headers) -> int | None:
    for value, first in (
        (lookup("dequeue_count"), 1),
        (lookup("delivery_count"), 0),
        (headers.get(_DELIVERY_COUNT_HEADERS[0]), 0),
        (headers.get(_DELIVERY_COUNT_HEADERS[1]), 0),
    ):
        if value is None:
            continue
        if isinstance(value, bytes) and value.isdigit():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return max(0, value - first)
    redelivered = lookup("redelivered")
    return int(redelivered) if isinstance(redelivered, bool) else None


def _to_bytes(value: Any) -> bytes | None:
    if isinstance(value, bytes):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value).encode()
    return value.encode("utf-8", "replace") if isinstance(value, str) else None
