"""Text for terminals: colours, width, elision, and escaping of control characters."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

BOLD: Final = "\x1b[1m"
DIM: Final = "\x1b[2m"
RED: Final = "\x1b[31m"
GREEN: Final = "\x1b[32m"
YELLOW: Final = "\x1b[33m"
MAGENTA: Final = "\x1b[35m"
CYAN: Final = "\x1b[36m"
_RESET: Final = "\x1b[0m"
_ELLIPSIS: Final = "…"
_UNKNOWN_COLUMNS: Final = 80
Segment: TypeAlias = tuple[str, str]
"""A colour or style, or "", and a text."""

_ZERO_WIDTH: Final = frozenset({"Mn", "Me"})


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal. Does not raise."""
    try:
        return bool(stream.isatty())
    except Exception:  # noqa: BLE001  a stream of another library can raise anything
        return False


def has_colours(stream: Any, environ: Mapping[str, str]) -> bool:
    """Whether output to a stream is coloured: as Python's own tracebacks, by NO_COLOR, FORCE_COLOR and TERM."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return environ.get("TERM") != "dumb" and is_terminal(stream)


def columns(stream: Any) -> int:
    """Width of a terminal: that of COLUMNS, else its own, else 80. `sys.maxsize` for a file or pipe, which has no width."""
    if not is_terminal(stream):
        return sys.maxsize
    width = os.environ.get("COLUMNS", "")
    if width.isascii() and width.isdigit() and int(width):
        return int(width)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _UNKNOWN_COLUMNS
    except (AttributeError, OSError, ValueError):  # a stream of another library, or closed
        return _UNKNOWN_COLUMNS


def paint(code: str, text: str) -> str:
    """Text in a colour or style."""
    return f"{code}{text}{_RESET}" if text else ""


def escape_control(value: Any) -> str:
    """Text with control characters escaped, so that data cannot send terminal escape sequences or forge lines."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def display_width(text: str) -> int:
    """Number of columns of printable text: East Asian wide characters take two, combining marks none."""
    return len(text) if text.isascii() else sum(map(_character_width, text))


def elide(text: str, width: int) -> str:
    """Text of at most `width` columns; a longer one ends in an ellipsis."""
    if display_width(text) <= width:
        return text
    return text[: _fitting_length(text, width - 1)] + _ELLIPSIS if width > 0 else ""


def elide_start(text: str, width: int) -> str:
    """Text of at most `width` columns; a longer one begins with an ellipsis."""
    if display_width(text) <= width:
        return text
    if width <= 0:
        return ""
    return _ELLIPSIS + text[len(text) - _fitting_length(text[::-1], width - 1) :]


def elide_segments(segments: Sequence[Segment], width: int) -> list[Segment]:
    """Segments of at most `width` columns in all; if they are longer, the last one ends in an ellipsis."""
    if sum(display_width(text) for _, text in segments) <= width:
        return [*segments]
    result: list[Segment] = []
    for code, text in segments:
        shown = text[: _fitting_length(text, width - 1)]
        result.append((code, shown))
        width -= display_width(shown)
        if shown != text:
            break
    return [*result, (DIM, _ELLIPSIS)] if width > 0 else result


def wrap(text: str, width: int) -> list[str]:
    """Rows of at most `width` columns, broken at spaces where possible."""
    rows = []
    while display_width(text) > width:
        length = max(_fitting_length(text, width), 1)
        space = text.rfind(" ", 1, length + 1)
        length = space if space > length // 2 else length
        rows.append(text[:length])
        text = text[length:].removeprefix(" ")
    return [*rows, text]


def format_duration(seconds: float) -> str:
    """A duration with its unit: `3.4 ms`, `48 ms`, `1.24 s`."""
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.2f} s"


def _fitting_length(text: str, width: int) -> int:
    """Number of leading characters that fit into `width` columns."""
    if text.isascii():
        return max(width, 0)
    used = 0
    for length, character in enumerate(text):
        used += _character_width(character)
        if used > width:
            return length
    return len(text)


def _character_width(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.category(character) in _ZERO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
