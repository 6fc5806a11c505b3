"""Reads the ConnectSoft event envelope: ids in the body of a message, for queues and senders without headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import orjson

from connectsoft_obs.vocabulary import CAUSATION_ID, DIMENSIONS

MAX_BODY_BYTES = 64 * 1024
"""Maximum size in bytes of a body that is parsed; parsing a larger one costs too much."""

_TRACE_ID_FIELD: Final = b'"traceId"'
_ID: Final = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
_TRACE: Final = re.compile(r"[0-9a-f]{32}")
_DIMENSION_FIELDS: Final = {
    f"{dimension}Id": DIMENSIONS[f"{dimension}_id"]
    for dimension in ("tenant", "execution", "project", "module", "agent", "skill", "artifact", "workflow")
} | {"causationId": CAUSATION_ID}
_NO_FIELDS: Final[Mapping[str, Any]] = {}


def parse(body: Any) -> Mapping[str, Any]:
    """Fields of an envelope, from JSON text or a mapping; empty if it is not an envelope."""
    if body is None:
        return _NO_FIELDS
    if is_mapping(body):
        return body if is_envelope(body) else _NO_FIELDS
    if isinstance(body, str):
        body = body.encode("utf-8", "replace") if len(body) <= MAX_BODY_BYTES else b""
    if not isinstance(body, bytes) or len(body) > MAX_BODY_BYTES or _TRACE_ID_FIELD not in body:
        return _NO_FIELDS
    try:
        fields = orjson.loads(body)
    except ValueError:
        return _NO_FIELDS
    return fields if isinstance(fields, dict) and is_envelope(fields) else _NO_FIELDS


def is_mapping(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    """Whether a value is a mapping; checking for `dict` first costs a tenth of the check for the abstract class."""
    return type(value) is dict or isinstance(value, Mapping)


def is_envelope(body: Mapping[Any, Any]) -> bool:
    """Whether a mapping has the required fields of an envelope."""
    return "eventId" in body and "eventType" in body and "traceId" in body


def bound_attributes(envelope: Mapping[str, Any]) -> dict[str, str]:
    """Dimensions of an envelope by attribute name; invalid values are ignored."""
    return {
        name: value for key, name in _DIMENSION_FIELDS.items() if (value := _valid_id(envelope.get(key))) is not None
    }


def correlation_id(envelope: Mapping[str, Any]) -> str | None:
    """The correlation id, or None if it is missing or invalid."""
    return _valid_id(envelope.get("correlationId"))


def trace_id(envelope: Mapping[str, Any]) -> int:
    """The trace id if it has the W3C format, else 0."""
    value = envelope.get("traceId")
    return int(value, 16) if isinstance(value, str) and _TRACE.fullmatch(value) else 0


def lifecycle_id(envelope: Mapping[str, Any]) -> str | None:
    """The trace id if it has the ConnectSoft format (`trace-9f1c2b7d`), which cannot connect spans."""
    return None if trace_id(envelope) else _valid_id(envelope.get("traceId"))


def _valid_id(value: Any) -> str | None:
    return value if isinstance(value, str) and _ID.fullmatch(value) else None
