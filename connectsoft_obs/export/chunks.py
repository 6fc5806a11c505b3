"""Chunks: groups of items that are queued and exported together.

The queue holds encoded chunks instead of items, so that the exporter thread copies memory instead of touching one object
after another on another core (tests/bench/export_stall.py, tests/bench/inprocess.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any


class Chunk:
    """Items of one instrumentation scope. Immutable.

    Args:
        scope: the instrumentation scope, or None for items without one.
        count: number of items.
        content: the encoded items, each as field 2 of the message of its scope; or a list of items that are not encoded.
    """

    __slots__ = ("content", "count", "scope", "size")

    def __init__(self, scope: Any, count: int, content: bytes | list[Any]) -> None:
        self.scope: Any = scope
        self.count: int = count
        self.content: bytes | list[Any] = content
        self.size: int = len(content) if isinstance(content, bytes) else 0
        """Bytes; 0 for items that are not encoded yet."""

    def split(self) -> list[Chunk]:
        """Split into two chunks, if there are at least two items."""
        content, middle = self.content, self.count // 2
        if not middle:
            return [self]
        cut = _end_offset(content, middle) if isinstance(content, bytes) else middle
        return [Chunk(self.scope, middle, content[:cut]), Chunk(self.scope, self.count - middle, content[cut:])]


def unencoded_chunks(items: Sequence[Any]) -> list[Chunk]:
    """One chunk of items that are encoded later."""
    return [Chunk(None, len(items), list(items))]


def chunks_by_scope(items: Iterable[tuple[Any, bytes]]) -> list[Chunk]:
    """Group encoded items by scope."""
    scopes: dict[Any, list[bytes]] = {}
    for scope, encoded in items:
        scopes.setdefault(scope, []).append(encoded)
    return [Chunk(scope, len(parts), b"".join(parts)) for scope, parts in scopes.items()]


def content_by_scope(chunks: Iterable[Chunk]) -> dict[Any, list[Any]]:
    """Encoded content of the chunks by scope, in parts."""
    scopes: dict[Any, list[Any]] = {}
    for chunk in chunks:
        scopes.setdefault(chunk.scope, []).append(chunk.content)
    return scopes


def iter_items(chunks: Iterable[Chunk]) -> list[Any]:
    """Items of chunks that are not encoded."""
    return list(chain.from_iterable(chunk.content for chunk in chunks))


def item_count(chunks: Iterable[Chunk]) -> int:
    """Number of items in the chunks."""
    return sum(chunk.count for chunk in chunks)


def _end_offset(content: bytes, items: int) -> int:
    """Offset after a number of length-delimited fields, each with a tag of one byte."""
    offset = 0
    for _ in range(items):
        offset, length, shift = offset + 1, 0, 0
        while True:
            group = content[offset]
            length |= (group & 127) << shift
            offset, shift = offset + 1, shift + 7
            if group < 128:
                break
        offset += length
    return offset
