"""The loggers that applications hold: structlog's interface, straight into the stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from opentelemetry.context import get_current

from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.logs.levels import CRITICAL, DEBUG, ERROR, INFO, LEVEL_ALIASES, LEVEL_BY_NAME, WARNING
from connectsoft_obs.signals.logs.pipeline import LogPipeline
from connectsoft_obs.signals.logs.structlog_events import exception_of, formatted, from_event_dict

Current = Callable[[], LogPipeline]
Processors = Sequence[Callable[[Any, str, Any], Any]]

_METHODS = {number: name for name, number in LEVEL_BY_NAME.items()}
# What structlog.contextvars.bind_contextvars() has ever bound; while nothing was, nobody needs to look for it.
_EVER_BOUND: Any = getattr(structlog.contextvars, "_CONTEXT_VARS", True)


class Logger:
    """A bound logger as structlog has them: `info("order placed", total=99.5)`, `bind(...)`, `exception(...)`.

    Immutable and thread-safe. It asks for the stream each time it is used, so one made at import follows `configure()`
    and `capture()`. What `structlog.contextvars` has bound is on its lines too.

    Args:
        stream: gives the stream in force.
        name: the logger's name; it may be empty.
        context: fields of every line.
        processors: structlog processors to run first, as somebody may add to structlog's configuration.
    """

    __slots__ = ("_context", "_name", "_processors", "_stream")

    def __init__(self, stream: Current, name: str, context: dict[str, Any], processors: Processors = ()) -> None:
        self._stream = stream
        self._name = name
        self._context = context
        self._processors = processors

    def bind(self, **new_values: Any) -> Logger:
        """A logger that puts these on every line too."""
        return Logger(self._stream, self._name, {**self._context, **new_values}, self._processors)

    def unbind(self, *keys: str) -> Logger:
        """A logger without these; KeyError for one that is not bound."""
        rest = dict(self._context)
        for key in keys:
            del rest[key]
        return Logger(self._stream, self._name, rest, self._processors)

    def try_unbind(self, *keys: str) -> Logger:
        """A logger without these, bound or not."""
        rest = {key: value for key, value in self._context.items() if key not in keys}
        return Logger(self._stream, self._name, rest, self._processors)

    def new(self, **new_values: Any) -> Logger:
        """A logger with these alone."""
        return Logger(self._stream, self._name, new_values, self._processors)

    def debug(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Write a DEBUG line."""
        self._write(DEBUG, event, args, fields)

    def info(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Write an INFO line."""
        self._write(INFO, event, args, fields)

    def warning(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Write a WARN line."""
        self._write(WARNING, event, args, fields)

    def error(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Write an ERROR line."""
        self._write(ERROR, event, args, fields)

    def critical(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Write a FATAL line."""
        self._write(CRITICAL, event, args, fields)

    def exception(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Write an ERROR line with the exception that is being handled."""
        fields.setdefault("exc_info", True)
        self._write(ERROR, event, args, fields)

    def log(self, level: int | str, event: Any = "", *args: Any, **fields: Any) -> None:
        """Write a line of any level."""
        number = LEVEL_ALIASES.get(level.lower(), INFO) if isinstance(level, str) else level
        self._write(number, event, args, fields)

    warn = warning
    fatal = critical
    err = error
    msg = info

    # Nothing here blocks, so what is awaited is the same.
    async def adebug(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """`debug`, awaited."""
        self._write(DEBUG, event, args, fields)

    async def ainfo(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """`info`, awaited."""
        self._write(INFO, event, args, fields)

    async def awarning(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """`warning`, awaited."""
        self._write(WARNING, event, args, fields)

    async def aerror(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """`error`, awaited."""
        self._write(ERROR, event, args, fields)

    async def acritical(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """`critical`, awaited."""
        self._write(CRITICAL, event, args, fields)

    async def aexception(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """`exception`, awaited."""
        fields.setdefault("exc_info", True)
        self._write(ERROR, event, args, fields)

    async def alog(self, level: int | str, event: Any = "", *args: Any, **fields: Any) -> None:
        """`log`, awaited."""
        self.log(level, event, *args, **fields)

    awarn = awarning
    afatal = acritical
    amsg = ainfo

    def is_enabled_for(self, level: int) -> bool:
        """Whether a line of this level would be written."""
        return level >= self.get_effective_level()

    def get_effective_level(self) -> int:
        """The lowest level that would be written, as the standard library numbers them."""
        return self._stream().levels.effective_level(self._name)

    def _write(self, level: int, event: Any, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        try:
            stream = self._stream()
            if level < stream.levels.effective_level(self._name):
                return
        except Exception as failure:  # noqa: BLE001  a log call never fails the caller
            record_internal_error("logs", failure)
            return
        if type(event) is str and not event and "event" in fields:
            event = fields.pop("event")  # as structlog's own loggers take it by its name
        if self._context:
            fields = {**self._context, **fields}
        if _EVER_BOUND:
            fields = {**structlog.contextvars.get_contextvars(), **fields}
        if self._processors:
            if (processed := self._processed(level, event, args, fields)) is None:
                return
            (event, fields), args = processed, ()
        try:
            self._say(stream, level, event, args, fields)
        except Exception as failure:  # noqa: BLE001  a log call never fails the caller
            record_internal_error("logs", failure)

    def _say(self, stream: LogPipeline, level: int, event: Any, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        message = event if type(event) is str else safe_str(event, str)
        if args:
            message = formatted(message, args)
        error = None
        if "exc_info" in fields or "stack_info" in fields:
            error = exception_of(fields)
        stream.write(get_current(), level, message, fields, self._name, error)

    def _processed(
        self, level: int, event: Any, args: tuple[Any, ...], fields: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        """Event and fields after processors that were added to structlog's configuration; None for a dropped one."""
        result: Any = {**fields, "event": formatted(event, args) if args else event}
        kept, method = dict(result), _METHODS.get(level, "info")
        try:
            for processor in self._processors:
                kept = dict(result)
                result = processor(self, method, result)
        except structlog.DropEvent:
            return None
        # A renderer at the end has made text of it; the fields it was made of say more.
        found = from_event_dict(method, result if isinstance(result, Mapping) else kept)
        return found.message, found.fields if found.error is None else {**found.fields, "exc_info": found.error}
