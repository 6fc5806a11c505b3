"""Human-readable renderer for terminals: aligned, coloured, stack traces as Python prints them."""

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
    duration_attribute,
)

_COLOURS = {"DEBUG": "\x1b[36m", "INFO": "\x1b[32m", "WARN": "\x1b[33m", "ERROR": "\x1b[31m", "FATAL": "\x1b[35m"}
_DIM, _BOLD, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[0m"
_OMITTED_FIELDS = frozenset(
    {*OTEL.leading_keys, CORRELATION_ID, EXCEPTION_TYPE, EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE}
)
_ACCESS_MESSAGE_FIELDS = frozenset({HTTP_METHOD, HTTP_ROUTE, HTTP_STATUS, OUTCOME})
"""Fields that the message or the severity of an access log line contains."""


class Console:
    """Renders lines of the `otel` profile for a terminal.

    Args:
        colour: whether to use ANSI colours.
    """

    def __init__(self, colour: bool = True) -> None:
        self._colour = colour

    def render(self, line: dict[str, Any]) -> bytes:
        """One line, followed by the indented stack trace if there is one."""
        severity = str(line["severity"])
        trace_id = str(line.get("trace_id", ""))[:8]
        omitted = (
            _OMITTED_FIELDS | _ACCESS_MESSAGE_FIELDS
            if duration_attribute(REQUEST_DURATION.name) in line
            else _OMITTED_FIELDS
        )
        fields = " ".join(
            f"{self._dim(key + '=')}{_format_value(value)}" for key, value in line.items() if key not in omitted
        )
        time = self._dim(str(line["timestamp"])[11:23])
        level = self._paint(_COLOURS.get(severity, ""), f"{severity:<5}")
        message = self._paint(_BOLD, f"{_escape_control(line['message']):<32}")
        origin = self._dim(" ".join(filter(None, (str(line.get("logger", "")), trace_id))))
        text = " ".join(part for part in (time, level, message, fields, origin) if part).rstrip()
        if stack := line.get(EXCEPTION_STACKTRACE):
            text += "\n" + "\n".join(f"    {_escape_control(row)}" for row in str(stack).rstrip().splitlines())
        return (text + "\n").encode("utf-8", "replace")

    def _paint(self, code: str, text: str) -> str:
        return f"{code}{text}{_RESET}" if self._colour and code else text

    def _dim(self, text: str) -> str:
        return self._paint(_DIM, text) if text else ""


def _format_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = _escape_control(value)
    return text if text and " " not in text else repr(text)


def _escape_control(value: Any) -> str:
    """Text with control characters escaped, so that logged input cannot send terminal escape sequences."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(value))
