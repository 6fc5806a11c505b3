"""What stands around the items of a request: who reports, and which instrumentation made them.

The three OTLP requests share one shape: resource (1), scopes (2) with scope (1), items (2) and schema (3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from connectsoft_obs.export import protobuf

DEFAULT_SCOPE = 2048
"""Bytes below which `BEFORE` has what stands before an item."""

ITEM_PREFIX = [protobuf.tag(2, 2) + protobuf.varint(size) for size in range(DEFAULT_SCOPE)]


def scope(name: str, version: str, schema_url: str | None, items: Iterable[bytes]) -> list[bytes]:
    """ScopeSpans, ScopeMetrics or ScopeLogs, in parts; `items` is its encoded field 2, in parts too."""
    head = (protobuf.text(1, name) if name else b"") + (protobuf.text(2, version) if version else b"")
    return _around(2, [protobuf.length_delimited(1, head), *items, protobuf.text(3, schema_url) if schema_url else b""])


def item(encoded: bytes) -> bytes:
    """A span or a record as field 2 of its scope's message, where it stands once for each."""
    return item_prefix(len(encoded)) + encoded


def item_prefix(size: int) -> bytes:
    """What stands before an item of so many bytes."""
    return ITEM_PREFIX[size] if size < DEFAULT_SCOPE else protobuf.tag(2, 2) + protobuf.varint(size)


def request(resource: Mapping[str, Any], schema_url: str, scopes: Iterable[bytes]) -> bytes:
    """An export request with one resource, of scopes in parts.

    Put together once: a copy of a batch is memory that the system has to find first, which costs more than the copying.
    """
    return b"".join(
        _around(
            1, [protobuf.length_delimited(1, protobuf.attributes(1, resource)), *scopes, protobuf.text(3, schema_url)]
        )
    )


def _around(field: int, parts: list[bytes]) -> list[bytes]:
    """A message as a field, without copying what is in it."""
    return [protobuf.tag(field, 2) + protobuf.varint(sum(map(len, parts))), *parts]
