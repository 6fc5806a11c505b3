"""A line for people: aligned, coloured, exceptions as Python prints them."""

from __future__ import annotations

from typing import Any

from connectsoft_obs.signals.logs.profiles import OTEL
from connectsoft_obs.vocabulary import (
    CORRELATION_ID,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
    HTTP_METHOD,
    HTTP_ROUTE,
    HTTP_STATUS,
    OUTCOME,
    REQUEST_DURATION,
)

_COLOURS = {"DEBUG": "\x1b[36m", "INFO": "\x1b[32m", "WARN": "\x1b[33m", "ERROR": "\x1b[31m", "FATAL": "\x1b[35m"}
_DIM, _BOLD, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[0m"
_ASIDE = frozenset({*OTEL.head, CORRELATION_ID, EXCEPTION_TYPE, EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE})
_IN_ITS_MESSAGE = frozenset({HTTP_METHOD, HTTP_ROUTE, HTTP_STATUS, OUTCOME})
"""What an access line says in its message, or by its level."""


class Console:
    """Renders lines of the `otel` profile for a terminal.

    Args:
        colour: whether to use ANSI colours.
    """

    def __init__(self, colour: bool = True) -> None:
        self._colour = colour

    def render(self, line: dict[str, Any]) -> bytes:
        """One line, and the traceback under it where there is one."""
        word = str(line["severity"])
        trace = str(line.get("trace_id", ""))[:8]
        aside = _ASIDE | _IN_ITS_MESSAGE if REQUEST_DURATION.name in line else _ASIDE
        facts = " ".join(f"{self._dim(key + '=')}{_short(value)}" for key, value in line.items() if key not in aside)
        time = self._dim(str(line["timestamp"])[11:23])
        level = self._paint(_COLOURS.get(word, ""), f"{word:<5}")
        message = self._paint(_BOLD, f"{_clean(line['message']):<32}")
        parts = [time, level, message, facts, self._dim(" ".join(filter(None, (str(line.get("logger", "")), trace))))]
        text = " ".join(part for part in parts if part).rstrip()
        if stack := line.get(EXCEPTION_STACKTRACE):
            text += "\n" + "\n".join(f"    {_clean(row)}" for row in str(stack).rstrip().splitlines())
        return (text + "\n").encode("utf-8", "replace")

    def _paint(self, code: str, text: str) -> str:
        return f"{code}{text}{_RESET}" if self._colour and code else text

    def _dim(self, text: str) -> str:
        return self._paint(_DIM, text) if text else ""


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = _clean(value)
    return text if text and " " not in text else repr(text)


def _clean(value: Any) -> str:
    """Without control characters: what a stranger sent must not move the cursor."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(value))
