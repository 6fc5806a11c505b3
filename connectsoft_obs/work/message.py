"""What one message says about itself, whatever library delivered it.

Messages are read by the names that libraries give these things: `headers` or `application_properties`, `message_id`,
`redelivered`, `delivery_count` or `dequeue_count`, `enqueued_time_utc`, `inserted_on` or `timestamp`, `body` or
`content`. What is not there, or is not of a kind that can be read, is not known; nothing here raises for it.
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

_HEADERS = ("headers", "application_properties")
_SENT = ("enqueued_time_utc", "inserted_on", "timestamp")
_BODIES = ("body", "content")
_IDENTIFIERS = ("message_id", "id")
CARRIED = (
    TRACEPARENT,
    TRACESTATE,
    BAGGAGE,
    CORRELATION_HEADER,
    SENT_HEADER,
    PREVIOUS_ATTEMPT_HEADER,
    TENANT_MESSAGE_HEADER,
)
"""The headers that `producer` writes and that are read."""

_SENT_KEY = SENT_HEADER.encode()
_DELIVERIES = (b"x-delivery-count", b"x-delivery_count")
_MILLISECONDS = 100_000_000_000
"""Numbers of seconds from here on are the year 5138, and hence milliseconds."""


@dataclass(slots=True)  # a frozen one takes as long to fill in as the message to read
class MessageInfo:
    """One message, as far as it can be known; nobody changes it.

    Args:
        headers: lower-case names; values that are neither text nor bytes are left out.
        sent: when it was sent, Unix time in seconds.
        identifier: the broker's or the sender's id.
        earlier: how often it was delivered before, None where the broker does not say; 1 or more is a redelivery.
        envelope: the fields of a ConnectSoft event envelope, if its body is one.
    """

    headers: Headers
    sent: float | None
    identifier: str | None
    earlier: int | None
    envelope: Mapping[str, Any]

    @property
    def age(self) -> float | None:
        """Seconds since it was sent; never negative, whatever the clocks say."""
        return None if self.sent is None else max(0.0, time() - self.sent)


def read(message: Any, headers: Accessor | None = None, sent: Accessor | None = None) -> MessageInfo:
    """Read one message; `headers` and `sent` are the application's own ways to find these two."""
    mapping = is_mapping(message)
    ask: Lookup = message.get if mapping else partial(_attribute, message)
    found = pairs(headers(message) if headers is not None else _first(ask, _HEADERS))
    whole = isinstance(message, bytes | str) or (mapping and envelope.is_envelope(message))
    own = envelope.parse(message if whole else _body(message, ask))
    if not found:  # queues without headers carry them in the body
        inside = own or (message if mapping else {})
        found = pairs({name: inside[name] for name in CARRIED if name in inside})
    moment = sent(message) if sent is not None else found.get(_SENT_KEY) or _first(ask, _SENT)
    return MessageInfo(found, seconds(moment), _identifier(ask, own), _earlier(ask, found), own)


def pairs(given: Any) -> Headers:
    """Headers as a mapping or as pairs, keys and values text or bytes."""
    items: Iterable[Any] = given.items() if is_mapping(given) else given if isinstance(given, list | tuple) else ()
    found: Headers = {}
    for item in items:
        if isinstance(item, tuple) and len(item) == 2:
            name, value = _bytes(item[0]), _bytes(item[1])
            if name is not None and value is not None:
                found[name.lower()] = value
    return found


def seconds(moment: Any) -> float | None:
    """Unix time of a datetime (UTC where it has no zone), of seconds or milliseconds, or of RFC 3339 text."""
    if isinstance(moment, bytes):
        moment = moment.decode("latin-1")
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            return None
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(moment, int | float) and not isinstance(moment, bool) and 0 < moment < _MILLISECONDS * 1000:
        return moment / 1000 if moment >= _MILLISECONDS else float(moment)
    return None


def _attribute(message: Any, name: str) -> Any:
    return getattr(message, name, None)


def _first(ask: Lookup, names: tuple[str, ...]) -> Any:
    for name in names:
        value = ask(name)
        if value is not None and not callable(value):
            return value
    return None


def _body(message: Any, ask: Lookup) -> Any:
    body = _first(ask, _BODIES)
    if hasattr(message, "body_type") and not isinstance(body, bytes | str | Mapping):
        # Service Bus hands out the sections of a body anew each time it is asked for them.
        sections = list(body) if isinstance(body, Iterable) else []
        return b"".join(sections) if all(isinstance(section, bytes) for section in sections) else None
    return body


def _identifier(ask: Lookup, own: Mapping[str, Any]) -> str | None:
    for value in (_first(ask, _IDENTIFIERS), own.get("eventId")):
        if value is None:
            continue
        if isinstance(value, bytes):
            return value.decode("latin-1")[:256]
        if isinstance(value, str | int | UUID) and not isinstance(value, bool) and value:
            return str(value)[:256]
    return None


def _earlier(ask: Lookup, headers: Headers) -> int | None:
    for value, first in (
        (ask("dequeue_count"), 1),
        (ask("delivery_count"), 0),
        (headers.get(_DELIVERIES[0]), 0),
        (headers.get(_DELIVERIES[1]), 0),
    ):
        if value is None:
            continue
        if isinstance(value, bytes) and value.isdigit():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return max(0, value - first)
    redelivered = ask("redelivered")
    return int(redelivered) if isinstance(redelivered, bool) else None


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, bytes):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value).encode()
    return value.encode("utf-8", "replace") if isinstance(value, str) else None
