"""The logger that applications use: structlog's BoundLogger interface, writing directly to the log pipeline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from opentelemetry.context import get_current

from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.logs.levels import CRITICAL, DEBUG, ERROR, INFO, LEVEL_ALIASES, LEVEL_BY_NAME, WARNING
from connectsoft_obs.signals.logs.pipeline import LogPipeline
from connectsoft_obs.signals.logs.structlog_events import format_message, from_event_dict, pop_exception
from connectsoft_obs.signals.logs.structlog_private import CONTEXT_VARS

GetPipeline = Callable[[], LogPipeline]
Processors = Sequence[Callable[[Any, str, Any], Any]]

_METHOD_BY_LEVEL = {level: name for name, level in LEVEL_BY_NAME.items()}
_STDLIB_MANAGER = logging.root.manager


class Logger:
    """A bound logger like structlog's: `info("order placed", total=99.5)`, `bind(...)`, `exception(...)`.

    Immutable and thread-safe. It resolves the pipeline for each call, so a logger created at import follows
    `configure()` and `capture()`. Its records have the values of `structlog.contextvars` too. `logging.disable()` applies
    to it as to the loggers of the standard library.

    Args:
        get_pipeline: returns the current log pipeline.
        name: name of the logger; may be empty.
        context: fields of every record.
        processors: structlog processors to run first; an application can add them to structlog's configuration.
    """

    __slots__ = ("_context", "_get_pipeline", "_name", "_processors")

    def __init__(
        self, get_pipeline: GetPipeline, name: str, context: dict[str, Any], processors: Processors = ()
    ) -> None:
        self._get_pipeline = get_pipeline
        self._name = name
        self._context = context
        self._processors = processors

    def bind(self, **new_values: Any) -> Logger:
        """A logger with additional fields."""
        return Logger(self._get_pipeline, self._name, {**self._context, **new_values}, self._processors)

    def unbind(self, *keys: str) -> Logger:
        """A logger without these fields.

        Raises:
            KeyError: a field is not bound.
        """
        context = dict(self._context)
        for key in keys:
            del context[key]
        return Logger(self._get_pipeline, self._name, context, self._processors)

    def try_unbind(self, *keys: str) -> Logger:
        """A logger without these fields; those that are not bound are ignored."""
        context = {key: value for key, value in self._context.items() if key not in keys}
        return Logger(self._get_pipeline, self._name, context, self._processors)

    def new(self, **new_values: Any) -> Logger:
        """A logger with these fields only."""
        return Logger(self._get_pipeline, self._name, new_values, self._processors)

    def debug(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Log at DEBUG."""
        self._write(DEBUG, event, args, fields)

    def info(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Log at INFO."""
        self._write(INFO, event, args, fields)

    def warning(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Log at WARN."""
        self._write(WARNING, event, args, fields)

    def error(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Log at ERROR."""
        self._write(ERROR, event, args, fields)

    def critical(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Log at FATAL."""
        self._write(CRITICAL, event, args, fields)

    def exception(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Log at ERROR with the exception that is being handled."""
        fields.setdefault("exc_info", True)
        self._write(ERROR, event, args, fields)

    def log(self, level: int | str, event: Any = "", *args: Any, **fields: Any) -> None:
        """Log at any level, given as a number or a name."""
        number = LEVEL_ALIASES.get(level.lower(), INFO) if isinstance(level, str) else level
        self._write(number, event, args, fields)

    warn = warning
    fatal = critical
    err = error
    msg = info

    # The methods do not block, so the asynchronous ones call the same code.
    async def adebug(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Asynchronous `debug()`."""
        self._write(DEBUG, event, args, fields)

    async def ainfo(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Asynchronous `info()`."""
        self._write(INFO, event, args, fields)

    async def awarning(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Asynchronous `warning()`."""
        self._write(WARNING, event, args, fields)

    async def aerror(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Asynchronous `error()`."""
        self._write(ERROR, event, args, fields)

    async def acritical(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Asynchronous `critical()`."""
        self._write(CRITICAL, event, args, fields)

    async def aexception(self, event: Any = "", /, *args: Any, **fields: Any) -> None:
        """Asynchronous `exception()`."""
        fields.setdefault("exc_info", True)
        self._write(ERROR, event, args, fields)

    async def alog(self, level: int | str, event: Any = "", *args: Any, **fields: Any) -> None:
        """Asynchronous `log()`."""
        self.log(level, event, *args, **fields)

    awarn = awarning
    afatal = acritical
    amsg = ainfo

    def is_enabled_for(self, level: int) -> bool:
        """Whether a record of this level is written."""
        return level > _STDLIB_MANAGER.disable and level >= self.get_effective_level()

    def get_effective_level(self) -> int:
        """The lowest level that is written, as a number of the standard library."""
        return self._get_pipeline().levels.effective_level(self._name)

    def _write(self, level: int, event: Any, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        try:
            pipeline = self._get_pipeline()
            if level < pipeline.levels.effective_level(self._name) or level <= _STDLIB_MANAGER.disable:
                return
        except Exception as error:  # noqa: BLE001  a log call never fails the caller
            record_internal_error("logs", error)
            return
        if type(event) is str and not event and "event" in fields:
            event = fields.pop("event")  # structlog's own loggers accept the message as a keyword
        if self._context:
            fields = {**self._context, **fields}
        if CONTEXT_VARS:
            fields = {**structlog.contextvars.get_contextvars(), **fields}
        if self._processors:
            if (processed := self._run_processors(level, event, args, fields)) is None:
                return
            (event, fields), args = processed, ()
        try:
            self._emit(pipeline, level, event, args, fields)
        except Exception as error:  # noqa: BLE001  a log call never fails the caller
            record_internal_error("logs", error)

    def _emit(
        self, pipeline: LogPipeline, level: int, event: Any, args: tuple[Any, ...], fields: dict[str, Any]
    ) -> None:
        message = event if type(event) is str else safe_str(event, str)
        if args:
            message = format_message(message, args)
        error = None
        if "exc_info" in fields or "stack_info" in fields:
            error = pop_exception(fields)
        pipeline.write(get_current(), level, message, fields, self._name, error)

    def _run_processors(
        self, level: int, event: Any, args: tuple[Any, ...], fields: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        """Event and fields after the processors of structlog's configuration; None if they drop the event."""
        result: Any = {**fields, "event": format_message(event, args) if args else event}
        last_event_dict, method = dict(result), _METHOD_BY_LEVEL.get(level, "info")
        try:
            for processor in self._processors:
                last_event_dict = dict(result)
                result = processor(self, method, result)
        except structlog.DropEvent:
            return None
        # A renderer at the end of the chain returns text; the fields that it rendered are used instead.
        record = from_event_dict(method, result if isinstance(result, Mapping) else last_event_dict)
        fields = record.fields if record.error is None else {**record.fields, "exc_info": record.error}
        return record.message, fields
