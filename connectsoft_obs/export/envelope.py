"""What stands around the items of a request: who reports, and which instrumentation made them.

The three OTLP requests share one shape: resource (1), scopes (2) with scope (1), items (2) and schema (3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from connectsoft_obs.export import wire

ORDINARY = 2048
"""Bytes below which `BEFORE` has what stands before an item."""

BEFORE = [wire.tag(2, 2) + wire.varint(size) for size in range(ORDINARY)]


def scope(name: str, version: str, schema_url: str | None, items: Iterable[bytes]) -> list[bytes]:
    """ScopeSpans, ScopeMetrics or ScopeLogs, in parts; `items` is its encoded field 2, in parts too."""
    head = (wire.text(1, name) if name else b"") + (wire.text(2, version) if version else b"")
    return _around(2, [wire.block(1, head), *items, wire.text(3, schema_url) if schema_url else b""])


def item(encoded: bytes) -> bytes:
    """A span or a record as field 2 of its scope's message, where it stands once for each."""
    return before(len(encoded)) + encoded


def before(size: int) -> bytes:
    """What stands before an item of so many bytes."""
    return BEFORE[size] if size < ORDINARY else wire.tag(2, 2) + wire.varint(size)


def request(resource: Mapping[str, Any], schema_url: str, scopes: Iterable[bytes]) -> bytes:
    """An export request with one resource, of scopes in parts.

    Put together once: a copy of a batch is memory that the system has to find first, which costs more than the copying.
    """
    return b"".join(_around(1, [wire.block(1, wire.pairs(1, resource)), *scopes, wire.text(3, schema_url)]))


def _around(field: int, parts: list[bytes]) -> list[bytes]:
    """A message as a field, without copying what is in it."""
    return [wire.tag(field, 2) + wire.varint(sum(map(len, parts))), *parts]
