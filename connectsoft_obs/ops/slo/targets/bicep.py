"""Bicep as text: strings with their escapes, objects and arrays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NewType

Expression = NewType("Expression", str)
"""Bicep that is written as it is: the name of a parameter or variable."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPES = {"\\": r"\\", "'": r"\'", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


def string(text: str) -> str:
    """A single-quoted string, with everything escaped that Bicep would read as something else."""
    escaped = "".join(_ESCAPES.get(c) or (f"\\u{{{ord(c):x}}}" if ord(c) < 0x20 or ord(c) == 0x7F else c) for c in text)
    return "'" + escaped.replace("${", "\\${") + "'"


def value(content: Any, names: frozenset[str], indent: str = "") -> str:
    """A value; text that is one of `names` refers to a parameter or variable."""
    return "\n".join(_lines(content, names, indent))


def _lines(content: Any, names: frozenset[str], indent: str) -> Iterator[str]:
    if isinstance(content, Mapping) and content:
        yield "{"
        for key, inner in content.items():
            written = key if _NAME.fullmatch(key) else string(key)
            yield f"{indent}  {written}: {value(inner, names, indent + '  ')}"
        yield f"{indent}}}"
    elif isinstance(content, Sequence) and not isinstance(content, str) and content:
        yield "["
        for inner in content:
            yield f"{indent}  {value(inner, names, indent + '  ')}"
        yield f"{indent}]"
    else:
        yield _scalar(content, names)


def _scalar(content: Any, names: frozenset[str]) -> str:
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, int):
        return str(content)
    if isinstance(content, str):
        return content if content in names else string(content)
    return "{}" if isinstance(content, Mapping) else "[]"
