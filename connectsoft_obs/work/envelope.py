"""ConnectSoft's event envelope: the ids that an event carries in its body, for queues and senders without headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import orjson

from connectsoft_obs.vocabulary import CAUSATION_ID, DIMENSIONS

LARGEST = 64 * 1024
"""Bytes of a body that is looked into; the envelope of a larger one would cost more than it is worth."""

_MARK: Final = b'"traceId"'
_ID: Final = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
_TRACE: Final = re.compile(r"[0-9a-f]{32}")
_FACTS: Final = {
    f"{word}Id": DIMENSIONS[f"{word}_id"]
    for word in ("tenant", "execution", "project", "module", "agent", "skill", "artifact", "workflow")
} | {"causationId": CAUSATION_ID}
_NONE: Final[Mapping[str, Any]] = {}


def parse(body: Any) -> Mapping[str, Any]:
    """The fields of an envelope, from JSON text or a mapping; nothing when it is not one."""
    if body is None:
        return _NONE
    if is_mapping(body):
        return body if is_envelope(body) else _NONE
    if isinstance(body, str):
        body = body.encode("utf-8", "replace") if len(body) <= LARGEST else b""
    if not isinstance(body, bytes) or len(body) > LARGEST or _MARK not in body:
        return _NONE
    try:
        found = orjson.loads(body)
    except ValueError:
        return _NONE
    return found if isinstance(found, dict) and is_envelope(found) else _NONE


def is_mapping(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    """Whether it is a mapping; to ask what nearly every one is costs a tenth of asking the abstract class."""
    return type(value) is dict or isinstance(value, Mapping)


def is_envelope(body: Mapping[Any, Any]) -> bool:
    """Whether a mapping has the fields that every envelope has."""
    return "eventId" in body and "eventType" in body and "traceId" in body


def bound_attributes(envelope: Mapping[str, Any]) -> dict[str, str]:
    """The dimensions of an envelope under their attribute names; values that are no ids are left out."""
    return {name: value for key, name in _FACTS.items() if (value := _valid(envelope.get(key))) is not None}


def correlation_id(envelope: Mapping[str, Any]) -> str | None:
    """Its correlation id, if it is one."""
    return _valid(envelope.get("correlationId"))


def trace_id(envelope: Mapping[str, Any]) -> int:
    """Its trace id where that is one of W3C's form, else 0."""
    value = envelope.get("traceId")
    return int(value, 16) if isinstance(value, str) and _TRACE.fullmatch(value) else 0


def lifecycle_id(envelope: Mapping[str, Any]) -> str | None:
    """Its trace id where that is an id of the company's own (`trace-9f1c2b7d`), which joins no spans."""
    return None if trace_id(envelope) else _valid(envelope.get("traceId"))


def _valid(value: Any) -> str | None:
    return value if isinstance(value, str) and _ID.fullmatch(value) else None
