"""Templates of log lines whose fixed fields are encoded once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

import orjson

TraceIds: TypeAlias = tuple[str, str, str]
"""Trace id, span id and trace flags in hexadecimal digits."""

HexIds: TypeAlias = tuple[bytes, bytes, bytes]
"""Trace id, span id and trace flags in hexadecimal digits, as ASCII bytes."""

OperationInfo: TypeAlias = tuple[str | None, str]
"""Correlation id and name of an operation when it ended."""


class LogLineTemplate:
    """The fields that all lines of one kind share, prepared once.

    Args:
        message: the message.
        logger: name of the logger.
        attributes: fixed attributes, under their OpenTelemetry names.
        number_names: names of the numeric attributes that differ from line to line.
        base_line: the line with its fixed fields, and placeholders for the others, under the keys of a profile.
    """

    __slots__ = ("attributes", "base_line", "byte_templates", "logger", "message", "number_names")

    def __init__(
        self,
        message: str,
        logger: str,
        attributes: dict[str, Any],
        number_names: tuple[str, ...],
        base_line: dict[str, Any],
    ) -> None:
        self.message: str = message
        self.logger: str = logger
        self.attributes: dict[str, Any] = attributes
        self.number_names: tuple[str, ...] = number_names
        self.base_line: dict[str, Any] = base_line
        self.byte_templates: dict[int, ByteTemplate | None] = {}
        """By level; None for a level whose lines cannot be rendered from a byte template."""

    def variable_fields(
        self, numbers: tuple[float, ...], extra_fields: Mapping[str, Any] | None, shared_fields: EncodedFields
    ) -> dict[str, Any]:
        """The attributes of one line that are not fixed."""
        return {**dict(zip(self.number_names, numbers, strict=True)), **(extra_fields or {}), **shared_fields.fields}


class EncodedFields:
    """Fields that lines of different templates share, with their JSON.

    Args:
        fields: attributes under their OpenTelemetry names.
        encoded: JSON members, each preceded by a comma; None if the fields cannot be encoded.
    """

    __slots__ = ("encoded", "fields")

    def __init__(self, fields: dict[str, Any], encoded: bytes | None) -> None:
        self.fields: dict[str, Any] = fields
        self.encoded: bytes | None = encoded


NO_FIELDS: Final = EncodedFields({}, b"")


def decode_ids(hex_ids: HexIds) -> TraceIds:
    """The ids as strings."""
    trace_id, span_id, flags = hex_ids
    return trace_id.decode(), span_id.decode(), flags.decode()


def span_ids(span: Any) -> TraceIds | None:
    """The ids of a span in hexadecimal digits; None for an invalid span. This package's spans cache them."""
    ids: TraceIds | None = getattr(span, "cached_hex_ids", None) or getattr(span, "hex", None)
    if ids is not None:
        return ids
    context = span.get_span_context()
    if not context.trace_id:
        return None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{context.trace_flags:02x}"


_FIRST_PLACEHOLDER = 0xE000
"""First of the private-use characters that mark the slots while the rest of a line is encoded."""


class ByteTemplate:
    """An encoded line with slots for the values that differ from line to line. Immutable and thread-safe.

    Args:
        line: the line; the values under the keys of `string_keys` and `json_keys` become slots.
        string_keys: keys of strings that need no escaping: ids and timestamps.
        json_keys: keys of values that are passed as JSON.

    Raises:
        ValueError: the line contains a character that is used as a placeholder.
    """

    __slots__ = ("_order", "_parts")

    def __init__(self, line: dict[str, Any], string_keys: Sequence[str], json_keys: Sequence[str]) -> None:
        placeholders = {key: chr(_FIRST_PLACEHOLDER + number) for number, key in enumerate((*string_keys, *json_keys))}
        text = orjson.dumps({**line, **placeholders})
        if any(text.count(placeholder.encode()) != 1 for placeholder in placeholders.values()):
            raise ValueError(text)
        slots = [
            placeholder.encode() if key in string_keys else f'"{placeholder}"'.encode()
            for key, placeholder in placeholders.items()
        ]
        positions = sorted(range(len(slots)), key=lambda number: text.index(slots[number]))
        parts: list[bytes] = []
        rest = text[:-1]
        for position in positions:
            fixed, _, rest = rest.partition(slots[position])
            parts += [fixed, b""]
        self._parts: list[bytes] = [*parts, rest, b"", b"}\n"]  # the last slot is for additional members
        last = len(slots)
        self._order: Callable[[Sequence[bytes]], Sequence[bytes]] | None = (
            None if positions == list(range(last)) else itemgetter(*positions, last)
        )

    def render(self, values: Sequence[bytes]) -> bytes:
        """The line with these values in its slots.

        Args:
            values: those of `string_keys`, those of `json_keys`, and additional members, each preceded by a comma.
        """
        parts = self._parts.copy()
        parts[1::2] = values if self._order is None else self._order(values)
        return b"".join(parts)
