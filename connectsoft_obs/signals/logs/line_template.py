"""Templates of log lines whose fixed fields are encoded once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

import orjson

TraceIds: TypeAlias = tuple[str, str, str]
"""Trace id, span id and flags in hexadecimal digits."""

HexIds: TypeAlias = tuple[bytes, bytes, bytes]
"""The same as bytes, as they stand in a line."""

OperationInfo: TypeAlias = tuple[str | None, str]
"""An operation's correlation id and name, as they were when it ended."""


class LineTemplate:
    """A line that is said again and again: what is the same each time, laid out once.

    Args:
        message: its message.
        logger: its logger.
        attributes: its fixed attributes, under their OpenTelemetry names.
        numbers: names of numbers that it has each time.
        line: the line of a profile that has all this, and room for the rest.
    """

    __slots__ = ("attributes", "line", "logger", "message", "numbers", "templates")

    def __init__(
        self, message: str, logger: str, attributes: dict[str, Any], numbers: tuple[str, ...], line: dict[str, Any]
    ) -> None:
        self.message: str = message
        self.logger: str = logger
        self.attributes: dict[str, Any] = attributes
        self.numbers: tuple[str, ...] = numbers
        self.line: dict[str, Any] = line
        self.templates: dict[int, Template | None] = {}

    def own(self, numbers: tuple[float, ...], more: Mapping[str, Any] | None, around: EncodedFields) -> dict[str, Any]:
        """What one line says beyond the fixed attributes."""
        return {**dict(zip(self.numbers, numbers, strict=True)), **(more or {}), **around.fields}


class EncodedFields:
    """Fields that many lines have in common, and the same as JSON.

    Args:
        fields: under their OpenTelemetry names.
        text: as members of an object, each after a comma; None for what is not JSON.
    """

    __slots__ = ("fields", "text")

    def __init__(self, fields: dict[str, Any], text: bytes | None) -> None:
        self.fields: dict[str, Any] = fields
        self.text: bytes | None = text


NOTHING: Final = EncodedFields({}, b"")


def ids_in(digits: HexIds) -> TraceIds:
    """The same as text."""
    trace, span, flags = digits
    return trace.decode(), span.decode(), flags.decode()


def ids_of(span: Any) -> TraceIds | None:
    """The ids of a span in hexadecimal digits, None for one that names no trace; spans of ours keep theirs."""
    kept: TraceIds | None = getattr(span, "hexed", None) or getattr(span, "hex", None)
    if kept is not None:
        return kept
    context = span.get_span_context()
    if not context.trace_id:
        return None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{context.trace_flags:02x}"


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
