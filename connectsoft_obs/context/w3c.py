"""Parsers of W3C trace context and baggage for untrusted input: invalid input is ignored, in bounded time.

Follows the W3C recommendations Trace Context level 2 and Baggage.
"""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from urllib.parse import unquote_to_bytes

from opentelemetry.trace.span import TraceState

MAX_BAGGAGE_BYTES = 8192
MAX_BAGGAGE_MEMBERS = 64
MAX_TRACESTATE_MEMBERS = 32
MAX_TRACESTATE_LENGTH = 16384

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_KEY = r"[a-z0-9][a-z0-9_\-*/@]{0,255}"
_MEMBER = re.compile(rf"[ \t]*({_KEY})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e])[ \t]*")
_API_KEY = re.compile(r"[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")


class Level2TraceState(TraceState):
    """A trace state with keys of Trace Context level 2, which the class of the OpenTelemetry API drops. Immutable."""

    def __init__(self, members: Mapping[str, str]) -> None:
        super().__init__()
        self._members = dict(members)

    def __contains__(self, item: object) -> bool:
        return item in self._members

    def __getitem__(self, key: str) -> str:
        return self._members[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"Level2TraceState({self._members!r})"

    def add(self, key: str, value: str) -> TraceState:
        """Return a copy with a new member in front; unchanged if the key exists, or the member is not valid."""
        return self if key in self._members else self.update(key, value)

    def update(self, key: str, value: str) -> TraceState:
        """Return a copy with a member set and moved to the front; unchanged if the member is not valid."""
        others = {name: content for name, content in self._members.items() if name != key}
        if len(others) >= MAX_TRACESTATE_MEMBERS or _MEMBER.fullmatch(f"{key}={value}") is None:
            return self
        return Level2TraceState({key: value, **others})

    def delete(self, key: str) -> TraceState:
        """Return a copy without a member."""
        return Level2TraceState({name: value for name, value in self._members.items() if name != key})

    def to_header(self) -> str:
        """Return the value of the tracestate header."""
        return ",".join(f"{key}={value}" for key, value in self._members.items())

    def keys(self) -> KeysView[str]:
        """Return the keys."""
        return self._members.keys()

    def items(self) -> ItemsView[str, str]:
        """Return the members."""
        return self._members.items()

    def values(self) -> ValuesView[str]:
        """Return the values."""
        return self._members.values()


def parse_traceparent(value: bytes) -> tuple[int, int, int] | None:
    """Return trace id, span id and flags of a traceparent header, or None if it is invalid."""
    match = _TRACEPARENT.fullmatch(value.strip(b" \t"))
    if match is None:
        return None
    version, trace, span, flags, suffix = match.groups()
    if version == b"ff" or (version == b"00" and suffix is not None):
        return None
    trace_id, span_id = int(trace, 16), int(span, 16)
    if not trace_id or not span_id:
        return None
    return trace_id, span_id, int(flags, 16) & 0x03


def parse_tracestate(value: str) -> TraceState | None:
    """Return the members of a tracestate header, or None if there are none, too many, or one is malformed.

    Of several members with the same key the first, the most recent one, is kept.
    """
    if len(value) > MAX_TRACESTATE_LENGTH:
        return None
    members: dict[str, str] = {}
    for part in value.split(","):
        if not part.strip(" \t"):
            continue
        match = _MEMBER.fullmatch(part)
        if match is None:
            return None
        if match[1] in members:
            continue
        if len(members) == MAX_TRACESTATE_MEMBERS:
            return None
        members[match[1]] = match[2]
    if not members:
        return None
    if all(map(_API_KEY.fullmatch, members)):
        return TraceState(list(members.items()))
    return Level2TraceState(members)


def parse_baggage(value: str) -> dict[str, str]:
    """Return the well-formed members of a baggage header, none if it exceeds the size limit of the specification."""
    members: dict[str, str] = {}
    if len(value) > MAX_BAGGAGE_BYTES:
        return members
    for part in value.split(",", MAX_BAGGAGE_MEMBERS + 1)[:MAX_BAGGAGE_MEMBERS]:
        name, equals, rest = part.partition("=")
        name, content = name.strip(" \t"), rest.partition(";")[0].strip(" \t")
        if equals and _TOKEN.fullmatch(name) and content.isascii() and content.isprintable():
            members[name] = unquote_to_bytes(content).decode("utf-8", "replace")
    return members
