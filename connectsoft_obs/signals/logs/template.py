"""Lines of one kind as JSON: what they all say is encoded once, with room for what differs.

A third of the cost of putting the same line together and encoding it whole (tests/bench/line.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import orjson

_FIRST = 0xE000
"""Characters for private use, which stand where there is room while the rest is encoded."""


class Template:
    """Immutable and thread-safe.

    Args:
        line: the line; what it has under the keys of `texts` and `values` is replaced each time.
        texts: keys of strings that need no escaping, ids and times.
        values: keys of what is given as JSON.

    Raises:
        ValueError: the line itself holds a character that is needed to mark the room.
    """

    __slots__ = ("_order", "_parts")

    def __init__(self, line: dict[str, Any], texts: Sequence[str], values: Sequence[str]) -> None:
        marks = {key: chr(_FIRST + number) for number, key in enumerate((*texts, *values))}
        text = orjson.dumps({**line, **marks})
        if any(text.count(mark.encode()) != 1 for mark in marks.values()):
            raise ValueError(text)
        rooms = [mark.encode() if key in texts else f'"{mark}"'.encode() for key, mark in marks.items()]
        places = sorted(range(len(rooms)), key=lambda number: text.index(rooms[number]))
        parts: list[bytes] = []
        rest = text[:-1]
        for place in places:
            before, _, rest = rest.partition(rooms[place])
            parts += [before, b""]
        self._parts: list[bytes] = [*parts, rest, b"", b"}\n"]  # the last room is for the fields at the end
        last = len(rooms)
        self._order: Callable[[Sequence[bytes]], Sequence[bytes]] | None = (
            None if places == list(range(last)) else itemgetter(*places, last)
        )

    def line(self, given: Sequence[bytes]) -> bytes:
        """The line with `given` in its room: `texts`, `values`, and in the end more members, each after a comma."""
        parts = self._parts.copy()
        parts[1::2] = given if self._order is None else self._order(given)
        return b"".join(parts)
