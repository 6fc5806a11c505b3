"""Frames encoded items as an OTLP export request, with resource and instrumentation scopes.

The requests of all three signals have the same fields: resource (1), scopes (2) with scope (1), items (2), schema URL (3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from connectsoft_obs.export import protobuf

CACHED_SIZES = 2048
"""Item sizes in bytes below which `ITEM_PREFIX` has the encoded prefix."""

ITEM_PREFIX = [protobuf.tag(2, 2) + protobuf.varint(size) for size in range(CACHED_SIZES)]


def scope(name: str, version: str, schema_url: str | None, items: Iterable[bytes]) -> list[bytes]:
    """ScopeSpans, ScopeMetrics or ScopeLogs, in parts. `items` is the encoded field 2, also in parts."""
    head = (protobuf.text(1, name) if name else b"") + (protobuf.text(2, version) if version else b"")
    return _wrap_field(
        2, [protobuf.length_delimited(1, head), *items, protobuf.text(3, schema_url) if schema_url else b""]
    )


def item(encoded: bytes) -> bytes:
    """A span or log record as field 2 of the message of its scope."""
    return item_prefix(len(encoded)) + encoded


def item_prefix(size: int) -> bytes:
    """Tag and length of an item of `size` bytes."""
    return ITEM_PREFIX[size] if size < CACHED_SIZES else protobuf.tag(2, 2) + protobuf.varint(size)


def request(resource: Mapping[str, Any], schema_url: str, scopes: Iterable[bytes]) -> bytes:
    """An export request with one resource; `scopes` are in parts.

    The parts are joined once: allocating memory for a copy of a batch costs more than copying.
    """
    return b"".join(
        _wrap_field(
            1, [protobuf.length_delimited(1, protobuf.attributes(1, resource)), *scopes, protobuf.text(3, schema_url)]
        )
    )


def _wrap_field(field: int, parts: list[bytes]) -> list[bytes]:
    """A message as a field, without copying its content."""
    return [protobuf.tag(field, 2) + protobuf.varint(sum(map(len, parts))), *parts]
