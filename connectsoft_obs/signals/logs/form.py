"""What log lines have in common: forms that are laid out once, fragments that stand in many lines, and ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from connectsoft_obs.signals.logs.template import Template

Ids: TypeAlias = tuple[str, str, str]
"""Trace id, span id and flags in hexadecimal digits."""

Digits: TypeAlias = tuple[bytes, bytes, bytes]
"""The same as bytes, as they stand in a line."""

About: TypeAlias = tuple[str | None, str]
"""An operation's correlation id and name, as they were when it ended."""


class Form:
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

    def own(self, numbers: tuple[float, ...], more: Mapping[str, Any] | None, around: Fragment) -> dict[str, Any]:
        """What one line says beyond the fixed attributes."""
        return {**dict(zip(self.numbers, numbers, strict=True)), **(more or {}), **around.fields}


class Fragment:
    """Fields that many lines have in common, and the same as JSON.

    Args:
        fields: under their OpenTelemetry names.
        text: as members of an object, each after a comma; None for what is not JSON.
    """

    __slots__ = ("fields", "text")

    def __init__(self, fields: dict[str, Any], text: bytes | None) -> None:
        self.fields: dict[str, Any] = fields
        self.text: bytes | None = text


NOTHING: Final = Fragment({}, b"")


def ids_in(digits: Digits) -> Ids:
    """The same as text."""
    trace, span, flags = digits
    return trace.decode(), span.decode(), flags.decode()


def ids_of(span: Any) -> Ids | None:
    """The ids of a span in hexadecimal digits, None for one that names no trace; spans of ours keep theirs."""
    kept: Ids | None = getattr(span, "hexed", None) or getattr(span, "hex", None)
    if kept is not None:
        return kept
    context = span.get_span_context()
    if not context.trace_id:
        return None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{context.trace_flags:02x}"
