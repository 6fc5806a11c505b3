"""Parsers of W3C trace context and baggage for untrusted input: invalid input is ignored, in bounded time.

Follows the W3C recommendations Trace Context level 2 and Baggage.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from opentelemetry.trace.span import TraceState

MAX_BAGGAGE_BYTES = 8192
MAX_BAGGAGE_MEMBERS = 64
MAX_TRACESTATE_MEMBERS = 32
MAX_TRACESTATE_LENGTH = 16384

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_KEY = r"[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}"
_MEMBER = re.compile(rf"[ \t]*({_KEY})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e])[ \t]*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")


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
    """Return the members of a tracestate header, or None if there are none, too many, or one is malformed."""
    if len(value) > MAX_TRACESTATE_LENGTH:
        return None
    members: dict[str, str] = {}
    for part in value.split(","):
        if not part.strip(" \t"):
            continue
        match = _MEMBER.fullmatch(part)
        if match is None or match[1] in members or len(members) == MAX_TRACESTATE_MEMBERS:
            return None
        members[match[1]] = match[2]
    return TraceState(list(members.items())) if members else None


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
