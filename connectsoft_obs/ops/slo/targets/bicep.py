"""Formats Python values as Bicep source: escaped strings, objects and arrays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPES = {"\\": r"\\", "'": r"\'", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


def format_string(text: str) -> str:
    """Return a single-quoted string literal with control characters and interpolation escaped."""
    escaped = "".join(_ESCAPES.get(c) or (f"\\u{{{ord(c):x}}}" if ord(c) < 0x20 or ord(c) == 0x7F else c) for c in text)
    return "'" + escaped.replace("${", "\\${") + "'"


def format_value(value: Any, names: frozenset[str], indent: str = "") -> str:
    """Return a value as Bicep source.

    Args:
        value: mappings, sequences, strings, integers and booleans.
        names: strings that are written without quotes, as references to a parameter or variable.
        indent: indentation of the line on which the value starts.
    """
    return "\n".join(_lines(value, names, indent))


def _lines(value: Any, names: frozenset[str], indent: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield "{"
        for key, item in value.items():
            property_name = key if _IDENTIFIER.fullmatch(key) else format_string(key)
            yield f"{indent}  {property_name}: {format_value(item, names, indent + '  ')}"
        yield f"{indent}}}"
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        yield "["
        for item in value:
            yield f"{indent}  {format_value(item, names, indent + '  ')}"
        yield f"{indent}]"
    else:
        yield _scalar(value, names)


def _scalar(value: Any, names: frozenset[str]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return value if value in names else format_string(value)
    return "{}" if isinstance(value, Mapping) else "[]"
