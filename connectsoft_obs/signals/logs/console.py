"""Human-readable renderer for terminals: one row of aligned, coloured text, and a short stack trace.

No row is longer than the terminal is wide. Messages, exception messages, and the fields of warnings and errors continue
on the next row. Other fields that do not fit are left out, marked by an ellipsis; the other formats have every field.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

from connectsoft_obs.process import terminal
from connectsoft_obs.process.terminal import Segment, display_width, elide, escape_control
from connectsoft_obs.signals.logs.profiles import OTEL
from connectsoft_obs.signals.logs.traceback_folding import fold_frames
from connectsoft_obs.vocabulary import (
    CLIENT_ADDRESS,
    CODE_STACK,
    CORRELATION_ID,
    DIMENSIONS,
    ERROR_TYPE,
    EVENT_NAME,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
    HTTP_METHOD,
    HTTP_RESPONSE_BODY_SIZE,
    HTTP_ROUTE,
    HTTP_STATUS,
    OUTCOME,
    OWN_LOG_ATTRIBUTES,
    REQUEST_DURATION,
    STREAM_DURATION,
    STREAM_KIND,
    URL_PATH,
    USER_AGENT,
    duration_attribute,
)

_SEVERITY_COLOURS: Final = {
    "DEBUG": terminal.CYAN,
    "INFO": terminal.GREEN,
    "WARN": terminal.YELLOW,
    "ERROR": terminal.RED,
    "FATAL": terminal.MAGENTA,
}
_STATUS_COLOURS: Final = {2: terminal.GREEN, 3: terminal.CYAN, 4: terminal.YELLOW, 5: terminal.RED}
_REQUEST_DURATION: Final = duration_attribute(REQUEST_DURATION.name)
_STREAM_DURATION: Final = duration_attribute(STREAM_DURATION.name)
_STACK_FIELDS: Final = (EXCEPTION_STACKTRACE, CODE_STACK)
_OMITTED_FIELDS: Final = frozenset(
    {*OTEL.leading_keys, CORRELATION_ID, EVENT_NAME, EXCEPTION_TYPE, EXCEPTION_MESSAGE, *_STACK_FIELDS}
)
_ACCESS_TEXT_FIELDS: Final = frozenset(
    {HTTP_METHOD, URL_PATH, HTTP_STATUS, OUTCOME, _REQUEST_DURATION, _STREAM_DURATION}
)
"""Fields that the text or the severity of an access log line contains."""
_LAST_ACCESS_FIELDS: Final = (HTTP_ROUTE, HTTP_RESPONSE_BODY_SIZE, CLIENT_ADDRESS, USER_AGENT)
_SHORT_NAMES: Final = {
    **{attribute: name for name, attribute in (OWN_LOG_ATTRIBUTES | DIMENSIONS).items()},
    HTTP_ROUTE: "route",
    HTTP_RESPONSE_BODY_SIZE: "bytes",
    CLIENT_ADDRESS: "client",
    USER_AGENT: "user_agent",
    STREAM_KIND: "kind",
}
_COMPLETE_SEVERITIES: Final = frozenset({"WARN", "ERROR", "FATAL"})
_TRACE_ID_LENGTH: Final = 8
_MAX_FIELD_ROWS: Final = 10
_TEXT_COLUMNS: Final = 32
_MIN_TEXT_COLUMNS: Final = 20
_INDENT: Final = "    "


class Console:
    """Renders lines of the `otel` profile for a terminal.

    Args:
        get_stream: returns the stream that the lines are written to; its width can change.
        folds_frames: whether to leave out frames of libraries in stack traces.
    """

    def __init__(self, get_stream: Callable[[], Any], folds_frames: bool = True) -> None:
        self._get_stream = get_stream
        self._has_colours = terminal.has_colours(get_stream(), os.environ)
        self._folds_frames = folds_frames
        try:
            self._directory = os.getcwd()
        except OSError:  # it was deleted
            self._directory = ""

    def render(self, line: dict[str, Any]) -> bytes:
        """One row, followed by the rest of a long message and the indented stack trace if there are any."""
        columns = terminal.columns(self._get_stream())
        severity = str(line["severity"])
        time, level = str(line["timestamp"])[11:23], f"{severity:<5}"
        indent = len(time) + len(level) + 2
        width = max(columns - indent, _MIN_TEXT_COLUMNS)
        is_access_line = _REQUEST_DURATION in line or _STREAM_DURATION in line
        rows = [self._access_row(line, width)] if is_access_line else self._message_rows(line, width)
        start = f"{self._paint(terminal.DIM, time)} {self._paint(_SEVERITY_COLOURS.get(severity, ''), level)} "
        rows = [start + rows[0], *(" " * indent + row for row in rows[1:])]
        width = max(columns - len(_INDENT), _MIN_TEXT_COLUMNS)
        for stack in filter(None, map(line.get, _STACK_FIELDS)):
            rows += (_INDENT + row for row in self._stack_rows(str(stack), width))
        return ("\n".join(row.rstrip() for row in rows) + "\n").encode("utf-8", "replace")

    def _message_rows(self, line: dict[str, Any], width: int) -> list[str]:
        texts = [escape_control(part) for part in str(line["message"]).splitlines()] or [""]
        *rows, last = [row for text in texts for row in terminal.wrap(text, width)]
        fields = [
            segment
            for name, value in line.items()
            if name not in _OMITTED_FIELDS
            for segment in ((terminal.DIM, f" {_escape_name(name)}="), ("", _format_value(name, value)))
        ]
        origin, more_rows = escape_control(line.get("logger", "")), []
        if (
            line["severity"] in _COMPLETE_SEVERITIES
            and _total_width(fields) + display_width(f"{last} {origin}") > width
        ):
            text = "".join(part for _, part in fields).strip()
            more_rows, fields = terminal.wrap(text, width)[:_MAX_FIELD_ROWS], []
        rows = [
            *(self._paint(terminal.BOLD, row) for row in rows),
            self._row([(terminal.BOLD, last)], fields, origin, line, width),
        ]
        return [*rows, *(self._paint(terminal.DIM, row) for row in more_rows)]

    def _access_row(self, line: dict[str, Any], width: int) -> str:
        """`GET /orders/42 200 48 ms`, and the other fields."""
        seconds = line.get(_REQUEST_DURATION, line.get(_STREAM_DURATION))
        duration = terminal.format_duration(seconds) if isinstance(seconds, float | int) else ""
        method, status = escape_control(line.get(HTTP_METHOD, "HTTP")), str(line.get(HTTP_STATUS, ""))
        path = escape_control(line.get(URL_PATH) or line.get(HTTP_ROUTE) or "")
        path = elide(path, max(width - len(f"{method}   {status} {duration} {'':{_TRACE_ID_LENGTH}}…"), 1))
        colour = _STATUS_COLOURS.get(int(status) // 100, "") if status.isdigit() else ""
        segments = [(terminal.BOLD, f"{method} {path}".rstrip()), (colour, f" {status}".rstrip()), ("", f" {duration}")]
        names = [name for name in line if name not in _OMITTED_FIELDS and name not in _ACCESS_TEXT_FIELDS]
        names.sort(key=lambda name: _LAST_ACCESS_FIELDS.index(name) if name in _LAST_ACCESS_FIELDS else -1)
        fields = [
            (
                "" if name == ERROR_TYPE else terminal.DIM,
                f" {_escape_name(name)}={_format_value(name, line[name])}",
            )
            for name in names
            if name != HTTP_ROUTE or line[name] != path
        ]
        return self._row(segments, fields, "", line, width)

    def _row(self, text: list[Segment], fields: list[Segment], origin: str, line: dict[str, Any], width: int) -> str:
        """A row of a text, fields, logger name and trace id; if they do not fit, without the logger name and last fields."""
        text_width = _total_width(text)
        padding = " " * (_TEXT_COLUMNS - text_width) if width >= 2 * _TEXT_COLUMNS else ""
        segments = [*text, ("", padding), *fields]
        trace_id = str(line.get("trace_id", ""))[:_TRACE_ID_LENGTH]
        end = "".join(f" {part}" for part in (origin, trace_id) if part)
        if _total_width(segments) + display_width(end) > width:
            end = f" {trace_id}" if trace_id and text_width + len(trace_id) < width else ""
            segments = terminal.elide_segments(segments, width - len(end))
        return "".join(self._paint(code, part) for code, part in [*segments, (terminal.DIM, end)])

    def _stack_rows(self, stack: str, width: int) -> Iterator[str]:
        for row in fold_frames(stack, self._directory, self._folds_frames):
            text = escape_control(row.text)
            if row.is_location:
                margin, _, path = text.partition('File "')
                path, _, location = path.rpartition('", line ')
                location = f'", line {location}'
                path = terminal.elide_start(path, max(width - display_width(margin) - 6 - display_width(location), 8))
                text = elide(f'{margin}File "{path}{location}', width)
            if row.is_library or text.startswith("  "):
                yield self._paint(terminal.DIM, elide(text, width)) if row.is_library else elide(text, width)
            else:
                yield from terminal.wrap(text, width)

    def _paint(self, code: str, text: str) -> str:
        return terminal.paint(code, text) if self._has_colours and code else text


def _total_width(segments: list[Segment]) -> int:
    return sum(display_width(text) for _, text in segments)


def _escape_name(name: str) -> str:
    return escape_control(_SHORT_NAMES.get(name) or str(name).removeprefix("connectsoft."))


def _format_value(name: str, value: Any) -> str:
    if isinstance(value, float):
        return terminal.format_duration(value).replace(" ", "") if name.endswith(".duration") else f"{value:.6g}"
    if isinstance(value, dict | list):
        return escape_control(orjson.dumps(value, str).decode("utf-8", "replace"))
    text = str(value)
    return text if text and " " not in text and text.isprintable() else repr(text)
