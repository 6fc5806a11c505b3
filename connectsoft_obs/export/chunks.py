"""Finished telemetry on its way out, a few items in one piece.

A queue of pieces instead of items: what an item costs while it waits, and the thread that sends it, is then memory that
is copied, not objects that are touched one by one on another core (tests/bench/export_stall.py, tests/bench/inprocess.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any


class Chunk:
    """Some items of one scope. Immutable.

    Args:
        scope: what they have in common, None where nothing is said about that.
        count: how many.
        content: their wire form, one after another, each as field 2 of its scope's message; or a list of them as they are.
    """

    __slots__ = ("content", "count", "scope", "size")

    def __init__(self, scope: Any, count: int, content: bytes | list[Any]) -> None:
        self.scope: Any = scope
        self.count: int = count
        self.content: bytes | list[Any] = content
        self.size: int = len(content) if isinstance(content, bytes) else 0
        """Bytes, 0 for what is encoded later and by others, in batches that are small enough by their number."""

    def halves(self) -> list[Chunk]:
        """The same in two, where there are two items."""
        content, middle = self.content, self.count // 2
        if not middle:
            return [self]
        cut = _end(content, middle) if isinstance(content, bytes) else middle
        return [Chunk(self.scope, middle, content[:cut]), Chunk(self.scope, self.count - middle, content[cut:])]


def identity_chunks(items: Sequence[Any]) -> list[Chunk]:
    """Items that are encoded later."""
    return [Chunk(None, len(items), list(items))]


def by_scope(items: Iterable[tuple[Any, bytes]]) -> list[Chunk]:
    """Encoded items, each with its scope."""
    scopes: dict[Any, list[bytes]] = {}
    for scope, encoded in items:
        scopes.setdefault(scope, []).append(encoded)
    return [Chunk(scope, len(some), b"".join(some)) for scope, some in scopes.items()]


def chunk_bytes(chunks: Iterable[Chunk]) -> dict[Any, list[Any]]:
    """By scope what all its items are on the wire, in parts."""
    scopes: dict[Any, list[Any]] = {}
    for chunk in chunks:
        scopes.setdefault(chunk.scope, []).append(chunk.content)
    return scopes


def iter_items(chunks: Iterable[Chunk]) -> list[Any]:
    """The items of piles that are not encoded."""
    return list(chain.from_iterable(chunk.content for chunk in chunks))


def item_count(chunks: Iterable[Chunk]) -> int:
    """Number of their items."""
    return sum(chunk.count for chunk in chunks)


def _end(content: bytes, items: int) -> int:
    """Where so many length-delimited fields end, each with a tag of one byte."""
    place = 0
    for _ in range(items):
        place, length, shift = place + 1, 0, 0
        while True:
            group = content[place]
            length |= (group & 127) << shift
            place, shift = place + 1, shift + 7
            if group < 128:
                break
        place += length
    return place
