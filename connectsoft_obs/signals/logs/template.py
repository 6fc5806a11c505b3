"""Lines of one kind as JSON: what they all say is encoded once, with room for what differs.

Half the cost of putting the same line together and encoding it whole (tests/bench/line.py).
"""

from __future__ import annotations

from collections.abc import Sequence
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

    __slots__ = ("_order", "_pattern")

    def __init__(self, line: dict[str, Any], texts: Sequence[str], values: Sequence[str]) -> None:
        marks = {key: chr(_FIRST + number) for number, key in enumerate((*texts, *values))}
        text = orjson.dumps({**line, **marks}).decode()
        if any(text.count(mark) != 1 for mark in marks.values()):
            raise ValueError(text)
        places = sorted(range(len(marks)), key=lambda number: text.index(chr(_FIRST + number)))
        pattern = f"{text[:-1]},".replace("%", "%%")
        for key, mark in marks.items():
            pattern = pattern.replace(*((mark, "%s") if key in texts else (f'"{mark}"', "%s")))
        self._pattern = pattern
        self._order = itemgetter(*places)

    def line(self, given: Sequence[str], own: dict[str, Any]) -> bytes:
        """The line with `given` in its room, `texts` first, and the fields of `own`, at least one, at its end.

        Raises:
            TypeError: something in `own` is not JSON.
        """
        head: str = self._pattern % self._order(given)
        return head.encode() + orjson.dumps(own, None, orjson.OPT_APPEND_NEWLINE)[1:]
